"""HTTP/1.1 for an auth server: one small protocol for asyncio, strict and bounded (RFC 9110, RFC 9112).

The parser is llhttp, through ``httptools``. One request at a time is answered per connection, in order. Nothing here
knows what is asked: a handler gets an ``HttpRequest`` and returns an ``HttpResponse``.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
import struct
import time
from collections import OrderedDict, deque
from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING, cast

import httptools

from moq_token.server import http
from moq_token.server.http import (
    BODILESS,
    KEPT,
    MAX_BODY_BYTES,
    MAX_CONNECTIONS,
    MAX_HEAD_BYTES,
    Caller,
    HttpRequest,
    HttpResponse,
)
from moq_token.server.responses import RETRY, bad, too_large, too_slow
from moq_token.server.tasks import start

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from moq_token.server.http import Handler

_log = logging.getLogger("moq_token.server")

# How long a client may go on sending after it was refused, so that it can read the answer before the reset.
LINGER_SECONDS = 2.0
# Requests that wait on one connection. A relay never sends a second one before it has the answer.
MAX_PIPELINED = 32
_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class _RefusedError(Exception):
    """A request that breaks a rule of HTTP or exceeds a bound; the connection ends with the answer."""

    def __init__(self, answer: HttpResponse) -> None:
        super().__init__()
        self.answer = answer


class HttpServer:
    """The connections of one server: makes the protocols of new ones, and closes all of them when it stops.

    Parameters
    ----------
    handler
        Answers a request: at once, or by a coroutine, which runs as a task of its own. It may raise nothing; what it
        raises all the same is answered with 500 and logged.
    max_connections
        The connection that has been idle for longest is closed for a new one beyond this many. Where none is idle, the
        new one is answered with 503.

    """

    def __init__(self, handler: Handler, *, max_connections: int = MAX_CONNECTIONS) -> None:
        self.handler = handler
        self.max_connections = max_connections
        self.connections: set[HttpProtocol] = set()
        self.idle: OrderedDict[HttpProtocol, None] = OrderedDict()
        self.stopping: bool = False
        self._empty: asyncio.Future[None] | None = None
        self._second = 0
        self._date = b""

    def protocol(self) -> HttpProtocol:
        """Make the protocol of a new connection: the factory for ``loop.create_server``."""
        return HttpProtocol(self)

    def date(self) -> bytes:
        """Return the header field ``date`` of this second."""
        second = int(time.time())
        if second != self._second:
            self._second = second
            self._date = f"date: {formatdate(second, usegmt=True)}\r\n".encode()
        return self._date

    async def stop(self, seconds: float) -> None:
        """Close what is idle, let answers under way be finished for at most this long, then close everything."""
        self.stopping = True
        for connection in list(self.connections):
            if connection.unused:
                connection.close()
        if self.connections:
            self._empty = asyncio.get_running_loop().create_future()
            await asyncio.wait([self._empty], timeout=seconds)
            for connection in list(self.connections):
                connection.abort()
            await self._empty

    def gone(self, connection: HttpProtocol) -> None:
        """Forget a connection that is lost."""
        self.connections.discard(connection)
        self.idle.pop(connection, None)
        if not self.connections and self._empty is not None and not self._empty.done():
            self._empty.set_result(None)


class HttpProtocol(asyncio.Protocol):
    """One connection: parses requests, has them answered one after the other, and enforces the bounds."""

    __slots__ = (
        "_answering",
        "_arriving",
        "_body",
        "_caller",
        "_closing",
        "_head_bytes",
        "_headers",
        "_in_head",
        "_local",
        "_loop",
        "_parser",
        "_paused",
        "_refusal",
        "_server",
        "_size",
        "_target",
        "_task",
        "_timer",
        "_transport",
        "_waiting",
    )

    def __init__(self, server: HttpServer) -> None:
        self._server = server
        self._parser = httptools.HttpRequestParser(self)
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._answering = False
        self._arriving = False
        self._closing = False
        self._paused = False
        self._refusal: HttpResponse | None = None
        self._local = False
        self._caller: Caller | None = None
        self._waiting: deque[tuple[HttpRequest, bool]] = deque()
        self._in_head = False
        self._head_bytes = 0
        self._target = b""
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []
        self._size = 0

    # -- what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take a new connection, or refuse it where there are too many."""
        self._transport = cast("asyncio.Transport", transport)
        peer = transport.get_extra_info("peername")
        self._local = _is_local(peer)
        if not isinstance(peer, tuple):
            self._caller = _caller_of(transport.get_extra_info("socket"))
        server = self._server
        is_full = len(server.connections) >= server.max_connections
        server.connections.add(self)
        if server.stopping:
            self.close()
        elif is_full and not server.idle:
            self._refuse(HttpResponse(503, b"too many connections\n", headers=RETRY))
        else:
            if is_full:
                next(iter(server.idle)).close()
            # Until it sends something, it is idle: clients that only connect do not block others.
            server.idle[self] = None
            self._arm(http.REQUEST_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - why it is lost makes no difference
        """Cancel the work for a client that has disconnected."""
        self._closing = True
        self._disarm()
        self._waiting.clear()
        if self._task is not None:
            self._task.cancel()
        self._server.gone(self)

    def data_received(self, data: bytes) -> None:
        """Parse what has arrived."""
        if self._closing or self._refusal is not None:
            return
        if self._in_head:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            cause = error.__context__
            if isinstance(cause, _RefusedError):
                self._refuse(cause.answer)
            elif isinstance(cause, KeyboardInterrupt | SystemExit):
                raise cause  # noqa: B904 - it came through the parser, which has nothing to say about it
            else:
                self._refuse(bad("the request is not valid HTTP/1.1"))
        else:
            if self._in_head and self._head_bytes > MAX_HEAD_BYTES:
                self._refuse(_head_too_large())
            elif self._arriving and self._timer is None:
                self._arm(http.REQUEST_SECONDS)

    def pause_writing(self) -> None:
        """Read no more from a client that does not read its answers."""
        self._paused = True
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        """Resume reading from a client that reads again."""
        self._paused = False
        if not self._waiting:
            self._transport.resume_reading()

    @property
    def unused(self) -> bool:
        """Whether no request is arriving or being answered."""
        return not self._answering and not self._arriving

    # -- what the parser calls

    def on_message_begin(self) -> None:
        """Start a request."""
        self._in_head = self._arriving = True
        self._head_bytes = 0
        self._target = b""
        self._headers = {}
        self._body = []
        self._size = 0
        self._server.idle.pop(self, None)

    def on_url(self, url: bytes) -> None:
        """Take a piece of the target."""
        self._target += url
        self._size += len(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header field that a handler may read. Fields after the body (trailers) count, and are dropped."""
        # Counted here too, because a whole head can arrive at once. Each field also has a colon, a space and CRLF.
        self._size += len(name) + len(value) + 4
        if not self._in_head:
            if self._size > MAX_BODY_BYTES:
                raise _RefusedError(too_large())
            return
        if self._size > MAX_HEAD_BYTES:
            raise _RefusedError(_head_too_large())
        field = KEPT.get(name.lower())
        if field is not None:
            if field in self._headers:
                raise _RefusedError(bad(f"duplicate header field `{field}`"))
            self._headers[field] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """Check the head before the body arrives."""
        self._in_head = False
        self._size = 0
        if self._parser.should_upgrade():
            raise _RefusedError(bad("connection upgrades are not supported"))
        headers = self._headers
        if "host" not in headers and self._parser.get_http_version() != "1.0":
            raise _RefusedError(bad("the header field `host` is missing"))
        if int(headers.pop("content-length", "0")) > MAX_BODY_BYTES:
            raise _RefusedError(too_large())
        if headers.pop("expect", "").lower() == "100-continue" and not self._answering:
            self._transport.write(_CONTINUE)

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body."""
        self._size += len(body)
        if self._size > MAX_BODY_BYTES:
            raise _RefusedError(too_large())
        self._body.append(body)

    def on_message_complete(self) -> None:
        """Answer the request, or let it wait for its turn."""
        self._arriving = False
        if self._timer is not None:
            self._disarm()
        request = HttpRequest(
            self._parser.get_method().decode("ascii"),
            self._target.decode("latin-1"),
            self._headers,
            self._body[0] if len(self._body) == 1 else b"".join(self._body),
            local=self._local,
            caller=self._caller,
        )
        keep = self._parser.should_keep_alive()
        if not self._answering:
            self._answer(request, keep=keep)
            return
        if len(self._waiting) >= MAX_PIPELINED:
            raise _RefusedError(bad(f"more than {MAX_PIPELINED} requests wait on one connection"))
        self._waiting.append((request, keep))
        self._transport.pause_reading()

    # -- answering

    def _answer(self, request: HttpRequest, *, keep: bool) -> None:
        self._answering = True
        try:
            answer = self._server.handler(request)
        except Exception as error:  # noqa: BLE001 - as below
            answer = _failed(error)
        if isinstance(answer, HttpResponse):
            self._answered(answer, request, keep=keep)
            return
        task = start(self._run(answer, request, keep=keep), self._loop)
        if not task.done():
            self._task = task

    async def _run(self, answer: Coroutine[None, None, HttpResponse], request: HttpRequest, *, keep: bool) -> None:
        try:
            response = await answer
        except asyncio.CancelledError:
            self.abort()  # the client has disconnected, or the handler has cancelled itself and gives no answer
            raise
        except Exception as error:  # noqa: BLE001 - one request that fails must not end the others, nor show its content
            response = _failed(error)
        self._task = None
        self._answered(response, request, keep=keep)

    def _answered(self, response: HttpResponse, request: HttpRequest, *, keep: bool) -> None:
        if self._closing:
            return
        keep = keep and not self._server.stopping
        self._write(response, keep=keep, head=request.method == "HEAD")
        self._answering = False
        if not keep:
            self.close()
        elif self._waiting:
            request, keep = self._waiting.popleft()
            self._answer(request, keep=keep)
            if not self._waiting and not self._paused:
                self._transport.resume_reading()
        elif self._refusal is not None:
            self._refuse(self._refusal)
        elif not self._arriving:
            self._server.idle[self] = None

    def _write(self, response: HttpResponse, *, keep: bool, head: bool = False) -> None:
        status, body, content_type, headers = response
        if not keep:
            headers += b"connection: close\r\n"
        start = _STATUS_LINES[status], self._server.date(), headers
        if status in BODILESS:
            self._transport.write(b"%b%b%b\r\n" % start)
            return
        described = content_type.encode(), len(body), b"" if head else body
        self._transport.write(b"%b%b%bcontent-type: %b\r\ncontent-length: %d\r\n\r\n%b" % (start + described))

    def _refuse(self, response: HttpResponse) -> None:
        """Answer an invalid request, and let the client read the answer before the connection ends."""
        if self._closing:
            return
        self._disarm()
        if self._answering:  # the requests before it have their answers first
            self._refusal = response
            self._arriving = False
            return
        self._write(response, keep=False)
        self._closing = True
        self._server.idle.pop(self, None)
        if self._transport.can_write_eof():
            self._transport.write_eof()
        self._timer = self._loop.call_later(LINGER_SECONDS, self._transport.abort)

    def _arm(self, seconds: float) -> None:
        self._timer = self._loop.call_later(seconds, self._too_slow)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_slow(self) -> None:
        self._timer = None
        if self._arriving:
            self._refuse(too_slow())
        else:
            self.close()

    def close(self) -> None:
        """End the connection after what is written."""
        self._closing = True
        self._server.idle.pop(self, None)
        self._transport.close()

    def abort(self) -> None:
        """End the connection now."""
        self._closing = True
        self._transport.abort()


def _failed(error: Exception) -> HttpResponse:
    _log.error("a request could not be answered: %s", type(error).__name__)
    return HttpResponse(500, b"internal error\n")


def _head_too_large() -> HttpResponse:
    return HttpResponse(431, f"the head of the request exceeds {MAX_HEAD_BYTES} bytes\n".encode())


def _caller_of(unix_socket: socket.socket | None) -> Caller | None:
    """Return the process at the other end, None on systems that do not tell it."""
    option = getattr(socket, "SO_PEERCRED", None)
    if unix_socket is None or option is None:
        return None
    try:
        return Caller._make(_CREDENTIALS.unpack(unix_socket.getsockopt(socket.SOL_SOCKET, option, _CREDENTIALS.size)))
    except (OSError, struct.error):
        return None


# struct ucred of Linux
_CREDENTIALS = struct.Struct("=iII")


def _is_local(peer: object) -> bool:
    """Whether the other side of a connection is this machine: a unix socket, whose name is not a tuple, or loopback."""
    if not isinstance(peer, tuple):
        return True
    try:
        address = ipaddress.ip_address(peer[0].partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return address.is_loopback or (mapped is not None and mapped.is_loopback)
