"""Times as people write and read them."""

from __future__ import annotations

import re

import click

from moq_token.errors import utc
from moq_token.times import END_OF_9999, parse_duration

_SHOWN_CHARACTERS = 40
# The number of digits is bounded, so that every match converts to an int.
# Patterns are compiled when first used: most commands need none of them.
_UNIX = r"(?a)\+?(\d{1,18})"
_DATE = r"(?a)\d{4}-\d\d-\d\d([Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d))?"
# A smaller number, a moment before September 2001, is more likely a duration without its unit.
_FIRST_TIMESTAMP = 10**9

# No larger number in a token is a time.
FAR = 2**53

_MOMENT = "a Unix timestamp such as 1798761600, a date such as 2026-12-31T23:59:59Z"
_CLOCK = r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d"
# Values that are almost a date or a duration, and what is missing from them.
_NEARLY = (
    (rf"{_CLOCK}(:\d\d([.,]\d+)?)?", "the time zone is missing: add Z for UTC, or an offset such as +01:00"),
    (
        rf"{_CLOCK}(:\d\d([.,]\d+)?)? ?[+-]\d\d(\d\d)?",
        "the time zone must have hours, a colon and minutes, such as +01:00",
    ),
    (
        rf"{_CLOCK}(:\d\d([.,]\d+)?)? +([A-Za-z]+|[+-]\d\d:\d\d)",
        "the time zone must be Z for UTC, or an offset such as +01:00, without a space in front",
    ),
    (
        rf"{_CLOCK}([Zz]|[+-]\d\d:\d\d)",
        "the seconds are missing: write the time as 12:00:00",
    ),
    (r"\d{8}T\d{6}.*", "write the date with dashes and colons, such as 2026-12-31T23:59:59Z"),
    (r"-(\d+[wdhms])+", "a duration must not be negative"),
    (
        r"\d+([.,]\d+)? *(weeks?|days?|hours?|hrs?|minutes?|mins?|seconds?|secs?|[wdhmsWDHMS])",
        "a duration is a whole number and a unit out of w, d, h, m and s, without a space: 90s, 15m, 1h, 7d",
    ),
)


def expiry(text: str, now: float) -> int | None:
    """Read the value of ``--expires`` as Unix seconds; None is never.

    It is a Unix timestamp, a duration from now, an RFC 3339 date (00:00:00 UTC where it has no time), or ``never``. A
    timestamp and a date may be in the past. Raises ``click.UsageError`` for anything else.
    """
    if text.casefold() == "never":
        return None
    seconds = _duration(text, now)
    if seconds is not None and seconds <= now:
        raise click.UsageError("--expires must be later than now: a duration must be at least 1s")
    return _later(text, now, "--expires", "or never")


def start(text: str, now: float) -> int:
    """Read the value of ``--not-before`` as Unix seconds.

    It is a Unix timestamp, a duration from now, an RFC 3339 date (00:00:00 UTC where it has no time), or ``now``.
    Raises ``click.UsageError`` for anything else.
    """
    return int(now) if text.casefold() == "now" else _later(text, now, "--not-before", "or now")


def dated(text: str) -> str:
    """Write a Unix timestamp as the date that it is, and leave every other text as it is.

    So a small timestamp is not taken for a duration without its unit.
    """
    match = re.fullmatch(_UNIX, text)
    return text if match is None or int(match[1]) >= _FIRST_TIMESTAMP else utc(int(match[1])).replace(" UTC", "Z")


def issue(text: str, now: float, option: str = "--issued") -> int:
    """Read the value of ``--issued`` or another option: a Unix timestamp, an RFC 3339 date, or ``now``."""
    seconds = int(now) if text.casefold() == "now" else _moment(text)
    if seconds is None:
        raise click.UsageError(_nearly(text, option) or f"{option} must be {_MOMENT}, or now")
    _check_range(seconds, option)
    return seconds


def duration(text: str, option: str) -> int:
    """Read a duration such as ``24h`` as seconds. Raises ``click.UsageError``."""
    seconds = _duration(text, 0)
    if seconds is None:
        raise click.UsageError(_nearly(text, option) or f"{option} must be a duration such as 90s, 15m, 24h or 7d")
    if seconds > END_OF_9999:
        raise click.UsageError(f"{option} is too long: it ends after the year 9999")
    return seconds


def span(seconds: float) -> str:
    """Format a duration, rounded, in the largest unit with a count of two or more.

    A minute and an hour are written as such: ``1 min`` and ``1 h``, and not ``60 s`` and ``60 min``.
    """
    exact = abs(seconds)
    seconds, minutes, hours, days, years = (int(exact / size + 0.5) for size in (1, 60, 3600, 86400, 365 * 86400))
    for count, unit, smaller, least in (
        (years, "years", days, 2 * 365),
        (days, "days", hours, 2 * 24),
        (hours, "h", minutes, 2 * 60),
        (minutes, "min", seconds, 2 * 60),
    ):
        if smaller >= least or (smaller == 60 and count == 1):  # noqa: PLR2004 - of a minute and of an hour
            return f"{count} {unit}"
    return f"{seconds} s"


def when(seconds: int, now: float, future: str, past: str) -> str:
    """Format a moment, with the time until then or since then.

    That is ``expires in 54 min, at 2027-03-08 10:00:31 UTC`` or ``expired 3 days ago, at 2027-03-05 10:00:31 UTC``.
    """
    words = f"{future} in {span(seconds - now)}" if seconds > now else f"{past} {span(now - seconds)} ago"
    return f"{words}, at {utc(seconds)}"


def _later(text: str, now: float, option: str, otherwise: str) -> int:
    """Read a duration from now or a moment, which is usually later than now."""
    seconds = _duration(text, now)
    if seconds is None:
        seconds = _moment(text)
    if seconds is None:
        forms = f"a duration such as 90s, 15m, 1h or 7d, {_MOMENT}, {otherwise}"
        raise click.UsageError(_nearly(text, option) or f"{option} must be {forms}")
    if re.fullmatch(_UNIX, text) and seconds < _FIRST_TIMESTAMP:
        raise click.UsageError(
            f"{option} {text} is a Unix timestamp, {utc(seconds)}: for a duration add the unit, such as 3600s or 1h"
        )
    _check_range(seconds, option)
    return seconds


def _nearly(text: str, option: str) -> str | None:
    """Return what is missing from a value that is almost a time, or None."""
    for pattern, advice in _NEARLY:
        if re.fullmatch(pattern, text, re.ASCII):
            return f"{option} {text[:_SHOWN_CHARACTERS]!r}: {advice}"
    return None


def _check_range(seconds: int, option: str) -> None:
    if seconds < 0:
        raise click.UsageError(f"{option} must be in 1970 or later")
    if seconds > END_OF_9999:
        raise click.UsageError(f"{option} is after the year 9999: a Unix timestamp is in seconds, not in milliseconds")


def _duration(text: str, now: float) -> int | None:
    seconds = parse_duration(text)
    return None if seconds is None else int(now) + seconds


def _moment(text: str) -> int | None:
    if match := re.fullmatch(_UNIX, text):
        return int(match[1])
    if not re.fullmatch(_DATE, text):
        return None
    from datetime import UTC, datetime

    try:
        date = datetime.fromisoformat(text.upper())
        return int((date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() // 1)
    except (ValueError, OverflowError):
        return None
