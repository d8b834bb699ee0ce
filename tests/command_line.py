"""Call the command line as a shell would, within this process."""

from __future__ import annotations

import io
import re
import sys
import time
from typing import TYPE_CHECKING

from moq_token import Algorithm
from moq_token.cli import main
from tests import forge

if TYPE_CHECKING:
    import pytest

PASSWORD = "correct horse battery"
OTHER_SECRET = forge.b64(bytes(64))
# What may never be read in an error: the private members of the keys that tests use, and passwords.
SECRETS = {
    PASSWORD,
    "hunter2",
    OTHER_SECRET,
    *(forge.jwk(alg)[name] for alg in Algorithm for name in forge.PRIVATE_MEMBERS[alg.kty]),
}


class Cli:
    """Calls the command line under the name of `moq-token`."""

    def __init__(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self._capsys = capsys
        self._monkeypatch = monkeypatch
        monkeypatch.setattr(sys, "argv", ["moq-token"])

    def at(self, seconds: float) -> None:
        """Stop the clock at a fixed time."""
        self._monkeypatch.setattr(time, "time", lambda: seconds)

    def run(self, *argv: str, stdin: str | bytes = "") -> tuple[int, str, str]:
        data = stdin.encode() if isinstance(stdin, str) else stdin
        self._monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
        self._capsys.readouterr()
        status = main(argv)
        out, err = self._capsys.readouterr()
        return status, out, err

    def done(self, *argv: str, stdin: str | bytes = "") -> str:
        """Return the output of a command that succeeds and prints nothing on standard error."""
        status, out, err = self.run(*argv, stdin=stdin)
        assert (status, err) == (0, "")
        return out

    def refused(self, status: int, *argv: str, stdin: str | bytes = "") -> str:
        """Return the one line on standard error of a command that prints no result. It must not contain a secret."""
        got, out, err = self.run(*argv, stdin=stdin)
        assert (got, out) == (status, ""), err
        assert re.fullmatch(r"error: [^\n]+\n", err)
        assert err[:-1].isprintable()
        assert not [secret for secret in SECRETS if secret[:20] in err]
        assert not re.search(r"eyJ\w", err)  # no part of a token either
        assert "this is a bug" not in err
        return err.removeprefix("error: ").strip()

    def refused_after_log(self, *argv: str) -> str:
        """Return the error at the end of a command, with or without log lines before it."""
        status, out, err = self.run(*argv)
        assert (status, out) == (1, "")
        return err.splitlines()[-1].removeprefix("error: ")
