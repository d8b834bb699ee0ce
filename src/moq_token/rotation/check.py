"""Find what is wrong with a directory of signing keys."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from moq_token.errors import ConfigError, InvalidKeyError, KeyNotFoundError, KeyOperationError
from moq_token.jwk import KeyOperation
from moq_token.rotation.state import STATE_NAME, SUFFIX, KeyFile, Use, mode_problems, paths, read

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from moq_token.key import Key
    from moq_token.rotation.state import Directory, State

# The clocks of machines that share a directory differ a little.
CLOCK_TOLERANCE_SECONDS = 5
# Writing a key, or a rotation, never takes this long: its process has died.
ABANDONED_SECONDS = 60
TEMPORARY = re.compile(r"\.[0-9a-f]{16}\.tmp")  # the names that files.py gives


def check_clock(state: State, now: float) -> None:
    """Raise ``ConfigError`` where ``now`` (Unix seconds) is before the active key was created.

    A clock that is behind would end overlaps too early.
    """
    created = state.created.get(state.active or "")
    if created is not None and now < created - CLOCK_TOLERANCE_SECONDS:
        raise ConfigError(
            f"the clock is {created - int(now)} s before the active key was created: set the clock; if it is right, "
            f"correct `created` in {STATE_NAME}"
        )


def check(directory: Directory, now: float, *, public: bool) -> list[str]:
    """Return what is wrong, one line each, as ``Rotation.check()`` describes it."""
    if public:
        return list(_public(directory.directory, now))
    state = directory.state()
    target = directory.public_directory(state)
    problems = [*_directory(directory.directory, now), *_state(directory, state, now)]
    if target is not None:
        problems += _public(target, now)
    return problems + list(_halves(directory, state, target))


def _directory(directory: Path, now: float) -> Iterator[str]:
    """Say what is wrong with a directory and its files, private or public."""
    yield from (f"{directory}: {problem}" for problem in mode_problems(directory.stat()))
    found = paths(directory)
    if not found:
        yield f"{directory}: no *{SUFFIX} files"
    for path in found:
        yield from (f"{path}: {problem}" for problem in read(path).problems)
    for path in sorted(directory.iterdir()):
        if TEMPORARY.fullmatch(path.name) and _is_abandoned(path, now):
            yield f"{path}: left behind by an interrupted write, and may hold a private key: run `keys prune`"
        elif not (path in found or path.name.startswith(".") or path.name == STATE_NAME or path.suffix == ".bak"):
            yield f"{path}: not read: only files named {{kid}}{SUFFIX} are; rename it, or move it elsewhere"


def _state(directory: Directory, state: State, now: float) -> Iterator[str]:
    path = directory.directory / STATE_NAME
    if path.exists():
        yield from (f"{path}: {problem}" for problem in mode_problems(path.stat()))
    try:
        check_clock(state, now)
        directory.signing_key()
    except (ConfigError, KeyNotFoundError, KeyOperationError) as error:
        yield str(error)
    except (InvalidKeyError, OSError):
        pass  # reported with the faulty file
    if state.pending is not None and _is_abandoned(path, now):
        yield f"{directory.path_of(state.pending)}: left behind by an interrupted rotation: run `keys prune`"
    for listed in directory.keys(now):
        if listed.use is Use.ENDED:
            yield f"{directory.path_of(listed.kid)}: its overlap has ended, but it still verifies: run `keys prune`"


def _public(directory: Path, now: float) -> Iterator[str]:
    """Say what is wrong with a directory that relays read."""
    try:
        yield from _directory(directory, now)
    except OSError as error:
        yield f"{directory}: {(error.strerror or 'cannot be read').lower()}: relays refuse every token"
        return
    for file in map(read, paths(directory)):
        if file.key is not None and file.key.is_private:
            yield f"{file.path}: private key in a directory of public keys: anybody who reads it can sign tokens"
        elif file.key is not None:
            yield from _cannot_verify(file.path, file.key)


def _halves(directory: Directory, state: State, target: Path | None) -> Iterator[str]:
    """Say which keys that sign, or have signed, relays cannot verify."""
    for kid in filter(None, (state.active, *state.retired)):
        private = directory.path_of(kid)
        verifying = private if target is None else target / private.name
        if not verifying.exists():
            yield f"{verifying}: file not found: relays refuse the tokens of this key"
        elif target is None:
            key = read(private).key
            if key is not None:
                yield from _cannot_verify(private, key)
        elif private.exists():
            yield from _compare(read(private), read(verifying))


def _cannot_verify(path: Path, key: Key) -> Iterator[str]:
    if KeyOperation.VERIFY not in key.operations:
        yield f"{path}: its `key_ops` do not include `verify`: relays refuse the tokens of this key"


def _compare(private: KeyFile, public: KeyFile) -> Iterator[str]:
    if private.key is None or public.key is None or public.key.is_private or private.key.algorithm.symmetric:
        return  # each is reported on its own
    if private.key.thumbprint() != public.key.thumbprint():
        yield f"{public.path}: not the public half of {private.path}: relays refuse the tokens of this key"
    elif private.key.scope != public.key.scope:
        yield f"{public.path}: its scope differs from that of {private.path}: relays go by this one"
    elif private.key.algorithm != public.key.algorithm:
        yield f"{public.path}: its algorithm differs from that of {private.path}: relays refuse the tokens of this key"


def _is_abandoned(path: Path, now: float) -> bool:
    try:
        return path.stat().st_mtime < now - ABANDONED_SECONDS
    except FileNotFoundError:
        return False
