"""The ASGI door: the same answers inside somebody else's server, such as uvicorn, granian or a FastAPI app."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from moq_token.server import http
from moq_token.server.http import HttpRequest, HttpResponse

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, MutableMapping
    from contextlib import AbstractAsyncContextManager
    from typing import TypeAlias

    Scope: TypeAlias = Mapping[str, Any]
    Receive: TypeAlias = Callable[[], Awaitable[Mapping[str, Any]]]
    Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]
    Application: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]


def application(handler: http.Handler, lifespan: Callable[[], AbstractAsyncContextManager[object]]) -> Application:
    """Return an ASGI 3 application that answers as :mod:`moq_token.server.http` does.

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


async def _answer(handler: http.Handler, scope: Scope, receive: Receive, send: Send) -> None:
    try:
        async with asyncio.timeout(http.REQUEST_SECONDS):
            body = await _body(receive)
    except TimeoutError:
        response = HttpResponse(408, f"the request did not arrive within {http.REQUEST_SECONDS:.0f} s\n".encode())
    else:
        if body is None:
            response = http.too_large()
        else:
            response = await handler(_request(scope, body))
    headers = [tuple(line.split(b": ", 1)) for line in response.headers.split(b"\r\n") if line]
    if response.status not in http.BODILESS:
        headers.append((b"content-type", response.content_type.encode()))
        headers.append((b"content-length", b"%d" % len(response.body)))
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else response.body})


def _request(scope: Scope, body: bytes) -> HttpRequest:
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    if root and path.startswith(root):
        path = path[len(root) :]
    query = scope.get("query_string", b"").decode("latin-1")
    kept = (
        (field, value.decode("latin-1"))
        for name, value in scope["headers"]
        if (field := http.KEPT.get(name)) is not None
    )
    return HttpRequest(scope["method"], f"{path or '/'}?{query}" if query else path or "/", dict(kept), body)


async def _body(receive: Receive) -> bytes | None:
    """Read the body; None if it is too large. A client that disconnects gives what it has sent until then."""
    chunks: list[bytes] = []
    size = 0
    more = True
    while more:
        message = await receive()
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > http.MAX_BODY_BYTES:
            return None
        chunks.append(chunk)
        more = message.get("more_body", False)
    return b"".join(chunks)


async def _live(lifespan: Callable[[], AbstractAsyncContextManager[object]], receive: Receive, send: Send) -> None:
    await receive()
    try:
        async with lifespan():
            await send({"type": "lifespan.startup.complete"})
            await receive()
    except Exception as error:
        await send({"type": "lifespan.startup.failed", "message": str(error)})
        raise
    await send({"type": "lifespan.shutdown.complete"})
