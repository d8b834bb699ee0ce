"""The auth server: takes a policy, and answers relays of both generations over HTTP.

What a policy does is its own matter; what is promised here holds whatever it does. 403 is a verdict of the policy and
nothing else; every fault of the server's side is 503, which a relay takes for "could not tell".
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import time
from contextlib import asynccontextmanager
from hmac import compare_digest
from typing import TYPE_CHECKING, Literal, TypeAlias

from msgspec.structs import replace

from moq_token.auth.decision import kid_of
from moq_token.auth.lease import Instant
from moq_token.contract import Answer, Event, Grant, PublicPaths, Question, Request
from moq_token.errors import Error, InvalidGrantError, InvalidRequestError, RefusedError, UnavailableError
from moq_token.kid import KeyId
from moq_token.server import asgi
from moq_token.server.bounded import Bounded
from moq_token.server.http import HttpRequest, HttpResponse
from moq_token.server.keys import Problem
from moq_token.server.log import log
from moq_token.server.policy import presented
from moq_token.server.session import Admission, Kicked, Lost, Untracked
from moq_token.server.sessions import Sessions

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

    from moq_token.server.caps import Caps
    from moq_token.server.metrics import Metrics
    from moq_token.server.publish import PublishedKeys
    from moq_token.server.session import Effect, Session

    Decide: TypeAlias = Callable[[Request], Awaitable[Grant]]
    Lookup: TypeAlias = Callable[[Question], Awaitable[Answer]]

Contract: TypeAlias = Literal["post", "get", "both"]

_HEALTH = ("/healthz", "/readyz")
_KEYS = ("/keys/", "/.well-known/jwks.json")
_PUBLIC = "/public/"
_RETRY = b"retry-after: 1\r\n"
_NOT_FOUND = HttpResponse(404, b"not found\n")
_DIGEST_BYTES = 16
_MAX_TOLD_CHARACTERS = 512
_JSON = "application/json"


class AuthServer:
    """Answers relays as a policy decides.

    Parameters
    ----------
    decide
        An async function from a :class:`Request` to a :class:`Grant`, such as a :class:`Policy`. It raises
        :class:`RefusedError` for no, and :class:`UnavailableError` where it cannot tell. Whatever else it raises or
        returns, and a decision of more than 8 s, is answered with 503, so that no session ends for it.
    lookup
        The same for relay 0.14, from a :class:`Question` to an :class:`Answer`. None takes ``decide.lookup`` if there
        is one.
    caps
        How many sessions one token, address or subject may have (see :class:`Sessions`).
    contract
        Which relays are answered: ``post`` is 0.15 and later, ``get`` is 0.14, ``both``.
    max_age
        How often, in seconds, relay 0.14 asks again about a live session. None takes ``decide.revalidate``.
    secret
        ``user:password``, which every request must bring by HTTP Basic authentication; health checks excepted.
    share_secrets
        Give the secret of an HMAC key to relay 0.14, which cannot verify such tokens without it. Only to callers on
        this machine, and never through :attr:`asgi`.
    published
        What ``/keys/{kid}.jwk`` and ``/.well-known/jwks.json`` show; None for nothing.
    metrics
        Where decisions are counted.
    clock
        Returns the time in Unix seconds.
    steady
        Returns the time that passes, in seconds: sessions are lost by this clock, which nobody sets.

    """

    def __init__(
        self,
        decide: Decide,
        *,
        lookup: Lookup | None = None,
        caps: Caps | None = None,
        contract: Contract = "both",
        max_age: float | None = None,
        secret: str | None = None,
        share_secrets: bool = False,
        published: PublishedKeys | None = None,
        metrics: Metrics | None = None,
        clock: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self.sessions: Sessions = Sessions(caps)
        self.change_policy(decide, lookup=lookup, max_age=max_age)
        self._contract = contract
        # Whether relay 0.14 is answered.
        self._is_first = contract != "post" and self._lookup is not None
        self._paths = {*_HEALTH, *(["/"] if contract == "both" or self._is_first else [])}
        self._prefixes = (*([_PUBLIC] if self._is_first else []), *(_KEYS if published is not None else []))
        self.set_secret(secret)
        self._share_secrets = share_secrets
        self._published = published
        self._metrics = metrics
        if metrics is not None:
            metrics.watch(self.live)
        self._clock = clock
        self._steady = steady
        self._bounded = Bounded()
        # Digests of tokens differ from one start to the next: nobody can look a token up in an old log.
        self._digest_state = hashlib.blake2b(digest_size=_DIGEST_BYTES, key=os.urandom(_DIGEST_BYTES))

    def change_policy(self, decide: Decide, *, lookup: Lookup | None = None, max_age: float | None = None) -> None:
        """Replace the policy; the parameters are those of the class. Sessions go on."""
        self._decide = decide
        self._lookup: Lookup | None = getattr(decide, "lookup", None) if lookup is None else lookup
        self._max_age: float | None = getattr(decide, "revalidate", None) if max_age is None else max_age

    def set_secret(self, secret: str | None) -> None:
        """Replace the required secret (``user:password``); None removes it."""
        self._secret = None if secret is None else b"Basic " + base64.b64encode(secret.encode())

    @property
    def asgi(self) -> asgi.Application:
        """The server as an ASGI application, for a mount in FastAPI or Starlette, or for uvicorn or granian."""
        return asgi.application(self.handle, self.lifespan)

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Close what the policy holds open when the block is left."""
        try:
            yield
        finally:
            close = getattr(self._decide, "aclose", None)
            if close is not None:
                await close()

    async def handle(self, request: HttpRequest) -> HttpResponse:
        """Answer one HTTP request. Raises nothing but :class:`asyncio.CancelledError`."""
        try:
            return await self._handle(request)
        except (asyncio.CancelledError, KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001 - no fault of ours may look like a verdict, nor show its content
            log.error("a request could not be answered: %s", type(error).__name__, extra={"event": "fault"})
            return _unavailable()

    async def _handle(self, request: HttpRequest) -> HttpResponse:
        path, _, query = request.target.partition("?")
        if self._secret is not None and path not in _HEALTH:
            given = request.headers.get("authorization", "").encode("latin-1")
            if not compare_digest(given, self._secret):
                # Neither 401 nor 403, which would end the sessions of a relay whose secret is being replaced.
                log.warning("a request without the shared secret was not answered", extra={"event": "bad-secret"})
                return HttpResponse(400, b"the shared secret is missing or wrong (HTTP Basic authentication)\n")
        if path == "/" and request.method == "POST":
            return await self._post(request)
        return await self._get(request, path, query)

    # -- relays from 0.15 on

    async def _post(self, request: HttpRequest) -> HttpResponse:
        if self._contract == "get":
            return _not_allowed("GET, HEAD")
        if not _is_json(request.headers.get("content-type", "")):
            return HttpResponse(415, b"expected `content-type: application/json`\n")
        try:
            asked = Request.from_json(request.body)
        except InvalidRequestError as error:
            log.warning("%s", error, extra={"event": "invalid-request", "reason": error.reason})
            return HttpResponse(error.status, f"{error}\n".encode())
        if asked.event is Event.END:
            self._follow(self.sessions.handle(asked, self._now()).effects)
            return HttpResponse(204)
        if self._metrics is None:
            return await self._decided(asked)
        started = time.perf_counter()
        response = await self._decided(asked)
        self._metrics.took(asked.event, time.perf_counter() - started)
        return response

    async def _decided(self, asked: Request) -> HttpResponse:
        try:
            answer = await self._verdict(asked)
        except RefusedError as error:
            self._tell(asked, "refused", error.reason, str(error))
            return HttpResponse(403, _cut(str(error)).encode(errors="replace"))
        except UnavailableError as error:
            self._tell(asked, "unavailable", "unavailable", str(error))
            return _unavailable()
        if self._metrics is not None:
            self._metrics.decided(asked.event, "granted", "")
        return HttpResponse(200, answer, _JSON)

    async def _verdict(self, asked: Request) -> bytes:
        grant = await self._bounded.ask(self._decide, asked)
        if not isinstance(grant, Grant):
            raise UnavailableError(f"the policy returned {type(grant).__name__}, not a Grant")
        now = self._now()
        subject = None if grant.claims is None else grant.claims.subject
        try:
            admission = Admission.of(grant, now=now.unix, token=self._digest(asked), subject=subject)
        except InvalidGrantError as error:
            raise UnavailableError(f"the policy returned a grant that relays reject: {error}") from None
        outcome = self.sessions.handle(asked, now, admission)
        self._follow(outcome.effects)
        if outcome.refused is not None:
            raise RefusedError(outcome.refused.message, reason=outcome.refused.reason)
        return admission.grant

    def _digest(self, asked: Request) -> bytes | None:
        try:
            token = presented(asked)
        except RefusedError:
            return None
        if token is None:
            return None
        digest = self._digest_state.copy()
        digest.update(token.encode())
        return digest.digest()

    def _follow(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Kicked):
                extra = {"event": "kicked", "reason": effect.reason, "id": effect.session.id}
                log.info("a session is ended to make room for a newer one", extra=extra)
            elif isinstance(effect, Lost):
                log.info(
                    "a session was lost: its relay did not report its end",
                    extra={"event": "lost", "id": effect.session.id},
                )
                if self._metrics is not None:
                    self._metrics.lost()
            elif isinstance(effect, Untracked):
                log.warning("the table of sessions is full", extra={"event": "untracked", "id": effect.id})
            elif self._metrics is not None:
                self._metrics.ended()

    def _now(self) -> Instant:
        return Instant(self._clock(), self._steady())

    def live(self) -> Iterable[Session]:
        """Return the live sessions, after removing those that were lost meanwhile."""
        self._follow(self.sessions.advance(self._now()))
        return self.sessions

    def _tell(self, asked: Request, event: str, reason: str, message: str) -> None:
        digest = self._digest(asked)
        extra = {
            "event": event,
            "reason": reason,
            "asked": str(asked.event),
            "id": asked.id,
            "node": asked.node,
            "transport": asked.transport,
            "remote": asked.remote,
            "path": asked.path,
            "kid": _kid(asked),
            "token": None if digest is None else digest.hex(),
        }
        if self._metrics is not None:
            self._metrics.decided(asked.event, event, reason)
        level = log.warning if event == "unavailable" else log.info
        told = {name: _cut(value) for name, value in extra.items() if value is not None}
        level("%s: %s", event, _cut(message), extra=told)

    # -- relay 0.14, keys and health

    async def _get(self, request: HttpRequest, path: str, query: str) -> HttpResponse:
        """Answer what is not an event of a session."""
        if path not in self._paths and not path.startswith(self._prefixes):
            return _NOT_FOUND
        allowed = "GET, HEAD"
        if path == "/" and self._contract != "get":
            allowed = "GET, HEAD, POST" if self._is_first else "POST"
        if request.method not in allowed.split(", "):
            return _not_allowed(allowed)
        if path in _HEALTH:
            return await self._health(path)
        if path.startswith(_PUBLIC):
            return await self._look_up(Question(path.removeprefix(_PUBLIC)), local=False, public=True)
        if path == "/":
            return await self._question(query, local=request.local)
        assert self._published is not None  # noqa: S101 - its paths are open only then
        return await self._published.answer(path, request.headers.get("if-none-match"))

    async def _question(self, query: str, *, local: bool) -> HttpResponse:
        try:
            question = Question.from_query(query)
        except InvalidRequestError as error:
            return HttpResponse(error.status, f"{error}\n".encode())
        return await self._look_up(question, local=local, public=False)

    async def _look_up(self, question: Question, *, local: bool, public: bool) -> HttpResponse:
        try:
            answer = await self._answered(question, local=local)
        except RefusedError as error:
            extra = {"event": "refused", "reason": error.reason, "path": _cut(question.root)}
            log.info("refused: %s", _cut(str(error)), extra=extra)
            # Relay 0.14 admits a client certificate with everything on any answer but an error.
            if question.mtls:
                return _NOT_FOUND
            answer = Answer()
        except UnavailableError as error:
            log.warning("unavailable: %s", error, extra={"event": "unavailable", "path": _cut(question.root)})
            return _unavailable()
        document = (answer.public or PublicPaths()).to_json() if public else answer.to_json()
        return HttpResponse(200, document, _JSON, self._cache_control())

    async def _answered(self, question: Question, *, local: bool) -> Answer:
        assert self._lookup is not None  # noqa: S101 - the caller has seen to it
        answer = await self._bounded.ask(self._lookup, question)
        if not isinstance(answer, Answer):
            raise UnavailableError(f"the policy returned {type(answer).__name__}, not an Answer")
        if answer.key is not None and answer.key.algorithm.symmetric and not (self._share_secrets and local):
            if question.kid is not None or answer.public is None:  # a question without either can come from anybody
                message = "relay 0.14 needs the secret of the %s key itself, which is not shared"
                extra = {"event": "refused", "reason": "no-key-source", "path": _cut(question.root)}
                log.info(f"{message} (--share-secrets shares it on this machine)", answer.key.algorithm, extra=extra)
            # What is public stays so: the relay refuses the token for want of a key.
            return replace(answer, key=None)
        return answer

    def _cache_control(self) -> bytes:
        if self._max_age is None:
            return b"cache-control: no-store\r\n"
        return f"cache-control: no-store, max-age={max(1, int(self._max_age))}\r\n".encode()

    async def problems(self) -> list[Problem]:
        """Return what is wrong with the policy, such as keys that cannot be read. Raises nothing of the policy."""
        check = getattr(self._decide, "problems", None)
        try:
            return [] if check is None else await self._bounded.ask(check)
        except (RefusedError, UnavailableError) as error:
            return [Problem(f"the policy could not be checked: {error}", is_fatal=True)]

    async def _health(self, path: str) -> HttpResponse:
        if path == "/healthz":
            return HttpResponse(200, b"ok\n")
        problems = await self.problems()
        if not problems:
            return HttpResponse(200, b"ok\n")
        told = "".join(f"{'not ready' if is_fatal else 'degraded'}: {message}\n" for message, is_fatal in problems)
        if any(problem.is_fatal for problem in problems):
            return HttpResponse(503, told.encode(), headers=_RETRY)
        return HttpResponse(200, told.encode())


def _kid(asked: Request) -> str | None:
    """Return the ``kid`` that the presented token names, which nobody has verified, if it is a valid one."""
    try:
        token = presented(asked)
        kid = None if token is None else kid_of(token)
        return None if kid is None else KeyId(kid)
    except Error:
        return None


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_TOLD_CHARACTERS else f"{text[:_MAX_TOLD_CHARACTERS]}…"


def _is_json(content_type: str) -> bool:
    if content_type == _JSON:
        return True
    media_type = content_type.partition(";")[0].strip().lower()
    return media_type == _JSON or (media_type.startswith("application/") and media_type.endswith("+json"))


def _unavailable() -> HttpResponse:
    return HttpResponse(503, b"could not decide at the moment\n", headers=_RETRY)


def _not_allowed(methods: str) -> HttpResponse:
    return HttpResponse(405, b"method not allowed\n", headers=f"allow: {methods}\r\n".encode())
