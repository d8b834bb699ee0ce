"""The commands for keys, configurations and the command line itself, called as from a shell."""

from __future__ import annotations

import base64
import contextlib
import errno
import hashlib
import io
import json
import os
import re
import sys
import time
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from moq_token import Algorithm, Key, KeySet, RefusedError, Scope
from moq_token.cli import main
from moq_token.files import MAX_FILE_BYTES
from tests import forge
from tests.command_line import PASSWORD, SECRETS, Cli
from tests.serving import in_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

HS, RS, PS, ES, ES384, ED = (
    Algorithm.HS256,
    Algorithm.RS256,
    Algorithm.PS256,
    Algorithm.ES256,
    Algorithm.ES384,
    Algorithm.EDDSA,
)
COMMANDS = (
    *("generate", "sign", "verify", "inspect", "explain", "public", "import", "export", "thumbprint", "jwks", "keys"),
    *("auth", "lint", "serve", "sessions", "ban", "unban", "bans", "narrow", "kick"),
    *("check-config", "completion", "help"),
)


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Cli]:
    monkeypatch.chdir(tmp_path)
    before = os.umask(0o022)
    yield Cli(capsys, monkeypatch)
    os.umask(before)


@pytest.fixture
def desk(cli: Cli) -> Cli:
    """Create files to work with, and some that block others."""
    for name, algorithm in (("hs", HS), ("ed", ED), ("es", ES), ("rsa", RS)):
        put(f"{name}.jwk", forge.jwk(algorithm, kid=name))
        if not algorithm.symmetric:
            put(f"{name}.public", forge.public_jwk(algorithm, kid=name))
    put("set.jwk", {"keys": [forge.jwk(ED, kid="ed"), forge.jwk(ES, kid="es")]})
    put("secrets.jwk", {"keys": [forge.jwk(ED, kid="ed"), forge.jwk(HS, kid="hs")]})
    put("ed.pem", pem(ED))
    put("locked.pem", pem(ED, password=PASSWORD))
    put("password", f"{PASSWORD}\nand something else\n")
    put("empty", "")
    put("there", "precious\n")
    Path("folder").mkdir()
    Path("link").symlink_to("there")
    Path("dangling").symlink_to("nowhere")
    return cli


def put(name: str, content: Mapping[str, object] | str) -> None:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")


def pem(algorithm: Algorithm, form: str = "PKCS8", password: str | None = None) -> str:
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if password is not None:
        encryption = serialization.BestAvailableEncryption(password.encode())
    native = forge.native(algorithm)
    return native.private_bytes(
        serialization.Encoding.PEM, getattr(serialization.PrivateFormat, form), encryption
    ).decode()


def public_pem(algorithm: Algorithm, form: str = "SubjectPublicKeyInfo") -> str:
    native = forge.native(algorithm).public_key()
    return native.public_bytes(serialization.Encoding.PEM, getattr(serialization.PublicFormat, form)).decode()


def certificate(algorithm: Algorithm) -> str:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "relay.example")])
    native = forge.native(algorithm)
    builder = x509.CertificateBuilder(name, name, native.public_key(), 1)
    builder = builder.not_valid_before(datetime(2020, 1, 1, tzinfo=UTC)).not_valid_after(
        datetime(2021, 1, 1, tzinfo=UTC)
    )
    made = builder.sign(native, None if algorithm is ED else hashes.SHA256())
    return made.public_bytes(serialization.Encoding.PEM).decode()


def mode(name: str) -> int:
    return Path(name).stat().st_mode & 0o777


def files_in(directory: str) -> list[str]:
    return sorted(path.name for path in Path(directory).iterdir())


# -- generate


@pytest.mark.parametrize("algorithm", [HS, Algorithm.HS384, Algorithm.HS512, RS, PS, ES, ES384, ED])
def test_generate_makes_a_key_of_every_kind(cli: Cli, algorithm: Algorithm) -> None:
    out = cli.done("generate", "--algorithm", algorithm)
    key = Key.from_str(out)
    assert (key.algorithm, key.is_private, key.scope) == (algorithm, True, None)
    assert out == f"{key.to_json()}\n"
    assert re.fullmatch("[0-9a-f]{16}", key.kid or "")
    assert key.operations == {"sign", "verify"}


def test_generate_by_default_makes_another_secret_each_time(cli: Cli) -> None:
    one, other = (Key.from_str(cli.done("generate")) for _ in range(2))
    assert one.algorithm == HS
    assert one.thumbprint() != other.thumbprint()
    assert one.kid != other.kid


@pytest.mark.parametrize("option", ["--id", "--kid"])
def test_generate_takes_an_id(cli: Cli, option: str) -> None:
    assert Key.from_str(cli.done("generate", option, "laptop")).kid == "laptop"


@pytest.mark.parametrize("algorithm", [HS, ED])
def test_generate_takes_the_thumbprint_for_an_id(cli: Cli, algorithm: Algorithm) -> None:
    key = Key.from_str(cli.done("generate", "--algorithm", algorithm, "--kid", "thumbprint"))
    assert key.kid == key.thumbprint()


@pytest.mark.parametrize(
    ("options", "scope"),
    [
        (["--publish", "a"], Scope("", ("a",))),
        (["--subscribe", ""], Scope("", (), ("",))),
        (["--root", "r", "--publish", "a", "--publish", "b", "--subscribe", "c"], Scope("r", ("a", "b"), ("c",))),
    ],
)
def test_generate_limits_a_key_to_a_scope(cli: Cli, options: list[str], scope: Scope) -> None:
    assert Key.from_str(cli.done("generate", *options)).scope == scope


@pytest.mark.parametrize(
    ("options", "is_json"),
    [
        ([], True),
        (["--format", "json"], True),
        (["--format", "base64"], False),
        (["--base64"], False),
        (["--base64", "--format", "base64"], False),
    ],
)
def test_generate_writes_either_form(cli: Cli, options: list[str], *, is_json: bool) -> None:
    out = cli.done("generate", *options)
    key = Key.from_str(out)
    assert out == f"{key.to_json() if is_json else key.to_str()}\n"


@pytest.mark.parametrize("options", [["--out", "deep/down/key.jwk"], ["--key", "deep/down/key.jwk"]])
def test_generate_writes_a_file_for_its_owner_alone(cli: Cli, options: list[str]) -> None:
    argv = ["generate", *options] if options[0] == "--out" else [*options, "generate"]
    Path("deep/down").mkdir(parents=True)
    assert cli.done(*argv) == ""
    assert mode("deep/down/key.jwk") == 0o600
    assert Key.from_file("deep/down/key.jwk").is_private
    assert files_in("deep/down") == ["key.jwk"]


@pytest.mark.parametrize("options", [["--out", "key.jwk", "--public", "public.jwk"], ["--public", "public.jwk"]])
def test_generate_writes_the_public_half_beside(cli: Cli, options: list[str]) -> None:
    out = cli.done("generate", "--algorithm", "EdDSA", *options)
    private = Key.from_file("key.jwk") if "--out" in options else Key.from_str(out)
    public = Key.from_file("public.jwk")
    assert (private.is_private, public.is_private) == (True, False)
    assert private.to_public() == public
    assert mode("public.jwk") == 0o644
    assert Path("key.jwk").exists() is (out == "")


def test_generate_writes_the_public_half_to_standard_output(cli: Cli) -> None:
    out = cli.done("generate", "--algorithm", "EdDSA", "--out", "key.jwk", "--public", "-")
    assert Key.from_str(out) == Key.from_file("key.jwk").to_public()
    assert mode("key.jwk") == 0o600


