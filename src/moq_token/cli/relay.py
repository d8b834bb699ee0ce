"""The command that checks the configuration of a relay, and the decision of a relay with that configuration."""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import TYPE_CHECKING

import click

from moq_token.auth import AuthConfig, Authenticator
from moq_token.auth.check import check_files, check_place, nothing_configured
from moq_token.auth.config import in_one_line
from moq_token.auth.tables import read_toml
from moq_token.cli import options, output
from moq_token.cli.grammar import command
from moq_token.errors import shown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from moq_token.auth import Connection, Grant
    from moq_token.trace import Trace

# What is logged is also a note of the command.
logging.getLogger("moq_token").addHandler(logging.NullHandler())

_RELAYS = "0.14"
_MAX_NOTES = 20


@command(
    "check-config",
    short_help="Check the TOML of a relay, and say how it admits clients.",
    examples=("check-config relay.toml", "check-config relay.toml --strict", "check-config relay.toml --json"),
)
@click.argument("file", type=options.FILE, metavar="FILE")
@click.option("--strict", is_flag=True, help="Fail for every note, too.")
@options.as_json
def check_config_command(file: str, strict: bool, as_json: bool) -> int:
    """Check the TOML of a relay (moq-relay 0.14) or of the auth server (`serve`), and say how it admits clients.

    Files that it names are read, relative to the working directory, as the relay does. URLs are not asked. Variables
    MOQ_AUTH_… of the environment override the file. Notes name what the relay accepts silently, but what is probably
    not meant. The exit status is 1 where the relay cannot work with the configuration.
    """
    if "serve" in read_toml(file):
        from moq_token.cli.serve import check_file

        return check_file(file, strict=strict, as_json=as_json)
    config = AuthConfig.from_toml(file)
    if config == AuthConfig():
        raise output.Failed(f"{shown(file)}: {nothing_configured(config.warnings)}")
    for text, directory in ((config.key, False), (config.key_dir, True)):
        if text is not None:
            check_place(text, directory=directory)
    found = list(check_files(config))
    problems = [str(finding) for finding in found if finding.fatal]
    notes = [*config.warnings, *(str(finding) for finding in found if not finding.fatal)]
    failed = bool(problems or (strict and notes))
    if as_json:
        admits: dict[str, list[str]] = {}
        for label, text in _lines(config):
            admits.setdefault(label, []).append(text)
        result = {"ok": not failed, "relays": _RELAYS, "admits": admits, "problems": problems, "notes": notes}
        output.emit(output.json_text(result, pretty=output.to_terminal(sys.stdout)))
        return int(failed)
    if failed:
        raise output.Failed(f"{shown(file)}: {in_one_line(problems or notes)}")
    output.emit("\n".join(f"{label:<9}{output.printable(text)}" for label, text in _lines(config)))
    for note in notes[:_MAX_NOTES]:
        output.note(note)
    return 0


def authenticate(config: AuthConfig, connection: Connection, trace: Trace) -> Grant:
    """Decide about a connection as a relay with this configuration.

    Raises :class:`RefusedError`, :class:`UnavailableError` and :class:`ConfigError`.
    """

    async def decide() -> Grant:
        async with Authenticator(config) as authenticator:
            return await authenticator.authenticate(connection, trace=trace)

    return asyncio.run(decide())


def _lines(config: AuthConfig) -> Iterator[tuple[str, str]]:
    yield "relays", f"moq-relay {_RELAYS}; from 0.15 on, a relay refuses these settings and asks an auth server"
    if config.auth_api is not None:
        yield "tokens", "verified with the key that `auth_api` answers, which also says what is public"
    elif config.key is not None:
        yield "tokens", f"all verified with the key in {output.place(config.key)}"
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
        yield "public", f"where none of these matches, {output.place(public.api)} is asked"
    if config.domains:
        yield "domains", f"labels before {', '.join(config.domains)} go in front of the path"
    if config.mtls_tier is not None:
        yield "tier", f"client certificates are counted under {config.mtls_tier}"
