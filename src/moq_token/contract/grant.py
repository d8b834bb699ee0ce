"""What an auth server answers to a relay: what a session may do, and until when."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, NoReturn, Self

import msgspec
from msgspec.structs import force_setattr, replace

from moq_token import path as paths
from moq_token.contract.wire import Reader, Shown, Signed, Unsigned, encode
from moq_token.errors import InvalidGrantError, InvalidPatternError, UnauthorizedError
from moq_token.patterns import Patterns
from moq_token.times import END_OF_9999

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from moq_token.claims import Claims
    from moq_token.contract.request import Peer
    from moq_token.pattern import Pattern

_MAX_EXPIRES, _MAX_REVALIDATE = 2**63 - 1, 2**64 - 1


class _Mounts(dict[str, str]):
    """A dict that cannot be changed, as the grant that it belongs to."""

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise TypeError("a grant cannot be changed: make another one")

    if not TYPE_CHECKING:
        __setitem__ = __delitem__ = clear = pop = popitem = setdefault = update = __ior__ = _refuse

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(frozenset(self.items()))

    def __reduce__(self) -> tuple[type[_Mounts], tuple[dict[str, str]]]:
        return _Mounts, (dict(self),)


_NO_MOUNTS: Mapping[str, str] = _Mounts()


class Grant(msgspec.Struct, frozen=True, kw_only=True, metaclass=Shown):
    """What a session may publish and subscribe to, and until when.

    Parameters
    ----------
    publish, subscribe
        Patterns relative to ``root``, as ``Patterns`` or as an iterable of patterns or of their texts.
    root
        The path that the session is at in place of the dialed one. The empty text is the top; None keeps the dialed
        path.
    mounts
        Subtrees to read from elsewhere: paths relative to ``root``, and the absolute paths that they show.
    expires
        When the session ends: Unix seconds, None is never.
    revalidate
        After how many seconds the relay asks again, and so on; it needs ``expires``. None is never.
    tier
        A label for the relay's statistics.
    peer
        Whether the session is another relay.
    claims
        The claims of the token that the grant follows from. Not written.

    Raises ``InvalidGrantError`` for a grant that relays do not accept: one that grants nothing (``useless``), with
    ``revalidate`` but without ``expires`` (``unbounded-revalidate``), with a ``revalidate`` of 0 (``zero-revalidate``).
    Raises ``InvalidPatternError``, and ``TypeError`` for wrong types. That ``expires`` lies ahead needs the
    time, and is checked by ``to_json()`` and ``from_json()``.

    """

    publish: Patterns = Patterns()
    subscribe: Patterns = Patterns()
    root: str | None = None
    mounts: Mapping[str, str] = _NO_MOUNTS
    expires: int | None = None
    revalidate: int | None = None
    tier: str | None = None
    peer: bool = False
    claims: Claims | None = None

    def __init__(
        self,
        *,
        publish: Patterns | Iterable[Pattern | str] = (),
        subscribe: Patterns | Iterable[Pattern | str] = (),
        root: str | None = None,
        mounts: Mapping[str, str] = _NO_MOUNTS,
        expires: int | None = None,
        revalidate: int | None = None,
        tier: str | None = None,
        peer: bool = False,
        claims: Claims | None = None,
    ) -> None: ...

    def __post_init__(self) -> None:
        if not isinstance(self.publish, Patterns):
            force_setattr(self, "publish", Patterns(self.publish))
        if not isinstance(self.subscribe, Patterns):
            force_setattr(self, "subscribe", Patterns(self.subscribe))
        if self.root is not None and not isinstance(self.root, str):
            raise TypeError("root must be a str or None")
        if self.tier is not None and not isinstance(self.tier, str):
            raise TypeError("tier must be a str or None")
        if not isinstance(self.peer, bool):
            raise TypeError(f"peer must be a bool, not {type(self.peer).__name__}")
        if self.mounts is not _NO_MOUNTS:
            force_setattr(self, "mounts", _frozen(self.mounts))
        if not self.publish and not self.subscribe:
            raise InvalidGrantError("invalid grant: it grants nothing; refuse the session instead", reason="useless")
        self._check_times()

    def _check_times(self) -> None:
        if self.expires is not None:
            _check_seconds("expires", self.expires, _MAX_EXPIRES)
        if self.revalidate is not None:
            _check_seconds("revalidate", self.revalidate, _MAX_REVALIDATE)
        if self.revalidate is not None and self.expires is None:
            message = "invalid grant: `revalidate` needs `expires`, which ends the session when nobody answers"
            raise InvalidGrantError(message, reason="unbounded-revalidate")
        if self.revalidate is not None and self.revalidate <= 0:
            raise InvalidGrantError("invalid grant: `revalidate` must be at least 1 s", reason="zero-revalidate")

    def narrowed(
        self,
        *,
        publish: Patterns | Iterable[Pattern | str] | None = None,
        subscribe: Patterns | Iterable[Pattern | str] | None = None,
    ) -> Self:
        """Return the grant cut down to what these patterns allow as well; None leaves a role as it is.

        Raises ``UnauthorizedError`` if nothing is left in both roles, and ``InvalidPatternError``.
        """
        left = {
            "publish": self.publish if publish is None else self.publish.intersect(Patterns(publish)),
            "subscribe": self.subscribe if subscribe is None else self.subscribe.intersect(Patterns(subscribe)),
        }
        if not any(left.values()):
            raise UnauthorizedError("the policy leaves nothing of what is granted")
        return replace(self, **left)

    def check(self, now: float) -> None:
        """Raise ``InvalidGrantError`` (``expired``) if the grant ends at ``now`` (Unix seconds) or before."""
        try:
            now = math.floor(now)
        except (TypeError, ValueError, OverflowError):
            raise TypeError("now must be a finite number of Unix seconds") from None
        if self.expires is not None and self.expires <= now:
            message = f"invalid grant: it ended {now - self.expires} s ago; refuse the session instead"
            raise InvalidGrantError(message, reason="expired")

    def check_unit(self, certificate: Peer | None = None) -> None:
        """Raise ``InvalidGrantError`` where ``expires`` can hardly be in seconds.

        The end of the token or of the client certificate is accepted as it is, as relays do.
        """
        if self.expires is None or self.expires <= END_OF_9999:
            return
        credentials = self.claims, certificate
        if all(credential is None or credential.expires != self.expires for credential in credentials):
            message = "invalid grant: `expires` is after the year 9999: Unix times are in seconds, not milliseconds"
            raise InvalidGrantError(message)

    def check_paths(self) -> None:
        """Raise ``InvalidGrantError`` for a ``*`` in ``root`` (``bad-root``) and for bad ``mounts``.

        The latter (``bad-mounts``) are those with a ``*``, at an empty place or within each other. Relays read such a
        grant, and then refuse the session.
        """
        if self.root is not None and "*" in self.root:
            raise InvalidGrantError("invalid grant: `root` must not contain `*`", reason="bad-root")
        if self.mounts:
            _check_mounts(self.mounts)

    def can_publish(self, broadcast: str) -> bool:
        """Whether the session may publish ``broadcast``, a path relative to the root. ``mounts`` do not count."""
        return self.publish.matches(broadcast)

    def can_subscribe(self, broadcast: str) -> bool:
        """Whether the session may subscribe to ``broadcast``, a path relative to the root."""
        return self.subscribe.matches(broadcast)

    @classmethod
    def from_json(cls, document: bytes | str, *, now: float) -> Self:
        """Read what an auth server has answered, as relays do at ``now`` (Unix seconds).

        Raises ``InvalidGrantError``, whose ``reason`` tells a refusal (``useless``) from the answers that relays
        take for an outage (all others).
        """
        wire = _read(document)
        try:
            grant = cls(
                publish=wire.publish,
                subscribe=wire.subscribe,
                root=wire.root,
                mounts=wire.mounts,
                expires=wire.expires,
                revalidate=wire.revalidate,
                tier=wire.tier,
                peer=wire.peer,
            )
        except InvalidPatternError as error:
            raise InvalidGrantError(f"invalid grant: {error}", reason="bad-pattern") from None
        grant.check(now)
        return grant

    def to_json(self, *, now: float) -> bytes:
        """Return the grant as auth servers write it, to a relay that reads it at ``now`` (Unix seconds).

        Raises ``InvalidGrantError`` for a grant that has ended (``expired``), for a ``*`` in ``root``
        (``bad-root``), and for ``mounts`` with a ``*`` or within each other (``bad-mounts``): relays refuse such a
        session, or report an outage.
        """
        self.check(now)
        self.check_paths()
        return encode(
            _Grant(
                publish=list(map(str, self.publish)),
                subscribe=list(map(str, self.subscribe)),
                root=self.root,
                mounts=dict(sorted(self.mounts.items())) if self.mounts else {},
                expires=self.expires,
                revalidate=self.revalidate,
                tier=self.tier,
                peer=self.peer,
            )
        )


def _frozen(mounts: Mapping[str, str]) -> _Mounts:
    try:
        frozen = _Mounts(mounts)
    except (TypeError, ValueError):
        raise TypeError(f"mounts must be a mapping of paths, not {type(mounts).__name__}") from None
    if not all(isinstance(text, str) for mount in frozen.items() for text in mount):
        raise TypeError("mounts must be a mapping of paths: each a str")
    return frozen


class _Grant(msgspec.Struct, omit_defaults=True, kw_only=True):
    """The wire form: the members in the order of the originals."""

    publish: list[str] = []
    subscribe: list[str] = []
    root: str | None = None
    mounts: dict[str, str] = {}
    expires: Signed | None = None
    revalidate: Unsigned | None = None
    tier: str | None = None
    peer: bool = False


_read = Reader(_Grant, InvalidGrantError)


def _check_seconds(name: str, value: object, limit: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int or None, not {type(value).__name__}")
    if not -limit - 1 <= value <= limit:
        raise InvalidGrantError(f"invalid grant: {name} is out of range")


def _check_mounts(mounts: Mapping[str, str]) -> None:
    if any("*" in text for mount in mounts.items() for text in mount):
        raise InvalidGrantError("invalid grant: `mounts` must not contain `*`", reason="bad-mounts")
    places = sorted(paths.normalize(place).split("/") for place in mounts)
    # In this order, a path is followed by the paths beneath it.
    inside = any(following[: len(place)] == place for place, following in itertools.pairwise(places))
    if inside or [""] in places:
        message = "invalid grant: a path in `mounts` must not be empty or lie in another one"
        raise InvalidGrantError(message, reason="bad-mounts")
