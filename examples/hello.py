"""Run a relay, publish a frame as Alice, and receive it as a viewer.

Run it where `private.jwk` and `public.jwk` are. With the URL of a relay on
this machine, use that relay.
"""

import asyncio
import sys

import moq

from moq_token import Claims, Key
from moq_token.auth import AuthConfig, Authenticator
from moq_token.integrations.moq import guard

key = Key.from_file("private.jwk")
alice = key.sign(Claims("rooms/123", publish="alice", expires="1h"))
viewer = key.sign(Claims("rooms/123", subscribe="", expires="1h"))


async def run_relay(server: moq.Server) -> None:
    """Admit the clients whose tokens the public key verifies."""
    config = AuthConfig(key="public.jwk")
    async with Authenticator(config) as authenticator:
        async for session in guard(server, authenticator):
            print("admitted at", session.path)


async def meet(url: str, certificate: str | None) -> None:
    def dial(token: str) -> moq.Client:
        return moq.connect(
            f"{url}/rooms/123?jwt={token}",
            tls_fingerprints=[certificate] if certificate else None,
            tls_verify=certificate is not None,
            publish=moq.OriginProducer(),
            subscribe=moq.OriginProducer(),
        )

    async with dial(alice) as publisher, dial(viewer) as watcher:
        broadcast = publisher.create_broadcast("alice/words")
        track = broadcast.publish_track("words")
        broadcast.announce()

        found = await watcher.announced_broadcast("alice/words")
        incoming = await found.subscribe_track("words")
        reading = asyncio.create_task(incoming.next_group())
        await track.used()  # a relay subscribes when somebody reads
        group = track.append_group()
        group.write_frame(b"Hello from Alice")
        group.finish()

        received = await reading
        assert received is not None
        async for frame in received:
            print("frame:", frame.payload.decode())


async def main() -> None:
    async with asyncio.timeout(30):
        if len(sys.argv) > 1:
            await meet(sys.argv[1], certificate=None)
            return
        listening = moq.Server("127.0.0.1:0", tls_generate=["localhost"])
        async with listening as server:
            port = server.local_addr.rpartition(":")[2]
            relay = asyncio.create_task(run_relay(server))
            certificate = server.cert_fingerprints()[0]
            await meet(f"https://127.0.0.1:{port}", certificate)
            relay.cancel()
            await asyncio.wait([relay])


if __name__ == "__main__":
    asyncio.run(main())
