"""Verify tokens in the routes of FastAPI and Starlette applications."""

import http.client
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import pytest
from fastapi import Depends, FastAPI
from fastapi.testclient import TestClient
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.websockets import WebSocket, WebSocketDisconnect

from moq_token import Algorithm, Claims, ConfigError, Key, KeyId, KeySet, Pattern, Permissions, UnavailableError
from moq_token.integrations.starlette import Tokens
from moq_token.issuing import Issuer
from tests import forge
from tests.unit.test_token_endpoint import running

KEY = forge.key(Algorithm.ES256)
ISSUER = Issuer(KEY, "https://relay.example")


def fastapi(tokens: Tokens) -> FastAPI:
    app = FastAPI()

    @app.get("/rooms/{room}")  # noqa: FAST003 - the dependency reads it
    async def room(allowed: Annotated[Permissions, Depends(tokens.permissions("/rooms/{room}"))]) -> dict[str, Any]:
        return {"publish": list(map(str, allowed.publish)), "alice": allowed.can_publish("alice/camera")}

    @app.get("/me")
    def me(claims: Annotated[Claims, Depends(tokens.claims)]) -> str | None:
        return claims.subject

    @app.get("/wrong")
    async def wrong(allowed: Annotated[Permissions, Depends(tokens.permissions("/rooms/{room}"))]) -> None:
        raise AssertionError(allowed)

    return app


def starlette(tokens: Tokens) -> Starlette:
    async def room(request: Request) -> JSONResponse:
        allowed = await tokens.permissions("/rooms/{room}")(request)
        return JSONResponse({"publish": list(map(str, allowed.publish)), "alice": allowed.can_publish("alice/camera")})

    async def me(request: Request) -> JSONResponse:
        return JSONResponse((await tokens.claims(request)).subject)

    return Starlette(routes=[Route("/rooms/{room}", room), Route("/me", me)])


@pytest.fixture(scope="module", params=[fastapi, starlette])
def port(request: pytest.FixtureRequest) -> Iterator[int]:
    with running(request.param(Tokens(KEY.to_public()))) as port:
        yield port


def get(port: int, target: str, *authorization: str) -> tuple[int, dict[str, str], Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=100)
    connection.putrequest("GET", target)
    for value in authorization:
        connection.putheader("authorization", value)
    connection.endheaders()
    response = connection.getresponse()
    body = response.read()
    connection.close()
    headers = {name.lower(): value for name, value in response.getheaders()}
    is_json = headers["content-type"].startswith("application/json")
    return response.status, headers, json.loads(body) if is_json else body.decode()


TOKEN = ISSUER.grant("rooms/123", publish="alice", subject="alice").token


@pytest.mark.parametrize(
    ("target", "authorization"),
    [
        ("/rooms/123", (f"Bearer {TOKEN}",)),
        ("/rooms/123", (f"bearer  {TOKEN} ",)),
        (f"/rooms/123?jwt={TOKEN}", ()),
        (f"/rooms/123?jwt=&jwt={TOKEN}", (f"Bearer {TOKEN}",)),
        (f"/rooms/123?jwt={TOKEN}", ("Basic YTpi",)),
    ],
)
def test_a_token_is_found(port: int, target: str, authorization: tuple[str, ...]) -> None:
    assert get(port, target, *authorization)[::2] == (200, {"publish": ["alice"], "alice": True})


def test_claims(port: int) -> None:
    assert get(port, "/me", f"Bearer {TOKEN}")[::2] == (200, "alice")


FORGED = Key.generate("ES256", KEY.kid).sign(Claims("rooms/123", "alice"))


