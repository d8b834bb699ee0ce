"""A directory of keys served by nginx: ETag, Cache-Control, an outage and its end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from moq_token import Key, KeyId, KeyNotFoundError, UnavailableError
from moq_token.sources import UrlDirectorySource
from tests.interop.peers import missing
from tests.ports import free_port
from tests.sources_server import Clock, on_loop

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONFIGURATION = """\
daemon off;
pid {root}/pid;
error_log {root}/error.log;
events {{ worker_connections 64; }}
http {{
  access_log {root}/access.log;
  client_body_temp_path {root}/t1; proxy_temp_path {root}/t2; fastcgi_temp_path {root}/t3;
  uwsgi_temp_path {root}/t4; scgi_temp_path {root}/t5;
  gzip on; gzip_types *; gzip_min_length 1; gzip_proxied any;
  server {{
    listen 127.0.0.1:{port};
    root {root}/www;
    location /cached/ {{ alias {root}/www/; add_header Cache-Control "private, max-age=60"; }}
    location /bridged/ {{ alias {root}/www/; add_header Cache-Control "max-age=60, stale-if-error=600" always; }}
    location /plain/ {{ alias {root}/www/; }}
    location /expires/ {{ alias {root}/www/; expires 60s; }}
    location /never/ {{ alias {root}/www/; expires -1; }}
  }}
}}
"""
KID = KeyId("one")
PATIENCE = 60  # seconds


class Nginx:
    def __init__(self, binary: str, root: Path) -> None:
        self._binary, self._root = binary, root
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        self.keys = root / "www"
        self.keys.mkdir()
        (root / "nginx.conf").write_text(CONFIGURATION.format(root=root, port=self._port))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [self._binary, "-c", str(self._root / "nginx.conf"), "-e", str(self._root / "error.log")]
        command += ["-p", str(self._root)]
        if os.getuid() == 0:
            command += ["-g", "user root;"]  # so that its workers may read the directory of the test
        self._process = subprocess.Popen(command)
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self._port), 1):
                return
            assert self._process.poll() is None, (self._root / "error.log").read_text()
            time.sleep(0.01)
        raise AssertionError((self._root / "error.log").read_text())

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(PATIENCE)
            self._process = None

    def statuses(self) -> list[str]:
        """Return the status of each answer so far, in order."""
        return [line.split('"')[2].split()[0] for line in (self._root / "access.log").read_text().splitlines()]

    async def answered(self, *statuses: int) -> None:
        """Wait until the log contains exactly these answers. nginx writes its log after it answers."""
        deadline = time.monotonic() + PATIENCE
        while self.statuses() != [str(status) for status in statuses] and time.monotonic() < deadline:  # noqa: ASYNC110 - it is another process
            await asyncio.sleep(0.01)
        assert self.statuses() == [str(status) for status in statuses]


@pytest.fixture
def nginx(tmp_path: Path) -> Iterator[Nginx]:
    binary = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if binary is None:
        missing("nginx")
    server = Nginx(binary, tmp_path)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def publish(nginx: Nginx, name: str, *, written: float) -> Key:
    key = Key.generate("EdDSA", name).to_public()
    path = nginx.keys / "one.jwk"
    key.to_file(path)
    os.utime(path, (written, written))
    return key


@pytest.mark.parametrize("location", ["cached", "expires"])
@on_loop
async def test_a_key_is_fresh_then_confirmed_then_replaced(nginx: Nginx, location: str) -> None:
    clock = Clock()
    key = publish(nginx, "old", written=1_700_000_000)
    async with UrlDirectorySource(f"{nginx.url}/{location}", clock=clock) as source:
        first = await source.get(KID)
        assert first == key
        clock.pass_(55)
        assert await source.get(KID) is first
        await nginx.answered(200)
        clock.pass_(10)
        assert await source.get(KID) is first
        await nginx.answered(200, 304)
        clock.pass_(55)
        assert await source.get(KID) is first
        await nginx.answered(200, 304)

        new = publish(nginx, "new", written=1_700_000_100)
        clock.pass_(10)
        assert await source.get(KID) == new
        await nginx.answered(200, 304, 200)

        (nginx.keys / "one.jwk").unlink()
        clock.pass_(65)
        with pytest.raises(KeyNotFoundError):
            await source.get(KID)
        with pytest.raises(KeyNotFoundError):
            await source.get(KID)
        await nginx.answered(200, 304, 200, 404)


@pytest.mark.parametrize("location", ["plain", "never"])
@on_loop
async def test_without_a_lifetime_a_key_is_confirmed_each_time(nginx: Nginx, location: str) -> None:
    publish(nginx, "old", written=1_700_000_000)
    async with UrlDirectorySource(f"{nginx.url}/{location}") as source:
        first = await source.get(KID)
        assert await source.get(KID) is first
        assert await source.get(KID) is first
        await nginx.answered(200, 304, 304)
        new = publish(nginx, "new", written=1_700_000_100)
        assert await source.get(KID) == new
        await nginx.answered(200, 304, 304, 200)


@on_loop
async def test_an_outage_and_the_return(nginx: Nginx) -> None:
    clock = Clock()
    key = publish(nginx, "old", written=1_700_000_000)
    async with (
        UrlDirectorySource(f"{nginx.url}/cached", clock=clock) as cached,
        UrlDirectorySource(f"{nginx.url}/bridged", clock=clock) as bridged,
    ):
        assert await cached.get(KID) == await bridged.get(KID) == key
        nginx.stop()
        clock.pass_(50)
        assert await cached.get(KID) == await bridged.get(KID) == key
        clock.pass_(50)
        assert await bridged.get(KID) == key
        with pytest.raises(UnavailableError):
            await cached.get(KID)
        nginx.start()
        assert await cached.get(KID) == await bridged.get(KID) == key
        nginx.stop()
        clock.pass_(700)
        with pytest.raises(UnavailableError):
            await bridged.get(KID)
