"""Find the settings that keep a relay from 0.15 on from starting, or that it ignores silently.

``moq_token.auth.RemoteConfig`` is the configuration in use, and raises the first error.
"""

from __future__ import annotations

import difflib
import ipaddress
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from moq_token.errors import InvalidPatternError, shown
from moq_token.generations import Generation
from moq_token.lint import Finding
from moq_token.pattern import MAX_SEGMENTS, Pattern
from moq_token.patterns import Patterns
from moq_token.sources.urls import is_loopback

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

RULES = ("public", "public_publish", "public_subscribe")
MEMBERS = ("url", *RULES)
# Only relays from 0.15 on have these.
NEW_TABLES = ("listen", "connect", "internal")
_TABLES = frozenset(
    "listen connect quic log runtime cluster auth web stats cache internal drain_timeout file".split()  # noqa: SIM905
)
_SERVER = "`url` of an auth server"
# The settings of relays before 0.15, which later ones refuse, and what replaces them.
OLD_MEMBERS = {
    "key": f"{_SERVER} (`moq-token serve --key`)",
    "key_dir": f"{_SERVER} (`moq-token serve --key-dir`)",
    "auth_api": f"{_SERVER} that answers POST",
    "domains": f"{_SERVER} that reads `server_name`",
    "mtls_tier": f"{_SERVER} (`moq-token serve --tier`)",
    "tls": "`[connect.tls]`",
}
OLD_VARIABLES = {
    **{f"MOQ_AUTH_{name}": OLD_MEMBERS[name.lower()] for name in ("KEY", "KEY_DIR", "MTLS_TIER")},
    "MOQ_AUTH_API": OLD_MEMBERS["auth_api"],
    "MOQ_AUTH_DOMAIN": OLD_MEMBERS["domains"],
    "MOQ_AUTH_PUBLIC_API": OLD_MEMBERS["auth_api"],
    **{f"MOQ_AUTH_TLS_{name}": OLD_MEMBERS["tls"] for name in ("ROOT", "CERT", "KEY", "DISABLE_VERIFY")},
}
OLD_TABLES = {"server": "`[listen]`", "client": "`[connect]`"}
_VARIABLES = {"MOQ_AUTH_URL": "url", **{f"MOQ_AUTH_{name.upper()}": name for name in RULES}}
_INTERNAL_VARIABLE = "MOQ_INTERNAL_LISTEN"
_MAX_UNKNOWN = 20
_NOTHING = Patterns()
_STRINGS = "write a string, or a list of strings"


class Settings(NamedTuple):
    """The settings that a relay from 0.15 on reads of a configuration, without the invalid ones.

    ``url`` may contain a password. ``internal_listen`` is the address of a listener without authentication.
    """

    url: str | None = None
    publish: Patterns = _NOTHING
    subscribe: Patterns = _NOTHING
    internal_listen: str | None = None

    def __repr__(self) -> str:
        return f"<Settings publish={self.publish} subscribe={self.subscribe}>"


def check_settings(document: Mapping[str, Any], environ: Mapping[str, str]) -> tuple[Settings, tuple[Finding, ...]]:
    """Check the tables of the TOML of a relay from 0.15 on, with the environment over them.

    A finding that is ``refused`` keeps the relay from starting; what is wrong is left out of the configuration. Files
    and addresses that it names are not looked at. Raises nothing.
    """
    reader = _Reader(_table(document, "auth"), environ)
    if not isinstance(document.get("auth", {}), dict):
        reader.refuse("bad-type", "`auth` must be a table", "write `[auth]`")
    reader.old_settings(document)
    url, rules = reader.url(), {name: reader.rule(name) for name in RULES}
    publish, subscribe = (rules["public"] + rules[name] for name in RULES[1:])
    public = publish or subscribe
    if reader.has_url and reader.has_rules:
        reader.refuse("both", "`url` and `public` are both set: the auth server decides", "remove one of them")
    elif not reader.has_url and not reader.has_rules:
        reader.refuse("nothing", "nothing is configured, so nobody could get in", "set `url`, or `public`, in `[auth]`")
    elif public and _table(_table(document, "listen"), "tls").get("root"):
        reader.refuse(
            "client-certificates",
            "`listen.tls.root` admits client certificates, which public rules ignore",
            "remove it, or set `url` in place of `public`",
        )
    internal = reader.internal(document)
    reader.unknown(document)
    try:
        config = Settings(url, Patterns(publish), Patterns(subscribe), internal)
    except InvalidPatternError as error:
        reader.refuse("too-many-patterns", f"`public`: {error}", "grant fewer patterns")
        config = Settings(url, internal_listen=internal)
    return config, tuple(reader.findings)


