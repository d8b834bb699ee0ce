"""A server fails: how long callers wait, which keys are used meanwhile, and the errors and log records."""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import TYPE_CHECKING

import pytest

from moq_token import Key, KeyId, KeyNotFoundError, UnavailableError
from moq_token.sources import DirectorySource, Http, JwksUrlSource, UrlDirectorySource, UrlSource
from moq_token.sources import http as http_module
from moq_token.sources.failures import describe_error
from moq_token.sources.web import JWKS_INTERVAL_SECONDS
from tests.sources_server import Clock, Server, hang, on_loop, reply

if TYPE_CHECKING:
    from pathlib import Path

KEY = Key.generate("EdDSA", "one").to_public()
OTHER = Key.generate("EdDSA", "two").to_public()
JWK = KEY.to_json()
KID = KeyId("one")
PATH = "/one.jwk"


# -- who waits


@pytest.mark.parametrize("control", ["max-age=0, stale-if-error=3600", "max-age=1, stale-if-error=3600"])
@on_loop
async def test_a_stale_key_is_served_at_once_while_the_server_is_down(control: str) -> None:
    clock = Clock()
    async with Server() as server, UrlSource(server.url + PATH, clock=clock) as source:
        server.scripts[PATH] = reply(JWK, cache_control=control)
        key = await source.get(None)
        clock.pass_(5)
        server.scripts[PATH] = reply("", 503)
        for _ in range(10):
            assert await source.get(None) is key
        assert server.count() == 2  # the failure is remembered
        clock.pass_(5)
        server.scripts[PATH] = reply(OTHER.to_json(), cache_control=control)
        assert await source.get(None) == OTHER


@on_loop
async def test_a_stale_key_is_served_while_the_server_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_module, "PATIENCE_SECONDS", 0.05)
    clock = Clock()
    async with Server() as server, UrlSource(server.url + PATH, clock=clock) as source:
        server.scripts[PATH] = reply(JWK, cache_control="max-age=1, stale-if-error=3600")
        key = await source.get(None)
        clock.pass_(5)
        server.scripts[PATH] = hang
        async with asyncio.timeout(5):  # half of what a request may take
            for _ in range(100):  # of which the first waits a little, and the others not at all
                assert await source.get(None) is key
            await server.received(2)  # it may still be on its way
        assert server.count() == 2


@on_loop
async def test_only_the_first_waits_for_long_where_nothing_may_be_served(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_module, "PATIENCE_SECONDS", 0.05)
    async with Server() as server, UrlSource(server.url + PATH) as source:
        monkeypatch.setattr(http_module, "TIMEOUT_SECONDS", 0.5)  # not for connecting
        server.scripts[PATH] = hang
        with pytest.raises(UnavailableError, match="did not answer within"):
            await source.get(None)
        monkeypatch.setattr(http_module, "TIMEOUT_SECONDS", 30)
        async with asyncio.timeout(10):
            for _ in range(100):
                with pytest.raises(UnavailableError, match="did not answer within"):
                    await source.get(None)
            await server.received(1)  # they may still be on their way, and the first may have been given up before
        assert server.count() <= 2


@on_loop
async def test_a_server_that_is_back_is_used_at_once() -> None:
    async with Server() as server, UrlSource(server.url + PATH, clock=Clock()) as source:
        server.scripts[PATH] = reply("", 503)
        with pytest.raises(UnavailableError):
            await source.get(None)
        server.scripts[PATH] = reply(JWK)
        assert await source.get(None) == KEY


# -- caching


@on_loop
async def test_a_set_that_is_gone_serves_nothing_more() -> None:
    clock = Clock()
    async with Server() as server, JwksUrlSource(server.url + "/jwks", clock=clock) as source:
        server.scripts["/jwks"] = reply(f'{{"keys":[{JWK}]}}', cache_control="max-age=3600, stale-if-error=3600")
        assert await source.get(KID) == KEY
        for status in (404, 410):
            clock.pass_(JWKS_INTERVAL_SECONDS)
            server.scripts["/jwks"] = reply("", status)
            with pytest.raises(KeyNotFoundError):  # an unknown id makes the set be fetched
                await source.get(KeyId("two"))
            with pytest.raises(KeyNotFoundError):
                await source.get(KID)
        clock.pass_(JWKS_INTERVAL_SECONDS)
        server.scripts["/jwks"] = reply("", 503)
        with pytest.raises(UnavailableError):
            await source.get(KID)


