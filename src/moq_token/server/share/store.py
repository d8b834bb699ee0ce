"""Talk to Valkey or Redis: find the server that takes writes, and send the calls of one turn of the loop together.

Sentinel and Cluster are ways to find that server, as all keys of a share are in one slot.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import ssl
from collections import deque
from contextlib import suppress
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.exceptions import (
    AskError,
    AuthenticationError,
    BusyLoadingError,
    ClusterDownError,
    MasterDownError,
    MovedError,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)

from moq_token.server.share.health import DEADLINE_SECONDS
from moq_token.server.share.link import StoreError

if TYPE_CHECKING:
    from asyncio import Future
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from moq_token.server.share.caps import Call
    from moq_token.server.share.url import StoreUrl

CONNECT_SECONDS: Final = 2.0
"""How long it may take to find the server, to connect and to log in."""
MAX_WAITING: Final = 10_000
"""Calls that wait for an answer at the same time. One more fails at once."""

_SCRIPT = files(__package__ or "").joinpath("script.lua").read_bytes()
_SHA = hashlib.sha1(_SCRIPT).hexdigest().encode()  # noqa: S324 - the name that the store gives to the script
# A timer that fires so late was held up by this process, which may not have read answers that are there.
_BUSY_SECONDS = 0.05
_CLOSE_SECONDS = 0.5
_CODE = re.compile(r"[A-Z]{2,20}(?= |$)")
_MEANINGS: dict[type[Exception], str] = {
    OutOfMemoryError: "it is full: raise `maxmemory`",
    ReadOnlyError: "it is a replica, which takes no writes",
    NoScriptError: "it has lost the script",
    BusyLoadingError: "it is loading its data",
    MovedError: "the slot of the share is on another server of the cluster: redis+cluster:// finds it",
    AskError: "the slot of the share is being moved to another server of the cluster",
    TryAgainError: "the slot of the share is being moved to another server of the cluster",
    ClusterDownError: "the cluster is down",
    MasterDownError: "it is a replica, and has lost its primary",
    NoPermissionError: "this user is not allowed to do what is needed (see the ACL in the documentation)",
    AuthenticationError: "the user or the password is missing or wrong",
    redis.TimeoutError: f"no connection within {CONNECT_SECONDS:g} s",
    TimeoutError: f"no connection within {CONNECT_SECONDS:g} s",
}
_PHRASES = {
    "nknown command": "it does not know a command that is needed: use Valkey 7.2, Redis 6.2 or newer",
    "Unknown Redis command": "it does not know a command that is needed: use Valkey 7.2, Redis 6.2 or newer",
    "executing the script can": _MEANINGS[NoPermissionError],
    "ACL failure": _MEANINGS[NoPermissionError],
    "WRONGTYPE": "a key of the share has a value of another kind: delete the keys moq-token:*",
    # Redis 6.2 has no code of its own for what fails within a script.
    "OOM command not allowed": _MEANINGS[OutOfMemoryError],
    "READONLY": _MEANINGS[ReadOnlyError],
    "MISCONF": "it cannot save its data, and takes no writes",
}


class Store:
    """A store by its URL. ``connect`` opens a link to it, as ``Connect`` says."""

    def __init__(self, url: StoreUrl, slot_key: bytes) -> None:
        self._url = url
        self._slot = key_slot(slot_key)

    async def connect(self, channels: Sequence[bytes], receive: Callable[[bytes], None]) -> ServerLink:
        """Connect to the server that takes writes, and listen. Raises ``StoreError``."""
        opened: list[redis.asyncio.Connection] = []
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                host, port = await self._locate()
                for _ in range(2):
                    opened.append(self._connection(host, port))
                    await _open(opened[-1])
                commands, messages = opened
                await _ask(commands, b"SCRIPT", b"LOAD", _SCRIPT)
                await messages.send_command(b"SUBSCRIBE", *channels)
                for _ in channels:
                    await messages.read_response(disable_decoding=True)
        except BaseException as error:
            await _close(opened)
            if isinstance(error, RedisError | OSError):
                raise StoreError(_problem(error)) from None
            raise
        return ServerLink(commands, messages, receive)

    async def _locate(self) -> tuple[str, int]:
        if self._url.kind == "standalone":
            return self._url.hosts[0]
        problem = "is unknown"
        for host, port in self._url.hosts:
            connection = self._connection(host, port, is_sentinel=self._url.kind == "sentinel")
            try:
                async with asyncio.timeout(CONNECT_SECONDS / (len(self._url.hosts) + 1)):
                    await _open(connection)
                    if self._url.kind == "sentinel":
                        found = await self._from_sentinel(connection)
                    else:
                        found = await self._from_cluster(connection)
            except (RedisError, OSError) as error:
                problem = f"cannot be found out: {_problem(error)}"
                continue
            finally:
                await _close([connection])
            if found is not None:
                return found[0] or host, found[1]
        raise StoreError(f"the server that takes writes {problem}")

    async def _from_sentinel(self, connection: redis.asyncio.Connection) -> tuple[str, int] | None:
        answer = await _ask(connection, b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME", self._url.service.encode())
        return None if answer is None else (answer[0].decode(), int(answer[1]))

    async def _from_cluster(self, connection: redis.asyncio.Connection) -> tuple[str, int] | None:
        for first, last, primary, *_ in await _ask(connection, b"CLUSTER", b"SLOTS"):
            if first <= self._slot <= last:
                return (primary[0] or b"").decode(), primary[1]
        return None

    def _connection(self, host: str, port: int, *, is_sentinel: bool = False) -> redis.asyncio.Connection:
        url = self._url
        user = (url.sentinel_username, url.sentinel_password) if is_sentinel else (url.username, url.password)
        options: dict[str, Any] = dict(zip(("username", "password"), user, strict=True))
        kind = redis.asyncio.Connection
        if self._url.tls:
            kind = redis.asyncio.SSLConnection
            options |= dict(self._url.options) | {"ssl_check_hostname": True}
        return kind(
            host=host,
            port=port,
            db=0 if is_sentinel else self._url.database,
            protocol=2,
            socket_timeout=None,
            socket_connect_timeout=CONNECT_SECONDS,
            retry=Retry(NoBackoff(), 0),
            **options,
        )


class ServerLink:
    """A link to one server: a connection for calls, and one for messages, which fail together."""

    def __init__(
        self, commands: redis.asyncio.Connection, messages: redis.asyncio.Connection, receive: Callable[[bytes], None]
    ) -> None:
        self._commands, self._messages, self._receive = commands, messages, receive
        self._loop = asyncio.get_running_loop()
        self._to_send: list[bytes] = []
        self._has_to_send = asyncio.Event()
        self._waiting: deque[tuple[float, Future[object]]] = deque()
        self._watch: asyncio.TimerHandle | None = None
        self._failure: Future[None] = self._loop.create_future()
        self._heard = True
        self._tasks = [
            self._loop.create_task(self._guard(work)) for work in (self._send(), self._read(), self._listen())
        ]

    def call(self, call: Call) -> Future[object]:
        """See ``Link.call()``."""
        return self._request(b"EVALSHA", _SHA, len(call.keys), *call.keys, *call.arguments)

    def publish(self, channel: bytes, message: bytes) -> Future[object]:
        """See ``Link.publish()``."""
        return self._request(b"PUBLISH", channel, message)

    async def failed(self, seconds: float) -> None:
        """See ``Link.failed()``. Messages that do not come through are a failure too."""
        if not self._heard:
            self._fail("it does not deliver messages")
        else:
            self._heard = False
            await self._messages.send_packed_command(pack((b"PING",)), check_health=False)
        await asyncio.wait((self._failure,), timeout=seconds)
        if self._failure.done():
            self._failure.result()

    async def aclose(self) -> None:
        """See ``Link.aclose()``."""
        self._fail("the connection is closed")
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
        await _close((self._commands, self._messages))

    def _request(self, *words: bytes | int) -> Future[object]:
        future: Future[object] = self._loop.create_future()
        if self._failure.done():
            future.set_exception(self._failure.exception() or StoreError("the connection is closed"))
        elif len(self._waiting) >= MAX_WAITING:
            future.set_exception(StoreError("too many decisions are waiting for it"))
        else:
            due = self._loop.time() + DEADLINE_SECONDS
            self._waiting.append((due, future))
            self._to_send.append(pack(words))
            self._has_to_send.set()
            if self._watch is None:
                self._watch = self._loop.call_at(due, self._check, due)
        return future

    def _check(self, due: float) -> None:
        """Fail if the oldest call has waited for too long."""
        self._watch = None
        if not self._waiting:
            return
        now, oldest = self._loop.time(), self._waiting[0][0]
        if oldest <= now:
            if now - due < _BUSY_SECONDS:
                self._fail(f"no answer within {DEADLINE_SECONDS * 1000:g} ms")
                return
            oldest = now + _BUSY_SECONDS
        self._watch = self._loop.call_at(oldest, self._check, oldest)

    def _fail(self, problem: str) -> None:
        if self._failure.done():
            return
        self._failure.set_exception(StoreError(problem))
        self._failure.exception()  # retrieved here, or asyncio would log it
        if self._watch is not None:
            self._watch.cancel()
        while self._waiting:
            future = self._waiting.popleft()[1]
            if not future.done():
                future.set_exception(StoreError(problem))

    async def _guard(self, work: Awaitable[None]) -> None:
        try:
            await work
        except (RedisError, OSError) as error:
            self._fail(_problem(error))
        except Exception as error:  # noqa: BLE001 - decisions go on after any answer of a store
            self._fail(f"it gave an unexpected answer ({type(error).__name__})")

    async def _send(self) -> None:
        while True:
            await self._has_to_send.wait()
            self._has_to_send.clear()
            batch, self._to_send = self._to_send, []
            if not self._commands.is_connected:
                raise ConnectionError
            await self._commands.send_packed_command(b"".join(batch), check_health=False)

    async def _read(self) -> None:
        while True:
            answer: object
            try:
                answer = await self._commands.read_response(disable_decoding=True)
            except ResponseError as error:
                if isinstance(error, AuthenticationError):
                    raise
                # One call that the store does not take means that no other can be relied on.
                self._fail(_problem(error))
                return
            _, future = self._waiting.popleft()
            if not future.done():
                future.set_result(answer)

    async def _listen(self) -> None:
        while True:
            answer = await self._messages.read_response(disable_decoding=True)
            self._heard = True
            if isinstance(answer, list) and len(answer) == 3 and answer[0] == b"message":  # noqa: PLR2004 - its form
                self._receive(answer[2])


def pack(words: Iterable[bytes | int]) -> bytes:
    """Write a command as the store reads it (RESP). The client's own function takes three times as long."""
    parts = [word if isinstance(word, bytes) else b"%d" % word for word in words]
    return b"*%d\r\n" % len(parts) + b"".join([b"$%d\r\n%b\r\n" % (len(part), part) for part in parts])


