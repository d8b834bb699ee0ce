"""The public halves of a policy's keys, for relay 0.14 (``key_dir`` by URL) and for other services (JWK Set)."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

from moq_token.errors import InvalidKeyIdError, KeyNotFoundError, KeyOperationError, UnavailableError
from moq_token.keyset import MAX_KEYS, KeySet
from moq_token.kid import KeyId
from moq_token.server.http import HttpResponse
from moq_token.server.responses import NOT_FOUND, unavailable
from moq_token.sources import DirectorySource
from moq_token.sources.source import UnusableKeyError

if TYPE_CHECKING:
    from moq_token.key import Key

MAX_AGE_SECONDS = 60
"""Seconds for which an answer may be reused, so that a new key may be unknown and a withdrawn one still in use."""

_CACHE_CONTROL = f"cache-control: public, max-age={MAX_AGE_SECONDS}\r\n".encode()
_SUFFIX = ".jwk"
_JWKS_PATH = "/.well-known/jwks.json"


class PublishedKeys:
    """The keys of a directory of ``{kid}.jwk`` files, public halves only: a secret is never served.

    Files that cannot be read as keys are left out of the set.
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self._directory = os.fspath(directory)
        self._source = DirectorySource(self._directory)

    async def answer(self, path: str, known: str | None) -> HttpResponse:
        """Answer ``GET /keys/{kid}.jwk`` and ``GET /.well-known/jwks.json``; ``known`` is ``If-None-Match``."""
        try:
            if path == _JWKS_PATH:
                return self._tagged(await self._set(), "application/jwk-set+json", known)
            kid = path.removeprefix("/keys/")
            if not kid.endswith(_SUFFIX):
                return NOT_FOUND
            key = await self._source.get(KeyId(kid.removesuffix(_SUFFIX)))
            return self._tagged(key.to_public().to_json(), "application/jwk+json", known)
        except (InvalidKeyIdError, KeyNotFoundError, KeyOperationError, UnusableKeyError):
            return NOT_FOUND
        except (UnavailableError, OSError):
            return unavailable(b"the keys cannot be read at the moment\n")

    async def _set(self) -> str:
        keys: list[Key] = []
        for kid in self._kids():
            try:
                keys.append((await self._source.get(KeyId(kid))).to_public())
            except (InvalidKeyIdError, KeyNotFoundError, KeyOperationError, UnavailableError):
                continue
        return KeySet(keys).to_str()

    def _kids(self) -> list[str]:
        # Raises OSError where the directory is gone, which does not mean that all keys were withdrawn.
        names = os.listdir(self._directory)  # noqa: PTH208 - a Path would be made for every file
        return sorted(name.removesuffix(_SUFFIX) for name in names if name.endswith(_SUFFIX))[:MAX_KEYS]

    def _tagged(self, document: str, content_type: str, known: str | None) -> HttpResponse:
        body = document.encode()
        tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
        headers = _CACHE_CONTROL + f"etag: {tag}\r\n".encode()
        if known is not None and (
            known == "*" or tag in (item.strip().removeprefix("W/") for item in known.split(","))
        ):
            return HttpResponse(304, headers=headers)
        return HttpResponse(200, body, content_type, headers)
