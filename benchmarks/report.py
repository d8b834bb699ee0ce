"""Show the results of a run: as JSON, for a terminal, and for the documentation."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import moq_token
from benchmarks import fast
from benchmarks.interpreter import build
from benchmarks.peers import PEERS, installed
from benchmarks.targets import Target, targets
from benchmarks.tokens import FAST, OURS, PRIMITIVE
from moq_token import Algorithm

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from benchmarks.measure import Times
    from benchmarks.results import Results

OPERATIONS = ("sign", "verify")


def describe(results: Results) -> dict[str, Any]:
    """Return the results and the environment as a value for JSON."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": _machine(),
        "rounds": results.pace.rounds,
        "versions": _versions(results),
        "unit_us": _rounded(results.tokens[Algorithm.HS256]["verify"].unit_seconds * 1e6),
        "tokens": {
            algorithm: {operation: _times(times, OURS) for operation, times in operations.items()}
            for algorithm, operations in results.tokens.items()
        },
        "refusals": {algorithm: _times(times, "good") for algorithm, times in results.refusals.items()},
        "permissions": _times(results.permissions),
        "loading": _times(results.loading),
        "two_threads_against_one": {
            name: {
                operation: [_rounded(bound) for bound in times.ratio_range("one", "two")]
                for operation, times in operations.items()
            }
            for name, operations in results.threads.items()
        },
        "processes": _times(results.processes),
        "targets": [{**target._asdict(), "met": target.met} for target in targets(results)],
    }


def _times(times: Times, ours: str | None = None) -> dict[str, dict[str, float]]:
    """Return microseconds and units, and the ratio of ours to each, as medians of rounds."""
    return {
        name: {
            "us": _rounded(times.seconds(name) * 1e6),
            "u": _rounded(times.in_units(name)),
            **({"ratio": _rounded(times.ratio(ours, name))} if ours else {}),
        }
        for name in times.names
    }


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")


def _machine() -> dict[str, object]:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": models[0] if models else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "system": platform.system(),
    }


def _versions(results: Results) -> dict[str, str]:
    return {
        "Python": f"{platform.python_version()} ({build()})",
        OURS: moq_token.__version__,
        **{name: version(name) for name in ("cryptography", "msgspec")},
        **{name: number for name in (fast.PACKAGE, *PEERS) if (number := installed(name))},
        **results.node_versions,
    }


def as_text(results: Results) -> str:
    """Return the tables and targets for a terminal."""
    found = describe(results)
    lines = [_provenance(found), ""]
    for operation in OPERATIONS:
        lines += [f"{operation}, microseconds", *_aligned(_all_algorithms(found, operation)), ""]
    for title, table in _others(found):
        lines += [title, *_aligned(table), ""]
    lines += ["targets", *_aligned(_targets(targets(results)))]
    return "\n".join(lines)


def as_markdown(results: Results) -> str:
    """Return the same tables for the documentation, with a summary first."""
    found = describe(results)
    lines = [
        "Microseconds for one token, sign / verify:",
        "",
        *_piped(_summary(found)),
        "",
        _provenance(found),
    ]
    for operation in OPERATIONS:
        lines += ["", f"All algorithms, {operation}, microseconds:", "", *_piped(_all_algorithms(found, operation))]
    for title, table in _others(found):
        lines += ["", f"{title.capitalize()}:", "", *_piped(table)]
    return "\n".join(lines) + "\n"


def targets_as_markdown(results: Results) -> str:
    """Return the table of the targets, for the page about the benchmarks."""
    return "\n".join([*_piped(_targets(targets(results))), "", _provenance(describe(results)), ""])


def _provenance(found: Mapping[str, Any]) -> str:
    machine, versions = found["machine"], ", ".join(f"{name} {number}" for name, number in found["versions"].items())
    where = f"{machine['processor']}, {machine['cores']} cores, {machine['system']}"
    return f"{found['date']}, {where}. {versions}. Medians of {found['rounds']} rounds; u is {found['unit_us']:.3g} µs."


