"""From the strings of a relay's configuration to sources of keys."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import url2pathname

from moq_token.errors import ConfigError
from moq_token.sources.local import DirectorySource, FileSource
from moq_token.sources.objects import SCHEMES, ObjectStoreSource
from moq_token.sources.source import sealed_function
from moq_token.sources.web import UrlDirectorySource, UrlSource

if TYPE_CHECKING:
    from moq_token.sources.http import Http
    from moq_token.sources.source import KeySource

# Two letters at least: one is a drive of Windows.
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
_SLASH_FORGOTTEN = re.compile(r"(https?|s3|gs|az|file):", re.IGNORECASE)
_WEB = ("http", "https")


@sealed_function
def open_source(text: str, *, directory: bool = False, http: Http | None = None) -> KeySource:
    """Make a source from the value of ``key``, or with ``directory`` from that of ``key_dir``: a path or a URL.

    ``http`` does the fetching from URLs of http and https and stays open; None makes one. That there is anything
    behind a path or URL is found out by :meth:`KeySource.get`. Raises :class:`ConfigError` for an unknown scheme, a URL
    without host, and a missing extra; its message does not quote the text, which may hold a password.
    """
    try:
        return _open(text, directory=directory, http=http)
    except ConfigError as error:
        raise ConfigError(f"{'`key_dir`' if directory else '`key`'}: {error}") from error.__cause__


def _open(text: str, *, directory: bool, http: Http | None) -> KeySource:
    if not text or "\0" in text:
        raise ConfigError("a path or a URL is wanted, this is neither")
    match = _SCHEME.match(text)
    if match is None:
        if _SLASH_FORGOTTEN.match(text):
            raise ConfigError("a URL needs two slashes after its scheme")
        return DirectorySource(text) if directory else FileSource(text)
    scheme = match[1].lower()
    if scheme in _WEB:
        return UrlDirectorySource(text, http=http) if directory else UrlSource(text, http=http)
    if scheme == "file":
        path = _local_path(text)
        return DirectorySource(path) if directory else FileSource(path)
    if scheme in SCHEMES:
        if not directory:
            raise ConfigError("an object store holds a key for each id, and none that verifies every token")
        return ObjectStoreSource(text)
    raise ConfigError(f"{scheme}:// is none of {', '.join(f'{known}://' for known in (*_WEB, *SCHEMES))}")


def _local_path(url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError:  # an unfinished IPv6 address
        parts = None
    if parts is None or parts.netloc not in {"", "localhost"}:
        raise ConfigError("file:// names files of this machine only: file:///… is wanted")
    return url2pathname(parts.path)
