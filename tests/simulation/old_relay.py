"""A relay of the 0.14 line, written from what relay 0.14.18 was seen to do.

It asks for a key or for what is public, decides by itself, and asks again every `max-age` seconds.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from moq_token.contract import Question
from tests.simulation.loop import promise
from tests.simulation.relay import HOP_SECONDS, TIMEOUT_SECONDS

if TYPE_CHECKING:
    from moq_token.server.http import HttpResponse
    from tests.simulation.loop import Loop
    from tests.simulation.relay import Client
    from tests.simulation.server import ServerNode

STALE_SECONDS = 3600.0
_MAX_AGE = re.compile(rb"max-age=([0-9]+)")


class OldSession:
    """One session, from its first question on."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.question = Question(client.path.strip("/"), client.kid, client.has_certificate, "quic")
        self.public: dict[str, set[str]] = {}
        self.max_age: float | None = None
        self.fresh_until = 0.0
        self.failures = 0


class OldRelay:
    """Sessions of clients, about whose keys an auth server is asked."""

    def __init__(self, loop: Loop, node: ServerNode) -> None:
        self._loop, self._node = loop, node
        self.live: list[OldSession] = []
        self.is_cut = False

    def dial(self, client: Client) -> None:
        self._ask(OldSession(client))

    def _ask(self, session: OldSession) -> None:
        is_answered = False

        def answer(response: HttpResponse | None) -> None:
            nonlocal is_answered
            if not is_answered:
                is_answered = True
                self._answered(session, response)

        self._loop.after(TIMEOUT_SECONDS, answer, None)
        if not self.is_cut:
            self._loop.after(
                HOP_SECONDS, self._node.ask, session.question, lambda got: self._loop.after(HOP_SECONDS, answer, got)
            )

    def _answered(self, session: OldSession, response: HttpResponse | None) -> None:
        is_new = session not in self.live
        document: dict[str, Any] | None = None
        if response is not None and response.status == 200:
            document = json.loads(response.body)
        if is_new:
            if document is not None and self._admits(session, document):
                self.live.append(session)
                self._plan(session, response)
        elif document is not None:
            if self._admits(session, document):
                self._plan(session, response)
            else:
                self.live.remove(session)  # revoked
        elif response is not None and response.status == 404:
            self.live.remove(session)
        else:
            self._failed(session)

    def _admits(self, session: OldSession, document: dict[str, Any]) -> bool:
        if session.question.mtls:
            return True
        if session.question.kid is not None:
            key = document.get("key")
            return key is not None and key["kid"] == session.question.kid
        public = document.get("public") or {}
        now = {role: set(public.get(role, ())) for role in ("subscribe", "publish")}
        before, session.public = session.public, now
        return any(now.values()) and all(before[role] <= now[role] for role in before)

    def _plan(self, session: OldSession, response: HttpResponse | None) -> None:
        assert response is not None
        found = _MAX_AGE.search(response.headers)
        if found is not None:
            promise(b"no-store" in response.headers, "an answer can come from a cache")
            session.max_age = max(1.0, float(found[1]))
        session.failures = 0
        if session.max_age is not None and not session.question.mtls:
            session.fresh_until = self._loop.now + session.max_age
            self._loop.after(session.max_age, self._again, session)

    def _failed(self, session: OldSession) -> None:
        assert session.max_age is not None
        if self._loop.now > session.fresh_until + STALE_SECONDS:
            self.live.remove(session)
            return
        self._loop.after(min(2.0**session.failures, session.max_age), self._again, session)
        session.failures = min(session.failures + 1, 10)

    def _again(self, session: OldSession) -> None:
        if session in self.live:
            self._ask(session)
