"""The ``[auth]`` table of a relay's TOML, with the environment over it, checked before anything is fetched."""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from moq_token import files
from moq_token import path as paths
from moq_token.auth.connection import canonical_domain
from moq_token.claims import Claims
from moq_token.errors import ConfigError, InvalidClaimsError, InvalidKeyError, UnauthorizedError, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    Table = dict[str, Any]

_AUTH_MEMBERS = ("key", "key_dir", "public", "domains", "auth_api", "mtls_tier", "tls")
_PUBLIC_MEMBERS = ("subscribe", "publish", "api")
_AUTH_TLS_MEMBERS = ("root", "cert", "key", "disable_verify")
_CLIENT_TLS_MEMBERS = (*_AUTH_TLS_MEMBERS, "system_roots", "fingerprint", "host_name")
_ENVIRONMENT = {
    "MOQ_AUTH_KEY": "key",
    "MOQ_AUTH_KEY_DIR": "key_dir",
    "MOQ_AUTH_PUBLIC": "public",
    "MOQ_AUTH_DOMAIN": "domains",
    "MOQ_AUTH_API": "auth_api",
    "MOQ_AUTH_MTLS_TIER": "mtls_tier",
}
# These add to what the table says instead of replacing it; TOML has no spelling of them but [auth.public].
_ENVIRONMENT_PUBLIC = {
    "MOQ_AUTH_PUBLIC_SUBSCRIBE": "subscribe",
    "MOQ_AUTH_PUBLIC_PUBLISH": "publish",
    "MOQ_AUTH_PUBLIC_API": "api",
}
_AUTH_TLS_PREFIX, _CLIENT_TLS_PREFIX = "MOQ_AUTH_TLS_", "MOQ_CLIENT_TLS_"
_FLAGS = {"true": True, "false": False}
_WEB = ("http://", "https://")
_DOMAIN = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*")
_LOOPBACK = frozenset(("localhost", "127.0.0.1", "::1"))


@dataclass(frozen=True, slots=True)
class PublicAccess:
    """What is granted without a token: prefixes for each role, and a URL that is asked where none of them fits."""

    subscribe: tuple[str, ...] = ()
    publish: tuple[str, ...] = ()
    api: str | None = field(default=None, repr=False)

    def __bool__(self) -> bool:
        """Whether anything is configured."""
        return bool(self.subscribe or self.publish or self.api is not None)

    def at(self, path: str) -> Claims | None:
        """Return the prefixes as claims where one of them overlaps ``path``, in either direction, else None."""
        claims = Claims("", self.publish, self.subscribe)
        try:
            claims.authorize(path)
        except UnauthorizedError:
            return None
        return claims


@dataclass(frozen=True, slots=True)
class ClientTls:
    """Whom HTTP fetches trust and as whom they go: PEM files of roots, and of a certificate with its key.

    ``system_roots`` None stands for: only where no roots are named. Raises :class:`ConfigError` for half an identity,
    and where one member would silently undo another.
    """

    roots: tuple[str, ...] = ()
    cert: str | None = None
    key: str | None = None
    disable_verify: bool = False
    system_roots: bool | None = None
    fingerprints: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if (self.cert is None) != (self.key is None):
            raise ConfigError("`cert` and `key` of the TLS configuration need each other")
        named = [name for name, value in (("root", self.roots), ("fingerprint", self.fingerprints)) if value]
        named += ["system_roots"] if self.system_roots else []
        if self.disable_verify and named:
            raise ConfigError(f"`disable_verify` accepts every certificate, so that `{named[0]}` would not count")
        if self.fingerprints and len(named) > 1:
            raise ConfigError("`fingerprint` goes around all roots, so that neither `root` nor `system_roots` counts")
        if self.system_roots is False and not (named or self.disable_verify):
            raise ConfigError("with `system_roots` off and no `root`, no certificate could ever be trusted")


