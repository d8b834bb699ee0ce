"""The lease of a session that an auth server has admitted, second by second, as relay 0.17 keeps it."""

from __future__ import annotations

import functools
import json
import math
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moq_token.auth.lease import (
    MAX_BACKOFF_SECONDS,
    MAX_JITTER,
    MIN_JITTER,
    Instant,
    Lease,
    NoGrant,
    read_answer,
    resolve_root,
)
from moq_token.contract import Grant

if TYPE_CHECKING:
    from collections.abc import Callable

NOW = 1_000_000_000
PATH = "/demo/x/"
REFUSED, INVALID, UNAVAILABLE = NoGrant.REFUSED, NoGrant.INVALID, NoGrant.UNAVAILABLE
FAR = NOW + 3600


def at(seconds: float) -> Instant:
    return Instant(NOW + seconds, 5000 + seconds)


def granted(expires: int | None = FAR, revalidate: int | None = 10, **members: object) -> Grant:
    return Grant(**{"publish": ["**"], "expires": expires, "revalidate": revalidate, **members})  # type: ignore[arg-type]


class Relay:
    """A lease in simulated time, with an auth server that answers at once or only when it is told."""

    def __init__(self, grant: Grant, jitter: Callable[[], float] = lambda: 1.0) -> None:
        self.now = 0.0
        self.lease = Lease(grant, PATH, at(0), jitter)
        self.asked: list[float] = []
        self.answers: list[Grant | NoGrant] = []  # the last one is repeated; none hangs

    def run(self, until: float) -> None:
        """Go from event to event. Each step must be one that was asked for."""
        while True:
            asks = self.lease.advance(at(self.now))
            if asks:
                self.asked.append(self.now)
                if self.answers:
                    self.lease.answered(self.answers.pop(0) if len(self.answers) > 1 else self.answers[0], at(self.now))
                    continue
            wait = self.lease.wait(at(self.now))
            if self.lease.ended or self.now + wait > until:
                self.now = self.now if self.lease.ended else until
                return
            assert wait > 0, "it says that something is due, and there is nothing"
            self.now += wait


# -- what an answer says


@pytest.mark.parametrize(
    ("status", "document", "meaning"),
    [
        (200, {"publish": ["**"]}, Grant(publish=["**"])),
        (201, {"subscribe": ["a"], "zzz": 1, "tier": None}, Grant(subscribe=["a"])),
        (200, {}, REFUSED),
        (200, {"put": ["a"], "get": [""]}, REFUSED),
        (200, {"mounts": {"a": "b"}}, REFUSED),
        (401, {"publish": ["**"]}, REFUSED),
        (403, None, REFUSED),
        (200, {"publish": ["**"], "expires": NOW}, INVALID),
        (200, {"publish": ["**"], "expires": -1}, INVALID),
        (200, {"publish": ["**"], "revalidate": 1}, INVALID),
        (200, {"publish": ["**"], "expires": FAR, "revalidate": 0}, INVALID),
        *((status, {"publish": ["**"]}, UNAVAILABLE) for status in (0, 100, 300, 302, 400, 404, 408, 429, 500, 503)),
        (204, None, UNAVAILABLE),
        (200, None, UNAVAILABLE),
        (200, [["**"]], UNAVAILABLE),
        (200, {"publish": "**"}, UNAVAILABLE),
        (200, {"publish": ["a//b"]}, UNAVAILABLE),
        (200, {"publish": ["**"], "expires": 1e10}, UNAVAILABLE),
        (200, {"publish": ["**"], "mounts": None}, UNAVAILABLE),
        (200, {"publish": ["**"] * 5000}, UNAVAILABLE),
        (200, {"publish": ["a" * 300_000]}, UNAVAILABLE),
    ],
)
def test_answers(status: int, document: object, meaning: Grant | NoGrant) -> None:
    body = b"" if document is None else json.dumps(document).encode()
    assert read_answer(status, body, NOW + 0.5) == meaning


