"""The events of sessions that relays from 0.15 on report: decide by the policy, then the denials, then the caps.

403 is a verdict and nothing else; whatever keeps the server from deciding is 503, on which sessions go on.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from moq_token.contract import Event, Grant, Request
from moq_token.errors import InvalidGrantError, InvalidRequestError, RefusedError, UnavailableError
from moq_token.server.denial import Facts
from moq_token.server.http import HttpRequest, HttpResponse
from moq_token.server.identity import digest, identify, kid_of, token_of
from moq_token.server.log import log
from moq_token.server.policy import Policy
from moq_token.server.responses import JSON, unavailable
from moq_token.server.session import Admission, bounded_name, told

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from typing import TypeAlias

    from moq_token.auth.lease import Instant
    from moq_token.server.bounded import Bounded
    from moq_token.server.identity import Identity
    from moq_token.server.live import LiveSessions
    from moq_token.server.metrics import Metrics
    from moq_token.server.session import Session

    Decide: TypeAlias = Callable[[Request], Awaitable[Grant]]


class Events:
    """Answers ``POST /``.

    Parameters
    ----------
    decide
        The policy.
    bounded
        Asks the policy.
    live
        The sessions.
    digest_key
        The key of the digests by which tokens are known.
    metrics
        Where decisions are counted.

    """

    def __init__(
        self, decide: Decide, bounded: Bounded, live: LiveSessions, *, digest_key: bytes, metrics: Metrics | None
    ) -> None:
        self._bounded = bounded
        self._live = live
        self._digest_key = digest_key
        self._metrics = metrics
        self.change_policy(decide)

    def change_policy(self, decide: Decide) -> None:
        """Replace the policy."""
        self._decide = decide
        # Not for a subclass, which may decide otherwise when it is called.
        self._at_once = decide.at_once if isinstance(decide, Policy) and type(decide) is Policy else None

    def answer(self, request: HttpRequest) -> HttpResponse | Coroutine[None, None, HttpResponse]:
        """Answer ``POST /``: at once if nothing has to be waited for, else by a coroutine."""
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
            self._live.handle(asked, self._live.now())
            return HttpResponse(204)
        started = time.perf_counter()
        if self._live.share is not None and asked.event is Event.CONNECT:
            return self._decided(asked, started, together=True)
        response = self._decided_at_once(asked)
        if response is None:
            return self._decided(asked, started, together=False)
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

    async def _decided(self, asked: Request, started: float, *, together: bool) -> HttpResponse:
        """Decide what has to be waited for. ``together``: it is a new session, which other nodes count too."""
        try:
            grant = self._at_once(asked) if together and self._at_once is not None else None
            if grant is None:
                grant = await self._bounded.ask(self._decide, asked)
            newcomer = await self._take_place(asked, grant) if together else None
            response = self._granted(asked, grant, newcomer)
        except (RefusedError, UnavailableError) as error:
            response = self._not_granted(asked, error)
        if self._metrics is not None:
            self._metrics.took(asked.event, time.perf_counter() - started)
        return response

    async def _take_place(self, asked: Request, grant: object) -> Session | None:
        if not isinstance(grant, Grant):
            return None
        identity = identify(token_of(asked), grant, self._digest_key)
        return await self._live.take_place(asked, self._admission(asked, grant, identity, self._live.now()))

    def _granted(self, asked: Request, grant: object, newcomer: Session | None = None) -> HttpResponse:
        """Answer with what the denials leave of a grant, unless a cap is reached.

        Raises ``RefusedError``, and ``UnavailableError`` for what is not a valid grant.
        """
        if not isinstance(grant, Grant):
            raise UnavailableError(f"the policy returned {type(grant).__name__}, not a Grant")
        now = self._live.now()
        identity = identify(token_of(asked), grant, self._digest_key)
        try:
            admission = self._admission(asked, grant, identity, now)
        except (RefusedError, UnavailableError):
            if newcomer is not None:
                # Denied while the other nodes were asked, or the clock was set beyond the end of the grant.
                self._live.release(newcomer)
            raise
        self._live.handle(asked, now, admission, newcomer)
        if self._metrics is not None:
            self._metrics.decided(asked.event, "granted", "")
        return HttpResponse(200, admission.grant, JSON)

    def _not_granted(self, asked: Request, error: RefusedError | UnavailableError) -> HttpResponse:
        if isinstance(error, UnavailableError):
            if asked.event is Event.REVALIDATE:
                self._live.seen(asked)  # it goes on, and is counted and listed
            self._tell(asked, "unavailable", "unavailable", str(error))
            return unavailable()
        self._tell(asked, "refused", error.reason, str(error))
        return HttpResponse(403, told(str(error)).encode(errors="replace"))

    def _admission(self, asked: Request, grant: Grant, identity: Identity, now: Instant) -> Admission:
        """Return what is admitted after the denials. Raises ``RefusedError`` (``banned``)."""
        grant = self._denied(asked, grant, identity, now.unix)
        try:
            grant.check_unit(asked.tls)
            return Admission.of(grant, identity, now=now.unix)
        except InvalidGrantError as error:
            raise UnavailableError(f"the policy returned a grant that relays reject: {error}") from None

    def _denied(self, asked: Request, grant: Grant, identity: Identity, now: float) -> Grant:
        """Return what the denials leave of a grant. Raises ``RefusedError`` (``banned``)."""
        denials = self._live.revocations.denials
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
            self._live.revocations.ending.ended(bounded_name(asked.id), narrowed=True)  # its relay gets what is left
        return left

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
            "token": None if token is None else digest(token, self._digest_key).hex(),
        }
        if self._metrics is not None:
            self._metrics.decided(asked.event, event, reason)
        level = log.warning if event == "unavailable" else log.info
        known = {name: told(value) for name, value in extra.items() if value is not None}
        level("%s: %s", event, told(message), extra=known)


def _is_json(content_type: str) -> bool:
    if content_type == JSON:
        return True
    media_type = content_type.partition(";")[0].strip().lower()
    return media_type == JSON or (media_type.startswith("application/") and media_type.endswith("+json"))
