"""The requests in the bytes of one connection: strict and bounded HTTP/1.1 (RFC 9110, RFC 9112).

The parser is llhttp, through ``httptools``.
"""

from __future__ import annotations

from typing import Final, Protocol

import httptools

from moq_token.server.http import KEPT, MAX_BODY_BYTES, MAX_HEAD_BYTES, Caller, HttpRequest, HttpResponse
from moq_token.server.responses import bad, too_large

# Bytes of one request as it arrives. Beyond head and body, that is what encloses the chunks of a chunked body.
MAX_REQUEST_BYTES: Final = MAX_HEAD_BYTES + 4 * MAX_BODY_BYTES


class BadRequestError(Exception):
    """A request that breaks a rule of HTTP or exceeds a bound: the connection ends with the answer."""

    def __init__(self, answer: HttpResponse) -> None:
        super().__init__()
        self.answer = answer


class Receiver(Protocol):
    """Takes what the parser finds."""

    def request_begins(self) -> None:
        """Note the first byte of a request."""
        ...

    def request_expects(self) -> None:
        """Tell the client to send the body, for which it waits."""
        ...

    def request_arrived(self, request: HttpRequest, *, keep: bool) -> None:
        """Take a whole request. ``keep``: another one may follow on this connection."""
        ...


class RequestParser:
    """Parses the bytes of one connection, and passes each request to ``receiver``.

    ``local`` and ``caller`` are those of ``HttpRequest``, as all requests of a connection have the same.
    """

    __slots__ = (
        "_body",
        "_caller",
        "_headers",
        "_in_head",
        "_in_request",
        "_local",
        "_parser",
        "_received",
        "_receiver",
        "_size",
        "_target",
    )

    def __init__(self, receiver: Receiver, *, local: bool, caller: Caller | None) -> None:
        self._receiver = receiver
        self._local = local
        self._caller = caller
        self._parser = httptools.HttpRequestParser(self)
        self._in_request = self._in_head = False
        self._received = self._size = 0
        self._target = b""
        self._headers: dict[str, str] = {}
        self._body: bytes | bytearray = b""

    def feed(self, data: bytes) -> None:
        """Parse what has arrived. Raises ``BadRequestError``, after which no more may be fed."""
        self._received += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            cause = error.__context__
            if isinstance(cause, BadRequestError | KeyboardInterrupt | SystemExit):
                raise cause  # noqa: B904 - it came through the parser, which has nothing to say about it
            raise BadRequestError(bad("the request is not valid HTTP/1.1")) from None
        if self._in_head and self._received > MAX_HEAD_BYTES:
            raise BadRequestError(_head_too_large())
        if self._in_request and self._received > MAX_REQUEST_BYTES:
            raise BadRequestError(too_large())

    # -- what the parser calls

    def on_message_begin(self) -> None:
        """Start a request."""
        self._in_request = self._in_head = True
        self._received = self._size = 0
        self._target = b""
        self._headers = {}
        self._body = b""
        self._receiver.request_begins()

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
                raise BadRequestError(too_large())
            return
        if self._size > MAX_HEAD_BYTES:
            raise BadRequestError(_head_too_large())
        field = KEPT.get(name.lower())
        if field is not None:
            if field in self._headers:
                raise BadRequestError(bad(f"duplicate header field `{field}`"))
            self._headers[field] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """Check the head before the body arrives."""
        self._in_head = False
        self._size = 0
        if self._parser.should_upgrade():
            raise BadRequestError(bad("connection upgrades are not supported"))
        version = self._parser.get_http_version()
        if version not in {"1.1", "1.0"}:
            raise BadRequestError(HttpResponse(505, b"expected HTTP/1.1\n"))
        headers = self._headers
        if self._target[:1] != b"/":
            self._take_authority()
        if "host" not in headers and version == "1.1":
            raise BadRequestError(bad("the header field `host` is missing"))
        if int(headers.pop("content-length", "0")) > MAX_BODY_BYTES:
            raise BadRequestError(too_large())
        if "transfer-encoding" in headers and headers.pop("transfer-encoding").lower() != "chunked":
            raise BadRequestError(HttpResponse(501, b"the only supported transfer encoding is chunked\n"))
        if "expect" in headers and headers.pop("expect").lower() == "100-continue" and version == "1.1":
            self._receiver.request_expects()

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body."""
        self._size += len(body)
        if self._size > MAX_BODY_BYTES:
            raise BadRequestError(too_large())
        if not self._body:
            self._body = body
            return
        if isinstance(self._body, bytes):
            self._body = bytearray(self._body)
        self._body += body  # not a list of pieces, as small ones would take many times their length

    def on_message_complete(self) -> None:
        """Pass the request on."""
        self._in_request = False
        request = HttpRequest(
            self._parser.get_method().decode("ascii"),
            self._target.decode("latin-1"),
            self._headers,
            self._body if isinstance(self._body, bytes) else bytes(self._body),
            local=self._local,
            caller=self._caller,
        )
        self._receiver.request_arrived(request, keep=self._parser.should_keep_alive())

    def _take_authority(self) -> None:
        """Make a target with a scheme and an authority, as proxies get it, the usual one (RFC 9112, section 3.2.2)."""
        scheme, mark, rest = self._target.partition(b"://")
        if mark and scheme.lower() in {b"http", b"https"}:
            length = min((at for at in map(rest.find, (b"/", b"?")) if at >= 0), default=len(rest))
            self._headers["host"] = rest[:length].decode("latin-1")
            self._target = rest[length:] if rest[length : length + 1] == b"/" else b"/" + rest[length:]


def _head_too_large() -> HttpResponse:
    return HttpResponse(431, f"the head of the request exceeds {MAX_HEAD_BYTES} bytes\n".encode())
