"""What relays of a generation make of a token, a key or a configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from moq_token.generations import Generation

if TYPE_CHECKING:
    from collections.abc import Iterable

FIRST, SECOND = Generation.FIRST, Generation.SECOND
ROLES = ("publish", "subscribe")


class Finding(NamedTuple):
    """One thing about an input that relays of one generation refuse, or read in an unexpected way.

    ``code`` is stable. ``message`` and ``fix`` are each one line of bounded length, without any secret.
    """

    code: str
    generation: Generation
    message: str
    fix: str = ""
    refused: bool = True

    def __str__(self) -> str:
        return f"{self.message}: {self.fix}" if self.fix else self.message


class Reading(NamedTuple):
    """How relays of one generation read an input.

    ``publish`` and ``subscribe`` are what it grants, as patterns of full paths: ``rooms/123/**`` is a path and all
    beneath it. They are empty where it is refused.
    """

    generation: Generation
    findings: tuple[Finding, ...]
    publish: tuple[str, ...] = ()
    subscribe: tuple[str, ...] = ()

    @property
    def refused(self) -> bool:
        """Whether relays of this generation refuse it."""
        return any(finding.refused for finding in self.findings)


class Findings:
    """Collects the findings about one input, for both generations."""

    def __init__(self) -> None:
        self._found: list[Finding] = []
        self._granted: dict[tuple[Generation, str], tuple[str, ...]] = {}

    def refuse(self, code: str, message: str, fix: str = "", *generations: Generation) -> None:
        """Add what relays of these generations refuse; without generations, for both."""
        self._found += [Finding(code, generation, message, fix) for generation in generations or (FIRST, SECOND)]

    def note(self, code: str, message: str, fix: str = "", *generations: Generation) -> None:
        """Add a note on what relays of these generations accept; without generations, for both."""
        self._found += [
            Finding(code, generation, message, fix, refused=False) for generation in generations or (FIRST, SECOND)
        ]

    def refused(self, generation: Generation) -> bool:
        """Whether relays of this generation refuse the input for a reason found so far."""
        return any(finding.refused for finding in self._found if finding.generation is generation)

    def grant(self, generation: Generation, role: str, grants: Iterable[str]) -> None:
        """Set what is granted in a role, ``publish`` or ``subscribe``."""
        self._granted[generation, role] = tuple(grants)

    def readings(self) -> tuple[Reading, Reading]:
        """Return what was found for the first and for the second generation."""
        first, second = (self._reading(generation) for generation in (FIRST, SECOND))
        return first, second

    def _reading(self, generation: Generation) -> Reading:
        findings = tuple(finding for finding in self._found if finding.generation is generation)
        if self.refused(generation):
            return Reading(generation, findings)
        publish, subscribe = (self._granted.get((generation, role), ()) for role in ROLES)
        return Reading(generation, findings, publish, subscribe)
