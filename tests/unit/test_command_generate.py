"""The command `generate`, called as from a shell."""

from __future__ import annotations

import errno
import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from moq_token import Algorithm, Key, KeySet, Scope
from tests.desk import (
    ED,
    ES,
    ES384,
    HS,
    PS,
    RS,
    files_in,
    mode,
    put,
)

if TYPE_CHECKING:
    from tests.command_line import Cli


@pytest.mark.parametrize("algorithm", [HS, Algorithm.HS384, Algorithm.HS512, RS, PS, ES, ES384, ED])
def test_generate_makes_a_key_of_every_kind(shell: Cli, algorithm: Algorithm) -> None:
    out = shell.done("generate", "--algorithm", algorithm)
    key = Key.from_str(out)
    assert (key.algorithm, key.is_private, key.scope) == (algorithm, True, None)
    assert out == f"{key.to_json()}\n"
    assert re.fullmatch("[0-9a-f]{16}", key.kid or "")
    assert key.operations == {"sign", "verify"}


def test_generate_by_default_makes_another_secret_each_time(shell: Cli) -> None:
    one, other = (Key.from_str(shell.done("generate")) for _ in range(2))
    assert one.algorithm == HS
    assert one.thumbprint() != other.thumbprint()
    assert one.kid != other.kid


@pytest.mark.parametrize("option", ["--id", "--kid"])
def test_generate_takes_an_id(shell: Cli, option: str) -> None:
    assert Key.from_str(shell.done("generate", option, "laptop")).kid == "laptop"


@pytest.mark.parametrize("algorithm", [HS, ED])
def test_generate_takes_the_thumbprint_for_an_id(shell: Cli, algorithm: Algorithm) -> None:
    key = Key.from_str(shell.done("generate", "--algorithm", algorithm, "--kid", "thumbprint"))
    assert key.kid == key.thumbprint()


@pytest.mark.parametrize(
    ("options", "scope"),
    [
        (["--publish", "a"], Scope("", ("a",))),
        (["--subscribe", ""], Scope("", (), ("",))),
        (["--root", "r", "--publish", "a", "--publish", "b", "--subscribe", "c"], Scope("r", ("a", "b"), ("c",))),
    ],
)
def test_generate_limits_a_key_to_a_scope(shell: Cli, options: list[str], scope: Scope) -> None:
    assert Key.from_str(shell.done("generate", *options)).scope == scope


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
def test_generate_writes_either_form(shell: Cli, options: list[str], *, is_json: bool) -> None:
    out = shell.done("generate", *options)
    key = Key.from_str(out)
    assert out == f"{key.to_json() if is_json else key.to_str()}\n"


@pytest.mark.parametrize("options", [["--out", "deep/down/key.jwk"], ["--key", "deep/down/key.jwk"]])
def test_generate_writes_a_file_for_its_owner_alone(shell: Cli, options: list[str]) -> None:
    argv = ["generate", *options] if options[0] == "--out" else [*options, "generate"]
    Path("deep/down").mkdir(parents=True)
    assert shell.done(*argv) == ""
    assert mode("deep/down/key.jwk") == 0o600
    assert Key.from_file("deep/down/key.jwk").is_private
    assert files_in("deep/down") == ["key.jwk"]


@pytest.mark.parametrize("options", [["--out", "key.jwk", "--public", "public.jwk"], ["--public", "public.jwk"]])
def test_generate_writes_the_public_half_beside(shell: Cli, options: list[str]) -> None:
    out = shell.done("generate", "--algorithm", "EdDSA", *options)
    private = Key.from_file("key.jwk") if "--out" in options else Key.from_str(out)
    public = Key.from_file("public.jwk")
    assert (private.is_private, public.is_private) == (True, False)
    assert private.to_public() == public
    assert mode("public.jwk") == 0o644
    assert Path("key.jwk").exists() is (out == "")


def test_generate_writes_the_public_half_to_standard_output(shell: Cli) -> None:
    out = shell.done("generate", "--algorithm", "EdDSA", "--out", "key.jwk", "--public", "-")
    assert Key.from_str(out) == Key.from_file("key.jwk").to_public()
    assert mode("key.jwk") == 0o600


