"""A share in a cluster of three servers: whose slot moves, and whose servers fail."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from moq_token.server.caps import Cap, CapKind
from moq_token.server.denial import Denial
from moq_token.server.share import sharing as sharing_module
from tests.cluster import Cluster
from tests.sharing import admits, instant, session, shared, until
from tests.store import BINARY

if TYPE_CHECKING:
    from pathlib import Path

    from moq_token.server.caps import Caps

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BINARY is None, reason="there is no valkey-server for this platform"),
]

CAPS: Caps = {CapKind.TOKEN: Cap(2, kick_oldest=True), CapKind.REMOTE: Cap(3)}
BAN = Denial(subject="mallory", until=4_000_000_000, at=1.0)


def test_the_slot_of_a_share_moves_and_its_server_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing_module, "PULL_SECONDS", 0.2)

    async def run(cluster: Cluster) -> None:
        async with (
            shared(cluster.url, CAPS, denials=[BAN]) as (one, at_one),
            shared(cluster.url, CAPS) as (two, at_two),
        ):
            key = one.names.key(b"denials")
            source = cluster.owner(key)
            target = cluster.servers[(cluster.servers.index(source) + 1) % 3]
            await until(lambda: list(at_two.known) == [BAN])
            oldest = session("1", began=instant().steady - 60)
            assert await admits(one, oldest, session("2")) == [None, None]
            # All keys are on one server.
            for each in cluster.servers:
                with each.client() as client:
                    assert bool(client.dbsize()) is (each is source)
            with cluster.moving(key, source, target):
                await until(lambda: one.problem and two.problem)
                assert "slot of the share is" in str(one.problem)
                assert await admits(two, session("2")) == [None]
            # It goes on where it was, with what it knew.
            await until(lambda: not one.problem and not two.problem, 3)
            assert cluster.owner(key) is target
            assert await admits(two, session("3")) == [None]
            await until(lambda: at_one.kicks == [("1", "token-limit")])
            assert await admits(two, session("4", b"u")) == ["remote-limit"]
            replica = await asyncio.to_thread(cluster.add_replica, target)
            await until(lambda: not one.problem and not two.problem)
            target.kill()
            await until(lambda: one.problem and two.problem)
            await until(lambda: not one.problem and not two.problem, 30)
            assert cluster.owner(key) is replica
            assert await admits(one, session("5", b"v")) == ["remote-limit"]
            async with shared(cluster.url) as (_, at_late):
                await until(lambda: list(at_late.known) == [BAN])

    with ExitStack() as stack:
        asyncio.run(run(Cluster(stack, tmp_path)))


def test_another_url_for_a_server_of_a_cluster_says_what_to_do(tmp_path: Path) -> None:
    async def run(cluster: Cluster) -> None:
        for each in cluster.servers:
            async with shared(each.url, CAPS) as (one, _):
                if cluster.owner(one.names.key(b"")) is each:
                    assert one.problem is None
                else:
                    assert "redis+cluster:// finds it" in str(one.problem)

    with ExitStack() as stack:
        asyncio.run(run(Cluster(stack, tmp_path)))
