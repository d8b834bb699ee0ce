"""Write the scripts of planted flaws that have none: ``python -m tests.simulation.keep``."""

from __future__ import annotations

from tests.simulation.mutants import MUTANTS, planted
from tests.simulation.schedules import schedule_of, shrink
from tests.simulation.script import SCRIPTS, broken, to_text


def main() -> None:
    for mutant in MUTANTS:
        path = SCRIPTS / f"{mutant.file}.txt"
        if path.exists():
            continue
        with planted(mutant):
            smallest = shrink(
                next(schedule for seed in range(100_000) if broken(schedule := schedule_of(seed, mutant.kind)))
            )
            promise = (broken(smallest) or "").partition(":")[0]
        path.write_text(f"# If {mutant.name}: {promise}.\n{to_text(smallest)}")
        print(path.name, len(smallest))


if __name__ == "__main__":
    main()
