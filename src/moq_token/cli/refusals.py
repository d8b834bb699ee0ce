"""Messages of the commands for a refused token or connection, and what to do about it."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from moq_token import path as paths
from moq_token.claims.wire import KNOWN
from moq_token.cli import foreign, times
from moq_token.errors import (
    ExpiredTokenError,
    InvalidPatternError,
    NotYetValidTokenError,
    RefusedError,
    ScopeExceededError,
    shown,
    utc,
)
from moq_token.pattern import Pattern

if TYPE_CHECKING:
    from collections.abc import Iterable

    from moq_token.claims import Scope

# What to do about a refusal, where it does not depend on the details.
_FIXES = {
    "token-expected": "dial with ?jwt=TOKEN, or dial a public path",
    "bad-url": "dial a URL such as https://relay.example.com/rooms/123?jwt=TOKEN",
    "malformed": "copy the whole token: three parts and two dots, nothing around them",
    "unknown-key": "use the key that signed the token, or publish its public half under this id",
    "no-key-source": "set `key`, `key_dir` or `auth_api` in the configuration",
    "no-access": "dial another path, or dial with ?jwt=TOKEN",
    "no-public-grant": "dial with ?jwt=TOKEN, or set `public_publish` and `public_subscribe`",
    "kid-missing": "sign with a key that has an id, as `generate` makes them",
    "bad-kid": "sign with a key whose id is 1 to 128 characters of A-Z a-z 0-9 - _",
    "wrong-algorithm": "use the key that signed the token: the key decides the algorithm",
    "bad-signature": "use the key that signed the token; if this is the key, the token was changed",
    "bad-claims": "sign the token with `moq-token sign`, or correct the claim",
}
# A smaller difference, in seconds, is more likely one between clocks.
_CLOCKS_DIFFER = 300
_PREFIXES, _ROLES = frozenset(("put", "get")), frozenset(("publish", "subscribe"))


def told(error: Exception, now: float) -> str:
    """Return the message of an error, with the time from now where it is about times."""
    if isinstance(error, ExpiredTokenError):
        return f"the token expired {times.span(now - error.expires)} ago, at {utc(error.expires)}"
    if isinstance(error, NotYetValidTokenError):
        return f"the token is valid in {times.span(error.not_before - now)}, from {utc(error.not_before)} on"
    return str(error)


def line(error: RefusedError, now: float) -> str:
    """Return the verdict of a refusal: its reason code and its message."""
    return f"refused: {error.reason}: {told(error, now)}"


def fix(error: RefusedError, claims: dict[str, object], scope: Scope | None, now: float) -> str:
    """Say what to do about a refusal of a token with these unverified claims, by a key with this scope."""
    match error:
        case ExpiredTokenError(expires=expires):
            soon = now - expires < _CLOCKS_DIFFER
            advice = "sign for longer, or compare the clocks" if soon else "sign a new token"
        case NotYetValidTokenError():
            advice = "wait, or compare the clocks"
        case ScopeExceededError():
            allowed = "" if scope is None else f", which allows {roles(scope.root, scope.publish, scope.subscribe)}"
            advice = f"grant less, or sign with another key: stay within the scope of the key{allowed}"
        case RefusedError(reason="useless") if has_patterns(claims):
            advice = "grant subtrees only (`alice/**`), or use relays from 0.15 on"
        case RefusedError(reason="useless"):
            unread = foreign.ignored(claims)
            also = f"; the token has {', '.join(unread)}, which relays ignore" if unread else ""
            advice = f"sign with --publish or --subscribe{also}"
        case RefusedError(reason="root-mismatch"):
            root = claims.get("root", "")
            advice = f"dial {dialed(root if isinstance(root, str) else '')}, or a path beneath it"
        case RefusedError(reason="no-access") if claims:
            granted = roles("", granted_by(claims, "publish"), granted_by(claims, "subscribe"))
            advice = f"dial a path that the token covers: it grants {granted}"
        case _:
            advice = _FIXES.get(error.reason, "sign another token")
    return advice


def roles(root: str, publish: Iterable[str | Pattern], subscribe: Iterable[str | Pattern]) -> str:
    """Write what is granted in both roles, as full paths."""
    base = paths.normalize(root)
    whole = [
        [paths.join(base, paths.normalize(grant) if isinstance(grant, str) else _pattern(grant)) for grant in grants]
        for grants in (publish, subscribe)
    ]
    return f"publishing {listed(whole[0], full=True)}, subscribing to {listed(whole[1], full=True)}"


def dialed(path: str) -> str:
    """Quote a path as it is dialed."""
    return shown(f"/{paths.normalize(path)}")


def granted_by(claims: dict[str, object], role: str) -> list[str | Pattern]:
    """Return what an unverified token grants in one role, as full paths and patterns. Invalid patterns are left out."""
    root = claims.get("root")
    base = paths.normalize(root) if isinstance(root, str) else ""
    if not only_patterns(claims):
        prefixes = _strings(claims.get({"publish": "put", "subscribe": "get"}[role]))
        return [paths.join(base, paths.normalize(prefix)) for prefix in prefixes]
    granted: list[str | Pattern] = []
    for pattern in _patterns(claims, role):
        with contextlib.suppress(InvalidPatternError):
            whole = pattern.rooted(base)
            granted.append(whole if whole.prefix is None else whole.prefix)
    return granted


def only_patterns(claims: dict[str, object]) -> bool:
    """Whether an unverified token grants patterns, and nothing that relays before 0.15 read."""
    return _PREFIXES.isdisjoint(claims) and not _ROLES.isdisjoint(claims)


def has_patterns(claims: dict[str, object]) -> bool:
    """Whether an unverified token is one of patterns, and not of another software that uses the same names."""
    lists = [claims[role] for role in _ROLES & claims.keys()]
    return only_patterns(claims) and claims.keys() <= KNOWN and all(isinstance(each, list) for each in lists)


def claimed_paths(claims: dict[str, object]) -> dict[str, list[str | Pattern]]:
    """Return the paths and patterns of an unverified token as they are written, by the claim that holds them."""
    found: dict[str, list[str | Pattern]] = {name: [*_strings(claims.get(name))] for name in ("root", "put", "get")}
    if only_patterns(claims):
        found |= {role: [*_patterns(claims, role)] for role in ("publish", "subscribe")}
    return found


def _patterns(claims: dict[str, object], role: str) -> list[Pattern]:
    found = []
    for text in _strings(claims.get(role)):
        with contextlib.suppress(InvalidPatternError):
            found.append(Pattern(text))
    return found


def _strings(value: object) -> list[str]:
    values = value if isinstance(value, list) else [value]
    return [each for each in values if isinstance(each, str)]


def listed(grants: Iterable[str | Pattern], *, full: bool = False) -> str:
    """Write grants as people read them, as ``full`` paths or relative to a path."""
    everything = "everything" if full else "everything there"
    words = (grant or everything if isinstance(grant, str) else _pattern(grant) for grant in grants)
    return ", ".join(words) or "nothing"


def _pattern(pattern: Pattern) -> str:
    """Write a pattern, marking one that matches a single path."""
    return f"{pattern} (that path only)".lstrip() if pattern.is_literal else str(pattern)
