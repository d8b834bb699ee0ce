"""The commands that read a key: what they take, and `public`, `export`, `thumbprint` and `jwks`."""

from __future__ import annotations

import hashlib
import io
import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives import serialization

from moq_token import Algorithm, Key, KeySet
from moq_token.files import MAX_FILE_BYTES
from tests import forge
from tests.command_line import PASSWORD, SECRETS, Cli
from tests.desk import (
    ED,
    ES,
    HS,
    RS,
    SECRET_WORD,
    bare_jwk,
    files_in,
    mode,
    pem,
    public_pem,
    put,
)

if TYPE_CHECKING:
    from collections.abc import Sequence


# -- the commands that read a key


@pytest.mark.parametrize("command", ["public", "export", "thumbprint", "import", "jwks"])
@pytest.mark.parametrize(
    ("status", "argv", "stdin", "why"),
    [
        (1, ["missing.jwk"], "", "cannot read 'missing.jwk': No such file or directory"),
        (1, ["a\0b"], "", "cannot read 'a\\x00b': invalid file name"),
        (1, ["line\nbreak"], "", "cannot read 'line\\nbreak'"),
        (1, ["empty"], "", "'empty': it is empty"),
        (1, ["-"], "[1, 2]", "standard input: a key"),
        (1, ["-"], "{", "standard input: the key is not valid JSON"),
        (1, ["-"], f'{{"kty": "oct", "alg": "HS256", "k": "{SECRET_WORD}!"}}', "`k` must be canonical base64url"),
        (1, ["-"], f'{{"kty": "oct", "alg": "{SECRET_WORD}", "k": "{SECRET_WORD}"}}', "the member `alg` must be"),
        (1, ["-"], "x" * (MAX_FILE_BYTES + 1), "standard input is too large for a key"),
        (2, [], "", "no key: name its file"),
        (2, [json.dumps(forge.jwk(HS))], "", "expects a file name"),
        (2, [forge.b64(json.dumps(forge.jwk(HS)).encode())], "", "expects a file name"),
        (2, ["ed.jwk", "--key", "ed.jwk"], "", "no such option '--key': give the file without it, moq-token "),
        (2, ["--key=ed.jwk"], "", "no such option '--key': give the file without it, moq-token "),
    ],
)
def test_what_is_no_key_is_refused(  # noqa: PLR0917 - a table has as many columns as it needs
    desk: Cli, command: str, status: int, argv: list[str], stdin: str, why: str
) -> None:
    assert why.casefold() in desk.refused(status, command, *argv, stdin=stdin).casefold()


@pytest.mark.parametrize("command", ["public", "export", "thumbprint", "jwks"])
def test_pem_is_left_to_import(desk: Cli, command: str) -> None:
    assert "convert it with the command `import`" in desk.refused(1, command, "ed.pem")


@pytest.mark.parametrize("command", ["public", "export", "thumbprint", "import"])
def test_one_file_is_read_at_a_time(desk: Cli, command: str) -> None:
    word = "w" * 100
    assert "unexpected argument 'es.jwk'" in desk.refused(2, command, "ed.jwk", "es.jwk")
    assert word not in desk.refused(2, command, "ed.jwk", word)


@pytest.mark.parametrize("command", ["public", "export", "thumbprint", "import", "jwks", "explain", "check-config"])
def test_a_key_in_front_is_for_older_commands(desk: Cli, command: str) -> None:
    assert f"{command} does not accept --key" in desk.refused(2, "--key", "ed.jwk", command)


