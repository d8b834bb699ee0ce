"""The table of sessions: the limits of the reference server, a simple model with random events, and its cost."""

from __future__ import annotations

import gc
import json
import math
import tracemalloc
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from moq_token import InvalidGrantError
from moq_token.auth.lease import Instant
from moq_token.contract import Event, Grant, Peer, Request, Usage
from moq_token.server import sessions as module
from moq_token.server.caps import Cap, CapKind
from moq_token.server.identity import Identity
from moq_token.server.session import Admission, Ended, Kicked, Lost, Outcome, Refusal, Session, Untracked
from moq_token.server.sessions import LATE_SECONDS, Sessions
from moq_token.server.spread import MAX_SPREAD, spread

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "auth_server.json").read_text(encoding="utf-8"))
START = 1_800_000_000


def at(seconds: float, *, set_by: float = 0) -> Instant:
    """Return the moment so many seconds after the start; ``set_by`` is by how much the clock has been set since."""
    return Instant(START + seconds + set_by, seconds)


def event(name: str, session_id: str = "a", remote: str | None = "192.0.2.1:1", **members: Any) -> Request:  # noqa: ANN401
    return Request(id=session_id, event=Event(name), node="n", transport="quic", path="/demo", remote=remote, **members)


def admission(cadence: int | None = 60, expires: int | None = START + 86_400, **members: Any) -> Admission:  # noqa: ANN401
    return Admission(revalidate=cadence, expires=expires, **members)


def get(table: Sessions, session_id: str) -> Session:
    session = table.get(session_id)
    assert session is not None
    return session


# -- the reference server


def presented(request: dict[str, Any]) -> bytes | None:
    """Return a digest of the token of a request, wherever it stands."""
    if "token" in request:
        read = Request.from_json(json.dumps(request))
        return sha256(read.token.value).digest() if read.token else None
    jwt = request.get("query", "").removeprefix("jwt=")
    return sha256(jwt.encode()).digest() if jwt else None


@pytest.mark.parametrize("row", VECTORS["sequences"], ids=lambda row: row["name"])
def test_the_caps_of_the_reference_server(row: dict[str, Any]) -> None:
    limits = {kind: row["policy"].get(f"limit_{kind}") for kind in CapKind}
    table = Sessions({kind: Cap(limit) for kind, limit in limits.items() if limit is not None})
    for step in row["steps"]:
        request = Request.from_json(json.dumps(step["request"]))
        if step.get("reason") not in {None, "token-limit", "remote-limit"}:
            continue  # the policy refuses, and the table hears nothing of it
        allowed = admission(row["policy"]["revalidate"], token=presented(step["request"]))
        outcome = table.handle(request, at(step["at"]), allowed)
        assert (outcome.refused.reason if outcome.refused else None) == step.get("reason"), step


# -- one case each


def test_a_repeated_connect_adds_nothing() -> None:
    table = Sessions({CapKind.REMOTE: Cap(1)})
    for seconds in range(5):
        assert table.handle(event("connect"), at(seconds), admission()) == Outcome()
    assert len(table) == 1
    assert get(table, "a").last == START + 4
    assert table.handle(event("connect", "b"), at(0), admission()).refused == Refusal(
        "remote-limit", "too many live sessions from this address"
    )


def test_an_ipv4_address_in_its_ipv6_form_counts_with_the_plain_one() -> None:
    table = Sessions({CapKind.REMOTE: Cap(1)})
    assert table.handle(event("connect", "a", "192.0.2.1:1"), at(0), admission()).refused is None
    assert table.handle(event("connect", "b", "[::ffff:192.0.2.1]:2"), at(0), admission()).refused is not None
    assert table.handle(event("connect", "c", "[2001:db8::1]:2"), at(0), admission()).refused is None
    assert table.handle(event("connect", "d", "[2001:db8::2]:2"), at(0), admission()).refused is None


