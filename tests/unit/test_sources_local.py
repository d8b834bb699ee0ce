"""Keys in files: when they are read again, and the result for each state of a file."""

from __future__ import annotations

import os
import sys
import time
import traceback
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from moq_token import Algorithm, ConfigError, Key, KeyId, KeyNotFoundError, UnavailableError, files
from moq_token.sources import DirectorySource, FileSource, JwksFileSource, ObjectStoreSource, Tls, local, open_source
from moq_token.sources.memory import MAX_ENTRIES
from moq_token.sources.tls import make_context
from tests import forge
from tests.sources_server import on_loop

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

KEY = Key.generate("HS256", "one")
OTHER = Key.generate("HS256", "two")


def write(path: Path, key: Key, *, age: float = 60) -> None:
    key.to_file(path)
    written = time.time_ns() - int(age * 1e9)
    os.utime(path, ns=(written, written))


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Treat every file as if it changed long ago. A test cannot make such a file, because ctime cannot be set."""
    monkeypatch.setattr(local, "SETTLED_NANOSECONDS", -1_000_000_000_000)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record which files are read, in order."""
    paths: list[str] = []
    read = files.read

    def counting(path: str | Path) -> bytes:
        paths.append(os.path.basename(path))  # noqa: PTH119 - a str or a Path
        return read(path)

    monkeypatch.setattr(files, "read", counting)
    return paths


@pytest.mark.usefixtures("settled")
@on_loop
async def test_a_file_is_read_once(tmp_path: Path, reads: list[str]) -> None:
    write(tmp_path / "k.jwk", KEY)
    async with FileSource(tmp_path / "k.jwk") as source:
        key = await source.get(None)
        assert key == KEY
        assert await source.get(KeyId("whatever")) is key
        assert reads == ["k.jwk"]


@pytest.mark.usefixtures("settled")
@on_loop
async def test_a_file_is_read_again_when_it_is_another(tmp_path: Path, reads: list[str]) -> None:
    path = tmp_path / "k.jwk"
    write(path, KEY)
    source = FileSource(str(path))
    assert await source.get(None) == KEY
    write(path, OTHER)
    assert await source.get(None) == OTHER
    os.utime(path, (1, 1))
    key = await source.get(None)
    assert await source.get(None) is key == OTHER
    assert len(reads) == 3


@on_loop
async def test_a_file_written_twice_within_a_tick_is_not_mistaken(tmp_path: Path) -> None:
    path = tmp_path / "k.jwk"
    moment = time.time_ns()
    path.write_text(KEY.to_json())
    os.utime(path, ns=(moment, moment))
    source = FileSource(path)
    key = await source.get(None)
    assert await source.get(None) is key == KEY
    path.write_text(OTHER.to_json())  # the same inode and size
    os.utime(path, ns=(moment, moment))
    assert await source.get(None) == OTHER


@on_loop
async def test_a_directory(tmp_path: Path) -> None:
    write(tmp_path / "one.jwk", KEY)
    write(tmp_path / "alias.jwk", KEY)
    async with DirectorySource(tmp_path) as source:
        assert await source.get(KeyId("one")) == await source.get(KeyId("alias")) == KEY
        with pytest.raises(KeyNotFoundError) as caught:
            await source.get(KeyId("two"))
        assert caught.value.kid == "two"
        write(tmp_path / "two.jwk", OTHER, age=0)
        assert await source.get(KeyId("two")) == OTHER
        (tmp_path / "one.jwk").unlink()
        with pytest.raises(KeyNotFoundError):
            await source.get(KeyId("one"))
        with pytest.raises(KeyNotFoundError):
            await source.get(None)
        with pytest.raises(TypeError):
            await source.get("../one")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "not usable"),
        ("{", "not usable"),
        ('{"kty":"oct","alg":"HS256","k":"hush"}', "not usable"),
        (" " * (files.MAX_FILE_BYTES + 1), "larger than"),
    ],
)
@on_loop
async def test_an_invalid_file_is_unavailable_until_it_is_fixed(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "one.jwk"
    source = DirectorySource(tmp_path)
    for _ in range(2):
        path.write_text(content)
        os.utime(path, (1, 1))
        for _ in range(2):
            with pytest.raises(UnavailableError, match=message) as caught:
                await source.get(KeyId("one"))
            assert "hush" not in str(caught.value)
        write(path, KEY)
        assert await source.get(KeyId("one")) == KEY


@on_loop
async def test_what_is_no_file_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "one.jwk").mkdir()
    with pytest.raises(UnavailableError, match="not a regular file"):
        await DirectorySource(tmp_path).get(KeyId("one"))
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(UnavailableError, match="cannot read") as caught:
        await FileSource(tmp_path / "loop").get(None)
    assert isinstance(caught.value.__cause__, OSError)
    write(tmp_path / "file", KEY)
    with pytest.raises(UnavailableError, match="cannot read"):
        await DirectorySource(tmp_path / "file").get(KeyId("one"))
    with pytest.raises(UnavailableError, match="cannot read"):
        await FileSource("nul\0byte").get(None)


@pytest.mark.skipif(sys.platform == "win32", reason="it has no named pipes in its file system")
@on_loop
async def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "one.jwk")
    with pytest.raises(UnavailableError, match="not a regular file"):
        await DirectorySource(tmp_path).get(KeyId("one"))


