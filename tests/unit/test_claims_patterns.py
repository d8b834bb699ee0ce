"""Claims and scopes with patterns, compared with the libraries of the relays (tests/vectors) and a brute-force model.

Rows in which this package differs on purpose are listed first, each with the reason.
"""

from __future__ import annotations

import contextlib
import copy
import itertools
import json
import pickle
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moq_token import (
    Algorithm,
    Claims,
    InvalidClaimsError,
    InvalidKeyError,
    InvalidPatternError,
    InvalidTokenError,
    Key,
    KeySet,
    Pattern,
    Patterns,
    Permissions,
    RefusedError,
    Scope,
    ScopeExceededError,
    UnauthorizedError,
)
from moq_token.auth import Connection, PublicAccess, decide
from moq_token.claims.grants import MAX_WILDCARDS
from moq_token.claims.scope import exceeded
from moq_token.claims.wire import decode_scope, scope_members
from moq_token.pattern import MAX_SEGMENTS
from moq_token.patterns import MAX_PATTERNS
from tests import forge

Row = dict[str, Any]

VECTORS = Path(__file__).parents[1] / "vectors"
CLAIMS = json.loads((VECTORS / "claims.json").read_text(encoding="utf-8"))
PATTERNS = json.loads((VECTORS / "patterns.json").read_text(encoding="utf-8"))
KEY = Key.from_members(CLAIMS["key"])
NOW = CLAIMS["now"] + 0.4

# Accepted by the relays of the second generation, refused here when strict.
STRICTER: dict[str, str] = {
    '{"put":["a"],"iat":-5}': "a time before 1970 is refused",
}
# What the first generation says differently, here when not strict.
FIRST_STRICTER: dict[str, str] = {
    '{"put":["a"],"iat":-5}': "a time before 1970 is refused",
    '{"put":["a"],"aud":null}': "a token with an `aud` is for another service, whatever the value",
    '{"put":["a"],"nbf":4102444800}': "`nbf` is enforced everywhere",
    '{"put":["a"],"nbf":"1"}': "`nbf` is enforced everywhere",
    '{"put":["a"],"nbf":1.5}': "`nbf` is enforced everywhere",
}
FIRST_LOOSER: dict[str, str] = {
    '{"put":["a"],"exp":4102444800.0}': "a float without a fraction is a whole number",
    '{"put":["a"],"iss":1,"sub":["x"],"jti":{"a":1}}': "unknown claims are ignored, `sub` of another type among them",
    '{"put":["a"],"sub":{"a":1}}': "unknown claims are ignored, `sub` of another type among them",
}


def patterns_of(grants: tuple[str | Pattern, ...]) -> list[str]:
    """Write what is held as the second generation does."""
    return list(map(str, Patterns(Pattern.subtree(grant) if isinstance(grant, str) else grant for grant in grants)))


def claims_of(row: Row) -> Claims:
    return Claims(row["root"], map(Pattern, row["publish"]), map(Pattern, row["subscribe"]))


def scope_of(row: Row) -> Scope:
    return Scope(row["root"], map(Pattern, row["publish"]), map(Pattern, row["subscribe"]))


def token(wire: str) -> str:
    return forge.token(Algorithm.HS256, wire.encode(), CLAIMS["header"], signed_by_key)


def signed_by_key(data: bytes) -> bytes:
    return forge.mac(Algorithm.HS256, forge.unb64(CLAIMS["key"]["k"]), data)


def by_wire(row: Row) -> str:
    return str(row.get("wire", ""))[:60]


@pytest.mark.parametrize("row", CLAIMS["write"], ids=by_wire)
def test_write(row: Row) -> None:
    given = row["claims"]
    claims = claims_of(given).with_expires(given["expires"]).with_issued(given["issued"])
    written, theirs = json.loads(claims.to_json()), json.loads(row["wire"])
    assert list(written) == ["root", *(name for name in theirs if name != "root")]  # which TypeScript 0.2 requires
    for role in ("put", "get"):  # lists of paths are kept as they are given
        assert patterns_of(tuple(written.pop(role, ()))) == patterns_of(tuple(theirs.pop(role, ())))
    assert written == {"root": "", **theirs}
    assert bool(claims.publish or claims.subscribe) == row["useful"]
    if row["useful"]:
        assert KEY.verify(KEY.sign(claims), now=-1, strict=True) == claims


