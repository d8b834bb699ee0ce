"""Where the auth server listens: an address, a unix socket, with or without TLS; how it starts and how it stops."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import signal
import socket
import ssl
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from moq_token.errors import ConfigError, shown, shown_path
from moq_token.server.http import MAX_CONNECTIONS
from moq_token.server.log import log
from moq_token.server.protocol import HttpServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from moq_token.server.http import Handler

STOP_SECONDS = 4.0
"""How long answers under way may take after the server was told to stop."""
HANDSHAKE_SECONDS = 10.0

_UNIX = "unix:"
_BACKLOG = 1024


class TcpAddress(NamedTuple):
    """An IP address and a port; port 0 takes a free one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return ipaddress.ip_address(self.host).is_loopback


class UnixAddress(NamedTuple):
    """The path of a unix socket."""

    path: str

    def __str__(self) -> str:
        return f"{_UNIX}{self.path}"


Address = TcpAddress | UnixAddress


def parse_address(text: str) -> Address:
    """Read ``127.0.0.1:4440``, ``[::1]:4440`` or ``unix:PATH``. Raises ``ConfigError``; names are not resolved."""
    if text.startswith(_UNIX):
        path = text.removeprefix(_UNIX).removeprefix("//")
        if path and "\0" not in path:
            return UnixAddress(path)
    else:
        host, _, port = text.rpartition(":")
        bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
        with contextlib.suppress(ValueError):
            address = ipaddress.ip_address(bare)
            if (address.version == 6) == (bare != host) and port.isascii() and port.isdecimal() and int(port) < 1 << 16:  # noqa: PLR2004
                return TcpAddress(bare, int(port))
    raise ConfigError(f"expected an address such as 127.0.0.1:4440 or unix:PATH, got {shown(text)}")


