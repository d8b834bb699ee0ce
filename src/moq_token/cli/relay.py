"""The command that checks the configuration of a relay, and the decision of a relay with that configuration."""

from __future__ import annotations

import asyncio
import os
import sys
import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from moq_token.auth import AuthConfig, Authenticator, ConfigWarning
from moq_token.auth.check import check_files, check_place, nothing_configured, unread_keys
from moq_token.auth.config import in_one_line
from moq_token.auth.remote_check import check_settings
from moq_token.auth.remote_config import is_remote
from moq_token.auth.tables import read_toml
from moq_token.auth.upgrade import upgrade
from moq_token.cli import options, output
from moq_token.cli.grammar import command
from moq_token.cli.grants import RelayVersion
from moq_token.cli.lint import finding_members
from moq_token.errors import shown
from moq_token.generations import Generation

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from moq_token.auth import Connection, Grant
    from moq_token.auth.remote_check import Settings
    from moq_token.auth.upgrade import Upgrade
    from moq_token.trace import Trace

_RELAYS = {Generation.FIRST: "0.14", Generation.SECOND: "0.15"}
_MAX_NOTES = 20


class Checked(NamedTuple):
    """A configuration that was checked for relays of one generation: how it admits clients, and what is wrong."""

    generation: Generation
    lines: tuple[tuple[str, str], ...]
    problems: tuple[str, ...]
    notes: tuple[str, ...]
    more: dict[str, object]  # for JSON


@command(
    "check-config",
    short_help="Check the TOML of a relay, and say how it admits clients.",
    examples=(
        "check-config relay.toml",
        "check-config relay.toml --strict",
        "check-config relay.toml --relay 0.17  # can the file stay as it is?",
    ),
)
@click.argument("file", type=options.FILE, metavar="FILE")
@click.option(
    "--relay",
    "relay",
    type=RelayVersion(),
    metavar="VERSION",
    help="Version of the relay, such as 0.14; default: the one that the settings are for.",
)
@click.option("--strict", is_flag=True, help="Fail for every note, too.")
@options.as_json
def check_config_command(file: str, relay: tuple[Generation, ...] | None, strict: bool, as_json: bool) -> int:
    """Check the TOML of a relay (moq-relay) or of the auth server (`serve`), and say how it admits clients.

    Relays before 0.15 read keys and public prefixes from [auth]. Relays from 0.15 on refuse these settings, and read
    the URL of an auth server, or public patterns. A file for relays before 0.15 is also shown with what replaces each
    setting. Files that it names are read, relative to the working directory, as the relay does. URLs are not asked.
    Variables MOQ_AUTH_… of the environment override the file. Notes name what the relay accepts silently, but what is
    probably not meant. The exit status is 1 where the relay cannot work with the configuration.
    """
    if relay is not None and len(relay) > 1:
        raise click.UsageError("--relay: a file is for relays before 0.15 or from 0.15 on: name one version")
    document = read_toml(file)
    if "serve" in document:
        from moq_token.cli.serve import check_file

        return check_file(file, strict=strict, as_json=as_json)
    seen = Generation.SECOND if is_remote(document, os.environ) else Generation.FIRST
    generation = relay[0] if relay else seen
    checked = (_check_first if generation is Generation.FIRST else _check_second)(file, document)
    failed = bool(checked.problems or (strict and checked.notes))
    if as_json:
        admits: dict[str, list[str]] = {}
        for label, text in checked.lines:
            admits.setdefault(label, []).append(text)
        result = {"ok": not failed, "relays": _RELAYS[generation], "admits": admits, "problems": checked.problems}
        result |= {"notes": checked.notes, **checked.more}
        output.emit(output.json_text(result, pretty=output.to_terminal(sys.stdout)))
        return int(failed)
    if failed:
        raise output.Failed(f"{shown(file)}: {in_one_line(checked.problems or checked.notes)}")
    output.emit("\n".join(f"{label:<9}{output.printable(text)}" for label, text in checked.lines))
    for note in checked.notes[:_MAX_NOTES]:
        output.note(note)
    return 0


