"""Print and write the outputs of the commands: results to standard output, notes and errors to standard error."""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

import click

from moq_token import files
from moq_token import path as paths
from moq_token.errors import shown, shown_path
from moq_token.pattern import Pattern
from moq_token.recognizer import what_is_secret

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable, Mapping
    from pathlib import Path

_T = TypeVar("_T")

_NOTED_PATHS, _PLACEHOLDER_CHARACTERS = 5, 24
_MAX_LISTED = 20
_STDOUT = ("-", "/dev/stdout", "/dev/fd/1")


class Failed(Exception):  # noqa: N818 - the name says what happened to the command
    """A command failed. The message is the one line that says why."""


def run_quietly(main: Coroutine[Any, Any, _T]) -> _T:
    """Run a coroutine and return its result. Log records are dropped: the command itself says what went wrong."""
    import asyncio
    import logging

    log, handler = logging.getLogger("moq_token"), logging.NullHandler()
    # Without any handler, Python prints warnings to standard error.
    log.addHandler(handler)
    try:
        return asyncio.run(main)
    finally:
        log.removeHandler(handler)


def emit(text: str) -> None:
    """Print a result to standard output and flush it. Raises ``BrokenPipeError`` and ``Failed``."""
    if sys.stdout is None:
        raise Failed("cannot write the result: standard output is closed")
    try:
        sys.stdout.write(f"{_encodable(text, sys.stdout)}\n")
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except (OSError, ValueError) as error:
        give_up_stdout()
        raise Failed(f"cannot write to standard output: {reason(error)}") from None


def note(text: str) -> None:
    """Print a note to standard error."""
    _say("note:", "cyan", text)


def hint(text: str) -> None:
    """Print a note where a person reads it: only when standard error is a terminal."""
    if to_terminal(sys.stderr):
        note(text)


def note_oddities(given: Mapping[str, Iterable[str | Pattern]]) -> None:
    """Print a note for each path or pattern that is likely a mistake.

    The keys say where they come from.
    """
    odd = [
        (where, str(path), why)
        for where, values in given.items()
        for path in values
        if (why := paths.oddity(str(path), pattern=isinstance(path, Pattern)))
    ]
    for where, path, why in odd[:_NOTED_PATHS]:
        # A key in the wrong place is not repeated. A placeholder such as `{id}` is shorter than any key.
        if len(path) > _PLACEHOLDER_CHARACTERS and what_is_secret(path) is not None:
            note(f"{where}: this looks like a key or a token, and not like a path")
        else:
            note(f"{where} {shown(path)}: {why}")
    if len(odd) > _NOTED_PATHS:
        note(f"{len(odd) - _NOTED_PATHS} more paths like these")


def complain(text: str) -> None:
    """Print an error, on one line."""
    _say("error:", "red", text)


