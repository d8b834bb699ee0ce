"""What a run of the benchmark has measured."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benchmarks.measure import Pace, Times
    from benchmarks.tokens import TokenTimes


class Results(NamedTuple):
    """Everything that a run has measured."""

    pace: Pace
    node_versions: Mapping[str, str]
    tokens: TokenTimes
    refusals: Mapping[str, Times]
    permissions: Times
    loading: Times
    threads: Mapping[str, Mapping[str, Times]]
    processes: Times
