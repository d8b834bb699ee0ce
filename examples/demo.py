"""Show everything at work: keys, a backend that issues tokens, an auth server, a real MoQ relay, and clients over QUIC.

``make demo`` runs it, on the loopback interface only. The exit status is 0 only if everything happens as shown: one
client publishes, another watches, clients without a valid token are refused, and a guest has to leave when his key is
removed.
"""

import asyncio
import re
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import moq
import uvicorn

from moq_token import Claims, Key, RefusedError
from moq_token.issuing import Issuer, TokenRequest, TokenSource, endpoint

# The type stubs of moq-rs do not show that its error class is an exception.
MoqError = cast("type[Exception]", moq.Error)

RELAY = Path(__file__).with_name("relay.py")
TIME_LIMIT = 60  # seconds for the whole demo, which takes about three
LEAVE_SECONDS = 5  # seconds for a program to shut down
ROOM = "rooms/123"
RELAY_TOML = """
[listen]
bind = "localhost:0"
[listen.tls]
generate = ["localhost"]
[auth]
url = "http://{address}/"
"""
MEMBERS = {
    "alice": Claims(ROOM, publish="alice/*", subject="alice"),
    "viewer": Claims(ROOM, subscribe="", subject="viewer"),
}
FRAMES = [b"one", b"two", b"three"]


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(asyncio.wait_for(meet(Path(directory)), TIME_LIMIT))
    say("done", "everything worked as expected")


def say(who: str, what: str) -> None:
    print(f"{who:8}{what}", flush=True)


def make_keys(directory: Path) -> tuple[Key, dict[str, str]]:
    """Make two key pairs, and tokens that no backend issues. Return the key of the backend, and these tokens."""
    friends, guests, stranger = (Key.generate("EdDSA", kid) for kid in ("friends", "guests", "friends"))
    (directory / "keys").mkdir()
    for key in (friends, guests):
        key.to_public().to_file(directory / "keys" / f"{key.kid}.jwk")
    say("keys", "key pairs `friends` and `guests`, and a stranger's key that is called `friends` too")

    watch_all = Claims(ROOM, subscribe="", expires="1h")
    return friends, {
        "guest": guests.sign(watch_all),
        "forged": stranger.sign(watch_all),
        "expired": friends.sign(Claims(ROOM, subscribe="", expires=int(time.time()) - 60)),
    }


def authorize(request: TokenRequest) -> Claims:
    """Say what a user may have. A real backend reads a session cookie or the like."""
    user = request.headers.get("authorization", "").removeprefix("Bearer session-of-")
    if user not in MEMBERS:
        raise RefusedError("not a member of this room")
    return MEMBERS[user]


@asynccontextmanager
async def backend(issuer: Issuer) -> AsyncIterator[str]:
    """Run a token endpoint, and yield its URL."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(endpoint(issuer, authorize), lifespan="off", log_level="warning"))
        serving = asyncio.create_task(server.serve([listener]))
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        finally:
            server.should_exit = True
            await serving


async def ask(url: str, user: str) -> str:
    """Ask the backend for a credential as a user, and return the URL to dial."""
    source = TokenSource(url, headers={"Authorization": f"Bearer session-of-{user}"})
    credential = await source.get()
    say(user, f"has a credential for {credential.server_url}, good for {credential.expires_in} s")
    return credential.url


class Program:
    """A running program, and its output."""

    def __init__(self, name: str, lines: asyncio.StreamReader) -> None:
        self.name = name
        self._lines = lines

    async def hears(self, pattern: str) -> str:
        """Wait for a line that has the pattern, and return its first group."""
        while True:
            line = (await self._lines.readline()).decode()
            expect(f"the {self.name} says {pattern!r}", bool(line))
            if found := re.search(pattern, line):
                return found[1]


@asynccontextmanager
async def running(name: str, *arguments: str) -> AsyncIterator[Program]:
    """Run a program of Python in a process of its own."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    assert process.stdout is not None
    try:
        yield Program(name, process.stdout)
    finally:
        if process.returncode is None:
            process.terminate()
        try:
            await asyncio.wait_for(process.communicate(), LEAVE_SECONDS)
        except TimeoutError:
            process.kill()
            await process.communicate()
            expect(f"the {name} stops on SIGTERM", happened=False)


