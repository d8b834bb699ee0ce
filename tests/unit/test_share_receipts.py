"""One receipt for all servers of a share: how receipts are merged, and what three servers with relays report."""

from __future__ import annotations

import asyncio
import json
import os
import time
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from signal import SIGCONT, SIGSTOP
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from moq_token import Algorithm, Claims, Key
from moq_token.server.api import MAX_LISTED, Receipt, Unreachable
from moq_token.server.receipts import MAX_UNREACHABLE
from moq_token.server.share.questions import Answers
from moq_token.server.share.receipts import Reported, together
from tests.ports import free_port
from tests.relays import FakeRelay, relay
from tests.serving import PATIENT, Process, ask, serving
from tests.sharing import until
from tests.store import BINARY, Server, server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

OWN = Receipt(matched=2, ended=2, slowest_ms=5, stored=True)
ALIVE = Receipt(matched=3, ended=1, alive=("b", "c"), slowest_ms=9, out_by=100, complete=False)
REFUSED = Unreachable(node="edge-2", url="http://127.0.0.1:9101", error="connection refused")


def expiring(at: int | None) -> Receipt:
    """Return a receipt whose sessions have not ended, and are out at this time at the latest."""
    return msgspec.structs.replace(ALIVE, expires_by=at)


def reported(*receipts: Receipt) -> dict[str, bytes]:
    return {f"s{number}": msgspec.json.encode(Reported(receipt)) for number, receipt in enumerate(receipts, 2)}


@pytest.mark.parametrize(
    ("own", "answers", "expected"),
    [
        (OWN, Answers({}), OWN),
        (OWN, Answers(reported(Receipt(), Receipt())), OWN),
        (
            OWN,
            Answers(reported(Receipt(matched=3, ended=3, slowest_ms=7))),
            {"matched": 5, "ended": 5, "slowest_ms": 7},
        ),
        (OWN, Answers(reported(Receipt(matched=3, ended=3))), {"slowest_ms": 5}),
        (
            OWN,
            Answers(reported(ALIVE, msgspec.structs.replace(ALIVE, out_by=90))),
            {"matched": 8, "ended": 4, "alive": ("b", "c", "b", "c"), "out_by": 100, "complete": False},
        ),
        # One that cannot say when its sessions are out leaves it open for all.
        (OWN, Answers(reported(ALIVE, msgspec.structs.replace(ALIVE, out_by=None))), {"out_by": None}),
        (ALIVE, Answers(reported(Receipt())), {"out_by": 100, "complete": False}),
        # The same for when they are out at the latest; a server whose sessions are out has nothing to say.
        (OWN, Answers(reported(expiring(300), expiring(200))), {"expires_by": 300}),
        (expiring(300), Answers(reported(Receipt())), {"expires_by": 300}),
        (OWN, Answers(reported(expiring(300), expiring(None))), {"expires_by": None}),
        (expiring(300), Answers({}, missing=("s2",)), {"expires_by": None}),
        (OWN, Answers(reported(Receipt())), {"expires_by": None}),
        # Sessions of relay 0.14, which are in no count.
        (OWN, Answers(reported(Receipt(out_by=80))), {"out_by": 80, "complete": True}),
        # The relays of others are named with their server.
        (
            OWN,
            Answers(reported(Receipt(unreachable=(REFUSED,), complete=False))),
            {"unreachable": (msgspec.structs.replace(REFUSED, server="s2"),), "complete": False},
        ),
        (
            ALIVE,
            Answers(reported(Receipt()), missing=("s3", "s4")),
            {
                "unreachable": tuple(
                    Unreachable(kind="server", node=node, error="no answer within 5 s") for node in ("s3", "s4")
                ),
                "out_by": None,
                "complete": False,
            },
        ),
        (OWN, Answers({}, missing=("s2",)), {"matched": 2, "ended": 2, "complete": False}),
        (
            OWN,
            Answers({"s2": msgspec.json.encode(Reported(error="too many denials"))}),
            {
                "unreachable": (Unreachable(kind="server", node="s2", error="too many denials"),),
                "complete": False,
            },
        ),
        *(
            (
                OWN,
                Answers({"s2": body}),
                {
                    "unreachable": (
                        Unreachable(
                            kind="server",
                            node="s2",
                            error="the answer is not understood: run the same version on all servers",
                        ),
                    ),
                    "complete": False,
                },
            )
            for body in (b"null", b"[]", b'{"receipt":{"matched":"x"}}')
        ),
        (
            OWN,
            Answers({}, missing=("s2",), problem="no answer within 250 ms"),
            {
                "unreachable": (
                    Unreachable(
                        kind="share", node="", error="other servers were not asked: no answer within 250 ms; LATER"
                    ),
                    Unreachable(kind="server", node="s2", error="was not asked"),
                ),
                "complete": False,
            },
        ),
        (OWN, Answers({}, problem="down"), {"complete": False, "out_by": None}),
        # One that was only slow to renew its lease has answered after all.
        (OWN, Answers(reported(Receipt()), gone=("s2",)), OWN),
        (
            OWN,
            Answers({}, gone=("s2",)),
            {
                "unreachable": (
                    Unreachable(
                        kind="server",
                        node="s2",
                        error="it has stopped, and the sessions of its relay go on: start it again, or stop the relay",
                    ),
                ),
                "complete": False,
            },
        ),
    ],
)
def test_receipts_become_one(own: Receipt, answers: Answers, expected: Receipt | dict[str, Any]) -> None:
    found = together(own, answers, later="LATER")
    if isinstance(expected, Receipt):
        assert found == expected
    else:
        assert {name: getattr(found, name) for name in expected} == expected
    assert found.stored is own.stored


