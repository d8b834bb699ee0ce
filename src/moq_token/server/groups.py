"""Sessions in groups: those that hold the same token, or whose lease is due in the same second."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from moq_token.server.session import Session

_K = TypeVar("_K")


class Groups(Generic[_K]):
    """Groups of sessions by a key, each in the order in which they were added. Empty groups are not kept."""

    def __init__(self) -> None:
        # Most groups have one session, which is stored without a dict: a dict of one would be larger than the session.
        self._groups: dict[_K, Session | dict[Session, None]] = {}

    def __iter__(self) -> Iterator[_K]:
        return iter(self._groups)

    def count(self, key: _K) -> int:
        """Return the size of a group."""
        group = self._groups.get(key)
        return len(group) if isinstance(group, dict) else group is not None

    def first(self, key: _K) -> Session:
        """Return the session of a group that has been in it for the longest time."""
        group = self._groups[key]
        return next(iter(group)) if isinstance(group, dict) else group

    def add(self, key: _K, session: Session) -> None:
        """Add a session to a group."""
        group = self._groups.setdefault(key, session)
        if isinstance(group, dict):
            group[session] = None
        elif group is not session:
            self._groups[key] = {group: None, session: None}

    def remove(self, key: _K, session: Session) -> None:
        """Remove a session from a group that it is in."""
        group = self._groups[key]
        if isinstance(group, dict) and len(group) > 1:
            del group[session]
        else:
            del self._groups[key]

    def pop(self, key: _K) -> Iterable[Session]:
        """Remove a group, and return its sessions."""
        group = self._groups.pop(key, ())
        return (group,) if not isinstance(group, dict | tuple) else group
