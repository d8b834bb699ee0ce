"""The command that says whether a relay would admit a token, and why, from the record of the decision."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from moq_token import path as paths
from moq_token.cli import foreign, keyring, options, output, pasted, refusals
from moq_token.cli.grammar import command
from moq_token.cli.lint import finding_members
from moq_token.cli.refusals import listed
from moq_token.cli.tokens import ROLES
from moq_token.errors import ConfigError, NotAdmittedError, RefusedError, UnauthorizedError, shown
from moq_token.generations import Generation
from moq_token.lint import Finding, read_token
from moq_token.trace import Trace
from moq_token.unverified import read_unverified

if TYPE_CHECKING:
    from moq_token.auth import Grant
    from moq_token.claims import Permissions, Scope

_MAX_OTHERS = 5
_SUBJECTS = ("sub", "jti")


class Explanation(NamedTuple):
    """The record of a decision: what was granted, or the message and the fix; and the unverified claims.

    ``relays`` says which relays decide so, where a configuration was asked. ``others`` is what the other generation of
    relays makes of a token, where that is another answer.
    """

    trace: Trace
    claims: dict[str, object]
    grant: Grant | Permissions | None = None
    message: str = ""
    fix: str = ""
    relays: str = ""
    others: tuple[Finding, ...] = ()


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
    help="TOML of a relay or of `serve`; then a URL is expected, not a token.",
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

    A key decides as relays before 0.15 do, and a note says where relays from 0.15 on would decide otherwise. For a
    configuration, the answer says which relays it is about.
    """
    if config is not None:
        if key is not None or path is not None:
            raise click.UsageError("--config names the key, and the URL the path: remove --key and --path")
        url = keyring.read_token(token, token_file).strip("\"'<>` ")
        found = explain_connection(config, url, publish, subscribe, time.time())
    elif path is None:
        raise click.UsageError("missing path: add --path /rooms/123, or --config relay.toml and a URL")
    else:
        where = keyring.source(key)
        text, around = pasted.find(keyring.read_token(token, token_file, where))
        if around is not None:
            output.note(f"ignored the text around the token: {around}")
        now = time.time()
        found = explain(keyring.read_keys(where), text, path, publish, subscribe, now)
        found = found._replace(others=_others(found, text, now))
    output.emit(output.json_text(_members(found), pretty=output.to_terminal(sys.stdout)) if as_json else _lines(found))
    output.note_oddities(refusals.claimed_paths(found.claims))
    for finding in found.others[:_MAX_OTHERS]:
        verb = "refuse" if finding.refused else "read"
        output.note(f"{finding.generation} {verb} this token: {finding}")
    return int(not found.trace.allowed)


def explain(
    keys: keyring.Keys, token: str, path: str, publish: str | None, subscribe: str | None, now: float
) -> Explanation:
    """Check a token as a relay does; ``now`` is in Unix seconds. A refusal is part of the explanation.

    Raises ``UnavailableError``, ``Failed`` and ``InvalidKeyError`` where the keys cannot be read.
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

    Raises ``UnavailableError`` where its keys cannot be read, and ``ConfigError``.
    """
    from moq_token.auth import Connection
    from moq_token.auth.remote_config import is_remote
    from moq_token.auth.tables import read_toml
    from moq_token.cli.checked import authenticate, read_config

    document = read_toml(config)
    if "serve" in document:
        found = _explain_request(config, url, publish, subscribe, now)
        return found._replace(relays="relays that ask this auth server")
    if is_remote(document, os.environ):
        found = _explain_rules(document, url, publish, subscribe, now)
        return found._replace(relays=str(Generation.SECOND))
    settings = read_config(document)
    trace, grant, token = Trace(), None, None
    try:
        with trace:
            trace.begin("url")
            connection = Connection.from_url(url, settings.domains)
            token = connection.token
            grant = authenticate(settings, connection, trace)
            _ask(trace, grant, connection.path, publish, subscribe)
        found = Explanation(trace, _claims(token), grant)
    except RefusedError as error:
        found = _refused(trace, grant, error, _claims(token), None, now)
    return found._replace(relays=str(Generation.FIRST), others=_others(found, token, now))


