"""Compare the decisions of `moq auth serve` with those of the auth server of this package.

`make interop` builds it and names it in RUST_MOQ.
"""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from http import HTTPStatus
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
    """Return the grant at the top level that `lint` reports."""
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


def deep(segments: int) -> str:
    return "/".join("a" * segments)


@pytest.mark.parametrize(
    ("claims", "path"),
    [
        ({"put": [deep(32)]}, "/"),
        ({"put": [deep(32)]}, f"/{deep(33)}"),
        ({"root": deep(16), "put": [deep(15)]}, "/"),
        ({"root": deep(16), "put": [deep(16)]}, "/"),
        ({"root": deep(16), "publish": [f"{deep(16)}/**"]}, "/"),
        ({"root": deep(16), "publish": [deep(16)]}, "/"),
        ({"root": deep(16), "put": [deep(16)]}, f"/{deep(16)}"),
        ({"root": deep(32), "put": [""]}, "/"),
        ({"root": deep(33), "put": [""]}, f"/{deep(40)}"),
        ({"root": "a", "publish": [f"{deep(31)}", "b/**"]}, "/"),
        ({"root": "a", "publish": [f"{deep(32)}", "b/**"]}, "/"),
    ],
)
def test_paths_of_the_greatest_depth(
    server: AuthServer, our_server: AuthServer, key_directory: Path, claims: Json, path: str
) -> None:
    forge.key(Algorithm.HS256).to_file(key_directory / f"{forge.KID}.jwk")
    token = forge.token(Algorithm.HS256, claims)
    assert server.connect(path, token) == our_server.connect(path, token)


def test_a_covered_path_that_gets_too_deep(server: AuthServer, our_server: AuthServer, key_directory: Path) -> None:
    """When it reads the token, the original drops a path that another one covers; this package refuses such a token."""
    forge.key(Algorithm.HS256).to_file(key_directory / f"{forge.KID}.jwk")
    token = forge.token(Algorithm.HS256, {"root": "a/a", "put": ["", deep(31)]})
    assert server.connect("/", token) == {"publish": ["a/a/**"]}
    assert our_server.connect("/", token) is None


# -- whole requests

# Known differences, on purpose: the property of the request, and the status that this package answers.
DIFFERENT = {
    "duplicate members": 400,  # they are one kind of bad JSON; the reference says 422
    "crit": 403,  # an extension that is not understood (RFC 7515, section 4.1.11)
    "certificate past its end": 403,  # the reference answers with a grant that no relay takes
}
MORE_LENIENT = {
    "unknown transport": 200,  # the contract grows, and neither decides anything
    "unknown role": 200,
    "remote not an address": 200,
    "end without its members": 204,
}


