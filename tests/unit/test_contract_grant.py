"""Grants as relays read them (tests/vectors/grants.json), and what cannot be built or written."""

from __future__ import annotations

import copy
import inspect
import json
import pickle
import pydoc
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from moq_token import Claims, InvalidGrantError, InvalidPatternError, Pattern, Patterns, UnauthorizedError, contract
from moq_token.contract import Grant, Peer, Usage

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "grants.json").read_text(encoding="utf-8"))
NOW = VECTORS["now"]

STRICT_READING = {'[["**"],["**"]]': "a list of the members in their order is an accident of the relay's reader"}
STRICT_WRITING = {
    '{"publish":["a"],"root":"*"}': "relay 0.17 refuses a session whose root has a wildcard",
    '{"publish":["a"],"mounts":{"*":"x"}}': "newer relays report an outage for a mount with a wildcard",
}
READINGS = {"useless", "unbounded-revalidate", "zero-revalidate", "expired"}


@pytest.mark.parametrize("row", VECTORS["grants"], ids=lambda row: row["json"][:60])
def test_grants_are_read_as_relays_read_them(row: dict[str, Any]) -> None:
    result = "unparseable" if row["json"] in STRICT_READING else row["result"]
    if result == "valid":
        grant = Grant.from_json(row["json"], now=NOW)
        if row["json"] in STRICT_WRITING:
            with pytest.raises(InvalidGrantError) as caught:
                grant.to_json(now=NOW)
            assert caught.value.reason in {"bad-root", "bad-mounts"}
        else:
            assert grant.to_json(now=NOW).decode() == row["rewritten"]
        return
    with pytest.raises(InvalidGrantError, match=r"^invalid grant: [^\n]{,200}$") as caught:
        Grant.from_json(row["json"], now=NOW)
    assert (caught.value.reason if caught.value.reason in READINGS else "unparseable") == result


def test_the_lists_of_differences_name_rows() -> None:
    rows = {row["json"] for row in VECTORS["grants"]}
    assert rows >= {*STRICT_READING, *STRICT_WRITING}


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({}, "useless"),
        ({"publish": [], "subscribe": (), "mounts": {"a": "b"}, "expires": 5}, "useless"),
        ({"publish": ["a"], "revalidate": 60}, "unbounded-revalidate"),
        ({"publish": ["a"], "revalidate": 0}, "unbounded-revalidate"),
        ({"publish": ["a"], "expires": NOW + 1, "revalidate": 0}, "zero-revalidate"),
        ({"publish": ["a"], "expires": NOW + 1, "revalidate": -1}, "zero-revalidate"),
        ({"publish": ["a"], "expires": 2**63}, "bad-member"),
    ],
)
def test_a_grant_that_relays_do_not_accept_cannot_be_built(members: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidGrantError) as caught:
        Grant(**members)
    assert caught.value.reason == reason


@pytest.mark.parametrize("members", [f'"expires":{NOW + 9},"revalidate":-0', '"expires":-0', f'"expires":{"9" * 5000}'])
def test_an_integer_that_the_originals_do_not_read_is_an_outage_and_ends_no_session(members: str) -> None:
    """Compared with relay 0.17.10: a 0 without the sign ends the session."""
    with pytest.raises(InvalidGrantError) as caught:
        Grant.from_json(f'{{"publish":["a"],{members}}}', now=NOW)
    assert caught.value.reason == "bad-member"


@pytest.mark.parametrize("now", [NOW, NOW + 0.9, NOW + 100])
def test_a_grant_that_has_ended_cannot_be_written(now: float) -> None:
    grant = Grant(publish=["a"], expires=NOW)
    with pytest.raises(InvalidGrantError) as caught:
        grant.to_json(now=now)
    assert caught.value.reason == "expired"
    assert Grant.from_json(grant.to_json(now=NOW - 0.1), now=NOW - 0.1) == grant


@pytest.mark.parametrize(
    "mounts",
    [
        {"a": "b/*"},
        {"*": "b"},
        {"a": "x", "a/b": "y"},
        {"a/b": "y", "/a/": "x"},
        {"": "x"},
        {"/": "x"},
        {"a": "", "a/": ""},
    ],
)
def test_mounts_that_a_relay_refuses_cannot_be_written(mounts: dict[str, str]) -> None:
    with pytest.raises(InvalidGrantError) as caught:
        Grant(publish=["a"], mounts=mounts).to_json(now=NOW)
    assert caught.value.reason == "bad-mounts"


def test_mounts_beside_each_other_are_written_sorted() -> None:
    grant = Grant(publish=["a"], mounts={"ab": "x", "a": "y", "b/c": "z"})
    assert grant.to_json(now=NOW) == b'{"publish":["a"],"mounts":{"a":"y","ab":"x","b/c":"z"}}'