@on_loop
async def test_an_unreadable_file_is_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "one.jwk", KEY)

    def refuse(_: str) -> bytes:  # root may read everything, so that a mode would not do
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(files, "read", refuse)
    with pytest.raises(UnavailableError, match="Permission denied") as caught:
        await DirectorySource(tmp_path).get(KeyId("one"))
    assert isinstance(caught.value.__cause__, PermissionError)


@on_loop
async def test_a_link_is_followed_to_where_it_points_now(tmp_path: Path) -> None:
    """Update the files as an orchestrator updates a volume: by moving one link."""
    for name, key in (("v1", KEY), ("v2", OTHER)):
        (tmp_path / name).mkdir()
        write(tmp_path / name / "k.jwk", key)
    (tmp_path / "now").symlink_to("v1")
    source = DirectorySource(tmp_path / "now")
    assert await source.get(KeyId("k")) == KEY
    (tmp_path / "next").symlink_to("v2")
    (tmp_path / "next").rename(tmp_path / "now")
    assert await source.get(KeyId("k")) == OTHER


@pytest.mark.usefixtures("settled")
@on_loop
async def test_no_more_than_so_many_are_remembered(tmp_path: Path, reads: list[str]) -> None:
    jwk = KEY.to_json()
    source = DirectorySource(tmp_path)
    for number in range(MAX_ENTRIES + 1):
        path = tmp_path / f"{number}.jwk"
        path.write_text(jwk)
        os.utime(path, (1, 1))
        await source.get(KeyId(str(number)))
    del reads[:]
    await source.get(KeyId("1"))
    assert reads == []
    await source.get(KeyId("0"))
    assert reads == ["0.jwk"]


@pytest.mark.usefixtures("settled")
@on_loop
async def test_a_file_that_is_replaced_in_place_is_noticed(tmp_path: Path, reads: list[str]) -> None:
    """As ``rsync --inplace --times`` and ``tar`` do: the inode, the size and the time are as before."""
    path = tmp_path / "one.jwk"
    write(path, KEY)
    source = FileSource(path)
    assert await source.get(None) == KEY
    before = path.stat()
    while path.stat().st_ctime_ns == before.st_ctime_ns:  # a tick of the file system's clock
        path.write_text(OTHER.to_json() + "\n")
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = path.stat()
    assert (after.st_size, after.st_ino, after.st_mtime_ns) == (before.st_size, before.st_ino, before.st_mtime_ns)
    assert await source.get(None) == OTHER
    assert len(reads) == 2


@pytest.mark.parametrize("member", ["st_mtime_ns", "st_ctime_ns", "st_size", "st_ino", "st_dev"])
@pytest.mark.usefixtures("settled")
@on_loop
async def test_each_member_of_its_identity_counts(
    member: str, tmp_path: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "one.jwk", KEY)
    stat, changed = os.stat, 0

    def changing(path: str) -> SimpleNamespace:
        status = stat(path)
        members = {name: getattr(status, name) for name in dir(status) if name.startswith("st_")}
        return SimpleNamespace(**members | {member: members[member] + changed})

    monkeypatch.setattr(local, "os", SimpleNamespace(stat=changing, path=os.path, fsdecode=os.fsdecode))
    source = FileSource(tmp_path / "one.jwk")
    key = await source.get(None)
    assert await source.get(None) is key
    assert len(reads) == 1
    changed = 1
    await source.get(None)
    assert len(reads) == 2


@pytest.mark.skipif(sys.platform == "win32", reason="it has no named pipes in its file system")
@on_loop
async def test_a_pipe_behind_a_url_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "one.jwk")
    url = tmp_path.as_uri()
    for source in (ObjectStoreSource(url), open_source(url, directory=True), open_source(f"{url}/one.jwk")):
        with pytest.raises(UnavailableError, match="not a regular file"):
            await source.get(KeyId("one"))
        await source.aclose()


KEY_TEXTS = [
    forge.key(Algorithm.HS256).to_json(),
    forge.key(Algorithm.HS256).to_str(),
    forge.key(Algorithm.ES256).to_pem(),
    "c2VjcmV0" * 7 + "AB0",
    "0f" * 32,
]


@pytest.mark.parametrize("text", KEY_TEXTS, ids=["json", "base64url", "pem", "base64", "hex"])
def test_a_key_in_place_of_a_path_is_not_repeated(text: str) -> None:
    made: list[Callable[[], object]] = [
        *(partial(source, text) for source in (FileSource, JwksFileSource, DirectorySource, open_source)),
        partial(open_source, text, directory=True),
        lambda: make_context(Tls(roots=(text,))),
        lambda: make_context(Tls(cert="c", key=text)),
    ]
    for make in made:
        with pytest.raises(ConfigError, match="looks like") as caught:
            make()
        assert text[-24:-4] not in str(caught.value)
        frames = traceback.TracebackException.from_exception(caught.value, capture_locals=True).stack
        assert not [frame for frame in frames if frame.filename != __file__ and text[-24:-4] in str(frame.locals)]


@on_loop
async def test_a_file_may_be_called_like_a_key(tmp_path: Path) -> None:
    path = tmp_path / ("0f" * 32)
    forge.key(Algorithm.HS256).to_file(path)
    assert await FileSource(path).get(None) == forge.key(Algorithm.HS256)