def test_generate_names_files_in_directories_by_the_id(cli: Cli) -> None:
    argv = ["generate", "--algorithm", "es256", "--base64", "--out-dir", "signing", "--public-dir", "keys"]
    assert cli.run(*argv, "--kid", "one") == (
        0,
        "",
        "note: created directory 'signing'\nnote: created directory 'keys'\n",
    )
    assert cli.done(*argv) == ""
    assert len(files_in("signing")) == 2
    assert files_in("signing") == files_in("keys")
    for name in files_in("signing"):
        private = Key.from_file(f"signing/{name}")
        assert name == f"{private.kid}.jwk"
        assert private.to_public() == Key.from_file(f"keys/{name}")
        assert (mode(f"signing/{name}"), mode(f"keys/{name}")) == (0o600, 0o644)
        assert not Path(f"signing/{name}").read_text(encoding="utf-8").startswith("{")


@pytest.mark.parametrize("place", ["-", "/dev/stdout", "/dev/fd/1"])
def test_generate_knows_the_names_of_standard_output(cli: Cli, place: str) -> None:
    assert Key.from_str(cli.done("generate", "--out", place)).is_private


def test_generate_writes_into_a_pipe(cli: Cli) -> None:
    os.mkfifo("pipe")
    Path("by-name").symlink_to("pipe")  # as what a shell makes of >(command)
    for name in ("pipe", "by-name"):
        reader = os.open("pipe", os.O_RDONLY | os.O_NONBLOCK)
        try:
            assert cli.done("generate", "--out", name) == ""
            assert Key.from_str(os.read(reader, 4096)).algorithm == HS
        finally:
            os.close(reader)
    assert files_in(".") == ["by-name", "pipe"]


@pytest.mark.parametrize("options", [["--out", "new"], ["--out-dir", "deep/down"]])
def test_generate_asks_for_permission_before_it_makes_anything(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, options: list[str]
) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)  # nothing is forbidden to root, who may run this
    assert "permission denied in '.'" in cli.refused(1, "generate", *options)
    assert files_in(".") == []


def test_generate_names_its_own_file_when_the_disk_is_full(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    assert cli.refused(1, "generate", "--out", "new") == "cannot write 'new': No space left on device"
    assert files_in(".") == []


def test_generate_does_not_replace_what_has_come_meanwhile(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(_: str, path: str) -> None:
        put(path, "precious\n")
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))

    monkeypatch.setattr(os, "link", link)
    assert cli.refused(1, "generate", "--out", "new") == "cannot write 'new': File exists"
    assert Path("new").read_text(encoding="utf-8") == "precious\n"
    assert files_in(".") == ["new"]


def test_generate_keeps_every_earlier_key(cli: Cli) -> None:
    argv = ("generate", "--algorithm", "EdDSA", "--out", "private.jwk", "--public", "public.jwk")
    assert cli.done(*argv) == ""
    earlier = {name: Path(name).read_bytes() for name in ("private.jwk", "public.jwk")}
    Path("public.jwk").chmod(0o640)
    status, out, err = cli.run(*argv)
    assert (status, out) == (0, "")
    assert err.splitlines() == [
        f"note: '{name}' already existed: the previous file is kept as '{name}.1.bak'" for name in earlier
    ]
    assert {name: Path(f"{name}.1.bak").read_bytes() for name in earlier} == earlier
    assert (mode("private.jwk.1.bak"), mode("public.jwk.1.bak")) == (0o600, 0o640)
    assert (mode("private.jwk"), mode("public.jwk")) == (0o600, 0o644)
    assert Key.from_file("private.jwk").to_public() == Key.from_file("public.jwk")
    # Another kind of key, the option before the command (older grammar), existing files; a free number is used.
    put("private.jwk.3.bak", "precious\n")
    for number in (2, 4):
        before = Path("private.jwk").read_bytes()
        _, _, err = cli.run("--key", "private.jwk", "generate")
        assert f"kept as 'private.jwk.{number}.bak'" in err
        assert Path(f"private.jwk.{number}.bak").read_bytes() == before
    assert Path("private.jwk.3.bak").read_text(encoding="utf-8") == "precious\n"


def test_backups_are_not_read_as_keys_of_a_directory(cli: Cli) -> None:
    argv = ("generate", "--algorithm", "EdDSA", "--out-dir", "signing", "--public-dir", "keys", "--kid", "one")
    for _ in range(3):
        assert cli.run(*argv)[0] == 0
    assert files_in("keys") == ["one.jwk", "one.jwk.1.bak", "one.jwk.2.bak"]
    for directory, options in (("signing", []), ("keys", ["--public"])):
        status, out, err = cli.run("keys", "check", directory, *options)
        assert (status, out, err[:5]) == (0, "", "note:")
        assert len(json.loads(cli.done("keys", "list", directory, "--json"))) == 1
    assert len(KeySet.from_str(cli.done("jwks", "keys")).keys) == 1
    token = cli.done("sign", "--key", "signing", "--publish", "", "--expires", "1h")
    assert json.loads(cli.done("verify", "--key", "keys", stdin=token))["put"] == [""]


def test_generate_refuses_instead_of_keeping_with_no_clobber(cli: Cli) -> None:
    cli.done("generate", "--out", "root.jwk", "--no-clobber")
    before = Path("root.jwk").read_bytes()
    assert "already exists" in cli.refused(1, "generate", "--out", "root.jwk", "--no-clobber")
    assert Path("root.jwk").read_bytes() == before
    assert files_in(".") == ["root.jwk"]


def test_generate_with_force_replaces_a_file_and_narrows_its_mode(desk: Cli) -> None:
    Path("there").chmod(0o644)
    assert desk.done("generate", "--out", "there", "--force") == ""
    assert mode("there") == 0o600
    assert Key.from_file("there").algorithm == HS
    assert not Path("there.1.bak").exists()


ED_OUT = ["--algorithm", "EdDSA", "--out", "new"]


