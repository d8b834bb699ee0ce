"""A connection before the decision: the dialed path, the token and the transport."""

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

# A domain name has no more characters. Unicode work on a host is quadratic, so its length is checked first.
MAX_HOST_CHARACTERS = 253

# Schemes whose transport carries the whole URL to the relay. The others carry only path and query, in the SETUP
# message, so there is no host to compare with a domain.
_WEB_SCHEMES = frozenset(("http", "https", "ws", "wss"))
_SETUP_SCHEMES = frozenset(("moqt", "moql", "tcp", "iroh"))

# A URL as browsers and the relay read it (the WHATWG URL Standard): outer controls and spaces are dropped, and tabs and
# line breaks everywhere; characters that a path may not contain are percent-encoded; encoded ones stay as they are.
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(.*)", re.DOTALL)
_OUTER = "".join(map(chr, range(0x21)))
_DROPPED = str.maketrans("", "", "\t\n\r")
PATH_CHARACTERS = "".join(character for character in map(chr, range(0x21, 0x7F)) if character not in '"#<>?`{}')
_HOST = re.compile(r"\[[0-9A-Fa-f:.]+\]|[^\x00-\x20#%/:<>?@\[\\\]^|\x7F]+")
_PORT, _MAX_PORT = re.compile(r"[0-9]{0,5}"), 0xFFFF


class Transport(StrEnum):
    """How a client is connected, by the names that ``auth_api`` receives."""

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
    """What a client dialed, and over which transport.

    The repr never shows the token, and a connection is not pickled.

    Attributes
    ----------
    path
        The path as it stands in the URL, percent-encoding included; empty becomes ``/``.
    token
        The token, or None; an empty one becomes None.
    transport
        How the client is connected; also its name, such as ``"quic"``.
    certificate
        The client's verified certificate, for servers that verify them. It admits the connection, and the token is
        ignored.
    misplaced
        Where in the URL something that looks like a token was found, though ``jwt`` was empty; for error messages.

    Raises ``NotAdmittedError`` (``bad-url``) for a path that is too long or invalid Unicode,
    ``ValueError`` for an unknown transport and ``TypeError`` for arguments of other types.

    """

    path: str
    token: str | None = field(default=None, repr=False)
    transport: Transport | None = None
    certificate: Certificate | None = None
    misplaced: str | None = field(default=None, kw_only=True, compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.path, str):
            raise TypeError(f"path must be a str, not {type(self.path).__name__}")
        if self.token is not None and not isinstance(self.token, str):
            raise TypeError(f"token must be a str or None, not {type(self.token).__name__}")
        if len(self.path) > MAX_URL_CHARACTERS or not _is_unicode(self.path):
            raise _bad_url("the dialed path is too long, or not valid Unicode")
        object.__setattr__(self, "path", self.path or "/")
        object.__setattr__(self, "token", self.token or None)
        if self.transport is not None and not isinstance(self.transport, Transport):
            object.__setattr__(self, "transport", _transport(self.transport))

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
        """Read the URL that a client dialed.

        The token is the last ``jwt`` parameter that is not empty. Where the host ends with one of ``domains`` (the
        longest that fits, in any case), the labels before it go in front of the path, the last one first. That holds
        for ``http``, ``https``, ``ws`` and ``wss``; of other URLs (``moqt``, ``moql``, ``tcp``, ``iroh``) the host does
        not reach a relay.

        Raises ``NotAdmittedError`` (``bad-url``) for anything else, and for a host of more than 253 characters.
        """
        if not isinstance(url, str):
            raise TypeError(f"url must be a str, not {type(url).__name__}")
        if len(url) > MAX_URL_CHARACTERS or not _is_unicode(url):
            raise _bad_url("the dialed URL is too long, or not valid Unicode")
        split = _SCHEME.fullmatch(url.strip(_OUTER).translate(_DROPPED))
        if split is None:
            raise _bad_url("the dialed URL has no scheme: expected https://…")
        scheme, rest = split[1].lower(), split[2]
        if scheme not in _WEB_SCHEMES | _SETUP_SCHEMES:
            raise _bad_url(f"the dialed URL has an unsupported scheme: {shown(scheme)}")

        rest, _, fragment = rest.partition("#")
        rest, _, query = rest.partition("?")
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
        token = _jwt(query)
        misplaced = None if token else _misplaced(query, fragment, path, authority)
        return cls(path, token, transport, certificate, misplaced=misplaced)

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
        """Read what a client sent in its SETUP message: the path, which is taken as it stands, and the query.

        A path that still has its query, ``/rooms?jwt=…``, is split. The token is found as in ``from_url()``. Raises
        ``NotAdmittedError`` (``bad-url``) for a path or query that is too long.
        """
        if not isinstance(path, str):
            raise TypeError(f"path must be a str, not {type(path).__name__}")
        if not isinstance(query, str | None):
            raise TypeError(f"query must be a str or None, not {type(query).__name__}")
        path, _, own_query = path.partition("?")
        query = own_query if query is None else query
        if len(query) > MAX_URL_CHARACTERS:
            raise _bad_url("the query that was sent is too long")
        token = _jwt(query)
        misplaced = None if token else _misplaced(query, "", path, "")
        return cls(path, token, transport, certificate, misplaced=misplaced)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a connection cannot be pickled: its token must not end up in a cache or a queue")


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
    if len(host) > MAX_HOST_CHARACTERS:
        raise _bad_url(f"the host of the dialed URL is longer than {MAX_HOST_CHARACTERS} characters")
    try:
        host = (host if host.isascii() else host.encode("idna").decode()).lower()
    except UnicodeError:
        host = ""
    if not _HOST.fullmatch(host) or not _PORT.fullmatch(port) or int(port or 0) > _MAX_PORT:
        raise _bad_url("the host or port of the dialed URL is invalid")
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
    """Return ``.`` or ``..`` if a segment of the path of a URL means that, else an empty string."""
    plain = segment.lower().replace("%2e", ".")
    return plain if plain in {".", ".."} else ""


