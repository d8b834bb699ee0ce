"""The command line: ``moq-token``, also installed as ``moq-token-cli``, and ``python -m moq_token``."""

from __future__ import annotations

import gc
import os
import signal
import sys
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Sequence

_INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit status. ``argv`` is without the name of the program; None is sys.argv.

    0 means success, 1 refused or failed, 2 wrong usage, 130 interrupted. Results go to standard output, everything else
    to standard error. Raises nothing.
    """
    try:
        # Imported here, so that Ctrl-C during the import is caught too.
        from moq_token.cli import program

        return program.execute(list(sys.argv[1:] if argv is None else argv))
    except KeyboardInterrupt:
        return _INTERRUPTED


def run() -> NoReturn:
    """Run the command line of this process and exit with its status. Ctrl-C exits with 130 and prints nothing."""
    ignored = signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    # While there is nothing to clean up, Ctrl-C ends the process at once; later it raises KeyboardInterrupt.
    if not ignored:
        signal.signal(signal.SIGINT, _leave)
    from moq_token.cli import program  # noqa: F401 - the slow imports come first

    # What is imported stays until the end. The garbage collector need not look at it, now or when the process exits.
    gc.freeze()
    gc.enable()
    if ignored:
        sys.exit(main())
    sys.unraisablehook = _unraisable
    status = _INTERRUPTED
    try:
        signal.signal(signal.SIGINT, _interrupt)
        status = main()
        signal.signal(signal.SIGINT, _leave)
    except KeyboardInterrupt:
        pass
    sys.exit(status)


def _leave(*_: object) -> NoReturn:
    os._exit(_INTERRUPTED)


def _interrupt(*_: object) -> NoReturn:
    # Another Ctrl-C does not wait for the cleanup.
    signal.signal(signal.SIGINT, _leave)
    raise KeyboardInterrupt


def _unraisable(unraisable: sys.UnraisableHookArgs) -> None:
    """Handle exceptions that Python can only print, such as those of a finalizer."""
    if unraisable.exc_type is KeyboardInterrupt:
        _leave()
    sys.__unraisablehook__(unraisable)
