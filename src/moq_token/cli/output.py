"""What the commands print and write: results on standard output, notes and errors on standard error."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

from moq_token import files
from moq_token.errors import shown

if TYPE_CHECKING:
    from collections.abc import Callable

_STDOUT = {"-", "/dev/stdout", "/dev/fd/1"}


class Failed(Exception):
    """A command could not do its work; the message is its one line."""


def emit(text: str) -> None:
    """Print a result to standard output, and see it through. Raises :class:`BrokenPipeError` and :class:`Failed`."""
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
