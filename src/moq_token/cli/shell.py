"""The commands about the command line itself."""

from __future__ import annotations

import click

from moq_token.cli import output
from moq_token.cli.grammar import command

_SHELLS = ("bash", "zsh", "fish")


@command(
    "completion",
    short_help="Print the script that lets a shell complete.",
    examples=(
        "completion bash > ~/.local/share/bash-completion/completions/moq-token-cli",
        "completion zsh > ~/.zfunc/_moq-token-cli",
        "completion fish > ~/.config/fish/completions/moq-token-cli.fish",
    ),
)
@click.argument("shell", type=click.Choice(_SHELLS), metavar="bash|zsh|fish")
def completion_command(shell: str) -> None:
    """Print the script that lets a shell complete commands, options and algorithms.

    The script serves the name that the program was called by.
    """
    from click.shell_completion import get_completion_class

    from moq_token.cli.program import COMPLETE_VARIABLE, NAME, program, program_name

    made = get_completion_class(shell)
    assert made is not None  # noqa: S101 - these three are click's own
    # No shell completes `python -m moq_token`, which is three words.
    name = program_name()
    completion = made(program, {}, NAME if " " in name else name, COMPLETE_VARIABLE)
    # Not `source()`: that of bash would start a shell to ask its version.
    output.emit((completion.source_template % completion.source_vars()).strip())


@command("help", examples=("help sign", "help keys rotate"))
@click.argument("names", nargs=-1, metavar="[COMMAND]...")
@click.pass_context
def help_command(context: click.Context, names: tuple[str, ...]) -> None:
    """Show the help of a command, or of them all."""
    where = context.find_root()
    for name in names:
        if not isinstance(where.command, click.Group):
            raise click.UsageError(f"{where.info_name} has no commands of its own")
        _, found, _ = where.command.resolve_command(where, [name])
        assert found is not None  # noqa: S101 - or it would have raised
        where = click.Context(found, info_name=name, parent=where)
    output.emit(where.get_help())
