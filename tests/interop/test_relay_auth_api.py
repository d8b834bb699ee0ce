"""Relay 0.14 with the auth server of this package as its `auth_api`, and clients that dial it over QUIC.

`make interop` builds the relay and names it in RUST_MOQ_RELAY.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from moq_token import Claims, Key, KeySet, Permissions, RefusedError
from tests.interop.peers import OURS, program, serving
from tests.interop.relays import UNAUTHORIZED, Accepted, Relay, running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.rust, pytest.mark.timeout(120)]

LISTEN = ("--server-bind", "127.0.0.1:0", "--tls-generate", "localhost")
PATHS = "/rooms/123", "/rooms/123/alice", "/rooms", "/rooms/124", "/lobby/1"


@contextmanager
def relay(directory: Path, *arguments: str | Path) -> Iterator[Relay]:
    """Run a relay that asks our server."""
    with serving(OURS, "--listen", "127.0.0.1:0", *arguments) as listens:
        port = listens.partition("127.0.0.1:")[2].split()[0]
        command = program("RUST_MOQ_RELAY")
        with running(command, *LISTEN, "--auth-api", f"http://127.0.0.1:{port}/", directory=directory) as relay:
            yield relay


def decided(claims: Claims, path: str) -> Accepted | int:
    """Return the answer that the relay gives if it decides as this package does."""
    try:
        permissions: Permissions = claims.authorize(path)
    except RefusedError:
        return UNAUTHORIZED
    publish, subscribe = (
        ",".join(map(str, grants)) if grants else None for grants in (permissions.publish, permissions.subscribe)
    )
    return Accepted("", path.strip("/"), publish, subscribe)


def test_tokens_and_public_rules(tmp_path: Path) -> None:
    (keys := tmp_path / "keys").mkdir()
    known, stranger = Key.generate("EdDSA", "known"), Key.generate("EdDSA", "stranger")
    known.to_public().to_file(keys / "known.jwk")
    public = Claims(subscribe=["lobby"])
    with relay(tmp_path, "--key-dir", keys, "--public-subscribe", "lobby/**") as dialed:
        for path in PATHS:
            url = f"https://relay.example{path}"
            assert dialed.dial(url) == decided(public, path), path
            for claims in Claims("rooms/123", "alice", ""), Claims("", "rooms", ["rooms/124", "lobby"]):
                token = known.sign(claims)
                assert dialed.dial(f"{url}?jwt={token}") == decided(KeySet([known]).verify(token), path), path
            assert dialed.dial(f"{url}?jwt={stranger.sign(Claims('', ''))}") == UNAUTHORIZED, path
        # What relays before 0.15 cannot read is refused.
        assert dialed.dial(f"https://relay.example/rooms?jwt={known.sign(Claims('', 'rooms/*/x'))}") == UNAUTHORIZED


@pytest.mark.parametrize("shared", [False, True])
def test_a_secret_is_given_only_on_request(tmp_path: Path, *, shared: bool) -> None:
    key = Key.generate("HS256", "secret")
    key.to_file(tmp_path / "secret.jwk")
    token = key.sign(Claims("rooms", "", expires="1h"))
    with relay(tmp_path, "--key-dir", tmp_path, *(["--share-secrets"] if shared else [])) as dialed:
        expected = Accepted("", "rooms", "", None) if shared else UNAUTHORIZED
        assert dialed.dial(f"https://relay.example/rooms?jwt={token}") == expected
