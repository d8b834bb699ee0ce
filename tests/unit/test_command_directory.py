"""The commands for a directory of keys, called as from a shell or cron."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from pathlib import Path

import pytest

from moq_token import Algorithm, Claims, Key, Scope
from moq_token.rotation import STATE_NAME
from tests import forge
from tests.command_line import Cli

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="locks and modes are those of POSIX")

NOW = 1_700_000_000
DAY = 86_400
ROTATE = ("keys", "rotate", "signing", "--public-dir", "keys")


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Cli:
    """Call the command line in a new working directory, at a fixed time."""
    monkeypatch.chdir(tmp_path)
    cli = Cli(capsys, monkeypatch)
    cli.at(float(NOW))
    return cli


def noted(cli: Cli, *argv: str) -> str:
    """Return the note of a command that succeeds and has no result."""
    status, out, err = cli.run(*argv)
    assert (status, out) == (0, "")
    found = re.fullmatch(r"note: ([^\n]+)\n", err)
    assert found is not None, err
    return found[1]


def rotated(cli: Cli, *argv: str) -> str:
    """Return the id that a rotation prints, alone on its line."""
    out = cli.done(*argv)
    assert re.fullmatch(r"[0-9a-f]{16}\n", out)
    return out.strip()


def names(directory: str) -> set[str]:
    return {path.stem for path in Path(directory).glob("*.jwk")}


def age(path: str, seconds: int) -> None:
    os.utime(path, (NOW - seconds, NOW - seconds))


def test_a_life_of_keys(cli: Cli) -> None:
    first = rotated(cli, *ROTATE)
    token = cli.done("sign", "--key", "signing", "--publish", "", "--expires", "1h")
    assert Key.from_file(f"keys/{first}.jwk").verify(token.strip(), now=NOW) == Claims("", "", expires=NOW + 3600)

    cli.at(NOW + 10)
    second = rotated(cli, "keys", "rotate", "signing", "--overlap", "1h30m")
    assert names("signing") == names("keys") == {first, second}
    later = cli.done("sign", "--key", "signing", "--publish", "", "--expires", "1h")
    for signed, kid in ((token, first), (later, second)):
        assert json.loads(cli.done("verify", "--key", "keys", "--json", stdin=signed))["header"]["kid"] == kid

    assert noted(cli, "keys", "prune", "signing") == "nothing to remove"
    cli.at(NOW + 10 + 5400)
    assert noted(cli, "keys", "prune", "signing", "--dry-run") == f"would remove: {first}"
    assert names("keys") == {first, second}
    assert noted(cli, "keys", "prune", "signing") == f"removed: {first}"
    assert names("signing") == names("keys") == {second}
    assert f"no key with the id '{first}'" in cli.refused(1, "verify", "--key", "keys", stdin=token)


def test_rotate_tries_without_doing(cli: Cli) -> None:
    assert noted(cli, *ROTATE, "--dry-run") == "would create the first key"
    assert not Path("signing").exists()
    assert not Path("keys").exists()
    first = rotated(cli, *ROTATE)
    would = f"would create a key, and still verify with {first} for 7 days more"
    assert noted(cli, *ROTATE, "--overlap", "7d", "--dry-run") == would
    assert names("signing") == {first}


@pytest.mark.parametrize("algorithm", ["EC256", "es384", "EdDSA"])
def test_rotate_makes_the_algorithm_that_is_named_and_keeps_to_it(cli: Cli, algorithm: str) -> None:
    for words in (("--algorithm", algorithm), ()):
        kid = rotated(cli, *ROTATE, *words)
        assert Key.from_file(f"keys/{kid}.jwk").algorithm == Algorithm.parse(algorithm)


def test_secrets_need_no_public_directory(cli: Cli) -> None:
    kid = rotated(cli, "keys", "rotate", "signing", "--algorithm", "HS256")
    token = cli.done("sign", "--key", "signing", "--publish", "", "--expires", "1h")
    assert cli.done("verify", "--key", "signing", stdin=token)
    assert "is the key that signs: run `keys rotate` first" in cli.refused(1, "keys", "retire", "signing", kid)
    assert "is a secret and has no public half" in cli.refused(1, *ROTATE)


def test_retire_withdraws_a_key_at_once(cli: Cli) -> None:
    first, second = rotated(cli, *ROTATE), rotated(cli, *ROTATE)
    assert noted(cli, "keys", "retire", "signing", first) == f"removed: {first}"
    assert names("signing") == names("keys") == {second}
    assert first in cli.refused(1, "keys", "retire", "signing", first)


def test_a_person_at_a_terminal_is_told_what_comes_next(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    first = rotated(cli, *ROTATE)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    _, out, err = cli.run(*ROTATE, "--overlap", "7d")
    assert out.strip() in names("signing")
    assert err.splitlines() == [
        "note: new tokens are signed with this key",
        f"note: relays still verify with {first} for 7 days more; then run: keys prune signing",
    ]


# -- from cron

CRON = ("keys", "rotate", "signing", "--prune", "--quiet", "--if-older-than", "30d")


def silent(cli: Cli, *argv: str) -> None:
    assert cli.run(*argv) == (0, "", "")


def active() -> str:
    return str(json.loads(Path("signing", STATE_NAME).read_text(encoding="utf-8"))["active"])


def test_one_silent_line_of_a_crontab_does_it_all(cli: Cli) -> None:
    """Each day for half a year, one key signs and at most one other key still verifies."""
    silent(cli, *CRON, "--public-dir", "keys", "--overlap", "7d")
    rotations = set()
    for day in range(180):
        cli.at(NOW + day * DAY)
        silent(cli, *CRON)
        rotations.add(active())
        assert len(names("keys")) <= 2
        silent(cli, "keys", "check", "signing", "--quiet")
    assert len(rotations) == 6
    cli.at(NOW + 180 * DAY)
    silent(cli, "keys", "prune", "signing", "--quiet")


def test_what_goes_wrong_is_not_silent(cli: Cli) -> None:
    assert "add --public-dir" in cli.refused(1, *CRON)
    silent(cli, *CRON, "--public-dir", "keys")
    Path("keys", f"{active()}.jwk").unlink()
    status, out, _ = cli.run("keys", "check", "signing", "--quiet")
    assert status == 1
    assert "file not found: relays refuse the tokens of this key" in out
    Path("signing", STATE_NAME).write_text("{", encoding="utf-8")
    assert "invalid rotation state" in cli.refused(1, *CRON)
    assert "invalid rotation state" in cli.refused(1, "keys", "prune", "signing", "--quiet")


def test_a_key_that_is_not_old_enough_is_kept(cli: Cli) -> None:
    first = rotated(cli, *ROTATE)
    cli.at(NOW + 3600)
    for options in ((), ("--dry-run",)):
        why = noted(cli, "keys", "rotate", "signing", "--if-older-than", "1h", *options)
        assert why == "nothing to do: the active key is not older than --if-older-than"
    assert names("signing") == {first}
    cli.at(NOW + 3601)
    assert rotated(cli, "keys", "rotate", "signing", "--if-older-than", "1h") != first


def test_the_age_of_a_key_is_its_own_and_not_that_of_its_file(cli: Cli) -> None:
    """Copying a directory, restoring a backup or changing a mode does not change the age of a key."""
    first = rotated(cli, *ROTATE)
    age(f"signing/{first}.jwk", 0)
    cli.at(NOW + 31 * DAY)
    (row,) = json.loads(cli.done("keys", "list", "signing", "--json"))
    assert (row["created"], row["age"]) == (NOW, 31 * DAY)
    os.utime(f"signing/{first}.jwk", (NOW + 31 * DAY, NOW + 31 * DAY))
    silent(cli, *CRON)
    assert active() != first


def test_a_key_of_version_0_1_has_the_age_of_its_file(cli: Cli) -> None:
    first = rotated(cli, *ROTATE)
    state = {"active": first, "public": "../keys"}
    Path("signing", STATE_NAME).write_text(json.dumps(state), encoding="utf-8")
    age(f"signing/{first}.jwk", 29 * DAY)
    silent(cli, *CRON)
    assert active() == first
    age(f"signing/{first}.jwk", 31 * DAY)
    silent(cli, *CRON)
    assert active() != first


def test_a_lost_key_is_replaced_whatever_its_age(cli: Cli) -> None:
    first = rotated(cli, *ROTATE)
    Path("signing", f"{first}.jwk").unlink()
    silent(cli, *CRON)
    assert active() != first


def test_the_overlap_is_remembered(cli: Cli) -> None:
    rotated(cli, *ROTATE)
    for overlap, seconds in ((None, DAY), ("7d", 7 * DAY), (None, 7 * DAY), ("0s", 0), (None, 0), ("1h", 3600)):
        before = active()
        rotated(cli, *ROTATE, *(() if overlap is None else ("--overlap", overlap)))
        rows = {row["kid"]: row for row in json.loads(cli.done("keys", "list", "signing", "--json"))}
        assert rows[before]["until"] == NOW + seconds


def test_pruning_in_the_same_call_says_what_it_removed(cli: Cli) -> None:
    first = rotated(cli, *ROTATE, "--overlap", "1h")
    second = rotated(cli, *ROTATE, "--prune")
    cli.at(NOW + 3600)
    assert f"note: would remove: {first}\n" in cli.run(*ROTATE, "--prune", "--dry-run")[2]
    assert names("signing") == {first, second}
    status, out, err = cli.run(*ROTATE, "--prune")
    assert (status, err) == (0, f"note: removed: {first}\n")
    assert names("signing") == {second, out.strip()}


@pytest.mark.parametrize("command", [("rotate", "signing"), ("prune", "signing"), ("prune", "signing", "--dry-run")])
def test_a_clock_before_the_creation_of_the_key_is_refused(cli: Cli, command: tuple[str, ...]) -> None:
    rotated(cli, *ROTATE, "--overlap", "0s")
    second = rotated(cli, *ROTATE)
    before = names("signing")
    for seconds in (6, DAY, NOW):
        cli.at(NOW - seconds)
        why = f"the clock is {seconds} s before the active key was created: set the clock"
        assert why in cli.refused(1, "keys", *command)
        assert why in cli.run("keys", "check", "signing")[1]
    assert names("signing") == before
    cli.at(NOW - 5)  # another machine's clock may be ahead a little
    cli.run("keys", *command)
    # Withdrawing a stolen key does not wait for the clock.
    cli.at(0)
    (first,) = before - {second}
    if first in names("signing"):
        cli.run("keys", "retire", "signing", first)
        assert first not in names("signing")


# -- list and check


def test_all_fits_into_80_columns(cli: Cli) -> None:
    paths = [word for number in range(9) for word in ("--publish", f"path/{number}/of/a/long/name")]
    cli.done("generate", "--algorithm", "EdDSA", "--out-dir", ".", "--root", "a/root", "--subscribe", "", *paths)
    Path("signing").mkdir()
    key = Key.from_file(next(Path().glob("*.jwk"))).with_kid("k" * 43)
    key.to_file(f"signing/{key.kid}.jwk")
    Path("signing", "broken.jwk").write_text('{"kty":"OKP"}', encoding="utf-8")
    lines = cli.done("keys", "list", "signing").splitlines()
    assert max(map(len, lines)) <= 80
    assert " ".join(" ".join(lines).split()).count("--publish path/") == 9
    assert str(key.kid) in lines
    Path("signing", "broken.jwk").unlink()
    rotated(cli, *ROTATE, "--overlap", "366d")
    lines = cli.done("keys", "list", "signing").splitlines()
    assert max(map(len, lines)) <= 80
    for command in ("", "list", "rotate", "retire", "prune", "check"):
        _, out, _ = cli.run("keys", *filter(None, (command,)), "--help")
        assert max(map(len, out.splitlines())) <= 80, command


@pytest.fixture
def full(cli: Cli) -> Cli:
    """Create a directory with a key for each use, and the public halves."""
    made = {
        "old": forge.jwk(Algorithm.ES256, kid="old"),
        "new": forge.jwk(Algorithm.EDDSA, kid="new", scope={"root": "rooms", "put": ["live"]}),
        "secret": forge.jwk(Algorithm.HS256, kid="secret"),
    }
    for directory in ("signing", "keys"):
        Path(directory).mkdir()
    for index, (kid, jwk) in enumerate(made.items(), 1):
        key = forge.load(jwk)
        key.to_file(f"signing/{kid}.jwk")
        age(f"signing/{kid}.jwk", index * DAY * 400)
        if not key.algorithm.symmetric:
            key.to_public().to_file(f"keys/{kid}.jwk")
    state = {"active": "new", "retired": {"old": NOW + 2 * DAY}, "public": "../keys"}
    Path("signing", STATE_NAME).write_text(json.dumps(state), encoding="utf-8")
    return cli


def test_list_shows_a_table(full: Cli) -> None:
    lines = full.done("keys", "list", "signing").splitlines()
    assert [re.split(r" {2,}", line) for line in lines] == [
        ["KID", "ALGORITHM", "HALF", "AGE", "USE"],
        ["new", "EdDSA", "private", "2 years", "signing"],
        ["", "scope: --root rooms --publish live"],
        ["old", "ES256", "private", "400 days", "verifying, ends in 2 days"],
        ["secret", "HS256", "secret", "3 years", "unused"],
    ]
    assert len({lines[row].index(cell) for row, cell in ((0, "AGE"), (1, "2 y"), (3, "400"), (4, "3 y"))}) == 1
    full.at(NOW + 2 * DAY)
    assert re.search(r"^old .* ended$", full.done("keys", "list", "signing"), re.MULTILINE)


def test_list_prints_json(full: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    out = full.done("keys", "list", "signing", "--json")
    assert out.count("\n") == 1
    rows = json.loads(out)
    assert rows[0] == {
        "kid": "new",
        "algorithm": "EdDSA",
        "half": "private",
        "operations": ["sign", "verify"],
        "scope": {"root": "rooms", "put": ["live"], "get": []},
        "needs_relay": None,
        "use": "signing",
        "age": 800 * DAY,
        "created": NOW - 800 * DAY,
        "until": None,
        "problems": [],
    }
    assert [(row["kid"], row["until"]) for row in rows] == [("new", None), ("old", NOW + 2 * DAY), ("secret", None)]
    for row in json.loads(full.done("keys", "list", "keys", "--json")):
        assert (row["half"], row["use"]) == ("public", "verifying")
    shutil.rmtree("keys")
    Path("keys").mkdir()
    assert full.done("keys", "list", "keys", "--json") == "[]\n"
    assert full.done("keys", "list", "keys") == "KID  ALGORITHM  HALF  AGE  USE\n"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    assert full.done("keys", "list", "signing", "--json") == f"{json.dumps(rows, indent=2)}\n"


def test_list_shows_what_cannot_be_read_and_escapes_it(full: Cli) -> None:
    Path("signing/a\nb\x1b[31m.jwk").write_text("{", encoding="utf-8")
    out = full.done("keys", "list", "signing")
    lines = out.splitlines()
    index = next(index for index, line in enumerate(lines) if line.startswith("a"))
    assert re.split(r" {2,}", lines[index]) == ["a\\nb\\x1b[31m", "-", "-", "0 s", "invalid"]
    assert "  problem: the key is not valid JSON" in lines[index + 1]
    assert "\x1b" not in out


def test_check_is_content(full: Cli) -> None:
    assert noted(full, "keys", "check", "signing") == "3 keys in 'signing', no problems found"
    assert noted(full, "keys", "check", "keys", "--public") == "2 keys in 'keys', no problems found"


@pytest.mark.parametrize(
    ("damage", "line"),
    [
        ("open", "signing/new.jwk: mode 0644 lets other users read or change this private key: run chmod 600"),
        ("broken", "signing/new.jwk: the key is not valid JSON"),
        ("renamed", "signing/other.jwk: the `kid` of the key is 'secret': rename the file to 'secret.jwk'"),
        ("lost", "keys/old.jwk: file not found: relays refuse the tokens of this key"),
        ("swapped", "keys/old.jwk: "),
        ("leaked", "keys/new.jwk: private key in a directory of public keys: anybody who reads it can sign tokens"),
        ("line\nbreak", "signing/line\\nbreak.jwk: "),
    ],
)
def test_check_says_what_is_wrong(full: Cli, damage: str, line: str) -> None:
    signing, public = Path("signing"), Path("keys")
    if damage == "open":
        (signing / "new.jwk").chmod(0o644)
    elif damage == "broken":
        (signing / "new.jwk").write_text("{", encoding="utf-8")
    elif damage == "renamed":
        (signing / "secret.jwk").rename(signing / "other.jwk")
    elif damage == "lost":
        (public / "old.jwk").unlink()
    elif damage == "swapped":
        shutil.copy(public / "new.jwk", public / "old.jwk")
    elif damage == "leaked":
        shutil.copy(signing / "new.jwk", public / "new.jwk")
    else:
        (signing / f"{damage}.jwk").write_text("{", encoding="utf-8")
    status, out, err = full.run("keys", "check", "signing")
    assert (status, err) == (1, "")
    assert line in out
    assert not [word for word in (forge.jwk(Algorithm.EDDSA)["d"], "\x1b") if word in out]


@pytest.mark.parametrize(
    ("status", "argv", "why"),
    [
        *((2, f"keys {name}", "missing argument 'DIR'") for name in ("list", "rotate", "retire", "prune", "check")),
        *((1, f"keys {name} nowhere", "No such file or directory") for name in ("list", "prune", "check")),
        *((1, f"keys {name} file", "Not a directory") for name in ("list", "prune", "check")),
        *((1, f"keys {name} damaged", "invalid rotation state") for name in ("list", "rotate", "prune", "check")),
        *((2, f"keys {name} signing extra", "unexpected argument 'extra'") for name in ("list", "prune", "check")),
        (2, "keys", "missing command: use one of list, rotate, retire, prune, check"),
        (2, "keys lists signing", "No such command 'lists'. Did you mean 'list'?"),
        (2, "--key signing keys list signing", "keys does not accept --key in front of it"),
        (2, "keys --key signing list", "no such option '--key'"),
        (2, "keys list eyJrdHkiOiJvY3QifQ", "the argument expects a file name"),
        (1, "keys rotate fresh", "missing directory for the public halves, which relays read: add --public-dir DIR"),
        (1, "keys rotate fresh --public-dir fresh", "--public-dir must not be the directory of the private keys"),
        (1, "keys rotate signing --public-dir other", "the public halves of 'signing' are in"),
        (1, "keys rotate signing --algorithm HS256", "HS256 cannot replace EdDSA in 'signing': use a new directory"),
        (1, "keys rotate file --public-dir keys", "Not a directory"),
        (2, "keys rotate signing --algorithm none", "--algorithm: "),
        (2, "keys rotate signing --overlap 86400", "--overlap must be a duration such as 90s, 15m, 24h or 7d"),
        (2, "keys rotate signing --overlap never", "--overlap must be a duration"),
        (2, "keys rotate signing --overlap=-1h", "--overlap '-1h': a duration must not be negative"),
        (2, "keys rotate signing --overlap 999999999w", "--overlap is too long"),
        (2, "keys retire signing", "missing argument 'KID'"),
        (1, "keys retire signing ../new", "a key id must be 1 to 128 characters"),
        (1, "keys retire signing nobody", "no key 'nobody' in 'signing'"),
        (1, "keys retire signing new", "'new' is the key that signs: run `keys rotate` first, then retire it"),
        (1, "keys retire nowhere new", "No such file or directory"),
    ],
)
def test_refusals(full: Cli, status: int, argv: str, why: str) -> None:
    Path("file").touch()
    Path("damaged").mkdir()
    Path("damaged", STATE_NAME).write_text("{}]", encoding="utf-8")
    before = sorted(str(path) for path in Path().rglob("*") if path.suffix != ".lock")
    assert why.casefold() in full.refused(status, *argv.split(" ")).casefold()
    assert sorted(str(path) for path in Path().rglob("*") if path.suffix != ".lock") == before


def test_a_scoped_key_says_so_and_signs_within(full: Cli) -> None:
    assert Key.from_file("signing/new.jwk").scope == Scope("rooms", "live")
    within = ("sign", "--key", "signing", "--root", "rooms/live", "--expires", "1h")
    assert full.done(*within, "--publish", "")
    assert "which is outside the scope of the key" in full.refused(1, *within, "--subscribe", "")
