"""Spread re-checks over time, so that a restart does not cause a burst of them every minute."""

from __future__ import annotations

import zlib
from typing import Final

MAX_SPREAD: Final = 0.10
"""The largest part of a cadence by which it can be shortened."""


def spread(seconds: int, session_id: str, fraction: float = MAX_SPREAD) -> int:
    """Shorten a number of seconds by up to ``fraction`` of it, by a part that follows from the session id alone.

    Sessions that began together are so re-checked at different times, and the same question gets the same answer. The
    result is at least 1 if ``seconds`` is. A ``fraction`` of 0 changes nothing; raises ``ValueError`` outside 0 to
    0.1. Use it for a cadence or a bound of the policy, never for the expiry of a credential.
    """
    if not 0 <= fraction <= MAX_SPREAD:
        raise ValueError(f"the spread must be between 0 and {MAX_SPREAD}")
    part = zlib.crc32(session_id.encode(errors="surrogatepass")) / 2**32
    return seconds - int(seconds * fraction * part)
