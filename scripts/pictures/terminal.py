"""Draw a terminal in which ``explain`` refuses a token. The output is that of the command."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import tempfile
from pathlib import Path
from unittest import mock

from moq_token import Claims, Key
from moq_token.cli import main
from scripts.pictures.svg import picture, text

COMMAND = "moq-token-cli explain --key public.jwk --path /rooms/999 < alice.jwt"
COLUMNS, ROW, SIZE = 80, 19, 7.83
PLAIN = "#e6e6e6"
COLORS = {"yes": "#7fd1a0", "NO": "#ff8f8f", "refused": "#ff8f8f", "fix": "#f2c572"}


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


def figure() -> str:
    """Return the figure as SVG."""
    lines = [f"$ {COMMAND}", *_wrapped(explained())]
    width, height = round(COLUMNS * SIZE) + 30, ROW * len(lines) + 54
    parts = [
        "<style>.moq .screen { fill: #16181d; } .moq .term { font-family: ui-monospace, monospace; }</style>",
        f'<rect class="screen" width="{width}" height="{height}" rx="10"/>',
        *(f'<circle cx="{22 + 18 * n}" cy="18" r="5" fill="#5a6068"/>' for n in range(3)),
    ]
    color = PLAIN
    for row, line in enumerate(lines):
        whole = row == 0 or len(lines[row - 1]) < COLUMNS  # and not the rest of a line
        color = COLORS.get(line.partition(":")[0].split()[-1], PLAIN) if whole else color
        parts.append(text(15, 52 + ROW * row, line, "term").replace("<text", f'<text style="fill:{color}"'))
    return picture("explain", "explain says why a relay refuses a token", width, height, parts)


def _wrapped(output: str) -> list[str]:
    """Break lines as a terminal does."""
    return [line[start : start + COLUMNS] for line in output.split("\n") for start in range(0, len(line), COLUMNS)]
