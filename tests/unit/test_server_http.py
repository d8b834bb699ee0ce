"""The HTTP protocol of the auth server: raw bytes over loopback, and random bytes without a socket."""

from __future__ import annotations

import asyncio
import gc
import logging
import re
import ssl
import tracemalloc
from collections import Counter
from contextlib import asynccontextmanager, suppress
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moq_token.server import http, listen, parsing, protocol
from moq_token.server.http import MAX_BODY_BYTES, MAX_HEAD_BYTES, HttpRequest, HttpResponse
from moq_token.server.protocol import HttpServer
from tests.certificates import Authority

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine
    from pathlib import Path

POST = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"

CHUNKED = b"transfer-encoding: chunked\r\n\r\n2\r\n{}\r\n1\r\nx\r\n0\r\n\r\n"


async def echo(request: HttpRequest) -> HttpResponse:
    """Say what arrived."""
    headers = " ".join(f"{name}={value}" for name, value in sorted(request.headers.items()) if name != "host")
    return HttpResponse(200, f"{request.method} {request.target} {len(request.body)} {headers}".encode())


@asynccontextmanager
async def serving(
    handler: Callable[[HttpRequest], Coroutine[None, None, HttpResponse]] = echo, **settings: int
) -> AsyncIterator[tuple[HttpServer, Callable[[], Coroutine[None, None, Client]]]]:
    server = HttpServer(handler, **settings)
    listener = await asyncio.get_running_loop().create_server(server.protocol, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    clients: list[Client] = []

    async def dial() -> Client:
        client = Client(*await asyncio.open_connection("127.0.0.1", port))
        clients.append(client)
        return client

    try:
        yield server, dial
    finally:
        for client in clients:
            client.close()
        listener.close()
        await server.stop(5)
        await listener.wait_closed()
        assert not server.connections
        assert not server.awaiting


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def answer(self) -> tuple[int, bytes]:
        """Read one answer: its status and body."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = next((line for line in head.split(b"\r\n") if line.startswith(b"content-length: ")), b": 0")
        status = int(head.split(b" ")[1])
        body = await self.reader.readexactly(int(length.split(b": ")[1]))
        return status, body

    async def ask(self, data: bytes) -> tuple[int, bytes]:
        self.writer.write(data)
        return await self.answer()

    async def ended(self) -> bool:
        """Wait for the server to end the connection; whether nothing more came before that."""
        try:
            return await self.reader.read() == b""
        except ConnectionError:
            return True

    def close(self) -> None:
        self.writer.close()


def run(test: Callable[[], Coroutine[None, None, None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(60):
            await test()

    asyncio.run(bounded())


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (POST, b"POST / 2 content-type=application/json"),
        (b"GET /a%20b?x=1&y HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /a%20b?x=1&y 0 "),
        (
            b"POST / HTTP/1.1\r\nHost: x\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n1\r\nx\r\n0\r\n\r\n",
            b"POST / 3 ",
        ),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", b"POST / 0 "),
        (b"GET / HTTP/1.0\r\n\r\n", b"GET / 0 "),
        (b'GET / HTTP/1.1\r\nHost: x\r\nIf-None-Match: "a"\r\n\r\n', b'GET / 0 if-none-match="a"'),
        (b"GET http://x/y?z HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /y?z 0 "),
        (b"GET HTTPS://x HTTP/1.1\r\nHost: x\r\n\r\n", b"GET / 0 "),
        (b"GET http://x?a=/b HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /?a=/b 0 "),
        (b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", b"OPTIONS * 0 "),
        (b"POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n{}", b"POST / 2 "),
    ],
    ids=str,
)
def test_request_is_read(request_: bytes, expected: bytes) -> None:
    async def test() -> None:
        async with serving() as (_, dial):
            assert await (await dial()).ask(request_) == (200, expected)
            # The same, a byte at a time.
            client = await dial()
            for index in range(len(request_)):
                client.writer.write(request_[index : index + 1])
                await asyncio.sleep(0)
            assert await client.answer() == (200, expected)

    run(test)


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),  # TLS to a port without it
        (b"GET / HTTP/9.9\r\n\r\n", 400),
        (b"GET /\r\nHost: x\r\n\r\n", 505),
        (b"GET / HTTP/0.9\r\nHost: x\r\n\r\n", 505),
        (b"GET / HTTP/2.0\r\nHost: x\r\n\r\n", 505),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked, x\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (
            b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2;"
            + b"a" * 2 * parsing.MAX_REQUEST_BYTES,
            413,
        ),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: a\r\nAuthorization: b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nBad Header: 1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\n folded: 1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: a\x00b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\nHost: x\n\n", 400),
        (b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + bytes([65]) * MAX_HEAD_BYTES + b"\r\n\r\n", 431),
        (b"GET /" + b"a" * MAX_HEAD_BYTES + b" HTTP/1.1\r\nHost: x\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"a: b\r\n" * (MAX_HEAD_BYTES // 6) + b"\r\n", 431),
        (f"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {MAX_BODY_BYTES + 1}\r\n\r\n".encode(), 413),
        (
            f"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{MAX_BODY_BYTES + 1:x}\r\n".encode()
            + b"a" * (MAX_BODY_BYTES + 1),
            413,
        ),
    ],
    ids=lambda value: str(value)[:50],
)
def test_bad_request_is_answered_and_ends_the_connection(request_: bytes, status: int) -> None:
    async def test() -> None:
        async with serving() as (_, dial):
            for pieces in (1, 7):
                client = await dial()
                step = -(-len(request_) // pieces)
                for start in range(0, len(request_), step):
                    client.writer.write(request_[start : start + step])
                    await asyncio.sleep(0)
                assert (await client.answer())[0] == status
                assert await client.ended()

    run(test)


def test_trailers_are_dropped() -> None:
    """Trailers have a limit, and never change the head or the body of the request."""

    async def test() -> None:
        async with serving() as (_, dial):
            client = await dial()
            head = b"POST / HTTP/1.1\r\nHost: x\r\ntransfer-encoding: chunked\r\n\r\n"
            body = head + b"%x\r\n%b\r\n0\r\n" % (20_000, bytes(20_000))
            trailers = b"authorization: Basic eDp5\r\nhost: y\r\n"
            assert await client.ask(body + trailers + b"\r\n") == (200, b"POST / 20000 ")
            assert (await client.ask(body + b"a: b\r\n" * (MAX_BODY_BYTES // 6)))[0] == 413

    run(test)


def test_bounds_are_exact() -> None:
    async def test() -> None:
        async with serving() as (_, dial):
            client = await dial()
            body = b"a" * MAX_BODY_BYTES
            head = f"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            assert await client.ask(head + body) == (200, f"POST / {MAX_BODY_BYTES} ".encode())

    run(test)


def test_the_host_of_an_absolute_target_replaces_the_header_field() -> None:
    """RFC 9112, section 3.2.2. The administration listener decides by the host."""

    async def host(request: HttpRequest) -> HttpResponse:
        return HttpResponse(200, request.headers["host"].encode())

    async def test() -> None:
        async with serving(host) as (_, dial):
            client = await dial()
            assert await client.ask(b"GET http://evil:1/y HTTP/1.1\r\nHost: localhost\r\n\r\n") == (200, b"evil:1")

    run(test)


def test_a_body_in_small_chunks_takes_no_more_memory_than_its_length() -> None:
    async def test() -> None:
        server = HttpServer(echo)
        wire = Wire(server.protocol())
        wire.protocol.data_received(b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
        tracemalloc.start()
        for _ in range(64):
            wire.protocol.data_received(b"2\r\nab\r\n" * (MAX_BODY_BYTES // 2 // 64))
        used = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        assert MAX_BODY_BYTES < used < 2 * MAX_BODY_BYTES
        wire.close()

    run(test)


def test_connections_are_kept_and_closed_as_asked() -> None:
    async def test() -> None:
        async with serving() as (server, dial):
            client = await dial()
            for _ in range(3):
                assert (await client.ask(POST))[0] == 200
            assert len(server.awaiting) == 1
            assert (await client.ask(POST.replace(b"host: x", b"host: x\r\nconnection: close")))[0] == 200
            assert await client.ended()

    run(test)


def test_pipelined_requests_are_answered_in_order() -> None:
    async def slow(request: HttpRequest) -> HttpResponse:
        await asyncio.sleep(0.01 if request.target == "/0" else 0)
        return HttpResponse(200, request.target.encode())

    async def test() -> None:
        async with serving(slow) as (_, dial):
            client = await dial()
            count = protocol.MAX_PIPELINED
            client.writer.write(b"".join(b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % n for n in range(count)))
            assert [await client.answer() for _ in range(count)] == [(200, b"/%d" % n) for n in range(count)]
            assert (await client.ask(b"GET /again HTTP/1.1\r\nHost: x\r\n\r\n")) == (200, b"/again")

            flood = await dial()
            flood.writer.write(b"GET /0 HTTP/1.1\r\nHost: x\r\n\r\n" * (count + 2))
            # Those that were taken are answered before the one that is refused.
            assert [(await flood.answer())[0] for _ in range(count + 2)] == [200] * (count + 1) + [400]
            assert await flood.ended()

    run(test)


def test_expect_continue() -> None:
    async def test() -> None:
        async with serving() as (_, dial):
            client = await dial()
            client.writer.write(POST[:-2].replace(b"host: x", b"host: x\r\nExpect: 100-continue"))
            assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            assert (await client.ask(b"{}"))[0] == 200

            client = await dial()
            too_large = f"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: {10**9}\r\n\r\n"
            assert (await client.ask(too_large.encode()))[0] == 413

    run(test)


def test_head_and_empty_answers() -> None:
    async def answer(request: HttpRequest) -> HttpResponse:
        return HttpResponse(204) if request.target == "/204" else HttpResponse(200, b"body")

    async def test() -> None:
        async with serving(answer) as (_, dial):
            client = await dial()
            client.writer.write(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b"content-length: 4\r\n" in await client.reader.readuntil(b"\r\n\r\n")
            client.writer.write(b"GET /204 HTTP/1.1\r\nHost: x\r\n\r\n")
            head = await client.reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 204 No Content\r\ndate: ")
            assert b"content-length" not in head

    run(test)


@pytest.mark.parametrize("sent", [b"", b"POST / HT", POST[:30], POST[:-1]], ids=["nothing", "line", "head", "body"])
def test_a_request_that_does_not_arrive_is_given_up(monkeypatch: pytest.MonkeyPatch, sent: bytes) -> None:
    monkeypatch.setattr(http, "REQUEST_SECONDS", 0.2)

    async def test() -> None:
        async with serving() as (_, dial):
            client = await dial()
            client.writer.write(sent)
            if sent:
                assert (await client.answer())[0] == 408
            assert await client.ended()
            # The same on a connection that has had an answer: without a byte it is kept.
            with monkeypatch.context() as longer:
                longer.setattr(http, "REQUEST_SECONDS", 10)
                client = await dial()
                assert (await client.ask(POST))[0] == 200
            client.writer.write(sent)
            if sent:
                assert (await client.answer())[0] == 408
                assert await client.ended()
            else:
                await asyncio.sleep(0.4)
                monkeypatch.undo()
                assert (await client.ask(POST))[0] == 200

    run(test)


def test_a_drip_of_bytes_does_not_extend_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "REQUEST_SECONDS", 0.1)

    async def test() -> None:
        async with serving() as (_, dial):
            client = await dial()
            answering = asyncio.create_task(client.answer())
            for byte in POST:
                client.writer.write(bytes([byte]))
                await asyncio.wait((answering,), timeout=0.01)
                if answering.done():  # what is written to a closed connection could cost the answer
                    break
            assert (await answering)[0] == 408

    run(test)


def test_connections_are_bounded() -> None:
    started = asyncio.Event()

    async def hang(_: HttpRequest) -> HttpResponse:
        started.set()
        await asyncio.Event().wait()
        raise AssertionError

    async def test() -> None:
        async with serving(max_connections=2) as (server, dial):
            idle, busy = await dial(), await dial()
            assert (await idle.ask(POST))[0] == 200
            busy.writer.write(POST[:20])
            third = await dial()
            assert await idle.ended()  # the one that had been idle made room
            assert (await third.ask(POST))[0] == 200
            assert len(server.connections) == 2
        async with serving(hang, max_connections=1) as (server, dial):
            (await dial()).writer.write(POST)
            await started.wait()
            refused = await dial()
            assert (await refused.answer())[0] == 503
            assert await refused.ended()

    run(test)


def test_a_flood_of_connections_that_say_nothing_keeps_nobody_out() -> None:
    async def test() -> None:
        async with serving(max_connections=5) as (server, dial):
            flood = [await dial() for _ in range(5)]
            client = await dial()
            assert (await client.ask(POST))[0] == 200
            assert await flood[0].ended()
            flood += [await dial() for _ in range(20)]
            assert (await (await dial()).ask(POST))[0] == 200
            assert len(server.connections) <= 5

    run(test)


@pytest.mark.parametrize(
    "sent", [POST[:20], POST[:-1], b"\r\n", b"nonsense\r\n\r\n"], ids=["head", "body", "nothing", "bad"]
)
def test_a_flood_of_requests_that_do_not_arrive_keeps_nobody_out(sent: bytes) -> None:
    async def test() -> None:
        async with serving(max_connections=5) as (server, dial):
            for _ in range(20):
                (await dial()).writer.write(sent)
            client = await dial()
            assert (await client.ask(POST))[0] == 200
            assert (await (await dial()).ask(POST))[0] == 200
            assert len(server.connections) <= 6

    run(test)


def test_an_idle_connection_makes_room_before_one_with_a_request_on_its_way() -> None:
    async def test() -> None:
        async with serving(max_connections=2) as (_, dial):
            slow, idle = await dial(), await dial()
            slow.writer.write(POST[:-1])
            assert (await idle.ask(POST))[0] == 200
            slow.writer.write(POST[-1:])
            assert (await slow.answer())[0] == 200
            slow.writer.write(POST[:-1])
            await asyncio.sleep(0.01)
            assert (await (await dial()).ask(POST))[0] == 200
            assert await idle.ended()
            assert (await slow.ask(POST[-1:]))[0] == 200

    run(test)


def test_a_connection_that_comes_while_the_server_stops_is_closed() -> None:
    async def test() -> None:
        async with serving() as (server, dial):
            await server.stop(1)
            assert await (await dial()).ended()

    run(test)


def test_a_handler_that_cancels_itself_gives_no_answer() -> None:
    async def cancel(_: HttpRequest) -> HttpResponse:
        raise asyncio.CancelledError

    async def test() -> None:
        async with serving(cancel) as (_, dial):
            client = await dial()
            client.writer.write(POST)
            assert await client.ended()

    run(test)


def test_a_client_that_leaves_ends_the_work_for_it() -> None:
    async def test() -> None:
        cancelled, started = asyncio.Event(), asyncio.Event()

        async def hang(_: HttpRequest) -> HttpResponse:
            started.set()
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.set()
            raise AssertionError

        async with serving(hang) as (_, dial):
            client = await dial()
            client.writer.write(POST)
            await started.wait()
            client.writer.transport.abort()
            await cancelled.wait()

    run(test)


def test_a_handler_that_fails(caplog: pytest.LogCaptureFixture) -> None:
    async def fail(_: HttpRequest) -> HttpResponse:
        raise ValueError("secret")

    async def test() -> None:
        async with serving(fail) as (_, dial):
            client = await dial()
            assert await client.ask(POST) == (500, b"internal error\n")
            assert (await client.ask(POST))[0] == 500

    with caplog.at_level(logging.DEBUG):
        run(test)
    assert "ValueError" in caplog.text
    assert "secret" not in caplog.text


def test_stop_lets_answers_be_finished() -> None:
    async def test() -> None:
        go, started = asyncio.Event(), asyncio.Event()

        async def wait(request: HttpRequest) -> HttpResponse:
            if request.target == "/wait":
                started.set()
                await go.wait()
            return HttpResponse(200, b"done")

        async with serving(wait) as (server, dial):
            idle, fresh, busy, stuck = await dial(), await dial(), await dial(), await dial()
            assert (await idle.ask(POST))[0] == 200
            stuck.writer.write(POST[:20])
            busy.writer.write(POST.replace(b"/ ", b"/wait ", 1))
            await started.wait()
            stopping = asyncio.create_task(server.stop(1))
            assert await idle.ended()
            assert await fresh.ended()
            go.set()
            assert await busy.answer() == (200, b"done")
            assert await busy.ended()
            stuck.writer.write(POST[20:])
            assert (await stuck.answer())[0] == 200
            await stopping
            assert not server.connections

    run(test)


def test_stop_does_not_wait_for_ever() -> None:
    async def hang(_: HttpRequest) -> HttpResponse:
        await asyncio.Event().wait()
        raise AssertionError

    async def test() -> None:
        async with serving(hang) as (server, dial):
            client = await dial()
            client.writer.write(POST)
            await asyncio.sleep(0.01)
            await server.stop(0.05)
            assert await client.ended()

    run(test)


def test_a_client_that_does_not_read_is_not_read_from() -> None:
    async def large(_: HttpRequest) -> HttpResponse:
        return HttpResponse(200, bytes(1024 * 1024))

    async def test() -> None:
        async with serving(large) as (_, dial):
            client = await dial()
            for _ in range(20):
                client.writer.write(POST)
                await asyncio.sleep(0)
            for _ in range(20):
                assert await client.answer() == (200, bytes(1024 * 1024))

    run(test)


# -- fuzzing

# The parts of which hostile requests are made.
CORPUS = (
    *(b"POST / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\n", b"HEAD / HTTP/1.0\r\n", b"host: x\r\n", b"\r\n", b"\r", b"\n"),
    *(b"content-length: 2\r\n", b"content-length: 99999999999999999999\r\n", b"transfer-encoding: chunked\r\n"),
    *(b"2\r\n{}\r\n", b"0\r\n\r\n", b"{}", b"expect: 100-continue\r\n", b"connection: close\r\n", b": ", b"\0"),
    *(b"GET http://x/y HTTP/1.1\r\n", b"GET / HTTP/2.0\r\n", b"2;" + b"a" * 100_000),
    *(b"connection: upgrade\r\nupgrade: x\r\n", b"ffffffffffffffff\r\n", POST, b"\xff" * 40, b"a" * 5000),
    *(b"2;a=b\r\n{}\r\n", b"0\r\nhost: y\r\n\r\n", b"transfer-encoding: gzip\r\n", b"authorization: Basic eDp5\r\n"),
    *(
        b"GET " + b"/a" * 9000,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01",
        b" folded\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 262145\r\n\r\n",
        CHUNKED,
    ),
)
PIECES = st.sampled_from(CORPUS)


@settings(max_examples=60)
@given(st.lists(st.lists(st.one_of(PIECES, st.binary(max_size=20)), max_size=12), min_size=1, max_size=4))
def test_any_bytes_are_survived(streams: list[list[bytes]]) -> None:
    async def test() -> None:
        async with serving() as (_, dial):
            for pieces in streams:
                client = await dial()
                for piece in pieces:
                    client.writer.write(piece)
                    await asyncio.sleep(0)
                with suppress(OSError):
                    client.writer.write_eof()
                await client.ended()
            assert (await (await dial()).ask(POST))[0] == 200

    run(test)


class Wire(asyncio.Transport):
    """A transport without a socket, which keeps what is written."""

    def __init__(self, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self.protocol = protocol
        self.written = b""
        self.open = True
        protocol.connection_made(self)

    def get_extra_info(self, name: str, default: Any = None) -> Any:  # noqa: ANN401 - as in asyncio
        return ("127.0.0.1", 1) if name == "peername" else default

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert self.open
        self.written += data

    def write_eof(self) -> None:
        assert self.open

    def can_write_eof(self) -> bool:
        return True

    def pause_reading(self) -> None:
        """Read on: the bounds must hold without this."""

    def resume_reading(self) -> None:
        """Do as above."""

    def close(self) -> None:
        if self.open:
            self.open = False
            self.protocol.connection_lost(None)

    abort = close


ANSWER = re.compile(
    rb"HTTP/1\.1 (?:100 Continue\r\n\r\n|(\d{3}) [^\r\n]+\r\n(?:[a-z-]+: [^\r\n]*\r\n)*?content-length: (\d+)\r\n\r\n)"
)


def statuses(written: bytes) -> list[int]:
    """Read whole answers, one after the other, with nothing between them."""
    found: list[int] = []
    while written:
        head = ANSWER.match(written)
        assert head is not None, written[:200]
        found += [int(head[1])] if head[1] else []
        written = written[head.end() + int(head[2] or 0) :]
    return found


def mutated(random: Random) -> bytes:
    start = [POST] * random.randint(0, 2)
    data = bytearray(b"".join(start + random.choices(CORPUS, k=random.randint(1, 10))))
    for _ in range(random.choice((0, 0, 1, 3))):
        place = random.randint(0, len(data))
        data[place : place + random.randint(0, 3)] = random.randbytes(random.randint(0, 3))
    return bytes(data)


def fuzz(streams: int) -> None:
    random = Random(7)  # noqa: S311 - the same streams each time
    answered: Counter[int] = Counter()

    async def handler(request: HttpRequest) -> HttpResponse:
        assert len(request.body) <= MAX_BODY_BYTES
        assert sum(map(len, request.headers.values())) + len(request.target) <= MAX_HEAD_BYTES
        if request.target == "/" and not random.randrange(3):
            await asyncio.sleep(0)
        return HttpResponse(200, b"x" * random.randrange(3))

    async def batch(server: HttpServer, count: int) -> None:
        for _ in range(count):
            wire = Wire(server.protocol())
            data, sent = mutated(random), 0
            while sent < len(data) and wire.open:
                step = random.choice((1, 7, 100, len(data)))
                wire.protocol.data_received(data[sent : sent + step])
                sent += step
                if not random.randrange(20):
                    await asyncio.sleep(0)
            for _ in range(3 * protocol.MAX_PIPELINED):
                await asyncio.sleep(0)
            answered.update(statuses(wire.written))
            wire.close()
        assert not server.connections
        assert not server.awaiting

    async def test() -> None:
        errors: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
        server = HttpServer(handler)
        await batch(server, streams // 4)
        gc.collect()
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        await batch(server, streams)
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0] - before
        tracemalloc.stop()
        assert not errors
        assert len(asyncio.all_tasks()) == 1
        assert grown < 200_000, grown

    asyncio.run(test())
    # It has shown something only if good requests and all kinds of bad ones were among them.
    assert {200, 400, 413, 431} <= answered.keys() <= {200, 400, 413, 431, 501, 505}
    assert answered[200] > streams / 10


def test_a_fuzz_finds_nothing() -> None:
    fuzz(1000)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_long_fuzz_finds_nothing() -> None:
    fuzz(100_000)


# -- TLS


async def dial_tls(port: int, context: ssl.SSLContext) -> Client:
    """Connect, again if a busy machine has made the handshake take too long."""
    while True:
        with suppress(ConnectionError, ssl.SSLError):
            return Client(*await asyncio.open_connection("127.0.0.1", port, ssl=context))


@pytest.mark.parametrize("sent", [b"", b"\x16\x03\x01", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", bytes(range(256)) * 80])
def test_a_handshake_that_is_slow_or_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, sent: bytes) -> None:
    """The server closes such a connection, and still answers other clients."""
    monkeypatch.setattr(listen, "HANDSHAKE_SECONDS", 0.5)
    authority = Authority(tmp_path, "ca")
    tls = listen.server_tls(*authority.issue("server", "127.0.0.1"))
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.load_verify_locations(authority.root)
    errors: list[dict[str, Any]] = []

    async def test() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
        async with listen.listening(echo, listen.TcpAddress("127.0.0.1", 0), tls) as running:
            assert isinstance(running.address, listen.TcpAddress)
            port = running.address.port
            bad = [Client(*await asyncio.open_connection("127.0.0.1", port)) for _ in range(20)]
            for client in bad:
                client.writer.write(sent)
            good = await dial_tls(port, trusting)
            assert (await good.ask(POST))[0] == 200
            for client in bad:
                with suppress(ConnectionError):
                    await client.reader.read()
                client.close()
            assert (await good.ask(POST))[0] == 200
            assert len(running.http.connections) == 1
            good.close()
            await asyncio.sleep(0.05)

    run(test)
    assert all(isinstance(error.get("exception"), ConnectionError | ssl.SSLError) for error in errors)


def test_the_log_says_why_a_handshake_failed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    authority, stranger = Authority(tmp_path, "ca"), Authority(tmp_path, "stranger")
    tls = listen.server_tls(*authority.issue("server", "127.0.0.1"), authority.root)

    def client(trusted: str, *certificate: str) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(trusted)
        if certificate:
            context.load_cert_chain(*certificate)
        return context

    async def dial(port: int, context: ssl.SSLContext | None, sent: bytes = b"") -> None:
        with suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
            writer.write(sent)
            await reader.read()
            writer.close()

    async def test() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        async with listen.listening(echo, listen.TcpAddress("127.0.0.1", 0), tls) as running:
            assert isinstance(running.address, listen.TcpAddress)
            port = running.address.port
            await dial(port, client(authority.root))
            await dial(port, client(authority.root, *stranger.issue("other", "127.0.0.1")))
            await dial(port, None, POST)

    run(test)
    failed = [record.getMessage() for record in caplog.records if getattr(record, "event", None) == "tls-failed"]
    start = "a TLS handshake failed: "
    assert len(failed) == 3
    assert failed[0] == f"{start}peer did not return a certificate"
    assert failed[1].startswith(f"{start}certificate verify failed: ")
    assert failed[2] == f"{start}http request"
