"""The scope of a key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self, final

import msgspec

from moq_token import path as paths
from moq_token.claims.arguments import Checked, changed, check_unicode, plain_text, tuple_of_paths, unexpected
from moq_token.errors import InvalidKeyError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from moq_token.claims.claims import Claims


class _CheckedScope(Checked):
    def __call__(
        cls,  # noqa: N805 - an instance of a metaclass is a class
        root: str = "",
        publish: str | Iterable[str] = (),
        subscribe: str | Iterable[str] = (),
        **unknown: object,
    ) -> Scope:
        if unknown:
            raise unexpected(cls, unknown)
        publish, subscribe = tuple_of_paths(publish, "publish"), tuple_of_paths(subscribe, "subscribe")
        check_unicode(root, *publish, *subscribe)
        made: Scope = super().__call__(
            plain_text(root), tuple(map(plain_text, publish)), tuple(map(plain_text, subscribe))
        )
        return made

    __call__.__qualname__ = "Scope"  # what Python calls it when there are too many arguments


@final
class Scope(msgspec.Struct, metaclass=_CheckedScope, frozen=True, omit_defaults=True, gc=False):
    """The limit on what a key may sign: the paths that its tokens may grant, in each role, below a root path.

    The parameters, attributes and exceptions are those of ``Claims``. A scope without ``publish`` and ``subscribe`` is
    useless, and no key accepts it (see ``validate``).
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

    def validate(self) -> None:
        """Raise ``InvalidKeyError`` if the scope allows nothing in either role."""
        if not self.publish and not self.subscribe:
            raise InvalidKeyError("the scope allows nothing: add at least one path to publish or subscribe")

    def allows(self, claims: Claims) -> bool:
        """Whether every path that ``claims`` grant is, or is below, a path that the scope has in the same role."""
        return self.exceeded_by(claims) is None

    def exceeded_by(self, claims: Claims) -> str | None:
        """Return the first path that ``claims`` grant and the scope does not, relative to the top, or None."""
        path = _uncovered(self, self.publish, claims, claims.publish)
        return _uncovered(self, self.subscribe, claims, claims.subscribe) if path is None else path

    def __replace__(self, **changes: Any) -> Self:  # noqa: ANN401 - checked by the constructor
        return changed(self, changes)


def _uncovered(scope: Scope, allowed: tuple[str, ...], claims: Claims, requested: tuple[str, ...]) -> str | None:
    ceilings = [_from_top(scope.root, prefix) for prefix in allowed]
    for prefix in requested:
        path = _from_top(claims.root, prefix)
        if all(paths.strip_prefix(path, ceiling) is None for ceiling in ceilings):
            return path
    return None


def _from_top(root: str, prefix: str) -> str:
    return paths.join(paths.normalize(root), paths.normalize(prefix))
