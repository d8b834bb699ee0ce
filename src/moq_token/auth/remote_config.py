"""The ``[auth]`` table of relays from 0.15 on: an auth server that decides, or rules for everybody."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from moq_token import path as paths
from moq_token.auth import advice, arguments, tables
from moq_token.auth.config import AuthConfig, ClientTls, client_tls, set_warnings
from moq_token.auth.remote_check import MEMBERS, NEW_TABLES, OLD_MEMBERS, OLD_VARIABLES, RULES, old_settings
from moq_token.errors import ConfigError, InvalidPatternError, sealed, shown
from moq_token.pattern import MAX_SEGMENTS, Pattern
from moq_token.patterns import Patterns
from moq_token.sources.urls import check_service_url

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from moq_token.auth.tables import Table

_TLS_MEMBERS = ("root", "system_roots", "fingerprint", "cert", "key", "insecure", "disable_verify", "host_name")
_TLS_PREFIX = "MOQ_CONNECT_TLS_"
_FLAGS = {"true": True, "false": False}
_NO_RULES, _SYSTEM_TLS = Patterns(), ClientTls()


@dataclass(frozen=True, slots=True)
class RemoteConfig:
    """How a relay from 0.15 on authorizes: it asks an auth server, or grants the same to everybody.

    Made by ``from_toml()``, ``from_mapping()`` and ``from_env()``, or by hand. Messages name members, never
    their values, and the repr hides the URL, which may contain a password.

    Attributes
    ----------
    url
        The auth server: ``https://…``, ``unix:///path``, or ``http://`` on this machine. User and password in it are
        sent as HTTP Basic authentication.
    publish, subscribe
        What anybody may do without an auth server: patterns from the root, such as ``"anon/**"``.
    tls
        Which certificates ``https://`` trusts, and which one it presents.
    warnings
        Settings that a relay ignores silently.

    Raises ``ConfigError`` where both or neither of ``url`` and rules are set, for an invalid URL, and for a rule
    without a wildcard, which names one broadcast where a subtree is probably meant; ``TypeError`` for arguments of
    other types.

    """

    url: str | None = field(default=None, repr=False)
    publish: Patterns = _NO_RULES
    subscribe: Patterns = _NO_RULES
    tls: ClientTls = _SYSTEM_TLS
    warnings: tuple[str, ...] = field(default=(), compare=False)

    if TYPE_CHECKING:

        def __init__(
            self,
            url: str | None = None,
            publish: Patterns | Iterable[Pattern | str] = (),
            subscribe: Patterns | Iterable[Pattern | str] = (),
            tls: ClientTls = _SYSTEM_TLS,
            warnings: Iterable[str] = (),
        ) -> None: ...

    def __post_init__(self) -> None:
        arguments.check_text(self, "url")
        arguments.check_kind(self, "tls", ClientTls)
        arguments.set_texts(self, "warnings")
        for role in ("publish", "subscribe"):
            rules = getattr(self, role)
            if not isinstance(rules, Patterns):
                object.__setattr__(self, role, _patterns(role, rules))
        if self.url is not None and (self.publish or self.subscribe):
            raise ConfigError("`url` and `public` exclude each other, as the auth server decides: remove one of them")
        if self.url is None and not self.publish and not self.subscribe:
            raise ConfigError("nothing is configured, so nobody could get in: set `url` or `public` in `[auth]`")
        if self.url is not None:
            try:
                check_service_url(self.url)
            except ConfigError as error:
                raise ConfigError(f"`url`: {error}") from None
        if self.tls.fingerprints and self.url is not None:
            raise ConfigError("`fingerprint` is not supported for HTTP here: write the certificate as `root` instead")

    @classmethod
    @sealed
    def from_toml(cls, path: str | Path, *, environ: Mapping[str, str] | None = None, strict: bool = False) -> Self:
        """Read ``[auth]`` and ``[connect.tls]`` of the TOML file of a relay, with the environment over them.

        ``environ`` None is that of the process. Raises ``ConfigError``, with ``strict`` for every warning too;
        ``OSError`` passes.
        """
        document = tables.read_toml(path)
        return cls._read(document, os.environ if environ is None else environ, strict=strict)

    @classmethod
    @sealed
    def from_env(cls, environ: Mapping[str, str] | None = None, *, strict: bool = False) -> Self:
        """Read the environment alone. Raises ``ConfigError``."""
        return cls._read({}, os.environ if environ is None else environ, strict=strict)

    @classmethod
    @sealed
    def from_mapping(
        cls, document: Mapping[str, Any], *, environ: Mapping[str, str] | None = None, strict: bool = False
    ) -> Self:
        """Read the tables of a relay's configuration, ``{"auth": {…}, "connect": {"tls": {…}}}``; others are ignored.

        ``environ`` overrides them; None is nothing. Settings of relays before 0.15 are refused by name, as these relays
        do. Raises ``ConfigError``.
        """
        return cls._read(document, environ or {}, strict=strict)

    @classmethod
    def _read(cls, document: Mapping[str, Any], environ: Mapping[str, str], *, strict: bool) -> Self:
        auth = tables.table(document, "auth")
        _refuse_old(document, auth, environ)
        found = [f"`auth.{shown(str(name))[1:-1]}` is unknown and ignored" for name in auth if name not in MEMBERS]
        rules = {name: [Pattern(text) for text in texts] for name, texts in _rules(auth, environ)}
        url = environ.get("MOQ_AUTH_URL", tables.text(auth, "auth.", "url"))
        config = cls(
            url,
            rules["public"] + rules["public_publish"],
            rules["public"] + rules["public_subscribe"],
            _tls(document, environ),
        )
        if config.tls.disable_verify and url is not None:
            found.append("`insecure` lets anybody on the network answer instead of the auth server: use `root`")
        set_warnings(config, found, strict=strict)
        return config


def load_config(path: str | Path, *, environ: Mapping[str, str] | None = None) -> AuthConfig | RemoteConfig:
    """Read the TOML file of a relay of either generation, with the environment over it (None: of the process).

    It is read as that of a relay from 0.15 on if it names an auth server or has patterns, as only those relays do.
    Raises ``ConfigError``; ``OSError`` passes.
    """
    document = tables.read_toml(path)
    environ = os.environ if environ is None else environ
    kind = RemoteConfig if is_remote(document, environ) else AuthConfig
    return kind.from_mapping(document, environ=environ)


def is_remote(document: Mapping[str, Any], environ: Mapping[str, str]) -> bool:
    """Whether a configuration is one for relays from 0.15 on. One that fits both is taken for an earlier one."""
    auth = document.get("auth")
    table: Table = dict(auth) if isinstance(auth, dict) else {}
    if "MOQ_AUTH_URL" in environ or {"url", "public_publish", "public_subscribe"} & table.keys():
        return True
    if any(isinstance(document.get(name), dict) for name in NEW_TABLES):
        return True
    if OLD_MEMBERS.keys() & table.keys() or OLD_VARIABLES.keys() & environ.keys():
        return False
    public = [value for name in RULES for value in _listed(environ.get(f"MOQ_AUTH_{name.upper()}", table.get(name)))]
    return any("*" in value for value in public)


def _listed(value: object) -> list[str]:
    values = value if isinstance(value, list) else [value]
    return [text for text in values if isinstance(text, str)]


def _refuse_old(document: Mapping[str, Any], auth: Table, environ: Mapping[str, str]) -> None:
    found = dict(old_settings(document, environ))
    if isinstance(auth.get("public"), dict):
        found["`[auth.public]`"] = "`public`, `public_subscribe` and `public_publish`, with patterns"
    if found:
        replaced = "; ".join(f"{old}: use {new}" for old, new in found.items())
        raise ConfigError(f"relays from 0.15 on do not read these settings: {replaced}")


def _rules(auth: Table, environ: Mapping[str, str]) -> list[tuple[str, tuple[str, ...]]]:
    found = []
    for name in RULES:
        variable = f"MOQ_AUTH_{name.upper()}"
        if variable in environ:
            texts = tuple(environ[variable].split(","))
            where = variable
        else:
            texts, where = tables.texts(auth, "auth.", name), f"`auth.{name}`"
        _patterns(where, texts)
        found.append((name, texts))
    return found


def _patterns(where: str, rules: Iterable[Pattern | str]) -> Patterns:
    """Return the rules of a role. A text without a wildcard is an error; a ``Pattern`` is not."""
    if isinstance(rules, str | Pattern):
        rules = (rules,)
    try:
        read = [rule if isinstance(rule, Pattern) else _rule(where, rule) for rule in rules]
        return Patterns(read)
    except InvalidPatternError as error:
        raise ConfigError(f"{where}: {error}") from None


def _rule(where: str, text: str) -> Pattern:
    pattern = Pattern(text)
    # A literal of the greatest depth has no room for a wildcard.
    if pattern.is_literal and len(pattern.head) < MAX_SEGMENTS:
        subtree = shown(paths.join(str(pattern), "**"))
        raise ConfigError(
            f"{where}: {shown(text)} has no wildcard, so it names one broadcast; write {subtree} for the subtree"
        )
    return pattern


def _tls(document: Mapping[str, Any], environ: Mapping[str, str]) -> ClientTls:
    connect = tables.table(document, "connect")
    table = tables.table(connect, "tls", "connect.")
    unknown = advice.unknown("connect.tls.", table, _TLS_MEMBERS)
    if unknown:
        raise ConfigError(unknown[0])
    for member in _TLS_MEMBERS:
        value = environ.get(f"{_TLS_PREFIX}{member.upper()}")
        if value is None:
            continue
        if member in {"insecure", "disable_verify", "system_roots"}:
            if value not in _FLAGS:
                raise ConfigError(f"{_TLS_PREFIX}{member.upper()} must be true or false")
            table[member] = _FLAGS[value]
        else:
            table[member] = value.split(",") if member in {"root", "fingerprint"} else value
    if "insecure" in table:
        table["disable_verify"] = table.pop("insecure")
    return client_tls(table, "connect.tls.")
