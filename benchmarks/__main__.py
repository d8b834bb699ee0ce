"""Run the benchmark: ``python -m benchmarks``, at the top of the checkout. ``make bench`` installs what it needs."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from pathlib import Path

from benchmarks.fast import without_fast
from benchmarks.measure import Pace
from benchmarks.node import Node
from benchmarks.processes import race_processes
from benchmarks.report import as_markdown, as_text, describe, targets_as_markdown
from benchmarks.results import Results
from benchmarks.rules import race_loading, race_permissions, race_refusals, race_threads
from benchmarks.tokens import race_tokens


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure this package and others.")
    parser.add_argument("--quick", action="store_true", help="less than a minute, and less exact")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers there")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables there")
    parser.add_argument("--targets", type=Path, metavar="FILE", help="write the table of the targets there")
    arguments = parser.parse_args()
    logging.captureWarnings(capture=True)  # other libraries warn about deprecations, which does not matter here

    with without_fast():
        results = _run(quick=arguments.quick)
    print(as_text(results))
    if arguments.json:
        arguments.json.write_text(json.dumps(describe(results), indent=1) + "\n", encoding="utf-8")
    if arguments.markdown:
        arguments.markdown.write_text(as_markdown(results), encoding="utf-8")
    if arguments.targets:
        arguments.targets.write_text(targets_as_markdown(results), encoding="utf-8")


def _run(*, quick: bool) -> Results:
    pace, thread_pace = (Pace(9, 3), Pace(3, 2, 0.01)) if quick else (Pace(101, 15), Pace(15, 3, 0.04))
    process_pace = Pace(5, 1) if quick else Pace(31, 1)
    with Node() as node:
        tokens = race_tokens(pace, node, _progress)
        versions = node.versions
    _progress("the rest")
    return Results(
        pace,
        versions,
        tokens,
        race_refusals(pace),
        race_permissions(pace),
        race_loading(pace),
        race_threads(thread_pace),
        race_processes(process_pace),
    )


def _progress(what: str) -> None:
    print(f"measuring {what}", file=sys.stderr)


if __name__ == "__main__":
    main()
