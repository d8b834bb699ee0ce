"""The record of a decision: it agrees with the decision, and lists only the checks that were made."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moq_token import Claims, Error, Key, KeyNotFoundError, KeySet, RefusedError, Trace, UnavailableError
from moq_token.algorithm import Algorithm
from moq_token.auth import AuthConfig, Authenticator, Certificate, Connection, Grant, PublicAccess, decide
from moq_token.trace import Check
from tests import forge

if TYPE_CHECKING:
    from moq_token import KeyId

HS = Algorithm.HS256
KEY = forge.key(HS)
SCOPED = Key.from_members(forge.jwk(HS, scope={"root": "a", "put": ["b"]}))
SIGNING_ONLY = KEY.with_operations(["sign"])
OTHER = Key.generate("EdDSA", "other")
# The checks of a token, in the order of the specification.
ORDER = ("key", "form", "algorithm", "signature", "claims", "time", "grants", "scope")

SEGMENTS = st.lists(st.sampled_from(["a", "b", "", "é"]), max_size=3).map("/".join)
PAYLOADS = st.fixed_dictionaries(
    {"root": SEGMENTS, "put": st.one_of(st.lists(SEGMENTS, max_size=2), st.just(...), st.just(5))},
    optional={
        "get": st.lists(SEGMENTS, max_size=2),
        "exp": st.sampled_from([1, forge.NOW + 60, "soon"]),
        "nbf": st.sampled_from([1, forge.NOW + 60]),
        "aud": st.just("x"),
    },
)


HEADERS: list[dict[str, object]] = [{}, {}, {"alg": "none"}, {"kid": ...}, {"kid": "gone"}, {"kid": 5}, {"crit": []}]


@st.composite
def tokens(draw: st.DrawFn) -> str:
    secret = draw(st.sampled_from([forge.SECRET] * 4 + [bytes(64)]))
    changes: dict[str, object] = draw(st.sampled_from(HEADERS))
    token = forge.token(
        HS,
        forge.claim(**draw(PAYLOADS)),
        head=forge.header(HS, **changes),
        signer=lambda data: forge.sign(HS, data, secret),
    )
    return draw(st.sampled_from([token] * 5 + ["", "a.b", f"{token}=", token[:-1]]))


CONNECTIONS = st.builds(
    Connection,
    SEGMENTS,
    st.none() | tokens(),
    certificate=st.sampled_from([None] * 5 + [Certificate(forge.NOW + 5)]),
)
VERIFIERS = st.sampled_from([None, KEY, SCOPED, SIGNING_ONLY, KeySet([KEY]), KeySet([OTHER, KEY]), KeySet([OTHER])])
PUBLIC = st.sampled_from([None, Claims("a", "b"), PublicAccess("a"), PublicAccess()])
ALIASES = st.sampled_from([None, None, None, "x/y"])


@given(CONNECTIONS, VERIFIERS, PUBLIC, ALIASES)
def test_the_record_says_what_was_decided(
    connection: Connection, key: Key | KeySet | None, public: Claims | PublicAccess | None, alias: str | None
) -> None:
    def decided(trace: Trace | None) -> Grant | RefusedError:
        try:
            return decide(connection, key=key, public=public, alias=alias, now=forge.NOW, trace=trace)
        except RefusedError as error:
            if trace is not None:
                raise
            return error

    expected = decided(None)
    trace = Trace()
    with contextlib.suppress(RefusedError), trace:
        assert decided(trace) == expected
    made = [*trace.passed, *([trace.failed] if trace.failed is not None else [])]
    assert set(made) <= set(get_args(Check))
    if isinstance(expected, RefusedError):
        assert (trace.allowed, trace.reason, trace.message) == (False, expected.reason, str(expected))
        assert trace.failed == made[-1]
    else:
        assert (trace.allowed, trace.reason, trace.message, trace.failed) == (True, None, "", None)
    # Checks that were not made are not recorded: those after a failure, and those of a token if there is none.
    if connection.token is None or connection.certificate is not None:
        assert not set(made) & set(ORDER)
    else:
        of_token = [check for check in made if check in ORDER]
        assert of_token in (["key"], ["form"], ["form", "key"], list(ORDER[: len(of_token)]))
        assert set(made) <= {*ORDER, "alias", "path"}
        assert ("path" in made or "alias" in made) <= ("scope" in trace.passed)


@given(tokens(), st.sampled_from([KEY, SCOPED, OTHER]))
def test_each_reason_comes_from_its_check(token: str, key: Key) -> None:
    trace = Trace()
    with contextlib.suppress(RefusedError), trace:
        key.verify(token, now=forge.NOW, trace=trace)
    checks = {
        "malformed": {"form", "algorithm", "claims"},
        "wrong-algorithm": {"algorithm"},
        "bad-signature": {"signature"},
        "bad-claims": {"claims"},
        "expired": {"time"},
        "not-yet-valid": {"time"},
        "useless": {"grants"},
        "scope-exceeded": {"scope"},
    }
    assert trace.allowed or trace.failed in checks[str(trace.reason)]
    assert trace.passed == ORDER[: len(trace.passed)]


def test_nobody_could_tell_is_no_verdict() -> None:
    trace = Trace()
    with contextlib.suppress(UnavailableError), trace:
        trace.begin("key")
        raise UnavailableError("down")
    assert (trace.allowed, trace.reason, trace.message, trace.passed, trace.failed) == (None, None, "down", (), "key")
    assert Trace().allowed is None


class Source:
    def __init__(self, answer: Key | Error) -> None:
        self.answer = answer

    async def get(self, kid: KeyId | None, /) -> Key:  # noqa: ARG002 - the same for every id
        if isinstance(self.answer, Error):
            raise self.answer
        return self.answer

    async def aclose(self) -> None:
        """Nothing is open."""


def traced(config: AuthConfig, connection: Connection, answer: Key | Error, times: int = 1) -> Trace:
    async def run() -> Trace:
        trace = Trace()
        async with Authenticator(config, keys=Source(answer), clock=lambda: forge.NOW) as authenticator:
            for _ in range(times):
                trace = Trace()
                with contextlib.suppress(Error), trace:
                    await authenticator.authenticate(connection, trace=trace)
            return trace

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("answer", "failed", "passed", "allowed"),
    [
        (KeyNotFoundError("x"), "key", ("form",), False),
        (UnavailableError("x"), "key", ("form",), None),
        (SIGNING_ONLY, "key", ("form",), False),
        (OTHER, "algorithm", ("key", "form"), False),
        (KEY, None, (*ORDER, "path"), True),
    ],
)
def test_the_authenticator_records_too(
    answer: Key | Error, failed: str | None, passed: tuple[str, ...], *, allowed: bool | None
) -> None:
    token = forge.token(HS, forge.claim())
    trace = traced(AuthConfig(), Connection("/rooms/123", token), answer)
    assert (trace.failed, trace.passed, trace.allowed) == (failed, passed, allowed)


def test_a_remembered_token_is_not_said_to_be_verified_again() -> None:
    trace = traced(AuthConfig(), Connection("/rooms/123", forge.token(HS, forge.claim())), KEY, times=2)
    assert trace.passed == ("key", "form", "remembered", "path")


def test_a_record_holds_nothing_of_the_token() -> None:
    token = forge.token(HS, forge.claim())
    trace = traced(AuthConfig(), Connection("/elsewhere", token), KEY)
    assert not any(part in str([getattr(trace, name) for name in trace.__slots__]) for part in token.split("."))
