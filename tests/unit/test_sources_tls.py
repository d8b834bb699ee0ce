"""HTTPS: who is trusted, as whom we go, and what is said of files that cannot be used."""

from __future__ import annotations

import datetime as dt
import ipaddress
import ssl
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from moq_token import ConfigError, Key, UnavailableError
from moq_token.sources import Http, Tls, UrlSource
from tests.sources_server import Server, on_loop, reply

if TYPE_CHECKING:
    from pathlib import Path

KEY = Key.generate("EdDSA", "one").to_public()
PATH = "/one.jwk"


class Authority:
    def __init__(self, directory: Path, name: str) -> None:
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.root = self._write(f"{name}.pem", self._certify(self._name, self._key.public_key(), None))

    def issue(self, name: str, address: str, *, password: bytes | None = None) -> tuple[str, str]:
        """Return the files of a certificate and of its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = self._certify(subject, key.public_key(), ipaddress.ip_address(address))
        encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
        pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
        return self._write(f"{name}.pem", certificate), self._write(f"{name}.key", pem)

    def _certify(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePublicKey,
        address: ipaddress.IPv4Address | ipaddress.IPv6Address | None,
    ) -> bytes:
        now = dt.datetime.now(dt.UTC)
        day = dt.timedelta(days=1)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - day)
            .not_valid_after(now + day)
            .add_extension(x509.BasicConstraints(ca=address is None, path_length=None), critical=True)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        )
        if address is not None:
            builder = builder.add_extension(x509.SubjectAlternativeName([x509.IPAddress(address)]), critical=False)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def _write(self, name: str, data: bytes) -> str:
        path = self._directory / name
        path.write_bytes(data)
        return str(path)


@pytest.fixture
def ours(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "ours")


def serving(identity: tuple[str, str], client_root: str | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*identity)
    if client_root is not None:
        context.load_verify_locations(client_root)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


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
        with pytest.raises(UnavailableError, match="cannot be had") as caught:
            await fetched(server, Tls(roots=(ours.root,)) if roots else None)
        assert isinstance(caught.value.__cause__, ssl.SSLCertVerificationError)
        assert server.count() == 0
        assert await fetched(server, Tls(disable_verify=True)) == KEY


@on_loop
async def test_a_certificate_must_be_for_that_host(ours: Authority) -> None:
    async with Server(serving(ours.issue("server", "127.0.0.2"))) as server:
        with pytest.raises(UnavailableError):
            await fetched(server, Tls(roots=(ours.root,)))
        assert server.count() == 0


@on_loop
async def test_a_certificate_of_our_own(ours: Authority) -> None:
    cert, key = ours.issue("client", "127.0.0.1")
    async with Server(serving(ours.issue("server", "127.0.0.1"), ours.root)) as server:
        assert await fetched(server, Tls(roots=(ours.root,), cert=cert, key=key)) == KEY
        with pytest.raises(UnavailableError):
            await fetched(server, Tls(roots=(ours.root,)))


def test_files_that_cannot_be_used(ours: Authority, tmp_path: Path) -> None:
    cert, key = ours.issue("client", "127.0.0.1")
    locked = ours.issue("locked", "127.0.0.1", password=b"hush")
    empty, missing = tmp_path / "empty", str(tmp_path / "missing")
    empty.touch()
    cases = {
        "No such file": Tls(roots=(missing,)),
        "no usable PEM": Tls(roots=(str(empty),)),
        "client.pem, .*missing.*No such file": Tls(cert=cert, key=missing),
        "no usable PEM, or one that needs a password": Tls(cert=locked[0], key=locked[1]),
        "client.pem, .*locked": Tls(cert=cert, key=locked[1]),
        "server.*": Tls(cert=ours.issue("server", "127.0.0.1")[0], key=key),
        "need each other": Tls(cert=cert),
    }
    for message, tls in cases.items():
        with pytest.raises(ConfigError, match=message):
            Http(tls)
