"""What a token allows at one path."""

from __future__ import annotations

import msgspec

from moq_token import path as paths


class Permissions(msgspec.Struct, frozen=True, gc=False):
    """What a token allows at one path: prefixes relative to it, normalized; ``""`` is everything beneath it."""

    publish: tuple[str, ...] = ()
    subscribe: tuple[str, ...] = ()

    def can_publish(self, broadcast: str) -> bool:
        """Whether ``broadcast``, a path relative to the authorized one, lies at or beneath a prefix for publishing."""
        return _covers(self.publish, broadcast)

    def can_subscribe(self, broadcast: str) -> bool:
        """Whether ``broadcast``, a path relative to the authorized one, lies at or beneath a prefix for subscribing."""
        return _covers(self.subscribe, broadcast)


def _covers(prefixes: tuple[str, ...], broadcast: str) -> bool:
    if not isinstance(broadcast, str):
        raise TypeError(f"a broadcast's path must be a str, not {type(broadcast).__name__}")
    broadcast = paths.normalize(broadcast)
    for prefix in prefixes:  # noqa: SIM110 - a generator would take longer than the comparison
        if paths.strip_prefix(broadcast, prefix) is not None:
            return True
    return False
