"""Convert times that callers pass to Unix seconds, and back."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from moq_token.errors import InvalidClaimsError

MAX_SECONDS = 2**53 - 1
"""The latest time in a token that is read: the largest integer that every JSON reader keeps (RFC 8259, section 6)."""
END_OF_9999 = 253402300799
"""The latest time that callers may pass. A larger number is rather a time in milliseconds, as JavaScript has it."""

_EPOCH, _SECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(seconds=1)
# The digits are bounded so that no number takes long to convert.
_DURATION = r"\+?(?=\d)(?:(\d{1,9})w)?(?:(\d{1,9})d)?(?:(\d{1,9})h)?(?:(\d{1,9})m)?(?:(\d{1,9})s)?"
_UNITS = (7 * 86400, 86400, 3600, 60, 1)


def parse_duration(text: str) -> int | None:
    """Return the seconds of a duration such as ``90s``, ``15m``, ``1h30m``, ``7d`` or ``2w``, or None if it is invalid.

    The units are weeks, days, hours, minutes and seconds, each at most once and in this order. A leading ``+`` is
    ignored. The result is not bounded by the calendar.
    """
    match = re.fullmatch(_DURATION, text, re.ASCII)  # compiled when first used, to keep imports fast
    if match is None:
        return None
    return sum(int(count or 0) * unit for count, unit in zip(match.groups(), _UNITS, strict=True))


def unix_seconds(value: object, name: str, *, relative: bool = False) -> int:
    """Convert an int, an aware datetime or, if ``relative``, a timedelta or a duration from now to Unix seconds.

    Fractions of a second are dropped. Raises ``TypeError`` for other types, and ``InvalidClaimsError`` for a datetime
    without a time zone, an invalid duration, and a time before 1970 or after the year 9999.
    """
    if relative and isinstance(value, str):
        seconds = parse_duration(value)
        if not seconds:
            raise InvalidClaimsError(f'{name} must be a duration with its unit, such as "90s", "15m", "1h" or "7d"')
        value = (datetime.now(UTC) - _EPOCH) // _SECOND + seconds
    elif relative and isinstance(value, timedelta):
        try:
            value = (datetime.now(UTC) - _EPOCH + value) // _SECOND
        except OverflowError:
            value = MAX_SECONDS
    elif isinstance(value, datetime):
        if value.utcoffset() is None:
            raise InvalidClaimsError(f"{name} is a datetime without a time zone: pass tzinfo, such as datetime.UTC")
        value = (value - _EPOCH) // _SECOND
    if not isinstance(value, int) or isinstance(value, bool):
        from_now = 'a timedelta from now, a duration such as "1h", ' if relative else ""
        accepted = f"Unix seconds as an int, an aware datetime, {from_now}or None"
        raise TypeError(f"{name} must be {accepted}, not {type(value).__name__}")
    if value < 0:
        raise InvalidClaimsError(f"{name} must not be before 1970")
    if value > END_OF_9999:
        raise InvalidClaimsError(f"{name} must not be after the year 9999: Unix times are in seconds, not milliseconds")
    return int(value)


def to_datetime(seconds: int | None) -> datetime | None:
    """Convert Unix seconds to an aware datetime in UTC: None stays None, and later times become the end of 9999."""
    if seconds is None:
        return None
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):
        return datetime.max.replace(tzinfo=UTC)
