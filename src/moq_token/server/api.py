"""The JSON of the admin API: what operators send, and what they get. Plain data, the same for the command line."""

from __future__ import annotations

from typing import Literal

import msgspec

from moq_token.contract import Peer  # noqa: TC001 - msgspec reads the types
from moq_token.server.denial import Denial, Role  # noqa: TC001 - as above

MAX_LISTED = 100
"""Ids in one list of a receipt. The counts beside it are of all."""
DEFAULT_SESSIONS, MAX_SESSIONS = 100, 10_000
"""Sessions in one listing."""


class Unreachable(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A relay that could not be told, or an auth server that may have sessions that it does not know or tell.

    Attributes
    ----------
    kind
        ``relay``: its sessions end at their next re-check. ``server``: what has become of its sessions is not known.
        ``share``: the other servers could not be asked. ``start``: the server was started a short time ago, and does
        not know all sessions yet. ``relay-0.14``: such relays ask the server, and cannot be told of this denial.
    node
        The name of the relay or the server, empty for the share.
    url
        The internal listener of the relay, None if unknown.
    server
        The server that could not tell the relay, where that is another one than was asked.
    error
        What went wrong.

    """

    kind: Literal["relay", "server", "share", "start", "relay-0.14"] = "relay"
    node: str
    url: str | None = None
    server: str | None = None
    error: str


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """What a ban, a kick or a narrowing has done to the live sessions, with a share to those of all its servers.

    Attributes
    ----------
    matched, ended
        How many live sessions it was for, and how many of them have ended. A session that is only narrowed, and whose
        relay has been told so, counts as ended.
    alive
        The ids of those that have not ended, at most 100 of them.
    unreachable
        The relays that could not be told, by the error of the last attempt; also those that were never reached since
        the start of the server, and may have sessions that it does not know. With a share, also the servers that did
        not answer. An entry of the kind ``start`` if the server itself does not know all sessions yet, and one of the
        kind ``relay-0.14`` if relay 0.14 asks it, which cannot be told. At most 100.
    slowest_ms
        After how many milliseconds the last of ``ended`` has ended, None if none has. Each server counts from when it
        was told.
    out_by
        When the rest is out (Unix seconds) if its relays can reach their auth server: at the next re-check, or where a
        session has none, at the end of its grant. None if nothing is left, or where there is no such time.
    expires_by
        When the rest is out at the latest, also if its relays cannot reach their auth server: at the end of the last
        grant. None if nothing is left, or where that is not known.
    complete
        Whether all that matched have ended, and no relay or server may have further ones.
    dry_run
        Nothing was done: ``matched`` and ``alive`` say whom it would be for.
    stored
        Whether the denial outlives a restart of the server. If not, there is no ``--state``.

    """

    matched: int = 0
    ended: int = 0
    alive: tuple[str, ...] = ()
    unreachable: tuple[Unreachable, ...] = ()
    slowest_ms: int | None = None
    out_by: int | None = None
    expires_by: int | None = None
    complete: bool = True
    dry_run: bool = False
    stored: bool = False


class BanRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename={"for_": "for"}):
    """The body of ``POST /bans``: the matchers and the effect of a ``Denial``, and how long it lasts.

    ``token`` is a token as it is, of which only a keyed digest is kept. The end is ``for`` (a duration such as ``1h``)
    or ``until`` (Unix seconds); a token needs neither if it has an end itself.
    """

    token: str | None = None
    jti: str | None = None
    kid: str | None = None
    subject: str | None = None
    session: str | None = None
    remote: str | None = None
    path: str | None = None
    issued_before: int | None = None
    everybody: bool = False
    role: Role | None = None
    narrow_path: str | None = None
    for_: str | None = None
    until: int | None = None
    reason: str = ""
    author: str = ""
    dry_run: bool = False

    def __repr__(self) -> str:
        # Without the token, which crash reporters would print with the variables of a frame.
        return f"{type(self).__name__}(…)"

    def __rich_repr__(self) -> list[tuple[str, object]]:
        return []


class Filter(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which sessions: those that match all members given. ``path`` is a pattern, ``remote`` an address or network.

    ``token`` is the digest that listings show, in hexadecimal.
    """

    id: str | None = None
    node: str | None = None
    transport: str | None = None
    remote: str | None = None
    path: str | None = None
    role: str | None = None
    subject: str | None = None
    token: str | None = None
    jti: str | None = None
    kid: str | None = None
    tier: str | None = None


class KickRequest(Filter, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of ``POST /kick``: a filter with at least one member. The sessions end; their clients may come back."""

    reason: str = ""
    author: str = ""
    dry_run: bool = False


class ListedSession(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A live session, as ``GET /sessions`` shows it. Times are in Unix seconds; ``token`` is a keyed digest.

    ``grant`` is what was answered last.
    """

    id: str
    node: str
    transport: str
    remote: str | None = None
    local: str | None = None
    server_name: str | None = None
    alpn: str | None = None
    path: str
    role: str | None = None
    tls: Peer | None = None
    token: str | None = None
    jti: str | None = None
    kid: str | None = None
    subject: str | None = None
    issued: int | None = None
    tier: str | None = None
    grant: msgspec.Raw | None = None
    first: float
    last: float
    kicked: bool = False


class Listing(msgspec.Struct, frozen=True, omit_defaults=True):
    """The answer to ``GET /sessions``: those that match, at most ``limit`` of them, and how many match in all.

    With a share, the sessions are those of all its servers, of others as they wrote them. ``missing`` names the servers
    that have not answered, whose sessions are not listed.
    """

    sessions: list[ListedSession | msgspec.Raw]
    count: int
    missing: tuple[str, ...] = ()


class Bans(msgspec.Struct, frozen=True):
    """The answer to ``GET /bans``: the denials in force. ``stored`` says whether they outlive a restart."""

    bans: list[Denial]
    stored: bool


class Banned(msgspec.Struct, frozen=True):
    """The answer to ``POST /bans`` and ``DELETE /bans/{id}``: the denial that is in force or was lifted."""

    denial: Denial
    receipt: Receipt


class Fault(msgspec.Struct, frozen=True):
    """What is wrong with a request; ``reason`` is a stable code."""

    message: str
    reason: str


class Failed(msgspec.Struct, frozen=True):
    """The body of every answer 4xx and 5xx of the admin API."""

    error: Fault
