"""Paths are segments between slashes. Empty segments are dropped, everything else is compared exactly."""

from __future__ import annotations

import re


def normalize(path: str) -> str:
    """Drop empty segments: ``/foo//bar/`` is ``foo/bar``. Nothing else is special, not even ``..``."""
    if path[:1] == "/" or path[-1:] == "/" or "//" in path:
        return "/".join(filter(None, path.split("/")))
    return path


def join(base: str, rest: str) -> str:
    """Join two normalized paths."""
    return f"{base}/{rest}" if base and rest else base or rest


def strip_prefix(path: str, prefix: str) -> str | None:
    """Return what is left of a normalized path below a normalized prefix, or None if the prefix does not cover it.

    Whole segments count: ``foo`` is a prefix of ``foo`` and ``foo/bar``, never of ``foobar``.
    """
    if not prefix:
        return path
    if path == prefix:
        return ""
    if path.startswith(prefix) and path[len(prefix)] == "/":
        return path[len(prefix) + 1 :]
    return None


def oddity(path: str, *, pattern: bool = False) -> str | None:
    """Return why a path or pattern is likely a mistake, as one sentence, or None.

    A path has no special characters but the slash, and a pattern has ``*`` besides. What has a meaning elsewhere, such
    as ``..``, ``{id}`` or ``[a-z]``, is ordinary text in both, and no relay replaces or resolves it.
    """
    words = path.replace("/", "").replace("-", "").replace("_", "")
    if not words or words.isalnum():  # most are, and to compile the expressions would take longer than to sign
        return None
    for expression, sentence in _ODDITIES_OF_PATTERNS if pattern else _ODDITIES_OF_PATHS:
        if match := re.search(expression, path):
            return sentence.replace("@", match[0].strip("/")[:_SHOWN_CHARACTERS])
    return None


_SHOWN_CHARACTERS = 24
_PLACEHOLDER = "`@` stands for itself, and is not replaced: fill in the value"
_ORDINARY = "`@` stands for itself, not a wildcard"
# One whole segment is written between these two.
_START, _END = r"(?:^|/)", r"(?=/|$)"
# `@` is replaced by what the expression matched. The first expression that matches counts.
_ODDITIES = (
    (r"^[A-Za-z][A-Za-z0-9+.-]*://", "this is a URL: give only its path"),
    (r"^[A-Za-z]:[/\\]", "this is a Windows path: a shell such as Git Bash turns a leading slash into one"),
    (r"^'.*'$|^\".*\"$|^`.*`$", "the quotes are part of the path: give it without them"),
    (r"\$?\{[^/{}]*\}", _PLACEHOLDER),
    (rf"{_START}(?:<[^/<>]+>|:[A-Za-z_]\w*|\$[A-Za-z_]\w*|%[A-Za-z_]\w*%){_END}", _PLACEHOLDER),
    (rf"{_START}\+{_END}", f"{_ORDINARY}: a pattern has `*` for one segment"),
    (rf"{_START}(?:\.\.?|~){_END}", "`@` is an ordinary name, and does not lead to another directory"),
    (r"[?#]", "`@` stands for itself, and does not end the path as in a URL"),
    (r"\\", "`@` stands for itself: only a slash separates segments"),
    (rf"{_START}\s|\s{_END}|[\0-\x1f\x7f]", "it has a space at the start or end of a segment, or a control character"),
    (
        "[\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff]",
        "it has an invisible character, as copied text can have",
    ),
    ("[\uff0a\u2217\uff0f\u2215\u2044]", "`@` stands for itself: it only looks like a slash or a `*`"),
)
_ODDITIES_OF_PATHS = (*_ODDITIES, (r"\*+", f"{_ORDINARY} here"))
# What is a wildcard in the patterns of a shell or in a regular expression.
_ODDITIES_OF_PATTERNS = (
    (r"\?|\[[^/\[\]]*\]", f"{_ORDINARY}: a pattern has only `*` and `**`"),
    (rf"{_START}\.\*{_END}", "`@` is a segment that starts with a dot, but a pattern is not a regular expression"),
    *_ODDITIES,
)
