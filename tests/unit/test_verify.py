"""The checks after the signature, their order, and the clock that they use."""

from __future__ import annotations

import contextlib
import itertools
import json
from datetime import timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moq_token import (
    Algorithm,
    Claims,
    ExpiredTokenError,
    InvalidClaimsError,
    InvalidTokenError,
    Key,
    KeyOperation,
    KeyOperationError,
    NotYetValidTokenError,
    Scope,
    ScopeExceededError,
)
from moq_token import path as paths
from tests import forge
from tests.forge import GRANT, NOW, accepted, b64, claim, compact, header, reason, token

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

HS256 = Algorithm.HS256
NAN, INFINITY = float("nan"), float("inf")


def read(**claims: object) -> Claims:
    """Read claims by the quick way and by the thorough one, which have to agree."""
    usual, unusual = claim(**claims), {"unknown": 1, **dict(reversed(claim(**claims).items()))}
    first = accepted(token(HS256, usual))
    assert accepted(token(HS256, unusual)) == first
    assert accepted(token(HS256, json.dumps(usual).encode())) == first
    return first


def refused(text: bytes) -> str:
    """Check that both ways refuse the claims, given the wrong member as JSON."""
    reasons = {
        reason(token(HS256, payload))
        for payload in (
            b"{%b}" % text,
            b'{%b,"unknown":1}' % text,
            b'{"root":"","put":[""],%b}' % text if not text.startswith((b'"put"', b'"root"')) else b"{ %b}" % text,
        )
    }
    assert len(reasons) == 1, reasons
    return reasons.pop()


# -- claims of the right type


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (b"2000000000", 2_000_000_000),
        (b"2000000000.0", 2_000_000_000),
        (b"2e9", 2_000_000_000),
        (b"2E+9", 2_000_000_000),
        (b"20000000000e-1", 2_000_000_000),
        (b"9007199254740991", 2**53 - 1),
        (b"9007199254740991.0", 2**53 - 1),
    ],
)
def test_whole_seconds(written: bytes, expected: int) -> None:
    for name, attribute in (("exp", "expires"), ("iat", "issued")):
        claims = accepted(token(HS256, b'{"root":"","put":["a"],"%b":%b}' % (name.encode(), written)))
        value = getattr(claims, attribute)
        assert type(value) is int
        assert value == expected


def test_null_is_no_expiry() -> None:
    assert accepted(token(HS256, claim(exp=None))).expires is None
    assert accepted(token(HS256, claim(exp=None)), now=INFINITY).expires is None


@pytest.mark.parametrize(
    "written",
    [
        b"true",
        b"false",
        b'"2000000000"',
        b'""',
        b"2000000000.5",
        b"1e-1",
        b"-1",
        b"-1.0",
        b"-1e3",
        b"-9007199254740992",
        b"9007199254740992",
        b"9007199254740992.0",
        b"9223372036854775807",
        b"9223372036854775808",
        b"18446744073709551616",
        b"-9223372036854775809",
        b"1e16",
        b"1e308",
        b"1e400",
        b"-1e400",
        b"1" + b"0" * 400,
        b"[]",
        b"[2000000000]",
        b"{}",
        b'{"exp":2000000000}',
    ],
)
@pytest.mark.parametrize("name", ["exp", "iat", "nbf"])
def test_what_is_no_time(name: str, written: bytes) -> None:
    assert refused(b'"%b":%b' % (name.encode(), written)) == "bad-claims"


@pytest.mark.parametrize("written", [b"NaN", b"Infinity", b"-Infinity", b"nan", b"0x7fffffff", b"1" * 5000])
@pytest.mark.parametrize("name", ["exp", "iat", "nbf"])
def test_what_is_no_number(name: str, written: bytes) -> None:
    assert refused(b'"%b":%b' % (name.encode(), written)) == "malformed"


@pytest.mark.parametrize(
    "written",
    [
        b"null",
        b"true",
        b"0",
        b"1.5",
        b"{}",
        b'{"0":"a"}',
        b"[1]",
        b"[null]",
        b"[true]",
        b'["a",1]',
        b'[["a"]]',
        b"[{}]",
    ],
)
@pytest.mark.parametrize("name", ["put", "get"])
def test_what_is_no_list_of_paths(name: str, written: bytes) -> None:
    assert refused(b'"%b":%b' % (name.encode(), written)) == "bad-claims"


@pytest.mark.parametrize("written", [b"null", b"true", b"1", b"[]", b'["a"]', b"{}"])
def test_what_is_no_root(written: bytes) -> None:
    assert refused(b'"root":%b' % written) == "bad-claims"


