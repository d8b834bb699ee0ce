"""What operators reach and relays and clients do not: bans, sessions, metrics, health and a status page.

The listener has no authentication: it is a unix socket, or loopback. So a web page that a browser on this machine shows
must not reach it either: a page of another site cannot send JSON, and one whose name was pointed to this machine sends
its own name in ``Host``.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec

from moq_token.server.http import HttpRequest, HttpResponse
from moq_token.server.operations import PATHS, Operations, fault
from moq_token.server.page import page
from moq_token.server.responses import JSON, NOT_FOUND, not_allowed
from moq_token.server.status import status
from moq_token.sources.urls import is_loopback

if TYPE_CHECKING:
    from collections.abc import Callable

    from moq_token.server.app import AuthServer
    from moq_token.server.metrics import Metrics

_NO_METRICS = HttpResponse(404, b'metrics need the extra `metrics`: pip install "moq-token[metrics]"\n')
_HEALTH = ("/healthz", "/readyz")
_FOR_MONITORS = ("/metrics", *_HEALTH)


class Admin:
    """Answers ``/sessions``, ``/bans``, ``/kick``, ``/metrics``, ``/healthz``, ``/readyz``, and the page ``/``.

    The page shows ``/status`` and the listings. Without ``metrics``, the extra is missing.
    """

    def __init__(self, server: AuthServer, metrics: Metrics | None, *, clock: Callable[[], float] = time.time) -> None:
        self._server = server
        self._metrics = metrics
        self._clock = clock
        self._started = clock()
        self._operations = Operations(server)

    async def handle(self, request: HttpRequest) -> HttpResponse:
        """Answer one HTTP request."""
        path = request.target.partition("?")[0]
        if path in _FOR_MONITORS:
            return await self._read(request, path)
        is_operation = path in PATHS or path.startswith("/bans/")
        if not is_operation and path not in {"/", "/status"}:
            return NOT_FOUND
        if not _is_loopback(request.headers.get("host", "localhost")):
            return fault(403, "the header field `host` must be localhost or a loopback address", "bad-host")
        return await (self._operate(request) if is_operation else self._read(request, path))

    async def _read(self, request: HttpRequest, path: str) -> HttpResponse:
        if request.method not in {"GET", "HEAD"}:
            return not_allowed("GET, HEAD")
        if path in _HEALTH:
            return await self._server.handle(request)
        if path == "/":
            return page()
        return await self._status() if path == "/status" else self._counted()

    async def _operate(self, request: HttpRequest) -> HttpResponse:
        if request.method == "POST" and request.headers.get("content-type", "").partition(";")[0].strip() != JSON:
            return fault(415, "expected `content-type: application/json`", "bad-content-type")
        return await self._operations.handle(request)

    async def _status(self) -> HttpResponse:
        problems = await self._server.problems()
        told = await status(self._server.live.current(), problems, started=self._started, now=self._clock())
        return HttpResponse(200, msgspec.json.encode(told), JSON)

    def _counted(self) -> HttpResponse:
        if self._metrics is None:
            return _NO_METRICS
        from moq_token.server.metrics import CONTENT_TYPE

        return HttpResponse(200, self._metrics.render(), CONTENT_TYPE)


def _is_loopback(host: str) -> bool:
    """Whether a ``Host`` names this machine as itself, with or without a port."""
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
    return is_loopback(name.lower().removeprefix("[").removesuffix("]"))
