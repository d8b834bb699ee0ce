"""The evaluation of the benchmark's measurements. To test the measuring itself, run the benchmark."""

from collections.abc import Sequence
from typing import Any

import pytest

from benchmarks.instructions import compare, differing, less_bare
from benchmarks.measure import Contender, Pace, Times, race


def test_more_than_a_tenth_more_instructions_fail() -> None:
    assert compare({"sign": 1100, "verify": 1101}, {"sign": 1000, "verify": 1000}) == ["verify"]


def test_fewer_instructions_do_not_fail() -> None:
    assert compare({"sign": 500}, {"sign": 1000}) == []


def test_an_operation_without_a_baseline_fails_and_so_does_a_baseline_without_its_operation() -> None:
    assert compare({"sign": 1}, {"verify": 1}) == ["sign", "verify"]


def test_counts_are_shown_beside_the_baseline(capsys: pytest.CaptureFixture[str]) -> None:
    compare({"sign": 1500}, {"sign": 1000})
    assert capsys.readouterr().out.splitlines()[-1].split() == ["sign", "1000", "1500", "1.500"]


def test_a_primitive_is_taken_off_the_operation_that_contains_it() -> None:
    counted = {"ES256 sign": 50, "bare ES256 sign": 40, "authorize": 7}
    assert less_bare(counted) == {"ES256 sign, over the primitive": 10, "authorize": 7}


def test_environments_differ_by_name() -> None:
    assert differing({"build": "a", "msgspec": "1"}, {"build": "a"}) == {"msgspec": "msgspec is 1, was None"}


def test_times_are_medians_of_rounds_and_ratios_are_taken_within_rounds() -> None:
    rounds = [{"ours": 1.0, "theirs": 2.0}, {"ours": 10.0, "theirs": 30.0}, {"ours": 2.0, "theirs": 8.0}]
    times = Times(rounds, [0.5, 5.0, 1.0])
    assert times.seconds("ours") == 2.0
    assert times.ratio("ours", "theirs") == pytest.approx(1 / 3)
    assert times.in_units("theirs") == 6.0
    assert times.excess("theirs", "ours") == 4.0


def test_a_race_gives_all_contenders_the_same_fresh_items_and_another_one_the_start() -> None:
    served: list[list[int]] = []
    seen: dict[str, list[list[int]]] = {"a": [], "b": []}
    order: list[str] = []

    def fresh(amount: int) -> list[int]:
        served.append([len(served)] * amount)
        return served[-1]

    def contender(name: str) -> Contender:
        def run(items: Sequence[Any]) -> float:
            order.append(name)
            seen[name].append(list(items))
            return 0.001

        return run

    race({"a": contender("a"), "b": contender("b")}, fresh, Pace(rounds=2, warm_up_rounds=0, slice_seconds=0.001))
    assert seen["a"] == seen["b"] == served
    assert order == ["a", "b", "b", "a"]
