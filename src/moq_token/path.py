"""The algebra of paths: segments between slashes, empty ones dropped, everything else compared exactly."""

from __future__ import annotations


def normalize(path: str) -> str:
    """Drop empty segments: ``/foo//bar/`` is ``foo/bar``. Nothing else is special, not even ``..``."""
    if path[:1] == "/" or path[-1:] == "/" or "//" in path:
        return "/".join(filter(None, path.split("/")))
    return path


def join(base: str, rest: str) -> str:
    """Put one normalized path beneath another."""
    return f"{base}/{rest}" if base and rest else base or rest


def strip_prefix(path: str, prefix: str) -> str | None:
    """Return what is left of a normalized path beneath a normalized prefix, or None where the prefix does not cover it.

    Whole segments count: ``foo`` is a prefix of ``foo`` and ``foo/bar``, never of ``foobar``.
    """
    if not prefix:
        return path
    if path == prefix:
        return ""
    if path.startswith(prefix) and path[len(prefix)] == "/":
        return path[len(prefix) + 1 :]
    return None