def _labels(host: str, domains: Iterable[str]) -> str:
    """Return the path that the labels of a host before its longest matching suffix stand for."""
    if isinstance(domains, str):
        domains = (domains,)
    fitting = [suffix for suffix in map(canonical_domain, domains) if f".{host}".endswith(f".{suffix}")]
    if not fitting:
        return ""
    labels = host[: -len(max(fitting, key=len))].strip(".")
    return f"/{'/'.join(reversed(labels.split('.')))}" if labels else ""


def canonical_domain(domain: str) -> str:
    """Return a domain suffix as it is compared: in lower case, without leading dots."""
    return domain.lstrip(".").lower()


def _jwt(query: str) -> str | None:
    tokens = [value for name, value in parse_qsl(query, errors="replace") if name == "jwt"]
    return tokens[-1] if tokens else None


# How a token begins: a JSON object in base64url, with or without white space after its brace.
_TOKEN = re.compile(r"(?:Bearer[ +]*)?e[wy][A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*=*", re.IGNORECASE)
_PLAIN_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,31}")


def _misplaced(query: str, fragment: str, path: str, authority: str) -> str | None:
    """Say where something that looks like a token is, without quoting it; None where there is none."""
    for name, value in parse_qsl(query, keep_blank_values=True, errors="replace"):
        if _TOKEN.fullmatch(value.strip()):
            named = f"the parameter `{name}`" if _PLAIN_NAME.fullmatch(name) else "another parameter"
            return f"a token was found in {named}, but a relay reads it from `jwt` only"
        if _TOKEN.fullmatch(name.strip()):
            return "a token was found without a name: write ?jwt= before it"
    if any(_TOKEN.fullmatch(part.rpartition("=")[2]) for part in fragment.split("&")):
        return "a token was found after the `#`, which clients do not send: pass it as ?jwt=…"
    if any(map(_TOKEN.fullmatch, path.split("/"))):
        return "a token was found in the path, but a relay reads it from ?jwt=… only"
    if any(map(_TOKEN.fullmatch, authority.rpartition("@")[0].split(":"))):
        return "a token was found before the host, but a relay reads it from ?jwt=… only"
    return None


def _transport(name: object) -> Transport:
    if isinstance(name, str) and name in Transport.__members__.values():
        return Transport(name)
    # The value is not quoted: it can be anything, a token too.
    raise ValueError(f"transport must be one of {', '.join(Transport)}")
