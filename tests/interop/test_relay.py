"""The table of decisions, asked of the real relay over QUIC: `make interop` builds it, and names it in RUST_MOQ_RELAY.

The log of the relay says whom it admits, where and to what. A row's `relay` is what it is known to say where this
package says something else, and on purpose: a code, or "admitted".
"""

from __future__ import annotations

import asyncio
import json
import os
import queue
import re
import subprocess
import threading
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast
from urllib.parse import parse_qsl

import moq
import pytest

from tests.forge import b64, compact

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.rust, pytest.mark.timeout(120)]

DOCUMENT = json.loads((Path(__file__).parents[1] / "vectors" / "decisions.json").read_text(encoding="utf-8"))
MoqError = cast("type[Exception]", moq.Error)
BAD_GATEWAY = 502
APP_CODES = 64  # how far the transport's codes lie above those of HTTP
PATIENCE = 10  # seconds

TOML = """
[log]
level = "info"
[server]
bind = "127.0.0.1:0"
[server.tls]
generate = ["localhost"]
"""
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
# What is granted in no role at all is not named: "publisher accepted … publish=inbox".
ACCEPTED = re.compile(r" accepted transport=\S* role=\S* tier=(\S*) root=(.*?)(?: publish=(.*?))?(?: subscribe=(.*))?$")
HOST = re.compile(r"(?i)relay\.example(:\d+)?")


class Accepted(NamedTuple):
    tier: str
    root: str
    publish: str | None
    subscribe: str | None


def askable(row: dict[str, Any]) -> bool:
    """Whether a client can dial it: on a name of its own, without a certificate, and as a URL."""
    return bool(row["url"] and HOST.search(row["url"]) and row.get("ask", True) and "certificate" not in row)


CASES = [case for case in DOCUMENT["cases"] if any(map(askable, case.get("rows", ())))]


@contextmanager
def http_server(answers: dict[str, Any]) -> Iterator[str]:
    """Serve the answers of a case, and 404 for all else."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path, _, query = self.path.partition("?")
            asked = "&".join(
                f"{name}={value}" for name, value in parse_qsl(query, keep_blank_values=True) if name != "transport"
            )
            answer = answers.get(f"{path}?{asked}" if asked else path, {"status": 404, "body": "", "headers": {}})
            body = content(answer["body"]).encode()
            self.send_response(answer["status"])
            for name, value in {**answer["headers"], "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name that it has there
            """Log nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def content(body: Any) -> str:  # noqa: ANN401 - whatever stands in a JSON file
    """Write the content of a file or an answer, with the keys in their places."""

    def filled(value: Any) -> Any:  # noqa: ANN401
        if isinstance(value, dict):
            if value.keys() == {"key"} and isinstance(value["key"], str):
                return DOCUMENT["keys"][value["key"]]
            return {name: filled(member) for name, member in value.items()}
        return [filled(member) for member in value] if isinstance(value, list) else value

    if isinstance(body, dict) and body.keys() == {"base64"}:
        return b64(compact(DOCUMENT["keys"][body["base64"]]))
    return body if isinstance(body, str) else json.dumps(filled(body))


class Relay:
    """A running relay, and what it logs."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=self._listen, args=(process,), daemon=True).start()
        self.port = int(self.next(re.compile(r"listening addr=.*:(\d+) kind=\"quic\""))[1])

    def _listen(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self._lines.put(COLOUR.sub("", line.rstrip("\n")))

    def next(self, pattern: re.Pattern[str]) -> re.Match[str]:
        """Return the next line that has the pattern; queue.Empty is raised where none comes in time."""
        while True:
            line = self._lines.get(timeout=PATIENCE)
            if found := pattern.search(line):
                return found

    def dial(self, url: str) -> Accepted | int:
        """Dial, and return what was granted, or 401 for every refusal, or 502."""
        code = asyncio.run(_dial(HOST.sub(f"127.0.0.1:{self.port}", url)))
        line = self.next(re.compile(r"\w+ accepted .*|connection closed err=.*"))[0]
        if accepted := ACCEPTED.search(line):
            self.next(re.compile("connection closed err="))
            return Accepted(*accepted.groups())
        return BAD_GATEWAY if code == BAD_GATEWAY + APP_CODES else 401


async def _dial(url: str) -> int | None:
    """Connect, and return the code that the relay closes with; an admitted session is ended at once."""
    try:
        async with moq.connect(
            url,
            tls_verify=False,
            websocket_enabled=False,
            reconnect=False,
            publish=moq.OriginProducer(),
            subscribe=moq.OriginProducer(),
        ) as client:
            assert client.session is not None
            with suppress(TimeoutError):
                await asyncio.wait_for(client.session.closed(), 0.1)
    except MoqError as error:
        details = moq.protocol_error(error)
        return None if details is None else details.code
    return None


@pytest.fixture(scope="session")
def command() -> str:
    return os.environ["RUST_MOQ_RELAY"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_the_relay_decides_alike(command: str, case: dict[str, Any], tmp_path: Path) -> None:
    for name, body in case.get("files", {}).items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content(body), encoding="utf-8")
    with http_server(case.get("http", {})) as http:
        (tmp_path / "relay.toml").write_text(TOML + case["toml"].replace("{http}", http), encoding="utf-8")
        variables = {name: value.replace("{http}", http) for name, value in case.get("env", {}).items()}
        process = subprocess.Popen(
            [command, "relay.toml"],
            cwd=tmp_path,
            env={**os.environ, **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            relay = Relay(process)
            wrong = [mismatch for row in filter(askable, case["rows"]) if (mismatch := _ask(relay, row))]
        finally:
            process.kill()
            process.communicate()
    assert not wrong


def _ask(relay: Relay, row: dict[str, Any]) -> str | None:
    """Ask one row, and return what is wrong with the answer."""
    url = row["url"]
    for name, token in DOCUMENT["tokens"].items():
        url = url.replace(f"{{{name}}}", token)
    found = relay.dial(url)
    grant = row.get("grant")
    expected: object = row.get("relay")
    if expected == "admitted":
        return None if isinstance(found, Accepted) else f"{row}: {found}"
    if expected is None and grant is not None:
        publish, subscribe = (",".join(grant[role]) if grant[role] else None for role in ("publish", "subscribe"))
        expected = Accepted(grant.get("tier", ""), grant["root"], publish, subscribe)
    elif expected is None:
        expected = BAD_GATEWAY if row.get("unavailable") else 401
    return None if found == expected else f"{row}: {found}, not {expected}"