@pytest.mark.parametrize(
    ("status", "options", "why"),
    [
        (2, ["--out", "new", "--out-dir", "dir"], "--out and --out-dir exclude each other"),
        (2, [*ED_OUT, "--public", "p", "--public-dir", "dir"], "--public and --public-dir exclude each other"),
        (2, ["--out", "new", "--public", "p"], "a key for HS256 has no public half"),
        (2, ["--algorithm", "HS512", "--public-dir", "dir"], "a key for HS512 has no public half"),
        (2, ["--out", "new", "--base64", "--format", "json"], "--base64 and --format json exclude each other"),
        (2, ["--out", "new", "--root", "rooms"], "--root alone gives no scope"),
        (2, ["--algorithm", "none"], "--algorithm: "),
        (2, ["--algorithm", "HS1024", "--out", "new"], "--algorithm: "),
        (2, ["--kid", "../up", "--out", "new"], "--kid: a key id must be 1 to 128 characters"),
        (2, ["--kid", "", "--out", "new"], "--kid: a key id must be"),
        (2, ["--kid", "x" * 129, "--out", "new"], "--kid: a key id must be"),
        (2, ["--format", "yaml", "--out", "new"], "'yaml' is not one of 'json', 'base64'"),
        (2, ["--algorithm", "EdDSA", "--public", "-"], "both halves of the key would go to the same file"),
        (2, ["--algorithm", "EdDSA", "--public", "/dev/stdout"], "both halves"),
        (2, [*ED_OUT, "--public", "new"], "both halves"),
        (2, [*ED_OUT, "--public", "folder/../new"], "both halves"),
        (2, [*ED_OUT, "--public", "new", "--force"], "both halves"),
        (2, ["--algorithm", "EdDSA", "--out-dir", "folder", "--public-dir", "./folder/"], "both halves"),
        (2, ["new"], "unexpected argument 'new'"),
        (2, ["--out", "new", "--out", "new"], "--out is given twice"),
        (2, ["--id", "a", "--kid", "b"], "--id or --kid is given twice"),
        (2, ["--out"], "--out needs a value: --out FILE"),
        (2, ["--out", "--force"], "--out needs a value, but an option follows"),
        (2, ["--publish", "a", "b"], "repeat it for more, --publish A --publish B"),
        (2, ["--bogus"], "no such option"),
        (2, ["--force=yes"], "--force"),
        (2, ["--out", "eyJrdHkiOiJvY3QifQ"], "--out expects a file name"),
        (2, ["--public", '{"kty":"oct"}'], "--public expects a file name"),
        (1, ["--out", ""], "is a directory"),
        (1, ["--out", "there", "--no-clobber"], "'there' already exists: use --force to replace it"),
        (2, ["--out", "there", "--no-clobber", "--force"], "--no-clobber and --force exclude each other"),
        (1, ["--out", "nodir/x"], "cannot write 'nodir/x': directory not found: 'nodir'"),
        (1, ["--out", "folder/nodir/x"], "directory not found: 'folder/nodir'"),
        (1, [*ED_OUT, "--public", "nodir/x"], "directory not found: 'nodir'"),
        (1, ["--algorithm", "EdDSA", "--out-dir", "new", "--public", "nodir/x"], "directory not found: 'nodir'"),
        (1, ["--out", "link"], "'link' is a symbolic link"),
        (1, ["--out", "link", "--force"], "'link' is a symbolic link"),
        (1, ["--out", "dangling", "--force"], "'dangling' is a symbolic link"),
        (1, ["--out", "folder"], "'folder' is a directory"),
        (1, ["--out", "folder", "--force"], "'folder' is a directory"),
        (1, ["--out", "there/new"], "not a directory: 'there'"),
        (1, ["--out-dir", "there"], "not a directory: 'there'"),
        (1, [*ED_OUT, "--public", "there", "--no-clobber"], "'there' already exists"),
        (1, ["--out-dir", "dangling/new"], "directory not found: 'dangling'"),
        (1, [*ED_OUT, "--public", "link", "--force"], "'link' is a symbolic link"),
        (1, [*ED_OUT, "--public-dir", "there"], "not a directory: 'there'"),
        (1, ["--out", "there/line\nbreak\x1b[31m"], "not a directory: 'there'"),
    ],
)
def test_generate_refuses_and_writes_nothing(desk: Cli, status: int, options: list[str], why: str) -> None:
    before = sorted(str(path) for path in Path().rglob("*"))
    assert why in desk.refused(status, "generate", *options)
    assert sorted(str(path) for path in Path().rglob("*")) == before
    assert Path("there").read_text(encoding="utf-8") == "precious\n"


# -- the commands that read a key


SECRET_WORD = forge.jwk(HS)["k"]


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


