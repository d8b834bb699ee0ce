"""Describe a failed HTTP request: the cause, and what to do about it."""

from __future__ import annotations

import errno
import re
import socket
import ssl
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

if TYPE_CHECKING:
    from collections.abc import Iterator

# The message of asyncio about an address that it could not connect to.
_TRIED_ADDRESS = re.compile(r"\('([0-9A-Fa-f:.]+)(?:%\w+)?', ([0-9]+)")
# Codes of OpenSSL (x509_vfy.h).
_NOT_YET_VALID, _EXPIRED, _HOST_MISMATCH, _ADDRESS_MISMATCH = 9, 10, 62, 64
_NO_TLS = frozenset(("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG"))
_ADVICE = {
    401: "Check the user name and password in the URL",
    403: "Check that the URL, with its user name, password or query, gives access",
    407: "Check the user name and password of the proxy (HTTP_PROXY, HTTPS_PROXY)",
    429: "The server limits the number of requests; try again later",
}
_UNREACHABLE = frozenset({errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN, errno.EHOSTDOWN, errno.EADDRNOTAVAIL})


def describe_status(status: int) -> str:
    """Say which status the server answered with, and what to do about it."""
    advice = _ADVICE.get(status)
    if advice is None and status >= 500:  # noqa: PLR2004 - RFC 9110, section 15.6
        advice = "The server failed; try again, or look into its log"
    return f"answered {status}" if advice is None else f"answered {status}. {advice}"


def describe_error(error: BaseException, url: str) -> str:
    """Say why a request to this URL failed, and what to do about it."""
    scheme, host = urlsplit(url)[:2]
    proxy = _proxy_variable(scheme, host.rpartition("@")[2])
    return _describe(error, scheme, host.rpartition("@")[2]) + (
        f" (connecting through the proxy that {proxy} names)" if proxy else ""
    )


def system_error(error: BaseException) -> OSError | None:
    """Return what the operating system or TLS reported. The errors above it hold the URL, password included."""
    return next((cause for cause in _causes(error) if isinstance(cause, OSError) and cause.errno is not None), None)


def _describe(error: BaseException, scheme: str, host: str) -> str:
    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, ssl.SSLError):
            return _describe_tls(cause, host)
        if isinstance(cause, socket.gaierror):
            return _describe_lookup(cause, host)
    system = system_error(error)
    if system is not None:
        return _describe_connection(system, scheme, host)
    if any(isinstance(cause, TimeoutError) for cause in causes):
        return f"connection to {host} timed out. Check the address, the port and firewalls"
    return _describe_answer(causes, scheme)


def _describe_answer(causes: list[BaseException], scheme: str) -> str:  # noqa: PLR0911 - a table
    if any("AF_UNIX path too long" in str(cause) for cause in causes if type(cause) is OSError):
        return "the path of the socket is too long for this system. Use a shorter one"
    names = {type(cause).__name__ for cause in causes}
    if "ProxyError" in names:
        return "the proxy refused to connect. Check HTTP_PROXY, HTTPS_PROXY and ALL_PROXY"
    if names & {"InvalidURL", "UnsupportedProtocol"}:
        return "invalid URL. Check its host and port"
    if names & {"RemoteProtocolError", "LocalProtocolError"}:
        message = str(causes[0])  # which can quote the answer, so that it is not shown
        if "without sending a response" in message:
            return f"the server closed the connection without an answer. Check the port, and {_hint(scheme)}"
        if "without sending complete" in message:
            return "the answer is incomplete: the server closed the connection too early. Try again"
        return f"the answer is not valid HTTP. Check the port, and {_hint(scheme)}"
    if names & {"ReadError", "WriteError", "ConnectError"}:
        return f"the server closed the connection without an answer. Check the port, and {_hint(scheme)}"
    return "the answer is invalid. Check that the URL leads to a web server"


def _hint(scheme: str) -> str:
    if scheme == "http":
        return "use https:// if the server expects HTTPS"
    return "whether the server requires a client certificate"


def _describe_tls(error: ssl.SSLError, host: str) -> str:  # noqa: PLR0911 - a table
    if isinstance(error, ssl.SSLCertVerificationError):
        code = error.verify_code
        if code == _EXPIRED:
            return "the certificate of the server has expired. Renew it, or check the clock of this machine"
        if code == _NOT_YET_VALID:
            return "the certificate of the server is not yet valid. Check the clock of this machine"
        if code in {_HOST_MISMATCH, _ADDRESS_MISMATCH}:
            return (
                f"the certificate of the server is not valid for the host {host} (hostname mismatch). "
                "Use a host name that the certificate has"
            )
        return (
            f"the certificate of the server is not trusted ({_plain(error.verify_message)}). Name its root "
            "certificate, a PEM file, in SSL_CERT_FILE, in `root` of `[client.tls]`, or in Tls(roots=…)"
        )
    reason = error.reason or ""
    if reason in _NO_TLS:
        return f"the server does not speak TLS on {host}. Use http://, or the port for HTTPS"
    if "CERTIFICATE_REQUIRED" in reason or "HANDSHAKE_FAILURE" in reason or "CERTIFICATE" in reason or "CA" in reason:
        return (
            "the server refused the TLS handshake, it may require a client certificate. Name it in `cert` and `key` of "
            "`[client.tls]`, or in Tls(cert=…, key=…)"
        )
    if "EOF" in reason:
        return "the server closed the connection during the TLS handshake. Check the port"
    return f"the TLS handshake failed ({_plain(reason.replace('_', ' ').lower())})"


def _describe_lookup(error: socket.gaierror, host: str) -> str:
    if error.errno == socket.EAI_AGAIN:
        return f"cannot look up the host {host}: name resolution failed for now. Check DNS and the network"
    return f"host not found: {host}. Check the host name"


def _describe_connection(error: OSError, scheme: str, host: str) -> str:
    found = _TRIED_ADDRESS.search(str(error))
    address = host if found is None else f"[{found[1]}]:{found[2]}" if ":" in found[1] else f"{found[1]}:{found[2]}"
    if isinstance(error, ConnectionRefusedError):
        return f"connection refused by {address}. Check that the server is running and the port is right"
    if isinstance(error, (ConnectionResetError, BrokenPipeError, ConnectionAbortedError)):
        return f"the server closed the connection without an answer. Check the port, and {_hint(scheme)}"
    if isinstance(error, TimeoutError):
        return f"connection to {address} timed out. Check the address, the port and firewalls"
    if error.errno in _UNREACHABLE:
        return f"no route to {address}. Check the network"
    return f"cannot connect to {address}: {_plain(error.strerror or 'unknown error')}"


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield the error and those that led to it; of a group, the first."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.exceptions[0] if isinstance(cause, BaseExceptionGroup) else cause.__cause__ or cause.__context__


def _proxy_variable(scheme: str, host: str) -> str | None:
    proxies = getproxies()
    name = next((name for name in (scheme, "all") if proxies.get(name)), None)
    return None if name is None or proxy_bypass(host) else f"{name.upper()}_PROXY"


def _plain(text: str) -> str:
    """Return text of the system or of OpenSSL in one line."""
    return "".join(character if character.isprintable() else "?" for character in text)[:120]
