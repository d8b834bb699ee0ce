"""A small MoQ server that lets nobody in without a token: what one client publishes, the others may watch.

    moq-token-cli generate --algorithm EdDSA --out private.jwk --public public.jwk
    python examples/server.py public.jwk

It listens on the loopback interface only, and prints its address and the fingerprint of the certificate that it made
for itself. It needs moq-rs: ``pip install "moq-token[moq]"``.

What is enforced, for each session:

- Who comes in: the token in ``?jwt=`` must verify with the key and grant something at the path that the client dials.
  All others are refused. They learn that they are unauthorized, not why, and moq-rs makes no difference between 401
  and 403. Nor has it a refusal before the connection stands: the client's ``connect`` succeeds, and then its session
  closes with an error that ``moq.is_auth`` knows.
- What it may publish: a session announces into an origin of its own, and only broadcasts at or beneath a granted
  prefix are taken out of it. A client cannot be kept from announcing others, but nobody hears of them.
- What it may watch: likewise, only broadcasts at or beneath a granted prefix are put into the origin that it sees.
  The others can neither be discovered nor be asked for by name.
- How long: the session ends when the token expires.

This is why no two sessions share an origin: moq-rs itself knows roles, but no prefixes. (A ``moq.Server`` without
origins makes one for all of its sessions, who may then publish and watch everything.)

What is not: the number of sessions, announcements and bytes that the bearer of a valid token may cause. And a token
cannot be taken back before it expires.

To stay short, it copies groups of frames as they come, but no datagrams and no old groups fetched later, and it goes
on pulling a track that has been watched once until the broadcast ends.
"""

import asyncio
import signal
import sys
import time
from collections.abc import Callable
from contextlib import closing, suppress
from typing import cast
from urllib.parse import parse_qs

import moq

from moq_token import Claims, Key, Permissions, RefusedError, UnauthorizedError

MoqError = cast("type[Exception]", moq.Error)  # the generated class is declared in a way that hides its base class

UNAUTHORIZED = 2  # of the protocol's codes for the end of a session; reject() translates from HTTP's, cancel() does not
NOT_FOUND = 404


async def serve(server: moq.Server, key: Key) -> None:
    """Answer clients until cancelled, each in a task of its own so that none can hold up the others."""
    hub = moq.OriginProducer()  # all broadcasts that were let in, under their full paths
    async with asyncio.TaskGroup() as sessions:
        async for request in server:
            sessions.create_task(answer(request, key, hub))


async def answer(request: moq.Request, key: Key, hub: moq.OriginProducer) -> None:
    """Admit a client or refuse it, and stay with its session until it ends."""
    path = request.path.strip("/")
    token = parse_qs(request.query or "").get("jwt", [""])[-1]
    try:
        claims = key.verify(token)
        granted = claims.authorize(path)
    except RefusedError as error:
        say(f"refused at {path!r}: {error.reason if token else 'no token'}")
        with suppress(MoqError):  # the client has not waited for it
            await request.reject(403 if isinstance(error, UnauthorizedError) else 401)
        return
    say(f"admitted at {path!r}: may publish {list(granted.publish)}, may subscribe to {list(granted.subscribe)}")
    try:
        await attend(request, claims, granted, hub)
    except* TimeoutError:
        say(f"ended at {path!r}: the token has expired")
    except* MoqError:
        say(f"left {path!r}")


async def attend(request: moq.Request, claims: Claims, granted: Permissions, hub: moq.OriginProducer) -> None:
    """Run an admitted session; moq.Error is raised when the client leaves, TimeoutError when the token expires."""
    root = "".join(f"{segment}/" for segment in request.path.split("/") if segment)

    def take(name: str) -> str | None:
        return f"{root}{name}".rstrip("/") if granted.can_publish(name) else None

    def give(path: str) -> str | None:
        name = path[len(root) :]
        return name if f"{path}/".startswith(root) and granted.can_subscribe(name) else None

    incoming, outgoing = moq.OriginProducer(), moq.OriginProducer()
    request.set_consume(incoming if granted.publish else None)
    request.set_publish(outgoing if granted.subscribe else None)
    seconds = None if claims.expires is None else claims.expires - time.time()
    async with await request.accept() as session:
        try:
            async with asyncio.timeout(seconds), asyncio.TaskGroup() as tasks:
                tasks.create_task(mirror(incoming.consume(), hub, take))
                tasks.create_task(mirror(hub.consume(), outgoing, give))
                await session.closed()
        except TimeoutError:
            session.cancel(UNAUTHORIZED)
            raise


async def mirror(source: moq.OriginConsumer, target: moq.OriginProducer, rename: Callable[[str], str | None]) -> None:
    """Keep a copy of each broadcast of ``source`` in ``target``, under its new name; where that is None, keep none."""
    copies: dict[str, asyncio.Task[None]] = {}
    async with asyncio.TaskGroup() as tasks, source.announced(hidden=True) as routes:
        async for route in routes:
            if not route.active and route.prefix in copies:
                copies.pop(route.prefix).cancel()
            elif route.active and route.prefix not in copies and (name := rename(route.prefix)) is not None:
                copies[route.prefix] = tasks.create_task(copy_broadcast(source, route.prefix, target, name))


async def copy_broadcast(source: moq.OriginConsumer, path: str, target: moq.OriginProducer, name: str) -> None:
    try:
        original = await source.request_broadcast(path)
        with closing(target.create_broadcast(name)) as copy:
            async with asyncio.TaskGroup() as tasks, copy.dynamic() as requests:
                copy.announce()
                async for request in requests:
                    tasks.create_task(copy_track(original, request))
    except* MoqError:
        pass  # it has gone already


async def copy_track(broadcast: moq.BroadcastConsumer, request: moq.TrackRequest) -> None:
    try:
        original = await broadcast.subscribe_track(request.name)
    except MoqError:
        request.abort(NOT_FOUND)
        return
    copy = request.accept(original.info())
    try:
        async with asyncio.TaskGroup() as tasks, original:
            async for group in original.groups_as_arrived():
                tasks.create_task(copy_group(group, copy.create_group(group.sequence)))
        copy.finish()
    except* MoqError:
        copy.abort(NOT_FOUND)


async def copy_group(original: moq.GroupConsumer, copy: moq.GroupProducer) -> None:
    try:
        async for frame in original:
            copy.write_frame(frame.payload, frame.timestamp_us)
        copy.finish()
    except MoqError:
        copy.abort(NOT_FOUND)


def say(line: str) -> None:
    print(line, flush=True)


async def main(public_key: str) -> None:
    key = Key.from_file(public_key)
    async with moq.Server("localhost:0", tls_generate=["localhost"]) as server:
        say(f"listening on https://localhost:{server.local_addr.rpartition(':')[2]}")
        say(f"certificate {server.cert_fingerprints()[0]}")
        await serve(server, key)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # ended from outside too, it takes leave of its clients
    with suppress(KeyboardInterrupt):
        asyncio.run(main(*sys.argv[1:]))
