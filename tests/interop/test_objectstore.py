"""Keys in an object store: S3 with a server of another project, and a directory with obstore."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from http.client import HTTPConnection
from typing import TYPE_CHECKING, NamedTuple

import obstore
import pytest

pytest.importorskip("moto", reason="moto does not support this Python yet")

from moto.server import ThreadedMotoServer
from obstore.store import from_url

from moq_token import Key, KeyId, KeyNotFoundError, UnavailableError
from moq_token.sources import ObjectStoreSource, objects, open_source
from moq_token.sources.objects import FRESH_SECONDS
from moq_token.sources.web import MISSING_SECONDS, UNKNOWN_BURST
from tests.sources_server import Clock, Request, Server, on_loop, reply

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from obstore.store import ObjectStore

KEY = Key.generate("EdDSA", "one").to_public()
OTHER = Key.generate("EdDSA", "two").to_public()
KID = KeyId("one")
BUCKET = "bucket"


class Store(NamedTuple):
    client: ObjectStore
    requests: list[str]
    url: str

    def put(self, name: str, body: str) -> None:
        obstore.put(self.client, name, body.encode())
        del self.requests[:]


def environment(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    for name in os.environ:
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    variables = {"ACCESS_KEY_ID": "access", "SECRET_ACCESS_KEY": "hush-hush", "REGION": "us-east-1"}
    for name, value in (variables | {"ENDPOINT_URL": endpoint, "ALLOW_HTTP": "true"}).items():
        monkeypatch.setenv(f"AWS_{name}", value)


class Recorder(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.requests: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.requests.append(record.getMessage())


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    recorder = Recorder()
    log = logging.getLogger("werkzeug")
    monkeypatch.setattr(log, "propagate", False)
    monkeypatch.setattr(log, "level", logging.INFO)
    log.addHandler(recorder)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=True)
    server.start()
    try:
        host, port = server.get_host_and_port()
        environment(monkeypatch, f"http://{host}:{port}")
        with contextlib.closing(HTTPConnection(host, port, timeout=100)) as connection:
            connection.request("PUT", f"/{BUCKET}")
            assert connection.getresponse().status == 200
        url = f"s3://{BUCKET}/keys"
        yield Store(from_url(url), recorder.requests, url)
    finally:
        server.stop()
        log.removeHandler(recorder)


def statuses(store: Store) -> list[str]:
    return [request.rsplit('"', 1)[1].split()[0] for request in store.requests if "GET /" in request]


@on_loop
async def test_a_key_through_its_life(s3: Store) -> None:
    clock = Clock()
    s3.put("one.jwk", KEY.to_json())
    async with ObjectStoreSource(s3.url, clock=clock) as source:
        results = await asyncio.gather(*(source.get(KID) for _ in range(100)))
        assert results[0] == KEY
        assert all(result is results[0] for result in results)
        clock.pass_(FRESH_SECONDS - 1)
        assert await source.get(KID) is results[0]
        assert statuses(s3) == ["200"]
        clock.pass_(1)
        assert await source.get(KID) is results[0]
        assert statuses(s3) == ["200", "304"]

        s3.put("one.jwk", OTHER.to_json())
        clock.pass_(FRESH_SECONDS)
        assert await source.get(KID) == OTHER
        assert statuses(s3) == ["200"]

        obstore.delete(s3.client, "one.jwk")
        clock.pass_(FRESH_SECONDS)
        for _ in range(3):
            with pytest.raises(KeyNotFoundError) as caught:
                await source.get(KID)
            assert caught.value.kid == "one"
        assert statuses(s3) == ["200", "404"]

        s3.put("one.jwk", KEY.to_json())
        clock.pass_(MISSING_SECONDS)
        assert await source.get(KID) == KEY
        with pytest.raises(KeyNotFoundError):
            await source.get(None)


@on_loop
async def test_what_is_no_key_is_unavailable(s3: Store) -> None:
    s3.put("one.jwk", "<html>")
    s3.put("large.jwk", " " * (1024 * 1024 + 1))
    async with ObjectStoreSource(s3.url) as source:
        with pytest.raises(UnavailableError, match="not usable"):
            await source.get(KID)
        with pytest.raises(UnavailableError, match="larger than 1048576 bytes"):
            await source.get(KeyId("large"))


@on_loop
async def test_guessing_costs_a_bounded_number_of_requests(s3: Store) -> None:
    s3.put("one.jwk", KEY.to_json())
    async with ObjectStoreSource(s3.url, clock=Clock()) as source:
        key = await source.get(KID)
        for number in range(2 * UNKNOWN_BURST):
            with pytest.raises((KeyNotFoundError, UnavailableError)):
                await source.get(KeyId(f"guess-{number}"))
        assert statuses(s3) == ["200"] + ["404"] * (UNKNOWN_BURST - 1)
        assert await source.get(KID) is key


async def hang(_: Request, writer: asyncio.StreamWriter) -> None:
    del writer
    await asyncio.Event().wait()


async def endless(_: Request, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nlast-modified: Mon, 01 Jan 2024 00:00:00 GMT\r\ncontent-length: 20\r\n")
    writer.write(b"transfer-encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"10000\r\n" + b" " * 0x10000 + b"\r\n")
        await writer.drain()


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (reply("", 401), r"access denied \(401\). Check the credentials \(AWS_…\)"),
        (reply("", 403), r"access denied \(403\). Check credentials \(AWS_…\)"),
        (reply("<Error><Code>NoSuchBucket</Code></Error>", 404), "bucket not found"),
        (reply("<Error/>", 500), "answered 500"),
        (reply("", 200), "not usable"),
        (b"SSH-2.0\r\n\r\n", "the answer is invalid"),
        (hang, "did not answer within"),
        (endless, "cannot be read|larger than|not usable"),
    ],
    ids=["401", "403", "bucket", "500", "empty", "no HTTP", "hangs", "endless"],
)
@on_loop
async def test_a_store_that_fails(script: object, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with Server() as server:
        environment(monkeypatch, server.url)
        if script is hang:
            monkeypatch.setattr(objects, "TIMEOUT_SECONDS", 1.0)
        server.scripts[f"/{BUCKET}/keys/one.jwk"] = script  # type: ignore[assignment]
        async with ObjectStoreSource(f"s3://{BUCKET}/keys") as source:
            with pytest.raises(UnavailableError, match=message) as caught:
                await source.get(KID)
        assert "hush" not in str(caught.value)
        assert caught.value.__cause__ is None
        assert 1 <= server.count() <= 2


@on_loop
async def test_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Server() as server:
        environment(monkeypatch, server.url)
    async with ObjectStoreSource(f"s3://{BUCKET}/keys") as source:
        with pytest.raises(UnavailableError, match="connection refused"):
            await source.get(KID)


@on_loop
async def test_a_local_directory(tmp_path: Path) -> None:
    KEY.to_file(tmp_path / "one.jwk")
    async with ObjectStoreSource(tmp_path.as_uri()) as source:
        assert await source.get(KID) == KEY
        with pytest.raises(KeyNotFoundError):
            await source.get(KeyId("two"))


@pytest.mark.parametrize("url", ["s3://bucket/keys", "gs://bucket/keys", "az://account/container/keys"])
@on_loop
async def test_every_kind_of_store_is_made_without_a_request(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    environment(monkeypatch, "http://127.0.0.1:1")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    source = open_source(url, directory=True)
    assert isinstance(source, ObjectStoreSource)
    await source.aclose()
