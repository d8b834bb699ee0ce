"""The commands about the command line itself."""

from __future__ import annotations

import click

from moq_token.cli import output
from moq_token.cli.grammar import command

_SHELLS = ("bash", "zsh", "fish")


@command(
    "completion",
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

    from moq_token.cli.program import COMPLETE_VARIABLE, program, program_name

    made = get_completion_class(shell)
    assert made is not None  # noqa: S101 - these three are click's own
    completion = made(program, {}, program_name(), COMPLETE_VARIABLE)
    # Not `source()`: that of bash would start a shell to ask its version.
    output.emit((completion.source_template % completion.source_vars()).strip())


@command("help", examples=("help sign",))
@click.argument("name", required=False, metavar="[COMMAND]")
@click.pass_context
def help_command(context: click.Context, name: str | None) -> None:
    """Show the help of a command, or of them all."""
    parent = context.find_root()
    assert isinstance(parent.command, click.Group)  # noqa: S101 - it is the program
    if name is None:
        output.emit(parent.get_help())
        return
    _, found, _ = parent.command.resolve_command(parent, [name])
    assert found is not None  # noqa: S101 - or it would have raised
    output.emit(found.get_help(click.Context(found, info_name=name, parent=parent)))
