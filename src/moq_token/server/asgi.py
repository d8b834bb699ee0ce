"""The ASGI application: the same answers inside another server, such as uvicorn, granian or a FastAPI app."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from moq_token.server import http
from moq_token.server.http import HttpRequest, HttpResponse
from moq_token.server.responses import bad, too_large, too_slow

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, MutableMapping
    from contextlib import AbstractAsyncContextManager
    from typing import TypeAlias

    Scope: TypeAlias = Mapping[str, Any]
    Receive: TypeAlias = Callable[[], Awaitable[Mapping[str, Any]]]
    Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]
    Handler: TypeAlias = Callable[[HttpRequest], Awaitable[HttpResponse]]
    Application: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]


def application(handler: Handler, lifespan: Callable[[], AbstractAsyncContextManager[object]]) -> Application:
    """Return an ASGI 3 application that answers as ``moq_token.server.protocol`` does.

    ``lifespan`` is entered when the server starts and left when it stops. A server or framework that runs no lifespan
    for this application has to enter it itself. Bodies have the same bounds in size and time; the size of a request's
    head, idle connections and slow handshakes are the outer server's part.
    """

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await _answer(handler, scope, receive, send)
        elif scope["type"] == "lifespan":
            await _live(lifespan, receive, send)
        else:  # a WebSocket, which the outer server then refuses with 403
            await send({"type": "websocket.close"})

    return application


async def _answer(handler: Handler, scope: Scope, receive: Receive, send: Send) -> None:
    try:
        async with asyncio.timeout(http.REQUEST_SECONDS):
            body = await _body(receive)
    except _GoneError:
        return
    except TimeoutError:
        response = too_slow()
    else:
        if body is None:
            response = too_large()
        else:
            request = _request(scope, body)
            response = bad("duplicate header field") if request is None else await handler(request)
    headers = [tuple(line.split(b": ", 1)) for line in response.headers.split(b"\r\n") if line]
    if response.status not in http.BODILESS:
        headers.append((b"content-type", response.content_type.encode()))
        headers.append((b"content-length", b"%d" % len(response.body)))
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else response.body})


class _GoneError(Exception):
    """The client has disconnected."""


def _request(scope: Scope, body: bytes) -> HttpRequest | None:
    """Return the request, None if one of the fields that are read occurs twice."""
    path = (scope.get("raw_path") or quote(scope["path"]).encode()).partition(b"?")[0].decode("latin-1")
    # Where the application is mounted, which servers and frameworks leave in the path.
    path = path.removeprefix(quote(scope.get("root_path", "")))
    query = scope.get("query_string", b"").decode("latin-1")
    kept = [(http.KEPT[name], value.decode("latin-1")) for name, value in scope["headers"] if name in http.KEPT]
    headers = dict(kept)
    if len(headers) != len(kept):
        return None
    return HttpRequest(scope["method"], f"{path or '/'}?{query}" if query else path or "/", headers, body)


async def _body(receive: Receive) -> bytes | None:
    """Read the body; None if it is too large. Raises ``_GoneError`` for a client that disconnects meanwhile."""
    body = bytearray()  # not a list of pieces, as small ones would take many times their length
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _GoneError
        body += message.get("body", b"")
        if len(body) > http.MAX_BODY_BYTES:
            return None
        more = message.get("more_body", False)
    return bytes(body)


async def _live(lifespan: Callable[[], AbstractAsyncContextManager[object]], receive: Receive, send: Send) -> None:
    await receive()
    stage = "startup"
    try:
        async with lifespan():
            await send({"type": "lifespan.startup.complete"})
            await receive()
            stage = "shutdown"
    except Exception as error:
        # Only the type: the server logs it, and its text could show an address with a password.
        await send({"type": f"lifespan.{stage}.failed", "message": type(error).__name__})
        raise
    await send({"type": "lifespan.shutdown.complete"})
