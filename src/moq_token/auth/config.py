"""The ``[auth]`` table of the TOML of a relay, with the environment over it, checked before anything is fetched."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from moq_token.auth import advice, arguments, tables
from moq_token.auth.connection import canonical_domain
from moq_token.claims.wire import claims_of_prefixes
from moq_token.errors import ConfigError, InvalidClaimsError, UnauthorizedError, sealed

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from moq_token.auth.tables import Table
    from moq_token.claims import Claims

# The number of warnings that are kept, and shown in one message.
MAX_WARNINGS, MAX_SHOWN_WARNINGS = 100, 5

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
# These add to the table instead of replacing it; in TOML they are spelled [auth.public] only.
_ENVIRONMENT_PUBLIC = {
    "MOQ_AUTH_PUBLIC_SUBSCRIBE": "subscribe",
    "MOQ_AUTH_PUBLIC_PUBLISH": "publish",
    "MOQ_AUTH_PUBLIC_API": "api",
}
_AUTH_TLS_PREFIX, _CLIENT_TLS_PREFIX = "MOQ_AUTH_TLS_", "MOQ_CLIENT_TLS_"
_VARIABLES = (*_ENVIRONMENT, *_ENVIRONMENT_PUBLIC, *(_AUTH_TLS_PREFIX + name.upper() for name in _AUTH_TLS_MEMBERS))
_FLAGS = {"true": True, "false": False}


class ConfigWarning(UserWarning):
    """The configuration has a setting that a relay accepts silently, but that is probably not meant."""


@dataclass(frozen=True, slots=True)
class PublicAccess:
    """What is granted without a token.

    Attributes
    ----------
    subscribe, publish
        Prefixes for each role, a single one or an iterable; ``""`` is everything.
    api
        The URL that is asked where none of the prefixes overlaps the dialed path.

    Raises ``TypeError`` for other types.

    """

    subscribe: tuple[str, ...] = ()
    publish: tuple[str, ...] = ()
    api: str | None = field(default=None, repr=False)

    if TYPE_CHECKING:

        def __init__(
            self, subscribe: str | Iterable[str] = (), publish: str | Iterable[str] = (), api: str | None = None
        ) -> None: ...

    def __post_init__(self) -> None:
        arguments.set_texts(self, "subscribe", "publish")
        arguments.check_text(self, "api")

    def __bool__(self) -> bool:
        """Whether anything is configured."""
        return bool(self.subscribe or self.publish or self.api is not None)

    def at(self, path: str) -> Claims | None:
        """Return the prefixes as claims where one of them overlaps ``path``, in either direction, else None."""
        claims = claims_of_prefixes("", self.publish, self.subscribe)
        try:
            claims.authorize(path)
        except UnauthorizedError:
            return None
        return claims


@dataclass(frozen=True, slots=True)
class ClientTls:
    """Which certificates HTTP requests trust, and which one they present.

    Attributes
    ----------
    roots
        PEM files of trusted roots, a single one or an iterable.
    cert, key
        PEM files of the client certificate and its key.
    disable_verify
        Accept every certificate.
    system_roots
        Whether to trust the roots of the system too; None is: only where ``roots`` is empty.
    fingerprints
        Fingerprints of certificates, which a relay accepts instead of roots.

    Raises ``ConfigError`` for a certificate without its key, and where one member would silently disable another;
    ``TypeError`` for other types.

    """

    roots: tuple[str, ...] = ()
    cert: str | None = None
    key: str | None = None
    disable_verify: bool = False
    system_roots: bool | None = None
    fingerprints: tuple[str, ...] = ()

    if TYPE_CHECKING:

        def __init__(  # noqa: PLR0917 - the members of a dataclass
            self,
            roots: str | Path | Iterable[str | Path] = (),
            cert: str | Path | None = None,
            key: str | Path | None = None,
            disable_verify: bool = False,  # noqa: FBT001, FBT002 - as the dataclass has it
            system_roots: bool | None = None,  # noqa: FBT001
            fingerprints: str | Iterable[str] = (),
        ) -> None: ...

    def __post_init__(self) -> None:
        arguments.set_texts(self, "roots", "fingerprints", paths=True)
        for name in ("cert", "key"):
            arguments.set_path(self, name)
        if (self.cert is None) != (self.key is None):
            raise ConfigError("`cert` and `key` of the TLS configuration must be set together")
        named = [name for name, value in (("root", self.roots), ("fingerprint", self.fingerprints)) if value]
        named += ["system_roots"] if self.system_roots else []
        if self.disable_verify and named:
            raise ConfigError(f"`disable_verify` accepts every certificate, so `{named[0]}` has no effect: remove one")
        if self.fingerprints and len(named) > 1:
            raise ConfigError("`fingerprint` replaces all roots: remove it, or `root` and `system_roots`")
        if self.system_roots is False and not (named or self.disable_verify):
            raise ConfigError("with `system_roots` off and no `root`, no certificate can be trusted: add a `root`")


@dataclass(frozen=True, slots=True)
class AuthConfig:
    """How a relay authorizes: the members of its ``[auth]`` table, under their own names.

    This is the configuration of ``moq-relay`` 0.14. Relays from 0.15 on refuse these settings and ask an auth server.

    Made by ``from_toml()``, ``from_mapping()`` and ``from_env()``, or by hand; paths may be
    ``Path`` objects. ``warnings`` names settings that a relay accepts silently, but that are probably
    not meant; the ``from_…`` methods also issue each as a ``ConfigWarning``. Messages name members, never their
    values, and the repr hides values that may contain a password.

    Raises ``ConfigError`` where members exclude each other or a URL is invalid, and ``TypeError`` for
    arguments of other types.
    """

    key: str | None = field(default=None, repr=False)
    key_dir: str | None = field(default=None, repr=False)
    public: PublicAccess = PublicAccess()
    domains: tuple[str, ...] = ()
    auth_api: str | None = field(default=None, repr=False)
    mtls_tier: str | None = None
    tls: ClientTls = ClientTls()
    warnings: tuple[str, ...] = field(default=(), compare=False)

    if TYPE_CHECKING:

        def __init__(  # noqa: PLR0917 - the members of a dataclass
            self,
            key: str | Path | None = None,
            key_dir: str | Path | None = None,
            public: PublicAccess = PublicAccess(),
            domains: str | Iterable[str] = (),
            auth_api: str | None = None,
            mtls_tier: str | None = None,
            tls: ClientTls = ClientTls(),
            warnings: Iterable[str] = (),
        ) -> None: ...

    def __post_init__(self) -> None:
        for name in ("key", "key_dir"):
            arguments.set_path(self, name)
        arguments.set_texts(self, "domains", "warnings")
        arguments.check_text(self, "auth_api", "mtls_tier")
        arguments.check_kind(self, "public", PublicAccess)
        arguments.check_kind(self, "tls", ClientTls)
        if self.key is not None and self.key_dir is not None:
            raise ConfigError("`key` and `key_dir` exclude each other: remove one of them")
        if self.auth_api is not None and (self.key is not None or self.key_dir is not None or self.public):
            raise ConfigError("`auth_api` decides everything, so it excludes `key`, `key_dir` and `public`")
        for name, url in (("auth_api", self.auth_api), ("public.api", self.public.api)):
            if url is not None and not advice.is_web_url(url):
                raise ConfigError(f"`{name}` must be a valid http:// or https:// URL")
        if not all(map(advice.is_web_url, self.urls)):
            raise ConfigError("`key` or `key_dir` is not a valid URL")
        if self.tls.fingerprints and self.urls:
            raise ConfigError("`fingerprint` is not supported for HTTP here: write the certificate as `root` instead")
        domains = tuple(canonical_domain(domain) for domain in self.domains)
        if not all(domains):
            raise ConfigError("`domains` contains an empty suffix: remove it")
        object.__setattr__(self, "domains", domains)

    @property
    def urls(self) -> tuple[str, ...]:
        """The URLs among the members: what needs a network."""
        members = (self.key, self.key_dir, self.auth_api, self.public.api)
        return tuple(url for url in members if url is not None and url.lower().startswith(advice.WEB))

    @classmethod
    @sealed
    def from_toml(cls, path: str | Path, *, environ: Mapping[str, str] | None = None, strict: bool = False) -> Self:
        """Read the TOML file of a relay: ``[auth]``, ``[client.tls]``, and ``MOQ_AUTH_…`` of the environment over them.

        Relative paths in it are relative to the working directory. ``environ`` None is that of the process. Raises
        ``ConfigError`` for invalid TOML, more than 256 KiB, a member of the wrong type, and with ``strict`` for
        every warning; ``OSError`` passes.
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
        """Read the tables of a relay's configuration, ``{"auth": {…}, "client": {"tls": {…}}}``; others are ignored.

        ``environ`` overrides them; None is nothing. Raises ``ConfigError``.
        """
        if not isinstance(document, Mapping):
            raise TypeError(f"expected the tables of a TOML file as a mapping, not {type(document).__name__}")
        return cls._read(document, environ or {}, strict=strict)

    @classmethod
    def _read(cls, document: Mapping[str, Any], environ: Mapping[str, str], *, strict: bool) -> Self:
        auth = tables.table(document, "auth")
        found = [
            *advice.outside(document),
            *advice.unknown("auth.", auth, advice.AUTH_MEMBERS),
            *advice.unknown_variables(environ, _VARIABLES),
        ]
        auth |= {member: environ[name] for name, member in _ENVIRONMENT.items() if name in environ}
        public, public_warnings = _public(auth.get("public"), environ)
        tls, tls_warnings = _tls(auth, tables.table(document, "client"), environ)
        config = cls(
            tables.text(auth, "auth.", "key"),
            tables.text(auth, "auth.", "key_dir"),
            public,
            tables.texts(auth, "auth.", "domains"),
            tables.text(auth, "auth.", "auth_api"),
            tables.text(auth, "auth.", "mtls_tier"),
            tls,
        )
        found += [*public_warnings, *tls_warnings, *advice.traps(config)]
        set_warnings(config, found, strict=strict)
        return config


