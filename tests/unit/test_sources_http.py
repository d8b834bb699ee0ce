"""Keys at URLs: the result of each fault of a server, the number of requests, and the cache."""

from __future__ import annotations

import asyncio
import base64
import gzip
import logging
import random
import time
import traceback
import tracemalloc
from email.utils import formatdate
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moq_token import ConfigError, Key, KeyId, KeyNotFoundError, UnavailableError
from moq_token.sources import Http, JwksUrlSource, UrlDirectorySource, UrlSource
from moq_token.sources import http as http_module
from moq_token.sources.memory import MAX_BYTES, MAX_ENTRIES, Bucket, Lru
from moq_token.sources.rfc9111 import Answer, Cache
from moq_token.sources.source import MAX_BODY_BYTES, UnusableKeyError
from moq_token.sources.web import JWKS_INTERVAL_SECONDS, MISSING_SECONDS, UNKNOWN_BURST, UNKNOWN_PER_SECOND
from tests.sources_server import Clock, Request, Server, hang, on_loop, reply

if TYPE_CHECKING:
    from collections.abc import Callable

KEY = Key.generate("EdDSA", "one").to_public()
OTHER = Key.generate("EdDSA", "two").to_public()
JWK = KEY.to_json()
KID = KeyId("one")
PATH = "/one.jwk"


# -- faults: each comes to UnavailableError, after so many requests, with bounded memory and time


async def trickle(_: Request, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n")
    while True:
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.01)


