"""Nudge relays: have them ask again about some sessions at once, at their internal listener.

That listener is plain HTTP without authentication: ``POST /sessions/revalidate?filter``. The client here is small and
bounded, keeps few connections, and follows no redirect.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import quote, urlsplit

import httptools
import msgspec

from moq_token.errors import ConfigError, UnavailableError, shown
from moq_token.path import normalize

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from moq_token.server.session import Session

REQUEST_SECONDS: Final = 2.0
"""How long one request to a relay may take, with its connection."""
MAX_CONNECTIONS: Final = 16
"""Requests under way to one relay."""
MAX_ANSWER_BYTES: Final = 16 << 20
"""Bytes of an answer, which lists the ids of the sessions that are asked about again."""
MAX_RELAYS: Final = 10_000

_PATH = "/sessions/revalidate"
# Up to FEW sessions are named one by one. More are covered by a filter that also matches other sessions, if these are
# at most _TIMES as many: a needless re-check does no harm.
FEW: Final = 32
_TIMES: Final = 4
_MAX_NODE_CHARACTERS, _MAX_URL_CHARACTERS = 256, 1024
_READ_BYTES = 1 << 16
_SUCCESS = range(200, 300)
_HTTP_PORT = 80


class Relay(NamedTuple):
    """The internal listener of a relay: its ``node``, and where it listens (a unix socket, or host and port)."""

    node: str
    url: str
    host: str
    port: int
    socket: str | None
    prefix: str


def parse_relay(text: str) -> Relay:
    """Read ``NODE=http://127.0.0.1:9101`` or ``NODE=unix:PATH``. Raises ``ConfigError``."""
    node, equals, url = text.partition("=")
    expected = "expected NODE=http://HOST:PORT or NODE=unix:PATH, such as edge-1=http://127.0.0.1:9101"
    if not equals or len(node) > _MAX_NODE_CHARACTERS or not node.isprintable() or len(url) > _MAX_URL_CHARACTERS:
        raise ConfigError(f"{expected}, got {shown(_without_user(text))}")
    if url.startswith("unix:"):
        path = url.removeprefix("unix:").removeprefix("//")
        if not path or not path.isprintable():
            raise ConfigError(f"{expected}, got {shown(text)}")
        return Relay(node, f"unix:{path}", "localhost", 0, path, "")
    with contextlib.suppress(ValueError):
        parts = urlsplit(url)
        bare = not (parts.query or parts.fragment or parts.username or parts.password) and url.isascii()
        if parts.scheme == "http" and parts.hostname and bare and url.isprintable() and " " not in url:
            prefix = parts.path.rstrip("/")
            return Relay(node, url, parts.hostname, parts.port or _HTTP_PORT, None, prefix)
    raise ConfigError(
        f"{expected}, without user, password and query: the internal listener of a relay is plain http; "
        f"got {shown(_without_user(text))}"
    )


def parse_relays(texts: Iterable[str]) -> dict[str, Relay]:
    """Read the relays by their nodes. Raises ``ConfigError``, also for a node with two listeners."""
    relays: dict[str, Relay] = {}
    for text in texts:
        relay = parse_relay(text)
        if relay.node in relays:
            raise ConfigError(f"the node {shown(relay.node)} is given twice: each relay needs its own name")
        relays[relay.node] = relay
    if len(relays) > MAX_RELAYS:
        raise ConfigError(f"too many relays: the limit is {MAX_RELAYS}")
    return relays


def by_id(session_id: str) -> str:
    """Return the filter for one session."""
    return f"id={quote(session_id, safe='')}"


def queries(concerned: Sequence[Session], paths: Counter[str]) -> Iterable[str]:
    """Return the filters which together cover the concerned sessions of a relay.

    Few sessions (``FEW``) are named by their ids. Many are covered by the paths that they have dialed, or by one
    call for the whole relay, where that does not hit many times as many: ``paths`` counts its sessions by their paths.
    """
    named = (by_id(session.id) for session in concerned)
    if len(concerned) <= FEW:
        return named
    dialed = {session.path for session in concerned}
    # A relay reads the path as a pattern; a cut one is not the path.
    if (
        len(dialed) <= FEW
        and all("*" not in path and not path.endswith("…") and path.strip("/") for path in dialed)
        and sum(paths[path] for path in dialed) <= _TIMES * len(concerned)
    ):
        return [f"path={quote(normalize(path), safe='')}" for path in sorted(dialed)]
    return [""] if paths.total() <= _TIMES * len(concerned) else named


class _Asking(msgspec.Struct):
    """The answer of a relay."""

    ids: list[str]