@pytest.mark.parametrize(
    ("target", "authorization", "status", "challenge"),
    [
        ("/rooms/123", (), 401, "Bearer"),
        ("/rooms/123", ("Basic YTpi",), 401, "Bearer"),
        ("/rooms/123", ("Bearer ",), 401, "Bearer"),
        ("/rooms/123?jwt=", (), 401, "Bearer"),
        (f"/rooms/123?jwt={TOKEN}", (f"Bearer {FORGED}",), 401, "Bearer"),
        ("/rooms/123", (f"Bearer {TOKEN}", f"Bearer {FORGED}"), 401, "Bearer"),
        (f"/rooms/123?jwt={TOKEN}&jwt={FORGED}", (), 401, "Bearer"),
        ("/rooms/123", (f"Bearer {FORGED}",), 401, 'Bearer error="invalid_token"'),
        ("/rooms/123", ("Bearer x",), 401, 'Bearer error="invalid_token"'),
        (
            "/rooms/123",
            (f"Bearer {KEY.sign(Claims('rooms', 'a', expires=5))}",),
            401,
            'Bearer error="invalid_token"',
        ),
        ("/rooms/456", (f"Bearer {TOKEN}",), 403, None),
        ("/rooms/123x", (f"Bearer {TOKEN}",), 403, None),
    ],
)
def test_refusals(port: int, target: str, authorization: tuple[str, ...], status: int, challenge: str | None) -> None:
    answered, headers, body = get(port, target, *authorization)
    assert (answered, headers.get("www-authenticate")) == (status, challenge)
    for token in TOKEN, FORGED:
        assert token.rpartition(".")[2] not in str(body) + str(headers)


@pytest.mark.parametrize("room", ["a b", "é", "100%", "a%20b", "x?y", "a;b=c@d"])
def test_paths_are_compared_as_they_are_issued(port: int, room: str) -> None:
    token = ISSUER.grant(f"rooms/{room}", publish="", subject="alice").token
    assert get(port, f"/rooms/{quote(room, safe='')}", f"Bearer {token}")[0] == 200
    assert get(port, "/rooms/other", f"Bearer {token}")[0] == 403


@pytest.mark.parametrize("room", ["1/%2e%2e/2", "1/./2", "%2e%2e", "1/..", "1%2f%2e%2e%2f2"])
def test_a_path_that_a_file_system_would_resolve_is_refused(room: str) -> None:
    tokens = Tokens(KEY.to_public())

    async def file(request: Request) -> JSONResponse:
        await tokens.permissions("/rooms/{room}")(request)
        return JSONResponse(request.path_params["room"])

    token = ISSUER.grant("rooms/1", "", subject="alice").token
    with running(Starlette(routes=[Route("/rooms/{room:path}", file)])) as port:
        assert get(port, f"/rooms/{room}?jwt={token}")[0] == 403
        assert get(port, f"/rooms/1/..2?jwt={token}")[0] == 200


def test_patterns(port: int) -> None:
    token = ISSUER.grant("rooms", publish=Pattern("*/alice/camera"), subject="alice").token
    assert get(port, "/rooms/9", f"Bearer {token}")[2] == {"publish": ["alice/camera"], "alice": True}


def test_keys_of_every_form(tmp_path: Path) -> None:
    other = forge.key(Algorithm.EDDSA).to_public().with_kid("other")
    public = KEY.to_public()
    (tmp_path / "keys").mkdir()
    public.to_file(tmp_path / "keys" / f"{public.kid}.jwk")
    public.to_file(tmp_path / "one.jwk")
    KeySet([other, public]).to_file(tmp_path / "set.json")
    for keys in KeySet([other, public]), tmp_path / "keys", str(tmp_path / "one.jwk"), tmp_path / "set.json":
        with running(fastapi(Tokens(keys))) as port:
            assert get(port, "/me", f"Bearer {TOKEN}")[0] == 200
            for kid in "none", "../keys", None:
                head = {"alg": "ES256"} | ({} if kid is None else {"kid": kid})
                unknown = forge.token(Algorithm.ES256, {"root": "", "put": [""]}, head, lambda _: b"x" * 64)
                status, _, body = get(port, "/me", f"Bearer {unknown}")
                assert status == 401
                assert str(tmp_path) not in str(body)


def test_an_outage_is_no_refusal() -> None:
    with running(fastapi(Tokens(Outages([0])))) as port:
        status, headers, body = get(port, "/rooms/123", f"Bearer {TOKEN}")
    assert (status, headers["retry-after"]) == (503, "5")
    assert "hunter2" not in str(body)


