"""The commands about tokens: sign and verify."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import click

from moq_token import path as paths
from moq_token.claims import Claims
from moq_token.cli import grants, keyring, options, output, times
from moq_token.cli.grammar import command
from moq_token.encoding import parse_json
from moq_token.errors import RefusedError, shown
from moq_token.generations import Generation
from moq_token.unverified import read_unverified

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from moq_token.cli.options import Decorator
    from moq_token.pattern import Pattern


ROLES = ("publish", "subscribe")

signing_options: Decorator = options.together(
    click.option(
        "--expires", metavar="TIME", help="Lifetime (90s, 15m, 1h, 7d), Unix timestamp, RFC 3339 date, or never."
    ),
    click.option(
        "--not-before", metavar="TIME", help="Start of validity, likewise, or now. Relays before 0.15 ignore it."
    ),
    click.option("--issued", metavar="TIME", help="Time of issue: Unix timestamp, RFC 3339 date, or now."),
    click.option("--subject", metavar="NAME", help="Whom the token is for, to find and revoke it (the claim `sub`)."),
    click.option("--jti", metavar="ID", help="Id of this token, to find and revoke it (the claim `jti`)."),
    # Without effect: 0.1.0 needed it, and scripts may still pass it.
    click.option("--allow-past", is_flag=True, hidden=True),
    click.option(
        "--url", metavar="URL", help="Print the URL to dial: URL of the relay, with the root as path unless it has one."
    ),
    grants.relay_option("Fail if relays of this version (such as 0.14, or all) would refuse the token. Repeatable."),
)
verifying_options: Decorator = options.together(
    options.keys,
    options.token_file,
    click.option(
        *("--path", "--root", "path"), metavar="PATH", help="Dialed path, at which the token must allow something."
    ),
    options.as_json,
)


@command(
    "sign",
    examples=(
        'sign --key root.jwk --root rooms/123 --publish alice --subscribe "" --expires 1h',
        "sign --key root.jwk --root rooms/123 --subscribe '' --expires 7d --url https://relay.example.com",
        "sign --root demo --publish '' --expires 2027-01-31T12:00:00Z  # with MOQ_TOKEN_KEY=root.jwk",
        "sign --key root.jwk --publish 'cam*/hd' --expires 1h --relay 0.17  # a pattern, for relays from 0.15 on",
    ),
    gone={
        "--path": "use --root",
        "--guest": "use --subscribe and --publish",
        "--guest-sub": "use --subscribe",
        "--guest-pub": "use --publish",
        "--publish-force": "use --publish",
    },
    older_key="--key",
)
@options.key
@click.option("--root", default="", metavar="PATH", help="Path that --publish and --subscribe are relative to.")
@grants.grant_option("--publish", 'Path to let publish, with all beneath it; "" for all; or a pattern. Repeatable.')
@grants.grant_option("--subscribe", "The same for subscribing.")
@grants.grant_option("--publish-pattern", "Pattern to let publish; without * it is one broadcast.", pattern=True)
@grants.grant_option("--subscribe-pattern", "The same for subscribing.", pattern=True)
@click.option("--cluster", is_flag=True, help="Mark the node of a relay cluster (for relays before 0.11).")
@signing_options
def sign_command(
    key: str | None,
    root: str,
    publish: tuple[str | Pattern, ...],
    subscribe: tuple[str | Pattern, ...],
    publish_pattern: tuple[Pattern, ...],
    subscribe_pattern: tuple[Pattern, ...],
    cluster: bool,
    expires: str | None,
    not_before: str | None,
    issued: str | None,
    subject: str | None,
    jti: str | None,
    allow_past: bool,  # noqa: ARG001 - see the option
    url: str | None,
    relays: tuple[Generation, ...],
) -> None:
    """Sign a token and print it.

    The token allows what --publish and --subscribe say, beneath --root, until --expires. A path stands for itself and
    everything beneath it. Text with a * is a pattern, such as cam*/hd or rooms/*/chat, which relays read from 0.15 on.

    --key may also be a directory of keys, which signs with its active key, or a JWK Set, which signs with the first key
    that can sign.
    """
    now = time.time()
    claims = Claims(
        root,
        (*publish, *publish_pattern),
        (*subscribe, *subscribe_pattern),
        cluster=cluster,
        expires=None if expires is None else times.expiry(expires, now),
        not_before=None if not_before is None else times.start(not_before, now),
        issued=None if issued is None else times.issue(issued, now),
        subject=subject,
        id=jti,
    )
    _check(claims)
    refused = grants.refused_tokens(claims)
    grants.require(refused, relays)
    before = "" if url is None else dialed(url, claims)
    output.emit(before + keyring.read_signer(keyring.source(key)).sign(claims))
    granted = {"--publish": claims.publish, "--subscribe": claims.subscribe}
    output.note_oddities({"--root": (root,), **granted})
    grants.note_repeated_root(root, granted)
    grants.note_refused(refused, relays)
    grants.note_full_paths((*publish, *subscribe), relays)
    if not_before is not None and tuple(relays) != (Generation.SECOND,):
        output.note(f"{Generation.FIRST} ignore --not-before, and accept the token at once")
    if expires is None:
        output.note("this token never expires: use --expires 1h to limit it, or --expires never to silence this note")
    elif claims.expires is not None and claims.expires <= now:
        past = times.when(claims.expires, now, "expires", "expired")
        output.note(f"this token has already expired, so relays refuse it: it {past}")


def _check(claims: Claims) -> None:
    """Refuse a token that would be useless. Raises ``click.UsageError``."""
    if not claims.publish and not claims.subscribe:
        raise click.UsageError('the token grants nothing: add --publish PATH or --subscribe PATH ("" for everything)')
    if claims.not_before is not None and claims.expires is not None and claims.not_before >= claims.expires:
        raise click.UsageError("--not-before must be earlier than --expires")
    for option, value in (("--subject", claims.subject), ("--jti", claims.id)):
        if value == "":
            raise click.UsageError(f"{option} must not be empty")


def dialed(url: str, claims: Claims) -> str:
    """Return the URL at which a client dials this relay with these claims, ready for the token to follow.

    The path is that of ``url``, or the root of the claims where it has none. Raises ``click.UsageError`` where a
    relay would refuse the URL: relays compare paths as they are in the URL, and do not decode them.
    """
    from urllib.parse import parse_qsl, quote, urlsplit, urlunsplit

    from moq_token.auth import Connection
    from moq_token.auth.connection import PATH_CHARACTERS

    try:
        parts = urlsplit(url)
        good = bool(parts.scheme and parts.hostname) and parts.port != 0  # the property checks the port
        good = good and url.isprintable() and " " not in parts.netloc
    except ValueError:
        parts, good = urlsplit(""), False
    if not good:
        raise click.UsageError("--url must be the URL of a relay, such as https://relay.example.com")
    if parts.username is not None or parts.password is not None:
        raise click.UsageError("--url must have no user name or password: the token authenticates the client")
    if parts.fragment or any(name == "jwt" for name, _ in parse_qsl(parts.query, keep_blank_values=True)):
        raise click.UsageError("--url must have no fragment and no `jwt` parameter: the token is added to it")
    own, root = paths.normalize(parts.path), paths.normalize(claims.root)
    encoded = quote(parts.path if own else f"/{root}", safe=PATH_CHARACTERS)
    query = quote(f"{parts.query}&" if parts.query else "", safe=f"{PATH_CHARACTERS}?")
    made = urlunsplit((parts.scheme, parts.netloc, encoded, f"{query}jwt=", ""))
    try:
        path = paths.normalize(Connection.from_url(made).path)
        if not own and path != root:
            raise click.UsageError(
                f"--url: in a URL the root {shown(root)} becomes {shown(path)}, which is different to relays: "
                "use a root of characters that a URL does not encode"
            )
        claims.authorize(path)
    except RefusedError as error:
        raise click.UsageError(f"--url: {error}") from None
    return made


@command(
    "verify",
    short_help="Verify a token and print its claims.",
    examples=(
        "verify --key public.jwk < alice.jwt",
        "verify --key keys/ --in alice.jwt --path rooms/123 --json",
        "verify --key public.jwk --strict < alice.jwt  # as relays from 0.15 on",
    ),
    older_key="--key",
)
@verifying_options
@click.option("--strict", is_flag=True, help="Also refuse what relays from 0.15 on refuse, such as unknown claims.")
def verify_command(key: str | None, token_file: str | None, path: str | None, as_json: bool, strict: bool) -> None:
    """Verify a token from standard input, and print its claims.

    Checks form, signature, expiry and the scope of the key, as a relay does. With --path, it also checks that the token
    allows something there, and says what.
    """
    # Their patterns take longer to compile than `sign` takes as a whole, which is in this module too.
    from moq_token.cli import pasted, refusals

    where = keyring.source(key)
    token = read_token(None, token_file, where)
    found = pasted.find(token)
    if found.around is not None:
        raise output.Failed(f"expected only a token, got it with {found.around}: pass only the token")
    now = time.time()
    try:
        claims = keyring.Verifier(keyring.read_keys(where), strict=strict).verify(token, now=now)
        permissions = None if path is None else claims.authorize(path)
    except RefusedError as error:
        raise output.Failed(refusals.line(error, now)) from None
    result = parse_json(claims.to_json().encode())
    if as_json:
        result = {"header": read_unverified(token).header, "claims": result}
        if permissions is not None:
            result["permissions"] = by_kind({role: getattr(permissions, role) for role in ROLES})
    output.emit(output.json_text(result, pretty=output.to_terminal(sys.stdout)))
    if not strict:
        grants.note_refused(grants.refused_tokens(claims), ())
    if permissions is not None and not as_json:
        for role, prefixes in (("publish", permissions.publish), ("subscribe to", permissions.subscribe)):
            output.note(f"may {role} {refusals.listed(prefixes, full=True)} at /{paths.normalize(path or '')}")


def by_kind(granted: Mapping[str, Iterable[str | Pattern]]) -> dict[str, list[str]]:
    """Return grants for programs: paths, and apart from them patterns, if there are any."""
    kinds: dict[str, list[str]] = {}
    for role, given in granted.items():
        kinds[role] = [grant for grant in given if isinstance(grant, str)]
    for role, given in granted.items():
        if patterns := [str(grant) for grant in given if not isinstance(grant, str)]:
            kinds[f"{role}_patterns"] = patterns
    return kinds


def read_token(word: str | None, path: str | None, key: keyring.Source | None) -> str:
    """Read a token as ``keyring.read_token()`` does. Raises ``Failed`` also where there is nothing."""
    token = keyring.read_token(word, path, key)
    if not token:
        raise output.Failed("expected a token, got empty input")
    return token
