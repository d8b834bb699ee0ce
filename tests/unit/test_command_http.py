"""Commands whose keys are at a URL, called as from a shell."""

from __future__ import annotations

import json
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from tests import forge
from tests.desk import (
    ED,
    HS,
    SECRET_WORD,
    TOKEN,
    put,
)
from tests.serving import in_thread

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.command_line import Cli


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Serve the keys on loopback; what is asked for beside them fails."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    bodies = {
        "/keys/test-key.jwk": json.dumps(forge.jwk(HS)),
        "/keys/broken.jwk": SECRET_WORD,
        "/jwks.json": json.dumps({"keys": [forge.public_jwk(ED, kid="ed"), forge.jwk(HS)]}),
        "/key.jwk": json.dumps(forge.public_jwk(ED)),
        "/broken": SECRET_WORD,
    }

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            body = bodies.get(path, "").encode()
            self.send_response(200 if body else 500 if path == "/fails" else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
            """Say nothing on standard error, which is looked at."""

    with in_thread(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as server:
        yield f"http://127.0.0.1:{server.server_address[1]}"


ED_TOKEN = forge.token(ED)


@pytest.mark.parametrize(
    ("where", "token"),
    [("/keys/", TOKEN), ("/jwks.json", TOKEN), ("/key.jwk", ED_TOKEN), ("/jwks.json?sig=hunter2", TOKEN)],
)
def test_keys_are_fetched(counter: Cli, web: str, where: str, token: str) -> None:
    assert json.loads(counter.done("verify", "--key", f"{web}{where}", stdin=token)) == forge.GRANT
    assert "may publish alice" in counter.done("explain", "--key", f"{web}{where}", "--path", "rooms/123", token)


@pytest.mark.parametrize(
    ("where", "kid", "failed", "said"),
    [
        ("/keys/", "gone", "key", "no key with the id 'gone' at 'http://127.0.0.1"),
        ("/keys/", "../keys/test-key", "key", "no key with the id"),
        ("/keys/?sig=hunter2", "gone", None, "cannot"),
        ("/jwks.json", "gone", "key", "no key with the id 'gone'; available ids: 'ed', 'test-key'"),
        ("/key.jwk", "gone", "algorithm", "the token has 'HS256' as `alg`"),
    ],
)
def test_a_token_is_refused_by_fetched_keys(  # noqa: PLR0917 - as above
    counter: Cli, web: str, where: str, kid: str, failed: str, said: str
) -> None:
    text = forge.token(HS, head=forge.header(HS, kid=kid))
    message = counter.refused(1, "verify", "--key", f"{web}{where}", stdin=text)
    assert "hunter2" not in message
    if failed is not None:
        assert said in message
        status, out, _ = counter.run("explain", "--key", f"{web}{where}", "--path", "/", "--json", stdin=text)
        assert (status, json.loads(out)["failed"]) == (1, failed)


@pytest.mark.parametrize("command", ["verify", "explain"])
@pytest.mark.parametrize(
    ("where", "kid"),
    [
        ("/broken?sig=hunter2", "test-key"),
        ("/fails?sig=hunter2", "test-key"),
        ("/gone?sig=hunter2", "test-key"),
        ("/keys/", "broken"),
    ],
)
def test_keys_that_cannot_be_had_are_no_refusal_of_the_token(
    counter: Cli, web: str, command: str, where: str, kid: str
) -> None:
    argv = [command, "--key", f"{web}{where}", "--path", "/"]
    message = counter.refused(1, *argv, stdin=forge.token(HS, head=forge.header(HS, kid=kid)))
    assert "127.0.0.1" in message or kid in message
    assert "hunter2" not in message


def test_a_configuration_can_name_keys_by_url(counter: Cli, web: str) -> None:
    put("relay.toml", f'auth.key_dir = "{web}/keys"')
    argv = ["explain", "--config", "relay.toml"]
    assert "may publish alice" in counter.done(*argv, f"https://r.test/rooms/123?jwt={TOKEN}")
    text = forge.token(HS, head=forge.header(HS, kid="broken"))
    counter.refused(1, *argv, f"https://r.test/rooms/123?jwt={text}")
    put("relay.toml", 'auth.key_dir = "http://127.0.0.1:1/keys"')
    assert "http://127.0.0.1:1/keys/test-key.jwk" in counter.refused(1, *argv, f"https://r.test/rooms/123?jwt={TOKEN}")
