"""The commands of `moq auth`, under the same names and with the same meaning, for command lines written for it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from moq_token.cli import grants, keys, options, output, times, tokens
from moq_token.cli.grammar import Group, command

if TYPE_CHECKING:
    from types import ModuleType

    from moq_token import Algorithm, Pattern
    from moq_token.generations import Generation


def _serve() -> ModuleType:
    from moq_token.cli import serve

    return serve


@click.group(
    "auth",
    short_help="The commands of `moq auth`: grants are patterns.",
    cls=Group,
    modules=dict.fromkeys(("generate", "sign", "verify"), lambda: sys.modules[__name__]) | {"serve": _serve},
    examples=(
        "auth generate --out root.jwk",
        "auth sign --key root.jwk --root demo --publish 'alice/**' --expires 1798761600",
        "auth verify --key root.jwk --in alice.jwt",
    ),
    no_args_is_help=False,
)
def auth_command() -> None:
    """Generate keys, sign and verify tokens with the command lines of `moq auth`.

    Grants are patterns, as there: --publish alice is the one broadcast alice, and --publish 'alice/**' is alice and
    everything beneath it. Outside this group, `sign --publish alice` is alice and everything beneath it.
    """


@command(
    "generate",
    short_help="Generate a key, as `moq auth generate` does.",
    examples=(
        "auth generate --algorithm EdDSA --out-dir signing --public-dir keys",
        "auth generate --root demo --publish 'live/**' --subscribe '*/chat' --out team.jwk",
    ),
)
@click.option("--algorithm", type=options.ALGORITHM, metavar="ALG", default="HS256", help="HS256 (default), EdDSA, …")
@options.kid
@options.key_targets
@click.option("--root", default="", metavar="PATH", help="Scope of the key: path that the patterns are relative to.")
@grants.grant_option("--publish", "Scope: pattern that tokens may let publish. Repeatable.", pattern=True)
@grants.grant_option("--subscribe", "Scope: pattern that tokens may let subscribe to. Repeatable.", pattern=True)
@grants.relay_option("Fail if relays of this version (such as 0.14, or all) cannot load the key. Repeatable.")
def generate_command(
    algorithm: Algorithm,
    kid: str | None,
    out: str | None,
    out_dir: str | None,
    public: str | None,
    public_dir: str | None,
    root: str,
    publish: tuple[Pattern, ...],
    subscribe: tuple[Pattern, ...],
    relays: tuple[Generation, ...],
) -> None:
    """Generate a key, and write it as base64url of JSON.

    An existing file is kept beside the new one, as root.jwk.1.bak. With --publish or --subscribe, the key has a scope:
    it can only sign tokens within it.
    """
    scoped = bool(publish or subscribe)
    click.get_current_context().invoke(
        keys.generate_command,
        algorithm=algorithm,
        kid=kid,
        out=out,
        out_dir=out_dir,
        public=public,
        public_dir=public_dir,
        root=root if scoped else None,
        publish_pattern=publish,
        subscribe_pattern=subscribe,
        relays=relays,
        base64=True,
    )
    grants.note_literals({"--publish": publish, "--subscribe": subscribe})
    if root and not scoped:
        output.note("this key has no scope: --root needs --publish or --subscribe beside it")


@command(
    "sign",
    short_help="Sign a token, as `moq auth sign` does.",
    examples=(
        "auth sign --key root.jwk --root demo --publish 'alice/**' --subscribe '**' --expires 1798761600",
        "auth sign --key root.jwk --publish alice --expires 1h  # the one broadcast alice",
    ),
)
@options.key
@click.option("--root", default="", metavar="PATH", help="Path that --publish and --subscribe are relative to.")
@grants.grant_option("--publish", "Pattern to let publish. Repeatable.", pattern=True)
@grants.grant_option("--subscribe", "Pattern to let subscribe to. Repeatable.", pattern=True)
@tokens.signing_options
def sign_command(
    expires: str | None,
    publish: tuple[Pattern, ...],
    subscribe: tuple[Pattern, ...],
    **others: object,
) -> None:
    """Sign a token and print it.

    The token allows what --publish and --subscribe say, beneath --root, until --expires. They are patterns: alice is
    the one broadcast, and 'alice/**' is alice and everything beneath it.
    """
    if not publish and not subscribe:
        raise click.UsageError("the token grants nothing: add --publish or --subscribe, with '**' for everything")
    click.get_current_context().invoke(
        tokens.sign_command,
        expires=None if expires is None else times.dated(expires),
        publish_pattern=publish,
        subscribe_pattern=subscribe,
        **others,
    )
    grants.note_literals({"--publish": publish, "--subscribe": subscribe})


@command(
    "verify",
    short_help="Verify a token, as `moq auth verify` does.",
    examples=("auth verify --key public.jwk < alice.jwt", "auth verify --key public.jwk --in alice.jwt --path demo"),
)
@tokens.verifying_options
def verify_command(**given: object) -> None:
    """Verify a token from standard input, and print its claims.

    Refuses what relays from 0.15 on refuse, as `verify --strict` does.
    """
    click.get_current_context().invoke(tokens.verify_command, strict=True, **given)
