"""Base64url without padding (RFC 7515, appendix C) and strict JSON."""

from __future__ import annotations

from binascii import a2b_base64, b2a_base64

_TO_URL = bytes.maketrans(b"+/", b"-_")
# The standard alphabet's own characters and padding become bytes that no alphabet has.
_TO_STANDARD = bytes.maketrans(b"-_+/=", b"+/\0\0\0")
_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
# By the length modulo 4: the padding to add, and the last characters that leave no bit of the last byte dangling.
_TAILS: tuple[tuple[bytes, frozenset[int]], ...] = (
    (b"", frozenset(_ALPHABET)),
    (b"", frozenset()),
    (b"==", frozenset(_ALPHABET[::16])),
    (b"=", frozenset(_ALPHABET[::4])),
)

# What Python converts under any setting of PYTHONINTMAXSTRDIGITS, so that time and message do not depend on it.
_MAX_DIGITS = 640


def b64encode(data: bytes) -> bytes:
    """Encode as base64url without padding."""
    return b2a_base64(data, newline=False).translate(_TO_URL).rstrip(b"=")


def b64decode(text: bytes) -> bytes:
    """Decode base64url in its only canonical spelling.

    Raises ``ValueError`` for padding, white space, ``+``, ``/``, an impossible length and non-zero trailing bits.
    """
    if not text:
        return b""
    padding, last = _TAILS[len(text) & 3]
    if text[-1] not in last:
        raise ValueError("not canonical base64url")
    return a2b_base64(text.translate(_TO_STANDARD) + padding, strict_mode=True)


def parse_json(text: bytes) -> object:
    """Parse JSON (RFC 8259), and refuse what two readers could read differently.

    Raises ``ValueError`` for invalid UTF-8, lone surrogates, duplicate members, ``NaN`` and
    ``Infinity``, integers that are too long to convert, and nesting deeper than the interpreter can follow.
    """
    # Not needed to sign, nor to verify a token in the usual spelling: a command line should not wait for it.
    import json

    try:
        value: object = json.loads(
            text.decode(), object_pairs_hook=_unique, parse_constant=_no_constant, parse_int=_integer
        )
        if b"\\u" in text:
            # An escape can spell half of a surrogate pair, which no UTF-8 can carry on.
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except UnicodeError:
        raise ValueError("its text is not valid Unicode") from None
    return value


def deeper_than(limit: int, value: object) -> bool:
    """Whether a JSON value has more than ``limit`` lists and objects within each other."""
    level = [value]
    for _ in range(limit):
        inner: list[object] = []
        for each in level:
            if isinstance(each, dict):
                inner += each.values()
            elif isinstance(each, list):
                inner += each
        level = inner
    return any(isinstance(each, dict | list) for each in level)


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("it has a duplicate member")
    return members


def _integer(digits: str) -> int | float:
    if len(digits) > _MAX_DIGITS:
        raise ValueError(f"it has a number of more than {_MAX_DIGITS} digits")
    return -0.0 if digits == "-0" else int(digits)  # an integer has no negative zero, and relays read a float


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")
