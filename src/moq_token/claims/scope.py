"""The scope of a key."""

from __future__ import annotations

from bisect import bisect
from typing import TYPE_CHECKING, Any, Self, final

import msgspec

from moq_token import path as paths
from moq_token.claims.arguments import Checked, changed, plain_text, unexpected
from moq_token.claims.grants import Held, all_subtrees, as_pattern, check_unicode, given
from moq_token.errors import InvalidKeyError, InvalidPatternError
from moq_token.pattern import Pattern
from moq_token.patterns import Patterns

if TYPE_CHECKING:
    from collections.abc import Iterable

    from moq_token.claims.claims import Claims


class _CheckedScope(Checked):
    def __call__(
        cls,  # noqa: N805 - an instance of a metaclass is a class
        root: str = "",
        publish: str | Pattern | Iterable[str | Pattern] = (),
        subscribe: str | Pattern | Iterable[str | Pattern] = (),
        **unknown: object,
    ) -> Scope:
        if unknown:
            raise unexpected(cls, unknown)
        root = plain_text(root)
        check_unicode(root)
        publish, subscribe = given(publish, "publish"), given(subscribe, "subscribe")
        return scope_of(root, publish, subscribe)

    __call__.__qualname__ = "Scope"  # what Python calls it when there are too many arguments


@final
class Scope(msgspec.Struct, metaclass=_CheckedScope, frozen=True, gc=False):
    """The limit on what a key may sign: what its tokens may grant, in each role, below a root path.

    The parameters, attributes and exceptions are those of ``Claims``. A key whose scope has patterns can only be loaded
    by relays from 0.15 on. A scope without ``publish`` and ``subscribe`` is useless, and no key accepts it (see
    ``validate``).
    """

    root: str = ""
    publish: tuple[str | Pattern, ...] = ()
    subscribe: tuple[str | Pattern, ...] = ()

    if TYPE_CHECKING:

        def __init__(
            self,
            root: str = "",
            publish: str | Pattern | Iterable[str | Pattern] = (),
            subscribe: str | Pattern | Iterable[str | Pattern] = (),
        ) -> None: ...

    def validate(self) -> None:
        """Raise ``InvalidKeyError`` if the scope allows nothing in either role."""
        if not self.publish and not self.subscribe:
            raise InvalidKeyError("the scope allows nothing: add at least one path to publish or subscribe")

    def allows(self, claims: Claims) -> bool:
        """Whether each grant of ``claims`` lies in a single grant that the scope has in the same role."""
        return self.exceeded_by(claims) is None

    def exceeded_by(self, claims: Claims) -> str | None:
        """Return the first path or pattern that ``claims`` grant and the scope does not, from the top, or None."""
        return exceeded(self, claims)

    def __replace__(self, **changes: Any) -> Self:  # noqa: ANN401 - checked by the constructor
        return changed(self, changes)

    def __reduce__(self) -> tuple[Any, ...]:
        return scope_of, (self.root, self.publish, self.subscribe)


def scope_of(root: str, publish: Held, subscribe: Held) -> Scope:
    """Return a scope with these attributes, which are known to be valid."""
    made: Scope = msgspec.StructMeta.__call__(Scope, root, publish, subscribe)
    return made


def exceeded(scope: Scope, claims: Claims, *, as_patterns: bool = False) -> str | None:
    """Return the first grant that is beyond the scope. ``as_patterns`` compares prefixes as patterns, as relays do.

    Relays from 0.15 on do: prefixes that no pattern can express, with a ``*`` or too long, are then beyond any scope.
    """
    for allowed, requested in ((scope.publish, claims.publish), (scope.subscribe, claims.subscribe)):
        if not as_patterns and all_subtrees(allowed) and all_subtrees(requested):
            beyond = _beyond_prefixes(scope.root, allowed, claims.root, requested)
        else:
            beyond = _beyond_patterns(scope, allowed, claims.root, requested)
        if beyond is not None:
            return beyond
    return None


def _beyond_prefixes(scope_root: str, allowed: tuple[str, ...], root: str, requested: tuple[str, ...]) -> str | None:
    # The two roots are compared once, and only what lies below the deeper one is compared for each prefix: a token can
    # have a long root and thousands of prefixes.
    scope_root, root = paths.normalize(scope_root), paths.normalize(root)
    below = paths.strip_prefix(root, scope_root)
    above = "" if below is not None else paths.strip_prefix(scope_root, root)
    ceilings = _ceilings(allowed, below or "") if above is not None else []
    for prefix in requested:
        path = paths.normalize(prefix)
        rest = paths.strip_prefix(path, above) if above is not None else None
        at = bisect(ceilings, f"{rest}/") if rest is not None else 0
        if not at or not f"{rest}/".startswith(ceilings[at - 1]):
            return paths.join(root, path)
    return None


def _ceilings(allowed: tuple[str, ...], below: str) -> list[str]:
    """Return what the prefixes of a scope allow below a path, sorted, none below another one.

    Each ends with a slash, so that what lies below it begins with it. Empty is everything.
    """
    ceilings = []
    for prefix in allowed:
        path = paths.normalize(prefix)
        if paths.strip_prefix(below, path) is not None:
            return [""]
        rest = paths.strip_prefix(path, below)
        if rest is not None:
            ceilings.append(f"{rest}/")
    if len(ceilings) > 1:
        ceilings.sort()
        # In this order, a path is followed by the paths below it.
        kept: list[str] = []
        for ceiling in ceilings:
            if not kept or not ceiling.startswith(kept[-1]):
                kept.append(ceiling)
        return kept
    return ceilings


def _beyond_patterns(scope: Scope, allowed: Held, root: str, requested: Held) -> str | None:
    # As for relays, a scope permits nothing if its root cannot take one of its grants. The root is tried alone first,
    # as it can be long and have a thousand prefixes.
    every = (Pattern(""), *scope.publish, *scope.subscribe)
    if any(_rooted(grant, scope.root) is None for grant in every):
        allowed = ()
    ceiling = Patterns(as_pattern(grant, scope.root) for grant in allowed)
    for grant in requested:
        pattern = _rooted(grant, root)
        if pattern is None or not ceiling.contains(pattern):
            return str(pattern or _from_top(root, str(grant)))
    return None


def _rooted(grant: str | Pattern, root: str) -> Pattern | None:
    """Return a grant from the top as a pattern, None if no pattern can express it."""
    try:
        return as_pattern(grant, root)
    except InvalidPatternError:
        return None


def _from_top(root: str, prefix: str) -> str:
    return paths.join(paths.normalize(root), paths.normalize(prefix))
