"""The exception tree, as documented, and the attributes of each exception."""

from __future__ import annotations

import copy
import os
import pickle
import re
from pathlib import Path

import pytest

from moq_token import (
    ConfigError,
    Error,
    ExpiredTokenError,
    InvalidClaimsError,
    InvalidKeyError,
    InvalidKeyIdError,
    InvalidSignatureError,
    InvalidTokenError,
    Key,
    KeyNotFoundError,
    KeyOperationError,
    NotYetValidTokenError,
    RefusedError,
    ScopeExceededError,
    UnauthorizedError,
    UnavailableError,
)
from moq_token.errors import raised_at, shown, shown_path, without_tokens
from tests.forge import b64

PARENTS: dict[type[Error], type[Exception]] = {
    Error: Exception,
    InvalidKeyError: Error,
    InvalidKeyIdError: InvalidKeyError,
    KeyOperationError: InvalidKeyError,
    InvalidClaimsError: Error,
    ConfigError: Error,
    RefusedError: Error,
    InvalidTokenError: RefusedError,
    InvalidSignatureError: InvalidTokenError,
    ExpiredTokenError: InvalidTokenError,
    NotYetValidTokenError: InvalidTokenError,
    ScopeExceededError: InvalidTokenError,
    KeyNotFoundError: RefusedError,
    UnauthorizedError: RefusedError,
    UnavailableError: Error,
}


@pytest.mark.parametrize("error", PARENTS, ids=lambda error: error.__name__)
def test_the_tree(error: type[Error]) -> None:
    assert error.__bases__ == (PARENTS[error],)


REFUSALS: list[tuple[RefusedError, str, dict[str, object]]] = [
    (InvalidTokenError("m"), "malformed", {}),
    (InvalidTokenError("m", reason="useless"), "useless", {}),
    (InvalidSignatureError("m"), "bad-signature", {}),
    (ExpiredTokenError("m", expires=5), "expired", {"expires": 5}),
    (NotYetValidTokenError("m", not_before=5), "not-yet-valid", {"not_before": 5}),
    (ScopeExceededError("m", path="a"), "scope-exceeded", {"path": "a"}),
    (KeyNotFoundError("m", kid="a"), "unknown-key", {"kid": "a"}),
    (KeyNotFoundError("m"), "unknown-key", {"kid": None}),
    (UnauthorizedError("m", path="a"), "no-access", {"path": "a"}),
    (UnauthorizedError("m", path="a", reason="root-mismatch"), "root-mismatch", {"path": "a"}),
]


@pytest.mark.parametrize(("error", "reason", "facts"), REFUSALS, ids=lambda value: type(value).__name__)
def test_refusals_carry_facts(error: RefusedError, reason: str, facts: dict[str, object]) -> None:
    twins = [pickle.loads(pickle.dumps(error, protocol)) for protocol in range(6)]  # noqa: S301
    for twin in (error, copy.copy(error), copy.deepcopy(error), *twins):
        assert type(twin) is type(error)
        assert str(twin) == "m"
        assert twin.reason == reason
        assert {name: getattr(twin, name) for name in facts} == facts


def test_others_survive_pickling() -> None:
    for kind in (Error, InvalidKeyError, InvalidKeyIdError, KeyOperationError, InvalidClaimsError, UnavailableError):
        twin = pickle.loads(pickle.dumps(kind("m")))  # noqa: S301
        assert type(twin) is kind
        assert str(twin) == "m"


@pytest.mark.parametrize(
    "name", ["", "a", "a\nb", "a\0", "\x1b[31m", "\u202e", "'", '"', "\ud800", "x" * 1000, "\U0001f600" * 100]
)
def test_foreign_names_cannot_spoil_a_line(name: str) -> None:
    for text in (shown(name), shown_path(name), shown_path(f"/{name}/{name}")):
        assert text.isprintable()
        assert len(text) < 1000


def test_where_an_error_was_raised_is_told_without_its_text() -> None:
    with pytest.raises(ValueError, match="hidden") as caught:
        int("hidden")
    assert re.fullmatch(r"test_errors\.py, line \d+", raised_at(caught.value))
    assert raised_at(ValueError("hidden")) == "an unknown place"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("keys/a.jwk", "'keys/a.jwk'"),
        (Path("keys") / "a.jwk", "'keys/a.jwk'"),
        (f"/srv/{'d' * 69}/a.jwk", f"'/srv/{'d' * 69}/a.jwk'"),
        (f"/srv/{'d' * 100}/keys/a.jwk", f"'/srv/{'d' * 64}…/keys/a.jwk'"),
        (f"/srv/{'d' * 100}/{'k' * 43}.jwk", f"'/srv/{'d' * 27}…/{'k' * 43}.jwk'"),
        (f"/srv/{'d' * 100}/{'k' * 100}", f"'/srv/{'d' * 75}…'"),
        ("x" * 200, f"'{'x' * 80}…'"),
    ],
)
@pytest.mark.skipif(os.sep != "/", reason="the separator is another one")
def test_long_paths_keep_the_name_of_the_file(path: str | Path, expected: str) -> None:
    assert shown_path(path) == expected


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("/rooms/eyJhbGciOiJFZERTQSJ9.eyJyb290IjoiYSJ9.c2lnbmF0dXJl/x", "/rooms/<token>/x"),
        ("eyJhbGciOiJFZERTQSJ9.e30.", "<token>"),
        ("eyJhbGciOiJFZERTQSJ9.eyJyb290IjoiYSJ9", "<token>"),
        ("Bearer ewogImFsZyI6ICJFZERTQSIgfQ.ewogfQ.c2ln", "Bearer <token>"),
        ("eyetracking-keys.json", "eyetracking-keys.json"),
        ("eyebrow-collection.eyes.jwk", "eyebrow-collection.eyes.jwk"),
        ("rooms/123", "rooms/123"),
        ("https://user:c2lnhunter@relay.example/x", "https://…@relay.example/x"),
        ("https:/c2lnhunter@relay.example/x", "https:/…@relay.example/x"),
        ("redis://:c2lnhunter@store:6379?password=c2lnhunter#x", "redis://…@store:6379?…#x"),
        ("see https://relay.example/x?sig=c2lnhunter for more", "see https://relay.example/x?… for more"),
        ("a?b=c", "a?b=c"),
        ("alice@example.com/:x", "alice@example.com/:x"),
    ],
)
def test_what_looks_like_a_token_or_a_password_is_not_shown(text: str, hidden: str) -> None:
    assert without_tokens(text) == hidden
    assert shown(text) == repr(hidden)
    long = shown(f"{'a' * 70}{text}")
    assert "c2ln" not in long


def test_a_key_in_place_of_a_name_is_not_shown() -> None:
    key = Key.generate("EdDSA")
    for text in key.to_json(), key.to_str(), key.to_pem(), b64(key.to_pem().encode()), repr(key.to_members()):
        assert shown(text) == shown(f" {text}\n") == "'<key>'"
    for text in "eyes/on/you", '"k" and "d"', "ewok-village", "rooms/BEGIN":
        assert shown(text) == repr(text)
