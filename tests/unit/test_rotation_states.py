"""What ``keys list``, ``keys check``, ``sign`` and ``verify`` report for a directory in every possible state."""

from __future__ import annotations

import errno
import itertools
import json
import os
import stat
import sys
from pathlib import Path
from typing import Any

import pytest

from moq_token import Algorithm, Claims, Key, KeyOperation, Scope
from moq_token.rotation import STATE_NAME, Rotation, Use
from tests.command_line import Cli

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="rotation needs the locks and modes of POSIX")

NOW = 1_700_000_000
KEYS = {kid: Key.generate("EdDSA", kid) for kid in ("a", "b")}
OTHER = Key.generate("EdDSA", "other")


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Cli:
    monkeypatch.chdir(tmp_path)
    cli = Cli(capsys, monkeypatch)
    cli.at(float(NOW))
    return cli


def put(kid: str, kind: str) -> None:
    """Write the file of a key in one of its possible states."""
    path, key = Path("signing", f"{kid}.jwk"), KEYS[kid]
    if kind == "private":
        key.to_file(path)
    elif kind == "public":
        key.to_public().to_file(path)
    elif kind == "verify-only":
        key.with_operations(["verify"]).to_file(path)
    elif kind == "misnamed":
        OTHER.to_file(path)
    elif kind == "nameless":
        key.with_kid(None).to_file(path)
    elif kind == "empty":
        path.touch(mode=0o600)
    elif kind == "pipe":
        os.mkfifo(path, 0o600)
    elif kind == "dangling":
        path.symlink_to("nowhere")


KINDS = ("absent", "private", "public", "verify-only", "misnamed", "nameless", "empty", "pipe", "dangling")
STATES: dict[str, dict[str, object]] = {
    "none": {},
    "active": {"active": "a"},
    "retired": {"active": "a", "retired": {"b": NOW + 60}},
    "ended": {"active": "a", "retired": {"b": NOW}},
    "pending": {"active": "a", "pending": "b"},
    "first rotation": {"pending": "b"},
    "retired only": {"retired": {"b": NOW + 60}},
}


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("kind", KINDS)
def test_all_agree(cli: Cli, state: str, kind: str, tmp_path: Path) -> None:
    for number, (other, published) in enumerate(
        itertools.product(("absent", "private", "empty"), (("a",), ("a", "b")))
    ):
        directory = tmp_path / str(number)
        directory.mkdir()
        os.chdir(directory)
        Path("signing").mkdir()
        Path("keys").mkdir()
        put("a", kind)
        put("b", other)
        for kid in published:
            KEYS[kid].to_public().to_file(f"keys/{kid}.jwk")
        known = STATES[state]
        if known:
            Path("signing", STATE_NAME).write_text(json.dumps(known | {"public": "../keys"}), encoding="utf-8")
        try:
            agree(cli, known)
        except AssertionError as error:
            raise AssertionError(f"b is {other}, public halves of {published}: {error}") from error


def agree(cli: Cli, state: dict[str, Any]) -> None:
    rows = {row["kid"]: row for row in json.loads(cli.done("keys", "list", "signing", "--json"))}
    checked, problems, _ = cli.run("keys", "check", "signing")
    signed, token, _ = cli.run("sign", "--key", "signing", "--root", "r", "--publish", "x", "--expires", "1h")

    assert all(row["use"] in set(Use) for row in rows.values())
    signing = [kid for kid, row in rows.items() if row["use"] == "signing"]
    assert (signed == 0) == (len(signing) == 1)
    assert checked == int(bool(problems))
    if signed != 0:
        assert checked == 1, "check finds nothing, and sign fails"
    else:
        (kid,) = signing
        verified, header, _ = cli.run("verify", "--key", "keys", "--json", stdin=token)
        if state and checked == 0:
            assert verified == 0, "check finds nothing, and verify refuses what sign made"
        if verified == 0:
            assert json.loads(header)["header"]["kid"] == kid
    agree_on_others(cli, state, rows, checked)


