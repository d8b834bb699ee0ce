"""The commands `completion` and `help`, and the help of all commands."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.command_line import Cli

COMMANDS = (
    *("generate", "sign", "verify", "inspect", "explain", "public", "import", "export", "thumbprint", "jwks", "keys"),
    *("auth", "lint", "serve", "sessions", "ban", "unban", "bans", "narrow", "kick"),
    *("check-config", "completion", "help"),
)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
@pytest.mark.parametrize("name", ["moq-token", "moq-token-cli"])
def test_completion_prints_the_script_for_the_name_of_the_program(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, shell: str, name: str
) -> None:
    monkeypatch.setattr(sys, "argv", [f"/usr/bin/{name}"])
    out = cli.done("completion", shell)
    assert f"_MOQ_TOKEN_COMPLETE={shell}_complete" in out
    assert re.search(rf"(complete|compdef)\b.* {re.escape(name)}\b", out)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("moq-token chec", {"check-config"}),
        ("moq-token ex", {"explain", "export"}),
        ("moq-token generate --out-", {"--out-dir"}),
        ("moq-token generate --algorithm ES", {"ES256", "ES384"}),
        ("moq-token completion ", {"bash", "zsh", "fish"}),
    ],
)
def test_completion_completes(cli: Cli, monkeypatch: pytest.MonkeyPatch, words: str, expected: set[str]) -> None:
    monkeypatch.setenv("_MOQ_TOKEN_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(words.count(" ")))
    assert {line.rpartition(",")[2] for line in cli.done().splitlines()} == expected


@pytest.mark.parametrize(
    ("argv", "why"),
    [
        (["completion"], "missing argument"),
        (["completion", "tcsh"], "'tcsh' is not one of 'bash', 'zsh', 'fish'"),
        (["completion", "bash", "zsh"], "unexpected argument 'zsh'"),
        (["help", "sing"], "No such command 'sing'. Did you mean 'sign'?"),
        (["help", "s" * 100], "no such command: use one of "),
        (["help", "sign", "verify"], "sign has no subcommands"),
        (["help", "keys", "sign"], "no such command 'sign': use one of list, rotate"),
        (["keys"], "missing command: use one of list, rotate"),
        (["sing"], "No such command 'sing'. Did you mean 'sign'?"),
        (["eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9"], "no such command: use one of "),
        (["--bogus"], "no such option"),
    ],
)
def test_wrong_words_are_refused(cli: Cli, argv: list[str], why: str) -> None:
    assert why.casefold() in cli.refused(2, *argv).casefold()


@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_the_same_however_it_is_asked_for(cli: Cli, command: str) -> None:
    out = cli.done("help", command)
    assert out.startswith(f"Usage: moq-token {command} ")
    assert f"\nExamples:\n  moq-token {command}" in out
    assert cli.done(command, "--help") == out
    assert cli.done(command, "-h") == out


def test_help_lists_the_commands(cli: Cli) -> None:
    out = cli.done("help")
    assert re.findall(r"^  ([a-z-]+)  ", out.partition("Commands:")[2].partition("Examples:")[0], re.MULTILINE) == list(
        COMMANDS
    )
    assert cli.done() == cli.done("--help") == cli.done("-h") == out
