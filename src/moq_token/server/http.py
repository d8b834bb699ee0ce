"""What handlers of HTTP get and give, and the bounds of a request, which every way to the server has."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

MAX_HEAD_BYTES = 16 * 1024
MAX_BODY_BYTES = 256 * 1024
# How long a request may take to arrive, from its first byte, or from the start of the connection.
REQUEST_SECONDS = 10.0
MAX_CONNECTIONS = 10_000

# The header fields that are read. All others are parsed and dropped.
KEPT = {
    b"authorization": "authorization",
    b"content-type": "content-type",
    b"if-none-match": "if-none-match",
    b"host": "host",
    b"expect": "expect",
    b"content-length": "content-length",
    b"transfer-encoding": "transfer-encoding",
}
# Answers that have no body, and so neither a type nor a length.
BODILESS = frozenset((204, 304))


class Caller(NamedTuple):
    """The process at the other end of a unix socket, as the system knows it from when it connected."""

    pid: int
    uid: int
    gid: int


class HttpRequest:
    """A request as it arrived.

    ``target`` is the path and query, undecoded; ``headers`` holds a few fields by name; ``local`` says that the client
    is on this machine; ``caller`` is its process, as far as it is known.
    """

    __slots__ = ("body", "caller", "headers", "local", "method", "target")

    def __init__(
        self,
        method: str,
        target: str,
        headers: dict[str, str],
        body: bytes,
        *,
        local: bool = False,
        caller: Caller | None = None,
    ) -> None:
        self.method: str = method
        self.target: str = target
        self.headers: dict[str, str] = headers
        self.body: bytes = body
        self.local: bool = local
        self.caller: Caller | None = caller


class HttpResponse(NamedTuple):
    """An answer. ``headers`` are further header lines, each ending in CRLF, without anything from a client in them."""

    status: int
    body: bytes = b""
    content_type: str = "text/plain; charset=utf-8"
    headers: bytes = b""


if TYPE_CHECKING:
    Answer = HttpResponse | Coroutine[None, None, HttpResponse]
    Handler = Callable[[HttpRequest], Answer]
