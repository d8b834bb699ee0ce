"""The command line: ``moq-token``, also installed as ``moq-token-cli``, and ``python -m moq_token``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Sequence

_INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line, without the name of the program (None is the process's own), and return its exit status.

    0 is done, 1 refused or failed, 2 wrong usage, 130 interrupted. Results go to standard output and everything else
    to standard error; nothing is raised.
    """
    try:
        # Loaded here, so that an interrupt in the meantime is as quiet as one later.
        from moq_token.cli import program

        return program.execute(list(sys.argv[1:] if argv is None else argv))
    except KeyboardInterrupt:
        return _INTERRUPTED


def run() -> NoReturn:
    """Run the command line of this process and leave with its status: what the console scripts call."""
    sys.exit(main())