def test_the_receipt_is_bounded() -> None:
    many = Receipt(
        matched=500,
        alive=tuple(map(str, range(MAX_LISTED))),
        unreachable=tuple(Unreachable(node=str(number), error="x") for number in range(MAX_UNREACHABLE)),
        complete=False,
    )
    found = together(many, Answers(reported(many), missing=("s9",)), later="")
    assert (found.matched, len(found.alive), len(found.unreachable)) == (1000, MAX_LISTED, MAX_UNREACHABLE)
    assert found.unreachable[0].node == "s9"  # a whole server is worse than a relay


class Site:
    """Three servers, each beside a relay. The listener of the last relay cannot be reached."""

    def __init__(self, processes: list[Process], relays: list[FakeRelay], directory: Path, key: Key) -> None:
        self.processes, self.relays, self._directory, self._key = processes, relays, directory, key

    async def admin(self, number: int, target: str, body: dict[str, object] | None = None) -> Any:  # noqa: ANN401
        address = f"unix:{self._directory}/admin{number}.sock"
        status, answer = await asyncio.to_thread(ask, address, target, body)
        assert status == 200, answer
        return json.loads(answer)

    async def dial(self, subject: str) -> None:
        """Connect one session of a subject at each relay."""
        token = self._key.sign(Claims("room", publish="", subscribe="", subject=subject, expires="1h"))
        for number, each in enumerate(self.relays):
            assert await each.dial(f"{subject}{number}", query=f"jwt={token}")

    def live(self, subject: str) -> list[int]:
        """Return the relays at which the session of a subject lives."""
        return [number for number, each in enumerate(self.relays) if f"{subject}{number}" in each.live]

    @contextmanager
    def paused(self, number: int) -> Iterator[None]:
        os.kill(self.processes[number].popen.pid, SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.processes[number].popen.pid, SIGCONT)


@asynccontextmanager
async def site(directory: Path, store: Server, revalidate: str = "1s", module: str = PATIENT) -> AsyncIterator[Site]:
    key = Key.generate(Algorithm.EDDSA, "one")
    key.to_public().to_file(directory / "one.jwk")
    (directory / "secret").write_text("what the three servers have in common")
    (directory / "secret").chmod(0o600)
    common = ["--key", "one.jwk", "--expires", "1h", "--revalidate", revalidate, "--spread", "0"]
    common += ["--share", store.url, "--share-secret-file", "secret"]
    async with AsyncExitStack() as stack:
        relays, services = [], []
        for number in range(3):
            port = free_port()
            fake, listener = await stack.enter_async_context(relay(f"relay{number}", port))
            relays.append(fake)
            url = listener.url if number != 2 else f"http://127.0.0.1:{free_port()}"
            places = ["--listen", f"127.0.0.1:{port}", "--relay", f"relay{number}={url}"]
            places += ["--admin", f"unix:admin{number}.sock"]
            services.append(serving(*common, *places, cwd=directory, module=module))
        processes = await asyncio.gather(*(asyncio.to_thread(each.__enter__) for each in services))
        for each in services:
            # In a thread, as the relays of this process are asked meanwhile.
            stack.push_async_callback(asyncio.to_thread, each.__exit__, None, None, None)
        yield Site(processes, relays, directory, key)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Server]:
    (tmp_path / "store").mkdir()
    with server(tmp_path / "store") as store:
        yield store


needs_store = pytest.mark.skipif(BINARY is None, reason="there is no valkey-server for this platform")