@pytest.mark.parametrize("command", ["public", "export", "thumbprint", "import", "jwks"])
def test_the_environment_can_say_which_key(desk: Cli, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    expected = desk.done(command, "ed.jwk")
    monkeypatch.setenv("MOQ_TOKEN_KEY", "ed.jwk")
    assert desk.done(command) == expected
    monkeypatch.setenv("MOQ_TOKEN_KEY_DATA", Path("hs.jwk").read_text(encoding="utf-8"))
    assert "are both set" in desk.refused(2, command)
    monkeypatch.setenv("MOQ_TOKEN_KEY", "")
    monkeypatch.setenv("MOQ_TOKEN_KEY_DATA", Key.from_file("ed.jwk").to_str())
    assert desk.done(command) == expected
    assert desk.done(command, "-", stdin=Path("ed.jwk").read_bytes()) == expected


def test_a_broken_key_in_the_environment_is_named_by_its_variable(shell: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOQ_TOKEN_KEY_DATA", f"{{{SECRET_WORD}")
    assert shell.refused(1, "public").startswith("MOQ_TOKEN_KEY_DATA: the key is not valid JSON")


@pytest.mark.parametrize(
    ("command", "source", "private"),
    [
        ("public", "ed.jwk", False),
        ("public", "set.jwk", False),
        ("import", "ed.jwk", True),
        ("import", "ed.public", False),
        ("import", "set.jwk", True),
        ("export", "ed.jwk", True),
        ("export", "ed.public", False),
        ("jwks", "ed.jwk", False),
    ],
)
def test_results_go_to_files_that_are_not_there_yet(desk: Cli, command: str, source: str, *, private: bool) -> None:
    expected = desk.done(command, source)
    assert "directory not found: 'nodir'" in desk.refused(1, command, source, "--out", "nodir/file")
    assert desk.done(command, source, "--out", "file") == ""
    assert Path("file").read_text(encoding="utf-8") == expected
    assert mode("file") == (0o600 if private else 0o644)
    for name, why in (("there", "already exists"), ("link", "symbolic link"), ("folder", "is a directory")):
        assert why in desk.refused(1, command, source, "--out", name)
    for name, why in (("dangling", "symbolic link"), ("link", "symbolic link"), ("there/in", "not a directory")):
        assert why in desk.refused(1, command, source, "--out", name, "--force")
    assert Path("there").read_text(encoding="utf-8") == "precious\n"
    assert desk.done(command, source, "--out", "there", "--force") == ""
    assert Path("there").read_text(encoding="utf-8") == expected
    assert mode("there") == (0o600 if private else 0o644)
    assert not [name for name in files_in(".") if name.endswith((".bak", ".tmp"))]


def test_a_key_that_cannot_be_printed_is_a_failure(shell: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    assert shell.refused(1, "generate") == "cannot write the result: standard output is closed"
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert shell.refused(1, "generate") == "cannot write to standard output: No space left on device"


@pytest.mark.parametrize("command", ["public", "export", "thumbprint", "import", "jwks"])
def test_a_closed_standard_input_is_a_failure(shell: Cli, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    def closed(*_: object) -> None:
        return None

    monkeypatch.setattr(io, "TextIOWrapper", closed)
    assert shell.refused(1, command, "-") == "cannot read the key: standard input is closed"


def test_a_person_at_a_terminal_is_told_more(desk: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    put("bare.jwk", bare_jwk(ED))
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    status, out, err = desk.run("import", "bare.jwk")
    assert (status, Key.from_str(out).kid) == (0, None)
    assert re.fullmatch(r"note: the key has no id, [^\n]+\n", err)
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "xterm")
    assert "\x1b[36mnote:\x1b[0m the key has no id" in desk.run("import", "bare.jwk")[2]
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False, raising=False)
    assert desk.done("import", "bare.jwk") == out


@pytest.mark.parametrize("command", ["public", "export", "thumbprint"])
def test_a_directory_stands_for_the_key_in_it_that_signs(desk: Cli, command: str) -> None:
    put("signing/ed.jwk", Path("ed.jwk").read_text(encoding="utf-8"))
    Path("signing/ed.jwk").chmod(0o600)
    assert desk.done(command, "signing") == desk.done(command, "ed.jwk")
    desk.refused(1, command, "folder")


# -- public


@pytest.mark.parametrize("name", ["ed", "es", "rsa"])
def test_public_leaves_the_private_half_out(desk: Cli, name: str) -> None:
    expected = Key.from_file(f"{name}.jwk").to_public()
    out = desk.done("public", f"{name}.jwk")
    assert Key.from_str(out) == expected
    assert not [secret for secret in SECRETS if secret in out]
    assert desk.done("public", "-", stdin=out) == out
    assert desk.done("public", f"{name}.jwk", "--base64") == f"{expected.to_str()}\n"


def test_public_does_the_same_for_a_set(desk: Cli) -> None:
    out = desk.done("public", "set.jwk")
    assert KeySet.from_str(out) == KeySet.from_file("set.jwk").to_public_set()
    assert not [secret for secret in SECRETS if secret in out]


@pytest.mark.parametrize(
    ("status", "argv", "why"),
    [
        (1, ["hs.jwk"], "has no public half"),
        (1, ["secrets.jwk"], "has no public half"),
        (2, ["set.jwk", "--base64"], "--base64 is for a single key"),
    ],
)
def test_public_refuses(desk: Cli, status: int, argv: list[str], why: str) -> None:
    assert why in desk.refused(status, "public", *argv, "--out", "new")
    assert not Path("new").exists()


# -- export


@pytest.mark.parametrize(("name", "algorithm"), [("ed", ED), ("es", ES), ("rsa", RS)])
def test_export_writes_pem_that_others_read(desk: Cli, name: str, algorithm: Algorithm) -> None:
    assert desk.done("export", f"{name}.jwk") == pem(algorithm)
    assert desk.done("export", f"{name}.public") == public_pem(algorithm)
    desk.done("export", f"{name}.jwk", "--password-file", "password", "--out", "locked")
    assert mode("locked") == 0o600
    native = serialization.load_pem_private_key(Path("locked").read_bytes(), PASSWORD.encode())
    assert native.public_key() == forge.native(algorithm).public_key()
    imported = ["import", "locked", "--algorithm", algorithm, "--kid", name, "--password-file", "password"]
    assert Key.from_str(desk.done(*imported)) == Key.from_file(f"{name}.jwk")


@pytest.mark.parametrize(
    ("status", "argv", "why"),
    [
        (1, ["hs.jwk"], "a key for HS256 is a secret, which PEM cannot hold"),
        (1, ["hs.jwk", "--password-file", "password"], "a key for HS256 is a secret, which PEM cannot hold"),
        (1, ["set.jwk"], "'set.jwk' is a set of keys, expected a single key"),
        (1, ["ed.public", "--password-file", "password"], "a public key takes no password"),
        (1, ["ed.jwk", "--password-file", "empty"], "has an empty first line, expected a password"),
        (1, ["ed.jwk", "--password-file", "long"], "a password has 1 to 1023 bytes"),
        (2, ["-", "--password-file", "-"], "key and password cannot both come from standard input"),
        (2, ["ed.jwk", "--base64"], "no such option"),
    ],
)
def test_export_refuses(desk: Cli, status: int, argv: list[str], why: str) -> None:
    put("long", "p" * 1024)
    assert why.casefold() in desk.refused(status, "export", *argv, "--out", "new").casefold()
    assert not Path("new").exists()


# -- thumbprint


@pytest.mark.parametrize(
    ("name", "required"),
    [
        ("hs.jwk", ("k", "kty")),
        ("ed.jwk", ("crv", "kty", "x")),
        ("ed.public", ("crv", "kty", "x")),
        ("es.jwk", ("crv", "kty", "x", "y")),
        ("rsa.jwk", ("e", "kty", "n")),
        ("rsa.public", ("e", "kty", "n")),
    ],
)
def test_thumbprint_hashes_what_the_rfc_requires(desk: Cli, name: str, required: Sequence[str]) -> None:
    members = json.loads(Path(name).read_text(encoding="utf-8"))
    digest = hashlib.sha256(forge.compact({member: members[member] for member in required})).digest()
    assert desk.done("thumbprint", name) == f"{forge.b64(digest)}\n"


def test_thumbprint_gives_a_line_for_every_key_of_a_set(desk: Cli) -> None:
    assert desk.done("thumbprint", "set.jwk") == desk.done("thumbprint", "ed.jwk") + desk.done("thumbprint", "es.jwk")


# -- jwks


@pytest.mark.parametrize(
    ("argv", "kids"),
    [
        (["ed.jwk"], ["ed"]),
        (["ed.public"], ["ed"]),
        (["es.jwk", "ed.public"], ["es", "ed"]),
        (["ed.jwk", "ed.public", "ed.jwk"], ["ed"]),
        (["set.jwk", "rsa.jwk"], ["ed", "es", "rsa"]),
        (["keys"], ["ed", "rsa", "es"]),
        (["keys/", "es.jwk"], ["ed", "rsa", "es"]),
    ],
)
def test_jwks_gathers_the_public_halves(desk: Cli, argv: list[str], kids: list[str]) -> None:
    put("keys/a.jwk", forge.jwk(ED, kid="ed"))
    put("keys/b.jwk", {"keys": [forge.jwk(RS, kid="rsa"), forge.public_jwk(ES, kid="es")]})
    put("keys/README", "no key")
    out = desk.done("jwks", *argv)
    keys = KeySet.from_str(out)
    assert [key.kid for key in keys] == kids
    assert all(key.operations == {"verify"} and not key.is_private for key in keys)
    assert not [secret for secret in SECRETS if secret in out]


def test_jwks_warns_of_keys_that_no_token_finds(desk: Cli) -> None:
    put("bare.jwk", forge.jwk(ED, kid=None))
    assert KeySet.from_str(desk.done("jwks", "bare.jwk")).keys[0].kid is None
    status, out, err = desk.run("jwks", "bare.jwk", "es.jwk")
    assert (status, len(KeySet.from_str(out))) == (0, 2)
    assert err == "note: no token can select a key without an id in a set of several keys\n"


@pytest.mark.parametrize(
    ("status", "argv", "why"),
    [
        (1, ["hs.jwk"], "'hs.jwk': a key for HS256 is a secret"),
        (1, ["ed.jwk", "hs.jwk"], "'hs.jwk': a key for HS256 is a secret"),
        (1, ["secrets.jwk"], "'secrets.jwk': a key for HS256 is a secret"),
        (1, ["mixed"], "'mixed/b.jwk': a key for HS256 is a secret"),
        (1, ["ed.jwk", "mixed"], "'mixed/a.jwk': duplicate key id 'ed'"),
        (1, ["ed.jwk", "same.jwk"], "'same.jwk': duplicate key id 'ed'"),
        (1, ["folder"], "no keys found"),
        (1, ["ed.jwk", "missing"], "cannot read 'missing'"),
        (1, ["broken"], "broken/x.jwk': "),
        (1, ["http://127.0.0.1:9/keys/"], "this directory cannot be listed"),
        (1, ["s3://bucket/keys?secret=hunter2"], "this directory cannot be listed"),
        (2, ["ed.jwk", "--base64"], "no such option"),
    ],
)
def test_jwks_refuses(desk: Cli, status: int, argv: list[str], why: str) -> None:
    put("same.jwk", forge.jwk(ES, kid="ed"))
    put("mixed/a.jwk", forge.jwk(ES, kid="ed"))
    put("mixed/b.jwk", forge.jwk(HS))
    put("broken/x.jwk", SECRET_WORD)
    message = desk.refused(status, "jwks", *argv, "--out", "new")
    assert why.casefold() in message.casefold()
    assert "hunter2" not in message
    assert not Path("new").exists()
