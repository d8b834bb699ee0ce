"""The auth server never reveals a token, a query, a key or the shared secret, in any output."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import logging
import traceback
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from moq_token import Algorithm, Claims, Key, RefusedError, UnavailableError
from moq_token.server import AuthServer, Cap, CapKind, Grant, Policy, Question, Request, bounded
from moq_token.server.admin import Admin
from moq_token.server.http import HttpRequest, HttpResponse
from moq_token.server.listen import TcpAddress, listening
from moq_token.server.log import JsonFormatter, TextFormatter
from moq_token.server.metrics import Metrics
from moq_token.server.publish import PublishedKeys
from tests import forge

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

    Decide = Callable[[Any], Awaitable[Any]]

PASSWORD = "hunter2-horse-battery"
QUERY = "swordfish-in-the-query"
SETUP = b"setup-token-of-another-kind"
KEY = Key.generate(Algorithm.HS256, "shared")
OTHER = Key.generate(Algorithm.EDDSA, "pair")
NOW = forge.NOW


def signed(key: Key, **claims: Any) -> str:  # noqa: ANN401 - those of a token
    return key.sign(Claims(**{"root": "room", "subscribe": "", "expires": NOW + 100, **claims}))


TOKENS = {
    "good": signed(KEY),
    "expired": signed(KEY, expires=NOW - 5),
    "elsewhere": signed(KEY, root="elsewhere"),
    "unknown": signed(KEY.with_kid("nosuch")),
    "pair": signed(OTHER),
    "tampered": signed(KEY)[:-5] + "AAAAA",
    "crit": forge.token(
        Algorithm.HS256, {"root": "room", "get": [""]}, {"alg": "HS256", "kid": "shared", "crit": ["x"]}
    ),
    "no claims": forge.token(Algorithm.HS256, {"root": 7}, {"alg": "HS256", "kid": "shared"}),
    "no token": "not-a-token-but-secret",
    "unreadable": signed(KEY.with_kid("broken")),
}


def needles() -> set[str]:
    found = {PASSWORD, QUERY, SETUP.decode(), base64.b64encode(f"relay:{PASSWORD}".encode()).decode()}
    found.add(base64.urlsafe_b64encode(SETUP).rstrip(b"=").decode())
    for token in TOKENS.values():
        parts = token.split(".")
        found |= {token[-16:], parts[-1][:16], parts[1][8:24] if len(parts) > 1 else token}
    for key, member in ((KEY, "k"), (OTHER, "d")):
        secret = json.loads(key.to_json())[member]
        found |= {secret[:12], secret[-12:], forge.unb64(secret).hex()[:20]}
    return {needle for needle in found if len(needle) > 8}


NEEDLES = needles()


def check(text: str, where: str) -> None:
    leaked = [needle for needle in NEEDLES if needle in text]
    assert not leaked, f"{where}: {text[:400]}"


@contextmanager
def logged() -> Iterator[dict[str, io.StringIO]]:
    """Capture every record of every logger at all levels, as JSON, as text, and with all its attributes."""
    root = logging.getLogger()
    streams = {"json": io.StringIO(), "text": io.StringIO(), "whole": io.StringIO()}

    class Whole(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            shown = f"{vars(record)!r}"
            if record.exc_info and record.exc_info[1] is not None:
                trace = traceback.TracebackException.from_exception(record.exc_info[1], capture_locals=True)
                shown += "".join(trace.format())
            return shown

    handlers = []
    for name, formatter in (("json", JsonFormatter()), ("text", TextFormatter()), ("whole", Whole())):
        handler = logging.StreamHandler(streams[name])
        handler.setFormatter(formatter)
        handlers.append(handler)
    levels = {logger: logger.level for logger in (root, logging.getLogger("moq_token"), logging.getLogger("asyncio"))}
    for logger in levels:
        logger.setLevel(1)
    for handler in handlers:
        root.addHandler(handler)
    try:
        yield streams
    finally:
        for handler in handlers:
            root.removeHandler(handler)
        for logger, level in levels.items():
            logger.setLevel(level)


def bodies() -> Iterator[bytes]:
    number = 0
    for token in TOKENS.values():
        for extra in (
            {},
            {"tls": {"name": "a", "fingerprint": "b", "issuer": "c"}},
            {"token": {"kind": 0, "value": forge.b64(token.encode())}},
            {"token": {"kind": 1, "value": forge.b64(SETUP)}},
            {"token": {"kind": 0, "value": forge.b64(b"\xff" + SETUP)}},
            {"path": "elsewhere/x"},
            {"event": "revalidate"},
            {"event": "other"},
            {"transport": 7},
            {"event": "end", "reason": "x"},
        ):
            number += 1
            document = {
                "id": f"{number:032x}",
                "event": "connect",
                "node": "n",
                "transport": "quic",
                "path": "/room",
                "remote": "192.0.2.1:5",
                "query": f"x={QUERY}&jwt={token}",
                **extra,
            }
            yield json.dumps(document).encode()
    yield json.dumps({"query": f"jwt={TOKENS['good']}"}).encode()
    yield f'{{"query":"jwt={TOKENS["good"]}","query":"{QUERY}"}}'.encode()
    yield f'{{"query":"jwt={TOKENS["good"]}'.encode()
    yield f'"{TOKENS["good"]}"'.encode()


def requests() -> Iterator[HttpRequest]:
    """Send every request with the shared secret, without it, and with a wrong one."""
    json_type = {"content-type": "application/json"}
    right = "Basic " + base64.b64encode(f"relay:{PASSWORD}".encode()).decode()
    for headers in ({**json_type, "authorization": right}, json_type, {**json_type, "authorization": right[:-1]}):
        for body in bodies():
            yield HttpRequest("POST", "/", headers, body)
        for target in (
            *(f"/?root=room&kid={kid}&jwt={TOKENS['good']}" for kid in ("shared", "pair", "broken", "half", "x/y")),
            *(f"/public/lobby?{QUERY}", f"/?root={'a' * 9}&root=b&x={QUERY}", f"/nosuch?{QUERY}", "/readyz"),
            *("/keys/shared.jwk", "/keys/pair.jwk", "/keys/broken.jwk", "/.well-known/jwks.json"),
        ):
            # Not from this machine: there `--share-secrets` gives the secret to relay 0.14.
            yield HttpRequest("GET", target, headers, b"")


class TellingError(Exception):
    """An exception of a policy whose message contains every secret."""


def telling(policy: Policy) -> dict[str, Decide]:
    async def raise_request(request: Request) -> Grant:
        raise TellingError(request.query, request.token, TOKENS["good"])

    async def raise_later(request: Request) -> Grant:
        await asyncio.sleep(0)
        raise TellingError(request.query)

    async def hang(request: Request) -> Grant:
        secret = request.query
        await asyncio.Event().wait()
        raise AssertionError(secret)

    async def ignore_the_end(request: Request) -> Grant:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0)
            raise TellingError(request.query) from None
        raise AssertionError

    async def return_request(request: Request) -> Any:  # noqa: ANN401
        return request

    return {
        "policy": policy,
        "raise": raise_request,
        "raise later": raise_later,
        "hang": hang,
        "ignore the end": ignore_the_end,
        "return the request": return_request,
    }


@pytest.mark.parametrize("kind", ["policy", "raise", "raise later", "hang", "ignore the end", "return the request"])
def test_nothing_secret_leaves(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded, "DECISION_SECONDS", 0.005)
    KEY.to_file(tmp_path / "shared.jwk")
    OTHER.to_file(tmp_path / "pair.jwk")
    (tmp_path / "broken.jwk").symlink_to(tmp_path / "broken.jwk")
    (tmp_path / "half.jwk").write_text(KEY.to_json()[:-4])
    policy = Policy(tmp_path, public_subscribe=["lobby/**"], expires="1h", revalidate="1m", clock=lambda: NOW)
    metrics = Metrics()
    server = AuthServer(
        telling(policy)[kind],
        lookup=policy.lookup,
        caps={CapKind.TOKEN: Cap(2), CapKind.REMOTE: Cap(5, kick_oldest=True)},
        secret=f"relay:{PASSWORD}",
        share_secrets=True,
        published=PublishedKeys(tmp_path),
        metrics=metrics,
        clock=lambda: NOW,
    )
    answers: list[HttpResponse] = []

    async def test() -> None:
        for request in requests():
            answers.append(await server.handle(request))  # noqa: PERF401 - those before a failure are looked at too
        await asyncio.sleep(0.02)
        assert len(asyncio.all_tasks()) == 1

    with logged() as streams:
        asyncio.run(test(), debug=False)
    for name, stream in streams.items():
        assert stream.getvalue()
        for line in stream.getvalue().splitlines():
            check(line, name)
            assert len(line) < 4000, line[:200]
    for answer in answers:
        check((answer.body + answer.headers).decode(), "answer")
        assert len(answer.body) < 2000
    check(metrics.render().decode(), "metrics")
    for session in server.live.current():
        check(repr(session), "listing")
    for thing in (server, policy, policy.keys, server.live.sessions, metrics, server.asgi, Question("a", "b")):
        check(repr(thing), "repr")
    assert any(answer.status == 400 for answer in answers)
    if kind == "policy":
        assert {200, 204, 400, 403, 404, 422, 503} == {answer.status for answer in answers}
        assert len(server.live.sessions) > 1


def test_a_crash_of_the_server_shows_nothing(tmp_path: Path) -> None:
    """Return what is raised, with its causes and attributes, when a request is read and decided."""
    KEY.to_file(tmp_path / "shared.jwk")
    policy = Policy(tmp_path, clock=lambda: NOW)
    for body in bodies():
        try:
            request = Request.from_json(body)
        except Exception as error:  # noqa: BLE001 - any
            trace = traceback.TracebackException.from_exception(error)
            check("".join(trace.format()), "reading")
            continue
        check(repr(request), "request")
        try:
            check(repr(asyncio.run(policy(request))), "grant")
        except (RefusedError, UnavailableError) as error:
            check("".join(traceback.format_exception(error)), "refusal")
            check(repr((error, error.args, vars(error))), "refusal")


@pytest.mark.parametrize("data", [b"GET /?jwt=%s HTTP/9.9\r\n\r\n", b"POST / HTTP/1.1\r\nauthorization: %s\r\n\r\n"])
def test_what_is_no_http_is_not_repeated(data: bytes) -> None:
    async def fail(request: HttpRequest) -> HttpResponse:
        raise TellingError(request.target, TOKENS["good"])

    async def test() -> bytes:
        async with listening(fail, TcpAddress("127.0.0.1", 0)) as running:
            assert isinstance(running.address, TcpAddress)
            answered = b""
            for sent in (data % TOKENS["good"].encode(), b"GET /?%s HTTP/1.0\r\n\r\n" % TOKENS["good"].encode()):
                reader, writer = await asyncio.open_connection("127.0.0.1", running.address.port)
                writer.write(sent)
                answered += await reader.read()
                writer.close()
            return answered

    with logged() as streams:
        answered = asyncio.run(test())
    assert b"400" in answered
    assert b"500" in answered
    for text in (answered.decode(), *(stream.getvalue() for stream in streams.values())):
        check(text, "http")


def test_a_leak_would_be_found() -> None:
    for text in (f"x {TOKENS['good']} y", TOKENS["pair"][-40:], KEY.to_json(), OTHER.to_json(), f"relay:{PASSWORD}"):
        with pytest.raises(AssertionError):
            check(text, "here")


def test_a_token_in_the_dialed_path_is_not_shown(tmp_path: Path) -> None:
    KEY.to_file(tmp_path / "shared.jwk")
    policy = Policy(tmp_path, public_subscribe=["lobby/**"], clock=lambda: NOW)
    server = AuthServer(policy, clock=lambda: NOW)
    admin = Admin(server, None)
    token = TOKENS["good"]

    async def test() -> None:
        for place in ("elsewhere", "room", "lobby"):
            known = {"id": place, "event": "connect", "node": "n", "transport": "quic", "path": f"/{place}/{token}/x"}
            for query in ({}, {"query": f"jwt={token}"}):
                body = json.dumps({**known, **query}).encode()
                answer = await server.handle(HttpRequest("POST", "/", {"content-type": "application/json"}, body))
                assert answer.status in {200, 403}
                check(answer.body.decode(), "answer")
                check(repr(Request.from_json(body)), "request")
            check(
                (await server.handle(HttpRequest("GET", f"/?root={place}/{token}", {}, b""))).body.decode(),
                "answer to 0.14",
            )
        listing = (await admin.handle(HttpRequest("GET", "/sessions", {}, b""))).body.decode()
        assert "/room/<token>/x" in listing
        check(listing, "listing")

    with logged() as streams:
        asyncio.run(test(), debug=False)
    for name, stream in streams.items():
        assert "/elsewhere/<token>/x" in stream.getvalue()
        check(stream.getvalue(), name)
