"""The real relays of both generations ask the auth server of this package about clients that dial over QUIC.

`make interop` builds them, and names them in RUST_MOQ_RELAY (0.14) and RUST_MOQ_RELAY_SECOND (0.15 and later).
"""

from __future__ import annotations

import asyncio
import re
import signal
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from moq_token import Algorithm, Claims, Key, KeySet, Permissions, RefusedError
from moq_token.server import AuthServer, Grant, Policy, Request
from moq_token.server.listen import TcpAddress, UnixAddress, listening, server_tls
from tests.certificates import Authority
from tests.interop.live import FIRST, SECOND, Asked, asked_at, dialed, refused, relay, run, token, url_of
from tests.interop.peers import OURS, serving
from tests.interop.relays import OUTAGE, UNAUTHORIZED, Accepted, Relay

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.rust


# -- relays from 0.15 on


@pytest.mark.parametrize("kind", ["tcp", "unix", "basic"])
def test_admitted_and_refused(key: Key, tmp_path: Path, kind: str) -> None:
    async def test() -> None:
        secret = "relay:pa ss" if kind == "basic" else None
        server = AuthServer(Policy(tmp_path / "keys", public_subscribe=["lobby/**"]), secret=secret)
        asked = Asked(server)
        where = UnixAddress(str(tmp_path / "auth.sock")) if kind == "unix" else TcpAddress("127.0.0.1", 0)
        userinfo = "relay:pa%20ss@" if kind == "basic" else ""
        async with asked_at(asked, where) as address:
            with relay(SECOND, url_of(address, userinfo), tmp_path) as asking:
                async with dialed(f"{asking.base}/room/1?jwt={token(key)}"), dialed(f"{asking.base}/lobby"):
                    await asked.until(lambda: asked.count("connect") == 2)
                    assert len(server.live.sessions) == 2
                await asked.until(lambda: asked.count("end") == 2)
                assert len(server.live.sessions) == 0
                for path in (
                    "/room",
                    f"/room?jwt={token(key)[:-4]}",
                    f"/other?jwt={token(key)}",
                    f"/room?jwt={token(key, -5)}",
                ):
                    assert await refused(asking.base + path) != OUTAGE
                assert len(server.live.sessions) == 0

    run(test)


def test_tls_with_the_certificate_of_the_relay(tmp_path: Path) -> None:
    authority, stranger = Authority(tmp_path, "ca"), Authority(tmp_path, "stranger")
    tls = server_tls(*authority.issue("server", "127.0.0.1"), authority.root)

    async def test() -> None:
        asked = Asked(AuthServer(Policy(public_subscribe=["**"])))
        async with listening(asked.handle, TcpAddress("127.0.0.1", 0), tls) as running:
            for name, issuer in (("relay", authority), ("other", stranger)):
                cert, key = issuer.issue(name, "127.0.0.1")
                arguments = ["--connect-tls-root", authority.root, "--connect-tls-cert", cert, "--connect-tls-key", key]
                with relay(SECOND, f"https://{running.address}/", tmp_path, *arguments) as asking:
                    if issuer is authority:
                        async with dialed(f"{asking.base}/room"):
                            await asked.until(lambda: asked.count("connect") == 1)
                    else:
                        assert await refused(f"{asking.base}/room") == OUTAGE

    run(test)


def test_a_wrong_secret_is_an_outage(tmp_path: Path) -> None:
    async def test() -> None:
        asked = Asked(AuthServer(Policy(public_subscribe=["**"]), secret="relay:right"))
        async with asked_at(asked) as address:
            with relay(SECOND, url_of(address, "relay:wrong@"), tmp_path) as asking:
                assert await refused(f"{asking.base}/room") == OUTAGE

    run(test)


def test_expired_to_the_second(key: Key, tmp_path: Path) -> None:
    async def test() -> None:
        asked = Asked(AuthServer(Policy(tmp_path / "keys")))
        async with asked_at(asked) as address:
            with relay(SECOND, url_of(address), tmp_path) as asking:
                ends = int(time.time()) + 4
                signed = key.sign(Claims("room", "", "", expires=ends))
                async with dialed(f"{asking.base}/room?jwt={signed}") as session:
                    _, closed = await session.closed()
                    assert ends - 0.1 <= closed < ends + 1
                await asked.until(lambda: asked.ends() == ["expired"])

    run(test)


