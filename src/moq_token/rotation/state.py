"""Read a directory of signing keys: its state, its key files, and what each key is used for."""

from __future__ import annotations

import os
import stat
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import msgspec

from moq_token import files
from moq_token.encoding import parse_json
from moq_token.errors import (
    ConfigError,
    InvalidKeyError,
    KeyNotFoundError,
    KeyOperationError,
    sealed,
    shown,
    shown_path,
)
from moq_token.jwk import KeyOperation
from moq_token.key import Key
from moq_token.kid import KeyId
from moq_token.recognizer import check_name

if TYPE_CHECKING:
    from collections.abc import Iterator

STATE_NAME = "rotation.json"
SUFFIX = ".jwk"

_SHOWN_KEY_IDS = 5


class State(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What ``rotation.json`` holds. Times are Unix seconds, durations seconds.

    Attributes
    ----------
    active : str | None
        The id of the key that signs.
    pending : str | None
        The id of a key whose creation was interrupted. It has signed nothing.
    retired : dict[str, int]
        The keys that only verify, and the time at which the overlap of each ends.
    public : str | None
        The directory of the public halves, relative to this one.
    overlap : int | None
        How long a key goes on verifying after it was replaced.
    created : dict[str, int]
        The time at which each key was created. Files of version 0.1.0 do not have it.

    """

    active: str | None = None
    pending: str | None = None
    retired: dict[str, int] = {}
    public: str | None = None
    overlap: Annotated[int, msgspec.Meta(ge=0)] | None = None
    created: dict[str, int] = {}

    def __post_init__(self) -> None:
        for kid in filter(None, (self.active, self.pending, *self.retired)):
            KeyId(kid)  # these become file names
        if self.active in self.retired or (self.pending is not None and self.pending in {self.active, *self.retired}):
            raise ValueError("one key has two roles")  # `prune` would remove the key that signs
        if "\0" in (self.public or ""):
            raise ValueError("`public` is not a directory name")


class Use(StrEnum):
    """What a key of a directory is used for."""

    SIGNING = "signing"
    """Signs new tokens."""
    VERIFYING = "verifying"
    """Only verifies: a public key, or a retired key whose overlap has not ended."""
    ENDED = "ended"
    """Its overlap has ended. It verifies until it is pruned."""
    PENDING = "pending"
    """Its creation was interrupted. The next rotation or pruning removes it."""
    CANDIDATE = "candidate"
    """Could sign, but no key is active and it is not the only one."""
    UNUSED = "unused"
    """Neither active nor retired."""
    INVALID = "invalid"
    """The file cannot be used as what it is there for: see its problems."""
    MISSING = "missing"
    """``rotation.json`` names it, and it has no file."""


class KeyFile(NamedTuple):
    """A file ``{kid}.jwk`` of a directory, last ``modified`` at that time (Unix seconds).

    ``key`` is None where the file cannot be read as a key. ``problems`` say why, or what else is wrong.
    """

    path: Path
    key: Key | None
    problems: tuple[str, ...]
    modified: float


class Listed(NamedTuple):
    """A key of a directory as ``Directory.keys()`` finds it. Times are Unix seconds.

    ``created`` comes from the state, or else from the time at which the file was last modified; None without a file.
    ``until`` is the end of its overlap, for a retired key.
    """

    kid: str
    key: Key | None
    use: Use
    created: int | None
    until: int | None
    problems: tuple[str, ...]


class Directory:
    """The keys of one directory. Every method reads the files as they are at that moment; ``OSError`` passes.

    Raises ``InvalidKeyError`` for a key given in place of the path.
    """

    @sealed
    def __init__(self, directory: str | Path) -> None:
        check_name(os.fspath(directory))
        self.directory: Path = Path(directory)

    def state(self) -> State:
        """Read the state; an empty one where there is no file. Raises ``ConfigError`` where it is invalid."""
        path = self.directory / STATE_NAME
        try:
            return msgspec.convert(parse_json(_read_regular(path)), State)
        except FileNotFoundError:
            return State()
        except (ValueError, InvalidKeyError):
            raise ConfigError(
                f"{shown_path(path)}: invalid rotation state: restore the file from a backup, or remove it"
            ) from None

    def public_directory(self, state: State) -> Path | None:
        """Return the directory of the public halves; None where relays read this directory itself."""
        return None if state.public is None else Path(os.path.normpath(self.real_path() / state.public))

    def signing_key(self) -> Key:
        """Return the key that signs: the active one, or, before any rotation, the only one that can sign.

        Raises ``KeyNotFoundError`` where there is none or more than one, ``InvalidKeyError`` for an unusable
        file, and ``ConfigError`` for an invalid state.
        """
        state = self.state()
        while state.active is not None:
            path = self.path_of(state.active)
            try:
                return _signer(path)
            except FileNotFoundError:
                before, state = state, self.state()
                if state.active == before.active:  # otherwise a rotation has replaced and removed it meanwhile
                    message = f"{shown_path(path)}: file not found: it is the active key of {self}"
                    raise KeyNotFoundError(message, kid=state.active) from None
        signers = list(self.signers(state))
        if len(signers) == 1:
            return signers[0]
        if not signers:
            raise KeyNotFoundError(f"no key in {self} can sign: create one with `keys rotate`")
        kids = [str(key.kid) for key in signers]
        listed = ", ".join([*kids[:_SHOWN_KEY_IDS], *(["…"] if len(kids) > _SHOWN_KEY_IDS else [])])
        raise KeyNotFoundError(
            f"{len(kids)} keys in {self} can sign and none is active ({listed}): run `keys rotate`, or keep only one"
        )

    def signers(self, state: State) -> Iterator[Key]:
        """Read the keys that could sign and that the state does not name. Raises ``InvalidKeyError``."""
        for path in paths(self.directory) if self.directory.exists() else ():
            key = read_key(path)
            known = {state.active, state.pending, *state.retired}
            if _cannot_sign(key) is None and key.kid == path.stem and path.stem not in known:
                yield key

    def files(self) -> list[KeyFile]:
        """Read every ``*.jwk`` of the directory, in the order of names."""
        return [read(path) for path in paths(self.directory)]

    def keys(self, now: float) -> list[Listed]:
        """Return every key of the directory and of its state, in the order of ids. ``now`` is in Unix seconds."""
        found = self.files()
        state = self.state()
        try:
            signing = self.signing_key().kid
        except (InvalidKeyError, KeyNotFoundError, OSError):
            signing = None
        rows = {file.path.stem: self._listed(file, state, signing, now) for file in found}
        for kid in filter(None, (state.active, *state.retired)):
            if kid not in rows:
                rows[kid] = self._without_private_half(kid, state, now)
        return [rows[kid] for kid in sorted(rows)]

    def _listed(self, file: KeyFile, state: State, signing: str | None, now: float) -> Listed:
        kid = file.path.stem
        created = state.created.get(kid, int(file.modified))
        until = state.retired.get(kid)
        return Listed(kid, file.key, _use(file, state, signing, now), created, until, file.problems)

    def _without_private_half(self, kid: str, state: State, now: float) -> Listed:
        """Return a key of the state of which only the public half is there, which still verifies, or nothing."""
        target = self.public_directory(state)
        if target is not None and kid in state.retired:
            file = read(target / f"{kid}{SUFFIX}")
            if file.key is not None:
                return self._listed(file, state, None, now)
        return Listed(kid, None, Use.MISSING, state.created.get(kid), state.retired.get(kid), ("file not found",))

    def real_path(self) -> Path:
        """Return the absolute path of the directory without symbolic links."""
        return Path(os.path.realpath(self.directory))

    def path_of(self, kid: str) -> Path:
        """Return the path of the file for this id."""
        return self.directory / f"{kid}{SUFFIX}"

    def __str__(self) -> str:
        return shown_path(self.directory)


def _use(file: KeyFile, state: State, signing: str | None, now: float) -> Use:
    kid, key = file.path.stem, file.key
    if key is None or key.kid != kid or (kid == state.active and kid != signing):
        return Use.INVALID
    if kid == signing:
        return Use.SIGNING
    if kid == state.pending:
        return Use.PENDING
    if kid in state.retired:
        return Use.VERIFYING if now < state.retired[kid] else Use.ENDED
    if _cannot_sign(key) is None:
        return Use.CANDIDATE if state.active is None else Use.UNUSED
    return Use.VERIFYING if KeyOperation.VERIFY in key.operations else Use.UNUSED


def paths(directory: Path) -> list[Path]:
    """List the key files of a directory, in the order of names. Hidden files are left out (``._x.jwk`` of macOS).

    Raises ``InvalidKeyError`` for a name with a NUL; ``OSError`` passes.
    """
    if "\0" in str(directory):
        raise InvalidKeyError(f"invalid directory name: {shown_path(directory)}")
    return sorted(path for path in directory.iterdir() if path.suffix == SUFFIX and not path.name.startswith("."))


def read(path: Path) -> KeyFile:
    """Read a key file and say what is wrong with it. Never raises."""
    modified, key, problems = 0.0, None, []
    try:
        status = path.stat()
        modified = status.st_mtime
        key = _load(path)
    except OSError as error:
        problems.append((error.strerror or "it cannot be read").lower())
    except InvalidKeyError as error:
        problems.append(str(error))
    else:
        if key.kid is None:
            problems.append("the key has no `kid`, which must be the name of the file")
        elif key.kid != path.stem:
            problems.append(f"the `kid` of the key is {shown(key.kid)}: rename the file to {shown(key.kid + SUFFIX)}")
        if key.is_private and os.name == "posix" and status.st_mode & 0o077:
            mode = f"{stat.S_IMODE(status.st_mode):04o}"
            problems.append(f"mode {mode} lets other users read or change this private key: run chmod 600")
        else:
            problems += mode_problems(status)
    return KeyFile(path, key, tuple(problems), modified)


def mode_problems(status: os.stat_result) -> list[str]:
    """Return a problem if every user of the machine can write to a file or directory."""
    if os.name != "posix" or not status.st_mode & stat.S_IWOTH:
        return []
    return [f"mode {stat.S_IMODE(status.st_mode):04o} lets every user of this machine change it: run chmod o-w"]


def read_key(path: Path) -> Key:
    """Read a key of a directory. Raises ``InvalidKeyError``, which names the file; ``OSError`` passes."""
    try:
        return _load(path)
    except InvalidKeyError as error:
        raise type(error)(f"{shown_path(path)}: {error}") from None


def _load(path: Path) -> Key:
    return Key.from_str(_read_regular(path))


def _signer(path: Path) -> Key:
    key = read_key(path)
    if key.kid != path.stem:
        raise InvalidKeyError(f"{shown_path(path)}: the `kid` of the key must be the name of the file")
    why = _cannot_sign(key)
    if why is not None:
        raise KeyOperationError(f"{shown_path(path)}: it is the active key, and cannot sign: {why}")
    return key


def _cannot_sign(key: Key) -> str | None:
    if not key.is_private:
        return "it is a public key"
    return None if KeyOperation.SIGN in key.operations else "its `key_ops` do not include `sign`"


def _read_regular(path: Path) -> bytes:
    """Read a regular file: opening a pipe would wait for a writer. Raises ``InvalidKeyError``."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise InvalidKeyError("not a regular file")
    return files.read(path)
