"""What relay 0.14 asks with ``auth_api``, and what it is told: the key for a token, not a verdict."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self
from urllib.parse import parse_qsl, urlencode

import msgspec
from msgspec.structs import force_setattr

from moq_token.contract.wire import MAX_BYTES, Reader, Shown, encode
from moq_token.errors import InvalidGrantError, InvalidKeyError, InvalidRequestError, sealed
from moq_token.key import Key

if TYPE_CHECKING:
    from collections.abc import Iterable

_MAX_MEMBERS = 100


class Question(msgspec.Struct, frozen=True):
    """The query of ``GET auth_api``.

    ``root`` is the dialed path without slashes at its ends, still percent-encoded; ``kid`` what the header of the token
    says, unchecked, None if it says nothing or there is no token; ``mtls`` whether the relay has verified a client
    certificate; ``transport`` as in ``Request``. The token itself is never sent.
    """

    root: str = ""
    kid: str | None = None
    mtls: bool = False
    transport: str | None = None

    @classmethod
    @sealed
    def from_query(cls, query: str) -> Self:
        """Read the query of the URL, without ``?``. Unknown parameters are ignored, as the URL may have its own.

        Raises ``InvalidRequestError``: ``missing-member`` without ``root``, ``duplicate-member`` for a parameter
        that occurs twice, ``bad-json`` for text that is not UTF-8, ``too-large``.
        """
        if not isinstance(query, str):
            raise TypeError(f"query must be a str, not {type(query).__name__}")
        if len(query) > MAX_BYTES:
            message = f"invalid question: it has {len(query)} characters, the limit is {MAX_BYTES}"
            raise InvalidRequestError(message, reason="too-large")
        try:
            pairs = parse_qsl(query, keep_blank_values=True, errors="strict", max_num_fields=_MAX_MEMBERS)
        except UnicodeError:
            raise InvalidRequestError("invalid question: it is not valid UTF-8", reason="bad-json") from None
        except ValueError:
            message = f"invalid question: it has more than {_MAX_MEMBERS} parameters"
            raise InvalidRequestError(message, reason="too-large") from None
        known = [(name, value) for name, value in pairs if name in cls.__struct_fields__]
        members = dict(known)
        if len(members) != len(known):
            message = "invalid question: `root`, `kid`, `mtls` and `transport` must not occur more than once"
            raise InvalidRequestError(message, reason="duplicate-member")
        if "root" not in members:
            raise InvalidRequestError("invalid question: missing parameter `root`", reason="missing-member")
        mtls = members.get("mtls", "false")
        if mtls not in {"true", "false"}:
            raise InvalidRequestError("invalid question: `mtls` must be true or false")
        return cls(members["root"], members.get("kid"), mtls == "true", members.get("transport"))

    def to_query(self) -> str:
        """Return the query as the relay writes it."""
        members = {
            "root": self.root,
            "kid": self.kid,
            "mtls": "true" if self.mtls else None,
            "transport": self.transport,
        }
        return urlencode({name: value for name, value in members.items() if value is not None})


class PublicPaths(msgspec.Struct, frozen=True, metaclass=Shown):
    """What is public at a path: prefixes relative to it, in each role.

    As a document by itself it is the answer to ``GET public_api``.
    """

    subscribe: tuple[str, ...] = ()
    publish: tuple[str, ...] = ()

    def __init__(self, subscribe: Iterable[str] = (), publish: Iterable[str] = ()) -> None: ...

    def __post_init__(self) -> None:
        for role in self.__struct_fields__:
            prefixes: Iterable[str] = getattr(self, role)
            if isinstance(prefixes, str):
                raise TypeError(f"{role} must be an iterable of str, not a single one; put it into a list")
            force_setattr(self, role, tuple(prefixes))

    @classmethod
    def from_json(cls, document: bytes | str) -> Self:
        """Read the answer to ``GET public_api``. Raises ``InvalidGrantError``."""
        wire = _read_public(document)
        return cls(tuple(wire.subscribe), tuple(wire.publish))

    def to_json(self) -> bytes:
        """Return the document, both members written."""
        return encode(self)


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What relay 0.14 gets from ``auth_api``.

    Attributes
    ----------
    alias
        The path that the session is at in place of the dialed one. It must have as many segments as that, which is not
        checked here.
    public
        What a client without a token may do; None if a token is needed.
    key
        The key that verifies the client's token; None refuses every token. A public key, or a secret (``kty`` is
        ``oct``), which is then written into the answer. Raises ``InvalidGrantError`` (``bad-key``) for the private
        half of a pair.
    tier
        A label for the relay's statistics.

    ``Answer()`` refuses the connection, **except one with a client certificate**: such a question (``mtls``) must be
    answered with HTTP status 404 to refuse it, as relay 0.14 takes any answer for everything granted.

    """

    alias: str | None = None
    public: PublicPaths | None = None
    key: Key | None = None
    tier: str | None = None

    def __post_init__(self) -> None:
        if self.key is not None and self.key.is_private and not self.key.algorithm.symmetric:
            message = "invalid answer: the key is the private half of a pair; use its public half (Key.to_public)"
            raise InvalidGrantError(message, reason="bad-key")

    @classmethod
    @sealed
    def from_json(cls, document: bytes | str) -> Self:
        """Read an answer as relay 0.14 does. Raises ``InvalidGrantError``, for that relay an outage."""
        wire = _read_answer(document)
        try:
            key = None if wire.key is None else Key.from_str(encode(wire.key))
        except InvalidKeyError:
            # What is wrong with a key can show a part of it.
            raise InvalidGrantError("invalid answer: `key`: invalid key", reason="bad-key") from None
        public = None
        if wire.public is not None:
            public = PublicPaths(tuple(wire.public.subscribe), tuple(wire.public.publish))
        return cls(alias=wire.alias, public=public, key=key, tier=wire.tier)

    @sealed
    def to_json(self) -> bytes:
        """Return the answer. Members that are None are left out."""
        public = None if self.public is None else _Public(list(self.public.subscribe), list(self.public.publish))
        key = None if self.key is None else msgspec.Raw(self.key.to_json().encode())
        return encode(_Answer(alias=self.alias, public=public, key=key, tier=self.tier))


class _Public(msgspec.Struct, omit_defaults=True):
    subscribe: list[str] = []
    publish: list[str] = []


class _Answer(msgspec.Struct, omit_defaults=True):
    alias: str | None = None
    public: _Public | None = None
    key: Any = None
    tier: str | None = None


_read_public, _read_answer = Reader(_Public, InvalidGrantError), Reader(_Answer, InvalidGrantError)