class Requests(Walk):
    """Random requests, with the name of a known difference, if the request has one."""

    def __init__(self, seed: int, keys: list[Key]) -> None:
        super().__init__(seed, keys)
        self._number = 0

    def request(self) -> tuple[str, str]:
        """Return the body, and the name of a known difference, or an empty string."""
        chance, self._number = self._random.random, self._number + 1
        request: Json = {"id": f"{self._number:032x}", "event": self._random.choice(("connect", "revalidate"))}
        request |= {"node": "n", "transport": self._random.choice(("quic", "websocket", "http")), "remote": "[::1]:5"}
        request |= {"path": f"/{self.path(4)}", "role": self._random.choice(("publisher", "subscriber", None))}
        known = ""
        if chance() < 0.7:
            _, token = self.token()
            if chance() < 0.05:
                token, known = forge.token(Algorithm.HS256, {"root": ""}, {**self._header(), "crit": ["x"]}), "crit"
            elif chance() < 0.1:
                token = self._random.choice(
                    (tampered(token), token.replace(".", ""), "", "x", token + "=", "%20" + token)
                )
            query = self._random.choice((f"jwt={token}", f"a=b&jwt={token}", f"jwt=&jwt={token}&jwt=", f"JWT={token}"))
            request["query"] = self._random.choice((query, query, query.replace("&", ";")))
            if known:
                request["query"] = f"jwt={token}"
            elif chance() < 0.15:
                value = self._random.choice((token.encode(), b"\xff", b"other", b""))
                request["token"] = {"kind": self._random.choice((0, 0, 0, 1, 0x40B5)), "value": forge.b64(value)}
        if chance() < 0.15:
            certificate: Json = {"name": "a", "fingerprint": "b", "issuer": "CN=c"}
            request["tls"] = certificate
            if chance() < 0.5:
                ended = "query" not in request and chance() < 0.5
                certificate["expires"] = 7 if ended else EXPIRES
                known = "certificate past its end" if ended else known
        return self._spoiled(request, known)

    def _header(self) -> Json:
        return {"alg": "HS256", "kid": str(self._keys[0].kid)}

    def _spoiled(self, request: Json, known: str) -> tuple[str, str]:
        roll = self._random.random()
        if self._random.random() < 0.1:
            request |= {"x": {"y": [1]}, "local": None, "server_name": None}
        if known or roll < 0.84:
            return json.dumps(request), known
        if roll < 0.88:
            del request[self._random.choice(("id", "event", "node", "transport", "path"))]
            return json.dumps(request), ""
        if roll < 0.92:
            name = self._random.choice(("id", "node", "path", "query", "alpn", "tls", "token"))
            return json.dumps({**request, name: self._random.choice((7, [], True, {}))}), ""
        body = json.dumps(request)
        if roll < 0.96:
            if self._random.random() < 0.2:
                return f"{body[:-1]},{body[1:]}", "duplicate members"
            return self._random.choice((body[:-1], f"[{body}]", "", "7", body + "x")), ""
        ending = {"event": "end", "reason": "x", "duration": 0.5, "bytes": {"sent": 1, "received": 2}}
        return json.dumps({**request, **ending}), ""


def comparable(status: int, body: bytes) -> tuple[int, Json | None]:
    """Return the verdict and the grant, without an end that is computed from the time of the request."""
    if status != HTTPStatus.OK:
        return status, None
    grant = json.loads(body)
    if abs(grant.get("expires", 0) - time.time() - 3600) < 60:
        grant["expires"] = "in an hour"
    return status, grant


def test_the_same_requests_get_the_same_answers(moq_auth: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    key = forge.key(Algorithm.HS256)
    keys = [key.with_kid("any"), key.with_kid("patterns").with_scope(Scope("", ["a/**/b", "a*/**"], "**/b"))]
    for each in keys:
        each.to_file(tmp_path / "keys" / f"{each.kid}.jwk")
    rules: dict[str, list[str]] = {
        "public-subscribe": ["a/**", "*/b"],
        "public-publish": ["b/*"],
        "mtls-publish": ["a/**"],
        "mtls-subscribe": ["**"],
    }
    flags: list[str | Path] = [
        "--key-dir",
        tmp_path / "keys",
        "--tier",
        "gold",
        "--expires",
        "1h",
        "--revalidate",
        "1m",
    ]
    for name, patterns in rules.items():
        for pattern in patterns:
            flags += [f"--{name}", pattern]
    walk, wrong, answers = Requests(7, keys), [], Counter[int]()
    with (
        auth_server(moq_auth, tmp_path / "theirs", *flags) as reference,
        auth_server(OUR_AUTH, tmp_path / "ours", *flags, "--spread", "0") as server,
    ):
        for _ in range(QUESTIONS):
            body, known = walk.request()
            theirs, own = comparable(*reference.ask(body)), comparable(*server.ask(body))
            answers[own[0]] += 1
            if (own[0] != DIFFERENT[known]) if known else (own != theirs):
                wrong.append((body, known, theirs, own))
        lenient = {
            "unknown transport": {"transport": "carrier-pigeon"},
            "unknown role": {"role": "both"},
            "remote not an address": {"remote": "localhost:80"},
            "end without its members": {"event": "end"},
        }
        for name, status in MORE_LENIENT.items():
            request = {"id": "1", "event": "connect", "node": "", "transport": "quic", "path": "/a", **lenient[name]}
            assert (reference.ask(json.dumps(request))[0], server.ask(json.dumps(request))[0]) == (422, status)
    assert not wrong, f"{len(wrong)} differ, such as {wrong[:3]}"
    assert min(answers[status] for status in (200, 204, 400, 403, 422)) > QUESTIONS / 100, answers
