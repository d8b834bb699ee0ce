"""A token endpoint as an ASGI application: it asks `authorize` what a client may do, and issues the credential."""

from __future__ import annotations

import asyncio
import inspect
import logging
import math
import re
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from typing import Any, NamedTuple, TypeAlias

import msgspec

from moq_token.claims import Claims
from moq_token.errors import (
    ConfigError,
    Error,
    InvalidTokenError,
    KeyNotFoundError,
    NotAdmittedError,
    RefusedError,
    UnavailableError,
    raised_at,
    shown,
)
from moq_token.issuing.issuer import Issuer
from moq_token.issuing.rate import Rate, network_of
from moq_token.issuing.request import (
    BadRequestError,
    GoneError,
    Receive,
    Scope,
    Send,
    TokenRequest,
    read_headers,
    read_request,
)
from moq_token.sources.source import sealed_coroutine

AUTHORIZE_SECONDS = 10.0
"""How long ``authorize`` may take."""
MAX_WAITING = 1000
"""Requests that wait for ``authorize`` at the same time. Further ones are answered 503."""

_MINUTE = 60.0
_RETRY_SECONDS = 5
_MAX_MESSAGE_CHARACTERS = 500
_MAX_REQUESTED_HEADERS = 1024
_PREFLIGHT_SECONDS = 600
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(?:\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::\d{1,5})?", re.ASCII)
_NAMES = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]+(?:[ \t]*,[ \t]*[a-z0-9!#$%&'*+.^_`|~-]+)*", re.ASCII | re.IGNORECASE)
_ALLOWED = ("allow", "OPTIONS, POST")

_log = logging.getLogger("moq_token.issuing")

Authorize: TypeAlias = Callable[[TokenRequest], Claims | Awaitable[Claims]]
"""Decides what a client may have. See ``endpoint()``."""


def endpoint(
    issuer: Issuer,
    authorize: Authorize,
    *,
    origins: Iterable[str] = (),
    per_minute: int = 30,
    clock: Callable[[], float] = time.monotonic,
) -> Callable[[Scope, Receive, Send], Coroutine[Any, Any, None]]:
    """Return a token endpoint, an ASGI 3 application: ``POST`` with JSON, answered 201 with a credential.

    Add it to the routes of an app: ``Route("/rooms/{room}/token", endpoint(issuer, authorize))`` in Starlette,
    ``app.router.routes.append(Route(…))`` in FastAPI. An ASGI server also runs it alone. The request is a JSON object,
    which may be empty; ``room_name`` and ``participant_identity`` are the members that clients for LiveKit send. The
    answer has the members of ``Credential.to_members()``, among them ``server_url`` and ``participant_token``.

    Parameters
    ----------
    issuer
        Signs the credentials.
    authorize
        Takes a ``TokenRequest``, and returns the ``Claims`` to issue: the root is the path to dial, the
        ``subject`` is required, ``expires`` is optional. It can be a coroutine function; a plain function is called in
        a thread. What it raises becomes the answer:

        - ``RefusedError``: 403, with its message and reason. ``NotAdmittedError``, ``InvalidTokenError``
          and ``KeyNotFoundError``: 401, for a client that is not signed in.
        - ``UnavailableError``, and more than 10 s: 503.
        - Any other exception, and claims that cannot be issued: 500. The log says where, the answer does not.
    origins
        The origins of web pages that may ask from elsewhere (CORS), such as ``"https://app.example.com"``; cookies are
        allowed. A page of the same origin as the endpoint needs no entry.
    per_minute
        How many credentials each subject gets in a minute, and how many requests of each address may be refused. Then
        the answer is 429, also for requests of this address that would not be refused. A network of IPv6 with 64 bits
        is one address. Each process counts for itself, and remembers 16,384 callers. Behind a proxy, set the server to
        trust its ``X-Forwarded-For``, or all clients have one address.
    clock
        Returns seconds on a clock that never goes back.

    The body may have at most 16 KiB, and must arrive within 10 s. Its content type must be ``application/json``, so
    that no other site can send it with a form. Every answer says ``no-store``. Errors are
    ``{"error": {"message": …, "reason": …}}``. The logger ``moq_token.issuing`` has a record at level INFO for each
    credential, with its ``subject``, ``jti`` and path, and at level ERROR for each answer 500. No record has a token.

    Raises ``ConfigError`` for an invalid origin or rate.

    """
    return _Endpoint(issuer, authorize, origins, per_minute, clock)


class _Answer(NamedTuple):
    status: int
    members: Mapping[str, object] | None = None
    headers: tuple[tuple[str, str], ...] = ()


class _Endpoint:
    """An object rather than a function, so that Starlette takes it for an application."""

    def __init__(
        self,
        issuer: Issuer,
        authorize: Authorize,
        origins: Iterable[str],
        per_minute: int,
        clock: Callable[[], float],
    ) -> None:
        if not isinstance(issuer, Issuer):
            raise TypeError(f"expected an Issuer, not {type(issuer).__name__}")
        if not callable(authorize):
            raise TypeError("`authorize` must be a function")
        if not isinstance(per_minute, int):
            raise TypeError(f"`per_minute` must be an int, not {type(per_minute).__name__}")
        if per_minute < 1:
            raise ConfigError("`per_minute` must be at least 1")
        self._issuer = issuer
        self._authorize = authorize
        self._is_async = any(map(inspect.iscoroutinefunction, (authorize, getattr(authorize, "__call__", None))))  # noqa: B004
        self._origins = _origins(origins)
        self._issued, self._refused = Rate(per_minute, _MINUTE, clock), Rate(per_minute, _MINUTE, clock)
        self._waiting = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._serve(scope, receive, send)

    @sealed_coroutine
    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _live(receive, send)
        elif scope["type"] != "http":  # a WebSocket, which the server then refuses with 403
            await send({"type": "websocket.close"})
        else:
            headers = read_headers(scope)
            try:
                answer = await self._respond(scope, headers, receive)
            except GoneError:
                return
            fields = [*self._cors(headers), *answer.headers, ("cache-control", "no-store")]
            body = b""
            if answer.members is not None:
                body = msgspec.json.encode(answer.members)
                fields += [("content-type", "application/json"), ("content-length", str(len(body)))]
            encoded = [(name.encode(), value.encode("latin-1")) for name, value in fields]
            await send({"type": "http.response.start", "status": answer.status, "headers": encoded})
            await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    def _cors(self, headers: Mapping[str, str]) -> list[tuple[str, str]]:
        """Return what lets the pages of an origin read the answer. From those of others, the browser hides it."""
        if not self._origins:
            return []
        fields = [("vary", "origin")]
        if headers.get("origin", "").lower() in self._origins:
            fields += [
                ("access-control-allow-origin", headers["origin"]),
                ("access-control-allow-credentials", "true"),
                ("access-control-expose-headers", "retry-after"),
            ]
        return fields

    async def _respond(self, scope: Scope, headers: Mapping[str, str], receive: Receive) -> _Answer:
        if scope["method"] == "OPTIONS":
            return self._preflight(headers)
        if scope["method"] != "POST":
            return _refusal(405, "send a POST request", "method-not-allowed", _ALLOWED)
        client = scope.get("client")
        caller = network_of(client[0]) if client else None
        if caller is not None and (seconds := self._refused.wait(caller)):
            return _too_many(seconds)
        answer = await self._decide(scope, headers, receive)
        if caller is not None and 400 <= answer.status < 500:  # noqa: PLR2004 - the class of statuses
            self._refused.take(caller)
        return answer

    def _preflight(self, headers: Mapping[str, str]) -> _Answer:
        """Answer the question of a browser whether a page may send a request (CORS protocol, "preflight")."""
        wanted = headers.get("access-control-request-headers", "")
        if "access-control-request-method" not in headers or headers.get("origin", "").lower() not in self._origins:
            return _Answer(204, headers=(_ALLOWED,))
        fields = [
            ("access-control-allow-methods", "POST"),
            ("access-control-max-age", str(_PREFLIGHT_SECONDS)),
            ("vary", "access-control-request-headers"),
        ]
        if len(wanted) <= _MAX_REQUESTED_HEADERS and _NAMES.fullmatch(wanted):
            fields.append(("access-control-allow-headers", wanted))
        return _Answer(204, headers=tuple(fields))

    async def _decide(self, scope: Scope, headers: Mapping[str, str], receive: Receive) -> _Answer:
        try:
            request = await read_request(scope, headers, receive)
        except BadRequestError as error:
            return _refusal(error.status, str(error), error.reason)
        return await self._authorized(request)

    async def _authorized(self, request: TokenRequest) -> _Answer:
        try:
            claims = await self._ask(request)
            if not isinstance(claims, Claims):
                # One of our errors, so that the log shows its text.
                raise ConfigError(f"`authorize` must return Claims, not {type(claims).__name__}")  # noqa: TRY301
            if claims.subject is not None and (seconds := self._issued.take(claims.subject)):
                return _too_many(seconds)
            credential = self._issuer.issue(claims)
        except RefusedError as error:
            is_unknown = isinstance(error, InvalidTokenError | KeyNotFoundError | NotAdmittedError)
            message = str(error) or ("sign in first" if is_unknown else "permission denied")
            if isinstance(error, KeyNotFoundError):  # its text may have the path of a file of the server
                message = "the key that signed the token is unknown"
            if is_unknown:
                return _refusal(401, message, error.reason, ("www-authenticate", "Bearer"))
            return _refusal(403, message, error.reason)
        except (UnavailableError, TimeoutError) as error:
            _log.warning("no credential is issued: %s", _described(error))
            retry = ("retry-after", str(_RETRY_SECONDS))
            return _refusal(503, "the service is unavailable, try again", "unavailable", retry)
        except BaseException as error:
            # A bug of the caller must not reach the client, nor stop the server as SystemExit would.
            if isinstance(error, KeyboardInterrupt | GeneratorExit) or _is_cancelled():
                raise
            _log.error("no credential is issued: %s", _described(error))
            return _refusal(500, "internal error", "internal")
        path = claims.root[:_MAX_MESSAGE_CHARACTERS]
        fields = {"event": "issued", "subject": credential.subject, "jti": credential.id, "path": path}
        _log.info("issued %s to %s at %s", credential.id, shown(credential.subject or ""), shown(path), extra=fields)
        return _Answer(201, credential.to_members())

    async def _ask(self, request: TokenRequest) -> object:
        if self._waiting >= MAX_WAITING:
            raise UnavailableError(f"{MAX_WAITING} requests are waiting for `authorize`")
        self._waiting += 1
        try:
            async with asyncio.timeout(AUTHORIZE_SECONDS):
                if self._is_async:
                    found: object = self._authorize(request)
                else:
                    found = await asyncio.to_thread(self._authorize, request)
                return await found if inspect.isawaitable(found) else found
        finally:
            self._waiting -= 1


def _origins(origins: Iterable[str]) -> frozenset[str]:
    if isinstance(origins, str) or not isinstance(origins, Iterable):
        raise TypeError(f"`origins` must be a list of origins, not {type(origins).__name__}")
    found = set()
    for origin in origins:
        if not isinstance(origin, str):
            raise TypeError(f"`origins` must contain str only, not {type(origin).__name__}")
        if not _ORIGIN.fullmatch(origin.lower()):
            raise ConfigError(f"`origins`: expected an origin such as https://app.example.com, got {shown(origin)}")
        found.add(origin.lower())
    return frozenset(found)


def _refusal(status: int, message: str, reason: str, *headers: tuple[str, str]) -> _Answer:
    return _Answer(status, {"error": {"message": message[:_MAX_MESSAGE_CHARACTERS], "reason": reason}}, headers)


def _too_many(seconds: float) -> _Answer:
    wait = math.ceil(seconds)
    return _refusal(429, f"too many requests: try again in {wait} s", "rate-limit", ("retry-after", str(wait)))


def _is_cancelled() -> bool:
    """Whether this task is being cancelled: `authorize` may also raise CancelledError itself."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _described(error: BaseException) -> str:
    """Describe an error for the log: ours by its text, others by type and place, as their text may hold a secret."""
    if isinstance(error, Error):
        return str(error)[:_MAX_MESSAGE_CHARACTERS]
    if isinstance(error, TimeoutError):
        return f"`authorize` timed out, it may take {AUTHORIZE_SECONDS:g} s"
    return f"{type(error).__name__} in {raised_at(error)}"


async def _live(receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})
