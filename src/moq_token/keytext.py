"""The text of a key: read in every encoding and shape that is unambiguous."""

from __future__ import annotations

from binascii import a2b_base64
from contextlib import suppress

import msgspec

from moq_token import recognizer
from moq_token.encoding import b64decode, parse_json
from moq_token.errors import InvalidKeyError

MAX_KEY_BYTES = 1024 * 1024

# Invisible, but not white space in Unicode: zero-width characters and marks of direction.
_INVISIBLE = "\u200b\u200e\u200f\u2060\ufeff"

_ENCODINGS = (  # the longer marks first: that of UTF-16 begins that of UTF-32
    (b"\xef\xbb\xbf", "utf-8"),
    (b"\xff\xfe\0\0", "utf-32-le"),
    (b"\0\0\xfe\xff", "utf-32-be"),
    (b"\xff\xfe", "utf-16-le"),
    (b"\xfe\xff", "utf-16-be"),
)
# Where the first four bytes are zero (0) or not (1) when the text begins with two ASCII characters.
_WITHOUT_MARK = {
    b"\1\0\0\0": "utf-32-le",
    b"\0\0\0\1": "utf-32-be",
    b"\1\0\1\0": "utf-16-le",
    b"\0\1\0\1": "utf-16-be",
}


def encoded(text: str | bytes) -> bytes:
    """Return a text or password as UTF-8. Raises ``InvalidKeyError`` for a lone surrogate."""
    if isinstance(text, bytes):
        return text
    if not isinstance(text, str):
        raise TypeError(f"a key or password must be str or bytes, not {type(text).__name__}")
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise InvalidKeyError("invalid text: it has a lone surrogate, which UTF-8 cannot encode") from None


def plain(text: str | bytes) -> bytes:
    """Return the text of a key as UTF-8, without byte order mark and outer white space. Raises as ``decoded()``."""
    data = decoded(text).strip()
    if not data.isascii():  # a text copied from a page can have a no-break space around it
        with suppress(UnicodeDecodeError):
            data = data.decode().strip().strip(_INVISIBLE).strip().encode()
    return data


def decoded(text: str | bytes) -> bytes:
    """Return a text as UTF-8 without byte order mark.

    UTF-16 and UTF-32, which PowerShell and editors of Windows write, are recognized by their byte order mark, or by the
    zero bytes beside a first ASCII character. Raises ``InvalidKeyError`` for more than 1 MiB.
    """
    data = encoded(text)
    if len(data) > MAX_KEY_BYTES:
        raise InvalidKeyError(f"a key must not be larger than {MAX_KEY_BYTES} bytes")
    mark, name = next(((mark, name) for mark, name in _ENCODINGS if data.startswith(mark)), (b"", None))
    data = data.removeprefix(mark)
    if name is None:
        name = _WITHOUT_MARK.get(bytes(byte and 1 for byte in data[:4]))
    if name is not None and name != "utf-8":
        try:
            data = data.decode(name).encode()
        except UnicodeError:
            raise InvalidKeyError(f"invalid {name[:6].upper()} text: save the key as UTF-8") from None
    return data


def parse_members(text: str | bytes) -> dict[str, object]:
    """Read a JSON object, or base64url of one, as key files hold it.

    Raises ``InvalidKeyError``; the message says what the text is instead of JSON.
    """
    data = plain(text)
    if not data.startswith(b"{"):
        try:
            data = b64decode(data.rstrip(b"=")).strip()
        except ValueError:
            raise InvalidKeyError(recognizer.name_of(decoded(text))) from None
        if not data.startswith(b"{"):
            raise InvalidKeyError(recognizer.name_of(decoded(text)))
    try:
        members = _parse(data)
    except ValueError as error:
        raise InvalidKeyError(recognizer.name_of_broken_json(data.decode(errors="replace"), str(error))) from None
    assert isinstance(members, dict)  # noqa: S101 - it begins with a brace
    return members


def _parse(data: bytes) -> object:
    try:
        value: object = msgspec.json.decode(data)
        # Equal bytes prove that each member is there once and in its usual spelling, as programs write keys.
        if msgspec.json.encode(value) == data:
            return value
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        pass  # the other reader has a message for what is invalid
    return parse_json(data)


def base64_of_any_kind(data: bytes) -> bytes | None:
    """Decode base64 in either alphabet, with padding and line breaks or without, or return None."""
    text = b"".join(data.split()).translate(bytes.maketrans(b"-_", b"+/")).rstrip(b"=")
    try:
        return a2b_base64(text + b"=" * (-len(text) % 4), strict_mode=True)
    except ValueError:
        return None