@pytest.mark.parametrize("written", [b"null", b"0", b"1", b'"true"', b"[]", b"{}"])
def test_what_is_no_flag(written: bytes) -> None:
    assert refused(b'"cluster":%b' % written) == "bad-claims"


@pytest.mark.parametrize("written", [b'"relay"', b'["relay"]', b"[]", b'""', b"null", b"false", b"0", b"{}"])
def test_a_token_for_somebody_else(written: bytes) -> None:
    assert refused(b'"aud":%b' % written) == "bad-claims"
    assert refused(b'"\\u0061ud":%b' % written) == "bad-claims"


@pytest.mark.parametrize("payload", [b"[]", b'"put"', b"1", b"null", b"true", b'[{"root":"","put":[""]}]'])
def test_claims_are_an_object(payload: bytes) -> None:
    assert reason(token(HS256, payload)) == "bad-claims"


@pytest.mark.parametrize(
    ("name", "first", "second"),
    [
        ("root", '""', '"a"'),
        ("put", '["a"]', '[""]'),
        ("put", '"a"', '"a"'),
        ("get", '["a"]', "[]"),
        ("cluster", "false", "true"),
        ("exp", "1", "2000000000"),
        ("exp", "null", "null"),
        ("iat", "1", "2"),
        ("nbf", "1", "2"),
        ("aud", '"a"', '"b"'),
    ],
)
def test_no_claim_stands_twice(name: str, first: str, second: str) -> None:
    for one, two in ((first, second), (second, first)):
        for again in (name, f"\\u{ord(name[0]):04x}{name[1:]}"):
            payload = f'{{"{name}":{one},"x":[""],"{again}":{two}}}'
            assert reason(token(HS256, payload.encode())) == "malformed"
    # An equal name at another depth is another member.
    assert read(unknown={name: [{name: 1}]}).root == "rooms/123"


def test_a_bare_string_is_one_path() -> None:
    claims = read(put="alice/camera", get="")
    assert claims.publish == ("alice/camera",)
    assert claims.subscribe == ("",)


def test_absent_claims() -> None:
    claims = read(root=..., put=..., get=["a"])
    assert claims == Claims("", (), ["a"])
    assert claims.cluster is False
    assert read(put=[]) == Claims("rooms/123", (), [""])


def test_unknown_claims_are_ignored() -> None:
    assert read(jti=["x"], sub=5, iss=None, publish=["b"], guest=["c"], Put=["d"], PUT=1, exp_=0) == accepted(
        token(HS256)
    )


def test_paths_are_kept_as_they_are_written() -> None:
    strange = [
        "/a//b/",
        "..",
        ".",
        "%2F",
        "a b",
        "é",
        "e\u0301",
        "😀",
        "\u0000",
        "\u202e",
        "\\",
        "*",
        "a\n",
        "\x7f",
        "//",
    ]
    claims = read(root="//", put=strange, get=strange[::-1])
    assert claims.publish == tuple(strange)
    assert claims.subscribe == tuple(strange[::-1])
    assert claims.root == "//"
    escaped = json.dumps(claim(put=strange), ensure_ascii=True).encode()
    assert accepted(token(HS256, escaped)).publish == tuple(strange)


# -- time


@pytest.mark.parametrize("algorithm", forge.ONE_OF_EACH)
def test_expiry_to_the_second(algorithm: Algorithm) -> None:
    text = token(algorithm, claim(exp=NOW))
    for now in (0, NOW - 1, NOW - 0.001, -INFINITY):
        assert accepted(text, algorithm, now=now).expires == NOW
    for now in (NOW, NOW + 0.001, NOW + 1, INFINITY, NAN):
        with pytest.raises(ExpiredTokenError) as caught:
            accepted(text, algorithm, now=now)
        assert caught.value.expires == NOW
        assert caught.value.reason == "expired"


def test_expiry_zero_is_the_start_of_time() -> None:
    assert reason(token(HS256, claim(exp=0)), now=0) == "expired"
    assert accepted(token(HS256, claim(exp=0)), now=-1).expires == 0


def test_not_before() -> None:
    text = token(HS256, claim(nbf=NOW))
    for now in (NOW, NOW + 1, NOW + 0.5):
        accepted(text, now=now)
    for now in (NOW - 1, NOW - 0.001, 0, -INFINITY, NAN):
        with pytest.raises(NotYetValidTokenError) as caught:
            accepted(text, now=now)
        assert caught.value.not_before == NOW
        assert caught.value.reason == "not-yet-valid"


