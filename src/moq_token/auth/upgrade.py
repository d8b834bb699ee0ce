"""Convert a configuration for relays before 0.15 to its replacement for later relays."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any, NamedTuple

from moq_token import path as paths
from moq_token.auth.remote_check import old_settings
from moq_token.errors import InvalidPatternError, shown
from moq_token.pattern import Pattern

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from moq_token.auth.config import AuthConfig

SERVE = "moq-token-cli serve"
# Where it listens unless told otherwise.
AUTH_URL = "http://127.0.0.1:4440/"


class Upgrade(NamedTuple):
    """The replacement of a configuration for relays before 0.15.

    ``replaced`` has each of its settings, with what takes its place. ``serve`` is the command line of the auth server,
    and ``relay`` the options of the relay. ``open`` is what these do not do.
    """

    replaced: tuple[tuple[str, str], ...]
    serve: str
    relay: str
    open: tuple[str, ...]


def upgrade(config: AuthConfig, document: Mapping[str, Any], environ: Mapping[str, str]) -> Upgrade:
    """Return the replacement of a configuration, of which ``document`` is the TOML and ``environ`` the variables.

    The auth server then decides as the relay did, except for what is ``open``.
    """
    replaced = list(old_settings(document, environ))
    if config.public.publish or config.public.subscribe:
        replaced.append(
            ("`auth.public`", "--public-publish and --public-subscribe of the auth server, which take patterns")
        )
    words = [*shlex.split(SERVE), *_key_options(config), *_grant_options(config, document)]
    return Upgrade(tuple(replaced), shlex.join(words), f"--auth-url {AUTH_URL}", tuple(_open(config)))


def _key_options(config: AuthConfig) -> Iterator[str]:
    for option, place in (("--key", config.key), ("--key-dir", config.key_dir)):
        if place is not None:
            yield from (option, "URL" if _may_have_secret(place) else place)


def _grant_options(config: AuthConfig, document: Mapping[str, Any]) -> Iterator[str]:
    for role, prefixes in (("publish", config.public.publish), ("subscribe", config.public.subscribe)):
        for prefix in prefixes:
            if (pattern := _subtree(prefix)) is not None:
                yield from (f"--public-{role}", str(pattern))
    if _admits_certificates(config, document):
        yield from ("--mtls-publish", "**", "--mtls-subscribe", "**")
    if config.mtls_tier is not None:
        yield from ("--tier", "LABEL" if _may_have_secret(config.mtls_tier) else config.mtls_tier)


def _open(config: AuthConfig) -> Iterator[str]:
    """Say what the auth server does not do that the relay did."""
    for name, place in (("key", config.key), ("key_dir", config.key_dir)):
        if place is not None and _may_have_secret(place):
            yield f"`{name}` has a user, a password or a query: replace URL by it yourself"
    for prefix in dict.fromkeys((*config.public.publish, *config.public.subscribe)):
        if _subtree(prefix) is None:
            yield f"{_fault(prefix)}: it is left out"
    for name, url in (("auth_api", config.auth_api), ("public.api", config.public.api)):
        if url is not None:
            yield f"`{name}` answers GET, and these relays send POST: change it, or write a --policy for `{SERVE}`"
    if config.domains:
        yield "`domains` has no equivalent: clients must dial the whole path"
    if config.mtls_tier is not None:
        yield "`mtls_tier` labels sessions with a certificate only, and `--tier` labels all"


def _may_have_secret(place: str) -> bool:
    return "://" in place and any(mark in place for mark in "@?#")


def _subtree(prefix: str) -> Pattern | None:
    if "://" in prefix or not prefix.isprintable():  # a URL by mistake can have a password
        return None
    try:
        return Pattern.subtree(paths.normalize(prefix))
    except InvalidPatternError:
        return None


def _fault(prefix: str) -> str:
    """Say why there is no pattern for a prefix."""
    if "://" in prefix:
        return f"the public prefix {shown(prefix)} is a URL, not a path"
    if not prefix.isprintable():
        return f"the public prefix {shown(prefix)} has a control character"
    return f"no pattern can express the public prefix {shown(prefix)}"


def _admits_certificates(config: AuthConfig, document: Mapping[str, Any]) -> bool:
    table: Any = document
    for name in ("server", "tls", "root"):
        table = table.get(name) if isinstance(table, dict) else None
    return bool(table) or config.mtls_tier is not None
