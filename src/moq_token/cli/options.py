"""The options that several commands share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

import click

from moq_token.cli.grammar import AlgorithmName, File

if TYPE_CHECKING:
    from collections.abc import Callable

_F = TypeVar("_F", bound="Callable[..., object]")


class Decorator(Protocol):
    """A decorator that adds an option or an argument to the function of a command."""

    def __call__(self, function: _F, /) -> _F:
        """Return the function, with the option or argument added."""
        ...


FILE: File = File()
ALGORITHM: AlgorithmName = AlgorithmName()

key: Decorator = click.option(
    "--key", type=FILE, metavar="FILE", help="Key file, or - for standard input; default: MOQ_TOKEN_KEY(_DATA)."
)
_KEYS = "Key, JWK Set or directory of {kid}.jwk: path, https://… or s3://… URL, or - for standard input"
keys: Decorator = click.option(
    "--key", type=FILE, metavar="FILE|DIR|URL", help=f"{_KEYS}; default: MOQ_TOKEN_KEY(_DATA)."
)
keys_or_none: Decorator = click.option("--key", type=FILE, metavar="FILE|DIR|URL", help=f"{_KEYS}.")
key_argument: Decorator = click.argument("file", type=FILE, required=False, metavar="[FILE]")
token_argument: Decorator = click.argument("token", required=False, metavar="[TOKEN]")
token_file: Decorator = click.option(
    "--in", "token_file", type=FILE, metavar="FILE", help="Token file instead of standard input."
)
kid: Decorator = click.option(
    "--id",
    "--kid",
    "kid",
    metavar="KID",
    help="Key id instead of a random one; `thumbprint` for its RFC 7638 thumbprint.",
)
as_json: Decorator = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
out: Decorator = click.option(
    "--out", type=FILE, metavar="FILE", default="-", help="Write to a file instead of standard output."
)
force: Decorator = click.option("--force", is_flag=True, help="Replace files that exist.")
base64: Decorator = click.option(
    "--base64", is_flag=True, help="Write base64url of the JSON, which every relay can read."
)
file_format: Decorator = click.option(
    "--format", "file_format", type=click.Choice(["json", "base64"]), help="json or base64."
)
password_file: Decorator = click.option(
    "--password-file", type=FILE, metavar="FILE", help="File whose first line is the password of the PEM."
)


def together(*decorators: Decorator) -> Decorator:
    """Return one decorator that adds several options, in their order."""

    def add(function: _F) -> _F:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return add


key_targets: Decorator = together(
    click.option("--out", type=FILE, metavar="FILE", help="Write the key to a file instead of standard output."),
    click.option("--out-dir", type=FILE, metavar="DIR", help="Write the key to DIR/{kid}.jwk."),
    click.option("--public", type=FILE, metavar="FILE", help="Also write the public half to a file."),
    click.option("--public-dir", type=FILE, metavar="DIR", help="Also write the public half to DIR/{kid}.jwk."),
)