@dataclass(frozen=True, slots=True)
class AuthConfig:
    """How a relay authorises: the members of its ``[auth]`` table, under their own names.

    Made by :meth:`from_toml`, :meth:`from_mapping` and :meth:`from_env`, or put together by hand. ``warnings`` names
    what a relay takes silently but its author can hardly have meant. Raises :class:`ConfigError` where members exclude
    each other. Messages name members, never their values, and the repr hides what may hold a password.
    """

    key: str | None = field(default=None, repr=False)
    key_dir: str | None = field(default=None, repr=False)
    public: PublicAccess = PublicAccess()
    domains: tuple[str, ...] = ()
    auth_api: str | None = field(default=None, repr=False)
    mtls_tier: str | None = None
    tls: ClientTls = ClientTls()
    warnings: tuple[str, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        if self.key is not None and self.key_dir is not None:
            raise ConfigError("`key` and `key_dir` exclude each other")
        if self.auth_api is not None and (self.key is not None or self.key_dir is not None or self.public):
            raise ConfigError("`auth_api` decides everything: it excludes `key`, `key_dir` and `public`")
        for name, url in (("auth_api", self.auth_api), ("public.api", self.public.api)):
            if url is not None and not _is_web_url(url):
                raise ConfigError(f"`{name}` must be a URL of http or https")
        if self.tls.fingerprints and self.urls:
            raise ConfigError("`fingerprint` cannot be honoured for HTTP here: name the certificate as `root` instead")
        domains = tuple(canonical_domain(domain) for domain in self.domains)
        if not all(domains):
            raise ConfigError("`domains` has an empty suffix")
        object.__setattr__(self, "domains", domains)

    @property
    def urls(self) -> tuple[str, ...]:
        """The URLs among the members: what needs a network."""
        members = (self.key, self.key_dir, self.auth_api, self.public.api)
        return tuple(url for url in members if url is not None and url.lower().startswith(_WEB))

    @classmethod
    def from_toml(cls, path: str | Path, *, environ: Mapping[str, str] | None = None, strict: bool = False) -> Self:
        """Read the TOML file of a relay: ``[auth]``, ``[client.tls]``, and ``MOQ_AUTH_…`` of the environment over them.

        Relative paths are relative to the working directory. ``environ`` None is that of the process. ``strict`` makes
        every warning a :class:`ConfigError`, which is also raised for what is no TOML and for a member of the wrong
        type; :class:`OSError` passes.
        """
        try:
            document = tomllib.loads(files.read(path).decode())
        except InvalidKeyError as error:  # a directory, no name of a file, or more than 1 MiB
            raise ConfigError(str(error)) from None
        except ValueError as error:
            # Of a syntax error the message may quote the line, with whatever secret stands there.
            place = f" ({str(error).rpartition('(')[2]}" if str(error).endswith(")") else ""
            raise ConfigError(f"{os.fspath(path)!r} is no TOML{place}") from None
        return cls.from_mapping(document, environ=os.environ if environ is None else environ, strict=strict)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None, *, strict: bool = False) -> Self:
        """Read the environment alone. Raises :class:`ConfigError`."""
        return cls.from_mapping({}, environ=os.environ if environ is None else environ, strict=strict)

    @classmethod
    def from_mapping(
        cls, document: Mapping[str, Any], *, environ: Mapping[str, str] | None = None, strict: bool = False
    ) -> Self:
        """Read the tables of a relay's configuration, ``{"auth": {…}, "client": {"tls": {…}}}``; others are ignored.

        ``environ`` is laid over them; None is nothing. Raises :class:`ConfigError`.
        """
        environ = environ or {}
        auth = _table(document, "auth")
        warnings = [*_unknown("auth.", auth, _AUTH_MEMBERS), *_unknown_variables(environ)]
        auth |= {member: environ[name] for name, member in _ENVIRONMENT.items() if name in environ}
        public, public_warnings = _public(auth.get("public"), environ)
        tls, tls_warnings = _tls(auth, _table(document, "client"), environ)
        config = cls(
            _text(auth, "auth.", "key"),
            _text(auth, "auth.", "key_dir"),
            public,
            _texts(auth, "auth.", "domains"),
            _text(auth, "auth.", "auth_api"),
            _text(auth, "auth.", "mtls_tier"),
            tls,
        )
        warnings += [*public_warnings, *tls_warnings, *_traps(config)]
        if strict and warnings:
            raise ConfigError("; ".join(warnings))
        object.__setattr__(config, "warnings", tuple(warnings))
        return config


# -- reading tables


def _table(document: Mapping[str, Any], name: str, prefix: str = "") -> Table:
    table = document.get(name, {})
    if not isinstance(table, dict):
        raise ConfigError(f"`{prefix}{name}` must be a table")
    return dict(table)


def _text(table: Table, prefix: str, name: str) -> str | None:
    value = table.get(name)
    if value is not None and not isinstance(value, str):
        raise ConfigError(f"`{prefix}{name}` must be a string")
    return value


def _texts(table: Table, prefix: str, name: str) -> tuple[str, ...]:
    value = table.get(name, ())
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list | tuple) or not all(isinstance(text, str) for text in values):
        raise ConfigError(f"`{prefix}{name}` must be a string or a list of strings")
    return tuple(values)


def _flag(table: Table, prefix: str, name: str) -> bool | None:
    value = table.get(name)
    if value is not None and not isinstance(value, bool):
        raise ConfigError(f"`{prefix}{name}` must be true or false")
    return value


