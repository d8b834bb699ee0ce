"""The process `serve` under live sessions of a real relay: restarts, the stop of the relay, and roles of clients.

`make interop` builds the relay and the client, and names them in RUST_MOQ_RELAY_SECOND and RUST_MOQ.
"""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
from contextlib import AsyncExitStack, contextmanager
from typing import TYPE_CHECKING

import pytest

from moq_token import Claims, Key
from tests.interop.live import SECOND, SECONDS, all_dialed, refused, relay, run, token
from tests.interop.relays import OUTAGE
from tests.serving import ask, serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.interop.relays import Relay
    from tests.serving import Process

pytestmark = pytest.mark.rust

SESSIONS = 200
UNANSWERED = re.compile("auth revalidation failed; retrying id=([0-9a-f]+) err=auth server unavailable")
ACCEPTED = re.compile(" accepted transport=")


@contextmanager
def started(directory: Path, *argv: str) -> Iterator[Process]:
    """Run `serve` on a unix socket: while it is down, another process could take its port."""
    sockets = "--listen", f"unix:{directory}/auth.sock", "--admin", f"unix:{directory}/admin.sock"
    times = "--expires", "1m", "--revalidate", "2s"
    with serving(*sockets, "--key-dir", "keys", *times, *argv, cwd=directory) as process:
        yield process


@contextmanager
def asking(directory: Path) -> Iterator[Relay]:
    with relay(SECOND, f"unix://{directory}/auth.sock", directory, "--stats-node", "n") as running:
        yield running


def counted(directory: Path, name: str) -> int:
    """Return the sum of a metric's series."""
    status, text = ask(f"unix:{directory}/admin.sock", "/metrics")
    assert status == 200
    return sum(int(float(line.rpartition(" ")[2])) for line in text.splitlines() if re.match(rf"{name}[ {{]", line))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(SECONDS):
        while not await asyncio.to_thread(condition):  # noqa: ASYNC110 - the state is in another process
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["stop", "kill -9"])
def test_a_restart_loses_no_session(key: Key, tmp_path: Path, number: int) -> None:
    """The new process learns of all sessions from their re-checks, also of those beyond a limit that is lower now."""

    def live() -> int:
        return counted(tmp_path, "moq_token_sessions")

    async def test() -> None:
        signed = token(key)
        with asking(tmp_path) as running:
            url = f"{running.base}/room?jwt={signed}"
            async with AsyncExitStack() as stack:
                with started(tmp_path, "--limit-token", str(SESSIONS)) as before:
                    sessions = await all_dialed(stack, [url] * SESSIONS)
                    await until(lambda: live() == SESSIONS)
                    assert await refused(url) != OUTAGE
                    if number == signal.SIGTERM:
                        assert await asyncio.to_thread(before.stop) == 0
                    else:
                        before.signal(number)
                unanswered: set[str] = set()
                while len(unanswered) < SESSIONS:
                    unanswered.add((await asyncio.to_thread(running.next, UNANSWERED))[1])
                assert all(session.is_up for session in sessions)
                assert await refused(url) == OUTAGE
                with started(tmp_path, "--limit-token", "10"):
                    await until(lambda: live() == SESSIONS)
                    assert await refused(url) != OUTAGE
                    assert counted(tmp_path, "moq_token_session_ends_total") == 0
                    assert counted(tmp_path, 'moq_token_decisions_total{event="revalidate",reason="[^"]+"') == 0
                    assert all(session.is_up for session in sessions)
                    await stack.aclose()
                    await until(lambda: live() == 0)
                    assert counted(tmp_path, "moq_token_session_ends_total") == SESSIONS

    run(test)


def test_the_stop_of_a_relay_is_counted(key: Key, tmp_path: Path) -> None:
    count = 20

    async def test() -> None:
        with started(tmp_path), asking(tmp_path) as running:
            async with AsyncExitStack() as stack:
                sessions = await all_dialed(stack, [f"{running.base}/room?jwt={token(key)}"] * count)
                for _ in sessions:
                    await asyncio.to_thread(running.next, ACCEPTED)
                running.process.send_signal(signal.SIGTERM)
                for session in sessions:
                    await session.closed()
            await until(lambda: counted(tmp_path, "moq_token_sessions") == 0)
            assert counted(tmp_path, "moq_token_session_ends_total") == count
            assert counted(tmp_path, "moq_token_sessions_lost_total") == 0

    run(test)


# `moq` declares what it is going to do: `import` publishes and `export` subscribes. moq-rs declares nothing.
STAGES = {"publisher": ("import", "avc3"), "subscriber": ("export", "fmp4")}
NEEDS = {"publisher": "publish", "subscriber": "subscribe"}
DECIDED = re.compile(r" accepted transport=.*role=Some\((\w+)\)|does not allow (\w+) access to (\S+)")


@pytest.mark.parametrize("role", STAGES)
@pytest.mark.parametrize("granted", [("publish",), ("subscribe",), ("publish", "subscribe")], ids="+".join)
def test_a_role_needs_its_grant(moq: str, key: Key, tmp_path: Path, role: str, granted: tuple[str, ...]) -> None:
    claims = Claims("room", "" if "publish" in granted else (), "" if "subscribe" in granted else (), expires="1h")
    with started(tmp_path) as process, asking(tmp_path) as running:
        dial = "--connect", f"{running.base}/room?jwt={key.sign(claims)}", "--connect-once", "--connect-tls-insecure"
        with subprocess.Popen(
            [moq, *dial, "--broadcast", "b", *STAGES[role]],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as client:
            try:
                found = running.next(DECIDED)
                if NEEDS[role] in granted:
                    assert found[1].lower() == role
                    assert counted(tmp_path, "moq_token_sessions") == 1
                else:
                    assert found[2] == role
                    assert client.wait(SECONDS) != 0
            finally:
                client.kill()
        # The server grants what the token says; the relay refuses the role, and reports the end of the session.
        assert counted(tmp_path, 'moq_token_decisions_total{event="connect",reason="",verdict="granted"}') == 1
        assert not [line for line in process.log if line.get("event") == "refused"]