def set_warnings(config: object, found: Sequence[str], *, strict: bool) -> None:
    """Keep what was found in a configuration and issue it as warnings. With ``strict``, raise ``ConfigError``."""
    if strict and found:
        raise ConfigError(in_one_line(found))
    object.__setattr__(config, "warnings", tuple(found[:MAX_WARNINGS]))
    for warning in found[:MAX_SHOWN_WARNINGS]:
        # The caller of the public method: between are `_read`, that method and its `sealed`.
        warnings.warn(warning, ConfigWarning, stacklevel=5)


def in_one_line(warnings: Iterable[str]) -> str:
    """Join warnings to one message of bounded length."""
    warnings = tuple(warnings)
    more = len(warnings) - MAX_SHOWN_WARNINGS
    return "; ".join((*warnings[:MAX_SHOWN_WARNINGS], *((f"and {more} more",) if more > 0 else ())))


def _public(value: object, environ: Mapping[str, str]) -> tuple[PublicAccess, list[str]]:
    table: Table = dict(value) if isinstance(value, dict) else {}
    warnings = advice.unknown("auth.public.", table, advice.PUBLIC_MEMBERS)
    if value is not None and not isinstance(value, dict):
        prefixes = tables.texts({"public": value}, "auth.", "public")
        table = {"subscribe": prefixes, "publish": prefixes}
    subscribe, publish = (tables.texts(table, "auth.public.", role) for role in ("subscribe", "publish"))
    api = tables.text(table, "auth.public.", "api")
    added = {member: environ[name] for name, member in _ENVIRONMENT_PUBLIC.items() if name in environ}
    if api is not None and "api" in added:
        raise ConfigError("`auth.public.api` and MOQ_AUTH_PUBLIC_API exclude each other")
    subscribe += (added["subscribe"],) if "subscribe" in added else ()
    publish += (added["publish"],) if "publish" in added else ()
    try:
        claims_of_prefixes("", publish, subscribe)
    except InvalidClaimsError:
        raise ConfigError("a prefix of `auth.public` is not valid Unicode") from None
    return PublicAccess(subscribe, publish, added.get("api", api)), warnings


