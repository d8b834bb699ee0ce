"""A directory of signing keys that are replaced one after another, and the public halves that relays read.

``DIR`` holds the private keys as ``{kid}.jwk`` and the state as ``rotation.json``; another directory, which the state
names, holds the public halves. Secrets (``oct``) have none: relays then read ``DIR`` itself. The order of writing is
what keeps every token good: a public half is there before anything is signed with its key, and stays until the overlap
has passed. Whatever moment a process dies at, the next one goes on from what it finds.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec
from msgspec.structs import replace

from moq_token import files
from moq_token.algorithm import Algorithm
from moq_token.encoding import parse_json
from moq_token.errors import ConfigError, InvalidKeyError, KeyNotFoundError, shown
from moq_token.key import Key, KeyOperation
from moq_token.kid import KeyId

if TYPE_CHECKING:
    from collections.abc import Iterator

STATE_NAME = "rotation.json"
SUFFIX = ".jwk"
_LOCK_NAME = ".rotation.lock"
_TEMPORARY = re.compile(r"\.[0-9a-f]{16}\.tmp")  # as files.py names them
_ABANDONED_SECONDS = 60  # writing a key takes no such time


class State(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What is known of the keys of a directory.

    ``active`` signs. ``pending`` was being made when a process died, and has signed nothing. ``retired`` keys verify
    until their time (Unix seconds). ``public`` is the directory of public halves, relative to this one.
    """

    active: str | None = None
    pending: str | None = None
    retired: dict[str, int] = {}
    public: str | None = None

    def __post_init__(self) -> None:
        for kid in filter(None, (self.active, self.pending, *self.retired)):
            KeyId(kid)  # these become names of files
        if "\0" in (self.public or ""):
            raise ValueError("`public` is no name of a directory")


class Change(NamedTuple):
    """What a command did, or would do: the ids that it made active, retired and removed."""

    active: str | None = None
    retired: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()


class KeyFile(NamedTuple):
    """A file ``{kid}.jwk`` of a directory, ``modified`` at that time (Unix seconds).

    ``key`` is None where it is not readable, and ``problems`` say why, or what else is wrong.
    """

    path: Path
    key: Key | None
    problems: tuple[str, ...]
    modified: float


