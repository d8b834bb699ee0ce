"""The two generations of relays, which read different tokens: those before 0.15, and those from 0.15 on."""

from __future__ import annotations

import re
from enum import StrEnum

_VERSION = r"(?a)[vV]?(\d{1,4})\.(\d{1,4})(\.\d{1,4})?"  # compiled when first used, to keep imports fast
_FIRST_OF_SECOND = (0, 15)


class Generation(StrEnum):
    """A generation of relays. The value is its name in messages."""

    FIRST = "relays before 0.15"
    """Read path prefixes (``put``, ``get``), ignore unknown claims, and decide by themselves."""
    SECOND = "relays from 0.15 on"
    """Read path prefixes and patterns (``publish``, ``subscribe``), refuse unknown claims, and ask an auth server."""


def generation_of(version: str) -> Generation:
    """Return the generation of a version of moq-relay such as ``0.14``, ``0.17.10`` or ``v0.15``.

    Raises ``ValueError`` for any other text.
    """
    match = re.fullmatch(_VERSION, version)
    if match is None:
        raise ValueError("expected a version of moq-relay, such as 0.14 or 0.17.10")
    return Generation.FIRST if (int(match[1]), int(match[2])) < _FIRST_OF_SECOND else Generation.SECOND
