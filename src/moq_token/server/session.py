"""One session in the table, and the possible results of its events."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Self, TypeAlias, overload

import msgspec

from moq_token.contract.address import address_of
from moq_token.errors import without_tokens

if TYPE_CHECKING:
    from moq_token.contract import Grant, Peer, Usage
    from moq_token.contract.address import Address
    from moq_token.server.identity import Identity


# The digest of a long name is itself short enough.
_MAX_NAME_CHARACTERS = 72
_MAX_TEXT_CHARACTERS = 512
_MAX_TOLD_CHARACTERS = 16 * _MAX_TEXT_CHARACTERS


def bounded_name(text: str) -> str:
    """Return a name of bounded length: the text itself, or a digest of a long one."""
    if len(text) <= _MAX_NAME_CHARACTERS:
        return text
    return f"sha256:{hashlib.sha256(text.encode(errors='surrogatepass')).hexdigest()}"


@overload
def cut(text: str) -> str: ...
@overload
def cut(text: str | None) -> str | None: ...
def cut(text: str | None) -> str | None:
    """Return the start of a long text, and a shorter text as it is."""
    if text is None or len(text) <= _MAX_TEXT_CHARACTERS:
        return text
    return f"{text[:_MAX_TEXT_CHARACTERS]}…"


def told(text: str) -> str:
    """Return a text for the log or for a relay: on one line, cut, and without what looks like a token."""
    text = cut(without_tokens(text[:_MAX_TOLD_CHARACTERS]))
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


class Admission(msgspec.Struct, frozen=True, kw_only=True):
    """What the policy has decided about a ``connect`` or ``revalidate`` that it admits.

    ``token`` is a digest of the presented token (never the token), ``subject`` whom it is for; None is not counted.
    ``jti``, ``kid`` and ``issued`` are those of the token. ``grant`` is the answer as it is written; ``root``,
    ``revalidate`` (seconds), ``expires`` (Unix seconds) and ``tier`` are those of the answer.
    """

    token: bytes | None = None
    jti: str | None = None
    kid: str | None = None
    subject: str | None = None
    issued: int | None = None
    grant: bytes = b""
    root: str | None = None
    revalidate: int | None = None
    expires: int | None = None
    tier: str | None = None

    @classmethod
    def of(cls, grant: Grant, identity: Identity, *, now: float) -> Self:
        """Describe a grant that is written at ``now`` to a session. Raises ``InvalidGrantError``."""
        return cls(
            token=identity.token,
            jti=identity.jti,
            kid=identity.kid,
            subject=identity.subject,
            issued=identity.issued,
            grant=grant.to_json(now=now),
            root=grant.root,
            revalidate=grant.revalidate,
            expires=grant.expires,
            tier=grant.tier,
        )


class Refusal(msgspec.Struct, frozen=True):
    """Why the table refuses what the policy admits: ``token-limit``, ``remote-limit`` or ``subject-limit``."""

    reason: str
    message: str


class Place(msgspec.Struct, frozen=True):
    """Where and how a session is connected. Sessions with the same values share one instance."""

    node: str
    transport: str
    local: str | None
    server_name: str | None
    alpn: str | None
    role: str | None


class Session(msgspec.Struct, eq=False, gc=False, kw_only=True):
    """A live session. Read it only: the table changes it.

    Attributes
    ----------
    id, place, remote, path, tls
        As its first event has them (there is no query and no token). Long texts are cut, a long id is a digest.
    token, jti, kid, subject, issued
        What is known of its token, see ``Admission``. A long ``jti`` or ``subject`` is a digest.
    tier, grant, root, revalidate, expires
        What was answered last, see ``Admission``. A very long grant is left out.
    first, last
        When its first and its latest event came (Unix seconds).
    began
        When its first event came, in monotonic seconds: how old it is does not depend on the clock being set.
    lease
        From when on it counts as lost without a further event (monotonic seconds); None is never.
    due
        Its place in the calendar of the table.
    kicked
        Why its next re-check is refused.

    """

    id: str
    place: Place
    remote: str | None
    path: str
    tls: Peer | None
    token: bytes | None
    jti: str | None
    kid: str | None
    subject: str | None
    issued: int | None
    tier: str | None
    grant: bytes
    root: str | None
    revalidate: int | None
    expires: int | None
    first: float
    last: float
    began: float
    lease: int | None
    due: int = 0
    kicked: Refusal | None = None

    @property
    def address(self) -> Address | None:
        """The address of the client without its port (see ``Request.address``)."""
        return address_of(self.remote)


class Kicked(msgspec.Struct, frozen=True):
    """A session is to end, to make room for a newer one: nudge its relay, or wait for the next re-check."""

    session: Session
    reason: str


class Ended(msgspec.Struct, frozen=True):
    """A session has ended, as its relay says. ``session`` is None if the table did not know it."""

    session: Session | None
    reason: str | None
    duration: float | None
    usage: Usage | None


class Lost(msgspec.Struct, frozen=True):
    """The lease of a session has ended without an ``end``. What it has used since ``session.last`` is not known."""

    session: Session


class Untracked(msgspec.Struct, frozen=True):
    """A session was admitted while the table was full: it is neither listed nor counted."""

    id: str


Effect: TypeAlias = Kicked | Ended | Lost | Untracked


class Outcome(msgspec.Struct, frozen=True):
    """What follows from an event: the verdict (``refused`` is None for yes), and what to do and to report."""

    refused: Refusal | None = None
    effects: tuple[Effect, ...] = ()
