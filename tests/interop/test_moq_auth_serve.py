"""The decisions of `moq auth serve`, which relays from 0.15 on ask about their clients, and ours.

`make interop` builds it and names it in RUST_MOQ.
"""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

import pytest

from moq_token import Algorithm, Claims, Key, KeySet, Pattern, RefusedError, Scope, read_unverified
from moq_token.lint import read_token
from tests import forge
from tests.interop.peers import EXPIRES, OUR_AUTH, AuthServer, CommandLine, Json, auth_server, canonical, tampered

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.rust

QUESTIONS = 4000


@pytest.fixture(scope="session")
def key_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys")


@pytest.fixture(scope="session")
def server(
    moq_auth: CommandLine, key_directory: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[AuthServer]:
    """Run the original, which takes any key that a test puts into the directory."""
    with auth_server(moq_auth, tmp_path_factory.mktemp("auth") / "s", "--key-dir", key_directory) as running:
        yield running


@pytest.fixture(scope="session")
def our_server(key_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AuthServer]:
    """Run ours with the same keys."""
    with auth_server(OUR_AUTH, tmp_path_factory.mktemp("auth") / "s", "--key-dir", key_directory) as running:
        yield running


def decided(keys: KeySet, path: str, token: str) -> Json | None:
    """Decide as `moq auth serve` does: return the grant, or None for a refusal."""
    try:
        claims = keys.verify(token, strict=True)
        permissions = claims.authorize(path)
    except RefusedError:
        return None
    grant = {
        "publish": canonical(permissions.publish),
        "subscribe": canonical(permissions.subscribe),
        "expires": claims.expires,
    }
    return {name: value for name, value in grant.items() if value}


@pytest.mark.parametrize("algorithm", list(Algorithm))
def test_tokens_of_ours(server: AuthServer, our_server: AuthServer, key_directory: Path, algorithm: Algorithm) -> None:
    key = Key.generate(algorithm, f"ours-{algorithm}")
    verifier = key if algorithm.symmetric else key.to_public()
    verifier.to_file(key_directory / f"{key.kid}.jwk")
    for publish in "alice", Pattern("alice"), ["cam*/hd", "**/chat"]:
        token = key.sign(Claims("rooms/123", publish, "", expires=EXPIRES))
        for path in "/rooms/123", "/rooms/123/alice", "/rooms", "/rooms/124":
            answer = server.connect(path, token)
            assert answer == our_server.connect(path, token) == decided(KeySet([verifier]), path, token)
            assert server.connect(path, tampered(token)) is our_server.connect(path, tampered(token)) is None
        assert server.connect("/rooms/123", token) is not None
        assert server.connect("/rooms/124", token) is None


class Walk:
    """Random tokens, and paths to dial with them: the same each time."""

    SEGMENTS = ("a", "b", "ab", "ä", "%61", "..", "", "*")
    PATTERN_SEGMENTS = ("a", "b", "ab", "*", "a*", "*b", "a*b", "**", "**")
    MISTAKES = (
        {"cluster": True},
        {"aud": "x"},
        {"nbf": EXPIRES},
        {"nbf": 7},
        {"exp": 7},
        {"exp": EXPIRES},
        {"exp": None},
        {"iat": 7.5},
        {"sub": "alice", "jti": "7", "iss": "x"},
        {"put": "a"},
        {"subscribe": "a"},
    )

    def __init__(self, seed: int, keys: list[Key]) -> None:
        self._random = random.Random(seed)  # noqa: S311 - the same walk each time
        self._keys = keys

    def path(self, longest: int) -> str:
        # Mostly of the first few segments, so that paths meet.
        known = self._random.choice((1, 2, 2, 3, len(self.SEGMENTS)))
        return "/".join(self._random.choices(self.SEGMENTS[:known], k=self._random.randint(0, longest)))

    def pattern(self) -> str:
        return "/".join(self._random.choices(self.PATTERN_SEGMENTS, k=self._random.randint(0, 4)))

    def token(self) -> tuple[Json, str]:
        claims: Json = {"root": self.path(3)} if self._random.random() < 0.8 else {}
        prefixes = self._random.random() < 0.5
        for role in ("put", "get") if prefixes else ("publish", "subscribe"):
            if self._random.random() < 0.7:
                grants = range(self._random.randint(0, 3))
                claims[role] = [self.path(3) if prefixes else self.pattern() for _ in grants]
        if self._random.random() < 0.2:
            claims |= self._random.choice(self.MISTAKES)
        key = self._random.choice(self._keys)
        header = forge.header(Algorithm.HS256, kid=str(key.kid))
        return {"kid": str(key.kid), **claims}, forge.token(Algorithm.HS256, claims, header)


def linted(token: str) -> Json | None:
    """Return the grant at the top that `lint` speaks of."""
    reading = read_token(token, now=time.time())[1]
    above = any(finding.code == "star" for finding in reading.findings)  # a root with `*`, which grants nothing there
    if reading.refused or above:
        return None
    expires = read_unverified(token).claims.get("exp")
    grant = {"publish": list(reading.publish), "subscribe": list(reading.subscribe), "expires": expires}
    return {name: value for name, value in grant.items() if value}


def test_random_walk(server: AuthServer, our_server: AuthServer, key_directory: Path) -> None:
    key = forge.key(Algorithm.HS256)
    scopes = {
        "any": None,
        "subtrees": Scope("a", ["", "b"], ["a", "b"]),
        "patterns": Scope("", ["a/**/b", "a*/**"], "**/b"),
    }
    keys = [key.with_kid(kid).with_scope(scope) for kid, scope in scopes.items()]
    for each in keys:
        each.to_file(key_directory / f"{each.kid}.jwk")
    walk, ours = Walk(7, keys), KeySet(keys)
    wrong, admitted = [], dict.fromkeys(scopes, 0)
    for _ in range(QUESTIONS):
        described, token = walk.token()
        path = f"/{walk.path(4)}"
        theirs = server.connect(path, token)
        answers = {"ours": our_server.connect(path, token), "library": decided(ours, path, token)}
        if described["kid"] == "any" and path == "/":
            answers["lint"] = linted(token)
        wrong += [(described, path, theirs, who, answer) for who, answer in answers.items() if answer != theirs]
        admitted[described["kid"]] += theirs is not None
    assert not wrong, f"{len(wrong)} differ, such as {wrong[:3]}"
    # It has shown something only if both answers are common, whatever the key.
    assert all(QUESTIONS / 100 < count < QUESTIONS / 4 for count in admitted.values()), admitted