@on_loop
async def test_the_cache_is_bounded_in_bytes() -> None:
    body = reply(b"{" + b" " * 1_000_000, cache_control="max-age=3600")
    async with Server() as server, Http() as http:
        server.scripts = {f"/{number}": body for number in range(20)}
        for number in range(20):
            await http.fetch(f"{server.url}/{number}")
        for number in (19, 18, 5):
            await http.fetch(f"{server.url}/{number}")
        assert server.count() == 20
        await http.fetch(server.url + "/0")
        assert server.count() == 21


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("etag", '"\u00e9"'),
        ("etag", '"' + "e" * 5_000 + '"'),
        ("expires", "Fri, 31 Dec 9999 23:59:59 GMT"),
        ("age", "\u00b2"),
    ],
)
@on_loop
async def test_an_invalid_header_does_no_lasting_harm(header: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    line = f"{header}: {value}\r\n".encode("latin-1")
    async with Server() as server, UrlSource(server.url + PATH, clock=clock) as source:
        server.scripts[PATH] = reply(JWK, connection="close").replace(b"\r\n\r\n", b"\r\n" + line + b"\r\n", 1)
        for wall in (1e9, 3e9, 2e9):
            monkeypatch.setattr("time.time", lambda wall=wall: wall)
            assert await source.get(None) == KEY
            clock.pass_(5)


# -- errors


@on_loop
async def test_a_login_page_is_called_what_it_is() -> None:
    async with Server() as server:
        server.scripts = {
            "/login?next=hush": reply("<!DOCTYPE html>", content_type="text/html"),
            "/login": reply("<!DOCTYPE html><p>Log in", content_type="text/html; charset=utf-8"),
            "/redirects": reply("", 302, location="/login?next=hush"),
            "/text": reply("not here", content_type="text/plain"),
            "/image": reply(b"\x89PNG\r\n\x1a\n", content_type="image/png"),
            "/none": reply("<!DOCTYPE html>"),
        }
        for path, words in {
            "/login": ": text/html. Check the URL",
            "/redirects": rf": text/html \(redirected to {server.url}/login\)\. Check the URL",
            "/text": ": text/plain",
            "/image": ": image/png",
            "/none": "of no stated media type",
        }.items():
            for make in (UrlSource, JwksUrlSource):
                async with make(server.url + path) as source:
                    with pytest.raises(UnavailableError, match=f"{path} answered with something other .*{words}"):
                        await source.get(KID)
            async with Http() as http:
                with pytest.raises(UnavailableError, match=words):
                    await http.fetch(server.url + path)


@pytest.mark.parametrize(
    ("status", "advice"),
    [
        (401, "Check the user name and password"),
        (403, "gives access"),
        (407, "of the proxy"),
        (429, "limits the number of requests"),
        (500, "The server failed"),
        (502, "The server failed"),
        (599, "The server failed"),
    ],
)
@on_loop
async def test_each_status_has_its_advice(status: int, advice: str) -> None:
    async with Server() as server, UrlSource(server.url + PATH) as source:
        server.scripts[PATH] = reply("", status)
        with pytest.raises(UnavailableError, match=rf"{PATH} answered {status}\. .*{advice}"):
            await source.get(None)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "host not found: keys.example. "),
        (socket.gaierror(socket.EAI_AGAIN, "Temporary failure"), "cannot look up the host keys.example"),
        (ConnectionRefusedError(111, "Connect call failed ('::1', 443, 0, 0)"), "refused by [::1]:443"),
        (ConnectionResetError(104, "Connection reset by peer"), "the server closed the connection"),
        (OSError(113, "No route to host"), "no route to keys.example"),
        (OSError(101, "Network is unreachable"), "no route to keys.example"),
        (TimeoutError(110, "Connection timed out"), "connection to keys.example timed out"),
        (OSError(24, "Too many open files"), "cannot connect to keys.example: Too many open files"),
        (ExceptionGroup("all", [ConnectionRefusedError(111, "('10.0.0.1', 443)")]), "refused by 10.0.0.1:443"),
        (RuntimeError("hush"), "the answer is invalid"),
    ],
)
def test_each_cause_has_its_words(error: Exception, words: str) -> None:
    text = describe_error(error, "https://user:hush@keys.example/k?hush")
    assert words in text
    assert "hush" not in text
    assert not any(name in text for name in ("Error", "Errno", "Exception"))


