"""The grammar of command lines: click's, which here ignores no word silently and repeats no secret in a message."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NoReturn

import click

from moq_token.cli import output
from moq_token.errors import shown_path
from moq_token.recognizer import what_is_secret

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import ModuleType

    from click.shell_completion import CompletionItem

# A longer word may be a key or a token, which no message repeats.
REPEATED_CHARACTERS = 24
# How similar a word must be to be suggested (difflib), and how far it may be behind the best one.
_ALIKE, _NEARLY_BEST = 0.6, 0.1


class Command(click.Command):
    """A command with examples, which refuses what click accepts.

    That is: an option with one value that is given twice, of which click uses the last; a value that looks like the
    next option, because a word was forgotten; and removed options of the originals. ``gone`` holds these, with the
    advice for each. ``older_key`` is the option that a ``--key`` in front of the command stands for.
    """

    allow_extra_args = True  # leftover words are refused here, with better messages

    def __init__(
        self,
        *args: Any,  # noqa: ANN401 - click's own
        examples: Sequence[str] = (),
        gone: Mapping[str, str] | None = None,
        older_key: str | None = None,
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(*args, **kwargs)
        self.examples = examples
        self.gone: Mapping[str, str] = gone or {}
        self.older_key = older_key

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if ctx.resilient_parsing:
            return super().parse_args(ctx, args)
        if ctx.parent is not None and (key := ctx.parent.params.get("key")) is not None:
            if self.older_key is None:
                raise click.UsageError(
                    f"{ctx.info_name} does not accept --key in front of it: run {ctx.command_path} --help"
                )
            if self.older_key != "--key" and any(word.partition("=")[0] == self.older_key for word in args):
                raise click.UsageError(
                    f"--key in front of {ctx.info_name} means {self.older_key}: use only one of them"
                )
            args = [f"{self.older_key}={key}", *args]
        self._look_over(ctx, args)
        rest = super().parse_args(ctx, args)
        if ctx.args and not isinstance(self, click.Group):
            self._refuse_word(ctx.args[0])
        return rest

    def _look_over(self, ctx: click.Context, args: list[str]) -> None:
        options = {
            name: option for option in self.get_params(ctx) if isinstance(option, click.Option) for name in option.opts
        }
        given = set()
        words = iter(args)
        for word in words:
            name, has_value, _ = word.partition("=")
            option = options.get(name)
            if word == "--" or (option is None and not ctx.allow_interspersed_args and not word.startswith("-")):
                return
            if name in self.gone:
                raise click.UsageError(f"{name} was removed: {self.gone[name]}")
            if name == "--key" and option is None and self._takes({"file", "files"}):
                raise click.UsageError(f"no such option '--key': give the file without it, {ctx.command_path} FILE")
            if option is None:
                continue
            if option.name in given and not option.multiple:
                raise click.UsageError(f"{' or '.join(option.opts)} is given twice: it takes one value")
            given.add(option.name)
            if not option.is_flag and not has_value:
                value = next(words, None)
                if value is None:
                    raise click.UsageError(f"{name} needs a value: {name} {option.metavar}")
                if value.startswith("-") and value != "-":
                    what = f"{name} needs a value, but an option follows"
                    raise click.UsageError(f"{what}; write a value that starts with a dash as {name}=VALUE")

    def _takes(self, names: set[str]) -> bool:
        return any(param.name in names for param in self.params)

    def _refuse_word(self, word: str) -> NoReturn:
        what = f"unexpected argument {word!r}" if len(word) <= REPEATED_CHARACTERS else "unexpected argument"
        if self._takes({"token_file"}) and not self._takes({"token"}):
            if os.path.isfile(word):
                raise click.UsageError(
                    f"unexpected argument: to read the token from a file, use --in {shown_path(word)}"
                )
            raise click.UsageError(f"{what}: the token is read from standard input, or from a file with --in FILE")
        repeatable = [param.opts[0] for param in self.params if isinstance(param, click.Option) and param.multiple]
        if repeatable:
            name = repeatable[0]
            raise click.UsageError(f"{what}: an option takes one value; repeat it for more, {name} A {name} B")
        raise click.UsageError(what)

    def get_help_option(self, ctx: click.Context) -> click.Option | None:
        option = super().get_help_option(ctx)
        if option is not None:
            option.callback = _show_help  # click's own ignores a closed output
        return option

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Examples"):
            for line in self.examples:
                # Not wrapped, so that people can copy a line.
                formatter.write(f"{'':{formatter.current_indent}}{ctx.find_root().info_name} {line}\n")


def _show_help(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:
        output.emit(context.get_help())
        context.exit()


class Group(Command, click.Group):
    """A group of commands. ``modules`` holds, by the name of each, a function that imports its module.

    So only the command that runs is imported, and programs that pack Python programs see every import. ``summaries``
    holds what the list of the commands says about each, where it should not import all of them.
    """

    def __init__(
        self,
        *args: Any,  # noqa: ANN401 - click's own
        modules: Mapping[str, Callable[[], ModuleType]],
        summaries: Mapping[str, str] | None = None,
        **kwargs: Any,  # noqa: ANN401 - as above
    ) -> None:
        # It is invoked without a command too, to list the commands.
        super().__init__(*args, invoke_without_command=True, subcommand_metavar="COMMAND [ARGS]...", **kwargs)
        self.modules = modules
        self.summaries = summaries

    def invoke(self, ctx: click.Context) -> object:
        result = super().invoke(ctx)
        if ctx.invoked_subcommand is None:
            raise click.UsageError(f"missing command: use one of {', '.join(self.modules)}")
        return result

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(self.modules)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        if self.summaries is None:
            super().format_commands(ctx, formatter)
            return
        with formatter.section("Commands"):
            formatter.write_dl(list(self.summaries.items()))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in self.modules:
            return None
        command = getattr(self.modules[cmd_name](), f"{cmd_name.replace('-', '_')}_command")
        assert isinstance(command, click.Command)  # noqa: S101
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        command = self.get_command(ctx, args[0])
        if command is None and not ctx.resilient_parsing:
            # A command of a group does not hide the one of the same name in this group.
            names = self._nested(ctx) | {name: name for name in self.modules}
            raise click.UsageError(no_such("command", args[0], names, f"use one of {', '.join(self.modules)}"))
        return args[0], command, args[1:]

    def _nested(self, ctx: click.Context) -> dict[str, str]:
        """Map the names of the commands of every group in this one to both words."""
        groups = {name: group for name in self.modules if isinstance(group := self.get_command(ctx, name), Group)}
        return {name: f"{first} {name}" for first, group in groups.items() for name in group.modules}


def no_such(kind: str, word: str, names: Mapping[str, str], otherwise: str) -> str:
    """Write the message for a mistyped word: what it may have been meant to be, or what to do ``otherwise``.

    The keys of ``names`` are compared with the word, and their values suggested.
    """
    if len(word) > REPEATED_CHARACTERS:
        return f"no such {kind}: {otherwise}"
    fitting = " or ".join(repr(names[name]) for name in _alike(word, list(names)))
    return f"No such {kind} {word!r}. Did you mean {fitting}?" if fitting else f"no such {kind} {word!r}: {otherwise}"


def _alike(word: str, names: list[str]) -> list[str]:
    """Return the names that start with a word, the shortest of each family, or else those that look like it."""
    bare = word.casefold().lstrip("-")
    if not bare:
        return []
    if starting := [name for name in names if name.lstrip("-").startswith(bare)]:
        return [name for name in starting if not any(name.startswith(f"{other}-") for other in starting)]
    from difflib import SequenceMatcher

    likeness = {name: SequenceMatcher(None, bare, name.lstrip("-")).ratio() for name in names}
    best = max(likeness.values(), default=0.0)
    return [name for name in names if likeness[name] >= max(_ALIKE, best - _NEARLY_BEST)]


def command(name: str, **settings: Any) -> Callable[[Callable[..., object]], Command]:  # noqa: ANN401
    """Turn a function into a command. Its docstring is the help text."""
    return click.command(name, cls=Command, **settings)


if TYPE_CHECKING:
    ParamType = click.ParamType[Any]
else:
    ParamType = click.ParamType  # generic only in newer versions of click


class File(ParamType):
    """The name of a file, or ``-``. A key or a token in its place is refused, and no message repeats it."""

    name = "file"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if is_secret(value):
            where = param.opts[-1] if isinstance(param, click.Option) else "the argument"
            raise click.UsageError(f"{where} expects a file name, but this looks like {_WHAT_ELSE}", ctx)
        return value

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG002
        from click.shell_completion import CompletionItem

        return [CompletionItem(incomplete, type="file")]


def is_secret(name: str) -> bool:
    """Return whether what should be the name of a file looks like a key, a secret or a token."""
    return what_is_secret(name) is not None and not os.path.lexists(name)


_WHAT_ELSE = "a key or a token, which every user of this machine can see here: pass it on standard input, as -"


class AlgorithmName(ParamType):
    """The name of an algorithm, in any of the spellings that ``Algorithm.parse()`` takes."""

    name = "algorithm"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from moq_token import Algorithm

        try:
            return Algorithm.parse(value)
        except ValueError as error:
            raise click.UsageError(f"{param and param.opts[0]}: {error}", ctx) from None

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG002
        from click.shell_completion import CompletionItem

        from moq_token import Algorithm

        return [CompletionItem(name) for name in Algorithm if name.casefold().startswith(incomplete.casefold())]
