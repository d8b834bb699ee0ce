"""Metrics and health for operators, on a separate listener that relays and their clients do not reach."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moq_token.server.http import HttpRequest, HttpResponse

if TYPE_CHECKING:
    from moq_token.server.app import AuthServer
    from moq_token.server.metrics import Metrics

_NO_METRICS = HttpResponse(404, b'metrics need the extra `metrics`: pip install "moq-token[metrics]"\n')
_HEALTH = ("/healthz", "/readyz")


class Admin:
    """Answers ``/metrics``, ``/healthz`` and ``/readyz``. Without ``metrics``, the extra is missing."""

    def __init__(self, server: AuthServer, metrics: Metrics | None) -> None:
        self._server = server
        self._metrics = metrics

    async def handle(self, request: HttpRequest) -> HttpResponse:
        """Answer one HTTP request."""
        path = request.target.partition("?")[0]
        if path not in ("/metrics", *_HEALTH):
            return HttpResponse(404, b"not found\n")
        if request.method not in {"GET", "HEAD"}:
            return HttpResponse(405, b"method not allowed\n", headers=b"allow: GET, HEAD\r\n")
        if path in _HEALTH:
            return await self._server.handle(request)
        if self._metrics is None:
            return _NO_METRICS
        from moq_token.server.metrics import CONTENT_TYPE

        return HttpResponse(200, self._metrics.render(), CONTENT_TYPE)
