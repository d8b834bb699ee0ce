"""The auth server in simulated worlds: every promise holds in each of them, and each planted flaw is found."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.simulation.mutants import MUTANTS, Mutant, planted
from tests.simulation.schedules import schedule_of, shrink
from tests.simulation.script import SCRIPTS, broken, from_text, replay, to_text

if TYPE_CHECKING:
    from pathlib import Path

SCHEDULES = 2000
SEARCHED = 4000
"""Schedules within which a planted flaw has to be found."""

scripts = pytest.mark.parametrize("script", sorted(SCRIPTS.glob("*.txt")), ids=lambda path: path.stem)


@pytest.mark.parametrize("part", range(5))
def test_the_promises_hold_in_any_schedule(part: int) -> None:
    for seed in range(part * SCHEDULES // 5, (part + 1) * SCHEDULES // 5):
        schedule = schedule_of(seed)
        if broken(schedule) is not None:
            smallest = shrink(schedule)
            pytest.fail(f"seed {seed}: {broken(smallest)}\n{to_text(smallest)}")


@scripts
def test_the_promises_hold_in_a_kept_script(script: Path) -> None:
    replay(from_text(script.read_text()))


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name.replace(" ", "-"))
def test_a_planted_flaw_is_found(mutant: Mutant) -> None:
    """By its script, which is what shrinking has left of the first schedule that found it, and by a search anew."""
    script = from_text((SCRIPTS / f"{mutant.file}.txt").read_text())
    with planted(mutant):
        assert broken(script) is not None
        seeds = range(SEARCHED)
        assert mutant.is_rare or any(broken(schedule_of(seed, mutant.kind)) is not None for seed in seeds)


def test_each_script_is_of_a_flaw_or_says_what_it_is_for() -> None:
    flaws = {mutant.file for mutant in MUTANTS}
    for path in SCRIPTS.glob("*.txt"):
        assert path.stem in flaws or path.read_text().startswith("#")


def test_a_schedule_is_the_same_each_time() -> None:
    for seed in range(100):
        schedule = schedule_of(seed)
        assert from_text(to_text(schedule)) == schedule == schedule_of(seed)
        runs = [replay(schedule) for _ in range(2)]
        assert runs[0].loop.now == runs[1].loop.now
        assert [relay.ends for relay in runs[0].relays] == [relay.ends for relay in runs[1].relays]


def test_a_failing_schedule_is_shrunk() -> None:
    mutant = next(mutant for mutant in MUTANTS if mutant.name == "a cap admits one too many")
    with planted(mutant):
        schedule = next(schedule for seed in range(SEARCHED) if broken(schedule := schedule_of(seed, mutant.kind)))
        smallest = shrink(schedule)
        assert broken(smallest) is not None
    assert len(smallest) <= min(4, len(schedule))
