"""Show everything at work: keys, tokens, a real MoQ server and its clients, over QUIC on the loopback interface.

``make demo`` runs it. The exit status is 0 only if everything went as shown: one client publishes, another watches, and
clients without a valid token are refused.
"""

import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import moq

from moq_token import Key

# The type stubs of moq-rs do not show that its error class is an exception.
MoqError = cast("type[Exception]", moq.Error)

RELAY = Path(__file__).with_name("relay.py")
TIME_LIMIT = 30  # seconds for the whole demo, which takes about three
LEAVE_SECONDS = 5  # seconds for the relay to shut down
ROOM = "rooms/123"
RELAY_TOML = """
[server]
bind = "localhost:0"
[server.tls]
generate = ["localhost"]
[auth]
key = "{key}"
"""
FRAMES = [b"one", b"two", b"three"]


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        tokens = make_tokens(Path(directory))
        asyncio.run(asyncio.wait_for(meet(Path(directory, "public.jwk"), tokens), TIME_LIMIT))
    say("done", "everything worked as expected")


def say(who: str, what: str) -> None:
    print(f"{who:8}{what}", flush=True)


def cli(*arguments: str) -> str:
    """Run ``moq-token``, and return what it prints."""
    command = [sys.executable, "-m", "moq_token", *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=TIME_LIMIT).stdout.strip()


def make_tokens(directory: Path) -> dict[str, str]:
    """Make a key pair, another key with the same id, and a token for each client."""
    private, public, stranger = (str(directory / name) for name in ("private.jwk", "public.jwk", "stranger.jwk"))
    cli("generate", "--algorithm", "EdDSA", "--out", private, "--public", public)
    key = Key.from_file(public)
    cli("generate", "--algorithm", "EdDSA", "--out", stranger, "--id", str(key.kid))
    say("keys", f"an {key.algorithm} key pair, of which the server gets the public key; another key with the same id")

    publisher = ("sign", "--root", ROOM, "--publish", "alice", "--expires")
    viewer = ("sign", "--root", ROOM, "--subscribe", "", "--expires")
    tokens = {
        "alice": cli(*publisher, "1h", "--key", private),
        "viewer": cli(*viewer, "1h", "--key", private),
        "forged": cli(*viewer, "1h", "--key", stranger),
        "expired": cli(*viewer, str(int(time.time()) - 60), "--key", private),
    }
    say("tokens", f"for {ROOM}: alice may publish `alice`, viewer may subscribe to all; one is forged, one has expired")
    return tokens


async def meet(public_key: Path, tokens: dict[str, str]) -> None:
    async with server(public_key) as (address, certificate, heard):

        def dial(query: str) -> moq.Client:
            return moq.connect(
                f"{address}/{ROOM}{query}",
                tls_fingerprints=[certificate],
                websocket_enabled=False,
                reconnect=False,
                publish=moq.OriginProducer(),
                subscribe=moq.OriginProducer(),  # a different origin, so that a client does not hear itself
            )

        async with dial(f"?jwt={tokens['alice']}") as alice:
            await heard("admitted")
            async with dial(f"?jwt={tokens['viewer']}") as viewer:
                await heard("admitted")
                await watch(alice, viewer)

        for who, query, reason in (
            ("forged", f"?jwt={tokens['forged']}", "bad-signature"),
            ("expired", f"?jwt={tokens['expired']}", "expired"),
            ("nobody", "", "token-expected"),
        ):
            error = await refusal(dial(query))
            await heard(f"refused at '/{ROOM}': {reason}")
            say(who, f"was refused: {error}")


async def watch(alice: moq.Client, viewer: moq.Client) -> None:
    """Let both clients publish, also without permission. The viewer must receive only what alice may publish."""
    tracks = {}
    for client, name in ((alice, "bob"), (viewer, "viewer"), (alice, "alice")):
        broadcast = client.create_broadcast(name)
        tracks[name] = broadcast, broadcast.publish_track("words")
        broadcast.announce()

    broadcast = await viewer.announced_broadcast("alice")
    incoming = await broadcast.subscribe_track("words")
    track = tracks["alice"][1]
    await track.used()
    group = track.append_group()
    for frame in FRAMES:
        group.write_frame(frame)
    group.finish()
    received = await incoming.next_group()
    expect("the frames arrive", received is not None and [frame.payload async for frame in received] == FRAMES)
    say("viewer", f"watches `alice`: {', '.join(frame.decode() for frame in FRAMES)}")

    for name in ("bob", "viewer"):
        try:
            await viewer.request_broadcast(name)
        except MoqError:
            say("viewer", f"does not find `{name}`, which its publisher has no permission to publish")
        else:
            expect(f"`{name}` is not visible", happened=False)


@asynccontextmanager
async def server(public_key: Path) -> AsyncIterator[tuple[str, str, Callable[[str], Awaitable[None]]]]:
    """Run the relay in a process of its own. Yield its address, its certificate, and how to wait for what it says."""
    config = public_key.with_name("relay.toml")
    config.write_text(RELAY_TOML.format(key=public_key.as_posix()), encoding="utf-8")
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(RELAY), str(config), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    lines = process.stdout

    async def line() -> str:
        text = (await lines.readline()).decode().strip()
        expect("the server is running", bool(text))
        return text

    async def heard(words: str) -> None:
        while words not in (text := await line()):
            expect(f"the server says {words!r} and not {text!r}", text.startswith(("left", "ended")))
        say("server", text)

    try:
        address = (await line()).removeprefix("listening on ")
        certificate = (await line()).removeprefix("certificate ")
        say("server", f"listens on {address}")
        yield address, certificate, heard
    finally:
        if process.returncode is None:
            process.terminate()
        try:
            await asyncio.wait_for(process.communicate(), LEAVE_SECONDS)
        except TimeoutError:
            process.kill()
            await process.communicate()
            expect("the relay stops on SIGTERM", happened=False)


async def refusal(client: moq.Client) -> str:
    """Dial, and return the error that the refused client gets."""
    try:
        async with client:
            assert client.session is not None
            await client.session.closed()
    except MoqError as error:
        details = moq.protocol_error(error)
        expect("the client is told that it is unauthorized", moq.is_auth(error))
        return details.message if details is not None else str(error)
    raise AssertionError("a client was admitted that must be refused")


def expect(what: str, happened: bool) -> None:  # noqa: FBT001 - it reads as a sentence
    if not happened:
        raise AssertionError(f"failed: {what}")


if __name__ == "__main__":
    main()