@pytest.mark.parametrize("row", CLAIMS["scope_write"], ids=by_wire)
def test_write_scopes(row: Row) -> None:
    scope = scope_of(row["scope"])
    assert scope_members(scope) == json.loads(row["wire"])
    if row["useful"]:
        assert Key.from_str(KEY.with_scope(scope).to_json()).scope == scope


@pytest.mark.parametrize(
    ("wire", "why"),
    [
        ('{"put":["a"],"exp":9007199254740992}', "a time beyond 2**53 - 1 is not exact in every reader"),
        ('{"put":["a"],"iat":9223372036854775807}', "a time beyond 2**53 - 1 is not exact in every reader"),
        ('{"put":["a"],"nbf":-1}', "a time before 1970 is refused"),
        ('{"put":["a"],"sub":"\\ud800"}', "text that UTF-8 cannot encode is refused, wherever it is"),
        ('{"put":["a"],"iss":"\\ud800"}', "text that UTF-8 cannot encode is refused, wherever it is"),
        (f'{{"put":["a"],"iss":{"9" * 641}}}', "the digits of a number are bounded"),
        (f'{{"publish":["{"x" * 8193}"]}}', "the length of a pattern is bounded"),
    ],
)
def test_more_that_moq_auth_verify_reads_and_we_refuse_on_purpose(wire: str, why: str) -> None:
    assert why
    for strict in False, True:
        with pytest.raises(InvalidTokenError):
            KEY.verify(token(wire), now=NOW, strict=strict)


@pytest.mark.parametrize("token_root", ["", "/".join(["d"] * 31)])
@pytest.mark.parametrize(
    ("publish", "subscribe"), [(["x"], ["x/y"]), (["x", "x/y"], []), (["x"], ["y/**", "z/*"]), (["x"], ["y*/z"])]
)
def test_a_root_too_deep_for_one_grant_of_a_scope_permits_nothing(
    token_root: str, publish: list[str], subscribe: list[str]
) -> None:
    root = "/".join(["d"] * 31)  # `moq auth verify` refuses these tokens: the capabilities exceed the key scope
    key = Key.from_members({**CLAIMS["key"], "scope": {"root": root, "publish": publish, "subscribe": subscribe}})
    granted = "x" if token_root else f"{root}/x"
    signed = KEY.sign(Claims(token_root, publish=Pattern(granted)))
    for strict in False, True:
        with pytest.raises(ScopeExceededError):
            key.verify(signed, strict=strict)
    fits = Key.from_members({**CLAIMS["key"], "scope": {"root": root, "publish": ["x"], "subscribe": ["y"]}})
    assert fits.verify(signed, strict=True).publish == (Pattern(granted),)


@pytest.mark.parametrize("row", CLAIMS["read"], ids=by_wire)
def test_read_strictly(row: Row) -> None:
    try:
        claims = KEY.verify(token(row["wire"]), now=NOW, strict=True)
    except RefusedError:
        assert not row["verified"] or row["wire"] in STRICTER
        return
    assert row["verified"]
    assert row["wire"] not in STRICTER
    theirs = row["claims"]
    assert (claims.root, claims.expires, claims.issued) == (theirs["root"], theirs["expires"], theirs["issued"])
    assert claims.not_before == theirs["not_before"]
    assert patterns_of(claims.publish) == theirs["publish"]
    assert patterns_of(claims.subscribe) == theirs["subscribe"]


@pytest.mark.parametrize("row", CLAIMS["read"], ids=by_wire)
def test_read_as_the_first_generation(row: Row) -> None:
    wire, old = row["wire"], row["old"]
    try:
        claims = KEY.verify(token(wire), now=NOW)
    except RefusedError:
        assert not old["verified"] or wire in FIRST_STRICTER
        assert not row["verified"] or wire in FIRST_STRICTER
        return
    assert wire not in FIRST_STRICTER
    if old["verified"]:
        assert (claims.root, claims.publish, claims.subscribe) == (
            old["root"],
            tuple(old["publish"]),
            tuple(old["subscribe"]),
        )
    else:
        assert row["verified"] or wire in FIRST_LOOSER


