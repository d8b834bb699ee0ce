"""The auth server: takes a policy, and answers relays of both generations over HTTP.

What a policy does is its own matter; what is promised here holds whatever it does. 403 is a verdict of the policy and
nothing else; every fault of the server's side is 503, which a relay takes for "could not tell".
"""

from __future__ import annotations

import asyncio
import base64
import os
import time
from contextlib import asynccontextmanager, nullcontext
from hmac import compare_digest
from typing import TYPE_CHECKING, Literal, TypeAlias

from msgspec.structs import replace

from moq_token.auth.lease import Instant
from moq_token.contract import Answer, Event, Grant, PublicPaths, Question, Request
from moq_token.errors import InvalidGrantError, InvalidRequestError, RefusedError, UnavailableError
from moq_token.server import asgi
from moq_token.server.bounded import Bounded
from moq_token.server.denial import Facts
from moq_token.server.http import HttpRequest, HttpResponse
from moq_token.server.identity import digest, identify, kid_of, token_of
from moq_token.server.keys import Problem
from moq_token.server.log import log
from moq_token.server.nudges import parse_relays
from moq_token.server.policy import Policy
from moq_token.server.revocations import Revocations
from moq_token.server.session import Admission, Ended, Kicked, Lost, Untracked, bounded_name
from moq_token.server.sessions import Sessions
from moq_token.server.share.node import ServerNode

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable

    from moq_token.server.caps import Caps
    from moq_token.server.denial import Denial
    from moq_token.server.identity import Identity
    from moq_token.server.metrics import Metrics
    from moq_token.server.publish import PublishedKeys
    from moq_token.server.session import Effect, Refusal, Session
    from moq_token.server.share.sharing import Sharing
    from moq_token.server.state import State

    Decide: TypeAlias = Callable[[Request], Awaitable[Grant]]
    Lookup: TypeAlias = Callable[[Question], Awaitable[Answer]]

Contract: TypeAlias = Literal["post", "get", "both"]

