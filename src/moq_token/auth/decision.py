"""The decision itself: pure and synchronous, independent of server and transport."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from moq_token import jws
from moq_token import path as paths
from moq_token.auth.config import PublicAccess
from moq_token.claims import Claims
from moq_token.claims.grants import all_subtrees, covers
from moq_token.claims.wire import grants_prefixes
from moq_token.errors import (
    Error,
    InvalidTokenError,
    KeyNotFoundError,
    KeyOperationError,
    NotAdmittedError,
    RefusedError,
    UnauthorizedError,
    sealed,
    shown,
)

if TYPE_CHECKING:
    from moq_token.auth.connection import Connection
    from moq_token.claims.grants import Held
    from moq_token.trace import Trace


class Verifier(Protocol):
    """What verifies a token: a ``Key`` or a ``KeySet``."""

    def verify(self, token: str, *, now: float, trace: Trace | None = None) -> Claims:
        """Return the claims of a valid token, raise ``RefusedError`` for any other."""
        ...


@dataclass(frozen=True, slots=True)
class Grant:
    """What an admitted session may do.

    Attributes
    ----------
    root
        The path that the others are relative to, normalized: the dialed one, or the alias from ``auth_api``.
    publish, subscribe
        Prefixes granted in each role, normalized, the shortest first, none beneath another; ``""`` is everything.
    expires
        When the session must end, in Unix seconds; None is never.
    kid
        The id of the key that the token names, for the log.
    tier
        The label under which the traffic of the session is counted; empty is the default one.

    """

    root: str
    publish: tuple[str, ...]
    subscribe: tuple[str, ...]
    expires: int | None = None
    kid: str | None = None
    tier: str = ""

    def can_publish(self, broadcast: str) -> bool:
        """Whether ``broadcast``, a path relative to the root, lies at or beneath a prefix for publishing."""
        return covers(self.publish, broadcast)

    def can_subscribe(self, broadcast: str) -> bool:
        """Whether ``broadcast``, a path relative to the root, lies at or beneath a prefix for subscribing."""
        return covers(self.subscribe, broadcast)


@dataclass(frozen=True, slots=True)
class Rejection:
    """What a client that is not admitted is told: an HTTP status and one word."""

    status: int
    message: str

    @classmethod
    def of(cls, error: Error) -> Rejection:
        """Return 403 where a valid token grants nothing, 401 for every other refusal, 502 for no decision.

        An unknown key and a wrong signature get the same answer. That does not hide which key ids exist: a source of
        keys that limits how many unknown ids it looks up answers 502 for further ones, and a known id takes longer
        to refuse, because its signature is checked. Do not treat key ids as secrets.
        """
        if isinstance(error, UnauthorizedError):
            return cls(403, "forbidden")
        return cls(401, "unauthorized") if isinstance(error, RefusedError) else cls(502, "unavailable")


def decide(
    connection: Connection,
    *,
    key: Verifier | None = None,
    public: PublicAccess | Claims | None = None,
    alias: str | None = None,
    tier: str = "",
    now: float | None = None,
    trace: Trace | None = None,
) -> Grant:
    """Decide about a connection as a relay does.

    A verified client certificate is granted everything beneath its path. A token is verified with ``key``; a token that
    is refused never falls back to ``public``, which is what everybody without a token may do.

    Parameters
    ----------
    connection
        What the client dialed.
    key
        The key, or the set of keys, that verifies tokens.
    public
        The public prefixes, or the claims that they amount to at the dialed path; the ``api`` of a
        ``PublicAccess`` is not asked. None makes nothing public.
    alias
        Replaces the path as the root of the grant. It must have as many segments as the path; that is not checked for
        a certificate, as in the relay.
    tier
        The label for the grant.
    now
        The time in Unix seconds; None is the clock.
    trace
        Records the checks as they are made.

    Raises ``NotAdmittedError`` (``no-key-source``, ``token-expected``), what ``Key.verify()`` raises for a
    refusal, ``KeyNotFoundError`` where the key may not verify, and ``UnauthorizedError``.

    """
    root = connection.path if alias is None else alias
    if connection.certificate is not None:
        if trace is not None:
            trace.begin("certificate")
        return Grant(paths.normalize(root), ("",), ("",), connection.certificate.expires, None, tier)

    kid = None
    if connection.token is None:
        claims = _public(connection, public, trace)
    else:
        kid, claims = _verified(connection, key, time.time() if now is None else now, trace)
    if _depth(root) != _depth(connection.path):
        if trace is not None:
            trace.begin("alias")
        message = f"the alias {shown(root)} must have as many segments as the path {shown(connection.path)}"
        raise UnauthorizedError(message, path=connection.path, reason="root-mismatch")
    if trace is not None:
        trace.begin("path")
    permissions = claims.authorize(connection.path)
    publish, subscribe = _reduced(permissions.publish), _reduced(permissions.subscribe)
    if not publish and not subscribe:
        message = f"only patterns are public at {shown(connection.path)}, which relays before 0.15 cannot express"
        raise UnauthorizedError(message, path=connection.path)
    return Grant(paths.normalize(root), publish, subscribe, claims.expires, kid, tier)


def _public(connection: Connection, public: PublicAccess | Claims | None, trace: Trace | None) -> Claims:
    """Return what is public at the dialed path."""
    if trace is not None:
        trace.begin("public")
    claims = public.at(connection.path) if isinstance(public, PublicAccess) else public
    if claims is None:
        message = f"the connection has no token, and {shown(connection.path)} is not public"
        if connection.misplaced is not None:
            message = f"{message}; {connection.misplaced}"
        raise NotAdmittedError(message)
    if not isinstance(claims, Claims):
        raise TypeError(f"public must be PublicAccess, Claims or None, not {type(claims).__name__}")
    return claims


def _verified(
    connection: Connection, key: Verifier | None, now: float, trace: Trace | None
) -> tuple[str | None, Claims]:
    """Return the ``kid`` and the claims of the token. No frame has the token alone, for crash reports."""
    assert connection.token is not None  # noqa: S101 - as the caller has checked
    if key is None:
        if trace is not None:
            trace.begin("key")
        raise NotAdmittedError(
            "the connection has a token, but no key is configured to verify it", reason="no-key-source"
        )
    kid, payload = _parts(connection.token, trace)
    try:
        claims = key.verify(connection.token, now=now, trace=trace)
    except KeyOperationError as error:
        raise KeyNotFoundError(str(error), kid=kid) from None
    if not grants_prefixes(payload):
        if trace is not None:
            trace.begin("grants")
        message = "the token grants nothing: relays before 0.15 read `put` and `get`, not `publish` and `subscribe`"
        raise InvalidTokenError(message, reason="useless")
    return kid, claims


@sealed
def kid_of(token: str, trace: Trace | None = None) -> str | None:
    """Return the ``kid`` of a token that is not verified yet. Raises ``InvalidTokenError``."""
    return _parts(token, trace)[0]


@sealed
def _parts(token: str, trace: Trace | None) -> tuple[str | None, bytes]:
    """Return the ``kid`` and the payload of a token that is not verified yet."""
    if trace is not None:
        trace.begin("form")
    _, header, payload, _ = jws.split(token)
    return jws.kid_in(header), payload


def _depth(path: str) -> int:
    return sum(map(bool, path.split("/")))


def _reduced(grants: Held) -> tuple[str, ...]:
    """Drop prefixes that lie beneath others, and sort the rest as the relay shows them. Patterns do not count."""
    prefixes = grants if all_subtrees(grants) else tuple(grant for grant in grants if isinstance(grant, str))
    if len(prefixes) < 2:  # noqa: PLR2004 - there is nothing to compare
        return prefixes
    kept: list[str] = []
    # Sorted by segments, a prefix is followed by the paths beneath it.
    for prefix in sorted(set(prefixes), key=lambda prefix: prefix.split("/")):
        if not kept or paths.strip_prefix(prefix, kept[-1]) is None:
            kept.append(prefix)
    return tuple(sorted(kept, key=lambda prefix: (len(prefix.encode()), prefix)))
