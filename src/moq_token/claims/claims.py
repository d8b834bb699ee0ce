"""The claims of a token."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Self, final

import msgspec
from msgspec.structs import replace

from moq_token import path as paths
from moq_token.claims.arguments import Checked, changed, unexpected
from moq_token.claims.grants import check_unicode, given, listed, rebased
from moq_token.claims.permissions import NO_PERMISSIONS, Permissions
from moq_token.errors import InvalidClaimsError, InvalidPatternError, UnauthorizedError, shown
from moq_token.times import END_OF_9999, MAX_SECONDS, to_datetime, unix_seconds

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime, timedelta

    from moq_token.pattern import Pattern

_Seconds = Annotated[int, msgspec.Meta(ge=0, le=MAX_SECONDS)]


class _CheckedClaims(Checked):
    # Not split up, because the calls would take longer than the work.
    def __call__(  # noqa: C901
        cls,  # noqa: N805 - an instance of a metaclass is a class
        root: str = "",
        publish: str | Pattern | Iterable[str | Pattern] = (),
        subscribe: str | Pattern | Iterable[str | Pattern] = (),
        *,
        cluster: bool = False,
        expires: int | datetime | timedelta | str | None = None,
        issued: int | datetime | None = None,
        not_before: int | datetime | None = None,
        subject: str | None = None,
        id: str | None = None,  # noqa: A002 - the name of the attribute
        **unknown: object,
    ) -> Claims:
        if unknown:
            raise unexpected(cls, unknown)
        if type(publish) is str:
            publish = (publish,)
        elif type(publish) is not tuple:
            publish = listed(publish, "publish")
        if type(subscribe) is str:
            subscribe = (subscribe,)
        elif type(subscribe) is not tuple:
            subscribe = listed(subscribe, "subscribe")
        # One check of all texts, as nearly all are plain. Patterns and other types raise TypeError.
        try:
            text = root + "".join(publish) + "".join(subscribe)
            plain = text.isascii() and "*" not in text
        except TypeError:
            plain = False
        if not plain:
            check_unicode(root)
            publish, subscribe = given(publish, "publish"), given(subscribe, "subscribe")
        if cluster is not False and cluster is not True:
            raise TypeError(f"cluster must be a bool, not {type(cluster).__name__}")
        if expires is not None and (type(expires) is not int or not 0 <= expires <= END_OF_9999):
            expires = unix_seconds(expires, "expires", relative=True)
        if issued is not None and (type(issued) is not int or not 0 <= issued <= END_OF_9999):
            issued = unix_seconds(issued, "issued")
        made: Claims = replace(
            _NOTHING,
            root=root,
            publish=publish,
            subscribe=subscribe,
            cluster=cluster,
            expires=expires,
            issued=issued,
        )
        if not_before is None and subject is None and id is None:
            return made
        return _named(made, not_before, subject, id)

    __call__.__qualname__ = "Claims"  # what Python calls it when there are too many arguments


@final
class Claims(msgspec.Struct, metaclass=_CheckedClaims, frozen=True, omit_defaults=True, gc=False):
    """The claims of a token: what its bearer may publish and subscribe to below a root path, and until when.

    Parameters
    ----------
    root
        The path that ``publish`` and ``subscribe`` are relative to. Empty is the top.
    publish, subscribe
        What is granted in each role: one grant or an iterable. A ``str`` is a path and everything below it (``""`` is
        everything below the root). A ``str`` with ``*`` is a pattern, and a ``Pattern`` is exactly what it says:
        ``Pattern("alice")`` is one broadcast. An empty iterable grants nothing in that role.
    cluster
        Whether the bearer is a node of a relay cluster (read by relays before 0.11).
    expires
        The time from which the token is refused: Unix seconds, an aware ``datetime``, a ``timedelta`` from now, or a
        duration from now such as ``"90s"``, ``"15m"``, ``"1h"`` or ``"7d"``. None is never.
    issued
        The time of issue, for information: Unix seconds or an aware ``datetime``. Never set automatically.
    not_before
        The time before which the token is refused: Unix seconds or an aware ``datetime``. Relays before 0.15 ignore it.
    subject, id
        Whom the token is for, and its own id (``sub`` and ``jti``), for logs and to revoke it. Relays ignore both.

    The attributes hold ``str``, ``int`` Unix seconds (fractions are dropped), and tuples of grants: a subtree is held
    as ``str`` (``"alice/**"`` becomes ``"alice"``) and everything else as ``Pattern``. Tuples with a pattern are
    reduced and sorted as in ``Patterns``. A token whose grants are all ``str`` is read by every relay, one with
    patterns by relays from 0.15 on.

    Raises ``TypeError`` for arguments of another type, a ``float`` time included, ``InvalidPatternError`` for an
    invalid pattern, and ``InvalidClaimsError`` for text that UTF-8 cannot encode, a datetime without a time zone, an
    invalid duration, and a time before 1970 or after the year 9999 (such as one in milliseconds). It is not checked
    that ``expires`` is in the future. That something is granted is checked by ``validate`` and on signing.

    """

    # A default made by a factory is written even when it is empty, which TypeScript 0.2 requires of ``root``.
    root: str = msgspec.field(default_factory=str)
    if TYPE_CHECKING:
        publish: tuple[str | Pattern, ...] = msgspec.field(default=(), name="put")
        subscribe: tuple[str | Pattern, ...] = msgspec.field(default=(), name="get")
    else:  # the decoder reads the form without patterns only
        publish: tuple[str, ...] = msgspec.field(default=(), name="put")
        subscribe: tuple[str, ...] = msgspec.field(default=(), name="get")
    cluster: bool = False
    expires: _Seconds | None = msgspec.field(default=None, name="exp")
    issued: _Seconds | None = msgspec.field(default=None, name="iat")
    not_before: _Seconds | None = msgspec.field(default=None, name="nbf")
    subject: str | None = msgspec.field(default=None, name="sub")
    id: str | None = msgspec.field(default=None, name="jti")

    if TYPE_CHECKING:

        def __init__(
            self,
            root: str = "",
            publish: str | Pattern | Iterable[str | Pattern] = (),
            subscribe: str | Pattern | Iterable[str | Pattern] = (),
            *,
            cluster: bool = False,
            expires: int | datetime | timedelta | str | None = None,
            issued: int | datetime | None = None,
            not_before: int | datetime | None = None,
            subject: str | None = None,
            id: str | None = None,  # noqa: A002 - the name of the attribute
        ) -> None: ...

    @property
    def expires_at(self) -> datetime | None:
        """``expires`` as an aware datetime in UTC, or None. Times after the year 9999 become its last second."""
        return to_datetime(self.expires)

    @property
    def issued_at(self) -> datetime | None:
        """``issued`` as an aware datetime in UTC, or None. Times after the year 9999 become its last second."""
        return to_datetime(self.issued)

    @property
    def not_before_at(self) -> datetime | None:
        """``not_before`` as an aware datetime in UTC, or None. Times after the year 9999 become its last second."""
        return to_datetime(self.not_before)

    def validate(self) -> None:
        """Raise ``InvalidClaimsError`` if the claims grant nothing in either role: such a token is useless."""
        if not self.publish and not self.subscribe:
            raise InvalidClaimsError("the claims grant nothing: add at least one path to publish or subscribe")

    def authorize(self, path: str) -> Permissions:
        """Return what these claims allow a client that dials ``path``, relative to that path.

        The path and the root must overlap, in either direction: a path below the root narrows each grant, a path above
        it puts the missing part in front. Raises ``UnauthorizedError`` if they do not overlap (``root-mismatch``) or
        nothing is left in either role (``no-access``). Nothing is left either if the missing part has a ``*``, or a
        pattern would get longer than 32 segments. Times are not checked here: ``Key.verify`` has done that.
        """
        if not isinstance(path, str):
            raise TypeError(f"a path must be a str, not {type(path).__name__}")
        path, root = paths.normalize(path), paths.normalize(self.root)
        below, above = paths.strip_prefix(path, root), ""
        if below is None:
            below, missing = "", paths.strip_prefix(root, path)
            if missing is None:
                message = f"the path {shown(path)} does not overlap the root {shown(root)} of the token"
                raise UnauthorizedError(message, path=path, reason="root-mismatch")
            if "*" in missing:
                message = f"the root {shown(root)} of the token has a `*`, so it grants nothing at a path above it"
                raise UnauthorizedError(message, path=path)
            above = missing
        try:
            publish, subscribe = rebased(self.publish, below, above), rebased(self.subscribe, below, above)
        except InvalidPatternError as error:
            raise UnauthorizedError(f"the token grants nothing at the path {shown(path)}: {error}", path=path) from None
        if not publish and not subscribe:
            raise UnauthorizedError(f"the token grants nothing at the path {shown(path)}", path=path)
        return replace(NO_PERMISSIONS, publish=publish, subscribe=subscribe)

    def with_root(self, root: str) -> Self:
        """Return the same claims with another root."""
        return self._with(root=root)

    def with_publish(self, publish: str | Pattern | Iterable[str | Pattern]) -> Self:
        """Return the same claims with other grants to publish."""
        return self._with(publish=publish)

    def with_subscribe(self, subscribe: str | Pattern | Iterable[str | Pattern]) -> Self:
        """Return the same claims with other grants to subscribe."""
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

    def with_not_before(self, not_before: int | datetime | None) -> Self:
        """Return the same claims with another start of validity."""
        return self._with(not_before=not_before)

    def with_subject(self, subject: str | None) -> Self:
        """Return the same claims with another subject."""
        return self._with(subject=subject)

    def with_id(self, id: str | None) -> Self:  # noqa: A002 - the name of the attribute
        """Return the same claims with another id."""
        return self._with(id=id)

    def to_json(self) -> str:
        """Return the payload of a token with these claims, as compact JSON.

        Grants that are all paths are written as ``put`` and ``get``, which every relay reads, others as ``publish`` and
        ``subscribe``, which relays read from 0.15 on. Raises ``InvalidClaimsError`` for a path beside a pattern that no
        pattern can express: one with ``*`` as an ordinary character, or of more than 32 segments.
        """
        from moq_token.claims.wire import encode  # which itself imports this class

        return encode(self).decode()

    def _with(self, **changes: Any) -> Self:  # noqa: ANN401 - checked by the constructor
        return changed(self, changes)

    def __replace__(self, **changes: Any) -> Self:  # noqa: ANN401 - as above
        return self._with(**changes)  # for copy.replace

    def __reduce__(self) -> tuple[Any, ...]:
        return unchecked, ({name: getattr(self, name) for name in self.__struct_fields__},)


# The instance that all others are copies of: calling the class would run the check again.
_NOTHING: Claims = msgspec.StructMeta.__call__(Claims)


def unchecked(members: Mapping[str, Any]) -> Claims:
    """Return claims with these attributes, which are known to be valid."""
    return replace(_NOTHING, **members)


def _named(claims: Claims, not_before: object, subject: object, token_id: object) -> Claims:
    """Add what few tokens have. It is done apart to keep the making of the others fast."""
    if not_before is not None:
        not_before = unix_seconds(not_before, "not_before")
    return replace(claims, not_before=not_before, subject=_text(subject, "subject"), id=_text(token_id, "id"))


def _text(value: object, name: str) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a str or None, not {type(value).__name__}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidClaimsError(f"{name} has a lone surrogate, which UTF-8 cannot encode") from None
    return "".join(value)