def _public(value: object, environ: Mapping[str, str]) -> tuple[PublicAccess, list[str]]:
    table: Table = dict(value) if isinstance(value, dict) else {}
    warnings = _unknown("auth.public.", table, _PUBLIC_MEMBERS)
    if value is not None and not isinstance(value, dict):
        prefixes = _texts({"public": value}, "auth.", "public")
        table = {"subscribe": prefixes, "publish": prefixes}
    subscribe, publish = (_texts(table, "auth.public.", role) for role in ("subscribe", "publish"))
    api = _text(table, "auth.public.", "api")
    added = {member: environ[name] for name, member in _ENVIRONMENT_PUBLIC.items() if name in environ}
    if api is not None and "api" in added:
        raise ConfigError("`auth.public.api` and MOQ_AUTH_PUBLIC_API exclude each other")
    subscribe += (added["subscribe"],) if "subscribe" in added else ()
    publish += (added["publish"],) if "publish" in added else ()
    try:
        Claims("", publish, subscribe)
    except InvalidClaimsError:
        raise ConfigError("a prefix of `auth.public` is no valid Unicode") from None
    return PublicAccess(subscribe, publish, added.get("api", api)), warnings


def _tls(auth: Table, client: Table, environ: Mapping[str, str]) -> tuple[ClientTls, list[str]]:
    older = _tls_table(auth, "auth.", _AUTH_TLS_MEMBERS, _AUTH_TLS_PREFIX, environ)
    newer = _tls_table(client, "client.", _CLIENT_TLS_MEMBERS, _CLIENT_TLS_PREFIX, environ)
    client_tls = _client_tls(newer, "client.tls.")  # checked even where it does not count, as the relay does
    if all(value == [] for value in older.values()):
        return client_tls, []
    return _client_tls(older, "auth.tls."), ["`auth.tls` is the older form, and `client.tls` does not count beside it"]


def _tls_table(
    parent: Table, prefix: str, members: tuple[str, ...], variables: str, environ: Mapping[str, str]
) -> Table:
    table = _table(parent, "tls", prefix)
    unknown = _unknown(f"{prefix}tls.", table, members)
    if unknown:
        raise ConfigError(unknown[0])
    for member in members:
        value = environ.get(f"{variables}{member.upper()}")
        if value is not None and member in {"disable_verify", "system_roots"}:
            if value not in _FLAGS:
                raise ConfigError(f"{variables}{member.upper()} must be true or false")
            table[member] = _FLAGS[value]
        elif value is not None:
            table[member] = value
    return table


def _client_tls(table: Table, prefix: str) -> ClientTls:
    return ClientTls(
        _texts(table, prefix, "root"),
        _text(table, prefix, "cert"),
        _text(table, prefix, "key"),
        bool(_flag(table, prefix, "disable_verify")),
        _flag(table, prefix, "system_roots"),
        _texts(table, prefix, "fingerprint"),
    )


# -- what a relay takes silently


def _unknown(prefix: str, table: Iterable[str], members: tuple[str, ...]) -> list[str]:
    return [f"`{prefix}{_name(name)}` is not known{_hint(name, members)}" for name in table if name not in members]


def _unknown_variables(environ: Mapping[str, str]) -> list[str]:
    known = (*_ENVIRONMENT, *_ENVIRONMENT_PUBLIC, *(_AUTH_TLS_PREFIX + name.upper() for name in _AUTH_TLS_MEMBERS))
    named = [name for name in environ if name.startswith("MOQ_AUTH_") and name not in known]
    return [f"{_name(name)} is not known{_hint(name, known)}" for name in named]


def _name(name: str) -> str:
    return shown(name)[1:-1]


def _hint(name: str, known: tuple[str, ...]) -> str:
    close = difflib.get_close_matches(name.replace("-", "_"), known, 1)
    return f" and does not count; did you mean `{close[0]}`?" if close else " and does not count"


def _traps(config: AuthConfig) -> list[str]:
    traps = []
    for prefix in dict.fromkeys((*config.public.subscribe, *config.public.publish)):
        if prefix.lower().startswith(_WEB):
            traps.append("a URL among the public prefixes is only a prefix: `auth.public.api` asks it")
        elif "*" in paths.normalize(prefix).split("/") or "**" in prefix:
            traps.append(f"the public prefix {shown(prefix)} is no pattern: a `*` stands for itself")
    traps += [
        f"the suffix {shown(domain)} of `domains` fits no host"
        for domain in config.domains
        if not _DOMAIN.fullmatch(domain)
    ]
    if config.tls.disable_verify:
        traps.append("`disable_verify` lets anybody on the way answer for the key server")
    if any(url.lower().startswith("http://") and urlsplit(url).hostname not in _LOOPBACK for url in config.urls):
        traps.append("over plain http anybody on the way answers for the key server")
    if config.public.api is not None and urlsplit(config.public.api).query:
        traps.append("the query of `auth.public.api` is dropped once a path follows it")
    return traps


def _is_web_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        good = bool(parts.hostname) and parts.port != 0  # reading the port checks it
    except ValueError:
        return False
    return good and text.isascii() and text.isprintable() and text.lower().startswith(_WEB)
