"""Durations as the flags of the originals have them."""

from __future__ import annotations

import re

from moq_token.errors import shown
from moq_token.times import END_OF_9999

_UNITS = {
    name: seconds
    for seconds, names in (
        (1e-9, "nanos nsec ns"),
        (1e-6, "micros usec us µs"),
        (1e-3, "millis msec ms"),
        (1, "seconds second secs sec s"),
        (60, "minutes minute mins min m"),
        (3600, "hours hour hrs hr h"),
        (86400, "days day d"),
        (7 * 86400, "weeks week wks wk w"),
        (2_630_016, "months month M"),  # 30.44 days
        (31_557_600, "years year yrs yr y"),  # 365.25 days
    )
    for name in names.split()
}
_MAX_UNIT_CHARACTERS = 12
# The digits are bounded so that no number takes long to convert.
_PART = re.compile(r"\s*(\d{1,15}(?:\.\d{1,9})?)\s*([a-zA-Zµ]+)", re.ASCII)


def parse_humantime(text: str) -> float:
    """Return the seconds of a duration such as ``90s``, ``1h 30m``, ``1.5h``, ``500ms``, ``1d`` or ``0``.

    The grammar is that of the originals (the crate ``humantime``): numbers with their units, which add up. Raises
    ``ValueError``.
    """
    if text == "0":
        return 0.0
    example = "such as 90s, 15m, 1h30m or 1d"
    if re.fullmatch(r"\s*\d+(\.\d+)?\s*", text, re.ASCII):
        raise ValueError(f"the unit is missing: expected a duration {example}")
    total, position = 0.0, 0
    bare = text.rstrip()
    while position < len(bare) or position == 0:
        match = _PART.match(bare, position)
        if match is None or match[2] not in _UNITS:
            # A longer word may be part of a secret that was given in the wrong place.
            unit = f": unknown unit {shown(match[2])}" if match and len(match[2]) <= _MAX_UNIT_CHARACTERS else ""
            raise ValueError(f"expected a duration {example}{unit}")
        total += float(match[1]) * _UNITS[match[2]]
        position = match.end()
    if total >= END_OF_9999:
        raise ValueError("the duration is too long: it must end before the year 10000")
    return total
