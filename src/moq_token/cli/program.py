"""The program as a whole: its commands, and what becomes of their errors."""

from __future__ import annotations

import contextlib
import os
import sys

import click

from moq_token import Error, __version__
from moq_token.cli import output
from moq_token.cli.grammar import REPEATED_CHARACTERS, File, Group
from moq_token.errors import shown

_DONE, _FAILED, _WRONG_USAGE = 0, 1, 2

NAME = "moq-token"
# One for both names of the program, so that one completion script serves both.
COMPLETE_VARIABLE = "_MOQ_TOKEN_COMPLETE"

_EXAMPLES = (
    "generate --out root.jwk",
    'sign --key root.jwk --root rooms/123 --publish alice --subscribe "" --expires 1h > alice.jwt',
    "verify --key root.jwk < alice.jwt",
)


# What the extra `fast` brings, and where each is used (see primitives.py).
_FAST = {"awscrt": "ES384, signing ES256", "PyNaCl": "EdDSA"}


def _show_version(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    if not wanted:
        return
    import platform
    from importlib.metadata import PackageNotFoundError, version

    fast = []
    for name, use in _FAST.items():
        with contextlib.suppress(PackageNotFoundError):
            fast.append(f"{name} {version(name)} ({use})")
    output.emit(
        f"{NAME} {__version__}\n"
        f"Python {platform.python_version()}, cryptography {version('cryptography')}\n"
        f"extra `fast`: {', '.join(fast) or 'not installed'}"
    )
    context.exit()


@click.group(
    cls=Group,
    modules={
        "generate": "moq_token.cli.keys",
        "sign": "moq_token.cli.tokens",
        "verify": "moq_token.cli.tokens",
        "inspect": "moq_token.cli.tokens",
        "explain": "moq_token.cli.explain",
        "public": "moq_token.cli.keys",
        "import": "moq_token.cli.keys",
        "export": "moq_token.cli.keys",
        "thumbprint": "moq_token.cli.keys",
        "jwks": "moq_token.cli.keys",
        "keys": "moq_token.cli.directory",
        "check-config": "moq_token.cli.relay",
        "completion": "moq_token.cli.shell",
        "help": "moq_token.cli.shell",
    },
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
    """Make keys and tokens for Media over QUIC relays, and look into them.

    Keys are read from files, from standard input (-), or from what MOQ_TOKEN_KEY (the name of a file) or
    MOQ_TOKEN_KEY_DATA (the key itself) says where no --key is given.
    """


def execute(args: list[str]) -> int:
    """Run one command line and return its exit status. Raises :class:`KeyboardInterrupt` only."""
    try:
        return _run(args)
    except click.UsageError as error:
        return _report(_sentence(error), _WRONG_USAGE)
    except (Error, output.Failed) as error:
        return _report(str(error), _FAILED)
    except BrokenPipeError:
        output.give_up_stdout()
        return _FAILED
    except OSError as error:
        name = "" if error.filename is None else f"{shown(str(error.filename))}: "
        return _report(f"{name}{output.reason(error)}", _FAILED)
    except Exception as error:  # noqa: BLE001 - nobody but a person reads this, and no traceback may show a secret
        return _report(f"this is a bug ({type(error).__name__}): please report the command, without its keys", _FAILED)


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
    """Say under which name the program was called."""
    name = os.path.basename(sys.argv[0])
    return "python -m moq_token" if name == "__main__.py" else name.removesuffix(".exe")


def _sentence(error: click.UsageError) -> str:
    if isinstance(error, click.NoSuchOption) and len(error.option_name) > REPEATED_CHARACTERS:
        return "there is no such option"
    message = error.format_message().removesuffix(".")
    if isinstance(error, click.BadParameter):
        import re

        message = re.sub(rf": (['\"]).{{{REPEATED_CHARACTERS},}}\1 is not", ": this is not", message)
    # An abbreviation such as PEM stays as it is.
    return message if message[:2].isupper() else message[:1].lower() + message[1:]


def _report(message: str, status: int) -> int:
    output.complain(message)
    return status
