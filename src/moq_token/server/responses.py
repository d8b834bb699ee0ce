"""The HTTP responses that several parts of the server give."""

from __future__ import annotations

from typing import Final

from moq_token.server.http import HttpResponse

JSON: Final = "application/json"
RETRY: Final = b"retry-after: 1\r\n"
NOT_FOUND: Final = HttpResponse(404, b"not found\n")


def not_allowed(methods: str) -> HttpResponse:
    """Return the answer to a method that is not one of ``methods``."""
    return HttpResponse(405, b"method not allowed\n", headers=f"allow: {methods}\r\n".encode())


def unavailable(message: bytes = b"could not decide at the moment\n") -> HttpResponse:
    """Return the answer where there is no verdict: 503, on which a relay lets its sessions go on."""
    return HttpResponse(503, message, headers=RETRY)
