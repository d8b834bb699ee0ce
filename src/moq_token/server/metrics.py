"""What the auth server counts, for Prometheus. Labels are from small fixed sets: never a path, subject or address."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from itertools import accumulate
from operator import attrgetter
from typing import TYPE_CHECKING, get_args

from moq_token.errors import ConfigError, Reason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from prometheus_client.core import Metric

    from moq_token.contract import Event
    from moq_token.server.session import Session

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

# A policy of its own can have any reason, and a label must have few values.
_REASONS = frozenset(("", "unavailable", *get_args(Reason)))
# A decision that waits for nothing takes some tens of microseconds; a relay gives up after 10 s.
_BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1.0, 5.0, 10.0)
_REVOKE_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_KNOWN_TRANSPORTS = frozenset(("quic", "webtransport", "iroh", "websocket", "tcp", "unix", "http"))
_SERIES = attrgetter("place.node", "place.transport", "tier")
MAX_NODES, MAX_TIERS = 1000, 100
"""Nodes and tiers with a series of their own. The sessions of further ones are counted under ``other``."""


class Metrics:
    """Counts decisions, and the live sessions of a server. Needs the extra ``metrics`` (``ConfigError``)."""

    def __init__(self) -> None:
        try:
            import prometheus_client
        except ImportError:
            raise ConfigError('metrics need the extra `metrics`: pip install "moq-token[metrics]"') from None
        self._registry = prometheus_client.CollectorRegistry(auto_describe=True)
        self._decisions = _Decisions()
        self._registry.register(self._decisions)
        self._ends = prometheus_client.Counter(
            "moq_token_session_ends", "Sessions whose end a relay reported.", registry=self._registry
        )
        self._lost = prometheus_client.Counter(
            "moq_token_sessions_lost", "Sessions that were not seen again, and had no end.", registry=self._registry
        )

        self._revoked = prometheus_client.Histogram(
            "moq_token_revoke_seconds",
            "From a ban or kick to the end of each of its sessions.",
            buckets=_REVOKE_BUCKETS,
            registry=self._registry,
        )

    def watch(self, live: Callable[[], Iterable[Session]]) -> None:
        """Show the sessions that ``live`` returns, which is called for each ``render()``."""
        self._registry.register(_Live(live))

    def watch_denials(self, count: Callable[[], int]) -> None:
        """Show how many denials are in force, which ``count`` says."""
        from prometheus_client import Gauge

        Gauge("moq_token_denials", "Denials in force.", registry=self._registry).set_function(count)

    def watch_share(self, is_up: Callable[[], bool], alone: Callable[[], int]) -> None:
        """Show whether the share can be reached, and how many new sessions were decided about without it."""
        from prometheus_client import Gauge

        text = "Whether the store of the share can be reached: 1 or 0."
        Gauge("moq_token_share_up", text, registry=self._registry).set_function(is_up)
        self._registry.register(_Alone(alone))

    def revoked(self, seconds: float) -> None:
        """Note how long a session took to end after it was denied."""
        self._revoked.observe(seconds)

    def decided(self, event: Event, verdict: str, reason: str) -> None:
        """Count a decision: ``granted``, ``refused`` or ``unavailable``. Reasons of an own policy become ``other``."""
        self._decisions.counts[event.value, verdict, reason if reason in _REASONS else "other"] += 1

    def took(self, event: Event, seconds: float) -> None:
        """Note how long a decision took."""
        self._decisions.took(event.value, seconds)

    def ended(self) -> None:
        """Count the end of a session."""
        self._ends.inc()

    def lost(self) -> None:
        """Count a session that was lost."""
        self._lost.inc()

    def render(self) -> bytes:
        """Write everything in the text format of Prometheus."""
        from prometheus_client import generate_latest

        text: bytes = generate_latest(self._registry)
        return text


class _Decisions:
    """Decisions and their times, in plain numbers: the series of the library take a lock for each."""

    def __init__(self) -> None:
        self.counts: defaultdict[tuple[str, str, str], int] = defaultdict(int)
        self._sums: defaultdict[str, float] = defaultdict(float)
        self._buckets: defaultdict[str, list[int]] = defaultdict(lambda: [0] * (len(_BUCKETS) + 1))

    def took(self, event: str, seconds: float) -> None:
        """Count a time in its bucket, whose bound it does not exceed."""
        self._sums[event] += seconds
        self._buckets[event][bisect_left(_BUCKETS, seconds)] += 1

    def describe(self) -> Iterable[Metric]:
        """Count nothing when the registry only asks for the names."""
        return ()

    def collect(self) -> Iterator[Metric]:
        from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily

        counts = CounterMetricFamily(
            "moq_token_decisions",
            "Decisions about sessions, by event, verdict and reason.",
            labels=("event", "verdict", "reason"),
        )
        for labels, count in self.counts.items():
            counts.add_metric(labels, count)
        yield counts
        times = HistogramMetricFamily("moq_token_decision_seconds", "How long decisions took.", labels=("event",))
        for event, buckets in self._buckets.items():
            bounds = (*map(str, _BUCKETS), "+Inf")
            times.add_metric((event,), list(zip(bounds, accumulate(buckets), strict=True)), sum_value=self._sums[event])
        yield times


class _Live:
    """The live sessions, counted at each scrape."""

    def __init__(self, live: Callable[[], Iterable[Session]]) -> None:
        self._live = live

    def describe(self) -> Iterable[Metric]:
        """Count nothing when the registry only asks for the names."""
        return ()

    def collect(self) -> Iterator[Metric]:
        from prometheus_client.core import GaugeMetricFamily

        counts: Counter[tuple[str, str, str]] = Counter()
        nodes: set[str] = set()
        tiers: set[str] = set()
        # Counted without a step in Python for each session: there can be very many.
        for (node, transport, tier), count in Counter(map(_SERIES, self._live())).items():
            known = transport if transport in _KNOWN_TRANSPORTS else "other"
            counts[_among(nodes, node, MAX_NODES), known, _among(tiers, tier or "", MAX_TIERS)] += count
        gauge = GaugeMetricFamily(
            "moq_token_sessions", "Live sessions, by node, transport and tier.", labels=("node", "transport", "tier")
        )
        for labels, count in counts.items():
            gauge.add_metric(labels, count)
        yield gauge


class _Alone:
    """The decisions without the store of the share, which the share counts itself."""

    def __init__(self, count: Callable[[], int]) -> None:
        self._count = count

    def describe(self) -> Iterable[Metric]:
        """Count nothing when the registry only asks for the names."""
        return ()

    def collect(self) -> Iterator[Metric]:
        from prometheus_client.core import CounterMetricFamily

        text = "Decisions about new sessions without the store."
        yield CounterMetricFamily("moq_token_share_alone", text, value=self._count())


def _among(known: set[str], value: str, limit: int) -> str:
    """Return the value of a label: itself, or ``other`` if ``limit`` others are known already."""
    if value not in known and len(known) >= limit:
        return "other"
    known.add(value)
    return value
