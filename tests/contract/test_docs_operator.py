"""The commands for operators on the pages run, against a server that is started as the page says."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from moq_token import Algorithm, Claims
from tests import forge
from tests.contract.fences import blocks
from tests.serving import environment, in_thread, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the pages are for a POSIX shell")

PAGE = Path(__file__).parents[2] / "docs" / "revocation.md"
OPERATOR = re.compile(r"(?:docker compose exec auth )?(moq-token-cli (?:ban|bans|kick|narrow|sessions|unban)\b.*)")
# The directories of the page, which only root can make.
PLACES = {"/run/moq-token/": "", "/var/lib/moq-token-serve": "state"}
ID = "3f2a9c0d1e5b47a68890"


def lines() -> Iterator[str]:
    """Yield the lines of the page that are commands: of its blocks, and in its sentences."""
    text = PAGE.read_text(encoding="utf-8")
    for place, here in PLACES.items():
        text = text.replace(place, here)
    for block in blocks(text):
        yield from block.text.replace("\\\n", " ").splitlines() if block.language == "console" else ()
    yield from re.findall(r"`(moq-token-cli [^`]+|docker compose exec [^`]+)`", text)


class NoSessions(BaseHTTPRequestHandler):
    """The internal listener of a relay without sessions."""

    def do_GET(self) -> None:
        self.answer(b'{"sessions":[]}')

    def do_POST(self) -> None:
        self.answer(b'{"ids":[]}')

    def answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - of the base
        pass


@pytest.fixture
def relay() -> Iterator[int]:
    with in_thread(ThreadingHTTPServer(("127.0.0.1", 0), NoSessions)) as server:
        yield server.server_port


def test_commands_of_operators(relay: int, tmp_path: Path) -> None:
    (serve,) = (line for line in lines() if line.startswith("moq-token-cli serve "))
    (admin,) = (line.partition("=")[2] for line in lines() if line.startswith("export MOQ_TOKEN_ADMIN="))
    commands = [found[1] for found in map(OPERATOR.fullmatch, lines()) if found]
    assert {command.split()[1] for command in commands} >= {"ban", "bans", "kick", "narrow", "sessions", "unban"}

    key = forge.key(Algorithm.ES256)
    (tmp_path / "keys").mkdir()
    key.to_public().to_file(tmp_path / "keys" / f"{key.kid}.jwk")
    (tmp_path / "stolen.jwt").write_text(key.sign(Claims("rooms/123", "alice", expires="1h")), encoding="ascii")
    (tmp_path / "state").mkdir(mode=0o700)
    flags = shlex.split(serve)[2:]
    flags[flags.index("--relay") + 1] = f"edge-1=http://127.0.0.1:{relay}"
    with serving(*flags, cwd=tmp_path):
        banned = ID
        for command in commands:
            line = command.replace("moq-token-cli", f"{shlex.quote(sys.executable)} -m moq_token").replace(ID, banned)
            done = subprocess.run(
                ["bash", "-c", line],
                cwd=tmp_path,
                env=environment() | {"MOQ_TOKEN_ADMIN": admin},
                capture_output=True,
                text=True,
                check=False,
            )
            # The relay of the page is not there, so that no receipt is complete.
            expected = 1 if '"complete":false' in done.stdout else 0
            assert (done.returncode, done.stderr) == (expected, ""), f"{command}: {done.stdout}{done.stderr}"
            if " --subject mallory --for" in command:
                banned = re.findall(r'"id": ?"([0-9a-f]+)"', done.stdout)[0]
