"""Issue credentials: tokens that always expire and name their bearer, in URLs that are ready to dial."""

from __future__ import annotations

import os
import re
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Literal

from moq_token import path as paths
from moq_token.claims import Claims
from moq_token.encoding import b64encode
from moq_token.errors import ConfigError, InvalidClaimsError, KeyOperationError, sealed, shown
from moq_token.issuing.credential import Credential
from moq_token.issuing.signing import SigningKeys
from moq_token.jwk import KeyOperation
from moq_token.key import Key
from moq_token.keyset import KeySet
from moq_token.times import END_OF_9999, parse_duration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from moq_token.pattern import Pattern

MAX_SUBJECT_CHARACTERS = 256
"""The longest subject, as long as ids of users are. It is part of every token, and of every record about it."""

_ID_BYTES = 16
_MAX_RELAY_CHARACTERS = 2048
# The authority is a host, an address of IPv4, or one of IPv6 in brackets, and a port.
_RELAY = re.compile(
    r"(?P<scheme>[a-z]+)://(?P<host>\[[0-9a-f:.]+\]|[a-z0-9_](?:[a-z0-9._-]*[a-z0-9_.])?)(?::(?P<port>\d{1,5}))?"
    r"(?P<path>/(?:[a-z0-9._~!$&'()+,;=:@/-]|%[0-9a-f]{2})*)?",
    re.ASCII | re.IGNORECASE,
)
_MAX_PORT = 0xFFFF
_DOTS = frozenset((".", ".."))
_LOOPBACK = re.compile(r"localhost|\[::1\]|127(?:\.\d{1,3}){3}", re.ASCII)
_ENCRYPTED, _PLAIN = frozenset(("https", "moqt", "wss")), frozenset(("http", "ws"))
# What a path of a URL may contain literally (RFC 3986, section 3.3), so that no client and no relay changes it.
_LITERAL = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~!$&'()+,;=:@/")


