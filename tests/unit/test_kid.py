import json
import pickle
import re

import pytest

from moq_token import InvalidKeyError, InvalidKeyIdError, KeyId
from tests.naming import named


@pytest.mark.parametrize("kid", ["a", "Z", "0", "-", "_", "--help", "abc-DEF_123", "x" * 128, "1234567890abcdef"])
def test_good(kid: str) -> None:
    made = KeyId(kid)
    assert isinstance(made, str)
    assert made == kid
    assert hash(made) == hash(kid)
    assert f"{made}" == str(made) == kid
    assert KeyId(made) == made
    assert json.dumps({"kid": made}) == json.dumps({"kid": kid})
    assert pickle.loads(pickle.dumps(made)) == made  # noqa: S301


@pytest.mark.parametrize(
    "kid",
    [
        "",
        "x" * 129,
        "x" * 100_000,
        ".",
        "..",
        "../a",
        "a/b",
        "a\\b",
        "a.jwk",
        "a b",
        " a",
        "a ",
        "a\n",
        "\na",
        "a\0",
        "a%2Fb",
        "a?b",
        "a#b",
        "a:b",
        "a@b",
        "a+b",
        "a=",
        "é",
        "a\u0301",
        "\uff41",
        "²",
        "٣",
        "\ud800",
        "~",
        "*",
        "$HOME",
        "`id`",
    ],
)
def test_bad(kid: str) -> None:
    with pytest.raises(InvalidKeyIdError) as caught:
        KeyId(kid)
    assert isinstance(caught.value, InvalidKeyError)
    assert "1 to 128 characters" in str(caught.value)


@pytest.mark.parametrize("wrong", [None, 1, True, b"a", ["a"], object()], ids=named)
def test_wrong_type(wrong: str) -> None:
    with pytest.raises(TypeError):
        KeyId(wrong)


def test_random() -> None:
    made = [KeyId.random() for _ in range(100)]
    assert all(re.fullmatch("[0-9a-f]{16}", kid) for kid in made)
    assert len(set(made)) == 100
    assert all(type(kid) is KeyId for kid in made)
