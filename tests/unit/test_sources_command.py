"""The command line with keys at URLs, and its messages if it cannot read them."""

from __future__ import annotations

import http.server
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from moq_token import Claims, Key
from tests.certificates import Authority, serving
from tests.serving import in_thread

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator
    from pathlib import Path

    from tests.command_line import Cli

KEY = Key.generate("EdDSA", "one")
TOKEN = KEY.sign(Claims("room", publish=""))
SET = f'{{"keys":[{{"kty":"AKP","alg":"ML-DSA-65","kid":"new","pub":"AA"}},{KEY.to_public().to_json()}]}}'


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        status, kind, body = {
            "/key": (200, "application/json", KEY.to_public().to_json()),
            "/set": (200, "application/json", SET),
            "/dir/one.jwk": (200, "application/json", KEY.to_public().to_json()),
            "/login": (200, "text/html", "<!DOCTYPE html><p>Log in"),
            "/away": (302, "text/html", ""),
            "/locked": (401, "text/html", "<p>no"),
        }.get(self.path.partition("?")[0], (404, "text/plain", "not here"))
        self.send_response(status)
        self.send_header("Location", "/login")
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name that it has there
        pass


def listening(context: ssl.SSLContext | None = None) -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    with in_thread(server):
        yield f"127.0.0.1:{server.server_port}"


@pytest.fixture(scope="module")
def plain() -> Iterator[str]:
    yield from listening()


@pytest.fixture(scope="module")
def private(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve with a certificate that is not trusted."""
    yield from listening(serving(Authority(tmp_path_factory.mktemp("tls"), "ours").issue("server", "127.0.0.1")))


@pytest.mark.parametrize("path", ["/key", "/set", "/dir/", "/key?sig=hush"])
def test_a_key_behind_a_url(path: str, plain: str, cli: Cli) -> None:
    status, out, err = cli.run("verify", "--key", f"http://user:hush@{plain}{path}", stdin=TOKEN)
    assert (status, out[:9]) == (0, '{"root":"')
    assert "hush" not in err


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/login", "/login answered with something other than a key or JSON: text/html."),
        ("/away", "/login). Check the URL, and whether it requires a login"),
        ("/locked", "answered 401. Check the user name and password in the URL"),
        ("/none", "answered 404 (not found). Check the URL"),
    ],
)
def test_an_answer_that_is_no_key(path: str, words: str, plain: str, cli: Cli) -> None:
    error = cli.refused(1, "verify", "--key", f"http://user:hush@{plain}{path}?sig=hush", stdin=TOKEN)
    assert words in error
    assert "hush" not in error


def test_a_server_that_cannot_be_reached(private: str, plain: str, cli: Cli) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # and does not listen
        nobody = f"127.0.0.1:{unused.getsockname()[1]}"
        for url, words in {
            f"http://{nobody}/key": f"connection refused by {nobody}. Check that",
            f"https://{private}/key": "not trusted (unable to get local issuer certificate). Name its root certificate",
            f"https://{plain}/key": f"the server does not speak TLS on {plain}. Use http://",
            f"http://{private}/key": "use https:// if the server expects HTTPS",
        }.items():
            assert words in cli.refused(1, "verify", "--key", url, stdin=TOKEN)


def test_an_outage_is_told_once(tmp_path: Path) -> None:
    """Where logging is not configured, Python prints warnings to standard error."""
    (tmp_path / "relay.toml").write_text('auth.key_dir = "http://127.0.0.1:1/keys"')
    url = f"https://relay.example.com/room?jwt={TOKEN}"
    for argv, asked in (
        (("verify", "--key", "http://127.0.0.1:1/key"), TOKEN),
        (("explain", "--key", "http://127.0.0.1:1/keys/", "--path", "/room"), TOKEN),
        (("explain", "--config", str(tmp_path / "relay.toml"), "-"), url),
    ):
        command = [sys.executable, "-m", "moq_token", *argv]
        done = subprocess.run(command, input=asked, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr.count("\n")) == (1, 1)
        assert "connection refused by 127.0.0.1:1" in done.stderr


def test_a_file_url(tmp_path: Path, cli: Cli) -> None:
    KEY.to_public().to_file(tmp_path / "one.jwk")
    for url in (f"{tmp_path.as_uri()}/one.jwk", tmp_path.as_uri(), f"{tmp_path.as_uri()}/"):
        status, out, _ = cli.run("verify", "--key", url, stdin=TOKEN)
        assert (status, out[:9]) == (0, '{"root":"')
    assert "No such file" in cli.refused(1, "verify", "--key", f"{tmp_path.as_uri()}/none.jwk", stdin=TOKEN)
    assert "no host" in cli.refused(1, "verify", "--key", "file://host/one.jwk", stdin=TOKEN)
