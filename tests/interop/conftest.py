from __future__ import annotations

import functools
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from moq_token import Algorithm, Key
from tests.interop.peers import (
    HERE,
    TYPESCRIPT_PACKAGE,
    CommandLine,
    RustCommandLine,
    TypeScript,
    TypeScriptCommandLine,
    missing,
    program,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def node() -> str:
    path = shutil.which("node")
    if path is None:
        missing("node")
    if not TYPESCRIPT_PACKAGE.exists():
        missing("@moq/token, which `npm ci` installs in tests/interop")
    return path


@pytest.fixture(scope="session")
def typescript(node: str) -> Iterator[TypeScript]:
    with subprocess.Popen(
        [node, HERE / "peer.js"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8"
    ) as process:
        yield TypeScript(process)


@pytest.fixture(scope="session")
def typescript_cli(node: str) -> TypeScriptCommandLine:
    return TypeScriptCommandLine(node, TYPESCRIPT_PACKAGE / "cli.js")


@pytest.fixture(scope="session")
def rust_cli() -> RustCommandLine:
    return RustCommandLine(program("RUST_MOQ_TOKEN"))


@pytest.fixture(scope="session")
def moq() -> str:
    return program("RUST_MOQ")


@pytest.fixture(scope="session")
def moq_auth(moq: str) -> CommandLine:
    return CommandLine(moq, "auth")


@pytest.fixture
def key(tmp_path: Path) -> Key:
    """Make a key whose public half is in the directory ``keys``."""
    made = Key.generate(Algorithm.EDDSA, "pair")
    (tmp_path / "keys").mkdir()
    made.to_public().to_file(tmp_path / "keys" / "pair.jwk")
    return made


# A key for every algorithm, made once: those for RSA take a while.


@pytest.fixture(scope="session")
def our_key() -> Callable[[Algorithm], Key]:
    return functools.cache(lambda algorithm: Key.generate(algorithm, f"ours-{algorithm}"))


@pytest.fixture(scope="session")
def their_key(typescript: TypeScript) -> Callable[[Algorithm], str]:
    return functools.cache(lambda algorithm: typescript.generate(algorithm, f"theirs-{algorithm}"))
