"""The script in a real store gives the answers of its model, whatever is asked of it in whatever order."""

from __future__ import annotations

from contextlib import ExitStack
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moq_token.server.share.caps import Call
from tests.share_model import StoreModel
from tests.store import BINARY, server

if TYPE_CHECKING:
    from collections.abc import Iterator

    import redis

pytestmark = pytest.mark.skipif(BINARY is None, reason="there is no valkey-server for this platform")

# The same script by a clock that the test sets.
SCRIPT = (
    files("moq_token.server.share")
    .joinpath("script.lua")
    .read_text()
    .replace("redis.call('TIME')", "{redis.call('GET', 'clock'), '0'}")
)
START = 1_900_000_000_000
# Times are whole multiples of this, so that no key of the store ends while the test runs.
TICK = 1_000_000
# The last one stands for what others write to the store.
SESSIONS = [*(b"%c" % (65 + number) * 16 for number in range(5)), b"planted"]
CAPS = [(b"t", 2, b""), (b"r", 3, b""), (b"s", 1, b"s"), (b"u", 3, b"u")]

sessions = st.sampled_from(SESSIONS)
held = st.lists(st.tuples(st.sampled_from(CAPS), st.sampled_from((b"x", b"y"))), min_size=1, max_size=4)


@st.composite
def cap_calls(draw: st.DrawFn) -> Call:
    operation = draw(st.sampled_from((b"admit", b"admit", b"refresh", b"release")))
    keys, arguments = [b"kicked"], [operation, b"all", draw(sessions)]
    duration = TICK * draw(st.integers(1, 4))
    age = 1000 * TICK * draw(st.integers(0, 6)) if operation == b"refresh" else 0
    words: list[bytes | int] = [*arguments, duration, age]
    seen = set()
    for (tag, limit, kicks), value in draw(held):
        if tag in seen:
            continue
        seen.add(tag)
        keys += [tag + value, tag + value + b":starts"]
        words += [limit, kicks]
    return Call(keys, words)


@st.composite
def denial_calls(draw: st.DrawFn) -> Call:
    keys = [b"nodes", b"denials", b"denials:ends"]
    digests = st.sampled_from([*(b"%c" % (97 + number) * 16 for number in range(6)), b"planted"])
    match draw(st.sampled_from(("pull", "fetch", "put", "put"))):
        case "pull":
            node, lease = draw(st.sampled_from((b"one", b"two", b"n" * 257))), TICK * draw(st.integers(0, 3))
            return Call(keys, (b"pull", node, lease, 2 * TICK))
        case "fetch":
            return Call(keys, (b"fetch", 10, *draw(st.lists(digests, min_size=1, max_size=3))))
        case _:
            end = START + TICK * draw(st.integers(-2, 6))
            return Call(keys, (b"put", b"all", 4, draw(digests), end, draw(st.binary(max_size=20))))


steps = st.lists(st.tuples(st.integers(0, 2), cap_calls() | denial_calls()), min_size=1, max_size=30)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[redis.Redis]:
    with ExitStack() as stack:
        running = stack.enter_context(server(tmp_path_factory.mktemp("store")))
        yield stack.enter_context(running.client())


def norm(answer: Any) -> Any:  # noqa: ANN401 - as the operation says
    """Sort what has no order: the digests of a hash."""
    match answer:
        case [list(nodes), bytes(digests), list(gone)]:
            return [nodes, sorted(digests[start : start + 16] for start in range(0, len(digests), 16)), gone]
    return answer


@settings(max_examples=150)
@given(steps)
def test_model(store: redis.Redis, steps: list[tuple[int, Call]]) -> None:
    store.flushall()
    model, now = StoreModel(), START
    with store.pubsub() as channel:  # type: ignore[no-untyped-call]
        channel.subscribe("all")
        channel.get_message(timeout=5)
        for passed, call in steps:
            now += TICK * passed
            store.set("clock", now // 1000)
            answer = store.eval(SCRIPT, len(call.keys), *call.keys, *call.arguments)
            assert norm(answer) == norm(model.call(call, now)), call
        for _, message in model.messages:
            got = channel.get_message(timeout=5)
            assert got is not None
            assert got["data"] == message
    for key, scores in model.sorted.items():
        if key.endswith(b":starts"):
            continue
        kept: dict[Any, Any] = dict(store.zrange(key, 0, -1, withscores=True))  # type: ignore[arg-type]
        # Leases of sessions that nobody has asked about since are removed later, or with their key.
        assert {member: score for member, score in kept.items() if score > now} == {
            member: score for member, score in scores.items() if score > now
        }, key
    assert all(store.ttl(key) > 0 for key in store.scan_iter() if key != b"clock")


def test_unknown_operations_are_errors(store: redis.Redis) -> None:
    from redis.exceptions import ResponseError

    store.set("clock", START // 1000)
    with pytest.raises(ResponseError, match="unknown operation"):
        store.eval(SCRIPT, 0, "nothing")
