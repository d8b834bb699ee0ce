"""What one role grants: a subtree is held as ``str``, the path of its top, and everything else as a ``Pattern``."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any, TypeAlias, TypeGuard

from moq_token import path as paths
from moq_token.claims.arguments import plain_text
from moq_token.errors import InvalidClaimsError, InvalidPatternError
from moq_token.pattern import Pattern
from moq_token.patterns import MAX_PATTERNS, Patterns

MAX_WILDCARDS = 1024
"""Patterns in one role that are neither a subtree nor a single path: what a hostile token costs most."""

Held: TypeAlias = "tuple[str | Pattern, ...]"


class LiteralPath(str):
    """A path prefix in which ``*`` is an ordinary character, as relays before 0.15 read it.

    What was read from a token or a key may be passed to a constructor again. This type keeps it from being read as a
    pattern then, which could grant more.
    """

    __slots__ = ()


def literal(path: str) -> str:
    """Return a path prefix of the first generation, in which ``*`` is an ordinary character."""
    return LiteralPath(path) if "*" in path else path


def listed(value: object, name: str) -> tuple[Any, ...]:
    """Return what a caller passes for one role as a tuple. Its items are not checked. Raises ``TypeError``."""
    if type(value) is list:  # the most common type, and the two checks below are slow
        return tuple(value)
    if isinstance(value, str | Pattern):
        return (value,)
    if not isinstance(value, Iterable) or isinstance(value, bytes | bytearray | memoryview):
        raise TypeError(f"{name} must be a str, a Pattern or an iterable of them, not {type(value).__name__}")
    return tuple(value)


def given(value: object, name: str) -> Held:
    """Return what a caller passes for one role as it is held: a ``str`` with ``*`` is read as a pattern.

    Raises ``TypeError`` for other types, ``InvalidPatternError`` for an invalid pattern and ``InvalidClaimsError`` for
    text that UTF-8 cannot encode.
    """
    grants: list[str | Pattern] = []
    for item in listed(value, name):
        if not isinstance(item, str | Pattern):
            raise TypeError(f"{name} must contain str and Pattern only, not {type(item).__name__}")
        grants.append(_read(item))
    return held(grants)


def held(grants: Iterable[str | Pattern]) -> Held:
    """Return grants as they are held: subtrees as ``str``, in their order; with patterns, reduced and sorted.

    Raises ``InvalidPatternError``, also for more than 1024 patterns that are neither a subtree nor a single path.
    """
    grants = tuple(map(_compact, grants))
    if all_subtrees(grants):
        return grants
    if sum(isinstance(grant, Pattern) and not grant.is_literal for grant in grants) > MAX_WILDCARDS:
        message = f"too many patterns with wildcards: the limit is {MAX_WILDCARDS}"
        raise InvalidPatternError(message, reason="too-many-patterns")
    return tuple(map(_compact, Patterns(map(as_pattern, grants))))


def as_pattern(grant: str | Pattern, root: str = "") -> Pattern:
    """Return a grant below a root as a pattern.

    Raises ``InvalidPatternError`` for what no pattern can express: ``*`` as an ordinary character, and more than 32
    segments.
    """
    pattern = Pattern.subtree(grant) if isinstance(grant, str) else grant
    return pattern.rooted(root) if root else pattern


def all_subtrees(grants: Held) -> TypeGuard[tuple[str, ...]]:
    """Whether no grant is a pattern, so that path prefixes express them all."""
    for grant in grants:  # noqa: SIM110 - a generator would take longer than the comparison
        if type(grant) is Pattern:
            return False
    return True


def covers(grants: Held, broadcast: str) -> bool:
    """Whether a grant covers the path of a broadcast."""
    if not isinstance(broadcast, str):
        raise TypeError(f"the path of a broadcast must be a str, not {type(broadcast).__name__}")
    broadcast = paths.normalize(broadcast)
    for grant in grants:
        if type(grant) is Pattern:
            if grant.matches(broadcast):
                return True
        elif paths.strip_prefix(broadcast, grant) is not None:
            return True
    return False


def rebased(grants: Held, below: str, above: str) -> Held:
    """Return what grants leave for paths relative to ``below``, or with ``above`` put in front. One of them is empty.

    Raises ``InvalidPatternError`` if patterns get too long or too many.
    """
    result = []
    for grant in grants:
        if type(grant) is not str:
            return _rebased_slowly(grants, below, above)
        whole = paths.join(above, paths.normalize(grant))
        rest = paths.strip_prefix(whole, below)
        if rest is None and paths.strip_prefix(below, whole) is not None:
            rest = ""
        if rest is not None:
            result.append(rest)
    return tuple(result)


def _rebased_slowly(grants: Held, below: str, above: str) -> Held:
    if all_subtrees(grants):
        return tuple(literal(str(rest)) for rest in rebased(tuple(map(plain_text, grants)), below, above))
    if not below:
        return held(as_pattern(grant, above) for grant in grants)
    left = itertools.chain.from_iterable(as_pattern(grant).rebase(below) for grant in grants)
    return held(itertools.islice(left, MAX_PATTERNS + 1))  # one too many is refused


def check_unicode(*texts: str) -> None:
    """Raise ``TypeError`` for anything but text, ``InvalidClaimsError`` for text that UTF-8 cannot encode."""
    try:
        "".join(texts).encode()
    except TypeError:
        raise TypeError("root must be a str") from None
    except UnicodeEncodeError:
        raise InvalidClaimsError("a path has a lone surrogate, which UTF-8 cannot encode") from None


def _read(grant: str | Pattern) -> str | Pattern:
    if isinstance(grant, Pattern):
        return grant
    check_unicode(grant)
    return Pattern(grant) if "*" in grant and not isinstance(grant, LiteralPath) else grant


def _compact(grant: str | Pattern) -> str | Pattern:
    if isinstance(grant, str):
        return grant
    prefix = grant.prefix
    return grant if prefix is None else prefix
