"""Denials: their records, how they merge, whom they match, and what they leave of a grant."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from moq_token import InvalidDenialError, RefusedError
from moq_token.contract import Grant
from moq_token.server import denials as module
from moq_token.server.denial import KEPT_SECONDS, Denial, Facts, Matcher
from moq_token.server.denials import Denials
from moq_token.server.session import Place, Session
from moq_token.server.verdict import Verdict, concerns

NOW = 1_800_000_000
LATER = NOW + 3600
DIGEST = "0123456789abcdef" * 2
LONG = "x" * 500


def denial(**members: Any) -> Denial:  # noqa: ANN401 - those of a denial
    return Denial(**{"until": LATER, **members})


def facts(**members: Any) -> Facts:  # noqa: ANN401 - those of a session
    if "address" in members:
        members["address"] = ipaddress.ip_address(members["address"])
    return Facts(**members)


def refused(known: Denials, who: Facts, now: float = NOW) -> bool:
    verdict = known.match(who, now)
    return verdict is not None and verdict.refusing is not None


# -- records


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({}, "needs at least one of"),
        ({"everybody": True}, "`everybody` needs `issued_before`"),
        ({"role": "publish"}, "needs at least one of"),
        ({"issued_before": NOW}, "add `everybody`"),
        ({"issued_before": NOW, "everybody": True, "subject": "a"}, "without any other matcher"),
        ({"subject": "a", "everybody": True}, "without any other matcher"),
        ({"token": "eyJhbGciOiJub25lIn0.e30."}, "digest of 32"),
        ({"token": DIGEST.upper()}, "digest of 32"),
        ({"kid": "../x"}, "`kid`"),
        ({"kid": ""}, "`kid`"),
        ({"subject": ""}, "must not be empty"),
        ({"remote": "192.0.2.1:443"}, "without a port"),
        ({"remote": "example.com"}, "address or a network"),
        ({"remote": "192.0.2.0/33"}, "address or a network"),
        ({"path": "a/**/b/**"}, "`path`"),
        ({"subject": "a", "narrow_path": "a*b*c"}, "`narrow_path`"),
        ({"subject": "a", "until": 0}, "`until`"),
        ({"subject": "a", "until": NOW * 1000}, "`until`"),
        ({"subject": "a", "issued_before": -1}, "`issued_before`"),
        ({"subject": "a", "at": -1.0}, "`at`"),
        ({"subject": "a", "at": float("nan")}, "`at`"),
        ({"subject": "a", "kept": -1}, "`at` and `kept`"),
        ({"subject": "a", "reason": "two\nlines"}, "`reason`"),
        ({"subject": "a", "author": "x" * 257}, "`author`"),
        ({"subject": "a", "id": "0" * 20}, "`id`"),
    ],
)
def test_a_denial_that_makes_no_sense_is_an_error(members: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidDenialError, match=message):
        denial(**members)


@pytest.mark.parametrize(
    "document",
    [b"", b"{}", b"[]", b'{"until":1}', b'{"until":"x","subject":"a"}', b'{"until":1,"subject":"a","role":"both"}'],
)
def test_json_that_is_no_denial_is_an_error(document: bytes) -> None:
    with pytest.raises(InvalidDenialError):
        Denial.from_json(document)


@pytest.mark.parametrize(
    ("members", "others"),
    [
        ({"remote": "192.0.2.7"}, {"remote": "::ffff:192.0.2.7"}),
        ({"remote": "192.0.2.7"}, {"remote": "192.0.2.7/32"}),
        ({"remote": "192.0.2.0/24"}, {"remote": "192.0.2.9/24"}),
        ({"remote": "192.0.2.0/24"}, {"remote": "::ffff:192.0.2.0/120"}),
        ({"remote": "2001:db8::1"}, {"remote": "2001:DB8:0::1"}),
        ({"subject": "a"}, {"subject": "a", "until": NOW, "reason": "r", "author": "b", "at": 1.5, "lifted": True}),
    ],
)
def test_the_same_denial_has_the_same_id(members: dict[str, Any], others: dict[str, Any]) -> None:
    assert denial(**members).id == denial(**others).id


def test_other_denials_have_other_ids() -> None:
    members: list[dict[str, Any]] = [
        {"subject": "a"},
        {"subject": "b"},
        {"jti": "a"},
        {"kid": "a"},
        {"session": "a"},
        {"path": "a"},
        {"path": "a/**"},
        {"subject": "a", "path": "a"},
        {"subject": "a", "issued_before": NOW},
        {"issued_before": NOW, "everybody": True},
        {"subject": "a", "role": "publish"},
        {"subject": "a", "role": "subscribe"},
        {"subject": "a", "narrow_path": "a"},
    ]
    assert len({denial(**each).id for each in members}) == len(members)


def test_an_id_that_is_written_down_stays_the_same() -> None:
    # The state file and other nodes have it.
    assert denial(subject="alice").id == "0a9be634f1a35fa0d213"


# -- whom it matches


@pytest.mark.parametrize(
    ("members", "hit", "missed"),
    [
        ({"token": DIGEST}, {"token": DIGEST}, {"token": "f" * 32}),
        ({"jti": "j"}, {"jti": "j"}, {"jti": "J"}),
        ({"jti": LONG}, {"jti": LONG}, {"jti": LONG + "x"}),
        ({"kid": "k"}, {"kid": "k"}, {"kid": None}),
        ({"subject": "alice"}, {"subject": "alice"}, {"subject": "alice "}),
        ({"subject": LONG}, {"subject": LONG}, {"subject": LONG[:-1]}),
        ({"session": "s"}, {"session": "s"}, {"session": "t"}),
        ({"remote": "192.0.2.7"}, {"address": "192.0.2.7"}, {"address": "192.0.2.8"}),
        ({"remote": "192.0.2.0/24"}, {"address": "192.0.2.255"}, {"address": "192.0.3.0"}),
        ({"remote": "0.0.0.0/0"}, {"address": "203.0.113.9"}, {"address": "2001:db8::1"}),
        ({"remote": "::ffff:192.0.2.7"}, {"address": "192.0.2.7"}, {"address": "192.0.2.8"}),
        ({"remote": "2001:db8::/32"}, {"address": "2001:db8:ffff::1"}, {"address": "2001:db9::"}),
        ({"remote": "192.0.2.7"}, {"address": "192.0.2.7"}, {}),
        ({"path": "demo/**"}, {"path": "/demo//a"}, {"path": "demos"}),
        ({"path": "**"}, {"path": "/"}, None),
        ({"path": "demo"}, {"path": "/demo/"}, {"path": "/demo/a"}),
        ({"path": "real/**"}, {"path": "/alias", "root": "real/x"}, {"path": "/alias", "root": "other"}),
        ({"path": "alias"}, {"path": "/alias", "root": "real/x"}, {"path": "/other", "root": "real"}),
        ({"subject": "a", "path": "x/**"}, {"subject": "a", "path": "x"}, {"subject": "a", "path": "y"}),
        ({"subject": "a", "remote": "192.0.2.1"}, {"subject": "a", "address": "192.0.2.1"}, {"subject": "a"}),
        ({"kid": "k", "issued_before": NOW}, {"kid": "k", "issued": NOW - 1}, {"kid": "k", "issued": NOW}),
        # It cannot show that it is newer.
        ({"kid": "k", "issued_before": NOW}, {"kid": "k", "token": DIGEST}, {"kid": "j", "token": DIGEST}),
        ({"issued_before": NOW, "everybody": True}, {"token": DIGEST}, {"address": "192.0.2.1", "path": "/x"}),
        ({"issued_before": NOW, "everybody": True}, {"subject": "a"}, {"issued": NOW + 1}),
    ],
)
def test_a_denial_matches(members: dict[str, Any], hit: dict[str, Any], missed: dict[str, Any] | None) -> None:
    known = Denials([denial(**members)])
    assert refused(known, facts(**hit))
    assert not refused(known, facts(**hit), LATER)
    assert not refused(known, facts()) or missed is None
    if missed is not None:
        assert not refused(known, facts(**missed))


def test_a_denial_is_in_force_until_its_end_whatever_the_clock_did_meanwhile() -> None:
    known = Denials([denial(subject="a")])
    assert known.advance(LATER + KEPT_SECONDS - 1) == ()
    assert not refused(known, facts(subject="a"), LATER)
    assert refused(known, facts(subject="a"), LATER - 1)
    assert known.advance(LATER + KEPT_SECONDS) == (denial(subject="a"),)
    assert (len(known), known.match(facts(subject="a"), NOW)) == (0, None)


# -- merging


def test_of_the_same_denial_the_later_one_counts() -> None:
    known = Denials()
    first = known.stamped(denial(subject="a", reason="first"), NOW, "n")
    assert known.put(first)
    assert not known.put(first)
    second = known.stamped(denial(subject="a", reason="second"), NOW - 3600, "n")  # the clock was set back
    assert known.put(second)
    assert not known.put(first)
    assert [each.reason for each in known] == ["second"]


def test_a_lifted_denial_stays_lifted_when_the_older_one_comes_again() -> None:
    known = Denials()
    first = known.stamped(denial(subject="a"), NOW, "n")
    known.put(first)
    lifted = known.lifting(first.id, NOW, node="n", author="bob")
    assert lifted is not None
    assert lifted.author == "bob"
    assert known.put(lifted)
    assert not known.put(first)
    assert not refused(known, facts(subject="a"))
    assert known.in_force(NOW) == []
    assert known.lifting(first.id, NOW) is None
    again = known.stamped(denial(subject="a"), NOW, "n")
    assert known.put(again)
    assert refused(known, facts(subject="a"))


def test_a_shorter_denial_is_kept_as_long_as_the_one_that_it_replaces() -> None:
    known = Denials()
    long = known.stamped(denial(subject="a", until=NOW + 86400), NOW, "n")
    known.put(long)
    known.put(known.stamped(denial(subject="a", until=NOW + 60), NOW + 1, "n"))
    known.advance(NOW + 60 + KEPT_SECONDS)
    assert not known.put(long)  # from a node that did not hear of the second
    assert not refused(known, facts(subject="a"), NOW + 60)
    known.advance(NOW + 86400 + KEPT_SECONDS)
    assert len(known) == 0


def test_the_number_of_denials_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_DENIALS", 3)
    monkeypatch.setattr(module, "MAX_PATHS", 2)
    known = Denials([denial(path="a"), denial(path="b")])
    with pytest.raises(InvalidDenialError, match="of paths: the limit is 2") as caught:
        known.put(denial(path="c"))
    assert caught.value.reason == "too-many"
    known.put(denial(path="c", subject="s"))
    with pytest.raises(InvalidDenialError, match="the limit is 3"):
        known.put(denial(subject="t"))
    assert known.put(denial(path="b", at=2.0))
    assert len(known) == 3


def test_a_session_is_compared_only_with_denials_whose_path_starts_as_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    known = Denials(denial(path=f"rooms/{number}{end}") for number in range(300) for end in ("", "/**", "/*/hd"))
    compared: list[str | None] = []
    matches = Matcher.matches

    def compare(own: Matcher, who: Facts) -> bool:
        compared.append(own.denial.path)
        return matches(own, who)

    monkeypatch.setattr(Matcher, "matches", compare)
    assert refused(known, facts(path="/rooms/7/cam/hd"))
    assert sorted(map(str, compared)) == ["rooms/7", "rooms/7/**", "rooms/7/*/hd"]
    assert not refused(known, facts(path="/rooms/300" + "/x" * 1000))


_values = st.sampled_from(["a", "b"])
_matchers = st.fixed_dictionaries(
    {},
    optional={
        "jti": _values,
        "subject": _values,
        "kid": _values,
        "session": _values,
        "token": st.sampled_from([DIGEST, "f" * 32]),
        "remote": st.sampled_from(["192.0.2.1", "192.0.2.0/24", "192.0.0.0/8", "2001:db8::/32", "::/0"]),
        "path": st.sampled_from(["", "a", "a/**", "**", "*/b", "b/**", "a/*", "a/b", "a/b/**", "a/b*/**", "**/b"]),
        "issued_before": st.sampled_from([NOW - 10, NOW]),
    },
).filter(bool)
_denials = st.builds(
    lambda members, others: denial(**members, **others, everybody=list(members) == ["issued_before"]),
    _matchers,
    st.fixed_dictionaries(
        {
            "until": st.integers(NOW - 2, NOW + 2),
            "at": st.integers(1, 3).map(float),
            "node": _values,
            "lifted": st.booleans(),
            "role": st.sampled_from([None, None, "publish", "subscribe"]),
        }
    ),
)
_facts = st.builds(
    lambda **members: Facts(**members),  # noqa: PLW0108 - hypothesis cannot read the types of the class
    session=_values,
    token=st.sampled_from([None, DIGEST]),
    jti=st.none() | _values,
    kid=st.none() | _values,
    subject=st.none() | _values,
    address=st.sampled_from(
        [None, *map(ipaddress.ip_address, ("192.0.2.1", "192.0.2.2", "192.1.1.1", "2001:db8::1", "::1"))]
    ),
    path=st.sampled_from(["/", "/a", "/a/b", "b", "a//b/c"]),
    root=st.sampled_from([None, "a", "b"]),
    issued=st.sampled_from([None, NOW - 11, NOW - 5, NOW]),
)


@given(st.lists(_denials, max_size=12), _facts, st.integers(NOW - 2, NOW + 2), st.randoms())
def test_the_lookup_finds_what_comparing_with_all_finds(
    given_denials: list[Denial],
    who: Facts,
    now: int,
    random: Any,  # noqa: ANN401 - random.Random
) -> None:
    known = Denials(given_denials)
    latest: dict[str, Denial] = {}
    for each in given_denials:
        if each.id not in latest or each.replaces(latest[each.id]):
            latest[each.id] = each
    hits = [each for each in latest.values() if not each.lifted and now < each.until and Matcher(each).matches(who)]
    expected = Verdict(
        min((each for each in hits if each.refuses), key=lambda each: each.id, default=None),
        tuple(sorted((each for each in hits if not each.refuses), key=lambda each: each.id)),
    )
    assert (known.match(who, now) or Verdict(None)) == expected
    # In any order, and again, the result is the same.
    shuffled = [*given_denials, *given_denials]
    random.shuffle(shuffled)
    other = Denials(Denial.from_json(each.to_json()) for each in shuffled)
    assert sorted(other, key=lambda each: each.id) == sorted(latest.values(), key=lambda each: each.id)
    assert other.match(who, now) == known.match(who, now)
    # Forgetting what has ended long ago changes no answer.
    known.advance(now + KEPT_SECONDS)
    assert other.match(who, now) == known.match(who, now)
    for each in list(known):
        known.put(replace(each, at=9.0, lifted=True))
    assert known.match(who, now) is None
    known.advance(NOW + KEPT_SECONDS + 3)
    assert len(known) == 0


# -- what is left of a grant


@pytest.mark.parametrize(
    ("members", "publish", "subscribe"),
    [
        ({"role": "publish"}, (), ("cam/*", "chat/**")),
        ({"role": "subscribe"}, ("cam/a",), ()),
        ({"narrow_path": "room/chat/**"}, ("cam/a",), ("cam/*",)),
        ({"narrow_path": "room/cam/a"}, (), ("chat/**",)),
        ({"narrow_path": "room/cam/a", "role": "subscribe"}, ("cam/a",), ("chat/**",)),
        ({"narrow_path": "other/**"}, ("cam/a",), ("cam/*", "chat/**")),
        ({"narrow_path": "room/chat/x"}, ("cam/a",), ("cam/*",)),
    ],
)
def test_a_narrowing(members: dict[str, Any], publish: tuple[str, ...], subscribe: tuple[str, ...]) -> None:
    grant = Grant(publish=["cam/a"], subscribe=["cam/*", "chat/**"], expires=LATER)
    left = Verdict(None, (denial(subject="s", **members),)).apply(grant, "/room/")
    assert left == Grant(publish=publish, subscribe=subscribe, expires=LATER)


def test_a_narrowing_that_leaves_nothing_is_a_refusal() -> None:
    grant = Grant(publish=["**"], subscribe=["**"])
    narrowings = denial(subject="s", role="publish"), denial(subject="s", narrow_path="a/**", role="subscribe")
    with pytest.raises(RefusedError, match="nothing is left of the grant, banned until 2027-01-15") as caught:
        Verdict(None, narrowings).apply(grant, "/")
    assert caught.value.reason == "banned"


def test_a_narrowing_counts_from_the_root_of_the_grant_and_of_its_mounts() -> None:
    grant = Grant(publish=["x"], subscribe=["**"], root="real", mounts={"m": "secret/a", "n": "open"})
    only = Verdict(None, (denial(subject="s", narrow_path="secret/**"),)).apply(grant, "/alias")
    assert only == replace(grant, mounts={"n": "open"})
    left = Verdict(None, (denial(subject="s", narrow_path="real/x"),)).apply(replace(grant, subscribe=["y"]), "/alias")
    assert (len(left.publish), len(left.subscribe)) == (0, 1)


def test_a_refusal_says_until_when_and_why() -> None:
    banned = denial(subject="s", reason="spam")
    with pytest.raises(RefusedError, match=rf"^banned until 2027-01-15 09:00:00 UTC: spam \(denial {banned.id}\)$"):
        Verdict(banned).apply(Grant(publish=["**"]), "/")


# -- live sessions


def session(session_id: str, grant: bytes = b'{"publish":["**"],"subscribe":["**"]}', **members: Any) -> Session:  # noqa: ANN401
    place = Place(node="n", transport="quic", local=None, server_name=None, alpn=None, role=None)
    blank = dict.fromkeys(("remote", "tls", "token", "jti", "kid", "subject", "issued", "tier", "root", "revalidate"))
    times = {"expires": None, "first": 0.0, "began": 0.0, "last": 0.0, "lease": None}
    return Session(**{"id": session_id, "place": place, "grant": grant, "path": "/", **blank, **times, **members})


def test_the_live_sessions_that_a_denial_is_for() -> None:
    alice = session("1", subject="alice", kid="k", token=bytes.fromhex(DIGEST), remote="192.0.2.1:5", path="/a/b")
    bob = session("2", subject="bob", kid="k", jti="j", issued=NOW, remote="[2001:db8::1]:5")
    nobody = session("3", grant=b'{"subscribe":["x"]}')
    everyone = [alice, bob, nobody]
    cases: list[tuple[dict[str, Any], list[Session]]] = [
        ({"subject": "alice"}, [alice]),
        ({"kid": "k"}, [alice, bob]),
        ({"jti": "j"}, [bob]),
        ({"token": DIGEST}, [alice]),
        ({"session": "3"}, [nobody]),
        ({"remote": "192.0.2.0/30"}, [alice]),
        ({"path": "a/**"}, [alice]),
        ({"path": "**"}, everyone),
        ({"issued_before": NOW, "everybody": True}, [alice]),
        # A session that has nothing to lose is not concerned.
        ({"path": "**", "role": "publish"}, [alice, bob]),
        ({"path": "**", "narrow_path": "y"}, [bob]),
        ({"path": "**", "narrow_path": "a/b/x"}, [alice, bob]),
        ({"path": "**", "narrow_path": "x"}, [bob, nobody]),
    ]
    for members, hit in cases:
        assert list(filter(concerns(denial(**members)), everyone)) == hit, members
