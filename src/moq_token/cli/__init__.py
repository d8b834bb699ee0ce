"""The command line: ``moq-token``, also installed as ``moq-token-cli``, and ``python -m moq_token``."""

from __future__ import annotations

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
    """Run the command line of this process and exit with its status."""
    sys.exit(main())
