"""With the same answers of an auth server, ``moq-relay`` 0.17 and ``examples/relay.py`` end sessions in the same way.

`make interop` builds the relay and names it in RUST_MOQ_RELAY_SECOND.
"""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import time
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

pytest.importorskip("moq", exc_type=ImportError, reason="moq-rs is not built for this interpreter")

import moq

from tests.interop.peers import program

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.rust

MoqError = cast("type[Exception]", moq.Error)
PATIENCE = 60  # seconds
OURS = [sys.executable, str(Path(__file__).parents[2] / "examples" / "relay.py")]
ALL = {"publish": ["**"]}
# The answers to the connect and the re-checks of a session, by its path. The last one is repeated.
SCRIPTS: dict[str, list[Any]] = {
    "same": [ALL, ALL, ALL],
    "outage": [ALL, 500, ALL],
    "garbage": [ALL, "x", ALL],
    "wide-and-back": [{"publish": ["a/**"]}, ALL, {"publish": ["a/**"]}, {"publish": ["a/**"]}],
    "wide-then-below": [{"publish": ["a/**"]}, ALL, {"publish": ["a/b/**"]}],
    "union": [{"publish": ["*"]}, {"publish": ["a*", "*b"]}],
    "other-role": [ALL, {"subscribe": ["**"]}],
    "useless": [ALL, {"publish": []}],
    "forbidden": [ALL, 403],
    "past": [ALL, ALL | {"expires": 1}],
    "zero": [ALL, ALL | {"revalidate": 0}],
    "minus-zero": [ALL, '{"publish": ["**"], "expires": 4102444800, "revalidate": -0}', ALL],
    "huge-number": [ALL, '{"publish": ["**"], "expires": 4102444800, "revalidate": 1, "x": %s}' % ("9" * 5000)],
    "unbounded": [ALL, ALL | {"expires": None}],
    "tier": [ALL, ALL | {"tier": "gold"}, ALL],
    "root-spelled": [ALL, ALL | {"root": "/root-spelled//"}, ALL],
    "root": [ALL, ALL | {"root": "elsewhere"}],
    "star-root": [ALL, ALL | {"root": "a/*"}],
    "bad-root": [ALL | {"root": "a/*"}],
    "mounts-spelled": [ALL | {"mounts": {"a": "b"}}, ALL | {"mounts": {"/a/": "//b"}}, ALL | {"mounts": {"a": "b"}}],
    "mounts": [ALL, ALL | {"mounts": {"a": "x", "a/b": "y"}}],
    "bad-mounts": [ALL | {"mounts": {"a": "x", "a/b": "y"}}],
    "star-mount": [ALL | {"mounts": {"a*": "x"}}],
    "peer": [ALL, ALL | {"peer": True}, ALL],
    "refused": [401],
    "down": [404],
}


class Auth:
    """An auth server that answers each session by its script, and records why it ended."""

    def __init__(self) -> None:
        self.asked = dict.fromkeys(SCRIPTS, 0)
        self.over = {name: asyncio.Event() for name in SCRIPTS}
        self.reasons: dict[str, list[str]] = {name: [] for name in SCRIPTS}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
                assert length is not None
                writer.write(self.answer(json.loads(await reader.readexactly(int(length[1])))))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def answer(self, request: dict[str, Any]) -> bytes:
        name = request["path"].strip("/")
        if request["event"] == "end":
            self.reasons[name].append(request["reason"])
            return b"HTTP/1.1 204 No Content\r\n\r\n"
        script = SCRIPTS[name]
        found = script[min(self.asked[name], len(script) - 1)]
        self.asked[name] += 1
        if self.asked[name] > len(script):
            self.over[name].set()
        status, body = (found, "") if isinstance(found, int) else (200, found)
        if isinstance(body, dict):
            body = json.dumps({"expires": int(time.time()) + 60, "revalidate": 1} | body)
        return f"HTTP/1.1 {status} -\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode()


@asynccontextmanager
async def running(command: list[str], directory: Path, auth: str) -> AsyncIterator[str]:
    """Run a relay, and yield its port."""
    config = directory / "relay.toml"
    listen = '[listen]\nbind = "127.0.0.1:0"\n[listen.tls]\ngenerate = ["localhost"]\n'
    config.write_text(f'{listen}[auth]\nurl = "{auth}"\n')
    process = await asyncio.create_subprocess_exec(
        *command, str(config), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert process.stdout is not None
    lines = process.stdout

    async def drain() -> None:
        while await lines.readline():
            pass

    while line := re.sub(r"\x1b\[[0-9;]*m", "", (await lines.readline()).decode()):
        if found := re.search(r"listening .*:(\d+)", line):
            break
    else:
        raise AssertionError("it does not listen")
    draining = asyncio.create_task(drain())
    try:
        yield found[1]
    finally:
        process.terminate()
        await process.wait()
        await draining


async def dial(port: str, name: str, auth: Auth) -> str:
    """Stay until the session is closed or its script is over."""
    try:
        async with (
            asyncio.timeout(PATIENCE),
            moq.connect(
                f"https://127.0.0.1:{port}/{name}",
                tls_verify=False,
                websocket_enabled=False,
                reconnect=False,
                publish=moq.OriginProducer(),
                subscribe=moq.OriginProducer(),
            ) as client,
        ):
            assert client.session is not None
            waits = asyncio.ensure_future(client.session.closed()), asyncio.ensure_future(auth.over[name].wait())
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            waits[1].cancel()
            closed = waits[0].done()
            if not closed:
                waits[0].cancel()
            results = await asyncio.gather(*waits, return_exceptions=True)
            if not closed:
                return "stays"
            assert isinstance(results[0], MoqError)
            return "unauthorized" if moq.is_auth(results[0]) else "closed"
    except MoqError as error:
        return "unauthorized" if moq.is_auth(error) else "closed"


async def ends(command: list[str], directory: Path) -> dict[str, tuple[str, list[str]]]:
    auth = Auth()
    async with await asyncio.start_server(auth.serve, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        async with running(command, directory, url) as port:
            verdicts = await asyncio.gather(*(dial(port, name, auth) for name in SCRIPTS))
    # If a client leaves by itself, the reason is the text of the transport.
    return {
        name: (verdict, [] if verdict == "stays" else auth.reasons[name])
        for name, verdict in zip(SCRIPTS, verdicts, strict=True)
    }


def test_the_same_ends(tmp_path: Path) -> None:
    theirs = asyncio.run(ends([program("RUST_MOQ_RELAY_SECOND")], tmp_path))
    ours = asyncio.run(ends(OURS, tmp_path))
    assert ours == theirs
    assert {verdict for verdict, _ in theirs.values()} >= {"stays", "unauthorized", "closed"}
