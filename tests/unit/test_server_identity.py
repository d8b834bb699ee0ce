"""What is known of the token of a session, with the built-in policy and with custom ones."""

from __future__ import annotations

import asyncio
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moq_token import Algorithm, Claims, Key
from moq_token.server import AuthServer, Grant, Request
from moq_token.server.denial import Denial
from moq_token.server.http import HttpRequest
from moq_token.server.identity import Identity, digest, identify, kid_of
from tests import forge

KEY = Key.generate(Algorithm.EDDSA, "k1")
CLAIMS = Claims(root="", publish="", expires=4_000_000_000, subject="alice", id="j", issued=7)
TOKEN = KEY.sign(CLAIMS)
SECRET = b"k" * 32


def test_of_a_verified_token_its_claims_are_known() -> None:
    known = identify(TOKEN, Grant(publish=["**"], claims=CLAIMS), SECRET)
    assert known == Identity(token=digest(TOKEN, SECRET), jti="j", kid="k1", subject="alice", issued=7)


def test_of_a_token_that_nobody_may_have_verified_only_what_can_be_denied_is_known() -> None:
    known = identify(TOKEN, Grant(publish=["**"]), SECRET)
    # A forged subject could be that of somebody else, and a forged time of issue would get past `issued_before`.
    assert known == Identity(token=digest(TOKEN, SECRET), jti="j", kid="k1")


def test_a_custom_policy_can_have_claims_without_a_token() -> None:
    assert identify(None, Grant(publish=["**"], claims=CLAIMS), SECRET) == Identity(jti="j", subject="alice", issued=7)
    assert identify(None, Grant(publish=["**"]), SECRET) == Identity()


@given(st.text() | st.text(alphabet="eyJ.A_-").map(lambda text: f"eyJ{text}"))
def test_any_text_can_be_a_token_of_a_custom_policy(text: str) -> None:
    known = identify(text, Grant(publish=["**"]), SECRET)
    assert known.token is not None
    assert len(known.token) == 16


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("eyJh.eyJi.AAAA", "eyJh.eyJi.BBBB", True),
        ("eyJh.eyJi.AAAA", "eyJh.eyJj.AAAA", False),
        ("eyJh.eyJi.AAAA", "eyJh.eyJi", True),
        ("eyAgImFs.eyJi.AAAA", "eyAgImFs.eyJi.BBBB", True),  # headers with white space
        ("ewogImFs.eyJi.AAAA", "ewogImFs.eyJi.BBBB", True),
        ("opaque.one.x", "opaque.one.y", False),  # not a JWT: all of it counts
        ("eyJh.a.b.c", "eyJh.a.b.d", False),
    ],
)
def test_the_digest_leaves_out_the_signature_of_a_jwt(one: str, other: str, *, same: bool) -> None:
    assert (digest(one, SECRET) == digest(other, SECRET)) is same
    assert digest(one, SECRET) != digest(one, b"x" * 32)


@pytest.mark.parametrize(
    ("header", "kid"),
    [
        ({"alg": "EdDSA", "kid": "k-1"}, "k-1"),
        ({"alg": "EdDSA"}, None),
        ({"alg": "EdDSA", "kid": 7}, None),
        ({"alg": "EdDSA", "kid": "../x"}, None),
        ({"alg": "EdDSA", "kid": "x" * 129}, None),
        ({"alg": "EdDSA", "kid": "k", "long": "x" * 1000}, None),
        ([], None),
    ],
)
def test_the_kid_of_a_header(header: object, kid: str | None) -> None:
    assert kid_of(f"{forge.b64(json.dumps(header).encode())}.e30.AA") == kid


def test_no_kid() -> None:
    assert [kid_of(text) for text in ("", ".", "..", "eyJ", "é.e30.AA", "x")] == [None] * 6


@pytest.mark.parametrize(
    ("members", "status"),
    [
        ({"kid": "k1"}, 403),
        ({"jti": "j"}, 403),
        ({"session": "1"}, 403),
        ({"path": "room"}, 403),
        ({"remote": "192.0.2.1"}, 403),
        ({"kid": "k1", "issued_before": 5}, 403),  # the unverified time is not believed
        ({"subject": "alice"}, 200),
    ],
)
def test_what_can_be_denied_if_a_custom_policy_returns_no_claims(members: dict[str, object], status: int) -> None:
    async def decide(_: Request) -> Grant:
        return Grant(publish=["**"])

    async def work() -> int:
        server = AuthServer(decide)
        server.revocations.denials.put(Denial(until=4_000_000_000, **members))  # type: ignore[arg-type]
        body = {"id": "1", "event": "connect", "node": "", "transport": "quic", "path": "/room"}
        body |= {"query": f"jwt={TOKEN}", "remote": "192.0.2.1:5"}
        headers = {"content-type": "application/json"}
        return (await server.handle(HttpRequest("POST", "/", headers, json.dumps(body).encode()))).status

    assert asyncio.run(work()) == status
