"""The command that says whether a relay would admit a token, and why: a record of the decision itself."""

from __future__ import annotations

import contextlib
import sys
import time
from typing import TYPE_CHECKING, NamedTuple

import click

from moq_token import path as paths
from moq_token.cli import foreign, keyring, options, output, pasted, refusals
from moq_token.cli.grammar import command
from moq_token.cli.refusals import listed
from moq_token.errors import NotAdmittedError, RefusedError, UnauthorizedError, shown
from moq_token.trace import Trace
from moq_token.unverified import read_unverified

if TYPE_CHECKING:
    from moq_token.auth import Grant
    from moq_token.claims import Permissions, Scope


class Explanation(NamedTuple):
    """The record of a decision: what was granted, or the message and the fix; and the unverified claims."""

    trace: Trace
    claims: dict[str, object]
    grant: Grant | Permissions | None = None
    message: str = ""
    fix: str = ""


@command(
    "explain",
    short_help="Say whether a relay would admit a token, and why.",
    examples=(
        "explain --key public.jwk --path /rooms/123 < alice.jwt",
        "explain --key keys/ --path /rooms/123 --publish alice/camera --json < alice.jwt",
        "explain --config relay.toml - < url.txt  # the URL that a client dials",
    ),
)
@click.argument("token", required=False, metavar="[TOKEN|URL]")
@options.token_file
@options.keys
@click.option("--path", metavar="PATH", help="Path that the client dials.")
@click.option(
    "--config",
    type=options.FILE,
    metavar="FILE",
    help="TOML of a relay (0.14) or of `serve`; then a URL is expected, not a token.",
)
@click.option("--publish", metavar="BROADCAST", help="Also ask whether this may be published there.")
@click.option("--subscribe", metavar="BROADCAST", help="Also ask whether this may be subscribed to there.")
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
    """Say whether a relay would admit a token at a path, and why.

    The first line is the verdict, with the reason code of a refusal. Then come the checks that were made, in their
    order, and what to do. The exit status is 0 for yes and 1 for no.
    """
    if config is not None:
        if key is not None or path is not None:
            raise click.UsageError("--config names the key, and the URL the path: remove --key and --path")
        url = keyring.read_token(token, token_file).strip("\"'<>` ")
        found = explain_connection(config, url, publish, subscribe, time.time())
    elif path is None:
        raise click.UsageError("missing what the client dials: add --path /rooms/123, or --config relay.toml and a URL")
    else:
        where = keyring.source(key)
        text, around = pasted.find(keyring.read_token(token, token_file, where))
        if around is not None:
            output.note(f"read the token out of what is around it: {around}")
        found = explain(keyring.read_keys(where), text, path, publish, subscribe, time.time())
    output.emit(output.json_text(_members(found), pretty=output.to_terminal(sys.stdout)) if as_json else _lines(found))
    output.note_oddities(refusals.claimed_paths(found.claims))
    return int(not found.trace.allowed)


def explain(
    keys: keyring.Keys, token: str, path: str, publish: str | None, subscribe: str | None, now: float
) -> Explanation:
    """Check a token as a relay does; ``now`` is in Unix seconds. A refusal is part of the explanation.

    Raises :class:`UnavailableError`, :class:`Failed` and :class:`InvalidKeyError` where the keys cannot be read.
    """
    from moq_token.auth import Connection, decide

    verifier = keyring.Verifier(keys)
    trace, grant = Trace(), None
    try:
        with trace:
            if not token:
                trace.begin("form")
                raise NotAdmittedError("there is no token")
            grant = decide(Connection(path, token), key=verifier, now=now, trace=trace)
            _ask(trace, grant, path, publish, subscribe)
    except RefusedError as error:
        scope = None if verifier.key is None else verifier.key.scope
        return _refused(trace, grant, error, _claims(token), scope, now)
    return Explanation(trace, _claims(token), grant)


