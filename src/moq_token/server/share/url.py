"""Read the URL of a store."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

import msgspec

from moq_token.errors import ConfigError, shown

Kind: TypeAlias = Literal["standalone", "sentinel", "cluster"]

DEFAULT_PORT: Final = 6379
DEFAULT_SENTINEL_PORT: Final = 26379

_FORMS = (
    "redis://HOST:PORT, rediss://HOST:PORT, redis+sentinel://HOST:PORT,HOST:PORT/SERVICE or redis+cluster://HOST:PORT"
)
_KINDS: dict[str, Kind] = {"": "standalone", "sentinel": "sentinel", "cluster": "cluster"}
_OF_TLS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_OF_SENTINEL = ("sentinel_username", "sentinel_password")
_OPTIONS = (*_OF_TLS, *_OF_SENTINEL)
_MAX_PORT = 65535


class StoreUrl(msgspec.Struct, frozen=True, kw_only=True):
    """Where a store is. ``hosts`` are the store itself, its sentinels, or some nodes of its cluster.

    ``service`` is what the sentinels call the store; they can have a user and a password of their own. ``options`` are
    ``ssl_ca_certs``, ``ssl_certfile`` and ``ssl_keyfile``: paths of PEM files, for TLS. Nothing here shows a password,
    but the attributes.
    """

    kind: Kind
    hosts: tuple[tuple[str, int], ...]
    tls: bool = False
    username: str | None = None
    password: str | None = None
    database: int = 0
    service: str = ""
    sentinel_username: str | None = None
    sentinel_password: str | None = None
    options: tuple[tuple[str, str], ...] = ()

    def __repr__(self) -> str:
        return f"<StoreUrl {self}>"

    def __rich_repr__(self) -> list[tuple[str, str]]:
        return [("url", str(self))]

    def __str__(self) -> str:
        """Return the URL without the password and the options."""
        scheme = ("rediss" if self.tls else "redis") + ("" if self.kind == "standalone" else f"+{self.kind}")
        user = "" if self.username is None and self.password is None else f"{self.username or ''}@".removeprefix("@")
        hosts = ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.hosts)
        path = f"/{self.service or self.database}" if self.service or self.database else ""
        return f"{scheme}://{user}{hosts}{path}"


def parse_store_url(text: str) -> StoreUrl:
    """Read ``redis://``, ``rediss://`` (TLS), and both with ``+sentinel`` and ``+cluster``.

    A user and a password stand before the host, percent-encoded. Raises ``ConfigError``, which does not show the
    URL.
    """
    try:
        split = urlsplit(text)
        base, _, kind_name = split.scheme.partition("+")
        if base not in {"redis", "rediss"} or kind_name not in _KINDS or split.fragment:
            raise ConfigError(f"the URL of the store is invalid: expected {_FORMS}")
        kind = _KINDS[kind_name]
        userinfo, _, places = split.netloc.rpartition("@")
        port = DEFAULT_SENTINEL_PORT if kind == "sentinel" else DEFAULT_PORT
        hosts = tuple(_host(place, port) for place in places.split(","))
        options = tuple(parse_qsl(split.query, keep_blank_values=True, strict_parsing=bool(split.query)))
    except ValueError:
        raise ConfigError(f"the URL of the store is invalid: expected {_FORMS}") from None
    if len(hosts) > 1 and kind == "standalone":
        raise ConfigError(f"the URL of the store has several hosts: expected {_FORMS}")
    for name, value in options:
        if name not in _OPTIONS or not value:
            raise ConfigError(
                f"the URL of the store has an invalid option {shown(name)}: expected {', '.join(_OPTIONS)}"
            )
        if name in _OF_TLS and base != "rediss":
            raise ConfigError(f"the URL of the store has the option {name}, which needs TLS: use rediss://")
        if name in _OF_SENTINEL and kind != "sentinel":
            raise ConfigError(
                f"the URL of the store has the option {name}, which needs Sentinel: use redis+sentinel://"
            )
    user, colon, password = userinfo.partition(":")
    return StoreUrl(
        kind=kind,
        hosts=hosts,
        tls=base == "rediss",
        username=unquote(user) or None,
        password=unquote(password) if colon else None,
        service=_service(split) if kind == "sentinel" else "",
        database=0 if kind == "sentinel" else _database(split, kind),
        options=tuple(each for each in options if each[0] in _OF_TLS),
        **{name: value for name, value in options if name in _OF_SENTINEL},
    )


def _host(place: str, default: int) -> tuple[str, int]:
    split = urlsplit(f"//{place}")
    if not split.hostname or split.path:
        raise ValueError
    port = default if split.port is None else split.port
    if not 0 < port <= _MAX_PORT:
        raise ValueError
    return split.hostname, port


def _service(split: SplitResult) -> str:
    service = unquote(split.path.removeprefix("/"))
    if not service or "/" in service:
        raise ConfigError("the URL of the store has no service: expected redis+sentinel://HOST:PORT,HOST:PORT/SERVICE")
    return service


def _database(split: SplitResult, kind: Kind) -> int:
    text = split.path.removeprefix("/")
    if not text:
        return 0
    if not (text.isascii() and text.isdecimal() and len(text) <= 4) or kind == "cluster":  # noqa: PLR2004 - digits
        raise ConfigError(
            f"the URL of the store has an invalid database {shown(text)}: expected a number"
            if kind != "cluster"
            else "the URL of the store has a database, which a cluster does not have: remove it"
        )
    return int(text)
