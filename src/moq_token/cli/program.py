"""The whole program: its commands, and how their errors are reported."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from moq_token import Error, InvalidPatternError, __version__
from moq_token.cli import output
from moq_token.cli.grammar import REPEATED_CHARACTERS, File, Group, no_such
from moq_token.errors import shown_path

if TYPE_CHECKING:
    from types import ModuleType

_DONE, _FAILED, _WRONG_USAGE = 0, 1, 2

NAME = "moq-token"
# The same for both names of the program, so that a completion script works for both.
COMPLETE_VARIABLE = "_MOQ_TOKEN_COMPLETE"

_EXAMPLES = (
    "generate --out root.jwk",
    'sign --key root.jwk --root rooms/123 --publish alice --subscribe "" --expires 1h > alice.jwt',
    "verify --key root.jwk < alice.jwt",
)


def _show_version(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    if not wanted:
        return
    from moq_token.primitives import library_version

    # The distributions know their versions too, but to look there takes longer than all the rest.
    output.emit(
        f"{NAME} {__version__}\n"
        f"Python {sys.version.partition(' ')[0]}, cryptography {library_version()}\n"
        f"extra `fast`: {_fast()}"
    )
    context.exit()


def _fast() -> str:
    from moq_token import compiled

    version = compiled.installed()
    if version is None:
        return "not installed"
    found = f"{compiled.DISTRIBUTION} {version}"
    return found if compiled.core() else f"{found} is not used, expected version {__version__}"


def _keys() -> ModuleType:
    from moq_token.cli import keys

    return keys


def _importing() -> ModuleType:
    from moq_token.cli import importing

    return importing


def _tokens() -> ModuleType:
    from moq_token.cli import tokens

    return tokens


def _inspecting() -> ModuleType:
    from moq_token.cli import inspecting

    return inspecting


def _explain() -> ModuleType:
    from moq_token.cli import explain

    return explain


def _auth() -> ModuleType:
    from moq_token.cli import auth

    return auth


def _directory() -> ModuleType:
    from moq_token.cli import directory

    return directory


def _lint() -> ModuleType:
    from moq_token.cli import lint

    return lint


def _relay() -> ModuleType:
    from moq_token.cli import relay

    return relay


def _serve() -> ModuleType:
    from moq_token.cli import serve

    return serve


def _denying() -> ModuleType:
    from moq_token.cli import denying

    return denying


def _shell() -> ModuleType:
    from moq_token.cli import shell

    return shell


# What the list of the commands says: to import all of them for it would take as long as to sign. A test compares.
_SUMMARIES = {
    "generate": "Generate a key.",
    "sign": "Sign a token and print it.",
    "verify": "Verify a token and print its claims.",
    "inspect": "Show the content of a token: claims, times, grants.",
    "explain": "Say whether a relay would admit a token, and why.",
    "public": "Write the public half of a key or of a set.",
    "import": "Make a key of PEM, a JWK of other tools, or a secret.",
    "export": "Write a key as PEM.",
    "thumbprint": "Print the thumbprint of a key (RFC 7638).",
    "jwks": "Write the public JWK Set of keys and directories.",
    "keys": "Manage a directory of keys: list, rotate, retire, …",
    "auth": "The commands of `moq auth`: grants are patterns.",
    "lint": "Say which relays read a token or a key, and why not.",
    "serve": "Run the auth server that relays ask.",
    "sessions": "List the live sessions of an auth server.",
    "ban": "End sessions, and keep them out.",
    "unban": "Lift bans.",
    "bans": "List the bans in force.",
    "narrow": "Take a role or a path away from sessions.",
    "kick": "End sessions once; they may come back.",
    "check-config": "Check the TOML of a relay, and say how it admits clients.",
    "completion": "Print the completion script of a shell.",
    "help": "Show the help of the program or of a command.",
}


@click.group(
    cls=Group,
    modules={
        "generate": _keys,
        "sign": _tokens,
        "verify": _tokens,
        "inspect": _inspecting,
        "explain": _explain,
        "public": _keys,
        "import": _importing,
        "export": _keys,
        "thumbprint": _keys,
        "jwks": _keys,
        "keys": _directory,
        "auth": _auth,
        "lint": _lint,
        "serve": _serve,
        **dict.fromkeys(("sessions", "ban", "unban", "bans", "narrow", "kick"), _denying),
        "check-config": _relay,
        "completion": _shell,
        "help": _shell,
    },
    summaries=_SUMMARIES,
    examples=_EXAMPLES,
    no_args_is_help=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.option(
    *("-V", "--version"),
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the version.",
)
@click.option("--key", type=File(), metavar="FILE", hidden=True)
def program(key: str | None) -> None:
    """Generate keys, sign and verify tokens for Media over QUIC relays.

    A key is read from a file or from standard input (-). Without --key, it is read from the file that MOQ_TOKEN_KEY
    names, or from MOQ_TOKEN_KEY_DATA, which holds the key itself.
    """


def execute(args: list[str]) -> int:
    """Run one command line and return its exit status. Raises ``KeyboardInterrupt`` only."""
    try:
        return _run(args)
    except click.UsageError as error:
        return _report(_sentence(error), _WRONG_USAGE)
    except (Error, output.Failed) as error:
        # A pattern is invalid in an option only: in a token or a key, the error is about that.
        return _report(str(error), _WRONG_USAGE if isinstance(error, InvalidPatternError) else _FAILED)
    except BrokenPipeError:
        output.give_up_stdout()
        return _FAILED
    except OSError as error:
        name = "" if error.filename is None else f"{shown_path(str(error.filename))}: "
        return _report(f"{name}{output.reason(error)}", _FAILED)
    except Exception as error:  # noqa: BLE001 - a traceback could show a secret
        return _report(_unexpected(error), _FAILED)


def _unexpected(error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError):
        return f"Python module not found: {error.name}: install moq-token again, with its dependencies"
    return f"unexpected {type(error).__name__}: this is a bug, please report the command without its keys"


def _run(args: list[str]) -> int:
    name = program_name()
    if instruction := os.environ.get(COMPLETE_VARIABLE):
        from click.shell_completion import shell_complete

        return shell_complete(program, {}, name, COMPLETE_VARIABLE, instruction)
    try:
        with program.make_context(name, args or ["--help"]) as context:
            status = program.invoke(context)
            return status if isinstance(status, int) else _DONE
    except click.exceptions.Exit as done:
        return done.exit_code


def program_name() -> str:
    """Return the name that the program was called by."""
    name = os.path.basename(sys.argv[0])
    return "python -m moq_token" if name == "__main__.py" else name.removesuffix(".exe")


def _sentence(error: click.UsageError) -> str:
    """Write an error of click on one line, in the form of our own and without what may be a secret."""
    if isinstance(error, click.NoSuchOption) and error.ctx is not None:
        options = [param for param in error.ctx.command.get_params(error.ctx) if isinstance(param, click.Option)]
        names = [name for option in options if not option.hidden for name in option.opts if name.startswith("--")]
        help_line = f"run {error.ctx.command_path} --help for a list"
        return no_such("option", error.option_name, dict(zip(names, names, strict=True)), help_line)
    message = " ".join(error.format_message().split()).removesuffix(".")
    if isinstance(error, click.BadParameter):
        import re

        message = re.sub(rf": (['\"]).{{{REPEATED_CHARACTERS},}}\1 is not", ": this is not", message)
    # A question is a separate sentence, and an abbreviation such as PEM keeps its capitals.
    return message if message.endswith("?") or message[:2].isupper() else message[:1].lower() + message[1:]


def _report(message: str, status: int) -> int:
    output.complain(message)
    return status
