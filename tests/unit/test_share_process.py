"""Three auth servers in processes of their own that share through a real store."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from moq_token import Algorithm, Claims, Key
from tests.serving import PATIENT, ask, serving
from tests.store import BINARY, Server, server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(BINARY is None, reason="there is no valkey-server for this platform")

SECONDS = 100


class Nodes:
    """Three servers beside three relays, and what their operators and relays ask."""

    def __init__(self, stack: ExitStack, directory: Path, url: str, *argv: str) -> None:
        self.directory = directory
        self.key = Key.generate(Algorithm.EDDSA, "one")
        self.key.to_public().to_file(directory / "one.jwk")
        (directory / "secret").write_text("what the three servers have in common")
        (directory / "secret").chmod(0o600)
        common = ["--key", "one.jwk", "--expires", "1h", "--revalidate", "1m", "--spread", "0"]
        common += ["--share", url, "--share-secret-file", "secret", *argv]
        self.processes = [
            stack.enter_context(serving(*common, "--admin", f"unix:admin{number}.sock", cwd=directory, module=PATIENT))
            for number in range(3)
        ]

    def token(self, subject: str) -> str:
        return self.key.sign(Claims("room", publish="", subscribe="", subject=subject, expires="1h"))

    def session(self, number: int, session_id: str, token: str, event: str = "connect") -> int:
        body: dict[str, object] = {"id": session_id, "event": event, "node": f"relay{number}", "transport": "quic"}
        return ask(self.processes[number].address, "/", {**body, "path": "/room", "query": f"jwt={token}"})[0]

    def admin(self, number: int, target: str, body: dict[str, object] | None = None) -> Any:  # noqa: ANN401 - any JSON
        status, answer = ask(f"unix:{self.directory}/admin{number}.sock", target, body)
        assert status == 200, answer
        return json.loads(answer)

    def state(self, number: int) -> str:
        return ask(self.processes[number].address, "/readyz")[1]


def until(condition: Callable[[], object]) -> float:
    """Wait until a condition holds, and return after how many seconds it did."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < SECONDS, "it took too long"
        time.sleep(0.005)
    return time.monotonic() - started


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Server]:
    (tmp_path / "store").mkdir()
    with server(tmp_path / "store") as store:
        yield store


def test_three_servers_share(tmp_path: Path, store: Server) -> None:
    with ExitStack() as stack:
        nodes = Nodes(stack, tmp_path, store.url, "--limit-subject", "3")
        alice, bob = nodes.token("alice"), nodes.token("bob")
        # A cap holds for all servers together, and for no more.
        assert [nodes.session(number % 3, f"a{number}", alice) for number in range(5)] == [200, 200, 200, 403, 403]
        assert [nodes.session(number, f"b{number}", bob) for number in range(3)] == [200, 200, 200]
        assert nodes.session(1, "a1", alice, "revalidate") == 200
        assert nodes.session(1, "a1", alice, "end") == 204
        assert until(lambda: nodes.session(2, "a5", alice) == 200) < SECONDS
        # The listing of one shows the sessions of all.
        until(lambda: nodes.admin(0, "/sessions")["count"] == 6)
        listing = nodes.admin(2, "/sessions?subject=alice")
        assert {each["id"] for each in listing["sessions"]} == {"a0", "a2", "a5"}
        assert {each["node"] for each in listing["sessions"]} == {"relay0", "relay2"}
        assert "missing" not in listing
        # A kick ends sessions wherever they are, here for want of a listener of relay0 not at once.
        assert nodes.admin(1, "/kick", {"id": "a0", "dry_run": True})["alive"] == ["a0"]
        kicked = nodes.admin(1, "/kick", {"id": "a0"})
        assert (kicked["matched"], kicked["alive"], kicked["complete"]) == (1, ["a0"], False)
        assert [each["node"] for each in kicked["unreachable"] if "kind" not in each] == ["relay0"]
        assert nodes.session(0, "a0", alice, "revalidate") == 403
        # A ban on one is in force on all; lifting it too.
        denial = nodes.admin(0, "/bans", {"subject": "bob", "for": "1h", "reason": "spam"})["denial"]
        until(lambda: [nodes.session(number, f"b{number}", bob, "revalidate") for number in range(3)] == [403] * 3)
        assert denial in nodes.admin(1, "/bans")["bans"]
        assert nodes.session(1, "a5", alice, "revalidate") == 200
        # A server that starts later knows it from the beginning.
        assert nodes.processes[0].stop() == 0
        listen = ["--listen", "127.0.0.1:0", "--key", "one.jwk", "--share", store.url, "--share-secret-file", "secret"]
        with serving(*listen, cwd=tmp_path, module=PATIENT) as late:
            assert late.connect("/room", f"jwt={bob}")[0] == 403
            assert late.connect("/room", f"jwt={nodes.token('carol')}")[0] == 200
        assert "spam" not in store_text(store)
        assert "bob" not in store_text(store)
    assert b"what the three servers" not in (tmp_path / "one.jwk").read_bytes()


def store_text(store: Server) -> str:
    with store.client() as client:
        return str([(key, client.dump(key)) for key in client.scan_iter()])


def test_servers_go_on_without_the_store(tmp_path: Path, store: Server) -> None:
    with ExitStack() as stack:
        nodes = Nodes(stack, tmp_path, store.url, "--limit-token", "1")
        strict = stack.enter_context(
            serving(
                *("--public-subscribe", "**", "--share", store.url, "--share-secret-file", "secret", "--require-share"),
                cwd=tmp_path,
                module=PATIENT,
            )
        )
        token = nodes.token("alice")
        assert [nodes.session(number, f"a{number}", token) for number in range(3)] == [200, 403, 403]
        assert nodes.state(0) == "ok\n"
        store.kill()
        until(lambda: "degraded: the share cannot be reached" in nodes.state(0) and nodes.state(1) != "ok\n")
        # Each by itself: the cap of one server holds, and nobody is refused for what another one has.
        assert [nodes.session(number, f"a{number}", token) for number in range(3)] == [200, 200, 200]
        assert [nodes.session(number, f"x{number}", token) for number in range(3)] == [403, 403, 403]
        assert [nodes.session(number, f"a{number}", token, "revalidate") for number in range(3)] == [200, 200, 200]
        until(lambda: ask(strict.address, "/readyz")[0] == 503)
        assert strict.connect("/room")[0] == 503
        # A ban is in force where it was set, and elsewhere when the store is back, which has lost everything.
        nodes.admin(0, "/bans", {"subject": "alice", "for": "1h"})
        assert nodes.session(0, "a0", token, "revalidate") == 403
        assert nodes.session(1, "a1", token, "revalidate") == 200
        store.start()
        until(lambda: [nodes.session(number, f"a{number}", token, "revalidate") for number in range(3)] == [403] * 3)
        until(lambda: nodes.state(1) == "ok\n" and ask(strict.address, "/readyz")[0] == 200)
        assert strict.connect("/room")[0] == 200
