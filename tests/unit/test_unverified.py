"""Read tokens without verifying them: everything readable is shown, and nothing is checked."""

from __future__ import annotations

import pytest

from moq_token import Algorithm, InvalidTokenError, UnverifiedToken, read_unverified
from tests import forge
from tests.forge import b64, claim, header, token


@pytest.mark.parametrize("algorithm", Algorithm)
def test_header_and_claims(algorithm: Algorithm) -> None:
    read = read_unverified(token(algorithm))
    assert isinstance(read, UnverifiedToken)
    assert read.header == header(algorithm)
    assert read.claims == forge.GRANT


def test_nothing_is_checked() -> None:
    strange = claim(exp=1, aud="x", nbf=2**40, put=5, unknown=[None, 1.5, {"a": "b"}], root=None)
    head = header(Algorithm.HS256, alg="none", crit=["x"], kid="../..", jwk={"kty": "oct"})
    for signer in (lambda _: b"", lambda _: b"nonsense", None):
        read = read_unverified(token(Algorithm.HS256, strange, head, signer))
        assert read.header == head
        assert read.claims == strange


def test_an_empty_token() -> None:
    read = read_unverified(f"{b64(b'{}')}.{b64(b'{}')}.")
    assert (read.header, read.claims) == ({}, {})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "a.b",
        "a.b.c.d",
        "{h}.{p}",
        "{h}.{p}.{s}.",
        "{h}=.{p}.{s}",
        "{h}.{p}=.{s}",
        "{h}.{p}.{s}=",
        "{h}.{p}.!",
        " {h}.{p}.{s}",
        "{h}.{p}.{s}\n",
        "{h}..{s}",
        ".{p}.{s}",
        "{list}.{p}.{s}",
        "{h}.{list}.{s}",
        "{twice}.{p}.{s}",
        "{h}.{twice}.{s}",
        "{latin}.{p}.{s}",
        "{h}.{latin}.{s}",
    ],
)
def test_what_cannot_be_read(text: str) -> None:
    h, p, s = token(Algorithm.HS256).split(".")
    bad = text.format(h=h, p=p, s=s, list=b64(b"[]"), twice=b64(b'{"a":1,"a":1}'), latin=b64(b'{"a":"\xe9"}'))
    with pytest.raises(InvalidTokenError) as caught:
        read_unverified(bad)
    assert caught.value.reason == "malformed"


def test_frozen() -> None:
    read = read_unverified(token(Algorithm.HS256))
    for name in ("header", "claims", "other"):
        with pytest.raises(AttributeError):
            setattr(read, name, {})
    assert read == read_unverified(token(Algorithm.HS256))
