"""The web backends of the documentation issue tokens that a relay accepts, to members of the room only."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from moq_token import Key
from moq_token.auth import Connection, decide
from moq_token.issuing import Issuer
from moq_token.rotation import Rotation

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import ModuleType

    from starlette.requests import Request

ROOT = Path(__file__).parents[2]


@pytest.fixture
def rotation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rotation:
    rotation = Rotation(tmp_path / "signing")
    rotate(rotation)
    monkeypatch.setenv("MOQ_SIGNING_KEYS", str(rotation.directory))
    return rotation


def rotate(rotation: Rotation) -> None:
    rotation.rotate(None, rotation.directory.with_name("keys"), None, int(time.time()))


def load(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Import an example again, because it reads its environment when it is imported."""
    monkeypatch.delitem(sys.modules, f"examples.web.{name}", raising=False)
    return importlib.import_module(f"examples.web.{name}")


def check_answer(rotation: Rotation, body: Mapping[str, Any], headers: Mapping[str, str]) -> None:
    """Decide as a relay that has the public half of the active key."""
    key = rotation.signing_key()
    public = Key.from_file(rotation.directory.with_name("keys") / f"{key.kid}.jwk")
    assert "no-store" in headers["Cache-Control"]
    connection = Connection.from_url(body["url"])
    assert connection.token is not None
    grant = decide(connection, key=public)
    assert grant.root == "rooms/123"
    assert grant.publish == ("alice",)
    assert grant.subscribe == ("",)
    claims = public.verify(connection.token)
    assert (body["server_url"], body["participant_token"]) == (body["url"].partition("?")[0], connection.token)
    assert (claims.subject, claims.expires) == ("alice", body["expires"])
    assert claims.id is not None
    assert claims.issued == body["expires"] - 3600
    assert claims.expires is not None
    with pytest.raises(Exception, match="expired"):
        public.verify(connection.token, now=claims.expires)


def test_fastapi(rotation: Rotation, monkeypatch: pytest.MonkeyPatch) -> None:
    from fastapi.testclient import TestClient

    example = load("fastapi_tokens", monkeypatch)
    client = TestClient(example.app)
    assert client.post("/rooms/123/token").status_code == 401
    example.app.dependency_overrides[example.signed_in] = lambda: "alice"
    for _ in range(2):
        answer = client.post("/rooms/123/token")
        assert answer.status_code == 201
        check_answer(rotation, answer.json(), answer.headers)
        rotate(rotation)
    assert client.post("/rooms/456/token").status_code == 403
    example.app.dependency_overrides[example.signed_in] = lambda: "mallory"
    assert client.post("/rooms/123/token").status_code == 403
    assert client.get("/rooms/123/token").status_code == 405


def test_starlette(rotation: Rotation, monkeypatch: pytest.MonkeyPatch) -> None:
    from fastapi.testclient import TestClient
    from starlette.responses import Response
    from starlette.routing import Route

    monkeypatch.setenv("SESSION_SECRET", "of this test")
    example = load("starlette_tokens", monkeypatch)

    async def sign_in(request: Request) -> Response:
        request.session["user"] = request.path_params["user"]
        return Response()

    app = example.app
    app.router.routes.append(Route("/sign-in/{user}", sign_in))
    client = TestClient(app)
    page = {"Origin": "https://app.example.com"}
    assert client.post("/rooms/123/token", json={}).status_code == 401
    client.get("/sign-in/alice")
    for _ in range(2):
        answer = client.post("/rooms/123/token", json={}, headers=page)
        assert answer.status_code == 201
        assert answer.headers["Access-Control-Allow-Origin"] == page["Origin"]
        check_answer(rotation, answer.json(), answer.headers)
        rotate(rotation)
    assert client.post("/rooms/456/token", json={}).status_code == 403
    client.get("/sign-in/mallory")
    assert client.post("/rooms/123/token", json={}).status_code == 403
    assert client.get("/rooms/123/token").status_code == 405


