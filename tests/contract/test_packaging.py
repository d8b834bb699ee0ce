"""The package works when it is installed, and when PyInstaller or a similar tool makes one file of it."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from importlib.util import resolve_name
from pathlib import Path

import pytest

import moq_token

PACKAGE = Path(moq_token.__file__).parent
COMMANDS = ("generate", "sign", "explain", "keys", "check-config", "completion")


def modules() -> dict[str, Path]:
    """Find all modules of the package by their names."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        name = ".".join(("moq_token", *path.relative_to(PACKAGE).with_suffix("").parts))
        found[name.removesuffix(".__init__")] = path
    return found


def imported() -> set[str]:
    """Find all names that import statements anywhere in the package may load, as those tools do."""
    names: set[str] = set()
    for module, path in modules().items():
        package = module if path.name == "__init__.py" else module.rpartition(".")[0]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                base = resolve_name("." * node.level + (node.module or ""), package)
                names |= {base} | {f"{base}.{alias.name}" for alias in node.names}
    return names


def test_an_import_statement_names_every_module() -> None:
    for_users = {"moq_token.__main__", "moq_token.issuing", "moq_token.integrations"}
    for_users |= {"moq_token.integrations.moq", "moq_token.integrations.starlette"}
    unseen = set(modules()) - imported() - for_users
    assert not {name for name in unseen if not name.startswith("moq_token.server")}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_module_that_is_missing_is_named(command: str) -> None:
    home = {"generate": "keys", "sign": "tokens", "keys": "directory", "check-config": "relay", "completion": "shell"}
    missing = f"moq_token.cli.{home.get(command, command)}"
    program = f"import sys; sys.modules[{missing!r}] = None; from moq_token.cli import run; run()"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", program, command], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith(f"error: Python module not found: {missing}: install moq-token again")
    assert done.stderr.count("\n") == 1