def explain_connection(config: str, url: str, publish: str | None, subscribe: str | None, now: float) -> Explanation:
    """Say what a relay or an auth server with this TOML decides about a dialed URL; ``now`` is in Unix seconds.

    Raises :class:`UnavailableError` where its keys cannot be read, and :class:`ConfigError`.
    """
    from moq_token.auth import AuthConfig, Connection
    from moq_token.auth.tables import read_toml
    from moq_token.cli.relay import authenticate

    if "serve" in read_toml(config):
        return _explain_request(config, url, publish, subscribe, now)
    settings = AuthConfig.from_toml(config)
    trace, grant, token = Trace(), None, None
    try:
        with trace:
            trace.begin("url")
            connection = Connection.from_url(url, settings.domains)
            token = connection.token
            grant = authenticate(settings, connection, trace)
            _ask(trace, grant, connection.path, publish, subscribe)
    except RefusedError as error:
        return _refused(trace, grant, error, _claims(token), None, now)
    return Explanation(trace, _claims(token), grant)


def _explain_request(config: str, url: str, publish: str | None, subscribe: str | None, now: float) -> Explanation:
    """Say what an auth server with this TOML answers when a relay asks it about a dialed URL."""
    from moq_token.cli.asking import ask, request_of
    from moq_token.server.policy import presented

    trace, grant, token = Trace(), None, None
    try:
        with trace:
            trace.begin("url")
            request = request_of(url)
            token = presented(request)
            grant = ask(config, request, trace)
            _ask(trace, grant, request.path, publish, subscribe)
    except RefusedError as error:
        return _refused(trace, grant, error, _claims(token), None, now)
    return Explanation(trace, _claims(token), grant)


def _ask(trace: Trace, grant: Grant | Permissions, path: str, publish: str | None, subscribe: str | None) -> None:
    """Answer the question about a broadcast, if there is one."""
    for role, broadcast, allowed, prefixes in (
        ("publish", publish, grant.can_publish, grant.publish),
        ("subscribe", subscribe, grant.can_subscribe, grant.subscribe),
    ):
        if broadcast is None:
            continue
        trace.begin("broadcast")
        if not allowed(broadcast):
            verb = role if role == "publish" else "subscribe to"
            message = f"at {refusals.dialed(path)} the client must not {verb} {shown(paths.normalize(broadcast))}"
            raise _NotCoveredError(message, f"sign with --{role} for it; granted there: {listed(prefixes)}")


class _NotCoveredError(UnauthorizedError):
    """The client is admitted, but not for the broadcast that was asked about."""

    def __init__(self, message: str, fix: str) -> None:
        super().__init__(message)
        self.fix = fix


def _refused(
    trace: Trace,
    grant: Grant | Permissions | None,
    error: RefusedError,
    claims: dict[str, object],
    scope: Scope | None,
    now: float,
) -> Explanation:
    fix = error.fix if isinstance(error, _NotCoveredError) else refusals.fix(error, claims, scope, now)
    return Explanation(trace, claims, grant, refusals.told(error, now), fix)


def _claims(token: str | None) -> dict[str, object]:
    """Read the claims for the notes, whoever wrote them."""
    with contextlib.suppress(RefusedError):
        return read_unverified(token or "").claims
    return {}


def _members(found: Explanation) -> dict[str, object]:
    trace, grant = found.trace, found.grant
    return {
        "allowed": bool(trace.allowed),
        "reason": trace.reason,
        "checks": dict.fromkeys(trace.passed, True) | ({} if trace.failed is None else {trace.failed: False}),
        "failed": trace.failed,
        "message": found.message or None,
        "fix": found.fix or None,
        "permissions": None
        if grant is None
        else {"publish": [*map(str, grant.publish)], "subscribe": [*map(str, grant.subscribe)]},
        "ignored": foreign.ignored(found.claims),
    }


def _lines(found: Explanation) -> str:
    trace, grant = found.trace, found.grant
    if grant is not None and trace.allowed:
        verdict = f"may publish {listed(grant.publish)}; may subscribe to {listed(grant.subscribe)}"
        lines = [f"{output.paint('allowed', 'green', sys.stdout)}: {output.printable(verdict)}"]
    else:
        verdict = f"{trace.reason}: {found.message}"
        lines = [f"{output.paint('refused', 'red', sys.stdout)}: {output.printable(verdict)}"]
    lines += [f"{check:<12}{output.paint('yes', 'green', sys.stdout)}" for check in trace.passed]
    if trace.failed is not None:
        lines.append(f"{trace.failed:<12}{output.paint('NO', 'red', sys.stdout)}")
    if unread := foreign.ignored(found.claims):
        lines.append(output.printable(f"ignored     {', '.join(unread)}"))
    if found.fix:
        lines.append(output.printable(f"fix: {found.fix}"))
    return "\n".join(lines)
