"""What a relay would do with its configuration."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import click

from moq_token.auth import AuthConfig, Authenticator, Connection, Grant
from moq_token.cli import options, output
from moq_token.cli.grammar import command

if TYPE_CHECKING:
    from collections.abc import Iterator


@command(
    "check-config",
    short_help="Say how a relay with this TOML admits clients.",
    examples=("check-config relay.toml", "check-config relay.toml --strict"),
)
@click.argument("file", type=options.FILE, metavar="FILE")
@click.option("--strict", is_flag=True, help="Fail where a relay would silently do something else than is written.")
def check_config_command(file: str, strict: bool) -> None:
    """Say how a relay with this TOML admits clients, and what of it cannot be meant.

    The variables MOQ_AUTH_… of the environment count over the file, as they do for the relay. No URL is asked.
    """
    config = AuthConfig.from_toml(file, strict=strict)
    asyncio.run(_start(config))
    output.emit("\n".join(f"{label:<9}{output.printable(text)}" for label, text in _lines(config)))
    for warning in config.warnings:
        output.note(warning)


def authenticate(file: str, url: str) -> tuple[Connection, Grant]:
    """Decide about a connection as the relay with this TOML would.

    Raises :class:`RefusedError`, :class:`UnavailableError` and :class:`ConfigError`.
    """
    config = AuthConfig.from_toml(file)
    connection = Connection.from_url(url, config.domains)

    async def decide() -> Grant:
        async with Authenticator(config) as authenticator:
            return await authenticator.authenticate(connection)

    return connection, asyncio.run(decide())


async def _start(config: AuthConfig) -> None:
    """Find out what would keep the relay from starting."""
    async with Authenticator(config):
        pass


def _lines(config: AuthConfig) -> Iterator[tuple[str, str]]:
    if config.auth_api is not None:
        yield "tokens", "verified with the key that `auth_api` answers, which also says what is public"
    elif config.key is not None:
        yield "tokens", f"all verified with the one key of {output.place(config.key)}"
    elif config.key_dir is not None:
        place = output.place(config.key_dir).rstrip("/")
        yield "tokens", f"verified with {place}/{{kid}}.jwk, read when a token names it"
    else:
        yield "tokens", "all refused: there is no key to verify them with"
    public = config.public
    if config.auth_api is None:
        for role, prefixes in (("publish", public.publish), ("subscribe", public.subscribe)):
            what = ", ".join(prefix.strip("/") or "everything" for prefix in prefixes)
            yield "public", f"without a token anybody may {role}: {what or 'nothing'}"
    if public.api is not None:
        yield "public", f"where none of these fits, {output.place(public.api)} is asked"
    if config.domains:
        yield "domains", f"labels before {', '.join(config.domains)} go in front of the path"
    if config.mtls_tier is not None:
        yield "tier", f"client certificates are counted under {config.mtls_tier}"