async def trickle_headers(_: Request, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        writer.write(b"a: b\r\n")
        await writer.drain()
        await asyncio.sleep(0.01)


async def endless(_: Request, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"10000\r\n" + b" " * 0x10000 + b"\r\n")
        await writer.drain()


async def endless_unframed(_: Request, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        writer.write(b" " * 0x10000)
        await writer.drain()


async def endless_error_page(_: Request, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 500 Oops\r\n\r\n")
    while True:
        writer.write(b" " * 0x10000)
        await writer.drain()


async def endless_headers(_: Request, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        writer.write(b"a: " + b"b" * 0x10000 + b"\r\n")
        await writer.drain()


async def gibibyte(_: Request, writer: asyncio.StreamWriter) -> None:
    writer.write(f"HTTP/1.1 200 OK\r\ncontent-length: {1 << 30}\r\n\r\n".encode())
    while True:
        writer.write(b" " * 0x10000)
        await writer.drain()


async def cut_short(_: Request, writer: asyncio.StreamWriter) -> None:
    writer.write(reply(JWK, content_length="5000"))
    await writer.drain()


async def hang_up(_: Request, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


FAULTS: dict[str, tuple[bytes | Callable[..., object], str, int]] = {
    "hangs": (hang, "did not answer within", 1),
    "trickles": (trickle, "did not answer within", 1),
    "trickles headers": (trickle_headers, "did not answer within", 1),
    "hangs up": (hang_up, "closed the connection", 1),
    "endless": (endless, "more than 1048576 bytes", 1),
    "endless, no framing": (endless_unframed, "more than 1048576 bytes", 1),
    "endless error page": (endless_error_page, "answered 500", 1),
    "endless headers": (endless_headers, "not valid HTTP", 1),
    "1 GiB": (gibibyte, "more than 1048576 bytes", 1),
    "says more than it sends": (cut_short, "closed the connection", 1),
    "says less than it sends": (reply(JWK, content_length="20", connection="close"), "not usable", 1),
    "two lengths": (b"HTTP/1.1 200 -\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{} ", "not valid HTTP", 1),
    "negative length": (reply(JWK, content_length="-1"), "not valid HTTP", 1),
    "no HTTP": (b"SSH-2.0-OpenSSH_9\r\n\r\n", "not valid HTTP", 1),
    "HTML": (reply("<!doctype html><p>Hello", content_type="text/html"), "a key or JSON: text/html", 1),
    "garbage": (reply(b"\xff\xfe\0"), "not usable", 1),
    "no key": (reply('{"kty":"oct","alg":"HS256","k":"c2hvcnQ"}'), "not usable", 1),
    "compressed": (reply(gzip.compress(b" " * 100_000_000), content_encoding="gzip"), "sent a compressed answer", 1),
    "204": (reply("", 204), "answered 204", 1),
    "206": (reply(JWK, 206), "answered 206", 1),
    "401": (reply("", 401), "answered 401", 1),
    "403": (reply("", 403), "answered 403", 1),
    "429": (reply("", 429), "answered 429", 1),
    "500": (reply("", 500), "answered 500", 1),
    "503": (reply(JWK, 503), "answered 503", 1),
    "304 of nothing": (reply("", 304), r"answered 304 \(not modified\)", 2),
    "redirect, no place": (reply("", 302), "answered 302", 1),
    "redirect, other port": (reply("", 302, location="http://127.0.0.1:1/one.jwk"), "another origin", 1),
    "redirect, other host": (reply("", 301, location="//localhost/one.jwk"), "another origin", 1),
    "redirect, other scheme": (reply("", 307, location="https://127.0.0.1/one.jwk"), "another origin", 1),
    "redirect, file": (reply("", 302, location="file:///etc/passwd"), "another origin", 1),
    "redirect, no URL": (reply("", 302, location="http://[::1"), "redirects to an invalid URL", 1),
    "redirect, in a circle": (reply("", 308, location=PATH), "more than 3 times", 4),
}


@pytest.mark.parametrize("fault", FAULTS)
@on_loop
async def test_fault(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    script, message, requests = FAULTS[fault]
    async with Server() as server, UrlDirectorySource(server.url) as source:
        if "did not answer" in message:
            monkeypatch.setattr(http_module, "TIMEOUT_SECONDS", 1.0)  # not for connecting
        server.scripts[PATH] = script  # type: ignore[assignment]
        tracemalloc.start()
        started = time.monotonic()
        try:
            with pytest.raises(UnavailableError, match=message) as caught:
                await source.get(KID)
            assert tracemalloc.get_traced_memory()[1] < 6 * MAX_BODY_BYTES
        finally:
            tracemalloc.stop()
        assert type(caught.value) in {UnavailableError, UnusableKeyError}
        assert time.monotonic() - started < 60
        assert server.count() == requests

        monkeypatch.undo()
        server.scripts[PATH] = reply(JWK)
        assert await source.get(KID) == KEY  # the fault leaves nothing behind


@on_loop
async def test_nobody_listens() -> None:
    async with Server() as server:
        url = server.url
    async with UrlDirectorySource(url) as source:
        with pytest.raises(UnavailableError, match=f"connection refused by {url[7:]}") as caught:
            await source.get(KID)
    assert isinstance(caught.value.__cause__, ConnectionRefusedError)
    assert caught.value.__cause__.__traceback__ is None


@on_loop
async def test_redirects_within_the_origin() -> None:
    async with Server() as server, UrlDirectorySource(server.url + "/keys") as source:
        server.scripts |= {
            "/keys/one.jwk": reply("", 302, location="/a"),
            "/a": reply("", 307, location=f"{server.url}/b/c"),
            "/b/c": reply("", 301, location="d"),
            "/b/d": reply(JWK),
        }
        assert await source.get(KID) == KEY
        assert [request.path for request in server.requests] == ["/keys/one.jwk", "/a", "/b/c", "/b/d"]
        server.scripts["/b/d"] = reply(JWK, cache_control="max-age=60")
        del server.requests[:]
        assert await source.get(KID) == await source.get(KID) == KEY
        assert server.count("/b/d") == 1
        assert server.count("/a") == 2


@on_loop
async def test_no_cookie_is_kept_and_nothing_compressed_is_asked_for() -> None:
    async with Server() as server, UrlSource(server.url + PATH) as source:
        server.scripts[PATH] = reply(JWK, set_cookie="a=b")
        await source.get(None)
        await source.get(None)
        assert server.count() == 2
        assert all("cookie" not in request.headers for request in server.requests)
        assert {request.headers["accept-encoding"] for request in server.requests} == {"identity"}
        assert server.connections == 1


@on_loop
async def test_a_password_in_a_url_is_used_and_never_shown(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with Server() as server:
        url = server.url.replace("//", "//user:hush-hush@") + PATH + "?key=hush-hush"
        script = PATH + "?key=hush-hush"
        for answer in (reply("", 500), reply("", 404), reply("", 302, location="http://localhost:1/"), b"-\r\n\r\n"):
            server.scripts[script] = answer
            async with UrlSource(url) as source:
                with pytest.raises((UnavailableError, KeyNotFoundError)) as caught:
                    await source.get(None)
            frames = caught.tb.tb_next  # but not that of this test, which holds the URL
            shown = traceback.TracebackException(caught.type, caught.value, frames, capture_locals=True)
            text = "".join(shown.format())
            assert "hush" not in text + repr(caught.value) + repr(source)
            assert f"127.0.0.1:{server.port}{PATH}" in str(caught.value)
        given_password = base64.b64encode(b"user:hush-hush").decode()
        assert server.requests[0].headers["authorization"] == f"Basic {given_password}"


# -- caching


class Origin:
    """A key with an ETag; down while ``down``."""

    def __init__(self, **headers: str) -> None:
        self.jwk, self.etag, self.headers, self.down = JWK, '"1"', headers, False

    def __call__(self, request: Request, _: asyncio.StreamWriter) -> bytes:
        if self.down:
            return reply("", 503)
        if request.headers.get("if-none-match") == self.etag:
            return reply("", 304, etag=self.etag, **self.headers)
        return reply(self.jwk, etag=self.etag, **self.headers)


@on_loop
async def test_a_fresh_key_costs_nothing_and_serves_through_an_outage() -> None:
    clock, origin = Clock(), Origin(cache_control="max-age=60")
    async with Server() as server, UrlDirectorySource(server.url, clock=clock) as source:
        server.scripts[PATH] = origin
        key = await source.get(KID)
        origin.down = True
        clock.pass_(58)
        assert await source.get(KID) is key
        assert server.count() == 1

        clock.pass_(3)
        with pytest.raises(UnavailableError, match="answered 503"):
            await source.get(KID)
        assert server.count() == 2

        origin.down = False
        assert await source.get(KID) is key  # confirmed by its ETag
        assert server.count() == 3
        assert server.requests[-1].headers["if-none-match"] == '"1"'
        clock.pass_(58)
        assert await source.get(KID) is key
        assert server.count() == 3


@on_loop
async def test_a_rotated_key_counts_as_soon_as_the_old_one_is_stale() -> None:
    clock, origin = Clock(), Origin(cache_control="max-age=60")
    async with Server() as server, UrlSource(server.url + PATH, clock=clock) as source:
        server.scripts[PATH] = origin
        assert await source.get(KID) == KEY
        origin.jwk, origin.etag = OTHER.to_json(), '"2"'
        assert await source.get(KID) == KEY
        clock.pass_(61)
        assert await source.get(KID) == OTHER
        assert server.count() == 2


DAY_AGO = formatdate(time.time() - 86_400, usegmt=True)
IN_A_DAY = formatdate(time.time() + 86_400, usegmt=True)
KEPT: dict[str, tuple[dict[str, str], float, bool]] = {
    "max-age, fresh": ({"cache_control": "max-age=60"}, 50, True),
    "max-age, almost stale": ({"cache_control": "max-age=60"}, 59.5, True),
    "max-age, stale": ({"cache_control": "max-age=60"}, 60, False),
    "max-age, shorter than a second": ({"cache_control": "max-age=1"}, 0.5, True),
    "private": ({"cache_control": "private, max-age=60"}, 50, True),
    "s-maxage is for others": ({"cache_control": "s-maxage=0, max-age=60"}, 50, True),
    "no-store": ({"cache_control": "no-store, max-age=60"}, 0, False),
    "no-cache": ({"cache_control": "no-cache, max-age=60"}, 0, False),
    "nothing said": ({}, 0, False),
    "no guessing": ({"last_modified": "Mon, 01 Jan 2024 00:00:00 GMT"}, 0, False),
    "public is no lifetime": ({"cache_control": "public"}, 0, False),
    "Expires": ({"expires": IN_A_DAY}, 80_000, True),
    "Expires, past": ({"expires": IN_A_DAY}, 86_500, False),
    "Expires 0": ({"expires": "0"}, 0, False),
    "Expires against Date": ({"expires": DAY_AGO, "date": DAY_AGO}, 0, False),
    "max-age before Expires": ({"expires": IN_A_DAY, "cache_control": "max-age=1"}, 3, False),
    "Age, fresh": ({"cache_control": "max-age=60", "age": "30"}, 25, True),
    "Age, stale": ({"cache_control": "max-age=60", "age": "30"}, 31, False),
    "Date, past": ({"cache_control": "max-age=60", "date": DAY_AGO}, 0, False),
    "Date, ahead": ({"cache_control": "max-age=60", "date": IN_A_DAY}, 61, False),
    "Date, none": ({"cache_control": "max-age=60"}, 61, False),
    "Date, garbage": ({"cache_control": "max-age=60", "date": "yesterday"}, 61, False),
    "Vary on what we send": ({"cache_control": "max-age=60", "vary": "Accept, Accept-Encoding"}, 50, True),
    "Vary on everything": ({"cache_control": "max-age=60", "vary": "*"}, 0, False),
}


@on_loop
async def test_using_a_fresh_key_does_not_keep_it_fresh() -> None:
    clock = Clock()
    async with Server() as server, UrlSource(server.url + PATH, clock=clock) as source:
        server.scripts[PATH] = reply(JWK, cache_control="max-age=10")
        for _ in range(100):  # 24 seconds and 3/4, in all
            await source.get(None)
            clock.pass_(0.25)
        assert server.count() == 3


@pytest.mark.parametrize("case", KEPT)
@on_loop
async def test_kept(case: str) -> None:
    headers, seconds, kept = KEPT[case]
    clock = Clock()
    async with Server() as server, UrlSource(server.url + PATH, clock=clock) as source:
        server.scripts[PATH] = reply(JWK, **headers)
        key = await source.get(None)
        clock.pass_(seconds)
        assert await source.get(None) is key
        assert server.count() == (1 if kept else 2)


STALE = {
    "allowed": ("max-age=60, stale-if-error=600", 300, True),
    "too old": ("max-age=60, stale-if-error=600", 662, False),
    "not allowed": ("max-age=60", 62, False),
    "must-revalidate": ("max-age=60, must-revalidate, stale-if-error=600", 300, False),
    "no-cache": ("no-cache, stale-if-error=600", 1, False),
    "nonsense": ("max-age=60, stale-if-error=soon", 62, False),
}


@pytest.mark.parametrize("case", STALE)
@pytest.mark.parametrize("fault", ["503", "silence", "refusal"])
@on_loop
async def test_stale_if_error(case: str, fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    control, seconds, serves = STALE[case]
    clock, origin = Clock(), Origin(cache_control=control)
    async with Server() as server, UrlSource(server.url + PATH, clock=clock) as source:
        server.scripts[PATH] = origin
        key = await source.get(None)
        clock.pass_(seconds)
        if fault == "503":
            origin.down = True
        elif fault == "silence":
            monkeypatch.setattr(http_module, "TIMEOUT_SECONDS", 0.05)
            server.scripts[PATH] = hang
        else:
            await server.stop()
        if serves:
            assert await source.get(None) is key
        else:
            with pytest.raises(UnavailableError):
                await source.get(None)


@on_loop
async def test_a_refusal_is_no_error_that_a_stale_key_may_bridge() -> None:
    clock, origin = Clock(), Origin(cache_control="max-age=60, stale-if-error=600")
    async with Server() as server, UrlSource(server.url + PATH, clock=clock) as source:
        server.scripts[PATH] = origin
        await source.get(None)
        clock.pass_(61)
        server.scripts[PATH] = reply("", 403)
        with pytest.raises(UnavailableError, match="answered 403"):
            await source.get(None)
        server.scripts[PATH] = reply("", 410)
        with pytest.raises(KeyNotFoundError):
            await source.get(None)
        server.scripts[PATH] = reply("", 503)
        clock.pass_(MISSING_SECONDS)
        with pytest.raises(UnavailableError, match="answered 503"):
            await source.get(None)  # withdrawn is withdrawn


@on_loop
async def test_a_304_for_another_etag_confirms_nothing() -> None:
    answers = [reply(JWK, etag='"1"'), reply("", 304, etag='"9"'), reply(OTHER.to_json(), etag='"9"')]
    async with Server() as server, UrlSource(server.url + PATH) as source:
        server.scripts[PATH] = lambda *_: answers[server.count() - 1]
        assert await source.get(None) == KEY
        assert await source.get(None) == OTHER
        assert "if-none-match" not in server.requests[2].headers


@pytest.mark.parametrize("status", [404, 410])
@on_loop
async def test_not_found_is_believed_for_a_while(status: int) -> None:
    clock = Clock()
    async with Server() as server, UrlDirectorySource(server.url, clock=clock) as source:
        server.scripts[PATH] = reply("", status, cache_control="max-age=86400")
        for _ in range(3):
            with pytest.raises(KeyNotFoundError) as caught:
                await source.get(KID)
            assert caught.value.kid == "one"
        assert server.count() == 1

        server.scripts[PATH] = reply(JWK)
        clock.pass_(MISSING_SECONDS)
        assert await source.get(KID) == KEY
        server.scripts[PATH] = reply("", status)
        with pytest.raises(KeyNotFoundError):
            await source.get(KID)
        assert server.count() == 3


@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(["cache-control", "date", "expires", "age", "etag", "last-modified", "vary", "x"]),
            st.sampled_from(["max-age=5", "max-age=" + "9" * 400, "max-age=-1", "=,=", '"', 'no-cache="a', "*", "W/"])
            | st.text(st.characters(max_codepoint=255), max_size=40),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_no_header_breaks_the_cache(answers: list[dict[str, str]]) -> None:
    clock = Clock()
    cache = Cache({"accept": "*/*"}, clock)
    for index, headers in enumerate(answers):
        cache.fresh("u")
        question = cache.question("u", revalidate=bool(index & 1))
        body = cache.answered("u", question, Answer(304 if index & 2 else 200, headers, b"%d" % index, 0.1))
        assert body is None or int(body) <= index
        clock.pass_(3)
        assert cache.stale("u") in (None, body)


# -- many at once


@on_loop
async def test_a_thousand_at_once_make_one_request() -> None:
    go = asyncio.Event()

    async def slow(_: Request, writer: asyncio.StreamWriter) -> None:
        await go.wait()
        writer.write(reply(JWK))
        await writer.drain()

    async with Server() as server, UrlDirectorySource(server.url) as source:
        server.scripts[PATH] = slow
        tasks = [asyncio.create_task(source.get(KID)) for _ in range(1_000)]
        await server.received(1)
        for task in tasks[:10]:  # the first of them is the one who made the request
            task.cancel()
        go.set()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(result, asyncio.CancelledError) for result in results[:10])
        assert all(result is results[10] and result == KEY for result in results[10:])
        assert server.count() == 1


@on_loop
async def test_a_thousand_at_once_share_a_failure_but_not_the_exception() -> None:
    async with Server() as server, UrlDirectorySource(server.url) as source:
        server.scripts[PATH] = reply("", 500)
        results = await asyncio.gather(*(source.get(KID) for _ in range(1_000)), return_exceptions=True)
        assert {type(result) for result in results} == {UnavailableError}
        assert len({id(result) for result in results}) == 1_000
        assert server.count() == 1


@on_loop
async def test_closing_answers_those_who_wait() -> None:
    async with Server() as server:
        source = UrlDirectorySource(server.url)
        server.scripts[PATH] = hang
        task = asyncio.create_task(source.get(KID))
        await server.received(1)
        await source.aclose()
        with pytest.raises(UnavailableError, match="closed"):
            await task
        with pytest.raises(UnavailableError, match="closed"):
            await source.get(KID)
        assert server.count() == 1


@on_loop
async def test_sources_share_a_client_that_stays_open() -> None:
    async with Server() as server, Http() as http:
        server.scripts[PATH] = reply(JWK, cache_control="max-age=60")
        async with UrlSource(server.url + PATH, http=http) as one, UrlDirectorySource(server.url, http=http) as many:
            assert await one.get(None) == await many.get(KID) == KEY
        assert await http.fetch(server.url + PATH) == JWK.encode()
        assert server.count() == 1


async def guess(kids: int, clock: Clock) -> None:
    origin = Origin(cache_control="no-cache")
    async with Server() as server, UrlDirectorySource(server.url, clock=clock) as source:
        server.scripts[PATH] = origin
        key = await source.get(KID)
        missing = unavailable = 0
        for number in range(kids):
            try:
                await source.get(KeyId(f"guess-{number}"))
            except KeyNotFoundError:
                missing += 1
            except UnavailableError:
                unavailable += 1
        assert server.count() == UNKNOWN_BURST
        assert (missing, unavailable) == (UNKNOWN_BURST - 1, kids - UNKNOWN_BURST + 1)
        assert await source.get(KID) is key  # a cached key is still used

        clock.pass_(1)
        for number in range(kids):
            with pytest.raises((KeyNotFoundError, UnavailableError)):
                await source.get(KeyId(f"another-{number}"))
        assert server.count() == UNKNOWN_BURST + 1 + UNKNOWN_PER_SECOND


@on_loop
async def test_guessing_costs_a_bounded_number_of_requests() -> None:
    await guess(2_000, Clock())


@pytest.mark.slow
@on_loop
async def test_guessing_for_long_costs_bounded_memory() -> None:
    tracemalloc.start()
    try:
        await guess(100_000, Clock())
        assert tracemalloc.get_traced_memory()[1] < 16 * 1024 * 1024
    finally:
        tracemalloc.stop()


def test_the_bucket_refills_no_further_than_its_burst() -> None:
    clock, names = Clock(), iter(range(1_000))
    bucket = Bucket(2, 3, clock)

    def take(count: int) -> list[bool]:
        return [bucket.take(str(next(names))) for _ in range(count)]

    assert take(4) == [True, True, True, False]
    clock.pass_(0.5)
    assert take(2) == [True, False]
    clock.pass_(-5)
    assert take(1) == [False]
    clock.pass_(1_000)
    assert take(4) == [True, True, True, False]


@pytest.mark.parametrize("rate", [60, 200, 1_000, 3_000])
@pytest.mark.parametrize("tries", [1, 2, 3])
def test_a_name_gets_through_a_flood(rate: int, tries: int) -> None:
    """``rate`` requests a second, ``tries`` for each invented name, and a client that asks for one once a second."""
    clock, chance = Clock(), random.Random(8)  # noqa: S311 - the same each time
    bucket = Bucket(UNKNOWN_PER_SECOND, UNKNOWN_BURST, clock)
    waits: list[int] = []
    passed = asked = 0
    seconds, next_time = 40, clock() + 20  # when the burst is used up
    for number in range(rate * seconds):
        passed += bucket.take(str(number // tries))
        clock.pass_(1 / rate)
        if clock() >= next_time:
            next_time += chance.uniform(0.9, 1.1)
            asked += 1
            if bucket.take(f"new-{len(waits)}"):
                waits.append(asked)
                asked = 0
    assert passed <= UNKNOWN_BURST * 1.5 + UNKNOWN_PER_SECOND * seconds
    assert max(waits) <= tries + 2
    assert asked <= tries + 2


def test_what_is_kept_is_bounded_in_number_and_weight() -> None:
    lru: Lru[int] = Lru()
    for number in range(2 * MAX_ENTRIES):
        lru.put(str(number), number, 1)
        assert lru.get("0") == 0  # used, so it stays
    assert len(lru) == lru.weight == MAX_ENTRIES
    lru.put("heavy", 1, MAX_BYTES)
    assert (len(lru), lru.weight) == (1, MAX_BYTES)
    lru.put("heavy", 2, 5)
    assert (lru.get("heavy"), lru.weight) == (2, 5)


# -- key sets


def jwks(*keys: Key, more: str = "") -> str:
    return f'{{"keys":[{more}{",".join(key.to_json() for key in keys)}]}}'


@on_loop
async def test_a_key_set_is_asked_again_for_an_unknown_id_but_never_too_often() -> None:
    clock = Clock()
    async with Server() as server, JwksUrlSource(server.url + "/jwks", clock=clock) as source:
        server.scripts["/jwks"] = reply(jwks(KEY), cache_control="max-age=3600")
        key = await source.get(KID)
        assert key == KEY
        for number in range(1_000):
            with pytest.raises(KeyNotFoundError):
                await source.get(KeyId(f"guess-{number}"))
        assert server.count() == 1

        clock.pass_(JWKS_INTERVAL_SECONDS)
        server.scripts["/jwks"] = reply(jwks(KEY, OTHER), cache_control="max-age=3600")
        assert await source.get(KID) is key  # fresh
        assert server.count() == 1
        assert await source.get(KeyId("two")) == OTHER
        assert server.count() == 2
        assert server.requests[1].headers["cache-control"] == "no-cache"
        with pytest.raises(KeyNotFoundError):
            await source.get(KeyId("three"))
        assert server.count() == 2


@on_loop
async def test_a_key_set_that_forbids_caching_is_still_not_asked_too_often() -> None:
    clock = Clock()
    async with Server() as server, JwksUrlSource(server.url + "/jwks", clock=clock) as source:
        server.scripts["/jwks"] = reply(jwks(KEY), cache_control="no-store")
        results = await asyncio.gather(*(source.get(KID) for _ in range(100)))
        assert results == [KEY] * 100
        server.scripts["/jwks"] = reply(jwks(OTHER), cache_control="no-store")
        clock.pass_(JWKS_INTERVAL_SECONDS - 0.1)
        assert await source.get(KID) == KEY
        assert server.count() == 1
        clock.pass_(0.2)
        with pytest.raises(KeyNotFoundError):
            await source.get(KID)
        assert server.count() == 2


@on_loop
async def test_a_key_set_through_an_outage() -> None:
    clock = Clock()
    async with Server() as server, JwksUrlSource(server.url + "/jwks", clock=clock) as source:
        server.scripts["/jwks"] = reply("", 500)
        for _ in range(10):
            with pytest.raises(UnavailableError, match="answered 500"):
                await source.get(KID)
        assert server.count() == 1

        clock.pass_(JWKS_INTERVAL_SECONDS)
        server.scripts["/jwks"] = reply(jwks(KEY), cache_control="max-age=60")
        assert await source.get(KID) == KEY

        clock.pass_(JWKS_INTERVAL_SECONDS)
        server.scripts["/jwks"] = reply("", 500)
        for _ in range(10):
            with pytest.raises(UnavailableError, match="answered 500"):
                await source.get(KeyId("two"))  # it may well be there
            assert await source.get(KID) == KEY
        assert server.count() == 3

        clock.pass_(60)
        for _ in range(10):
            with pytest.raises(UnavailableError, match="answered 500"):
                await source.get(KID)
        assert server.count() == 4


@on_loop
async def test_an_unknown_id_waits_for_a_slow_key_set_and_known_ones_do_not() -> None:
    clock, go = Clock(), asyncio.Event()

    async def slow(_: Request, writer: asyncio.StreamWriter) -> None:
        await go.wait()
        writer.write(reply(jwks(KEY, OTHER)))
        await writer.drain()

    async with Server() as server, JwksUrlSource(server.url + "/jwks", clock=clock) as source:
        server.scripts["/jwks"] = reply(jwks(KEY), cache_control="max-age=60")
        await source.get(KID)
        clock.pass_(JWKS_INTERVAL_SECONDS)
        server.scripts["/jwks"] = slow
        unknown = [asyncio.create_task(source.get(KeyId("two"))) for _ in range(100)]
        await server.received(2)
        assert await source.get(KID) == KEY
        assert not any(task.done() for task in unknown)
        go.set()
        assert await asyncio.gather(*unknown) == [OTHER] * 100
        assert server.count() == 2


@on_loop
async def test_what_a_key_set_may_hold() -> None:
    clock = Clock()
    strange = '{"kty":"OKP","crv":"X25519","x":"AA","kid":"one"},{"kty":"RSA","alg":"RSA-OAEP","kid":"two"},7,'
    async with Server() as server, JwksUrlSource(server.url + "/jwks", clock=clock) as source:
        server.scripts["/jwks"] = reply(jwks(KEY, more=strange))
        assert await source.get(KID) == KEY
        assert await source.get(None) == KEY
        cases = {
            jwks(KEY, OTHER): KeyNotFoundError,
            jwks(): KeyNotFoundError,
            "<html>": UnavailableError,
            "{}": UnavailableError,
            JWK: UnavailableError,
            '{"keys":[{"kty":"AKP","alg":"ML-DSA-65"}]}': UnavailableError,
            jwks(more="1," * 2_000 + "1"): UnavailableError,
        }
        for body, error in cases.items():
            server.scripts["/jwks"] = reply(body)
            clock.pass_(JWKS_INTERVAL_SECONDS)
            with pytest.raises(error):
                await source.get(None)
        server.scripts["/jwks"] = reply("", 404)
        clock.pass_(JWKS_INTERVAL_SECONDS)
        with pytest.raises(KeyNotFoundError):
            await source.get(KID)


def test_a_proxy_that_cannot_be_used_is_a_matter_of_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://user:hunter2@localhost:1")
    with pytest.raises(ConfigError, match="proxy") as caught:
        Http()
    assert "hunter2" not in str(caught.value)
