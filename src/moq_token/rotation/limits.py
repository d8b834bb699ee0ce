"""The limits that a new key inherits: algorithm, scope and operations."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from moq_token.algorithm import Algorithm
from moq_token.claims import Claims, Scope
from moq_token.errors import ConfigError, shown
from moq_token.jwk import KeyOperation
from moq_token.key import Key

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from moq_token.pattern import Pattern

_DEFAULT_OPERATIONS = frozenset((KeyOperation.SIGN, KeyOperation.VERIFY))


class Wanted(NamedTuple):
    """The requested changes, as described in ``Rotation.rotate()``; None means unchanged."""

    algorithm: Algorithm | None = None
    root: str | None = None
    publish: Iterable[str | Pattern] | None = None
    subscribe: Iterable[str | Pattern] | None = None
    widen: bool = False


class Limits(NamedTuple):
    """The limits of a key."""

    algorithm: Algorithm
    scope: Scope | None
    operations: frozenset[KeyOperation]

    def generate(self) -> Key:
        """Generate a key with these limits and a random id."""
        return Key.generate(self.algorithm).with_scope(self.scope).with_operations(self.operations)


def inherit(keys: Sequence[Key], wanted: Wanted, place: str) -> Limits:
    """Return the limits of the key that replaces ``keys`` in ``place``.

    Raises ``ConfigError`` where the keys do not agree and the caller does not choose, and for a scope that is
    wider than before; ``InvalidKeyError`` for a scope that permits nothing.
    """
    return Limits(_algorithm(keys, wanted, place), _scope(keys, wanted, place), _operations(keys))


def _algorithm(keys: Sequence[Key], wanted: Wanted, place: str) -> Algorithm:
    before = sorted({key.algorithm for key in keys})
    if wanted.algorithm is None and len(before) > 1:
        raise ConfigError(f"the keys in {place} have different algorithms ({', '.join(before)}): add --algorithm")
    algorithm = wanted.algorithm or next(iter(before), Algorithm.EDDSA)
    for old in before:
        if old.symmetric != algorithm.symmetric:
            raise ConfigError(
                f"--algorithm: {algorithm} cannot replace {old} in {place}: use a new directory, since relays read "
                "secrets from this one and public keys from another"
            )
    return algorithm


def _scope(keys: Sequence[Key], wanted: Wanted, place: str) -> Scope | None:
    before = {key.scope for key in keys}
    common = before.pop() if len(before) == 1 else None
    if wanted.root is None and wanted.publish is None and wanted.subscribe is None:
        if before:
            raise ConfigError(
                f"the keys in {place} have different scopes: choose one with --root, --publish and --subscribe"
            )
        return common
    scope = _changed(common or Scope(), wanted)
    scope.validate()
    if not wanted.widen and keys:
        beyond = [
            key.scope and key.scope.exceeded_by(Claims(scope.root, scope.publish, scope.subscribe)) for key in keys
        ]
        if None not in beyond:
            what = shown(str(beyond[0])) if beyond[0] else "every path"
            raise ConfigError(
                f"the new scope permits {what}, which the scope before does not: add --widen to allow that"
            )
    return scope


def _changed(scope: Scope, wanted: Wanted) -> Scope:
    root = scope.root if wanted.root is None else wanted.root
    if wanted.publish is None and wanted.subscribe is None:
        return Scope(root, scope.publish, scope.subscribe)
    return Scope(root, wanted.publish or (), wanted.subscribe or ())


def _operations(keys: Sequence[Key]) -> frozenset[KeyOperation]:
    """Return the operations allowed for all keys. A public half does not show those of its private half."""
    operations = [key.operations for key in keys if key.is_private]
    return frozenset.intersection(*operations) if operations else _DEFAULT_OPERATIONS
