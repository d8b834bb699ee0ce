"""How long a ban takes until its sessions have ended: ``python -m benchmarks.bans`` (Linux).

A relay in this process holds the sessions, as relay 0.17 does: it is nudged, asks again about each session that the
nudge names, over 16 connections, is refused, and reports the end.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import statistics
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from benchmarks.servers import HOST, body, free_port, running
from moq_token import Claims, Key
from moq_token.server.http import HttpRequest, HttpResponse
from moq_token.server.listen import TcpAddress, listening

CONNECTIONS = 16
"""What a relay keeps to its auth server."""
SUBJECTS = "banned", "other"


class Relay:
    """Sessions by their ids, each with what is asked about it again."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._sessions: dict[str, tuple[int, str]] = {}
        self._asking: asyncio.Queue[tuple[int, str]] = asyncio.Queue()

    def add(self, number: int, token: str) -> None:
        self._sessions[f"{number:032x}"] = number, token

    async def nudged(self, request: HttpRequest) -> HttpResponse:
        """Answer at once, and ask about the sessions that are meant: one by its id, or all."""
        query = request.target.partition("?")[2]
        found = [query.removeprefix("id=")] if query.startswith("id=") else list(self._sessions)
        for name in found:
            self._asking.put_nowait(self._sessions[name])
        return HttpResponse(202, json.dumps({"ids": found}).encode(), "application/json")

    async def run(self) -> None:
        reader, writer = await asyncio.open_connection(HOST, self._port)
        try:
            while True:
                number, token = await self._asking.get()
                if await _post(reader, writer, body(number, token, "revalidate")) == http.client.FORBIDDEN:
                    await _post(reader, writer, _end(number, token))
        finally:
            writer.close()


def _end(number: int, token: str) -> str:
    usage = {"reason": "unauthorized", "duration": 1.0, "bytes": {"sent": 0, "received": 0}}
    return json.dumps(json.loads(body(number, token, "end")) | usage)


async def _post(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, sent: str) -> int:
    head = f"POST / HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(sent)}\r\n\r\n"
    writer.write((head + sent).encode())
    answer = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = answer.partition(b"content-length: ")[2].partition(b"\r\n")[0]
    await reader.readexactly(int(length or 0))
    return int(answer.split()[1])


async def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bans", description="Measure bans.")
    parser.add_argument("--sessions", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    for banned in (1, arguments.sessions // 10, arguments.sessions):
        rounds = [await _round(arguments.sessions, banned) for _ in range(arguments.rounds)]
        first, whole = (statistics.median(times) for times in zip(*rounds, strict=True))
        print(
            f"{arguments.sessions} sessions, {banned:4} of them banned:"
            f"  slowest end after {first:6.0f} ms, receipt after {whole:6.0f} ms",
            flush=True,
        )


async def _round(sessions: int, banned: int) -> tuple[float, float]:
    """Return the milliseconds until the last session has ended, as the receipt says, and until the receipt."""
    key = Key.generate("HS256", "bench")
    async with AsyncExitStack() as stack:
        key_file = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "bench.jwk"
        key.to_file(key_file)
        port, admin = free_port(), free_port()
        held = Relay(port)
        listener = await stack.enter_async_context(listening(held.nudged, TcpAddress(HOST, 0)))
        flags = ["--expires", "1h", "--revalidate", "10m", "--admin", f"{HOST}:{admin}"]
        flags += ["--relay", f"relay-1=http://{listener.address}"]
        command = [sys.executable, "-m", "moq_token", "serve", "--listen", f"{HOST}:{port}", "--key", str(key_file)]
        stack.enter_context(running([*command, *flags], port))
        tokens = [key.sign(Claims("rooms/123", "", "", subject=subject, expires="1h")) for subject in SUBJECTS]
        reader, writer = await asyncio.open_connection(HOST, port)
        for number in range(sessions):
            token = tokens[number >= banned]
            assert await _post(reader, writer, body(number, token)) == http.client.OK
            held.add(number, token)
        writer.close()
        asking = [asyncio.create_task(held.run()) for _ in range(CONNECTIONS)]
        stack.callback(lambda: [task.cancel() for task in asking])
        started = time.perf_counter()
        receipt = (await asyncio.to_thread(_ban, admin))["receipt"]
        took = time.perf_counter() - started
        assert receipt["complete"], receipt
        assert receipt["matched"] == banned
        return receipt["slowest_ms"], took * 1000


def _ban(admin: int) -> dict[str, Any]:
    connection = http.client.HTTPConnection(HOST, admin, timeout=30)
    body = json.dumps({"subject": "banned", "for": "1h", "reason": "measured"})
    connection.request("POST", "/bans", body, {"content-type": "application/json"})
    answer = connection.getresponse()
    answered: dict[str, Any] = json.loads(answer.read())
    assert answer.status == http.client.OK, answered
    return answered


if __name__ == "__main__":
    asyncio.run(main())
