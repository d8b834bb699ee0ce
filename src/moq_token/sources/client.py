"""What the HTTP clients of the sources have in common: no cookies, no redirects of their own, bounded connecting."""

from __future__ import annotations

from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import TYPE_CHECKING, Any

from moq_token.errors import ConfigError, UnavailableError
from moq_token.sources.tls import Tls, make_context

if TYPE_CHECKING:
    from collections.abc import Mapping

    import httpx2

    from moq_token.sources.tls import TlsOptions

_CONNECT_SHARE = 0.4


def new_client(
    headers: Mapping[str, str],
    tls: TlsOptions | None,
    seconds: float,
    **options: Any,  # noqa: ANN401 - those of the client
) -> httpx2.AsyncClient:
    """Make a client. Its caller follows redirects, and ends a request after ``seconds``.

    Raises ``ConfigError`` for TLS files that cannot be used, and for an invalid proxy in the environment.
    ``httpx2`` must be installed.
    """
    import httpx2

    context = make_context(Tls() if tls is None else tls)
    try:
        return httpx2.AsyncClient(
            verify=context,
            headers=headers,
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),  # they would accumulate
            follow_redirects=False,
            # While it connects the client has to give up by itself, before its caller does: a connection that is
            # cancelled then leaves its socket open.
            timeout=httpx2.Timeout(None, connect=seconds * _CONNECT_SHARE),
            **options,
        )
    except (ImportError, ValueError, httpx2.InvalidURL):
        pass
    # Outside the handler: the error there quotes the variable, which may hold a password.
    raise ConfigError("invalid proxy in the environment. Check HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY")


async def read_body(response: httpx2.Response, name: str, limit: int) -> bytes:
    """Read the body of an answer of the server called ``name``.

    Raises ``UnavailableError`` if it is compressed, which was not asked for, or has more than ``limit`` bytes.
    """
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        raise UnavailableError(f"{name} sent a compressed answer, though the request did not allow it")
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > limit:
            raise UnavailableError(f"{name} sent an answer of more than {limit} bytes")
    return bytes(body)