def test_leeway_widens_both_ends() -> None:
    text = token(HS256, claim(nbf=NOW, exp=NOW + 100))
    for leeway in (0, -0.0, 0.5, 5, 2**60):
        accepted(text, now=NOW - leeway, leeway=leeway)
        accepted(text, now=NOW + 99.5 + leeway, leeway=leeway)
    assert reason(text, now=NOW - 5.5, leeway=5) == "not-yet-valid"
    assert reason(text, now=NOW + 105, leeway=5) == "expired"
    assert reason(text, now=NAN, leeway=5) in {"not-yet-valid", "expired"}


@pytest.mark.parametrize("leeway", [-1, -0.001, INFINITY, -INFINITY, NAN])
def test_leeway_is_a_number_of_seconds(leeway: float) -> None:
    with pytest.raises(ValueError, match="leeway"):
        forge.key(HS256).verify(token(HS256), now=NOW, leeway=leeway)


def test_leeway_and_now_are_numbers() -> None:
    text = token(HS256, claim(exp=NOW, nbf=1))
    for now, leeway in ((str(NOW - 1), 0), (NOW - 1, "5"), ([], 0), (NOW - 1, None)):
        with pytest.raises(TypeError):
            forge.key(HS256).verify(text, now=now, leeway=leeway)  # type: ignore[arg-type]


def test_the_clock_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    key = forge.key(HS256)
    key.verify(key.sign(Claims("", "a", expires=timedelta(hours=1))))
    for late in (timedelta(hours=-1), timedelta(0)):
        with pytest.raises(ExpiredTokenError):
            key.verify(key.sign(Claims("", "a", expires=late)))
    monkeypatch.setattr("time.time", lambda: NOW - 0.5)
    key.verify(token(HS256, claim(exp=NOW)))
    monkeypatch.setattr("time.time", lambda: NOW + 0.0)
    with pytest.raises(ExpiredTokenError):
        key.verify(token(HS256, claim(exp=NOW)))
    # Zero is a time, not "none given".
    key.verify(token(HS256, claim(exp=NOW)), now=0)


# -- usefulness and scope


@pytest.mark.parametrize(
    "claims",
    [
        {"put": ..., "get": ...},
        {"put": [], "get": []},
        {"put": [], "get": ...},
        {"put": ..., "get": ..., "cluster": True},
        {"put": ..., "get": ..., "root": ""},
    ],
)
def test_a_token_that_grants_nothing(claims: dict[str, object]) -> None:
    text = token(HS256, claim(**claims))
    with pytest.raises(InvalidTokenError, match="grants nothing"):
        accepted(text)
    assert reason(text) == "useless"
    loaded = Claims(cluster=claims.get("cluster") is True)
    with pytest.raises(InvalidClaimsError):
        forge.key(HS256).sign(loaded)
    with pytest.raises(InvalidClaimsError):
        loaded.validate()


PROJECT = Scope("project", publish=["live"], subscribe=["watch", "live"])
Granted = tuple[str, list[str], list[str]]


@pytest.mark.parametrize(
    "granted",
    [
        ("project", ["live"], ["watch"]),
        ("project", ["live/a", "live"], []),
        ("project", [], ["live"]),
        ("project/live", [""], ["", "a"]),
        ("project/live/a", ["", "b"], []),
        ("", ["project/live"], ["project/watch/x"]),
        ("//project//", ["/live/"], ["//watch//x"]),
        ("project", ["live/.."], ["watch/../.."]),  # ordinary names, beneath what is allowed
        ("project", ["live/%2e%2e"], []),
    ],
)
def test_within_the_scope(granted: Granted) -> None:
    claims = Claims(*granted)
    assert PROJECT.allows(claims)
    scoped = forge.key(HS256).with_scope(PROJECT)
    assert scoped.verify(scoped.sign(claims), now=NOW) == claims


