"""Run the auth server of the command ``serve`` from its settings, until a signal stops it."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import gc
import os
import re
import socket
import stat
import threading
from typing import TYPE_CHECKING

from moq_token import files
from moq_token.errors import ConfigError, Error, InvalidKeyError, shown_path
from moq_token.server.admin import Admin
from moq_token.server.app import AuthServer
from moq_token.server.custom import load_policy
from moq_token.server.listen import TcpAddress, listening, load_certificate, server_tls, stop_signal
from moq_token.server.log import log
from moq_token.server.metrics import Metrics
from moq_token.server.policy import Policy
from moq_token.server.publish import PublishedKeys
from moq_token.server.settings import FIXED
from moq_token.server.share.names import Names
from moq_token.server.share.sharing import Sharing
from moq_token.server.state import State
from moq_token.sources import open_source
from moq_token.sources.opening import open_keys
from moq_token.sources.source import missing_extra

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterable, Iterator

    from moq_token.server.events import Decide
    from moq_token.server.listen import Address
    from moq_token.server.questions import Lookup
    from moq_token.server.settings import Settings
    from moq_token.sources import KeySource

GC_THRESHOLD = 2000
"""New objects after which the garbage collector looks at them, in about half a millisecond."""
EXIT_SECONDS = 5.0
"""The process ends this long after the signal, even if a thread of a policy or of a file system hangs."""

_MAX_SECRET_BYTES = 1024
_MIN_SHARE_SECRET_CHARACTERS = 32
_OWN_NAME = re.compile(r"^`\w+`: ")
_OTHERS = stat.S_IROTH | stat.S_IWOTH | stat.S_IWGRP


class Service:
    """What settings describe: the server, its TLS, its keys.

    Raises ``ConfigError`` for settings that contradict themselves and for files that cannot be used. Keys are read
    when a token names them. The state directory is only used if it is ``opening``.
    """

    def __init__(self, settings: Settings, *, opening: bool = False) -> None:
        settings.check()
        self.settings: Settings = settings
        self._sources: list[KeySource] = []
        secret = _secret(settings)
        self.tls: ssl.SSLContext | None = _tls(settings)
        self.metrics: Metrics | None = None if settings.admin is None else _metrics()
        decide, lookup = self._policy(settings)
        self.decide = decide
        self.is_for_first: bool = settings.contract != "post" and lookup is not None
        """Whether relay 0.14 is answered."""
        if settings.contract == "get" and lookup is None:
            raise ConfigError(f"`{settings.label('policy')}` has no `lookup`, which answers relay 0.14: add one")
        published = None
        if settings.publish_keys and settings.key_dir is not None:
            published = PublishedKeys(settings.key_dir)
        self.server: AuthServer = AuthServer(
            decide,
            lookup=lookup,
            caps=settings.caps,
            contract=settings.contract,
            max_age=settings.revalidate,
            secret=secret,
            share_secrets=settings.share_secrets,
            published=published,
            share=_share(settings),
            metrics=self.metrics,
            state=_state(settings) if opening else None,
            relays=settings.relay,
        )

    def _policy(self, settings: Settings, before: Policy | None = None) -> tuple[Decide, Lookup | None]:
        if settings.policy is not None:
            return load_policy(settings.policy)
        policy = Policy(
            None if before is not None else self._open(settings),
            **{
                name: getattr(settings, name)
                for name in ("public_publish", "public_subscribe", "mtls_publish", "mtls_subscribe")
            },
            tier=settings.tier,
            expires=settings.expires,
            revalidate=settings.revalidate,
            lenient=settings.lenient,
            spread=settings.spread,
        )
        if before is not None:
            policy.keys = before.keys  # keep its remembered keys for an outage
        self._built = policy
        return policy, policy.lookup

    def _open(self, settings: Settings) -> KeySource | None:
        name = "key" if settings.key_dir is None else "key_dir"
        place = getattr(settings, name)
        if place is None:
            return None
        with _named(settings, name):
            source = open_source(place, directory=True) if name == "key_dir" else open_keys(place)
        self._sources.append(source)
        return source

    def reload(self, settings: Settings) -> list[str]:
        """Apply the settings that can change at runtime: rules, keys, times, relays, the secret and the certificate.

        Returns the names of changed settings that need a restart. Raises as the class does, and then nothing changes.
        """
        settings.check()
        secret = _secret(settings)
        old = self.settings
        fixed = {name: getattr(old, name) for name in FIXED}
        tls = _tls(dataclasses.replace(settings, **fixed))
        if settings.policy is None and old.policy is None:
            same = all(getattr(settings, name) == getattr(old, name) for name in ("key", "key_dir", "lenient"))
            same = same and not self._has_another_form(settings)
            decide, lookup = self._policy(settings, self._built if same else None)
            self.server.change_policy(decide, lookup=lookup, max_age=settings.revalidate)
        self.server.set_secret(secret)
        self.server.revocations.ending.change_relays(settings.relays)
        if tls is not None and self.tls is not None:
            load_certificate(self.tls, old.tls_cert or "", old.tls_key or "")
        self.settings = dataclasses.replace(settings, **fixed)
        return [name for name, value in fixed.items() if getattr(settings, name) != value]

    def _has_another_form(self, settings: Settings) -> bool:
        """Whether the file of keys was a key and now is a set, or the other way round."""
        key, keys = settings.key, self._built.keys
        return (
            key is not None and "://" not in key and keys is not None and type(open_keys(key)) is not type(keys.source)
        )

    async def aclose(self) -> None:
        """Close what was opened for keys."""
        for source in self._sources:
            await source.aclose()


def serve(
    service: Service, reread: Callable[[], Settings], announce: Callable[[Address, Address | None], Iterable[str]]
) -> None:
    """Listen until SIGTERM or SIGINT; SIGHUP calls ``reread``, and the server uses what it returns from then on.

    ``announce`` says what is logged at start about the addresses that are listened on (of relays, of operators).
    Raises ``ConfigError`` if an address cannot be used.
    """
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_run(service, reread, announce))


async def _run(
    service: Service, reread: Callable[[], Settings], announce: Callable[[Address, Address | None], Iterable[str]]
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        stopped = stop_signal(lambda: _reload(service, reread))
        stack.push_async_callback(service.aclose)
        await stack.enter_async_context(service.server.lifespan())
        admin = service.settings.admin_address
        if admin is not None:
            admin = (
                await stack.enter_async_context(listening(Admin(service.server, service.metrics).handle, admin))
            ).address
        running = await stack.enter_async_context(
            listening(service.server.respond, service.settings.address, service.tls)
        )
        # Move everything that exists now out of reach of the garbage collector, so that later collections are quicker.
        gc.collect()
        gc.freeze()
        gc.set_threshold(GC_THRESHOLD)
        for line in announce(running.address, admin):
            log.info("%s", line)
        log.info("listening on %s", running.address, extra={"event": "listening", "address": str(running.address)})
        await stopped.wait()
        log.info("stopping", extra={"event": "stopping"})
        end = threading.Timer(EXIT_SECONDS, os._exit, (0,))
        end.daemon = True
        end.start()


def _reload(service: Service, reread: Callable[[], Settings]) -> None:
    try:
        ignored = service.reload(reread())
    except (Error, OSError) as error:
        text = f"{shown_path(str(error.filename))}: {error.strerror}" if isinstance(error, OSError) else str(error)
        log.error("reload failed, the previous settings stay in force: %s", text, extra={"event": "reload-failed"})
        return
    if ignored:
        names = ", ".join(f"`{name}`" for name in ignored)
        log.warning("these settings have changed and need a restart: %s", names, extra={"event": "restart-needed"})
    log.info("reloaded", extra={"event": "reloaded"})


@contextlib.contextmanager
def _named(settings: Settings, name: str) -> Iterator[None]:
    """Have errors call a setting what the operator calls it: the flag, the variable or the member of the file."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"`{settings.label(name)}`: {_OWN_NAME.sub('', str(error))}") from None


