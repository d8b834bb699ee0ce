"""The commands for a directory of keys: what is in it, and how its keys are replaced."""

from __future__ import annotations

import sys
import textwrap
import time
from typing import TYPE_CHECKING

import click

from moq_token.claims import Scope
from moq_token.cli import grants, keyinfo, options, output, times
from moq_token.cli.grammar import Group, command
from moq_token.errors import shown_path
from moq_token.rotation import Rotation, Use

if TYPE_CHECKING:
    from moq_token import Algorithm
    from moq_token.pattern import Pattern
    from moq_token.rotation import Change, Listed

_COLUMNS = 80
_WIDEST_KID = 24
_NAMED_KEYS = 5

_directory = click.argument("directory", type=options.FILE, metavar="DIR")
_dry_run = click.option("--dry-run", is_flag=True, help="Print what would be done, and change nothing.")
_quiet = click.option("--quiet", is_flag=True, help="Print nothing unless something is wrong, as suits cron.")


@click.group(
    "keys",
    short_help="Manage a directory of keys: list, rotate, retire, …",
    cls=Group,
    modules=dict.fromkeys(("list", "rotate", "retire", "prune", "check"), lambda: sys.modules[__name__]),
    examples=(
        "keys rotate signing --public-dir keys",
        "keys rotate signing --prune --quiet --if-older-than 30d  # from cron",
        "sign --key signing --root rooms/123 --publish alice --expires 1h",
    ),
    no_args_is_help=False,
)
def keys_command() -> None:
    """Manage a directory of keys: list, rotate, retire, prune and check them."""


@command("list", short_help="List the keys of a directory.", examples=("keys list signing", "keys list keys --json"))
@_directory
@options.as_json
def list_command(directory: str, as_json: bool) -> None:
    """List the keys of a directory: id, algorithm, half, age, what each is used for, and scope.

    The use is signing, verifying, ended (its overlap; prune it), pending (interrupted rotation), candidate (several
    keys could sign: rotate), unused, invalid or missing.
    """
    now = time.time()
    keys = Rotation(directory).keys(now)
    if as_json:
        rows = [_row(listed, now) for listed in keys]
        output.emit(output.json_text(rows, pretty=output.to_terminal(sys.stdout)))
    else:
        output.emit("\n".join(_table(keys, now)))


def _row(listed: Listed, now: float) -> dict[str, object]:
    key = listed.key
    known = {} if key is None else keyinfo.members(key)
    return {
        "kid": listed.kid,
        **{name: known.get(name) for name in ("algorithm", "half", "operations", "scope", "needs_relay")},
        "use": str(listed.use),
        "age": None if listed.created is None else int(max(now - listed.created, 0)),
        "created": listed.created,
        "until": listed.until,
        "problems": listed.problems,
    }


def _table(keys: list[Listed], now: float) -> list[str]:
    """Lay out one line for each key, and beneath it, indented, what has no bounded width: scope and problems."""
    cells = [("KID", "ALGORITHM", "HALF", "AGE", "USE"), *(_cells(listed, now) for listed in keys)]
    widths = [max(len(line[column]) for line in cells) for column in range(4)]
    widths[0] = min(widths[0], _WIDEST_KID)
    lines = []
    for line, listed in zip(cells, [None, *keys], strict=True):
        kid, *others = line
        if len(kid) > widths[0]:
            lines.append(kid)
            kid = ""
        columns = [cell.ljust(width) for cell, width in zip((kid, *others), (*widths, 0), strict=True)]
        lines.append("  ".join(columns).rstrip())
        for detail in () if listed is None else _details(listed):
            lines += textwrap.wrap(detail, _COLUMNS, initial_indent="  ", subsequent_indent="    ")
    return lines


def _cells(listed: Listed, now: float) -> tuple[str, str, str, str, str]:
    key = listed.key
    return (
        output.printable(listed.kid),
        "-" if key is None else str(key.algorithm),
        "-" if key is None else keyinfo.half(key),
        "-" if listed.created is None else times.span(max(now - listed.created, 0)),
        f"verifying, ends in {times.span(listed.until - now)}"
        if listed.use is Use.VERIFYING and listed.until is not None
        else str(listed.use),
    )


def _details(listed: Listed) -> list[str]:
    key = listed.key
    scope = (
        [] if key is None or key.scope is None else [f"scope: {keyinfo.options(key.scope)}", *keyinfo.unloadable(key)]
    )
    return [output.printable(text) for text in (*scope, *(f"problem: {problem}" for problem in listed.problems))]


