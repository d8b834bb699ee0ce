"""The decision itself, once everything is known: pure and synchronous, whatever the server and the transport."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from moq_token import jws
from moq_token import path as paths
from moq_token.claims import Claims, Permissions
from moq_token.errors import (
    Error,
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


class Verifier(Protocol):
    """What checks a token: a :class:`~moq_token.Key` or a :class:`~moq_token.KeySet`."""

    def verify(self, token: str, *, now: float) -> Claims:
        """Return the claims of a good token, raise :class:`RefusedError` for another."""
        ...


@dataclass(frozen=True, slots=True)
class Grant:
    """What an admitted session may do.

    Attributes
    ----------
    root
        The path that the others are relative to, normalized: the dialed one, or what ``auth_api`` calls it.
    publish, subscribe
        Prefixes granted in each role, normalized, the shortest first, none beneath another; ``""`` is everything.
    expires
        When the session must end, in Unix seconds; None is never.
    kid
        The id of the key that the token names, for the log.
    tier
        The label that the session's traffic is counted under; empty is the usual one.

    """

    root: str
    publish: tuple[str, ...]
    subscribe: tuple[str, ...]
    expires: int | None = None
    kid: str | None = None
    tier: str = ""

    def can_publish(self, broadcast: str) -> bool:
        """Whether ``broadcast``, a path relative to the root, lies at or beneath a prefix for publishing."""
        return Permissions(self.publish).can_publish(broadcast)

    def can_subscribe(self, broadcast: str) -> bool:
        """Whether ``broadcast``, a path relative to the root, lies at or beneath a prefix for subscribing."""
        return Permissions((), self.subscribe).can_subscribe(broadcast)


@dataclass(frozen=True, slots=True)
class Rejection:
    """What a client is told who is not admitted: an HTTP status and a word, which give nothing away."""

    status: int
    message: str

    @classmethod
    def of(cls, error: Error) -> Rejection:
        """Return 403 where a good token grants nothing, 401 for every other refusal, 502 where nobody could tell.

        An unknown key and a wrong signature look the same, so that no client learns which keys there are.
        """
        if isinstance(error, UnauthorizedError):
            return cls(403, "forbidden")
        return cls(401, "unauthorized") if isinstance(error, RefusedError) else cls(502, "unavailable")


def decide(
    connection: Connection,
    *,
    key: Verifier | None = None,
    public: Claims | None = None,
    alias: str | None = None,
    tier: str = "",
    now: float | None = None,
) -> Grant:
    """Decide about a connection as a relay does.

    A verified client certificate is granted everything beneath its path. A token is checked with ``key``, and a bad one
    never falls back to ``public``, which is what everybody may do who brings none (see :meth:`PublicAccess.at`).
    ``alias`` replaces the path as the root of the grant; it must have as many segments (which the relay, and so this,
    does not hold against a certificate). ``now`` is in Unix seconds,
    None is the clock.

    Raises :class:`NotAdmittedError` (``no-key-source``, ``token-expected``), what :meth:`Key.verify` raises for a
    refusal, :class:`KeyNotFoundError` where the key may not verify, and :class:`UnauthorizedError`.
    """
    root = connection.path if alias is None else alias
    if connection.certificate is not None:
        return Grant(paths.normalize(root), ("",), ("",), connection.certificate.expires, None, tier)

    kid = None
    if connection.token is not None:
        if key is None:
            raise NotAdmittedError("there is a token, and no key source to verify it with", reason="no-key-source")
        kid = kid_of(connection.token)
        try:
            claims = key.verify(connection.token, now=time.time() if now is None else now)
        except KeyOperationError as error:
            raise KeyNotFoundError(str(error), kid=kid) from None
    elif public is None:
        raise NotAdmittedError(f"nothing is public at {shown(connection.path)}, a token was expected")
    else:
        claims = public

    if _depth(root) != _depth(connection.path):
        message = f"the alias {shown(root)} has not as many segments as the path {shown(connection.path)}"
        raise UnauthorizedError(message, path=connection.path, reason="root-mismatch")
    permissions = claims.authorize(connection.path)
    publish, subscribe = _reduced(permissions.publish), _reduced(permissions.subscribe)
    return Grant(paths.normalize(root), publish, subscribe, claims.expires, kid, tier)


@sealed
def kid_of(token: str) -> str | None:
    """Return the ``kid`` that a token names, which nobody has verified yet. Raises :class:`InvalidTokenError`."""
    _, header, _, _ = jws.split(token)
    return jws.kid_of(jws.parse_header(header))


def _depth(path: str) -> int:
    return sum(map(bool, path.split("/")))


def _reduced(prefixes: tuple[str, ...]) -> tuple[str, ...]:
    """Drop prefixes that lie beneath others, and put the rest in the order in which the relay shows them."""
    if len(prefixes) < 2:  # noqa: PLR2004 - there is nothing to compare
        return prefixes
    kept: list[str] = []
    # Sorted by segments, what lies beneath a prefix follows it at once.
    for prefix in sorted(set(prefixes), key=lambda prefix: prefix.split("/")):
        if not kept or paths.strip_prefix(prefix, kept[-1]) is None:
            kept.append(prefix)
    return tuple(sorted(kept, key=lambda prefix: (len(prefix.encode()), prefix)))
