"""HTTPS: trusted certificates, client certificates, and the errors for files that cannot be used."""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING

import pytest

from moq_token import ConfigError, Key, UnavailableError
from moq_token.sources import Http, Tls, UrlSource
from tests.certificates import Authority, serving
from tests.sources_server import Server, on_loop, reply

if TYPE_CHECKING:
    from pathlib import Path

KEY = Key.generate("EdDSA", "one").to_public()
PATH = "/one.jwk"


@pytest.fixture
def ours(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "ours")


async def fetched(server: Server, tls: Tls | None) -> Key:
    server.scripts[PATH] = reply(KEY.to_json())
    async with Http(tls) as http, UrlSource(server.url + PATH, http=http) as source:
        return await source.get(None)


@on_loop
async def test_an_own_authority(ours: Authority) -> None:
    async with Server(serving(ours.issue("server", "127.0.0.1"))) as server:
        assert await fetched(server, Tls(roots=(ours.root,))) == KEY
        assert await fetched(server, Tls(roots=(ours.root,), system_roots=True)) == KEY


@pytest.mark.parametrize("roots", [False, True])
@on_loop
async def test_others_are_not_trusted(ours: Authority, tmp_path: Path, roots: bool) -> None:  # noqa: FBT001 - a table
    theirs = Authority(tmp_path, "theirs")
    async with Server(serving(theirs.issue("server", "127.0.0.1"))) as server:
        with pytest.raises(UnavailableError, match=r"not trusted .*SSL_CERT_FILE.*\[client.tls\]") as caught:
            await fetched(server, Tls(roots=(ours.root,)) if roots else None)
        assert isinstance(caught.value.__cause__, ssl.SSLCertVerificationError)
        assert server.count() == 0
        assert await fetched(server, Tls(disable_verify=True)) == KEY


@on_loop
async def test_a_certificate_must_be_for_that_host(ours: Authority) -> None:
    async with Server(serving(ours.issue("server", "127.0.0.2"))) as server:
        with pytest.raises(UnavailableError, match=r"not valid for the host 127\.0\.0\.1"):
            await fetched(server, Tls(roots=(ours.root,)))
        assert server.count() == 0


@on_loop
async def test_a_certificate_of_our_own(ours: Authority) -> None:
    cert, key = ours.issue("client", "127.0.0.1")
    async with Server(serving(ours.issue("server", "127.0.0.1"), ours.root)) as server:
        assert await fetched(server, Tls(roots=(ours.root,), cert=cert, key=key)) == KEY
        with pytest.raises(UnavailableError, match="whether the server requires a client certificate"):
            await fetched(server, Tls(roots=(ours.root,)))


def test_files_that_cannot_be_used(ours: Authority, tmp_path: Path) -> None:
    cert, key = ours.issue("client", "127.0.0.1")
    locked = ours.issue("locked", "127.0.0.1", password=b"hush")
    empty, missing = tmp_path / "empty", str(tmp_path / "missing")
    empty.touch()
    cases = {
        "No such file": Tls(roots=(missing,)),
        "no valid PEM": Tls(roots=(str(empty),)),
        "client.*', .*: No such file": Tls(cert=cert, key=missing),
        "no valid PEM, or encrypted with a password": Tls(cert=locked[0], key=locked[1]),
        "client.*', '": Tls(cert=cert, key=locked[1]),
        "server.*": Tls(cert=ours.issue("server", "127.0.0.1")[0], key=key),
        "must be set together": Tls(cert=cert),
    }
    for message, tls in cases.items():
        with pytest.raises(ConfigError, match=message):
            Http(tls)


@pytest.mark.parametrize(("days", "message"), [((-5, -1), "has expired"), ((1, 5), "is not yet valid")])
@on_loop
async def test_a_certificate_must_be_current(ours: Authority, days: tuple[int, int], message: str) -> None:
    async with Server(serving(ours.issue("server", "127.0.0.1", days=days))) as server:
        with pytest.raises(UnavailableError, match=f"the certificate of the server {message}"):
            await fetched(server, Tls(roots=(ours.root,)))


@on_loop
async def test_the_environment_names_roots(ours: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", ours.root)
    async with Server(serving(ours.issue("server", "127.0.0.1"))) as server:
        assert await fetched(server, None) == KEY


@on_loop
async def test_the_wrong_scheme_is_named(ours: Authority) -> None:
    def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as plain:
        host, port = plain.sockets[0].getsockname()
        async with UrlSource(f"https://{host}:{port}") as source:
            with pytest.raises(UnavailableError, match=f"does not speak TLS on {host}:{port}. Use http://"):
                await source.get(None)
    async with Server(serving(ours.issue("server", "127.0.0.1"))) as secure:
        secure.url = secure.url.replace("https:", "http:")
        with pytest.raises(UnavailableError, match="use https://"):
            await fetched(secure, None)