async def _ask(connection: redis.asyncio.Connection, *words: bytes) -> Any:  # noqa: ANN401 - as the command says
    await connection.send_packed_command(pack(words), check_health=False)
    return await connection.read_response(disable_decoding=True)


async def _open(connection: redis.asyncio.Connection) -> None:
    await connection.connect()  # type: ignore[no-untyped-call,unused-ignore]


async def _close(connections: Iterable[redis.asyncio.Connection]) -> None:
    for connection in connections:
        with suppress(RedisError, OSError):
            async with asyncio.timeout(_CLOSE_SECONDS):
                await connection.disconnect()


def _problem(error: Exception) -> str:
    """Say what is wrong, without the words of the store, which can hold what was sent to it."""
    meaning = next((text for kind, text in _MEANINGS.items() if type(error) is kind), None)
    if meaning is not None:
        return meaning
    if isinstance(error, ResponseError):
        meaning = next((text for phrase, text in _PHRASES.items() if phrase in str(error)), None)
        code = _CODE.match(str(error))
        return meaning or (f"it answers {code[0]}" if code else "it gave an error")
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, OSError):
        cause = cause.__cause__ or cause.__context__
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {cause.verify_message}"
    if isinstance(cause, OSError):
        # The text has more than the reason where several addresses were tried.
        reason = os.strerror(cause.errno) if cause.errno and cause.errno > 0 else cause.strerror
        return f"cannot connect: {reason or type(cause).__name__}"
    return "the connection was closed"
