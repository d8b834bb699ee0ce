"""Bound how often each caller may ask, in bounded memory."""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

MAX_CALLERS = 16 * 1024
"""Callers that are remembered. The one that asked longest ago is forgotten first."""

_NETWORK_BITS = 64  # one customer of a provider has all addresses of such a network


class Rate:
    """Allows each caller ``count`` requests at once, and as many again in ``seconds``, spread evenly.

    It is the generic cell rate algorithm: a caller is one number, the time at which all its requests are paid for.
    """

    def __init__(self, count: int, seconds: float, clock: Callable[[], float]) -> None:
        self._cost, self._most = seconds / count, seconds
        self._clock = clock
        self._paid: OrderedDict[Hashable, float] = OrderedDict()

    def wait(self, caller: Hashable) -> float:
        """Return the seconds until the caller may make a request; 0 if that is now. Counts nothing."""
        now = self._clock()
        return max(0.0, max(now, self._paid.get(caller, now)) + self._cost - self._most - now)

    def take(self, caller: Hashable) -> float:
        """Count a request if it may be made now. Returns as ``wait()``."""
        seconds = self.wait(caller)
        if seconds == 0:
            now = self._clock()
            self._paid[caller] = max(now, self._paid.pop(caller, now)) + self._cost
            if len(self._paid) > MAX_CALLERS:
                self._paid.popitem(last=False)
        return seconds


def network_of(address: str) -> str:
    """Return the address that counts as one caller: of IPv6 the first 64 bits, as one customer has all of them."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    return str(parsed.ipv4_mapped or ipaddress.ip_network((int(parsed), _NETWORK_BITS), strict=False))
