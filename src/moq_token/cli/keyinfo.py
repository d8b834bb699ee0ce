"""How keys are shown: what they are, what their scope allows and which relays can load them; never their secret."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from moq_token.claims.grants import all_subtrees
from moq_token.claims.wire import scope_members
from moq_token.cli import grants, refusals
from moq_token.generations import Generation
from moq_token.pattern import Pattern

if TYPE_CHECKING:
    from moq_token import Key, Scope


def members(key: Key) -> dict[str, object]:
    """Return the properties of a key, except its id, as members for JSON."""
    return {
        "algorithm": str(key.algorithm),
        "half": half(key),
        "operations": sorted(key.operations),
        "scope": None if key.scope is None else scope(key.scope),
        "needs_relay": needs_relay(key),
    }


def lines(key: Key) -> list[tuple[str, str]]:
    """Return the properties of a key, as labels and texts for people."""
    allowed = key.scope
    return [
        ("key", f"{key.algorithm}, {half(key)}"),
        ("id", "none" if key.kid is None else str(key.kid)),
        ("operations", ", ".join(sorted(key.operations)) or "none"),
        ("scope", "none" if allowed is None else refusals.roles(allowed.root, allowed.publish, allowed.subscribe)),
        *(("relays", text.removeprefix("relays ")) for text in unloadable(key)),
    ]


def half(key: Key) -> str:
    """Say which half of a key it is."""
    return "secret" if key.algorithm.symmetric else "private" if key.is_private else "public"


def scope(allowed: Scope) -> dict[str, object]:
    """Return a scope in the form in which a key has it, with all its members."""
    written = scope_members(allowed)
    roles = ("put", "get") if all_subtrees((*allowed.publish, *allowed.subscribe)) else ("publish", "subscribe")
    return {"root": allowed.root, **{role: written.get(role, []) for role in roles}}


def options(allowed: Scope) -> str:
    """Write a scope as the options that make it."""
    words = ["--root", allowed.root] if allowed.root else []
    for option, permitted in (("--publish", allowed.publish), ("--subscribe", allowed.subscribe)):
        for grant in permitted:
            literal = isinstance(grant, Pattern) and grant.is_literal
            words += [f"{option}-pattern" if literal else option, str(grant)]
    return shlex.join(words)


def needs_relay(key: Key) -> str | None:
    """Return the first version of relays that load the key, or None where all do."""
    return "0.15" if Generation.FIRST in grants.refused_keys(key.scope) else None


def unloadable(key: Key) -> list[str]:
    """Say which relays cannot load the key, and why."""
    return [f"{generation} {why}" for generation, why in grants.refused_keys(key.scope).items()]