def _check_first(file: str, document: dict[str, Any]) -> Checked:
    """Check a configuration for relays before 0.15. Raises :class:`ConfigError` and :class:`Failed`."""
    config = read_config(document)
    if config == AuthConfig():
        raise output.Failed(f"{shown(file)}: {nothing_configured(config.warnings)}")
    for text, directory in ((config.key, False), (config.key_dir, True)):
        if text is not None:
            check_place(text, directory=directory)
    found = list(check_files(config))
    problems = tuple(str(finding) for finding in found if finding.fatal)
    notes = (*config.warnings, *(str(finding) for finding in found if not finding.fatal))
    after = upgrade(config, document, os.environ)
    unread = () if problems else tuple(unread_keys(config))
    upgraded = {
        "replaced": [{"setting": setting.strip("`"), "use": replacement} for setting, replacement in after.replaced],
        "serve": after.serve,
        "relay": after.relay,
        "open": [*after.open, *unread],
    }
    lines = (*_lines(config), *_upgrade_lines(after, unread))
    return Checked(Generation.FIRST, lines, problems, notes, {"upgrade": upgraded})


def _check_second(_: str, document: dict[str, Any]) -> Checked:
    """Check a configuration for relays from 0.15 on."""
    settings, findings = check_settings(document, os.environ)
    problems, notes = (
        tuple(str(finding) for finding in findings if finding.refused is refused) for refused in (True, False)
    )
    more: dict[str, object] = {"findings": finding_members(findings)}
    return Checked(Generation.SECOND, tuple(_second_lines(settings)), problems, notes, more)


def read_config(document: dict[str, Any]) -> AuthConfig:
    """Read the settings of relays before 0.15 without issuing the warnings, which a command shows as notes."""
    with warnings.catch_warnings(action="ignore", category=ConfigWarning):
        return AuthConfig.from_mapping(document, environ=os.environ)


def authenticate(config: AuthConfig, connection: Connection, trace: Trace) -> Grant:
    """Decide about a connection as a relay with this configuration.

    Raises :class:`RefusedError`, :class:`UnavailableError` and :class:`ConfigError`.
    """

    async def decide() -> Grant:
        async with Authenticator(config) as authenticator:
            return await authenticator.authenticate(connection, trace=trace)

    return asyncio.run(decide())


def _lines(config: AuthConfig) -> Iterator[tuple[str, str]]:
    yield (
        "relays",
        "moq-relay 0.14; from 0.15 on, a relay refuses to start with these settings, and asks an auth server",
    )
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


def _upgrade_lines(after: Upgrade, unread: Iterable[str]) -> Iterator[tuple[str, str]]:
    for setting, replacement in after.replaced:
        yield "upgrade", f"{setting}: use {replacement}"
    for text in (*after.open, *unread):
        yield "upgrade", f"not replaced: {text}"
    yield "upgrade", f"start an auth server: {after.serve}"
    yield "upgrade", f"start the relay with: {after.relay}"


def _second_lines(settings: Settings) -> Iterator[tuple[str, str]]:
    yield "relays", "moq-relay 0.15 and later"
    if settings.url is not None:
        yield "tokens", f"decided by the auth server at {output.place(settings.url)}, which also says what is public"
    else:
        yield "tokens", "all refused: there is no auth server to verify them"
        for role, patterns in (("publish", settings.publish), ("subscribe", settings.subscribe)):
            what = ", ".join("everything" if str(pattern) == "**" else str(pattern) for pattern in patterns)
            yield "public", f"without a token anybody may {role}: {what or 'nothing'}"
    if settings.internal_listen is not None:
        yield "internal", f"sessions, metrics and health at {settings.internal_listen}, without authentication"
