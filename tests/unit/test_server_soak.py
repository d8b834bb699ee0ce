"""Run the auth server with 10,000 live sessions that start, are re-checked and end: its memory stays constant.

SOAK_SECONDS says for how long; the default is short for a soak, and long enough to see a leak of a byte per event.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import os
import time
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import pytest

from moq_token import Algorithm, Claims, Key
from moq_token.server import AuthServer, Cap, CapKind, Policy
from moq_token.server.listen import TcpAddress, listening
from moq_token.server.metrics import Metrics
from tests import forge

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the memory of the process from /proc"),
]

SECONDS = float(os.environ.get("SOAK_SECONDS", "120"))
SESSIONS = 10_000
CONNECTIONS = 16
CADENCE = 60


def resident() -> int:
    """Return the memory of this process in KiB."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))


class Clock:
    """Goes faster than time, so that leases and calendars turn over many times."""

    def __init__(self) -> None:
        self.now = float(forge.NOW)

    def __call__(self) -> float:
        return self.now


def requests(key: Key, clock: Clock) -> Iterator[bytes]:
    """Events of sessions, of which about 10,000 live at a time; some vanish without an end, some are refused."""
    random = Random(7)  # noqa: S311 - the same events each time
    tokens = [key.sign(Claims("room", "a", "", subject=f"user-{n}", expires=1 << 37)) for n in range(2000)]
    live: list[tuple[int, str]] = []
    numbers = itertools.count()
    while True:
        clock.now += CADENCE / SESSIONS / 2
        roll = random.random()
        if len(live) < SESSIONS:
            session, event = (next(numbers), random.choice(tokens)), "connect"
            live.append(session)
        elif roll < 0.1:
            session, event = live.pop(random.randrange(len(live))), "end"
        elif roll < 0.12:
            live.pop(random.randrange(len(live)))  # its relay has died
            continue
        else:
            session, event = live[random.randrange(len(live))], "revalidate"
        number, token = session
        if roll > 0.99:
            token = token[:-4]
        yield (
            f'{{"id":"{number:032x}","event":"{event}","reason":"x","duration":1.5,"bytes":{{"sent":1,"received":2}},'
            f'"node":"n{number % 20}","transport":"quic","remote":"192.0.2.{number % 256}:{number % 50000 + 1}",'
            f'"path":"/room/{number % 300}","query":"jwt={token}"}}'
        ).encode()


def test_memory_is_flat(tmp_path: Path) -> None:
    key = forge.key(Algorithm.HS256)
    key.to_file(tmp_path / f"{key.kid}.jwk")
    clock, metrics = Clock(), Metrics()
    policy = Policy(tmp_path, expires="1h", revalidate=f"{CADENCE}s", clock=clock)
    caps = {CapKind.TOKEN: Cap(50), CapKind.REMOTE: Cap(60, kick_oldest=True)}
    server = AuthServer(policy, caps=caps, metrics=metrics, clock=clock)
    events = requests(key, clock)
    answered = 0
    samples: list[tuple[float, int, int]] = []

    async def ask(port: int, until: float) -> None:
        nonlocal answered
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while time.monotonic() < until:
            body = next(events)
            head = "POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: "
            writer.write(f"{head}{len(body)}\r\n\r\n".encode() + body)
            answer = (await reader.readuntil(b"\r\n\r\n")).lower()
            assert answer.split(b" ", 2)[1] in {b"200", b"204", b"403"}
            if (length := answer.partition(b"content-length: ")[2]) != b"":
                await reader.readexactly(int(length.split(b"\r\n")[0]))
            answered += 1
        writer.close()

    async def watch(until: float) -> None:
        while time.monotonic() < until:
            await asyncio.sleep(min(5, SECONDS / 30))
            metrics.render()
            samples.append((time.monotonic(), resident(), len(server.live.sessions)))

    async def test() -> None:
        async with listening(server.handle, TcpAddress("127.0.0.1", 0)) as running:
            assert isinstance(running.address, TcpAddress)
            until = time.monotonic() + SECONDS
            await asyncio.gather(watch(until), *(ask(running.address.port, until) for _ in range(CONNECTIONS)))

    asyncio.run(test())
    gc.collect()
    settled = samples[len(samples) // 3 :]
    first, last = (sorted(rss for _, rss, _ in part)[len(part) // 2] for part in (settled[:9], settled[-9:]))
    told = f"{answered} events, {settled[-1][2]} sessions, {first} KiB and then {last} KiB"
    assert answered > 1000, told
    assert last - first < max(2048, first // 50), told