def test_an_end_is_counted_once() -> None:
    table = Sessions()
    table.handle(event("connect"), at(0), admission())
    session = table.get("a")
    end = event("end", reason="closed", duration=1.5, usage=Usage(1, 2))
    assert table.handle(end, at(1)) == Outcome(None, (Ended(session, "closed", 1.5, Usage(1, 2)),))
    assert table.handle(end, at(2)) == Outcome()
    assert len(table) == 0
    assert table.handle(event("end", "unknown"), at(2)) == Outcome(None, (Ended(None, None, None, None),))


@pytest.mark.parametrize("late", ["connect", "revalidate"])
def test_a_late_event_takes_no_place(late: str) -> None:
    table = Sessions({CapKind.REMOTE: Cap(0)})
    table.handle(event("end"), at(0))
    assert table.handle(event(late), at(LATE_SECONDS - 0.1), admission()) == Outcome()
    assert len(table) == 0
    outcome = table.handle(event(late), at(LATE_SECONDS), admission())
    assert (outcome.refused is not None, len(table)) == ((True, 0) if late == "connect" else (False, 1))


def test_a_session_that_is_not_seen_for_two_cadences_is_lost() -> None:
    table = Sessions()
    table.handle(event("connect"), at(0), admission(60))
    session = get(table, "a")
    table.handle(event("revalidate"), at(90), admission(60))
    assert table.advance(at(209)) == ()
    assert table.advance(at(210)) == (Lost(session),)
    assert len(table) == 0
    assert table.handle(event("revalidate"), at(211), admission()) == Outcome()
    assert len(table) == 1


def test_without_a_cadence_the_lease_ends_with_the_grant() -> None:
    table = Sessions()
    table.handle(event("connect", "a"), at(0), admission(None, START + 100_000))
    table.handle(event("connect", "b"), at(0), admission(None, None))
    table.handle(event("connect", "c"), at(0), admission(None, START - 5))
    assert [type(effect) for effect in table.advance(at(1))] == [Lost]
    assert table.advance(at(99_999)) == ()
    assert [effect.session.id for effect in table.advance(at(100_000)) if isinstance(effect, Lost)] == ["a"]
    assert table.advance(at(10**9)) == ()
    assert [session.id for session in table] == ["b"]


def test_a_shorter_cadence_is_noticed_at_once() -> None:
    table = Sessions()
    table.handle(event("connect"), at(0), admission(3000))
    table.handle(event("revalidate"), at(1), admission(5))
    assert table.advance(at(10)) == ()
    assert len(table.advance(at(11))) == 1


@pytest.mark.parametrize("set_by", [-3600, 3600])
def test_a_clock_that_is_set_neither_loses_a_session_nor_keeps_one(set_by: int) -> None:
    table = Sessions({CapKind.REMOTE: Cap(1)})
    table.handle(event("connect"), at(0), admission())
    assert table.advance(at(1, set_by=set_by)) == ()
    table.handle(event("revalidate"), at(60, set_by=set_by), admission())
    assert get(table, "a").last == START + 60 + set_by
    assert table.handle(event("connect", "b"), at(179), admission()).refused is not None
    assert [type(effect) for effect in table.advance(at(180))] == [Lost]
    table.handle(event("connect", "c"), at(200, set_by=set_by), admission(None, START + 300 + set_by))
    assert table.advance(at(299)) == ()
    assert len(table.advance(at(300))) == 1


@pytest.mark.parametrize("set_by", [-3600, 3600])
def test_a_late_event_takes_no_place_after_the_clock_is_set(set_by: float) -> None:
    table = Sessions()
    table.handle(event("end"), at(0))
    table.handle(event("revalidate"), at(LATE_SECONDS - 1, set_by=set_by), admission())
    assert len(table) == 0
    table.handle(event("revalidate"), at(LATE_SECONDS, set_by=set_by), admission())
    assert len(table) == 1


def test_kick_oldest_admits_the_newcomer() -> None:
    table = Sessions({CapKind.SUBJECT: Cap(2, kick_oldest=True)})
    for name in ("a", "b"):
        assert table.handle(event("connect", name), at(0), admission(subject="s")) == Outcome()
    oldest = get(table, "a")
    assert table.handle(event("connect", "c"), at(0), admission(subject="s")) == Outcome(
        None, (Kicked(oldest, "subject-limit"),)
    )
    refusal = Refusal("subject-limit", "too many live sessions for this subject")
    for name in ("revalidate", "connect"):
        assert table.handle(event(name, "a"), at(1), admission(subject="s")).refused == refusal
    assert table.handle(event("revalidate", "b"), at(1), admission(subject="s")).refused is None
    assert table.handle(event("end", "a"), at(2)).effects == (Ended(oldest, None, None, None),)
    assert table.handle(event("connect", "d"), at(2), admission(subject="s")).effects == (
        Kicked(get(table, "b"), "subject-limit"),
    )


