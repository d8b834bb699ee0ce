"""Measure whole processes, from start to end: imports and command lines."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import TYPE_CHECKING

from benchmarks.fixtures import ROOT
from benchmarks.measure import race
from benchmarks.node import COMMAND_LINE
from benchmarks.peers import installed
from moq_token import Key

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.measure import Contender, Pace, Times

PASS, IMPORT, IMPORT_JWT = "python -c pass", "import moq_token", "import jwt"
SIGN, SIGN_TYPESCRIPT = "moq-token sign", "moq-token sign (TypeScript)"


def race_processes(pace: Pace) -> Times:
    """Start every process once in each round. A process that fails at the first try is left out."""
    with TemporaryDirectory() as directory:
        key = Path(directory) / "key.jwk"
        Key.generate("HS256").to_file(key)
        sign = ["sign", "--key", str(key), "--root", ROOT, "--publish", "viewer", "--subscribe", "camera"]
        commands = {
            PASS: [sys.executable, "-c", "pass"],
            IMPORT: [sys.executable, "-c", "import moq_token"],
            SIGN: [*_our_command_line(), *sign],
        }
        if installed("PyJWT"):
            commands[IMPORT_JWT] = [sys.executable, "-c", "import jwt"]
        node = shutil.which("node")
        if node is not None and COMMAND_LINE.exists():
            commands[SIGN_TYPESCRIPT] = [node, str(COMMAND_LINE), *sign]
        working = {name: command for name, command in commands.items() if _start(command).returncode == 0}
        return race({name: _starting(command) for name, command in working.items()}, range, pace)


def _our_command_line() -> list[str]:
    """Return the installed command, or ``python -m`` if the package is only on the path."""
    script = Path(sysconfig.get_path("scripts")) / "moq-token"
    return [str(script)] if script.exists() else [sys.executable, "-m", "moq_token"]


def _starting(command: Sequence[str]) -> Contender:
    def run(_: object) -> float:
        start = perf_counter()
        _start(command).check_returncode()
        return perf_counter() - start

    return run


def _start(command: Sequence[str]) -> subprocess.CompletedProcess[bytes]:
    silent = subprocess.DEVNULL  # our command notes that the token never expires
    return subprocess.run(command, stdin=silent, stdout=silent, stderr=silent, check=False)
