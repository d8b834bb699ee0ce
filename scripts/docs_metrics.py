"""List the metrics that the source of the auth server defines."""

from __future__ import annotations

import ast
from typing import NamedTuple

from scripts.docs_messages import Place, called, calls, modules, texts

FAMILIES = {
    "Counter": "counter",
    "CounterMetricFamily": "counter",
    "Histogram": "histogram",
    "HistogramMetricFamily": "histogram",
    "Gauge": "gauge",
    "GaugeMetricFamily": "gauge",
}


class Family(NamedTuple):
    """One metric, as Prometheus shows it."""

    name: str
    kind: str
    labels: tuple[str, ...]
    help: str


def metrics() -> list[Family]:
    """Return the metrics that the auth server defines."""
    found = []
    for module in modules():
        for function, call in calls(module):
            if called(call) not in FAMILIES:
                continue
            place = Place(module, function)
            if not (call.args and texts(call.args[0], place)[0].startswith("moq_")):
                continue  # collections.Counter
            name, help_text, *rest = call.args
            rest += [key.value for key in call.keywords if key.arg in {"labels", "labelnames"}]
            labels = ast.literal_eval(rest[0]) if rest else ()
            kind = FAMILIES[called(call)]
            suffix = "_total" if kind == "counter" else ""
            found.append(Family(f"{texts(name, place)[0]}{suffix}", kind, tuple(labels), texts(help_text, place)[0]))
    return sorted(found)


def metrics_table(_: str) -> str:
    """Return the metrics as a table of two columns, which fits on a phone."""
    rows = ["| metric | meaning |", "| --- | --- |"]
    for family in metrics():
        by = f" by {', '.join(f'`{label}`' for label in family.labels)}" if family.labels else ""
        rows.append(f"| `{family.name}` | {family.help} {family.kind.capitalize()}{by}. |")
    return "\n".join(rows) + "\n"
