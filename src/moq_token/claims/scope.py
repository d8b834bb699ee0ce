"""The scope of a key."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import force_setattr

from moq_token import path as paths
from moq_token.claims.arguments import check_unicode, plain_text, tuple_of_paths
from moq_token.errors import InvalidKeyError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from moq_token.claims.claims import Claims


class Scope(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """The ceiling on what a key may sign: the paths that its tokens may grant, in each role, beneath a root.

    Parameters, types and exceptions are those of :class:`Claims`. A scope with neither ``publish`` nor ``subscribe`` is
    useless and no key takes it; see :meth:`validate`.
    """

    root: str = ""
    publish: tuple[str, ...] = msgspec.field(default=(), name="put")
    subscribe: tuple[str, ...] = msgspec.field(default=(), name="get")

    if TYPE_CHECKING:

        def __init__(
            self,
            root: str = "",
            publish: str | Iterable[str] = (),
            subscribe: str | Iterable[str] = (),
        ) -> None: ...

    def __post_init__(self) -> None:
        publish, subscribe = tuple_of_paths(self.publish, "publish"), tuple_of_paths(self.subscribe, "subscribe")
        check_unicode(self.root, *publish, *subscribe)
        force_setattr(self, "root", plain_text(self.root))
        force_setattr(self, "publish", tuple(plain_text(path) for path in publish))
        force_setattr(self, "subscribe", tuple(plain_text(path) for path in subscribe))

    def validate(self) -> None:
        """Raise :class:`InvalidKeyError` where the scope permits nothing in both roles."""
        if not self.publish and not self.subscribe:
            raise InvalidKeyError("the scope permits nothing: it needs a path to publish or subscribe to")

    def allows(self, claims: Claims) -> bool:
        """Whether every path that ``claims`` grant lies at or beneath one allowed here in the same role."""
        return self.exceeded_by(claims) is None

    def exceeded_by(self, claims: Claims) -> str | None:
        """Return the first path that ``claims`` grant and this scope does not, from the top, or None."""
        path = _uncovered(self, self.publish, claims, claims.publish)
        return _uncovered(self, self.subscribe, claims, claims.subscribe) if path is None else path


def _uncovered(scope: Scope, allowed: tuple[str, ...], claims: Claims, requested: tuple[str, ...]) -> str | None:
    ceilings = [_from_top(scope.root, prefix) for prefix in allowed]
    for prefix in requested:
        path = _from_top(claims.root, prefix)
        if all(paths.strip_prefix(path, ceiling) is None for ceiling in ceilings):
            return path
    return None


def _from_top(root: str, prefix: str) -> str:
    return paths.join(paths.normalize(root), paths.normalize(prefix))
