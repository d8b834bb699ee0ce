"""Options that several commands have."""

from __future__ import annotations

import click

from moq_token.cli.grammar import AlgorithmName, File

FILE = File()
ALGORITHM = AlgorithmName()

key = click.option(
    "--key", type=FILE, metavar="FILE", help="Key file, or - for standard input; otherwise MOQ_TOKEN_KEY(_DATA)."
)
_KEYS = "Key, JWK Set or directory of {kid}.jwk, here or at https://… or s3://…, or - for standard input"
keys = click.option("--key", type=FILE, metavar="FILE|DIR|URL", help=f"{_KEYS}; otherwise MOQ_TOKEN_KEY(_DATA).")
keys_or_none = click.option("--key", type=FILE, metavar="FILE|DIR|URL", help=f"{_KEYS}.")
key_argument = click.argument("file", type=FILE, required=False, metavar="[FILE]")
token_argument = click.argument("token", required=False, metavar="[TOKEN]")
token_file = click.option("--in", "token_file", type=FILE, metavar="FILE", help="Token file instead of standard input.")
kid = click.option(
    "--id",
    "--kid",
    "kid",
    metavar="KID",
    help="Id of the key instead of a random one; `thumbprint` is its RFC 7638 one.",
)
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
out = click.option("--out", type=FILE, metavar="FILE", default="-", help="Write to a file instead of standard output.")
force = click.option("--force", is_flag=True, help="Replace files that exist.")
base64 = click.option("--base64", is_flag=True, help="Write base64url of the JSON, which relays of any age read.")
file_format = click.option("--format", "file_format", type=click.Choice(["json", "base64"]), help="The same by name.")
password_file = click.option(
    "--password-file", type=FILE, metavar="FILE", help="File whose first line is the password of the PEM."
)