def test_fastapi_routes(rotation: Rotation, monkeypatch: pytest.MonkeyPatch) -> None:
    from fastapi.testclient import TestClient

    monkeypatch.setenv("MOQ_KEYS", str(rotation.directory.with_name("keys")))
    client = TestClient(load("fastapi_routes", monkeypatch).app)
    issuer = Issuer(rotation.directory, "https://relay.example.com")
    for path, subscribe, room, status, found in (
        ("rooms/123", "", "123", 200, ["alice/monday", "bob/monday"]),
        ("rooms/123", "bob", "123", 200, ["bob/monday"]),
        ("rooms", "*/alice/**", "123", 200, ["alice/monday"]),
        ("rooms/456", "", "123", 403, None),
        ("rooms", "", "456", 404, None),
    ):
        token = issuer.grant(path, subscribe=subscribe, subject="alice").token
        answer = client.get(f"/rooms/{room}/recordings", headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == status
        assert found is None or answer.json() == found
        assert client.get(f"/rooms/{room}/recordings?jwt={token}").status_code == status
    assert client.get("/rooms/123/recordings").status_code == 401


def test_flask(rotation: Rotation, monkeypatch: pytest.MonkeyPatch) -> None:
    example = load("flask_tokens", monkeypatch)
    example.app.config["SECRET_KEY"] = "of this test"
    client = example.app.test_client()
    assert client.post("/rooms/123/token").status_code == 401

    def sign_in(user: str) -> None:
        with client.session_transaction() as session:
            session["user"] = user

    sign_in("alice")
    for _ in range(2):
        answer = client.post("/rooms/123/token")
        assert answer.status_code == 201
        check_answer(rotation, answer.get_json(), dict(answer.headers))
        rotate(rotation)
    assert client.post("/rooms/456/token").status_code == 403
    sign_in("mallory")
    assert client.post("/rooms/123/token").status_code == 403
    assert client.get("/rooms/123/token").status_code == 405


# Django can be configured only once in a process.
DJANGO = """
import json, os, secrets
import django
from django.conf import settings
from django.core.management import call_command

settings.configure(
    ALLOWED_HOSTS=["testserver"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes"],
    MIDDLEWARE=[
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
    ],
    MOQ_SIGNING_KEYS=os.environ["MOQ_SIGNING_KEYS"],
    ROOT_URLCONF="examples.web.django_tokens",
    SECRET_KEY=secrets.token_hex(),
    SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies",
)
django.setup()
call_command("migrate", run_syncdb=True, verbosity=0)
from django.contrib.auth.models import User
from django.test import Client

statuses = []
client = Client()
statuses.append(client.post("/rooms/123/token").status_code)
client.force_login(User.objects.create(username="alice"))
answer = client.post("/rooms/123/token")
statuses += [answer.status_code, client.post("/rooms/456/token").status_code]
strict = Client(enforce_csrf_checks=True)
strict.cookies = client.cookies
statuses.append(strict.post("/rooms/123/token").status_code)
client.force_login(User.objects.create(username="mallory"))
statuses += [client.post("/rooms/123/token").status_code, client.get("/rooms/123/token").status_code]
print(json.dumps({"statuses": statuses, "body": answer.json(), "headers": dict(answer.headers)}))
"""


def test_django(rotation: Rotation) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", DJANGO], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["statuses"] == [401, 201, 403, 403, 403, 405]
    check_answer(rotation, answer["body"], answer["headers"])


def test_fastapi_auth_server(rotation: Rotation, monkeypatch: pytest.MonkeyPatch) -> None:
    from fastapi.testclient import TestClient

    monkeypatch.setenv("MOQ_KEYS", str(rotation.directory.with_name("keys")))
    monkeypatch.setenv("MOQ_RELAY_SECRET", "relay:hunter2")
    example = load("fastapi_auth", monkeypatch)
    example.app.dependency_overrides[example.signed_in] = lambda: "alice"
    with TestClient(example.app) as client:
        url = client.post("/rooms/123/token").json()["url"]
        asked = {"id": "1", "event": "connect", "node": "", "transport": "quic", "path": "/rooms/123"}
        asked["query"] = url.partition("?")[2]
        assert client.post("/moq/", json=asked).status_code == 400  # without the shared secret
        answer = client.post("/moq/", json=asked, auth=("relay", "hunter2"))
        assert answer.status_code == 200
        grant = answer.json()
        assert (grant["publish"], grant["subscribe"]) == (["alice/**"], ["**"])
        example.MEMBERS["123"].discard("alice")
        asked["event"] = "revalidate"
        refused = client.post("/moq/", json=asked, auth=("relay", "hunter2"))
        assert (refused.status_code, refused.text) == (403, "no longer a member of this room")
        example.MEMBERS["123"].add("alice")
        assert client.post("/moq/", json=asked | {"query": "jwt=x"}, auth=("relay", "hunter2")).status_code == 403
        assert client.get("/moq/healthz").status_code == 200
