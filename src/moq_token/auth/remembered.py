"""Remember verified tokens, so that a client that reconnects is cheap to verify."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from moq_token.errors import sealed

if TYPE_CHECKING:
    from moq_token.claims import Claims
    from moq_token.key import Key
    from moq_token.trace import Trace

# A remembered token takes about as much memory as it is long, so all together at most some tens of megabytes.
REMEMBERED_TOKENS = 10_000
_MAX_REMEMBERED_CHARACTERS = 2048


# Nothing in it refers back to it. Thousands of them would make each run of the garbage collector stall the caller.
class _Entry(msgspec.Struct, frozen=True, gc=False):
    key: Key
    claims: Claims
    verified: float

    def counts(self, key: Key, now: float) -> bool:
        """Whether verifying again with ``key`` must succeed; a clock that was set back makes that unsure (`nbf`)."""
        expires = self.claims.expires
        return (self.key is key or self.key == key) and self.verified <= now and (expires is None or now < expires)


class RememberedTokens:
    """Verified tokens, at most ``size``. The one that was not used for longest is forgotten first.

    ``strict`` is that of ``Key.verify()``.
    """

    def __init__(self, size: int, *, strict: bool = False) -> None:
        self._size = size
        self._strict = strict
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()

    def verify(self, key: Key, token: str, now: float, trace: Trace | None = None) -> Claims:
        """Do what ``Key.verify()`` does."""
        return self.find(key, token, now, trace)[0]

    def find(self, key: Key, token: str, now: float, trace: Trace | None = None) -> tuple[Claims, bool]:
        """Do what ``Key.verify()`` does, and say whether the token was known: then the claims are the same object."""
        if not self._size or len(token) > _MAX_REMEMBERED_CHARACTERS:
            return key.verify(token, now=now, strict=self._strict, trace=trace), False
        digest = hashlib.sha256(token.encode()).digest()
        entry = self._entries.pop(digest, None)
        is_known = entry is not None and entry.counts(key, now)
        if entry is None or not is_known:
            entry = _Entry(key, key.verify(token, now=now, strict=self._strict, trace=trace), now)
        elif trace is not None:
            trace.begin("remembered")
        self._entries[digest] = entry
        if len(self._entries) > self._size:
            self._entries.popitem(last=False)
        return entry.claims, is_known

    def clear(self) -> None:
        """Forget all of them."""
        self._entries.clear()


@dataclass(frozen=True, slots=True)
class Remembering:
    """A key that does not verify the same token twice."""

    tokens: RememberedTokens
    key: Key

    @sealed
    def verify(self, token: str, *, now: float, trace: Trace | None = None) -> Claims:
        """Do what ``Key.verify()`` does."""
        return self.tokens.verify(self.key, token, now, trace)
