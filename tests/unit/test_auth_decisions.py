"""Run every row of the table of decisions with the real Authenticator, files in a directory, and real HTTP."""

from __future__ import annotations

import asyncio
import base64
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from moq_token import ConfigError, RefusedError, UnavailableError
from moq_token.auth import AuthConfig, Authenticator, Certificate, Connection, Grant
from tests.forge import NOW, VECTORS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

DOCUMENT: dict[str, Any] = json.loads((VECTORS / "decisions.json").read_text(encoding="utf-8"))
KEYS, TOKENS = DOCUMENT["keys"], DOCUMENT["tokens"]
CASES = {case["name"]: case for case in DOCUMENT["cases"]}

pytestmark = pytest.mark.filterwarnings("ignore::moq_token.auth.ConfigWarning")


def filled(text: str | None, http: str = "") -> str | None:
    """Put the address of the server, and tokens, in place of their names."""
    if text is None:
        return None
    text = text.replace("{http}", http)
    for name, token in TOKENS.items():
        text = text.replace(f"{{{name}}}", token)
    return text


def written(content: object) -> bytes:
    """Return the content of a file, or the body of an answer, from its description."""
    if isinstance(content, str):
        return content.encode()
    if isinstance(content, dict) and list(content) == ["base64"]:
        return base64.urlsafe_b64encode(json.dumps(KEYS[content["base64"]]).encode()).rstrip(b"=")
    return json.dumps(_with_keys(content)).encode()


def _with_keys(content: object) -> object:
    if isinstance(content, list):
        return [_with_keys(item) for item in content]
    if not isinstance(content, dict):
        return content
    if list(content) == ["key"] and isinstance(content["key"], str):
        return KEYS[content["key"]]
    return {name: _with_keys(value) for name, value in content.items()}


def _question(target: str, *, encoded: bool) -> tuple[str, list[str]]:
    path, _, query = target.partition("?")
    if encoded:
        query = query.replace("%2F", "/").replace("%25", "%").replace("+", " ")
    return path, sorted(query.split("&"))


@asynccontextmanager
async def serving(answers: Mapping[str, dict[str, Any]]) -> AsyncIterator[str]:
    """Give these answers at an address of this machine, and 404 to everything else."""
    known = {json.dumps(_question(target, encoded=False)): answer for target, answer in answers.items()}

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        target = request.split(b" ", 2)[1].decode()
        found = known.get(json.dumps(_question(target, encoded=True)), {"status": 404, "body": "", "headers": {}})
        body = written(found["body"])
        headers = {**found["headers"], "Content-Length": len(body), "Connection": "close"}
        lines = [f"HTTP/1.1 {found['status']} X", *(f"{name}: {value}" for name, value in headers.items())]
        writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def connection_of(row: Mapping[str, Any], config: AuthConfig) -> Connection:
    certificate = Certificate(row["certificate"]) if "certificate" in row else None
    if "path" in row:
        return Connection.from_path_query(filled(row["path"]) or "", filled(row["query"]), certificate=certificate)
    return Connection.from_url(filled(row["url"]) or "", config.domains, certificate=certificate)


def expected(row: Mapping[str, Any]) -> object:
    if "grant" in row:
        grant = row["grant"]
        return Grant(
            grant["root"],
            tuple(grant["publish"]),
            tuple(grant["subscribe"]),
            grant.get("expires"),
            grant.get("kid"),
            grant.get("tier", ""),
        )
    return "unavailable" if row.get("unavailable") else row["reason"]


async def outcome(authenticator: Authenticator, connection: Connection) -> object:
    try:
        return await authenticator.authenticate(connection)
    except RefusedError as error:
        decided, message = str(error.reason), str(error)
    except UnavailableError as error:
        decided, message = "unavailable", str(error)
    assert "\n" not in message
    assert connection.token is None or len(connection.token) < 10 or connection.token not in message
    return decided


async def decided(case: Mapping[str, Any], directory: Path) -> list[tuple[object, object, object]]:
    """Return the rows of a case with an unexpected outcome: (row, expected, outcome)."""
    for name, content in case.get("files", {}).items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(written(content))
    async with serving(case.get("http", {})) as http:
        (directory / "relay.toml").write_text(filled(case["toml"], http) or "", encoding="utf-8")
        environ = {name: filled(value, http) or "" for name, value in case.get("env", {}).items()}
        config = AuthConfig.from_toml("relay.toml", environ=environ)
        assert len(config.warnings) == len(case.get("warnings", ()))
        for named, warning in zip(case.get("warnings", ()), config.warnings, strict=True):
            assert named in warning
        async with Authenticator(config, clock=lambda: NOW) as authenticator:
            # Twice, because the cache must not change the answer.
            outcomes = [
                (row, expected(row), await outcome(authenticator, connection_of(row, config)))
                for row in case.get("rows", ())
                for _ in range(2)
            ]
    return [entry for entry in outcomes if entry[1] != entry[2]]


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if "error" not in case])
def test_every_decision_is_the_expected_one(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert asyncio.run(decided(CASES[name], tmp_path)) == []


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if "error" in case])
def test_what_contradicts_itself_does_not_start(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as caught:
        asyncio.run(decided(CASES[name], tmp_path))
    assert "\n" not in str(caught.value)


def test_the_table_is_large_and_every_reason_is_in_it() -> None:
    rows = [row for case in CASES.values() for row in case.get("rows", ())]
    assert len(rows) + sum("error" in case for case in CASES.values()) >= 450
    assert {row["reason"] for row in rows if "reason" in row} == {
        *("bad-claims", "bad-kid", "bad-signature", "expired", "kid-missing", "malformed", "no-access"),
        *("no-key-source", "not-yet-valid", "root-mismatch", "scope-exceeded", "token-expected"),
        *("unknown-key", "useless", "wrong-algorithm"),
    }
