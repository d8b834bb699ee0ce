"""A cluster of real stores, whose slots can be moved."""

from __future__ import annotations

import time
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from redis.crc import key_slot

from tests.store import Server, server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SLOTS = 16_384


class Cluster:
    """Three servers that have a third of the slots each."""

    def __init__(self, stack: ExitStack, directory: Path) -> None:
        self._stack, self._directory = stack, directory
        self.servers: list[Server] = []
        for _ in range(3):
            self._start()
        bounds = [SLOTS * number // 3 for number in range(4)]
        for each, (first, end) in zip(self.servers, pairwise(bounds), strict=True):
            _command(each, "CLUSTER", "ADDSLOTS", *range(first, end))
        self._meet(self.servers)

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"127.0.0.1:{each.port}" for each in self.servers)

    def owner(self, key: bytes) -> Server:
        """Return the server that has a key."""
        for first, last, (_, port, *_), *_ in _command(self.servers[-1], "CLUSTER", "SLOTS"):
            if first <= key_slot(key) <= last:
                return next(each for each in self.servers if each.port == port)
        raise AssertionError("nobody has the slot")

    def add_replica(self, of: Server) -> Server:
        """Start a replica, which takes over when the server fails."""
        replica = self._start()
        self._meet([replica])
        identity = _text(of, "CLUSTER", "MYID")
        _until(lambda: identity in _text(replica, "CLUSTER", "NODES"))
        _command(replica, "CLUSTER", "REPLICATE", identity)
        _until(lambda: _is_linked(replica))
        return replica

    @contextmanager
    def moving(self, key: bytes, source: Server, target: Server) -> Iterator[None]:
        """Move a slot: in the block, its keys are on the target, and the source still answers for it."""
        slot = key_slot(key)
        _command(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", _text(source, "CLUSTER", "MYID"))
        _command(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", _text(target, "CLUSTER", "MYID"))
        while keys := _command(source, "CLUSTER", "GETKEYSINSLOT", slot, 100):
            _command(source, "MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)
        yield
        for each in (target, source, *self.servers):
            _command(each, "CLUSTER", "SETSLOT", slot, "NODE", _text(target, "CLUSTER", "MYID"))

    def _start(self) -> Server:
        directory = self._directory / f"cluster{len(self.servers)}"
        directory.mkdir()
        options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "1000")
        self.servers.append(self._stack.enter_context(server(directory, *options)))
        return self.servers[-1]

    def _meet(self, newcomers: list[Server]) -> None:
        for each in newcomers:
            _command(each, "CLUSTER", "MEET", "127.0.0.1", self.servers[0].port)
        _until(lambda: all("cluster_state:ok" in _text(each, "CLUSTER", "INFO") for each in self.servers))
        nodes = f"cluster_known_nodes:{len(self.servers)}"
        _until(lambda: all(nodes in _text(each, "CLUSTER", "INFO") for each in self.servers))


def _is_linked(replica: Server) -> bool:
    with replica.client() as client:
        return bool(client.info("replication").get("master_link_status") == "up")


def _command(to: Server, *words: object) -> Any:  # noqa: ANN401 - as the command says
    with to.client() as client:
        return client.execute_command(*words)  # type: ignore[no-untyped-call,unused-ignore]


def _text(to: Server, *words: object) -> str:
    answer = _command(to, *words)
    return answer.decode() if isinstance(answer, bytes) else str(answer)


def _until(condition: Callable[[], bool]) -> None:
    for _ in range(1500):
        if condition():
            return
        time.sleep(0.02)  # until the servers have told each other
    raise AssertionError("the cluster has not agreed")
