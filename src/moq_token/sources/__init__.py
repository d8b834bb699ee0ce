"""Sources of the keys that verify tokens: files, URLs and object stores, read when a token needs its key.

Every source has ``await source.get(kid)``, which returns the key or raises ``KeyNotFoundError`` (there is no such
key) or ``UnavailableError`` (the source could not find out), and ``aclose()`` or ``async with``. ``kid`` must be a
``KeyId``, which cannot contain a path separator. Outages are logged by ``moq_token.sources``.
"""

from moq_token.sources.http import Http
from moq_token.sources.local import DirectorySource, FileSource, JwksFileSource
from moq_token.sources.objects import ObjectStoreSource
from moq_token.sources.opening import open_source
from moq_token.sources.source import KeySource
from moq_token.sources.tls import Tls, TlsOptions
from moq_token.sources.web import JwksUrlSource, UrlDirectorySource, UrlSource

__all__ = [
    "DirectorySource",
    "FileSource",
    "Http",
    "JwksFileSource",
    "JwksUrlSource",
    "KeySource",
    "ObjectStoreSource",
    "Tls",
    "TlsOptions",
    "UrlDirectorySource",
    "UrlSource",
    "open_source",
]