def agree_on_others(cli: Cli, state: dict[str, Any], rows: dict[str, Any], checked: int) -> None:
    """Compare what the list reports for a key with the state, with its other columns and with ``verify``."""
    for kid in state.get("retired", {}):
        assert rows[kid]["until"] == state["retired"][kid]
        half = Path("keys", f"{kid}.jwk")
        if rows[kid]["use"] in {"verifying", "ended"} and half.exists():
            token = KEYS[kid].sign(Claims("r", publish="x", expires=NOW + 60))
            assert cli.run("verify", "--key", "keys", stdin=token)[0] == 0
        if rows[kid]["use"] == "ended":
            assert checked == 1
        if rows[kid]["use"] == "missing":
            assert not half.exists()
            assert checked == 1
    for kid, row in rows.items():
        assert (row["algorithm"] is None) == (row["half"] is None) == (row["operations"] is None)
        if row["use"] in {"invalid", "missing"} and kid != state.get("active"):
            assert row["problems"]
        if row["problems"]:
            assert checked == 1


@pytest.mark.parametrize(
    ("state", "a", "b", "uses"),
    [
        ("none", "private", "absent", {"a": "signing"}),
        ("none", "private", "private", {"a": "candidate", "b": "candidate"}),
        ("none", "private", "public", {"a": "signing", "b": "verifying"}),
        ("none", "private", "empty", {"a": "candidate", "b": "invalid"}),
        ("active", "private", "private", {"a": "signing", "b": "unused"}),
        ("active", "absent", "private", {"a": "missing", "b": "unused"}),
        ("active", "public", "private", {"a": "invalid", "b": "unused"}),
        ("active", "verify-only", "absent", {"a": "invalid"}),
        ("active", "misnamed", "absent", {"a": "invalid"}),
        ("retired", "private", "private", {"a": "signing", "b": "verifying"}),
        ("retired", "private", "absent", {"a": "signing", "b": "missing"}),
        ("ended", "private", "private", {"a": "signing", "b": "ended"}),
        ("pending", "private", "private", {"a": "signing", "b": "pending"}),
        ("first rotation", "private", "private", {"a": "signing", "b": "pending"}),
        ("retired only", "private", "private", {"a": "signing", "b": "verifying"}),
    ],
)
def test_uses(cli: Cli, state: str, a: str, b: str, uses: dict[str, str]) -> None:
    Path("signing").mkdir()
    Path("keys").mkdir()
    put("a", a)
    put("b", b)
    if STATES[state]:
        Path("signing", STATE_NAME).write_text(json.dumps(STATES[state]), encoding="utf-8")
    rows = json.loads(cli.done("keys", "list", "signing", "--json"))
    assert {row["kid"]: row["use"] for row in rows} == uses


def test_a_retired_key_without_its_private_half_still_verifies(cli: Cli) -> None:
    """Deleting the private half of a key that is retired is good practice."""
    Path("signing").mkdir()
    rotation = Rotation("signing")
    first = rotation.rotate(Algorithm.EDDSA, "keys", 60, NOW).active
    rotation.rotate(None, None, 60, NOW)
    Path("signing", f"{first}.jwk").unlink()
    rows = {row["kid"]: row for row in json.loads(cli.done("keys", "list", "signing", "--json"))}
    assert (rows[first]["use"], rows[first]["half"]) == ("verifying", "public")
    assert rotation.check(NOW) == []


# -- what check finds


@pytest.fixture
def rotation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rotation:
    monkeypatch.chdir(tmp_path)
    rotation = Rotation("signing")
    rotation.rotate(Algorithm.EDDSA, "keys", 60, NOW)
    rotation.rotate(None, None, 60, NOW)
    assert rotation.check(NOW) == []
    return rotation


def active(rotation: Rotation, directory: str) -> Path:
    return Path(directory, f"{rotation.state().active}.jwk").absolute()


