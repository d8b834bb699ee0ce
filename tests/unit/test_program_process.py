"""The program as a process: pipes, terminals and shells."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest

from moq_token import Scope
from moq_token.cli import program
from tests import forge
from tests.desk import CLAIMS, HS, SIGN, TOKEN, grant, payload

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tests.command_line import Cli


def call(
    folder: Path, *argv: str, name: str = "", stdin: str = "", env: Mapping[str, str] | None = None, tail: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run the program in a directory with keys; ``tail`` is what a shell reads behind it, such as ``>&-``."""
    line = f"{name or shlex.quote(sys.executable) + ' -m moq_token'} {shlex.join(argv)} {tail}"
    return subprocess.run(
        ["bash", "-c", line],
        cwd=folder,
        input=stdin,
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


@pytest.mark.parametrize("argv", [SIGN, ("inspect", TOKEN), ("--help",), ("sign", "--help"), ("generate",)])
def test_standard_output_that_is_no_more(folder: Path, argv: Sequence[str]) -> None:
    gone = call(folder, *argv, tail="| true")
    assert (gone.stdout, gone.stderr) == ("", "")
    closed = call(folder, *argv, tail=">&-")
    assert (closed.returncode, closed.stderr) == (1, "error: cannot write the result: standard output is closed\n")
    if Path("/dev/full").exists():
        full = call(folder, *argv, tail="> /dev/full")
        message = "error: cannot write to standard output: No space left on device\n"
        assert (full.returncode, full.stderr) == (1, message)


def test_a_reader_who_has_gone_away_is_no_matter(folder: Path) -> None:
    for argv in (SIGN, ("--help",)):
        reader, writer = os.pipe()
        os.close(reader)
        try:
            done = subprocess.run(
                [sys.executable, "-m", "moq_token", *argv],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=writer,
                stderr=subprocess.PIPE,
                check=False,
                timeout=100,
            )
        finally:
            os.close(writer)
        assert (done.returncode, done.stderr) == (1, b"")


def test_closed_standard_input_and_error(folder: Path) -> None:
    done = call(folder, "verify", "--key", "hs.jwk", tail="<&-")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: cannot read the token: standard input is closed\n"
    done = call(folder, "verify", "--key", "hs.jwk", tail="2>&-", stdin="x")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "")


def test_the_names_of_the_program_are_one(folder: Path) -> None:
    scripts = Path(sys.executable).parent
    outputs = set()
    for name in (scripts / "moq-token", scripts / "moq-token-cli"):
        done = call(folder, "verify", "--key", "hs.jwk", name=shlex.quote(str(name)), stdin=TOKEN)
        outputs.add((done.returncode, done.stdout, done.stderr))
        assert f"\n  {name.name} generate" in call(folder, "help", name=shlex.quote(str(name))).stdout
    assert outputs == {(0, CLAIMS, "")}
    assert "Usage: python -m moq_token [OPTIONS]" in call(folder, "help").stdout


def test_a_locale_without_unicode_is_served(folder: Path) -> None:
    env = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}
    done = call(folder, "verify", "--key", "hs.jwk", stdin=grant(root="nö/😀"), env=env)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.isascii()
    assert json.loads(done.stdout)["root"] == "nö/😀"


def at_terminal(folder: Path, *argv: str, typed: str = "", env: Mapping[str, str] | None = None) -> tuple[int, str]:
    """Return the status of the program, and all that a person at its terminal sees."""
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "moq_token", *argv],
            cwd=folder,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={**os.environ, "TERM": "xterm", **(env or {})},
        )
        os.close(theirs)
        if typed:
            os.write(ours, typed.encode())
        seen = b""
        with contextlib.suppress(OSError):  # Linux raises this when the other end is closed
            while data := os.read(ours, 4096):
                seen += data
        return process.wait(100), seen.decode().replace("\r\n", "\n")
    finally:
        os.close(ours)


@pytest.mark.parametrize(
    ("env", "coloured"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True), ({"TERM": "dumb"}, False)],
)
def test_a_terminal_has_colours_and_notes(folder: Path, env: dict[str, str], *, coloured: bool) -> None:
    error, note = ("\x1b[31merror:\x1b[0m", "\x1b[36mnote:\x1b[0m") if coloured else ("error:", "note:")
    status, seen = at_terminal(folder, "inspect", "x", env=env)
    assert status == 1
    assert seen.startswith(f"{error} ")
    status, seen = at_terminal(folder, *SIGN, env=env)
    token, hint = seen.splitlines()
    assert status == 0
    assert payload(token) == {"root": "", "put": [""]}
    assert hint == (
        f"{note} this token never expires: use --expires 1h to limit it, or --expires never to silence this note"
    )