def _explain_rules(
    document: dict[str, Any], url: str, publish: str | None, subscribe: str | None, now: float
) -> Explanation:
    """Say what a relay from 0.15 on decides about a dialed URL by its public rules.

    Raises ``ConfigError``, and ``Failed`` where an auth server decides.
    """
    from moq_token.auth import Connection
    from moq_token.auth.config import in_one_line
    from moq_token.auth.remote_check import check_settings
    from moq_token.claims import Claims

    settings, findings = check_settings(document, os.environ)
    if refused := [str(finding) for finding in findings if finding.refused]:
        raise ConfigError(in_one_line(refused))
    if settings.url is not None:
        raise output.Failed(
            f"{Generation.SECOND} ask the auth server at {output.place(settings.url)}: pass its configuration as "
            "--config, or its key and the path with --key and --path"
        )
    trace, grant, token = Trace(), None, None
    try:
        with trace:
            trace.begin("url")
            connection = Connection.from_url(url)
            token = connection.token
            trace.begin("public")
            if token is not None:
                raise NotAdmittedError("there is a token, but no auth server to verify it", reason="no-key-source")
            grant = Claims("", settings.publish, settings.subscribe).authorize(connection.path)
            _ask(trace, grant, connection.path, publish, subscribe)
    except RefusedError as error:
        found = _refused(trace, grant, error, _claims(token), None, now)
        if token is None and (seen := _misplaced(url)) is not None:
            found = found._replace(message=f"{found.message}; {seen}")
        return found
    return Explanation(trace, {}, grant)


def _others(found: Explanation, token: str | None, now: float) -> tuple[Finding, ...]:
    """Return why relays from 0.15 on decide otherwise about a token than the relays before them."""
    if token is None or "signature" not in found.trace.passed:
        return ()
    _, second = read_token(token, now=now)
    if found.trace.allowed and second.refused:
        return tuple(finding for finding in second.findings if finding.refused)
    if found.trace.reason == "useless" and not second.refused:
        granted = ", ".join((*second.publish, *second.subscribe)[:_MAX_OTHERS])
        return (Finding("patterns", Generation.SECOND, f"it grants patterns ({granted})", refused=False),)
    return ()


def _explain_request(config: str, url: str, publish: str | None, subscribe: str | None, now: float) -> Explanation:
    """Say what an auth server with this TOML answers when a relay asks it about a dialed URL."""
    from moq_token.cli.asking import ask, request_of
    from moq_token.cli.serve import needs_server

    needs_server()
    from moq_token.server.identity import presented

    trace, grant, token = Trace(), None, None
    try:
        with trace:
            trace.begin("url")
            request = request_of(url)
            token = presented(request)
            grant = ask(config, request, trace)
            _ask(trace, grant, request.path, publish, subscribe)
    except RefusedError as error:
        found = _refused(trace, grant, error, _claims(token), None, now)
        if token is None and (seen := _misplaced(url)) is not None:
            found = found._replace(message=f"{found.message}; {seen}")
    else:
        found = Explanation(trace, _claims(token), grant)
    # Bans and limits read them.
    return found._replace(claims={name: value for name, value in found.claims.items() if name not in _SUBJECTS})


def _misplaced(url: str) -> str | None:
    """Say where in a URL a token is that no relay reads, without quoting it; None where there is none."""
    from moq_token.auth import Connection

    with contextlib.suppress(RefusedError):
        return Connection.from_url(url).misplaced
    return None


def _ask(trace: Trace, grant: Grant | Permissions, path: str, publish: str | None, subscribe: str | None) -> None:
    """Answer the question about a broadcast, if one was asked."""
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
    """Read the claims, unverified, for the notes."""
    with contextlib.suppress(RefusedError):
        return read_unverified(token or "").claims
    return {}


def _ignored(claims: dict[str, object]) -> list[str]:
    """Name the claims that relays ignore. Patterns are reported elsewhere, in the verdict or in a note."""
    return foreign.ignored(claims, also_read=ROLES if refusals.has_patterns(claims) else ())


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
        "ignored": _ignored(found.claims),
        "relays": found.relays or str(Generation.FIRST),
        "others": finding_members(found.others),
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
    if unread := _ignored(found.claims):
        lines.append(output.printable(f"ignored     {', '.join(unread)}"))
    if found.relays:
        lines.append(f"answer for  {found.relays}")
    if found.fix:
        lines.append(output.printable(f"fix: {found.fix}"))
    return "\n".join(lines)
