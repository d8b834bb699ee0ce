"""Claims that relays do not read, and the names that relays use for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moq_token.errors import shown

if TYPE_CHECKING:
    from collections.abc import Collection

_KNOWN = frozenset(("root", "put", "get", "cluster", "exp", "iat", "nbf", "aud"))
# Claims of older and newer tools and of other software, and what a relay calls them.
_CALLED = {
    **dict.fromkeys(("path", "namespace", "ns", "room", "room_id", "stream", "prefix"), "root"),
    **dict.fromkeys(("pub", "publish", "guest_pub", "can_publish", "canPublish", "write"), "put"),
    **dict.fromkeys(("sub", "subscribe", "guest_sub", "can_subscribe", "canSubscribe", "read"), "get"),
    **dict.fromkeys(("expires", "expiry", "expires_at", "expiration", "exp_at"), "exp"),
    **dict.fromkeys(("issued", "issued_at", "created"), "iat"),
    **dict.fromkeys(("not_before", "notBefore"), "nbf"),
    "guest": "put` and `get",
}
_BESIDE_SUBJECT = frozenset(("iss", "jti", "put", "get", "publish", "subscribe"))
_MAX_NAMED = 8


def ignored(claims: dict[str, object], also_read: Collection[str] = ()) -> list[str]:
    """Name the claims that relays before 0.15 ignore, each with the claim that they read instead, where there is one.

    ``also_read`` are claims that are not to be named.
    """
    named = []
    for name in claims:
        if name in _KNOWN or name in also_read:
            continue
        called = _CALLED.get(name)
        # Beside these `sub` is the subject of RFC 7519, and not the paths of an older tool.
        if called is None or (name == "sub" and not _BESIDE_SUBJECT.isdisjoint(claims)):
            named.append(f"`{shown(name)[1:-1]}`")
        else:
            named.append(f"`{name}` (called `{called}`)")
    more = len(named) - _MAX_NAMED
    return [*named[:_MAX_NAMED], *([f"and {more} more"] if more > 0 else [])]
