"""What a directory of signing keys holds: its state, and its files."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from moq_token import files
from moq_token.encoding import parse_json
from moq_token.errors import ConfigError, InvalidKeyError, KeyNotFoundError, shown
from moq_token.key import Key, KeyOperation
from moq_token.kid import KeyId

if TYPE_CHECKING:
    from collections.abc import Iterator

STATE_NAME = "rotation.json"
SUFFIX = ".jwk"


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


class KeyFile(NamedTuple):
    """A file ``{kid}.jwk`` of a directory, ``modified`` at that time (Unix seconds).

    ``key`` is None where it is not readable, and ``problems`` say why, or what else is wrong.
    """

    path: Path
    key: Key | None
    problems: tuple[str, ...]
    modified: float


class Directory:
    """The keys of one directory, read only. Every method reads what is on disk then; :class:`OSError` passes."""

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
        return None if state.public is None else Path(os.path.normpath(self.place() / state.public))

    def signing_key(self) -> Key:
        """Return the key that signs: the active one, or, before any rotation, the only one that can.

        Raises :class:`KeyNotFoundError` where there is none or more than one, :class:`InvalidKeyError`,
        :class:`ConfigError`.
        """
        state = self.state()
        if state.active is not None:
            try:
                return read_key(self.path_of(state.active))
            except FileNotFoundError:
                message = f"the active key {shown(state.active)} has no file in {shown(str(self.directory))}"
                raise KeyNotFoundError(message, kid=state.active) from None
        signers = [key for key in self.signers() if key.kid != state.pending]
        if len(signers) != 1:
            count = len(signers) or "none"
            message = (
                f"one key of {shown(str(self.directory))} must be for signing, here are {count}: `keys rotate` picks"
            )
            raise KeyNotFoundError(message)
        return signers[0]

    def files(self) -> list[KeyFile]:
        """Read every ``*.jwk`` of the directory, in the order of names."""
        return [read(path) for path in paths(self.directory)]

    def place(self) -> Path:
        """Say where this directory is, however it was spelled, and whatever links lead there."""
        return Path(os.path.realpath(self.directory))

    def path_of(self, kid: str) -> Path:
        """Return where the key of that id is, or would be."""
        return self.directory / f"{kid}{SUFFIX}"

    def signers(self) -> Iterator[Key]:
        """Read the keys that can sign. Raises :class:`InvalidKeyError`."""
        for path in paths(self.directory) if self.directory.exists() else ():
            key = read_key(path)
            if key.is_private and KeyOperation.SIGN in key.operations and key.kid == path.stem:
                yield key


def paths(directory: Path) -> list[Path]:
    """List the files that hold keys, in the order of names."""
    return sorted(path for path in directory.iterdir() if path.suffix == SUFFIX)


def read(path: Path) -> KeyFile:
    """Read a key file, and say what is wrong with it."""
    modified, key, problems = 0.0, None, []
    try:
        status = path.stat()
        modified = status.st_mtime
        key = read_key(path)
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


def read_key(path: Path) -> Key:
    """Read a key of a directory, in which a pipe could make everybody wait. Raises :class:`InvalidKeyError`."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise InvalidKeyError(f"{shown(str(path))}: it is no regular file")
    try:
        return Key.from_file(path)
    except InvalidKeyError as error:
        raise type(error)(f"{shown(str(path))}: {error}") from None