def test_generate_names_files_in_directories_by_the_id(shell: Cli) -> None:
    argv = ["generate", "--algorithm", "es256", "--base64", "--out-dir", "signing", "--public-dir", "keys"]
    assert shell.run(*argv, "--kid", "one") == (
        0,
        "",
        "note: created directory 'signing'\nnote: created directory 'keys'\n",
    )
    assert shell.done(*argv) == ""
    assert len(files_in("signing")) == 2
    assert files_in("signing") == files_in("keys")
    for name in files_in("signing"):
        private = Key.from_file(f"signing/{name}")
        assert name == f"{private.kid}.jwk"
        assert private.to_public() == Key.from_file(f"keys/{name}")
        assert (mode(f"signing/{name}"), mode(f"keys/{name}")) == (0o600, 0o644)
        assert not Path(f"signing/{name}").read_text(encoding="utf-8").startswith("{")


@pytest.mark.parametrize("place", ["-", "/dev/stdout", "/dev/fd/1"])
def test_generate_knows_the_names_of_standard_output(shell: Cli, place: str) -> None:
    assert Key.from_str(shell.done("generate", "--out", place)).is_private


def test_generate_writes_into_a_pipe(shell: Cli) -> None:
    os.mkfifo("pipe")
    Path("by-name").symlink_to("pipe")  # as what a shell makes of >(command)
    for name in ("pipe", "by-name"):
        reader = os.open("pipe", os.O_RDONLY | os.O_NONBLOCK)
        try:
            assert shell.done("generate", "--out", name) == ""
            assert Key.from_str(os.read(reader, 4096)).algorithm == HS
        finally:
            os.close(reader)
    assert files_in(".") == ["by-name", "pipe"]


@pytest.mark.parametrize("options", [["--out", "new"], ["--out-dir", "deep/down"]])
def test_generate_asks_for_permission_before_it_makes_anything(
    shell: Cli, monkeypatch: pytest.MonkeyPatch, options: list[str]
) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)  # nothing is forbidden to root, who may run this
    assert "permission denied in '.'" in shell.refused(1, "generate", *options)
    assert files_in(".") == []


def test_generate_names_its_own_file_when_the_disk_is_full(shell: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    assert shell.refused(1, "generate", "--out", "new") == "cannot write 'new': No space left on device"
    assert files_in(".") == []


def test_generate_does_not_replace_what_has_come_meanwhile(shell: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(_: str, path: str) -> None:
        put(path, "precious\n")
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))

    monkeypatch.setattr(os, "link", link)
    assert shell.refused(1, "generate", "--out", "new") == "cannot write 'new': File exists"
    assert Path("new").read_text(encoding="utf-8") == "precious\n"
    assert files_in(".") == ["new"]


def test_generate_keeps_every_earlier_key(shell: Cli) -> None:
    argv = ("generate", "--algorithm", "EdDSA", "--out", "private.jwk", "--public", "public.jwk")
    assert shell.done(*argv) == ""
    earlier = {name: Path(name).read_bytes() for name in ("private.jwk", "public.jwk")}
    Path("public.jwk").chmod(0o640)
    status, out, err = shell.run(*argv)
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
        _, _, err = shell.run("--key", "private.jwk", "generate")
        assert f"kept as 'private.jwk.{number}.bak'" in err
        assert Path(f"private.jwk.{number}.bak").read_bytes() == before
    assert Path("private.jwk.3.bak").read_text(encoding="utf-8") == "precious\n"


def test_backups_are_not_read_as_keys_of_a_directory(shell: Cli) -> None:
    argv = ("generate", "--algorithm", "EdDSA", "--out-dir", "signing", "--public-dir", "keys", "--kid", "one")
    for _ in range(3):
        assert shell.run(*argv)[0] == 0
    assert files_in("keys") == ["one.jwk", "one.jwk.1.bak", "one.jwk.2.bak"]
    for directory, options in (("signing", []), ("keys", ["--public"])):
        status, out, err = shell.run("keys", "check", directory, *options)
        assert (status, out, err[:5]) == (0, "", "note:")
        assert len(json.loads(shell.done("keys", "list", directory, "--json"))) == 1
    assert len(KeySet.from_str(shell.done("jwks", "keys")).keys) == 1
    token = shell.done("sign", "--key", "signing", "--publish", "", "--expires", "1h")
    assert json.loads(shell.done("verify", "--key", "keys", stdin=token))["put"] == [""]


def test_generate_refuses_instead_of_keeping_with_no_clobber(shell: Cli) -> None:
    shell.done("generate", "--out", "root.jwk", "--no-clobber")
    before = Path("root.jwk").read_bytes()
    assert "already exists" in shell.refused(1, "generate", "--out", "root.jwk", "--no-clobber")
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
