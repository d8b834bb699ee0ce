"""Set up every test: an environment without variables for tokens or colors, and the profiles of hypothesis."""

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

import moq_token
from moq_token import compiled
from tests import forge
from tests.command_line import Cli
from tests.desk import ED, HS, lay_out, lay_out_tokens, put

# A shell that starts the tests in the background ignores Ctrl-C for them, and so would the commands that they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A time limit for each example would fail on a busy machine. The quick examples are the same each time, so that a red
# run means a change; the thorough ones are new each time.
settings.register_profile("quick", deadline=None, derandomize=True)
settings.register_profile("thorough", deadline=None, max_examples=2_000)
settings.load_profile("quick")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--without-fast", action="store_true", help="as if the extra `fast` were not installed")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--without-fast"):
        # With None in its place an import of it fails, which is all that its absence is.
        sys.modules["moq_token_core"] = None  # type: ignore[assignment]


def pytest_report_header() -> str:
    core = "with" if compiled.core() else "without"
    return f"moq_token {moq_token.__version__} from {Path(moq_token.__file__).parent}, {core} the compiled core"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove what would change the command line's defaults."""
    for name in os.environ:
        if name.startswith("MOQ_") or name in {"NO_COLOR", "FORCE_COLOR", "COLUMNS"}:
            monkeypatch.delenv(name)


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Call the command line in this process."""
    return Cli(capsys, monkeypatch)


@pytest.fixture
def shell(cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Cli]:
    """Call the command line in an empty directory, with the usual umask."""
    monkeypatch.chdir(tmp_path)
    before = os.umask(0o022)
    yield cli
    os.umask(before)


@pytest.fixture
def desk(shell: Cli) -> Cli:
    """Call the command line in a directory of key files."""
    lay_out()
    return shell


@pytest.fixture
def counter(desk: Cli, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Call the command line in a directory of keys to verify with, at a fixed time."""
    monkeypatch.setattr(time, "time", lambda: float(forge.NOW))
    put("directory/other.jwk", forge.jwk(HS, kid="other"))
    put("sign.jwk", forge.jwk(HS, key_ops=["sign"]))
    put("scoped.jwk", forge.jwk(HS, scope={"root": "rooms", "put": ["123/alice"]}))
    put("keys/test-key.jwk", forge.jwk(HS))
    put("both.jwk", {"keys": [forge.jwk(ED, kid="ed"), forge.jwk(HS)]})
    return desk


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a directory with keys, sets, directories and tokens."""
    lay_out_tokens(tmp_path)
    return tmp_path


@pytest.fixture
def gate(cli: Cli, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Call the command line in a directory with keys, sets, directories and tokens, at a fixed time."""
    monkeypatch.chdir(folder)
    cli.at(float(forge.NOW))
    return cli
