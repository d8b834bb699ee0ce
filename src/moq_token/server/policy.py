"""The built-in policy: what a token, a certificate or anybody may do, as `moq auth serve` decides it.

The rules are those of the Rust reference (`moq_auth::serve`, version 0.2.2), and stricter where it hands out a grant
that a relay cannot use: a certificate that has ended is refused.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterable
from datetime import timedelta
from typing import TYPE_CHECKING

from moq_token import path as paths
from moq_token.auth.remembered import REMEMBERED_TOKENS
from moq_token.claims import Claims
from moq_token.contract import Answer, Grant, PublicPaths
from moq_token.errors import (
    ConfigError,
    InvalidPatternError,
    NotAdmittedError,
    RefusedError,
    UnauthorizedError,
    shown,
)
from moq_token.pattern import MAX_SEGMENTS, Pattern
from moq_token.patterns import Patterns
from moq_token.server.identity import presented
from moq_token.server.keys import PolicyKeys
from moq_token.server.spread import MAX_SPREAD
from moq_token.server.spread import spread as spread_of
from moq_token.sources.source import Closing
from moq_token.times import END_OF_9999, parse_duration

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from moq_token.contract import Question, Request
    from moq_token.key import Key
    from moq_token.server.keys import Problem
    from moq_token.sources import KeySource

# What is remembered of claims at a path is small, so that all of it is.
_FEW_PATTERNS = 8
_SHORT_PATH = 512
_SUBTREE = Pattern("**")
_EVERYTHING = Patterns([_SUBTREE])


class Policy(Closing):
    """Decide about sessions by keys and rules: ``await policy(request)`` returns a ``Grant``.

    Parameters
    ----------
    keys
        What verifies tokens: a source of ``moq_token.sources``, or the path of a key file or of a directory of
        ``{kid}.jwk`` files. None refuses every token. The caller closes a source that it passes.
    public_publish, public_subscribe
        Patterns for sessions with neither token nor certificate, from the root, such as ``"lobby/**"``. A text without
        a wildcard is an error, as it names one broadcast where a subtree may be meant; ``Pattern("lobby")`` is not.
    mtls_publish, mtls_subscribe
        The same for sessions with a client certificate that the relay has verified.
    tier
        A label for the relay's statistics, on every grant.
    expires
        How long a grant without an end of its own lasts: seconds, a ``timedelta`` or a text such as
        ``"1h"``. Each re-check starts it again.
    revalidate
        How often a relay asks again, in the same forms. Needs ``expires``, so that a session ends if nobody answers.
    lenient
        Read tokens as relays up to 0.14 do: ignore unknown claims. Use it while you upgrade.
    spread
        The part of ``expires`` and ``revalidate``, at most 0.1, by which they may be shortened, differently for each
        session, so that sessions which start together are not re-checked together. The end of a token is kept.
    remember
        How many verified tokens are remembered, so that re-checks cost little; 0 turns that off. A token is not
        accepted after its expiry, or with another key than the one that verified it.
    clock
        Returns the time in Unix seconds.

    Raises ``ConfigError`` for rules and times that contradict themselves.

    """

    def __init__(
        self,
        keys: KeySource | str | os.PathLike[str] | None = None,
        *,
        public_publish: Iterable[str | Pattern] = (),
        public_subscribe: Iterable[str | Pattern] = (),
        mtls_publish: Iterable[str | Pattern] = (),
        mtls_subscribe: Iterable[str | Pattern] = (),
        tier: str | None = None,
        expires: float | str | timedelta | None = None,
        revalidate: float | str | timedelta | None = None,
        lenient: bool = False,
        spread: float = MAX_SPREAD,
        remember: int = REMEMBERED_TOKENS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.public: Claims = Claims(
            publish=_rules("public_publish", public_publish), subscribe=_rules("public_subscribe", public_subscribe)
        )
        self.mtls: Claims = Claims(
            publish=_rules("mtls_publish", mtls_publish), subscribe=_rules("mtls_subscribe", mtls_subscribe)
        )
        if tier is not None and not isinstance(tier, str):
            raise TypeError(f"`tier` must be a str or None, not {type(tier).__name__}")
        self.tier = tier
        self.expires: int | None = _seconds("expires", expires)
        self.revalidate: int | None = _seconds("revalidate", revalidate)
        if self.revalidate is not None and self.expires is None:
            raise ConfigError("`revalidate` needs `expires`, so that a session ends if nobody answers its re-checks")
        if not 0 <= spread <= MAX_SPREAD:
            raise ConfigError(f"`spread` must be from 0 to {MAX_SPREAD}")
        self.spread = spread
        self.keys: PolicyKeys | None = None if keys is None else PolicyKeys(keys, strict=not lenient, remember=remember)
        self._clock = clock
        self._known: OrderedDict[tuple[int, str], tuple[Claims, tuple[Patterns, Patterns]]] = OrderedDict()

    async def __call__(self, request: Request) -> Grant:
        """Decide about a ``connect`` or a ``revalidate``, which are alike.

        Raises ``RefusedError``, whose ``reason`` says why, and ``UnavailableError`` where the keys cannot be
        read at the moment.
        """
        token = presented(request)
        key = None if token is None else await self._keys(request).key(token)
        return self._decided(request, token, key)

    def at_once(self, request: Request) -> Grant | None:
        """Decide as a call does, if nothing has to be waited for; None if the key has to be read first."""
        token = presented(request)
        key = None
        if token is not None:
            key = self._keys(request).fresh_key(token)
            if key is None:
                return None
        return self._decided(request, token, key)

    def _keys(self, request: Request) -> PolicyKeys:
        """Return what verifies the token of a session."""
        if request.tls is not None:
            raise NotAdmittedError(
                "both a JWT and a client certificate were presented; present one", reason="token-and-certificate"
            )
        if self.keys is None:
            raise NotAdmittedError("no keys are configured, so no token can be verified", reason="no-key-source")
        return self.keys

    def _decided(self, request: Request, token: str | None, key: Key | None) -> Grant:
        now = self._clock()
        ends: int | None
        is_known = True
        if token is not None:
            assert self.keys is not None  # noqa: S101 - the key is one of them
            assert key is not None  # noqa: S101
            claims, is_known = self.keys.verify(key, token, now)
            ends = claims.expires
        elif request.tls is not None:
            claims, ends = self.mtls, request.tls.expires
            if not claims.publish and not claims.subscribe:
                raise NotAdmittedError("nothing is granted to client certificates", reason="no-mtls-grant")
            if ends is not None and not now < ends:
                raise NotAdmittedError("the client certificate has expired", reason="expired")
        else:
            claims, ends = self.public, None
            if not claims.publish and not claims.subscribe:
                raise NotAdmittedError("a token is missing: nothing is public here", reason="no-public-grant")
        try:
            granted = self._granted(claims, request.path, remember=is_known)
        except UnauthorizedError:
            if token is not None:
                raise
            what = "public" if request.tls is None else "granted to client certificates"
            message = f"nothing is {what} at the path {shown(request.path)}"
            raise UnauthorizedError(message, path=request.path) from None
        return self._grant(request.id, claims, granted, ends, now)

    def _granted(self, claims: Claims, path: str, *, remember: bool) -> tuple[Patterns, Patterns]:
        """Return what claims grant at a path. ``remember`` keeps it for this object of claims: a re-check has the same.

        Do not remember it for a new token: most tokens come once, and thousands of objects that are never used again
        make the garbage collector stall the server.
        """
        place = id(claims), path
        known = self._known.get(place) if remember else None
        if known is not None:
            return known[1]
        permissions = claims.authorize(path)
        try:
            granted = _patterns(permissions.publish), _patterns(permissions.subscribe)
        except InvalidPatternError as error:  # a path that is too deep, or in lenient mode one with a `*`
            raise UnauthorizedError(f"what is granted cannot be written as patterns: {error}") from None
        if remember and len(granted[0]) + len(granted[1]) <= _FEW_PATTERNS and len(path) <= _SHORT_PATH:
            if len(self._known) >= REMEMBERED_TOKENS:
                self._known.popitem(last=False)
            # The claims are held too, or their id could become that of others.
            self._known[place] = claims, granted
        return granted

    def _grant(
        self, session: str, claims: Claims, granted: tuple[Patterns, Patterns], ends: int | None, now: float
    ) -> Grant:
        revalidate = self.revalidate
        if revalidate is not None:
            revalidate = spread_of(revalidate, session, self.spread)
        if ends is None and self.expires is not None:
            ends = int(now) + spread_of(self.expires, session, self.spread)
        return Grant(
            publish=granted[0],
            subscribe=granted[1],
            expires=ends,
            # A grant without an end must have no cadence.
            revalidate=None if ends is None else revalidate,
            tier=self.tier,
            claims=claims,
        )

    async def lookup(self, question: Question) -> Answer:
        """Answer relay 0.14, which decides by itself: with the key for a ``kid``, and what is public at a path.

        What such a relay cannot express is left out, never widened: only patterns that are subtrees are public, and a
        client certificate gets everything at the path or nothing. The key of an HMAC algorithm is given as it is;
        whoever sends the answer decides where it may go. Raises ``RefusedError`` and ``UnavailableError``.
        """
        if question.mtls:
            permissions = self.mtls.authorize(question.root)
            if "" not in permissions.publish or "" not in permissions.subscribe:
                message = "relay 0.14 would grant everything to the certificate, but the rules grant less"
                raise UnauthorizedError(message, path=question.root)
            return Answer(tier=self.tier)
        key = None
        if self.keys is not None:
            try:
                key = await self.keys.get(question.kid)
            except RefusedError:
                # Without a `kid` it may be a client without a token, for whom the rules decide.
                if question.kid is not None:
                    raise
        if key is not None and not key.algorithm.symmetric:
            key = key.to_public()
        return Answer(key=key, public=self.public_paths(question.root), tier=self.tier)

    def public_paths(self, path: str) -> PublicPaths | None:
        """Return what is public at a path as prefixes, which relay 0.14 knows alone; None where that is nothing."""
        try:
            permissions = self.public.authorize(path)
        except UnauthorizedError:
            return None
        publish, subscribe = (
            tuple(prefix for prefix in granted if isinstance(prefix, str))
            for granted in (permissions.publish, permissions.subscribe)
        )
        return PublicPaths(subscribe, publish) if publish or subscribe else None

    async def problems(self) -> list[Problem]:
        """Return the problems of the policy for ``GET /readyz``: keys that cannot be read."""
        return [] if self.keys is None else await self.keys.problems()

    async def aclose(self) -> None:
        """Close what was opened for ``keys``."""
        if self.keys is not None:
            await self.keys.aclose()


def _patterns(granted: tuple[str | Pattern, ...]) -> Patterns:
    # Not `Pattern.subtree`, which makes one broadcast of a path of 32 segments: the reference refuses a subtree that
    # gets that deep with the missing part of the root in front.
    if granted == ("",):
        return _EVERYTHING
    return Patterns([_SUBTREE.rooted(grant) if isinstance(grant, str) else grant for grant in granted])


def _rules(name: str, patterns: Iterable[str | Pattern]) -> list[Pattern]:
    if isinstance(patterns, str | Pattern):
        patterns = (patterns,)
    if not isinstance(patterns, Iterable):
        raise TypeError(f"`{name}` must be an iterable of patterns, not {type(patterns).__name__}")
    return [pattern if isinstance(pattern, Pattern) else rule(name, pattern) for pattern in patterns]


def rule(name: str, text: str) -> Pattern:
    """Read a rule that a person wrote. Raises ``ConfigError``; a text without a wildcard is an error."""
    try:
        pattern = Pattern(text)
    except InvalidPatternError as error:
        raise ConfigError(f"`{name}`: {error}") from None
    if pattern.is_literal and len(pattern.head) < MAX_SEGMENTS:
        subtree = shown(paths.join(text, "**"))
        raise ConfigError(
            f"`{name}`: {shown(text)} has no wildcard, so it names exactly one broadcast; write {subtree} for the "
            "subtree"
        )
    return pattern


def _seconds(name: str, value: float | str | timedelta | None) -> int | None:
    if value is None:
        return None
    if isinstance(value, str):
        seconds: float | None = parse_duration(value)
    else:
        seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if seconds is None:
        raise ConfigError(f"`{name}` must be a duration such as 90s, 15m, 1h or 7d")
    if not 1 <= seconds < END_OF_9999:
        raise ConfigError(f"`{name}` must be at least 1s, and end before the year 10000")
    return int(seconds)
