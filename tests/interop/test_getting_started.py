"""The last step of the five-minute start: the frame goes through relays of both generations."""

from __future__ import annotations

import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from moq_token import Key
from tests.interop.peers import OUR_AUTH, auth_server, program
from tests.interop.relays import running

pytestmark = [pytest.mark.rust, pytest.mark.timeout(120)]

HELLO = Path(__file__).parents[2] / "examples" / "hello.py"


@pytest.mark.parametrize("generation", ["RUST_MOQ_RELAY", "RUST_MOQ_RELAY_SECOND"])
def test_the_frame_goes_through(generation: str, tmp_path: Path) -> None:
    command = program(generation)
    key = Key.generate("EdDSA")
    key.to_file(tmp_path / "private.jwk")
    key.to_public().to_file(tmp_path / "public.jwk")
    (tmp_path / "relay.toml").write_text('[auth]\nkey = "public.jwk"\n', encoding="utf-8")
    arguments = ["--server-bind", "127.0.0.1:0", "--tls-generate", "localhost", "relay.toml"]
    with ExitStack() as stack:
        if generation == "RUST_MOQ_RELAY_SECOND":
            serve = ("--key", tmp_path / "public.jwk", "--expires", "1h")
            stack.enter_context(auth_server(OUR_AUTH, tmp_path / "auth", *serve))
            arguments = ["--listen", "127.0.0.1:0", "--listen-tls-generate", "localhost", "--auth-url"]
            arguments.append(f"unix://{tmp_path / 'auth'}")
        relay = stack.enter_context(running(command, *arguments, directory=tmp_path))
        hello = subprocess.run(
            [sys.executable, HELLO, f"https://localhost:{relay.port}"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
    assert (hello.returncode, hello.stdout) == (0, "frame: Hello from Alice\n"), hello.stderr