@given(st.integers(0, 999), st.binary())
def test_no_bytes_admit_anybody(status: int, body: bytes) -> None:
    answer = read_answer(status, body, NOW)
    assert isinstance(answer, NoGrant)
    assert answer is not REFUSED or status in {401, 403} or body.strip() == b"{}"


# -- when a session is asked about, and when it ends


def test_without_an_end_and_a_cadence_nobody_is_asked() -> None:
    relay = Relay(granted(None, None))
    relay.run(10**9)
    assert (relay.asked, relay.lease.ended) == ([], None)
    assert relay.lease.wait(at(0)) == math.inf


def test_it_ends_at_the_second_itself() -> None:
    relay = Relay(granted(NOW + 3, None))
    relay.run(2.5)
    assert not relay.lease.ended
    relay.run(10)
    assert (relay.lease.ended, relay.now, relay.asked) == ("expired", 3, [])


def test_the_cadence() -> None:
    relay = Relay(granted(revalidate=2))
    relay.answers = [granted(revalidate=2), granted(revalidate=5), granted(revalidate=1)]
    relay.run(11.5)
    assert relay.asked == [2, 4, 9, 10, 11]
    assert relay.lease.ended is None


@pytest.mark.parametrize(("answer", "reason"), [(REFUSED, "refused"), (INVALID, "invalid")])
def test_a_verdict_ends_it(answer: NoGrant, reason: str) -> None:
    relay = Relay(granted(revalidate=2))
    relay.answers = [answer]
    relay.run(100)
    assert (relay.lease.ended, relay.now) == (reason, 2)
    assert not relay.lease.advance(at(10**6))
    relay.lease.answered(granted(), at(10**6))
    assert relay.lease.ended == reason


def test_a_grant_without_end_and_cadence_lives_for_ever() -> None:
    relay = Relay(granted(NOW + 5, 1))
    relay.answers = [granted(None, None)]
    relay.run(10**6)
    assert (relay.asked, relay.lease.ended) == ([1], None)


def test_a_new_end_replaces_the_old() -> None:
    relay = Relay(granted(NOW + 100, 1))
    relay.answers = [granted(NOW + 3, None)]
    relay.run(1000)
    assert (relay.lease.ended, relay.now) == ("expired", 3)


@pytest.mark.parametrize(
    ("cadence", "delays"),
    [(1, [1] * 8), (2, [1, 2, 2, 2]), (10, [1, 2, 4, 8, 10, 10]), (3600, [1, 2, 4, 8, 16, 32, 60, 60, 60])],
)
def test_the_backoff(cadence: int, delays: list[int]) -> None:
    relay = Relay(granted(NOW + 10**6, cadence))
    relay.answers = [UNAVAILABLE]
    relay.run(cadence + sum(delays) + 0.1)
    assert relay.asked[0] == cadence
    found = [later - earlier for earlier, later in zip(relay.asked, relay.asked[1:], strict=False)]
    assert found[: len(delays)] == delays
    relay.answers = [granted(NOW + 10**6, cadence), UNAVAILABLE]
    before = len(relay.asked)
    relay.run(relay.now + 200 + 2 * cadence)
    # A success resets the delay: after the next failure, the first retry comes after 1 s.
    assert relay.asked[before + 2] - relay.asked[before + 1] == 1


def test_an_outage_is_survived_until_the_end_and_no_longer() -> None:
    relay = Relay(granted(NOW + 8, 1))
    relay.answers = [UNAVAILABLE]
    relay.run(100)
    assert (relay.lease.ended, relay.now, relay.asked) == ("expired", 8, [1, 2, 3, 4, 5, 6, 7])


def test_a_recheck_that_hangs_is_the_only_one_and_keeps_nothing_alive() -> None:
    relay = Relay(granted(NOW + 8, 1))
    relay.run(100)
    assert (relay.lease.ended, relay.now, relay.asked) == ("expired", 8, [1])
    relay.lease.answered(granted(), at(9))
    assert relay.lease.ended == "expired"


