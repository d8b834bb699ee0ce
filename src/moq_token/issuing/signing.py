"""The key that a backend signs with, read again when it is rotated."""

from __future__ import annotations

import logging
import os
import stat
import time
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from moq_token import files
from moq_token.errors import Error, InvalidKeyError, KeyOperationError, UnavailableError, bare, sealed, shown_path
from moq_token.jwk import KeyOperation
from moq_token.key import Key
from moq_token.keyset import KeySet
from moq_token.keytext import parse_members
from moq_token.recognizer import check_name
from moq_token.rotation import STATE_NAME, Directory

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from moq_token.claims import Claims

MAX_STALE_SECONDS = 3600.0
"""How long the last good key goes on signing if the keys cannot be read."""

# Some changes do not show in a file's status: keys that are rewritten in place beside an unchanged rotation state.
_REREAD_SECONDS = 60.0

_log = logging.getLogger(__name__)


class _Identity(NamedTuple):
    """The identity of one version of a file or directory."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int


class _Loaded(NamedTuple):
    key: Key
    watched: str
    identity: _Identity
    at: float

    def is_current(self) -> bool:
        try:
            return _identity(os.stat(self.watched)) == self.identity  # noqa: PTH116 - a Path would cost more than this
        except OSError:
            return False


class SigningKeys:
    """Sign with the current key of a rotated directory, a key file or a JWK Set.

    Create one object when the program starts, and keep it. The first token after a rotation (``moq-token keys rotate``)
    is signed with the new key. While nothing changes, a call costs one ``stat``. The object is safe to use from many
    threads and after a fork; it has no thread and no lock.

    - A **directory** of ``{kid}.jwk`` files: the active key of its ``rotation.json``; before the first rotation, the
      only key that can sign.
    - A **file** with a key, or with a JWK Set, of which the first key that can sign does.

    If the keys can no longer be read, for any reason (an outage of a network file system, an unfinished copy, a damaged
    or deleted file), the last good key goes on signing until ``MAX_STALE_SECONDS``, one hour, after it was last
    read. Then signing raises ``UnavailableError`` until the keys can be read again. The failure and the recovery
    are logged, once each. To stop a key at once, withdraw it with ``moq-token keys retire``: relays then refuse its
    tokens.

    Parameters
    ----------
    path : str | Path
        The directory or file.
    clock : Callable[[], float]
        Seconds on a clock that never goes back.

    Raises
    ------
    InvalidKeyError
        The file does not hold a key or set, or (``KeyOperationError``) none that can sign.
    KeyNotFoundError
        No key of the directory can sign, or several can and none is active.
    ConfigError
        The ``rotation.json`` of the directory is invalid.
    OSError
        The file or directory cannot be read.

    """

    __slots__ = ("_clock", "_failing", "_loaded", "_path")

    @sealed
    def __init__(self, path: str | Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = os.fspath(path)
        self._clock = clock
        self._failing = False
        self._loaded = _load(self._path, clock())

    @property
    def key(self) -> Key:
        """The key to sign with now.

        Raises ``UnavailableError`` if the keys could not be read for more than one hour.
        """
        # Threads may load at the same time: each result is complete, and an outdated one fails the next comparison.
        loaded, now = self._loaded, self._clock()
        if now - loaded.at < _REREAD_SECONDS and loaded.is_current():
            return loaded.key
        try:
            loaded = self._loaded = _load(self._path, now)
        except (Error, OSError) as error:
            return self._last_good(loaded, now, bare(error))
        if self._failing:
            self._failing = False
            _log.info("the signing keys in %s can be read again", shown_path(self._path), extra={"path": self._path})
        return loaded.key

    def sign(self, claims: Claims) -> str:
        """Sign a token with the current key.

        Raises ``UnavailableError`` as ``key`` does, and ``InvalidClaimsError`` as ``Key.sign()``.
        """
        return self.key.sign(claims)

    def _last_good(self, loaded: _Loaded, now: float, error: Error | OSError) -> Key:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        stale = now - loaded.at
        if not self._failing:
            self._failing = True
            _log.warning(
                "cannot read the signing keys in %s: %s; signing with the last good key for at most %d s more",
                shown_path(self._path),
                reason,
                max(MAX_STALE_SECONDS - stale, 0),
                extra={"path": self._path, "kid": loaded.key.kid},
            )
        if stale > MAX_STALE_SECONDS:
            message = f"{shown_path(self._path)}: the signing keys could not be read for {stale:.0f} s: {reason}"
            raise UnavailableError(message) from error
        return loaded.key

    def __repr__(self) -> str:
        return f"<SigningKeys {shown_path(self._path)} kid={str(self._loaded.key.kid)!r}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("signing keys cannot be pickled: make a SigningKeys from the path in each process")


def _load(path: str, at: float) -> _Loaded:
    """Read the key to sign with. The identity is taken first, so that a change during the reading is noticed later."""
    check_name(path)
    try:
        status = os.stat(path)  # noqa: PTH116 - str in, str out
    except ValueError:
        raise InvalidKeyError(f"invalid path: {shown_path(path)}") from None
    if not stat.S_ISDIR(status.st_mode):
        return _Loaded(_from_file(path, status), path, _identity(status), at)
    watched = os.path.join(path, STATE_NAME)  # noqa: PTH118 - as above
    try:
        status = os.stat(watched)  # noqa: PTH116 - as above
    except FileNotFoundError:
        watched = path  # the first rotation changes the directory
    return _Loaded(Directory(path).signing_key(), watched, _identity(status), at)


@sealed
def _from_file(path: str, status: os.stat_result) -> Key:
    if not stat.S_ISREG(status.st_mode):
        raise InvalidKeyError(f"{shown_path(path)}: not a regular file")
    try:
        data = files.read(path)
        if "keys" not in parse_members(data):
            key = Key.from_str(data)
        else:
            found = KeySet.from_str(data).find_supported_key(KeyOperation.SIGN)
            if found is None:
                raise KeyOperationError("no key in the set can sign")
            key = found
    except InvalidKeyError as error:
        raise type(error)(f"{shown_path(path)}: {error}") from None
    if not key.is_private:
        raise KeyOperationError(f"{shown_path(path)}: a public key cannot sign: name the file of the private key")
    if KeyOperation.SIGN not in key.operations:
        raise KeyOperationError(f"{shown_path(path)}: the `key_ops` of the key do not include `sign`")
    return key


def _identity(status: os.stat_result) -> _Identity:
    return _Identity(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
