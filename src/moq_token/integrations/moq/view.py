"""Translate paths between a session and the hub, within what its grant allows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from moq_token import path as paths

if TYPE_CHECKING:
    from collections.abc import Mapping


class Granted(Protocol):
    """What the grants of either kind of authenticator have."""

    @property
    def root(self) -> str | None:
        """The path that the others are relative to."""
        ...

    def can_publish(self, broadcast: str) -> bool:
        """Whether a path relative to the root may be published."""
        ...

    def can_subscribe(self, broadcast: str) -> bool:
        """Whether a path relative to the root may be subscribed to."""
        ...


class View:
    """What a session may publish and see, in the paths of the hub.

    What is seen at a mount comes from elsewhere in the hub; it hides what the root has there, and nothing can be
    published at it.
    """

    def __init__(self, grant: Granted, mounts: Mapping[str, str] | None = None) -> None:
        self._grant = grant
        self._root = paths.normalize(grant.root or "")
        self._mounts = {paths.normalize(at): paths.normalize(target) for at, target in (mounts or {}).items()}

    def published(self, name: str) -> str | None:
        """Return the path of the hub for what the client calls ``name``, None if it may not publish that."""
        name = paths.normalize(name)
        if self._is_mounted(name) or not self._grant.can_publish(name):
            return None
        return paths.join(self._root, name)

    def seen(self, path: str) -> list[str]:
        """Return what the client may call the broadcast at this path of the hub: nothing if it may not see it."""
        own = paths.strip_prefix(path, self._root)
        names = [] if own is None or self._is_mounted(own) else [own]
        for at, target in self._mounts.items():
            rest = paths.strip_prefix(path, target)
            if rest is not None:
                names.append(paths.join(at, rest))
        return [name for name in names if self._grant.can_subscribe(name)]

    def _is_mounted(self, name: str) -> bool:
        return any(paths.strip_prefix(name, at) is not None for at in self._mounts)
