"""Times as people write and read them."""

from __future__ import annotations

import re
import time

import click

# The digits are bounded so that no number is too long to be turned into one.
_UNIX = re.compile(r"\+?(\d{1,18})", re.ASCII)
_DURATION = re.compile(
    r"\+?(?=\d)(?:(\d{1,9})w)?(?:(\d{1,9})d)?(?:(\d{1,9})h)?(?:(\d{1,9})m)?(?:(\d{1,9})s)?", re.ASCII
)
_DATE = re.compile(r"\d{4}-\d\d-\d\d([Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d))?", re.ASCII)
_UNITS = (7 * 86400, 86400, 3600, 60, 1)
_YEAR_10000 = 253402300800
# Before this, a number is rather a duration without its unit.
_YEAR_2001 = 10**9

# No number beyond this is a time, whoever wrote it.
FAR = 2**53

_MOMENT = "a Unix timestamp such as 1798761600, a date such as 2026-12-31T23:59:59Z"


def expiry(text: str, now: float, *, allow_past: bool = False) -> int | None:
    """Read the value of ``--expires`` as Unix seconds; None is never.

    It is a Unix timestamp, a duration from now, an RFC 3339 date (its first second, UTC, where it has no time), or
    ``never``. Raises :class:`click.UsageError` for anything else, and for the past unless that is allowed.
    """
    if text.casefold() == "never":
        return None
    seconds = _duration(text, now)
    if seconds is None:
        seconds = _moment(text)
    if seconds is None:
        raise click.UsageError(f"--expires must be a duration such as 90s, 15m, 1h or 7d, {_MOMENT}, or never")
    if seconds >= _YEAR_10000:
        raise click.UsageError("--expires lies beyond the year 9999: a Unix timestamp counts seconds, not milliseconds")
    if seconds <= now and not allow_past:
        hint = "write a duration with its unit, such as 1h" if seconds < _YEAR_2001 else "--allow-past signs it anyway"
        raise click.UsageError(f"--expires {utc(seconds)} is in the past, and the token would be refused: {hint}")
    return seconds


def issue(text: str, now: float) -> int:
    """Read the value of ``--issued``: a Unix timestamp, an RFC 3339 date, or ``now``."""
    seconds = int(now) if text.casefold() == "now" else _moment(text)
    if seconds is None:
        raise click.UsageError(f"--issued must be {_MOMENT}, or now")
    if seconds >= _YEAR_10000:
        raise click.UsageError("--issued lies beyond the year 9999: a Unix timestamp counts seconds, not milliseconds")
    return seconds


def duration(text: str, option: str) -> int:
    """Read a duration such as ``24h`` as seconds. Raises :class:`click.UsageError`."""
    seconds = _duration(text, 0)
    if seconds is None:
        raise click.UsageError(f"{option} must be a duration such as 90s, 15m, 24h or 7d")
    if seconds >= _YEAR_10000:
        raise click.UsageError(f"{option} is longer than any key lives: it ends beyond the year 9999")
    return seconds


def utc(seconds: int) -> str:
    """Write Unix seconds as a date (RFC 3339)."""
    try:
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
    except (OverflowError, OSError, ValueError):
        return f"{seconds} s after 1970"


def span(seconds: float) -> str:
    """Write how long something takes, in the largest unit of which there are at least two."""
    seconds = int(abs(seconds))
    for size, unit in ((365 * 86400, " years"), (86400, " days"), (3600, " h"), (60, " min")):
        if seconds >= 2 * size:
            return f"{seconds // size}{unit}"
    return f"{seconds} s"


def when(seconds: int, now: float, future: str, past: str) -> str:
    """Write when something happens or happened: ``expires in 54 min (2026-…)``, ``expired 3 days ago (2026-…)``."""
    words = f"{future} in {span(seconds - now)}" if seconds > now else f"{past} {span(now - seconds)} ago"
    return f"{words} ({utc(seconds)})"


def _duration(text: str, now: float) -> int | None:
    match = _DURATION.fullmatch(text)
    if match is None:
        return None
    return int(now) + sum(int(count or 0) * unit for count, unit in zip(match.groups(), _UNITS, strict=True))


def _moment(text: str) -> int | None:
    if match := _UNIX.fullmatch(text):
        return int(match[1])
    if not _DATE.fullmatch(text):
        return None
    from datetime import UTC, datetime

    try:
        date = datetime.fromisoformat(text.upper())
        return int((date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() // 1)
    except (ValueError, OverflowError):
        return None
