"""Ask what an auth server with given settings would answer about a dialed URL."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from moq_token.claims import Permissions
from moq_token.cli.output import run_quietly
from moq_token.errors import NotAdmittedError, RefusedError, UnavailableError

if TYPE_CHECKING:
    from moq_token.contract import Request
    from moq_token.trace import Check, Trace

# Which check a refusal of the policy belongs to. The others are about the key or about what was presented.
_CHECKS: dict[str, Check] = {
    "bad-claims": "claims",
    "bad-signature": "signature",
    "expired": "time",
    "malformed": "form",
    "no-access": "path",
    "no-mtls-grant": "certificate",
    "no-public-grant": "public",
    "not-yet-valid": "time",
    "root-mismatch": "path",
    "scope-exceeded": "scope",
    "useless": "grants",
    "wrong-algorithm": "algorithm",
}


def ask(config: str, request: Request, trace: Trace) -> Permissions:
    """Return what the auth server with this TOML would grant.

    Raises ``RefusedError``, ``UnavailableError`` and ``ConfigError``.
    """
    from moq_token.contract import Grant
    from moq_token.server.bounded import Bounded
    from moq_token.server.reading import read_settings
    from moq_token.server.run import Service

    service = Service(read_settings(config=config, environ=os.environ))

    async def asked() -> Grant:
        # Not within the lifespan of the server, which joins the share, and has the relays ask again.
        try:
            grant = await Bounded().ask(service.decide, request)
        finally:
            close = getattr(service.decide, "aclose", None)
            if close is not None:
                await close()
            await service.aclose()
        if not isinstance(grant, Grant):
            raise UnavailableError(f"the policy returned {type(grant).__name__}, not a Grant")
        return grant

    try:
        grant = run_quietly(asked())
    except RefusedError as error:
        trace.begin(_CHECKS.get(error.reason, "key"))
        raise
    trace.begin("path")
    return Permissions(tuple(grant.publish), tuple(grant.subscribe))


def request_of(url: str) -> Request:
    """Return what a relay sends about a client that dials this URL. Raises ``RefusedError`` (``bad-url``)."""
    from moq_token.contract import Event, Request

    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        raise NotAdmittedError("invalid URL: expected https://HOST/PATH?jwt=TOKEN", reason="bad-url") from None
    if not host:
        raise NotAdmittedError("this is not the URL of a relay: expected https://HOST/PATH?jwt=TOKEN", reason="bad-url")
    return Request(
        id="explain",
        event=Event.CONNECT,
        node="",
        transport="quic",
        server_name=host,
        path=parts.path or "/",
        query=parts.query or None,
    )
