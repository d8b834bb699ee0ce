"""What is wrong with a directory of signing keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moq_token.errors import InvalidKeyError
from moq_token.rotation.state import SUFFIX, paths, read, read_key

if TYPE_CHECKING:
    from pathlib import Path

    from moq_token.rotation.state import Directory, KeyFile


def check(directory: Directory, *, public: bool = False) -> list[str]:
    """Return what is wrong, one line each: files, names, modes, and halves that miss each other.

    ``public`` says that this is a directory which relays read, and which holds no private key.
    """
    problems = _problems(directory.files(), public=public)
    state = directory.state()
    target = directory.public_directory(state)
    if target is not None:
        problems += _problems([read(path) for path in paths(target)], public=True)
    if state.active is None:
        return problems
    if target is not None and not directory.path_of(state.active).exists():
        problems.append(f"{directory.path_of(state.active)}: the file of the active key is missing")
    for kid in (state.active, *state.retired):
        verifying = directory.path_of(kid) if target is None else target / f"{kid}{SUFFIX}"
        if not verifying.exists():
            problems.append(f"{verifying}: it is missing, so relays refuse the tokens of this key")
        elif target is not None and directory.path_of(kid).exists():
            problems += _compare(directory.path_of(kid), verifying)
    return problems


def _problems(found: list[KeyFile], *, public: bool) -> list[str]:
    lines = [f"{file.path}: {problem}" for file in found for problem in file.problems]
    if public:
        lines += [
            f"{file.path}: a private key where only public ones belong: whoever reads it can sign"
            for file in found
            if file.key is not None and file.key.is_private
        ]
    return lines


def _compare(private: Path, public: Path) -> list[str]:
    try:
        belongs = read_key(private).to_public() == read_key(public)
    except InvalidKeyError:
        return []  # each has been reported on its own
    return [] if belongs else [f"{public}: it is not the public half of {private}"]
