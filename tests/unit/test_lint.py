"""How relays of both generations read tokens and keys. tests/interop/test_lint.py compares with the real programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moq_token import Algorithm, Claims, Key, Pattern, Scope
from moq_token.lint import Reading, read_key, read_token
from tests import forge
from tests.lint_cases import KEY, KEYS, TOKENS, Case, token

Row = dict[str, Any]

CLAIMS = json.loads((Path(__file__).parents[1] / "vectors" / "claims.json").read_text(encoding="utf-8"))
NOW = CLAIMS["now"] + 0.4
NOTES = {"no-kid", "no-expiry", "shared-secret", "private"}

# This package is stricter here: it reports a refusal, but a relay reads the input.
STRICTER_KEYS = {
    "alg does not fit": "such a key verifies nothing",
    "kty twice": "what has two meanings is refused (relays before 0.15 take one)",
}


@pytest.mark.parametrize("row", CLAIMS["read"], ids=lambda row: str(row["wire"])[:60])
def test_what_the_relays_own_libraries_say_to_claims(row: Row) -> None:
    if row["bytes"] != len(row["wire"].encode()):
        pytest.skip("the vector is shortened")
    first, second = read_token(token(row["wire"]), now=NOW)
    assert first.refused is not row["old"]["verified"], first.findings
    assert second.refused is not row["verified"], second.findings
    if row["verified"] and "/" not in row["claims"]["root"] and not row["claims"]["root"]:
        assert list(second.publish) == row["claims"]["publish"]
        assert list(second.subscribe) == row["claims"]["subscribe"]


@pytest.mark.parametrize("row", CLAIMS["keys"], ids=lambda row: str(row["name"]))
def test_what_the_relays_own_libraries_say_to_keys(row: Row) -> None:
    first, second = read_key(row["text"].encode())
    if row["name"] in STRICTER_KEYS:
        assert first.refused
        assert second.refused
        return
    may_verify = row["name"] != "key_ops empty"
    assert first.refused is not (row["old"]["ok"] and may_verify), first.findings
    assert second.refused is not (row["ok"] and may_verify), second.findings


@pytest.mark.parametrize("row", CLAIMS["scope_read"], ids=lambda row: str(row["wire"])[:60])
def test_what_the_relays_own_library_says_to_scopes(row: Row) -> None:
    _, second = read_key(forge.compact({**CLAIMS["key"], "scope": json.loads(row["wire"])}))
    assert second.refused is not row["key_loads"]["ok"], second.findings


@pytest.mark.parametrize("case", TOKENS, ids=lambda case: str(case.name))
def test_tokens(case: Case) -> None:
    check(case, read_token(token(case.content), now=forge.NOW))


@pytest.mark.parametrize("case", KEYS, ids=lambda case: str(case.name))
def test_keys(case: Case) -> None:
    check(case, read_key(case.content))


def check(case: Case, readings: tuple[Reading, Reading]) -> None:
    for reading, expected in zip(readings, (case.first, case.second), strict=True):
        refusals = {finding.code for finding in reading.findings if finding.refused}
        notes = {finding.code for finding in reading.findings if not finding.refused} - NOTES
        assert (refusals, notes) == (set(expected.refused), set(expected.noted))
        for finding in reading.findings:
            assert finding.generation is reading.generation
            assert str(finding).isprintable()
            assert len(str(finding)) < 400
            assert finding.fix or not finding.refused or finding.code == "not-a-key"  # there, the message has it
            assert forge.b64(forge.SECRET)[:20] not in str(finding)


def test_what_is_granted_is_written_as_patterns_of_full_paths() -> None:
    first, second = read_token(token('{"root":"/rooms//123","put":["alice"],"get":""}'), now=forge.NOW)
    assert first.publish == second.publish == ("rooms/123/alice/**",)
    assert first.subscribe == second.subscribe == ("rooms/123/**",)
    _, second = read_token(token('{"root":"demo","publish":["cam*/hd"],"subscribe":["**"]}'), now=forge.NOW)
    assert (second.publish, second.subscribe) == (("demo/cam*/hd",), ("demo/**",))


def test_what_is_refused_grants_nothing() -> None:
    first, second = read_token(token('{"put":["a"],"cluster":true}'), now=forge.NOW)
    assert (first.refused, first.publish) == (False, ("a/**",))
    assert (second.refused, second.publish, second.subscribe) == (True, (), ())


def test_the_scope_is_what_a_key_grants() -> None:
    key = Key.generate(Algorithm.EDDSA).with_scope(Scope("demo", publish=["live"], subscribe=[]))
    for reading in read_key(key.to_json().encode()):
        assert (reading.publish, reading.subscribe) == (("demo/live/**",), ())
    for reading in read_key(Key.generate(Algorithm.EDDSA).to_json().encode()):
        assert (reading.publish, reading.subscribe) == (("**",), ("**",))


@pytest.mark.parametrize("algorithm", Algorithm, ids=str)
def test_our_own_keys_and_tokens_are_read_by_both(algorithm: Algorithm) -> None:
    key = forge.key(algorithm)
    own = [key.to_json().encode(), key.to_str().encode(), f"{key.to_json()}\n".encode()]
    own += [] if algorithm.symmetric else [key.to_public().to_json().encode()]
    for text in own:
        assert not any(reading.refused for reading in read_key(text))
    signed = key.sign(Claims("demo", publish="a", subscribe="", expires=forge.NOW + 1))
    assert not any(reading.refused for reading in read_token(signed, now=forge.NOW))
    first, second = read_token(key.sign(Claims("demo", publish=Pattern("a"))), now=forge.NOW)
    assert (first.refused, second.refused) == (True, False)


@pytest.mark.parametrize("text", ["", "a", "a.b", "a.b.c", "....", "eyJ9.eyJ9.", "é.é.é", "a" * 70_000])
def test_text_that_is_no_token_is_malformed(text: str) -> None:
    for reading in read_token(text, now=forge.NOW):
        assert [finding.code for finding in reading.findings] == ["malformed"]


@given(st.dictionaries(st.sampled_from(["root", "put", "get", "publish", "subscribe", "exp", "nbf", "aud", "x"]),
                       st.none() | st.booleans() | st.integers() | st.text(max_size=5)
                       | st.lists(st.text("ab/*", max_size=6), max_size=3), max_size=5))  # fmt: skip
def test_what_is_not_refused_is_what_strict_verification_accepts(claims: Row) -> None:
    text = token(json.dumps(claims))
    _, second = read_token(text, now=forge.NOW)
    try:
        verified = Key.from_members(KEY).verify(text, now=forge.NOW, strict=True)
    except Exception:  # noqa: BLE001 - whatever it is called there
        verified = None
    if not isinstance(claims.get("exp"), int) or claims["exp"] < 2**53:
        assert second.refused is (verified is None) or isinstance(claims.get("nbf"), int), second.findings


@given(st.binary(max_size=300) | st.text(max_size=200).map(str.encode))
def test_any_bytes_are_read_as_a_key(data: bytes) -> None:
    assert all(reading.refused for reading in read_key(data))


@pytest.mark.parametrize("member", ["n", "e"])
def test_a_zero_byte_before_a_number_of_rsa(member: str) -> None:
    """Relays read such a key, and then accept no signature."""
    members = forge.public_jwk(Algorithm.RS256)
    for zeros, refused in (b"", False), (b"\0", True), (b"\0\0\0", True):
        number = forge.b64(zeros + forge.unb64(str(members[member])))
        for reading in read_key(forge.compact({**members, member: number})):
            assert reading.refused is refused
            assert [finding.code for finding in reading.findings] == ["bad-key"] * refused
