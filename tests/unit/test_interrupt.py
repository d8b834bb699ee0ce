"""Ctrl-C at any moment ends the command line with status 130, and prints nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import moq_token
from moq_token import Algorithm
from tests import forge

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the status and the signal are those of POSIX")

# The console script, which sends itself SIGINT at its n-th call of a Python function, once or `times` times in a row.
SCRIPT = """
import os, sys
from _signal import SIGINT
at, times = int(sys.argv.pop(1)), int(sys.argv.pop(1))
calls = 0

def trace(frame, event, argument):
    global calls
    calls += 1
    if at <= calls < at + times:
        os.kill(os.getpid(), SIGINT)

from moq_token_cli import run
sys.settrace(trace)
run()
"""
# The first call is that of `run` itself, which has installed no handler yet.
MOMENTS = [2, 3, 5, 10, 30, 100, 300, 1_000, 2_000, 4_000, 6_000, 8_000, 10_000, 12_000, 14_000, 16_000, 20_000]
KEY = json.dumps(forge.jwk(Algorithm.HS256))
SIGN = ("sign", "--key", "-", "--publish", "", "--expires", "1h")


def start(script: str, *words: str, text: str = KEY) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(Path(moq_token.__file__).parents[1])}
    line = [sys.executable, "-c", script, *words]
    return subprocess.run(line, input=text, env=env, capture_output=True, text=True, check=False, timeout=100)


@pytest.mark.parametrize("times", [1, 2, 50])
def test_at_every_moment(times: int) -> None:
    seen: dict[int, tuple[int, str]] = {}
    for moment in MOMENTS:
        done = start(SCRIPT, str(moment), str(times), *SIGN)
        if done.returncode == 0:  # it was done before that moment
            break
        seen[moment] = (done.returncode, done.stderr)
    assert set(seen.values()) == {(130, "")}
    assert len(seen) > 8


@pytest.mark.parametrize("entry", ["from moq_token_cli import run", "from moq_token.cli import run"])
def test_while_it_waits_for_its_input(entry: str) -> None:
    script = f"""
import io, os, signal, sys
{entry}

class Input(io.BytesIO):
    def read(self, *_):
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("not interrupted")

sys.stdin = io.TextIOWrapper(Input())
run()
"""
    done = start(script, *SIGN)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_a_file_that_is_being_written_is_cleaned_up(tmp_path: Path) -> None:
    target = tmp_path / "root.jwk"
    target.write_text("precious\n", encoding="utf-8")
    script = """
import os, signal
from moq_token_cli import run
os.fsync = lambda _: os.kill(os.getpid(), signal.SIGINT)
run()
"""
    done = start(script, "generate", "--out", str(target), "--force")
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")
    assert [path.name for path in tmp_path.iterdir()] == ["root.jwk"]
    assert target.read_text(encoding="utf-8") == "precious\n"


def test_in_a_finalizer() -> None:
    script = """
import os, signal, sys
import moq_token.cli
from moq_token.cli import program

class Finalized:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)

def execute(_):
    Finalized()
    return 0

program.execute = execute
moq_token.cli.run()
"""
    done = start(script)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_an_ignored_signal_stays_ignored() -> None:
    script = """
import os, signal
signal.signal(signal.SIGINT, signal.SIG_IGN)
from moq_token_cli import run
os.kill(os.getpid(), signal.SIGINT)
run()
"""
    done = start(script, *SIGN)
    assert (done.returncode, done.stderr) == (0, "")
