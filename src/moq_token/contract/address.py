"""Socket addresses as relays write them: ``192.0.2.1:443`` and ``[2001:db8::1]:443``."""

from __future__ import annotations

import functools
import ipaddress
from typing import TypeAlias

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

_MAX_PORT, _MAX_SCOPE = 0xFFFF, 0xFFFF_FFFF
_MAX_ADDRESS_CHARACTERS = 64
_REMEMBERED_HOSTS = 4096
_REMEMBERED_LISTENERS = 256


def address_of(remote: str | None) -> Address | None:
    """Return the address of a socket address, an IPv4 address in its IPv6 form as the IPv4 address."""
    parts = _socket_address(remote)
    if parts is None:
        return None
    address = parts[0][0]
    return getattr(address, "ipv4_mapped", None) or address


def canonical_address(text: str | None) -> str | None:
    """Return a socket address in its usual spelling, None if it is not readable."""
    parts = _socket_address(text)
    if parts is None:
        return None
    (_, host), port = parts
    return f"{host}:{port}"


def canonical_listener(text: str | None) -> str | None:
    """Return the same as ``canonical_address()`` for an address of a relay: they are few, so they are remembered."""
    return None if text is None or len(text) > _MAX_ADDRESS_CHARACTERS else _remembered_listener(text)


_remembered_listener = functools.lru_cache(maxsize=_REMEMBERED_LISTENERS)(canonical_address)


def _socket_address(text: str | None) -> tuple[tuple[Address, str], int] | None:
    """Read ``192.0.2.1:443`` or ``[2001:db8::1]:443``, the latter also with a numeric scope, None for anything else."""
    if text is None or len(text) > _MAX_ADDRESS_CHARACTERS:
        return None
    host, _, digits = text.rpartition(":")
    if not digits.isdecimal() or not digits.isascii() or int(digits) > _MAX_PORT:
        return None
    address = _host(host)
    return None if address is None else (address, int(digits))


@functools.lru_cache(maxsize=_REMEMBERED_HOSTS)
def _host(text: str) -> tuple[Address, str] | None:
    """Read the host of a socket address, and return it with its usual spelling."""
    try:
        if text[:1] != "[" or text[-1:] != "]":
            return ipaddress.IPv4Address(text), str(ipaddress.IPv4Address(text))
        address = ipaddress.IPv6Address(text[1:-1])
    except ValueError:
        return None
    scope = address.scope_id
    if scope is not None and not (scope.isdecimal() and scope.isascii() and int(scope) <= _MAX_SCOPE):
        return None
    # Python versions differ in how they write an IPv4 address in its IPv6 form; relays write it so.
    return address, f"[::ffff:{address.ipv4_mapped}]" if address.ipv4_mapped else f"[{address}]"
