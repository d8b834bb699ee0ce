"""The status page for operators: one page without foreign resources, which reads the listings of the admin listener."""

from __future__ import annotations

import base64
import functools
import hashlib
import re
from importlib.resources import files
from typing import Final

from moq_token.server.http import HttpResponse

_INLINE: Final = re.compile(r"<(style|script)>(.*?)</\1>", re.DOTALL)


@functools.cache
def page() -> HttpResponse:
    """Return the page. Its policy permits its own style and script, by their digests, and nothing else."""
    html = files("moq_token.server").joinpath("page.html").read_text(encoding="utf-8")
    digests = {
        name: base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for name, text in _INLINE.findall(html)
    }
    policy = (
        "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; connect-src 'self'; "
        f"img-src data:; style-src 'sha256-{digests['style']}'; script-src 'sha256-{digests['script']}'"
    )
    headers = (
        f"content-security-policy: {policy}\r\n"
        "x-content-type-options: nosniff\r\nreferrer-policy: no-referrer\r\ncache-control: no-store\r\n"
    )
    return HttpResponse(200, html.encode(), "text/html; charset=utf-8", headers.encode())
