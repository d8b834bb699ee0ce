"""Draw how long verifying one token takes, from the committed results of the benchmark."""

from __future__ import annotations

import re
from pathlib import Path

from scripts.pictures.svg import box, picture, text

RESULTS = Path(__file__).parents[2] / "docs" / "performance-results.md"
ALGORITHMS = ("HS256", "ES256", "EdDSA")
OURS = ("moq-token[fast]", "moq-token")
OTHERS = ("ryjwt", "PyJWT", "joserfc", "Authlib", "python-jose", "@moq/token")
WIDTH, LEFT, ROW, LONGEST = 352, 118, 22, 174


def results() -> dict[str, dict[str, float]]:
    """Return microseconds to verify one token, by algorithm and library, from the first table of the results."""
    table = re.search(r"^\|.*?\n\n", RESULTS.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    if table is None:
        raise ValueError(f"{RESULTS}: no table")
    head, _, *rows = [[cell.strip() for cell in line.strip("| ").split("|")] for line in table[0].strip().split("\n")]
    found: dict[str, dict[str, float]] = {algorithm: {} for algorithm in ALGORITHMS}
    for name, *cells in rows:
        for algorithm, cell in zip(head[-len(cells) :], cells, strict=True):
            verify = cell.partition("/")[2].strip()
            if algorithm in found and verify != "-":
                found[algorithm][name] = float(verify)
    return found


def figure() -> str:
    """Return the figure as SVG."""
    y, parts = 24, []
    for algorithm, times in results().items():
        shown = {name: times[name] for name in (*OURS, *OTHERS) if name in times}
        parts.append(text(8, y, f"verify {algorithm}", "head"))
        y += 10
        for name, microseconds in shown.items():
            length = microseconds / max(shown.values()) * LONGEST
            parts += [
                text(LEFT - 8, y + 14, name, f"small end{' head' if name in OURS else ''}"),
                box(LEFT, y + 2, length, ROW - 6, "both" if name in OURS else "watch"),
                text(LEFT + length + 8, y + 14, f"{microseconds:.3g} µs", "small"),
            ]
            y += ROW
        y += 32
    return picture("bars", "Microseconds to verify one token, by library: shorter is better", WIDTH, y - 26, parts)