def _secret(settings: Settings) -> str | None:
    with _named(settings, "secret_file"):
        return read_secret(settings.secret_file)


def _state(settings: Settings) -> State | None:
    with _named(settings, "state"):
        return None if settings.state is None else State(settings.state)


def read_secret(path: str | None) -> str | None:
    """Read ``user:password`` from a file that only its owner, and perhaps its group, can read.

    Raises ``ConfigError``; no message holds what the file does.
    """
    if path is None:
        return None
    line = _secret_line("secret_file", path)
    user, colon, password = line.partition(":")
    if not (user and colon and password and line.isprintable()):
        raise ConfigError(f"`secret_file`: {shown_path(path)} must hold one line, user:password")
    return line


def _secret_line(name: str, path: str) -> str:
    """Read the only line of a file that others cannot read."""
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116 - a Path would only wrap this
        text = files.read(path, _MAX_SECRET_BYTES).decode()
    except OSError as error:
        raise ConfigError(f"`{name}`: cannot read {shown_path(path)}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"`{name}`: {shown_path(path)} is not UTF-8 text") from None
    except InvalidKeyError as error:
        raise ConfigError(f"`{name}`: {error}") from None
    if os.name == "posix" and mode & _OTHERS:
        raise ConfigError(f"`{name}`: every user can read or change {shown_path(path)}: run chmod 600 on it")
    return text.removesuffix("\n").removesuffix("\r")


def _share(settings: Settings) -> Sharing | None:
    """Return the share, to which nothing is connected yet."""
    url = settings.store
    if url is None or settings.share_secret_file is None:
        return None
    with _named(settings, "share_secret_file"):
        secret = _secret_line("share_secret_file", settings.share_secret_file)
        if len(secret) < _MIN_SHARE_SECRET_CHARACTERS or not secret.isprintable():
            raise ConfigError(
                f"{shown_path(settings.share_secret_file)} must hold one line of at least "
                f"{_MIN_SHARE_SECRET_CHARACTERS} characters: run openssl rand -hex 32"
            )
    try:
        from moq_token.server.share.store import Store
    except ImportError:
        raise ConfigError(missing_extra(f"settings such as `{settings.label('share')}`", "valkey")) from None
    names = Names(secret)
    store = Store(url, names.key(b""))
    return Sharing(store.connect, names, settings.caps, required=settings.require_share, place=_place(settings.address))


def _place(address: Address) -> str:
    """Return what distinguishes this server from all others, and stays the same when it is started again."""
    host = socket.gethostname()[:64]
    return f"{host}:{address.port}" if isinstance(address, TcpAddress) else f"{host}:{address}"


def _tls(settings: Settings) -> ssl.SSLContext | None:
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    return server_tls(settings.tls_cert, settings.tls_key, settings.tls_client_ca)


def _metrics() -> Metrics | None:
    try:
        return Metrics()
    except ConfigError:
        return None


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
