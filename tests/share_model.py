"""What `script.lua` does, in Python: for simulations without a store, and to check the script by.

Values are bytes, as in the store. Keys have no ends of their own here: what they would remove has ended anyway.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, TypeAlias

from moq_token.server.share.names import DIGEST_BYTES

MAX_NODE_BYTES = 256

if TYPE_CHECKING:
    from collections.abc import Sequence

    from moq_token.server.share.caps import Call

    # Leases, starts, limit and tag, as in the script.
    _Cap: TypeAlias = tuple[dict[bytes, int], dict[bytes, int], int, bytes]


class StoreModel:
    """The content of a store. `messages` has what was published, as (channel, message)."""

    def __init__(self) -> None:
        self.sorted: dict[bytes, dict[bytes, int]] = defaultdict(dict)
        self.hashes: dict[bytes, dict[bytes, bytes]] = defaultdict(dict)
        self.messages: list[tuple[bytes, bytes]] = []

    def copy(self) -> StoreModel:
        """Return another store with the same content."""
        other = StoreModel()
        other.sorted.update((key, scores.copy()) for key, scores in self.sorted.items())
        other.hashes.update((key, fields.copy()) for key, fields in self.hashes.items())
        return other

    def flush(self) -> None:
        self.sorted.clear()
        self.hashes.clear()

    def call(self, call: Call, now: int) -> Any:  # noqa: ANN401 - as the operation says
        """Run one call of the script at `now`, in milliseconds."""
        arguments = [word if isinstance(word, bytes) else b"%d" % word for word in call.arguments]
        match arguments[0]:
            case b"admit":
                return self._lease(call.keys, arguments[1:], now, is_newcomer=True)
            case b"refresh":
                return self._lease(call.keys, arguments[1:], now, is_newcomer=False)
            case b"release":
                for leases, starts, _, _ in self._caps(call.keys, arguments[5:]):
                    leases.pop(arguments[2], None)
                    starts.pop(arguments[2], None)
                return [0]
            case b"pull":
                return self._pull(call.keys, arguments[1:], now)
            case b"fetch":
                records = [self.hashes[call.keys[1]].get(digest) for digest in arguments[2:]]
                return [b"" if record and len(record) > int(arguments[1]) else record for record in records]
            case b"put":
                return self._put(call.keys, arguments[1:], now)
        raise AssertionError(arguments[0])

    def _caps(self, keys: Sequence[bytes], words: Sequence[bytes]) -> list[_Cap]:
        return [
            (self.sorted[keys[1 + 2 * i]], self.sorted[keys[2 + 2 * i]], int(words[2 * i]), words[1 + 2 * i])
            for i in range(len(words) // 2)
        ]

    def _lease(self, keys: Sequence[bytes], words: Sequence[bytes], now: int, *, is_newcomer: bool) -> list[Any]:
        channel, session, duration, age = words[0], words[1], int(words[2]), int(words[3])
        remembered, caps = self.sorted[keys[0]], self._caps(keys, words[4:])
        kicked: list[Any] = [0]
        for number, (_, _, _, tag) in enumerate(caps, 1):
            if tag and remembered.get(tag + session, now) > now:
                return [-number]
        if is_newcomer:
            if full := self._full(session, caps, now):
                return [full]
            for cap in caps:
                leases, _, limit, tag = cap
                while tag and session not in leases and len(leases) >= limit:
                    kicked += self._kick_oldest(cap, remembered, channel, now)
        for leases, starts, _, tag in caps:
            leases[session] = now + duration
            if tag:
                starts.setdefault(session, 1000 * now - age)
        return kicked

    def _full(self, session: bytes, caps: Sequence[_Cap], now: int) -> int:
        """Return the number of the cap that refuses the session, 0 for none. Ended leases are removed."""
        for number, (leases, starts, limit, tag) in enumerate(caps, 1):
            for ended in [each for each, end in leases.items() if end <= now]:
                del leases[ended]
                if tag:
                    starts.pop(ended, None)
            if not tag and session not in leases and len(leases) >= limit:
                return number
        return 0

    def _kick_oldest(self, cap: _Cap, remembered: dict[bytes, int], channel: bytes, now: int) -> list[bytes]:
        leases, starts, _, tag = cap
        oldest = _first(starts) or _first(leases)
        assert oldest is not None
        starts.pop(oldest, None)
        end = leases.pop(oldest, None)
        if end is None or len(oldest) != DIGEST_BYTES:
            return []
        remembered[tag + oldest] = now + 2 * (end - now)
        self.messages.append((channel, b"K" + tag + oldest))
        return [tag + oldest]

    def _pull(self, keys: Sequence[bytes], words: Sequence[bytes], now: int) -> list[Any]:
        nodes, records, ends = self.sorted[keys[0]], self.hashes[keys[1]], self.sorted[keys[2]]
        node, duration, remembered = words[0], int(words[1]), int(words[2])
        for name in [name for name, end in nodes.items() if end <= now - remembered]:
            del nodes[name]
        if duration > 0:
            nodes[node] = now + duration
        else:
            nodes.pop(node, None)
        for digest in [digest for digest, end in ends.items() if end <= now]:
            del ends[digest], records[digest]
        names = [name for name in sorted(nodes, key=lambda name: (nodes[name], name)) if len(name) <= MAX_NODE_BYTES]
        digests = [digest for digest in records if len(digest) == DIGEST_BYTES]
        return [
            [name for name in names if nodes[name] > now],
            b"".join(digests),
            [name for name in names if nodes[name] <= now],
        ]

    def _put(self, keys: Sequence[bytes], words: Sequence[bytes], now: int) -> int:
        channel, most, digest, end, record = words[0], int(words[1]), words[2], int(words[3]), words[4]
        records, ends = self.hashes[keys[1]], self.sorted[keys[2]]
        if end <= now or digest in records:
            return 0
        if len(records) >= most:
            return -1
        records[digest], ends[digest] = record, end
        self.messages.append((channel, b"D" + digest + record))
        return 1


def _first(scores: dict[bytes, int]) -> bytes | None:
    """Return what is first in a sorted set: by score, then by its bytes."""
    return min(scores, key=lambda member: (scores[member], member), default=None)
