"""The grants of claims and of scopes: path prefixes (``put``, ``get``) and patterns (``publish``, ``subscribe``)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from moq_token import path as paths
from moq_token.errors import InvalidPatternError, shown
from moq_token.lint.finding import FIRST, ROLES, SECOND
from moq_token.pattern import MAX_SEGMENTS, Pattern
from moq_token.patterns import Patterns

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from moq_token.generations import Generation
    from moq_token.lint.finding import Findings

PREFIXES = ("put", "get")


class Words(NamedTuple):
    """The names of a document with grants in messages."""

    member: str  # "claim"
    prefix: str  # the prefix of member names
    useless: str
    fix: str  # for grants without effect
    of_token: bool  # claims, where one bare string is a list of one; otherwise the scope of a key


def read_grants(members: Mapping[str, object], words: Words, found: Findings) -> None:
    """Read ``root`` and the grants of claims or of a scope, as relays of both generations do."""
    root = members.get("root", "")
    if not isinstance(root, str):
        found.refuse("bad-type", f"{words.member} `{words.prefix}root` must be a string", words.fix)
        return
    has_prefixes, has_patterns = (any(name in members for name in names) for names in (PREFIXES, ROLES))
    prefixes = {name: _texts(members, name, words, found, single=words.of_token) for name in PREFIXES}
    _read_first(root, prefixes, has_patterns, words, found)
    if has_prefixes and has_patterns:
        found.refuse(
            "mixed-forms",
            f"`{words.prefix}put` or `get` beside `publish` or `subscribe`",
            "use one form for both roles",
            SECOND,
        )
        found.note("mixed-forms", "`publish` and `subscribe` are ignored beside `put` or `get`", "", FIRST)
        return
    if has_patterns:
        texts = {name: _texts(members, name, words, found, SECOND) for name in ROLES}
        read = {name: _patterns(name, values, words, found) for name, values in texts.items()}
    else:
        read = {role: _subtrees(name, prefixes[name], words, found) for role, name in zip(ROLES, PREFIXES, strict=True)}
    _read_second(root, read, words, found)


def _read_first(
    root: str,
    prefixes: Mapping[str, Sequence[str] | None],
    has_patterns: bool,  # noqa: FBT001
    words: Words,
    found: Findings,
) -> None:
    base = paths.normalize(root)
    whole = {
        role: [paths.join(base, paths.normalize(text)) for text in prefixes[name] or ()]
        for role, name in zip(ROLES, PREFIXES, strict=True)
    }
    if not any(whole.values()) and None not in prefixes.values():
        if has_patterns:
            found.refuse(
                "patterns",
                f"{words.useless}: `{words.prefix}publish` and `subscribe` are patterns, and ignored",
                "grant subtrees only (`alice/**`), or use relays from 0.15 on",
                FIRST,
            )
        else:
            found.refuse("useless", words.useless, "grant a path to publish or to subscribe to", FIRST)
    for role, grants in whole.items():
        found.grant(FIRST, role, (f"{grant}/**" if grant else "**" for grant in grants))
    starred = [name for name in PREFIXES if any("*" in text for text in prefixes[name] or ())]
    for name in [*starred, *(["root"] if "*" in root else [])]:
        found.note("star", f"`*` in `{words.prefix}{name}` is an ordinary character, not a pattern", "", FIRST)


def _read_second(root: str, read: Mapping[str, Sequence[Pattern] | None], words: Words, found: Findings) -> None:
    if None in read.values():
        return
    patterns = [pattern for values in read.values() for pattern in values or ()]
    if not patterns:
        found.refuse("useless", words.useless, "grant a path to publish or to subscribe to", SECOND)
        return
    base, rooted = paths.normalize(root), True
    for role, values in read.items():
        try:
            union = Patterns(values or ())
            found.grant(SECOND, role, map(str, union.rooted(base) if base else union))
        except InvalidPatternError as error:
            if error.reason == "too-many-patterns":
                found.refuse("too-many-patterns", f"{error}", "grant fewer patterns", SECOND)
                return
            rooted = False
            found.grant(SECOND, role, (paths.join(base, str(pattern)) for pattern in values or ()))
    if not rooted:
        what = "a root with `*`" if "*" in base else f"a root that makes paths of more than {MAX_SEGMENTS} segments"
        code = "star" if "*" in base else "too-deep"
        if words.of_token:
            found.note(code, f"{what}: it grants nothing to a client that dials above it", "dial the root", SECOND)
        else:
            found.refuse(code, f"{what}: every token of this key is refused", words.fix, SECOND)


def _texts(
    members: Mapping[str, object],
    name: str,
    words: Words,
    found: Findings,
    *generations: Generation,
    single: bool = False,
) -> Sequence[str] | None:
    """Return the strings of a member, or None where relays refuse its type."""
    value = members.get(name, [])
    if single and isinstance(value, str):
        return [value]
    if isinstance(value, list) and all(isinstance(text, str) for text in value):
        return value
    kind = "a string or a list of strings" if single else "a list of strings"
    found.refuse("bad-type", f"{words.member} `{words.prefix}{name}` must be {kind}", words.fix, *generations)
    return None


def _patterns(name: str, texts: Sequence[str] | None, words: Words, found: Findings) -> list[Pattern] | None:
    if texts is None:
        return None
    read = []
    for text in texts:
        try:
            read.append(Pattern(text))
        except InvalidPatternError as error:
            message = f"`{words.prefix}{name}`: {error}"
            found.refuse("bad-pattern", message, "write segments joined by single slashes, such as `cam*/hd`", SECOND)
            return None
    return read


def _subtrees(name: str, texts: Sequence[str] | None, words: Words, found: Findings) -> list[Pattern] | None:
    """Read path prefixes as relays from 0.15 on do: each is the pattern of a subtree."""
    if texts is None:
        return None
    read = []
    for text in texts:
        try:
            pattern = Pattern.subtree(text)
        except InvalidPatternError as error:
            if "*" in text:
                message = f"`*` in `{words.prefix}{name}`: {shown(text)}"
                found.refuse("star", message, "write patterns in `publish` and `subscribe`", SECOND)
            else:
                code = "too-deep" if error.reason == "too-many-segments" else "bad-pattern"
                found.refuse(code, f"`{words.prefix}{name}`: {error}", "grant a shorter path", SECOND)
            return None
        if pattern.is_literal:
            message = f"`{words.prefix}{name}` has a path of {MAX_SEGMENTS} segments, which is read as that one path"
            found.note("exact-32", message, "grant a shorter path for what lies beneath", SECOND)
        read.append(pattern)
    return read
