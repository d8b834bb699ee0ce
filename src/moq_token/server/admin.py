"""Metrics, health and a status page for operators, on a separate listener that relays and clients do not reach."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec

from moq_token.server.http import HttpRequest, HttpResponse
from moq_token.server.page import page
from moq_token.server.status import status

if TYPE_CHECKING:
    from collections.abc import Callable

    from moq_token.server.app import AuthServer
    from moq_token.server.metrics import Metrics

_NO_METRICS = HttpResponse(404, b'metrics need the extra `metrics`: pip install "moq-token[metrics]"\n')
_HEALTH = ("/healthz", "/readyz")


class Admin:
    """Answers ``/metrics``, ``/healthz``, ``/readyz``, and ``/``, a page that shows ``/status`` and the listings.

    Without ``metrics``, the extra is missing.
    """

    def __init__(self, server: AuthServer, metrics: Metrics | None, *, clock: Callable[[], float] = time.time) -> None:
        self._server = server
        self._metrics = metrics
        self._clock = clock
        self._started = clock()

    async def handle(self, request: HttpRequest) -> HttpResponse:
        """Answer one HTTP request."""
        path = request.target.partition("?")[0]
        if path not in ("/", "/status", "/metrics", *_HEALTH):
            return HttpResponse(404, b"not found\n")
        if request.method not in {"GET", "HEAD"}:
            return HttpResponse(405, b"method not allowed\n", headers=b"allow: GET, HEAD\r\n")
        if path in _HEALTH:
            return await self._server.handle(request)
        if path == "/":
            return page()
        return await self._status() if path == "/status" else self._counted()

    async def _status(self) -> HttpResponse:
        problems = await self._server.problems()
        told = status(self._server.live(), problems, started=self._started, now=self._clock())
        return HttpResponse(200, msgspec.json.encode(told), "application/json")

    def _counted(self) -> HttpResponse:
        if self._metrics is None:
            return _NO_METRICS
        from moq_token.server.metrics import CONTENT_TYPE

        return HttpResponse(200, self._metrics.render(), CONTENT_TYPE)
