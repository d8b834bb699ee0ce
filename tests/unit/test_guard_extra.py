"""The errors for importing a part without what it needs, and the documented limits of the guard."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

IMPORT = "from moq_token.integrations.moq import guard"
COMMAND = 'pip install "moq-token[moq]"'


def complaint(program: str) -> str:
    """Run a program that must fail, and return the last line of its traceback."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    return done.stderr.strip().splitlines()[-1]


def test_without_the_extra_the_command_that_installs_it_is_named() -> None:
    last = complaint(f"import sys; sys.modules['moq'] = None; {IMPORT}")
    assert last == f"ImportError: the guard needs the extra `moq`: {COMMAND}"


def test_with_the_wrong_package_it_is_said_which_one_is_there(tmp_path: Path) -> None:
    Path(tmp_path, "moq.py").write_text("", encoding="utf-8")
    last = complaint(f"import sys; sys.path.insert(0, {str(tmp_path)!r}); {IMPORT}")
    assert COMMAND in last
    assert "not that of moq-rs" in last


@pytest.mark.parametrize(
    ("module", "missing", "command"),
    [
        ("moq_token.server", "httptools", 'pip install "moq-token[server]"'),
        ("moq_token.server.policy", "httptools", 'pip install "moq-token[server]"'),
        ("moq_token.integrations.starlette", "starlette", "pip install fastapi"),
    ],
)
def test_other_modules_name_the_command_too(module: str, missing: str, command: str) -> None:
    last = complaint(f"import sys; sys.modules['{missing}'] = None; import {module}")
    assert last.startswith("ImportError: ")
    assert command in last


def test_the_documented_limits_are_the_limits() -> None:
    module = pytest.importorskip(
        "moq_token.integrations.moq", exc_type=ImportError, reason="moq-rs is not built for this interpreter"
    )
    documented = dict(re.findall(r"^- ``([A-Z_]+)`` \(([0-9,]+)\)", module.__doc__, re.MULTILINE))
    constants = {name: f"{getattr(module, name):,}" for name in module.__all__ if name.isupper()}
    assert documented == constants
