"""The web backends of the documentation, each in a real server: relays of both generations accept what they issue.

A frame goes from Alice through the relay and back to her.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from contextlib import ExitStack, contextmanager
from http.cookiejar import CookieJar
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError
from uuid import uuid4

import pytest

from moq_token.rotation import Rotation
from tests.interop.peers import OUR_AUTH, auth_server, program
from tests.interop.relays import Relay, client, running

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.rust, pytest.mark.timeout(120)]

ROOT = Path(__file__).parents[2]
LISTENING = re.compile(r"unning on http://127\.0\.0\.1:(\d+)")
UVICORN = ("uvicorn", "--port", "0", "backend:app")
FLASK = ("flask", "--app", "backend", "run", "--port", "0")
# What a reader adds to an example: a sign-in.
FASTAPI = """
from examples.web.{name} import app, signed_in
app.dependency_overrides[signed_in] = lambda: "alice"
"""
BACKENDS = {
    "fastapi_tokens": (UVICORN, FASTAPI),
    "fastapi_auth": (UVICORN, FASTAPI),
    "starlette_tokens": (
        UVICORN,
        """
from starlette.responses import Response
from examples.web.starlette_tokens import app
async def sign_in(request):
    request.session["user"] = "alice"
    return Response()
app.add_route("/sign-in", sign_in)
""",
    ),
    "flask_tokens": (
        FLASK,
        """
from flask import session
from examples.web.flask_tokens import app
@app.get("/sign-in")
def sign_in():
    session["user"] = "alice"
    return ""
""",
    ),
    "django_tokens": (
        UVICORN,
        """
import os, threading
from django.conf import settings
settings.configure(
    ALLOWED_HOSTS=["127.0.0.1"],
    DATABASES={{"default": {{"ENGINE": "django.db.backends.sqlite3", "NAME": "db.sqlite3"}}}},
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes"],
    MIDDLEWARE=[
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
    ],
    MOQ_SIGNING_KEYS=os.environ["MOQ_SIGNING_KEYS"],
    ROOT_URLCONF="backend",
    SECRET_KEY="of this test",
    SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies",
)
from django.core.asgi import get_asgi_application
app = get_asgi_application()
from django.contrib.auth import login
from django.contrib.auth.models import User
from django.core.management import call_command
from django.http import HttpResponse
from django.middleware.csrf import get_token
from django.urls import include, path
def sign_in(request):
    login(request, User.objects.get(username="alice"))
    get_token(request)
    return HttpResponse()
urlpatterns = [path("sign-in", sign_in), path("", include("examples.web.django_tokens"))]
def prepare():
    call_command("migrate", run_syncdb=True, verbosity=0)
    User.objects.create_user("alice")
thread = threading.Thread(target=prepare)  # Django refuses it in the thread of the event loop
thread.start()
thread.join()
""",
    ),
}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with the keys of a rotation in `signing` and `keys`."""
    directory = tmp_path_factory.mktemp("web")
    Rotation(directory / "signing").rotate(None, directory / "keys", None, int(time.time()))
    return directory


@pytest.fixture(scope="module", params=["0.14", "0.15"])
def relay(directory: Path, request: pytest.FixtureRequest) -> Iterator[Relay]:
    """Run a relay that verifies tokens itself, or one that asks `serve`."""
    with ExitStack() as stack:
        if request.param == "0.14":
            command = program("RUST_MOQ_RELAY")
            arguments = ["--server-bind", "127.0.0.1:0", "--tls-generate", "localhost", "--auth-key-dir", "keys"]
        else:
            command, socket = program("RUST_MOQ_RELAY_SECOND"), directory / "s"
            stack.enter_context(auth_server(OUR_AUTH, socket, "--key-dir", directory / "keys"))
            arguments = ["--listen", "127.0.0.1:0", "--listen-tls-generate", "localhost"]
            arguments += ["--auth-url", f"unix://{socket}"]
        yield stack.enter_context(running(command, *arguments, directory=directory))


