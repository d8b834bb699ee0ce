"""HTTP/1.1 for an auth server: one small protocol for asyncio, which bounds connections and their time.

One request at a time is answered per connection, in order. Nothing here knows what is asked: a handler gets an
``HttpRequest`` and returns an ``HttpResponse``.
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

from moq_token.server import http
from moq_token.server.http import BODILESS, MAX_CONNECTIONS, Caller, HttpRequest, HttpResponse
from moq_token.server.parsing import BadRequestError, RequestParser
from moq_token.server.responses import RETRY, bad, too_slow
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


class HttpServer:
    """The connections of one server: makes the protocols of new ones, and closes all of them when it stops.

    Parameters
    ----------
    handler
        Answers a request: at once, or by a coroutine, which runs as a task of its own. It may raise nothing; what it
        raises all the same is answered with 500 and logged.
    max_connections
        Beyond this many, a new connection takes the place of the one that has waited for its client for longest,
        idle or in the middle of a request. Where an answer is under way on all of them, it is answered with 503.

    """

    def __init__(self, handler: Handler, *, max_connections: int = MAX_CONNECTIONS) -> None:
        self.handler = handler
        self.max_connections = max_connections
        self.connections: set[HttpProtocol] = set()
        # Those that wait for their client, and so may be closed for a new one; the next to be closed is the first.
        self.awaiting: OrderedDict[HttpProtocol, None] = OrderedDict()
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
        self.awaiting.pop(connection, None)
        if not self.connections and self._empty is not None and not self._empty.done():
            self._empty.set_result(None)


class HttpProtocol(asyncio.Protocol):
    """One connection: has its requests answered one after the other, and closes it in time."""

    __slots__ = (
        "_answering",
        "_arriving",
        "_closing",
        "_loop",
        "_parser",
        "_paused",
        "_refusal",
        "_server",
        "_task",
        "_timer",
        "_transport",
        "_waiting",
    )

    def __init__(self, server: HttpServer) -> None:
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._answering = False
        self._arriving = False
        self._closing = False
        self._paused = False
        self._refusal: HttpResponse | None = None
        self._waiting: deque[tuple[HttpRequest, bool]] = deque()

    # -- what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take a new connection, or refuse it where there are too many."""
        self._transport = cast("asyncio.Transport", transport)
        peer = transport.get_extra_info("peername")
        caller = None if isinstance(peer, tuple) else _caller_of(transport.get_extra_info("socket"))
        self._parser = RequestParser(self, local=_is_local(peer), caller=caller)
        server = self._server
        is_full = len(server.connections) >= server.max_connections
        server.connections.add(self)
        if server.stopping:
            self.close()
        elif is_full and not server.awaiting:
            self._refuse(HttpResponse(503, b"too many connections\n", headers=RETRY))
        else:
            if is_full:
                next(iter(server.awaiting)).close()
            server.awaiting[self] = None
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
        try:
            self._parser.feed(data)
        except BadRequestError as error:
            self._refuse(error.answer)
        else:
            if self._arriving and self._timer is None:
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

    def request_begins(self) -> None:
        """Note the first byte of a request."""
        self._arriving = True
        if not self._answering:
            self._server.awaiting.move_to_end(self)

    def request_expects(self) -> None:
        """Tell the client to send the body, unless an answer is under way."""
        if not self._answering:
            self._transport.write(_CONTINUE)

    def request_arrived(self, request: HttpRequest, *, keep: bool) -> None:
        """Answer the request, or let it wait for its turn."""
        self._arriving = False
        if self._timer is not None:
            self._disarm()
        if not self._answering:
            self._answer(request, keep=keep)
            return
        if len(self._waiting) >= MAX_PIPELINED:
            raise BadRequestError(bad(f"more than {MAX_PIPELINED} requests wait on one connection"))
        self._waiting.append((request, keep))
        self._transport.pause_reading()

    # -- answering

    def _answer(self, request: HttpRequest, *, keep: bool) -> None:
        self._answering = True
        self._server.awaiting.pop(self, None)
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
        else:
            self._server.awaiting[self] = None

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
        self._server.awaiting[self] = None
        self._server.awaiting.move_to_end(self, last=False)
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
        self._server.awaiting.pop(self, None)
        self._transport.close()

    def abort(self) -> None:
        """End the connection now."""
        self._closing = True
        self._transport.abort()


def _failed(error: Exception) -> HttpResponse:
    _log.error("a request could not be answered: %s", type(error).__name__)
    return HttpResponse(500, b"internal error\n")


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