def test_the_order_of_the_members_is_that_of_the_originals() -> None:
    grant = Grant(
        peer=True,
        tier="gold",
        revalidate=60,
        expires=NOW + 60,
        mounts={".svc": ".svc/pid"},
        root="pid/room",
        subscribe=["**", "a"],
        publish=[Pattern("b/**"), "a/*/**"],
        claims=Claims("a", "b"),
    )
    assert grant.to_json(now=NOW).decode() == (
        '{"publish":["a/**/*","b/**"],"subscribe":["**"],"root":"pid/room","mounts":{".svc":".svc/pid"},'
        f'"expires":{NOW + 60},"revalidate":60,"tier":"gold","peer":true}}'
    )


def test_what_is_given_is_converted_and_copied() -> None:
    mounts = {"a": "b"}
    grant = Grant(publish=(text for text in ("a", "a/**")), subscribe=Patterns(["b"]), mounts=mounts)
    mounts["c"] = "d"
    assert grant.publish == Patterns(["a/**"])
    assert grant.mounts == {"a": "b"}
    with pytest.raises(AttributeError):
        grant.tier = "gold"  # type: ignore[misc] # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize(
    "members",
    [
        {"publish": "a"},
        {"publish": None},
        {"publish": ["a"], "expires": 1.0},
        {"publish": ["a"], "expires": True},
        {"publish": ["a"], "expires": "5"},
        {"publish": ["a"], "expires": 5, "revalidate": 1.5},
        {"publish": ["a"], "root": 5},
        {"publish": ["a"], "tier": b"gold"},
        {"publish": ["a"], "mounts": 5},
        {"publish": ["a"], "mounts": "ab"},
        {"publish": ["a"], "mounts": {"a": 5}},
        {"publish": ["a"], "mounts": {5: "a"}},
        {"publish": ["a"], "peer": "yes"},
        {"publish": ["a"], "peer": None},
    ],
)
def test_wrong_types(members: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        Grant(**members)


def test_a_grant_is_frozen_with_its_mounts() -> None:
    given = {"a": "b"}
    grant = Grant(publish=["x"], mounts=given)
    given["c"] = "d"
    mounts: Any = grant.mounts
    assert mounts == {"a": "b"}
    changes: list[Any] = [
        lambda: mounts.__setitem__("x", "y"),
        lambda: mounts.update(x="y"),
        lambda: mounts.pop("a"),
        mounts.clear,
        lambda: mounts.setdefault("x", "y"),
        lambda: mounts.__ior__({"x": "y"}),
        lambda: cast("Any", Grant(publish=["x"])).mounts.__setitem__("x", "y"),
    ]
    for change in changes:
        with pytest.raises(TypeError, match="a grant cannot be changed"):
            change()
    same = Grant(publish=["x"], mounts={"a": "b"})
    assert {grant, same, pickle.loads(pickle.dumps(grant)), copy.deepcopy(grant)} == {grant}  # noqa: S301 - our own
    assert hash(Grant(publish=["x"])) == hash(Grant(publish=["x"]))


def test_help_shows_what_callers_write() -> None:
    assert str(inspect.signature(Grant)).startswith("(*, publish: 'Patterns | Iterable[Pattern | str]' = (), ")
    assert str(inspect.signature(Usage)) == "(sent: 'int', received: 'int')"
    assert "expires: 'int | None' = None" in str(inspect.signature(Peer))
    for name in contract.__all__:
        assert "msgspec.Meta" not in pydoc.plain(pydoc.render_doc(getattr(contract, name)))
    written = list(inspect.signature(Grant).parameters)
    assert written == list(Grant.__struct_fields__)


def test_a_time_in_milliseconds_is_refused_unless_it_is_that_of_the_token() -> None:
    late = 253402300800
    with pytest.raises(InvalidGrantError, match="not milliseconds"):
        Grant(publish=["x"], expires=late).check_unit()
    Grant(publish=["x"], expires=late - 1).check_unit()
    # The end of a token counts as it is, as it does for relays.
    claims = msgspec.structs.replace(Claims("a", publish="x"), expires=late)
    Grant(publish=["x"], expires=late, claims=claims).check_unit()
    certificate = Peer(name="a", fingerprint="b", issuer="CN=c", expires=late)
    Grant(publish=["x"], expires=late).check_unit(certificate)
    with pytest.raises(InvalidGrantError, match="not milliseconds"):
        Grant(publish=["x"], expires=late + 1).check_unit(certificate)


def test_a_bad_pattern_is_named() -> None:
    with pytest.raises(InvalidPatternError, match="segment 1 is empty"):
        Grant(publish=["/a"])
    with pytest.raises(InvalidGrantError, match="segment 1 is empty") as caught:
        Grant.from_json('{"publish":["/a"]}', now=NOW)
    assert caught.value.reason == "bad-pattern"


def test_a_narrowed_grant() -> None:
    grant = Grant(publish=["a/**", "b"], subscribe=["**"], expires=NOW + 9, tier="gold")
    assert grant.narrowed() == grant
    assert grant.narrowed(publish=()) == Grant(subscribe=["**"], expires=NOW + 9, tier="gold")
    assert grant.narrowed(publish=["*/b", "c"], subscribe=["x"]).publish == Patterns(["a/b"])
    with pytest.raises(UnauthorizedError) as caught:
        grant.narrowed(publish=(), subscribe=())
    assert caught.value.reason == "no-access"
