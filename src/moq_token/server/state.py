"""The state directory: the denials and the digest key, kept over restarts.

``DIR/denials.json`` holds all denials, ``denials.json.bak`` what it held before the last change, ``digest.key`` the key
of the digests by which tokens are known, and ``lock`` is held by the process that uses the directory.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from typing import TYPE_CHECKING, Final, NoReturn

import msgspec

from moq_token import files
from moq_token.errors import ConfigError, InvalidDenialError, InvalidKeyError, shown_path
from moq_token.server.denial import Denial

if TYPE_CHECKING:
    from collections.abc import Iterable

DIGEST_KEY_BYTES: Final = 32
MAX_STATE_BYTES: Final = 32 << 20
"""Bytes of the file of denials. All that are kept at most, each with the longest texts, take less."""

_VERSION = 1
_DENIALS, _BACKUP, _KEY, _LOCK = "denials.json", "denials.json.bak", "digest.key", "lock"
_MAX_KEY_FILE_BYTES = 256
_WRITABLE, _OTHERS = stat.S_IWGRP | stat.S_IWOTH, stat.S_IRWXG | stat.S_IRWXO


class _File(msgspec.Struct):
    version: int
    checksum: str
    denials: msgspec.Raw


class State:
    """A state directory, which is created if it is missing. It is locked until ``close()``.

    Raises ``ConfigError`` for a directory that other users can write to or that another process uses, and for a
    file that is damaged or missing: an empty list in its place would let everybody back in.

    Attributes
    ----------
    denials
        Those that were stored when it was opened.
    digest_key
        The key of the digests by which tokens are known.

    """

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._lock: int | None = None
        try:
            self._open()
            self._last = self._read(_DENIALS, MAX_STATE_BYTES)
            self.denials: tuple[Denial, ...] = self._denials()
            self.digest_key: bytes = self._digest_key()
        except OSError as error:
            self.close()
            what = self._directory if error.filename is None else os.fsdecode(error.filename)
            raise ConfigError(f"`state`: cannot use {shown_path(what)}: {error.strerror}") from None
        except BaseException:
            self.close()
            raise

    def save(self, denials: Iterable[Denial]) -> None:
        """Store all denials. When this returns they are on the disk. Raises ``OSError``, and then they may not be.

        Blocks while the disk works. One call at a time.
        """
        data = _encoded(denials)
        # There is a backup from the first denial on, so that a missing file is not taken for an empty list.
        files.write(self._path(_BACKUP), _encoded(()) if self._last is None else self._last, private=True)
        files.write(self._path(_DENIALS), data, private=True)
        self._last = data

    def close(self) -> None:
        """Let another process use the directory."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _open(self) -> None:
        with contextlib.suppress(FileExistsError):
            os.mkdir(self._directory, 0o700)  # noqa: PTH102 - a Path would only wrap this
        mode = os.stat(self._directory).st_mode  # noqa: PTH116 - as above
        if not stat.S_ISDIR(mode):
            raise ConfigError(f"`state`: {shown_path(self._directory)} is a file, expected a directory")
        if os.name == "posix" and mode & _WRITABLE:
            raise ConfigError(f"`state`: other users can write to {shown_path(self._directory)}: run chmod 700 on it")
        self._lock = os.open(self._path(_LOCK), os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
        try:
            import fcntl

            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except ImportError:
            pass  # a system without such locks
        except BlockingIOError:
            raise ConfigError(
                f"`state`: another auth server uses {shown_path(self._directory)}: give each its own directory,"
                " and run one worker"
            ) from None

    def _denials(self) -> tuple[Denial, ...]:
        if self._last is None:
            if os.path.exists(self._path(_BACKUP)):  # noqa: PTH110 - as above
                self._fail("file not found")
            return ()
        try:
            stored = msgspec.json.decode(self._last, type=_File)
            if stored.version != _VERSION:
                self._fail(f"expected version {_VERSION}, got {stored.version}")
            if _checksum(bytes(stored.denials)) != stored.checksum:
                self._fail("the content was changed or is damaged")
            return tuple(msgspec.json.decode(stored.denials, type=list[Denial]))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, InvalidDenialError):
            self._fail("the content is damaged")

    def _fail(self, problem: str) -> NoReturn:
        fix = (
            f"copy {_BACKUP} over it, which lacks the last change"
            if os.path.exists(self._path(_BACKUP))  # noqa: PTH110 - as above
            else "restore it, or remove it to start without denials"
        )
        raise ConfigError(f"`state`: {_DENIALS} in {shown_path(self._directory)}: {problem}. Fix: {fix}")

    def _digest_key(self) -> bytes:
        path = self._path(_KEY)
        text = self._read(_KEY, _MAX_KEY_FILE_BYTES)
        if text is None:
            if any(denial.token is not None for denial in self.denials):
                raise ConfigError(
                    f"`state`: {_KEY} in {shown_path(self._directory)}: file not found. Without it, the denials of "
                    f"tokens match nothing: restore it, or remove {_DENIALS} and {_BACKUP} to start without denials"
                )
            key = os.urandom(DIGEST_KEY_BYTES)
            files.write(path, f"{key.hex()}\n".encode(), private=True)
            return key
        if os.name == "posix" and os.stat(path).st_mode & _OTHERS:  # noqa: PTH116 - as above
            raise ConfigError(f"`state`: other users can read {shown_path(path)}: run chmod 600 on it")
        try:
            key = bytes.fromhex(text.decode("ascii"))
        except ValueError:
            key = b""
        if len(key) != DIGEST_KEY_BYTES:
            raise ConfigError(
                f"`state`: {shown_path(path)} must hold {DIGEST_KEY_BYTES} bytes in hexadecimal: restore it"
            )
        return key

    def _read(self, name: str, limit: int) -> bytes | None:
        try:
            return files.read(self._path(name), limit)
        except FileNotFoundError:
            return None
        except InvalidKeyError as error:
            raise ConfigError(f"`state`: {error}") from None

    def _path(self, name: str) -> str:
        return os.path.join(self._directory, name)  # noqa: PTH118 - as above


def _encoded(denials: Iterable[Denial]) -> bytes:
    listed = msgspec.json.encode(list(denials))
    return msgspec.json.encode(_File(_VERSION, _checksum(listed), msgspec.Raw(listed)))


def _checksum(listed: bytes) -> str:
    return hashlib.sha256(listed).hexdigest()
