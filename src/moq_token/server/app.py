"""The auth server: takes a policy, and answers relays of both generations over HTTP.

Whatever a policy does, 403 is a verdict of the policy, and every fault of the server is 503, which relays read as
"could not tell": their sessions go on.
"""

from __future__ import annotations

import asyncio
import base64
import os
import time
from contextlib import asynccontextmanager, nullcontext
from hmac import compare_digest
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

from moq_token.errors import ConfigError, RefusedError, UnavailableError
from moq_token.server import asgi
from moq_token.server.bounded import Bounded
from moq_token.server.caps import Cap, CapKind
from moq_token.server.events import Events
from moq_token.server.http import HttpRequest, HttpResponse
from moq_token.server.keys import Problem
from moq_token.server.live import LiveSessions
from moq_token.server.log import log
from moq_token.server.nudges import parse_relays
from moq_token.server.questions import Questions
from moq_token.server.responses import NOT_FOUND, RETRY, not_allowed, unavailable
from moq_token.server.share.node import ServerNode
from moq_token.server.state import State
from moq_token.server.unseen import ASSUMED_CADENCE_SECONDS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterable

    from moq_token.server.caps import Caps
    from moq_token.server.events import Decide
    from moq_token.server.metrics import Metrics
    from moq_token.server.publish import PublishedKeys
    from moq_token.server.questions import Lookup
    from moq_token.server.revocations import Revocations
    from moq_token.server.share.sharing import Sharing

Contract: TypeAlias = Literal["post", "get", "both"]

_HEALTH = ("/healthz", "/readyz")
_KEYS = ("/keys/", "/.well-known/jwks.json")
_PUBLIC = "/public/"
_DIGEST_KEY_BYTES = 32


