"""Signing keys that follow a rotation."""

from __future__ import annotations

import errno
import logging
import os
import pickle
import re
import shutil
import subprocess
import sys
import threading
import traceback
from typing import TYPE_CHECKING

import pytest

from moq_token import (
    Algorithm,
    Claims,
    ConfigError,
    InvalidClaimsError,
    InvalidKeyError,
    Key,
    KeyNotFoundError,
    KeyOperationError,
    KeySet,
    Scope,
    UnavailableError,
)
from moq_token.issuing import MAX_STALE_SECONDS, SigningKeys
from moq_token.rotation import STATE_NAME, Rotation

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="rotation needs the locks of POSIX")

CLAIMS = Claims("demo", subscribe="")
NOW = 1_700_000_000


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def rotation(tmp_path: Path) -> Rotation:
    rotation = Rotation(tmp_path / "signing")
    rotation.rotate(Algorithm.EDDSA, tmp_path / "keys", 3600, NOW)
    return rotation


def rotate(rotation: Rotation) -> str:
    kid = rotation.rotate(None, None, None, NOW).active
    assert kid is not None
    return kid


def test_a_rotation_is_followed(rotation: Rotation, clock: Clock) -> None:
    keys = SigningKeys(rotation.directory, clock=clock)
    for _ in range(5):
        assert keys.key == rotation.signing_key()
        assert rotation.signing_key().to_public().verify(keys.sign(CLAIMS)) == CLAIMS
        kid = rotate(rotation)
        assert keys.key.kid == kid


def test_the_first_rotation_is_followed(tmp_path: Path, clock: Clock) -> None:
    directory = tmp_path / "signing"
    directory.mkdir()
    first = Key.generate("EdDSA", "first").with_scope(Scope("demo", subscribe=""))
    first.to_file(directory / "first.jwk")
    keys = SigningKeys(str(directory), clock=clock)
    assert keys.key == first
    kid = Rotation(directory).rotate(None, tmp_path / "keys", 60, NOW).active
    assert keys.key.kid == kid
    assert keys.key.scope == first.scope
    with pytest.raises(InvalidClaimsError):
        keys.sign(Claims("other", subscribe=""))


