"""What a token says (claims), what a key may say (scope), what follows at a path (permissions), and their wire form."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Self, final

import msgspec
from msgspec.structs import force_setattr, replace

from moq_token import path as paths
from moq_token.encoding import parse_json
from moq_token.errors import (
    Error,
    InvalidClaimsError,
    InvalidKeyError,
    InvalidTokenError,
    NotYetValidTokenError,
    UnauthorizedError,
    shown,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

# The largest integer that every JSON reader keeps exactly (RFC 8259, section 6), as a time far beyond any calendar.
_MAX_TIME = 2**53 - 1
_EPOCH, _SECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(seconds=1)
_Time = Annotated[int, msgspec.Meta(ge=0, le=_MAX_TIME)]


class Permissions(msgspec.Struct, frozen=True, gc=False):
    """What a token allows at one path: prefixes relative to it, normalized; ``""`` is everything beneath it."""

    publish: tuple[str, ...] = ()
    subscribe: tuple[str, ...] = ()

    def can_publish(self, broadcast: str) -> bool:
        """Whether ``broadcast``, a path relative to the authorized one, lies at or beneath a prefix for publishing."""
        return _covers(self.publish, broadcast)

    def can_subscribe(self, broadcast: str) -> bool:
        """Whether ``broadcast``, a path relative to the authorized one, lies at or beneath a prefix for subscribing."""
        return _covers(self.subscribe, broadcast)


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
            publish = _tuple_of_paths(publish, "publish")
        if type(subscribe) is str:
            subscribe = (subscribe,)
        elif type(subscribe) is not tuple:
            subscribe = _tuple_of_paths(subscribe, "subscribe")
        try:
            plain = "".join(publish).isascii() and "".join(subscribe).isascii() and str.isascii(root)
        except TypeError:
            raise _no_paths() from None
        if not plain:
            _check_unicode(root, *publish, *subscribe)
        if cluster is not False and cluster is not True:
            raise TypeError(f"cluster must be a bool, not {type(cluster).__name__}")
        if expires is not None and (type(expires) is not int or not 0 <= expires <= _MAX_TIME):
            expires = _unix_seconds(expires, "expires")
        if issued is not None and (type(issued) is not int or not 0 <= issued <= _MAX_TIME):
            issued = _unix_seconds(issued, "issued")
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
        return _datetime(self.expires)

    @property
    def issued_at(self) -> datetime | None:
        """``issued`` as an aware datetime in UTC (the end of the calendar where it lies beyond), or None."""
        return _datetime(self.issued)

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
        return encode(self).decode()

    def _with(self, **changes: Any) -> Self:  # noqa: ANN401 - checked by the constructor
        return type(self)(**{name: getattr(self, name) for name in self.__struct_fields__} | changes)

    def __reduce__(self) -> tuple[Any, ...]:
        return _claims, ({name: getattr(self, name) for name in self.__struct_fields__},)

    __replace__ = _with  # what copy.replace calls, which must not go around the constructor either


# The instance that all others are made from, as a call of the class would come back to where they are made.
_NOTHING: Claims = msgspec.convert({}, Claims)


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
        publish, subscribe = _tuple_of_paths(self.publish, "publish"), _tuple_of_paths(self.subscribe, "subscribe")
        _check_unicode(self.root, *publish, *subscribe)
        force_setattr(self, "root", _plain(self.root))
        force_setattr(self, "publish", tuple(_plain(path) for path in publish))
        force_setattr(self, "subscribe", tuple(_plain(path) for path in subscribe))

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


def _claims(members: dict[str, Any]) -> Claims:
    return Claims(**members)


def _plain(text: object) -> str:
    """Turn an instance of a subclass of ``str``, which msgspec does not know, into a plain one."""
    if not isinstance(text, str):
        raise TypeError(f"a path must be a str, not {type(text).__name__}")
    return "".join(text)


encode = msgspec.json.Encoder(enc_hook=_plain).encode
_decode = msgspec.json.Decoder(Claims).decode


def decode(payload: bytes, now: float) -> Claims:
    """Read the claims of a token whose signature has been verified; ``now`` is in Unix seconds, leeway included.

    Raises :class:`InvalidTokenError` (``malformed``, ``bad-claims``) for what tokens.md does not allow, ``aud``
    included, and :class:`NotYetValidTokenError` for an ``nbf`` after ``now``. Does not look at ``exp``.
    """
    try:
        claims = _decode(payload)
        # Equal bytes prove that nothing stood in the payload but these claims, once each and in their usual spelling.
        if encode(claims) == payload:
            return claims
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        pass  # the reader below accepts any spelling, and knows what to say of the others
    return _decode_any_spelling(payload, now)


def _decode_any_spelling(payload: bytes, now: float) -> Claims:
    try:
        members = parse_json(payload)
    except ValueError as error:
        raise InvalidTokenError(f"the claims are not readable as JSON: {error}") from None
    if not isinstance(members, dict):
        raise _bad("the claims must be a JSON object")
    if "aud" in members:
        raise _bad("the token has an `aud`: it is addressed to somebody else")
    not_before = _time(members, "nbf")
    if not_before is not None and not now >= not_before:
        message = f"the token is not valid before {not_before} (Unix seconds)"
        raise NotYetValidTokenError(message, not_before=not_before)
    cluster = members.get("cluster", False)
    if not isinstance(cluster, bool):
        raise _bad("the claim `cluster` must be true or false")
    root = members.get("root", "")
    if not isinstance(root, str):
        raise _bad("the claim `root` must be a string")
    return Claims(
        root,
        _paths(members, "put"),
        _paths(members, "get"),
        cluster=cluster,
        expires=_time(members, "exp"),
        issued=_time(members, "iat"),
    )


def decode_scope(members: object) -> Scope:
    """Read the ``scope`` member of a key. Raises :class:`InvalidKeyError`."""
    try:
        scope = msgspec.convert(members, Scope)
    except (msgspec.ValidationError, Error):
        message = "the member `scope` must be an object of `root` (a string), `put` and `get` (lists of strings)"
        raise InvalidKeyError(message) from None
    scope.validate()
    return scope


def _bad(message: str) -> InvalidTokenError:
    return InvalidTokenError(message, reason="bad-claims")


def _time(members: Mapping[str, object], name: str) -> int | None:
    value = members.get(name)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if value is None or (type(value) is int and 0 <= value <= _MAX_TIME):
        return value
    raise _bad(f"the claim `{name}` must be a whole number of Unix seconds from 0 to 2**53 - 1")


def _paths(members: Mapping[str, object], name: str) -> tuple[str, ...]:
    value = members.get(name, [])
    if isinstance(value, str):
        return (value,)
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return tuple(value)
    raise _bad(f"the claim `{name}` must be a string or a list of strings")


def _covers(prefixes: tuple[str, ...], broadcast: str) -> bool:
    if not isinstance(broadcast, str):
        raise TypeError(f"a broadcast's path must be a str, not {type(broadcast).__name__}")
    broadcast = paths.normalize(broadcast)
    for prefix in prefixes:  # noqa: SIM110 - a generator would take longer than the comparison
        if paths.strip_prefix(broadcast, prefix) is not None:
            return True
    return False


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


def _uncovered(scope: Scope, allowed: tuple[str, ...], claims: Claims, requested: tuple[str, ...]) -> str | None:
    ceilings = [_from_top(scope.root, prefix) for prefix in allowed]
    for prefix in requested:
        path = _from_top(claims.root, prefix)
        if all(paths.strip_prefix(path, ceiling) is None for ceiling in ceilings):
            return path
    return None


def _from_top(root: str, prefix: str) -> str:
    return paths.join(paths.normalize(root), paths.normalize(prefix))


def _tuple_of_paths(value: object, name: str) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    if isinstance(value, bytes):
        raise TypeError(f"{name} must be a str or an iterable of str, not bytes")
    try:
        return tuple(value)  # type: ignore[arg-type]  # that its items are str is checked with the others
    except TypeError:
        raise TypeError(f"{name} must be a str or an iterable of str, not {type(value).__name__}") from None


def _check_unicode(*texts: str) -> None:
    try:
        "".join(texts).encode()
    except TypeError:
        raise _no_paths() from None
    except UnicodeEncodeError:
        raise InvalidClaimsError("a path has a lone surrogate, which UTF-8 cannot carry") from None


def _no_paths() -> TypeError:
    return TypeError("root must be a str, publish and subscribe must hold str only")


def _unix_seconds(value: object, name: str) -> int:
    if isinstance(value, timedelta) and name == "expires":
        try:
            value = (datetime.now(UTC) - _EPOCH + value) // _SECOND
        except OverflowError:
            value = -1
    elif isinstance(value, datetime):
        if value.utcoffset() is None:
            raise InvalidClaimsError(f"{name} is a datetime without a time zone: say which, for example datetime.UTC")
        value = (value - _EPOCH) // _SECOND
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be int Unix seconds or a datetime, not {type(value).__name__}")
    if not 0 <= value <= _MAX_TIME:
        raise InvalidClaimsError(f"{name} must be Unix seconds from 0 to 2**53 - 1")
    return int(value)


def _datetime(seconds: int | None) -> datetime | None:
    if seconds is None:
        return None
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):
        return datetime.max.replace(tzinfo=UTC)
