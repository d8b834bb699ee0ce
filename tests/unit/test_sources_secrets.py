"""Credentials in a URL are sent to the server, and appear in no log record, error or traceback frame."""

from __future__ import annotations

import asyncio
import base64
import logging
import traceback
from typing import TYPE_CHECKING

import pytest

from moq_token import ConfigError, Error, Key, KeyId
from moq_token.sources import Http, JwksUrlSource, Tls, UrlDirectorySource, UrlSource, open_source
from moq_token.sources import http as http_module
from moq_token.sources.urls import MAX_URL_CHARACTERS, Address
from tests.certificates import Authority, serving
from tests.sources_server import Request, Server, on_loop, reply

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterator
    from pathlib import Path

    from tests.sources_server import Handler


KEY = Key.generate("EdDSA", "one").to_public()
PATH, QUERY = "/one.jwk", "sig=hush-query"
BASIC = base64.b64encode(b"user-hush:hush-password").decode()
COMBINING = "e\u0301" * 100_000
SECRETS = ("hush", BASIC)


@pytest.fixture
def records() -> Iterator[list[str]]:
    """Record the output of every logger, at every level, as a handler would write it."""
    texts: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            texts.append(f"{record.name}: {logging.Formatter().format(record)} {vars(record)!r}")

    import httpcore2  # noqa: F401 - so that its loggers exist

    root, handler = logging.getLogger(), Handler()
    loggers = [root, *(logging.getLogger(name) for name in list(root.manager.loggerDict))]
    before = [(logger, logger.level) for logger in loggers]
    root.addHandler(handler)
    for logger in loggers:
        logger.setLevel(1)
    yield texts
    root.removeHandler(handler)
    for logger, level in before:
        logger.setLevel(level)


def with_credentials(url: str) -> str:
    return url.replace("//", "//user-hush:hush-password@") + f"{PATH}?{QUERY}"


def frames_of(error: BaseException) -> str:
    """Render an error as a crash reporter does, with the local variables of each frame but that of the test."""
    beneath = None if error.__traceback__ is None else error.__traceback__.tb_next
    shown = traceback.TracebackException(type(error), error, beneath, capture_locals=True)
    return "".join(shown.format()) + repr(error)


async def failure(work: Awaitable[object]) -> Error | None:
    try:
        await work
    except Error as error:
        return error
    return None


def echo(request: Request, _: asyncio.StreamWriter) -> bytes:
    """Return the request headers in the response, as a careless server does."""
    sent = request.headers.get("authorization", "")
    return reply(KEY.to_json(), x_echo=sent, set_cookie=f"a={sent}", etag=f'"{sent}{request.path}"')


