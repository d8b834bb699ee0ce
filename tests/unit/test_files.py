"""Write files: completely or not at all, with mode 0600 if they are secret, and never through a link."""

from __future__ import annotations

import errno
import os
import random
import signal
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from moq_token import Algorithm, InvalidKeyError, Key, KeySet, files
from tests import forge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="modes, links and signals are those of POSIX")

KEY = forge.key(Algorithm.HS256)
OTHER = forge.key(Algorithm.HS512)
PUBLIC = forge.key(Algorithm.EDDSA).to_public()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


@pytest.fixture
def umask() -> Iterator[Callable[[int], int]]:
    before = os.umask(0o022)
    yield os.umask
    os.umask(before)


# -- modes


@pytest.mark.parametrize("mask", [0, 0o002, 0o022, 0o027, 0o077])
def test_modes(tmp_path: Path, umask: Callable[[int], int], mask: int) -> None:
    umask(mask)
    private: dict[str, Key | KeySet] = {"oct": KEY, "pair": forge.key(Algorithm.EDDSA), "set": KeySet([PUBLIC, KEY])}
    public: dict[str, Key | KeySet] = {"public": PUBLIC, "public set": KeySet([PUBLIC]), "empty set": KeySet([])}
    for name, value in {**private, **public}.items():
        for before in (None, 0o600, 0o644, 0o666, 0o640, 0o400):
            path = tmp_path / name
            path.unlink(missing_ok=True)
            if before is not None:
                path.write_text("old", encoding="utf-8")
                path.chmod(before)
            value.to_file(path)
            assert mode(path) == (0o600 if name in private else 0o664 & ~mask)
            assert (
                path.read_text(encoding="utf-8") == f"{value.to_json() if isinstance(value, Key) else value.to_str()}\n"
            )
    assert names(tmp_path) == {*private, *public}


