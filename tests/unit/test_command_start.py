"""A command starts quickly: it imports what it needs, and the garbage collector does not look at what is imported."""

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

KEY = forge.jwk(Algorithm.HS256)
SIGN = ("sign", "--key", "-", "--publish", "", "--expires", "1h")
ENTRIES = ("from moq_token_cli import run", "from moq_token.cli import run")


def start(script: str, *words: str, text: str = "") -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(Path(moq_token.__file__).parents[1])}
    line = [sys.executable, "-c", script, *words]
    return subprocess.run(line, input=text, env=env, capture_output=True, text=True, check=True, timeout=100)


@pytest.mark.parametrize("sigint", ["default_int_handler", "SIG_IGN"])
@pytest.mark.parametrize("entry", ENTRIES)
def test_the_garbage_collector_runs_in_a_command_and_skips_what_was_imported(entry: str, sigint: str) -> None:
    script = f"""
import gc, signal
signal.signal(signal.SIGINT, signal.{sigint})
{entry}
from moq_token.cli import program
program.execute = lambda _: print(gc.isenabled(), gc.get_freeze_count() > 10_000) or 0
run()
"""
    assert start(script).stdout.split() == ["True", "True"]


@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": ")])
def test_sign_needs_the_json_module_only_for_an_unusual_spelling_of_the_key(separators: tuple[str, str]) -> None:
    script = f"""
import sys
{ENTRIES[0]}
try:
    run()
finally:
    print("json" in sys.modules, file=sys.stderr)
"""
    done = start(script, *SIGN, text=json.dumps(KEY, separators=separators))
    assert done.stdout.count(".") == 2
    assert done.stderr.split() == [str(separators != (",", ":"))]
