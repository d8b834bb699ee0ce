"""Key files: bounded reading, and atomic writing: after a crash the old file or the new one is there, complete."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from typing import TYPE_CHECKING

from moq_token.errors import InvalidKeyError, shown_path
from moq_token.keytext import MAX_KEY_BYTES
from moq_token.recognizer import check_name

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MAX_FILE_BYTES = MAX_KEY_BYTES

_PRIVATE_MODE = 0o600
_PUBLIC_MODE = 0o664  # less the umask; never writable for every user
# Not on every system: without it a symbolic link is still refused, by `lstat`.
_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
_NONBLOCK = getattr(os, "O_NONBLOCK", 0)
# Read although not regular files: open descriptors of the process, which a shell passes for `<(command)`.
_DESCRIPTORS = ("/dev/stdin", "/dev/fd/", "/proc/self/fd/")
_RANDOM_BYTES = 8
# What a file system without hard links answers, and Linux for files of others (fs.protected_hardlinks).
_NO_HARD_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EACCES}


def read(path: str | Path, limit: int = MAX_FILE_BYTES) -> bytes:
    """Read a whole regular file of at most ``limit`` bytes, 1 MiB where nothing else is said.

    A pipe, a socket or a device could block for ever or never end, and is not read, unless the caller has opened it
    already and names its descriptor (``/dev/stdin``, ``/dev/fd/63``). Raises ``InvalidKeyError`` for those, for a
    directory, a larger file, a name with a NUL, and a key given in place of the name; other ``OSError`` passes.
    """
    name = os.fsdecode(path)
    check_name(name)
    try:
        # The first check opens nothing, as opening a device can have effects; the second checks the open file.
        _check_regular(os.stat(path).st_mode, name)  # noqa: PTH116 - a Path would only wrap this
        with open(path, "rb", opener=_open_without_waiting) as file:
            _check_regular(os.fstat(file.fileno()).st_mode, name)
            data = file.read(limit + 1)
    except ValueError:
        raise InvalidKeyError(f"invalid file name: {shown_path(name)}") from None
    if len(data) > limit:
        raise InvalidKeyError(f"{shown_path(name)} is larger than {limit} bytes")
    return data


def write(path: str | Path, data: bytes, *, private: bool, overwrite: bool = True) -> None:
    """Write a file so that a crash or a kill at any moment leaves what was there before or ``data``, whole.

    A ``private`` file gets mode 0600, even where a more open one is replaced; others get 0664, less the umask. A device
    or a pipe is written to as it is. Raises ``FileExistsError`` where the file exists and ``overwrite`` is off,
    and for a symbolic link, which is never followed or replaced; ``InvalidKeyError`` for a name with a NUL, and
    for a key given in place of its name; other ``OSError`` passes.
    """
    path = os.fspath(path)
    check_name(os.fsdecode(path))
    try:
        mode = _mode(path)
    except ValueError:
        raise InvalidKeyError(f"invalid file name: {shown_path(os.fsdecode(path))}") from None
    if mode is not None:
        if stat.S_ISLNK(mode):
            raise FileExistsError(errno.EEXIST, "symbolic links are not followed", path)
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        if not stat.S_ISREG(mode):
            with open(path, "wb") as device:  # noqa: PTH123 - as above
                device.write(data)
            return
        if not overwrite:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
    try:
        _replace(path, data, _PRIVATE_MODE if private else _PUBLIC_MODE, overwrite=overwrite)
    except OSError as error:
        # Name the file that the caller named, not the temporary one beside it.
        error.filename, error.filename2 = path, None
        raise


def write_with_backup(path: str | Path, data: bytes, *, private: bool) -> str | None:
    """Write a file as ``write()`` does, and keep an existing one beside it as ``{path}.{number}.bak``.

    The number is the lowest one that is free: no backup is ever overwritten. The backup keeps mode and owner. The file
    itself exists at every moment. Return the path of the backup, or None where there was nothing to keep. Raises what
    ``write()`` raises.
    """
    path = os.fspath(path)
    with _locked(os.path.dirname(path) or "."):  # noqa: PTH120 - str in, str out
        try:
            regular = stat.S_ISREG(_mode(path) or 0)
        except ValueError:
            regular = False  # write() refuses the name
        backup = _back_up(path) if regular else None
        try:
            write(path, data, private=private, overwrite=backup is not None)
        except OSError:
            # A second link to a file that is still in place is not a backup.
            if backup is not None and os.path.samefile(backup, path):  # noqa: PTH121 - as above
                os.unlink(backup)  # noqa: PTH108 - as above
            raise
    return backup


def _back_up(path: str) -> str:
    number = 1
    while True:
        backup = f"{path}.{number}.bak"
        try:
            _link_or_copy(path, backup)
        except FileExistsError:
            number += 1
        except OSError as error:
            # Name the file that the caller named, not its backup.
            error.filename, error.filename2 = path, None
            raise
        else:
            return backup


def _link_or_copy(path: str, backup: str) -> None:
    try:
        os.link(path, backup)
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        _copy(path, backup)


def _copy(path: str, copy: str) -> None:
    """Copy a file with its mode. Raises ``FileExistsError`` where the copy exists."""
    with open(path, "rb") as source:  # noqa: PTH123 - as above
        mode = stat.S_IMODE(os.fstat(source.fileno()).st_mode)
        descriptor = os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NOFOLLOW, mode & _PRIVATE_MODE)
        try:
            with open(descriptor, "wb") as target:  # noqa: PTH123 - as above
                while chunk := source.read(MAX_FILE_BYTES):
                    target.write(chunk)
                target.flush()
                os.fsync(descriptor)
            os.chmod(copy, mode)  # noqa: PTH101 - as above
        except BaseException:
            os.unlink(copy)  # noqa: PTH108 - as above
            raise


@contextlib.contextmanager
def _locked(directory: str) -> Iterator[None]:
    """Let one process at a time replace files of a directory, on systems that can lock a directory.

    Otherwise, a file that another process writes between the backup and the write would be lost.
    """
    descriptor = None
    with contextlib.suppress(ImportError, OSError, ValueError):
        import fcntl

        descriptor = os.open(directory, os.O_RDONLY)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _check_regular(mode: int, name: str) -> None:
    if stat.S_ISREG(mode):
        return
    if stat.S_ISDIR(mode):
        raise InvalidKeyError(f"{shown_path(name)} is a directory, expected a file")
    if not name.startswith(_DESCRIPTORS):
        raise InvalidKeyError(f"{shown_path(name)} is not a regular file")


def _open_without_waiting(path: str, flags: int) -> int:
    # A pipe that replaces the file after the first check must not block either.
    return os.open(path, flags if path.startswith(_DESCRIPTORS) else flags | _NONBLOCK)


def _mode(path: str) -> int | None:
    try:
        return os.lstat(path).st_mode
    except FileNotFoundError:
        return None


def _replace(path: str, data: bytes, mode: int, *, overwrite: bool) -> None:
    directory = os.path.dirname(path)  # noqa: PTH120 - str in, str out
    temporary = os.path.join(directory, f".{os.urandom(_RANDOM_BYTES).hex()}.tmp")  # noqa: PTH118
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NOFOLLOW, mode)
    try:
        with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor has no path
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        if overwrite:
            os.replace(temporary, path)  # noqa: PTH105 - as above
        else:
            _give_new_name(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)  # noqa: PTH108 - as above
        raise
    _sync_directory(directory or ".")


def _give_new_name(temporary: str, path: str) -> None:
    """Give a file a name that is not in use. Raises ``FileExistsError``."""
    try:
        os.link(temporary, path)  # unlike a rename, this fails where the file has come to exist meanwhile
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        # A file system without hard links: reserve the name with an empty file, which only one process can create,
        # then rename over it.
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NOFOLLOW, _PRIVATE_MODE))
        try:
            os.replace(temporary, path)  # noqa: PTH105 - as above
        except BaseException:
            os.unlink(path)  # noqa: PTH108 - as above
            raise
    else:
        os.unlink(temporary)  # noqa: PTH108 - as above


def _sync_directory(directory: str) -> None:
    """Make a rename survive a power failure, where the system lets a directory be opened for it."""
    with contextlib.suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
