"""Schedules as text, and their runs.

A schedule is a list of steps, each a line of text: the same text gives the same run, with nothing left to chance.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from moq_token.server.log import log
from tests.simulation.aio import leave_loops
from tests.simulation.loop import BrokenPromiseError
from tests.simulation.promises import Promises
from tests.simulation.world import World

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tests.simulation.world import Step

SCRIPTS = Path(__file__).with_name("scripts")


def replay(schedule: Iterable[Step]) -> World:
    """Let the steps of a schedule happen, and heal the world at the end. Raises ``BrokenPromiseError``."""
    name, *arguments = next(steps := iter(schedule))
    assert name == "world"
    log.disabled = True  # it would be long
    world = World(*arguments)  # type: ignore[arg-type]
    try:
        promises = Promises(world)
        for name, *arguments in steps:
            world.begin(str(name))
            getattr(world, str(name))(*arguments)
            promises.check()
        promises.settle()
    finally:
        for node in world.nodes:
            node.crash()
        leave_loops()
        log.disabled = False
    return world


def broken(schedule: Sequence[Step]) -> str | None:
    """Return the promise that a schedule breaks, None if it breaks none."""
    try:
        replay(schedule)
    except BrokenPromiseError as error:
        return str(error)
    except Exception as error:  # noqa: BLE001 - the engine may raise nothing
        return f"the engine fails: {error!r}"
    return None


def to_text(schedule: Iterable[Step]) -> str:
    return "".join(
        f"{' '.join(f'{part:g}' if isinstance(part, float) else str(part) for part in step)}\n" for step in schedule
    )


def from_text(text: str) -> list[Step]:
    lines = (line.partition("#")[0].split() for line in text.splitlines())
    return [tuple(map(_part, line)) for line in lines if line]


def _part(text: str) -> str | float:
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        return text
