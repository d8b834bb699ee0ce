"""What a relay ignores or accepts silently in a configuration, and what to write instead."""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from moq_token import path as paths
from moq_token.errors import shown
from moq_token.recognizer import what_is_secret

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from moq_token.auth.config import AuthConfig

WEB = ("http://", "https://")
AUTH_MEMBERS = ("key", "key_dir", "public", "domains", "auth_api", "mtls_tier", "tls")
PUBLIC_MEMBERS = ("subscribe", "publish", "api")

# The number of unknown members of a table that get advice: finding a similar name takes time.
MAX_HINTS = 100

_SET = "a relay does not read JWK Sets: put each key into a directory as {kid}.jwk, and write `key_dir`"
_SECRET = "make a key of the secret with `moq-token import`, and write the name of its file as `key`"  # noqa: S105
_KEY = "convert the key with `moq-token import`, and write the name of its file as `key`"
_UNCHECKED = "a relay does not check it: remove it"
_PUBLIC = "write `public`, with the prefixes that need no token"
_NEWER = "it is for relays from 0.15 on, which refuse all the settings of 0.14: use one form or the other"
_API = "write `auth_api`"
# Settings of other versions and of other software, and what to write instead.
_FOREIGN = {
    **dict.fromkeys(("jwk_set", "jwks", "jwks_file", "jwks_uri", "jwks_url", "key_set", "keyset"), _SET),
    **dict.fromkeys(("hmac_secret", "jwt_secret", "password", "secret", "secret_key", "shared_secret"), _SECRET),
    **dict.fromkeys(("jwt_key", "key_file", "key_path", "keyfile", "pem", "public_key", "verify_key"), _KEY),
    **dict.fromkeys(("keys", "keys_dir", "key_directory", "keydir"), "write `key_dir`"),
    **dict.fromkeys(("api", "api_url", "auth_server", "callback", "endpoint", "http_auth", "webhook"), _API),
    **dict.fromkeys(("auth_url", "public_publish", "public_subscribe", "url"), _NEWER),
    **dict.fromkeys(("aud", "audience", "client_id", "iss", "issuer", "leeway", "required_claims"), _UNCHECKED),
    **dict.fromkeys(("alg", "algorithm", "algorithms"), "the key decides the algorithm: remove it"),
    **dict.fromkeys(("allow_anonymous", "anon", "anonymous", "guest", "path", "prefix", "root"), _PUBLIC),
    "domain": "write `domains`",
    "tier": "write `mtls_tier`",
}
_FOREIGN_TABLES = frozenset(
    ("authentication", "authorization", "authn", "authz", "jwt", "moq_auth", "security", "token")
)
_NEWER_VARIABLE = "MOQ_AUTH_URL"
_DOMAIN = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*")
_LOOPBACK = frozenset(("localhost", "127.0.0.1", "::1"))


def unknown(prefix: str, table: Iterable[str], members: tuple[str, ...]) -> list[str]:
    """Name the members of a table that a relay does not know."""
    found: list[str] = []
    for name in table:
        if name not in members:
            hint = _hint(str(name), members, foreign=prefix == "auth.") if len(found) < MAX_HINTS else ""
            found.append(f"`{prefix}{_name(name)}` is unknown and ignored{hint}")
    return found


def outside(document: Mapping[str, Any]) -> list[str]:
    """Name settings that belong in ``[auth]`` but are in another table."""
    found = []
    for name, value in document.items():
        if name in _FOREIGN_TABLES and isinstance(value, dict):
            found.append(f"the table `[{name}]` is ignored: write `[auth]`")
        elif not isinstance(value, dict) and (name in AUTH_MEMBERS or str(name).replace("-", "_") in _FOREIGN):
            hint = _hint(name, AUTH_MEMBERS, foreign=True) if name not in AUTH_MEMBERS else ""
            found.append(f"`{_name(name)}` is outside `[auth]` and ignored: move it there{hint.replace(':', ';', 1)}")
    return found


def unknown_variables(environ: Iterable[str], known: tuple[str, ...]) -> list[str]:
    """Name variables of the environment that look like settings of a relay but are not."""
    return [
        f"{_name(name)} is unknown and ignored{_hint(name, known, foreign=name == _NEWER_VARIABLE)}"
        for name in environ
        if name.startswith("MOQ_AUTH_") and name not in known
    ]


def traps(config: AuthConfig) -> list[str]:
    """Name values that a relay accepts but that are likely mistakes."""
    found = []
    for prefix in dict.fromkeys((*config.public.subscribe, *config.public.publish)):
        if prefix.lower().startswith(WEB):
            found.append("a URL among the public prefixes is taken for a prefix: write it as `auth.public.api`")
        elif "*" in paths.normalize(prefix).split("/") or "**" in prefix:
            found.append(
                f"the public prefix {shown(prefix)} is not a pattern: `*` stands for itself, and a prefix covers "
                "everything beneath it"
            )
    found += [
        f"the suffix {shown(domain)} of `domains` matches no host: write it as example.com"
        for domain in config.domains
        if not _DOMAIN.fullmatch(domain)
    ]
    if config.tls.disable_verify:
        found.append("`disable_verify` lets anybody on the network answer instead of the key server: use `root`")
    if any(url.lower().startswith("http://") and urlsplit(url).hostname not in _LOOPBACK for url in config.urls):
        found.append("plain http lets anybody on the network answer instead of the key server: use https")
    if config.public.api is not None and urlsplit(config.public.api).query:
        found.append("the query of `auth.public.api` is dropped where a path is appended to it")
    return found


def is_web_url(text: str) -> bool:
    """Whether this is a URL of http or https with a host, and a port that is missing or valid."""
    try:
        parts = urlsplit(text)
        good = bool(parts.hostname) and parts.port != 0  # reading the port checks it
    except ValueError:
        return False
    return good and text.isascii() and text.isprintable() and " " not in text and text.lower().startswith(WEB)


def _name(name: object) -> str:
    text = str(name)
    return "…" if what_is_secret(text) else shown(text)[1:-1]


def _hint(name: str, known: tuple[str, ...], *, foreign: bool) -> str:
    plain = name.replace("-", "_")
    if foreign and name == _NEWER_VARIABLE:
        return f": {_NEWER}"
    if foreign and plain.lower() in _FOREIGN:
        return f": {_FOREIGN[plain.lower()]}"
    # The time that this takes grows with the length of the name.
    close = difflib.get_close_matches(plain[:64], known, 1)
    return f"; did you mean `{close[0]}`?" if close else ""
