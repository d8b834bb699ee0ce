"""The command that says why a token is or is not good for something, check by check."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, NamedTuple

import click

from moq_token import path as paths
from moq_token.cli import keyring, options, output, times
from moq_token.cli.grammar import command
from moq_token.cli.tokens import full_paths, listed
from moq_token.errors import (
    ExpiredTokenError,
    KeyOperationError,
    NotYetValidTokenError,
    RefusedError,
    ScopeExceededError,
    shown,
)
from moq_token.unverified import UnverifiedToken, read_unverified

if TYPE_CHECKING:
    from moq_token.claims import Permissions
    from moq_token.key import Key

# The checks in the order in which a relay makes them, and the codes of the refusals that each can end in.
_CHECKS = {
    "readable": ("malformed",),
    "key": ("unknown-key",),
    "algorithm": ("wrong-algorithm",),
    "signature": ("bad-signature",),
    "claims": ("bad-claims",),
    "time": ("expired", "not-yet-valid"),
    "grants": ("useless",),
    "scope": ("scope-exceeded",),
    "root": ("root-mismatch",),
    "path": ("no-access",),
}
# A difference that is rather one of clocks than of intentions, in seconds.
_CLOCKS_DIFFER = 300


class Explanation(NamedTuple):
    """What became of the checks: all were passed, or all before ``failed``."""

    permissions: Permissions | None = None
    failed: str | None = None
    reason: str | None = None
    message: str = ""
    fix: str = ""


@command(
    "explain",
    examples=(
        "explain --key public.jwk --path /rooms/123 < alice.jwt",
        "explain --key keys/ --path /rooms/123 --publish alice/camera --json < alice.jwt",
    ),
)
@options.token_argument
@options.token_file
@options.keys
@click.option("--path", required=True, metavar="PATH", help="Path that the client dials.")
@click.option("--publish", metavar="BROADCAST", help="Ask whether this may be published there.")
@click.option("--subscribe", metavar="BROADCAST", help="Ask whether this may be subscribed to there.")
@options.as_json
def explain_command(
    token: str | None,
    token_file: str | None,
    key: str | None,
    path: str,
    publish: str | None,
    subscribe: str | None,
    as_json: bool,
) -> int:
    """Say whether a relay would admit a token at a path, and why, check by check; exit 0 for yes, 1 for no.

    Of what is refused, the first check that failed is named, with what would mend it.
    """
    where = keyring.source(key)
    text = keyring.read_token(token, token_file, where)
    found = explain(keyring.read_keys(where), text, path, publish, subscribe, time.time())
    output.emit(output.json_text(_members(found), pretty=output.to_terminal(sys.stdout)) if as_json else _lines(found))
    return int(found.failed is not None)


def explain(
    keys: keyring.Keys, token: str, path: str, publish: str | None, subscribe: str | None, now: float
) -> Explanation:
    """Check a token as a relay does; ``now`` is in Unix seconds. Raises nothing of the token's fault."""
    unverified: UnverifiedToken | None = None
    key: Key | None = None
    try:
        unverified = read_unverified(token)
        key = keyring.key_for(keys, token)
        claims = key.verify(token, now=now)
        permissions = claims.authorize(path)
    except KeyOperationError as error:
        return Explanation(None, "key", "unknown-key", str(error), "use a key whose `key_ops` hold `verify`")
    except RefusedError as error:
        failed = next(check for check, reasons in _CHECKS.items() if error.reason in reasons)
        return Explanation(None, failed, error.reason, str(error), _fix(error, unverified, key, now))
    for role, broadcast, allowed, granted in (
        ("publish", publish, permissions.can_publish, permissions.publish),
        ("subscribe", subscribe, permissions.can_subscribe, permissions.subscribe),
    ):
        if broadcast is not None and not allowed(broadcast):
            verb = role if role == "publish" else "subscribe to"
            message = f"at {_dialed(path)} the token lets nobody {verb} {shown(paths.normalize(broadcast))}"
            fix = f"it grants there: {listed(granted)}; sign one with --root {shown(claims.root)} --{role} …"
            return Explanation(permissions, "path", "no-access", message, fix)
    return Explanation(permissions)


