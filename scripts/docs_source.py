"""Read what the package can say from its source: the messages of its errors, and the metrics of the auth server."""

from __future__ import annotations

import ast
import re
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import moq_token

if TYPE_CHECKING:
    from collections.abc import Iterator

SOURCE = Path(moq_token.__file__).parent
FAMILIES = {
    "Counter": "counter",
    "CounterMetricFamily": "counter",
    "Histogram": "histogram",
    "HistogramMetricFamily": "histogram",
    "Gauge": "gauge",
    "GaugeMetricFamily": "gauge",
}


class Message(NamedTuple):
    """One message: the exception, its text with ``…`` for what varies, and its reason code if it has one."""

    error: str
    text: str
    reason: str


def messages() -> list[Message]:
    """Return every message that the package raises with one of its own exceptions, or for wrong usage."""
    names = {name for name in moq_token.__all__ if name.endswith("Error")} | {"UsageError"}
    found = {message for path in SOURCE.rglob("*.py") for message in _raised(ast.parse(path.read_text("utf-8")), names)}
    return sorted(found, key=lambda each: (each.error, each.text.lower(), each.reason))


def _raised(tree: ast.AST, names: set[str]) -> Iterator[Message]:
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and node.args):
            continue
        name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
        text = _text(node.args[0])
        if name in names and len(re.findall(r"[a-z]{3,}", text)) > 1:
            reasons = [key.value for key in node.keywords if key.arg == "reason"]
            reason = reasons[0].value if reasons and isinstance(reasons[0], ast.Constant) else ""
            yield Message(name, text, str(reason))


def _text(node: ast.expr) -> str:
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=values):
            return "".join(_text(each) for each in values)
        case ast.BinOp(left=left, right=right):
            return _text(left) + _text(right)
    return "…"


def messages_page(_: str) -> str:
    """Return the messages as lists, one for each exception."""
    parts = []
    for error, group in groupby(messages(), key=lambda message: message.error):
        heading = "Wrong usage of the command line" if error == "UsageError" else error
        link = "" if error == "UsageError" else f"[`{error}`][moq_token.{error}]:\n\n"
        rows = [f"- `` {each.text} ``{f' (reason `{each.reason}`)' if each.reason else ''}" for each in group]
        listed = "\n".join(rows)
        parts.append(f'## {heading}\n\n{link}<div class="messages" markdown="1">\n\n{listed}\n\n</div>\n')
    return "\n".join(parts)


class Family(NamedTuple):
    """One metric, as Prometheus shows it."""

    name: str
    kind: str
    labels: tuple[str, ...]
    help: str


def metrics() -> list[Family]:
    """Return the metrics that the auth server defines."""
    found = []
    for path in sorted((SOURCE / "server").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in FAMILIES):
                continue
            if not (node.args and _text(node.args[0]).startswith("moq_")):
                continue  # collections.Counter
            name, text, *rest = node.args
            rest += [key.value for key in node.keywords if key.arg in {"labels", "labelnames"}]
            labels = ast.literal_eval(rest[0]) if rest else ()
            suffix = "_total" if FAMILIES[node.func.id] == "counter" else ""
            found.append(Family(f"{_text(name)}{suffix}", FAMILIES[node.func.id], tuple(labels), _text(text)))
    return sorted(found)


def metrics_table(_: str) -> str:
    """Return the metrics as a table."""
    rows = ["| metric | type | labels | meaning |", "| --- | --- | --- | --- |"]
    for family in metrics():
        labels = ", ".join(f"`{label}`" for label in family.labels)
        rows.append(f"| `{family.name}` | {family.kind} | {labels} | {family.help} |")
    return "\n".join(rows) + "\n"
