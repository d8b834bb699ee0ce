"""Key ids, safe in a file name and in a URL by construction."""

from __future__ import annotations

import os
import re
from typing import Self

from moq_token.errors import InvalidKeyIdError

_KEY_ID = re.compile(r"[A-Za-z0-9_-]{1,128}", re.ASCII)
_RANDOM_BYTES = 8


class KeyId(str):
    """A ``kid``: 1 to 128 characters of ``A-Z a-z 0-9 - _``, so it can never leave a directory or change a URL.

    Raises ``InvalidKeyIdError`` for anything else, and ``TypeError`` for another type than ``str``.
    """

    __slots__ = ()

    def __new__(cls, kid: str) -> Self:  # noqa: D102 - the class says it
        if not isinstance(kid, str):
            raise TypeError(f"a key id must be a str, not {type(kid).__name__}")
        if not _KEY_ID.fullmatch(kid):
            raise InvalidKeyIdError("a key id must be 1 to 128 characters of A-Z a-z 0-9 - _")
        return super().__new__(cls, kid)

    @classmethod
    def random(cls) -> Self:
        """Return a new id of 16 lowercase hexadecimal digits (8 random bytes)."""
        return cls(os.urandom(_RANDOM_BYTES).hex())
