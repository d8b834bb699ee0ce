"""The web backends of the documentation hand out tokens that a relay takes, and to nobody else."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from moq_token import Key
from moq_token.auth import Connection, decide

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).parents[2]
KEY = Key.generate("EdDSA")


@pytest.fixture
def key_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "private.jwk"
    KEY.to_file(path)
    monkeypatch.setenv("MOQ_SIGNING_KEY", str(path))
    return path


def check_answer(body: Mapping[str, str], headers: Mapping[str, str]) -> None:
    assert "no-store" in headers["Cache-Control"]
    connection = Connection.from_url(body["url"])
    assert connection.token is not None
    grant = decide(connection, key=KEY.to_public())
    assert grant.root == "rooms/123"
    assert grant.publish == ("alice",)
    assert grant.subscribe == ("",)
    claims = KEY.verify(connection.token)
    assert claims.expires is not None
    with pytest.raises(Exception, match="expired"):
        KEY.verify(connection.token, now=claims.expires)


def test_fastapi(key_file: Path) -> None:
    from fastapi.testclient import TestClient

    from examples.web import fastapi_tokens as example

    assert key_file.exists()
    example.signing_key.cache_clear()
    client = TestClient(example.app)
    assert client.post("/rooms/123/token").status_code == 401
    try:
        example.app.dependency_overrides[example.signed_in] = lambda: "alice"
        answer = client.post("/rooms/123/token")
        assert answer.status_code == 200
        check_answer(answer.json(), answer.headers)
        assert client.post("/rooms/456/token").status_code == 403
        example.app.dependency_overrides[example.signed_in] = lambda: "mallory"
        assert client.post("/rooms/123/token").status_code == 403
        assert client.get("/rooms/123/token").status_code == 405
    finally:
        example.app.dependency_overrides.clear()


def test_flask(key_file: Path) -> None:
    from examples.web import flask_tokens as example

    assert key_file.exists()
    example.signing_key.cache_clear()
    example.app.config["SECRET_KEY"] = "of this test"
    client = example.app.test_client()
    assert client.post("/rooms/123/token").status_code == 401

    def sign_in(user: str) -> None:
        with client.session_transaction() as session:
            session["user"] = user

    sign_in("alice")
    answer = client.post("/rooms/123/token")
    assert answer.status_code == 200
    check_answer(answer.get_json(), dict(answer.headers))
    assert client.post("/rooms/456/token").status_code == 403
    sign_in("mallory")
    assert client.post("/rooms/123/token").status_code == 403
    assert client.get("/rooms/123/token").status_code == 405


# Django's settings are those of a process, and can be made only once.
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
    MOQ_SIGNING_KEY=os.environ["MOQ_SIGNING_KEY"],
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


def test_django(key_file: Path) -> None:
    assert key_file.exists()
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", DJANGO], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["statuses"] == [401, 200, 403, 403, 403, 405]
    check_answer(answer["body"], answer["headers"])
