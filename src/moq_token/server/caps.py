"""Caps: how many live sessions one token, address or subject may have."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final, TypeAlias

import msgspec

from moq_token.errors import ConfigError
from moq_token.server.groups import Groups
from moq_token.server.session import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from moq_token.server.session import Session


class CapKind(StrEnum):
    """What a cap counts the sessions of."""

    TOKEN = "token"  # noqa: S105 - a name
    REMOTE = "remote"
    SUBJECT = "subject"


class Cap(msgspec.Struct, frozen=True):
    """How many live sessions one token, address or subject may have, and what happens to one more.

    ``kick_oldest`` admits the newcomer and ends the oldest session instead, at its next re-check. Raises
    ``ConfigError`` for a negative limit.
    """

    limit: int
    kick_oldest: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.limit, bool) or not isinstance(self.limit, int):
            raise TypeError(f"the limit of a cap must be an int, not {type(self.limit).__name__}")
        if self.limit < 0:
            raise ConfigError(f"the limit of a cap must be at least 0, got {self.limit}")

    @property
    def rejects(self) -> bool:
        """Whether a newcomer is refused when the cap is reached, as no session can be ended for it."""
        return not self.kick_oldest or self.limit == 0


Caps: TypeAlias = "Mapping[CapKind, Cap]"

REFUSALS: Final[Mapping[CapKind, Refusal]] = {
    CapKind.TOKEN: Refusal(reason="token-limit", message="too many live sessions for this token"),
    CapKind.REMOTE: Refusal(reason="remote-limit", message="too many live sessions from this address"),
    CapKind.SUBJECT: Refusal(reason="subject-limit", message="too many live sessions for this subject"),
}


def _packed_address(session: Session) -> bytes | None:
    address = session.address
    return None if address is None else address.packed


HELD: Final[Mapping[CapKind, Callable[[Session], bytes | str | None]]] = {
    CapKind.TOKEN: lambda session: session.token,
    CapKind.REMOTE: _packed_address,
    CapKind.SUBJECT: lambda session: session.subject,
}


class Counter:
    """Counts sessions for one cap, by what they hold in common: a token, an address or a subject."""

    def __init__(self, kind: CapKind, cap: Cap) -> None:
        self.refusal: Refusal = REFUSALS[kind]
        self._cap = cap
        self._held: Callable[[Session], bytes | str | None] = HELD[kind]
        self._holders: Groups[bytes | str | None] = Groups()

    def is_full(self, newcomer: Session) -> bool:
        """Whether the new session would exceed the cap. One without the counted value never does."""
        held = self._held(newcomer)
        return held is not None and self._holders.count(held) >= self._cap.limit

    def rejects(self, newcomer: Session) -> bool:
        """Whether the new session is refused."""
        return self._cap.rejects and self.is_full(newcomer)

    def oldest(self, newcomer: Session) -> Session:
        """Return the oldest of the sessions that hold the same as the newcomer."""
        return self._holders.first(self._held(newcomer))

    def add(self, session: Session) -> None:
        """Count a session, unless it holds nothing."""
        held = self._held(session)
        if held is not None:
            self._holders.add(held, session)

    def remove(self, session: Session) -> None:
        """Stop counting a session."""
        held = self._held(session)
        if held is not None:
            self._holders.remove(held, session)