class Issuer:
    """Issue credentials for the clients of a relay.

    >>> from moq_token import Key
    >>> issuer = Issuer(Key.generate("EdDSA"), relay="https://relay.example.com")
    >>> credential = issuer.grant(
    ...     "rooms/123", publish="alice", subscribe="", subject="alice"
    ... )
    >>> credential.server_url
    'https://relay.example.com/rooms/123'
    >>> credential.expires_in
    3600

    Create one object when the program starts, and keep it. It is safe to use from many threads.

    Parameters
    ----------
    keys
        What signs: ``SigningKeys``, a ``Key``, a ``KeySet`` (its first key that can sign), or the path
        of a file or directory for ``SigningKeys``.
    relay
        The URL that clients dial, without user, query and fragment: ``https://``, ``wss://`` or ``moqt://``, or
        ``http://`` to this machine. If it has a path, such as a project at a hosted relay, all granted paths are below
        it, in the URLs and in the tokens.
    lifetime
        How long a credential is valid: seconds, a ``timedelta`` or a text such as ``"15m"``.
    max_lifetime
        The longest lifetime that ``grant()`` and ``issue()`` accept.
    style
        Where the URL has the token: ``"query"`` is ``https://relay/rooms/123?jwt=TOKEN``, which moq-relay reads.
        ``"path"`` is ``https://relay/TOKEN``, for relays that take the token as the path and the room from its root.
    clock
        Returns the time in Unix seconds.

    Raises ``ConfigError`` for an invalid relay, style or lifetime and for a URL as ``keys``, ``KeyOperationError`` for
    a key or key set that cannot sign, and for a path what ``SigningKeys`` raises.

    """

    __slots__ = ("_base", "_by_path", "_clock", "_keys", "_lifetime", "_max_lifetime", "_prefix")

    @sealed
    def __init__(
        self,
        keys: SigningKeys | Key | KeySet | str | Path,
        relay: str,
        lifetime: float | str | timedelta = "1h",
        max_lifetime: float | str | timedelta = "24h",
        *,
        style: Literal["query", "path"] = "query",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._keys = _signer(keys)
        self._base, self._prefix = _relay(relay)
        self._max_lifetime = _seconds("max_lifetime", max_lifetime, ConfigError)
        self._lifetime = _seconds("lifetime", lifetime, ConfigError)
        if self._lifetime > self._max_lifetime:
            raise ConfigError(
                f"`lifetime` is {self._lifetime} s, longer than `max_lifetime`, {self._max_lifetime} s: change one"
            )
        if style not in ("query", "path"):
            raise ConfigError('`style` must be "query" or "path"')
        self._by_path = style == "path"
        self._clock = clock

    @sealed
    def grant(
        self,
        path: str,
        publish: str | Pattern | Iterable[str | Pattern] = (),
        subscribe: str | Pattern | Iterable[str | Pattern] = (),
        *,
        subject: str,
        lifetime: float | str | timedelta | None = None,
    ) -> Credential:
        """Issue a credential for one client at a path.

        Parameters
        ----------
        path
            The path to dial, such as ``"rooms/123"``, as plain text: characters that a URL cannot have are encoded, in
            the URL and in the token alike. It has no wildcards.
        publish, subscribe
            What is granted in each role, relative to the path, so never with the path itself in front: ``"alice"`` is
            the broadcast ``alice`` and all below it, ``""`` is everything. A text with ``*`` or a ``Pattern`` is a
            pattern, which relays read from 0.15 on.
        subject
            Whom the token is for: the id of the user, 1 to 256 characters. Logs, limits and bans refer to it.
        lifetime
            How long it is valid, at most ``max_lifetime``; None is the default of the issuer.

        Raises ``InvalidClaimsError`` for an invalid path or subject, a lifetime above ``max_lifetime``, where
        nothing is granted, and where the grant exceeds the scope of the key; ``InvalidPatternError`` for an
        invalid pattern; ``UnavailableError`` where ``SigningKeys`` cannot read its keys. Whether the user may
        enter the room is not checked: do that first.

        """
        if not isinstance(path, str):
            raise TypeError(f"`path` must be a str, not {type(path).__name__}")
        if "://" in path:
            raise InvalidClaimsError("`path` is a URL: pass the path alone, such as rooms/123")
        seconds = self._lifetime if lifetime is None else _seconds("lifetime", lifetime, InvalidClaimsError)
        issued = int(self._clock())
        return self._issue(Claims(path, publish, subscribe, subject=subject, expires=issued + seconds), issued)

    @sealed
    def issue(self, claims: Claims) -> Credential:
        """Issue a credential for claims, whose root is the path to dial.

        The subject must be set. ``expires`` and ``id`` are set where they are missing, ``issued`` always. Raises as
        ``grant()`` does, and ``InvalidClaimsError`` for claims that have expired.
        """
        if not isinstance(claims, Claims):
            raise TypeError(f"expected Claims to issue, not {type(claims).__name__}")
        return self._issue(claims, int(self._clock()))

    def _issue(self, claims: Claims, issued: int) -> Credential:
        expires = issued + self._lifetime if claims.expires is None else claims.expires
        if expires <= issued:
            raise InvalidClaimsError("the credential would be expired already: check `expires` and the clock")
        if expires - issued > self._max_lifetime:
            raise InvalidClaimsError(
                f"a lifetime of {expires - issued} s is above the maximum: ask for at most {self._max_lifetime} s, or "
                "raise `max_lifetime`"
            )
        subject, identity = claims.subject, claims.id or b64encode(os.urandom(_ID_BYTES)).decode()
        if subject is None or not 0 < len(subject) <= MAX_SUBJECT_CHARACTERS:
            raise InvalidClaimsError(
                f"`subject` is required: the id of the user, with 1 to {MAX_SUBJECT_CHARACTERS} characters"
            )
        path = paths.join(self._prefix, encoded_path(claims.root))
        claims = claims.with_root(path).with_expires(expires).with_issued(issued).with_id(identity)
        token = self._keys.sign(claims)
        server_url = f"{self._base}/{self._prefix if self._by_path else path}"
        return Credential(
            url=f"{server_url.rstrip('/')}/{token}" if self._by_path else f"{server_url}?jwt={token}",
            token=token,
            server_url=server_url,
            expires=expires,
            expires_in=expires - issued,
            subject=subject,
            id=identity,
        )

    def __repr__(self) -> str:
        return f"<Issuer {self._base}/{self._prefix} lifetime={self._lifetime} keys={self._keys!r}>"


def encoded_path(path: str) -> str:
    """Return a path as a URL has it: normalized and percent-encoded. Different paths stay different.

    Relays compare the path as it was dialed, without decoding it, so that the root of a token must have the same form.
    Raises ``InvalidClaimsError`` for ``.`` and ``..``, which a client would resolve, and for a wildcard.
    """
    path = paths.normalize(path)
    if "*" in path:
        raise InvalidClaimsError(f"the path {shown(path)} has a `*`: grant patterns with publish and subscribe")
    if any(segment in _DOTS for segment in path.split("/")):
        raise InvalidClaimsError(f"the path {shown(path)} has the segment `.` or `..`, which a client would resolve")
    if _LITERAL.issuperset(path):
        return path
    return "".join(
        character if character in _LITERAL else "".join(f"%{byte:02X}" for byte in character.encode())
        for character in path
    )


def _relay(url: str) -> tuple[str, str]:
    """Return the origin and the path of the URL of a relay. No error quotes it, because it may hold a password."""
    if not isinstance(url, str):
        raise TypeError(f"`relay` must be a str, not {type(url).__name__}")
    if len(url) > _MAX_RELAY_CHARACTERS:
        raise ConfigError(f"`relay`: the URL is longer than {_MAX_RELAY_CHARACTERS} characters")
    authority = url.partition("://")[2].partition("/")[0]
    for found, what in (("@" in authority, "user or password"), ("?" in url, "query"), ("#" in url, "fragment")):
        if found:
            raise ConfigError(f"`relay`: the URL must have no {what}: expected https://HOST")
    match = _RELAY.fullmatch(url)
    if match is None or int(match["port"] or 0) > _MAX_PORT:
        raise ConfigError("`relay`: invalid URL: expected https://HOST, such as https://relay.example.com")
    scheme, host = match["scheme"].lower(), match["host"].lower()
    if scheme not in _ENCRYPTED | _PLAIN:
        raise ConfigError(f"`relay`: unsupported scheme {shown(scheme)}: expected https, wss or moqt")
    if scheme in _PLAIN and not _LOOPBACK.fullmatch(host):
        raise ConfigError(f"`relay`: use https:// ({scheme}:// sends tokens unencrypted, so it is for localhost only)")
    port = f":{match['port']}" if match["port"] else ""
    prefix = paths.normalize(match["path"] or "")
    if any(segment.lower().replace("%2e", ".") in _DOTS for segment in prefix.split("/")):
        raise ConfigError("`relay`: the URL has the segment `.` or `..`, which a client would resolve")
    return f"{scheme}://{host}{port}", prefix


def _seconds(name: str, value: object, error: type[ConfigError | InvalidClaimsError]) -> int:
    if isinstance(value, str):
        seconds: float | None = parse_duration(value)
    elif isinstance(value, timedelta):
        seconds = value.total_seconds()
    elif isinstance(value, int | float) and not isinstance(value, bool):
        seconds = value
    else:
        raise TypeError(f"`{name}` must be seconds, a timedelta or a text such as '1h', not {type(value).__name__}")
    if seconds is None:
        raise error(
            f"`{name}`: invalid duration: expected a number of seconds, or a text with units such as 90s, 1h30m"
        )
    if not 1 <= seconds < END_OF_9999:
        raise error(f"`{name}` must be at least 1 s, and end before the year 10000")
    return int(seconds)


def _signer(keys: object) -> SigningKeys | Key | KeySet:
    if isinstance(keys, Key):
        if not keys.is_private:
            raise KeyOperationError("a public key cannot sign: pass the private key")
        if KeyOperation.SIGN not in keys.operations:
            raise KeyOperationError("the `key_ops` of the key do not include `sign`")
        return keys
    if isinstance(keys, KeySet):
        if keys.find_supported_key(KeyOperation.SIGN) is None:
            raise KeyOperationError("no key in the set can sign")
        return keys
    if isinstance(keys, SigningKeys):
        return keys
    if isinstance(keys, str | os.PathLike):
        path = os.fspath(keys)
        if "://" in path:
            raise ConfigError("`keys`: expected a path or a key, got a URL. The order is Issuer(keys, relay)")
        return SigningKeys(path)
    raise TypeError(f"`keys` must be SigningKeys, a Key, a KeySet or a path, not {type(keys).__name__}")