@pytest.mark.parametrize("row", CLAIMS["scope_read"], ids=by_wire)
def test_read_scopes(row: Row) -> None:
    jwk = {**CLAIMS["key"], "scope": json.loads(row["wire"])}
    try:
        scope = Key.from_members(jwk).scope
    except InvalidKeyError:
        assert not row["key_loads"]["ok"]
        return
    assert row["key_loads"]["ok"]
    assert (scope is not None) == row["key_loads"]["has_scope"]
    if scope is None:
        return
    assert scope.root == row["scope"]["root"]
    assert patterns_of(scope.publish) == row["scope"]["publish"]
    assert patterns_of(scope.subscribe) == row["scope"]["subscribe"]


@pytest.mark.parametrize("number", range(len(PATTERNS["authorize"])))
def test_authorize(number: int) -> None:
    row = PATTERNS["authorize"][number]
    result = row["result"]
    claims = claims_of(row)
    try:
        allowed = claims.authorize(row["path"])
    except UnauthorizedError as refusal:
        expected = "root-mismatch" if result.get("error") == "root-mismatch" else "no-access"
        assert (result["ok"], refusal.reason) == (False, expected), row  # noqa: PT017 - an answer may be due as well
        return
    grants = (*claims.publish, *claims.subscribe)
    if result.get("error") == "too-many-segments" and all(isinstance(grant, str) for grant in grants):
        return  # prefixes have no limit in the first generation
    assert result["ok"], row
    assert patterns_of(allowed.publish) == result["publish"], row
    assert patterns_of(allowed.subscribe) == result["subscribe"], row


@pytest.mark.parametrize("number", range(len(PATTERNS["scope"])))
def test_scope(number: int) -> None:
    row = PATTERNS["scope"][number]
    scope, claims = scope_of(row["scope"]), claims_of(row["claims"])
    assert bool(scope.publish or scope.subscribe) == row["valid"]
    assert (exceeded(scope, claims, as_patterns=True) is None) == row["allows"]
    if "*" not in scope.root + claims.root and scope.root.count("/") < MAX_SEGMENTS - 1:
        assert scope.allows(claims) == row["allows"]


# -- by brute force

SEGMENTS = ["a", "b", "ab"]
PATHS = ["/".join(path) for length in range(5) for path in itertools.product(SEGMENTS, repeat=length)]
ROOTS = st.sampled_from(["", "a", "b", "a/b", "/a//", "ab/a"])
GRANTS = st.lists(
    st.lists(st.sampled_from(["a", "b", "ab", "*", "a*", "*b", "**"]), max_size=3)
    .filter(lambda segments: segments.count("**") < 2)
    .map("/".join)
    .flatmap(lambda text: st.sampled_from([text, Pattern(text)])),
    max_size=4,
)


def below(root: str, path: str) -> str | None:
    """Return what is left of a path below a root, by their segments."""
    root_segments, segments = list(filter(None, root.split("/"))), list(filter(None, path.split("/")))
    length = len(root_segments)
    return "/".join(segments[length:]) if segments[:length] == root_segments else None


def granted(root: str, grants: list[str | Pattern], path: str) -> bool:
    """Whether grants below a root cover a path from the top."""
    rest = below(root, path)
    if rest is None:
        return False
    return any(
        below(grant, rest) is not None
        if isinstance(grant, str) and "*" not in grant
        else Pattern(str(grant)).matches(rest)
        for grant in grants
    )


@given(root=ROOTS, grants=GRANTS, dialed=st.sampled_from(PATHS), broadcast=st.sampled_from(PATHS))
def test_authorize_grants_what_the_model_does(
    root: str, grants: list[str | Pattern], dialed: str, broadcast: str
) -> None:
    expected = granted(root, grants, f"{dialed}/{broadcast}")
    for claims in (Claims(root, grants), Claims(root, (), grants)):
        try:
            allowed = claims.authorize(dialed)
        except UnauthorizedError:
            assert not expected
            continue
        assert allowed.can_publish(broadcast) == (expected and bool(claims.publish))
        assert allowed.can_subscribe(broadcast) == (expected and bool(claims.subscribe))


