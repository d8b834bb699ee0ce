"""Replacing the keys of a directory.

The order of writing is what keeps every token good: a public half is there before anything is signed with its key, and
stays until the overlap has passed. Whatever moment a process dies at, the next one goes on from what it finds.
"""

from __future__ import annotations

import contextlib
import os
import re
from typing import TYPE_CHECKING, NamedTuple

import msgspec
from msgspec.structs import replace

from moq_token import files
from moq_token.algorithm import Algorithm
from moq_token.errors import ConfigError, KeyNotFoundError, shown
from moq_token.key import Key
from moq_token.kid import KeyId
from moq_token.rotation.check import check
from moq_token.rotation.state import STATE_NAME, SUFFIX, Directory, State, read_key

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_LOCK_NAME = ".rotation.lock"
_TEMPORARY = re.compile(r"\.[0-9a-f]{16}\.tmp")  # as files.py names them
_ABANDONED_SECONDS = 60  # writing a key takes no such time


class Change(NamedTuple):
    """What a command did, or would do: the ids that it made active, retired and removed."""

    active: str | None = None
    retired: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()


class Rotation(Directory):
    """The keys of one directory. Every method reads what is on disk at that moment; :class:`OSError` passes."""

    def rotate(
        self, algorithm: Algorithm | None, public: str | Path | None, overlap: int, now: int, *, dry_run: bool = False
    ) -> Change:
        """Make a new key the signing one; the others verify for ``overlap`` seconds more. ``now`` is in Unix seconds.

        ``algorithm`` None is that of the key before, or EdDSA; ``public`` None is where the public halves are already.

        A rotation that another process makes meanwhile counts as this one. Raises :class:`ConfigError` where the public
        halves have no place, or another one than before.
        """
        before = self.state()
        algorithm = algorithm or self._algorithm(before)
        state = self._placed(before, algorithm, public)
        if dry_run:
            return Change(None, tuple(self._outgoing(state)))
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._lock():
            current = self.state()
            if current.active != before.active:
                return Change(current.active)
            state = self._placed(current, algorithm, public)
            self._remove(state, () if state.pending is None else (state.pending,))
            key = Key.generate(algorithm)
            kid = str(key.kid)
            outgoing = self._outgoing(state)
            target = self.public_directory(state)
            if target is not None:
                target.mkdir(parents=True, exist_ok=True)
                self._publish(outgoing, target)
            self._write_state(replace(state, pending=kid))
            if target is not None:
                key.to_public().to_file(target / f"{kid}{SUFFIX}", overwrite=False)
            key.to_file(self.path_of(kid), overwrite=False)
            retired = state.retired | dict.fromkeys(outgoing, now + overlap)
            self._write_state(replace(state, active=kid, pending=None, retired=retired))
            return Change(kid, tuple(outgoing))

    def retire(self, kid: str, now: int) -> Change:
        """Withdraw a key at once: relays refuse its tokens as soon as they read the directory again.

        Raises :class:`ConfigError` for the active key, :class:`KeyNotFoundError` for one that is not here.
        """
        kid = KeyId(kid)
        with self._lock():
            state = self.state()
            if kid == state.active or (state.active is None and self.path_of(kid).exists()):
                raise ConfigError(f"{shown(kid)} is the key that signs: `keys rotate` first, then retire it")
            if kid not in state.retired and not self.path_of(kid).exists():
                raise KeyNotFoundError(f"there is no key {shown(kid)} in {shown(str(self.directory))}", kid=kid)
            self._write_state(replace(state, retired={**state.retired, kid: now}))
            return self._prune(now)

    def prune(self, now: int, *, dry_run: bool = False) -> Change:
        """Remove both halves of the keys whose overlap has passed."""
        if dry_run:
            return Change(None, (), self._due(self.state(), now))
        with self._lock():
            return self._prune(now)

    def check(self, *, public: bool = False) -> list[str]:
        """Return what is wrong, one line each: files, names, modes, and halves that miss each other.

        ``public`` says that this is a directory which relays read, and which holds no private key.
        """
        return check(self, public=public)

    def _publish(self, kids: list[str], target: Path) -> None:
        """Put the public halves of keys that have signed where relays read from now on."""
        for kid in kids:
            path = target / f"{kid}{SUFFIX}"
            if not path.exists():
                read_key(self.path_of(kid)).to_public().to_file(path)

    def _outgoing(self, state: State) -> list[str]:
        """List the keys that have signed until now: the active one, or at the first rotation all that could."""
        if state.active is not None:
            return [state.active]
        return [str(key.kid) for key in self.signers() if key.kid != state.pending and key.kid not in state.retired]

    def _algorithm(self, state: State) -> Algorithm:
        if state.active is None or not self.path_of(state.active).exists():
            return Algorithm.EDDSA
        return read_key(self.path_of(state.active)).algorithm

    def _placed(self, state: State, algorithm: Algorithm, public: str | Path | None) -> State:
        if algorithm.symmetric:
            if public is not None or state.public is not None:
                raise ConfigError(f"a key for {algorithm} is a secret and has no public half to publish")
            return state
        if public is None and state.public is None:
            raise ConfigError("say where the public halves go, which relays read: --public-dir DIR")
        if public is None:
            return state
        relative = os.path.relpath(os.path.realpath(public), self.place())
        if relative == ".":
            raise ConfigError("the public halves need a directory of their own: relays read it, and no private key")
        if state.public not in {None, relative}:
            raise ConfigError(
                f"the public halves are in {shown(str(self.public_directory(state)))}, not in another place"
            )
        return replace(state, public=relative)

    def _due(self, state: State, now: int) -> tuple[str, ...]:
        return tuple(kid for kid, until in state.retired.items() if until <= now)

    def _prune(self, now: int) -> Change:
        state = self.state()
        due = self._remove(state, self._due(state, now))
        self._remove(state, () if state.pending is None else (state.pending,))
        self._sweep(state, now)
        kept = {kid: until for kid, until in state.retired.items() if kid not in due}
        if due or state.pending is not None:
            self._write_state(replace(state, pending=None, retired=kept))
        return Change(None, (), due)

    def _remove(self, state: State, kids: tuple[str, ...]) -> tuple[str, ...]:
        """Remove keys, the public half first: without it nothing more is admitted, whatever happens then."""
        target = self.public_directory(state)
        for kid in kids:
            for directory in filter(None, (target, self.directory)):
                (directory / f"{kid}{SUFFIX}").unlink(missing_ok=True)
        return kids

    def _sweep(self, state: State, now: int) -> None:
        """Remove what writers left that died: a temporary file may hold a private key."""
        for directory in filter(None, (self.public_directory(state), self.directory)):
            for path in directory.glob(".*.tmp") if directory.exists() else ():
                with contextlib.suppress(FileNotFoundError):
                    if _TEMPORARY.fullmatch(path.name) and path.stat().st_mtime < now - _ABANDONED_SECONDS:
                        path.unlink()

    def _write_state(self, state: State) -> None:
        files.write(self.directory / STATE_NAME, msgspec.json.encode(state) + b"\n", private=False)

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        """Let one process at a time change the directory; the system lets go of the lock when a process dies."""
        try:
            import fcntl
        except ImportError:
            raise ConfigError("this system has no locks of the kind that a rotation needs (fcntl)") from None
        try:
            descriptor = os.open(self.directory / _LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            error.filename = str(self.directory)  # the lock is nothing that anybody has named
            raise
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)
