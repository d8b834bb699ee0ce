"""Show the results of ``benchmarks.servers`` as Markdown, with the targets that they meet or miss."""

from __future__ import annotations

import platform
from datetime import UTC, datetime
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.interpreter import build
from benchmarks.peers import installed
from moq_token import Algorithm

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from benchmarks.servers import Load

OURS, REFERENCE = "ours", "moq auth serve"
_RATES = {Algorithm.HS256: 1.4, Algorithm.EDDSA: 0.85}
_BUSY_CONNECTIONS = 16
_MANY_SESSIONS, _MAX_MEBIBYTES = 100_000, 150
_PACKAGES = ("moq-token", "moq-token-core", "uvloop", "httptools", "msgspec", "uvicorn")


class Row(NamedTuple):
    """What one server did in one case. ``memory`` is in MiB."""

    algorithm: Algorithm
    sessions: int
    connections: int
    label: str
    load: Load
    memory: float


def as_markdown(rows: Sequence[Row]) -> str:
    """Return the table of all rows and the table of the targets."""
    versions = ", ".join(f"{name} {version}" for name in _PACKAGES if (version := installed(name)))
    lines = [
        "| algorithm | sessions | connections | server | requests/s | ratio | p99, ms | CPU, µs | memory, MiB |",
        "| --- | --: | --: | --- | --: | --: | --: | --: | --: |",
    ]
    for servers in _cases(rows):
        reference = servers.get(REFERENCE)
        for label, row in servers.items():
            ratio = "" if reference is None else f"{row.load.rate / reference.load.rate:.2f}"
            lines.append(
                f"| {row.algorithm} | {row.sessions:,} | {row.connections} | {label} | {row.load.rate:,.0f} | {ratio} "
                f"| {row.load.p99 / 1e3:.1f} | {row.load.cpu:.0f} | {row.memory:.0f} |"
            )
    lines += ["", "| target | case | measured | met |", "| --- | --- | --: | --: |", *_targets(rows)]
    made = f"{datetime.now(UTC).date()}. Python {platform.python_version()} ({build()}), {versions}."
    return "\n".join([made, "", *lines, ""])


def _cases(rows: Sequence[Row]) -> Iterator[Mapping[str, Row]]:
    for _, servers in groupby(rows, lambda row: row[:3]):
        yield {row.label: row for row in servers}


def _targets(rows: Sequence[Row]) -> Iterator[str]:
    for servers in _cases(rows):
        ours, reference = servers[OURS], servers.get(REFERENCE)
        case = f"{ours.algorithm}, {ours.sessions:,} sessions, {ours.connections} connections"
        if reference is not None and ours.connections >= _BUSY_CONNECTIONS:
            at_least, ratio = _RATES[ours.algorithm], ours.load.rate / reference.load.rate
            yield _target(f"at least {at_least} times the requests", case, f"{ratio:.2f}", met=ratio >= at_least)
            if ours.algorithm is Algorithm.HS256:
                p99s = f"{ours.load.p99 / 1e3:.1f} ms, {reference.load.p99 / 1e3:.1f} ms"
                yield _target("p99 no worse", case, p99s, met=ours.load.p99 <= reference.load.p99)
        if ours.sessions == _MANY_SESSIONS:
            memory = f"{ours.memory:.0f} MiB"
            yield _target(f"at most {_MAX_MEBIBYTES} MiB", case, memory, met=ours.memory <= _MAX_MEBIBYTES)


def _target(what: str, case: str, measured: str, *, met: bool) -> str:
    return f"| {what} | {case} | {measured} | {'met' if met else 'NOT MET'} |"
