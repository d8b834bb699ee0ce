"""The first program of the container: it becomes the owner of the working directory, then runs moq-token-cli.

Without ``--user`` an engine starts it as root. It then takes the user and the group of the working directory, which is
the mounted one: the program can write there, and its files belong to the owner. Nothing else runs as root, except in a
directory of root itself, and then without any capability. With ``--user`` it changes nothing.

``python -I -S`` runs it: environment variables, files in the working directory and site packages have no influence. It
passes the arguments on as they are, and no shell reads them.
"""

from __future__ import annotations

import os
import sys

PROGRAM = "/opt/moq-token/bin/moq-token-cli"
SETPRIV = "/usr/bin/setpriv"
# No account has this number. It is used where no working directory was set, so that it is still `/`.
NOBODY = 65532


def command(arguments: list[str], user: int, owner: tuple[int, int], directory: str) -> list[str]:
    """Return the command line to become, for a process of this user in a directory of this owner."""
    program = [PROGRAM, *arguments]
    if user != 0:
        return program
    uid, gid = (NOBODY, NOBODY) if directory == "/" else owner
    become = [f"--reuid={uid}", f"--regid={gid}", "--clear-groups"]
    return [SETPRIV, *become, "--inh-caps=-all", "--bounding-set=-all", "--no-new-privs", "--", *program]


def main() -> None:
    """Become the program."""
    owner = os.stat(".")  # noqa: PTH116 - root imports as little as possible
    words = command(sys.argv[1:], os.geteuid(), (owner.st_uid, owner.st_gid), os.getcwd())  # noqa: PTH109 - as above
    # Other users cannot read the home directory of root.
    os.execve(words[0], words, {**os.environ, "HOME": "/"})  # noqa: S606 - as the docstring says, no shell


if __name__ == "__main__":
    main()
