"""Copy broadcasts between sessions: from those that may publish them to those that may subscribe."""

from __future__ import annotations

import asyncio
import math
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

import moq

from moq_token.integrations.moq.tasks import MoqError, Tasks

if TYPE_CHECKING:
    from moq_token.integrations.moq.view import View

# The broadcasts of one session that are carried at a time. Further ones are ignored.
MAX_BROADCASTS = 1_000
# The tracks of one broadcast that are carried at a time. Further ones are refused with 429.
MAX_TRACKS = 1_000
# The past groups of one track that are fetched at a time. Further fetches are refused with 429.
MAX_FETCHES = 100

# Seconds for which a track is still pulled after its last subscriber has left.
LINGER_SECONDS = 2
# Seconds within which the first subscriber must come after it has asked for the track.
_DEMAND_SECONDS = 10

# Codes that a request is answered with.
_NOT_FOUND = 404
_TOO_MANY = 429


class Target(Protocol):
    """A target for copies of broadcasts."""

    limit: float  # copies at a time

    def wants(self, path: str) -> bool:
        """Return whether the broadcast at this path of the source is to be copied."""
        ...

    def create(self, path: str) -> moq.BroadcastProducer:
        """Make the copy."""
        ...

    def announce(self, path: str, copy: moq.BroadcastProducer, route: moq.Route) -> None:
        """Make the copy visible."""
        ...

    def withdraw(self, path: str) -> None:
        """Make the copy invisible. The caller closes it."""
        ...


class Contribution:
    """What one session publishes: the broadcasts that its grant covers go into the hub."""

    def __init__(self, hub: moq.OriginProducer, view: View) -> None:
        self.limit: float = MAX_BROADCASTS
        self._hub = hub
        self._view = view

    def wants(self, path: str) -> bool:
        """Return whether the grant covers the path."""
        return self._view.published(path) is not None

    def create(self, path: str) -> moq.BroadcastProducer:
        """Make a broadcast of the hub, beneath the root of the grant."""
        name = self._view.published(path)
        assert name is not None  # noqa: S101 - what is not wanted is not made
        return self._hub.create_broadcast(name)

    def announce(self, path: str, copy: moq.BroadcastProducer, route: moq.Route) -> None:  # noqa: ARG002 - the copy knows its path
        """Announce the copy in the hub."""
        copy.announce(route)

    def withdraw(self, path: str) -> None:
        """Do nothing: closing the copy is enough."""


class Exchange:
    """What all sessions can subscribe to: one copy of each broadcast of the hub, shown in the windows of the sessions.

    The copies belong to no origin, because a broadcast of an origin cannot be announced in another one.
    """

    limit: float = math.inf

    def __init__(self) -> None:
        self._broadcasts: dict[str, tuple[moq.BroadcastProducer, moq.Route]] = {}
        self._windows: set[Window] = set()

    async def show(self, window: Window) -> None:
        """Keep the window of a session up to date, until cancelled."""
        async with window.tasks:
            for path, (broadcast, route) in self._broadcasts.items():
                window.show(path, broadcast, route)
            self._windows.add(window)
            try:
                await asyncio.Event().wait()
            finally:
                self._windows.remove(window)

    def wants(self, path: str) -> bool:  # noqa: ARG002 - the windows choose
        """Return True: the sessions may subscribe to every broadcast of the hub that their grants cover."""
        return True

    def create(self, path: str) -> moq.BroadcastProducer:  # noqa: ARG002 - each window announces it under its own path
        """Make a broadcast of no origin."""
        return moq.BroadcastProducer()

    def announce(self, path: str, copy: moq.BroadcastProducer, route: moq.Route) -> None:
        """Show the copy in every window."""
        self._broadcasts[path] = copy, route
        for window in self._windows:
            window.show(path, copy, route)

    def withdraw(self, path: str) -> None:
        """Hide the copy in every window."""
        del self._broadcasts[path]
        for window in self._windows:
            window.hide(path)


class Window:
    """What one session sees of the exchange: the broadcasts that its grant covers, relative to its root."""

    def __init__(self, outgoing: moq.OriginProducer, view: View) -> None:
        self._outgoing = outgoing
        self._view = view
        self._shown: dict[str, list[asyncio.Task[None]]] = {}
        self.tasks: Tasks = Tasks()

    def show(self, path: str, broadcast: moq.BroadcastProducer, route: moq.Route) -> None:
        """Announce a broadcast if the grant covers it."""
        names = self._view.seen(path)
        if names:
            self._shown[path] = [self.tasks.task(self._serve(name, broadcast, route)) for name in names]

    def hide(self, path: str) -> None:
        """Take the announcement back."""
        for task in self._shown.pop(path, ()):
            task.cancel()

    async def _serve(self, name: str, broadcast: moq.BroadcastProducer, route: moq.Route) -> None:
        # Clients may ask for any path beneath an announced one. Those are other broadcasts, or none.
        async with self._outgoing.dynamic(name, route) as requests:
            async for request in requests:
                if request.path == name:
                    request.accept(broadcast)
                else:
                    request.reject(_NOT_FOUND)


