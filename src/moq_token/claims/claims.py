"""The claims of a token."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Self, final

import msgspec
from msgspec.structs import replace

from moq_token import path as paths
from moq_token.claims.arguments import (
    MAX_TIME,
    check_unicode,
    not_paths,
    to_datetime,
    tuple_of_paths,
    unix_seconds,
)
from moq_token.claims.permissions import Permissions
from moq_token.errors import InvalidClaimsError, UnauthorizedError, shown

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime, timedelta

_Time = Annotated[int, msgspec.Meta(ge=0, le=MAX_TIME)]


class _Checking(msgspec.StructMeta):
    """Checks and converts what callers hand to :class:`Claims`.

    It stands here, and not in ``__post_init__``, because that would check every token read all over again: the decoder
    makes its instances without this call, from text whose types it has checked.
    """

    def __call__(
        cls,  # noqa: N805 - what this makes is a class
        root: str = "",
        publish: str | Iterable[str] = (),
        subscribe: str | Iterable[str] = (),
        *,
        cluster: bool = False,
        expires: int | datetime | timedelta | None = None,
        issued: int | datetime | None = None,
    ) -> Claims:
        if type(publish) is str:
            publish = (publish,)
        elif type(publish) is not tuple:
            publish = tuple_of_paths(publish, "publish")
        if type(subscribe) is str:
            subscribe = (subscribe,)
        elif type(subscribe) is not tuple:
            subscribe = tuple_of_paths(subscribe, "subscribe")
        try:
            plain = "".join(publish).isascii() and "".join(subscribe).isascii() and str.isascii(root)
        except TypeError:
            raise not_paths() from None
        if not plain:
            check_unicode(root, *publish, *subscribe)
        if cluster is not False and cluster is not True:
            raise TypeError(f"cluster must be a bool, not {type(cluster).__name__}")
        if expires is not None and (type(expires) is not int or not 0 <= expires <= MAX_TIME):
            expires = unix_seconds(expires, "expires")
        if issued is not None and (type(issued) is not int or not 0 <= issued <= MAX_TIME):
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


@final
class Claims(msgspec.Struct, metaclass=_Checking, frozen=True, omit_defaults=True, gc=False):
    """The claims of a token: what its bearer may publish and subscribe to beneath a root, and until when.

    Parameters
    ----------
    root
        The path that the others are relative to; empty is the top.
    publish, subscribe
        Prefixes granted in each role, a single one or an iterable. ``""`` grants everything beneath the root; none
        at all grants nothing in that role.
    cluster
        Marks a node of a relay cluster (read by relays before 0.11).
    expires
        The second from which the token is refused: Unix seconds, an aware :class:`~datetime.datetime` (fractions of a
        second are dropped), or a :class:`~datetime.timedelta` from now. None is never.
    issued
        When it was made, for information: Unix seconds or an aware :class:`~datetime.datetime`. Never set by itself.

    The attributes hold what was given as ``str``, ``tuple`` of ``str`` and ``int`` Unix seconds. Raises
    :class:`TypeError` for wrong types, :class:`InvalidClaimsError` for text that UTF-8 cannot carry, a datetime without
    a time zone, and a time before 1970 or after 2**53 - 1. That something is granted at all is checked by
    :meth:`validate` and on signing, not here; that ``expires`` lies ahead is not checked.

    """

    # A default made by a factory is written even when it is empty, which TypeScript 0.2 requires of ``root``.
    root: str = msgspec.field(default_factory=str)
    publish: tuple[str, ...] = msgspec.field(default=(), name="put")
    subscribe: tuple[str, ...] = msgspec.field(default=(), name="get")
    cluster: bool = False
    expires: _Time | None = msgspec.field(default=None, name="exp")
    issued: _Time | None = msgspec.field(default=None, name="iat")

    if TYPE_CHECKING:

        def __init__(
            self,
            root: str = "",
            publish: str | Iterable[str] = (),
            subscribe: str | Iterable[str] = (),
            *,
            cluster: bool = False,
            expires: int | datetime | timedelta | None = None,
            issued: int | datetime | None = None,
        ) -> None: ...

    @property
    def expires_at(self) -> datetime | None:
        """``expires`` as an aware datetime in UTC (the end of the calendar where it lies beyond), or None."""
        return to_datetime(self.expires)

    @property
    def issued_at(self) -> datetime | None:
        """``issued`` as an aware datetime in UTC (the end of the calendar where it lies beyond), or None."""
        return to_datetime(self.issued)

    def validate(self) -> None:
        """Raise :class:`InvalidClaimsError` where the claims grant nothing in both roles: such a token is useless."""
        if not self.publish and not self.subscribe:
            raise InvalidClaimsError("the claims grant nothing: name at least one path to publish or subscribe to")

    def authorize(self, path: str) -> Permissions:
        """Say what these claims allow a client that dials ``path``, as prefixes relative to that path.

        The path and the root must overlap, in either direction: a path beneath the root narrows each prefix, a path
        above it puts the missing part in front. Raises :class:`UnauthorizedError` where they do not overlap
        (``root-mismatch``) or nothing is left in both roles (``no-access``). Expiry is not looked at: that is
        :meth:`Key.verify`'s part, and comes first.
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
        """Return the same claims with other prefixes to publish."""
        return self._with(publish=publish)

    def with_subscribe(self, subscribe: str | Iterable[str]) -> Self:
        """Return the same claims with other prefixes to subscribe to."""
        return self._with(subscribe=subscribe)

    def with_cluster(self, cluster: bool) -> Self:  # noqa: FBT001 - the one thing that this sets
        """Return the same claims with another cluster flag."""
        return self._with(cluster=cluster)

    def with_expires(self, expires: int | datetime | timedelta | None) -> Self:
        """Return the same claims with another expiry."""
        return self._with(expires=expires)

    def with_issued(self, issued: int | datetime | None) -> Self:
        """Return the same claims with another time of issue."""
        return self._with(issued=issued)

    def to_json(self) -> str:
        """Write the wire form, which is the payload of a token: compact JSON, empty ``put`` and ``get`` left out."""
        from moq_token.claims.wire import encode  # which makes instances of this class

        return encode(self).decode()

    def _with(self, **changes: Any) -> Self:  # noqa: ANN401 - checked by the constructor
        return type(self)(**{name: getattr(self, name) for name in self.__struct_fields__} | changes)

    def __reduce__(self) -> tuple[Any, ...]:
        return _claims, ({name: getattr(self, name) for name in self.__struct_fields__},)

    __replace__ = _with  # what copy.replace calls, which must not go around the constructor either


# The instance that all others are made from, as a call of the class would come back to where they are made.
_NOTHING: Claims = msgspec.convert({}, Claims)


def _claims(members: dict[str, Any]) -> Claims:
    return Claims(**members)


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
