"""The command `import`, called as from a shell."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives import serialization

from moq_token import Algorithm, Key, KeySet
from tests import forge
from tests.command_line import PASSWORD, Cli
from tests.desk import (
    ED,
    ES,
    ES384,
    HS,
    PS,
    RS,
    bare_jwk,
    certificate,
    pem,
    public_pem,
    put,
)

if TYPE_CHECKING:
    from collections.abc import Callable


# -- import


def bare_public_jwk(algorithm: Algorithm, **changes: object) -> dict[str, object]:
    return forge.public_jwk(algorithm, **{"alg": None, "kid": None, "key_ops": None, **changes})


BOTH = {"sign", "verify"}


@pytest.mark.parametrize(
    ("members", "options", "algorithm", "operations"),
    [
        (bare_jwk(HS, alg="HS256"), [], HS, BOTH),
        (bare_jwk(HS), ["--algorithm", "hs384"], Algorithm.HS384, BOTH),
        (bare_jwk(HS, alg="HS256"), ["--algorithm", "HS256"], HS, BOTH),
        (bare_jwk(ES), [], ES, BOTH),
        (bare_jwk(ES384), [], ES384, BOTH),
        (bare_jwk(ED), [], ED, BOTH),
        (bare_jwk(ED, alg="Ed25519"), [], ED, BOTH),
        (bare_jwk(ED, alg="Ed25519"), ["--algorithm", "EdDSA"], ED, BOTH),
        (bare_jwk(ED, use=None), [], ED, BOTH),
        (bare_jwk(RS), ["--algorithm", "PS256"], PS, BOTH),
        (bare_jwk(RS, alg="RS256", use="sig", ext=True, x5c=["x"], x5t="y"), [], RS, BOTH),
        (bare_jwk(ED, key_ops=["sign"], ext=True), [], ED, {"sign"}),
        (bare_jwk(ES, key_ops=["sign", "deriveBits", 5, []]), [], ES, {"sign"}),
        (bare_jwk(HS, alg="HS256", key_ops=["verify", "wrapKey"]), [], HS, {"verify"}),
        (bare_public_jwk(ES), [], ES, {"verify"}),
        (bare_public_jwk(ED), [], ED, {"verify"}),
        (bare_public_jwk(RS), ["--algorithm", "RS256"], RS, {"verify"}),
        (bare_public_jwk(ED, key_ops=["verify"], use="sig"), [], ED, {"verify"}),
    ],
)
def test_import_reads_the_jwk_of_others(
    shell: Cli, members: dict[str, object], options: list[str], algorithm: Algorithm, operations: set[str]
) -> None:
    put("foreign.json", members)
    key = Key.from_str(shell.done("import", "foreign.json", *options))
    assert (key.algorithm, key.kid, set(key.operations)) == (algorithm, None, operations)
    assert key.is_private is ("d" in members or "k" in members)
    assert not {"use", "ext", "x5c", "x5t"} & set(key.to_members())
    again = Key.from_str(shell.done("import", "foreign.json", *options, "--kid", "thumbprint", "--base64"))
    assert again == key.with_kid(key.thumbprint())


def other_number(data: bytes) -> str:
    """Write a number with a byte for its sign, and in the other alphabet of base64, as some libraries do."""
    return base64.b64encode(b"\0" + data).decode()


@pytest.mark.parametrize("algorithm", [RS, ES, ES384, ED])
def test_import_reads_numbers_as_others_write_them(shell: Cli, algorithm: Algorithm) -> None:
    names = {"n", "e", "x", "y", *forge.PRIVATE_MEMBERS[algorithm.kty]}
    for write in (other_number, lambda data: base64.encodebytes(data).decode(), lambda data: f"{forge.b64(data)}=="):
        members = {
            name: write(forge.unb64(str(value))) if name in names else value
            for name, value in forge.jwk(algorithm).items()
        }
        put("foreign.json", members)
        assert Key.from_str(shell.done("import", "foreign.json")) == forge.key(algorithm)
    secret = bytes(range(224, 256))  # whose zero bytes count, unlike those of a number
    put("foreign.json", {"kty": "oct", "alg": "HS256", "k": other_number(secret)})
    assert forge.unb64(str(Key.from_str(shell.done("import", "foreign.json")).to_members()["k"])) == b"\0" + secret


@pytest.mark.parametrize(("given", "kid"), [([], "theirs"), (["--id", "ours"], "ours"), (["--kid", "ours"], "ours")])
def test_import_keeps_the_id_unless_another_is_given(shell: Cli, given: list[str], kid: str) -> None:
    assert Key.from_str(shell.done("import", "-", *given, stdin=json.dumps(bare_jwk(ED, kid="theirs")))).kid == kid


def test_import_gives_an_id_in_place_of_one_that_is_none(shell: Cli) -> None:
    put("foreign.json", bare_jwk(ED, kid="https://login.example/keys/1"))
    assert "a key id must be" in shell.refused(1, "import", "foreign.json")
    assert Key.from_str(shell.done("import", "foreign.json", "--kid", "one")).kid == "one"


def test_import_reads_a_set(shell: Cli) -> None:
    put("jwks.json", {"keys": [bare_public_jwk(ED, kid="a", use="sig"), bare_jwk(ES, kid="b", ext=True)]})
    keys = KeySet.from_str(shell.done("import", "jwks.json"))
    assert [(key.kid, key.algorithm, key.is_private) for key in keys] == [("a", ED, False), ("b", ES, True)]
    keys = KeySet.from_str(shell.done("import", "jwks.json", "--kid", "thumbprint"))
    assert [key.kid for key in keys] == [key.thumbprint() for key in keys]


@pytest.mark.parametrize(
    ("algorithm", "text", "private"),
    [
        (ED, pem(ED), True),
        (ES, pem(ES), True),
        (ES384, pem(ES384), True),
        (RS, pem(RS), True),
        (PS, pem(RS, "TraditionalOpenSSL"), True),
        (ES, pem(ES, "TraditionalOpenSSL"), True),
        (ED, public_pem(ED), False),
        (RS, public_pem(RS), False),
        (RS, public_pem(RS, "PKCS1"), False),
        (ES, certificate(ES), False),
        (ED, certificate(ED), False),
        (ED, f"Bag Attributes\n{certificate(ED)}{pem(ED)}", True),
    ],
)
def test_import_reads_every_kind_of_pem(shell: Cli, algorithm: Algorithm, text: str, *, private: bool) -> None:
    put("server.pem", text)
    out = shell.done("import", "server.pem", "--algorithm", algorithm, "--kid", "test-key")
    expected = forge.key(algorithm) if private else forge.key(algorithm).to_public()
    assert Key.from_str(out) == expected
    assert Key.from_str(shell.done("import", "-", "--algorithm", algorithm, stdin=text)) == expected.with_kid(None)
    assert Key.from_str(shell.done("import", "server.pem", "--algorithm", algorithm, "--kid", "thumbprint")) == (
        expected.with_kid(expected.thumbprint())
    )


@pytest.mark.parametrize("line", [PASSWORD, f"{PASSWORD}\n", f"{PASSWORD}\r\n", f"{PASSWORD}\nsecond line\n"])
@pytest.mark.parametrize("form", ["PKCS8", "TraditionalOpenSSL"])
def test_import_decrypts_with_the_first_line_of_a_file(shell: Cli, line: str, form: str) -> None:
    put("locked.pem", pem(ES, form, PASSWORD))
    put("password", line)
    argv = ["import", "locked.pem", "--algorithm", "ES256", "--kid", "test-key", "--password-file"]
    assert Key.from_str(shell.done(*argv, "password")) == forge.key(ES)
    assert Key.from_str(shell.done(*argv, "-", stdin=line)) == forge.key(ES)


@pytest.mark.parametrize(
    ("status", "members", "options", "why"),
    [
        (2, bare_jwk(HS), [], "the key does not say what it is for: add --algorithm"),
        (2, bare_jwk(RS), [], "the key does not say what it is for"),
        (1, bare_jwk(ES, crv="P-521"), [], "unsupported `crv`: P-521"),
        (2, forge.jwk(HS), ["--algorithm", "HS384"], "the key says that it is not for HS384"),
        (2, forge.jwk(ED, alg="Ed25519"), ["--algorithm", "ES256"], "the key says that it is not for ES256"),
        (1, forge.jwk(HS, alg=["HS256"]), [], "the member `alg` must be one of"),
        (2, forge.jwk(HS, alg=["HS256"]), ["--algorithm", "HS256"], "the key says that it is not for HS256"),
        (1, forge.jwk(HS, alg="HS1"), [], "the member `alg` must be one of"),
        (1, bare_jwk(ES), ["--algorithm", "ES384"], "`crv` must be 'P-384'"),
        (1, bare_jwk(ES), ["--algorithm", "HS256"], "`kty` must be 'oct'"),
        (1, forge.jwk(ED, use="enc"), [], "`use` says that the key is not for signatures"),
        (1, forge.jwk(ED, key_ops=[]), [], "`key_ops` says that the key is not for signatures"),
        (1, forge.jwk(ED, key_ops=["encrypt", "decrypt"]), [], "`key_ops` says that"),
        (1, forge.jwk(ED, x=forge.b64(bytes(32))), [], "the member `x`"),
        (1, forge.public_jwk(ED, key_ops=["sign"]), [], "lets a public half only sign"),
        (1, forge.jwk(ED, key_ops="verify"), [], "the member `key_ops` must be a list"),
        (1, forge.public_jwk(ED, key_ops={}), [], "the member `key_ops` must be a list"),
        (1, forge.jwk(ED, kid=5), [], "the member `kid` must be a string"),
        *((1, forge.jwk(ED, kty=kty), [], "the member `kty` must be 'OKP'") for kty in ([], {}, ["OKP"], {"a": 1}, 5)),
        *((2, {"kty": kty}, [], "add --algorithm") for kty in ("oct", "RSA")),
        (1, {"kty": []}, [], "missing member `alg`"),
        (1, {"keys": [5]}, [], "expected a JSON object"),
        (2, {"keys": [forge.jwk(HS), bare_jwk(RS)]}, [], "the key does not say what it is for"),
        (2, {"keys": [forge.jwk(HS)]}, ["--kid", "one"], "--kid names one key, but this is a set"),
        (2, {"keys": [forge.jwk(HS)]}, ["--base64"], "--base64 is for a single key"),
        (2, forge.jwk(HS), ["--kid", "a b"], "--kid: a key id must be"),
        (2, forge.jwk(HS), ["--password-file", "password"], "--password-file is for PEM"),
        (2, forge.jwk(HS), ["--password-file", "-"], "key and password cannot both come from standard input"),
    ],
)
def test_import_refuses_a_jwk(desk: Cli, status: int, members: dict[str, object], options: list[str], why: str) -> None:
    assert why in desk.refused(status, "import", "-", *options, "--out", "new", stdin=json.dumps(members))
    assert not Path("new").exists()


OPENSSH = forge.native(ED).private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
)


@pytest.mark.parametrize(
    ("status", "text", "options", "why"),
    [
        (2, pem(RS), [], "PEM does not name the algorithm of a key: add --algorithm"),
        (1, pem(ED), ["--algorithm", "ES256"], "the key is Ed25519, which is for EdDSA, not for ES256"),
        (1, pem(ED), ["--algorithm", "HS256"], "which is for EdDSA, not for HS256"),
        (1, pem(ES), ["--algorithm", "ES384"], "the key is P-256, which is for ES256, not for ES384"),
        (1, pem(ED, password=PASSWORD), ["--algorithm", "EdDSA"], "the PEM is encrypted: a password is required"),
        (1, pem(ED, password=PASSWORD), ["--algorithm", "EdDSA", "--password-file", "ed.pem"], "wrong password, or"),
        (1, pem(ED), ["--algorithm", "EdDSA", "--password-file", "password"], "the PEM is not encrypted"),
        (
            1,
            pem(ED),
            ["--algorithm", "EdDSA", "--password-file", "empty"],
            "'empty' has an empty first line, expected a password",
        ),
        (1, pem(ED), ["--algorithm", "EdDSA", "--password-file", "gone"], "cannot read 'gone'"),
        (2, pem(ED), ["--algorithm", "EdDSA", "--password-file", "-"], "cannot both come from standard input"),
        (1, pem(ED)[:90], ["--algorithm", "EdDSA"], "the line -----END PRIVATE KEY----- is missing"),
        (1, pem(ED).replace("MC4C", "AAAA"), ["--algorithm", "EdDSA"], "the PEM cannot be read: it is damaged"),
        (1, OPENSSH.decode(), ["--algorithm", "EdDSA"], "convert it first, with `ssh-keygen"),
        (2, pem(ED), ["--algorithm", "EdDSA", "--kid", "a.b"], "--kid: a key id must be"),
    ],
)
def test_import_refuses_a_pem(desk: Cli, status: int, text: str, options: list[str], why: str) -> None:
    assert why in desk.refused(status, "import", "-", *options, "--out", "new", stdin=text)
    assert not Path("new").exists()


# -- import: what other tools, editors and shells make of keys


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("x", lambda data: data[1:]),
        ("y", lambda data: data[1:]),
        ("d", lambda data: data[1:]),
        ("x", lambda data: b"\0" + data),
        ("y", lambda data: b"\0\0" + data),
        ("d", lambda data: b"\0" + data),
    ],
)
@pytest.mark.parametrize("algorithm", [ES, ES384])
def test_import_mends_the_length_of_numbers(
    shell: Cli, algorithm: Algorithm, name: str, change: Callable[[bytes], bytes]
) -> None:
    size = {ES: 32, ES384: 48}[algorithm]

    def numbers(private: int) -> dict[str, int]:
        public = forge.ec_native(algorithm, private).public_key().public_numbers()
        return {"x": public.x, "y": public.y, "d": private}

    values = next(found for found in map(numbers, range(1, 5000)) if found[name] < 1 << 8 * (size - 1))
    members: dict[str, object] = {"kty": "EC", "crv": {ES: "P-256", ES384: "P-384"}[algorithm]}
    members |= {key: forge.b64int(value, size) for key, value in values.items()}
    expected = shell.done("import", "-", stdin=json.dumps(members))
    members[name] = forge.b64(change(forge.unb64(str(members[name]))))
    assert shell.done("import", "-", stdin=json.dumps(members)) == expected
    members[name] = forge.b64(b"\1" + forge.unb64(str(members[name])))
    shell.refused(1, "import", "-", stdin=json.dumps(members))


@pytest.mark.parametrize("name", ["x", "d"])
def test_import_gives_ed25519_its_length(shell: Cli, name: str) -> None:
    values: dict[str, bytes] = {}
    for number in range(1, 5000):
        native = forge.ed25519_native(number.to_bytes(32, "little" if name == "x" else "big"))
        values = {"x": native.public_key().public_bytes_raw(), "d": native.private_bytes_raw()}
        if values[name][0] == 0:
            break
    members = {"kty": "OKP", "crv": "Ed25519"} | {key: forge.b64(value) for key, value in values.items()}
    expected = shell.done("import", "-", stdin=json.dumps(members))
    for changed in (values[name][1:], b"\0" + values[name]):
        assert shell.done("import", "-", stdin=json.dumps(members | {name: forge.b64(changed)})) == expected
    for wrong in (values[name][:-1], b"\1" + values[name], values[name][2:] + b"\1"):
        shell.refused(1, "import", "-", stdin=json.dumps(members | {name: forge.b64(wrong)}))


TEXT = "a shared secret of more than 32 bytes, as it is"


@pytest.mark.parametrize(
    ("form", "data", "secret"),
    [
        ("text", TEXT.encode(), TEXT.encode()),
        ("text", f"{TEXT}\n".encode(), TEXT.encode()),
        ("text", f"{TEXT}\r\n".encode(), TEXT.encode()),
        ("text", f"\ufeff{TEXT}\r\n".encode("utf-16-le"), TEXT.encode()),
        ("hex", b"AB" * 32 + b"\n", b"\xab" * 32),
        ("hex", b"0x" + b"0f" * 48, b"\x0f" * 48),
        ("base64", b"+/+/" * 12 + b"\n", b"\xfb\xff\xbf" * 12),
        ("base64", b"QUFB" * 10 + b"\n" + b"QUE=\n", b"A" * 32),
        ("base64url", b"-_-_" * 12, b"\xfb\xff\xbf" * 12),
        ("base64url", b"QUFB" * 10 + b"QUE", b"A" * 32),
        ("binary", bytes(range(64)) + b"\n", bytes(range(64)) + b"\n"),
    ],
)
def test_import_makes_a_key_of_a_secret(shell: Cli, form: str, data: bytes, secret: bytes) -> None:
    out = shell.done("import", "-", "--secret", form, "--algorithm", "hs512", "--kid", "one", stdin=data)
    assert Key.from_str(out) == Key.from_secret(secret, "HS512", kid="one")
    assert Key.from_str(shell.done("import", "-", "--secret", form, stdin=data)) == Key.from_secret(secret)


@pytest.mark.parametrize(
    ("data", "note"),
    [(b"ab" * 32, "--secret hex"), (b"QUFB" * 10 + b"QUE=", "--secret base64"), (b'"' + b"s" * 32 + b'"', "quotes"),
     (b"  " + b"s" * 32, "white space")],
)  # fmt: skip
def test_import_notes_what_a_secret_may_not_be(shell: Cli, data: bytes, note: str) -> None:
    status, out, err = shell.run("import", "-", "--secret", "text", stdin=data)
    assert status == 0
    assert Key.from_str(out) == Key.from_secret(data)
    assert note in err
    assert err.startswith("note: ")
    assert data.decode().strip() not in err


@pytest.mark.parametrize(
    ("status", "options", "data", "why"),
    [
        (1, ["--secret", "text"], b"short\n", "at least 32 bytes, got 5"),
        (1, ["--secret", "hex"], b"ab" * 31, "at least 32 bytes, got 31"),
        (1, ["--secret", "hex"], b"xy" * 32, "not valid hex"),
        (1, ["--secret", "base64"], b"?" * 44, "not valid base64"),
        (1, ["--secret", "text"], b"", "got 0"),
        (1, ["--secret", "text"], json.dumps(forge.jwk(ED)).encode(), "leave out --secret"),
        (1, ["--secret", "text"], pem(ED).encode(), "leave out --secret"),
        (2, ["--secret", "text", "--algorithm", "EdDSA"], b"s" * 32, "not for EdDSA"),
        (2, ["--secret", "rot13"], b"s" * 32, "--secret"),
        (1, [], b"s" * 32, "import --secret text"),
        (1, [], bytes(range(200, 250)), "import --secret binary"),
    ],
)
def test_secrets_that_import_refuses(shell: Cli, status: int, options: list[str], data: bytes, why: str) -> None:
    assert why in shell.refused(status, "import", "-", *options, stdin=data)


@pytest.mark.parametrize("kid", ["https://id.example/1", "a b", "arn:aws:kms:x", "Qm9n+/abc="])
def test_import_names_the_option_for_another_id(shell: Cli, kid: str) -> None:
    text = json.dumps(bare_jwk(ED, kid=kid))
    assert "--kid" in shell.refused(1, "import", "-", stdin=text)
    assert Key.from_str(shell.done("import", "-", "--kid", "thumbprint", stdin=text)).kid


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ("'{}'", "quotes around it"),
        ("{kty:OKP}", "double quotes of its JSON are missing"),
        ("priv.jwk", "use MOQ_TOKEN_KEY for a file name"),
        ("/etc/moq/key", "use MOQ_TOKEN_KEY for a file name"),
        (" \n", "empty"),
        ("relay-1", "plain text"),
    ],
)
def test_the_variable_for_a_key_names_what_it_has(
    shell: Cli, monkeypatch: pytest.MonkeyPatch, data: str, why: str
) -> None:
    monkeypatch.setenv("MOQ_TOKEN_KEY_DATA", data)
    for argv in (["sign", "--publish", "a"], ["public"], ["import"]):
        assert why in shell.refused(1, *argv)


def test_keys_of_a_set_that_tokens_cannot_use_are_named(shell: Cli) -> None:
    unusable = {"kty": "AKP", "alg": "ML-DSA-65", "kid": "pq"}
    put("set.json", {"keys": [unusable, forge.public_jwk(ED), 5]})
    put("good.json", {"keys": [forge.public_jwk(ED)]})
    for command in ("import", "jwks", "public", "thumbprint"):
        status, out, err = shell.run(command, "set.json")
        assert (status, out) == (0, shell.done(command, "good.json"))
        assert err.count("\n") == 1
        assert "ignored 2 keys" in err
        assert "keys[0] (pq)" in err
        assert "keys[2]" in err
    put("none.json", {"keys": [unusable]})
    for command in ("import", "jwks", "public", "thumbprint"):
        assert "no usable key in the set" in shell.refused(1, command, "none.json")
