"""Generate the manual page and the shell completions in ``share/`` from the program. The wheel installs them.

python -m scripts.man   # update share/; a test compares it with the program
"""

import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from moq_token import __version__
from moq_token.cli.grammar import Command
from moq_token.cli.program import program
from moq_token.cli.shell import completion_script

SHARE = Path(__file__).parents[1] / "share"
NAME = "moq-token-cli"
NAMES = (NAME, "moq-token")
COMPLETIONS = {
    "bash": "bash-completion/completions/{}",
    "zsh": "zsh/site-functions/_{}",
    "fish": "fish/vendor_completions.d/{}.fish",
}

EXIT_STATUS = {
    "0": "Done.",
    "1": "Refused or failed: a token that does not verify, a key that cannot be read.",
    "2": "The command line is wrong.",
    "130": "Interrupted.",
}
ENVIRONMENT = {
    "MOQ_TOKEN_KEY": "The name of the key file where no --key is given.",
    "MOQ_TOKEN_KEY_DATA": "The key itself, as JSON or base64url; not together with MOQ_TOKEN_KEY.",
}


def files() -> dict[str, str]:
    """Return the files of ``share/``: their names relative to it, and their contents."""
    made = {f"man/man1/{NAME}.1": page(), "man/man1/moq-token.1": f".so man1/{NAME}.1\n"}
    for shell, pattern in COMPLETIONS.items():
        for name in NAMES:
            made[pattern.format(name)] = completion_script(shell, name) + "\n"
    return made


def page() -> str:
    """Return the manual page, in the macros of man(7)."""
    lines = [
        f'.TH "{NAME.upper()}" "1" "" "moq-token {__version__}" "User Commands"',
        *(".SH NAME", f"{escaped(NAME)}, moq\\-token \\- {escaped(_first_line(program))}"),
        *(".SH SYNOPSIS", ".nf"),
    ]
    lines += [
        f"\\fB{escaped(NAME)}\\fR {escaped(usage)}" for usage in ("[OPTIONS] COMMAND [ARGS]...", "COMMAND --help")
    ]
    lines += [".fi", ".SH DESCRIPTION", *_description(program), ".SH OPTIONS"]
    lines += _options(program, [*program.params, *_help_option(program)])
    lines.append(".SH COMMANDS")
    for name, command in commands(program):
        lines += [f'.SS "{escaped(name)}"', *_usage(name, command), *_description(command)]
        lines += [*_options(command, command.params), ".PP", "Examples:", ".PP", *_examples(command)]
    lines += [".SH ENVIRONMENT", *_terms(ENVIRONMENT), ".SH EXIT STATUS", *_terms(EXIT_STATUS)]
    lines += [".SH EXAMPLES", *_examples(program)]
    return "\n".join(lines) + "\n"


def commands(group: click.Group, prefix: str = "") -> Iterator[tuple[str, click.Command]]:
    """Yield every command with its name, those of a group after it."""
    context = _context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield prefix + name, command
        if isinstance(command, click.Group):
            yield from commands(command, f"{prefix}{name} ")


def _usage(name: str, command: click.Command) -> list[str]:
    pieces = " ".join(command.collect_usage_pieces(_context(command)))
    return [".nf", f"\\fB{escaped(NAME)} {escaped(name)}\\fR {escaped(pieces)}", ".fi", ".PP"]


def _first_line(command: click.Command) -> str:
    sentence = (command.help or "").partition("\n\n")[0]
    return " ".join(sentence.split()).removesuffix(".")


def _description(command: click.Command) -> list[str]:
    lines: list[str] = []
    for paragraph in (command.help or "").split("\n\n"):
        lines += [".PP", line(" ".join(paragraph.split()))]
    return lines[1:]


def _options(command: click.Command, parameters: Sequence[click.Parameter]) -> list[str]:
    records = (parameter.get_help_record(_context(command)) for parameter in parameters)
    # Arguments have no help text. The usage line names them, and the description explains them.
    return _terms(dict(record for record in records if record is not None and record[1]))


def _help_option(command: click.Command) -> list[click.Parameter]:
    option = command.get_help_option(_context(command))
    return [] if option is None else [option]


def _context(command: click.Command) -> click.Context:
    return click.Context(command, **command.context_settings)


def _terms(terms: dict[str, str]) -> list[str]:
    lines = []
    for term, text in terms.items():
        lines += [".TP", f"\\fB{escaped(term)}\\fR", line(" ".join(text.split()))]
    return lines


def _examples(command: click.Command) -> list[str]:
    assert isinstance(command, Command)
    examples = [line(f"{NAME} {example}") for example in command.examples]
    return [".RS 4", ".nf", *examples, ".fi", ".RE"]


def line(text: str) -> str:
    """Return a line of text for roff, with its first character escaped if needed."""
    # A line that starts with a dot or an apostrophe is a request to roff.
    return re.sub(r"^(?=[.'])", r"\\&", escaped(text))


def escaped(text: str) -> str:
    """Escape text for roff. Dashes become ASCII hyphens, so that commands can be copied."""
    return (
        text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace("^", "\\(ha").replace("~", "\\(ti")
    )


def main() -> None:
    shutil.rmtree(SHARE, ignore_errors=True)
    for name, text in files().items():
        (SHARE / name).parent.mkdir(parents=True, exist_ok=True)
        (SHARE / name).write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
