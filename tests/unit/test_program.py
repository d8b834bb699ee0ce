"""The program as a whole: usage, errors, signals."""

from __future__ import annotations

import io
import re
import signal
import sys
from typing import TYPE_CHECKING

import pytest

import moq_token
from moq_token import cli as command_line
from moq_token import compiled
from moq_token.cli import keyring, main
from tests.desk import SIGN, TOKEN, grant

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.command_line import Cli


def test_an_interrupt_is_quiet(gate: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(keyring, "read_signer", interrupted)
    assert gate.run(*SIGN) == (130, "", "")


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("genrate", "No such command 'genrate'. Did you mean 'generate'?"),
        ("veirfy", "No such command 'veirfy'. Did you mean 'verify'?"),
        ("gen", "No such command 'gen'. Did you mean 'generate'?"),
        ("ex", "No such command 'ex'. Did you mean 'explain' or 'export'?"),
        ("chek-config", "No such command 'chek-config'. Did you mean 'check-config'?"),
        ("rotate", "No such command 'rotate'. Did you mean 'keys rotate'?"),
        ("keys rotat", "No such command 'rotat'. Did you mean 'rotate'?"),
        ("help infpect", "No such command 'infpect'. Did you mean 'inspect'?"),
        ("zzz", "no such command 'zzz': use one of generate, sign"),
        ("sign --pub x", "No such option '--pub'. Did you mean '--publish'?"),
        ("sign --pubilsh=x", "No such option '--pubilsh'. Did you mean '--publish'?"),
        ("sign --exp 1h", "No such option '--exp'. Did you mean '--expires'?"),
        ("sign --expiry 1h", "No such option '--expiry'. Did you mean '--expires'?"),
        ("generate --public-key k", "No such option '--public-key'. Did you mean '--public' or '--public-dir'?"),
        ("generate --alg RS256", "No such option '--alg'. Did you mean '--algorithm'?"),
        ("--versoin", "No such option '--versoin'. Did you mean '--version'?"),
        ("sign --allow", "no such option '--allow': run moq-token sign --help for a list"),
        ("sign -x", "no such option '-x': run moq-token sign --help for a list"),
    ],
)
def test_a_mistyped_word_is_answered_with_what_fits(gate: Cli, line: str, why: str) -> None:
    assert gate.refused(2, *line.split()).startswith(why)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("completion", "missing argument 'bash|zsh|fish'. Choose from: bash, zsh, fish"),
        ("completion csh", "invalid value for 'bash|zsh|fish': 'csh' is not one of 'bash', 'zsh', 'fish'"),
        ("keys retire signing", "missing argument 'KID'"),
    ],
)
def test_a_missing_argument_is_named_on_one_line(gate: Cli, line: str, why: str) -> None:
    why_not = gate.refused(2, *line.split())
    assert (why_not, "\\" in why_not) == (why, False)


@pytest.mark.parametrize(
    "line",
    [
        "inspect alice.jwt",
        "inspect --key hs.jwk alice.jwt",
        "explain --key hs.jwk --path /r alice.jwt",
        "inspect keys/ed.jwk",
    ],
)
def test_a_file_in_place_of_a_token_leads_to_in(gate: Cli, line: str) -> None:
    name = line.rsplit(maxsplit=1)[-1]
    why = gate.refused(2, *line.split())
    assert why == f"expected a token, got a file name: use --in '{name}'"


@pytest.mark.parametrize("name", ["missing.jwt", "nodir/alice.jwt", "token.txt", "./x.token"])
def test_the_name_of_a_missing_file_in_place_of_a_token_is_named(gate: Cli, name: str) -> None:
    why = gate.refused(2, "inspect", name)
    assert why == f"expected a token, got '{name}': file not found, and files are passed with --in"


def test_a_file_after_verify_leads_to_in(gate: Cli) -> None:
    why = gate.refused(2, "verify", "--key", "hs.jwk", "alice.jwt")
    assert why == "unexpected argument: to read the token from a file, use --in 'alice.jwt'"


def test_a_missing_python_module_is_named(gate: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: object) -> None:
        raise ModuleNotFoundError("No module named 'msgspec'", name="msgspec")

    monkeypatch.setattr(keyring, "read_signer", missing)
    assert gate.refused(1, *SIGN).startswith("Python module not found: msgspec")


