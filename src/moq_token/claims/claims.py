"""The claims of a token."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Self, final

import msgspec
from msgspec.structs import replace

from moq_token import path as paths
from moq_token.claims.arguments import Checked, changed, check_unicode, not_paths, tuple_of_paths, unexpected
from moq_token.claims.permissions import Permissions
from moq_token.errors import InvalidClaimsError, UnauthorizedError, shown
from moq_token.times import END_OF_9999, MAX_SECONDS, to_datetime, unix_seconds

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime, timedelta

_Seconds = Annotated[int, msgspec.Meta(ge=0, le=MAX_SECONDS)]


class _CheckedClaims(Checked):
    def __call__(
        cls,  # noqa: N805 - an instance of a metaclass is a class
        root: str = "",
        publish: str | Iterable[str] = (),
        subscribe: str | Iterable[str] = (),
        *,
        cluster: bool = False,
        expires: int | datetime | timedelta | str | None = None,
        issued: int | datetime | None = None,
        **unknown: object,
    ) -> Claims:
        if unknown:
            raise unexpected(cls, unknown)
        if type(publish) is not tuple:
            publish = tuple_of_paths(publish, "publish")
        if type(subscribe) is not tuple:
            subscribe = tuple_of_paths(subscribe, "subscribe")
        try:
            plain = "".join((root, *publish, *subscribe)).isascii()
        except TypeError:
            raise not_paths() from None
        if not plain:
            check_unicode(root, *publish, *subscribe)
        if cluster is not False and cluster is not True:
            raise TypeError(f"cluster must be a bool, not {type(cluster).__name__}")
        if expires is not None and (type(expires) is not int or not 0 <= expires <= END_OF_9999):
            expires = unix_seconds(expires, "expires", relative=True)
        if issued is not None and (type(issued) is not int or not 0 <= issued <= END_OF_9999):
            issued = unix_seconds(issued, "issued")
        return replace(
            _NOTHING,
            root=root,
            publish=publish,
            subscribe=subscribe,
            cluster=cluster,
            expires=expires,
            issued=issued,
        )

    __call__.__qualname__ = "Claims"  # what Python calls it when there are too many arguments


@final
class Claims(msgspec.Struct, metaclass=_CheckedClaims, frozen=True, omit_defaults=True, gc=False):
    """The claims of a token: what its bearer may publish and subscribe to below a root path, and until when.

    Parameters
    ----------
    root
        The path that ``publish`` and ``subscribe`` are relative to. Empty is the top.
    publish, subscribe
        Path prefixes granted in each role: one ``str`` or an iterable of them. ``""`` grants everything below the root,
        an empty iterable grants nothing in that role.
    cluster
        Whether the bearer is a node of a relay cluster (read by relays before 0.11).
    expires
        The time from which the token is refused: Unix seconds, an aware ``datetime``, a ``timedelta`` from now, or a
        duration from now such as ``"90s"``, ``"15m"``, ``"1h"`` or ``"7d"``. None is never.
    issued
        The time of issue, for information: Unix seconds or an aware ``datetime``. Never set automatically.

    The attributes hold ``str``, ``tuple`` of ``str`` and ``int`` Unix seconds; fractions of a second are dropped.
    Raises ``TypeError`` for arguments of another type, a ``float`` time included. Raises ``InvalidClaimsError`` for
    text that UTF-8 cannot encode, a datetime without a time zone, an invalid duration, and a time before 1970 or after
    the year 9999 (such as one in milliseconds). It is not checked that ``expires`` is in the future. That something is
    granted is checked by ``validate`` and on signing.

    """

    # A default made by a factory is written even when it is empty, which TypeScript 0.2 requires of ``root``.
    root: str = msgspec.field(default_factory=str)
    publish: tuple[str, ...] = msgspec.field(default=(), name="put")
    subscribe: tuple[str, ...] = msgspec.field(default=(), name="get")
    cluster: bool = False
    expires: _Seconds | None = msgspec.field(default=None, name="exp")
    issued: _Seconds | None = msgspec.field(default=None, name="iat")

    if TYPE_CHECKING:

        def __init__(
            self,
            root: str = "",
            publish: str | Iterable[str] = (),
            subscribe: str | Iterable[str] = (),
            *,
            cluster: bool = False,
            expires: int | datetime | timedelta | str | None = None,
            issued: int | datetime | None = None,
        ) -> None: ...

    @property
    def expires_at(self) -> datetime | None:
        """``expires`` as an aware datetime in UTC, or None. Times after the year 9999 become its last second."""
        return to_datetime(self.expires)

    @property
    def issued_at(self) -> datetime | None:
        """``issued`` as an aware datetime in UTC, or None. Times after the year 9999 become its last second."""
        return to_datetime(self.issued)

    def validate(self) -> None:
        """Raise ``InvalidClaimsError`` if the claims grant nothing in either role: such a token is useless."""
        if not self.publish and not self.subscribe:
            raise InvalidClaimsError("the claims grant nothing: add at least one path to publish or subscribe")

    def authorize(self, path: str) -> Permissions:
        """Return what these claims allow a client that dials ``path``, as prefixes relative to that path.

        The path and the root must overlap, in either direction: a path below the root narrows each prefix, a path
        above it puts the missing part in front. Raises ``UnauthorizedError`` if they do not overlap
        (``root-mismatch``) or nothing is left in either role (``no-access``). Expiry is not checked here:
        ``Key.verify`` has done that.
        """
        if not isinstance(path, str):
            raise TypeError(f"a path must be a str, not {type(path).__name__}")
        path, root = paths.normalize(path), paths.normalize(self.root)
        beneath, above = paths.strip_prefix(path, root), ""
        if beneath is None:
            beneath, missing = "", paths.strip_prefix(root, path)
            if missing is None:
                message = f"the path {shown(path)} does not overlap the root {shown(root)} of the token"
                raise UnauthorizedError(message, path=path, reason="root-mismatch")
            above = missing
        permissions = Permissions(_rebase(self.publish, beneath, above), _rebase(self.subscribe, beneath, above))
        if not permissions.publish and not permissions.subscribe:
            raise UnauthorizedError(f"the token grants nothing at the path {shown(path)}", path=path)
        return permissions

    def with_root(self, root: str) -> Self:
        """Return the same claims with another root."""
        return self._with(root=root)

    def with_publish(self, publish: str | Iterable[str]) -> Self:
        """Return the same claims with other paths to publish."""
        return self._with(publish=publish)

    def with_subscribe(self, subscribe: str | Iterable[str]) -> Self:
        """Return the same claims with other paths to subscribe to."""
        return self._with(subscribe=subscribe)

    def with_cluster(self, cluster: bool) -> Self:  # noqa: FBT001 - the one thing that this sets
        """Return the same claims with another cluster flag."""
        return self._with(cluster=cluster)

    def with_expires(self, expires: int | datetime | timedelta | str | None) -> Self:
        """Return the same claims with another expiry."""
        return self._with(expires=expires)

    def with_issued(self, issued: int | datetime | None) -> Self:
        """Return the same claims with another time of issue."""
        return self._with(issued=issued)

    def to_json(self) -> str:
        """Return the payload of a token with these claims: compact JSON, without empty ``put`` and ``get``."""
        from moq_token.claims.wire import encode  # which itself imports this class

        return encode(self).decode()

    def _with(self, **changes: Any) -> Self:  # noqa: ANN401 - checked by the constructor
        return changed(self, changes)

    def __replace__(self, **changes: Any) -> Self:  # noqa: ANN401 - as above
        return self._with(**changes)  # for copy.replace

    def __reduce__(self) -> tuple[Any, ...]:
        return unchecked, ({name: getattr(self, name) for name in self.__struct_fields__},)


# The instance that all others are copies of: calling the class would run the check again.
_NOTHING: Claims = msgspec.convert({}, Claims)


def unchecked(members: Mapping[str, Any]) -> Claims:
    """Return claims with these attributes, which are known to be valid."""
    return replace(_NOTHING, **members)


def _rebase(granted: tuple[str, ...], beneath: str, above: str) -> tuple[str, ...]:
    rebased = []
    for prefix in granted:
        whole = paths.join(above, paths.normalize(prefix))
        rest = paths.strip_prefix(whole, beneath)
        if rest is None and paths.strip_prefix(beneath, whole) is not None:
            rest = ""
        if rest is not None:
            rebased.append(rest)
    return tuple(rebased)
