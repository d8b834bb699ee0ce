"""The token source for browsers in Chromium, against a token endpoint and a relay.

The page ``browser.html`` runs ``browser.js``, which reports what it has seen. Here it is compared.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import shutil
import ssl
import subprocess
import sys
import threading
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from starlette.applications import Starlette
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from moq_token import Algorithm, Claims
from moq_token.issuing import Issuer, TokenRequest, endpoint
from tests import forge
from tests.certificates import Authority
from tests.interop.peers import HERE, OUR_AUTH, auth_server, missing, program
from tests.unit.test_token_endpoint import running

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.requests import Request

NET = HERE / "node_modules" / "@moq" / "net"
EXAMPLES = HERE.parents[1] / "examples"
KEY = forge.key(Algorithm.ES256)
LIFETIME = 100
BROWSERS = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
)
PATIENCE = 150  # seconds for the whole page
RELAY_TOML = """
[auth]
key = "public.jwk"
[server]
bind = "127.0.0.1:0"  # of `localhost`, Chromium tries the address of IPv6 only
[server.tls]
generate = ["localhost"]
"""
RELAY = re.compile(r"listening on (\S+)\ncertificate (\S+)\n")


def chromium() -> str:
    """Return the path of a browser."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        missing("chromium")
    return found


class World:
    """The application: the page with its modules, a token endpoint that can fail, and the report."""

    def __init__(self, relay: str) -> None:
        self.mode = "good"
        self.changed = asyncio.Event()
        self.asked = 0
        self.seen: list[dict[str, object]] = []
        self.report: dict[str, Any] = {}
        self.is_reported = threading.Event()
        self.tokens = endpoint(Issuer(KEY, relay, LIFETIME), self.authorize, per_minute=1000)
        modules = HERE / "node_modules"
        self.app = Starlette(
            routes=[
                Route("/token", self.token, methods=["POST"]),
                Route("/control/{mode}", self.control, methods=["POST"]),
                Route("/asked", lambda _: JSONResponse(self.asked)),
                Route("/report", self.receive, methods=["POST"]),
                Route("/", lambda _: FileResponse(HERE / "browser.html")),
                Route("/browser.js", lambda _: FileResponse(HERE / "browser.js")),
                Route("/token-source.js", lambda _: FileResponse(EXAMPLES / "browser" / "token-source.js")),
                Mount("/modules", StaticFiles(directory=modules, check_dir=False)),
            ]
        )

    def authorize(self, asked: TokenRequest) -> Claims:
        self.seen.append({**asked.members, "user": asked.headers.get("x-user")})
        return Claims("rooms/123", publish="alice", subscribe="", subject="alice")

    async def token(self, request: Request) -> Response:
        self.asked += 1
        if self.mode == "down":
            return Response(status_code=500)
        if self.mode == "busy":
            return Response(status_code=429, headers={"Retry-After": "90"})
        if self.mode == "refused-by-fastapi":
            return JSONResponse({"detail": "not a member"}, 403)
        if self.mode == "refused":
            return JSONResponse({"error": {"message": "not a member", "reason": "refused"}}, 403)
        if self.mode == "slow":
            await asyncio.sleep(0.1)
        if self.mode == "hangs":
            await self.changed.wait()
        return Endpoint(self.tokens, request)

    async def control(self, request: Request) -> Response:
        self.mode, self.asked = request.path_params["mode"], 0
        self.changed.set()
        self.changed = asyncio.Event()
        return Response()

    async def receive(self, request: Request) -> Response:
        self.report = await request.json()
        self.is_reported.set()
        return Response()


class Endpoint(Response):
    """Answers as the token endpoint does."""

    def __init__(self, tokens: Any, request: Request) -> None:  # noqa: ANN401 - an application of ASGI
        super().__init__()
        self._tokens = tokens
        self._receive = request.receive

    async def __call__(self, scope: Any, _: Any, send: Any) -> None:  # noqa: ANN401 - of ASGI
        await self._tokens(scope, self._receive, send)