def give_up_stdout() -> None:
    """Discard what could not be written: the interpreter would write it again at exit, and fail with a message."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def to_terminal(stream: TextIO | None) -> bool:
    """Return whether a stream is a terminal."""
    return stream is not None and stream.isatty()


def coloured(stream: TextIO | None) -> bool:
    """Return whether a stream shows colours: a terminal, unless its user wants none (https://no-color.org)."""
    return to_terminal(stream) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def paint(text: str, colour: str, stream: TextIO | None) -> str:
    """Return the text in a colour, where the stream shows colours."""
    return click.style(text, fg=colour) if coloured(stream) else text


def json_text(value: object, *, pretty: bool = False) -> str:
    """Write JSON on one line or, if ``pretty``, on several; characters that could control a terminal are escaped."""
    import json

    if pretty:
        text = json.dumps(value, ensure_ascii=False, indent=2)
    else:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return "".join(char if char.isprintable() or char == "\n" else json.dumps(char)[1:-1] for char in text)


def printable(text: str) -> str:
    """Escape characters that are not printable, which could break the line or control the terminal."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def reason(error: OSError | ValueError) -> str:
    """Return why a file could not be used."""
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return "invalid file name"


def place(text: str) -> str:
    """Return a file name or URL without what may be a secret: user, password and query."""
    scheme, separator, rest = text.partition("://")
    if not separator:
        return text
    host, slash, path = rest.partition("?")[0].partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"


def listed(names: Iterable[str]) -> str:
    """Join foreign names for a message: escaped, without tokens and passwords, and cut where they are long or many."""
    texts = list(itertools.islice(names, _MAX_LISTED + 1))
    return ", ".join([*(shown(text)[1:-1] for text in texts[:_MAX_LISTED]), *["…"] * (len(texts) > _MAX_LISTED)])


def is_stdout(path: str) -> bool:
    """Return whether a file name means standard output."""
    return path in _STDOUT


def check_target(path: Path, *, force: bool, new_directory: bool = False) -> None:
    """Refuse what ``write()`` would refuse, before anything is made or written.

    With ``new_directory`` the directory need not exist yet. Raises ``Failed``.
    """
    name = shown_path(path)
    if is_stdout(str(path)) or _is_device(path):
        return
    if path.is_symlink():
        raise Failed(f"{name} is a symbolic link, which is not followed: give the path of the file itself")
    if path.is_dir():
        raise Failed(f"{name} is a directory: give the path of a file in it")
    if path.exists() and not force:
        raise Failed(f"{name} already exists: use --force to replace it")
    parent = path.parent
    while not os.path.lexists(parent) and new_directory:
        parent = parent.parent
    if not parent.exists():
        raise Failed(f"cannot write {name}: directory not found: {shown_path(parent)}")
    if not parent.is_dir():
        raise Failed(f"cannot write {name}: not a directory: {shown_path(parent)}")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise Failed(f"cannot write {name}: permission denied in {shown_path(parent)}")


def write(path: Path, text: str, *, private: bool, force: bool, keep: bool = False) -> None:
    """Write one line or more to a file, or to standard output.

    An existing file is replaced as a whole, and only with ``force``; with ``keep`` it is kept as a backup beside it,
    and a note says so. Raises ``Failed``.
    """
    if is_stdout(str(path)):
        emit(text)
        return
    data = f"{text}\n".encode()
    try:
        if _is_device(path):
            path.write_bytes(data)
        elif keep:
            backup = files.write_with_backup(path, data, private=private)
            if backup is not None:
                note(f"{shown_path(path)} already existed: the previous file is kept as {shown_path(backup)}")
        else:
            files.write(path, data, private=private, overwrite=force)
    except (OSError, ValueError) as error:
        raise Failed(f"cannot write {shown_path(path)}: {reason(error)}") from None


def make_directory(path: Path) -> None:
    """Make a directory and its parents where they do not exist, and say so. Raises ``Failed``."""
    try:
        if not path.is_dir():
            path.mkdir(mode=0o775, parents=True)
            note(f"created directory {shown_path(path)}")
    except (OSError, ValueError) as error:
        raise Failed(f"cannot create directory {shown_path(path)}: {reason(error)}") from None


def _is_device(path: Path) -> bool:
    """Return whether a path leads to a pipe or a terminal, as the symbolic link of a shell's ``>(command)`` does."""
    return path.exists() and not path.is_file() and not path.is_dir()


def _say(label: str, colour: str, text: str) -> None:
    if sys.stderr is None:
        return
    # A closed standard error loses the message, nothing else.
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write(f"{paint(label, colour, sys.stderr)} {_encodable(printable(text), sys.stderr)}\n")
        sys.stderr.flush()


def _encodable(text: str, stream: TextIO) -> str:
    encoding = stream.encoding or "utf-8"
    with contextlib.suppress(UnicodeEncodeError):
        text.encode(encoding)
        return text
    import json

    # JSON escapes, so that the output is still valid JSON.
    return "".join(char if char.encode(encoding, "ignore") else json.dumps(char)[1:-1] for char in text)