def test_rechecked_refused_and_narrowed(tmp_path: Path) -> None:
    """A re-check repeats the question; a refusal or a smaller grant ends the session."""

    async def test() -> None:
        verdict: dict[str, str] = {}

        async def decide(request: Request) -> Grant:
            now = verdict.get(request.path, "")
            if now == "refuse":
                raise RefusedError("suspended", reason="suspended")
            role = {"subscribe": ["a/**"]} if now == "narrow" else {"publish": ["**"], "subscribe": ["**"]}
            return Grant(**role, expires=int(time.time()) + 60, revalidate=1)  # type: ignore[arg-type]

        asked = Asked(AuthServer(decide))
        async with asked_at(asked) as address:
            with relay(SECOND, url_of(address), tmp_path) as asking:
                async with (
                    dialed(f"{asking.base}/refuse") as one,
                    dialed(f"{asking.base}/narrow") as two,
                    dialed(f"{asking.base}/stay") as three,
                ):
                    await asked.until(lambda: asked.count("revalidate") >= 3)
                    assert one.is_up
                    assert two.is_up
                    verdict.update({"/refuse": "refuse", "/narrow": "narrow"})
                    await one.closed()
                    await two.closed()
                    await asked.until(lambda: asked.count("end") == 2)
                    assert sorted(map(str, asked.ends())) == ["grant narrowed", "refused"]
                    assert three.is_up
                    assert len(asked.server.live.sessions) == 1

    run(test)


def test_an_outage_is_survived_until_the_grant_ends_and_not_longer(tmp_path: Path) -> None:
    async def test() -> None:
        seconds = {"/short": 4, "/long": 60}
        ends: dict[str, int] = {}

        async def decide(request: Request) -> Grant:
            ends[request.path] = int(time.time()) + seconds[request.path]
            return Grant(subscribe=["**"], expires=ends[request.path], revalidate=1)

        asked = Asked(AuthServer(decide))
        async with asked_at(asked) as address:
            with relay(SECOND, url_of(address), tmp_path) as asking:
                async with dialed(f"{asking.base}/short") as short, dialed(f"{asking.base}/long") as long:
                    await asked.until(lambda: asked.count("revalidate") >= 2)
                    asked.is_out = True
                    _, closed = await short.closed()
                    assert ends["/short"] - 0.1 <= closed < ends["/short"] + 1
                    assert long.is_up
                    asked.is_out = False
                    seen = asked.count("revalidate")
                    await asked.until(lambda: asked.count("revalidate") > seen)
                    assert long.is_up

    run(test)


def test_a_rotated_key_ends_its_sessions(key: Key, tmp_path: Path) -> None:
    async def test() -> None:
        new = Key.generate(Algorithm.ES256, "new")
        new.to_public().to_file(tmp_path / "keys" / "new.jwk")
        asked = Asked(AuthServer(Policy(tmp_path / "keys", expires="1m", revalidate="1s")))
        async with asked_at(asked) as address:
            with relay(SECOND, url_of(address), tmp_path) as asking:
                async with (
                    dialed(f"{asking.base}/room?jwt={token(key)}") as old_session,
                    dialed(f"{asking.base}/room?jwt={token(new)}") as new_session,
                ):
                    await asked.until(lambda: asked.count("revalidate") >= 2)
                    assert old_session.is_up
                    (tmp_path / "keys" / "pair.jwk").unlink()
                    await old_session.closed()
                    await asked.until(lambda: asked.ends() == ["refused"])
                    assert new_session.is_up

    run(test)


def test_the_stop_of_a_relay_ends_its_sessions(tmp_path: Path) -> None:
    async def test() -> None:
        asked = Asked(AuthServer(Policy(public_subscribe=["**"])))
        async with asked_at(asked) as address:
            with relay(SECOND, url_of(address), tmp_path) as asking:
                async with dialed(f"{asking.base}/room") as session:
                    await asked.until(lambda: asked.count("connect") == 1)
                    await asyncio.to_thread(asking.next, re.compile(" accepted transport="))
                    asking.process.send_signal(signal.SIGTERM)
                    await session.closed()
                    await asked.until(lambda: asked.ends() == ["shutdown"])
                    assert len(asked.server.live.sessions) == 0

    run(test)