def _tls(auth: Table, client: Table, environ: Mapping[str, str]) -> tuple[ClientTls, list[str]]:
    older = _tls_table(auth, "auth.", _AUTH_TLS_MEMBERS, _AUTH_TLS_PREFIX, environ)
    newer = _tls_table(client, "client.", _CLIENT_TLS_MEMBERS, _CLIENT_TLS_PREFIX, environ)
    newer_tls = client_tls(newer, "client.tls.")  # checked even where it is ignored, as in the relay
    if all(value == [] for value in older.values()):
        return newer_tls, []
    return client_tls(older, "auth.tls."), [
        "`auth.tls` is the older form, and makes the relay ignore `client.tls`: write `[client.tls]` only"
    ]


def _tls_table(
    parent: Table, prefix: str, members: tuple[str, ...], variables: str, environ: Mapping[str, str]
) -> Table:
    table = tables.table(parent, "tls", prefix)
    unknown = advice.unknown(f"{prefix}tls.", table, members)
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


def client_tls(table: Table, prefix: str) -> ClientTls:
    """Read the members of a table of TLS options. Raises ``ConfigError``."""
    return ClientTls(
        tables.texts(table, prefix, "root"),
        tables.text(table, prefix, "cert"),
        tables.text(table, prefix, "key"),
        bool(tables.flag(table, prefix, "disable_verify")),
        tables.flag(table, prefix, "system_roots"),
        tables.texts(table, prefix, "fingerprint"),
    )