def server_tls(cert: str, key: str, client_ca: str | None = None) -> ssl.SSLContext:
    """Make the TLS of a server from PEM files; with ``client_ca`` only clients with a certificate of it get in.

    Raises ``ConfigError``, naming the file that cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.sslobject_class = _Handshake
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    load_certificate(context, cert, key)
    if client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        try:
            context.load_verify_locations(client_ca)
        except (OSError, ValueError) as error:
            why = _why(error, "no PEM certificate in it")
            raise ConfigError(f"the CA file {shown_path(client_ca)}: {why}") from None
    return context


class _Handshake(ssl.SSLObject):
    """Log why a handshake failed: event loops do not, and a relay only says that its auth server is unavailable."""

    def do_handshake(self) -> None:
        try:
            super().do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError, ssl.SSLEOFError):
            raise  # it is not over, or the client has closed the connection, as those do that look for open ports
        except ssl.SSLError as error:
            why = f"{error.reason or type(error).__name__}".replace("_", " ").lower()
            detail = getattr(error, "verify_message", None)
            if detail:
                why = f"{why}: {detail}"
            log.warning("a TLS handshake failed: %s", why, extra={"event": "tls-failed"})
            raise


def load_certificate(context: ssl.SSLContext, cert: str, key: str) -> None:
    """Load the certificate, or load it again after a renewal. Raises ``ConfigError``."""
    try:
        context.load_cert_chain(cert, key, password=_no_password)
    except (OSError, ValueError) as error:
        why = _why(error, "expected a PEM certificate and its unencrypted key")
        raise ConfigError(f"the TLS files {shown_path(cert)} and {shown_path(key)}: {why}") from None


def _why(error: OSError | ValueError, otherwise: str) -> str:
    if isinstance(error, OSError) and not isinstance(error, ssl.SSLError) and error.strerror:
        return f"cannot be read: {error.strerror}"
    return otherwise


def _no_password() -> str:
    raise ValueError("the key is encrypted")


class Running(NamedTuple):
    """A server that listens. ``address`` is where, with the port that was taken."""

    address: Address
    http: HttpServer


@contextlib.asynccontextmanager
async def listening(handler: Handler, address: Address, tls: ssl.SSLContext | None = None) -> AsyncIterator[Running]:
    """Listen inside the block, and shut down when it is left.

    Stopping closes the listening socket, lets answers under way be finished for up to 4 s, and closes every connection.
    Raises ``ConfigError`` where the address cannot be used.
    """
    server = HttpServer(handler, max_connections=min(MAX_CONNECTIONS, _open_files() // 2))
    bound = _bind(address)
    loop = asyncio.get_running_loop()
    handshake = None if tls is None else HANDSHAKE_SECONDS
    try:
        if isinstance(address, UnixAddress):
            listener = await loop.create_unix_server(
                server.protocol, sock=bound, ssl=tls, ssl_handshake_timeout=handshake, backlog=_BACKLOG
            )
        else:
            listener = await loop.create_server(
                server.protocol, sock=bound, ssl=tls, ssl_handshake_timeout=handshake, backlog=_BACKLOG
            )
            host, port = bound.getsockname()[:2]
            address = TcpAddress(host, port)
    except BaseException:
        bound.close()
        raise
    inode = _inode(address)
    try:
        yield Running(address, server)
    finally:
        # Before it stops listening: from then on, the next server takes the socket for a stale one and replaces it.
        if isinstance(address, UnixAddress) and inode is not None and _inode(address) == inode:
            _remove(address.path)
        listener.close()
        await server.stop(STOP_SECONDS)


def _open_files() -> int:
    """Raise the number of files that this process may have open to its limit, and return it."""
    if sys.platform == "win32":
        return 2 * MAX_CONNECTIONS
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * MAX_CONNECTIONS if hard == resource.RLIM_INFINITY else min(hard, 2 * MAX_CONNECTIONS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted


def _bind(address: Address) -> socket.socket:
    if isinstance(address, UnixAddress):
        return _bind_unix(address.path)
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind((address.host, address.port))
    except OSError as error:
        made.close()
        raise ConfigError(f"cannot listen on {address}: {error.strerror or type(error).__name__}") from None
    return made


def _bind_unix(path: str) -> socket.socket:
    """Bind a socket that only this user can connect to. One that a live server listens on is never taken over."""
    if not hasattr(socket, "AF_UNIX"):
        raise ConfigError(f"cannot listen on {shown_path(path)}: this system has no unix sockets")
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_stale(path)
        before = os.umask(0o177)
        try:
            made.bind(path)
        finally:
            os.umask(before)
        made.listen(_BACKLOG)  # at once: another server removes a socket that does not listen as stale
    except OSError as error:
        made.close()
        raise ConfigError(f"cannot listen on {shown_path(path)}: {error.strerror or error}") from None
    except ConfigError:
        made.close()
        raise
    return made


def _remove(path: str) -> None:
    Path(path).unlink(missing_ok=True)


def _inode(address: Address) -> tuple[int, int] | None:
    """Return the identity of this server's socket, to tell it from another one at the same path."""
    if not isinstance(address, UnixAddress):
        return None
    try:
        status = os.lstat(address.path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _remove_stale(path: str) -> None:
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ConfigError(f"{shown_path(path)} exists and is not a socket; it is not replaced")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            Path(path).unlink()  # the server that listened there has died
            return
        except TimeoutError:
            pass
    raise ConfigError(f"{shown_path(path)} is in use: another server listens on it")


def stop_signal(reload: Callable[[], None]) -> asyncio.Event:
    """Return what SIGTERM and SIGINT set from now on; each SIGHUP calls ``reload``, also one blocked until now."""
    loop, stopped = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        if sys.platform == "win32":  # where event loops take no signals
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(stopped.set))
        else:
            loop.add_signal_handler(number, stopped.set)
    if sys.platform != "win32":
        loop.add_signal_handler(signal.SIGHUP, reload)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGHUP,))
    return stopped