# -- relay 0.14

PATHS = "/rooms/123", "/rooms/123/alice", "/rooms", "/rooms/124", "/lobby/1"


@contextmanager
def first(directory: Path, *arguments: str | Path) -> Iterator[Relay]:
    """Run a relay that asks `serve` with these arguments."""
    with serving(OURS, "--listen", "127.0.0.1:0", *arguments) as listens:
        port = listens.partition("127.0.0.1:")[2].split()[0]
        with relay(FIRST, f"http://127.0.0.1:{port}/", directory) as asking:
            yield asking


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


def test_the_first_generation_grants_what_tokens_and_public_rules_grant(tmp_path: Path) -> None:
    (keys := tmp_path / "keys").mkdir()
    known, stranger = Key.generate("EdDSA", "known"), Key.generate("EdDSA", "stranger")
    known.to_public().to_file(keys / "known.jwk")
    public = Claims(subscribe=["lobby"])
    with first(tmp_path, "--key-dir", keys, "--public-subscribe", "lobby/**") as dialed:
        for path in PATHS:
            url = f"https://relay.example{path}"
            assert dialed.dial(url) == decided(public, path), path
            for claims in Claims("rooms/123", "alice", ""), Claims("", "rooms", ["rooms/124", "lobby"]):
                signed = known.sign(claims)
                assert dialed.dial(f"{url}?jwt={signed}") == decided(KeySet([known]).verify(signed), path), path
            assert dialed.dial(f"{url}?jwt={stranger.sign(Claims('', ''))}") == UNAUTHORIZED, path
        # What relays before 0.15 cannot read is refused.
        assert dialed.dial(f"https://relay.example/rooms?jwt={known.sign(Claims('', 'rooms/*/x'))}") == UNAUTHORIZED


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("option", ["--key", "--key-dir"])
def test_the_first_generation_gets_a_secret_only_on_request(tmp_path: Path, option: str, *, shared: bool) -> None:
    key = Key.generate("HS256", "secret")
    key.to_file(tmp_path / "secret.jwk")
    place = tmp_path / "secret.jwk" if option == "--key" else tmp_path
    signed = key.sign(Claims("rooms", "", expires="1h"))
    with first(tmp_path, option, place, *(["--share-secrets"] if shared else [])) as dialed:
        expected = Accepted("", "rooms", "", None) if shared else UNAUTHORIZED
        assert dialed.dial(f"https://relay.example/rooms?jwt={signed}") == expected


def test_the_first_generation_asks_again(key: Key, tmp_path: Path) -> None:
    async def test() -> None:
        Key.generate(Algorithm.HS256, "shared").to_file(tmp_path / "keys" / "shared.jwk")
        shared = Key.from_file(tmp_path / "keys" / "shared.jwk")
        policy = Policy(tmp_path / "keys", public_subscribe=["lobby/**"], expires="1m", revalidate="1s")
        asked = Asked(AuthServer(policy, share_secrets=True))
        async with asked_at(asked) as address:
            with relay(FIRST, url_of(address), tmp_path) as asking:
                async with (
                    dialed(f"{asking.base}/room?jwt={token(key)}") as one,
                    dialed(f"{asking.base}/room?jwt={token(shared)}") as two,
                    dialed(f"{asking.base}/lobby") as three,
                ):
                    await asked.until(lambda: len(asked.asked) >= 6)  # asked, and asked again
                    assert one.is_up
                    assert two.is_up
                    assert three.is_up
                    asked.is_out = True
                    await asyncio.sleep(1.5)
                    assert one.is_up
                    asked.is_out = False
                    (tmp_path / "keys" / "pair.jwk").unlink()
                    await one.closed()
                    assert two.is_up
                    assert three.is_up
                for path in (
                    "/room",
                    f"/room?jwt={token(key)}",
                    f"/other?jwt={token(shared)}",
                    f"/lobby?jwt={token(shared)}",
                ):
                    assert await refused(asking.base + path) != OUTAGE

    run(test)
