"""Check and convert what callers pass for paths and times."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from moq_token.errors import InvalidClaimsError

# The largest integer that every JSON reader keeps exactly (RFC 8259, section 6), as a time far beyond any calendar.
MAX_TIME = 2**53 - 1
_EPOCH, _SECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(seconds=1)


def tuple_of_paths(value: object, name: str) -> tuple[str, ...]:
    """Return the paths of one role as a tuple; that they are text is checked by :func:`check_unicode`."""
    if isinstance(value, str):
        return (value,)
    if isinstance(value, bytes):
        raise TypeError(f"{name} must be a str or an iterable of str, not bytes")
    try:
        return tuple(value)  # type: ignore[arg-type]  # that its items are str is checked with the others
    except TypeError:
        raise TypeError(f"{name} must be a str or an iterable of str, not {type(value).__name__}") from None


def check_unicode(*texts: str) -> None:
    """Raise :class:`TypeError` for anything but text, :class:`InvalidClaimsError` for text that UTF-8 cannot carry."""
    try:
        "".join(texts).encode()
    except TypeError:
        raise not_paths() from None
    except UnicodeEncodeError:
        raise InvalidClaimsError("a path has a lone surrogate, which UTF-8 cannot carry") from None


def not_paths() -> TypeError:
    """Return the error for paths of the wrong type."""
    return TypeError("root must be a str, publish and subscribe must hold str only")


def plain_text(text: object) -> str:
    """Turn an instance of a subclass of ``str``, which msgspec does not know, into a plain one."""
    if not isinstance(text, str):
        raise TypeError(f"a path must be a str, not {type(text).__name__}")
    return "".join(text)


def unix_seconds(value: object, name: str) -> int:
    """Convert a time to Unix seconds."""
    if isinstance(value, timedelta) and name == "expires":
        try:
            value = (datetime.now(UTC) - _EPOCH + value) // _SECOND
        except OverflowError:
            value = -1
    elif isinstance(value, datetime):
        if value.utcoffset() is None:
            raise InvalidClaimsError(f"{name} is a datetime without a time zone: say which, for example datetime.UTC")
        value = (value - _EPOCH) // _SECOND
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be int Unix seconds or a datetime, not {type(value).__name__}")
    if not 0 <= value <= MAX_TIME:
        raise InvalidClaimsError(f"{name} must be Unix seconds from 0 to 2**53 - 1")
    return int(value)


def to_datetime(seconds: int | None) -> datetime | None:
    """Convert Unix seconds to an aware datetime in UTC, the end of the calendar where they lie beyond."""
    if seconds is None:
        return None
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):
        return datetime.max.replace(tzinfo=UTC)