class _Reader:
    def __init__(self, auth: Mapping[str, Any], environ: Mapping[str, str]) -> None:
        self.auth = auth
        self.environ = environ
        self.findings: list[Finding] = []
        self.has_url = self.has_rules = False

    def refuse(self, code: str, message: str, fix: str = "") -> None:
        self.findings.append(Finding(code, Generation.SECOND, message, fix))

    def note(self, code: str, message: str, fix: str = "") -> None:
        self.findings.append(Finding(code, Generation.SECOND, message, fix, refused=False))

    def old_settings(self, document: Mapping[str, Any]) -> None:
        for setting, replacement in old_settings(document, self.environ):
            self.refuse("old-setting", f"{setting} is a setting of relays before 0.15", f"use {replacement}")

    def url(self) -> str | None:
        name, value = self._value("url")
        if value is None:
            return None
        self.has_url = True
        if not isinstance(value, str):
            self.refuse("bad-type", f"{name} must be a string", "write the URL of the auth server")
            return None
        problem = _problem_of_url(value)
        if problem is not None:
            fix = "use https://, unix:///path, or http:// to a loopback host (127.0.0.1, [::1], localhost)"
            self.refuse("bad-url", f"{name}: {problem}", fix)
            return None
        return value

    def rule(self, member: str) -> list[Pattern]:
        name, value = self._value(member)
        if value is None:
            return []
        if isinstance(value, dict):
            fix = "use `public_publish` and `public_subscribe`"
            self.refuse("bad-type", f"{name} must be a string or a list of strings, not a table", fix)
            self.has_rules = True
            return []
        texts = [value] if isinstance(value, str) else value
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            self.refuse("bad-type", f"{name} must be a string or a list of strings", _STRINGS)
            self.has_rules = True
            return []
        if name in self.environ:
            texts = [part for text in texts for part in text.split(",")]
        self.has_rules |= bool(texts)
        return [pattern for text in texts if (pattern := self._pattern(name, text)) is not None]

    def _pattern(self, name: str, text: str) -> Pattern | None:
        if "," in text and "*" in text:
            fix = "write a list, with one pattern in each string; only the variable and the flag are split at commas"
            self.refuse("comma-list", f"{name} has a comma in {shown(text)}", fix)
            return None
        try:
            pattern = Pattern(text)
        except InvalidPatternError as error:
            self.refuse("bad-pattern", f"{name}: {error}", "write a pattern such as `anon/**`")
            return None
        if pattern.is_literal and len(pattern.head) < MAX_SEGMENTS:
            subtree = f"{text}/**" if text else "**"
            what = f"{name}: {shown(text)} has no wildcard, so it names one broadcast"
            self.refuse("no-wildcard", what, f"write {shown(subtree)} for the subtree")
            return None
        return pattern

    def internal(self, document: Mapping[str, Any]) -> str | None:
        table = document.get("internal", {})
        if not isinstance(table, dict):
            self.refuse("bad-type", "`internal` must be a table", "write `[internal]`")
            return None
        for name in [name for name in table if name != "listen"][:_MAX_UNKNOWN]:
            self.refuse("unknown-member", f"unknown member `internal.{_name(name)}`", "write `listen`, or remove it")
        name, value = "`internal.listen`", table.get("listen")
        if _INTERNAL_VARIABLE in self.environ:
            name, value = _INTERNAL_VARIABLE, self.environ[_INTERNAL_VARIABLE]
        if value is None:
            return None
        host = _host_of_socket(value) if isinstance(value, str) else None
        if host is None:
            self.refuse(
                "bad-address", f"{name} must be a socket address", "write an IP address, such as 127.0.0.1:4441"
            )
            return None
        if not host.is_loopback:
            fix = "use a loopback address, such as 127.0.0.1:4441"
            self.note("open-listener", f"{name} is open to the network, and has no authentication", fix)
        return str(value)

    def unknown(self, document: Mapping[str, Any]) -> None:
        for name in [name for name in self.auth if name not in MEMBERS and name not in OLD_MEMBERS][:_MAX_UNKNOWN]:
            close = difflib.get_close_matches(str(name)[:64].replace("-", "_"), MEMBERS, 1)
            fix = f"did you mean `{close[0]}`?" if close else f"known are {', '.join(f'`{each}`' for each in MEMBERS)}"
            self.note("unknown-member", f"`auth.{_name(name)}` is unknown, and silently ignored", fix)
        for name in sorted(self.environ):
            if name.startswith("MOQ_AUTH_") and name not in _VARIABLES and name not in OLD_VARIABLES:
                self.note("unknown-member", f"{_name(name)} is unknown, and silently ignored", "remove it")
        for name in [name for name in document if name not in _TABLES and name not in OLD_TABLES][:_MAX_UNKNOWN]:
            self.note("unknown-table", f"`{_name(name)}` is unknown, and relay 0.17 refuses it", "remove it")

    def _value(self, member: str) -> tuple[str, Any]:
        for variable, name in _VARIABLES.items():
            if name == member and variable in self.environ:
                return variable, self.environ[variable]
        return f"`auth.{member}`", self.auth.get(member)


