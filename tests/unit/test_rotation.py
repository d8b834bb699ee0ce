"""Replace the keys of a directory, even if processes die or run at the same time."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from moq_token import Algorithm, Claims, ConfigError, InvalidKeyError, InvalidKeyIdError, Key, KeyNotFoundError, KeySet
from moq_token.cli import main
from moq_token.rotation import STATE_NAME, Rotation, State

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="locks and modes are those of POSIX")

CLAIMS = Claims("demo", subscribe="")
NOW = 1_700_000_000


@pytest.fixture
def rotation(tmp_path: Path) -> Rotation:
    return Rotation(tmp_path / "signing")


@pytest.fixture
def public(tmp_path: Path) -> Path:
    return tmp_path / "keys"


def names(directory: Path) -> set[str]:
    return {path.stem for path in directory.glob("*.jwk")}


def verify(public: Path, token: str) -> None:
    """Verify as a relay with ``key_dir`` does."""
    KeySet(Key.from_file(path) for path in public.glob("*.jwk")).verify(token)


def test_a_life_of_keys(rotation: Rotation, public: Path) -> None:
    first = rotation.rotate(Algorithm.EDDSA, public, 60, NOW).active
    assert first is not None
    token = rotation.signing_key().sign(CLAIMS)
    verify(public, token)

    change = rotation.rotate(None, None, 60, NOW + 10)
    assert change.retired == (first,)
    assert rotation.signing_key().kid == change.active
    assert rotation.signing_key().algorithm is Algorithm.EDDSA
    verify(public, token)
    verify(public, rotation.signing_key().sign(CLAIMS))

    assert rotation.prune(NOW + 69).removed == ()
    verify(public, token)
    assert rotation.prune(NOW + 70, dry_run=True).removed == (first,)
    verify(public, token)
    assert rotation.prune(NOW + 70).removed == (first,)
    with pytest.raises(KeyNotFoundError):
        KeySet([*map(Key.from_file, public.glob("*.jwk")), Key.generate("EdDSA")]).verify(token)
    assert names(rotation.directory) == names(public) == {change.active}
    assert rotation.check() == []


def test_the_public_directory_holds_no_private_key(rotation: Rotation, public: Path) -> None:
    for _ in range(3):
        rotation.rotate(Algorithm.ES256, public, 60, NOW)
    assert [Key.from_file(path).is_private for path in public.glob("*.jwk")] == [False] * 3
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in rotation.directory.glob("*.jwk"))


def test_secrets_have_no_public_half(rotation: Rotation, public: Path) -> None:
    with pytest.raises(ConfigError, match="no public half"):
        rotation.rotate(Algorithm.HS256, public, 60, NOW)
    first = rotation.rotate(Algorithm.HS256, None, 60, NOW).active
    token = rotation.signing_key().sign(CLAIMS)
    rotation.rotate(None, None, 60, NOW)
    verify(rotation.directory, token)
    assert rotation.prune(NOW + 60).removed == (first,)
    assert names(rotation.directory) == {rotation.signing_key().kid}


def test_keys_that_were_there_before(rotation: Rotation, public: Path) -> None:
    """The keys of a directory that ``generate --out-dir`` made are retired."""
    old = [Key.generate("EdDSA", name) for name in ("one", "two")]
    rotation.directory.mkdir()
    public.mkdir()
    for key in old:
        key.to_file(rotation.directory / f"{key.kid}.jwk")
        key.to_public().to_file(public / f"{key.kid}.jwk")
    with pytest.raises(KeyNotFoundError, match=r"2 keys in .* can sign and none is active .one, two."):
        rotation.signing_key()
    change = rotation.rotate(None, public, 60, NOW)
    assert set(change.retired) == {"one", "two"}
    for key in old:
        verify(public, key.sign(CLAIMS))
    assert set(rotation.prune(NOW + 60).removed) == {"one", "two"}


def test_a_single_key_signs_without_any_rotation(rotation: Rotation) -> None:
    with pytest.raises(FileNotFoundError):
        rotation.files()
    rotation.directory.mkdir()
    with pytest.raises(KeyNotFoundError, match=r"no key in .* can sign"):
        rotation.signing_key()
    key = Key.generate("HS256", "only")
    key.to_file(rotation.directory / "only.jwk")
    assert rotation.signing_key() == key


def test_retiring(rotation: Rotation, public: Path) -> None:
    first = rotation.rotate(Algorithm.EDDSA, public, 3600, NOW).active
    assert first is not None
    with pytest.raises(ConfigError, match="rotate"):
        rotation.retire(first, NOW)
    rotation.rotate(None, None, 3600, NOW)
    assert rotation.retire(first, NOW).removed == (first,)
    assert first not in names(public) | names(rotation.directory)
    with pytest.raises(KeyNotFoundError, match="no key"):
        rotation.retire(first, NOW)
    with pytest.raises(InvalidKeyIdError):
        rotation.retire("../keys", NOW)


def test_places_that_make_no_sense(rotation: Rotation, public: Path) -> None:
    with pytest.raises(ConfigError, match="public-dir"):
        rotation.rotate(Algorithm.EDDSA, None, 60, NOW)
    with pytest.raises(ConfigError, match="must not be the directory of the private keys"):
        rotation.rotate(Algorithm.EDDSA, rotation.directory, 60, NOW)
    rotation.rotate(Algorithm.EDDSA, public, 60, NOW)
    with pytest.raises(ConfigError, match=r"the public halves of .* are in"):
        rotation.rotate(Algorithm.EDDSA, public.parent / "elsewhere", 60, NOW)
    with pytest.raises(ConfigError, match="secret"):
        rotation.rotate(Algorithm.HS256, None, 60, NOW)


def test_a_dry_run_changes_nothing(rotation: Rotation, public: Path) -> None:
    rotation.rotate(Algorithm.EDDSA, public, 60, NOW, dry_run=True)
    assert not rotation.directory.exists()
    assert not public.exists()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        '{"active":5}',
        '{"active":"../x"}',
        '{"retired":{"a/b":1}}',
        '{"else":1}',
        '{"active":"a","retired":{"a":1}}',
        '{"active":"a","pending":"a"}',
        '{"pending":"a","retired":{"a":1}}',
        '{"overlap":-1}',
        '{"created":[]}',
        '{"retired":[]}',
        '{"public":"x\\u0000"}',
    ],
)
def test_a_damaged_state_stops_everything(rotation: Rotation, public: Path, text: str) -> None:
    rotation.rotate(Algorithm.EDDSA, public, 60, NOW)
    before = names(public)
    (rotation.directory / STATE_NAME).write_text(text, encoding="utf-8")
    for attempt in (
        lambda: rotation.rotate(None, None, 60, NOW),
        lambda: rotation.prune(NOW),
        lambda: rotation.retire("x", NOW),
        rotation.signing_key,
        rotation.check,
    ):
        with pytest.raises(ConfigError, match="invalid rotation state"):
            attempt()
    assert names(public) == before


def test_check_finds_what_is_wrong(rotation: Rotation, public: Path) -> None:
    kid = rotation.rotate(Algorithm.EDDSA, public, 60, NOW).active
    directory = rotation.directory
    stranger = Key.generate("EdDSA", "stranger")
    (directory / f"{kid}.jwk").chmod(0o644)
    (directory / "broken.jwk").write_text("{}", encoding="utf-8")
    (directory / "directory.jwk").mkdir()
    stranger.to_file(directory / "wrong-name.jwk")
    stranger.with_kid(None).to_file(directory / "nameless.jwk")
    stranger.to_file(public / "stranger.jwk")
    stranger.to_public().with_kid(kid).to_file(public / f"{kid}.jwk")
    found = "\n".join(rotation.check())
    for line in (
        f"{kid}.jwk: mode 0644 lets other users read or change this private key",
        "broken.jwk: this is an empty JSON object",
        "directory.jwk: ",
        "wrong-name.jwk: the `kid` of the key is 'stranger': rename",
        "nameless.jwk: the key has no `kid`",
        "stranger.jwk: private key in a directory of public keys",
        f"{kid}.jwk: not the public half of",
    ):
        assert line in found
    (public / f"{kid}.jwk").unlink()
    assert "file not found: relays refuse the tokens" in "\n".join(rotation.check())
    (directory / f"{kid}.jwk").unlink()
    assert "file not found: it is the active key" in "\n".join(rotation.check())
    assert main(["keys", "check", str(directory)]) == 1


ROTATE = """
import os, sys
from pathlib import Path
from moq_token import files, rotation
countdown = int(sys.argv[3])
def dying(function):
    def call(*args, **kwargs):
        global countdown
        countdown -= 1
        if countdown < 0:
            os._exit(9)
        return function(*args, **kwargs)
    return call
