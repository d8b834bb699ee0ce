"""What the auth server counts, against the library that reads the text format of Prometheus."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from moq_token.contract import Event
from moq_token.server.metrics import _BUCKETS, MAX_NODES, MAX_TIERS, Metrics

if TYPE_CHECKING:
    from collections.abc import Iterator

Sample = tuple[str, tuple[tuple[str, str], ...], float]


def samples(text: bytes) -> Iterator[Sample]:
    """Return the samples of decisions, without the times at which the library made its series."""
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            if sample.name.startswith("moq_token_decision") and not sample.name.endswith("_created"):
                yield sample.name, tuple(sorted(sample.labels.items())), sample.value


def test_decisions_are_counted_as_the_series_of_the_library_count() -> None:
    registry, ours = CollectorRegistry(), Metrics()
    counter = Counter("moq_token_decisions", "x", ("event", "verdict", "reason"), registry=registry)
    histogram = Histogram("moq_token_decision_seconds", "x", ("event",), buckets=_BUCKETS, registry=registry)
    times = (0.0, 0.0001, 0.00011, 0.25, 9.0, 10.0, 10.5)  # on a bound, between two and beyond the last
    for event in (Event.CONNECT, Event.REVALIDATE):
        for seconds in times:
            ours.took(event, seconds)
            histogram.labels(event.value).observe(seconds)
            for verdict, reason, shown in (
                ("granted", "", ""),
                ("refused", "expired", "expired"),
                ("refused", "?", "other"),
            ):
                ours.decided(event, verdict, reason)
                counter.labels(event.value, verdict, shown).inc()
    expected = set(samples(generate_latest(registry)))
    assert len(expected) == 2 * (3 + len(_BUCKETS) + 3)
    assert set(samples(ours.render())) == expected


def test_labels_that_others_choose_have_a_bounded_number_of_values() -> None:
    sessions = [
        SimpleNamespace(place=SimpleNamespace(node=f"n{number}", transport=f"t{number}"), tier=f"r{number}")
        for number in range(MAX_NODES + 10)
    ]
    metrics = Metrics()
    metrics.watch(lambda: sessions)  # type: ignore[arg-type,return-value]
    (family,) = (
        family
        for family in text_string_to_metric_families(metrics.render().decode())
        if family.name == "moq_token_sessions"
    )
    values = {name: {sample.labels[name] for sample in family.samples} for name in ("node", "tier", "transport")}
    assert {name: len(found) for name, found in values.items()} == {
        "node": MAX_NODES + 1,
        "tier": MAX_TIERS + 1,
        "transport": 1,
    }
    assert sum(sample.value for sample in family.samples) == len(sessions)