@pytest.mark.parametrize(
    ("where", "mode", "problem"),
    [
        ("signing", 0o777, "mode 0777 lets every user of this machine change it: run chmod o-w"),
        ("signing", 0o1777, "mode 1777 lets every user"),
        ("signing", 0o755, None),
        ("signing", 0o775, None),
        ("keys", 0o777, "mode 0777 lets every user"),
        ("keys", 0o775, None),
        (f"signing/{STATE_NAME}", 0o666, "mode 0666 lets every user"),
        (f"signing/{STATE_NAME}", 0o664, None),
        ("signing/KID.jwk", 0o640, "mode 0640 lets other users read or change this private key: run chmod 600"),
        ("signing/KID.jwk", 0o602, "mode 0602 lets other users read or change this private key"),
        ("signing/KID.jwk", 0o400, None),
        ("keys/KID.jwk", 0o666, "mode 0666 lets every user"),
        ("keys/KID.jwk", 0o646, "mode 0646 lets every user"),
        ("keys/KID.jwk", 0o664, None),
    ],
)
def test_modes(cli: Cli, rotation: Rotation, where: str, mode: int, problem: str | None) -> None:
    path = Path(where.replace("KID", str(rotation.state().active)))
    path.chmod(mode)
    status, out, _ = cli.run("keys", "check", "signing")
    assert status == int(problem is not None)
    assert (out == "") if problem is None else (out.count("\n") == 1 and f"{path}: {problem}" in out)
    if where.startswith("keys"):
        assert cli.run("keys", "check", "keys", "--public")[0] == status


@pytest.mark.parametrize("directory", ["signing", "keys"])
@pytest.mark.parametrize(
    ("name", "is_problem"),
    [
        ("k1.pem", True),
        ("README", True),
        ("key.JWK", True),
        ("key.json", True),
        ("old/", True),
        ("key.jwk.1.bak", False),
        ("rotation.json.2.bak", False),
        (".gitignore", False),
        ("._a.jwk", False),
    ],
)
def test_files_that_are_not_read(cli: Cli, rotation: Rotation, directory: str, name: str, is_problem: bool) -> None:  # noqa: FBT001
    path = rotation.directory.with_name(directory) / name.rstrip("/")
    if name.endswith("/"):
        path.mkdir()
    else:
        path.write_text("{", encoding="utf-8")
    status, out, _ = cli.run("keys", "check", "signing")
    assert status == int(is_problem)
    assert out == "" or f"{path}: not read: only files named {{kid}}.jwk are" in out
    assert cli.run("sign", "--key", "signing", "--root", "r", "--publish", "x", "--expires", "1h")[0] == 0


def test_a_directory_with_nothing_that_is_read(cli: Cli) -> None:
    Path("empty").mkdir()
    Path("other").mkdir()
    Path("other", "k1.pem").touch()
    for directory, options in (("empty", ()), ("other", ()), ("other", ("--public",)), ("empty", ("--public",))):
        status, out, _ = cli.run("keys", "check", directory, *options)
        assert status == 1
        assert f"{directory}: no *.jwk files\n" in out
        assert ("k1.pem: not read" in out) == (directory == "other")


def test_an_ended_overlap(rotation: Rotation) -> None:
    (first,) = rotation.state().retired
    assert rotation.check(NOW + 59) == []
    (problem,) = rotation.check(NOW + 60)
    assert problem == f"signing/{first}.jwk: its overlap has ended, but it still verifies: run `keys prune`"
    rotation.prune(NOW + 60)
    assert rotation.check(NOW + 60) == []


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda key: key.with_scope(Scope("x", "y")), "its scope differs from that of "),
        (lambda key: Key.generate("EdDSA", key.kid).to_public(), "not the public half of "),
        (lambda key: key.with_operations(["encrypt"]), "its `key_ops` do not include `verify`"),
        (lambda key: key.with_kid("other"), "the `kid` of the key is 'other'"),
    ],
)
def test_halves_that_differ(rotation: Rotation, change: Any, problem: str) -> None:  # noqa: ANN401
    path = active(rotation, "keys")
    change(Key.from_file(path)).to_file(path)
    (found,) = rotation.check(NOW)
    assert found.startswith(f"{path}: {problem}")


def test_a_scope_that_only_the_private_half_has(rotation: Rotation) -> None:
    path = active(rotation, "signing")
    Key.from_file(path).with_scope(Scope("x", "y")).to_file(path)
    (found,) = rotation.check(NOW)
    assert "its scope differs" in found


