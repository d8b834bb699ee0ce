import base64
import itertools
import os

import pytest

from moq_token.encoding import b64decode, b64encode, parse_json
from tests.forge import strictly


@pytest.mark.parametrize("length", [*range(20), 255, 256, 1000, 65_537])
def test_round_trip(length: int) -> None:
    for data in (os.urandom(length), b"\0" * length, b"\xff" * length, b"\xfb\xef\xbe" * length):
        text = b64encode(data)
        assert text == base64.urlsafe_b64encode(data).rstrip(b"=")
        assert b64decode(text) == data


@pytest.mark.parametrize(
    "text",
    [
        b"A",
        b"AAAAA",
        b"AA=",
        b"AA==",
        b"AAA=",
        b"=",
        b"====",
        b"AA A",
        b"AA\n",
        b"A+AA",
        b"A/AA",
        b"AB",
        b"AAB",
        b"A.AA",
        b"\xff\xff",
    ],
)
def test_one_spelling(text: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        b64decode(text)


@pytest.mark.parametrize("length", range(5))
def test_every_short_text(length: int) -> None:
    for characters in itertools.product("AQgwB-_+/= \n\0zé", repeat=length):
        text = "".join(characters)
        try:
            decoded = b64decode(text.encode("latin-1"))
        except ValueError:
            decoded = None
        assert decoded == strictly(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b"{}", {}),
        (b"9" * 640, 10**640 - 1),
        (b' {"a" : [1, 1.5, null, true, "\\u00e9\\ud83d\\ude00"]} ', {"a": [1, 1.5, None, True, "é😀"]}),
        (b'{"a":1,"b":{"a":2}}', {"a": 1, "b": {"a": 2}}),
        (b'"x"', "x"),
        (b"1e400", float("inf")),
    ],
)
def test_json(text: bytes, value: object) -> None:
    assert parse_json(text) == value


def test_negative_zero_is_no_integer() -> None:
    value = parse_json(b"-0")
    assert (value, type(value)) == (0.0, float)


@pytest.mark.parametrize("digits", [641, 5_000, 1_000_000])
def test_a_long_number_is_refused_under_any_setting_of_the_interpreter(digits: int) -> None:
    with pytest.raises(ValueError, match=r"^it has a number of more than 640 digits$"):
        parse_json(b'{"a":%s}' % (b"9" * digits))


@pytest.mark.parametrize("depth", [*range(1, 1200, 7), 10_000, 300_000])
def test_json_is_refused_as_a_value_error_at_any_depth(depth: int) -> None:
    for opening, closing in ((b"[", b"]"), (b'{"a":', b"}")):
        for inner in (b"1", b'"\\u0041"', b'"\\ud83d\\ude00"'):
            try:
                parse_json(opening * depth + inner + closing * depth)
            except ValueError:
                assert depth > 300
