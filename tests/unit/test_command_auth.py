"""The command lines of `moq auth` have the same meaning here. The vectors are recorded output of the original."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from moq_token import Algorithm, Key, Pattern, Scope
from tests import forge
from tests.command_line import Cli

NOW = 1_800_000_000
HS = Algorithm.HS256
VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "moq_auth.json").read_text(encoding="utf-8"))
ROWS = VECTORS["rows"]
# We also take durations and dates where the original takes Unix timestamps only.
MORE_THAN_THE_ORIGINAL = (["--publish", "a", "--expires", "1h"], ["--publish", "a", "--expires", "never"])
MATERIAL = {"k", "x", "y", "d"}


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Cli:
    """Call the command line in a directory of its own, which has keys."""
    monkeypatch.chdir(tmp_path)
    Path("hs").write_text(json.dumps(forge.jwk(HS)), encoding="utf-8")
    Path("scoped").write_text(json.dumps(forge.jwk(HS, scope=VECTORS["scope"])), encoding="utf-8")
    cli = Cli(capsys, monkeypatch)
    cli.at(NOW)
    return cli


def row_id(row: dict[str, object]) -> str:
    return f"{row['command']} {' '.join(row['args'])[:40]}"  # type: ignore[arg-type]


@pytest.mark.parametrize("row", [row for row in ROWS if row["command"] == "sign"], ids=row_id)
def test_sign_means_what_it_means_in_the_original(cli: Cli, row: dict[str, object]) -> None:
    args: list[str] = row["args"]  # type: ignore[assignment]
    status, out, err = cli.run("auth", "sign", "--key", str(row["key"]), *args)
    if args in MORE_THAN_THE_ORIGINAL:
        assert status == 0
    elif "status" in row:
        assert status in {1, 2}
        assert (out, err.count("\n"), err[:7]) == ("", 1, "error: ")
    else:
        claims = json.loads(forge.unb64(out.split(".")[1]))
        if not claims["root"]:  # the original leaves an empty root out, which every relay reads as the same
            del claims["root"]
        assert (status, claims) == (0, row["payload"])


@pytest.mark.parametrize("row", [row for row in ROWS if row["command"] == "generate"], ids=row_id)
def test_generate_means_what_it_means_in_the_original(cli: Cli, row: dict[str, object]) -> None:
    args: list[str] = row["args"]  # type: ignore[assignment]
    status, out, err = cli.run("auth", "generate", *args)
    if "status" in row:
        assert status in {1, 2}
        assert (out, err.count("\n"), err[:7]) == ("", 1, "error: ")
        assert {path.name for path in Path().iterdir()} == {"hs", "scoped"}
        return
    # Base64url is the form that it prints.
    members = json.loads(forge.unb64(out.strip()))
    kept = {
        name: value for name, value in members.items() if name not in MATERIAL and (name != "kid" or "--id" in args)
    }
    kept["key_ops"].sort()
    assert (status, kept) == (0, row["members"])
    assert Key.from_str(out).kid == members["kid"]


def test_the_same_text_has_two_meanings(cli: Cli) -> None:
    _, ours, _ = cli.run("sign", "--key", "hs", "--publish", "alice")
    _, theirs, _ = cli.run("auth", "sign", "--key", "hs", "--publish", "alice")
    key = Key.from_file("hs")
    assert key.verify(ours.strip()).publish == ("alice",)
    assert key.verify(theirs.strip()).publish == (Pattern("alice"),)
    _, same, _ = cli.run("auth", "sign", "--key", "hs", "--publish", "alice/**")
    assert same == ours


FIRST = "note: relays before 0.15 refuse this token: it has patterns, which relays read from 0.15 on"
ONE = "is that one broadcast, as in `moq auth`: to add all beneath it"


@pytest.mark.parametrize(
    ("options", "notes"),
    [
        (
            ["--publish", "alice"],
            [
                FIRST,
                f"note: --publish 'alice' {ONE}, use 'alice/**'",
            ],
        ),
        (
            ["--subscribe", ""],
            [FIRST, "note: --subscribe '' is the root itself, as in `moq auth`: to add all beneath it, use '**'"],
        ),
        (["--publish", "/".join("d" * 32)], [FIRST]),  # a pattern with `/**` would have too many segments
        (["--publish", "alice/**", "--publish", "alice"], []),
        (["--publish", "**", "--subscribe", "**"], []),
        (["--publish", "cam*"], [FIRST]),
        (["--publish", "cam*", "--relay", "0.17"], []),
    ],
)
def test_sign_says_which_meaning_was_used(cli: Cli, options: list[str], notes: list[str]) -> None:
    status, _, err = cli.run("auth", "sign", "--key", "hs", "--expires", "1h", *options)
    assert (status, err.splitlines()) == (0, notes)


def test_notes_are_bounded(cli: Cli) -> None:
    options = [word for index in range(20) for word in ("--publish", f"b{index:02}")]
    _, _, err = cli.run("auth", "sign", "--key", "hs", "--expires", "1h", *options)
    assert len(err.splitlines()) == 7
    assert err.endswith("note: 15 more patterns like these\n")


def test_a_key_in_place_of_a_pattern_is_not_repeated(cli: Cli) -> None:
    text = forge.b64(forge.compact(forge.jwk(HS)))
    _, _, err = cli.run("auth", "sign", "--key", "hs", "--expires", "1h", "--publish", text)
    assert text[:20] not in err
    assert "note: --publish this is that one broadcast" in err


def test_sign_takes_what_ours_takes(cli: Cli) -> None:
    options = ("--subject", "alice", "--jti", "7", "--not-before", "now", "--issued", "now", "--expires", "2027-12-31")
    status, token, err = cli.run("auth", "sign", "--key", "hs", "--publish", "a/**", *options, "--relay", "0.17")
    assert (status, err) == (0, "")
    claims = Key.from_file("hs").verify(token.strip(), now=NOW, strict=True)
    assert (claims.subject, claims.id, claims.not_before, claims.issued) == ("alice", "7", NOW, NOW)
    assert "refuse this token" in cli.refused(1, "auth", "sign", "--key", "hs", "--publish", "a", "--relay", "0.14")


def test_sign_without_grants_says_how_to_grant_everything(cli: Cli) -> None:
    why = cli.refused(2, "auth", "sign", "--key", "hs")
    assert why == "the token grants nothing: add --publish or --subscribe, with '**' for everything"


def test_generate_has_a_scope_of_patterns(cli: Cli) -> None:
    _, text, err = cli.run("auth", "generate", "--root", "demo", "--publish", "live", "--subscribe", "**")
    assert Key.from_str(text).scope == Scope("demo", Pattern("live"), "")
    assert err.splitlines() == [
        "note: relays before 0.15 cannot load this key: it has patterns, which relays read from 0.15 on",
        "note: --publish 'live' is that one broadcast, as in `moq auth`: to add all beneath it, use 'live/**'",
    ]
    _, text, err = cli.run("auth", "generate", "--root", "demo")
    assert Key.from_str(text).scope is None
    assert err == "note: this key has no scope: --root needs --publish or --subscribe beside it\n"


def test_generate_writes_files(cli: Cli) -> None:
    argv = ("auth", "generate", "--algorithm", "EdDSA", "--id", "k", "--out-dir", "signing", "--public-dir", "keys")
    assert cli.run(*argv)[:2] == (0, "")
    assert Key.from_file("signing/k.jwk").to_public() == Key.from_file("keys/k.jwk")
    assert Path("keys/k.jwk").read_text(encoding="utf-8").startswith("ey")
    assert cli.run("auth", "generate", "--out", "hs")[0] == 0
    assert json.loads(Path("hs.1.bak").read_text(encoding="utf-8")) == forge.jwk(HS)  # where the original replaces it


def test_verify_reads_as_relays_from_0_15_do(cli: Cli) -> None:
    token = cli.run("auth", "sign", "--key", "hs", "--publish", "alice", "--expires", "1h")[1]
    Path("alice.jwt").write_text(token, encoding="utf-8")
    expected = {"root": "", "publish": ["alice"], "exp": NOW + 3600}
    assert json.loads(cli.done("auth", "verify", "--key", "hs", "--in", "alice.jwt")) == expected
    assert json.loads(cli.done("auth", "verify", "--key", "hs", stdin=token)) == expected
    for more in ('"aud":"x"', '"cluster":true', '"get":["a*"]', '"publish":["b"]', '"room":1', '"exp":2e9'):
        token = forge.token(HS, f'{{"put":["a"],{more}}}'.encode())
        assert cli.refused(1, "auth", "verify", "--key", "hs", stdin=token).startswith("refused: bad-claims: ")


@pytest.mark.parametrize(
    ("argv", "why"),
    [
        ("auth", "missing command: use one of generate, sign, verify"),
        ("auth sing", "No such command 'sing'. Did you mean 'sign'?"),
        ("auth keys", "no such command 'keys': use one of generate, sign, verify"),
        ("genrate", "No such command 'genrate'. Did you mean 'generate'?"),
        ("auth verify --key hs token", "unexpected argument 'token': the token is read from standard input"),
        ("auth sign --publish a --publish-pattern b", "No such option '--publish-pattern'. Did you mean '--publish'?"),
        ("--key hs auth sign --publish a", "auth does not accept --key in front of it"),
    ],
)
def test_wrong_words_are_refused(cli: Cli, argv: str, why: str) -> None:
    assert why.casefold() in cli.refused(2, *argv.split()).casefold()