def test_a_broken_key_in_the_environment_is_named_by_its_variable(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOQ_TOKEN_KEY_DATA", f"{{{SECRET_WORD}")
    assert cli.refused(1, "public").startswith("MOQ_TOKEN_KEY_DATA: the key is not valid JSON")


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


def test_a_key_that_cannot_be_printed_is_a_failure(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    assert cli.refused(1, "generate") == "cannot write the result: standard output is closed"
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert cli.refused(1, "generate") == "cannot write to standard output: No space left on device"


@pytest.mark.parametrize("command", ["public", "export", "thumbprint", "import", "jwks"])
def test_a_closed_standard_input_is_a_failure(cli: Cli, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    def closed(*_: object) -> None:
        return None

    monkeypatch.setattr(io, "TextIOWrapper", closed)
    assert cli.refused(1, command, "-") == "cannot read the key: standard input is closed"


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


# -- import


def bare_jwk(algorithm: Algorithm, **changes: object) -> dict[str, object]:
    return forge.jwk(algorithm, **{"alg": None, "kid": None, **changes})


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
    cli: Cli, members: dict[str, object], options: list[str], algorithm: Algorithm, operations: set[str]
) -> None:
    put("foreign.json", members)
    key = Key.from_str(cli.done("import", "foreign.json", *options))
    assert (key.algorithm, key.kid, set(key.operations)) == (algorithm, None, operations)
    assert key.is_private is ("d" in members or "k" in members)
    assert not {"use", "ext", "x5c", "x5t"} & set(key.to_members())
    again = Key.from_str(cli.done("import", "foreign.json", *options, "--kid", "thumbprint", "--base64"))
    assert again == key.with_kid(key.thumbprint())


def other_number(data: bytes) -> str:
    """Write a number with a byte for its sign, and in the other alphabet of base64, as some libraries do."""
    return base64.b64encode(b"\0" + data).decode()


@pytest.mark.parametrize("algorithm", [RS, ES, ES384, ED])
def test_import_reads_numbers_as_others_write_them(cli: Cli, algorithm: Algorithm) -> None:
    names = {"n", "e", "x", "y", *forge.PRIVATE_MEMBERS[algorithm.kty]}
    for write in (other_number, lambda data: base64.encodebytes(data).decode(), lambda data: f"{forge.b64(data)}=="):
        members = {
            name: write(forge.unb64(str(value))) if name in names else value
            for name, value in forge.jwk(algorithm).items()
        }
        put("foreign.json", members)
        assert Key.from_str(cli.done("import", "foreign.json")) == forge.key(algorithm)
    secret = bytes(range(224, 256))  # whose zero bytes count, unlike those of a number
    put("foreign.json", {"kty": "oct", "alg": "HS256", "k": other_number(secret)})
    assert forge.unb64(str(Key.from_str(cli.done("import", "foreign.json")).to_members()["k"])) == b"\0" + secret


@pytest.mark.parametrize(("given", "kid"), [([], "theirs"), (["--id", "ours"], "ours"), (["--kid", "ours"], "ours")])
def test_import_keeps_the_id_unless_another_is_given(cli: Cli, given: list[str], kid: str) -> None:
    assert Key.from_str(cli.done("import", "-", *given, stdin=json.dumps(bare_jwk(ED, kid="theirs")))).kid == kid


def test_import_gives_an_id_in_place_of_one_that_is_none(cli: Cli) -> None:
    put("foreign.json", bare_jwk(ED, kid="https://login.example/keys/1"))
    assert "a key id must be" in cli.refused(1, "import", "foreign.json")
    assert Key.from_str(cli.done("import", "foreign.json", "--kid", "one")).kid == "one"


def test_import_reads_a_set(cli: Cli) -> None:
    put("jwks.json", {"keys": [bare_public_jwk(ED, kid="a", use="sig"), bare_jwk(ES, kid="b", ext=True)]})
    keys = KeySet.from_str(cli.done("import", "jwks.json"))
    assert [(key.kid, key.algorithm, key.is_private) for key in keys] == [("a", ED, False), ("b", ES, True)]
    keys = KeySet.from_str(cli.done("import", "jwks.json", "--kid", "thumbprint"))
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
def test_import_reads_every_kind_of_pem(cli: Cli, algorithm: Algorithm, text: str, *, private: bool) -> None:
    put("server.pem", text)
    out = cli.done("import", "server.pem", "--algorithm", algorithm, "--kid", "test-key")
    expected = forge.key(algorithm) if private else forge.key(algorithm).to_public()
    assert Key.from_str(out) == expected
    assert Key.from_str(cli.done("import", "-", "--algorithm", algorithm, stdin=text)) == expected.with_kid(None)
    assert Key.from_str(cli.done("import", "server.pem", "--algorithm", algorithm, "--kid", "thumbprint")) == (
        expected.with_kid(expected.thumbprint())
    )


@pytest.mark.parametrize("line", [PASSWORD, f"{PASSWORD}\n", f"{PASSWORD}\r\n", f"{PASSWORD}\nsecond line\n"])
@pytest.mark.parametrize("form", ["PKCS8", "TraditionalOpenSSL"])
def test_import_decrypts_with_the_first_line_of_a_file(cli: Cli, line: str, form: str) -> None:
    put("locked.pem", pem(ES, form, PASSWORD))
    put("password", line)
    argv = ["import", "locked.pem", "--algorithm", "ES256", "--kid", "test-key", "--password-file"]
    assert Key.from_str(cli.done(*argv, "password")) == forge.key(ES)
    assert Key.from_str(cli.done(*argv, "-", stdin=line)) == forge.key(ES)


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


# -- explain


class Refusal(NamedTuple):
    """The messages of the command for refused tokens. The clock is fixed at ``forge.NOW``."""

    failed: str
    reason: str
    message: str
    fix: str
    token: str
    key: str = "hs.jwk"
    options: tuple[str, ...] = ("--path", "/rooms/123")


def grant(**claims: object) -> str:
    return forge.token(HS, forge.claim(**claims))


TOKEN = grant()
PUBLISH_ONLY = grant(get=...)
REFUSALS = {
    "no token": Refusal("form", "token-expected", "there is no token", "dial with ?jwt=TOKEN", ""),
    "one segment": Refusal("form", "malformed", "this has 1", "copy the whole token", "eyJ"),
    "a segment cut off": Refusal("form", "malformed", "this has 2", "copy the whole token", TOKEN.rpartition(".")[0]),
    "padding": Refusal("form", "malformed", "not canonical base64url", "copy the whole token", f"{TOKEN}="),
    "no JSON": Refusal("claims", "malformed", "not valid JSON", "copy the whole token", forge.token(HS, b"{")),
    "no header": Refusal(
        "form", "malformed", "header of the token", "copy the whole token", forge.token(HS, head=b"[]")
    ),
    "another id": Refusal(
        "key",
        "unknown-key",
        "no key with the id 'test-key'; available ids: 'ed', 'es'",
        "use the key",
        TOKEN,
        "set.jwk",
    ),
    "no id": Refusal(
        "key",
        "unknown-key",
        "has no `kid`",
        "use the key that signed the token",
        forge.token(HS, head=forge.header(HS, kid=...)),
        "set.jwk",
    ),
    "no file": Refusal("key", "unknown-key", "available ids: 'other'", "publish its public half", TOKEN, "directory"),
    "an id that is none": Refusal(
        "key",
        "unknown-key",
        "no key with the id '../hs'",
        "use the key",
        forge.token(HS, head=forge.header(HS, kid="../hs")),
        "directory",
    ),
    "an empty directory": Refusal("key", "unknown-key", "there are no keys at all", "use the key", TOKEN, "folder"),
    "a key for signing": Refusal("key", "unknown-key", "may not verify", "use the key", TOKEN, "sign.jwk"),
    "another algorithm": Refusal(
        "algorithm",
        "wrong-algorithm",
        "the token has 'HS256' as `alg`",
        "the key decides the algorithm",
        TOKEN,
        "ed.public",
    ),
    "none": Refusal(
        "algorithm",
        "wrong-algorithm",
        "its key is for HS256",
        "the key decides the algorithm",
        forge.token(HS, head=forge.header(HS, alg="none"), signer=lambda _: b""),
    ),
    "a changed token": Refusal(
        "signature",
        "bad-signature",
        "the signature does not match",
        "the token was changed",
        forge.token(HS, signer=lambda data: forge.sign(HS, data, bytes(64))),
    ),
    "a wrong type": Refusal(
        "claims", "bad-claims", "the claim `put`", "sign the token with `moq-token sign`", grant(put=5)
    ),
    "an audience": Refusal("claims", "bad-claims", "`aud`", "sign the token with `moq-token sign`", grant(aud="x")),
    "just expired": Refusal(
        "time",
        "expired",
        "the token expired 1 min ago, at 2027-01-15 07:59:00 UTC",
        "sign for longer, or compare the clocks",
        grant(exp=forge.NOW - 60),
    ),
    "long expired": Refusal(
        "time",
        "expired",
        "the token expired 2 h ago, at 2027-01-15 06:00:00 UTC",
        "sign a new token",
        grant(exp=forge.NOW - 7200),
    ),
    "not yet valid": Refusal(
        "time",
        "not-yet-valid",
        "the token is valid in 10 min, from 2027-01-15 08:10:00 UTC on",
        "wait, or compare the clocks",
        grant(nbf=forge.NOW + 600),
    ),
    "nothing granted": Refusal(
        "grants",
        "useless",
        "grants nothing",
        "sign with --publish or --subscribe",
        grant(put=..., get=...),
    ),
    "beyond the scope": Refusal(
        "scope",
        "scope-exceeded",
        "grants 'rooms/123'",
        "allows publishing rooms/123/alice, subscribing to nothing",
        TOKEN,
        "scoped.jwk",
    ),
    "elsewhere": Refusal(
        "path",
        "root-mismatch",
        "does not overlap the root 'rooms/123'",
        "dial '/rooms/123', or a path beneath it",
        TOKEN,
        "hs.jwk",
        ("--path", "/rooms/999"),
    ),
    "nothing there": Refusal(
        "path",
        "no-access",
        "grants nothing at the path 'rooms/123/bob'",
        "it grants publishing rooms/123/alice, subscribing to nothing",
        PUBLISH_ONLY,
        "hs.jwk",
        ("--path", "/rooms/123/bob"),
    ),
    "another broadcast": Refusal(
        "broadcast",
        "no-access",
        "at '/rooms/123' the client must not publish 'bob'",
        "sign with --publish for it; granted there: alice",
        TOKEN,
        "hs.jwk",
        ("--path", "/rooms/123", "--publish", "/bob/"),
    ),
    "nothing to subscribe to": Refusal(
        "broadcast",
        "no-access",
        "at '/rooms/123' the client must not subscribe to 'alice'",
        "sign with --subscribe for it; granted there: nothing",
        PUBLISH_ONLY,
        "hs.jwk",
        ("--path", "rooms/123", "--publish", "alice", "--subscribe", "alice"),
    ),
}


@pytest.fixture
def counter(desk: Cli, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Create keys to verify with, at a fixed time."""
    monkeypatch.setattr(time, "time", lambda: float(forge.NOW))
    put("directory/other.jwk", forge.jwk(HS, kid="other"))
    put("sign.jwk", forge.jwk(HS, key_ops=["sign"]))
    put("scoped.jwk", forge.jwk(HS, scope={"root": "rooms", "put": ["123/alice"]}))
    put("keys/test-key.jwk", forge.jwk(HS))
    put("both.jwk", {"keys": [forge.jwk(ED, kid="ed"), forge.jwk(HS)]})
    return desk


CHECKS = ("key", "form", "algorithm", "signature", "claims", "time", "grants", "scope", "path", "broadcast")


def outcomes(failed: str | None) -> dict[str, bool]:
    """Return the checks that are made of a token, in their order: all are passed but the last one, if one fails."""
    made = {"form": ("form",), "key": ("form", "key"), None: CHECKS}.get(failed)
    if made is None:
        made = CHECKS[: CHECKS.index(failed or "") + 1]
    return {check: check != failed for check in made}


@pytest.mark.parametrize("case", REFUSALS.values(), ids=list(REFUSALS))
def test_explain_says_why_not(counter: Cli, case: Refusal) -> None:
    argv = ["explain", "--key", case.key, *case.options]
    status, out, err = counter.run(*argv, "--json", stdin=f"{case.token}\n")
    assert (status, err) == (1, "")
    found = json.loads(out)
    permissions, ignored = found.pop("permissions"), found.pop("ignored")
    assert (found.pop("relays"), found.pop("others")) == ("relays before 0.15", [])
    message, fix = found.pop("message"), found.pop("fix")
    assert found == {"allowed": False, "checks": outcomes(case.failed), "failed": case.failed, "reason": case.reason}
    assert list(found["checks"])[-1] == case.failed
    assert ignored == []
    assert case.message in message
    assert case.fix in fix
    assert (permissions is None) is ("--publish" not in case.options)

    status, text, err = counter.run(*argv, stdin=case.token)
    lines = [f"{check:<12}{'yes' if passed else 'NO'}" for check, passed in found["checks"].items()]
    assert (status, err) == (1, "")
    assert text.splitlines() == [f"refused: {case.reason}: {message}", *lines, f"fix: {fix}"]
    signature = case.token.rpartition(".")[2]
    assert not [secret for secret in SECRETS if secret in out + text]
    assert len(signature) < 40 or signature not in out + text


@pytest.mark.parametrize("case", REFUSALS.values(), ids=list(REFUSALS))
def test_verify_and_inspect_say_the_same(counter: Cli, case: Refusal) -> None:
    if case.failed in {"path", "broadcast"} or case.reason == "token-expected":
        return
    text = counter.refused(1, "verify", "--key", case.key, stdin=case.token)
    assert f"refused: {case.reason}: " in text
    assert case.message in text
    status, out, _ = counter.run("inspect", "--key", case.key, "--json", stdin=case.token)
    assert status == 1
    if out:  # nothing of a malformed token is shown
        found = json.loads(out)
        signature = "bad" if case.failed == "signature" else "good" if outcomes(case.failed).get("signature") else None
        assert (found["reason"], found["signature"]) == (case.reason, signature or "not checked")
        assert case.message in found["refused"]
    else:
        assert case.reason == "malformed"


@pytest.mark.parametrize("key", ["hs.jwk", "both.jwk", "keys", "keys/"])
def test_explain_says_yes(counter: Cli, key: str) -> None:
    argv = ["explain", "--key", key, "--path", "/rooms//123/", "--publish", "alice/cam", "--subscribe", "bob"]
    text = counter.done(*argv, stdin=TOKEN)
    lines = [f"{check:<12}yes" for check in CHECKS]
    assert text.splitlines() == ["allowed: may publish alice; may subscribe to everything there", *lines]
    found = json.loads(counter.done(*argv, "--json", stdin=TOKEN))
    assert found == {
        "relays": "relays before 0.15",
        "others": [],
        "allowed": True,
        "checks": outcomes(None),
        "failed": None,
        "reason": None,
        "message": None,
        "fix": None,
        "permissions": {"publish": ["alice"], "subscribe": [""]},
        "ignored": [],
    }


def test_explain_takes_the_token_from_anywhere(counter: Cli) -> None:
    put("alice.jwt", f"  {TOKEN}\n")
    argv = ["explain", "--key", "hs.jwk", "--path", "rooms/123"]
    expected = counter.done(*argv, stdin=TOKEN)
    assert counter.done(*argv, TOKEN) == expected
    assert counter.done(*argv, "-", stdin=TOKEN) == expected
    assert counter.done(*argv, "--in", "alice.jwt") == expected
    assert counter.done(*argv, "--in", "-", stdin=TOKEN) == expected
    stdin = Path("hs.jwk").read_bytes()
    assert counter.done("explain", "--key", "-", "--path", "rooms/123", "--in", "alice.jwt", stdin=stdin) == expected


@pytest.mark.parametrize(
    ("status", "argv", "why"),
    [
        (2, [], "missing path: add --path"),
        (2, ["--key", "hs.jwk"], "missing path: add --path"),
        (2, ["--path", "a"], "no key: name its file"),
        (2, ["--path", "a", "--key", "-"], "key and token cannot both come from standard input"),
        (2, ["--path", "a", "--key", "hs.jwk", TOKEN, "--in", "x"], "as an argument or with --in, not both"),
        (2, ["--path", "a", "--key", "hs.jwk", "--in", TOKEN], "--in expects a file name"),
        (2, ["--path", "a", "--key", "hs.jwk", TOKEN, TOKEN], "unexpected argument"),
        (2, ["--config", "relay.toml", "--key", "hs.jwk"], "--config names the key"),
        (2, ["--config", "relay.toml", "--path", "a"], "--config names the key"),
        (1, ["--path", "a", "--key", "hs.jwk", "--in", "gone"], "cannot read 'gone'"),
        (1, ["--path", "a", "--key", "hs.jwk", "--in", "large"], "'large' is larger than"),
        (1, ["--path", "a", "--key", "gone", TOKEN], "cannot read 'gone'"),
        (1, ["--path", "a", "--key", "ed.pem", TOKEN], "convert it with the command `import`"),
        (1, ["--path", "a", "--key", "bad", TOKEN], "bad/test-key.jwk'"),
        (1, ["--config", "gone.toml", "https://relay.example/"], "gone.toml"),
        (1, ["--config", "ed.pem", "https://relay.example/"], "'ed.pem' is not valid TOML"),
        (1, ["--config", "empty", "https://relay.example/"], "nothing is configured"),
    ],
)
def test_explain_refuses(counter: Cli, status: int, argv: list[str], why: str) -> None:
    put("large", "x" * 100_000)
    put("bad/test-key.jwk", SECRET_WORD)
    message = counter.refused(status, "explain", *argv)
    assert why in message
    assert TOKEN.rpartition(".")[2] not in message


RELAY = """
[auth]
key_dir = "keys"
public = { subscribe = ["live"], publish = ["live/open"] }
domains = ["relay.example"]
"""


@pytest.mark.parametrize(
    ("toml", "url", "options", "failed", "reason", "said"),
    [
        (RELAY, f"https://r.test/rooms/123?jwt={TOKEN}", (), None, None, "may publish alice;"),
        (
            RELAY,
            f"https://123.rooms.relay.example/?jwt={TOKEN}",
            ("--publish", "alice"),
            None,
            None,
            "may publish alice",
        ),
        (RELAY, "https://r.test/live", ("--subscribe", "x"), None, None, "publish open; may subscribe to everything"),
        (RELAY, "https://r.test/live", ("--publish", "x"), "broadcast", "no-access", "granted there: open"),
        (RELAY, "https://r.test/rooms/123", (), "public", "token-expected", "dial with ?jwt=TOKEN"),
        (RELAY, "rooms/123", (), "url", "bad-url", "dial a URL such as"),
        (RELAY, "ftp://r.test/rooms/123", (), "url", "bad-url", "unsupported scheme: 'ftp'"),
        (RELAY, "https://r.test/live?jwt=a.b", (), "form", "malformed", "copy the whole token"),
        (RELAY, f"https://r.test/live?jwt={TOKEN}", (), "path", "root-mismatch", "dial '/rooms/123', or"),
        (RELAY, f"https://r.test/rooms/123?jwt={grant(exp=1)}", (), "time", "expired", "sign a new token"),
        (
            RELAY,
            f"https://r.test/rooms/123?jwt={forge.token(HS, head=forge.header(HS, kid=...))}",
            (),
            "key",
            "kid-missing",
            "sign with a key that has an id",
        ),
        (
            RELAY,
            f"https://r.test/rooms/123?jwt={forge.token(HS, head=forge.header(HS, kid='a/b'))}",
            (),
            "key",
            "bad-kid",
            "whose id is 1 to 128 characters",
        ),
        (
            RELAY,
            f"https://r.test/rooms/123?jwt={forge.token(HS, head=forge.header(HS, kid='gone'))}",
            (),
            "key",
            "unknown-key",
            "use the key that signed the token",
        ),
        ('auth.public = ""', f"https://r.test/rooms/123?jwt={TOKEN}", (), "key", "no-key-source", "set `key`"),
        (
            'auth.key = "scoped.jwk"',
            f"https://r.test/rooms/123?jwt={TOKEN}",
            (),
            "scope",
            "scope-exceeded",
            "grant less",
        ),
        ('auth.key = "sign.jwk"', f"https://r.test/rooms/123?jwt={TOKEN}", (), "key", "unknown-key", "may not verify"),
        ('auth.key = "ed.public"', f"https://r.test/?jwt={TOKEN}", (), "algorithm", "wrong-algorithm", "'HS256'"),
    ],
)
def test_explain_asks_a_configuration_about_a_url(  # noqa: PLR0917 - as above
    counter: Cli, toml: str, url: str, options: tuple[str, ...], failed: str | None, reason: str | None, said: str
) -> None:
    put("relay.toml", toml)
    for argv, stdin in (((url,), ""), (("-",), f"{url}\n"), ((), url)):
        status, out, err = counter.run("explain", "--config", "relay.toml", *options, *argv, stdin=stdin)
        assert (status, err) == (int(failed is not None), "")
        assert said in out
    found = json.loads(counter.run("explain", "--config", "relay.toml", *options, url, "--json")[1])
    assert (found["allowed"], found["failed"], found["reason"]) == (failed is None, failed, reason)
    assert list(found["checks"])[-1:] == ([failed] if failed is not None else list(found["checks"])[-1:])
    assert list(found["checks"].values()).count(False) == int(failed is not None)
    assert "signature" not in found["checks"] or TOKEN.partition(".")[0] in url or "jwt=" in url
    assert TOKEN.rpartition(".")[2] not in out


@pytest.fixture(scope="module")
def verifiers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("verifiers")
    for name, changes in (("open", {}), ("scoped", {"scope": {"root": "a", "put": ["", "b"], "get": ["b"]}})):
        (directory / name).write_text(json.dumps(forge.jwk(HS, **changes)), encoding="utf-8")
    return directory


SEGMENTS = st.lists(st.sampled_from(["a", "b", "ab", "", "é", ".."]), max_size=3).map("/".join)
PREFIXES = st.one_of(SEGMENTS, st.lists(SEGMENTS, max_size=2), st.just(...), st.just(5))
CLAIMS = st.fixed_dictionaries(
    {"root": SEGMENTS, "put": PREFIXES, "get": PREFIXES},
    optional={"exp": st.sampled_from([1, 2**40, "soon"]), "nbf": st.sampled_from([1, 2**40])},
)


@given(
    claims=CLAIMS,
    name=st.sampled_from(["open", "scoped"]),
    path=SEGMENTS,
    publish=SEGMENTS,
    good=st.sampled_from([True, True, True, False]),
)
def test_explain_says_yes_exactly_where_the_library_does(
    verifiers: Path, claims: dict[str, object], name: str, path: str, publish: str, *, good: bool
) -> None:
    secret = forge.SECRET if good else bytes(64)
    text = forge.token(HS, forge.claim(**claims), signer=lambda data: forge.sign(HS, data, secret))
    key = Key.from_file(verifiers / name)
    reason = None
    try:
        allowed = key.verify(text).authorize(path).can_publish(publish)
        reason = None if allowed else "no-access"
    except RefusedError as error:
        reason = error.reason
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        status = main(
            ["explain", text, "--key", str(verifiers / name), f"--path={path}", f"--publish={publish}", "--json"]
        )
    found = json.loads(out.getvalue())
    assert (status, found["allowed"], found["reason"]) == (int(reason is not None), reason is None, reason)


# -- keys over HTTP


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Serve the keys on loopback; what is asked for beside them fails."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    bodies = {
        "/keys/test-key.jwk": json.dumps(forge.jwk(HS)),
        "/keys/broken.jwk": SECRET_WORD,
        "/jwks.json": json.dumps({"keys": [forge.public_jwk(ED, kid="ed"), forge.jwk(HS)]}),
        "/key.jwk": json.dumps(forge.public_jwk(ED)),
        "/broken": SECRET_WORD,
    }

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            body = bodies.get(path, "").encode()
            self.send_response(200 if body else 500 if path == "/fails" else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
            """Say nothing on standard error, which is looked at."""

    with in_thread(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as server:
        yield f"http://127.0.0.1:{server.server_address[1]}"


ED_TOKEN = forge.token(ED)


@pytest.mark.parametrize(
    ("where", "token"),
    [("/keys/", TOKEN), ("/jwks.json", TOKEN), ("/key.jwk", ED_TOKEN), ("/jwks.json?sig=hunter2", TOKEN)],
)
def test_keys_are_fetched(counter: Cli, web: str, where: str, token: str) -> None:
    assert json.loads(counter.done("verify", "--key", f"{web}{where}", stdin=token)) == forge.GRANT
    assert "may publish alice" in counter.done("explain", "--key", f"{web}{where}", "--path", "rooms/123", token)


@pytest.mark.parametrize(
    ("where", "kid", "failed", "said"),
    [
        ("/keys/", "gone", "key", "no key with the id 'gone' at 'http://127.0.0.1"),
        ("/keys/", "../keys/test-key", "key", "no key with the id"),
        ("/keys/?sig=hunter2", "gone", None, "cannot"),
        ("/jwks.json", "gone", "key", "no key with the id 'gone'; available ids: 'ed', 'test-key'"),
        ("/key.jwk", "gone", "algorithm", "the token has 'HS256' as `alg`"),
    ],
)
def test_a_token_is_refused_by_fetched_keys(  # noqa: PLR0917 - as above
    counter: Cli, web: str, where: str, kid: str, failed: str, said: str
) -> None:
    text = forge.token(HS, head=forge.header(HS, kid=kid))
    message = counter.refused(1, "verify", "--key", f"{web}{where}", stdin=text)
    assert "hunter2" not in message
    if failed is not None:
        assert said in message
        status, out, _ = counter.run("explain", "--key", f"{web}{where}", "--path", "/", "--json", stdin=text)
        assert (status, json.loads(out)["failed"]) == (1, failed)


@pytest.mark.parametrize("command", ["verify", "explain"])
@pytest.mark.parametrize(
    ("where", "kid"),
    [
        ("/broken?sig=hunter2", "test-key"),
        ("/fails?sig=hunter2", "test-key"),
        ("/gone?sig=hunter2", "test-key"),
        ("/keys/", "broken"),
    ],
)
def test_keys_that_cannot_be_had_are_no_refusal_of_the_token(
    counter: Cli, web: str, command: str, where: str, kid: str
) -> None:
    argv = [command, "--key", f"{web}{where}", "--path", "/"]
    message = counter.refused(1, *argv, stdin=forge.token(HS, head=forge.header(HS, kid=kid)))
    assert "127.0.0.1" in message or kid in message
    assert "hunter2" not in message


def test_a_configuration_can_name_keys_by_url(counter: Cli, web: str) -> None:
    put("relay.toml", f'auth.key_dir = "{web}/keys"')
    argv = ["explain", "--config", "relay.toml"]
    assert "may publish alice" in counter.done(*argv, f"https://r.test/rooms/123?jwt={TOKEN}")
    text = forge.token(HS, head=forge.header(HS, kid="broken"))
    counter.refused(1, *argv, f"https://r.test/rooms/123?jwt={text}")
    put("relay.toml", 'auth.key_dir = "http://127.0.0.1:1/keys"')
    assert "http://127.0.0.1:1/keys/test-key.jwk" in counter.refused(1, *argv, f"https://r.test/rooms/123?jwt={TOKEN}")


# -- check-config


@pytest.mark.parametrize(
    ("toml", "lines"),
    [
        (
            'auth.key = "relay.jwk"',
            [
                "tokens   all verified with the key in relay.jwk",
                "public   without a token anybody may publish: nothing",
                "public   without a token anybody may subscribe: nothing",
            ],
        ),
        (
            RELAY + 'mtls_tier = "mesh"',
            [
                "tokens   verified with keys/{kid}.jwk, read when a token names it",
                "public   without a token anybody may publish: live/open",
                "public   without a token anybody may subscribe: live",
                "domains  labels before relay.example go in front of the path",
                "tier     client certificates are counted under mesh",
            ],
        ),
        (
            'auth.public = ""',
            [
                "tokens   all refused: there is no key to verify them with",
                "public   without a token anybody may publish: everything",
                "public   without a token anybody may subscribe: everything",
            ],
        ),
        (
            'auth.auth_api = "https://user:hunter2@api.example/auth?key=hunter2"',
            ["tokens   verified with the key that `auth_api` answers, which also says what is public"],
        ),
        (
            '[auth]\nkey_dir = "https://user:hunter2@api.example/keys/?key=hunter2"',
            [
                "tokens   verified with https://api.example/keys/{kid}.jwk, read when a token names it",
                "public   without a token anybody may publish: nothing",
                "public   without a token anybody may subscribe: nothing",
            ],
        ),
        (
            '[auth]\nkey = "https://api.example/k.jwk?sig=hunter2"\npublic.api = "https://hunter2@api.example/public"',
            [
                "tokens   all verified with the key in https://api.example/k.jwk",
                "public   without a token anybody may publish: nothing",
                "public   without a token anybody may subscribe: nothing",
                "public   where none of these matches, https://api.example/public is asked",
            ],
        ),
    ],
)
def test_check_config_says_how_clients_are_admitted(cli: Cli, toml: str, lines: list[str]) -> None:
    put("relay.jwk", forge.jwk(HS))
    put("keys/test-key.jwk", forge.jwk(HS))
    put("relay.toml", toml)
    out = cli.done("check-config", "relay.toml")
    assert "hunter2" not in out
    relays = (
        "relays   moq-relay 0.14; from 0.15 on, a relay refuses to start with these settings, and asks an auth server"
    )
    assert [line for line in out.splitlines() if not line.startswith("upgrade")] == [relays, *lines]
    assert cli.done("check-config", "relay.toml", "--strict") == out
    found = json.loads(cli.done("check-config", "relay.toml", "--json"))
    assert (found["ok"], found["relays"], found["problems"], found["notes"]) == (True, "0.14", [], [])
    assert found["admits"]["tokens"] == [line[9:] for line in lines if line.startswith("tokens")]


def test_check_config_lets_the_environment_count(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    put("relay.toml", 'auth.key = "relay.jwk"')
    put("other.jwk", forge.jwk(HS))
    assert "`key`" in cli.refused(1, "check-config", "relay.toml")
    monkeypatch.setenv("MOQ_AUTH_KEY", "other.jwk")
    monkeypatch.setenv("MOQ_AUTH_PUBLIC_SUBSCRIBE", "live\x1b[31m")
    out = cli.done("check-config", "relay.toml")
    assert "other.jwk" in out
    assert "may subscribe: live\\x1b[31m\n" in out


@pytest.mark.parametrize(
    ("toml", "warning"),
    [
        (
            '[auth]\nkey = "k"\nkey_dirs = "x"',
            "`auth.key_dirs` is unknown and ignored; did you mean `key_dir`?",
        ),
        ('[auth]\nkey = "k"\npublic = ["live/*"]', "the public prefix 'live/*' is not a pattern"),
        (
            '[auth]\nkey = "k"\npublic = ["https://a.example/x"]',
            "a URL among the public prefixes is taken for a prefix",
        ),
        ('[auth]\nkey = "http://a.example/k"', "plain http lets anybody on the network answer"),
        ('[auth]\nkey = "k"\ndomains = ["*.example"]', "the suffix '*.example' of `domains` matches no host"),
        (
            '[auth]\nkey = "k"\n[client.tls]\ndisable_verify = true',
            "`disable_verify` lets anybody on the network answer",
        ),
    ],
)
def test_check_config_warns_and_strictly_fails(cli: Cli, toml: str, warning: str) -> None:
    put("k", forge.jwk(HS))
    put("relay.toml", toml)
    status, out, err = cli.run("check-config", "relay.toml")
    assert status == 0
    assert out.startswith("relays ")
    assert re.fullmatch(r"note: [^\n]+\n", err)
    assert warning in err
    assert warning in cli.refused(1, "check-config", "relay.toml", "--strict")


@pytest.mark.parametrize(
    ("status", "argv", "why"),
    [
        (2, [], "missing argument"),
        (2, ["relay.toml", "other.toml"], "unexpected argument 'other.toml'"),
        (2, ["relay.toml", "--jsn"], "no such option"),
        (2, ["relay.toml", "--strict", "--strict"], "--strict is given twice"),
        (1, ["gone.toml"], "'gone.toml': No such file or directory"),
        (1, ["folder"], "'folder' is a directory"),
        (1, ["relay.toml"], "`key` and `key_dir` exclude each other"),
        (1, ["broken.toml"], "'broken.toml' is not valid TOML"),
        (1, ["binary.toml"], "'binary.toml' is not valid TOML"),
        (1, ["empty"], "nothing is configured"),
        (1, ["type.toml"], "`auth.key` must be a string"),
        (1, ["scheme.toml"], "`key`: unsupported scheme"),
        (1, ["nowhere.toml"], "`key`"),
        (1, ["no-directory.toml"], "`key_dir`"),
    ],
)
def test_check_config_refuses(desk: Cli, status: int, argv: list[str], why: str) -> None:
    put("relay.toml", 'auth.key = "a"\nauth.key_dir = "b"')
    put("broken.toml", f'auth.key = "{SECRET_WORD}')
    Path("binary.toml").write_bytes(b"\xff\xfe")
    put("type.toml", "auth.key = 5")
    put("nowhere.toml", 'auth.key = "gone.jwk"')
    put("no-directory.toml", 'auth.key_dir = "gone"')
    put("scheme.toml", 'auth.key = "gopher://user:hunter2@a.example/"')
    message = desk.refused(status, "check-config", *argv)
    assert why.casefold() in message.casefold()
    assert "hunter2" not in message


# -- completion and help


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
@pytest.mark.parametrize("name", ["moq-token", "moq-token-cli"])
def test_completion_prints_the_script_for_the_name_of_the_program(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, shell: str, name: str
) -> None:
    monkeypatch.setattr(sys, "argv", [f"/usr/bin/{name}"])
    out = cli.done("completion", shell)
    assert f"_MOQ_TOKEN_COMPLETE={shell}_complete" in out
    assert re.search(rf"(complete|compdef)\b.* {re.escape(name)}\b", out)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("moq-token chec", {"check-config"}),
        ("moq-token ex", {"explain", "export"}),
        ("moq-token generate --out-", {"--out-dir"}),
        ("moq-token generate --algorithm ES", {"ES256", "ES384"}),
        ("moq-token completion ", {"bash", "zsh", "fish"}),
    ],
)
def test_completion_completes(cli: Cli, monkeypatch: pytest.MonkeyPatch, words: str, expected: set[str]) -> None:
    monkeypatch.setenv("_MOQ_TOKEN_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(words.count(" ")))
    assert {line.rpartition(",")[2] for line in cli.done().splitlines()} == expected


@pytest.mark.parametrize(
    ("argv", "why"),
    [
        (["completion"], "missing argument"),
        (["completion", "tcsh"], "'tcsh' is not one of 'bash', 'zsh', 'fish'"),
        (["completion", "bash", "zsh"], "unexpected argument 'zsh'"),
        (["help", "sing"], "No such command 'sing'. Did you mean 'sign'?"),
        (["help", "s" * 100], "no such command: use one of "),
        (["help", "sign", "verify"], "sign has no subcommands"),
        (["help", "keys", "sign"], "no such command 'sign': use one of list, rotate"),
        (["keys"], "missing command: use one of list, rotate"),
        (["sing"], "No such command 'sing'. Did you mean 'sign'?"),
        (["eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9"], "no such command: use one of "),
        (["--bogus"], "no such option"),
    ],
)
def test_wrong_words_are_refused(cli: Cli, argv: list[str], why: str) -> None:
    assert why.casefold() in cli.refused(2, *argv).casefold()


@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_the_same_however_it_is_asked_for(cli: Cli, command: str) -> None:
    out = cli.done("help", command)
    assert out.startswith(f"Usage: moq-token {command} ")
    assert f"\nExamples:\n  moq-token {command}" in out
    assert cli.done(command, "--help") == out
    assert cli.done(command, "-h") == out


def test_help_lists_the_commands(cli: Cli) -> None:
    out = cli.done("help")
    assert re.findall(r"^  ([a-z-]+)  ", out.partition("Commands:")[2].partition("Examples:")[0], re.MULTILINE) == list(
        COMMANDS
    )
    assert cli.done() == cli.done("--help") == cli.done("-h") == out


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
    cli: Cli, algorithm: Algorithm, name: str, change: Callable[[bytes], bytes]
) -> None:
    size = {ES: 32, ES384: 48}[algorithm]

    def numbers(private: int) -> dict[str, int]:
        public = forge.ec_native(algorithm, private).public_key().public_numbers()
        return {"x": public.x, "y": public.y, "d": private}

    values = next(found for found in map(numbers, range(1, 5000)) if found[name] < 1 << 8 * (size - 1))
    members: dict[str, object] = {"kty": "EC", "crv": {ES: "P-256", ES384: "P-384"}[algorithm]}
    members |= {key: forge.b64int(value, size) for key, value in values.items()}
    expected = cli.done("import", "-", stdin=json.dumps(members))
    members[name] = forge.b64(change(forge.unb64(str(members[name]))))
    assert cli.done("import", "-", stdin=json.dumps(members)) == expected
    members[name] = forge.b64(b"\1" + forge.unb64(str(members[name])))
    cli.refused(1, "import", "-", stdin=json.dumps(members))


@pytest.mark.parametrize("name", ["x", "d"])
def test_import_gives_ed25519_its_length(cli: Cli, name: str) -> None:
    values: dict[str, bytes] = {}
    for number in range(1, 5000):
        native = forge.ed25519_native(number.to_bytes(32, "little" if name == "x" else "big"))
        values = {"x": native.public_key().public_bytes_raw(), "d": native.private_bytes_raw()}
        if values[name][0] == 0:
            break
    members = {"kty": "OKP", "crv": "Ed25519"} | {key: forge.b64(value) for key, value in values.items()}
    expected = cli.done("import", "-", stdin=json.dumps(members))
    for changed in (values[name][1:], b"\0" + values[name]):
        assert cli.done("import", "-", stdin=json.dumps(members | {name: forge.b64(changed)})) == expected
    for wrong in (values[name][:-1], b"\1" + values[name], values[name][2:] + b"\1"):
        cli.refused(1, "import", "-", stdin=json.dumps(members | {name: forge.b64(wrong)}))


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
def test_import_makes_a_key_of_a_secret(cli: Cli, form: str, data: bytes, secret: bytes) -> None:
    out = cli.done("import", "-", "--secret", form, "--algorithm", "hs512", "--kid", "one", stdin=data)
    assert Key.from_str(out) == Key.from_secret(secret, "HS512", kid="one")
    assert Key.from_str(cli.done("import", "-", "--secret", form, stdin=data)) == Key.from_secret(secret)


@pytest.mark.parametrize(
    ("data", "note"),
    [(b"ab" * 32, "--secret hex"), (b"QUFB" * 10 + b"QUE=", "--secret base64"), (b'"' + b"s" * 32 + b'"', "quotes"),
     (b"  " + b"s" * 32, "white space")],
)  # fmt: skip
def test_import_notes_what_a_secret_may_not_be(cli: Cli, data: bytes, note: str) -> None:
    status, out, err = cli.run("import", "-", "--secret", "text", stdin=data)
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
def test_secrets_that_import_refuses(cli: Cli, status: int, options: list[str], data: bytes, why: str) -> None:
    assert why in cli.refused(status, "import", "-", *options, stdin=data)


@pytest.mark.parametrize("kid", ["https://id.example/1", "a b", "arn:aws:kms:x", "Qm9n+/abc="])
def test_import_names_the_option_for_another_id(cli: Cli, kid: str) -> None:
    text = json.dumps(bare_jwk(ED, kid=kid))
    assert "--kid" in cli.refused(1, "import", "-", stdin=text)
    assert Key.from_str(cli.done("import", "-", "--kid", "thumbprint", stdin=text)).kid


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
    cli: Cli, monkeypatch: pytest.MonkeyPatch, data: str, why: str
) -> None:
    monkeypatch.setenv("MOQ_TOKEN_KEY_DATA", data)
    for argv in (["sign", "--publish", "a"], ["public"], ["import"]):
        assert why in cli.refused(1, *argv)


def test_keys_of_a_set_that_tokens_cannot_use_are_named(cli: Cli) -> None:
    unusable = {"kty": "AKP", "alg": "ML-DSA-65", "kid": "pq"}
    put("set.json", {"keys": [unusable, forge.public_jwk(ED), 5]})
    put("good.json", {"keys": [forge.public_jwk(ED)]})
    for command in ("import", "jwks", "public", "thumbprint"):
        status, out, err = cli.run(command, "set.json")
        assert (status, out) == (0, cli.done(command, "good.json"))
        assert err.count("\n") == 1
        assert "ignored 2 keys" in err
        assert "keys[0] (pq)" in err
        assert "keys[2]" in err
    put("none.json", {"keys": [unusable]})
    for command in ("import", "jwks", "public", "thumbprint"):
        assert "no usable key in the set" in cli.refused(1, command, "none.json")
