"""The HTTP responses that several parts of the server give."""

from __future__ import annotations

from typing import Final

from moq_token.server import http
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


def bad(reason: str) -> HttpResponse:
    """Return the answer to a request that breaks a rule of HTTP."""
    return HttpResponse(400, f"{reason}\n".encode())


def too_large() -> HttpResponse:
    """Return the answer to a body beyond the bound."""
    return HttpResponse(413, f"the body exceeds {http.MAX_BODY_BYTES} bytes\n".encode())


def too_slow() -> HttpResponse:
    """Return the answer to a request that takes too long to arrive."""
    return HttpResponse(408, f"the request did not arrive within {http.REQUEST_SECONDS:.0f} s\n".encode())
