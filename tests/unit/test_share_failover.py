"""A fail-over by Sentinel that loses the last writes: what the nodes of a share make of it."""

from __future__ import annotations

import asyncio
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from moq_token.server.caps import Cap, CapKind
from moq_token.server.denial import Denial
from moq_token.server.share import sharing as sharing_module
from tests.ports import free_port
from tests.sharing import FakeNode, admits, instant, session, shared, until
from tests.store import BINARY, Server, sentinel, server

if TYPE_CHECKING:
    from pathlib import Path

    from moq_token.server.caps import Caps
    from moq_token.server.share.sharing import Sharing

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BINARY is None, reason="there is no valkey-server for this platform"),
]

LIMIT, LOST = 5, 2


async def fail_over(one: Sharing, at_one: FakeNode, primary: Server, replica: Server) -> list[Denial]:
    """Lose the last writes with the primary. Returns the denials that were set."""
    kept, lost = (Denial(subject=name, until=int(time.time()) + 3600, at=1.0) for name in ("kept", "lost"))
    at_one.known.put(kept)
    one.publish([kept])
    assert await admits(one, *(session(f"kept{number}") for number in range(LIMIT - LOST))) == [None] * (LIMIT - LOST)
    with primary.client() as client:
        assert client.wait(1, 10_000) == 1  # the replica has them
    with replica.paused(), primary.client() as client:
        client.client_kill_filter(_type="replica")  # from here on nothing is sent to it
        assert await admits(one, *(session(f"lost{number}") for number in range(LOST))) == [None] * LOST
        assert await admits(one, session("refused")) == ["token-limit"]
        at_one.known.put(lost)
        one.publish([lost])
        primary.kill()
    return [kept, lost]


def test_the_last_writes_are_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing_module, "PULL_SECONDS", 0.2)
    monkeypatch.setattr("moq_token.server.share.health.RETRY_SECONDS", 0.1)
    caps: Caps = {CapKind.TOKEN: Cap(LIMIT)}

    async def run(primary: Server, replica: Server, watcher: Server) -> None:
        url = f"redis+sentinel://127.0.0.1:{free_port()},127.0.0.1:{watcher.port}/shared"
        async with shared(url, caps) as (one, at_one), shared(url, caps) as (two, at_two):
            assert one.problem is None
            denials = await fail_over(one, at_one, primary, replica)
            await until(lambda: one.problem)
            assert await admits(one, session("meanwhile")) == [None]
            await until(lambda: not one.problem and not two.problem, 40)
            # As many are admitted beyond the cap as acquires were lost, and no more.
            answers = await admits(two, *(session(f"new{number}") for number in range(LIMIT)))
            assert answers == [None] * LOST + ["token-limit"] * (LIMIT - LOST)
            # The re-checks of those that are there are counted, so that the next cadence heals it.
            for number in range(LOST):
                one.places.refresh(session(f"lost{number}"), instant())
            two.places.release(session("new0"), instant())
            assert await admits(one, session("more")) == ["token-limit"]
            # Every denial is where it was, and in the new store.
            await until(lambda: set(denials) <= set(at_two.known))
            async with shared(url) as (_, late):
                assert set(late.known) == set(denials)

    with ExitStack() as stack:
        for name in "primary", "replica":
            (tmp_path / name).mkdir()
        primary = stack.enter_context(server(tmp_path / "primary"))
        replica = stack.enter_context(server(tmp_path / "replica", "--replicaof", "127.0.0.1", str(primary.port)))
        with replica.client() as client:
            for _ in range(1000):
                info = client.info("replication")
                if info["master_link_status"] == "up":
                    break
                time.sleep(0.02)  # until it has copied the primary
        watcher = sentinel(tmp_path / "sentinel", primary)
        stack.callback(watcher.kill)
        with watcher.client() as client:
            for _ in range(1500):
                if client.execute_command("SENTINEL", "REPLICAS", "shared"):
                    break
                time.sleep(0.02)  # until it knows the replica
        asyncio.run(run(primary, replica, watcher))
