"""Keys without and with the compiled core (the extra ``fast``), side by side in one process."""

from __future__ import annotations

from typing import TYPE_CHECKING
from unittest.mock import patch

from moq_token import Key, compiled

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from benchmarks.fixtures import Keys

PACKAGE = compiled.DISTRIBUTION

_core = compiled.core


def without_fast() -> AbstractContextManager[object]:
    """Make keys in the block as if the core were not installed."""
    return patch.object(compiled, "core", lambda: None)


def with_fast(keys: Keys) -> tuple[Key, Key] | None:
    """Return the private and public key with the core, or None if it is not installed."""
    if _core() is None:
        return None
    with patch.object(compiled, "core", _core):
        return Key.from_str(keys.private.to_json()), Key.from_str(keys.public.to_json())
