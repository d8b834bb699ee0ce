"""What a token allows at one path."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self, final

import msgspec
from msgspec.structs import replace

from moq_token.claims.arguments import Checked, changed, unexpected
from moq_token.claims.grants import Held, covers, given

if TYPE_CHECKING:
    from collections.abc import Iterable

    from moq_token.pattern import Pattern


class _CheckedPermissions(Checked):
    def __call__(
        cls,  # noqa: N805 - an instance of a metaclass is a class
        publish: str | Pattern | Iterable[str | Pattern] = (),
        subscribe: str | Pattern | Iterable[str | Pattern] = (),
        **unknown: object,
    ) -> Permissions:
        if unknown:
            raise unexpected(cls, unknown)
        return _unchecked(given(publish, "publish"), given(subscribe, "subscribe"))

    __call__.__qualname__ = "Permissions"  # what Python calls it when there are too many arguments


@final
class Permissions(msgspec.Struct, metaclass=_CheckedPermissions, frozen=True, gc=False):
    """What a token allows at one path. ``Claims.authorize`` returns it.

    Parameters
    ----------
    publish, subscribe
        What is allowed in each role, relative to the path: one grant or an iterable. A ``str`` is a path and everything
        below it (``""`` is everything), a ``str`` with ``*`` is a pattern, and a ``Pattern`` is what it says.

    The attributes are tuples, as in ``Claims``. Raises ``TypeError`` for other types, ``InvalidPatternError`` for an
    invalid pattern, and ``InvalidClaimsError`` for text that UTF-8 cannot encode.

    """

    publish: tuple[str | Pattern, ...] = ()
    subscribe: tuple[str | Pattern, ...] = ()

    if TYPE_CHECKING:

        def __init__(
            self,
            publish: str | Pattern | Iterable[str | Pattern] = (),
            subscribe: str | Pattern | Iterable[str | Pattern] = (),
        ) -> None: ...

    def can_publish(self, broadcast: str) -> bool:
        """Whether publishing ``broadcast``, a path relative to the authorized one, is allowed."""
        return covers(self.publish, broadcast)

    def can_subscribe(self, broadcast: str) -> bool:
        """Whether subscribing to ``broadcast``, a path relative to the authorized one, is allowed."""
        return covers(self.subscribe, broadcast)

    def __replace__(self, **changes: Any) -> Self:  # noqa: ANN401 - checked by the constructor
        return changed(self, changes)

    def __reduce__(self) -> tuple[Any, ...]:
        return _unchecked, (self.publish, self.subscribe)


NO_PERMISSIONS: Permissions = msgspec.StructMeta.__call__(Permissions)
"""The instance to copy with valid attributes: calling the class would check the arguments."""


def _unchecked(publish: Held, subscribe: Held) -> Permissions:
    return replace(NO_PERMISSIONS, publish=publish, subscribe=subscribe)
