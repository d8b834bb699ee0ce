"""How command lines are written: click's grammar, made to lose no word silently and to repeat no secret."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NoReturn

import click

from moq_token.cli import output

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from click.shell_completion import CompletionItem

# A longer word may be a key or a token, and is not repeated.
REPEATED_CHARACTERS = 24


class Command(click.Command):
    """A command with examples, that refuses what click would let pass.

    Those are: an option with one value given twice, of which only the last would count; a value that looks like the
    next option, because a word was forgotten; and options of the originals that are ``gone``, by the advice for each.
    ``older_key`` is the option that a ``--key`` in front of the command stands for.
    """

    allow_extra_args = True  # so that leftover words are refused here, in other words

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
        self.gone = gone or {}
        self.older_key = older_key

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if ctx.resilient_parsing:
            return super().parse_args(ctx, args)
        if ctx.parent is not None and (key := ctx.parent.params.get("key")) is not None:
            if self.older_key is None:
                raise click.UsageError(f"{ctx.info_name} takes no --key in front of it: see {ctx.command_path} --help")
            if self.older_key != "--key" and any(word.partition("=")[0] == self.older_key for word in args):
                raise click.UsageError(
                    f"--key in front of {ctx.info_name} is its {self.older_key}: leave one of them out"
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
                raise click.UsageError(f"{name} is gone: {self.gone[name]}")
            if name == "--key" and option is None and self._takes({"file", "files"}):
                raise click.UsageError(f"no such option '--key': name the file alone, {ctx.command_path} FILE")
            if option is None:
                continue
            if option.name in given and not option.multiple:
                raise click.UsageError(f"{' or '.join(option.opts)} is given twice, and takes one value only")
            given.add(option.name)
            if not option.is_flag and not has_value:
                value = next(words, None)
                if value is None:
                    raise click.UsageError(f"{name} needs a value: {name} {option.metavar}")
                if value.startswith("-") and value != "-":
                    what = f"{name} needs a value, and an option follows"
                    raise click.UsageError(f"{what}; a value that begins with a dash is written {name}=VALUE")

    def _takes(self, names: set[str]) -> bool:
        return any(param.name in names for param in self.params)

    def _refuse_word(self, word: str) -> NoReturn:
        what = f"unexpected argument {word!r}" if len(word) <= REPEATED_CHARACTERS else "unexpected argument"
        if self._takes({"token_file"}) and not self._takes({"token"}):
            raise click.UsageError(f"{what}: the token comes from standard input, or from a file by --in FILE")
        repeatable = [param.opts[0] for param in self.params if isinstance(param, click.Option) and param.multiple]
        if repeatable:
            name = repeatable[0]
            raise click.UsageError(f"{what}: an option takes one value and is repeated for more, {name} A {name} B")
        raise click.UsageError(what)

    def get_help_option(self, ctx: click.Context) -> click.Option | None:
        option = super().get_help_option(ctx)
        if option is not None:
            option.callback = _show_help  # click's own takes no notice of an output that is closed
        return option

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Examples"):
            for line in self.examples:
                # Not wrapped, so that a line can be copied.
                formatter.write(f"{'':{formatter.current_indent}}{ctx.find_root().info_name} {line}\n")


def _show_help(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:
        output.emit(context.get_help())
        context.exit()


class Group(Command, click.Group):
    """The commands by name, of which only the one that is run is imported."""

    def __init__(self, *args: Any, modules: Mapping[str, str], **kwargs: Any) -> None:  # noqa: ANN401 - click's own
        # Without a command it is invoked too, to say which there are.
        super().__init__(*args, invoke_without_command=True, subcommand_metavar="COMMAND [ARGS]...", **kwargs)
        self.modules = modules

    def invoke(self, ctx: click.Context) -> object:
        result = super().invoke(ctx)
        if ctx.invoked_subcommand is None:
            raise click.UsageError(f"a command is missing, those are: {', '.join(self.modules)}")
        return result

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(self.modules)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in self.modules:
            return None
        from importlib import import_module

        command = getattr(import_module(self.modules[cmd_name]), f"{cmd_name.replace('-', '_')}_command")
        assert isinstance(command, click.Command)  # noqa: S101
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        command = self.get_command(ctx, args[0])
        if command is None and not ctx.resilient_parsing:
            what = repr(args[0]) if len(args[0]) <= REPEATED_CHARACTERS else "this"
            raise click.UsageError(f"{what} is no command, those are: {', '.join(self.modules)}")
        return args[0], command, args[1:]


def command(name: str, **settings: Any) -> Callable[[Callable[..., object]], Command]:  # noqa: ANN401
    """Make a command of a function, whose docstring is its help."""
    return click.command(name, cls=Command, **settings)


class File(click.ParamType):  # type: ignore[type-arg]  # generic only in newer clicks
    """The name of a file, or ``-``. The content itself in its place, a key or a token, is refused and not repeated."""

    name = "file"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if is_secret(value):
            where = param.opts[-1] if isinstance(param, click.Option) else "the argument"
            raise click.UsageError(f"{where} takes the name of a file, and this looks like {_WHAT_ELSE}", ctx)
        return value

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG002
        from click.shell_completion import CompletionItem

        return [CompletionItem(incomplete, type="file")]


def is_secret(name: str) -> bool:
    """Whether what should be the name of a file looks like the content, a key or a token, itself."""
    return name.lstrip().startswith(_SECRETS) and not os.path.lexists(name)


# How JSON begins, as it is and in base64url, the third as JavaScript prints it; and how PEM does.
_SECRETS = ("{", "eyJ", "ewo", "-----BEGIN ")
_WHAT_ELSE = "a key or a token itself, which everybody on this machine can see: give it on standard input instead, as -"


class AlgorithmName(click.ParamType):  # type: ignore[type-arg]  # generic only in newer clicks
    """An algorithm as a person writes it."""

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
