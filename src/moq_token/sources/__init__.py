"""Where the keys that verify tokens come from: files, URLs and object stores, read when a token asks for its key.

Every source has ``await source.get(kid)``, which returns the key or raises :class:`KeyNotFoundError` (there is none) or
:class:`UnavailableError` (that could not be found out), and ``aclose()`` or ``async with``. A key id is checked before
any file or URL is touched: only a :class:`KeyId` is taken.
"""

from moq_token.sources.http import Http
from moq_token.sources.local import DirectorySource, FileSource
from moq_token.sources.objects import ObjectStoreSource
from moq_token.sources.opening import open_source
from moq_token.sources.source import KeySource
from moq_token.sources.tls import Tls, TlsOptions
from moq_token.sources.web import JwksUrlSource, UrlDirectorySource, UrlSource

__all__ = [
    "DirectorySource",
    "FileSource",
    "Http",
    "JwksUrlSource",
    "KeySource",
    "ObjectStoreSource",
    "Tls",
    "TlsOptions",
    "UrlDirectorySource",
    "UrlSource",
    "open_source",
]
