"""The questions of relay 0.14, which decides by itself: for the key of a token, and for what is public at a path."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from msgspec.structs import replace

from moq_token.contract import Answer, PublicPaths, Question
from moq_token.errors import InvalidRequestError, RefusedError, UnavailableError
from moq_token.server.denial import Facts
from moq_token.server.http import HttpResponse
from moq_token.server.log import log
from moq_token.server.responses import JSON, NOT_FOUND, unavailable
from moq_token.server.session import told

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import TypeAlias

    from moq_token.server.bounded import Bounded
    from moq_token.server.denial import Denial
    from moq_token.server.denials import Denials

    Lookup: TypeAlias = Callable[[Question], Awaitable[Answer]]

_CADENCES = 2  # after as many without a question, there are no sessions of such a relay


class Questions:
    """Answers ``GET /`` (``auth_api``) and ``GET /public/{path}`` (``public.api``).

    Parameters
    ----------
    bounded
        Asks the policy.
    denials
        The denials, which override the policy.
    share_secrets
        Whether callers on this machine get the secret of an HMAC key.
    clock
        Returns the time in Unix seconds.

    """

    def __init__(self, bounded: Bounded, denials: Denials, *, share_secrets: bool, clock: Callable[[], float]) -> None:
        self._bounded = bounded
        self._denials = denials
        self._share_secrets = share_secrets
        self._clock = clock
        self.lookup: Lookup | None = None
        """What answers; None for nothing."""
        self.max_age: float | None = None
        """How often, in seconds, such a relay asks again about a live session; None is never."""
        # By when all sessions have asked again that were told a longer time before (Unix seconds).
        self._earlier_by = -math.inf
        self._asked = -math.inf  # when a relay asked last

    def change_policy(self, lookup: Lookup | None, max_age: float | None) -> None:
        """Replace what answers, and how often relays ask again. Live sessions learn of it at their next question."""
        if self.lookup is not None:
            self._earlier_by = max(self._earlier_by, self._clock() + _seconds(self.max_age))
        self.lookup, self.max_age = lookup, max_age

    async def answer(self, query: str, *, local: bool) -> HttpResponse:
        """Answer ``GET /``; ``local`` says that the caller is on this machine."""
        self._asked = self._clock()
        try:
            question = Question.from_query(query)
        except InvalidRequestError as error:
            return HttpResponse(error.status, f"{error}\n".encode())
        return await self._look_up(question, local=local, public=False)

    async def public(self, path: str) -> HttpResponse:
        """Answer ``GET /public/{path}``."""
        return await self._look_up(Question(path), local=False, public=True)

    async def _look_up(self, question: Question, *, local: bool, public: bool) -> HttpResponse:
        try:
            answer = await self._answered(question, local=local)
        except RefusedError as error:
            extra = {"event": "refused", "reason": error.reason, "path": told(question.root)}
            log.info("refused: %s", told(str(error)), extra=extra)
            # Relay 0.14 admits a client certificate with everything on any answer but an error.
            if question.mtls:
                return NOT_FOUND
            answer = Answer()
        except UnavailableError as error:
            log.warning(
                "unavailable: %s", told(str(error)), extra={"event": "unavailable", "path": told(question.root)}
            )
            return unavailable()
        document = (answer.public or PublicPaths()).to_json() if public else answer.to_json()
        return HttpResponse(200, document, JSON, self._cache_control())

    async def _answered(self, question: Question, *, local: bool) -> Answer:
        if self.lookup is None:
            raise UnavailableError("the policy has no `lookup`, which answers relay 0.14")
        answer = await self._bounded.ask(self.lookup, question)
        if not isinstance(answer, Answer):
            raise UnavailableError(f"the policy returned {type(answer).__name__}, not an Answer")
        answer = self._denied(question, answer)
        if answer.key is not None and answer.key.algorithm.symmetric and not (self._share_secrets and local):
            if question.kid is not None or answer.public is None:  # a question without either can come from anybody
                message = "relay 0.14 needs the secret of the %s key itself, which is not shared"
                extra = {"event": "refused", "reason": "no-key-source", "path": told(question.root)}
                log.info(f"{message} (--share-secrets shares it on this machine)", answer.key.algorithm, extra=extra)
            # What is public stays so: without a key, the relay refuses the token.
            return replace(answer, key=None)
        return answer

    def _denied(self, question: Question, answer: Answer) -> Answer:
        """Return what the denials leave of an answer to relay 0.14. Raises ``RefusedError`` (``banned``).

        Such a relay shows neither token nor address, and decides by itself. So denials are compared with the ``kid`` of
        the token and the path alone, and what they take from a role is taken from public access alone.
        """
        verdict = self._denials.match(Facts(kid=question.kid, path=question.root), self._clock())
        if verdict is None:
            return answer
        if verdict.refusing is not None:
            raise RefusedError(verdict.refusing.describe(), reason="banned")
        return answer if answer.public is None else replace(answer, public=verdict.left(answer.public, question.root))

    def out_by(self, denial: Denial) -> float | None:
        """Return when sessions of relay 0.14 are out that a denial is for, in Unix seconds.

        None if there are none, or if such relays do not ask again. Infinity if they have asked a short time ago, and
        cannot be told of this denial: they show neither token nor address.
        """
        if self.lookup is None:
            return None
        if not denial.is_for_first:
            return math.inf if self._clock() < self._asked + _CADENCES * _seconds(self.max_age) else None
        by = max(self._clock() + _seconds(self.max_age), self._earlier_by)
        return by if by < math.inf else None

    def _cache_control(self) -> bytes:
        if self.max_age is None:
            return b"cache-control: no-store\r\n"
        return f"cache-control: no-store, max-age={_seconds(self.max_age)}\r\n".encode()


def _seconds(max_age: float | None) -> float:
    return math.inf if max_age is None else max(1, int(max_age))
