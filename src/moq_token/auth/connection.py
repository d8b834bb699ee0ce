"""A connection as the relay sees it before anyone has judged it: the dialed path, the token, how it came."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, NoReturn, Self
from urllib.parse import parse_qsl, quote, unquote

from moq_token import jws
from moq_token.errors import NotAdmittedError, sealed, shown

if TYPE_CHECKING:
    from collections.abc import Iterable

# Room for the longest token and for a path as long again.
MAX_URL_CHARACTERS = 2 * jws.MAX_TOKEN_BYTES

# Schemes whose transport carries the whole URL to the relay. Of the others only path and query arrive, in the SETUP
# message, so that no host is there to be matched with a domain.
_WEB_SCHEMES = frozenset(("http", "https", "ws", "wss"))
_SETUP_SCHEMES = frozenset(("moqt", "moql", "tcp", "iroh"))

# A URL as browsers and the relay read it (the WHATWG URL Standard): outer controls and spaces do not count, nor do tabs
# and line breaks anywhere, and what a path may not hold is percent-encoded, while what is encoded stays so.
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(.*)", re.DOTALL)
_OUTER = "".join(map(chr, range(0x21)))
_DROPPED = str.maketrans("", "", "\t\n\r")
PATH_CHARACTERS = "".join(character for character in map(chr, range(0x21, 0x7F)) if character not in '"#<>?`{}')
_HOST = re.compile(r"\[[0-9A-Fa-f:.]+\]|[^\x00-\x20#%/:<>?@\[\\\]^|\x7F]+")
_PORT, _MAX_PORT = re.compile(r"[0-9]{0,5}"), 0xFFFF


class Transport(StrEnum):
    """How a client is connected, by the names that ``auth_api`` is told."""

    QUIC = "quic"
    WEBSOCKET = "websocket"
    TCP = "tcp"
    UNIX = "unix"
    IROH = "iroh"


@dataclass(frozen=True, slots=True)
class Certificate:
    """A client certificate that the TLS layer has verified; ``expires`` is its ``notAfter`` in Unix seconds."""

    expires: int | None = None


@dataclass(frozen=True, slots=True)
class Connection:
    """What a client dialed: ``path`` as it stands in the URL (percent-encoding kept), ``token``, and how it came.

    An empty path is ``/``, an empty token none. ``certificate`` is for servers that verify those of clients: such a
    connection is admitted by it, and its token does not count. The token never shows in the repr.
    """

    path: str
    token: str | None = field(default=None, repr=False)
    transport: Transport | None = None
    certificate: Certificate | None = None

    def __post_init__(self) -> None:
        if len(self.path) > MAX_URL_CHARACTERS or not _is_unicode(self.path):
            raise _bad_url("the dialed path is too long, or no valid Unicode")
        object.__setattr__(self, "path", self.path or "/")
        object.__setattr__(self, "token", self.token or None)
        if self.transport is not None:
            object.__setattr__(self, "transport", Transport(self.transport))

    @classmethod
    @sealed
    def from_url(
        cls,
        url: str,
        domains: Iterable[str] = (),
        *,
        transport: Transport | None = None,
        certificate: Certificate | None = None,
    ) -> Self:
        """Take the URL apart that a client dialed.

        The token is the last ``jwt`` of the query that is not empty. A host of labels before one of ``domains`` (the
        longest that fits, in any case) puts these labels, last one first, in front of the path. That holds for
        ``http``, ``https``, ``ws`` and ``wss``: of other URLs (``moqt``, ``moql``, ``tcp``, ``iroh``) no host reaches a
        relay.
        Raises :class:`NotAdmittedError` (``bad-url``) for what is no URL of these.
        """
        if len(url) > MAX_URL_CHARACTERS or not _is_unicode(url):
            raise _bad_url("the dialed URL is too long, or no valid Unicode")
        split = _SCHEME.fullmatch(url.strip(_OUTER).translate(_DROPPED))
        if split is None:
            raise _bad_url("what was dialed is no URL")
        scheme, rest = split[1].lower(), split[2]
        if scheme not in _WEB_SCHEMES | _SETUP_SCHEMES:
            raise _bad_url(f"nobody dials a relay by the scheme {shown(scheme)}")

        rest, _, query = rest.partition("#")[0].partition("?")
        if scheme in _WEB_SCHEMES:
            rest = rest.replace("\\", "/").lstrip("/")
        elif rest.startswith("//"):
            rest = rest[2:]
        else:
            raise _bad_url("the dialed URL has no host")
        authority, slash, path = rest.partition("/")
        path = _path(slash + path)
        if scheme in _WEB_SCHEMES:
            path = _labels(_host(authority), domains) + path
        return cls(path, _jwt(query), transport, certificate)

    @classmethod
    @sealed
    def from_path_query(
        cls,
        path: str,
        query: str | None = None,
        *,
        transport: Transport | None = None,
        certificate: Certificate | None = None,
    ) -> Self:
        """Take what a client sent in its SETUP message: the path, which counts as it stands, and the query.

        A path that still has its query, ``/rooms?jwt=…``, is split. The token is found as in :meth:`from_url`. Raises
        :class:`NotAdmittedError` (``bad-url``) for an overlong path or query.
        """
        path, _, own_query = path.partition("?")
        query = own_query if query is None else query
        if len(query) > MAX_URL_CHARACTERS:
            raise _bad_url("the query that was sent is too long")
        return cls(path, _jwt(query), transport, certificate)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a connection is not pickled, lest its token end in a cache or a queue")


def _bad_url(message: str) -> NotAdmittedError:
    return NotAdmittedError(message, reason="bad-url")


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _host(authority: str) -> str:
    host = authority.rpartition("@")[2]
    if not host.startswith("["):
        host, _, port = host.partition(":")
    else:
        literal, bracket, port = host.partition("]")
        host, port = literal + bracket, port.removeprefix(":")
    host = unquote(host)
    try:
        host = (host if host.isascii() else host.encode("idna").decode()).lower()
    except UnicodeError:
        host = ""
    if not _HOST.fullmatch(host) or not _PORT.fullmatch(port) or int(port or 0) > _MAX_PORT:
        raise _bad_url("the host or port of the dialed URL is none")
    return host


def _path(text: str) -> str:
    kept: list[str] = []
    segments = text.split("/")[1:]
    for index, segment in enumerate(segments, 1):
        dots = dots_in(segment)
        if not dots:
            kept.append(segment)
            continue
        if dots == "..":
            del kept[-1:]
        if index == len(segments):
            kept.append("")
    return quote("/" + "/".join(kept), safe=PATH_CHARACTERS)


def dots_in(segment: str) -> str:
    """Return ``.`` or ``..`` where that is what a segment of a URL's path stands for, else nothing."""
    plain = segment.lower().replace("%2e", ".")
    return plain if plain in {".", ".."} else ""


def _labels(host: str, domains: Iterable[str]) -> str:
    """Return the path that a host adds under the longest suffix that it ends with."""
    if isinstance(domains, str):
        domains = (domains,)
    fitting = [suffix for suffix in map(canonical_domain, domains) if f".{host}".endswith(f".{suffix}")]
    if not fitting:
        return ""
    labels = host[: -len(max(fitting, key=len))].strip(".")
    return f"/{'/'.join(reversed(labels.split('.')))}" if labels else ""


def canonical_domain(domain: str) -> str:
    """Write a domain suffix as it is compared: in lower case, without leading dots."""
    return domain.lstrip(".").lower()


def _jwt(query: str) -> str | None:
    tokens = [value for name, value in parse_qsl(query, errors="replace") if name == "jwt"]
    return tokens[-1] if tokens else None