files.write = dying(files.write)
Path.unlink = dying(Path.unlink)
Path.mkdir = dying(Path.mkdir)
rotation.Rotation(sys.argv[1]).rotate(None, sys.argv[2], 60, 1_700_000_000)
"""


@pytest.mark.parametrize("steps", range(10))
def test_a_rotation_that_dies_anywhere(rotation: Rotation, public: Path, steps: int) -> None:
    """Tokens signed before and after it are valid, and the next rotation leaves no files behind."""
    rotation.rotate(Algorithm.EDDSA, public, 60, NOW)
    token = rotation.signing_key().sign(CLAIMS)
    command = [sys.executable, "-c", ROTATE, str(rotation.directory), str(public), str(steps)]
    status = subprocess.run(command, check=False).returncode
    assert status == (9 if steps < 6 else 0)
    verify(public, token)
    verify(public, rotation.signing_key().sign(CLAIMS))
    rotation.rotate(None, None, 60, NOW)
    verify(public, token)
    rotation.prune(NOW + 60)
    assert names(rotation.directory) == names(public) == {rotation.signing_key().kid}
    assert rotation.check() == []


def test_two_at_once_make_one(rotation: Rotation, public: Path) -> None:
    first = rotation.rotate(Algorithm.EDDSA, public, 60, NOW).active
    barrier = threading.Barrier(2)
    made = []

    class Late(Rotation):
        """Wait, after the first reading of the state, until the other thread has read it too."""

        waited = False

        def state(self) -> State:
            state = super().state()
            if not self.waited:
                self.waited = True
                barrier.wait()
            return state

    def rotate() -> None:
        made.append(Late(rotation.directory).rotate(None, None, 60, NOW).active)

    threads = [threading.Thread(target=rotate) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == 1
    assert names(public) == {first, made[0]}


@pytest.fixture
def rotating(rotation: Rotation, public: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Start two processes that rotate as fast as they can, with an overlap of a minute."""
    rotation.rotate(Algorithm.EDDSA, public, 60, int(time.time()))
    program = (
        "import sys, time; from moq_token.rotation import Rotation\n"
        "while True:\n"
        "    Rotation(sys.argv[1]).rotate(None, None, 60, int(time.time()))\n"
        "    Rotation(sys.argv[1]).prune(int(time.time()))"
    )
    processes = [subprocess.Popen([sys.executable, "-c", program, str(rotation.directory)]) for _ in range(2)]
    yield processes[0]
    for process in processes:
        assert process.poll() is None, "a rotation has failed"
        process.send_signal(signal.SIGKILL)
        process.wait()


