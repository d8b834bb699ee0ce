"""The decision alone: pure, synchronous, and never more than the token grants."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moq_token import (
    Claims,
    ConfigError,
    ExpiredTokenError,
    InvalidSignatureError,
    InvalidTokenError,
    Key,
    KeyNotFoundError,
    KeySet,
    NotAdmittedError,
    Pattern,
    RefusedError,
    ScopeExceededError,
    UnauthorizedError,
    UnavailableError,
)
from moq_token.auth import Certificate, Connection, Grant, PublicAccess, Rejection, decide
from moq_token.trace import Trace
from tests.forge import NOW

if TYPE_CHECKING:
    from collections.abc import Callable

KEY = Key.generate("HS256", "one")
SEGMENTS = st.sampled_from(["a", "b", "a!", "..", "", "é"])
PATHS = st.lists(SEGMENTS, max_size=4).map("/".join)
PREFIXES = st.lists(PATHS, max_size=4)


def reason_of(function: Callable[[], object]) -> str:
    with pytest.raises(RefusedError) as caught:
        function()
    return caught.value.reason


def test_a_token_is_granted_what_it_says_until_it_expires() -> None:
    token = KEY.sign(Claims("rooms/123", publish="alice", subscribe="", expires=NOW + 60))
    grant = decide(Connection("//rooms/123/", token), key=KEY, now=NOW)
    assert grant == Grant("rooms/123", ("alice",), ("",), NOW + 60, "one", "")
    assert decide(Connection("/rooms/123", token), key=KeySet([KEY]), tier="x", now=NOW).tier == "x"
    with pytest.raises(ExpiredTokenError):
        decide(Connection("/rooms/123", token), key=KEY, now=NOW + 60)


def test_without_a_time_the_clock_counts() -> None:
    expired = KEY.sign(Claims("", "", expires=1_000_000_000))
    assert reason_of(lambda: decide(Connection("/", expired), key=KEY)) == "expired"
    assert decide(Connection("/", KEY.sign(Claims("", "", expires=2**37))), key=KEY).publish == ("",)


def test_a_bad_token_never_falls_back_to_what_is_public() -> None:
    public = Claims("", "", "")
    for token, key, reason in (
        ("garbage", KEY, "malformed"),
        ("garbage", None, "no-key-source"),
        (KEY.sign(Claims("", "", expires=1)), KEY, "expired"),
        (KEY.sign(Claims("other", "")), KEY, "root-mismatch"),
        (Key.generate("HS256").sign(Claims("", "")), KEY, "bad-signature"),
    ):
        connection = Connection("/path", token)
        assert reason_of(lambda: decide(connection, key=key, public=public, now=NOW)) == reason  # noqa: B023 - called at once
    assert reason_of(lambda: decide(Connection("/path"), key=KEY)) == "token-expected"


def test_a_token_of_patterns_grants_nothing_here() -> None:
    """Relays before 0.15 do not read ``publish`` and ``subscribe``, whatever these say."""
    for claims in (Claims("", Pattern("a")), Claims("", (), "cam*"), Claims("", ["a", Pattern("b")])):
        connection, trace = Connection("/", KEY.sign(claims)), Trace()
        with pytest.raises(InvalidTokenError, match=r"relays before 0\.15 read `put` and `get`") as caught, trace:
            decide(connection, key=KEY, now=NOW, trace=trace)
        assert (caught.value.reason, trace.failed) == ("useless", "grants")
        assert reason_of(lambda: decide(connection, key=KEY, now=NOW)) == "useless"  # noqa: B023 - called at once


def test_patterns_that_are_public_are_left_out() -> None:
    assert decide(Connection("/"), public=Claims("", ["a", "b*"], "c*"), now=NOW) == Grant("", ("a",), ())
    with pytest.raises(UnauthorizedError, match="only patterns are public") as caught:
        decide(Connection("/"), public=Claims("", "b*", "c*"), now=NOW)
    assert caught.value.reason == "no-access"


def test_what_is_public_has_one_of_two_types() -> None:
    with pytest.raises(TypeError, match="public must be PublicAccess, Claims or None, not str"):
        decide(Connection("/"), public="a")  # type: ignore[arg-type]


def test_a_key_that_may_not_verify_is_as_good_as_none() -> None:
    key = KEY.with_operations(["sign"])
    with pytest.raises(KeyNotFoundError) as caught:
        decide(Connection("/", KEY.sign(Claims("", ""))), key=key, now=NOW)
    assert caught.value.kid == "one"


def test_a_certificate_is_granted_everything_beneath_its_path() -> None:
    connection = Connection("/demo/", "garbage", certificate=Certificate(NOW))
    assert decide(connection, tier="mesh") == Grant("demo", ("",), ("",), NOW, None, "mesh")
    assert decide(connection, alias="x7").root == "x7"


@pytest.mark.parametrize("alias", ["", "a", "a/b/c", "/", "//a//"])
def test_an_alias_has_as_many_segments_as_the_path(alias: str) -> None:
    public = Claims("a/b", "", "")
    assert reason_of(lambda: decide(Connection("/a/b"), public=public, alias=alias)) == "root-mismatch"
    assert decide(Connection("//a//b/"), public=public, alias="x//y/").root == "x/y"


def test_public_prefixes_count_together_where_one_of_them_fits() -> None:
    public = PublicAccess(subscribe=("live",), publish=("live/guests", "inbox"))
    assert public.at("/other") is None
    claims = public.at("/")
    assert claims is not None
    grant = decide(Connection("/"), public=claims)
    assert grant == Grant("", ("inbox", "live/guests"), ("live",))


def test_prefixes_beneath_others_are_dropped() -> None:
    # Compared by characters, `a!` sorts between `a` and `a/b`.
    claims = Claims("", publish=["a/b", "a!", "a", "a!/c", "ab", "a"])
    assert decide(Connection("/"), public=claims).publish == ("a", "a!", "ab")


def test_a_grant_answers_for_broadcasts() -> None:
    grant = Grant("rooms", ("alice",), ("", "bob"))
    assert grant.can_publish("alice")
    assert grant.can_publish("/alice//camera")
    assert not grant.can_publish("alicia")
    assert not grant.can_publish("")
    assert grant.can_subscribe("anything/at/all")
    assert not Grant("rooms", (), ("",)).can_publish("x")
    assert not Grant("rooms", ("",), ()).can_subscribe("x")


@given(PATHS, PATHS, PREFIXES, PREFIXES, PATHS)
def test_a_decision_never_grants_more_than_the_claims_nor_less(
    path: str, root: str, publish: list[str], subscribe: list[str], broadcast: str
) -> None:
    claims = Claims(root, publish, subscribe)
    try:
        permissions = claims.authorize(path or "/")
    except UnauthorizedError as error:
        expected = error.reason
        if publish or subscribe:
            token = KEY.sign(claims)
            assert reason_of(lambda: decide(Connection(path, token), key=KEY, now=NOW)) == expected
        assert reason_of(lambda: decide(Connection(path), public=claims)) == expected
        return
    grant = decide(Connection(path, KEY.sign(claims)), key=KEY, now=NOW)
    assert decide(Connection(path), public=claims) == Grant(grant.root, grant.publish, grant.subscribe)
    assert set(grant.publish) <= set(permissions.publish)
    assert set(grant.subscribe) <= set(permissions.subscribe)
    # What was dropped lies beneath what was kept, so that each broadcast is granted exactly as by the claims.
    for asked in (broadcast, *map(str, (*permissions.publish, *permissions.subscribe))):
        assert grant.can_publish(asked) == permissions.can_publish(asked)
        assert grant.can_subscribe(asked) == permissions.can_subscribe(asked)


def test_a_refusal_keeps_its_reason_on_the_way() -> None:
    assert NotAdmittedError.__bases__ == (RefusedError,)
    for error, reason in (
        (NotAdmittedError("m"), "token-expected"),
        (NotAdmittedError("m", reason="no-key-source"), "no-key-source"),
    ):
        for carried in (error, copy.copy(error), pickle.loads(pickle.dumps(error))):  # noqa: S301 - made here
            assert (type(carried), carried.reason, str(carried)) == (NotAdmittedError, reason, "m")


@pytest.mark.parametrize(
    ("error", "rejection"),
    [
        (UnauthorizedError("secret"), Rejection(403, "forbidden")),
        (UnauthorizedError("secret", reason="root-mismatch"), Rejection(403, "forbidden")),
        (KeyNotFoundError("secret", kid="one"), Rejection(401, "unauthorized")),
        (InvalidSignatureError("secret"), Rejection(401, "unauthorized")),
        (ExpiredTokenError("secret", expires=1), Rejection(401, "unauthorized")),
        (ScopeExceededError("secret", path="a"), Rejection(401, "unauthorized")),
        (InvalidTokenError("secret", reason="bad-kid"), Rejection(401, "unauthorized")),
        (NotAdmittedError("secret"), Rejection(401, "unauthorized")),
        (UnavailableError("secret"), Rejection(502, "unavailable")),
        (ConfigError("secret"), Rejection(502, "unavailable")),
    ],
)
def test_a_client_is_told_little(error: RefusedError, rejection: Rejection) -> None:
    assert Rejection.of(error) == rejection


def test_deciding_touches_no_file_and_no_network() -> None:
    program = """
import sys
from moq_token import Claims, Key
from moq_token.auth import Connection, decide
key = Key.generate("HS256")
token = key.sign(Claims("a", "b", expires=2**37))
decide(Connection("/a", token), key=key)
seen = []
sys.addaudithook(lambda event, _: seen.append(event))
decide(Connection("/a", token), key=key)
print([event for event in seen if event.split(".")[0] in {"open", "socket", "os", "import", "subprocess"}])
"""
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"
