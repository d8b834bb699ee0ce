"""The keys of a policy: from any source, remembered for a while when the source fails, tokens verified once."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, NamedTuple

from moq_token.auth.decision import kid_of
from moq_token.auth.remembered import RememberedTokens
from moq_token.errors import (
    InvalidKeyIdError,
    InvalidTokenError,
    KeyNotFoundError,
    KeyOperationError,
    UnavailableError,
    bare,
)
from moq_token.kid import KeyId
from moq_token.sources import DirectorySource, FileSource, JwksFileSource, JwksUrlSource, UrlSource
from moq_token.sources.memory import Lru
from moq_token.sources.opening import open_keys
from moq_token.sources.source import UnusableKeyError

if TYPE_CHECKING:
    from collections.abc import Callable

    from moq_token.claims import Claims
    from moq_token.key import Key
    from moq_token.sources import KeySource

# How long a key is used that its source gave before it failed. Longer than a restart or a fail-over of a file server
# takes; a key that was withdrawn while the source is down counts for as long.
LAST_GOOD_SECONDS = 3600.0
# How long a key is used without asking its source again, so that a burst of requests asks once. Shorter than the start
# of a command that nudges the relays after a key was replaced or removed: their re-checks must see the change.
FRESH_SECONDS = 0.01

# Sources of one key, which verifies every token with any `kid`.
_SINGLE = (FileSource, UrlSource)
_SETS = (JwksFileSource, JwksUrlSource)
_LOCAL = (FileSource, DirectorySource, JwksFileSource)


# Asks a source of many keys whether it answers at all.
_PROBE = KeyId("readyz")
_MAX_PROBLEMS = 10


class Problem(NamedTuple):
    """A problem to report to monitoring. ``is_fatal`` means that no token can be verified."""

    message: str
    is_fatal: bool


class PolicyKeys:
    """Finds the key of a token and verifies it, strictly or as the first generation of relays did."""

    def __init__(
        self,
        keys: KeySource | str | os.PathLike[str],
        *,
        strict: bool,
        remember: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._owned = isinstance(keys, str | os.PathLike)
        self.source: KeySource = open_keys(os.fspath(keys)) if isinstance(keys, str | os.PathLike) else keys
        self._tokens = RememberedTokens(remember, strict=strict)
        self._strict = strict
        self._last: Lru[tuple[Key, float]] = Lru()
        self._unreadable: Lru[UnavailableError] = Lru()
        self._clock = clock

    async def key(self, token: str) -> Key:
        """Return the key that the ``kid`` of a token selects. Raises as ``get()``, and ``InvalidTokenError``."""
        return await self.get(self._kid(token))

    def fresh_key(self, token: str) -> Key | None:
        """Return the same key if it was read just now, else None. Raises ``InvalidTokenError``."""
        return self._fresh(self._kid(token))

    def _kid(self, token: str) -> str | None:
        return None if isinstance(self.source, _SINGLE) else kid_of(token)

    def _fresh(self, kid: str | None) -> Key | None:
        last = self._last.get(kid or "")
        return None if last is None or self._clock() - last[1] >= FRESH_SECONDS else last[0]

    def verify(self, key: Key, token: str, now: float) -> tuple[Claims, bool]:
        """Verify a token with its key, and say whether it was known: then its claims are the same object as before.

        Raises as ``Key.verify()``, and ``KeyNotFoundError``.
        """
        try:
            return self._tokens.find(key, token, now)
        except KeyOperationError as error:
            raise KeyNotFoundError(str(error), kid=key.kid) from None

    async def get(self, kid: str | None) -> Key:
        """Return a key by its id, or the only one. Raises ``RefusedError`` and ``UnavailableError``."""
        fresh = self._fresh(kid)
        if fresh is not None:
            return fresh
        entry = kid or ""
        if kid is None and not isinstance(self.source, (*_SINGLE, *_SETS)):
            raise InvalidTokenError("the token has no `kid`, which is needed to select the key", reason="kid-missing")
        try:
            name = None if kid is None else KeyId(kid)
        except InvalidKeyIdError:
            raise KeyNotFoundError("invalid `kid` in the token header", kid=kid) from None
        try:
            key = await self.source.get(name)
        except KeyNotFoundError:
            self._forget(entry)
            raise
        except UnavailableError as error:
            if isinstance(error, UnusableKeyError) and isinstance(self.source, _LOCAL):
                # A file that is there and holds no key: asking again does not help.
                self._forget(entry)
                raise KeyNotFoundError(str(error), kid=kid) from None
            self._unreadable.put(entry, bare(error))
            good = self._last_good(entry)
            if good is None:
                raise
            return good
        if self._strict and key.is_first_generation:
            self._forget(entry)  # or the key before would count again when the source fails
            raise KeyNotFoundError("the key has a form that relays from 0.15 on refuse: write it again", kid=kid)
        if self._unreadable:
            self._unreadable.pop(entry)
        self._last.put(entry, (key, self._clock()))
        return key

    def _last_good(self, name: str) -> Key | None:
        last = self._last.get(name)
        return None if last is None or self._clock() - last[1] > LAST_GOOD_SECONDS else last[0]

    def _forget(self, name: str) -> None:
        self._last.pop(name)
        self._unreadable.pop(name)

    async def problems(self) -> list[Problem]:
        """Say which keys cannot be read: the source as a whole, or those that were asked for last and failed.

        It is fatal if the source as a whole fails, and no key is left that it has given before.
        """
        try:
            await self.source.get(None if isinstance(self.source, (*_SINGLE, *_SETS)) else _PROBE)
        except KeyNotFoundError as error:
            # A set of several keys has no key without an id; only a set of one key is complete with it.
            return [Problem(str(error), is_fatal=False)] if isinstance(self.source, _SINGLE) else self._failures()
        except UnavailableError as error:
            usable = sum(self._last_good(name) is not None for name in self._last.names())
            if usable:
                return [Problem(f"{error} ({usable} keys are used as they were last read)", is_fatal=False)]
            return [Problem(str(error), is_fatal=True)]
        return self._failures()

    def _failures(self) -> list[Problem]:
        names = self._unreadable.names()[-_MAX_PROBLEMS:]
        return [Problem(str(self._unreadable.get(name)), is_fatal=False) for name in names]

    async def aclose(self) -> None:
        """Close the source if it was opened here."""
        self._tokens.clear()
        if self._owned:
            await self.source.aclose()
