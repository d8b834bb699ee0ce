"""Find the token in pasted text: a header of a request, a URL, a cookie, JSON, quotes, lines that were broken."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import unquote

from moq_token.cli.output import Failed
from moq_token.encoding import b64decode, parse_json

# A JSON object in base64url, with or without white space after its brace, then two more segments and no third.
# Characters of other alphabets, and padding, that touch it are part of a token that is malformed.
_TOKEN = re.compile(r"(?<![\w.+/-])e[wy][\w-]+\.[\w-]+\.[\w-]*(?!\.?[\w+/=-])", re.ASCII)
_ENCRYPTED = re.compile(r"(?<![\w.-])e[wy][\w-]+\.[\w-]*\.[\w-]+\.[\w-]+\.[\w-]+(?![\w.-])", re.ASCII)
_BASIC = re.compile(r"\W*(?:(?:proxy-)?authorization\W+)?basic\s", re.IGNORECASE)
_SHORTENED = re.compile(r"\u2026|\w\.\.\.(?:\W|$)")
_LINE_BREAK = re.compile(r"[ \t]*\\?[ \t]*(?:\r\n|\r|\n|\\r\\n|\\n)[ \t]*")
# The signatures of all algorithms, in bytes; RSA has as many as its key.
_SIGNATURES = frozenset((32, 48, 64, 96, 256, 384, 512))
# What can surround a token, by how it begins.
_AROUND = (
    (re.compile(r"\W*(?:proxy-)?authorization\b", re.IGNORECASE), "an `Authorization` header"),
    (re.compile(r"\W*bearer\b", re.IGNORECASE), "the word `Bearer`"),
    (re.compile(r"\W*(?:set-)?cookie\b", re.IGNORECASE), "a cookie"),
    (re.compile(r"\W*(?:curl|wget|http|https)\s", re.IGNORECASE), "a command line"),
    (re.compile(r"\W*[a-z][a-z0-9+.-]*://", re.IGNORECASE), "a URL"),
    (re.compile(r"\s*[{\[]"), "JSON"),
    (re.compile(r"\s*(?:export\s+|set\s+|\$env:)?[A-Za-z_]\w*\s*[:=]"), "a name and its value"),
)


class Pasted(NamedTuple):
    """A token, and what was around it; None is nothing."""

    token: str
    around: str | None = None

    def __repr__(self) -> str:
        return f"<Pasted with {self.around}>"


def find(text: str) -> Pasted:
    """Return the token in a text, and what is around it.

    Where no token can be found, the text itself is returned, for the reader to say what is wrong. Raises
    ``Failed`` where there are several tokens, and for what is clearly something else. No message quotes the text.
    """
    if not re.search(r"[^\w.-]|\.\.\.", text, re.ASCII):
        return Pasted(text)
    for spelled in dict.fromkeys((text, unquote(text))):
        tokens = _tokens(spelled)
        if len(tokens) > 1:
            raise Failed(f"found {len(tokens)} different tokens in the text: pass one")
        if tokens:
            return Pasted(tokens[0], _around(spelled, tokens[0]))
    if (token := _serialized(text)) is not None:
        return Pasted(token, "the JSON serialization of a JWS")
    if (what := _something_else(text)) is not None:
        raise Failed(what)
    return Pasted(text)


def _tokens(text: str) -> list[str]:
    """Return the different tokens of a text, the lines of a broken one joined."""
    found = list(dict.fromkeys(_TOKEN.findall(text)))
    if len(found) == 1 and _complete(found[0]):
        return found
    joined = list(dict.fromkeys(_TOKEN.findall(_LINE_BREAK.sub("", text))))
    if len(joined) == 1 and (not found or joined[0].startswith(found[0])):
        return joined
    whole = "".join(text.split())
    return found or ([whole] if _TOKEN.fullmatch(whole) else [])


def _complete(token: str) -> bool:
    try:
        return len(b64decode(token.rpartition(".")[2].encode())) in _SIGNATURES
    except ValueError:
        return False


def _around(text: str, token: str) -> str:
    before, _, _ = text.partition(token[:32])
    for pattern, what in _AROUND:
        if pattern.match(before):
            return what
    if token not in text:
        return "line breaks or spaces"
    rest = text.replace(token, "").strip()
    return (
        "quotation marks" if rest and not rest.strip("\"'`\u2018\u2019\u201c\u201d\u00ab\u00bb \r\n") else "other text"
    )


def _serialized(text: str) -> str | None:
    """Put the JSON serialization of a JWS (RFC 7515, section 7.2) with one signature into the compact form."""
    members = _json(text)
    signatures = members.get("signatures")
    signed = signatures[0] if isinstance(signatures, list) and len(signatures) == 1 else members
    if not isinstance(signed, dict):
        return None
    segments = [signed.get("protected"), members.get("payload"), signed.get("signature")]
    return ".".join(map(str, segments)) if all(isinstance(segment, str) for segment in segments) else None


def _something_else(text: str) -> str | None:
    """Return what a text without a token looks like, or None if unknown."""
    members = _json(text)
    found = {
        "expected a token, got a key: pass keys with --key": "kty" in members or "keys" in members,
        "expected a token, got claims without header and signature: `sign` makes a token of them": bool(
            {"put", "get", "root", "exp"} & members.keys()
        ),
        "expected a token, got PEM": "-----BEGIN " in text,
        "expected a token, got a user name and password (`Basic`)": _BASIC.match(text),
        "expected a signed token, got an encrypted one (JWE), which relays do not read": _ENCRYPTED.search(text),
        "the token is shortened: copy the whole token": _SHORTENED.search(text),
    }
    return next((what for what, is_it in found.items() if is_it), None)


def _json(text: str) -> dict[str, object]:
    try:
        members = parse_json(text.encode())
    except (ValueError, RecursionError):
        return {}
    return members if isinstance(members, dict) else {}
