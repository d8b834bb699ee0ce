"""A running ``moq-relay`` of either generation, and a client that dials it over QUIC."""

from __future__ import annotations

import asyncio
import os
import queue
import re
import subprocess
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple, cast

import moq

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

MoqError = cast("type[Exception]", moq.Error)
UNAUTHORIZED = 401
BAD_GATEWAY = 502
PATIENCE = 10  # seconds

# A URL names this host, which stands for the relay.
HOST = re.compile(r"(?i)relay\.example(:\d+)?")
OUTAGE = BAD_GATEWAY + 64  # the transport's codes lie this far above those of HTTP
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
# A role without any grant is missing in the line: "publisher accepted … publish=inbox".
_ACCEPTED = re.compile(
    r" accepted transport=\S* role=\S* tier=(\S*) root=(.*?)(?: publish=(.*?))?(?: subscribe=(.*))?$"
)


class Accepted(NamedTuple):
    """The log entry of the relay for an admitted session. None means a role without any grant."""

    tier: str
    root: str
    publish: str | None
    subscribe: str | None


class Relay:
    """A running relay, and its log."""

    def __init__(self, process: subprocess.Popen[str], lines: queue.SimpleQueue[str]) -> None:
        self.process = process
        self._lines = lines
        self.port = int(self.next(re.compile(r"listening addr=.*:(\d+) kind=\"quic\""))[1])

    def next(self, pattern: re.Pattern[str]) -> re.Match[str]:
        """Return the next line that matches the pattern. Raises ``queue.Empty`` if there is none in time."""
        while True:
            line = self._lines.get(timeout=PATIENCE)
            if found := pattern.search(line):
                return found

    @property
    def base(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def url(self, url: str) -> str:
        return HOST.sub(f"127.0.0.1:{self.port}", url)

    def dial(self, url: str) -> Accepted | int:
        """Dial, and return the grant, or 401 for every refusal, or 502."""
        code = asyncio.run(_dial(self.url(url)))
        line = self.next(re.compile(r"\w+ accepted .*|connection closed err=.*"))[0]
        if accepted := _ACCEPTED.search(line):
            self.next(re.compile("connection closed err="))
            return Accepted(*accepted.groups())
        return BAD_GATEWAY if code == OUTAGE else UNAUTHORIZED


@contextmanager
def running(
    command: str, *arguments: str, directory: Path, variables: Mapping[str, str] | None = None
) -> Iterator[Relay]:
    """Run a relay in a directory."""
    with subprocess.Popen(
        [command, *arguments],
        cwd=directory,
        env={**os.environ, **(variables or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        listener = threading.Thread(target=_listen, args=(process, lines))
        listener.start()
        try:
            yield Relay(process, lines)
        finally:
            process.kill()
            listener.join()  # before the output is closed, because the thread must not be reading it then


def _listen(process: subprocess.Popen[str], lines: queue.SimpleQueue[str]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        lines.put(_COLOUR.sub("", line.rstrip("\n")))


def client(url: str) -> moq.Client:
    return moq.connect(
        url,
        tls_verify=False,
        websocket_enabled=False,
        reconnect=False,
        publish=moq.OriginProducer(),
        subscribe=moq.OriginProducer(),
    )


async def _dial(url: str) -> int | None:
    """Connect, and return the code that the relay closes with. An admitted session is ended at once."""
    try:
        async with client(url) as dialed:
            assert dialed.session is not None
            with suppress(TimeoutError):
                await asyncio.wait_for(dialed.session.closed(), 0.1)
    except MoqError as error:
        details = moq.protocol_error(error)
        return None if details is None else details.code
    return None
