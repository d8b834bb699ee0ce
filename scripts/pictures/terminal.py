"""Draw a terminal in which ``explain`` refuses a token. The output is that of the command."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import tempfile
from html import escape
from pathlib import Path
from unittest import mock

from moq_token import Claims, Key
from moq_token.cli import main

COMMAND = "moq-token-cli explain --key public.jwk --path /rooms/999 < alice.jwt"
COLORS = {"yes": "good", "NO": "bad", "refused": "bad", "fix": "help"}


def explained() -> str:
    """Run the command of the picture, and return what it prints."""
    key = Key.generate("EdDSA")
    token = key.sign(Claims("rooms/123", publish="alice", subscribe="", expires="1h"))
    out = io.StringIO()
    with tempfile.TemporaryDirectory() as folder:
        public = Path(folder) / "public.jwk"
        key.to_public().to_file(public)
        words = COMMAND.partition(" <")[0].replace("public.jwk", str(public)).split()[1:]
        stdin = io.TextIOWrapper(io.BytesIO(token.encode()))
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MOQ_")}
        with (
            mock.patch.dict(os.environ, environment, clear=True),
            mock.patch.object(sys, "stdin", stdin),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            main(words)
    return out.getvalue().strip()


def explained_block(_: str) -> str:
    """Return the command and its output as a block of a page."""
    return f"```text\n$ {COMMAND}\n{explained()}\n```\n"


def screen(_: str) -> str:
    """Return the command and its output as HTML that looks like a terminal, and breaks lines as one does."""
    lines = [f"$ {COMMAND}", *explained().split("\n")]
    colored = "\n".join(f'<span class="{_color(line)}">{escape(line, quote=False)}</span>' for line in lines)
    return f'<pre class="screen">{colored}</pre>\n'


def _color(line: str) -> str:
    return COLORS.get(line.partition(":")[0].split()[-1], "")
