"""Replace the keys of a directory.

The order of writing keeps every token valid: a public half is there before its key signs anything, and stays until the
overlap has ended. A process may die at any moment: the next one continues from the files it finds.
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING, NamedTuple

import msgspec
from msgspec.structs import replace

from moq_token import files
from moq_token.errors import ConfigError, InvalidKeyError, KeyNotFoundError, shown, shown_path
from moq_token.kid import KeyId
from moq_token.rotation.check import ABANDONED_SECONDS, TEMPORARY, check, check_clock
from moq_token.rotation.limits import Limits, Wanted, inherit
from moq_token.rotation.state import STATE_NAME, SUFFIX, Directory, State, read_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from moq_token.algorithm import Algorithm
    from moq_token.key import Key
    from moq_token.pattern import Pattern

DEFAULT_OVERLAP_SECONDS = 24 * 3600

_LOCK_NAME = ".rotation.lock"
_LOCK_FLAGS = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)


class Change(NamedTuple):
    """The ids of the keys that a method made active, retired and removed, or would with ``dry_run``.

    Retired keys verify for ``overlap`` seconds more. ``skipped`` says that it was not yet time for a rotation.
    """

    active: str | None = None
    retired: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    overlap: int = 0
    skipped: bool = False


class Rotation(Directory):
    """The keys of one directory. Every method reads the files as they are at that moment; ``OSError`` passes."""

    def rotate(
        self,
        algorithm: Algorithm | None,
        public: str | Path | None,
        overlap: int | None,
        now: int,
        *,
        root: str | None = None,
        publish: Iterable[str | Pattern] | None = None,
        subscribe: Iterable[str | Pattern] | None = None,
        widen: bool = False,
        if_older_than: int | None = None,
        dry_run: bool = False,
    ) -> Change:
        """Create a key that signs from now on. The keys before it verify for ``overlap`` seconds more.

        The new key has the algorithm, the scope and the operations of the key before it. A rotation that another
        process makes in the meantime counts as this one.

        Parameters
        ----------
        algorithm : Algorithm | None
            None is the algorithm of the key before, or EdDSA for the first key.
        public : str | Path | None
            The directory of the public halves. None is the one used so far.
        overlap : int | None
            Seconds; remembered. None is the overlap used last, or 24 hours.
        now : int
            Unix seconds.
        root : str | None
            The root of the new scope. None is the root of the scope before.
        publish, subscribe : Iterable[str | Pattern] | None
            The paths and patterns of the new scope. Where either is given, both are replaced.
        widen : bool
            Allow a scope that the key before did not have, and a successor to a key that cannot be read.
        if_older_than : int | None
            Seconds. Where the active key is not older than that, nothing happens: ``Change.skipped``.
        dry_run : bool
            Change nothing, and return which keys would retire.

        Raises
        ------
        ConfigError
            The public halves have no directory or another one than before, the limits of the new key are unknown or
            wider than before, or ``now`` is before the active key was created.
        InvalidKeyError
            A key file, or the new scope, is invalid.
        ValueError
            ``overlap`` is negative.

        """
        wanted = Wanted(algorithm, root, publish, subscribe, widen)
        before = self.state()
        check_clock(before, now)
        if if_older_than is not None and not self._is_older(before, if_older_than, now):
            return Change(skipped=True)
        _, state = self._plan(before, wanted, public)
        if overlap is None:
            overlap = DEFAULT_OVERLAP_SECONDS if before.overlap is None else before.overlap
        if overlap < 0:
            raise ValueError("overlap must be a number of seconds, 0 or more")
        if dry_run:
            return Change(None, tuple(self._outgoing(state)), overlap=overlap)
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._lock():
            current = self.state()
            if current.active != before.active:
                return Change(current.active)
            limits, state = self._plan(current, wanted, public)
            self._remove(state, () if state.pending is None else (state.pending,))
            key = limits.generate()
            kid = str(key.kid)
            outgoing = self._outgoing(state)
            target = self.public_directory(state)
            if target is not None:
                target.mkdir(mode=0o755, parents=True, exist_ok=True)
                self._publish(outgoing, target)
            self._write_state(replace(state, pending=kid))
            if target is not None:
                key.to_public().to_file(target / f"{kid}{SUFFIX}", overwrite=False)
            key.to_file(self.path_of(kid), overwrite=False)
            retired = state.retired | dict.fromkeys(outgoing, now + overlap)
            created = {old: at for old, at in state.created.items() if old in retired} | {kid: now}
            self._write_state(State(kid, None, retired, state.public, overlap, created))
            return Change(kid, tuple(outgoing), overlap=overlap)

    def retire(self, kid: str, now: int) -> Change:
        """Withdraw a key at once: relays refuse its tokens as soon as they read the directory again.

        Raises ``ConfigError`` for the key that signs, and ``KeyNotFoundError`` for an unknown one.
        """
        kid = KeyId(kid)
        with self._lock():
            state = self.state()
            if kid == state.active or (state.active is None and self.path_of(kid).exists()):
                raise ConfigError(f"{shown(kid)} is the key that signs: run `keys rotate` first, then retire it")
            if kid not in state.retired and self._half(kid, state) is None:
                raise KeyNotFoundError(f"no key {shown(kid)} in {self}", kid=kid)
            pending = None if kid == state.pending else state.pending
            self._write_state(replace(state, pending=pending, retired={**state.retired, kid: now}))
            return self._prune(now)

    def prune(self, now: int, *, dry_run: bool = False) -> Change:
        """Remove both halves of the keys whose overlap has ended. ``now`` is in Unix seconds.

        Raises ``ConfigError`` where ``now`` is before the active key was created.
        """
        self.directory.stat()
        state = self.state()
        check_clock(state, now)
        if dry_run:
            return Change(None, (), self._due(state, now))
        with self._lock():
            return self._prune(now)

    def check(self, now: float | None = None, *, public: bool = False) -> list[str]:
        """Return what is wrong with the directory, one line each. ``now`` is in Unix seconds; None is the clock.

        ``public`` says that relays read this directory, so that no private key belongs in it.
        """
        return check(self, time.time() if now is None else now, public=public)

    def _publish(self, kids: list[str], target: Path) -> None:
        """Put the public halves of keys that have signed where relays read from now on."""
        for kid in kids:
            path = target / f"{kid}{SUFFIX}"
            if not path.exists():
                read_key(self.path_of(kid)).to_public().to_file(path)

    def _outgoing(self, state: State) -> list[str]:
        """List the keys that have signed until now: the active one, or at the first rotation all that could."""
        if state.active is None:
            return [str(key.kid) for key in self.signers(state)]
        return [state.active] if self._active(state) else []

    def _half(self, kid: str, state: State) -> Path | None:
        """Return the file of a key, or that of its public half, or None."""
        directories = filter(None, (self.directory, self.public_directory(state)))
        return next((path for path in (each / f"{kid}{SUFFIX}" for each in directories) if path.exists()), None)

    def _plan(self, state: State, wanted: Wanted, public: str | Path | None) -> tuple[Limits, State]:
        keys = list(self.signers(state)) if state.active is None else self._active(state)
        if state.active is not None and not keys and not wanted.widen:
            raise ConfigError(
                f"the active key {shown(state.active)} of {self} cannot be read, so its scope is unknown: restore its "
                "file, or add --widen to continue without its scope"
            )
        limits = inherit(keys, wanted, str(self))
        return limits, self._placed(state, limits.algorithm, public)

    def _active(self, state: State) -> list[Key]:
        """Read the active key, or else its public half, which has the same scope; none where both are unusable."""
        for directory in filter(None, (self.directory, self.public_directory(state))):
            with contextlib.suppress(FileNotFoundError, InvalidKeyError):
                return [read_key(directory / f"{state.active}{SUFFIX}")]
        return []

    def _is_older(self, state: State, seconds: int, now: int) -> bool:
        if state.active is None or not self.path_of(state.active).exists():
            return True
        created = state.created.get(state.active, int(self.path_of(state.active).stat().st_mtime))
        return now - created > seconds

    def _placed(self, state: State, algorithm: Algorithm, public: str | Path | None) -> State:
        if algorithm.symmetric:
            if public is not None or state.public is not None:
                raise ConfigError(f"--public-dir: a key for {algorithm} is a secret and has no public half")
            return state
        if public is None and state.public is None:
            raise ConfigError("missing directory for the public halves, which relays read: add --public-dir DIR")
        if public is None:
            return state
        relative = os.path.relpath(os.path.realpath(public), self.real_path())
        if relative == ".":
            raise ConfigError(
                "--public-dir must not be the directory of the private keys: relays read it; name another one"
            )
        if state.public not in {None, relative}:
            there = shown_path(str(self.public_directory(state)))
            raise ConfigError(
                f"--public-dir: the public halves of {self} are in {there}: use that directory, or omit the option"
            )
        return replace(state, public=relative)

    def _due(self, state: State, now: int) -> tuple[str, ...]:
        return tuple(kid for kid, until in state.retired.items() if until <= now)

    def _prune(self, now: int) -> Change:
        state = self.state()
        due = self._remove(state, self._due(state, now))
        self._remove(state, () if state.pending is None else (state.pending,))
        self._sweep(state, now)
        retired = {kid: until for kid, until in state.retired.items() if kid not in due}
        created = {kid: at for kid, at in state.created.items() if kid not in due}
        if due or state.pending is not None:
            self._write_state(replace(state, pending=None, retired=retired, created=created))
        return Change(None, (), due)

    def _remove(self, state: State, kids: tuple[str, ...]) -> tuple[str, ...]:
        """Remove keys, the public half first: without it relays admit nobody, even if this process dies here."""
        target = self.public_directory(state)
        for kid in kids:
            for directory in filter(None, (target, self.directory)):
                (directory / f"{kid}{SUFFIX}").unlink(missing_ok=True)
        return kids

    def _sweep(self, state: State, now: int) -> None:
        """Remove files left behind by interrupted writes: a temporary file may hold a private key."""
        for directory in filter(None, (self.public_directory(state), self.directory)):
            for path in directory.glob(".*.tmp") if directory.exists() else ():
                with contextlib.suppress(FileNotFoundError):
                    if TEMPORARY.fullmatch(path.name) and path.stat().st_mtime < now - ABANDONED_SECONDS:
                        path.unlink()

    def _write_state(self, state: State) -> None:
        files.write(self.directory / STATE_NAME, msgspec.json.encode(state) + b"\n", private=False)

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        """Let one process at a time change the directory. The system releases the lock when a process dies."""
        try:
            import fcntl
        except ImportError:
            raise ConfigError("rotation needs file locks (fcntl), which this system does not have") from None
        try:
            descriptor = os.open(self.directory / _LOCK_NAME, os.O_RDWR | os.O_CREAT | _LOCK_FLAGS, 0o600)
        except OSError as error:
            error.filename = str(self.directory)  # the user has named the directory, not the lock
            raise
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)