@given(root=ROOTS, grants=GRANTS, more=GRANTS, dialed=st.sampled_from(PATHS), broadcast=st.sampled_from(PATHS))
def test_authorize_is_monotone(
    root: str, grants: list[str | Pattern], more: list[str | Pattern], dialed: str, broadcast: str
) -> None:
    with contextlib.suppress(UnauthorizedError):
        if Claims(root, grants).authorize(dialed).can_publish(broadcast):
            assert Claims(root, grants + more).authorize(dialed).can_publish(broadcast)


@given(root=ROOTS, grants=GRANTS, scope_root=ROOTS, limits=GRANTS, strict=st.booleans())
def test_no_scope_allows_what_brute_force_refuses(
    root: str, grants: list[str | Pattern], scope_root: str, limits: list[str | Pattern], *, strict: bool
) -> None:
    for scope, claims in (
        (Scope(scope_root, limits), Claims(root, grants)),
        (Scope(scope_root, (), limits), Claims(root, (), grants)),
    ):
        if exceeded(scope, claims, as_patterns=strict) is None:
            for path in PATHS:
                assert granted(scope_root, limits, path) or not granted(root, grants, path)


# -- round trips, and any bytes

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
TIMES = st.none() | st.integers(0, 253402300799)


@given(
    root=TEXTS,
    publish=st.lists(TEXTS.map(lambda text: text.replace("*", "")), max_size=3) | GRANTS,
    subscribe=GRANTS,
    times=st.tuples(TIMES, TIMES, TIMES),
    names=st.tuples(st.none() | TEXTS, st.none() | TEXTS),
)
def test_claims_survive_the_wire(
    root: str,
    publish: list[str | Pattern],
    subscribe: list[str | Pattern],
    times: tuple[int | None, ...],
    names: tuple[str | None, ...],
) -> None:
    subject, name = names
    expires, issued, not_before = times
    claims = Claims(
        root, publish, subscribe, expires=expires, issued=issued, not_before=not_before, subject=subject, id=name
    )
    if not publish and not subscribe:
        return
    signed = KEY.sign(claims)
    now = not_before or 0
    if expires is not None and expires <= now:
        return
    for strict in (False, True):
        read = KEY.verify(signed, now=now, strict=strict)
        assert (read.root, read.expires, read.issued, read.not_before) == (root, expires, issued, not_before)
        assert (read.subject, read.id) == names
        assert patterns_of(read.publish) == patterns_of(claims.publish)
        assert patterns_of(read.subscribe) == patterns_of(claims.subscribe)
        assert KEY.sign(read) == KEY.sign(KEY.verify(KEY.sign(read), now=now, strict=strict))
    for twin in (copy.copy(claims), copy.deepcopy(claims), pickle.loads(pickle.dumps(claims))):  # noqa: S301
        assert twin == claims


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["a/**", "a*", "*"]),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(max_size=3), values, max_size=3),
    max_leaves=5,
)
MEMBERS = st.sampled_from(
    ["root", "put", "get", "publish", "subscribe", "cluster", "exp", "iat", "nbf", "sub", "jti", "iss", "aud", "x"]
)


OBJECTS = st.dictionaries(MEMBERS, JSON, max_size=5)


@given(payload=st.binary(max_size=60) | OBJECTS.map(lambda members: json.dumps(members).encode()))
def test_any_payload_is_read_or_refused(payload: bytes) -> None:
    text = forge.token(Algorithm.HS256, payload, CLAIMS["header"], signed_by_key)
    results = []
    for strict in (False, True):
        try:
            results.append(KEY.verify(text, now=NOW, strict=strict))
        except RefusedError as error:
            assert len(str(error)) < 400  # noqa: PT017 - most are refused, not all
    if len(results) == 2:
        for role in ("publish", "subscribe"):  # strict reading never grants more
            for grant in patterns_of(getattr(results[1], role)):
                assert Patterns(patterns_of(getattr(results[0], role))).contains(Pattern(grant))