_HEALTH = ("/healthz", "/readyz")
_KEYS = ("/keys/", "/.well-known/jwks.json")
_PUBLIC = "/public/"
_RETRY = b"retry-after: 1\r\n"
_NOT_FOUND = HttpResponse(404, b"not found\n")
_DIGEST_KEY_BYTES = 32
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
    share
        The share with other auth servers, whose caps count together. None for this one alone.
    metrics
        Where decisions are counted.
    state
        The directory that keeps denials over restarts, which is closed with the server. None keeps them in memory.
    relays
        The internal listeners of relays, where sessions that are denied are ended at once: ``NODE=URL``, such as
        ``edge-1=http://127.0.0.1:9101``.
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
        share: Sharing | None = None,
        metrics: Metrics | None = None,
        state: State | None = None,
        relays: Iterable[str] = (),
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
        self.share: Sharing | None = share
        self._metrics = metrics
        if metrics is not None:
            metrics.watch(self.live)
        self._clock = clock
        self._steady = steady
        self._bounded = Bounded()
        # Without a state directory or a share, digests of tokens differ from one start to the next.
        self.digest_key: bytes = os.urandom(_DIGEST_KEY_BYTES) if state is None else state.digest_key
        self.revocations: Revocations = Revocations(
            self.live, self.now, state=state, relays=parse_relays(relays), metrics=metrics
        )
        if share is not None:
            self.digest_key = share.names.token_key
            self.revocations.node, self.revocations.share = share.node, share.publish
        if metrics is not None:
            metrics.watch_denials(lambda: len(self.revocations.denials.in_force(self._clock())))
        if metrics is not None and share is not None:
            metrics.watch_share(lambda: share.problem is None, lambda: share.alone)

    def change_policy(self, decide: Decide, *, lookup: Lookup | None = None, max_age: float | None = None) -> None:
        """Replace the policy; the parameters are those of the class. Sessions go on."""
        self._decide = decide
        # Not for a subclass, which may decide otherwise when it is called.
        self._at_once = decide.at_once if isinstance(decide, Policy) and type(decide) is Policy else None
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
        """Close what the server and its policy hold open when the block is left."""
        sharing = nullcontext() if self.share is None else self.share.lifespan(ServerNode(self))
        self.revocations.discover()
        try:
            async with sharing:
                yield
        finally:
            await self.revocations.aclose()
            close = getattr(self._decide, "aclose", None)
            if close is not None:
                await close()

    async def handle(self, request: HttpRequest) -> HttpResponse:
        """Answer one HTTP request. Raises nothing but :class:`asyncio.CancelledError`."""
        answer = self.respond(request)
        return answer if isinstance(answer, HttpResponse) else await answer

    def respond(self, request: HttpRequest) -> HttpResponse | Coroutine[None, None, HttpResponse]:
        """Answer as :meth:`handle` does: at once if nothing has to be waited for, else by a coroutine."""
        try:
            answer = self._respond(request)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001 - no fault of ours may look like a verdict, nor show its content
            return _fault(error)
        return answer if isinstance(answer, HttpResponse) else _awaited(answer)

    def _respond(self, request: HttpRequest) -> HttpResponse | Coroutine[None, None, HttpResponse]:
        path, _, query = request.target.partition("?")
        if self._secret is not None and path not in _HEALTH:
            given = request.headers.get("authorization", "").encode("latin-1")
            if not compare_digest(given, self._secret):
                # Neither 401 nor 403, which would end the sessions of a relay whose secret is being replaced.
                log.warning("a request without the shared secret was not answered", extra={"event": "bad-secret"})
                return HttpResponse(400, b"the shared secret is missing or wrong (HTTP Basic authentication)\n")
        if path == "/" and request.method == "POST":
            return self._post(request)
        return self._get(request, path, query)

    # -- relays from 0.15 on

    def _post(self, request: HttpRequest) -> HttpResponse | Coroutine[None, None, HttpResponse]:
        if self._contract == "get":
            return _not_allowed("GET, HEAD")
        if not _is_json(request.headers.get("content-type", "")):
            return HttpResponse(415, b"expected `content-type: application/json`\n")
        try:
            asked = Request.from_json(request.body)
        except InvalidRequestError as error:
            log.warning("%s", error, extra={"event": "invalid-request", "reason": error.reason})
            return HttpResponse(error.status, f"{error}\n".encode())
        return self._event(asked)

    def _event(self, asked: Request) -> HttpResponse | Coroutine[None, None, HttpResponse]:
        if asked.event is Event.END:
            self._follow(self.sessions.handle(asked, self.now()).effects)
            return HttpResponse(204)
        started = time.perf_counter()
        if self.share is not None and asked.event is Event.CONNECT:
            return self._decided_together(self.share, asked, started)
        response = self._decided_at_once(asked)
        if response is None:
            return self._decided(asked, started)
        if self._metrics is not None:
            self._metrics.took(asked.event, time.perf_counter() - started)
        return response

    def _decided_at_once(self, asked: Request) -> HttpResponse | None:
        if self._at_once is None:
            return None
        try:
            grant = self._at_once(asked)
            return None if grant is None else self._granted(asked, grant)
        except (RefusedError, UnavailableError) as error:
            return self._not_granted(asked, error)

    async def _decided(self, asked: Request, started: float) -> HttpResponse:
        try:
            grant = await self._bounded.ask(self._decide, asked)
            response = self._granted(asked, grant)
        except (RefusedError, UnavailableError) as error:
            response = self._not_granted(asked, error)
        if self._metrics is not None:
            self._metrics.took(asked.event, time.perf_counter() - started)
        return response

    async def _decided_together(self, share: Sharing, asked: Request, started: float) -> HttpResponse:
        """Decide about a new session, which the other nodes of the share count too."""
        try:
            grant = None if self._at_once is None else self._at_once(asked)
            if grant is None:
                grant = await self._bounded.ask(self._decide, asked)
            newcomer = await self._take_place(share, asked, grant)
            response = self._granted(asked, grant, newcomer)
        except (RefusedError, UnavailableError) as error:
            response = self._not_granted(asked, error)
        if self._metrics is not None:
            self._metrics.took(asked.event, time.perf_counter() - started)
        return response

    async def _take_place(self, share: Sharing, asked: Request, grant: object) -> Session | None:
        """Return the session that has taken a place in the caps of all nodes; None if it adds none.

        Raises :class:`RefusedError` if there is no place.
        """
        if not isinstance(grant, Grant):
            return None
        now = self.now()
        admission = self._admission(asked, grant, identify(token_of(asked), grant, self.digest_key), now)
        newcomer = self.sessions.newcomer(asked, now, admission)
        if newcomer is not None:
            refusal = await share.admit(newcomer, now)
            if refusal is not None:
                raise RefusedError(refusal.message, reason=refusal.reason)
        return newcomer

    def _granted(self, asked: Request, grant: object, newcomer: Session | None = None) -> HttpResponse:
        """Answer with what the denials leave of a grant, unless a cap is reached.

        Raises :class:`RefusedError`, and :class:`UnavailableError` for what is not a valid grant.
        """
        if not isinstance(grant, Grant):
            raise UnavailableError(f"the policy returned {type(grant).__name__}, not a Grant")
        now = self.now()
        identity = identify(token_of(asked), grant, self.digest_key)
        try:
            admission = self._admission(asked, grant, identity, now)
        except (RefusedError, UnavailableError):
            if self.share is not None and newcomer is not None:
                # Denied while the other nodes were asked, or the clock was set beyond the end of the grant.
                self.share.release(newcomer, now)
            raise
        outcome = self.sessions.handle(asked, now, admission)
        if self.share is not None:
            self._keep_place(self.share, asked, newcomer, now)
        if outcome.effects:
            self._follow(outcome.effects)
        if outcome.refused is not None:
            raise RefusedError(outcome.refused.message, reason=outcome.refused.reason)
        if self._metrics is not None:
            self._metrics.decided(asked.event, "granted", "")
        return HttpResponse(200, admission.grant, _JSON)

    def _not_granted(self, asked: Request, error: RefusedError | UnavailableError) -> HttpResponse:
        if isinstance(error, UnavailableError):
            self._tell(asked, "unavailable", "unavailable", str(error))
            return _unavailable()
        self._tell(asked, "refused", error.reason, str(error))
        return HttpResponse(403, _cut(str(error)).encode(errors="replace"))

    def _admission(self, asked: Request, grant: Grant, identity: Identity, now: Instant) -> Admission:
        """Return what is admitted after the denials. Raises :class:`RefusedError` (``banned``)."""
        grant = self._denied(asked, grant, identity, now.unix)
        try:
            return Admission.of(grant, identity, now=now.unix)
        except InvalidGrantError as error:
            raise UnavailableError(f"the policy returned a grant that relays reject: {error}") from None

    def _denied(self, asked: Request, grant: Grant, identity: Identity, now: float) -> Grant:
        """Return what the denials leave of a grant. Raises :class:`RefusedError` (``banned``)."""
        denials = self.revocations.denials
        if not denials:
            return grant
        facts = Facts(
            session=asked.id,
            token=None if identity.token is None else identity.token.hex(),
            jti=identity.jti,
            kid=identity.kid,
            subject=identity.subject,
            address=asked.address,
            path=asked.path,
            root=grant.root,
            issued=identity.issued,
        )
        verdict = denials.match(facts, now)
        if verdict is None:
            return grant
        left = verdict.apply(grant, asked.path)
        if asked.event is Event.REVALIDATE and left is not grant:
            self.revocations.ended(bounded_name(asked.id))  # its relay gets what is left
        return left

    def _keep_place(self, share: Sharing, asked: Request, newcomer: Session | None, now: Instant) -> None:
        """Tell the other nodes what has become of a session."""
        session = self.sessions.get(asked.id)
        if session is None and newcomer is not None:
            share.release(newcomer, now)  # refused by this node, or its end came while the others were asked
        elif session is not None and newcomer is None and session.kicked is None:
            share.refresh(session, now)

    def kick(self, session_id: str, refusal: Refusal) -> None:
        """End a session to make room for a newer one on another node."""
        self._follow(self.sessions.kick(session_id, refusal))

    def _follow(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            if self.share is not None and not isinstance(effect, Untracked) and effect.session is not None:
                self.share.release(effect.session, self.now())
            if isinstance(effect, Kicked):
                extra = {"event": "kicked", "reason": effect.reason, "id": effect.session.id}
                log.info("a session is ended to make room for a newer one", extra=extra)
                self.revocations.nudge(effect.session)
            elif isinstance(effect, Lost):
                log.info(
                    "a session was lost: its relay did not report its end",
                    extra={"event": "lost", "id": effect.session.id},
                )
                if self._metrics is not None:
                    self._metrics.lost()
            elif isinstance(effect, Untracked):
                log.warning("the table of sessions is full", extra={"event": "untracked", "id": effect.id})
            else:
                self._ended(effect)

    def _ended(self, effect: Ended) -> None:
        if self._metrics is not None:
            self._metrics.ended()
        if effect.session is not None:
            self.revocations.ended(effect.session.id)

    def now(self) -> Instant:
        """Return the time on both clocks."""
        return Instant(self._clock(), self._steady())

    def live(self) -> Iterable[Session]:
        """Return the live sessions, after removing those that were lost meanwhile."""
        self._follow(self.sessions.advance(self.now()))
        return self.sessions

    def _tell(self, asked: Request, event: str, reason: str, message: str) -> None:
        token = token_of(asked)
        extra = {
            "event": event,
            "reason": reason,
            "asked": str(asked.event),
            "id": asked.id,
            "node": asked.node,
            "transport": asked.transport,
            "remote": asked.remote,
            "path": asked.path,
            "kid": None if token is None else kid_of(token),
            "token": None if token is None else digest(token, self.digest_key).hex(),
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
        answer = self._denied_first(question, answer)
        if answer.key is not None and answer.key.algorithm.symmetric and not (self._share_secrets and local):
            if question.kid is not None or answer.public is None:  # a question without either can come from anybody
                message = "relay 0.14 needs the secret of the %s key itself, which is not shared"
                extra = {"event": "refused", "reason": "no-key-source", "path": _cut(question.root)}
                log.info(f"{message} (--share-secrets shares it on this machine)", answer.key.algorithm, extra=extra)
            # What is public stays so: the relay refuses the token for want of a key.
            return replace(answer, key=None)
        return answer

    def _denied_first(self, question: Question, answer: Answer) -> Answer:
        """Return what the denials leave of an answer to relay 0.14. Raises :class:`RefusedError` (``banned``).

        Such a relay shows neither token nor address, and decides by itself. So denials are compared with the ``kid`` of
        the token and the path alone, and what they take from a role is taken from public access alone.
        """
        verdict = self.revocations.denials.match(Facts(kid=question.kid, path=question.root), self._clock())
        if verdict is None:
            return answer
        if verdict.refusing is not None:
            raise RefusedError(verdict.refusing.describe(), reason="banned")
        return answer if answer.public is None else replace(answer, public=verdict.left(answer.public, question.root))

    def out_by(self, denial: Denial) -> float | None:
        """Return when sessions of relay 0.14 are out that a denial is for, in Unix seconds.

        None if there are none, as their denial cannot be seen there, or if such relays do not ask again.
        """
        if not self._is_first or self._max_age is None or not denial.is_for_first:
            return None
        return self._clock() + max(1, int(self._max_age))

    def _cache_control(self) -> bytes:
        if self._max_age is None:
            return b"cache-control: no-store\r\n"
        return f"cache-control: no-store, max-age={max(1, int(self._max_age))}\r\n".encode()

    async def problems(self) -> list[Problem]:
        """Return what is wrong: keys that cannot be read, denials that are not stored, a share that is out of reach.

        Raises nothing of the policy.
        """
        check = getattr(self._decide, "problems", None)
        try:
            problems: list[Problem] = [] if check is None else await self._bounded.ask(check)
        except (RefusedError, UnavailableError) as error:
            problems = [Problem(f"the policy could not be checked: {error}", is_fatal=True)]
        if self.share is not None and self.share.problem is not None:
            text = f"the share cannot be reached: {self.share.problem}"
            problems = [*problems, Problem(text, is_fatal=self.share.required)]
        return [*problems, *self.revocations.problems()]

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


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_TOLD_CHARACTERS else f"{text[:_MAX_TOLD_CHARACTERS]}…"


def _is_json(content_type: str) -> bool:
    if content_type == _JSON:
        return True
    media_type = content_type.partition(";")[0].strip().lower()
    return media_type == _JSON or (media_type.startswith("application/") and media_type.endswith("+json"))


async def _awaited(answer: Coroutine[None, None, HttpResponse]) -> HttpResponse:
    try:
        return await answer
    except (asyncio.CancelledError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # noqa: BLE001 - as in `respond`
        return _fault(error)


def _fault(error: BaseException) -> HttpResponse:
    log.error("a request could not be answered: %s", type(error).__name__, extra={"event": "fault"})
    return _unavailable()


def _unavailable() -> HttpResponse:
    return HttpResponse(503, b"could not decide at the moment\n", headers=_RETRY)


def _not_allowed(methods: str) -> HttpResponse:
    return HttpResponse(405, b"method not allowed\n", headers=f"allow: {methods}\r\n".encode())
