"""What a command line grants: the options for paths and patterns, and which relays read the result."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from moq_token import path as paths
from moq_token.claims.grants import all_subtrees, as_pattern
from moq_token.cli import output
from moq_token.cli.grammar import ParamType
from moq_token.errors import InvalidPatternError, shown
from moq_token.generations import Generation, generation_of
from moq_token.pattern import MAX_SEGMENTS, Pattern
from moq_token.patterns import Patterns
from moq_token.recognizer import what_is_secret

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from moq_token.claims import Claims, Scope
    from moq_token.cli.options import Decorator

_NOTED = 5
ALL_RELAYS = "all"
REFUSE = "refuse this token"
CANNOT_LOAD = "cannot load this key"
PATTERNS = "it has patterns, which relays read from 0.15 on"


class PatternText(ParamType):
    """A pattern, in which text without a wildcard is one broadcast, as in `moq auth`."""

    name = "pattern"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str | Pattern:
        try:
            return Pattern(value)
        except InvalidPatternError as error:
            why = str(error)
            if shown(value) in why and what_is_secret(value) is not None:  # a key in the wrong place is not repeated
                why = "this looks like a key or a token, and not like a pattern"
            raise click.UsageError(f"{param and param.opts[0]}: {why}", ctx) from None


class PathOrPattern(PatternText):
    """A path, which stands for everything beneath it too, or a pattern: a text with a wildcard."""

    name = "path"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str | Pattern:
        return super().convert(value, param, ctx) if "*" in value else value


class RelayVersion(ParamType):
    """A version of moq-relay, as its generation; ``all`` is every generation."""

    name = "version"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> tuple[Generation, ...]:
        if value == ALL_RELAYS:
            return tuple(Generation)
        try:
            return (generation_of(value),)
        except ValueError as error:
            raise click.UsageError(f"{param and param.opts[0]}: {error}, or {ALL_RELAYS}", ctx) from None


def _unique(_: click.Context, __: click.Parameter, given: tuple[tuple[Generation, ...], ...]) -> tuple[Generation, ...]:
    named = {generation for generations in given for generation in generations}
    return tuple(generation for generation in Generation if generation in named)


def relay_option(text: str) -> Decorator:
    """Return the option ``--relay``, which gives a command the generations that it names, each once."""
    return click.option(
        "--relay", "relays", multiple=True, type=RelayVersion(), callback=_unique, metavar="VERSION", help=text
    )


def grant_option(name: str, text: str, *, pattern: bool = False) -> Decorator:
    """Return a repeatable option for paths and patterns, or for patterns only."""
    kind, metavar = (PatternText(), "PATTERN") if pattern else (PathOrPattern(), "PATH")
    return click.option(name, type=kind, multiple=True, metavar=metavar, help=text)


# -- which relays read it


def refused_tokens(claims: Claims) -> dict[Generation, str]:
    """Say which generations of relays refuse a token with these claims, and why."""
    unknown = "remove --cluster: relays from 0.15 on know no such claim" if claims.cluster else None
    return {generation: f"{REFUSE}: {why}" for generation, why in _refused(claims, unknown).items()}


def refused_keys(scope: Scope | None) -> dict[Generation, str]:
    """Say which generations of relays cannot load a key with this scope, or refuse all its tokens, and why."""
    if scope is None:
        return {}
    refused = {generation: f"{CANNOT_LOAD}: {why}" for generation, why in _refused(scope, None).items()}
    if Generation.SECOND not in refused:
        try:
            for grant in (*scope.publish, *scope.subscribe):
                as_pattern(grant, paths.normalize(scope.root))
        except InvalidPatternError as error:
            why = "a root with `*` permits nothing" if "*" in scope.root else f"below its root, {error}"
            refused[Generation.SECOND] = f"refuse every token of this key: {why}"
    return refused


def _refused(value: Claims | Scope, unknown: str | None) -> dict[Generation, str]:
    refused = {}
    if not all_subtrees(value.publish) or not all_subtrees(value.subscribe):
        refused[Generation.FIRST] = PATTERNS
    try:
        for grant in (*value.publish, *value.subscribe):
            as_pattern(grant)
    except InvalidPatternError as error:
        unknown = str(error)
    if unknown is not None:
        refused[Generation.SECOND] = unknown
    return refused


def require(refused: Mapping[Generation, str], relays: Iterable[Generation]) -> None:
    """Raise ``Failed`` if one of the relays that ``--relay`` names is among those that refuse."""
    for generation in relays:
        if generation in refused:
            raise output.Failed(f"{generation} {refused[generation]}")


def note_refused(refused: Mapping[Generation, str], relays: Iterable[Generation]) -> None:
    """Print a note for each generation that refuses, unless the command line names its relays itself."""
    if not tuple(relays):
        for generation, why in refused.items():
            output.note(f"{generation} {why}")


def note_repeated_root(root: str, given: Mapping[str, Iterable[str | Pattern]]) -> None:
    """Print a note for the first grant of each role that starts with the root, which is likely a mistake."""
    top = paths.normalize(root)
    for option, grants in given.items():
        for path in map(paths.normalize, map(str, grants)):
            meant = paths.strip_prefix(path, top)
            if top and meant is not None and what_is_secret(top) is None:
                granted = shown(paths.join(top, path))
                output.note(
                    f"{option} {shown(path)} is relative to --root, so the token grants {granted}: "
                    f"if that is a mistake, use {option} {shown(meant)}"
                )
                break


def note_full_paths(given: Iterable[str | Pattern], relays: Iterable[Generation]) -> None:
    """Print a note if a path was given that relays from 0.15 on read without what lies beneath it."""
    named = tuple(relays)
    prefixes = (paths.normalize(grant) for grant in given if isinstance(grant, str))
    full = any(prefix.count("/") + 1 == MAX_SEGMENTS for prefix in prefixes)
    if full and (not named or Generation.SECOND in named):
        output.note(
            f"{Generation.SECOND} read a path of {MAX_SEGMENTS} segments as that one broadcast: grant a shorter path "
            "for what lies beneath it"
        )


def note_literals(given: Mapping[str, Iterable[Pattern]]) -> None:
    """Print a note for each pattern that is one broadcast only, with what to write for everything beneath it too."""
    literals = [
        (option, pattern)
        for option, patterns in given.items()
        for pattern in Patterns(patterns)  # without those that another contains
        if pattern.is_literal
    ]
    for option, pattern in literals[:_NOTED]:
        text = str(pattern)
        if not text:
            output.note(f"{option} '' is the root itself, as in `moq auth`: to add all beneath it, use '**'")
        elif len(pattern.head) < MAX_SEGMENTS:
            secret = what_is_secret(text) is not None  # a key in the wrong place is not repeated
            name, subtree = ("this", "PATH/**") if secret else (shown(text), shown(f"{text}/**"))
            output.note(
                f"{option} {name} is that one broadcast, as in `moq auth`: to add all beneath it, use {subtree}"
            )
    if len(literals) > _NOTED:
        output.note(f"{len(literals) - _NOTED} more patterns like these")