class Rotation:
    """The keys of one directory. Every method reads what is on disk at that moment; :class:`OSError` passes."""

    def __init__(self, directory: str | Path) -> None:
        self.directory = Path(directory)

    def state(self) -> State:
        """Read the state, an empty one where there is none yet. Raises :class:`ConfigError` where it is damaged."""
        path = self.directory / STATE_NAME
        try:
            return msgspec.convert(parse_json(files.read(path)), State)
        except FileNotFoundError:
            return State()
        except (ValueError, InvalidKeyError):
            raise ConfigError(f"{shown(str(path))} is no state of a rotation: restore it, or remove it") from None

    def public_directory(self, state: State) -> Path | None:
        """Return where the public halves are; None where relays read this directory itself."""
        return None if state.public is None else Path(os.path.normpath(self._place() / state.public))

    def signing_key(self) -> Key:
        """Return the key that signs: the active one, or, before any rotation, the only one that can.

        Raises :class:`KeyNotFoundError` where there is none or more than one, :class:`InvalidKeyError`,
        :class:`ConfigError`.
        """
        state = self.state()
        if state.active is not None:
            try:
                return _key(self._path(state.active))
            except FileNotFoundError:
                message = f"the active key {shown(state.active)} has no file in {shown(str(self.directory))}"
                raise KeyNotFoundError(message, kid=state.active) from None
        signers = [key for key in self._signers() if key.kid != state.pending]
        if len(signers) != 1:
            count = len(signers) or "none"
            message = (
                f"one key of {shown(str(self.directory))} must be for signing, here are {count}: `keys rotate` picks"
            )
            raise KeyNotFoundError(message)
        return signers[0]

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
            key.to_file(self._path(kid), overwrite=False)
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
            if kid == state.active or (state.active is None and self._path(kid).exists()):
                raise ConfigError(f"{shown(kid)} is the key that signs: `keys rotate` first, then retire it")
            if kid not in state.retired and not self._path(kid).exists():
                raise KeyNotFoundError(f"there is no key {shown(kid)} in {shown(str(self.directory))}", kid=kid)
            self._write_state(replace(state, retired={**state.retired, kid: now}))
            return self._prune(now)

    def prune(self, now: int, *, dry_run: bool = False) -> Change:
        """Remove both halves of the keys whose overlap has passed."""
        if dry_run:
            return Change(None, (), self._due(self.state(), now))
        with self._lock():
            return self._prune(now)

    def files(self) -> list[KeyFile]:
        """Read every ``*.jwk`` of the directory, in the order of names."""
        return [_read(path) for path in _paths(self.directory)]

    def check(self, *, public: bool = False) -> list[str]:
        """Return what is wrong, one line each: files, names, modes, and halves that miss each other.

        ``public`` says that this is a directory which relays read, and which holds no private key.
        """
        problems = _problems(self.files(), public=public)
        state = self.state()
        target = self.public_directory(state)
        if target is not None:
            problems += _problems([_read(path) for path in _paths(target)], public=True)
        if state.active is None:
            return problems
        if target is not None and not self._path(state.active).exists():
            problems.append(f"{self._path(state.active)}: the file of the active key is missing")
        for kid in (state.active, *state.retired):
            verifying = self._path(kid) if target is None else target / f"{kid}{SUFFIX}"
            if not verifying.exists():
                problems.append(f"{verifying}: it is missing, so relays refuse the tokens of this key")
            elif target is not None and self._path(kid).exists():
                problems += _compare(self._path(kid), verifying)
        return problems

    def _place(self) -> Path:
        """Say where this directory is, however it was spelled, and whatever links lead there."""
        return Path(os.path.realpath(self.directory))

    def _path(self, kid: str) -> Path:
        return self.directory / f"{kid}{SUFFIX}"

    def _publish(self, kids: list[str], target: Path) -> None:
        """Put the public halves of keys that have signed where relays read from now on."""
        for kid in kids:
            path = target / f"{kid}{SUFFIX}"
            if not path.exists():
                _key(self._path(kid)).to_public().to_file(path)

    def _signers(self) -> Iterator[Key]:
        for path in _paths(self.directory) if self.directory.exists() else ():
            key = _key(path)
            if key.is_private and KeyOperation.SIGN in key.operations and key.kid == path.stem:
                yield key

    def _outgoing(self, state: State) -> list[str]:
        """List the keys that have signed until now: the active one, or at the first rotation all that could."""
        if state.active is not None:
            return [state.active]
        return [str(key.kid) for key in self._signers() if key.kid != state.pending and key.kid not in state.retired]

    def _algorithm(self, state: State) -> Algorithm:
        if state.active is None or not self._path(state.active).exists():
            return Algorithm.EDDSA
        return _key(self._path(state.active)).algorithm

    def _placed(self, state: State, algorithm: Algorithm, public: str | Path | None) -> State:
        if algorithm.symmetric:
            if public is not None or state.public is not None:
                raise ConfigError(f"a key for {algorithm} is a secret and has no public half to publish")
            return state
        if public is None and state.public is None:
            raise ConfigError("say where the public halves go, which relays read: --public-dir DIR")
        if public is None:
            return state
        relative = os.path.relpath(os.path.realpath(public), self._place())
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


def _paths(directory: Path) -> list[Path]:
    return sorted(path for path in directory.iterdir() if path.suffix == SUFFIX)


def _read(path: Path) -> KeyFile:
    modified, key, problems = 0.0, None, []
    try:
        status = path.stat()
        modified = status.st_mtime
        key = _key(path)
    except (OSError, InvalidKeyError) as error:
        problems.append(error.strerror or "unreadable" if isinstance(error, OSError) else str(error).partition(": ")[2])
    else:
        if key.kid is None:
            problems.append("it has no `kid`, and its name stands for one")
        elif key.kid != path.stem:
            problems.append(f"its `kid` is {shown(key.kid)}, so it should be named {shown(f'{key.kid}{SUFFIX}')}")
        if key.is_private and os.name == "posix" and status.st_mode & 0o077:
            problems.append(f"it is private, and its mode {status.st_mode & 0o777:04o} lets others read it: chmod 600")
    return KeyFile(path, key, tuple(problems), modified)


def _problems(found: list[KeyFile], *, public: bool) -> list[str]:
    lines = [f"{file.path}: {problem}" for file in found for problem in file.problems]
    if public:
        lines += [
            f"{file.path}: a private key where only public ones belong: whoever reads it can sign"
            for file in found
            if file.key is not None and file.key.is_private
        ]
    return lines


def _compare(private: Path, public: Path) -> list[str]:
    try:
        belongs = _key(private).to_public() == _key(public)
    except InvalidKeyError:
        return []  # each has been reported on its own
    return [] if belongs else [f"{public}: it is not the public half of {private}"]


def _key(path: Path) -> Key:
    """Read a key of a directory, in which a pipe could make everybody wait. Raises :class:`InvalidKeyError`."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise InvalidKeyError(f"{shown(str(path))}: it is no regular file")
    try:
        return Key.from_file(path)
    except InvalidKeyError as error:
        raise type(error)(f"{shown(str(path))}: {error}") from None
