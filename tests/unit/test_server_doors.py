"""The same tests for each front of the auth server: its own HTTP protocol, and ASGI under uvicorn and granian.

An ASGI application sees only complete request heads, so some limits are those of the outer server. The tables mark
them.
"""

from __future__ import annotations

import json
import socket
import struct
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any

import pytest

from moq_token.server.http import MAX_BODY_BYTES, MAX_HEAD_BYTES
from tests import doors

if TYPE_CHECKING:
    from collections.abc import Iterator

OUTER = ("uvicorn", "granian")
SECONDS = 60.0

BODY = json.dumps({"id": "1", "event": "connect", "node": "", "transport": "quic", "path": "/room"}).encode()
GRANT = b'{"subscribe":["**"]}'


@pytest.fixture(scope="module", params=["own", *OUTER])
def door(request: pytest.FixtureRequest) -> Iterator[tuple[str, int]]:
    with doors.running(request.param) as port:
        yield request.param, port


def post(body: bytes = BODY, head: bytes = b"", *, content_type: bytes = b"application/json") -> bytes:
    lines = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: %b\r\nContent-Length: %d\r\n%b\r\n"
    return lines % (content_type, len(body), head) + body


def chunked(*chunks: bytes, trailer: bytes = b"") -> bytes:
    head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    return (
        head
        + b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks if chunk)
        + b"0\r\n"
        + trailer
        + b"\r\n"
    )


def line(method: str, target: str, head: str = "") -> bytes:
    return f"{method} {target} HTTP/1.1\r\nHost: x\r\n{head}\r\n".encode()


class Client:
    """A connection, and the answers that come over it."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection((doors.HOST, port), SECONDS)
        self._file = self.socket.makefile("rb")

    def ask(self, *data: bytes, method: str = "POST") -> tuple[int, bytes]:
        try:
            for piece in data:
                self.socket.sendall(piece)
        except ConnectionError:
            pass  # it answered before everything was sent
        return self.answer(method)

    def answer(self, method: str = "POST") -> tuple[int, bytes]:
        """Return the status and the body of an answer; 0 for a connection that ends without one."""
        try:
            first = self._file.readline()
            if not first.startswith(b"HTTP/1."):
                return 0, b""  # nothing, or HTTP/2, which granian speaks too
            status = int(first.split(b" ")[1])
            headers: dict[bytes, bytes] = {}
            while (field := self._file.readline().strip()) != b"":
                name, _, value = field.partition(b":")
                headers[name.lower()] = value.strip()
            if status == 100:
                return status, b""
            length = 0 if method == "HEAD" or status in {204, 304} else int(headers.get(b"content-length", b"-1"))
            return status, self._file.read(length)
        except ConnectionError:
            return 0, b""

    def ended(self) -> bool:
        """Wait for the other side to end the connection; whether nothing more came before that."""
        try:
            return self._file.read(1) == b""
        except ConnectionError:
            return True

    def reset(self) -> None:
        """Close the connection without sending anything."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self) -> None:
        self._file.close()
        self.socket.close()


def ask(port: int, *data: bytes, method: str = "POST") -> tuple[int, bytes]:
    with closing(Client(port)) as client:
        return client.ask(*data, method=method)


def test_decisions(door: tuple[str, int]) -> None:
    _, port = door
    with closing(Client(port)) as client:
        assert client.ask(post()) == (200, GRANT)
        assert client.ask(post(BODY.replace(b"/room", b"/no"))) == (403, b"no")
        assert client.ask(post(BODY.replace(b"connect", b"end"))) == (204, b"")
        assert client.ask(post(BODY.replace(b"/room", b"/slow"))) == (200, GRANT)
        for _ in range(20):
            assert client.ask(post()) == (200, GRANT)


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        *(("GET", "/healthz", 200), ("HEAD", "/healthz", 200), ("POST", "/healthz", 405), ("GET", "/readyz", 200)),
        *(("GET", "/?root=a", 200), ("HEAD", "/?root=a", 200), ("GET", "/", 422), ("GET", "/?root=a&root=b", 400)),
        *(("GET", "/public/a%20b", 200), ("GET", "/public/", 200), ("PUT", "/", 405), ("DELETE", "/public/a", 405)),
        *(("GET", "/nosuch", 404), ("POST", "/nosuch", 404), ("GET", "/keys/a.jwk", 404), ("GET", "//", 404)),
        *(("GET", "/healthz/", 404), ("GET", "/healthz?x=1", 200), ("GET", "/HEALTHZ", 404), ("OPTIONS", "/", 405)),
    ],
)
def test_methods_and_paths(door: tuple[str, int], method: str, target: str, status: int) -> None:
    assert ask(door[1], line(method, target), method=method)[0] == status


