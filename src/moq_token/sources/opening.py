"""Make key sources from the strings of a relay's configuration."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import url2pathname

from moq_token import files
from moq_token.errors import ConfigError, InvalidKeyError, shown
from moq_token.keytext import parse_members
from moq_token.recognizer import secret_in_place_of_path
from moq_token.sources.local import DirectorySource, FileSource, JwksFileSource
from moq_token.sources.objects import SCHEMES, ObjectStoreSource
from moq_token.sources.source import sealed_function
from moq_token.sources.web import JwksUrlSource, UrlDirectorySource, UrlSource

if TYPE_CHECKING:
    from moq_token.sources.http import Http
    from moq_token.sources.source import KeySource

# At least two letters: a single one is a drive of Windows.
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
_SLASH_FORGOTTEN = re.compile(r"(https?|s3|gs|az|file):", re.IGNORECASE)
_WEB = ("http", "https")


@sealed_function
def open_source(text: str, *, directory: bool = False, http: Http | None = None) -> KeySource:
    """Make a source from the value of ``key``, or with ``directory`` from that of ``key_dir``: a path or a URL.

    ``http`` fetches from URLs of http and https and stays open; None makes a client. Whether anything is there, only
    ``KeySource.get()`` finds out. Raises ``ConfigError`` for an unknown scheme, an invalid URL and a missing
    extra; the message does not quote the text, which may hold a password.
    """
    if not isinstance(text, str):
        raise TypeError(f"expected a path or URL as a str, not {type(text).__name__}")
    what = None if _SCHEME.match(text) else secret_in_place_of_path(text)
    if what is not None:
        member = "`key_dir`" if directory else "`key`"
        raise ConfigError(f"{member}: expected a path or URL, but this looks like {what}")
    try:
        return open_directory(text, http=http) if directory else _open_file(text, http)
    except ConfigError as error:
        raise ConfigError(f"{'`key_dir`' if directory else '`key`'}: {error}") from error.__cause__


@sealed_function
def open_directory(text: str, *, http: Http | None = None) -> KeySource:
    """Make a source of the keys in a directory, at a path or a URL. Raises ``ConfigError``."""
    scheme = _scheme(text)
    if scheme is None:
        return DirectorySource(text)
    if scheme in _WEB:
        return UrlDirectorySource(text, http=http)
    return DirectorySource(local_path(text)) if scheme == "file" else ObjectStoreSource(text)


def _open_file(text: str, http: Http | None) -> KeySource:
    scheme = _scheme(text)
    if scheme is None:
        return FileSource(text)
    if scheme in _WEB:
        return UrlSource(text, http=http)
    if scheme != "file":
        raise ConfigError(
            f"{scheme}:// is a directory with one key for each id; for a single key use a file or https://"
        )
    return FileSource(local_path(text))


@sealed_function
def open_keys(text: str) -> KeySource:
    """Open a key file, a JWK Set, a directory of ``{kid}.jwk`` files, or the URL of one of these.

    The URL of a directory ends with ``/``, that of a single key with ``.jwk``; any other is that of a set.
    """
    if "://" in text:
        lower = text.lower()
        if lower.startswith(("http://", "https://")) and not lower.endswith(("/", ".jwk")):
            return JwksUrlSource(text)
        return open_source(text, directory=not lower.endswith(".jwk"))
    if os.path.isdir(text) or text.endswith("/"):  # noqa: PTH112 - False for any text
        return DirectorySource(text)
    return JwksFileSource(text) if _is_set(text) else FileSource(text)


def _is_set(path: str) -> bool:
    """Whether a file holds a JWK Set at the moment. One that cannot be read counts as a key for now."""
    try:
        return "keys" in parse_members(files.read(path))
    except (OSError, InvalidKeyError):
        return False


def _scheme(text: str) -> str | None:
    """Return the scheme of a URL, or None for a path."""
    if not text or "\0" in text:
        raise ConfigError("expected a path or a URL" + (", got an empty value" if not text else ", without NUL"))
    match = _SCHEME.match(text)
    if match is None:
        if _SLASH_FORGOTTEN.match(text):
            raise ConfigError("invalid URL: two slashes are missing after the scheme")
        return None
    scheme = match[1].lower()
    if scheme not in {*_WEB, *SCHEMES}:
        known = ", ".join(f"{name}://" for name in (*_WEB, *SCHEMES))
        raise ConfigError(f"unsupported scheme {shown(scheme)}, expected one of {known}")
    return scheme


def local_path(url: str) -> str:
    """Return the path of a ``file://`` URL. Raises ``ConfigError`` for one of another machine."""
    try:
        parts = urlsplit(url)
    except ValueError:  # an unfinished IPv6 address
        parts = None
    if parts is None or parts.netloc not in {"", "localhost"} or not parts.path.startswith("/"):
        raise ConfigError("a file:// URL must be file:///…, with an absolute path and no host")
    return url2pathname(parts.path)
