"""The part of a relay that admits clients: it fetches what a decision needs, and decides."""

from __future__ import annotations

import logging
import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Protocol, Self

from moq_token.auth.api import auth_api_url, parse_answer, parse_public, public_api_url
from moq_token.auth.check import check_exists, nothing_configured
from moq_token.auth.decision import Grant, decide, kid_of
from moq_token.auth.outages import Outages
from moq_token.auth.remembered import REMEMBERED_TOKENS, RememberedTokens, Remembering
from moq_token.errors import (
    ConfigError,
    InvalidKeyIdError,
    InvalidTokenError,
    KeyNotFoundError,
    UnavailableError,
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
    from moq_token.sources import KeySource
    from moq_token.trace import Trace

_log = logging.getLogger("moq_token.auth")


class Fetcher(Protocol):
    """Asks ``auth_api`` and the public-access URL."""

    async def fetch(self, url: str) -> bytes:
        """Return the body of a successful answer, raise ``UnavailableError`` for any other."""
        ...


class Authenticator:
    """Decide about connections as a relay with this configuration does.

    Use it as ``async with Authenticator(config) as authenticator``, which opens what ``config`` names. It is safe to
    use from many tasks at once. Raises ``ConfigError`` if nothing is configured, so that nobody could be admitted.

    The logger ``moq_token.auth`` has a WARNING when a source of keys or a server fails, and an INFO when it answers
    again, once each. Their ``extra`` is ``event`` (``"outage"`` or ``"recovery"``), ``source``, and ``cause`` or
    ``seconds``.

    Parameters
    ----------
    config
        The configuration of the relay.
    keys
        A source of keys to use instead of ``key`` and ``key_dir``, for sources that a configuration cannot name. The
        caller closes it.
    fetcher
        What asks ``auth_api`` and the public-access URL, instead of an HTTP client made for ``config.tls``. The caller
        closes it.
    remember
        How many verified tokens are remembered, so that clients that come back cost little; 0 turns that off. A token
        is known by its digest, together with the key that verified it: it is accepted only while the source still
        returns that very key, and until it expires.
    clock
        Returns the time in Unix seconds.

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
            raise ConfigError(f"`{named[0]}` and `keys` exclude each other: leave one of them out")
        if keys is None and not named and not config.public:
            raise nothing_configured(config.warnings)
        if remember < 0:
            raise ValueError("remember must be 0 or more tokens")
        self.config = config
        self._keys = keys
        self._fetcher = fetcher
        self.clock = clock
        self._tokens = RememberedTokens(remember)
        self._outages = Outages(_log)
        self._opened: AsyncExitStack | None = None

    async def authenticate(self, connection: Connection, *, trace: Trace | None = None) -> Grant:
        """Admit a connection, or say why not. ``trace`` records the checks as they are made.

        Raises ``RefusedError`` if the client is refused, and ``UnavailableError`` if that cannot be decided,
        because a key server is down. Both are for your log. Send the client a ``Rejection``.
        """
        if self._opened is None:
            raise RuntimeError("use the Authenticator inside its `async with` block")
        config = self.config
        if config.auth_api is not None:
            return await self._ask(connection, trace)
        if connection.certificate is not None:
            return decide(connection, tier=config.mtls_tier or "", trace=trace)
        if connection.token is None:
            return decide(connection, public=await self._public_at(connection.path), trace=trace)
        if self._keys is None:
            return decide(connection, trace=trace)
        kid = self._kid(connection, trace)
        if trace is not None:
            trace.begin("key")
        with self._outages.watch("the source of keys" if kid is None else f"the key {kid}"):
            key = await self._keys.get(kid)
        return decide(connection, key=Remembering(self._tokens, key), now=self.clock(), trace=trace)

    async def _ask(self, connection: Connection, trace: Trace | None) -> Grant:
        # A verified certificate is the credential, and a token beside it is ignored.
        by_token = connection.token is not None and connection.certificate is None
        kid = self._kid(connection, trace) if by_token else None
        if trace is not None:
            trace.begin("key" if by_token else "certificate" if connection.certificate is not None else "public")
        with self._outages.watch("`auth_api`"):
            answer = parse_answer(
                await self._fetch(auth_api_url(self.config.auth_api or "", connection, kid)), connection.path
            )
        if by_token and answer.key is None:
            what = "a token without `kid`" if kid is None else f"the key id {kid}"
            raise KeyNotFoundError(f"`auth_api` has no key for {what}", kid=kid)
        tier = self.config.mtls_tier if answer.tier is None and connection.certificate is not None else answer.tier
        return decide(
            connection,
            key=None if answer.key is None else Remembering(self._tokens, answer.key),
            public=answer.public,
            alias=answer.alias,
            tier=tier or "",
            now=self.clock(),
            trace=trace,
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
        with self._outages.watch("`public.api`"):
            return parse_public(await asking, path)

    async def _fetch(self, url: str) -> bytes:
        """Fetch a URL. The frames of an error do not hold it, because it may contain a password."""
        try:
            return await self._asked.fetch(url)
        except UnavailableError as error:
            failure = again(error)
        del url
        raise failure

    def _kid(self, connection: Connection, trace: Trace | None) -> KeyId | None:
        """Return what to ask the source of keys for; None where it holds a single key."""
        kid = None if connection.token is None else kid_of(connection.token, trace)
        if self.config.key is not None:
            return None
        if trace is not None:
            trace.begin("key")
        if kid is None:
            if self.config.key_dir is not None:
                message = "the token has no `kid`, which is needed to select the key"
                raise InvalidTokenError(message, reason="kid-missing")
            return None
        try:
            return KeyId(kid)
        except InvalidKeyIdError as error:
            raise InvalidTokenError(f"invalid `kid` in the token header: {error}", reason="bad-kid") from None

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
                check_exists(text, directory=directory)
                self._keys = open_source(text, directory=directory, http=http)
                opened.push_async_callback(self._keys.aclose)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close what was opened for the configuration, and forget the remembered tokens."""
        self._tokens.clear()
        opened, self._opened = self._opened, None
        if opened is not None:
            await opened.aclose()