class AuthServer:
    """Answer relays as a policy decides.

    Parameters
    ----------
    decide
        An async function from a ``Request`` to a ``Grant``, such as a ``Policy``. It raises
        ``RefusedError`` to refuse, and ``UnavailableError`` if it cannot tell. Any other exception, a result
        that is not a grant, and a decision of more than 8 s are answered with 503, which ends no session.
    lookup
        The same for relay 0.14, from a ``Question`` to an ``Answer``. None takes ``decide.lookup`` if there
        is one.
    caps
        How many sessions one token, address or subject may have (see ``Sessions``). Each process counts its own
        sessions: run one worker.
    contract
        Which relays are answered: ``post`` is 0.15 and later, ``get`` is 0.14, ``both``.
    max_age
        How often, in seconds, relay 0.14 asks again about a live session. None takes ``decide.revalidate``.
    secret
        ``user:password``, which every request except health checks must have as HTTP Basic authentication.
    share_secrets
        Give the secret of an HMAC key to relay 0.14, which cannot verify such tokens without it. Only to callers on
        this machine, and never through ``asgi``.
    published
        What ``/keys/{kid}.jwk`` and ``/.well-known/jwks.json`` show; None for nothing.
    share
        The share with other auth servers, which caps count together. None for a server that works alone.
    metrics
        Where decisions are counted.
    state
        The directory that keeps denials over restarts, which is closed with the server. None keeps them in memory.
    relays
        The internal listeners of relays, which are told at once which sessions to ask about again: ``NODE=URL``, such
        as ``edge-1=http://127.0.0.1:9101``.
    clock
        Returns the time in Unix seconds.
    steady
        Returns the time that passes, in seconds. It decides when a session is lost, whatever happens to the clock.

    Raises ``ConfigError`` for an invalid contract, secret or relay.

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
        if state is not None and not isinstance(state, State):
            raise TypeError(f"`state` must be a State, such as State('bans'), not {type(state).__name__}")
        # Without a state directory or a share, digests of tokens differ from one start to the next.
        self.digest_key: bytes = os.urandom(_DIGEST_KEY_BYTES) if state is None else state.digest_key
        if share is not None:
            self.digest_key = share.names.token_key
        self.share: Sharing | None = share
        self.live: LiveSessions = LiveSessions(
            caps, share=share, state=state, relays=parse_relays(relays), metrics=metrics, clock=clock, steady=steady
        )
        self.revocations: Revocations = self.live.revocations
        for kind, cap in ({} if caps is None else caps).items():
            if kind not in set(CapKind) or not isinstance(cap, Cap):
                raise TypeError("`caps` must be a mapping such as {CapKind.TOKEN: Cap(3)}")
        self._has_caps = bool(caps)
        self._bounded = Bounded()
        self._events = Events(decide, self._bounded, self.live, digest_key=self.digest_key, metrics=metrics)
        self.questions: Questions = Questions(
            self._bounded, self.revocations.denials, share_secrets=share_secrets, clock=clock
        )
        if contract not in get_args(Contract):
            raise ConfigError("`contract` must be post, get or both")
        self._contract = contract
        self.change_policy(decide, lookup=lookup, max_age=max_age)
        # Whether relay 0.14 is answered.
        self._is_first = self.questions.lookup is not None
        self._paths = {*_HEALTH, *(["/"] if contract == "both" or self._is_first else [])}
        self._prefixes = (*([_PUBLIC] if self._is_first else []), *(_KEYS if published is not None else []))
        self._published = published
        self.set_secret(secret)

    def change_policy(self, decide: Decide, *, lookup: Lookup | None = None, max_age: float | None = None) -> None:
        """Replace the policy; the parameters are those of the class. Sessions go on."""
        _check_function("decide", decide, "an async function from a Request to a Grant, or a Policy")
        if lookup is not None:
            _check_function("lookup", lookup, "an async function from a Question to an Answer")
        self._decide = decide
        self._events.change_policy(decide)
        cadence = getattr(decide, "revalidate", ASSUMED_CADENCE_SECONDS) if max_age is None else max_age
        # Relay 0.14 reports no sessions, so that there are none to know.
        self.revocations.ending.unseen.cadence = 0 if self._contract == "get" else cadence
        if self._contract != "post":
            self.questions.change_policy(
                getattr(decide, "lookup", None) if lookup is None else lookup,
                getattr(decide, "revalidate", None) if max_age is None else max_age,
            )

    def set_secret(self, secret: str | None) -> None:
        """Replace the required secret (``user:password``); None removes it. Raises ``ConfigError``."""
        if secret is not None and not isinstance(secret, str):
            raise TypeError(f"`secret` must be a str, user:password, not {type(secret).__name__}")
        if secret is not None and not all(secret.partition(":")):
            raise ConfigError("`secret` must be user:password")
        self._secret = None if secret is None else b"Basic " + base64.b64encode(secret.encode())

    @property
    def asgi(self) -> asgi.Application:
        """The server as an ASGI application, for a mount in FastAPI or Starlette, or for uvicorn or granian."""
        return asgi.application(self.handle, self.lifespan)

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Close what the server and its policy hold open when the block is left."""
        sharing = nullcontext() if self.share is None else self.share.lifespan(ServerNode(self))
        if self._has_caps and self.share is None and _is_worker():
            message = "in a worker process: with several workers, each counts only its own sessions; run one worker"
            log.warning(message, extra={"event": "workers"})
        self.revocations.ending.unseen.discover()
        try:
            async with sharing:
                yield
        finally:
            await self.revocations.aclose()
            close = getattr(self._decide, "aclose", None)
            if close is not None:
                await close()

    async def handle(self, request: HttpRequest) -> HttpResponse:
        """Answer one HTTP request. Raises nothing but ``asyncio.CancelledError``."""
        answer = self.respond(request)
        return answer if isinstance(answer, HttpResponse) else await answer

    def respond(self, request: HttpRequest) -> HttpResponse | Coroutine[None, None, HttpResponse]:
        """Answer as ``handle()`` does: at once if nothing has to be waited for, else by a coroutine."""
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
            return not_allowed("GET, HEAD") if self._contract == "get" else self._events.answer(request)
        return self._get(request, path, query)

    async def _get(self, request: HttpRequest, path: str, query: str) -> HttpResponse:
        """Answer what is not an event of a session."""
        if path not in self._paths and not path.startswith(self._prefixes):
            return NOT_FOUND
        allowed = "GET, HEAD"
        if path == "/" and self._contract != "get":
            allowed = "GET, HEAD, POST" if self._is_first else "POST"
        if request.method not in allowed.split(", "):
            return not_allowed(allowed)
        if path in _HEALTH:
            return await self._health(path)
        if path.startswith(_PUBLIC):
            return await self.questions.public(path.removeprefix(_PUBLIC))
        if path == "/":
            return await self.questions.answer(query, local=request.local)
        assert self._published is not None  # noqa: S101 - its paths are open only then
        return await self._published.answer(path, request.headers.get("if-none-match"))

    async def problems(self) -> list[Problem]:
        """Return what is wrong: keys that cannot be read, denials that are not stored, a share that is out of reach.

        An exception of the policy is one of the problems, and is not raised.
        """
        check = getattr(self._decide, "problems", None)
        try:
            problems: list[Problem] = [] if check is None else await self._bounded.ask(check)
        except (RefusedError, UnavailableError) as error:
            problems = [Problem(f"the policy could not be checked: {error}", is_fatal=True)]
        if self.share is not None and self.share.problem is not None:
            text = f"the share cannot be reached: {self.share.problem}"
            problems = [*problems, Problem(text, is_fatal=self.share.places.required)]
        return [*problems, *self.revocations.storing.problems()]

    async def _health(self, path: str) -> HttpResponse:
        if path == "/healthz":
            return HttpResponse(200, b"ok\n")
        problems = await self.problems()
        if not problems:
            return HttpResponse(200, b"ok\n")
        told = "".join(f"{'not ready' if is_fatal else 'degraded'}: {message}\n" for message, is_fatal in problems)
        if any(problem.is_fatal for problem in problems):
            return HttpResponse(503, told.encode(), headers=RETRY)
        return HttpResponse(200, told.encode())


async def _awaited(answer: Coroutine[None, None, HttpResponse]) -> HttpResponse:
    try:
        return await answer
    except (asyncio.CancelledError, GeneratorExit, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # noqa: BLE001 - as in `respond`
        return _fault(error)


def _fault(error: BaseException) -> HttpResponse:
    log.error("a request could not be answered: %s", type(error).__name__, extra={"event": "fault"})
    return unavailable()


def _is_worker() -> bool:
    """Whether another process has started this one to share its work, as uvicorn, granian and hypercorn do."""
    import multiprocessing  # most servers are none, and start sooner without it

    return multiprocessing.parent_process() is not None


def _check_function(name: str, function: object, what: str) -> None:
    """Raise ``TypeError`` for what cannot be called, and for a class in place of its instance."""
    if not callable(function) or isinstance(function, type):
        given = f"the class {function.__name__}" if isinstance(function, type) else type(function).__name__
        raise TypeError(f"`{name}` must be {what}, not {given}")
