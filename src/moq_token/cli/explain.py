"""The command that says why a token is or is not good for something, check by check."""

from __future__ import annotations

import contextlib
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
    UnauthorizedError,
    shown,
)
from moq_token.unverified import UnverifiedToken, read_unverified

if TYPE_CHECKING:
    from moq_token.auth import Grant
    from moq_token.claims import Permissions
    from moq_token.key import Key

# The checks in the order in which a relay makes them, and the codes of the refusals that each can end in.
_CHECKS = {
    "token": ("token-expected", "bad-url"),
    "readable": ("malformed",),
    "key": ("unknown-key", "no-key-source", "kid-missing", "bad-kid"),
    "algorithm": ("wrong-algorithm",),
    "signature": ("bad-signature",),
    "claims": ("bad-claims",),
    "time": ("expired", "not-yet-valid"),
    "grants": ("useless",),
    "scope": ("scope-exceeded",),
    "root": ("root-mismatch",),
    "path": ("no-access",),
}
# What mends a refusal whose details do not matter.
_FIXES = {
    "token-expected": "dial with a token, ?jwt=…, or what is public without one",
    "bad-url": "dial a URL such as https://relay.example.com/rooms/123?jwt=…",
    "malformed": "copy the whole token: three parts, two dots, nothing around them",
    "unknown-key": "give the key that signed it, or publish that key under this id",
    "no-key-source": "name the key in the configuration: `key`, `key_dir` or `auth_api`",
    "kid-missing": "sign with a key that has an id, as `generate` makes them",
    "bad-kid": "sign with a key whose id is 1 to 128 characters of A-Z a-z 0-9 - _",
    "wrong-algorithm": "give the key that signed it: the key alone decides the algorithm",
    "bad-signature": "give the key that signed it; if this is the key, the token was changed on its way",
    "bad-claims": "sign it with this program, or with one of the originals",
}
# A difference that is rather one of clocks than of intentions, in seconds.
_CLOCKS_DIFFER = 300


class Explanation(NamedTuple):
    """What became of the checks: all were passed, or all before ``failed``."""

    permissions: Permissions | Grant | None = None
    failed: str | None = None
    reason: str | None = None
    message: str = ""
    fix: str = ""


@command(
    "explain",
    short_help="Say whether a relay would admit a token, and why.",
    examples=(
        "explain --key public.jwk --path /rooms/123 < alice.jwt",
        "explain --key keys/ --path /rooms/123 --publish alice/camera --json < alice.jwt",
        "explain --config relay.toml - < url.txt  # the URL that a client dials, token and all",
    ),
)
@click.argument("token", required=False, metavar="[TOKEN|URL]")
@options.token_file
@options.keys
@click.option("--path", metavar="PATH", help="Path that the client dials.")
@click.option(
    "--config", type=options.FILE, metavar="FILE", help="TOML of a relay, to ask it about a URL, not a token."
)
@click.option("--publish", metavar="BROADCAST", help="Ask whether this may be published there.")
@click.option("--subscribe", metavar="BROADCAST", help="Ask whether this may be subscribed to there.")
@options.as_json
def explain_command(
    token: str | None,
    token_file: str | None,
    key: str | None,
    path: str | None,
    config: str | None,
    publish: str | None,
    subscribe: str | None,
    as_json: bool,
) -> int:
    """Say whether a relay would admit a token at a path, and why, check by check; exit 0 for yes, 1 for no.

    Of what is refused, the first check that failed is named, with what would mend it.
    """
    if config is not None:
        if key is not None or path is not None:
            raise click.UsageError("--config says which key, and the URL which path: leave --key and --path out")
        url = keyring.read_token(token, token_file)
        found = explain_connection(config, url, publish, subscribe, time.time())
    elif path is None:
        raise click.UsageError("say what the client dials: --path /rooms/123, or --config relay.toml and a URL")
    else:
        where = keyring.source(key)
        text = keyring.read_token(token, token_file, where)
        found = explain(keyring.read_keys(where), text, path, publish, subscribe, time.time())
    output.emit(output.json_text(_members(found), pretty=output.to_terminal(sys.stdout)) if as_json else _lines(found))
    return int(found.failed is not None)


def explain(
    keys: keyring.Keys, token: str, path: str, publish: str | None, subscribe: str | None, now: float
) -> Explanation:
    """Check a token as a relay does; ``now`` is in Unix seconds. Raises nothing of the token's fault."""
    if not token:
        return Explanation(None, "token", "token-expected", "there is no token", _FIXES["token-expected"])
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
    return _asked(permissions, path, publish, subscribe)


def explain_connection(config: str, url: str, publish: str | None, subscribe: str | None, now: float) -> Explanation:
    """Say what a relay with this TOML decides about a dialed URL; ``now`` is in Unix seconds.

    Raises :class:`UnavailableError` where its keys cannot be had, and :class:`ConfigError`.
    """
    from moq_token.auth import Connection
    from moq_token.cli.relay import authenticate

    try:
        connection, grant = authenticate(config, url)
    except RefusedError as error:
        unverified = None
        with contextlib.suppress(RefusedError):
            token = Connection.from_url(url).token
            unverified = None if token is None else read_unverified(token)
        failed = next(check for check, reasons in _CHECKS.items() if error.reason in reasons)
        return Explanation(None, failed, error.reason, str(error), _fix(error, unverified, None, now))
    return _asked(grant, connection.path, publish, subscribe)


def _asked(granted: Permissions | Grant, path: str, publish: str | None, subscribe: str | None) -> Explanation:
    """Answer the question about a broadcast, where there is one."""
    for role, broadcast, allowed, prefixes in (
        ("publish", publish, granted.can_publish, granted.publish),
        ("subscribe", subscribe, granted.can_subscribe, granted.subscribe),
    ):
        if broadcast is not None and not allowed(broadcast):
            verb = role if role == "publish" else "subscribe to"
            message = f"at {_dialed(path)} nothing lets the client {verb} {shown(paths.normalize(broadcast))}"
            fix = f"granted there: {listed(prefixes)}; a token with --{role} for it would be needed"
            return Explanation(granted, "path", "no-access", message, fix)
    return Explanation(granted)


def _fix(error: RefusedError, unverified: UnverifiedToken | None, key: Key | None, now: float) -> str:
    """Say what would mend it."""
    claims = {} if unverified is None else unverified.claims
    match error:
        case ExpiredTokenError(expires=expires):
            ago = now - expires
            cure = "compare the clocks, and sign for longer" if ago < _CLOCKS_DIFFER else "sign a new token"
            return f"expired {times.span(ago)} ago ({times.utc(expires)}): {cure}"
        case NotYetValidTokenError(not_before=begin):
            return f"valid in {times.span(begin - now)} ({times.utc(begin)}): wait, or compare the clocks"
        case ScopeExceededError():
            return f"the scope of the key allows {_scope(key)}: sign for less, or with another key"
        case UnauthorizedError(reason="root-mismatch"):
            return f"dial {_dialed(str(claims.get('root', '')))}, or something beneath it"
    return _FIXES.get(error.reason) or f"it grants {_grants(claims)}"


def _scope(key: Key | None) -> str:
    if key is None or key.scope is None:
        return "less"
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
