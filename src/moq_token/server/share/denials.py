"""The denials that the nodes of a share have in common: a set that only grows, whose members have an end.

Which of two denials with the same id counts is decided by each node (``Denials``), so that the store need not
understand them: it holds sealed records under their digests, and any record may come at any time, or again.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final

from moq_token.errors import InvalidDenialError
from moq_token.server.denial import Denial
from moq_token.server.share.caps import Call
from moq_token.server.share.names import DIGEST_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from moq_token.server.share.names import Names

MAX_SHARED: Final = 20_000
"""Denials in the store, those that were replaced by a later one included."""
MAX_RECORD_BYTES: Final = 8192
"""A sealed denial. Longer records, which others have written, stay in the store."""
GONE_SECONDS: Final = 3600
"""How long a node that has stopped without leaving is missed: its sessions go on, and nobody ends them."""
_FETCHED_TOGETHER = 200

_KIND = b"denial"


class SharedDenials:
    """Compares what the store holds with what this node knows."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._keys = [names.key(b"nodes"), names.key(b"denials"), names.key(b"denials:ends")]
        self._channel = names.key(b"all")
        # What has been read from the store, as the store also keeps those that a later one has replaced.
        self._seen: set[bytes] = set()
        # What was read while there was no room for it, and how many denials there were then.
        self._left_out: set[bytes] = set()
        self._full = 0
        self._digests: dict[Denial, bytes] = {}

    def pull(self, node: str, seconds: float) -> Call:
        """Return the call that renews the lease of a node, and asks for the nodes and for what there is.

        Without a lease (0 s) the node leaves.
        """
        return Call(self._keys, (b"pull", node.encode(), int(seconds * 1000), GONE_SECONDS * 1000))

    def put(self, denial: Denial) -> Call:
        """Return the call that adds a denial and tells all nodes."""
        digest = self._digest(denial)
        record = self._names.seal(denial.to_json(), _KIND + digest)
        return Call(self._keys, (b"put", self._channel, MAX_SHARED, digest, denial.forgotten * 1000, record))

    def compare(self, digests: bytes, known: Iterable[Denial]) -> tuple[list[bytes], list[Denial]]:
        """Return the digests of what is to be fetched, and the denials that the store lacks."""
        stored = {digests[start : start + DIGEST_BYTES] for start in range(0, len(digests), DIGEST_BYTES)}
        mine = {denial: self._digest(denial) for denial in known}
        self._digests = mine
        self._seen &= stored
        self._seen |= stored & set(mine.values())
        self._left_out &= stored
        for digest in list(islice(self._left_out, max(0, self._full - len(mine)))):
            self._left_out.discard(digest)
            self._seen.discard(digest)
        return list(stored - self._seen), [denial for denial, digest in mine.items() if digest not in stored]

    def leave_out(self, denials: Iterable[Denial], known: int) -> None:
        """Note denials that were read while ``known`` others left no room. They are fetched when there are fewer."""
        self._left_out.update(map(self._digest, denials))
        self._full = known

    def fetches(self, digests: Sequence[bytes]) -> Iterator[tuple[Sequence[bytes], Call]]:
        """Return the calls that fetch denials, some at a time."""
        for start in range(0, len(digests), _FETCHED_TOGETHER):
            some = digests[start : start + _FETCHED_TOGETHER]
            yield some, Call(self._keys, (b"fetch", MAX_RECORD_BYTES, *some))

    def read(self, digest: bytes, record: bytes) -> Denial | None:
        """Read a record. None for one that no node with the same secret has written, or that is not understood."""
        self._seen.add(digest)
        if len(record) > MAX_RECORD_BYTES:
            return None
        document = self._names.open(record, _KIND + digest)
        try:
            return None if document is None else Denial.from_json(document)
        except InvalidDenialError:
            return None

    def _digest(self, denial: Denial) -> bytes:
        return self._digests.get(denial) or self._names.digest(_KIND, denial.to_json())
