"""For any answer of a server and any jump of the clock, the result is a key, KeyNotFoundError or UnavailableError."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING
from unittest import mock

from hypothesis import HealthCheck, example, given, seed, settings
from hypothesis import strategies as st

from moq_token import Key, KeyId, KeyNotFoundError, UnavailableError
from moq_token.sources import Http, JwksUrlSource, UrlDirectorySource, UrlSource
from moq_token.sources import http as http_module
from moq_token.sources.source import UnusableKeyError
from tests.sources_server import Clock, Request, Server

if TYPE_CHECKING:
    from collections.abc import Sequence

    from moq_token.sources import KeySource

KEY = Key.generate("EdDSA", "one").to_public()
JWK, JWKS = KEY.to_json().encode(), b'{"keys":[' + KEY.to_json().encode() + b"]}"
YEAR_9999 = b"Fri, 31 Dec 9999 23:59:59 GMT"

NAMES = [
    *(b"age", b"cache-control", b"date", b"etag", b"expires", b"last-modified", b"pragma", b"vary", b"warning"),
    *(b"location", b"content-length", b"content-type", b"content-encoding", b"transfer-encoding", b"connection"),
    *(b"set-cookie", b"www-authenticate", b"retry-after", b"upgrade", b"x", b"", b" ", b"a b", b"\xc3\xa9", b"\0"),
]
VALUES = [
    *(b"", b" ", b"0", b"1", b"-1", b"5, 600", b"99999999999999999999", b"9" * 5_000, b"\xb2", b"1e9", b"0x10", b"NaN"),
    *(
        b"max-age=60",
        b"max-age=0",
        b"max-age=1",
        b"max-age=-1",
        b"max-age=" + b"9" * 5_000,
        b'max-age="60"',
        b"no-store",
    ),
    *(
        b"max-age=60, stale-if-error=" + b"9" * 30,
        b"no-cache",
        b"must-revalidate",
        b"max-age=\xb2",
        b"=,=",
        b'"',
        b",,,",
    ),
    *(
        b'"1"',
        b'"\xe9"',
        b'W/"1"',
        b'"\xf0\x9f\x94\x91"',
        b'"a\0b"',
        b'"' + b"e" * 20_000 + b'"',
        b"*",
        b"accept, \xff",
    ),
    *(YEAR_9999, b"Thu, 01 Jan 1970 00:00:00 GMT", b"Mon, 01 Jan 0001 00:00:00 GMT", b"Sat, 31 Feb 2026 25:61:61 GMT"),
    *(
        b"Mon, 01 Jan 99999 00:00:00 GMT",
        b"yesterday",
        b"Mon, 01 Jan 2024 00:00:00 +9999",
        b"Mon, 01 Jan 2024 00:00:00",
    ),
    *(
        b"/",
        b"//",
        b"http://",
        b"http://[",
        b"http://[::1",
        b"//\xc3\xa9/",
        b"/\xff",
        b"?",
        b"#",
        b"http://a:99999999/",
        b"\\",
    ),
    *(
        b"file:///etc/passwd",
        b"data:,x",
        b"http://xn--/",
        b"http://" + b"a" * 300 + b"/",
        b"/" + b"a" * 20_000,
        b"/a b\tc",
    ),
    *(
        b"chunked",
        b"gzip",
        b"identity",
        b"chunked, chunked",
        b"close",
        b"keep-alive",
        b"text/html",
        b"a/b; \xff",
        b"h2c",
    ),
]
STATUSES = [
    *(b"HTTP/1.1 200 OK", b"HTTP/1.1 200 OK", b"HTTP/1.1 200 OK", b"HTTP/1.1 304 Not Modified", b"HTTP/1.1 404 X"),
    *(
        b"HTTP/1.1 302 Found",
        b"HTTP/1.1 308 X",
        b"HTTP/1.1 503 X",
        b"HTTP/1.1 401 X",
        b"HTTP/1.1 100 X",
        b"HTTP/1.1 101 X",
    ),
    *(
        b"HTTP/1.1 204 X",
        b"HTTP/1.1 999 X",
        b"HTTP/1.1 600 \xff",
        b"HTTP/1.0 200 OK",
        b"HTTP/2 200",
        b"HTTP/1.1 2000 OK",
    ),
    *(b"HTTP/1.1 \xb2\xb2\xb2 OK", b"HTTP/1.1", b"", b"\0", b"SSH-2.0-x", b"HTTP/1.1 200 " + b"x" * 200_000),
]
BODIES = [
    *(
        JWK,
        JWK,
        JWKS,
        JWKS,
        b"",
        b"{",
        b"[]",
        b"null",
        b"{}",
        b"\0",
        b"\xff\xfe{\0}\0",
        b"\xef\xbb\xbf" + JWK,
        b"<html>",
    ),
    *(
        b'{"keys":' + b"[" * 100_000,
        b'{"keys":[' + b"{}," * 300_000 + b"{}]}",
        b"[" * 100_000,
        b" " * 2_000_000,
        b"a" * 99,
    ),
    *(b'{"keys":[1,null,{},[],"a"]}', b'{"kty":"RSA","n":1,"e":[]}', b'{"kty":"oct","k":"' + b"A" * 500_000 + b'"}'),
    *(
        b"5\r\nhello\r\n0\r\n\r\n",
        b"ffffffffffffffffff\r\n",
        b"-5\r\nhello",
        b"5\r\nhello\r\n0\r\na: b\r\n\xff\r\n\r\n",
    ),
]

value = st.sampled_from(VALUES) | st.binary(max_size=40)
header = st.tuples(st.sampled_from(NAMES) | st.binary(max_size=10), value)
answer = st.builds(
    lambda status, headers, body: (
        status + b"\r\n" + b"".join(name + b": " + value + b"\r\n" for name, value in headers) + b"\r\n" + body
    ),
    st.sampled_from(STATUSES) | st.binary(max_size=40),
    st.lists(header, max_size=6),
    st.sampled_from(BODIES) | st.binary(max_size=100),
)
step = st.sampled_from([0.0, 1.0, 5.0, 61.0, 1e6, 1e10, -1e6, -1e10]) | st.floats(-1e9, 1e9)


def ok(*headers: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\n" + b"".join(header + b"\r\n" for header in headers) + b"\r\n" + JWK


async def ask(answers: Sequence[tuple[bytes, float]]) -> None:
    clock, now = Clock(), [time.time()]
    current = b""

    async def reply(_: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(current)
        await writer.drain()

    class Anything(dict[str, object]):
        def get(self, *_: object) -> object:
            return reply

    with mock.patch.object(http_module, "TIMEOUT_SECONDS", 0.5), mock.patch("time.time", side_effect=lambda: now[0]):
        async with Server() as server, Http(clock=clock) as http:
            server.scripts = Anything()  # type: ignore[assignment]
            url = server.url.replace("//", "//user:hush@") + "/k?hush"
            sources: list[KeySource] = [
                source(url, http=http, clock=clock) for source in (UrlSource, UrlDirectorySource, JwksUrlSource)
            ]
            for current, seconds in answers:  # noqa: B007 - the server reads it
                for source in sources:
                    try:
                        assert await source.get(KeyId("one")) == KEY
                    except (KeyNotFoundError, UnavailableError) as error:
                        text = str(error)
                        assert type(error) in {KeyNotFoundError, UnavailableError, UnusableKeyError}  # noqa: PT017 - as it may pass too
                        assert text.isprintable()
                        assert len(text) < 500
                        assert "hush" not in text
                clock.pass_(max(0.0, seconds))
                now[0] = max(0.0, min(now[0] + seconds, 2**37))


@seed(8)
@settings(
    max_examples=75,
    deadline=None,
    suppress_health_check=(
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
        HealthCheck.filter_too_much,
        HealthCheck.large_base_example,
    ),
)
@given(st.lists(st.tuples(answer, step), min_size=1, max_size=3))
@example([(ok(b'etag: "\xe9"', b"cache-control: max-age=1"), 5.0)] * 3)
@example([(ok(b"expires: " + YEAR_9999, b"cache-control: stale-if-error=60"), 1e6), (ok(), -1e6), (b"", 1.0)])
@example([(ok(b"cache-control: max-age=" + b"9" * 5_000), 1.0)] * 2)
@example([(b"HTTP/1.1 302 Found\r\nlocation: http://[::1\r\n\r\n", 1.0)])
@example([(b"HTTP/1.1 302 Found\r\nlocation: /\xff\xfe\r\n\r\n", 1.0)])
def test_only_two_errors_leave_a_source(answers: list[tuple[bytes, float]]) -> None:
    asyncio.run(ask(answers))