@pytest.mark.parametrize(
    ("granted", "path"),
    [
        (("", [""], []), ""),
        (("", [""], ["project/watch"]), ""),
        (("", ["project/live"], [""]), ""),
        (("", [], [""]), ""),
        (("/", ["//"], ["project/watch"]), ""),
        (("project", [""], []), "project"),
        (("project", ["live", ""], []), "project"),
        (("project", ["livestream"], []), "project/livestream"),
        (("project", ["liv"], []), "project/liv"),
        (("project", ["Live"], []), "project/Live"),
        (("project", ["live\u200b"], []), "project/live\u200b"),
        (("project", ["watch"], []), "project/watch"),
        (("project", ["live"], ["watchers"]), "project/watchers"),
        (("project2", ["live"], []), "project2/live"),
        (("projec", ["t/live"], []), "projec/t/live"),
        (("", ["live"], []), "live"),
        (("project/project", ["live"], []), "project/project/live"),
        (("project", ["../live"], []), "project/../live"),
        (("project/x/..", ["live"], []), "project/x/../live"),
        (("other", ["live"], ["watch"]), "other/live"),
        (("", ["project"], []), "project"),
    ],
)
def test_beyond_the_scope(granted: Granted, path: str) -> None:
    claims = Claims(*granted)
    assert not PROJECT.allows(claims)
    for algorithm in (HS256, Algorithm.EDDSA):
        scoped = forge.key(algorithm).with_scope(PROJECT)
        with pytest.raises(InvalidClaimsError):
            scoped.sign(claims)
        text = forge.key(algorithm).sign(claims)
        for verifier in (scoped, scoped if algorithm.symmetric else scoped.to_public()):
            with pytest.raises(ScopeExceededError) as caught:
                verifier.verify(text, now=NOW)
            assert caught.value.path == path
            assert caught.value.reason == "scope-exceeded"
        forge.verifier(algorithm).verify(text, now=NOW)


PATHS = st.lists(st.sampled_from(["a", "b", "aa", "!", "-", "a-", ""]), max_size=4).map("/".join)