def test_jitter_spreads_retries() -> None:
    for factor in (MIN_JITTER, MAX_JITTER):
        relay = Relay(granted(NOW + 1000, 4), functools.partial(float, factor))
        relay.answers = [UNAVAILABLE]
        relay.run(4 + 7 * factor)
        assert relay.asked == [4, 4 + factor, 4 + 3 * factor, 4 + 7 * factor]


# -- nudges


def test_a_nudge_asks_at_once_whatever_the_grant() -> None:
    relay = Relay(granted(None, None))
    relay.answers = [granted(None, None)]
    relay.run(5)
    relay.lease.nudge()
    relay.run(1000)
    assert relay.asked == [5]


def test_nudges_during_a_recheck_are_one_more() -> None:
    relay = Relay(granted(revalidate=10))
    relay.lease.nudge()
    relay.run(0.5)
    for _ in range(5):
        relay.lease.nudge()
    relay.run(0.75)
    assert relay.asked == [0]
    relay.answers = [granted(revalidate=10)]
    relay.lease.answered(granted(revalidate=10), at(0.75))
    relay.run(9)
    assert relay.asked == [0, 0.75]
    relay.run(11)
    assert relay.asked == [0, 0.75, 10.75]


def test_a_nudge_in_the_backoff_asks_at_once_and_counts_on() -> None:
    relay = Relay(granted(None, None))
    relay.answers = [UNAVAILABLE]
    relay.lease.nudge()
    relay.run(0.25)
    relay.lease.nudge()
    relay.run(3)
    assert relay.asked == [0, 0.25, 2.25]


def test_without_a_cadence_the_backoff_stops_at_a_minute() -> None:
    relay = Relay(granted(None, None))
    relay.answers = [UNAVAILABLE]
    relay.lease.nudge()
    relay.run(1000)
    assert max(later - earlier for earlier, later in zip(relay.asked, relay.asked[1:], strict=False)) == 60


def test_a_nudge_after_the_end_does_nothing() -> None:
    relay = Relay(granted())
    relay.lease.close("closed")
    relay.lease.nudge()
    relay.run(5)
    assert relay.asked == []


# -- new grants


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        ({}, {}, None),
        ({"publish": ["alice/**"]}, {"publish": ["**"]}, None),
        ({"publish": ["alice/**"]}, {"publish": ["alice/**", "b"], "subscribe": ["c"]}, None),
        ({"publish": ["a/**", "a"]}, {"publish": ["a/**"]}, None),
        ({}, {"publish": ["alice/**"]}, "grant narrowed"),
        ({"subscribe": ["**"]}, {"publish": ["**"]}, "grant narrowed"),
        ({"publish": ["a/*"]}, {"publish": ["a/x"]}, "grant narrowed"),
        ({"publish": ["*"]}, {"publish": ["a*", "*b"]}, "grant narrowed"),
        ({}, {"tier": "gold"}, None),
        ({"tier": "gold"}, {}, None),
        ({}, {"root": "demo/x"}, None),
        ({"root": "/demo//x/"}, {}, None),
        ({"root": "demo/y"}, {"root": "/demo/y/"}, None),
        ({}, {"root": "demo/y"}, "root changed"),
        ({}, {"root": ""}, "root changed"),
        ({"root": "a"}, {}, "root changed"),
        ({}, {"mounts": {"a": "b"}}, "mounts changed"),
        ({"mounts": {"a": "b"}}, {"mounts": {"/a/": "//b"}}, None),
        ({"mounts": {"a": "b"}}, {"mounts": {"a": "c"}}, "mounts changed"),
        ({}, {"peer": True}, "peer changed"),
        ({"peer": True}, {}, "peer changed"),
        ({}, {"root": "a", "mounts": {"a": "b"}, "peer": True, "publish": ["a"]}, "root changed"),
        ({}, {"mounts": {"a": "b"}, "peer": True, "publish": ["a"]}, "mounts changed"),
        ({}, {"peer": True, "publish": ["a"]}, "peer changed"),
    ],
)
def test_a_new_grant(before: dict[str, Any], after: dict[str, Any], reason: str | None) -> None:
    relay = Relay(granted(**before))
    relay.answers = [granted(**after)]
    relay.run(10)
    assert relay.lease.ended == reason
    assert relay.lease.tier == (after if reason is None else before).get("tier")