@needs_store
def test_bans_and_kicks_reach_all_servers_and_say_so(tmp_path: Path, store: Server) -> None:
    async def run() -> None:
        async with site(tmp_path, store) as here:
            for subject in "alice", "bob":
                await here.dial(subject)
            await check_bans(here)
            await check_kicks(here)
            store.kill()
            await check_without_store(here)
            store.start()
            await until(lambda: here.live("bob") == [])

    asyncio.run(run())


async def check_bans(here: Site) -> None:
    dry = (await here.admin(0, "/bans", {"subject": "alice", "for": "1h", "dry_run": True}))["receipt"]
    assert (dry["matched"], sorted(dry["alive"])) == (3, ["alice0", "alice1", "alice2"])
    assert here.live("alice") == [0, 1, 2]
    receipt = (await here.admin(0, "/bans", {"subject": "alice", "for": "1h"}))["receipt"]
    # The last one has ended at its next re-check. Its relay could not be told, and may have others.
    assert (receipt["matched"], receipt["ended"], receipt["alive"]) == (3, 3, [])
    assert (here.live("alice"), here.live("bob")) == ([], [0, 1, 2])
    (unreachable,) = receipt["unreachable"]
    assert unreachable["node"] == "relay2"
    assert "connection refused" in unreachable["error"]
    assert unreachable["server"]
    assert receipt["slowest_ms"] is not None
    assert not receipt["complete"]


async def check_kicks(here: Site) -> None:
    assert (await here.admin(1, "/kick", {"id": "bob0", "dry_run": True}))["matched"] == 1
    receipt = await here.admin(1, "/kick", {"id": "bob0"})
    assert (receipt["matched"], receipt["ended"], receipt["complete"]) == (1, 1, True)
    assert here.live("bob") == [1, 2]
    nobody = {**msgspec.to_builtins(Receipt()), "alive": [], "unreachable": []}
    assert await here.admin(1, "/kick", {"id": "nobody"}) == nobody


async def check_without_store(here: Site) -> None:
    receipt = (await here.admin(0, "/bans", {"subject": "bob", "for": "1h"}))["receipt"]
    assert (receipt["matched"], receipt["ended"], receipt["complete"]) == (0, 0, False)
    problem, *others = receipt["unreachable"]
    assert problem["kind"] == "share"
    assert {each["kind"] for each in others} <= {"server"}  # as far as they are known
    assert problem["error"].startswith("other servers were not asked: ")
    assert problem["error"].endswith("; they take it from the store when it is back")
    assert here.live("bob") == [1, 2]
    receipt = await here.admin(0, "/kick", {"subject": "bob"})
    assert (receipt["matched"], receipt["complete"]) == (0, False)
    assert receipt["unreachable"][0]["error"].endswith("; kick again when the store is back")


@needs_store
@pytest.mark.slow
def test_a_server_that_does_not_answer_is_named(tmp_path: Path, store: Server) -> None:
    async def run() -> None:
        async with site(tmp_path, store, revalidate="6s", module="moq_token") as here:
            await here.dial("alice")
            with here.paused(1):
                receipt = (await here.admin(0, "/bans", {"subject": "alice", "for": "1h"}))["receipt"]
                assert (receipt["matched"], receipt["ended"], receipt["alive"]) == (2, 1, ["alice2"])
                server, its_relay = receipt["unreachable"]
                assert (server["kind"], server["error"]) == ("server", "no answer within 5 s")
                assert (its_relay["node"], its_relay["server"] != server["node"]) == ("relay2", True)
                assert not receipt["complete"]
                assert receipt["out_by"] is None
                dry = (await here.admin(0, "/bans", {"subject": "bob", "for": "1h", "dry_run": True}))["receipt"]
                assert [each["kind"] for each in dry["unreachable"] if "kind" in each] == ["server"]
            await until(lambda: here.live("alice") == [])
            # One that has crashed is missed, also when its lease is over.
            here.processes[1].popen.kill()
            here.processes[1].popen.wait()
            with store.client() as client:
                (nodes,) = (key for key in client.scan_iter() if key.endswith(b":nodes"))
                client.zadd(nodes, {server["node"]: 1000 * time.time() - 1000})
            receipt = (await here.admin(0, "/bans", {"subject": "carol", "for": "1h", "dry_run": True}))["receipt"]
            assert [each["node"] for each in receipt["unreachable"] if "kind" in each] == [server["node"]]
            assert server["node"] in (await here.admin(0, "/sessions"))["missing"]

    asyncio.run(run())
