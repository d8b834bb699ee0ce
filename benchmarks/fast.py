"""Keys without and with the primitives of the extra ``fast``, side by side in one process."""

from __future__ import annotations

from typing import TYPE_CHECKING
from unittest.mock import patch

from benchmarks.peers import installed
from moq_token import Algorithm, Key, primitives

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from benchmarks.fixtures import Keys

PACKAGES = ("awscrt", "PyNaCl")
ALGORITHMS = frozenset((Algorithm.ES256, Algorithm.ES384, Algorithm.EDDSA))

_optional = primitives.optional


def without_fast() -> AbstractContextManager[object]:
    """Make keys in the block as if the extra were not installed."""
    return patch.object(primitives, "optional", lambda _: None)


def with_fast(keys: Keys) -> tuple[Key, Key] | None:
    """Return the private and public key with the faster primitives, or None if the algorithm has none."""
    if keys.algorithm not in ALGORITHMS or not all(map(installed, PACKAGES)):
        return None
    with patch.object(primitives, "optional", _optional):
        return Key.from_str(keys.private.to_json()), Key.from_str(keys.public.to_json())