@pytest.mark.usefixtures("rotating")
def test_rotation_under_load(rotation: Rotation, public: Path) -> None:
    """A token signed with the active key is never refused within the overlap."""
    active: set[str] = set()
    while len(active) < 20:
        key = rotation.signing_key()
        assert key.kid is not None
        active.add(key.kid)
        token = key.sign(Claims("demo", subscribe="", expires=int(time.time()) + 50))
        Key.from_file(public / f"{key.kid}.jwk").verify(token)


def test_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> str:
        assert main(words) == 0
        return capsys.readouterr().out

    first = run("keys", "rotate", "signing", "--public-dir", "keys").strip()
    second = run("keys", "rotate", "signing", "--overlap", "7d").strip()
    assert os.path.isfile(f"keys/{first}.jwk")  # noqa: PTH113
    listed = run("keys", "list", "signing").splitlines()
    assert listed[0].split() == ["KID", "ALGORITHM", "HALF", "AGE", "USE"]
    assert any(line.startswith(first) and re.search(r"verifying, ends in [67] days$", line) for line in listed)
    assert any(line.startswith(second) and line.endswith("signing") for line in listed)
    token = run("sign", "--key", "signing", "--root", "demo", "--publish", "", "--expires", "1h")
    Path("token").write_text(token, encoding="utf-8")
    assert '"root":"demo"' in run("verify", "--key", "keys", "--in", "token")
    run("keys", "retire", "signing", first)
    run("keys", "check", "signing")
    run("keys", "check", "keys", "--public")
    assert main(["keys", "check", "signing", "--public"]) == 1
    assert main(["keys", "retire", "signing", second]) == 1
    assert main(["keys", "rotate", "signing", "--overlap", "soon"]) == 2
    assert main(["keys", "list", "nowhere"]) == 1
    assert main(["keys"]) == 2


