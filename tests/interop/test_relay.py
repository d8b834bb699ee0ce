"""Compare the table of decisions with the real relay over QUIC.

`make interop` builds the relay and names it in RUST_MOQ_RELAY. Its log shows which clients it admits, at which path and
with which grants. If this package differs from the relay on purpose, the member `relay` of a row is its answer: a
code, or "admitted".
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import pytest

from tests.forge import b64, compact
from tests.interop.peers import program
from tests.interop.relays import BAD_GATEWAY, HOST, UNAUTHORIZED, Accepted, Relay, running
from tests.serving import in_thread

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.rust

DOCUMENT = json.loads((Path(__file__).parents[1] / "vectors" / "decisions.json").read_text(encoding="utf-8"))

TOML = """
[log]
level = "info"
[server]
bind = "127.0.0.1:0"
[server.tls]
generate = ["localhost"]
"""


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

    with in_thread(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as server:
        yield f"http://127.0.0.1:{server.server_port}"


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


@pytest.fixture(scope="session")
def command() -> str:
    return program("RUST_MOQ_RELAY")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_the_relay_decides_alike(command: str, case: dict[str, Any], tmp_path: Path) -> None:
    for name, body in case.get("files", {}).items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content(body), encoding="utf-8")
    with http_server(case.get("http", {})) as http:
        (tmp_path / "relay.toml").write_text(TOML + case["toml"].replace("{http}", http), encoding="utf-8")
        variables = {name: value.replace("{http}", http) for name, value in case.get("env", {}).items()}
        with running(command, "relay.toml", directory=tmp_path, variables=variables) as relay:
            wrong = [mismatch for row in filter(askable, case["rows"]) if (mismatch := _ask(relay, row))]
    assert not wrong


def _ask(relay: Relay, row: dict[str, Any]) -> str | None:
    """Test one row with the relay, and return what is wrong with the answer."""
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
        expected = BAD_GATEWAY if row.get("unavailable") else UNAUTHORIZED
    return None if found == expected else f"{row}: {found}, not {expected}"