@command(
    "rotate",
    short_help="Create a key and sign with it from now on.",
    examples=(
        "keys rotate signing --public-dir keys --algorithm EdDSA",
        "keys rotate signing --overlap 7d  # if tokens live for up to a week",
        "keys rotate signing --prune --quiet --if-older-than 30d  # from cron",
    ),
)
@_directory
@click.option("--public-dir", type=options.FILE, metavar="DIR", help="Where relays read public keys. Remembered.")
@click.option("--algorithm", type=options.ALGORITHM, metavar="ALG", help="Default: as before; EdDSA for the first key.")
@click.option("--root", metavar="PATH", help="New scope: path that the others are relative to. Default: as before.")
@grants.grant_option("--publish", "New scope: path or pattern that tokens may let publish. Repeatable.")
@grants.grant_option("--subscribe", "New scope: path or pattern that tokens may let subscribe to. Repeatable.")
@grants.grant_option("--publish-pattern", "New scope: pattern; without * it is one broadcast.", pattern=True)
@grants.grant_option("--subscribe-pattern", "New scope: pattern; without * it is one broadcast.", pattern=True)
@click.option("--widen", is_flag=True, help="Allow a scope that is wider than before.")
@click.option("--overlap", metavar="TIME", help="How long the previous key still verifies. Remembered. Default: 24h.")
@click.option("--if-older-than", metavar="TIME", help="Do nothing if the active key is not older than this.")
@click.option("--prune", is_flag=True, help="Then remove the keys whose overlap has ended, as `keys prune` does.")
@_quiet
@_dry_run
def rotate_command(
    directory: str,
    public_dir: str | None,
    algorithm: Algorithm | None,
    root: str | None,
    publish: tuple[str | Pattern, ...],
    subscribe: tuple[str | Pattern, ...],
    publish_pattern: tuple[Pattern, ...],
    subscribe_pattern: tuple[Pattern, ...],
    widen: bool,
    overlap: str | None,
    if_older_than: str | None,
    prune: bool,
    quiet: bool,
    dry_run: bool,
) -> None:
    """Create a key and sign with it from now on. The previous key still verifies until the overlap has ended.

    The new key has the algorithm, the scope and the operations of the previous one. --publish and --subscribe
    together replace what its scope allows. The overlap must be at least as long as the longest-lived token.

    Safe to run from cron, on several machines at once, and again after a crash. Prints the id of the new key.
    """
    rotation, now = Rotation(directory), int(time.time())
    scope = Scope(root or "", (*publish, *publish_pattern), (*subscribe, *subscribe_pattern))
    change = rotation.rotate(
        algorithm,
        public_dir,
        None if overlap is None else times.duration(overlap, "--overlap"),
        now,
        root=root,
        publish=scope.publish or None,
        subscribe=scope.subscribe or None,
        widen=widen,
        if_older_than=None if if_older_than is None else times.duration(if_older_than, "--if-older-than"),
        dry_run=dry_run,
    )
    output.note_oddities({"--root": (scope.root,), "--publish": scope.publish, "--subscribe": scope.subscribe})
    grants.note_refused(grants.refused_keys(scope), ())
    grants.note_full_paths((*publish, *subscribe), ())
    if not quiet:
        _report_rotation(change, directory, dry_run=dry_run)
    if prune:
        removed = rotation.prune(now, dry_run=dry_run).removed
        if removed and not quiet:
            _report_removed(removed, dry_run=dry_run)


def _report_rotation(change: Change, directory: str, *, dry_run: bool) -> None:
    retired = f"{_named(change.retired)} for {times.span(change.overlap)} more" if change.retired else ""
    if change.skipped:
        output.note("nothing to do: the active key is not older than --if-older-than")
    elif dry_run:
        output.note(f"would create a key, and still verify with {retired}" if retired else "would create the first key")
    else:
        output.emit(str(change.active))
        output.hint("new tokens are signed with this key")
        if retired:
            output.hint(f"relays still verify with {retired}; then run: keys prune {directory}")


@command(
    "retire",
    short_help="Withdraw a key at once.",
    examples=("keys retire signing 4f0a1b2c3d4e5f60  # its private key was stolen",),
)
@_directory
@click.argument("kid", metavar="KID")
def retire_command(directory: str, kid: str) -> None:
    """Withdraw a key at once: remove both halves, so that relays refuse its tokens. Rotate first if the key signs."""
    _report_removed(Rotation(directory).retire(kid, int(time.time())).removed)


@command("prune", short_help="Remove the keys whose overlap has ended.", examples=("keys prune signing",))
@_directory
@_quiet
@_dry_run
def prune_command(directory: str, quiet: bool, dry_run: bool) -> None:
    """Remove both halves of the keys whose overlap has ended."""
    change = Rotation(directory).prune(int(time.time()), dry_run=dry_run)
    if not quiet:
        _report_removed(change.removed, dry_run=dry_run)


def _report_removed(kids: tuple[str, ...], *, dry_run: bool = False) -> None:
    if not kids:
        output.note("nothing to remove")
    else:
        output.note(f"{'would remove' if dry_run else 'removed'}: {_named(kids)}")


@command(
    "check",
    short_help="Find what is wrong with a directory of keys.",
    examples=("keys check signing", "keys check keys --public"),
)
@_directory
@click.option("--public", is_flag=True, help="Relays read this directory: no private key belongs in it.")
@_quiet
def check_command(directory: str, public: bool, quiet: bool) -> int:
    """Check a directory of keys and its public keys. Print one line for each problem, and exit 1 if there is one.

    Checks that one key can sign, that relays can verify its tokens, the content, names and modes of all files, and
    that no overlap has ended.
    """
    rotation = Rotation(directory)
    problems = rotation.check(time.time(), public=public)
    for problem in problems:
        output.emit(output.printable(problem))
    if not problems and not quiet:
        count = len(rotation.files())
        output.note(f"{count} {'key' if count == 1 else 'keys'} in {shown_path(directory)}, no problems found")
    return int(bool(problems))


def _named(kids: tuple[str, ...]) -> str:
    more = len(kids) - _NAMED_KEYS
    return ", ".join(kids[:_NAMED_KEYS]) + (f" and {more} more" if more > 0 else "")