@given(members=JSON | OBJECTS)
def test_any_scope_is_read_or_refused(members: object) -> None:
    with contextlib.suppress(InvalidKeyError):
        scope = decode_scope(members)
        assert decode_scope(scope_members(scope)) == scope


# -- the two generations side by side


def test_equal_grants_are_equal() -> None:
    assert Claims("r", "alice/**", "**") == Claims("r", Pattern("alice/**"), Pattern("**")) == Claims("r", "alice", "")
    assert Claims("r", ["b*", "a*", "a*"]) == Claims("r", [Pattern("a*"), "b*"])
    assert Claims("r", Pattern("alice")) != Claims("r", "alice")
    assert Claims("r", Pattern("alice")).publish == (Pattern("alice"),)
    assert Claims("r", ["a", "a/b", "a/**"]).publish == ("a", "a/b", "a")  # paths are kept as they are given
    assert hash(Scope("", "a*")) == hash(Scope("", Pattern("a*")))
    assert Scope("", "a*") == Scope("", Pattern("a*"))


@pytest.mark.parametrize("text", ["a*b*c", "/a*", "a//b*", "a/**/b/**", "***", "a*" + "/b" * 32, "*" + "x" * 9000])
def test_invalid_patterns(text: str) -> None:
    makers: tuple[Any, ...] = (Claims, Scope)
    for make in makers:
        for arguments in (("r", text), ("r", ["a", text]), ("r", (), text)):
            with pytest.raises(InvalidPatternError) as raised:
                make(*arguments)
            assert len(str(raised.value)) < 300
    with pytest.raises(InvalidPatternError):
        Permissions(text)


def test_an_asterisk_that_was_read_stays_an_ordinary_character() -> None:
    wire = '{"root":"r/*","put":["cam*","a/**"],"get":["*"]}'
    read = KEY.verify(token(wire))
    again = Claims(read.root, read.publish, read.subscribe)
    scope = Scope("", read.publish)
    for claims in (
        read,
        again,
        read.with_cluster(cluster=True).with_cluster(cluster=False),
        pickle.loads(pickle.dumps(read)),  # noqa: S301
    ):
        assert json.loads(claims.to_json()) == json.loads(wire)
        assert claims == read
        allowed = claims.authorize("r/*")
        assert allowed.can_publish("cam*/x")
        assert not allowed.can_publish("cam1")
        assert not Permissions(allowed.publish, allowed.subscribe).can_publish("cam1")
        assert not claims.authorize("r/*/a").can_publish("x")
    assert not scope.allows(Claims("", Pattern("cam1")))
    assert not scope.allows(Claims("", "cam1"))
    assert not scope.allows(Claims("", "cam*"))
    with pytest.raises(InvalidTokenError, match="`put`"):
        KEY.verify(token(wire), strict=True)


def test_a_root_with_an_asterisk_grants_nothing_from_above() -> None:
    for claims in (Claims("demo/*", "x"), Claims("demo/*", Pattern("x"))):
        assert claims.authorize("/demo/*").publish == claims.publish
        with pytest.raises(UnauthorizedError) as raised:
            claims.authorize("/demo")
        assert raised.value.reason == "no-access"


def test_a_strict_scope_compares_patterns() -> None:
    for root, granted_path in (("demo/*", "a"), ("/".join("a" * 32), "a")):
        key = KEY.with_scope(Scope(root, granted_path))
        signed = key.sign(Claims(root, granted_path))
        assert key.verify(signed).root == root
        with pytest.raises(ScopeExceededError) as caught:
            key.verify(signed, strict=True)
        assert caught.value.path == f"{root}/{granted_path}"


def test_a_path_beside_a_pattern_must_be_valid_as_one() -> None:
    deep = "/".join("a" * 33)
    assert KEY.verify(KEY.sign(Claims("", deep))).publish == (deep,)
    with pytest.raises(InvalidPatternError):
        Claims("", [deep, "a*"])
    with pytest.raises(InvalidClaimsError, match="32"):
        KEY.sign(Claims("", deep, "a*"))
    with pytest.raises(InvalidKeyError, match="32"):
        KEY.with_scope(Scope("", deep, "a*")).to_json()
    longest = "/".join("a" * 32)
    assert json.loads(Claims("", longest).to_json())["put"] == [longest]
    assert KEY.verify(KEY.sign(Claims("", longest)), strict=True).publish == (Pattern(longest),)


