"""Keys as other tools, editors and shells write them: read if unambiguous, otherwise described in the error."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, x25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    pkcs12,
)

from moq_token import Algorithm, ConfigError, InvalidKeyError, Key, KeyOperation, KeySet
from moq_token.sources import open_source
from tests import forge
from tests.forge import b64, compact, jwk

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

HS256, RS256, ES256, EDDSA = Algorithm.HS256, Algorithm.RS256, Algorithm.ES256, Algorithm.EDDSA
JWK = json.dumps(jwk(EDDSA))
PEM = forge.native(EDDSA).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
DER = forge.native(EDDSA).private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
SPKI = forge.native(EDDSA).public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
P12 = pkcs12.serialize_key_and_certificates(b"x", forge.native(RS256), None, None, NoEncryption())
SSH = forge.native(EDDSA).public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
SECRETS = (jwk(EDDSA)["d"], PEM.splitlines()[1], "correct-horse-battery")


def message(read: Callable[[], object]) -> str:
    with pytest.raises(InvalidKeyError) as caught:
        read()
    text = str(caught.value)
    assert len(text) < 400
    assert "\n" not in text
    assert not [secret for secret in SECRETS if secret[:12] in text]
    return text


# -- taken


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_every_unicode_encoding_is_taken(encoding: str, mark: str, tmp_path: Path) -> None:
    for text in (JWK, f"{JWK}\r\n", b64(JWK.encode())):
        data = (mark + text).encode(encoding)
        (tmp_path / "key.jwk").write_bytes(data)
        assert Key.from_str(data) == Key.from_file(tmp_path / "key.jwk") == forge.key(EDDSA)
    keys = (mark + json.dumps({"keys": [jwk(EDDSA)]})).encode(encoding)
    assert KeySet.from_str(keys) == KeySet([forge.key(EDDSA)])
    assert Key.from_pem((mark + PEM).encode(encoding), kid=forge.KID) == forge.key(EDDSA)


@pytest.mark.parametrize("around", ["\u00a0", "\u3000\u2028", "\u200b", "\u200e \n", "\x0c\x85\ufeff", "\u2060"])
def test_characters_that_nobody_sees_around_a_key_are_taken(around: str) -> None:
    """A relay takes white space of Unicode; a page or a word processor leaves other invisible characters too."""
    for text in JWK, b64(JWK.encode()):
        assert Key.from_str(f"{around}{text}") == Key.from_str(f"{text}{around}") == forge.key(EDDSA)
    keys = json.dumps({"keys": [jwk(EDDSA)]})
    assert KeySet.from_str(f"{around}{keys}{around}") == KeySet([forge.key(EDDSA)])
    assert Key.from_pem(f"{around}{PEM}{around}", kid=forge.KID) == forge.key(EDDSA)


@pytest.mark.parametrize("text", ["", " \n", "\u00a0\n", "\ufeff", "\u3000"])
def test_white_space_alone_is_empty(text: str) -> None:
    for read in Key.from_str, KeySet.from_str:
        assert message(lambda read=read: read(text)) == "it is empty: check that it was written completely"  # type: ignore[misc]


@pytest.mark.parametrize(
    "text",
    [
        PEM.replace("\n", "\\n"),
        PEM.replace("\n", "\\r\\n"),
        PEM.replace("\n", "\r\n"),
        PEM.replace("\n", "\r"),
        PEM.replace("\n", " "),
        PEM.replace("\n", ""),
        json.dumps(PEM),
        f"'{PEM}'",
        "".join(f"    {line}\n" for line in PEM.splitlines()),
        base64.b64encode(PEM.encode()).decode(),
        base64.encodebytes(PEM.encode()).decode(),
        b64(PEM.encode()),
        f"\ufeff{PEM}",
        f'PRIVATE_KEY="{PEM}"',
    ],
)
def test_pem_as_variables_and_files_keep_it(text: str) -> None:
    assert Key.from_pem(text, kid=forge.KID) == forge.key(EDDSA)


@pytest.mark.parametrize("algorithm", [ES256, Algorithm.ES384, EDDSA])
def test_the_algorithm_of_pem_is_that_of_its_curve(algorithm: Algorithm) -> None:
    key = forge.key(algorithm)
    assert Key.from_pem(key.to_pem(), kid=forge.KID) == key
    assert Key.from_pem(key.to_public().to_pem(), kid=forge.KID) == key.to_public()
    assert Key.from_pem(key.to_pem("x"), kid=forge.KID, password="x") == key
    for spelled in (algorithm, algorithm.value, algorithm.lower()):
        assert Key.from_pem(key.to_pem(), spelled).algorithm is algorithm
    with pytest.raises(ValueError, match="RS256, RS384"):
        Key.from_pem(forge.key(RS256).to_pem())


# -- secrets


def test_a_key_of_a_secret() -> None:
    secret = "my-very-secret-backend-api-secret-0123456789"
    key = Key.from_secret(secret)
    assert key == Key.from_secret(secret.encode(), "hs256")
    assert (key.algorithm, key.kid, key.scope) == (HS256, None, None)
    assert key.operations == {KeyOperation.SIGN, KeyOperation.VERIFY}
    assert forge.unb64(str(key.to_members()["k"])) == secret.encode()
    assert Key.from_secret(bytes(64), Algorithm.HS512, kid="one").kid == "one"
    assert forge.unb64(str(Key.from_secret("é" * 16).to_members()["k"])) == ("é" * 16).encode()


def test_secrets_that_are_refused() -> None:
    for size in (0, 1, 16, 31):
        assert f"at least 32 bytes, got {size}" in message(lambda: Key.from_secret("s" * size))  # noqa: B023
    Key.from_secret("s" * 4096)
    assert "too long" in message(lambda: Key.from_secret("s" * 4097))
    assert "surrogate" in message(lambda: Key.from_secret("\ud800" * 32))
    for name in ("EdDSA", "none", ""):
        with pytest.raises(ValueError, match="HS256"):
            Key.from_secret("s" * 32, name)
    for wrong in (None, 5, bytearray(32)):
        with pytest.raises(TypeError):
            Key.from_secret(wrong)  # type: ignore[arg-type]


# -- named

TEXTS = {
    "empty": (b"", "empty"),
    "blank": (b" \n\t", "empty"),
    "empty with a mark": (b"\xef\xbb\xbf", "empty"),
    "quotes": (f"'{JWK}'".encode(), "quotes around it"),
    "double quotes": (f'"{JWK}"'.encode(), "quotes around it"),
    "a JSON string": (json.dumps(JWK).encode(), "quotes around it"),
    "an open quote": (f"'{JWK}".encode(), "a quote at its start"),
    "typographic quotes": (f"“{JWK}”".encode(), "quotes around it"),
    "eaten quotes": (JWK.replace('"', "").encode(), "double quotes of its JSON are missing"),
    "single quotes": (repr(jwk(EDDSA)).encode(), "single quotes"),
    "escaped quotes": (JWK.replace('"', '\\"').encode(), "backslashes"),
    "word processor": (JWK.replace('"', "“").encode(), "typographic"),
    "cut off": (JWK[:-20].encode(), "cut off"),
    "two keys": ((JWK + JWK).encode(), "more than one"),
    "a list": (f"[{JWK}]".encode(), "list"),
    "PEM": (PEM.encode(), "Key.from_pem"),
    "the end of PEM": (PEM[40:].encode(), "Key.from_pem"),
    "PGP": (b"-----BEGIN PGP PRIVATE KEY BLOCK-----\n\nAAAA", "PGP"),
    "DER": (DER, "openssl pkey -inform DER"),
    "public DER": (SPKI, "openssl pkey -pubin -inform DER"),
    "PKCS#12": (P12, "openssl pkcs12"),
    "OpenSSH": (SSH.encode(), "ssh-keygen"),
    "OpenSSH ECDSA": (b"ecdsa-sha2-nistp256 AAAA me@here", "ssh-keygen"),
    "PuTTY": (b"PuTTY-User-Key-File-3: ssh-ed25519\nEncryption: none", "PuTTY"),
    "age": (b"AGE-SECRET-KEY-1QQQ", "age"),
    "a token": (b"eyJhbGciOiJIUzI1NiJ9.e30.AAAA", "token"),
    "a JWE": (b"eyJhbGciOiJkaXIifQ..AAAA.AAAA.AAAA", "JWE"),
    "HTML": (b"<!doctype html><title>Login</title>", "HTML"),
    "a URL": (b"https://id.example/keys/k1.jwk", "URL"),
    "YAML": (b"apiVersion: v1\nkind: Secret\ndata:\n  key: AAAA", "YAML"),
    "env file": (f"MOQ_TOKEN_KEY_DATA={JWK}".encode(), "NAME=VALUE"),
    "export": (f"export KEY='{JWK}'".encode(), "NAME=VALUE"),
    "gzip": (b"\x1f\x8b\x08\x00\x00\x00", "gzip"),
    "binary": (bytes(range(128, 160)), "Key.from_secret"),
    "a secret": (b"my-very-secret-backend-api-secret-0123456789", "Key.from_secret"),
    "hex": (b"00112233445566778899aabbccddeeff" * 2, "Key.from_secret"),
    "a word": (b"relay-1", "plain text"),
    "a file name": (b"priv.jwk", "looks like a file name"),
    "a path": (b"/etc/moq/key", "looks like a file name"),
    "a path of Windows": (b"C:\\keys\\root.jwk", "looks like a file name"),
    "wrapped base64": (base64.encodebytes(JWK.encode() * 2), "base64"),
    "base64 of PEM": (base64.b64encode(PEM.encode()), "PEM in base64"),
    "PEM without lines": (PEM.splitlines()[1].encode(), "DER"),
}


@pytest.mark.parametrize(("data", "named"), TEXTS.values(), ids=TEXTS)
def test_texts_that_are_no_jwk(data: bytes, named: str, tmp_path: Path) -> None:
    text = message(lambda: Key.from_str(data))
    assert named in text
    (tmp_path / "key").write_bytes(data)
    assert message(lambda: Key.from_file(tmp_path / "key")) == text
    assert message(lambda: KeySet.from_str(data)) == text


OBJECTS = {
    "a set": ({"keys": [jwk(EDDSA)]}, "KeySet.from_str"),
    "JWE": ({"protected": "e30", "encrypted_key": "AA", "iv": "AA", "ciphertext": "AA", "tag": "AA"}, "JWE"),
    "Google": ({"type": "service_account", "private_key": PEM, "client_email": "a@b"}, "private_key"),
    "Kubernetes": ({"apiVersion": "v1", "kind": "Secret", "data": {"key": "AA"}}, "Kubernetes"),
    "OpenID": ({"issuer": "https://id.example", "jwks_uri": "https://id.example/jwks"}, "jwks_uri"),
    "AWS": ({"KeyId": "arn:x", "PublicKey": "MC4C", "KeySpec": "ECC"}, "PublicKey"),
    "an error": ({"error": "not_found", "error_description": "x"}, "error message"),
    "another error": ({"message": "Unauthorized"}, "error message"),
    "OAuth": ({"access_token": "AA", "token_type": "Bearer"}, "tokens"),
    "claims": ({"root": "a", "put": ["b"]}, "claims"),
    "a wrapped key": ({"key": jwk(EDDSA)}, "member `key`"),
    "a wrapped set": ({"jwks": {"keys": []}}, "member `jwks`"),
    "PEM by id": ({"0a1b2c": PEM}, "PEM"),
    "empty": ({}, "empty"),
}


@pytest.mark.parametrize(("members", "named"), OBJECTS.values(), ids=OBJECTS)
def test_objects_that_are_no_jwk(members: dict[str, object], named: str) -> None:
    assert named in message(lambda: Key.from_str(compact(members)))
    assert named in message(lambda: Key.from_members(members))
    assert named in message(lambda: Key.from_str(b64(compact(members))))


def test_a_key_where_a_set_is_expected() -> None:
    assert "Key.from_str" in message(lambda: KeySet.from_str(JWK))
    assert "JWE" in message(lambda: KeySet.from_str('{"ciphertext":"AA"}'))


@pytest.mark.parametrize(
    ("crv", "named"), [("P-521", "P-521"), ("secp256k1", "secp256k1"), ("X25519", "X25519"), ("?", "an unknown curve")]
)
def test_curves_that_no_algorithm_uses(crv: str, named: str) -> None:
    text = message(lambda: Key.from_members({"kty": "EC", "crv": crv, "x": "AA", "y": "AA"}))
    assert named in text
    assert "`crv`" in text


PEMS = {
    "no end": (PEM[:92], "-----END PRIVATE KEY----- is missing"),
    "no begin": (PEM[28:], "-----BEGIN PRIVATE KEY----- is missing"),
    "a no-break space": (PEM.replace(" ", "\u00a0"), "U+00A0"),
    "dashes": (PEM.replace("-----", "\u2013\u2013\u2013\u2013\u2013"), "U+2013"),
    "four hyphens": (PEM.replace("-----", "----"), "five hyphens"),
    "labels that differ": (PEM.replace("END PRIVATE", "END PUBLIC"), "differ"),
    "a request": (PEM.replace("PRIVATE KEY", "CERTIFICATE REQUEST"), "openssl req"),
    "DSA": (PEM.replace("PRIVATE KEY", "DSA PRIVATE KEY"), "DSA"),
    "PGP": (PEM.replace("PRIVATE KEY", "PGP PRIVATE KEY BLOCK"), "PGP"),
    "parameters": (PEM.replace("PRIVATE KEY", "EC PARAMETERS"), "parameters"),
    "JSON": (JWK, "Key.from_str"),
    "empty": ("", "empty"),
    "OpenSSH": (SSH, "ssh-keygen"),
    "text": ("relay-1", "plain text"),
    "SSH2": ("---- BEGIN SSH2 PUBLIC KEY ----\nAAAA\n---- END SSH2 PUBLIC KEY ----", "ssh-keygen"),
}


@pytest.mark.parametrize(("text", "named"), PEMS.values(), ids=PEMS)
def test_texts_that_are_no_pem(text: str, named: str) -> None:
    assert named in message(lambda: Key.from_pem(text))
    assert named in message(lambda: Key.from_pem(text, EDDSA))


def test_der_given_as_pem() -> None:
    assert "openssl pkey -inform DER" in message(lambda: Key.from_pem(DER))
    assert "openssl pkey -pubin" in message(lambda: Key.from_pem(SPKI))


@pytest.mark.parametrize(
    ("native", "named"),
    [
        (ec.generate_private_key(ec.SECP521R1()), "P-521"),
        (ec.generate_private_key(ec.SECP256K1()), "secp256k1"),
        (x25519.X25519PrivateKey.generate(), "X25519"),
        (ed448.Ed448PrivateKey.generate(), "Ed448"),
        (dsa.generate_private_key(2048), "DSA"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_pem_of_a_kind_that_no_algorithm_uses(native: forge.Native, named: str) -> None:
    private = native.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    public = native.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    for data in (private, public):
        for algorithm in (None, ES256, EDDSA, RS256):
            assert named in message(lambda: Key.from_pem(data, algorithm))  # noqa: B023


def test_pem_of_a_kind_for_another_algorithm() -> None:
    assert "P-256, which is for ES256, not for ES384" in message(
        lambda: Key.from_pem(forge.key(ES256).to_pem(), "ES384")
    )
    assert "Ed25519, which is for EdDSA" in message(lambda: Key.from_pem(PEM, RS256))
    assert "RSA, which is for RS256" in message(lambda: Key.from_pem(forge.key(RS256).to_pem(), EDDSA))


def test_an_encrypted_pem_names_the_option() -> None:
    assert "--password-file" in message(lambda: Key.from_pem(forge.key(EDDSA).to_pem("x")))


# -- a key where a name is expected


KEY_TEXTS = {
    "a JWK": (JWK, "Key.from_str"),
    "a secret JWK": (json.dumps(jwk(HS256)), "Key.from_str"),
    "an RSA JWK": (json.dumps(jwk(RS256)), "Key.from_str"),
    "with white space": (f"\n  {json.dumps(jwk(EDDSA), indent=2)}\n", "Key.from_str"),
    "with a mark": (f"\ufeff{JWK}", "Key.from_str"),
    "in quotes": (f"'{JWK}'", "Key.from_str"),
    "base64url": (b64(JWK.encode()), "Key.from_str"),
    "base64url of indented": (b64(json.dumps(jwk(EDDSA), indent=2).encode()), "Key.from_str"),
    "a set": (json.dumps({"keys": [jwk(EDDSA)]}), "KeySet.from_str"),
    "PEM": (PEM, "Key.from_pem"),
    "escaped PEM": (PEM.replace("\n", "\\n"), "Key.from_pem"),
    "PEM in quotes": (json.dumps(PEM), "Key.from_pem"),
    "PEM in base64": (base64.b64encode(PEM.encode()).decode(), "Key.from_pem"),
    "a variable": (f"KEY={JWK}", "Key.from_str"),
    "a token": (forge.token(HS256), "token"),
    "hex": ("0123456789abcdef" * 4, "Key.from_secret"),
    "base64": (base64.b64encode(forge.SECRET[:33]).decode(), "Key.from_secret"),
    "a long text": ("x" * 5000, "Key.from_str"),
    "OpenSSH": (SSH, "key"),
}


@pytest.mark.parametrize(("text", "named"), KEY_TEXTS.values(), ids=KEY_TEXTS)
def test_a_key_given_as_the_name_of_a_file(
    text: str, named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    calls: list[Callable[[], object]] = [
        lambda: Key.from_file(text),
        lambda: KeySet.from_file(text),
        lambda: forge.key(EDDSA).to_file(text),
        lambda: KeySet([forge.key(EDDSA)]).to_file(text),
    ]
    for call in calls:
        with pytest.raises(InvalidKeyError) as caught:
            call()
        assert named in str(caught.value)
        assert text[-20:-2] not in str(caught.value)
        assert len(str(caught.value)) < 200
        assert caught.value.__context__ is None
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("text", "named"), KEY_TEXTS.values(), ids=KEY_TEXTS)
@pytest.mark.parametrize("directory", [False, True])
def test_a_key_given_as_a_source(text: str, named: str, directory: bool) -> None:  # noqa: FBT001
    with pytest.raises(ConfigError) as caught:
        open_source(text, directory=directory)
    assert named in str(caught.value)
    assert text[-20:-2] not in str(caught.value)


def test_a_file_with_the_name_of_a_key_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("{kid}.jwk", "eyJ", "0123456789abcdef" * 2):
        (tmp_path / name).write_text(JWK, encoding="utf-8")
        assert Key.from_file(name) == forge.key(EDDSA)


@pytest.mark.parametrize(
    "name", ["missing.jwk", "keys/missing", "/home/user/Projects/moq-token/keys/Production2/root-2026-11-27", "k" * 60]
)
def test_the_name_of_a_missing_file_is_shown(name: str) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        Key.from_file(name)
    assert caught.value.filename == name


@pytest.mark.parametrize(("text", "named"), KEY_TEXTS.values(), ids=KEY_TEXTS)
def test_a_key_given_as_an_algorithm_or_an_operation(text: str, named: str) -> None:
    calls: list[Callable[[], object]] = [
        lambda: Key.generate(text),
        lambda: Key.from_pem(PEM, text),
        lambda: Key.from_secret("s" * 32, text),
        lambda: Algorithm.parse(text),
        lambda: Algorithm(text),
        lambda: forge.key(EDDSA).with_operations([text]),
        lambda: KeySet([]).find_supported_key(text),
        lambda: KeyOperation(text),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="must be one of") as caught:
            call()
        assert named in str(caught.value)
        assert text[-20:-2] not in str(caught.value)
        assert len(str(caught.value)) < 250
    with pytest.raises(InvalidKeyError) as refused:
        forge.key(EDDSA).with_kid(f"{text} ")
    assert text[-20:-2] not in str(refused.value)


def test_an_encrypted_key_in_der() -> None:
    for _ in range(40):  # some end with a byte that is white space in a text
        encrypted = forge.native(EDDSA).private_bytes(Encoding.DER, PrivateFormat.PKCS8, BestAvailableEncryption(b"x"))
        assert "openssl pkey -inform DER" in message(lambda: Key.from_str(encrypted))  # noqa: B023
        assert "openssl pkey -inform DER" in message(lambda: Key.from_pem(encrypted))  # noqa: B023