def test_a_terminal_is_asked_for_a_token_and_shown_json_on_many_lines(folder: Path) -> None:
    status, seen = at_terminal(folder, "verify", "--key", "hs.jwk", typed=f"{TOKEN}\n\x04", env={"NO_COLOR": "1"})
    assert status == 0
    assert "note: reading the token from the terminal: end it with Ctrl-D on a line of its own\n" in seen
    shown = json.dumps(forge.GRANT, indent=2)
    assert seen.endswith(f"{shown}\n")


def test_a_token_that_is_meant_to_last_needs_no_note(folder: Path) -> None:
    status, seen = at_terminal(folder, *SIGN, "--expires", "never")
    assert (status, len(seen.splitlines())) == (0, 1)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["sig"], "sign"),
        (["sign", "--pub"], "--publish\n--publish-pattern"),
        (["verify", "--pa"], "--path"),
        (["generate", "--algorithm", "Ed"], "EdDSA"),
        (["completion", "ba"], "bash"),
    ],
)
def test_bash_completes(folder: Path, words: list[str], expected: str) -> None:
    program_path = Path(sys.executable).parent / "moq-token"
    line = f"""
        PATH={shlex.quote(str(program_path.parent))}:$PATH
        source <(moq-token completion bash)
        COMP_WORDS=(moq-token {shlex.join(words)})
        COMP_CWORD={len(words)}
        _moq_token_completion moq-token
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(
        ["bash", "--norc", "-c", line], cwd=folder, capture_output=True, text=True, check=False, timeout=100
    )
    assert (done.stdout, done.stderr) == (f"{expected}\n", "")


def in_shell(shell: Sequence[str], script: str, folder: Path) -> str:
    """Run a script with the program on the path, in a shell that is on this machine, and return what it prints."""
    if shutil.which(shell[0]) is None:
        pytest.skip(f"needs {shell[0]}")
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": str(folder)}
    done = subprocess.run([*shell, script], env=env, capture_output=True, text=True, check=False, timeout=100)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("moq-token sig", ["sign"]),
        ("moq-token-cli sign --pub", ["--publish", "--publish-pattern"]),
        ("moq-token generate --algorithm Ed", ["EdDSA"]),
        ("moq-token keys r", ["retire", "rotate"]),
    ],
)
def test_fish_completes(tmp_path: Path, line: str, expected: list[str]) -> None:
    name = line.split(maxsplit=1)[0]
    out = in_shell(["fish", "--no-config", "-c"], f"{name} completion fish | source; complete -C '{line}'", tmp_path)
    assert [found.split("\t")[0] for found in out.splitlines()] == expected


def test_fish_shows_whole_descriptions(tmp_path: Path) -> None:
    lines = "complete -C 'moq-token sign --'; complete -C 'moq-token '"
    out = in_shell(["fish", "--no-config", "-c"], f"moq-token completion fish | source; {lines}", tmp_path)
    found = dict(line.split("\t") for line in out.splitlines())
    sign = program.program.get_command(click.Context(program.program), "sign")
    assert sign is not None
    options = [option for option in sign.params if isinstance(option, click.Option) and not option.hidden]
    assert len(options) > 6
    assert {option.opts[0]: option.help for option in options}.items() <= found.items()
    assert "," in found["--expires"]


def test_no_description_of_a_command_is_cut() -> None:
    from tests.unit.test_command_line import COMMANDS

    assert [words for words, command in COMMANDS if command.get_short_help_str().endswith("...")] == []


@pytest.mark.parametrize("name", ["moq-token", "moq-token-cli"])
def test_zsh_takes_the_completion(tmp_path: Path, name: str) -> None:
    load = f"autoload -U compinit && compinit -u && source <({name} completion zsh)"
    script = f"{load} && print $_comps[{name}]"
    assert in_shell(["zsh", "-f", "-c"], script, tmp_path).strip() == f"_{name.replace('-', '_')}_completion"


def test_the_module_has_a_completion_for_the_program(gate: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = gate.done("completion", "bash")
    monkeypatch.setattr(sys, "argv", ["/somewhere/moq_token/__main__.py"])
    assert gate.done("completion", "bash") == expected


def test_a_scope_limits_what_a_key_signs(gate: Cli) -> None:
    scoped = forge.key(HS).with_scope(Scope("rooms", ["123/alice"]))
    scoped.to_file("limited.jwk")
    argv = ("sign", "--key", "limited.jwk", "--root", "rooms/123", "--publish", "alice/cam", "--expires", "1h")
    token = gate.done(*argv)
    assert json.loads(gate.done("verify", "--key", "limited.jwk", stdin=token))["put"] == ["alice/cam"]