@pytest.mark.parametrize(
    ("wire", "named"),
    [
        ('{"put":["a"],"cluster":true}', "'cluster'"),
        ('{"root":"","put":["a"],"cluster":true}', "'cluster'"),
        ('{"put":["a"],"cluster":false}', "'cluster'"),
        ('{"put":["a"],"aud":"x"}', "'aud'"),
        ('{"put":["a"],"Put":["a"]}', "'Put'"),
        ('{"put":["a"],"expires":null}', "'expires'"),
        ('{"root":"","put":["a*"]}', "`put`"),
        ('{"get":["a*"]}', "`get`"),
        ('{"root":"","get":["' + "/".join("a" * 33) + '"]}', "`get`"),
        ('{"put":["a"],"subscribe":[]}', "`subscribe`"),
        ('{"put":["a"],"exp":4102444800.0}', "`exp`"),
        ('{"put":["a"],"sub":[]}', "`sub`"),
    ],
)
def test_strict_refusals_name_the_claim(wire: str, named: str) -> None:
    if "aud" not in wire:
        KEY.verify(token(wire))
    for verifier in (KEY, KeySet([KEY])):
        with pytest.raises(InvalidTokenError, match=re.escape(named)) as raised:
            verifier.verify(token(wire), strict=True)
        assert raised.value.reason == "bad-claims"


def test_the_number_of_patterns_is_bounded() -> None:
    wildcards = [f"{number:04}*" for number in range(MAX_WILDCARDS + 1)]
    subtrees = [f"{number:04}/**" for number in range(MAX_PATTERNS + 1)]
    assert Claims("", wildcards[1:]).publish == tuple(map(Pattern, wildcards[1:]))
    assert Claims("", subtrees).publish == tuple(f"{number:04}" for number in range(MAX_PATTERNS + 1))
    with pytest.raises(InvalidPatternError, match=str(MAX_WILDCARDS)):
        Claims("", wildcards)
    for patterns, limit in ((wildcards, MAX_WILDCARDS), (subtrees, MAX_PATTERNS)):
        for strict in (False, True):
            with pytest.raises(InvalidTokenError, match=str(limit)):
                KEY.verify(token(json.dumps({"publish": patterns}, separators=(",", ":"))), strict=strict)
    # The rest of a pattern counts too: each of these leaves one rest for each of its segments.
    claims = Claims("", [f"**/{'/'.join('a' * 30)}/{number:03}*" for number in range(300)])
    with pytest.raises(UnauthorizedError, match="too many patterns"):
        claims.authorize("/".join("a" * 60))


def test_a_relay_before_0_15_reads_no_patterns() -> None:
    for wire in ('{"publish":["a/**"]}', '{"publish":["**"],"subscribe":["a"]}', '{"\\u0070ublish":["**"]}'):
        assert len(KEY.verify(token(wire), strict=True).publish) == 1
        with pytest.raises(InvalidTokenError) as raised:
            decide(Connection("/", token(wire)), key=KEY, now=NOW)
        assert raised.value.reason == "useless"
    for wire in ('{"put":["publish"]}', '{"put":["a"],"publish":["**"]}', '{"\\u0070ut":["a"],"subscribe":1}'):
        assert len(decide(Connection("/", token(wire)), key=KEY, now=NOW).publish) == 1
    grant = decide(Connection("/", token('{"put":["cam*"]}')), key=KEY, now=NOW)
    assert grant.can_publish("cam*/x")
    assert not grant.can_publish("cam1")
    public = decide(Connection("/"), public=PublicAccess(subscribe=("cam*",)))
    assert public.can_subscribe("cam*")
    assert not public.can_subscribe("cam1")
    assert decide(Connection("/"), public=Claims("", "a", Pattern("b"))).subscribe == ()
    with pytest.raises(UnauthorizedError):
        decide(Connection("/"), public=Claims("", Pattern("b")))