def test_it_is_never_open_to_others_on_the_way(
    tmp_path: Path, umask: Callable[[int], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    umask(0)
    seen: list[int] = []
    fsync = os.fsync

    def look(descriptor: int) -> None:
        seen.extend(mode(path) for path in tmp_path.iterdir())
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", look)
    KEY.to_file(tmp_path / "key.jwk")
    assert seen
    assert set(seen) == {0o600}


def test_another_name_of_the_old_file_keeps_the_old_key(tmp_path: Path) -> None:
    path, twin = tmp_path / "key.jwk", tmp_path / "twin"
    KEY.to_file(path)
    os.link(path, twin)
    OTHER.to_file(path)
    assert Key.from_file(path) == OTHER
    assert Key.from_file(twin) == KEY


def test_it_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []

    def noting(name: str) -> None:
        function = getattr(os, name)

        def call(*arguments: object, **named: object) -> object:
            order.append(name)
            return function(*arguments, **named)

        monkeypatch.setattr(os, name, call)

    for name in ("fsync", "replace", "link"):
        noting(name)
    KEY.to_file(tmp_path / "a")
    assert order == ["fsync", "replace", "fsync"]  # the file, its name, its directory
    order.clear()
    KEY.to_file(tmp_path / "b", overwrite=False)
    assert order == ["fsync", "link", "fsync"]


# -- names


@pytest.mark.parametrize(
    "name", ["é" * 127, "\U0001f600" * 60, "x" * 255, "a b", "-", "\n", "%", ".hidden", "key.jwk.tmp"]
)
def test_any_name(tmp_path: Path, name: str) -> None:
    for overwrite in (True, False):
        path = tmp_path / name
        KEY.to_file(path, overwrite=overwrite)
        assert Key.from_file(path) == KEY
        assert names(tmp_path) == {name}
        path.unlink()


def test_relative_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    for name in ("key", "./other", "sub/key", "sub/../third"):
        KEY.to_file(name)
        assert Key.from_file(name) == KEY
    assert names(tmp_path) == {"key", "other", "sub", "third"}


@pytest.mark.parametrize("overwrite", [True, False])
def test_names_that_are_none(tmp_path: Path, overwrite: bool) -> None:  # noqa: FBT001
    for name in ("a\0b", "\0"):
        with pytest.raises(InvalidKeyError, match="invalid file name"):
            KEY.to_file(f"{tmp_path}/{name}", overwrite=overwrite)
    missing = tmp_path / "missing" / "key"
    with pytest.raises(FileNotFoundError) as caught:
        KEY.to_file(missing, overwrite=overwrite)
    assert caught.value.filename == str(missing)
    (tmp_path / "file").touch()
    for kind, path in ((NotADirectoryError, tmp_path / "file" / "key"), (OSError, tmp_path / ("x" * 256))):
        with pytest.raises(kind) as refused:
            KEY.to_file(path, overwrite=overwrite)
        assert refused.value.filename == str(path)
    with pytest.raises(IsADirectoryError):
        KEY.to_file(tmp_path, overwrite=overwrite)
    with pytest.raises(OSError):  # noqa: PT011
        KEY.to_file(f"{tmp_path}/", overwrite=overwrite)
    with pytest.raises(OSError):  # noqa: PT011
        KEY.to_file("", overwrite=overwrite)
    assert names(tmp_path) == {"file"}


# -- obstacles


@pytest.mark.parametrize("overwrite", [True, False])
@pytest.mark.parametrize("target", ["file", "missing", "directory", "link", "/dev/null"])
def test_a_symbolic_link_is_neither_followed_nor_replaced(tmp_path: Path, target: str, overwrite: bool) -> None:  # noqa: FBT001
    (tmp_path / "file").write_text("old", encoding="utf-8")
    (tmp_path / "directory").mkdir()
    link = tmp_path / "link"
    link.symlink_to(target)
    for value in (KEY, PUBLIC, KeySet([KEY])):
        with pytest.raises(FileExistsError, match="symbolic link") as caught:
            value.to_file(link, overwrite=overwrite)
        assert caught.value.filename == str(link)
    assert str(link.readlink()) == target
    assert (tmp_path / "file").read_text(encoding="utf-8") == "old"
    assert names(tmp_path) == {"file", "directory", "link"}
    assert not any((tmp_path / "directory").iterdir())


def test_a_link_to_the_directory_is_followed(tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    (tmp_path / "link").symlink_to("directory")
    KEY.to_file(tmp_path / "link" / "key")
    assert Key.from_file(tmp_path / "directory" / "key") == KEY


def test_an_existing_file_stays_unless_it_may_be_replaced(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("old", encoding="utf-8")
    with pytest.raises(FileExistsError) as caught:
        KEY.to_file(path, overwrite=False)
    assert caught.value.filename == str(path)
    assert path.read_text(encoding="utf-8") == "old"
    KEY.to_file(path)
    assert Key.from_file(path) == KEY
    assert names(tmp_path) == {"key"}


def test_a_file_that_comes_to_exist_meanwhile_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "key"
    fsync = os.fsync

    def slow(descriptor: int) -> None:
        fsync(descriptor)
        path.write_text("somebody else's", encoding="utf-8")

    monkeypatch.setattr(os, "fsync", slow)
    with pytest.raises(FileExistsError) as caught:
        KEY.to_file(path, overwrite=False)
    assert caught.value.filename == str(path) or caught.value.filename2 == str(path)
    assert path.read_text(encoding="utf-8") == "somebody else's"
    assert names(tmp_path) == {"key"}


def test_of_many_writers_one_wins(tmp_path: Path) -> None:
    for attempt in range(10):
        path = tmp_path / f"key-{attempt}"
        keys = [Key.generate(Algorithm.HS256) for _ in range(8)]
        won, lost = [], []
        barrier = threading.Barrier(len(keys))

        def write(key: Key, path: Path = path, barrier: threading.Barrier = barrier) -> None:
            barrier.wait()
            try:
                key.to_file(path, overwrite=False)
                won.append(key)  # noqa: B023
            except FileExistsError:
                lost.append(key)  # noqa: B023

        threads = [threading.Thread(target=write, args=(key,)) for key in keys]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (len(won), len(lost)) == (1, 7)
        assert Key.from_file(path) == won[0]
    assert names(tmp_path) == {f"key-{attempt}" for attempt in range(10)}


def test_devices_and_pipes_are_written_to(tmp_path: Path) -> None:
    KEY.to_file("/dev/null")
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    received: list[bytes] = []
    reader = threading.Thread(target=lambda: received.append(pipe.read_bytes()))
    reader.start()
    KEY.to_file(pipe)
    reader.join()
    assert received == [f"{KEY.to_json()}\n".encode()]
    assert stat.S_ISFIFO(pipe.lstat().st_mode)
    assert names(tmp_path) == {"pipe"}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_device_that_is_full() -> None:
    with pytest.raises(OSError, match="No space left") as caught:
        KEY.to_file("/dev/full")
    assert caught.value.errno == errno.ENOSPC


# -- what the system refuses


def run(program: str, *arguments: object, wrapper: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    command = [*wrapper, sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)


# Writes the key in its first argument over the file in its second; says what was raised, and for which file.
OVERWRITE = """
import os, resource, sys
from moq_token import Key

key, path = Key.from_str(sys.argv[1]), sys.argv[2]
key.to_file(path + ".first")  # everything that is imported late is imported now
os.unlink(path + ".first")
{prepare}
try:
    key.to_file(path)
except OSError as error:
    print(type(error).__name__, error.errno, error.filename)
"""


def test_a_full_disk_leaves_the_old_key(tmp_path: Path) -> None:
    """A file size limit stops a write in the middle, as a full disk does, and needs no privileges."""
    path = tmp_path / "key"
    for size in (0, 1, 100):
        OTHER.to_file(path)
        before = path.read_bytes()
        prepare = f"resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size}))"
        done = run(OVERWRITE.format(prepare=prepare), KEY.to_json(), path)
        assert done.stdout.split() == ["OSError", str(errno.EFBIG), str(path)], done
        assert path.read_bytes() == before
        assert mode(path) == 0o600
        assert names(tmp_path) == {"key"}


def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    """Mount a file system of two pages in a separate namespace."""
    disk = tmp_path / "disk"
    disk.mkdir()
    prepare = """
with open(os.path.dirname(path) + "/ballast", "wb", buffering=0) as ballast:
    try:
        while ballast.write(bytes(4096)): pass
    except OSError as full:
        assert full.errno == 28
"""
    after = """
print(Key.from_file(path) == old, oct(os.stat(path).st_mode & 0o777), sorted(os.listdir(os.path.dirname(path))))
"""
    program = (OVERWRITE + after).replace("{prepare}", "old = Key.from_str(sys.argv[3]); old.to_file(path)" + prepare)
    mount = 'mount -t tmpfs -o size=16k tmpfs "$0" && exec "$@"'
    wrapper = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount, str(disk))
    try:
        possible = subprocess.run([*wrapper, "true"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        possible = False
    if not possible:
        pytest.skip("mounting a file system of one's own is not allowed here")
    done = run(program, KEY.to_json(), disk / "key", OTHER.to_json(), wrapper=wrapper)
    first, second = done.stdout.splitlines()
    assert first.split() == ["OSError", str(errno.ENOSPC), str(disk / "key")], done
    assert second == "True 0o600 ['ballast', 'key']"


def test_a_read_only_directory_leaves_the_old_key(tmp_path: Path) -> None:
    directory = tmp_path / "closed"
    directory.mkdir()
    path = directory / "key"
    OTHER.to_file(path)
    before = path.read_bytes()
    # Root may write everywhere, so the process becomes another user first. That user cannot read the parent
    # directories, so the process changes into the directory before.
    prepare = """
os.chdir(os.path.dirname(path))
path = os.path.basename(path)
os.chmod(".", 0o555)
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
"""
    done = run(OVERWRITE.replace("{prepare}", prepare), KEY.to_json(), path)
    directory.chmod(0o755)
    assert done.stdout.split() == ["PermissionError", str(errno.EACCES), "key"], done
    assert path.read_bytes() == before
    assert names(directory) == {"key"}


@pytest.mark.parametrize("failing", ["fsync", "replace", "link", "write"])
@pytest.mark.parametrize("kind", [OSError(errno.EIO, "broken"), KeyboardInterrupt(), MemoryError()], ids=repr)
def test_nothing_is_left_lying_about(
    tmp_path: Path, failing: str, kind: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "key"
    overwrite = failing != "link"
    if overwrite:
        OTHER.to_file(path)

    def fail(*_: object, **__: object) -> None:
        raise kind

    if failing == "write":
        real_open = open

        def failing_open(*arguments: object, **named: object) -> object:
            file = real_open(*arguments, **named)  # type: ignore[call-overload]
            if arguments[1:2] == ("wb",):
                file.close()
                fail()
            return file

        monkeypatch.setattr("builtins.open", failing_open)
    else:
        monkeypatch.setattr(os, failing, fail)
    with pytest.raises(type(kind)):
        KEY.to_file(path, overwrite=overwrite)
    monkeypatch.undo()
    assert names(tmp_path) == ({"key"} if overwrite else set())
    if overwrite:
        assert Key.from_file(path) == OTHER


def test_a_directory_that_cannot_be_synced_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsync = os.fsync

    def only_files(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "not for directories")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", only_files)
    KEY.to_file(tmp_path / "key")
    assert Key.from_file(tmp_path / "key") == KEY


# -- death

WRITER = """
import sys
from moq_token import Key

keys, path = [Key.from_str(text) for text in sys.argv[1:3]], sys.argv[3]
while True:
    for key in keys:
        key.to_file(path)
        sys.stdout.write(".")
        sys.stdout.flush()
"""


@pytest.mark.parametrize("seed", range(8))
def test_a_killed_writer_leaves_a_whole_key(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "key"
    KEY.to_file(path)
    path.chmod(0o644)
    chance = random.Random(seed)  # noqa: S311
    command = [sys.executable, "-c", WRITER, KEY.to_json(), OTHER.to_json(), str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        # Some writes later, at a random moment.
        assert writer.stdout.read(chance.randrange(1, 300))
        writer.kill()
    assert writer.returncode == -signal.SIGKILL
    assert Key.from_file(path) in (KEY, OTHER)
    for left in tmp_path.iterdir():
        assert mode(left) == 0o600
        assert left == path or left.suffix == ".tmp"


@pytest.mark.parametrize(
    ("moment", "before"),
    [
        ("open", True),
        ("open", False),
        ("write", True),
        ("write", False),
        ("fsync", True),
        ("fsync", False),
        ("replace", True),
        ("replace", False),
    ],
)
def test_a_writer_that_dies_at_a_chosen_moment(tmp_path: Path, moment: str, before: bool) -> None:  # noqa: FBT001
    path = tmp_path / "key"
    OTHER.to_file(path)
    program = """
import builtins, os, signal, sys
from moq_token import Key

key, path, moment, before = Key.from_str(sys.argv[1]), *sys.argv[2:]
key.to_file(path + ".first")
os.unlink(path + ".first")
owner = builtins if moment == "write" else os
name = "open" if moment == "write" else moment
function = getattr(owner, name)

def deadly(*arguments, **named):
    if before:
        os.kill(os.getpid(), signal.SIGKILL)
    result = function(*arguments, **named)
    if moment == "write":
        result.write(b"{")
        result.flush()
    os.kill(os.getpid(), signal.SIGKILL)

setattr(owner, name, deadly)
key.to_file(path)
"""
    done = run(program, KEY.to_json(), path, moment, "yes" if before else "")
    assert done.returncode == -signal.SIGKILL, done
    replaced = moment == "replace" and not before
    assert Key.from_file(path) == (KEY if replaced else OTHER)
    for left in tmp_path.iterdir():
        assert mode(left) == 0o600
    # What a dead writer left does not stop the next one.
    KEY.to_file(path)
    assert Key.from_file(path) == KEY


# -- backups


def test_a_backup_keeps_content_mode_and_owner(tmp_path: Path) -> None:
    path = tmp_path / "key.jwk"
    assert files.write_with_backup(path, b"one", private=True) is None
    path.chmod(0o640)
    inode = path.stat().st_ino
    assert files.write_with_backup(path, b"two", private=True) == f"{path}.1.bak"
    assert path.read_bytes() == b"two"
    assert mode(path) == 0o600
    backup = tmp_path / "key.jwk.1.bak"
    assert (backup.read_bytes(), mode(backup), backup.stat().st_ino) == (b"one", 0o640, inode)
    assert names(tmp_path) == {"key.jwk", "key.jwk.1.bak"}


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK])
def test_a_backup_is_a_copy_where_there_are_no_hard_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    path = tmp_path / "key.jwk"
    path.write_bytes(b"one")
    path.chmod(0o400)
    (tmp_path / "key.jwk.1.bak").write_bytes(b"precious")

    def no_links(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", no_links)
    assert files.write_with_backup(path, b"two", private=True) == f"{path}.2.bak"
    backup = tmp_path / "key.jwk.2.bak"
    assert (backup.read_bytes(), mode(backup), path.read_bytes()) == (b"one", 0o400, b"two")
    assert (tmp_path / "key.jwk.1.bak").read_bytes() == b"precious"


def test_a_write_that_fails_leaves_no_backup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "key.jwk"
    path.write_bytes(b"one")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as caught:
        files.write_with_backup(path, b"two", private=True)
    assert caught.value.filename == str(path)
    assert (names(tmp_path), path.read_bytes()) == ({"key.jwk"}, b"one")


@pytest.mark.parametrize("kind", ["link", "directory", "nul"])
def test_nothing_but_a_file_is_kept(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "key.jwk"
    if kind == "link":
        path.symlink_to(tmp_path / "elsewhere")
    elif kind == "directory":
        path.mkdir()
    with pytest.raises((OSError, InvalidKeyError)):
        files.write_with_backup(f"{path}\0" if kind == "nul" else path, b"two", private=True)
    assert names(tmp_path) <= {"key.jwk"}


def test_concurrent_writers_keep_every_key(tmp_path: Path) -> None:
    path = tmp_path / "key.jwk"
    path.write_bytes(b"start")
    contents = {f"{writer}-{turn}".encode() for writer in range(4) for turn in range(10)}

    def write(writer: int) -> None:
        for turn in range(10):
            files.write_with_backup(path, f"{writer}-{turn}".encode(), private=True)

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {entry.read_bytes() for entry in tmp_path.iterdir()} == {*contents, b"start"}
    assert len(names(tmp_path)) == 41


# -- file systems without hard links, and names that are taken


def without_links(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def link(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", link)


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK])
def test_a_file_system_without_hard_links(tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    without_links(monkeypatch, number)
    path = tmp_path / "key"
    KEY.to_file(path, overwrite=False)
    assert Key.from_file(path) == KEY
    assert mode(path) == 0o600
    with pytest.raises(FileExistsError):
        OTHER.to_file(path, overwrite=False)
    assert Key.from_file(path) == KEY
    assert names(tmp_path) == {"key"}


def test_without_hard_links_a_file_that_comes_to_exist_meanwhile_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "key"

    def link(*_: object, **__: object) -> None:
        path.write_text("somebody else's", encoding="utf-8")
        raise OSError(errno.EPERM, "no hard links")

    monkeypatch.setattr(os, "link", link)
    with pytest.raises(FileExistsError) as caught:
        KEY.to_file(path, overwrite=False)
    assert caught.value.filename == str(path)
    assert path.read_text(encoding="utf-8") == "somebody else's"
    assert names(tmp_path) == {"key"}


def test_without_hard_links_a_failure_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_links(monkeypatch, errno.EPERM)

    def replace(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(OSError, match="broken"):
        KEY.to_file(tmp_path / "key", overwrite=False)
    assert names(tmp_path) == set()


@pytest.mark.parametrize("overwrite", [True, False])
@pytest.mark.parametrize("kind", ["file", "link", "dangling link"])
def test_a_temporary_name_that_is_taken_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, *, overwrite: bool
) -> None:
    """In a directory that everybody can write, another user could guess the name and create a file or link first."""
    monkeypatch.setattr(os, "urandom", bytes)
    taken = tmp_path / f".{bytes(8).hex()}.tmp"
    victim = tmp_path / "victim"
    if kind != "dangling link":
        victim.write_text("precious", encoding="utf-8")
    if kind == "file":
        victim.rename(taken)
        victim = taken
    else:
        taken.symlink_to(victim)
    with pytest.raises(FileExistsError) as caught:
        KEY.to_file(tmp_path / "key", overwrite=overwrite)
    assert caught.value.filename == str(tmp_path / "key")
    assert not (tmp_path / "key").exists()
    assert taken.is_symlink() is (kind != "file")
    if kind == "dangling link":
        assert not victim.exists()
    else:
        assert victim.read_text(encoding="utf-8") == "precious"


# -- reading


@pytest.mark.parametrize("linked", [False, True])
def test_a_pipe_or_a_socket_is_not_read(tmp_path: Path, *, linked: bool) -> None:
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        before = Path.cwd()
        os.chdir(tmp_path)  # a socket's name is short
        listening.bind("socket")
        os.chdir(before)
        for name in ("pipe", "socket", "/dev/null", "/dev/zero", "/dev/tty"):
            path = tmp_path / name
            if linked:
                path = tmp_path / f"link-{name.replace('/', '-')}"
                path.symlink_to(tmp_path / name)
            if path.exists():
                for read in (Key.from_file, KeySet.from_file):
                    with pytest.raises(InvalidKeyError, match="not a regular file"):
                        read(path)


def test_a_pipe_that_takes_the_place_of_a_file_does_not_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "key"
    KEY.to_file(path)
    real = os.stat

    def stat_then_replace(name: str | Path, *arguments: object, **named: object) -> os.stat_result:
        result = real(name, *arguments, **named)  # type: ignore[arg-type]
        if str(name) == str(path) and stat.S_ISREG(result.st_mode):
            path.unlink()
            os.mkfifo(path)
        return result

    monkeypatch.setattr(os, "stat", stat_then_replace)
    with pytest.raises(InvalidKeyError, match="not a regular file"):
        Key.from_file(path)


@pytest.mark.skipif(not Path("/dev/fd").exists(), reason="there is no /dev/fd here")
def test_a_descriptor_that_is_open_is_read() -> None:
    """Return a path as a shell passes it for `<(command)`."""
    reading, writing = os.pipe()
    os.write(writing, KEY.to_json().encode())
    os.close(writing)
    try:
        assert Key.from_file(f"/dev/fd/{reading}") == KEY
    finally:
        os.close(reading)