def test_a_bug_shows_no_traceback_and_no_secret(gate: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def bug(_: object) -> None:
        raise RuntimeError("hunter2")

    monkeypatch.setattr(keyring, "read_signer", bug)
    message = "error: unexpected RuntimeError: this is a bug, please report the command without its keys\n"
    assert gate.run(*SIGN) == (1, "", message)


@pytest.fixture
def handlers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Put back what `run` leaves behind at the end of a process."""
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("handlers")
def test_run_leaves_with_the_status(gate: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    for argv, status in ((["inspect", TOKEN], 0), (["inspect", "x"], 1), (["inspect", "x", "y"], 2)):
        gate.run()
        monkeypatch.setattr(sys, "argv", ["moq-token", *argv])
        with pytest.raises(SystemExit) as leaving:
            command_line.run()
        assert leaving.value.code == status


@pytest.mark.parametrize("option", ["-V", "--version"])
def test_the_version_names_what_it_runs_with(gate: Cli, option: str) -> None:
    first, second, third = gate.done(option).splitlines()
    assert first == f"moq-token {moq_token.__version__}"
    assert re.fullmatch(r"Python 3\.[0-9.]+\S*, cryptography [0-9.]+", second)
    assert third.startswith("extra `fast`: ")


def test_the_version_says_whether_the_core_is_used(gate: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "core", lambda: None)
    for installed, expected in (
        (None, "not installed"),
        ("0.0.1", f"moq-token-core 0.0.1 is not used, expected version {moq_token.__version__}"),
    ):
        monkeypatch.setattr(compiled, "installed", lambda installed=installed: installed)
        assert gate.done("-V").splitlines()[2] == f"extra `fast`: {expected}"


@pytest.mark.parametrize(
    ("argv", "why"),
    [
        (["--key", "hs.jwk"], "missing command: use one of generate, sign, verify"),
        (["--key"], "--key needs a value"),
        (["--key", "--json"], "an option follows"),
        (["--key", "a", "--key", "b", "sign"], "--key is given twice"),
        (["--key", "a", "sign", "--key", "b", "--publish", "c"], "--key is given twice"),
        (["--key", "a", "generate", "--out", "b"], "--key in front of generate means --out: use only one of them"),
        (["--key", "a", "generate", "--out=b"], "--key in front of generate means --out"),
        *((["--key", "hs.jwk", name], f"{name} does not accept --key in front of it") for name in ("inspect", "help")),
        (["--bogus", "sign"], "no such option"),
        (["sign", "--publish", "a", "verify"], "unexpected argument 'verify'"),
        (["Sign"], "No such command 'Sign'. Did you mean 'sign'?"),
        ([""], "no such command '': use one of generate, sign, verify"),
        ([TOKEN], "no such command: use one of "),
        (["completion", TOKEN], ": this is not one of 'bash', 'zsh', 'fish'"),
    ],
)
def test_wrong_usage_is_one_line(gate: Cli, argv: list[str], why: str) -> None:
    assert why.casefold() in gate.refused(2, *argv).casefold()


@pytest.mark.parametrize("argv", [SIGN, ("verify", "--key", "hs.jwk"), ("inspect",), ("help",), ("--version",)])
def test_a_result_that_cannot_be_printed_is_a_failure(
    gate: Cli, monkeypatch: pytest.MonkeyPatch, argv: Sequence[str]
) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    assert gate.refused(1, *argv, stdin=TOKEN) == "cannot write the result: standard output is closed"


def test_an_error_that_cannot_be_printed_is_lost_quietly(gate: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    assert main(["inspect", "x"]) == 1
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stderr", closed)
    assert gate.run("inspect", "x")[:2] == (1, "")


@pytest.mark.usefixtures("gate")
def test_a_terminal_that_knows_few_characters_gets_escapes(monkeypatch: pytest.MonkeyPatch) -> None:
    data = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(data, encoding="ascii"))
    assert main(["inspect", grant(root="ü")]) == 0
    assert b'"root":"\\u00fc"' in data.getvalue()