@given(scope_root=PATHS, allowed=st.lists(PATHS), root=PATHS, granted=st.lists(PATHS))
def test_each_prefix_lies_below_one_of_the_scope(
    scope_root: str, allowed: list[str], root: str, granted: list[str]
) -> None:
    def from_top(*parts: str) -> str:
        return "".join(f"{segment}/" for part in parts for segment in part.split("/") if segment)

    ceilings = [from_top(scope_root, prefix) for prefix in allowed]
    beyond = [path for prefix in granted if not (path := from_top(root, prefix)).startswith(tuple(ceilings))]
    exceeded = Scope(scope_root, publish=allowed).exceeded_by(Claims(root, publish=granted))
    assert exceeded == (beyond[0].rstrip("/") if beyond else None)


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize(
    ("scope", "claims"),
    [
        (Scope("", [f"p{number}" for number in range(1000)]), Claims("p1/" + "r/" * 14_000, map(str, range(2000)))),
        (Scope("s" * 900_000, [f"p{number}" for number in range(1000)]), Claims("", "a")),
        (Scope("s/" * 450_000, [f"p{number}" for number in range(1000)]), Claims("s", "a")),
    ],
    ids=["a long root in the token", "a long root in the scope", "a deep root in the scope"],
)
def test_a_long_root_is_not_joined_with_each_prefix(
    scope: Scope,
    claims: Claims,
    strict: bool,  # noqa: FBT001
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text, key = forge.key(HS256).sign(claims), forge.key(HS256).with_scope(scope)
    read = 0

    def counted(path: str) -> str:
        nonlocal read
        read += len(path)
        return normalize(path)

    normalize = paths.normalize
    monkeypatch.setattr(paths, "normalize", counted)
    monkeypatch.setattr(paths, "join", lambda base, rest: counted(f"{base}/{rest}"))
    with contextlib.suppress(ScopeExceededError):
        key.verify(text, now=NOW, strict=strict)
    assert read < 2_000_000


def test_a_role_that_the_scope_leaves_out() -> None:
    reader = Scope("", subscribe=[""])
    assert reader.allows(Claims("a", (), ["", "b"]))
    assert not reader.allows(Claims("a", ["b"], [""]))
    assert not reader.allows(Claims("", [""], [""]))


# -- operations


@pytest.mark.parametrize("algorithm", forge.ONE_OF_EACH)
def test_a_key_does_only_what_it_may(algorithm: Algorithm) -> None:
    claims = Claims("", "a")
    text = forge.key(algorithm).sign(claims)
    for operations in itertools.chain.from_iterable(itertools.combinations(KeyOperation, size) for size in range(5)):
        made = forge.key(algorithm).with_operations(operations)
        loaded = forge.load(forge.jwk(algorithm, key_ops=[str(operation) for operation in operations]))
        for key in (made, loaded):
            assert key.operations == frozenset(operations)
            if KeyOperation.SIGN in operations:
                key.sign(claims)
            else:
                with pytest.raises(KeyOperationError, match="may not sign"):
                    key.sign(claims)
            if KeyOperation.VERIFY in operations:
                assert key.verify(text) == claims
            else:
                with pytest.raises(KeyOperationError, match="may not verify"):
                    key.verify(text)


@pytest.mark.parametrize("algorithm", forge.ASYMMETRIC)
def test_a_public_half_never_signs(algorithm: Algorithm) -> None:
    for operations, why in (
        (["verify"], "may not sign"),
        (["sign"], "cannot sign"),
        (["sign", "verify"], "cannot sign"),
    ):
        key = forge.load(forge.public_jwk(algorithm, key_ops=operations))
        with pytest.raises(KeyOperationError, match=why):
            key.sign(Claims("", "a"))
    assert not forge.load(forge.public_jwk(algorithm, key_ops=None)).is_private


# -- the order


class Fault(NamedTuple):
    """One fault of a token, and the reason for which it is refused if no earlier check fails."""

    reason: str
    claims: Mapping[str, object] = MappingProxyType({})
    head: Mapping[str, object] = MappingProxyType({})
    spoil: Callable[[str], str] = str


def _another_signature(text: str) -> str:
    data, _, signature = text.rpartition(".")
    return f"{data}.{'B' if signature[0] == 'A' else 'A'}{signature[1:]}"


FAULTS = {
    "encoding": Fault("malformed", spoil=lambda text: text + "="),
    "crit": Fault("malformed", head={"crit": ["exp"]}),
    "algorithm": Fault("wrong-algorithm", head={"alg": "none"}),
    "signature": Fault("bad-signature", spoil=_another_signature),
    "types": Fault("bad-claims", claims={"cluster": 1}),
    "time": Fault("expired", claims={"exp": NOW - 1}),
    "useless": Fault("useless", claims={"put": [], "get": []}),
    "scope": Fault("scope-exceeded", claims={"root": "elsewhere"}),
}


@pytest.mark.parametrize(
    "names",
    [
        names
        for size in (1, 2, 3)
        for names in itertools.combinations(FAULTS, size)
        if names[-2:] != ("useless", "scope")
    ],
    ids="-".join,
)
@pytest.mark.parametrize("algorithm", [Algorithm.HS256, Algorithm.ES256])
def test_the_first_fault_is_the_one_that_is_named(algorithm: Algorithm, names: tuple[str, ...]) -> None:
    faults = [FAULTS[name] for name in names]
    claims, head = dict(GRANT), header(algorithm)
    for fault in faults:
        claims |= fault.claims
        head |= fault.head
    text = token(algorithm, claims, head)
    for fault in reversed(faults):
        text = fault.spoil(text)
    verifier = forge.verifier(algorithm).with_scope(Scope("rooms", [""], [""]))
    assert forge.refusal(lambda: verifier.verify(text, now=NOW)).reason == faults[0].reason


def test_nothing_is_said_about_a_payload_that_nobody_signed() -> None:
    payloads = [b"", b"{", b"[]", b"\xff", compact(claim(exp=1)), compact(claim(aud="x", nbf=2**50)), compact({})]
    for algorithm in Algorithm:
        messages = set()
        for payload in payloads:
            text = token(algorithm, payload, signer=lambda _: b"\1" * 64)
            error = forge.refusal(lambda: accepted(text, algorithm))  # noqa: B023
            assert error.reason == "bad-signature"
            messages.add(str(error))
        assert len(messages) == 1


def test_a_token_is_bound_to_its_key() -> None:
    for algorithm in Algorithm:
        other = Key.generate(algorithm, forge.KID) if algorithm.symmetric else None
        key: Key = other or forge.load({**forge.jwk_of(algorithm, forge.another_native(algorithm)), "alg": algorithm})
        assert forge.refusal(lambda: key.verify(token(algorithm), now=NOW)).reason == "bad-signature"  # noqa: B023


def test_every_bit_of_a_token_counts() -> None:
    for algorithm in (Algorithm.HS256, Algorithm.EDDSA, Algorithm.ES256):
        text = token(algorithm, {"put": ["a"]}, {"alg": algorithm})
        for position, character in enumerate(text):
            for bit in range(6) if character != "." else ():
                other = forge.ALPHABET[forge.ALPHABET.index(character) ^ 1 << bit]
                changed = text[:position] + other + text[position + 1 :]
                assert reason(changed, algorithm) in {"malformed", "wrong-algorithm", "bad-signature"}


def test_the_bytes_received_are_what_is_signed() -> None:
    """Equal claims in another spelling are not covered by the signature over the first."""
    h, p, s = token(HS256).split(".")
    for other in (b64(json.dumps(GRANT).encode()), b64(compact(GRANT) + b" ")):
        assert other != p
        assert reason(f"{h}.{other}.{s}") == "bad-signature"
    assert reason(f"{b64(json.dumps(header(HS256)).encode())}.{p}.{s}") == "bad-signature"