def test_a_key_file_is_followed(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "private.jwk"
    for algorithm in ("EdDSA", "ES256", "HS256"):
        Key.generate(algorithm).to_file(path)
        keys = SigningKeys(path, clock=clock)
        assert keys.key == Key.from_file(path)
        Key.generate(algorithm).to_file(path)
        assert keys.key == Key.from_file(path)


def test_a_file_that_is_rewritten_with_its_size_and_time_is_followed(tmp_path: Path, clock: Clock) -> None:
    """Replace the file as ``rsync --inplace --times`` and ``tar`` do: only its ctime changes."""
    path = tmp_path / "private.jwk"
    Key.generate("EdDSA").to_file(path)
    before = path.stat()
    keys = SigningKeys(path, clock=clock)
    successor = Key.generate("EdDSA")
    while path.stat().st_ctime_ns == before.st_ctime_ns:  # until the clock of the file system has ticked
        path.write_text(f"{successor.to_json()}\n", encoding="utf-8")
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = path.stat()
    assert (after.st_size, after.st_mtime_ns, after.st_ino) == (before.st_size, before.st_mtime_ns, before.st_ino)
    assert keys.key == successor


def test_of_a_set_the_first_key_that_can_sign_does(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "keys.json"
    public, old, new = Key.generate("EdDSA").to_public(), Key.generate("EdDSA"), Key.generate("ES256")
    KeySet([public, old.with_operations(["verify"]), new, old]).to_file(path)
    keys = SigningKeys(path, clock=clock)
    assert keys.key == new
    KeySet([old, new]).to_file(path)
    assert keys.key == old


def test_a_link_to_another_release_is_followed(tmp_path: Path, clock: Clock) -> None:
    for name in ("1", "2"):
        Rotation(tmp_path / name).rotate(Algorithm.HS256, None, 60, NOW)
    link = tmp_path / "current"
    link.symlink_to("1")
    keys = SigningKeys(link, clock=clock)
    assert keys.key == Rotation(tmp_path / "1").signing_key()
    (tmp_path / "new").symlink_to("2")
    (tmp_path / "new").replace(link)
    assert keys.key == Rotation(tmp_path / "2").signing_key()


@pytest.mark.parametrize("kind", ["rotated", "plain", "file", "set"])
def test_an_unchanged_call_costs_one_stat(
    rotation: Rotation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    key = rotation.signing_key()
    path = tmp_path / kind
    if kind == "rotated":
        path = rotation.directory
    elif kind == "plain":
        path.mkdir()
        key.to_file(path / f"{key.kid}.jwk")
    elif kind == "file":
        key.to_file(path)
    else:
        KeySet([key]).to_file(path)
    keys = SigningKeys(path, clock=Clock())
    stats = []
    stat = os.stat

    def counted(path: str) -> os.stat_result:
        stats.append(path)
        return stat(path)

    def opened(*_: object, **__: object) -> None:
        raise AssertionError("a file is read")

    monkeypatch.setattr(os, "stat", counted)
    monkeypatch.setattr(os, "open", opened)
    monkeypatch.setattr("builtins.open", opened)
    for _ in range(10):
        keys.sign(CLAIMS)
    assert len(stats) == 10


def test_what_leaves_no_trace_is_noticed_after_a_minute(rotation: Rotation, clock: Clock) -> None:
    """The active key rewritten beside an unchanged state."""
    keys = SigningKeys(rotation.directory, clock=clock)
    before = keys.key
    after = Key.generate("EdDSA", before.kid)
    after.to_file(rotation.path_of(str(before.kid)))
    clock.now = 59
    assert keys.key == before
    clock.now = 60
    assert keys.key == after


def gone(rotation: Rotation) -> Callable[[], None]:
    aside = rotation.directory.with_name("aside")
    rotation.directory.rename(aside)

    def back() -> None:
        if rotation.directory.exists():
            rotation.directory.rmdir()
        aside.rename(rotation.directory)

    return back


def unmounted(rotation: Rotation) -> Callable[[], None]:
    back = gone(rotation)
    rotation.directory.mkdir()
    return back


def damaged(rotation: Rotation) -> Callable[[], None]:
    path = rotation.directory / STATE_NAME
    text = path.read_text(encoding="utf-8")
    path.write_text("{", encoding="utf-8")

    def back() -> None:
        path.write_text(text, encoding="utf-8")

    return back


def emptied(rotation: Rotation) -> Callable[[], None]:
    key = rotation.signing_key()
    path = rotation.path_of(str(key.kid))
    path.write_text("", encoding="utf-8")
    (rotation.directory / STATE_NAME).touch()
    os.utime(rotation.directory / STATE_NAME, (NOW, NOW))
    return lambda: key.to_file(path)


def deleted(rotation: Rotation) -> Callable[[], None]:
    back = emptied(rotation)
    next(rotation.directory.glob("*.jwk")).unlink()
    return back


@pytest.mark.parametrize("outage", [gone, unmounted, damaged, emptied, deleted])
def test_an_outage_is_bridged_for_an_hour(
    rotation: Rotation, clock: Clock, caplog: pytest.LogCaptureFixture, outage: Callable[[Rotation], Callable[[], None]]
) -> None:
    caplog.set_level(logging.INFO)
    keys = SigningKeys(rotation.directory, clock=clock)
    key = keys.key
    end = outage(rotation)
    for seconds in (0, 1, 60, MAX_STALE_SECONDS):
        clock.now = seconds
        assert keys.key == key
    clock.now = MAX_STALE_SECONDS + 1
    for _ in range(2):
        with pytest.raises(UnavailableError, match=r"/.*: the signing keys could not be read for 3601 s: "):
            keys.sign(CLAIMS)
    end()
    assert keys.key == key
    assert keys.key == key
    assert [(record.levelname, record.name) for record in caplog.records] == [
        ("WARNING", "moq_token.issuing.signing"),
        ("INFO", "moq_token.issuing.signing"),
    ]
    # The hour starts again with every successful read.
    outage(rotation)
    clock.now += MAX_STALE_SECONDS
    assert keys.key == key


def test_an_error_of_the_file_system_is_bridged(
    rotation: Rotation, clock: Clock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    keys = SigningKeys(rotation.directory, clock=clock)
    key = keys.key
    kid = rotate(rotation)

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), "x")

    with monkeypatch.context() as patch:
        patch.setattr(os, "stat", fail)
        assert keys.key == key
        clock.now = MAX_STALE_SECONDS + 1
        with pytest.raises(UnavailableError, match="Stale file handle") as caught:
            _ = keys.key
        assert isinstance(caught.value.__cause__, OSError)
    assert keys.key.kid == kid
    assert "Stale file handle" in caplog.text


def test_a_retired_key_is_left_at_once(rotation: Rotation, clock: Clock) -> None:
    keys = SigningKeys(rotation.directory, clock=clock)
    leaked = str(keys.key.kid)
    kid = rotate(rotation)
    rotation.retire(leaked, NOW)
    assert keys.key.kid == kid


def test_threads_follow_a_rotation(rotation: Rotation, tmp_path: Path) -> None:
    keys = SigningKeys(rotation.directory)
    stop = threading.Event()
    failures: list[str] = []
    signed: set[str] = set()

    def sign() -> None:
        try:
            while not stop.is_set():
                token = keys.sign(CLAIMS)
                key = keys.key
                signed.add(str(key.kid))
                Key.from_file(tmp_path / "keys" / f"{key.kid}.jwk").verify(key.sign(CLAIMS))
                assert token
        except Exception:  # noqa: BLE001 - reported below
            failures.append(traceback.format_exc())

    threads = [threading.Thread(target=sign) for _ in range(4)]
    for thread in threads:
        thread.start()
    kid = ""
    for _ in range(8):
        kid = rotate(rotation)
        assert keys.key.kid == kid
    stop.set()
    for thread in threads:
        thread.join()
    assert not failures
    assert keys.key.kid == kid


FORK = """
import os, sys, threading
from moq_token.issuing import SigningKeys
from moq_token.rotation import Rotation
from moq_token import Claims
rotation = Rotation(sys.argv[1])
keys = SigningKeys(rotation.directory)
keys.sign(Claims("demo", subscribe=""))
go, done = os.pipe(), os.pipe()
child = os.fork()
if child == 0:
    os.read(go[0], 1)
    os.write(done[1], f"{keys.key.kid} {keys.sign(Claims('demo', subscribe=''))}".encode())
    os._exit(0)
kid = rotation.rotate(None, None, None, 1_700_000_000).active
os.write(go[1], b"x")
assert os.read(done[0], 4096).decode().startswith(kid + " ey")
assert keys.key.kid == kid
assert os.waitpid(child, 0)[1] == 0
"""


def test_a_forked_worker_follows_a_rotation(rotation: Rotation) -> None:
    done = subprocess.run([sys.executable, "-W", "error", "-c", FORK, rotation.directory], check=False, timeout=100)
    assert done.returncode == 0


def pipe_as_state(path: Path) -> None:
    path.mkdir()
    os.mkfifo(path / STATE_NAME)


SECRET = Key.generate("HS256", "secret").to_json()


@pytest.mark.parametrize(
    ("prepare", "error", "why"),
    [
        (lambda _: None, FileNotFoundError, "No such file"),
        (lambda path: path.mkdir(), KeyNotFoundError, "no key in .* can sign"),
        (lambda path: path.write_text("{", encoding="utf-8"), InvalidKeyError, "JSON"),
        (lambda path: path.write_text("", encoding="utf-8"), InvalidKeyError, ": "),
        (lambda path: Key.generate("EdDSA").to_public().to_file(path), KeyOperationError, "a public key cannot sign"),
        (lambda path: Key.generate("EdDSA").with_operations(["verify"]).to_file(path), KeyOperationError, "key_ops"),
        (
            lambda path: KeySet([Key.generate("EdDSA").to_public()]).to_file(path),
            KeyOperationError,
            "no key in the set",
        ),
        (os.mkfifo, InvalidKeyError, "not a regular file"),
        (pipe_as_state, ConfigError, "invalid rotation state"),
        (lambda path: path.mkdir() or (path / STATE_NAME).write_text("{"), ConfigError, "invalid rotation state"),
        (
            lambda path: (
                [Rotation(path.parent / kid).rotate(Algorithm.HS256, None, 60, NOW) for kid in ("a", "b")]
                and shutil.copytree(path.parent / "a", path)
                and [shutil.copy(key, path) for key in (path.parent / "b").glob("*.jwk")]
                and (path / STATE_NAME).unlink()
            ),
            KeyNotFoundError,
            "2 keys in .* can sign and none is active",
        ),
    ],
)
def test_what_cannot_sign_is_refused_at_once(
    tmp_path: Path, prepare: Callable[[Path], object], error: type[Exception], why: str
) -> None:
    path = tmp_path / "keys"
    prepare(path)
    with pytest.raises(error, match=why) as caught:
        SigningKeys(path)
    assert "keys" in str(caught.value)


@pytest.mark.parametrize(("path", "error"), [("", FileNotFoundError), ("a\0b", InvalidKeyError)])
def test_what_is_no_path_is_refused(path: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        SigningKeys(path)


@pytest.mark.parametrize(
    "path", [SECRET, f"  {SECRET}", Key.from_str(SECRET).to_str(), f"-----BEGIN PRIVATE KEY-----\n{SECRET}"]
)
def test_a_key_in_place_of_its_path_is_not_repeated(path: str) -> None:
    with pytest.raises(InvalidKeyError, match="expected a path, but this looks like") as caught:
        SigningKeys(path)
    frames = traceback.TracebackException.from_exception(caught.value, capture_locals=True).stack
    assert not [frame for frame in frames if frame.filename != __file__ and path[-60:-20] in str(frame.locals)]


def test_it_is_neither_shown_nor_pickled(rotation: Rotation) -> None:
    keys = SigningKeys(rotation.directory)
    assert re.fullmatch(r"<SigningKeys '.*' kid='[0-9a-f]{16}'>", repr(keys))
    assert str(keys.key.to_members()["d"]) not in repr(keys)
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(keys)


@pytest.mark.parametrize("load", [Key.from_file, KeySet.from_file])
def test_loading_a_directory_as_a_key_names_what_signs_with_it(
    rotation: Rotation, load: Callable[[Path], object]
) -> None:
    with pytest.raises(
        InvalidKeyError, match=r"is a directory, expected a file: .* use moq_token\.issuing\.SigningKeys"
    ):
        load(rotation.directory)
