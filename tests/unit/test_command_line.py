"""Any command line prints a result, or one line that says what is wrong."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from typing import TYPE_CHECKING

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moq_token import Algorithm
from moq_token.cli import main
from moq_token.cli.grammar import Group
from moq_token.cli.program import program
from tests import forge
from tests.command_line import SECRETS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HS = Algorithm.HS256
FILES = {
    "hs.jwk": json.dumps(forge.jwk(HS)),
    "ed.jwk": json.dumps(forge.jwk(Algorithm.EDDSA, kid="ed")),
    "set.jwk": json.dumps({"keys": [forge.jwk(Algorithm.ES256, kid="es")]}),
    "alice.jwt": forge.token(HS),
    "relay.toml": '[auth]\nkey = "hs.jwk"\n',
    "bad.toml": "[auth",
}
WORDS = (
    *FILES,
    *("", "-", "--", "keys", "nowhere/file", os.devnull, "..", "=", "-x", "--nope", "%"),
    *("1h", "never", "now", "0", "-1", "2027-01-01", "rooms/123", "a", "thumbprint", "bash", "json", "base64"),
    *("HS256", "EdDSA", "EC256", "HS999", "moqt://relay.example/a?b=c", "é", "\udcff", "a\nb", "\x1b[31m", "x" * 300),
    *("{", "eyJhbGciOiJIUzI1NiJ9", FILES["hs.jwk"], FILES["alice.jwt"]),
)
INPUTS = (*FILES.values(), "", "{}", "[]", '{"keys":[]}', "\0", "-----BEGIN PRIVATE KEY-----\n", "x" * 70_000)


def commands(group: click.Group, before: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Yield every command by its words."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield (*before, name), command
        if isinstance(command, click.Group):
            yield from commands(command, (*before, name))


# A server ends only with a signal.
COMMANDS = [(words, command) for words, command in commands(program) if words[-1] != "serve"]
# Values of the right kind, by the metavar of an option or argument, so that not every example is wrong usage.
SENSIBLE = {
    **dict.fromkeys(("FILE", "[FILE]", "FILE|DIR|URL", "FILE|DIR…"), (*FILES, "-")),
    "DIR": ("keys", "new"),
    "[TOKEN]": ("-", FILES["alice.jwt"]),
    "[TOKEN|URL]": ("-", FILES["alice.jwt"], "moqt://relay.example/a"),
    "ALG": ("HS256", "EdDSA", "EC256"),
    "KID": ("one", "thumbprint"),
    "bash|zsh|fish": ("bash", "fish"),
    "TIME": ("1h", "never", "0", "2027-01-01"),
    "URL": ("moqt://relay.example", "moqt://relay.example/rooms?b=c"),
    **dict.fromkeys(("PATH", "BROADCAST"), ("", "rooms/123", "a")),
}


@st.composite
def lines(draw: st.DrawFn) -> list[str]:
    words, command = draw(st.sampled_from(COMMANDS))
    any_word = st.sampled_from(WORDS)
    front = draw(st.sampled_from([False] * 9 + [True]))
    line = ["--key", draw(any_word), *words] if front else [*words]
    for param in command.params:
        if not draw(st.booleans()):
            continue
        careless = draw(st.sampled_from([False] * 9 + [True]))
        value = draw(any_word if careless else st.sampled_from(SENSIBLE.get(param.metavar or "", WORDS)))
        if not isinstance(param, click.Option):
            line.append(value)
        elif param.is_flag:
            line.append(param.opts[0])
        else:
            line.append(f"{param.opts[-1]}={value}")
    return [*line, draw(any_word)] if draw(st.sampled_from([False] * 9 + [True])) else line


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return the working directory, with the files that the words name; examples may add to it."""
    folder = tmp_path_factory.mktemp("line")
    (folder / "keys").mkdir()
    for name, text in {**FILES, "keys/ed.jwk": FILES["ed.jwk"]}.items():
        (folder / name).write_text(text, encoding="utf-8")
    before = os.getcwd()  # noqa: PTH109 - only to come back to
    os.chdir(folder)
    yield folder
    os.chdir(before)


@given(line=lines(), text=st.sampled_from(INPUTS))
@pytest.mark.usefixtures("folder")
def test_any_words_end_in_a_result_or_in_one_line(line: list[str], text: str) -> None:
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
        patch.setattr(sys, "argv", ["moq-token"])
        status = main(line)
    said = err.getvalue().splitlines()
    errors = [each for each in said if each.startswith("error: ")]
    assert status in {0, 1, 2}
    assert all(each.startswith(("error: ", "note: ")) and each.isprintable() for each in said)
    assert "this is a bug" not in err.getvalue()
    assert not [secret for secret in SECRETS if secret[:20] in err.getvalue()]
    if status == 0 or out.getvalue():
        # Only these commands can print a result and exit with 1.
        assert errors == []
        assert status == 0 or (status == 1 and {"inspect", "explain", "check", "lint"} & set(line))
    else:
        assert len(errors) == 1
        assert said[-1] == errors[0]


def test_the_list_of_the_commands_says_what_they_say() -> None:
    context = click.Context(program)
    assert isinstance(program, Group)
    assert program.summaries == {
        name: command.get_short_help_str(80)
        for name in program.list_commands(context)
        if (command := program.get_command(context, name)) is not None
    }
