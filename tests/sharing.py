"""Nodes of a share in the process of the test, with what they are asked and told."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from moq_token.auth.lease import Instant
from moq_token.server.caps import Cap, CapKind
from moq_token.server.denials import Denials
from moq_token.server.session import Place, Refusal, Session
from moq_token.server.share.names import Names
from moq_token.server.share.sharing import Sharing
from moq_token.server.share.store import Store
from moq_token.server.share.url import parse_store_url

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

    from moq_token.server.caps import Caps
    from moq_token.server.denial import Denial

SECRET = "a secret of the nodes, for tests only"
ONE_PER_TOKEN: Caps = {CapKind.TOKEN: Cap(1)}
LEASE = 120
PLACE = Place(node="relay", transport="quic", local=None, server_name=None, alpn=None, role=None)


def instant() -> Instant:
    return Instant(time.time(), time.monotonic())


def session(session_id: str, token: bytes = b"t", **members: Any) -> Session:  # noqa: ANN401 - those of a session
    now = instant()
    nothing: dict[str, Any] = dict.fromkeys(("jti", "kid", "issued", "root", "revalidate", "expires"))
    nothing |= {"first": now.unix, "began": now.steady}
    known: dict[str, Any] = {**nothing, "remote": "192.0.2.7:443", "subject": "alice", "lease": int(now.steady) + LEASE}
    return Session(
        id=session_id,
        place=PLACE,
        path="/room",
        tls=None,
        token=token,
        tier=None,
        grant=b"",
        last=now.unix,
        **known | members,
    )


class FakeNode:
    """What an auth server is to its share."""

    def __init__(self, denials: Iterable[Denial] = ()) -> None:
        self.known = Denials(denials)
        self.kicks: list[tuple[str, str]] = []
        self.heard = asyncio.Event()
        self.is_busy = False

    def kicked(self, session_id: str, refusal: Refusal) -> None:
        self.kicks.append((session_id, refusal.reason))
        self.heard.set()

    def denials(self) -> Iterable[Denial]:
        return self.known

    def denied(self, denials: Iterable[Denial]) -> None:
        for denial in denials:
            self.known.put(denial)
        self.heard.set()

    def has_sessions(self) -> bool:
        return self.is_busy

    async def answer(self, question: bytes) -> bytes:
        return b"[" + question + b"]"


@asynccontextmanager
async def shared(
    url: str,
    caps: Caps | None = None,
    *,
    secret: str = SECRET,
    denials: Iterable[Denial] = (),
    **options: Any,  # noqa: ANN401
) -> AsyncIterator[tuple[Sharing, FakeNode]]:
    """Run a node of a share at this store."""
    names, node = Names(secret), FakeNode(denials)
    store = Store(parse_store_url(url), names.key(b""))
    sharing = Sharing(store.connect, names, caps or {}, **options)
    async with sharing.lifespan(node):
        yield sharing, node


async def until(condition: Callable[[], object], seconds: float = 60) -> None:
    """Wait until a condition holds."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - what is waited for tells nobody
            await asyncio.sleep(0.005)


async def admits(sharing: Sharing, *sessions: Session) -> list[str | None]:
    """Ask for places one after the other, and return the reasons of the refusals."""
    refusals = [await sharing.places.admit(each, instant()) for each in sessions]
    return [None if refusal is None else refusal.reason for refusal in refusals]