def _names(tokens: Mapping[str, Any]) -> list[str]:
    found = {name: None for operations in tokens.values() for times in operations.values() for name in times}
    return [name for name in (PRIMITIVE, OURS, FAST) if name in found] + [
        name for name in found if name not in {PRIMITIVE, OURS, FAST}
    ]


def _us(tokens: Mapping[str, Any], algorithm: str, operation: str, name: str) -> str:
    times = tokens[algorithm][operation].get(name)
    return _shown(times["us"]) if times else "-"


def _shown(value: float) -> str:
    """Show three digits, and no exponent."""
    return f"{value:.3g}" if value < 999.5 else f"{value:.0f}"


def _summary(found: Mapping[str, Any]) -> list[list[str]]:
    tokens, algorithms = found["tokens"], ("HS256", "RS256", "ES256", "ES384", "EdDSA")
    return [["", *algorithms]] + [
        [
            name,
            *(
                " / ".join(_us(tokens, algorithm, operation, name) for operation in OPERATIONS)
                for algorithm in algorithms
            ),
        ]
        for name in _names(tokens)
    ]


def _all_algorithms(found: Mapping[str, Any], operation: str) -> list[list[str]]:
    tokens = found["tokens"]
    names = _names(tokens)
    return [["", *names]] + [
        [algorithm, *(_us(tokens, algorithm, operation, name) for name in names)] for algorithm in tokens
    ]


def _others(found: Mapping[str, Any]) -> Iterable[tuple[str, list[list[str]]]]:
    refusals = found["refusals"]
    kinds = list(next(iter(refusals.values())))
    rows = [[algorithm, *(_shown(times[kind]["us"]) for kind in kinds)] for algorithm, times in refusals.items()]
    yield "accepting and refusing, microseconds", [["", *kinds], *rows]
    besides = {**found["permissions"], **{f"load {kind}": times for kind, times in found["loading"].items()}}
    yield "besides, microseconds", [["", "µs"], *([name, _shown(times["us"])] for name, times in besides.items())]
    processes = [[name, f"{times['us'] / 1e3:.3g}"] for name, times in found["processes"].items()]
    yield "whole processes, milliseconds", [["", "ms"], *processes]
    threads = found["two_threads_against_one"]
    rows = [
        [name, *("{:.2f} to {:.2f}".format(*ranges[operation]) for operation in OPERATIONS)]
        for name, ranges in threads.items()
    ]
    yield "two threads against one, times as much done (the middle half of the rounds)", [["", *OPERATIONS], *rows]


def _targets(wanted: Sequence[Target]) -> list[list[str]]:
    """Show the worst case of each target, and how many are missed."""
    rows = [["what", "at most", "worst", "case", "met"]]
    whats = list(dict.fromkeys(target.what for target in wanted))
    groups = {(whats.index(target.what), target.at_most, target.unit) for target in wanted}
    for index, at_most, unit in sorted(groups):
        what, limit = whats[index], f"{at_most:.3g} {unit}"
        cases = [target for target in wanted if (target.what, target.at_most) == (what, at_most)]
        worst = max(cases, key=lambda target: -1.0 if target.value is None else target.value)
        missed = sum(not target.met for target in cases)
        verdict = "met" if not missed else f"NOT MET in {missed} of {len(cases)}"
        if worst.value is None:
            rows.append([what, limit, "-", worst.case, "not measured"])
        else:
            rows.append([what, limit, f"{worst.value:.3g}", worst.case, verdict])
    return rows


def _aligned(table: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in table
    ]


def _piped(table: Sequence[Sequence[str]]) -> list[str]:
    head, *rows = table
    lines = [head, ["---", *("--:" for _ in head[1:])], *rows]
    return [f"| {' | '.join(line)} |" for line in lines]
