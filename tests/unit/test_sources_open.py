"""Open sources from strings, the errors for invalid strings, and that optional packages stay optional."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from moq_token import ConfigError, Key, KeyId
from moq_token.sources import (
    DirectorySource,
    FileSource,
    Http,
    JwksUrlSource,
    ObjectStoreSource,
    UrlDirectorySource,
    UrlSource,
    open_source,
)
from tests.sources_server import Server, on_loop, reply

if TYPE_CHECKING:
    from pathlib import Path

KEY = Key.generate("HS256", "one")


@pytest.mark.parametrize(
    ("text", "one", "many"),
    [
        ("k.jwk", FileSource, DirectorySource),
        ("keys/", FileSource, DirectorySource),
        ("C:\\keys", FileSource, DirectorySource),
        ("odd:name", FileSource, DirectorySource),
        ("file:///etc/keys", FileSource, DirectorySource),
        ("https://keys.example", UrlSource, UrlDirectorySource),
        ("HTTP://keys.example:8080/a?b", UrlSource, UrlDirectorySource),
        ("https://user:hush@[::1]:443/", UrlSource, UrlDirectorySource),
    ],
)
@on_loop
async def test_what_is_what(text: str, one: type, many: type) -> None:
    for directory, expected in ((False, one), (True, many)):
        source = open_source(text, directory=directory)
        assert type(source) is expected
        await source.aclose()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a path or a URL"),
        ("a\0b", "expected a path or a URL"),
        ("ftp://hush.example/k", "unsupported scheme 'ftp', expected one of http://, https://, s3://"),
        ("https:hush.example", "two slashes"),
        ("https:/hush.example", "two slashes"),
        ("s3:hush", "two slashes"),
        ("https://", "host is missing"),
        ("https:///hush", "host is missing"),
        ("https://hush.example:port/", "no valid host and port"),
        ("https://hush.example:99999/", "no valid host and port"),
        ("https://[::hush/", "no valid host and port"),
        ("https://hush.example/a b", "ASCII characters without spaces"),
        ("https://hüsh.example/", "ASCII characters without spaces"),
        ("https://hush.example/\r\nx: y", "ASCII characters without spaces"),
        ("file://hush.example/keys", "absolute path and no host"),
    ],
)
def test_what_is_wrong(text: str, message: str) -> None:
    for directory, name in ((False, "`key`"), (True, "`key_dir`")):
        with pytest.raises(ConfigError, match=message) as caught:
            open_source(text, directory=directory)
        assert str(caught.value).startswith(f"{name}: ")
        assert "hush" not in str(caught.value).replace("ftp", "")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("s3://", "missing bucket"),
        ("s3:///keys", "missing bucket"),
        ("gs://bucket/\x7f", "cannot set up|names no"),
    ],
)
def test_what_is_wrong_with_a_store(text: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT_KEY", "hush")
    with pytest.raises(ConfigError, match=message) as caught:
        open_source(text, directory=True)
    assert "hush" not in str(caught.value)
    with pytest.raises(ConfigError, match="one key for each id"):
        open_source(text)


@pytest.mark.parametrize("url", ["ftp://a", "/keys", "", "http://[", "file://host/keys", "file:keys"])
def test_what_is_wrong_with_a_url(url: str) -> None:
    for source in (UrlSource, UrlDirectorySource, JwksUrlSource, ObjectStoreSource):
        with pytest.raises(ConfigError):
            source(url)


@on_loop
async def test_a_directory_behind_a_url_has_its_slash_and_no_query() -> None:
    async with Server() as server, Http() as http:
        server.scripts["/a/b/one.jwk"] = reply(KEY.to_json())
        for tail in ("/a/b", "/a/b/", "/a/b?c=d", "/a/b/#e"):
            source = open_source(server.url + tail, directory=True, http=http)
            assert await source.get(KeyId("one")) == KEY
        assert server.count("/a/b/one.jwk") == 4


@on_loop
async def test_a_file_url(tmp_path: Path) -> None:
    KEY.to_file(tmp_path / "one.jwk")
    assert await open_source(tmp_path.as_uri(), directory=True).get(KeyId("one")) == KEY
    assert await open_source((tmp_path / "one.jwk").as_uri()).get(None) == KEY


def test_importing_loads_nothing_that_is_optional() -> None:
    program = "import sys, moq_token.sources; print([name for name in sys.argv[1:] if name in sys.modules])"
    optional = ["httpx2", "hishel", "truststore", "obstore"]
    done = subprocess.run([sys.executable, "-c", program, *optional], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("package", "text", "extra"),
    [
        ("httpx2", "https://keys.example", "http"),
        ("hishel", "https://keys.example", "http"),
        ("obstore", "s3://bucket/keys", "objectstore"),
    ],
)
def test_a_missing_extra_is_named(package: str, text: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, "moq_token.sources.rfc9111", raising=False)
    with pytest.raises(ConfigError, match=rf"`key_dir`: .*pip install \"moq-token\[{extra}\]\"") as caught:
        open_source(text, directory=True)
    assert isinstance(caught.value.__cause__, ImportError)


@pytest.mark.parametrize(
    ("prefix", "command"),
    [
        ("/home/u/venv", 'Run: pip install "moq-token[http]"'),
        ("/home/u/.local/share/pipx/venvs/moq-token", 'Run: pipx install --force "moq-token[http]"'),
        ("C:\\Users\\u\\pipx\\venvs\\moq-token", 'Run: pipx install --force "moq-token[http]"'),
        ("/home/u/.local/share/uv/tools/moq-token", 'Run: uv tool install --force "moq-token[http]"'),
        ("/nix/store/x-python3", "add it to the Python packages of this Nix environment"),
    ],
)
def test_the_command_for_a_missing_extra_fits(prefix: str, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "httpx2", None)
    monkeypatch.setattr(sys, "prefix", prefix)
    with pytest.raises(ConfigError) as caught:
        Http()
    assert command in str(caught.value)