def test_a_secret_that_relays_cannot_verify_with(cli: Cli) -> None:
    Path("signing").mkdir()
    key = Key.generate("HS256", "only").with_operations([KeyOperation.SIGN])
    key.to_file("signing/only.jwk")
    Rotation("signing").rotate(None, None, 60, NOW)
    assert "do not include `verify`" in cli.run("keys", "check", "signing")[1]


def test_what_dead_processes_left(rotation: Rotation) -> None:
    for directory in ("signing", "keys"):
        path = Path(directory, f".{'ab' * 8}.tmp").absolute()
        path.touch()
        os.utime(path, (NOW, NOW))
    state = rotation.directory / STATE_NAME
    state.write_text(json.dumps(json.loads(state.read_text()) | {"pending": "dead"}), encoding="utf-8")
    os.utime(state, (NOW, NOW))
    assert rotation.check(NOW + 59) == []  # a process may be about to finish
    found = rotation.check(NOW + 61)
    assert len([line for line in found if "left behind by an interrupted write" in line]) == 2
    assert any("dead.jwk: left behind by an interrupted rotation: run `keys prune`" in line for line in found)
    rotation.prune(NOW + 61)
    assert rotation.check(NOW + 61) == []


@pytest.mark.parametrize("name", [STATE_NAME, ".rotation.lock", "signing", "keys", "keys/KID.jwk", "signing/KID.jwk"])
@pytest.mark.parametrize("kind", ["pipe", "socket", "file", "directory", "dangling", "device"])
def test_odd_types_of_files_stop_nobody(cli: Cli, rotation: Rotation, name: str, kind: str) -> None:
    """Every command succeeds or prints one line, and none waits for a writer."""
    kid = str(rotation.state().active)
    path = Path("signing", name) if name in {STATE_NAME, ".rotation.lock"} else Path(name.replace("KID", kid))
    path.rename("aside")
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        os.mknod(path, stat.S_IFSOCK | 0o600)
    elif kind == "file":
        path.touch()
    elif kind == "directory":
        path.mkdir()
    elif kind == "dangling":
        path.symlink_to("nowhere")
    else:
        path.symlink_to("/dev/zero")
    commands = [
        ("keys", "list", "signing"),
        ("keys", "check", "signing"),
        ("keys", "check", "keys", "--public"),
        ("keys", "prune", "signing"),
        ("keys", "rotate", "signing", "--public-dir", "keys"),
        ("keys", "retire", "signing", kid),
        *(
            []
            if (name, kind) == ("signing", "pipe")
            else [("sign", "--key", "signing", "--root", "r", "--publish", "x")]
        ),
    ]
    for command in commands:
        status, out, err = cli.run(*command)
        assert status in {0, 1}, (command, err)
        assert status == 0 or err.startswith("error: ") or out
        assert "this is a bug" not in err


# -- what rotation makes


@pytest.mark.usefixtures("cli")
def test_new_directories_are_closed() -> None:
    before = os.umask(0)
    try:
        Rotation("fresh/signing").rotate(Algorithm.EDDSA, "fresh/keys", 60, NOW)
    finally:
        os.umask(before)
    assert stat.S_IMODE(Path("fresh/signing").stat().st_mode) == 0o700
    assert stat.S_IMODE(Path("fresh/keys").stat().st_mode) == 0o755
    (key,) = Path("fresh/signing").glob("*.jwk")
    assert stat.S_IMODE(key.stat().st_mode) == 0o600


@pytest.mark.parametrize("code", [errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP])
@pytest.mark.usefixtures("cli")
def test_a_file_system_without_hard_links(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def link(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "link", link)
    rotation = Rotation("signing")
    for _ in range(3):
        rotation.rotate(Algorithm.EDDSA, "keys", 60, NOW)
        token = rotation.signing_key().sign(Claims("r", publish="x"))
        Key.from_file(f"keys/{rotation.state().active}.jwk").verify(token)
    assert rotation.check(NOW) == []
    assert stat.S_IMODE(active(rotation, "signing").stat().st_mode) == 0o600
    assert len(rotation.prune(NOW + 60).removed) == 2