def test_the_first_rotation_publishes_what_has_signed_before(rotation: Rotation, public: Path) -> None:
    rotation.directory.mkdir()
    old = Key.generate("EdDSA", "old")
    old.to_file(rotation.directory / "old.jwk")
    rotation.rotate(None, public, 60, NOW)
    verify(public, old.sign(CLAIMS))
    assert not Key.from_file(public / "old.jwk").is_private
    assert rotation.check(NOW) == []


def test_the_only_key_is_not_retired(rotation: Rotation) -> None:
    rotation.directory.mkdir()
    Key.generate("EdDSA", "only").to_file(rotation.directory / "only.jwk")
    with pytest.raises(ConfigError, match="rotate"):
        rotation.retire("only", NOW)
    assert names(rotation.directory) == {"only"}


def test_links_to_the_directories_change_nothing(tmp_path: Path) -> None:
    (tmp_path / "releases" / "1").mkdir(parents=True)
    (tmp_path / "current").symlink_to("releases/1")
    public = tmp_path / "keys"
    first = Rotation(tmp_path / "current").rotate(None, public, 60, NOW).active
    second = Rotation(tmp_path / "releases" / "1").rotate(None, None, 60, NOW).active
    assert names(public) == {first, second}
    (tmp_path / "alias").symlink_to("releases/1")
    with pytest.raises(ConfigError, match="must not be the directory of the private keys"):
        Rotation(tmp_path / "releases" / "1").rotate(None, tmp_path / "alias", 60, NOW)


def test_what_dead_writers_left_is_swept(rotation: Rotation, public: Path) -> None:
    rotation.rotate(Algorithm.EDDSA, public, 60, NOW)
    left = [directory / f".{'ab' * 8}.tmp" for directory in (rotation.directory, public)]
    for path in left:
        path.write_text("{}", encoding="utf-8")
        os.utime(path, (NOW - 61, NOW - 61))
    young, other = rotation.directory / f".{'cd' * 8}.tmp", rotation.directory / ".mine.tmp"
    for path in (young, other):
        path.write_text("{}", encoding="utf-8")
        os.utime(path, (NOW, NOW))
    rotation.prune(NOW)
    assert not any(path.exists() for path in left)
    assert young.exists()
    assert other.exists()


def test_what_is_no_file_is_not_waited_for(rotation: Rotation) -> None:
    rotation.directory.mkdir()
    os.mkfifo(rotation.directory / "pipe.jwk")
    assert "not a regular file" in "".join(rotation.check())
    with pytest.raises(InvalidKeyError, match="not a regular file"):
        rotation.signing_key()


@pytest.mark.parametrize("half", ["public", "both"])
def test_a_retired_key_that_is_missing_is_noticed(rotation: Rotation, public: Path, half: str) -> None:
    first = rotation.rotate(Algorithm.EDDSA, public, 60, NOW).active
    rotation.rotate(None, None, 60, NOW)
    (public / f"{first}.jwk").unlink()
    if half == "both":
        (rotation.directory / f"{first}.jwk").unlink()
    assert "relays refuse the tokens" in "".join(rotation.check())


def test_a_key_that_is_withdrawn_while_it_is_read_is_not_missed(rotation: Rotation, public: Path) -> None:
    """The state names a key that a rotation replaces and removes before its file is opened."""
    first = rotation.rotate(Algorithm.EDDSA, public, 60, NOW).active
    assert first is not None

    class Late(Rotation):
        waited = False

        def state(self) -> State:
            state = super().state()
            if not self.waited:
                self.waited = True
                rotation.rotate(None, None, 60, NOW)
                rotation.retire(str(first), NOW)
            return state

    assert Late(rotation.directory).signing_key() == rotation.signing_key()


def test_a_key_in_place_of_a_directory_is_not_repeated() -> None:
    text = Key.generate("HS256").to_json()
    with pytest.raises(InvalidKeyError, match="expected a path, but this looks like") as caught:
        Rotation(text)
    assert text[-24:-4] not in str(caught.value)