async def cut_off(_: Request, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\nhush")
    await writer.drain()


ANSWERS: dict[str, bytes | Handler] = {
    "good": reply(KEY.to_json()),
    "good, cached": reply(KEY.to_json(), cache_control="max-age=60", etag='"1"'),
    "good, echoing": echo,
    "not modified": reply("", 304, x="hush-header"),
    **{str(status): reply("", status) for status in (204, 400, 401, 403, 404, 407, 410, 429, 500, 503)},
    "redirect": reply("", 302, location=f"/two.jwk?{QUERY}"),
    "redirect with a password": reply("", 302, location=f"http://user-hush:hush-password@localhost:1/hush?{QUERY}"),
    "redirect in a circle": reply("", 302, location=f"{PATH}?{QUERY}"),
    "redirect to nowhere": reply("", 302, location=f"http://[nowhere/hush-password?{QUERY}"),
    "login": reply("<html>hush-body", content_type=f"text/html; a={QUERY}"),
    "garbage": b"hush-garbage hush-query\r\n\r\n",
    "illegal header": f"HTTP/1.1 200 OK\r\n{QUERY}\r\n\r\n".encode(),
    "cut off": cut_off,
}


@pytest.mark.parametrize("source", [UrlSource, JwksUrlSource])
@pytest.mark.parametrize("case", ANSWERS)
@on_loop
async def test_no_record_and_no_error_holds_a_credential(
    case: str, source: type[UrlSource | JwksUrlSource], records: list[str]
) -> None:
    async with Server() as server:
        server.scripts = {f"{PATH}?{QUERY}": ANSWERS[case], f"/two.jwk?{QUERY}": reply(KEY.to_json())}
        async with source(with_credentials(server.url)) as keys:
            for _ in range(2):
                caught = await failure(keys.get(KeyId("one")))
                text = "" if caught is None else frames_of(caught)
                assert not any(secret in text for secret in SECRETS), text
                assert caught is None or f"127.0.0.1:{server.port}{PATH}" in str(caught)
        assert {request.headers["authorization"] for request in server.requests} == {f"Basic {BASIC}"}
        assert all(QUERY in request.path for request in server.requests)
    assert not [text for text in records if any(secret in text for secret in SECRETS)]


@on_loop
async def test_no_record_holds_a_credential_where_nobody_answers(
    records: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hang(_: Request, writer: asyncio.StreamWriter) -> None:
        del writer
        await asyncio.Event().wait()

    monkeypatch.setattr(http_module, "TIMEOUT_SECONDS", 1.0)
    context = serving(Authority(tmp_path, "theirs").issue("server", "127.0.0.1"))
    async with Server() as plain, Server(context) as untrusted, Server() as stopped:
        await stopped.stop()
        plain.scripts[f"{PATH}?{QUERY}"] = hang
        urls = [plain.url, untrusted.url, stopped.url, plain.url.replace("http:", "https:"), "http://hush.invalid"]
        for url in urls:
            async with UrlSource(with_credentials(url)) as source:
                with pytest.raises(Error) as caught:
                    await source.get(None)
                text = frames_of(caught.value).replace("hush.invalid", "")
                assert not any(secret in text for secret in SECRETS)
    text = "\n".join(records).replace("hush.invalid", "")
    assert not any(secret in text for secret in SECRETS)


@pytest.mark.parametrize("kind", ["http", "https"])
@on_loop
async def test_no_record_holds_the_password_of_a_proxy(
    kind: str, records: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Server() as proxy:
        monkeypatch.setenv(f"{kind}_proxy", proxy.url.replace("//", "//user-hush:hush-password@"))
        monkeypatch.delenv("no_proxy", raising=False)
        url = f"{kind}://keys.example{PATH}?{QUERY}"
        proxy.scripts[url] = reply(KEY.to_json())
        proxy.scripts["keys.example:443"] = reply("", 407)
        async with UrlSource(url) as source:
            if kind == "http":
                assert await source.get(None) == KEY
            else:
                with pytest.raises(Error, match=r"407.*proxy that HTTPS_PROXY names|proxy refused") as caught:
                    await source.get(None)
                assert "hush" not in frames_of(caught.value)
        assert proxy.requests[0].headers["proxy-authorization"] == f"Basic {BASIC}"
    assert not [text for text in records if any(secret in text for secret in SECRETS)]


@on_loop
async def test_other_users_of_the_http_client_keep_their_records(records: list[str]) -> None:
    import httpx2

    async with Server() as server, httpx2.AsyncClient() as client:
        server.scripts[PATH] = reply(KEY.to_json())
        async with UrlSource(server.url + PATH) as source:
            await source.get(None)
        assert not [text for text in records if text.startswith(("httpx2", "httpcore2.http11: receive"))]
        await client.get(server.url + PATH)
    assert [text for text in records if text.startswith("httpx2")]


@on_loop
async def test_a_caller_that_gives_up_takes_no_frame_with_a_password_along() -> None:
    async def hang(_: Request, writer: asyncio.StreamWriter) -> None:
        del writer
        await asyncio.Event().wait()

    async def time_out(work: Awaitable[object]) -> str:
        with pytest.raises(TimeoutError) as caught:
            async with asyncio.timeout(0.05):
                await work
        assert caught.value.__cause__ is not None
        return frames_of(caught.value.__cause__)

    async with Server() as server:
        server.scripts[f"{PATH}?{QUERY}"] = hang
        url = with_credentials(server.url)
        for source in (UrlSource(url), JwksUrlSource(url), UrlDirectorySource(url)):
            server.scripts["/one.jwk/one.jwk"] = hang
            assert "hush" not in await time_out(source.get(KeyId("one")))
            await source.aclose()
        async with Http() as http:
            assert "hush" not in await time_out(http.fetch(url))
            assert "hush" not in await time_out(http.retrieve(url))


@pytest.mark.parametrize(
    "proxy", ["socks5://user:hush@localhost:1", "http://user:hush@[::1", "http://user:hush@host:port", "gopher://hush"]
)
def test_a_proxy_that_cannot_be_used_is_not_quoted(proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("all_proxy", proxy)
    with pytest.raises(ConfigError, match="invalid proxy in the environment") as caught:
        Http()
    assert caught.value.__context__ is None
    assert "hush" not in frames_of(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "http://[",
        "http://[hush",
        "http://user:hush@[::1",
        "http://user:hush@host:port/",
        "http://user:hush@\u2100.example/",
        "http://user:hush@a..b/",
        f"http://user:hush@{'a' * 64}.example/",
        f"http://user:hush@{'a.' * 127}/",
        f"http://user:hush@{COMBINING}/",
        "http://user:hush@host/" + "a" * MAX_URL_CHARACTERS,
        "ftp://user:hush@host/",
        "http://user:hush@/",
        "hush",
    ],
)
def test_a_url_that_cannot_be_used_is_not_quoted(url: str) -> None:
    for make in (UrlSource, UrlDirectorySource, JwksUrlSource):
        with pytest.raises(ConfigError) as caught:
            make(url)
        assert "hush" not in frames_of(caught.value)
        assert len(str(caught.value)) < 300
    if url != "hush":
        with pytest.raises(ConfigError) as caught:
            open_source(url)
        assert "hush" not in frames_of(caught.value)


@on_loop
async def test_no_url_is_fetched_that_is_longer_than_the_maximum() -> None:
    async with Server() as server:
        server.scripts["/short"] = reply("", 302, location="/" + "a" * MAX_URL_CHARACTERS)
        async with Http() as http:
            with pytest.raises(Error, match="too long"):
                await http.fetch(server.url + "/" + "a" * MAX_URL_CHARACTERS)
            assert server.count() == 0
            with pytest.raises(Error, match="redirects to an invalid URL"):
                await http.fetch(server.url + "/short")
            assert server.count() == 1


def test_tls_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.pem'.*No such file"):
        Http(Tls(roots=(str(tmp_path / "none.pem"),)))


def test_an_address_shows_no_secret() -> None:
    address = Address.of(f"https://user-hush:hush-password@keys.example/one.jwk?{QUERY}")
    assert repr(address) == "<Address https://keys.example/one.jwk>"
    assert address.authorization == f"Basic {BASIC}"
