"""The commands about a directory of keys: what is in it, and replacing keys without refusing anybody."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import click

from moq_token.cli import options, output, times
from moq_token.cli.grammar import Group, command
from moq_token.errors import shown
from moq_token.rotation import Rotation

if TYPE_CHECKING:
    from moq_token import Algorithm
    from moq_token.rotation import KeyFile, State

_directory = click.argument("directory", type=options.FILE, metavar="DIR")
_dry_run = click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")


@click.group(
    "keys",
    short_help="Keep a directory of keys: list, rotate, retire, …",
    cls=Group,
    modules=dict.fromkeys(("list", "rotate", "retire", "prune", "check"), "moq_token.cli.directory"),
    examples=(
        "keys rotate signing --public-dir keys  # at first, and then from cron",
        "keys prune signing",
        "sign --key signing --root rooms/123 --publish alice --expires 1h",
    ),
    no_args_is_help=False,
)
def keys_command() -> None:
    """Keep a directory of keys: list, rotate, retire, prune and check them."""


@command("list", short_help="List the keys of a directory.", examples=("keys list signing", "keys list keys --json"))
@_directory
@options.as_json
def list_command(directory: str, as_json: bool) -> None:
    """List the keys of a directory: id, algorithm, half, scope, age, and what each is used for."""
    rotation, now = Rotation(directory), time.time()
    state = rotation.state()
    rows = [_row(file, state, now) for file in rotation.files()]
    if as_json:
        output.emit(output.json_text(rows, pretty=output.to_terminal(sys.stdout)))
        return
    table = [["KID", "ALGORITHM", "HALF", "SCOPE", "AGE", "USED FOR"]]
    table += [[output.printable(str(_cell(name, row[name]))) for name in row if name != "until"] for row in rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in table)
    output.emit("\n".join(lines))


def _row(file: KeyFile, state: State, now: float) -> dict[str, object]:
    key, until = file.key, state.retired.get(file.path.stem)
    if key is None:
        half, use = "unreadable", file.problems[0]
    else:
        half = "secret" if key.algorithm.symmetric else "private" if key.is_private else "public"
        use = _use(file.path.stem, state, now, public=half == "public")
    return {
        "kid": file.path.stem,
        "algorithm": None if key is None else str(key.algorithm),
        "half": half,
        "scope": None
        if key is None or key.scope is None
        else {"root": key.scope.root, "put": key.scope.publish, "get": key.scope.subscribe},
        "age": int(max(now - file.modified, 0)),
        "use": use,
        "until": until,
    }


def _use(kid: str, state: State, now: float, *, public: bool) -> str:
    if kid == state.active:
        return "signing"
    if kid == state.pending:
        return "unfinished"
    if kid in state.retired:
        return times.when(state.retired[kid], now, "verifying, ends", "verified until")
    if public:
        return "verifying"
    return "signing, if it is the only one" if state.active is None else "not used"


def _cell(name: str, value: object) -> object:
    if name == "age" and isinstance(value, int):
        return times.span(value)
    if name == "scope" and isinstance(value, dict):
        return output.json_text(value)
    return "-" if value is None else value


@command(
    "rotate",
    short_help="Make a new key, and sign with it from now on.",
    examples=(
        "keys rotate signing --public-dir keys --algorithm EdDSA",
        "keys rotate signing --overlap 7d  # where tokens live for up to a week",
    ),
)
@_directory
@click.option("--public-dir", type=options.FILE, metavar="DIR", help="Where relays read public halves; remembered.")
@click.option("--algorithm", type=options.ALGORITHM, metavar="ALG", help="That of the key before, or EdDSA.")
@click.option("--overlap", metavar="TIME", default="24h", help="How long the key before goes on verifying: 24h.")
@_dry_run
def rotate_command(
    directory: str, public_dir: str | None, algorithm: Algorithm | None, overlap: str, dry_run: bool
) -> None:
    """Make a new key and sign with it from now on; the one before still verifies until the overlap has passed.

    The overlap must be at least as long as the longest-lived token. Safe to run from cron, on several machines at once,
    and again after a crash.
    """
    change = Rotation(directory).rotate(
        algorithm, public_dir, times.duration(overlap, "--overlap"), int(time.time()), dry_run=dry_run
    )
    if dry_run:
        output.note(f"would make a new key the signing one, and retire {_named(change.retired)} after {overlap}")
        return
    output.emit(str(change.active))
    output.hint(
        f"signing from now on; {_named(change.retired)} verifies for {overlap} more, then: keys prune {directory}"
    )


@command(
    "retire",
    short_help="Withdraw a key at once.",
    examples=("keys retire signing 4f0a1b2c3d4e5f60  # its secret has got out",),
)
@_directory
@click.argument("kid", metavar="KID")
def retire_command(directory: str, kid: str) -> None:
    """Withdraw a key at once: both halves are removed, and relays refuse its tokens. Not for the one that signs."""
    output.note(f"removed: {_named(Rotation(directory).retire(kid, int(time.time())).removed)}")


@command("prune", examples=("keys prune signing",))
@_directory
@_dry_run
def prune_command(directory: str, dry_run: bool) -> None:
    """Remove both halves of the keys whose overlap has passed."""
    change = Rotation(directory).prune(int(time.time()), dry_run=dry_run)
    output.note(f"{'would remove' if dry_run else 'removed'}: {_named(change.removed)}")


@command(
    "check",
    short_help="Check the key files of a directory.",
    examples=("keys check signing", "keys check keys --public"),
)
@_directory
@click.option("--public", is_flag=True, help="Relays read this directory: no private key belongs in it.")
def check_command(directory: str, public: bool) -> int:
    """Check every key file of a directory, and its public halves; exit 1 where anything is wrong."""
    rotation = Rotation(directory)
    problems = rotation.check(public=public)
    for problem in problems:
        output.emit(output.printable(problem))
    if not problems:
        output.note(f"{len(rotation.files())} keys in {shown(directory)}, all as they should be")
    return int(bool(problems))


def _named(kids: tuple[str, ...]) -> str:
    return ", ".join(kids) or "none"