async def meet(directory: Path) -> None:
    key, tokens = make_keys(directory)
    serve = ("-m", "moq_token", "serve", "--listen", "127.0.0.1:0", "--key-dir", str(directory / "keys"))
    async with running("auth server", *serve, "--expires", "1h", "--revalidate", "1s") as auth:
        address = await auth.hears(r"listening on (\S+)")
        say("auth", f"answers at {address}, and has every session asked about again each second")
        config = directory / "relay.toml"
        config.write_text(RELAY_TOML.format(address=address), encoding="utf-8")
        async with running("relay", str(RELAY), str(config)) as relay:
            url = await relay.hears(r"^listening on (\S+)")
            say("relay", f"listens on {url}, and asks the auth server")
            certificate = await relay.hears(r"^certificate (\S+)")
            urls = {who: f"{url}/{ROOM}?jwt={token}" for who, token in tokens.items()} | {"nobody": f"{url}/{ROOM}"}
            async with backend(Issuer(key, url, lifetime="10m")) as tokens_url:
                say("backend", f"issues tokens at {tokens_url}: alice may publish `alice/*`, viewer may watch all")
                for user in MEMBERS:
                    urls[user] = await ask(tokens_url, user)
                try:
                    await ask(tokens_url, "mallory")
                except RefusedError as error:
                    say("mallory", f"gets no token: {error}")
                else:
                    expect("the backend refuses mallory", happened=False)
            await visit(Clients(urls, certificate), auth, relay, directory)


class Clients:
    def __init__(self, urls: dict[str, str], certificate: str) -> None:
        self._urls = urls
        self._certificate = certificate

    def dial(self, who: str) -> moq.Client:
        return moq.connect(
            self._urls[who],
            tls_fingerprints=[self._certificate],
            websocket_enabled=False,
            reconnect=False,
            publish=moq.OriginProducer(),
            subscribe=moq.OriginProducer(),  # a different origin, so that a client does not hear itself
        )

    async def refusal(self, who: str) -> str:
        """Dial, and return the error that the client gets."""
        async with asyncio.timeout(TIME_LIMIT):
            return await ending(self.dial(who))


async def visit(clients: Clients, auth: Program, relay: Program, directory: Path) -> None:
    async with clients.dial("alice") as alice:
        say("relay", await relay.hears("^(admitted .*)"))
        async with clients.dial("viewer") as viewer:
            say("relay", await relay.hears("^(admitted .*)"))
            await watch(alice, viewer)

            guest = asyncio.create_task(ending(clients.dial("guest")))
            say("relay", await relay.hears("^(admitted .*)"))
            (directory / "keys" / "guests.jwk").unlink()
            say("keys", "`guests` is removed")
            reason = await auth.hears('reason="(unknown-key)" asked="revalidate"')
            say("auth", f"refuses at the next re-check: {reason}")
            say("guest", f"had to leave: {await guest}")
            say("relay", await relay.hears("^(ended .*: refused)"))
            await send(alice, viewer, "alice/screen")  # the others are still there

    for who, expected in (("forged", "bad-signature"), ("expired", "expired"), ("nobody", "no-public-grant")):
        error = await clients.refusal(who)
        reason = await auth.hears(f'reason="({expected})" asked="connect"')
        say("auth", f"refuses: {reason}")
        await relay.hears(f"^(refused at '/{ROOM}': .*)")
        say(who, f"was refused: {error}")


async def watch(alice: moq.Client, viewer: moq.Client) -> None:
    """Let both clients publish, also without permission. The viewer must receive only what alice may publish."""
    kept = []
    for client, name in ((alice, "bob"), (alice, "alice"), (viewer, "viewer")):
        kept.append(client.create_broadcast(name))
        kept[-1].announce()
    await send(alice, viewer, "alice/camera")
    for broadcast, name in zip(kept, ("bob", "alice", "viewer"), strict=True):
        try:
            await viewer.request_broadcast(name)
        except MoqError:
            say("viewer", f"does not find `{name}`, which its publisher has no permission to publish")
        else:
            expect(f"`{name}` is not visible", happened=False)
        broadcast.close()


async def send(alice: moq.Client, viewer: moq.Client, name: str) -> None:
    """Publish a few frames, and watch them."""
    broadcast = alice.create_broadcast(name)
    track = broadcast.publish_track("words")
    broadcast.announce()
    incoming = await (await viewer.announced_broadcast(name)).subscribe_track("words")
    await track.used()
    group = track.append_group()
    for frame in FRAMES:
        group.write_frame(frame)
    group.finish()
    received = await incoming.next_group()
    expect("the frames arrive", received is not None and [frame.payload async for frame in received] == FRAMES)
    say("viewer", f"watches `{name}`: {', '.join(frame.decode() for frame in FRAMES)}")


async def ending(client: moq.Client) -> str:
    """Dial, wait until the relay closes the session, and return the error that the client gets."""
    try:
        async with client:
            assert client.session is not None
            await client.session.closed()
    except MoqError as error:
        details = moq.protocol_error(error)
        expect("the client is told that it is unauthorized", moq.is_auth(error))
        return details.message if details is not None else str(error)
    raise AssertionError("a session ended without an error")


def expect(what: str, happened: bool) -> None:  # noqa: FBT001 - it reads as a sentence
    if not happened:
        raise AssertionError(f"failed: {what}")


if __name__ == "__main__":
    main()
