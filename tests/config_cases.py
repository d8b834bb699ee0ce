"""Configurations for relays from 0.15 on, with the codes of errors and notes."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping


class Case(NamedTuple):
    """A TOML without the settings that every relay needs. ``differs`` says why the real relay gives another answer."""

    name: str
    toml: str
    refused: tuple[str, ...] = ()
    noted: tuple[str, ...] = ()
    environ: Mapping[str, str] = MappingProxyType({})
    differs: str = ""


def _auth(name: str, *lines: str, refused: str = "", noted: str = "", differs: str = "", **environ: str) -> Case:
    toml = "\n".join(("[auth]", *lines))
    return Case(name, toml, tuple(refused.split()), tuple(noted.split()), environ, differs)


DEEP = "/".join("a" * 32)

CASES = [
    _auth("public pattern", 'public = "anon/**"'),
    _auth("everything is public", 'public = ["**"]'),
    _auth("one role", 'public_subscribe = ["anon/*"]'),
    _auth("both roles apart", 'public_subscribe = "**"', 'public_publish = ["a/**", "cam*/hd"]'),
    _auth("a literal of 32 segments", f'public = "{DEEP}"'),
    _auth("no wildcard", 'public = "anon"', refused="no-wildcard"),
    _auth("no wildcard in one role", 'public_publish = ["a/**", "anon"]', refused="no-wildcard"),
    _auth("the empty pattern", 'public = ""', refused="no-wildcard"),
    _auth("an outer slash", 'public = "/anon/**"', refused="bad-pattern"),
    _auth("a bad segment", 'public = ["a*b*c/**"]', refused="bad-pattern"),
    _auth("a comma", 'public = "a/**,b/**"', refused="comma-list"),
    _auth("a comma in a list", 'public = ["a/**,b/**"]', refused="comma-list"),
    _auth("a number", "public = 1", refused="bad-type"),
    _auth("a list of numbers", "public = [1]", refused="bad-type"),
    Case("public as a table", '[auth.public]\nsubscribe = "a/**"', ("bad-type",)),
    _auth("https", 'url = "https://auth.example.com/"'),
    _auth("HTTPS", 'url = "HTTPS://auth.example.com/"'),
    _auth("http to localhost", 'url = "http://localhost:4440/"'),
    _auth("http to LOCALHOST", 'url = "http://LOCALHOST:4440/"'),
    _auth("http to 127.0.0.0/8", 'url = "http://127.9.9.9/"'),
    _auth("http to ::1", 'url = "http://[::1]:1/"'),
    _auth("unix", 'url = "unix:///run/auth.sock"'),
    _auth("unix with one slash", 'url = "unix:/run/auth.sock"'),
    _auth("unix with a host", 'url = "unix://run/auth.sock"', refused="bad-url"),
    _auth("unix without a path", 'url = "unix://"', refused="bad-url"),
    _auth("http elsewhere", 'url = "http://192.0.2.1/"', refused="bad-url"),
    _auth("http with secrets", 'url = "http://me:hunter2@192.0.2.1/x?token=hunter2"', refused="bad-url"),
    _auth("http to localhost.", 'url = "http://localhost./"', refused="bad-url"),
    _auth("http to a mapped address", 'url = "http://[::ffff:127.0.0.1]/"', refused="bad-url"),
    _auth("a port that is too large", 'url = "http://localhost:99999/"', refused="bad-url"),
    _auth("no host", 'url = "https://"', refused="bad-url"),
    _auth("another scheme", 'url = "ftp://localhost/"', refused="bad-url"),
    _auth("no URL", 'url = "localhost:4440"', refused="bad-url"),
    _auth("an empty URL", 'url = ""', refused="bad-url"),
    _auth("a URL that is a number", "url = 1", refused="bad-type"),
    _auth("both", 'url = "http://localhost:4440/"', 'public = "a/**"', refused="both"),
    _auth("url and an empty list", 'url = "http://localhost:4440/"', "public = []"),
    _auth("nothing", refused="nothing"),
    _auth("an empty list", "public = []", refused="nothing"),
    _auth("an unknown member", 'public = "a/**"', "zzz = 1", noted="unknown-member"),
    _auth("only an unknown member", "zzz = 1", refused="nothing", noted="unknown-member"),
    _auth("key", 'url = "http://localhost:4440/"', 'key = "k.jwk"', refused="old-setting"),
    _auth("an empty key", 'public = "a/**"', 'key = ""', refused="old-setting"),
    _auth("key_dir", 'public = "a/**"', 'key_dir = "keys"', refused="old-setting"),
    _auth("auth_api", 'public = "a/**"', 'auth_api = "http://localhost/"', refused="old-setting"),
    _auth("domains", 'public = "a/**"', "domains = []", refused="old-setting"),
    _auth("mtls_tier", 'public = "a/**"', 'mtls_tier = "gold"', refused="old-setting"),
    Case("auth.tls", '[auth]\npublic = "a/**"\n[auth.tls]\n', ("old-setting",)),
    Case("server", '[auth]\npublic = "a/**"\n[server]\nbind = "127.0.0.1:0"', ("old-setting",)),
    Case("client", '[auth]\npublic = "a/**"\n[client]\nbind = "127.0.0.1:0"', ("old-setting",)),
    Case("internal", '[auth]\npublic = "a/**"\n[internal]\nlisten = "127.0.0.1:0"'),
    Case("open internal", '[auth]\npublic = "a/**"\n[internal]\nlisten = "0.0.0.0:0"', (), ("open-listener",)),
    Case("internal on a name", '[auth]\npublic = "a/**"\n[internal]\nlisten = "localhost:0"', ("bad-address",)),
    Case("internal on a socket", '[auth]\npublic = "a/**"\n[internal]\nlisten = "unix:/x"', ("bad-address",)),
    Case("internal on a number", '[auth]\npublic = "a/**"\n[internal]\nlisten = 1', ("bad-address",)),
    Case("unknown in internal", '[auth]\npublic = "a/**"\n[internal]\nzzz = 1', ("unknown-member",)),
    Case(
        "an unknown table",
        '[auth]\npublic = "a/**"\n[zzz]\na = 1',
        (),
        ("unknown-table",),
        differs="relay 0.17 refuses it; another may know it",
    ),
    _auth("a list in the variable", refused="", MOQ_AUTH_PUBLIC="a/**,b/**"),
    _auth("the variable overrides", 'public = "a"', MOQ_AUTH_PUBLIC="a/**"),
    _auth("no wildcard in the variable", MOQ_AUTH_PUBLIC="a", refused="no-wildcard"),
    _auth("an empty variable", MOQ_AUTH_PUBLIC="", refused="no-wildcard"),
    _auth("url in the variable", MOQ_AUTH_URL="http://localhost:4440/"),
    _auth("an empty url in the variable", 'public = "a/**"', MOQ_AUTH_URL="", refused="bad-url both"),
    _auth("both with the variable", 'url = "http://localhost:1/"', MOQ_AUTH_PUBLIC="a/**", refused="both"),
    _auth("an old variable", 'public = "a/**"', MOQ_AUTH_KEY="x", refused="old-setting"),
    _auth("an empty old variable", 'public = "a/**"', MOQ_AUTH_KEY="", refused="old-setting"),
    _auth("public api in the variable", 'public = "a/**"', MOQ_AUTH_PUBLIC_API="x", refused="old-setting"),
    _auth("tls in the variable", 'public = "a/**"', MOQ_AUTH_TLS_ROOT="x", refused="old-setting"),
    _auth("an unknown variable", 'public = "a/**"', MOQ_AUTH_ZZZ="x", noted="unknown-member"),
    _auth("internal in the variable", 'public = "a/**"', MOQ_INTERNAL_LISTEN="x", refused="bad-address"),
]