def test_the_query_and_path_arrive_undecoded(door: tuple[str, int]) -> None:
    assert ask(door[1], line("GET", "/?root=a%2Fb+c%25")) == (200, b'{"tier":"a/b c%"}')
    assert ask(door[1], line("GET", "/?root=%C3%A9")) == (200, '{"tier":"é"}'.encode())


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        *((b"application/json", 200), (b"Application/JSON; charset=utf-8", 200), (b"application/x+json", 200)),
        *((b"text/plain", 415), (b"application/jsonx", 415), (b"", 415), (b"x/y+json", 415), (b"+json", 415)),
    ],
)
def test_content_types(door: tuple[str, int], content_type: bytes, status: int) -> None:
    assert ask(door[1], post(content_type=content_type))[0] == status


@pytest.mark.parametrize(
    ("body", "status"),
    [
        *((b"", 400), (b"{", 400), (b"{}", 422), (b"[]", 422), (b"\xff", 400), (b'{"a":1,' * 3, 400)),
        *((BODY.replace(b"connect", b"other"), 422), (BODY.replace(b'{"id"', b'{"id": "2", "id"'), 400)),
        (b"[" * 100_000, 400),
        (b" " * (MAX_BODY_BYTES - len(BODY)) + BODY, 200),
        (b" " * (MAX_BODY_BYTES - len(BODY) + 1) + BODY, 413),
        (b"x" * 4 * MAX_BODY_BYTES, 413),
    ],
    ids=lambda value: str(value)[:20],
)
def test_bodies(door: tuple[str, int], body: bytes, status: int) -> None:
    name, port = door
    found = {ask(port, post(body))[0], ask(port, chunked(body[: len(body) // 2], body[len(body) // 2 :]))[0]}
    # A server that closes while the client still sends may reset the connection before the client has read.
    allowed = {status, 0} if status == 413 and name in OUTER else {status}
    assert found <= allowed
    assert ask(port, post())[0] == 200


def test_chunks(door: tuple[str, int]) -> None:
    name, port = door
    assert ask(port, chunked(*(BODY[index : index + 1] for index in range(len(BODY))))) == (200, GRANT)
    # What comes after the body counts for nothing.
    with closing(Client(port)) as client:
        found = client.ask(chunked(BODY, trailer=b"Content-Type: text/plain\r\nHost: y\r\n"))
        assert found == (200, GRANT) or (name in OUTER and found[0] == 400)
    for bad in (b"zz\r\n", b"-1\r\n", b"ffffffffffffffffff\r\n", b"5\r\nabc"):
        with closing(Client(port)) as client:
            client.socket.sendall(chunked()[: -len(b"0\r\n\r\n")] + bad)
            with suppress(OSError):  # it has closed already
                client.socket.shutdown(socket.SHUT_WR)
            status, _ = client.answer()
            assert status in ({0, 400} if name == "own" else {0, 400, 408, 500}), bad


@pytest.mark.parametrize(
    "data",
    [
        *(b"nonsense\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 9, b"GET / HTTP/9.9\r\n\r\n"),
        *(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nx", b"GET /\0 HTTP/1.1\r\nHost: x\r\n\r\n", b"\r\n" * 1000),
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1e3\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nBad Header: 1\r\n\r\n",
        b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n",
        post(head=b"Authorization: a\r\nAuthorization: b\r\n"),
        post(head=b"Transfer-Encoding: chunked\r\n"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_what_is_no_http_is_no_verdict(door: tuple[str, int], data: bytes) -> None:
    name, port = door
    with closing(Client(port)) as client:
        client.socket.sendall(data)
        with suppress(OSError):  # it has closed already
            client.socket.shutdown(socket.SHUT_WR)
        status, _ = client.answer()
        # An outer server may close without a word, or take the request for one of an older HTTP.
        assert status in ({0, 400, 408} if name == "own" else {0, 400, 404, 405, 408, 415, 422, 500, 501, 505})
    assert ask(port, post())[0] == 200


def test_huge_heads(door: tuple[str, int]) -> None:
    name, port = door
    for huge in (
        line("GET", "/healthz?" + "a" * MAX_HEAD_BYTES),
        line("GET", "/healthz", f"X: {'a' * MAX_HEAD_BYTES}\r\n"),
        line("GET", "/healthz", "a: b\r\n" * (MAX_HEAD_BYTES // 6 + 1)),
        line("GET", "/healthz", f"X: {'a' * 4_000_000}\r\n"),
    ):
        status, _ = ask(port, huge)
        if name == "own":
            assert status == 431
        else:  # the outer server's bound, which is wider
            assert status in {0, 200, 400, 414, 431}
    assert ask(port, line("GET", "/healthz", f"X: {'a' * (MAX_HEAD_BYTES - 100)}\r\n"))[0] == 200


def test_expect(door: tuple[str, int]) -> None:
    with closing(Client(door[1])) as client:
        whole = post(head=b"Expect: 100-continue\r\n")
        assert client.ask(whole[: -len(BODY)]) == (100, b"")
        assert client.ask(BODY) == (200, GRANT)


def test_pipelining(door: tuple[str, int]) -> None:
    with closing(Client(door[1])) as client:
        first = client.ask(post(BODY.replace(b"/room", b"/slow")) + post(BODY.replace(b"/room", b"/no")) + post())
        assert [first, client.answer(), client.answer()] == [(200, GRANT), (403, b"no"), (200, GRANT)]


def test_connections_end_when_they_should(door: tuple[str, int]) -> None:
    with closing(Client(door[1])) as client:
        assert client.ask(post(head=b"Connection: close\r\n")) == (200, GRANT)
        assert client.ended()
    with closing(Client(door[1])) as client:
        assert client.ask(b"GET /healthz HTTP/1.0\r\n\r\n") == (200, b"ok\n")
        assert client.ended()


@pytest.mark.parametrize(
    "sent", [post()[:-1], chunked(BODY)[:-9], post(head=b"Expect: 100-continue\r\n")[: -len(BODY)]]
)
def test_slow_bodies(door: tuple[str, int], sent: bytes) -> None:
    with closing(Client(door[1])) as client:
        status, _ = client.ask(sent)
        if status == 100:
            status, _ = client.answer()
        assert status == 408


@pytest.mark.parametrize("sent", [b"", b"POST / HT", post()[:40]])
def test_slow_heads(door: tuple[str, int], sent: bytes) -> None:
    name, port = door
    if name in OUTER:
        pytest.skip("an ASGI application sees no unfinished head: that is the outer server's bound")
    with closing(Client(port)) as client:
        assert client.ask(sent)[0] == (408 if sent else 0)
        assert client.ended()


def test_clients_that_leave(door: tuple[str, int]) -> None:
    """The client leaves after any byte, with or without closing properly, and during the decision."""
    _, port = door
    slow = post(BODY.replace(b"/room", b"/slow"))
    for data in (slow, chunked(BODY)):
        for length in (0, 1, 20, len(data) // 2, len(data) - 1, len(data)):
            for leave in Client.close, Client.reset:
                client = Client(port)
                client.socket.sendall(data[:length])
                leave(client)
    assert ask(port, post()) == (200, GRANT)


def test_floods(door: tuple[str, int]) -> None:
    """Hundreds of connections that send nothing, or half a request, do not block other clients."""
    _, port = door
    flood = [Client(port) for _ in range(300)]
    try:
        for client in flood[::2]:
            client.socket.sendall(post()[:50])
        assert ask(port, post()) == (200, GRANT)
    finally:
        for client in flood:
            client.close()
    assert ask(port, post()) == (200, GRANT)


def test_requests_at_the_same_time(door: tuple[str, int]) -> None:
    clients = [Client(door[1]) for _ in range(50)]
    try:
        for client in clients:
            client.socket.sendall(post(BODY.replace(b"/room", b"/slow")))
        assert {client.answer() for client in clients} == {(200, GRANT)}
    finally:
        for client in clients:
            client.close()


def test_a_mounted_application_sees_its_own_paths() -> None:
    """In a FastAPI app below a prefix, percent-encoded characters of the path arrive unchanged."""
    import asyncio

    from fastapi import FastAPI

    app = FastAPI()
    app.mount("/auth", doors.app)

    async def asked(path: str) -> tuple[int, bytes]:
        sent: list[Any] = []

        async def receive() -> dict[str, object]:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:  # noqa: ANN401
            sent.append(message)

        decoded = path.replace("%20", " ")
        scope: dict[str, Any] = {"type": "http", "method": "GET", "path": decoded, "raw_path": path.encode()}
        scope |= {"query_string": b"root=a", "headers": [], "root_path": "", "http_version": "1.1", "scheme": "http"}
        await app(scope, receive, send)
        return sent[0]["status"], sent[1]["body"]

    assert asyncio.run(asked("/auth/")) == (200, b'{"tier":"a"}')
    assert asyncio.run(asked("/auth/healthz")) == (200, b"ok\n")
    assert asyncio.run(asked("/auth/public/a%20b"))[0] == 200
    assert asyncio.run(asked("/healthz"))[0] == 404
