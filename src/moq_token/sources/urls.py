"""URLs of http and https: check them, show them without secrets, and take credentials out of them."""

from __future__ import annotations

import base64
import ipaddress
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from moq_token.errors import ConfigError

# Signed URLs of cloud storage have up to about 2,000 characters.
MAX_URL_CHARACTERS = 8192
# RFC 1035, section 2.3.4.
_MAX_HOST_CHARACTERS = 253
_MAX_LABEL_CHARACTERS = 63
_MAX_SHOWN_CHARACTERS = 200
_BAD_HOST = "invalid URL: it has no valid host and port"
_LOOPBACK, _LOOPBACK_6 = ipaddress.IPv4Network("127.0.0.0/8"), ipaddress.IPv6Address("::1")
_PORTS = {"http": 80, "https": 443}


class Address(NamedTuple):
    """A URL, taken apart so that an HTTP client never sees a URL with a secret in it."""

    url: str
    """Without user, password, query and fragment."""
    target: str
    """Path and query, as the request line has them."""
    authorization: str | None
    """The header that carries user and password."""

    def __repr__(self) -> str:
        return f"<Address {self.url}>"

    @classmethod
    def of(cls, url: str) -> Address:
        """Take a URL apart that ``check_url()`` accepts."""
        parts = urlsplit(url)
        userinfo, at, host = parts.netloc.rpartition("@")
        path = parts.path or "/"
        target = f"{path}?{parts.query}" if parts.query else path
        # RFC 7617; the colon is part of it even where there is no password.
        credentials = ":".join(unquote(part) for part in (*userinfo.split(":", 1), "")[:2])
        authorization = f"Basic {base64.b64encode(credentials.encode()).decode()}" if at else None
        return cls(f"{parts.scheme}://{host}{path}", target, authorization)


def check_url(url: str) -> str:
    """Return a URL of http or https unchanged.

    Raises ``ConfigError`` for anything else, and for more than 8,192 characters. The message never quotes the URL,
    which may hold a password.
    """
    if not isinstance(url, str):
        raise TypeError(f"a URL must be a str, not {type(url).__name__}")
    fault = _fault(url)
    if fault is not None:
        del url  # the traceback of the error holds this frame
        raise ConfigError(fault)
    return url


def check_service_url(url: str) -> str:
    """Return the URL of a service that is sent credentials: https, ``unix:///path``, or http to this machine only.

    Those are the rules of relays for their auth server. Raises ``ConfigError``, whose message shows the URL
    without user, password, query and fragment.
    """
    scheme = url.partition(":")[0]
    fault = None
    if scheme.lower() == "unix":
        path = socket_path(url)
        if not path.startswith("/") or path.startswith("//") or path == "/" or "\0" in path or "?" in url or "#" in url:
            fault = "invalid URL: expected unix:///path/of/the.sock"
    else:
        fault = _fault(url)
        if fault is not None and scheme.lower() not in _PORTS:
            fault = "invalid URL: it must start with https://, unix:///, or http:// for this machine"
        elif fault is None and scheme.lower() == "http" and not is_loopback(urlsplit(url).hostname or ""):
            fault = f"{shown_url(url)} is not on this machine: use https:// (http:// sends tokens unencrypted)"
    if fault is not None:
        del url  # the traceback of the error holds this frame
        raise ConfigError(fault)
    return url


def socket_path(url: str) -> str:
    """Return the path of a ``unix:///path`` or ``unix:/path`` URL."""
    return unquote(url.partition(":")[2].removeprefix("//"))


def is_loopback(host: str) -> bool:
    """Whether a host of a URL, without brackets, is this machine: ``localhost``, 127.0.0.0/8 or ``::1``."""
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address in _LOOPBACK if address.version == _LOOPBACK.version else address == _LOOPBACK_6


def shown_url(url: str) -> str:
    """Return a URL for messages: cut when it is long, and without user, password, query and fragment."""
    parts = urlsplit(url)
    text = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    return text if len(text) <= _MAX_SHOWN_CHARACTERS else f"{text[:_MAX_SHOWN_CHARACTERS]}…"


def origin_of(url: str) -> tuple[str, str, int]:
    """Return scheme, host and port. Raises ``ValueError`` for an invalid host or port."""
    parts = urlsplit(url)
    port = parts.port
    return parts.scheme, parts.hostname or "", _PORTS.get(parts.scheme, 0) if port is None else port


def _fault(url: str) -> str | None:
    if len(url) > MAX_URL_CHARACTERS:
        return f"the URL is too long: {len(url)} characters, the maximum is {MAX_URL_CHARACTERS}"
    if not url.isascii() or not url.isprintable() or " " in url:
        return "invalid URL: it must consist of ASCII characters without spaces (percent-encode the others)"
    try:
        scheme, host, _ = origin_of(url)
    except ValueError:  # its message quotes the URL
        return _BAD_HOST
    if scheme not in _PORTS:
        return "invalid URL: it must start with https:// or http://"
    if not host:
        return f"invalid URL: the host is missing, expected {scheme}://HOST/…"
    return None if _is_host(host) else _BAD_HOST


def _is_host(host: str) -> bool:
    labels = () if ":" in host else host.removesuffix(".").split(".")
    return len(host) <= _MAX_HOST_CHARACTERS and all(0 < len(label) <= _MAX_LABEL_CHARACTERS for label in labels)
