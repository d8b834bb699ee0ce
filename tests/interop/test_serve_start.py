"""`serve` refuses at start what `moq auth serve` refuses, with the same exit status."""

from __future__ import annotations

import subprocess

import pytest

from moq_token.cli import main
from tests.unit.test_serve_settings import START

pytestmark = pytest.mark.rust


@pytest.mark.parametrize("row", START, ids=lambda row: row[0])
def test_errors_at_start(moq: str, row: tuple[str, int, str, str], capsys: pytest.CaptureFixture[str]) -> None:
    line, status, message, theirs = row
    words = line.split()
    listen = [] if "--listen" in words else ["--listen", "127.0.0.1:0"]
    original = subprocess.run(
        [moq, "auth", "serve", *listen, *words], capture_output=True, text=True, timeout=100, check=False
    )
    assert (original.returncode, theirs in original.stderr) == (status, True)
    assert main(["auth", "serve", *listen, *words]) == status
    assert message.lower() in capsys.readouterr().err.lower()
