"""Run the operations whose instructions are counted: ``python -m benchmarks.counted``, under callgrind.

Each runs N and 2 N times, between calls of ``getpriority``, which nothing else calls, so that the counts can be told
apart. Keys and claims are the same in every run. The names are printed in their order.
"""

from __future__ import annotations

import gc
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks.fast import without_fast
from benchmarks.fixtures import ROOT, expired, forged, forms, garbage, grants, signed
from benchmarks.tokens import bare_signing, bare_verifying
from moq_token import Algorithm, Claims, Key, RefusedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from benchmarks.fixtures import Grant
    from moq_token import Permissions

N = 40
MARKER = "getpriority"
BARE = "bare "
"""Prefix of the name of a primitive. Its count is subtracted from that of the operation without the prefix."""

_VECTORS = Path(__file__).parents[1] / "tests" / "vectors" / "rust.json"


class Operation(NamedTuple):
    name: str
    function: Callable[..., object]
    arguments: Sequence[tuple[Any, ...]]
    """The arguments of each call, for 2 N calls."""


def main() -> None:
    with without_fast():
        _count()


def _count() -> None:
    operations = list(_operations())
    gc.disable()  # a garbage collection would be in one count and not in the next
    for operation in operations:
        _repeat(operation.function, operation.arguments[:N])  # fill the caches
        for amount in (N, 2 * N):
            _mark()
            _repeat(operation.function, operation.arguments[:amount])
        _mark()
    print(json.dumps([operation.name for operation in operations]))


def _mark() -> None:
    os.getpriority(os.PRIO_PROCESS, 0)


def _repeat(function: Callable[..., object], calls: Sequence[tuple[Any, ...]]) -> None:
    for arguments in calls:
        function(*arguments)


def _operations() -> Iterator[Operation]:
    rows = json.loads(_VECTORS.read_text())["keys"]
    texts = {row["algorithm"]: row["key"] for row in reversed(rows)}  # the second key of an algorithm has a scope
    keys = {algorithm: Key.from_str(texts[algorithm]) for algorithm in ("HS256", "RS256", "ES256", "EdDSA")}
    given = grants(2 * N)

    key = keys["HS256"]
    tokens = [signed(key, grant) for grant in given]
    claims = [key.verify(token) for token in tokens]
    yield Operation("HS256 sign", _sign, [(key, grant) for grant in given])
    yield Operation("HS256 verify", key.verify, _each(tokens))
    for name, spoil in (("forged", forged), ("expired", lambda token: expired(key, token)), ("garbage", garbage)):
        yield Operation(f"HS256 refuse {name}", _refuse, [(key, spoil(token)) for token in tokens])
    yield Operation("authorize", Claims.authorize, [(each, f"/{ROOT}") for each in claims])
    permissions = [each.authorize(ROOT) for each in claims]
    yield Operation("can_publish", _can_publish, [(each, f"{each.publish[0]}/camera") for each in permissions])

    for algorithm, private in keys.items():
        yield Operation(f"{algorithm} load private key", Key.from_str, [(private.to_json(),)] * (2 * N))
        if not private.algorithm.symmetric:
            yield from _over_the_primitive(private, given)


def _over_the_primitive(private: Key, given: Sequence[Grant]) -> Iterator[Operation]:
    forms_of_key = forms(private)
    tokens = [signed(private, grant) for grant in given]
    sign, sign_arguments = bare_signing(forms_of_key)
    verify, verify_arguments = bare_verifying(forms_of_key)
    if private.algorithm is not Algorithm.RS256:  # its signing varies by more than the overhead that is measured
        yield Operation(f"{private.algorithm} sign", _sign, [(private, grant) for grant in given])
        yield Operation(f"{BARE}{private.algorithm} sign", sign, [sign_arguments(grant) for grant in given])
    yield Operation(f"{private.algorithm} verify", forms_of_key.public.verify, _each(tokens))
    yield Operation(f"{BARE}{private.algorithm} verify", verify, [verify_arguments(token) for token in tokens])


def _each(items: Sequence[Any]) -> list[tuple[Any]]:
    return [(item,) for item in items]


def _sign(key: Key, grant: Grant) -> str:
    root, put, get, exp, iat = grant
    return key.sign(Claims(root, put, get, expires=exp, issued=iat))


def _can_publish(permissions: Permissions, broadcast: str) -> bool:
    return permissions.can_publish(broadcast)


def _refuse(key: Key, token: str) -> None:
    try:
        key.verify(token)
    except RefusedError:
        return
    raise AssertionError("it was accepted")


if __name__ == "__main__":
    main()
