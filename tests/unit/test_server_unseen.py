"""Relays that may have sessions which are not in the table."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from moq_token.auth.lease import Instant
from moq_token.errors import UnavailableError
from moq_token.server.unseen import Unseen
from tests.sharing import session

if TYPE_CHECKING:
    from collections.abc import Iterable

NOW = 1_800_000_000.0


class FakeNudger:
    """One relay, which has some sessions, or cannot be reached."""

    def __init__(self, *sessions: str) -> None:
        self.relays = {"relay": type("Relay", (), {"url": "http://127.0.0.1:1"})}
        self.sessions = set(sessions)
        self.is_up = True
        self.asked: list[list[str]] = []

    async def nudge(self, node: str, filters: Iterable[str]) -> set[str]:
        assert node == "relay"
        self.asked.append(list(filters))
        if not self.is_up:
            raise UnavailableError("connection refused")
        wanted = {each.removeprefix("id=") for each in self.asked[-1]}
        return self.sessions if wanted == {""} else self.sessions & wanted


def test_a_relay_is_named_until_it_has_asked_about_all_sessions_that_it_has() -> None:
    async def run() -> None:
        nudger: Any = FakeNudger("1", "2")
        known = {"1"}
        unseen = Unseen(nudger, known.__contains__, lambda: Instant(NOW, 0))
        nudger.is_up = False
        await unseen.discover_once()
        (named,) = unseen.unreachable()
        assert (named.node, "connection refused" in named.error) == ("relay", True)
        nudger.is_up = True
        await unseen.discover_once()
        (named,) = unseen.unreachable()
        assert "it has not asked about them yet" in named.error
        known.add("2")
        await unseen.discover_once()
        assert (unseen.unreachable(), nudger.asked) == ([], [[""]] * 3)
        await unseen.discover_once()
        assert len(nudger.asked) == 3

    asyncio.run(run())


def test_a_lost_session_may_live_until_its_relay_says_otherwise_or_its_grant_has_ended() -> None:
    async def run() -> None:
        nudger: Any = FakeNudger()
        now = NOW
        unseen = Unseen(nudger, lambda _: False, lambda: Instant(now, 0))
        await unseen.discover_once()
        assert unseen.unreachable() == []
        nudger.is_up = False
        lost = session("9", expires=int(NOW) + 60)
        unseen.add_lost(lost)
        await unseen.discover_once()
        assert nudger.asked[-1] == ["id=9"]
        assert [each.node for each in unseen.unreachable()] == ["relay"]
        now += 60
        assert unseen.unreachable() == []
        now -= 60
        nudger.is_up = True
        await unseen.discover_once()
        assert unseen.unreachable() == []
        await unseen.stop()

    asyncio.run(run())
