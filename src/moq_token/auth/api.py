"""What is asked of ``auth_api`` and of the public-access URL, and how their answers are read: all or nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode, urlsplit, urlunsplit

from moq_token import path as paths
from moq_token.auth.connection import PATH_CHARACTERS, dots_in
from moq_token.claims import Claims
from moq_token.encoding import parse_json
from moq_token.errors import InvalidKeyError, UnavailableError, sealed
from moq_token.key import Key

if TYPE_CHECKING:
    from moq_token.auth.connection import Connection

# A backslash would be read as a slash by the other side.
_SAFE = PATH_CHARACTERS.replace("\\", "")


@dataclass(frozen=True, slots=True)
class Answer:
    """What ``auth_api`` says of one connection; None is what it left out."""

    alias: str | None
    public: Claims | None
    key: Key | None
    tier: str | None


def auth_api_url(base: str, connection: Connection, kid: str | None) -> str:
    """Put the question about a connection into the query of the URL of ``auth_api``. The token itself is never sent."""
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
    """Append a path to the public-access URL; None where it would name another one than was dialed.

    Whatever the path holds, it stays beneath the URL: it can neither climb by ``..`` nor name another host.
    """
    path = paths.normalize(path)
    if any(map(dots_in, path.split("/"))):
        return None
    scheme, host, base_path, query, _ = urlsplit(base)
    base_path = base_path if base_path.endswith("/") else f"{base_path}/"
    return urlunsplit((scheme, host, base_path + quote(path, safe=_SAFE), "" if path else query, ""))


def parse_public(body: bytes, path: str) -> Claims | None:
    """Read ``{"subscribe": […], "publish": […]}``, relative to the path that was asked about; None where it is empty.

    Raises :class:`UnavailableError` for anything else.
    """
    return _public(_members(body), path)


@sealed
def parse_answer(body: bytes, path: str) -> Answer:
    """Read an answer of ``auth_api``. Raises :class:`UnavailableError` for one that is not wholly as it should be."""
    members = _members(body)
    public, key = members.get("public"), members.get("key")
    if not (public is None or isinstance(public, dict)) or not (key is None or isinstance(key, dict)):
        raise _unreadable("its `public` and its `key` must be objects")
    try:
        return Answer(
            _text(members, "alias"),
            None if public is None else _public(public, path),
            None if key is None else Key.from_members(key),
            _text(members, "tier"),
        )
    except InvalidKeyError as error:
        raise _unreadable(f"its `key` is none: {error}") from None


def _members(body: bytes) -> dict[str, object]:
    try:
        members = parse_json(body)
    except ValueError as error:
        raise _unreadable(f"it is no JSON: {error}") from None
    if not isinstance(members, dict):
        raise _unreadable("it is no JSON object")
    return members


def _public(members: dict[str, object], path: str) -> Claims | None:
    publish, subscribe = _prefixes(members, "publish"), _prefixes(members, "subscribe")
    return Claims(path, publish, subscribe) if publish or subscribe else None


def _prefixes(members: dict[str, object], name: str) -> tuple[str, ...]:
    value = members.get(name, [])
    if not isinstance(value, list) or not all(isinstance(prefix, str) for prefix in value):
        raise _unreadable(f"its `{name}` must be a list of strings")
    return tuple(value)


def _text(members: dict[str, object], name: str) -> str | None:
    value = members.get(name)
    if value is not None and not isinstance(value, str):
        raise _unreadable(f"its `{name}` must be a string")
    return value


def _unreadable(what: str) -> UnavailableError:
    return UnavailableError(f"the answer about the connection is unusable: {what}")