@on_loop
async def test_a_proxy_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Server() as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
    async with UrlSource("http://keys.example/k") as source:
        with pytest.raises(UnavailableError, match=rf"refused by {proxy.url[7:]}.*proxy that HTTP_PROXY names"):
            await source.get(None)


# -- log records


def events(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    return [(record.levelname, vars(record)["event"]) for record in ours(caplog)]


def ours(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.name.startswith("moq_token")]


@pytest.fixture(autouse=True)
def level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "moq_token")


DOWN, UP = ("WARNING", "source-unavailable"), ("INFO", "source-recovered")


@pytest.mark.parametrize("make", [UrlSource, JwksUrlSource, UrlDirectorySource])
@on_loop
async def test_an_outage_is_logged_once_and_so_is_its_end(
    make: type[UrlSource | JwksUrlSource | UrlDirectorySource], caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    async with Server() as server:
        url = server.url.replace("//", "//user:hush@")
        good = reply(f'{{"keys":[{JWK}]}}' if make is JwksUrlSource else JWK)
        async with make(url if make is UrlDirectorySource else f"{url}{PATH}", clock=clock) as source:
            for script, count in ((good, 0), (reply("", 503), 1), (good, 2), (reply("{}"), 3), (good, 4)):
                server.scripts[PATH] = script
                for _ in range(5):
                    clock.pass_(JWKS_INTERVAL_SECONDS)
                    if script is good:
                        assert await source.get(KID) == KEY
                    else:
                        with pytest.raises(UnavailableError):
                            await source.get(KID)
                assert events(caplog) == [DOWN, UP, DOWN, UP][:count]
    down, up = [vars(record) for record in ours(caplog)][:2]
    assert "answered 503" in down["cause"]
    assert up["seconds"] == 5 * JWKS_INTERVAL_SECONDS
    assert down["source"] == up["source"]
    assert f"127.0.0.1:{server.port}" in down["source"]
    assert not any("hush" in repr(vars(record)) for record in ours(caplog))


@on_loop
async def test_an_outage_of_a_file_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = DirectorySource(tmp_path)
    (tmp_path / "one.jwk").write_text("nonsense")
    for _ in range(3):
        with pytest.raises(UnavailableError):
            await source.get(KID)
    KEY.to_file(tmp_path / "one.jwk")
    assert await source.get(KID) == KEY
    assert events(caplog) == [DOWN, UP]


@on_loop
async def test_a_key_that_stays_invalid_beside_good_ones_does_not_fill_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = DirectorySource(tmp_path)
    (tmp_path / "bad.jwk").write_text("nonsense")
    KEY.to_file(tmp_path / "one.jwk")
    for _ in range(100):
        await source.get(KID)
        with pytest.raises(UnavailableError):
            await source.get(KeyId("bad"))
    assert len(ours(caplog)) <= 31


@on_loop
async def test_guessing_is_no_outage(caplog: pytest.LogCaptureFixture) -> None:
    async with Server() as server, UrlDirectorySource(server.url, clock=Clock()) as source:
        for number in range(200):
            with pytest.raises((KeyNotFoundError, UnavailableError)):
                await source.get(KeyId(f"guess-{number}"))
    assert events(caplog) == []


@pytest.mark.parametrize("make", [UrlSource, JwksUrlSource])
@on_loop
async def test_an_outage_that_a_stale_key_bridges_is_logged(
    make: type[UrlSource | JwksUrlSource], caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    body = f'{{"keys":[{JWK}]}}' if make is JwksUrlSource else JWK
    async with Server() as server, make(server.url + PATH, clock=clock) as source:
        for script in (reply(body, cache_control="max-age=1, stale-if-error=3600"), reply("", 503), reply(body)):
            server.scripts[PATH] = script
            for _ in range(3):
                clock.pass_(JWKS_INTERVAL_SECONDS)
                assert await source.get(KID) == KEY
    assert events(caplog) == [DOWN, UP]