def _fix(  # noqa: PLR0911 - one for each refusal
    error: RefusedError, unverified: UnverifiedToken | None, key: Key | None, now: float
) -> str:
    """Say what would mend it."""
    match error:
        case ExpiredTokenError(expires=expires):
            ago = now - expires
            cure = "compare the clocks, and sign for longer" if ago < _CLOCKS_DIFFER else "sign a new token"
            return f"expired {times.span(ago)} ago ({times.utc(expires)}): {cure}"
        case NotYetValidTokenError(not_before=begin):
            return f"valid in {times.span(begin - now)} ({times.utc(begin)}): wait, or compare the clocks"
        case ScopeExceededError():
            return f"the scope of the key allows {_scope(key)}: sign for less, or with another key"
    assert unverified is not None or error.reason == "malformed"  # noqa: S101 - what is readable has been read
    claims = {} if unverified is None else unverified.claims
    match error.reason:
        case "malformed":
            return "copy the whole token: three parts, two dots, nothing around them"
        case "unknown-key":
            return "give the key that signed it, or publish that key under this id"
        case "wrong-algorithm":
            return "give the key that signed it: the key alone decides the algorithm"
        case "bad-signature":
            return "give the key that signed it; if this is the key, the token was changed on its way"
        case "bad-claims":
            return "sign it with this program, or with one of the originals"
        case "root-mismatch":
            return f"dial {_dialed(str(claims.get('root', '')))}, or something beneath it"
        case _:
            return f"it grants {_grants(claims)}"


def _scope(key: Key | None) -> str:
    assert key is not None and key.scope is not None  # noqa: S101, PT018 - or nothing would exceed it
    scope = key.scope
    return _roles(scope.root, scope.publish, scope.subscribe)


def _grants(claims: dict[str, object]) -> str:
    return _roles("", tuple(full_paths(claims, "put")), tuple(full_paths(claims, "get")))


def _roles(root: str, publish: tuple[str, ...], subscribe: tuple[str, ...]) -> str:
    base = paths.normalize(root)
    whole = [[paths.join(base, paths.normalize(prefix)) for prefix in prefixes] for prefixes in (publish, subscribe)]
    return f"publishing {listed(whole[0], full=True)}, subscribing to {listed(whole[1], full=True)}"


def _dialed(path: str) -> str:
    return shown(f"/{paths.normalize(path)}")


def _checks(found: Explanation) -> dict[str, bool | None]:
    """Give every check its outcome; None is what was not reached."""
    outcomes: dict[str, bool | None] = {}
    outcome: bool | None = True
    for check in _CHECKS:
        if check == found.failed:
            outcome = False
        outcomes[check] = outcome
        if outcome is False:
            outcome = None
    return outcomes


def _members(found: Explanation) -> dict[str, object]:
    allowed = found.failed is None
    permissions = found.permissions
    return {
        "allowed": allowed,
        "checks": _checks(found),
        "failed": found.failed,
        "reason": found.reason,
        "message": None if allowed else found.message,
        "fix": None if allowed else found.fix,
        "permissions": None
        if permissions is None
        else {"publish": permissions.publish, "subscribe": permissions.subscribe},
    }


def _lines(found: Explanation) -> str:
    words = {True: ("yes", "green"), False: ("NO", "red"), None: ("not reached", "yellow")}
    lines = [f"{check:<11}{output.paint(*words[outcome], sys.stdout)}" for check, outcome in _checks(found).items()]
    if found.failed is None:
        assert found.permissions is not None  # noqa: S101 - all checks were passed
        publish, subscribe = map(listed, (found.permissions.publish, found.permissions.subscribe))
        lines.append(output.printable(f"allowed    may publish {publish}; may subscribe to {subscribe}"))
    else:
        lines += [f"refused    {output.printable(found.message)}", f"to mend    {output.printable(found.fix)}"]
    return "\n".join(lines)