def old_settings(document: Mapping[str, Any], environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield the settings of relays before 0.15 that a configuration has, each with what replaces it."""
    auth = _table(document, "auth")
    for name, replacement in OLD_MEMBERS.items():
        if name in auth:
            yield f"`auth.{name}`", replacement
    for name, replacement in OLD_VARIABLES.items():
        if name in environ:
            yield name, replacement
    for name, replacement in OLD_TABLES.items():
        if name in document:
            yield f"`[{name}]`", replacement


def _problem_of_url(text: str) -> str | None:
    """Return why a relay does not start with this URL of an auth server, without its user, password and query."""
    try:
        parts = urlsplit(text.strip())
        host, _ = parts.hostname, parts.port  # reading the port checks it
    except ValueError:
        return "this is not a valid URL"
    if parts.scheme == "unix":
        return "expected an absolute path, unix:///path" if parts.netloc or not parts.path.startswith("/") else None
    if parts.scheme not in {"http", "https"}:
        return f"unsupported scheme {shown(parts.scheme)}" if parts.scheme else "this is not a URL"
    if not host:
        return "the URL has no host"
    if parts.scheme == "http" and not is_loopback(host):
        return f"http:// to {shown(host)}, which is not a loopback host"
    return None


def _host_of_socket(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    host, colon, port = text.rpartition(":")
    if not (colon and port.isascii() and port.isdigit() and int(port[:6]) < 1 << 16):
        return None
    try:
        if host.startswith("[") and host.endswith("]"):
            return ipaddress.IPv6Address(host[1:-1])
        return ipaddress.IPv4Address(host)
    except ValueError:
        return None


def _table(document: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = document.get(name, {})
    return value if isinstance(value, dict) else {}


def _name(name: object) -> str:
    return shown(str(name))[1:-1]
