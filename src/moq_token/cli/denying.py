"""The commands that end sessions and keep them out: they ask the admin listener of a running auth server."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

import click

from moq_token.cli import options, output, receipts, times
from moq_token.cli.admin import Admin, Refused, admin
from moq_token.cli.grammar import REPEATED_CHARACTERS, command
from moq_token.errors import shown
from moq_token.recognizer import what_is_key_or_token

if TYPE_CHECKING:
    from collections.abc import Iterable

    from moq_token.cli.options import Decorator

_ID_DIGITS = frozenset("0123456789abcdef")
_SESSIONS, _BANS, _KICK = "/sessions", "/bans", "/kick"

_who: Decorator = options.together(
    click.option("--subject", metavar="NAME", help="Sessions of this subject (the claim `sub`)."),
    click.option("--jti", metavar="ID", help="Sessions with the token of this id (the claim `jti`)."),
    click.option("--kid", metavar="KID", help="Sessions with a token of this key."),
    click.option("--session", metavar="ID", help="The session of this id, as `sessions` shows it."),
    click.option("--remote", metavar="ADDR|NET", help="Sessions from an address or a network: 192.0.2.0/24."),
    click.option("--path", metavar="PATTERN", help="Sessions that dialed a path: rooms/123, or the pattern rooms/**."),
)
_node: Decorator = click.option("--node", metavar="NAME", help="Sessions at the relay of this name (--stats-node).")
_token: Decorator = click.option(
    "--token", type=options.FILE, metavar="FILE|-", help="Sessions with this token; - reads it from standard input."
)
_issued: Decorator = options.together(
    click.option(
        "--issued-before",
        metavar="TIME",
        help="Sessions with a token issued before: Unix timestamp, RFC 3339 date, or now.",
    ),
    click.option("--everybody", is_flag=True, help="With --issued-before and no other option: every older token."),
)
_duration: Decorator = click.option(
    "--for", "duration", metavar="DURATION", help="How long: 90s, 15m, 1h, 7d; default: as long as --token."
)
_why: Decorator = options.together(
    click.option("--reason", metavar="TEXT", help="Why, for the log and for other operators."),
    click.option("--author", metavar="NAME", help="Who does it, for the log and other operators; default: this user."),
    click.option("--dry-run", is_flag=True, help="Show whom it would affect, and change nothing."),
)


@command(
    "ban",
    short_help="End sessions, and keep them out.",
    examples=(
        "ban --subject mallory --for 24h --reason spam",
        "ban --token - < stolen.jwt  # until the token expires",
        "ban --issued-before now --everybody --for 7d  # every token so far",
        "ban --path 'rooms/123/**' --remote 192.0.2.0/24 --for 1h --dry-run",
    ),
)
@_who
@_token
@_issued
@_duration
@_why
@admin
@options.as_json
def ban_command(
    duration: str | None,
    reason: str | None,
    author: str | None,
    dry_run: bool,
    admin: str | None,
    as_json: bool,
    **who: Any,  # noqa: ANN401 - as the options say
) -> int:
    """Ban the sessions that all the given options match: end them, and refuse new ones until the ban ends.

    Waits up to 5 s for the relays to end the sessions, and prints a receipt: how many sessions matched, how many have
    ended, which are still alive, and by when those end. Exits 0 only if all have ended, and 1 otherwise.

    The ban is in force as soon as the receipt is printed, also for relays that could not be reached.
    """
    return _deny(Admin(admin), who, {}, (duration, reason, author), dry_run=dry_run, as_json=as_json)


@command(
    "narrow",
    short_help="Take a role or a path away from sessions.",
    examples=(
        "narrow --subject mallory --without publish --for 10m",
        "narrow --subject mallory --without-path 'rooms/123/chat/**' --for 1h",
    ),
)
@_who
@_token
@_issued
@click.option(
    "--without", "role", type=click.Choice(["publish", "subscribe"]), help="The role that they lose: publish, …"
)
@click.option("--without-path", "narrow_path", metavar="PATTERN", help="What they lose: grants that reach this path.")
@_duration
@_why
@admin
@options.as_json
def narrow_command(
    role: str | None,
    narrow_path: str | None,
    duration: str | None,
    reason: str | None,
    author: str | None,
    dry_run: bool,
    admin: str | None,
    as_json: bool,
    **who: Any,  # noqa: ANN401 - as the options say
) -> int:
    """Take a role, a path, or a role at a path away from the sessions that all the given options match.

    Relays end the sessions that lose something; when the clients dial again, they get the smaller grant. Prints a
    receipt and exits as `ban` does. Take it back with `unban`.
    """
    if role is None and narrow_path is None:
        raise click.UsageError("say what they lose: add --without publish, --without subscribe or --without-path")
    effect = {"role": role, "narrow_path": None if narrow_path is None else _below_root(narrow_path)}
    return _deny(Admin(admin), who, effect, (duration, reason, author), dry_run=dry_run, as_json=as_json)


def _deny(
    server: Admin,
    who: dict[str, Any],
    effect: dict[str, str | None],
    terms: tuple[str | None, str | None, str | None],
    *,
    dry_run: bool,
    as_json: bool,
) -> int:
    duration, reason, author = terms
    _check_texts({"without_path": effect.get("narrow_path")})
    matchers = _matchers(who)
    body = {**matchers, **{name: value for name, value in effect.items() if value is not None}}
    if duration is not None:
        body["for"] = f"{times.duration(duration, '--for')}s"
    elif "token" not in matchers:
        raise click.UsageError("--for is missing: say how long, such as --for 1h")
    body |= _terms(reason, author, dry_run=dry_run)
    answer = server.ask("POST", _BANS, output.json_text(body).encode())
    return _show(answer, receipts.denied(answer, time.time(), dry_run=dry_run), as_json=as_json, dry_run=dry_run)


@command(
    "kick",
    short_help="End sessions once; they may come back.",
    examples=("kick --session 88607c9d946992193210ffa34bba7c93", "kick --subject alice --path 'rooms/123/**'"),
)
@_who
@_node
@_why
@admin
@options.as_json
def kick_command(
    reason: str | None,
    author: str | None,
    dry_run: bool,
    admin: str | None,
    as_json: bool,
    **who: str | None,
) -> int:
    """End the sessions that all the given options match. The clients may dial again at once; to keep them out, `ban`.

    Prints a receipt, and exits 0 only if all of them have ended.
    """
    server = Admin(admin)
    body = {**_filter(_matchers(who)), **_terms(reason, author, dry_run=dry_run)}
    answer = server.ask("POST", _KICK, output.json_text(body).encode())
    return _show(answer, receipts.kicked(answer, time.time(), dry_run=dry_run), as_json=as_json, dry_run=dry_run)


def _show(answer: dict[str, Any], lines: Iterable[str], *, as_json: bool, dry_run: bool) -> int:
    """Print an answer with a receipt, and return the exit status."""
    _print(answer, lines, as_json=as_json)
    return 0 if dry_run or receipts.is_complete(answer) else 1


@command(
    "unban",
    short_help="Lift bans.",
    examples=("unban 3f2a9c0d1e5b47a68890", "bans --json | jq -r '.bans[].id' | xargs moq-token-cli unban  # all"),
)
@click.argument("ids", nargs=-1, metavar="ID...")
@admin
@options.as_json
def unban_command(ids: tuple[str, ...], admin: str | None, as_json: bool) -> int:
    """Lift bans, and what `narrow` has taken away, by the ids that `bans` shows. The clients may then dial again.

    Exits 1 if one of the bans is not in force, and lifts the others.
    """
    if not ids:
        raise click.UsageError("the id of a ban is missing: `bans` lists them")
    for name in ids:
        if not set(name) <= _ID_DIGITS:
            got = f", got {shown(name)}" if len(name) <= REPEATED_CHARACTERS else ""
            raise click.UsageError(f"expected the id of a ban{got}: `bans` lists them")
    server, status = Admin(admin), 0
    for name in ids:
        try:
            answer = server.ask("DELETE", f"{_BANS}/{name}", query={"author": _user()})
        except Refused as error:
            if error.reason != "unknown-ban":
                raise
            output.complain(f"no ban with the id {shown(name)} is in force: `bans` lists them")
            status = 1
        else:
            _print(answer, receipts.lifted(answer, time.time()), as_json=as_json)
    return status


@command("bans", short_help="List the bans in force.", examples=("bans", "bans --json"))
@admin
@options.as_json
def bans_command(admin: str | None, as_json: bool) -> None:
    """List what is banned or narrowed: whom, until when, why, and by whom."""
    answer = Admin(admin).get(_BANS)
    _print(answer, receipts.bans(answer, time.time()), as_json=as_json)


@command(
    "sessions",
    short_help="List the live sessions of an auth server.",
    examples=("sessions", "sessions --subject alice", "sessions --path 'rooms/123/**' --json"),
)
@_who
@_node
@click.option("--limit", metavar="N", type=int, help="List at most so many; default: 100.")
@admin
@options.as_json
def sessions_command(limit: int | None, admin: str | None, as_json: bool, **who: str | None) -> None:
    """List the live sessions that the auth server knows: id, subject, path, address, relay, and for how long."""
    _check_texts(who)
    found = who if who["path"] is None else who | {"path": _below_root(who["path"])}
    query = _filter(found) | {"limit": None if limit is None else str(limit)}
    answer = Admin(admin).get(_SESSIONS, query)
    _print(answer, receipts.sessions(answer, time.time()), as_json=as_json)


def _print(answer: dict[str, Any], lines: Iterable[str], *, as_json: bool) -> None:
    terminal = output.to_terminal(sys.stdout)
    if as_json or not terminal:
        output.emit(output.json_text(answer, pretty=terminal))
    else:
        output.emit("\n".join(map(output.printable, lines)))


def _matchers(who: dict[str, Any]) -> dict[str, Any]:
    """Return whom the options name, as members of the request. Raises ``click.UsageError`` for nobody."""
    found = {name: value for name, value in who.items() if value not in {None, False}}
    _check_texts(found)
    if not found:
        raise click.UsageError("say whom: add --subject, --session, --path or another of the options; see --help")
    if "issued_before" in found:
        found["issued_before"] = times.issue(found["issued_before"], time.time(), "--issued-before")
    if "token" in found:
        found["token"] = _token_of(found["token"])
    if "path" in found:
        found["path"] = _below_root(found["path"])
    return found


def _token_of(file: str) -> str:
    """Read a token, also one in a URL or a header. Raises ``Failed`` and ``InvalidTokenError``."""
    from moq_token.cli import keyring, pasted
    from moq_token.unverified import read_unverified

    given = keyring.read_token(None, file)
    if not given:
        raise output.Failed("expected a token, got empty input")
    token = pasted.find(given).token
    read_unverified(token)
    return token


def _below_root(path: str) -> str:
    """Return a pattern as the server takes it: listings show paths as they were dialed, with a slash in front."""
    return path.removeprefix("/")


def _filter(found: dict[str, Any]) -> dict[str, Any]:
    """Return matchers as the filter of a listing, in which a session is named by its `id`."""
    return {"id" if name == "session" else name: value for name, value in found.items()}


def _terms(reason: str | None, author: str | None, *, dry_run: bool) -> dict[str, Any]:
    terms: dict[str, Any] = {"author": _user() if author is None else author}
    if reason is not None:
        terms["reason"] = reason
    if dry_run:
        terms["dry_run"] = True
    _check_texts(terms)
    return terms


def _check_texts(given: dict[str, Any]) -> None:
    """Raise ``click.UsageError`` for a token in the wrong place, and for bytes that are not UTF-8."""
    for name, value in given.items():
        if isinstance(value, str) and what_is_key_or_token(value):
            raise click.UsageError(
                f"--{name.replace('_', '-')}: this looks like a token: pass it with --token FILE, or --token - to read "
                "it from standard input"
            )
        if isinstance(value, str) and not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError:
                raise click.UsageError(f"--{name.replace('_', '-')} is not valid UTF-8") from None


def _user() -> str:
    """Return the name of the user that runs the command, as far as it is known."""
    import getpass

    try:
        return getpass.getuser()
    except (ImportError, KeyError, OSError):
        return ""