def test_what_was_wider_for_a_time_may_go_back_but_not_below() -> None:
    relay = Relay(granted(publish=["a/**"], revalidate=1))
    relay.answers = [granted(publish=texts, revalidate=1) for texts in (["**"], ["a/**"], ["a/b/**"])]
    relay.run(100)
    assert (relay.lease.ended, relay.now) == ("grant narrowed", 3)


def test_who_ends_it_first_says_why() -> None:
    assert Relay(granted()).lease.close("closed") == "closed"
    relay = Relay(granted(revalidate=1))
    relay.answers = [REFUSED]
    relay.run(5)
    assert relay.lease.close("closed") == "refused"


@pytest.mark.parametrize(
    ("root", "path", "resolved"),
    [(None, "/a//b/", "a/b"), (None, "/", ""), ("", "/a", ""), ("/c/", "/a", "c")],
)
def test_roots(root: str | None, path: str, resolved: str) -> None:
    assert resolve_root(granted(root=root), path) == resolved


# -- clocks


def test_a_clock_that_is_set_moves_the_end_and_not_the_cadence() -> None:
    lease = Lease(granted(NOW + 100, 10), PATH, Instant(NOW, 0), lambda: 1.0)
    assert not lease.advance(Instant(NOW - 3600, 5))
    assert lease.advance(Instant(NOW - 3600, 10))
    lease.answered(granted(NOW + 100, 10), Instant(NOW - 3600, 10))
    assert not lease.advance(Instant(NOW + 100, 11))
    assert lease.ended == "expired"


# -- whatever happens

ANSWERS = st.one_of(
    st.sampled_from(NoGrant),
    st.builds(
        lambda expires, revalidate, publish: granted(
            None if expires is None else NOW + expires, None if expires is None else revalidate, publish=publish
        ),
        st.none() | st.integers(1, 200),
        st.none() | st.integers(1, 30) | st.just(2**64 - 1),
        st.sampled_from([["**"], ["a/**"], ["a"]]),
    ),
)
EVENTS = st.one_of(st.floats(0, 100), st.just("nudge"), ANSWERS)


@given(ANSWERS, st.lists(EVENTS, max_size=30), st.floats(MIN_JITTER, MAX_JITTER))
def test_whatever_happens(first: Grant | NoGrant, events: list[Any], factor: float) -> None:
    grant = first if isinstance(first, Grant) else granted(NOW + 50, 5)
    lease, now, asking, last = Lease(grant, PATH, at(0), lambda: factor), 0.0, False, grant
    for event in events:
        over = lease.ended
        if event == "nudge":
            lease.nudge()
        elif isinstance(event, float):
            now += event
        elif asking:
            lease.answered(event, at(now))
            asking = False
            if isinstance(event, Grant) and lease.ended is None:
                last = event
        asks = lease.advance(at(now))
        assert not (asks and asking), "two re-checks at a time"
        asking = asking or asks
        assert over is None or lease.ended == over, "it came back to life"
        assert not (asks and lease.ended)
        alive = last.expires is None or now + NOW < last.expires
        if lease.ended is None:
            assert alive
            limit = MAX_BACKOFF_SECONDS * MAX_JITTER if last.revalidate is None else max(last.revalidate, 75)
            assert 0 <= lease.wait(at(now)) <= max(limit, 200) or lease.wait(at(now)) == math.inf
        else:
            assert lease.ended in {"expired", "refused", "invalid", "grant narrowed"}
            assert lease.wait(at(now)) == math.inf