@contextmanager
def backend(name: str, directory: Path, work: Path) -> Iterator[str]:
    """Run an example in its server, and yield its URL."""
    command, text = BACKENDS[name]
    (work / "backend.py").write_text(text.format(name=name), encoding="utf-8")
    variables = {
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        "PYTHONUNBUFFERED": "1",
        "MOQ_SIGNING_KEYS": str(directory / "signing"),
        "MOQ_KEYS": str(directory / "keys"),
        "MOQ_RELAY_SECRET": "relay:hunter2",
        "SESSION_SECRET": "of this test",
        "FLASK_SECRET_KEY": "of this test",
    }
    with subprocess.Popen(
        [sys.executable, "-m", *command],
        cwd=work,
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        said: list[str] = []
        try:
            for line in process.stdout:
                said.append(line)
                if found := LISTENING.search(line):
                    break
            else:
                raise AssertionError("".join(said))
            yield f"http://127.0.0.1:{found[1]}"
        finally:
            process.terminate()
            process.stdout.read()


class Browser:
    """Keeps cookies, and sends the one of Django's protection as a header."""

    def __init__(self, base: str) -> None:
        self._base, self._jar = base, CookieJar()
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(self._jar))

    def ask(self, path: str, method: str = "POST") -> tuple[int, Any]:
        """Return the status, and the body of an answer 201."""
        headers = {"Content-Type": "application/json"}
        for cookie in self._jar:
            if cookie.name == "csrftoken" and cookie.value:
                headers["X-CSRFToken"] = cookie.value
        body = b"{}" if method == "POST" else None
        asked = urllib.request.Request(f"{self._base}{path}", body, headers, method=method)  # noqa: S310 - http only
        try:
            with self._opener.open(asked, timeout=10) as response:
                if response.status == 201:
                    assert "no-store" in response.headers["Cache-Control"]
                    return 201, json.load(response)
                return response.status, None
        except HTTPError as error:
            with error:
                return error.code, None


async def send_and_receive(url: str) -> bytes:
    """Publish a frame as Alice, and receive it in another session with the same credential."""
    path = f"alice/{uuid4()}"  # the relay may not yet know that the broadcast of the test before has ended
    async with asyncio.timeout(20), client(url) as publisher, client(url) as viewer:
        broadcast = publisher.create_broadcast(path)
        track = broadcast.publish_track("words")
        broadcast.announce()
        found = await viewer.announced_broadcast(path)
        incoming = await found.subscribe_track("words")
        reading = asyncio.create_task(incoming.next_group())  # the relay subscribes when somebody reads
        await track.used()
        group = track.append_group()
        group.write_frame(b"Hello from Alice")
        group.finish()
        received = await reading
        assert received is not None
        async for frame in received:
            return bytes(frame.payload)
    raise AssertionError("no frame")


def dialed(relay: Relay, body: dict[str, str]) -> bytes:
    url = body["url"].replace("https://relay.example.com", relay.base)
    assert url.startswith(f"{relay.base}/rooms/123?jwt=")
    return asyncio.run(send_and_receive(url))


@pytest.mark.parametrize("name", BACKENDS)
def test_a_frame_goes_through(name: str, relay: Relay, directory: Path, tmp_path: Path) -> None:
    with backend(name, directory, tmp_path) as base:
        browser = Browser(base)
        if not name.startswith("fastapi"):
            assert browser.ask("/rooms/123/token")[0] in {401, 403}  # 403 of Django, without its cookie
            assert browser.ask("/sign-in", "GET")[0] == 200
        assert browser.ask("/rooms/456/token")[0] == 403
        assert browser.ask("/rooms/123/token", "GET")[0] == 405
        status, body = browser.ask("/rooms/123/token")
        assert status == 201
        assert dialed(relay, body) == b"Hello from Alice"


def test_the_app_that_issues_tokens_answers_the_relay(directory: Path, tmp_path: Path) -> None:
    command = program("RUST_MOQ_RELAY_SECOND")
    with backend("fastapi_auth", directory, tmp_path) as base:
        url = f"{base.replace('://', '://relay:hunter2@')}/moq/"
        listen = ("--listen", "127.0.0.1:0", "--listen-tls-generate", "localhost")
        with running(command, *listen, "--auth-url", url, directory=tmp_path) as relay:
            assert dialed(relay, Browser(base).ask("/rooms/123/token")[1]) == b"Hello from Alice"