def test_websockets() -> None:
    now = [time.time()]
    tokens = Tokens(Outages(now), clock=lambda: now[0])
    app = FastAPI()

    @app.websocket("/rooms/{room}/chat")
    async def chat(
        socket: WebSocket, allowed: Annotated[Permissions, Depends(tokens.permissions("/rooms/{room}"))]
    ) -> None:
        await socket.accept()
        await socket.send_json(list(map(str, allowed.publish)))
        await socket.close()

    client = TestClient(app)
    with client.websocket_connect(f"/rooms/123/chat?jwt={TOKEN}") as socket:
        assert socket.receive_json() == ["alice"]
    with client.websocket_connect("/rooms/123/chat", headers={"Authorization": f"Bearer {TOKEN}"}) as socket:
        assert socket.receive_json() == ["alice"]
    for target, code, reason in (
        ("/rooms/123/chat", 1008, "token-expected"),
        (f"/rooms/123/chat?jwt={FORGED}", 1008, "bad-signature"),
        (f"/rooms/456/chat?jwt={TOKEN}", 1008, "root-mismatch"),
    ):
        check_closed(client, target, code, reason)
    now[0] += 3600
    check_closed(client, f"/rooms/123/chat?jwt={TOKEN}", 1008, "expired")
    now[0] = 0
    check_closed(client, f"/rooms/123/chat?jwt={TOKEN}", 1013, "unavailable")


class Outages:
    """A source of the key, which fails at the time 0."""

    def __init__(self, now: list[float]) -> None:
        self._now = now

    async def get(self, _: KeyId | None, /) -> Key:
        if self._now[0] == 0:
            raise UnavailableError("cannot read https://user:hunter2@keys")
        return KEY.to_public()

    async def aclose(self) -> None:
        pass


def check_closed(client: TestClient, target: str, code: int, reason: str) -> None:
    with pytest.raises(WebSocketDisconnect) as caught, client.websocket_connect(target):
        raise AssertionError("it was accepted")
    assert (caught.value.code, caught.value.reason) == (code, reason)


def test_keys_that_may_not_verify_are_unknown() -> None:
    with running(fastapi(Tokens(KEY.with_operations(["sign"])))) as port:
        assert get(port, "/me", f"Bearer {TOKEN}")[0] == 401


def test_a_token_that_is_too_long() -> None:
    with running(fastapi(Tokens(KEY)), h11_max_incomplete_event_size=200_000, http="h11") as port:
        status, _, body = get(port, "/me", f"Bearer {'x' * 70_000}")
    assert (status, body["detail"]) == (401, "the token must not be longer than 65536 bytes")


def test_time_passes() -> None:
    now = [1000.0]
    token = KEY.sign(Claims("", "a", expires=1010, subject="x"))
    with running(fastapi(Tokens(KEY, clock=lambda: now[0]))) as port:
        for at, status in ((1009, 200), (1010, 401)):
            now[0] = at
            assert get(port, "/me", f"Bearer {token}")[0] == status


def test_a_parameter_that_the_route_does_not_have() -> None:
    with running(fastapi(Tokens(KEY))) as port:
        assert get(port, "/wrong", f"Bearer {TOKEN}")[0] == 500


@pytest.mark.parametrize("path", ["nowhere", "nowhere/", "nowhere.jwk", "", "a\0b"])
def test_a_path_that_does_not_exist(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError):
        Tokens(path)


def test_a_key_in_place_of_a_path() -> None:
    with pytest.raises(ConfigError) as caught:
        Tokens(KEY.to_json())
    assert KEY.to_json()[-30:] not in str(caught.value)


@pytest.mark.parametrize("path", ["/rooms/{room", "/rooms/{}", "/rooms/{room:path}", "/rooms/*", "rooms/**", "/a}/b"])
def test_a_path_that_no_token_could_grant(path: str) -> None:
    with pytest.raises(ConfigError, match="without wildcards, got"):
        Tokens(KEY).permissions(path)


def test_arguments_of_the_wrong_type() -> None:
    wrong: list[Any] = [None, 5, {}]
    for value in wrong:
        with pytest.raises(TypeError, match="`keys` must be a Key, a KeySet, a KeySource, a path or a URL, not "):
            Tokens(value)
    for value in wrong:
        with pytest.raises(TypeError, match="`path` must be a str, not "):
            Tokens(KEY).permissions(value)
