"""The targets for the speed of this package, and whether a run meets them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from benchmarks.peers import COMPILED
from benchmarks.processes import IMPORT, IMPORT_JWT, PASS, SIGN, SIGN_TYPESCRIPT
from benchmarks.tokens import FAST, OURS, PRIMITIVE
from moq_token import Algorithm

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from benchmarks.measure import Times
    from benchmarks.results import Results
    from benchmarks.tokens import TokenTimes

_NODE_LIMITS = {"@moq/token": 1 / 2.5, "jose": 1.0, "jsonwebtoken": 1.0, "fast-jwt": 1.03}
_HS256_LIMITS = {"PyJWT": 1 / 5, "fast-jwt": 1 / 2}
_FAST_AGAINST_RYJWT = 1.1
_FAST_AGAINST_OURS = 0.6
"""Of HS256: most of what remains is the claims."""
_ONE_THREAD_AGAINST_TWO = 1 / 1.8
_ALL_PRIMITIVE = 1.05  # libraries that use the same RSA implementation sign equally fast


class Target(NamedTuple):
    """A measured value, None if it could not be measured, and its limit."""

    what: str
    case: str
    value: float | None
    at_most: float
    unit: str

    @property
    def met(self) -> bool:
        return self.value is not None and self.value <= self.at_most


def targets(results: Results) -> list[Target]:
    return [
        *_tokens(results.tokens),
        *_refusals(results.refusals),
        *(
            Target(name, "one put, one get", results.permissions.in_units(name), at_most, "u")
            for name, at_most in (("authorize", 1.5), ("can_publish", 0.4))
        ),
        *(
            Target("load a key", kind, results.loading.seconds(kind) * 1e3, 5 if kind == "RS256 private" else 0.3, "ms")
            for kind in results.loading.names
        ),
        *_processes(results.processes),
        *_others(results.tokens),
        *_fast(results.tokens),
        *_threads(results.threads),
    ]


def _tokens(tokens: TokenTimes) -> Iterator[Target]:
    for operation, at_most in ("sign", 1.4), ("verify", 1.8):
        yield Target(operation, "HS256", tokens[Algorithm.HS256][operation].in_units(OURS), at_most, "u")
    for algorithm, operations in tokens.items():
        if not algorithm.symmetric:
            for operation, times in operations.items():
                over = times.excess(OURS, PRIMITIVE)
                yield Target("over the primitive", f"{algorithm} {operation}", over, 2.5, "u")


def _refusals(refusals: Mapping[str, Times]) -> Iterator[Target]:
    for algorithm, times in refusals.items():
        for bad in ("forged", "expired", "garbage"):
            yield Target("refuse, against accept", f"{algorithm} {bad}", times.ratio(bad, "good"), 1, "times")


def _processes(processes: Times) -> Iterator[Target]:
    for name, other, at_most in (IMPORT, IMPORT_JWT, 0.75), (SIGN, PASS, 6), (SIGN, SIGN_TYPESCRIPT, 0.45):
        measured = {name, other} <= set(processes.names)
        value = processes.ratio(name, other) if measured else None
        yield Target(name, f"against {other}", value, at_most, "times")


def _others(tokens: TokenTimes) -> Iterator[Target]:
    """Compare with the other libraries: our time divided by theirs."""
    for algorithm, operations in tokens.items():
        for operation, times in operations.items():
            for name in times.names:
                if name not in {OURS, FAST, PRIMITIVE} | COMPILED:
                    case, at_most = f"{algorithm} {operation}", _at_most(name, algorithm, operation)
                    yield Target(f"against {name}", case, times.ratio(OURS, name), at_most, "times")


def _fast(tokens: TokenTimes) -> Iterator[Target]:
    """Compare the extra ``fast`` with the fastest other library, and with this package without it."""
    for algorithm, operations in tokens.items():
        if algorithm.symmetric and algorithm is not Algorithm.HS256:
            continue
        other, at_most = (OURS, _FAST_AGAINST_OURS) if algorithm.symmetric else ("ryjwt", _FAST_AGAINST_RYJWT)
        for operation, times in operations.items():
            value = times.ratio(FAST, other) if {FAST, other} <= set(times.names) else None
            yield Target(f"{FAST} against {other}", f"{algorithm} {operation}", value, at_most, "times")


def _threads(threads: Mapping[str, Mapping[str, Times]]) -> Iterator[Target]:
    for algorithm in (Algorithm.ES256, Algorithm.ES384, Algorithm.EDDSA):
        for operation, times in threads.get(f"{algorithm} [fast]", {}).items():
            value = times.ratio("two", "one")
            yield Target("two threads against one", f"{algorithm} {operation}", value, _ONE_THREAD_AGAINST_TWO, "times")


def _at_most(name: str, algorithm: Algorithm, operation: str) -> float:
    if algorithm is Algorithm.HS256 and name in _HS256_LIMITS:
        return _HS256_LIMITS[name]
    if name in _NODE_LIMITS:
        return _NODE_LIMITS[name]
    return _ALL_PRIMITIVE if algorithm.kty == "RSA" and operation == "sign" else 1.0
