"""Check the configuration of a relay, and decide as a relay with it: what `check-config` and `explain` do."""

from __future__ import annotations

import os
import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

from moq_token.auth import AuthConfig, Authenticator, ConfigWarning
from moq_token.auth.check import check_files, check_place, nothing_configured, unread_keys
from moq_token.auth.remote_check import check_settings
from moq_token.auth.remote_config import is_remote
from moq_token.auth.upgrade import upgrade
from moq_token.cli import output
from moq_token.cli.lint import finding_members
from moq_token.errors import shown_path
from moq_token.generations import Generation

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from moq_token.auth import Connection, Grant
    from moq_token.auth.remote_check import Settings
    from moq_token.auth.upgrade import Upgrade
    from moq_token.trace import Trace


class Checked(NamedTuple):
    """A configuration that was checked for relays of one generation: how it admits clients, and what is wrong."""

    generation: Generation
    lines: tuple[tuple[str, str], ...]
    problems: tuple[str, ...]
    notes: tuple[str, ...]
    more: dict[str, object]  # for JSON


def check(file: str, document: dict[str, Any], generation: Generation | None) -> Checked:
    """Check a configuration for relays of one generation, None for the one that its settings are for.

    Raises ``ConfigError`` and ``Failed``.
    """
    if generation is None:
        generation = Generation.SECOND if is_remote(document, os.environ) else Generation.FIRST
    return _check_first(file, document) if generation is Generation.FIRST else _check_second(document)


def _check_first(file: str, document: dict[str, Any]) -> Checked:
    """Check a configuration for relays before 0.15."""
    config = read_config(document)
    if config == AuthConfig():
        raise output.Failed(f"{shown_path(file)}: {nothing_configured(config.warnings)}")
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


def _check_second(document: dict[str, Any]) -> Checked:
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

    Raises ``RefusedError``, ``UnavailableError`` and ``ConfigError``.
    """

    async def decide() -> Grant:
        async with Authenticator(config) as authenticator:
            return await authenticator.authenticate(connection, trace=trace)

    return output.run_quietly(decide())


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
            what = output.listed(prefix.strip("/") or "everything" for prefix in prefixes)
            yield "public", f"without a token anybody may {role}: {what or 'nothing'}"
    if public.api is not None:
        yield "public", f"where none of these matches, {output.place(public.api)} is asked"
    if config.domains:
        yield "domains", f"labels before {output.listed(config.domains)} go in front of the path"
    if config.mtls_tier is not None:
        yield "tier", f"client certificates are counted under {output.listed([config.mtls_tier])}"


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
            what = output.listed("everything" if str(pattern) == "**" else str(pattern) for pattern in patterns)
            yield "public", f"without a token anybody may {role}: {what or 'nothing'}"
    if settings.internal_listen is not None:
        yield "internal", f"sessions, metrics and health at {settings.internal_listen}, without authentication"
