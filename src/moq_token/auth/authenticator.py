"""The relay's doorkeeper: fetches what a decision needs, and has it decided."""

from __future__ import annotations

import hashlib
import os.path
import time
from collections import OrderedDict
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol, Self

from moq_token.auth.api import auth_api_url, parse_answer, parse_public, public_api_url
from moq_token.auth.decision import Grant, decide, kid_of
from moq_token.errors import (
    ConfigError,
    InvalidKeyIdError,
    InvalidTokenError,
    KeyNotFoundError,
    UnavailableError,
    sealed,
)
from moq_token.kid import KeyId
from moq_token.sources import Http, open_source
from moq_token.sources.memory import again

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from moq_token.auth.config import AuthConfig
    from moq_token.auth.connection import Connection
    from moq_token.claims import Claims
    from moq_token.key import Key
    from moq_token.sources import KeySource

# A remembered token costs about as much memory as it is long: together at most some tens of megabytes.
REMEMBERED_TOKENS = 10_000
_MAX_REMEMBERED_CHARACTERS = 2048


class Fetcher(Protocol):
    """What asks ``auth_api`` and the public-access URL."""

    async def fetch(self, url: str) -> bytes:
        """Return the body of a good answer, raise :class:`UnavailableError` for every other."""
        ...


class Authenticator:
    """Decides about connections as a relay with this configuration does.

    Used as ``async with Authenticator(config) as authenticator``, which opens what ``config`` names; safe to use from
    many tasks at once. Raises :class:`ConfigError` where nothing is configured that could admit anybody.

    Parameters
    ----------
    config
        What the relay is configured with.
    keys
        A source to use in place of ``key`` and ``key_dir``, for those that the configuration cannot name. It stays the
        caller's to close.
    fetcher
        What to ask ``auth_api`` and the public-access URL with, in place of one made for ``config.tls``; the same.
    remember
        How many verified tokens are remembered, so that clients which come back are cheap; 0 turns that off. A token is
        known by its digest, together with the key that verified it: it counts only while the source still gives that
        very key, and until it expires.
    clock
        Tells the time in Unix seconds.

    """

    _asked: Fetcher

    def __init__(
        self,
        config: AuthConfig,
        *,
        keys: KeySource | None = None,
        fetcher: Fetcher | None = None,
        remember: int = REMEMBERED_TOKENS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        named = [name for name in ("key", "key_dir", "auth_api") if getattr(config, name) is not None]
        if keys is not None and named:
            raise ConfigError(f"`{named[0]}` excludes another source of keys")
        if keys is None and not named and not config.public:
            raise ConfigError(
                "nothing is configured: no `key`, `key_dir`, `auth_api` or `public`, so nobody could get in"
            )
        if remember < 0:
            raise ValueError("remember must be a number of tokens, 0 or more")
        self.config = config
        self._keys = keys
        self._fetcher = fetcher
        self.clock = clock
        self._tokens = _Tokens(remember)
        self._opened: AsyncExitStack | None = None

    async def authenticate(self, connection: Connection) -> Grant:
        """Admit a connection, or say why not.

        Raises :class:`RefusedError`, with the reason for the operator, where the answer is no, and
        :class:`UnavailableError` where nobody could tell. Neither is for the client's eyes, see :class:`Rejection`.
        """
        if self._opened is None:
            raise RuntimeError("an Authenticator decides nothing outside of its `async with`")
        config = self.config
        if config.auth_api is not None:
            return await self._ask(connection)
        if connection.certificate is not None:
            return decide(connection, tier=config.mtls_tier or "")
        if connection.token is None:
            return decide(connection, public=await self._public_at(connection.path))
        if self._keys is None:
            return decide(connection)
        key = await self._keys.get(self._kid(connection))
        return decide(connection, key=_Remembering(self._tokens, key), now=self.clock())

    async def _ask(self, connection: Connection) -> Grant:
        # Where there is a verified certificate it is the credential, and a token beside it is none.
        by_token = connection.token is not None and connection.certificate is None
        kid = self._kid(connection) if by_token else None
        answer = parse_answer(
            await self._fetch(auth_api_url(self.config.auth_api or "", connection, kid)), connection.path
        )
        if by_token and answer.key is None:
            what = "a token without `kid`" if kid is None else f"the id {kid}"
            raise KeyNotFoundError(f"`auth_api` gives no key for {what}", kid=kid)
        tier = self.config.mtls_tier if answer.tier is None and connection.certificate is not None else answer.tier
        return decide(
            connection,
            key=None if answer.key is None else _Remembering(self._tokens, answer.key),
            public=answer.public,
            alias=answer.alias,
            tier=tier or "",
            now=self.clock(),
        )

    async def _public_at(self, path: str) -> Claims | None:
        public = self.config.public
        claims = public.at(path)
        if claims is not None or public.api is None:
            return claims
        url = public_api_url(public.api, path)
        if url is None:
            return None
        asking = self._fetch(url)
        del url  # as in there
        return parse_public(await asking, path)

    async def _fetch(self, url: str) -> bytes:
        """Fetch what is asked; the frames of an error hold no URL, which may have a password in it."""
        try:
            return await self._asked.fetch(url)
        except UnavailableError as error:
            failure = again(error)
        del url
        raise failure

    def _kid(self, connection: Connection) -> KeyId | None:
        """Return what to ask the source of keys for: nothing, where it holds a single one."""
        kid = None if connection.token is None else kid_of(connection.token)
        if self.config.key is not None:
            return None
        if kid is None:
            if self.config.key_dir is not None:
                raise InvalidTokenError("the token names no `kid`, and there are many keys", reason="kid-missing")
            return None
        try:
            return KeyId(kid)
        except InvalidKeyIdError as error:
            raise InvalidTokenError(f"the `kid` of the token is none: {error}", reason="bad-kid") from None

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as opened:
            self._open(opened)
            self._opened = opened.pop_all()
        return self

    def _open(self, opened: AsyncExitStack) -> None:
        config, http = self.config, None
        if any(self._fetcher is None or url in (config.key, config.key_dir) for url in config.urls):
            http = Http(config.tls)
            opened.push_async_callback(http.aclose)
        fetcher = http if self._fetcher is None else self._fetcher
        if fetcher is not None:
            self._asked = fetcher
        for text, directory in ((config.key, False), (config.key_dir, True)):
            if text is not None:
                _check_there(text, directory=directory)
                self._keys = open_source(text, directory=directory, http=http)
                opened.push_async_callback(self._keys.aclose)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close what was opened for the configuration, and forget every token."""
        self._tokens.clear()
        opened, self._opened = self._opened, None
        if opened is not None:
            await opened.aclose()


def _check_there(text: str, *, directory: bool) -> None:
    """Find out at the start, as the relay does, that a path leads nowhere. What it leads to may change later."""
    if "://" in text:
        return
    if not (os.path.isdir(text) if directory else os.path.isfile(text)):  # noqa: PTH112, PTH113 - False for any text
        raise ConfigError("`key_dir` names no directory" if directory else "`key` names no file")


class _Entry(NamedTuple):
    key: Key
    claims: Claims
    verified: float

    def counts(self, key: Key, now: float) -> bool:
        """Whether verifying again with ``key`` could not end otherwise; a clock put back makes that unsure (`nbf`)."""
        expires = self.claims.expires
        return (self.key is key or self.key == key) and self.verified <= now and (expires is None or now < expires)


class _Tokens:
    """Tokens that have been verified; the one that has not come back for longest is forgotten first."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()

    def verify(self, key: Key, token: str, now: float) -> Claims:
        """Do what :meth:`Key.verify` does."""
        if not self._size or len(token) > _MAX_REMEMBERED_CHARACTERS:
            return key.verify(token, now=now)
        digest = hashlib.sha256(token.encode()).digest()
        entry = self._entries.pop(digest, None)
        if entry is None or not entry.counts(key, now):
            entry = _Entry(key, key.verify(token, now=now), now)
        self._entries[digest] = entry
        if len(self._entries) > self._size:
            self._entries.popitem(last=False)
        return entry.claims

    def clear(self) -> None:
        self._entries.clear()


@dataclass(frozen=True, slots=True)
class _Remembering:
    """A key that need not verify the same token twice."""

    tokens: _Tokens
    key: Key

    @sealed
    def verify(self, token: str, *, now: float) -> Claims:
        return self.tokens.verify(self.key, token, now)