def test_nobody_is_kicked_for_a_newcomer_that_another_cap_refuses() -> None:
    table = Sessions({CapKind.TOKEN: Cap(1, kick_oldest=True), CapKind.SUBJECT: Cap(1)})
    table.handle(event("connect", "a"), at(0), admission(token=b"t"))
    table.handle(event("connect", "b"), at(0), admission(subject="s"))
    outcome = table.handle(event("connect", "c"), at(0), admission(token=b"t", subject="s"))
    assert (outcome.refused and outcome.refused.reason, outcome.effects) == ("subject-limit", ())
    assert table.handle(event("revalidate", "a"), at(0), admission(token=b"t")).refused is None


@pytest.mark.parametrize("kick", [True, False])
def test_a_cap_of_zero_refuses_whoever_it_counts(kick: bool) -> None:  # noqa: FBT001
    table = Sessions({CapKind.TOKEN: Cap(0, kick_oldest=kick)})
    assert table.handle(event("connect", "a"), at(0), admission(token=b"t")).refused is not None
    assert table.handle(event("connect", "b"), at(0), admission()).refused is None


def test_a_full_table_admits_but_does_not_remember(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_SESSIONS", 2)
    table = Sessions({CapKind.REMOTE: Cap(2, kick_oldest=True)})
    outcomes = [table.handle(event("connect", name), at(0), admission()) for name in "abcb"]
    assert outcomes == [Outcome(), Outcome(), Outcome(None, (Untracked("c"),)), Outcome()]
    assert len(table) == 2


def test_ended_ids_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ENDED", 2)
    table = Sessions()
    for name in "abc":
        table.handle(event("end", name), at(0))
    for name in "abc":
        table.handle(event("revalidate", name), at(0), admission())
    assert [session.id for session in table] == ["a"]


def test_long_texts_do_not_fill_the_memory() -> None:
    table = Sessions()
    long = "x" * 100_000
    for last in "ab":
        request = Request(
            id=long + last, event=Event.CONNECT, node=long, transport=long, path=long, server_name=long, alpn=long,
            role=long, tls=Peer(name=long, fingerprint=long, issuer=long),
        )  # fmt: skip
        table.handle(request, at(0), admission(subject=long + last, grant=long.encode(), tier=long))
    one, other = table
    assert (one.id != other.id, one.subject != other.subject) == (True, True)
    assert table.get(long + "a") is one
    for session in table:
        assert len(repr(session)) < 10_000


def test_neither_query_nor_token_is_kept() -> None:
    table = Sessions()
    table.handle(event("connect", query="jwt=secret"), at(0), admission())
    assert "secret" not in repr(list(table))


def test_an_admission_of_a_grant() -> None:
    grant = Grant(publish=["a"], expires=START + 9, revalidate=5, tier="gold")
    assert Admission.of(grant, Identity(token=b"t", subject="s"), now=START) == Admission(
        token=b"t", subject="s", grant=grant.to_json(now=START), revalidate=5, expires=START + 9, tier="gold"
    )
    with pytest.raises(InvalidGrantError):
        Admission.of(grant, Identity(), now=START + 9)
    with pytest.raises(TypeError):
        Sessions().handle(event("connect"), at(0))


# -- any events, in any order


@dataclass
class Model:
    """A session as the naive table has it."""

    id: str
    holders: dict[CapKind, object]
    first: int
    lease: int | None
    kicked: str | None = None


class AnyEvents(RuleBasedStateMachine):
    """Sessions, and a list that is searched from end to end for each event."""

    @initialize(
        limits=st.fixed_dictionaries(
            {}, optional={kind: st.builds(Cap, st.integers(0, 3), st.booleans()) for kind in CapKind}
        )
    )
    def begin(self, limits: dict[CapKind, Cap]) -> None:
        self.caps = limits
        self.table = Sessions(limits)
        self.model: list[Model] = []
        self.ended: dict[str, float] = {}
        self.steady = 0.0
        self.set_by = 0.0
        self.order = 0

    def count(self, kind: CapKind, holder: object) -> list[Model]:
        return [one for one in self.model if one.kicked is None and one.holders[kind] == holder]

    @rule(seconds=st.sampled_from([0, 0.3, 1, 5, 29.9, 30, 60, 119.5, 4000, 10_000]))
    def wait(self, seconds: float) -> None:
        self.steady += seconds
        expected = self.lapse()
        assert (
            sorted(effect.session.id for effect in self.table.advance(self.now) if isinstance(effect, Lost)) == expected
        )

    @property
    def now(self) -> Instant:
        return at(self.steady, set_by=self.set_by)

    def lapse(self) -> list[str]:
        lost = [one for one in self.model if one.lease is not None and one.lease <= self.steady]
        self.model = [one for one in self.model if one not in lost]
        self.ended = {name: seconds for name, seconds in self.ended.items() if seconds > self.steady - LATE_SECONDS}
        return sorted(one.id for one in lost)

    @rule(
        connect=st.booleans(),
        name=st.sampled_from("abcdefgh"),
        token=st.sampled_from([None, b"t", b"u"]),
        remote=st.sampled_from([None, "192.0.2.1:1", "192.0.2.1:2", "[2001:db8::1]:1"]),
        subject=st.sampled_from([None, "s"]),
        cadence=st.sampled_from([None, 1, 10, 60, 5000]),
        ends=st.sampled_from([None, -5, 10, 90_000]),
    )
    def alive(
        self, *, connect: bool, name: str, token: bytes | None, remote: str | None, subject: str | None,
        cadence: int | None, ends: int | None,
    ) -> None:  # fmt: skip
        expires = None if ends is None else int(self.now.unix) + ends
        request = event("connect" if connect else "revalidate", name, remote)
        outcome = self.table.handle(request, self.now, admission(cadence, expires, token=token, subject=subject))
        kicked = [(effect.session.id, effect.reason) for effect in outcome.effects if isinstance(effect, Kicked)]
        holders: dict[CapKind, object] = {
            CapKind.TOKEN: token,
            CapKind.REMOTE: request.address,
            CapKind.SUBJECT: subject,
        }
        if cadence is not None:
            lease: int | None = math.ceil(self.steady + 2 * cadence)
        elif expires is None:
            lease = None
        else:
            lease = max(math.ceil(self.steady + expires - self.now.unix), int(self.steady) + 1)
        expected = self.expect(name, holders, lease, connect=connect)
        assert ((outcome.refused.reason if outcome.refused else None), kicked) == expected

    def expect(
        self, name: str, holders: dict[CapKind, object], lease: int | None, *, connect: bool
    ) -> tuple[str | None, list[tuple[str, str]]]:
        if name in self.ended:
            return None, []
        for one in self.model:
            if one.id == name:
                if one.kicked is None:
                    one.lease = lease
                return one.kicked, []
        kicked: list[tuple[str, str]] = []
        if connect:
            counted = [(kind, cap) for kind, cap in self.caps.items() if holders[kind] is not None]
            counted.sort(key=lambda item: list(CapKind).index(item[0]))
            for kind, cap in counted:
                full = len(self.count(kind, holders[kind])) >= cap.limit
                if full and (not cap.kick_oldest or cap.limit == 0):
                    return f"{kind}-limit", []
            for kind, cap in counted:
                while len(self.count(kind, holders[kind])) >= cap.limit:
                    oldest = min(self.count(kind, holders[kind]), key=lambda one: one.first)
                    oldest.kicked = f"{kind}-limit"
                    kicked.append((oldest.id, oldest.kicked))
        self.order += 1
        self.model.append(Model(name, holders, self.order, lease))
        return None, kicked

    @rule(name=st.sampled_from("abcdefgh"))
    def end(self, name: str) -> None:
        outcome = self.table.handle(event("end", name), self.now)
        known = any(one.id == name for one in self.model)
        assert [effect.session is not None for effect in outcome.effects if isinstance(effect, Ended)] == (
            [] if name in self.ended else [known]
        )
        self.model = [one for one in self.model if one.id != name]
        self.ended.setdefault(name, self.steady)

    @rule(set_by=st.sampled_from([-3600, -0.5, 0, 10, 3600]))
    def set_clock(self, set_by: float) -> None:
        self.set_by = set_by

    @invariant()
    def same_sessions(self) -> None:
        if not hasattr(self, "table"):
            return
        assert [session.id for session in self.table] == [one.id for one in self.model]
        assert {session.id: session.lease for session in self.table} == {one.id: one.lease for one in self.model}
        assert sum(map(self.table._calendar.count, self.table._calendar)) == len(self.table)  # noqa: SLF001


TestAnyEvents = AnyEvents.TestCase
TestAnyEvents.settings = settings(deadline=None, stateful_step_count=40)


# -- what it costs


def typical(number: int) -> tuple[Request, Admission]:
    request = Request(
        id=f"{number:032x}", event=Event.CONNECT, node="relay-eu-1", transport="quic",
        remote=f"203.0.{number >> 8 & 255}.{number & 255}:{number % 60_000}", local="198.51.100.7:4433",
        server_name="relay.example.com", alpn="moq-lite-06", path=f"/rooms/{number}/alice", query=f"jwt={'x' * 300}",
    )  # fmt: skip
    # As it is read: with texts of its own.
    request = Request.from_json(request.to_json())
    grant = Grant(publish=[f"{number}/**"], subscribe=["**"], expires=START + 3600, revalidate=60)
    return request, Admission.of(
        grant, Identity(token=sha256(b"%d" % number).digest()[:16], subject=f"user-{number}"), now=START
    )


def test_a_session_takes_at_most_one_kibibyte() -> None:
    count = 1000
    for number in range(count):
        typical(number)  # the addresses that reading remembers are not the table's
    table = Sessions({kind: Cap(5) for kind in CapKind})
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for number in range(count):
        request, allowed = typical(number)
        table.handle(request, at(number % 60), allowed)
    gc.collect()
    taken = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert len(table) == count
    assert taken / count <= 1024


def test_the_memory_of_sessions_that_come_and_go_does_not_grow() -> None:
    table = Sessions({kind: Cap(5, kick_oldest=True) for kind in CapKind})
    for number in range(20_000):
        now = at(number)
        name = str(number)
        ends = START + 2 * number + 10**6
        table.handle(event("connect", name), now, admission(None, ends, token=b"t", subject=name))
        table.handle(event("revalidate", name), now, admission(30, token=b"t"))
        if number % 2:
            table.handle(event("end", name), now)
    assert len(table) < 100
    assert len(list(table._calendar)) < 100  # noqa: SLF001
    assert len(table._ended) <= LATE_SECONDS  # noqa: SLF001
    assert all(len(list(cap._holders)) < 100 for cap in table._caps)  # noqa: SLF001


# -- spread


@given(st.integers(1, 10**6), st.text(max_size=40), st.floats(0, MAX_SPREAD))
def test_spread_only_shortens_and_never_by_more_than_a_tenth(seconds: int, name: str, fraction: float) -> None:
    spread_to = spread(seconds, name, fraction)
    assert seconds * (1 - fraction) - 1e-6 <= spread_to <= seconds
    assert spread_to >= 1
    assert spread(seconds, name, fraction) == spread_to
    assert spread(seconds, name, 0) == seconds


def test_spread_uses_the_whole_range() -> None:
    values = {spread(60, str(number)) for number in range(1000)}
    assert values == {55, 56, 57, 58, 59, 60}
    assert len({spread(3600, str(number)) for number in range(1000)}) > 300


@pytest.mark.parametrize("fraction", [-0.01, 0.11, 1.0, math.nan])
def test_spread_beyond_its_bounds(fraction: float) -> None:
    with pytest.raises(ValueError, match=r"between 0 and 0\.1"):
        spread(60, "a", fraction)
