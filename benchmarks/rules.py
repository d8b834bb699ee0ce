"""Measure the rest of this package: refusing tokens, deciding about paths, loading keys, working in threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Barrier
from time import perf_counter
from typing import TYPE_CHECKING, Any

from benchmarks.fast import with_fast
from benchmarks.fixtures import ROOT, expired, forged, garbage, grants, make_keys, signed, tokens
from benchmarks.measure import calling, race, refusing
from moq_token import Algorithm, Claims, Key, RefusedError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.measure import Contender, Pace, Times

ONE_OF_EACH_KIND = (Algorithm.HS256, Algorithm.RS256, Algorithm.ES256, Algorithm.EDDSA)


def race_refusals(pace: Pace) -> dict[str, Times]:
    """Accept and refuse: "good", "forged", "expired" and "garbage"."""
    return {
        name: _refusals(private, public, pace)
        for algorithm in ONE_OF_EACH_KIND
        for name, (private, public) in _halves_of(algorithm).items()
    }


def _halves_of(algorithm: Algorithm) -> dict[str, tuple[Key, Key]]:
    """Return the private and the public key without the core, and with it if it is installed."""
    keys = make_keys(algorithm)
    fast = with_fast(keys)
    plain = {str(algorithm): (keys.private, keys.public)}
    return plain if fast is None else plain | {f"{algorithm} [fast]": fast}


def _refusals(private: Key, public: Key, pace: Pace) -> Times:
    verify = public.verify
    contenders = {
        "good": calling(verify),
        "forged": refusing(verify, RefusedError, forged),
        "expired": refusing(verify, RefusedError, lambda token: expired(private, token)),
        "garbage": refusing(verify, RefusedError, garbage),
    }
    return race(contenders, tokens(private), pace)


def race_permissions(pace: Pace) -> Times:
    """Decide about paths: "authorize", with one put and one get, and "can_publish"."""

    def authorize(items: Sequence[Claims]) -> float:
        start = perf_counter()
        for claims in items:
            claims.authorize("/rooms/123")
        return (perf_counter() - start) / len(items)

    def can_publish(items: Sequence[Claims]) -> float:
        each = [(claims.authorize(ROOT), f"{claims.publish[0]}/camera") for claims in items]
        start = perf_counter()
        for permissions, broadcast in each:
            permissions.can_publish(broadcast)
        return (perf_counter() - start) / len(items)

    def fresh(amount: int) -> list[Claims]:
        return [Claims(root, put, get, expires=exp, issued=iat) for root, put, get, exp, iat in grants(amount)]

    return race({"authorize": authorize, "can_publish": can_publish}, fresh, pace)


def race_loading(pace: Pace) -> Times:
    """Load private and public keys from their JSON."""
    contenders = {}
    for algorithm in (*ONE_OF_EACH_KIND, Algorithm.ES384):
        private = Key.generate(algorithm)
        contenders[f"{algorithm} secret" if algorithm.symmetric else f"{algorithm} private"] = _loading(private)
        if not algorithm.symmetric:
            contenders[f"{algorithm} public"] = _loading(private.to_public())
    return race(contenders, range, pace)


def _loading(key: Key) -> Contender:
    text = key.to_json()
    return calling(lambda _: Key.from_str(text))


def race_threads(pace: Pace) -> dict[str, dict[str, Times]]:
    """Let "one" thread and "two" threads sign and verify with one key."""
    return {
        name: {
            "sign": race(_in_threads(partial(signed, private)), grants, pace),
            "verify": race(_in_threads(public.verify), tokens(private), pace),
        }
        for algorithm in Algorithm
        for name, (private, public) in _halves_of(algorithm).items()
    }


def _in_threads(function: Callable[[Any], object]) -> dict[str, Contender]:
    return {"one": lambda items: _elapsed(function, [items]), "two": lambda items: _elapsed(function, _halves(items))}


def _halves(items: Sequence[Any]) -> list[Sequence[Any]]:
    middle = len(items) // 2
    return [items[:middle], items[middle:]]


def _elapsed(function: Callable[[Any], object], batches: Sequence[Sequence[Any]]) -> float:
    """Run each batch in a thread. Return the seconds from the first start to the last end, for one item."""
    barrier = Barrier(len(batches))

    def work(batch: Sequence[Any]) -> tuple[float, float]:
        barrier.wait()
        start = perf_counter()
        for item in batch:
            function(item)
        return start, perf_counter()

    with ThreadPoolExecutor(len(batches)) as pool:
        spans = list(pool.map(work, batches))
    wall = max(end for _, end in spans) - min(start for start, _ in spans)
    return wall / sum(map(len, batches))
