"""What the store is asked about caps, and what its answers mean. No I/O, and the caller passes the time."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from moq_token.server.caps import HELD, REFUSALS, CapKind

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from moq_token.auth.lease import Instant
    from moq_token.server.caps import Caps
    from moq_token.server.session import Refusal, Session
    from moq_token.server.share.names import Names

MAX_LEASE_SECONDS: Final = 86_400
"""How long the other nodes count a session that is never re-checked."""

_TAGS = {CapKind.TOKEN: b"t", CapKind.REMOTE: b"r", CapKind.SUBJECT: b"s"}
_KINDS = {tag: kind for kind, tag in _TAGS.items()}


class Call(NamedTuple):
    """One call of the script: its keys, and its arguments."""

    keys: Sequence[bytes]
    arguments: Sequence[bytes | int]


class Kick(NamedTuple):
    """A session that has been ended for a newer one: what stands for it in the store, and why."""

    digest: bytes
    refusal: Refusal


Verdict: TypeAlias = "tuple[Refusal | None, Sequence[Kick]]"


class SharedCaps:
    """The caps as the nodes of a share count them together.

    A session is counted by what it holds at its start. In the store, session and held value are digests.
    """

    def __init__(self, caps: Caps, names: Names) -> None:
        self._names = names
        self._channel = names.key(b"all")
        self._kicked = names.key(b"kicked")
        self._caps: list[tuple[CapKind, bytes, Callable[[Session], bytes | str | None], int, bytes]] = [
            (kind, _TAGS[kind], HELD[kind], caps[kind].limit, b"" if caps[kind].rejects else _TAGS[kind])
            for kind in CapKind
            if kind in caps
        ]
        self.kicks: bool = any(not cap.rejects for cap in caps.values())
        """Whether a session can be ended for a newer one."""

    def digest(self, session_id: str) -> bytes:
        """Return what stands for a session in the store."""
        return self._names.digest(b"session", session_id.encode(errors="surrogatepass"))

    def call(self, operation: bytes, session: Session, now: Instant) -> Call | None:
        """Return the call for a session at ``now``: ``admit``, ``refresh`` or ``release``. None if no cap counts it."""
        keys = [self._kicked]
        arguments: list[bytes | int] = [
            operation,
            self._channel,
            self.digest(session.id),
            _milliseconds(MAX_LEASE_SECONDS if session.lease is None else session.lease - now.steady),
            max(0, int((now.steady - session.began) * 1_000_000)),
        ]
        for _, tag, held, limit, kicks in self._caps:
            value = held(session)
            if value is not None:
                data = value if isinstance(value, bytes) else value.encode(errors="surrogatepass")
                name = tag + b":" + self._names.digest(tag, data).hex().encode()
                keys += (self._names.key(name), self._names.key(name + b":starts"))
                arguments += (limit, kicks)
        return Call(keys, arguments) if len(keys) > 1 else None

    def verdict(self, session: Session, answer: object) -> Verdict:
        """Read the answer to ``admit`` or ``refresh``. Raises ``ValueError`` for anything else."""
        match answer:
            case [int(number), *kicked]:
                pass
            case _:
                raise ValueError("the store gave an unexpected answer")
        if number:
            counted = [kind for kind, _, held, _, _ in self._caps if held(session) is not None]
            if abs(number) > len(counted):
                raise ValueError("the store gave an unexpected answer")
            return REFUSALS[counted[abs(number) - 1]], ()
        return None, [self.kick(each) for each in kicked if isinstance(each, bytes)]

    def kick(self, text: bytes) -> Kick:
        """Read which session has been ended, and why. Raises ``ValueError`` for anything else."""
        kind = _KINDS.get(text[:1])
        if kind is None:
            raise ValueError("the store named an unknown cap")
        return Kick(text[1:], REFUSALS[kind])


def _milliseconds(seconds: float) -> int:
    return math.ceil(min(max(seconds, 0.001), MAX_LEASE_SECONDS) * 1000)
