"""One node of a share: stays connected to the store, and exchanges denials and questions with the other nodes.

No decision depends on the store being there: without it, this node goes on by what it knows, and says so.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final

from moq_token.server.log import log
from moq_token.server.share.denials import MAX_SHARED, SharedDenials
from moq_token.server.share.health import Health
from moq_token.server.share.link import StoreError
from moq_token.server.share.names import DIGEST_BYTES
from moq_token.server.share.nodes import LEASE_SECONDS, Nodes
from moq_token.server.share.places import Places
from moq_token.server.share.questions import (
    ANSWER,
    MAX_MESSAGE_BYTES,
    QUESTION,
    Answers,
    Questions,
    looked_at,
)

if TYPE_CHECKING:
    from asyncio import Future
    from collections.abc import AsyncIterator, Iterable, Sequence

    from moq_token.server.caps import Caps
    from moq_token.server.denial import Denial
    from moq_token.server.session import Refusal
    from moq_token.server.share.link import Connect, Link
    from moq_token.server.share.names import Names
    from moq_token.server.share.node import Node

PULL_SECONDS: Final = 5.0
"""How often a node compares its denials with the store. It is also told of each at once."""
START_SECONDS: Final = 2.0
"""How long the start of a node waits for the denials of the others, if the store can be reached."""
ANSWER_SECONDS: Final = 1.0
"""How long the answers of other nodes are waited for."""

_STOPPED_SECONDS = 0.001
_CLOSED = "the connection was closed"
_KICK, _DENIAL, _JOINED, _LEFT = b"K", b"D", b"J", b"L"


class Sharing:
    """A node of a share.

    Parameters
    ----------
    connect
        Opens a link to the store.
    names
        What follows from the secret of the share.
    caps
        The caps, which have to be the same on all nodes.
    required
        Whether a new session is unavailable rather than admitted without the store.
    place
        What distinguishes this node from others, and is the same after a restart, such as ``edge-1:4440``. None takes
        the name of the machine.
    node
        The name of this node, which no other has. None makes one from the place.

    Attributes
    ----------
    places
        Takes, renews and gives back the places of sessions in the caps.

    """

    def __init__(
        self,
        connect: Connect,
        names: Names,
        caps: Caps,
        *,
        required: bool = False,
        place: str | None = None,
        node: str | None = None,
    ) -> None:
        self.node: str = node or f"{place or socket.gethostname()[:64]}-{secrets.token_hex(2)}"
        self.names: Names = names
        self.places: Places = Places(caps, names, self._kicked, lambda: self.problem, required=required)
        self._connect = connect
        self._denials = SharedDenials(names)
        self._everybody = names.key(b"all")
        self._health = Health()
        self._link: Link | None = None
        self._node: Node | None = None
        self._nodes = Nodes(self.node)
        self._first = asyncio.Event()
        self._questions = Questions(names, self.node, self._everybody)

    @property
    def problem(self) -> str | None:
        """What keeps this node from the store, None for nothing."""
        return self._health.problem

    @property
    def nodes(self) -> tuple[str, ...]:
        """The nodes of the share that were there when the store was last asked, this one included."""
        return self._nodes.there

    @asynccontextmanager
    async def lifespan(self, node: Node) -> AsyncIterator[None]:
        """Be a node of the share in this block, which is entered when the denials of the others are known.

        A store that does not answer delays it by 2 s. It is tried again for as long as the block lasts.
        """
        self._node = node
        running = asyncio.get_running_loop().create_task(self._run())
        with suppress(TimeoutError):
            await asyncio.wait_for(self._first.wait(), START_SECONDS)
        try:
            yield
        finally:
            running.cancel()
            await asyncio.wait((running,))
            await self._questions.aclose()

    def _kicked(self, session_id: str, refusal: Refusal) -> None:
        if self._node is not None:
            self._node.kicked(session_id, refusal)

    # -- denials

    def publish(self, denials: Iterable[Denial]) -> None:
        """Tell all nodes of denials. Those that are not reached now learn of them at their next pull."""
        if self._link is not None:
            for denial in denials:
                self._link.call(self._denials.put(denial)).add_done_callback(_put)

    def left_out(self, denials: Iterable[Denial]) -> None:
        """Fetch denials again once this node has room for them, of which it was told and had none."""
        assert self._node is not None  # noqa: S101 - it calls this
        self._denials.leave_out(denials, sum(1 for _ in self._node.denials()))

    async def _renew(self, link: Link) -> bytes:
        """Renew the lease of this node, learn which others there are, and return the digests of all denials."""
        match await link.call(self._denials.pull(self.node, LEASE_SECONDS)):
            case [list(nodes), bytes(digests), list(gone)]:
                self._nodes.pulled(nodes, gone, asyncio.get_running_loop().time())
                return digests[: MAX_SHARED * DIGEST_BYTES]
        raise StoreError("it gave an unexpected answer")

    def _moved(self, kind: bytes, name: bytes | None) -> None:
        """Note that a node has joined or left."""
        if name is None:
            return
        if kind == _LEFT:
            self._nodes.left(name.decode(errors="replace"))
        else:
            self._nodes.joined(name.decode(errors="replace"), asyncio.get_running_loop().time())

    def _tell(self, link: Link, kind: bytes) -> Future[object]:
        """Tell all nodes that this one has joined or left."""
        return link.publish(self._everybody, kind + self.names.seal(self.node.encode(), kind))

    async def _pull(self, link: Link, node: Node) -> None:
        """Exchange denials with the store."""
        digests = await self._renew(link)
        missing, lacking = self._denials.compare(digests, node.denials())
        skipped = 0
        for some, call in self._denials.fetches(missing):
            records = await link.call(call)
            if not isinstance(records, list):
                raise StoreError("it gave an unexpected answer")
            skipped += self._denied(zip(some, records, strict=False))
        if skipped:
            message = "%d records of the store are not denials of this share, or too long: they are skipped"
            log.warning(message, skipped, extra={"event": "share", "skipped": skipped})
        for denial in lacking:
            if not _was_put(await link.call(self._denials.put(denial))):
                break

    def _denied(self, records: Iterable[tuple[bytes, object]]) -> int:
        """Take the denials of records, by their digests. Return how many are not denials."""
        read = [self._denials.read(digest, record) for digest, record in records if isinstance(record, bytes)]
        denials = [denial for denial in read if denial is not None]
        if denials and self._node is not None:
            self._node.denied(denials)
        return len(read) - len(denials)

    # -- questions

    async def ask(self, question: bytes, seconds: float = ANSWER_SECONDS) -> Answers:
        """Ask all other nodes, and wait for their answers. Both are JSON.

        The question is sent before this suspends, so that it reaches the others before all that is sent later.
        """
        link = self._link
        if link is None:
            return Answers({}, tuple(self._nodes.others()), self.problem or _CLOSED, self._nodes.gone)

        async def others() -> Sequence[str]:
            await self._renew(link)
            return self._nodes.others()

        answers = await self._questions.ask(link, question, self._nodes.others(), others, seconds)
        gone = self._nodes.gone  # one that has not answered may have been noticed as gone meanwhile
        missing = tuple(node for node in answers.missing if node not in gone)
        return Answers(answers.answers, missing, answers.problem, gone)

    # -- the link

    def _received(self, message: bytes) -> None:
        """Take a message of the store or of a node. What is not understood is ignored."""
        if len(message) > MAX_MESSAGE_BYTES:
            return
        kind, rest = message[:1], message[1:]
        if kind == _KICK:
            self.places.kick(rest)
        elif kind == _DENIAL:
            self._denied([(rest[:DIGEST_BYTES], rest[DIGEST_BYTES:])])
        elif kind in {_JOINED, _LEFT}:
            self._moved(kind, self.names.open(rest, kind))
        elif kind in {QUESTION, ANSWER} and self._link is not None and self._node is not None:
            self._questions.received(self._link, kind, rest, self._node.answer)

    async def _run(self) -> None:
        while True:
            problem = _CLOSED
            self._health.trying(asyncio.get_running_loop().time())
            try:
                await self._attached()
            except StoreError as error:
                problem = str(error)
            except Exception as error:  # noqa: BLE001 - decisions go on, and so do the attempts
                problem = f"an unexpected fault ({type(error).__name__})"
            if self._health.failed(problem):
                meanwhile = "no new session is admitted" if self.places.required else "this server decides by itself"
                log.warning("the share cannot be reached, %s: %s", meanwhile, problem, extra={"event": "share-lost"})
            self._first.set()
            await asyncio.sleep(self._health.pause(asyncio.get_running_loop().time()))

    async def _attached(self) -> None:
        """Be connected, until that fails."""
        assert self._node is not None  # noqa: S101 - set before this runs
        link = await self._connect((self._everybody, self._questions.channel), self._received)
        try:
            await self._pull(link, self._node)
            self._link = link
            self.places.attach(link)
            self._tell(link, _JOINED).add_done_callback(looked_at)
            self._health.recovered()
            self._first.set()
            others = len(self._nodes.there) - 1
            log.info(
                "shares with %d other server%s",
                others,
                "" if others == 1 else "s",
                extra={"event": "share", "share": self.names.share, "node": self.node},
            )
            while True:
                await link.failed(PULL_SECONDS)
                await self._pull(link, self._node)
        except asyncio.CancelledError:
            # Nobody can end the sessions of this node now: if it has any, the others must report it as missing.
            lease = _STOPPED_SECONDS if self._node.has_sessions() else 0
            with suppress(Exception):  # a node leaves also if it cannot tell the others
                await link.call(self._denials.pull(self.node, lease))
                await self._tell(link, _LEFT)
            raise
        finally:
            self._link = None
            self.places.detach()
            await link.aclose()


def _put(future: Future[object]) -> None:
    if not future.cancelled() and future.exception() is None:
        _was_put(future.result())


def _was_put(answer: object) -> bool:
    if answer == -1:
        message = "the share holds too many denials: some are in force on this server only"
        log.error(message, extra={"event": "share-full"})
    return answer != -1
