"""Keys in local files, read on demand and again when they change."""

from __future__ import annotations

import os
import stat
import time
from typing import TYPE_CHECKING, Generic, TypeVar

from moq_token import files
from moq_token.errors import ConfigError, InvalidKeyError, KeyNotFoundError, UnavailableError, bare, sealed, shown_path
from moq_token.key import Key
from moq_token.keyset import KeySet, read_set
from moq_token.keytext import parse_members
from moq_token.recognizer import secret_in_place_of_path
from moq_token.sources.memory import Lru
from moq_token.sources.outage import Outage
from moq_token.sources.source import Closing, Parsed, UnusableKeyError, named, not_found

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from moq_token.kid import KeyId

_T = TypeVar("_T")

# A file that is written twice within one tick of the file system's clock looks the same both times. So a file that
# changed less than this ago is read again. The coarsest clock in use ticks every two seconds.
SETTLED_NANOSECONDS = 2_000_000_000


def _identity(status: os.stat_result) -> tuple[int, ...]:
    """Return what differs after a file is replaced or changed, even by a program that restores size and time."""
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino, status.st_dev


class _Files(Generic[_T]):
    """Files of keys by path. A file that did not change costs one ``stat``, made on the event loop's own thread."""

    def __init__(self, source: str, parse: Callable[[bytes], _T]) -> None:
        self._keys = Parsed(parse)
        self._seen: Lru[tuple[tuple[int, ...], _T]] = Lru()
        self._outage = Outage(source, time.monotonic)

    def get(self, path: str, kid: KeyId | None) -> _T:
        try:
            key = self._read(path, kid)
        except UnavailableError as error:
            self._outage.failed(error)
            raise
        except KeyNotFoundError:
            self._outage.ended()
            raise
        self._outage.ended()
        return key

    def _read(self, path: str, kid: KeyId | None) -> _T:
        try:
            status = os.stat(path)  # noqa: PTH116 - a Path would be made for every token
            identity = _identity(status)
            seen = self._seen.get(path)
            if seen is not None and seen[0] == identity:
                return seen[1]
            if not stat.S_ISREG(status.st_mode):
                # Opening a pipe would wait for a writer.
                raise UnusableKeyError(f"{shown_path(path)} is not a regular file")
            started = time.time_ns()
            key = self._keys.get(repr(path), files.read(path))
        except FileNotFoundError:
            self._forget(path)
            raise not_found(f"the key file {shown_path(path)}", kid) from None
        except InvalidKeyError as error:  # too large
            raise UnusableKeyError(str(error)) from None
        except (OSError, ValueError) as error:
            why = (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
            raise UnavailableError(f"cannot read {shown_path(path)}: {why}") from bare(error)
        if started - max(status.st_mtime_ns, status.st_ctime_ns) > SETTLED_NANOSECONDS:
            self._seen.put(path, (identity, key))
        return key

    def _forget(self, path: str) -> None:
        self._seen.pop(path)
        self._keys.forget(repr(path))


def _checked(path: str | Path) -> str:
    """Return a path as text. Raises ``ConfigError`` for a key in its place, which later errors would quote."""
    text = os.fsdecode(path)
    what = secret_in_place_of_path(text)
    if what is not None:
        raise ConfigError(f"expected a path, but this looks like {what}")
    return text


class FileSource(Closing):
    """One key, in a file of at most 1 MiB, which verifies every token.

    The file is read again when it changes (its times, size, inode or device). ``get()`` raises
    ``KeyNotFoundError`` for a missing file, and ``UnavailableError`` for one that cannot be read, holds no
    key or is not a regular file. Raises ``ConfigError`` for a key given in place of the path.
    """

    @sealed
    def __init__(self, path: str | Path) -> None:
        self._path = _checked(path)
        self._files = _Files(self._path, Key.from_str)

    async def get(self, kid: KeyId | None, /) -> Key:
        """Return the key. Raises ``KeyNotFoundError`` and ``UnavailableError``."""
        return self._files.get(self._path, kid)


class JwksFileSource(Closing):
    """The keys of a JWK Set in a file; otherwise as ``FileSource``.

    Keys that tokens cannot use are ignored (RFC 7517, section 5). Without a key id the set must have one key.
    """

    @sealed
    def __init__(self, path: str | Path) -> None:
        self._path = _checked(path)
        self._files = _Files(self._path, _parse_set)

    async def get(self, kid: KeyId | None, /) -> Key:
        """Return the first key with this id. Raises ``KeyNotFoundError`` and ``UnavailableError``."""
        keys = self._files.get(self._path, kid)
        key = keys.find_key(kid) if kid is not None else keys.keys[0] if len(keys) == 1 else None
        if key is None:
            raise not_found(f"the {f'key {kid}' if kid else 'only key'} in {shown_path(self._path)}", kid)
        return key


def _parse_set(body: bytes) -> KeySet:
    return read_set(parse_members(body)).keys


class DirectorySource(Closing):
    """A directory with one file ``{kid}.jwk`` for each key, read as ``FileSource`` reads its file.

    The file name is the key id, whatever ``kid`` the file has inside, as it is for a relay. At most 1,024 keys are
    remembered. Raises ``ConfigError`` for a key given in place of the path.
    """

    @sealed
    def __init__(self, path: str | Path) -> None:
        self._path = _checked(path)
        self._files = _Files(self._path, Key.from_str)

    async def get(self, kid: KeyId | None, /) -> Key:
        """Return the key with this id.

        Raises ``KeyNotFoundError``, and ``UnavailableError``, also where the directory itself is gone, as an
        unmounted one is: that says nothing about the key.
        """
        try:
            return self._files.get(os.path.join(self._path, f"{named(kid)}.jwk"), kid)  # noqa: PTH118 - as above
        except KeyNotFoundError:
            if kid is not None and not _is_directory(self._path):
                raise UnavailableError(f"the key directory {shown_path(self._path)} does not exist") from None
            raise


def _is_directory(path: str) -> bool:
    return os.path.isdir(path)  # noqa: PTH112 - False for any text
