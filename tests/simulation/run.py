"""Run many schedules: ``python -m tests.simulation.run 1000000``. Stops at the first that breaks a promise.

A failure is shrunk to the smallest schedule that still fails, which is printed as a script. Kept under a name in
``tests/simulation/scripts``, it is run with the other tests.
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import os
import sys
import time

from tests.simulation.schedules import schedule_of, shrink
from tests.simulation.script import broken, to_text

CHUNK = 250


def run_chunk(first: int) -> int | None:
    """Return the first seed of a chunk whose schedule breaks a promise."""
    try:
        return next((seed for seed in range(first, first + CHUNK) if broken(schedule_of(seed)) is not None), None)
    finally:
        gc.collect()


def begin() -> None:
    """Collect no garbage but between chunks, which takes a tenth less time."""
    gc.disable()
    gc.freeze()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("schedules", type=int, nargs="?", default=1_000_000)
    parser.add_argument("--first", type=int, default=0, metavar="SEED", help="the seed to begin with")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    asked = parser.parse_args()
    started, seconds, done = time.monotonic(), 0.0, 0
    starts = range(asked.first, asked.first + asked.schedules, CHUNK)
    with multiprocessing.Pool(asked.processes, begin) as pool:
        for failed in pool.imap_unordered(run_chunk, starts):
            if failed is not None:
                pool.terminate()
                return _report(failed)
            done += CHUNK
            seconds = time.monotonic() - started
            rate = done / seconds
            left = (len(starts) * CHUNK - done) / rate
            line = f"{done:,} of {len(starts) * CHUNK:,} schedules, {rate:,.0f} per second, {left:,.0f} s left"
            if sys.stderr.isatty():
                print(f"\r{line}\033[K", end="", file=sys.stderr, flush=True)
            elif done % (40 * CHUNK) == 0:
                print(line, file=sys.stderr, flush=True)
    print(f"\n{done:,} schedules in {time.monotonic() - started:,.0f} s: every promise holds")
    return 0


def _report(seed: int) -> int:
    schedule = schedule_of(seed)
    print(f"\nThe schedule of seed {seed} breaks a promise: {broken(schedule)}\nShrinking it ...", flush=True)
    smallest = shrink(schedule)
    print(f"\n# Seed {seed}: {broken(smallest)}\n{to_text(smallest)}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