@contextmanager
def our_relay(directory: Path) -> Iterator[tuple[str, str]]:
    """Run the relay of the examples, and yield its URL and the fingerprint of its certificate."""
    KEY.to_public().to_file(directory / "public.jwk")
    (directory / "relay.toml").write_text(RELAY_TOML, encoding="utf-8")
    command = [sys.executable, str(EXAMPLES / "relay.py"), "relay.toml"]
    with subprocess.Popen(command, cwd=directory, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        found = RELAY.fullmatch(process.stdout.readline() + process.stdout.readline())
        try:
            assert found is not None
            yield found[1].replace("localhost", "127.0.0.1"), found[2]
        finally:
            process.terminate()
            process.stdout.read()


@contextmanager
def moq_relay(directory: Path) -> Iterator[tuple[str, str]]:
    """Run moq-relay, which asks our auth server."""
    from tests.interop.relays import running as running_relay  # needs moq-rs

    command = program("RUST_MOQ_RELAY_SECOND")
    KEY.to_public().to_file(directory / "public.jwk")
    certificate, key = Authority(directory, "authority").issue("relay", "127.0.0.1")
    listen = ("--listen", "127.0.0.1:0", "--listen-tls-cert", certificate, "--listen-tls-key", key)
    socket = directory / "s"
    with (
        auth_server(OUR_AUTH, socket, "--key", directory / "public.jwk"),
        running_relay(command, *listen, "--auth-url", f"unix://{socket}", directory=directory) as relay,
    ):
        der = ssl.PEM_cert_to_DER_cert(Path(certificate).read_text(encoding="ascii"))
        yield f"https://127.0.0.1:{relay.port}", hashlib.sha256(der).hexdigest()


@contextmanager
def page(directory: Path, relay: str, query: str) -> Iterator[World]:
    """Open the page in a browser, and wait for its report."""
    browser, world = chromium(), World(relay)
    with ExitStack() as stack:
        # Or the server may close a connection that waits while the browser sends a request on it.
        port = stack.enter_context(running(world.app, timeout_keep_alive=PATIENCE))
        arguments = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
        arguments += [f"--user-data-dir={directory / 'profile'}", f"http://localhost:{port}/{query}"]
        log = stack.enter_context((directory / "log").open("w"))
        process = stack.enter_context(subprocess.Popen([browser, *arguments], stdout=log, stderr=log))
        try:
            assert world.is_reported.wait(PATIENCE), (directory / "log").read_text()[-2000:]
        finally:
            process.terminate()
        yield world


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    directory = tmp_path_factory.mktemp("browser")
    with ExitStack() as stack:
        relay, query = "https://localhost:1", ""
        if NET.exists():
            pytest.importorskip("moq", exc_type=ImportError, reason="moq-rs is not built for this interpreter")
            relay, certificate = stack.enter_context(our_relay(directory))
            query = f"?certificate={certificate}"
        yield stack.enter_context(page(directory, relay, query))


def test_it_fetches_a_credential(world: World) -> None:
    found = world.report["fetches"]
    assert set(found["credential"]) >= {"url", "token", "expires", "expires_in", "server_url"}
    assert found["again"] == found["credential"]["token"]
    assert found["asked"] == 1
    assert KEY.verify(found["credential"]["token"], now=0).subject == "alice"
    assert world.seen[0] == {"room_name": "7", "user": "alice"}


def test_it_renews_in_time(world: World) -> None:
    one, still, two, also, three = world.report["renews"]["tokens"]
    assert (one, two) == (still, also)
    assert len({one, two, three}) == 3
    assert world.report["renews"]["asked"] == 3


def test_many_callers_share_one_request(world: World) -> None:
    found = world.report["sharesOneRequest"]
    assert (len(found["tokens"]), len(set(found["tokens"])), found["asked"]) == (20, 1, 1)


def test_it_survives_an_outage(world: World) -> None:
    found = world.report["survivesAnOutage"]
    assert found["during"] == [found["first"]] * 2
    assert found["attempts"] == 1
    assert found["after"] == "outage: the token endpoint answered 500"
    assert found["later"] != found["first"]


def test_a_renewal_holds_nobody_up(world: World) -> None:
    found = world.report["isNotHeldUpByARenewal"]
    assert found["during"] == found["first"]


def test_a_clock_that_is_set_back_renews(world: World) -> None:
    found = world.report["renewsAfterAClockIsSetBack"]
    one, two, kept, three = found["tokens"]
    assert (two, found["asked"]) == (kept, 1)
    assert len({one, two, three}) == 3


def test_a_refusal_counts_at_once(world: World) -> None:
    assert world.report["isRefused"] == ["403: not a member"] * 3


def test_it_waits_as_long_as_it_is_told(world: World) -> None:
    found = world.report["waitsAsLongAsItIsTold"]
    assert (found["before"], found["after"]) == (1, 2)
    assert found["failures"] == ["outage: the token endpoint answered 429"] * 3


def check_connected(world: World) -> None:
    if not NET.exists():
        missing("@moq/net, which `npm ci` installs in tests/interop")
    found = world.report["connects"]
    assert found.get("path") == "alice", found
    assert found["asked"] == 1


def test_it_connects_to_our_relay(world: World) -> None:
    check_connected(world)


@pytest.mark.rust
def test_it_connects_to_moq_relay(tmp_path: Path) -> None:
    with moq_relay(tmp_path) as (relay, certificate), page(tmp_path, relay, f"?certificate={certificate}") as world:
        check_connected(world)
