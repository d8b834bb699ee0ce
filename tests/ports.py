"""Ports for servers that cannot say which one they took."""

from __future__ import annotations

import contextlib
import random
import socket

# Below the ranges that systems take ports from by themselves, so that no other connection takes one before it is used.
_FIRST, _END = 10_000, 20_000
# A node of a cluster also listens this far above its port.
_BUS = 10_000


def free_port() -> int:
    """Return a port that is free now, as is the one 10,000 above it."""
    for port in random.SystemRandom().sample(range(_FIRST, _END), 1000):
        with socket.socket() as probe, socket.socket() as bus, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            bus.bind(("127.0.0.1", port + _BUS))
            return port
    raise AssertionError("no port is free")
