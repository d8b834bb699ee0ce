"""POST to a service: the bytes that are sent, the redirects that are followed, and every limit."""

from __future__ import annotations

import asyncio
import logging
import traceback
from typing import TYPE_CHECKING

import pytest

from moq_token import ConfigError, UnavailableError
from moq_token.sources import post
from moq_token.sources.post import Post
from moq_token.sources.tls import Tls
from tests.certificates import Authority, serving
from tests.sources_server import Server, on_loop, reply

if TYPE_CHECKING:
    from pathlib import Path

    from tests.sources_server import Request

BODY = b'{"a": "secret"}'


async def send(url: str, tls: Tls | None = None) -> tuple[int, bytes]:
    async with Post(url, tls) as service:
        return await service.send(BODY)


@on_loop
async def test_what_is_sent_and_what_comes_back() -> None:
    async with Server() as server:
        server.scripts["/base/path?key=v"] = reply("yes", 201)
        assert await send(f"{server.url}/base/path?key=v#fragment") == (201, b"yes")
        (sent,) = server.requests
        assert (sent.method, sent.body) == ("POST", BODY)
        assert sent.headers["content-type"] == "application/json"
        assert sent.headers["accept"] == "*/*"
        assert sent.headers["content-length"] == str(len(BODY))
        assert "authorization" not in sent.headers


@on_loop
async def test_connections_are_kept_and_cookies_are_not() -> None:
    async with Server() as server:
        server.scripts["/"] = reply("yes", set_cookie="a=b; path=/")
        async with Post(server.url) as service:
            for _ in range(3):
                await service.send(BODY)
        assert (server.connections, server.count()) == (1, 3)
        assert all("cookie" not in sent.headers for sent in server.requests)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 500, 503])
@on_loop
async def test_other_statuses_are_answers_without_a_body(status: int) -> None:
    async with Server() as server:
        server.scripts["/"] = reply("x" * 10**6, status)
        assert await send(server.url) == (status, b"")


@pytest.mark.parametrize(("status", "method"), [(301, "GET"), (302, "GET"), (303, "GET"), (307, "POST"), (308, "POST")])
@on_loop
async def test_redirects_as_relays_follow_them(status: int, method: str) -> None:
    async with Server() as server, Server() as other:
        server.scripts["/"] = reply("", status, location="/next?x")
        server.scripts["/next?x"] = reply("", 307, location=f"{other.url}/there")
        other.scripts["/there"] = reply("yes")
        assert await send(f"http://user:hidden@127.0.0.1:{server.port}") == (200, b"yes")
        assert [sent.headers.get("authorization") for sent in server.requests] == ["Basic dXNlcjpoaWRkZW4="] * 2
        (last,) = other.requests
        assert (last.method, last.body) == (method, BODY if method == "POST" else b"")
        assert "authorization" not in last.headers


@pytest.mark.parametrize(
    "location",
    ["http://192.0.2.1/", "ftp://x", "//192.0.2.1/", "http://[", "unix:///run/x", "https://" + "x" * 9000, "http://:1"],
)
@on_loop
async def test_redirects_that_are_not_followed(location: str) -> None:
    async with Server() as server:
        server.scripts["/"] = reply("", 307, location=location)
        with pytest.raises(UnavailableError, match="redirects to a place that is not followed"):
            await send(server.url)


@on_loop
async def test_ten_redirects_are_followed_and_no_more() -> None:
    async with Server() as server:
        for number in range(11):
            server.scripts[f"/{number}"] = reply("", 307, location=f"/{number + 1}")
        server.scripts["/11"] = reply("yes")
        assert await send(f"{server.url}/1") == (200, b"yes")
        with pytest.raises(UnavailableError, match="more than 10 times"):
            await send(f"{server.url}/0")


@on_loop
async def test_an_answer_that_does_not_end_is_not_read_on() -> None:
    async def endless(_: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b" " * 10_000)
            await writer.drain()

    async with Server() as server:
        server.scripts["/"] = endless
        with pytest.raises(UnavailableError, match="more than 262144 bytes"):
            await send(server.url)


@on_loop
async def test_an_answer_that_does_not_come_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async def silent(_: Request, __: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    async with Server() as server, Post(server.url) as service:
        monkeypatch.setattr(post, "TIMEOUT_SECONDS", 0.1)  # not for connecting
        server.scripts["/"] = silent
        with pytest.raises(UnavailableError, match=r"did not answer within 0.1 s"):
            await service.send(BODY)


@on_loop
async def test_nobody_there() -> None:
    async with Server() as server:
        url = server.url
    with pytest.raises(UnavailableError, match="refused"):
        await send(url)
    with pytest.raises(UnavailableError, match="No such file"):
        await send("unix:///no-such-directory/s")
    with pytest.raises(UnavailableError, match="the path of the socket is too long"):
        await send(f"unix:///{'s' * 200}")


@on_loop
async def test_no_frame_of_an_error_holds_what_was_sent() -> None:
    async def hang_up(_: Request, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with Server() as server:
        server.scripts["/?key=hidden"] = hang_up
        async with Post(f"http://user:hidden@127.0.0.1:{server.port}/?key=hidden") as service:
            sending = service.send(b"hidden")
            with pytest.raises(UnavailableError) as caught:
                await sending
    found = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    assert "/?key" not in "".join(found.format())
    assert not any("hidden" in str(frame.locals) for frame in found.stack if frame.filename != __file__)
    assert caught.value.__cause__ is caught.value.__context__ is None


@on_loop
async def test_a_proxy_sees_nothing_that_is_not_encrypted(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Server() as server, Server() as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        server.scripts["/"] = reply("yes")
        assert await send(server.url) == (200, b"yes")
        assert proxy.connections == 0


@on_loop
async def test_https_with_a_client_certificate(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    authority = Authority(tmp_path, "root")
    cert, key = authority.issue("relay", "127.0.0.1")
    async with Server(serving(authority.issue("auth", "127.0.0.1"), authority.root)) as server:
        server.scripts["/"] = reply("yes")
        tls = Tls((authority.root,), cert, key)
        assert await send(server.url, tls) == (200, b"yes")
        for wrong in (Tls((authority.root,)), None):
            with pytest.raises(UnavailableError):
                await send(server.url, wrong)
        # From an encrypted server, no redirect leads to an unencrypted one.
        server.scripts["/"] = reply("", 307, location="http://127.0.0.1:1/")
        with pytest.raises(UnavailableError, match="not followed"):
            await send(server.url, tls)
    assert "secret" not in caplog.text


@pytest.mark.parametrize("url", ["http://192.0.2.1", "ftp://x", "x", "unix://x", "https://"])
def test_invalid_urls(url: str) -> None:
    with pytest.raises(ConfigError):
        Post(url)


def test_invalid_files() -> None:
    with pytest.raises(ConfigError, match=r"none\.pem"):
        Post("https://localhost", Tls(("none.pem",)))