class Nudger:
    """Nudges relays. Call ``close()`` at the end."""

    def __init__(self, relays: Mapping[str, Relay]) -> None:
        self.relays: Mapping[str, Relay] = relays
        self._idle: dict[str, list[_Connection]] = {}
        self._slots: dict[str, asyncio.Semaphore] = {}

    def change(self, relays: Mapping[str, Relay]) -> None:
        """Replace the relays."""
        for node in [node for node in self._idle if relays.get(node) != self.relays.get(node)]:
            for connection in self._idle.pop(node):
                connection.close()
        self.relays = relays

    async def nudge(self, node: str, filters: Iterable[str]) -> set[str]:
        """Have a relay ask again about the sessions of some filters, and return the ids that it names.

        Raises ``UnavailableError`` if it could not be told about one of them.
        """
        relay, left = self.relays[node], iter(filters)
        asking: set[str] = set()
        results = await asyncio.gather(*(self._tell(relay, left, asking) for _ in range(MAX_CONNECTIONS)))
        for error in results:
            if error is not None:
                raise error
        return asking

    async def _tell(self, relay: Relay, left: Iterator[str], asking: set[str]) -> UnavailableError | None:
        """Tell a relay one of the filters that are left after the other, until one fails; return why."""
        for each in left:
            try:
                body = await self._post(relay, each)
            except UnavailableError as error:
                return error
            with contextlib.suppress(msgspec.MsgspecError):
                asking.update(msgspec.json.decode(body, type=_Asking).ids)
        return None

    async def _post(self, relay: Relay, query: str) -> bytes:
        slots = self._slots.setdefault(relay.node, asyncio.Semaphore(MAX_CONNECTIONS))
        target = f"{relay.prefix}{_PATH}?{query}" if query else f"{relay.prefix}{_PATH}"
        async with slots:
            try:
                async with asyncio.timeout(REQUEST_SECONDS):
                    status, body = await self._exchange(relay, target)
            except TimeoutError:
                raise UnavailableError(f"no answer within {REQUEST_SECONDS:g} s") from None
            except OSError as error:
                raise UnavailableError(f"{error.strerror or 'no connection'}".lower()) from None
            except httptools.HttpParserError:
                raise UnavailableError("the answer is not HTTP") from None
        if status not in _SUCCESS:
            raise UnavailableError(f"HTTP status {status}: is it the internal listener of the relay?")
        return body

    async def _exchange(self, relay: Relay, target: str) -> tuple[int, bytes]:
        idle = self._idle.setdefault(relay.node, [])
        while idle:
            connection = idle.pop()
            try:
                return await self._on(connection, relay, target)
            except (ConnectionError, EOFError):
                continue  # it was idle for too long
        try:
            return await self._on(await _Connection.open(relay), relay, target)
        except EOFError:
            raise ConnectionResetError(0, "the relay closed the connection") from None

    async def _on(self, connection: _Connection, relay: Relay, target: str) -> tuple[int, bytes]:
        kept = False
        try:
            status, body, kept = await connection.post(target)
        finally:
            idle = self._idle.get(relay.node)
            if kept and idle is not None and self.relays.get(relay.node) == relay:
                idle.append(connection)
            else:
                connection.close()
        return status, body

    def close(self) -> None:
        """Close every idle connection."""
        for connections in self._idle.values():
            for connection in connections:
                connection.close()
        self._idle.clear()


class _Connection:
    """One connection to a relay, for one request at a time."""

    def __init__(self, host: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._host, self._reader, self._writer = host, reader, writer

    @classmethod
    async def open(cls, relay: Relay) -> _Connection:
        """Connect. Raises ``OSError``."""
        if relay.socket is not None:
            return cls("localhost", *await asyncio.open_unix_connection(relay.socket))
        host = f"[{relay.host}]" if ":" in relay.host else relay.host
        return cls(f"{host}:{relay.port}", *await asyncio.open_connection(relay.host, relay.port))

    async def post(self, target: str) -> tuple[int, bytes, bool]:
        """Send a request without a body; return status and body, and whether the connection can be used again."""
        head = f"POST {target} HTTP/1.1\r\nhost: {self._host}\r\nuser-agent: moq-token\r\ncontent-length: 0\r\n\r\n"
        self._writer.write(head.encode("ascii"))
        await self._writer.drain()
        answer = _Answer()
        parser = answer.parser
        size = 0
        while not answer.complete:
            data = await self._reader.read(_READ_BYTES)
            if not data:
                raise EOFError
            parser.feed_data(data)
            size += len(data)
            if size > MAX_ANSWER_BYTES:
                return parser.get_status_code(), b"", False
        return parser.get_status_code(), bytes(answer.body), answer.keep_alive

    def close(self) -> None:
        """Close the connection."""
        self._writer.close()


class _Answer:
    """Told by the parser of the body, and when the answer is complete."""

    def __init__(self) -> None:
        self.parser = httptools.HttpResponseParser(self)
        self.body = bytearray()
        self.complete = self.keep_alive = False

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        self.complete = True
        self.keep_alive = self.parser.should_keep_alive()  # known at this moment only


def _without_user(text: str) -> str:
    """Leave out a password that somebody has put into a URL."""
    head, at, rest = text.rpartition("@")
    return f"{head.partition('=')[0]}=…@{rest}" if at else text
