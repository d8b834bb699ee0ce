"""Durations as text. What times become in claims is tested with the claims."""

from __future__ import annotations

import pytest

from moq_token.times import parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1s", 1),
        ("0s", 0),
        ("90s", 90),
        ("15m", 900),
        ("1h", 3600),
        ("24h", 86400),
        ("7d", 604800),
        ("2w", 1209600),
        ("1w2d3h4m5s", 788645),
        ("1h30m", 5400),
        ("+1h", 3600),
        ("0001h", 3600),
        ("999999999w", 999999999 * 604800),
    ],
)
def test_valid(text: str, seconds: int) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "+",
            "s",
            "1",
            "60",
            "-1h",
            "1.5h",
            "1,5h",
            "1H",
            "1 h",
            " 1h",
            "1h ",
            "1h\n",
            "1s1m",
            "1h1h",
            "1y",
            "1mo",
        ),
        *("1min", "one hour", "\u0661h", "1\u200bh", "1e3s", "0x1h", "9999999999s", "9" * 100_000, "PT1H"),
    ],
    ids=lambda text: ascii(text[:20]),
)
def test_invalid(text: str) -> None:
    assert parse_duration(text) is None