async def mirror(source: moq.OriginConsumer, target: Target) -> None:
    """Copy the broadcasts of an origin that the target wants, as many at a time as it takes."""
    copies: dict[str, asyncio.Task[None]] = {}
    async with Tasks() as tasks, source.announced(hidden=True) as updates:
        async for update in updates:
            path = update.prefix
            if not update.active and path in copies:
                copies.pop(path).cancel()
            elif update.active and path not in copies and len(copies) < target.limit and target.wants(path):
                copies[path] = tasks.task(_copy_broadcast(source, path, target, update.route))


async def _copy_broadcast(source: moq.OriginConsumer, path: str, target: Target, route: moq.Route) -> None:
    copy = target.create(path)
    async with Tasks() as tracks, copy.dynamic() as requests:
        target.announce(path, copy, route)
        try:
            async for request in requests:
                if len(tracks) < MAX_TRACKS:
                    tracks.start(_copy_track(source, path, request))
                else:
                    request.abort(_TOO_MANY)
        finally:
            target.withdraw(path)
            copy.close()


async def _copy_track(source: moq.OriginConsumer, path: str, request: moq.TrackRequest) -> None:
    name = request.name
    try:
        # Requested again for each track, because another publisher may have taken over.
        broadcast = await source.request_broadcast(path)
        original = await broadcast.subscribe_track(name)
    except MoqError:
        request.abort(_NOT_FOUND)
        return
    copy = request.accept(original.info())
    # Past groups are taken from the first moment: without a taker, a fetch is answered with "not found".
    async with original, copy.dynamic() as requests, Tasks() as tasks:
        tasks.start(_copy_datagrams(original, copy))
        tasks.start(_copy_fetches(broadcast, name, requests))
        groups = tasks.task(_copy_groups(original, copy))
        unwatched = tasks.task(_unwatched(copy.demand()))
        await asyncio.wait((groups, unwatched), return_when=asyncio.FIRST_COMPLETED)
        if not groups.done():
            copy.abort(_NOT_FOUND)


async def _unwatched(demand: moq.TrackDemand) -> None:
    """Wait until a track has had no subscriber for a while."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_DEMAND_SECONDS):
            await demand.used()
    while demand.is_used():
        await demand.unused()
        await asyncio.sleep(LINGER_SECONDS)


async def _copy_groups(original: moq.TrackConsumer, copy: moq.TrackProducer) -> None:
    try:
        async with Tasks() as groups:
            async for group in original.groups_as_arrived():
                groups.start(_copy_live_group(group, copy))
            await groups.wait()
        copy.finish()
    except MoqError:
        copy.abort(_NOT_FOUND)


async def _copy_live_group(original: moq.GroupConsumer, copy: moq.TrackProducer) -> None:
    await copy_group(original, copy.create_group(original.sequence))


async def _copy_datagrams(original: moq.TrackConsumer, copy: moq.TrackProducer) -> None:
    while (datagram := await original.recv_datagram()) is not None:
        copy.append_datagram(datagram.payload, datagram.timestamp_us)


async def _copy_fetches(broadcast: moq.BroadcastConsumer, name: str, requests: moq.TrackDynamic) -> None:
    async with Tasks() as fetches:
        async for request in requests:
            if len(fetches) < MAX_FETCHES:
                fetches.start(_copy_old_group(broadcast, name, request))
            else:
                request.abort(_TOO_MANY)


async def _copy_old_group(broadcast: moq.BroadcastConsumer, name: str, request: moq.GroupRequest) -> None:
    try:
        original = await broadcast.fetch_group(name, request.sequence)
    except MoqError:
        request.abort(_NOT_FOUND)
        return
    await copy_group(original, request.accept())


async def copy_group(original: moq.GroupConsumer, copy: moq.GroupProducer) -> None:
    """Copy the frames of a group as they arrive, and its end."""
    try:
        async for frame in original:
            copy.write_frame(frame.payload, frame.timestamp_us)
        copy.finish()
    except MoqError:
        copy.abort(_NOT_FOUND)
