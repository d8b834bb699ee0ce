"""A relay from 0.15 on, with public patterns or an auth server, and clients that dial it over QUIC.

`make interop` builds both, and names them in RUST_MOQ_RELAY_SECOND and RUST_MOQ.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from moq_token import Algorithm, Claims, Key, Pattern, RefusedError
from tests import forge
from tests.interop.peers import OUR_AUTH, auth_server, canonical, program
from tests.interop.relays import PATIENCE, UNAUTHORIZED, Accepted, Relay, client, running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.rust

LISTEN = ("--listen", "127.0.0.1:0", "--listen-tls-generate", "localhost")
KEY = forge.key(Algorithm.HS256)


@pytest.fixture(scope="session")
def command() -> str:
    return program("RUST_MOQ_RELAY_SECOND")


@pytest.fixture(scope="module", params=["moq auth serve", "ours"])
def relay(command: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relay]:
    """Run a relay whose auth server holds the fixed key."""
    auth = OUR_AUTH if request.param == "ours" else request.getfixturevalue("moq_auth")
    directory = tmp_path_factory.mktemp("relay")
    KEY.to_file(directory / "key.jwk")
    socket = directory / "s"
    with (
        auth_server(auth, socket, "--key", directory / "key.jwk"),
        running(command, *LISTEN, "--auth-url", f"unix://{socket}", directory=directory) as relay,
    ):
        yield relay


def decided(claims: Claims, path: str) -> Accepted | int:
    """Return the answer that the relay gives if it decides as this package does."""
    try:
        permissions = claims.authorize(path)
    except RefusedError:
        return UNAUTHORIZED
    publish, subscribe = (
        ",".join(canonical(grants)) if grants else None for grants in (permissions.publish, permissions.subscribe)
    )
    return Accepted("", path.strip("/"), publish, subscribe)


@pytest.mark.parametrize(
    "claims",
    [
        Claims("rooms/123", "alice", ""),
        Claims("rooms/123", Pattern("alice")),
        Claims("rooms", ["*/alice/**", "*/cam*/hd"], "**/chat"),
        Claims("", subscribe="rooms/**/alice"),
        Claims("rooms/124", ""),
    ],
    ids=["subtrees", "literal", "patterns", "from-the-top", "other-room"],
)
def test_tokens(relay: Relay, claims: Claims) -> None:
    token = KEY.sign(claims)
    for path in "/rooms/123", "/rooms/123/alice", "/rooms", "/rooms/123/bob", "/elsewhere":
        found = relay.dial(f"https://relay.example{path}?jwt={token}")
        assert found == decided(KEY.verify(token, strict=True), path), path


@pytest.mark.parametrize(
    "token",
    [
        "",
        Key.generate("HS256").sign(Claims("rooms", "")),
        KEY.sign(Claims("rooms", "", expires=1)),
        KEY.sign(Claims("rooms", "", cluster=True)),
        forge.token(Algorithm.HS256, {"root": "rooms", "put": ["*"]}),
    ],
    ids=["none", "other-key", "expired", "cluster", "star"],
)
def test_refused_tokens(relay: Relay, token: str) -> None:
    with pytest.raises(RefusedError):
        KEY.verify(token, strict=True)
    assert relay.dial(f"https://relay.example/rooms?jwt={token}") == UNAUTHORIZED


def test_public_patterns(command: str, tmp_path: Path) -> None:
    public = Claims("", ["anon/**"], ["anon/**", "live/*/chat"])
    rules = ("--auth-public", "anon/**", "--auth-public-subscribe", "live/*/chat")
    with running(command, *LISTEN, *rules, directory=tmp_path) as relay:
        for path in "/anon", "/anon/x/y", "/live", "/live/1/chat", "/live/1/x", "/anonymous":
            assert relay.dial(f"https://relay.example{path}") == decided(public, path), path
        # A client with a token is not anonymous.
        assert relay.dial(f"https://relay.example/anon?jwt={KEY.sign(Claims('anon', ''))}") == UNAUTHORIZED


def test_patterns_bind_broadcasts(relay: Relay) -> None:
    """Other clients receive what a client may publish, and nothing else that it announces."""
    grants = Claims("demo", [Pattern("alice"), "cam*/hd", "x/**/leaf"])
    names = ["bob", "alicex", "cam1/sd", "alice", "cam1/hd", "xx/leaf", "x/leaf", "x/1/2/leaf", "y/leaf", "cam2/hd"]

    async def seen() -> set[str]:
        publisher = f"https://relay.example/demo?jwt={KEY.sign(grants)}"
        viewer = f"https://relay.example/demo?jwt={KEY.sign(Claims('demo', subscribe=''))}"
        async with client(relay.url(publisher)) as publishing, client(relay.url(viewer)) as viewing:
            kept = []
            for name in names:
                broadcast = publishing.create_broadcast(name)
                broadcast.announce()
                kept.append(broadcast)
            found: set[str] = set()
            async with asyncio.timeout(PATIENCE), viewing.announced("") as updates:
                async for update in updates:
                    found.add(update.prefix)
                    if len(found) == len(allowed):
                        break
            del kept
            return found

    permissions = grants.authorize("demo")
    allowed = {name for name in names if permissions.can_publish(name)}
    assert allowed == {"alice", "cam1/hd", "x/leaf", "x/1/2/leaf", "cam2/hd"}
    assert asyncio.run(seen()) == allowed
