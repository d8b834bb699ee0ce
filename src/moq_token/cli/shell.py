"""The commands about the command line itself."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from moq_token.cli import output, program
from moq_token.cli.grammar import command

SHELLS = ("bash", "zsh", "fish")


@command(
    "completion",
    short_help="Print the completion script of a shell.",
    examples=(
        "completion bash > ~/.local/share/bash-completion/completions/moq-token-cli",
        "completion zsh > ~/.zfunc/_moq-token-cli",
        "completion fish > ~/.config/fish/completions/moq-token-cli.fish",
    ),
)
@click.argument("shell", type=click.Choice(SHELLS), metavar="bash|zsh|fish")
def completion_command(shell: str) -> None:
    """Print the script with which a shell completes commands, options and algorithms.

    The script is for the name that you run the program by.
    """
    # No shell completes `python -m moq_token`, which is three words.
    name = program.program_name()
    output.emit(completion_script(shell, program.NAME if " " in name else name))


def completion_script(shell: str, name: str) -> str:
    """Return the completion script of a shell for the program by this name."""
    kind = get_completion_class(shell)
    assert kind is not None  # noqa: S101 - click has these three
    completion = kind(program.program, {}, name, program.COMPLETE_VARIABLE)
    # Not `source()`: that of bash would start a shell to ask its version.
    script = (completion.source_template % completion.source_vars()).strip()
    # click's script for fish splits at every comma, and so cuts a description at its first one.
    return script.replace('(string split "," $completion)', '(string split --max 1 "," $completion)')


@command("help", examples=("help sign", "help keys rotate"))
@click.argument("names", nargs=-1, metavar="[COMMAND]...")
@click.pass_context
def help_command(context: click.Context, names: tuple[str, ...]) -> None:
    """Show the help of the program or of a command."""
    where = context.find_root()
    for name in names:
        if not isinstance(where.command, click.Group):
            raise click.UsageError(f"{where.info_name} has no subcommands: run {where.command_path} --help")
        _, found, _ = where.command.resolve_command(where, [name])
        assert found is not None  # noqa: S101 - or it would have raised
        where = click.Context(found, info_name=name, parent=where)
    output.emit(where.get_help())
