"""The requests to ``auth_api`` and to the public-access URL, and their answers: valid as a whole, or unusable."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote_to_bytes, urlencode, urlsplit, urlunsplit

from moq_token import path as paths
from moq_token.auth.connection import PATH_CHARACTERS
from moq_token.claims.wire import claims_of_prefixes
from moq_token.encoding import parse_json
from moq_token.errors import InvalidKeyError, UnavailableError, sealed
from moq_token.key import Key

if TYPE_CHECKING:
    from moq_token.auth.connection import Connection
    from moq_token.claims import Claims

# Many servers read a backslash as a slash.
_SAFE = PATH_CHARACTERS.replace("\\", "")
# What servers take for a separator of segments, after they have decoded the path as often as they like. `;` begins the
# parameters of a segment, a NUL ends a name in C, and the last two are slashes once Unicode is normalized.
_SEPARATORS = re.compile(r"[/\\;\0\u2044\uff0f]")
_DOTS = {0x2024: ".", 0x2025: "..", 0xFE52: ".", 0xFF0E: "."}  # what Unicode normalization turns into dots
_MAX_DECODINGS = 4
# What some file systems drop at the ends of a name.
_IGNORED = "".join(map(chr, range(0x21)))


@dataclass(frozen=True, slots=True)
class Answer:
    """What ``auth_api`` answers about one connection; None is a member that it left out."""

    alias: str | None
    public: Claims | None
    key: Key | None
    tier: str | None


def auth_api_url(base: str, connection: Connection, kid: str | None) -> str:
    """Return the URL that asks ``auth_api`` about a connection. The token itself is never sent."""
    question = {"root": connection.path.strip("/")}
    if kid is not None:
        question["kid"] = kid
    if connection.certificate is not None:
        question["mtls"] = "true"
    if connection.transport is not None:
        question["transport"] = connection.transport
    scheme, host, path, query, _ = urlsplit(base)
    return urlunsplit((scheme, host, path, "&".join(filter(None, (query, urlencode(question)))), ""))


def public_api_url(base: str, path: str) -> str | None:
    """Append a dialed path to the public-access URL; None where a server could read it as another path.

    The result stays beneath the URL: no server that decodes the path before it resolves ``..`` can be led out of it.
    """
    path = paths.normalize(path)
    if _climbs(path):
        return None
    scheme, host, base_path, query, _ = urlsplit(base)
    base_path = base_path if base_path.endswith("/") else f"{base_path}/"
    return urlunsplit((scheme, host, base_path + quote(path, safe=_SAFE), "" if path else query, ""))


def _climbs(path: str) -> bool:
    """Whether a server could find ``.`` or ``..`` in a path, however often it decodes, wherever it separates."""
    for _ in range(_MAX_DECODINGS):
        segments = _SEPARATORS.split(path.translate(_DOTS))
        if any(segment.strip(_IGNORED) in {".", ".."} for segment in segments):
            return True
        try:
            decoded = unquote_to_bytes(path).decode()
        except UnicodeDecodeError:
            return True  # perhaps an overlong spelling of a dot or a slash
        if decoded == path:
            return False
        path = decoded
    return True


def parse_public(body: bytes, path: str) -> Claims | None:
    """Read ``{"subscribe": […], "publish": […]}``, relative to the dialed path; None where it is empty.

    Raises ``UnavailableError`` for anything else.
    """
    return _public(_members(body), path)


@sealed
def parse_answer(body: bytes, path: str) -> Answer:
    """Read an answer of ``auth_api``. Raises ``UnavailableError`` where any part of it is invalid."""
    members = _members(body)
    public, key = members.get("public"), members.get("key")
    if not (public is None or isinstance(public, dict)) or not (key is None or isinstance(key, dict)):
        raise _unreadable("`public` and `key` must be objects")
    try:
        return Answer(
            _text(members, "alias"),
            None if public is None else _public(public, path),
            None if key is None else Key.from_members(key),
            _text(members, "tier"),
        )
    except InvalidKeyError as error:
        raise _unreadable(f"invalid `key`: {error}") from None


def _members(body: bytes) -> dict[str, object]:
    try:
        members = parse_json(body)
    except ValueError as error:
        raise _unreadable(f"invalid JSON: {error}") from None
    if not isinstance(members, dict):
        raise _unreadable("expected a JSON object")
    return members


def _public(members: dict[str, object], path: str) -> Claims | None:
    publish, subscribe = _prefixes(members, "publish"), _prefixes(members, "subscribe")
    return claims_of_prefixes(path, publish, subscribe) if publish or subscribe else None


def _prefixes(members: dict[str, object], name: str) -> tuple[str, ...]:
    value = members.get(name, [])
    if not isinstance(value, list) or not all(isinstance(prefix, str) for prefix in value):
        raise _unreadable(f"`{name}` must be a list of strings")
    return tuple(value)


def _text(members: dict[str, object], name: str) -> str | None:
    value = members.get(name)
    if value is not None and not isinstance(value, str):
        raise _unreadable(f"`{name}` must be a string")
    return value


def _unreadable(what: str) -> UnavailableError:
    return UnavailableError(f"invalid answer about the connection: {what}")
