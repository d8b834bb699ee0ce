"""Start the command line: the console scripts call ``run()``.

This module is not part of the package because importing anything of the package first imports the whole library, and
Ctrl-C in that time would print a traceback. For the same reason it imports as little as it can.
"""

import gc
import os

# What `signal` is made of. `signal` itself takes milliseconds more, because it imports `enum`.
from _signal import SIGINT, default_int_handler, getsignal, signal  # type: ignore[import-not-found]

_INTERRUPTED = 130


def run() -> None:
    """Run the command line of this process and exit with its status. Ctrl-C exits with 130 and prints nothing."""
    # Where SIGINT is ignored, as in a background job, Python has installed no handler, and it stays ignored.
    if getsignal(SIGINT) is default_int_handler:
        signal(SIGINT, lambda *_: os._exit(_INTERRUPTED))
    gc.disable()  # until all is imported: imports leave no garbage, but make many objects that would be looked at
    from moq_token.cli import run as run_command_line

    run_command_line()
