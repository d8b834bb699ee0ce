"""The grants of a command line: paths and patterns, in both meanings, and which relays accept the result."""

from __future__ import annotations

import json
import shlex
import textwrap
from pathlib import Path

import pytest

from moq_token import Algorithm, Key, Pattern, Scope
from tests import forge
from tests.command_line import Cli

NOW = 1_800_000_000
HS = Algorithm.HS256
DEEP = "/".join(["d"] * 33)
FULL = "/".join(["d"] * 32)
FULL_PATH = (
    "relays from 0.15 on read a path of 32 segments as that one broadcast: grant a shorter path for what lies beneath "
    "it"
)
FIRST_TOKEN = "relays before 0.15 refuse this token: it has patterns, which relays read from 0.15 on"
FIRST_KEY = "relays before 0.15 cannot load this key: it has patterns, which relays read from 0.15 on"
SECOND_TOKEN = "relays from 0.15 on refuse this token: "


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Cli:
    """Call the command line in a directory of its own, which has a key."""
    monkeypatch.chdir(tmp_path)
    Path("hs.jwk").write_text(json.dumps(forge.jwk(HS)), encoding="utf-8")
    cli = Cli(capsys, monkeypatch)
    cli.at(NOW)
    return cli


def payload(token: str) -> dict[str, object]:
    claims: dict[str, object] = json.loads(forge.unb64(token.strip().split(".")[1]))
    return claims


def sign(cli: Cli, options: str) -> tuple[int, str, list[str]]:
    status, out, err = cli.run("sign", "--key", "hs.jwk", "--expires", "1h", *shlex.split(options))
    return status, out, err.splitlines()


@pytest.mark.parametrize(
    ("options", "grants", "notes"),
    [
        # A path is a subtree, however it is written, and is read by every relay.
        ("--publish alice", {"put": ["alice"]}, []),
        ("--publish ''", {"put": [""]}, []),
        ("--publish /a//b/", {"put": ["/a//b/"]}, []),
        ("--publish alice/**", {"put": ["alice"]}, []),
        ("--publish **", {"put": [""]}, []),
        ("--publish b --publish a --subscribe ''", {"put": ["b", "a"], "get": [""]}, []),
        ("--publish-pattern alice/**", {"put": ["alice"]}, []),
        ("--publish-pattern ** --subscribe-pattern a/b/**", {"put": [""], "get": ["a/b"]}, []),
        (f"--publish {FULL}", {"put": [FULL]}, [FULL_PATH]),
        # Everything else is a pattern, and then both roles are written as such.
        ("--publish cam*/hd", {"publish": ["cam*/hd"]}, [FIRST_TOKEN]),
        ("--publish *", {"publish": ["*"]}, [FIRST_TOKEN]),
        ("--publish */**", {"publish": ["**/*"]}, [FIRST_TOKEN]),
        ("--subscribe rooms/*/chat", {"subscribe": ["rooms/*/chat"]}, [FIRST_TOKEN]),
        ("--publish a/**/leaf --subscribe bob", {"publish": ["a/**/leaf"], "subscribe": ["bob/**"]}, [FIRST_TOKEN]),
        ("--publish-pattern alice", {"publish": ["alice"]}, [FIRST_TOKEN]),
        ("--subscribe-pattern ''", {"subscribe": [""]}, [FIRST_TOKEN]),
        ("--publish-pattern alice --publish-pattern bob", {"publish": ["alice", "bob"]}, [FIRST_TOKEN]),
        ("--publish a --publish-pattern b", {"publish": ["a/**", "b"]}, [FIRST_TOKEN]),
        ("--publish a --publish-pattern a", {"put": ["a"]}, []),
        (f"--publish {FULL} --publish cam*", {"publish": ["cam*", FULL]}, [FIRST_TOKEN, FULL_PATH]),
    ],
)
def test_sign_takes_paths_and_patterns(cli: Cli, options: str, grants: dict[str, object], notes: list[str]) -> None:
    status, token, err = sign(cli, f"--root r {options}")
    assert status == 0
    assert payload(token) == {"root": "r", **grants, "exp": NOW + 3600}
    assert err == [f"note: {note}" for note in notes]
    # The signed token is read back, including by the rules of relays from 0.15 on.
    assert Key.from_file("hs.jwk").verify(token.strip(), now=NOW, strict=True).root == "r"


@pytest.mark.parametrize("option", ["--publish", "--subscribe", "--publish-pattern", "--subscribe-pattern"])
@pytest.mark.parametrize("command", ["sign --key hs.jwk", "generate", "keys rotate keys"])
@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("/cam*", "segment 1 is empty; remove the extra `/`"),
        ("cam*/", "segment 2 is empty; remove the extra `/`"),
        ("a//b*", "segment 2 is empty"),
        ("a*b*c", "segment 1 is 'a*b*c'; expected at most one `*` in a segment, or exactly `**`"),
        ("a**", "expected at most one `*`"),
        ("***", "expected at most one `*`"),
        ("**/a/**", "`**` may be used once, it is used 2 times"),
        (f"*/{DEEP}", "it has 34 segments, the limit is 32"),
        ("*" + "ab " * 3000, "it has 9001 characters, the limit is 8192"),
        ("\udcff*", "it is not valid Unicode text"),
    ],
)
def test_a_bad_pattern_is_named_by_its_option(cli: Cli, command: str, option: str, pattern: str, why: str) -> None:
    message = cli.refused(2, *command.split(), f"{option}={pattern}")
    assert message.startswith(f"{option}: invalid pattern")
    assert why in message
    assert sorted(path.name for path in Path().iterdir()) == ["hs.jwk"]


def test_a_path_that_a_pattern_option_refuses(cli: Cli) -> None:
    assert "segment 1 is empty" in cli.refused(2, "sign", "--key", "hs.jwk", "--publish-pattern", "/alice")


@pytest.mark.parametrize("option", ["--publish", "--publish-pattern"])
def test_a_key_in_place_of_a_pattern_is_not_repeated(cli: Cli, option: str) -> None:
    key = json.dumps(forge.jwk(HS) | {"a": "/*/**/**"})
    message = cli.refused(2, "sign", "--key", "hs.jwk", f"{option}={key}")
    assert message == f"{option}: this looks like a key or a token, and not like a pattern"


def test_odd_patterns_are_noted(cli: Cli) -> None:
    _, _, err = sign(cli, "--root 'r*' --publish 'rooms/{id}/*' --subscribe 'x[0-9]/*' --subscribe-pattern bob?")
    assert err[:-1] == [
        "note: --root 'r*': `*` stands for itself, not a wildcard here",
        "note: --publish 'rooms/{id}/*': `{id}` stands for itself, and is not replaced: fill in the value",
        "note: --subscribe 'bob?': `?` stands for itself, not a wildcard: a pattern has only `*` and `**`",
        "note: --subscribe 'x[0-9]/*': `[0-9]` stands for itself, not a wildcard: a pattern has only `*` and `**`",
    ]


# -- which relays


@pytest.mark.parametrize(
    ("options", "relays", "why"),
    [
        ("--publish cam*", "0.14", FIRST_TOKEN),
        ("--publish cam*", "v0.14.18", FIRST_TOKEN),
        ("--publish cam*", "0.5", FIRST_TOKEN),
        ("--publish-pattern alice", "0.14", FIRST_TOKEN),
        ("--publish-pattern alice", "all", FIRST_TOKEN),
        ("--subscribe a/**/b", "0.17 --relay 0.14", FIRST_TOKEN),
        ("--publish a --cluster", "0.17", f"{SECOND_TOKEN}remove --cluster"),
        ("--publish a --cluster", "0.14 --relay 0.15.0", f"{SECOND_TOKEN}remove --cluster"),
        (f"--publish {DEEP}", "0.17.10", f"{SECOND_TOKEN}invalid pattern: it has 33 segments, the limit is 32"),
        (f"--publish {DEEP}", "1.0", f"{SECOND_TOKEN}invalid pattern"),
    ],
)
def test_sign_signs_nothing_that_a_named_relay_refuses(cli: Cli, options: str, relays: str, why: str) -> None:
    status, out, err = sign(cli, f"{options} --relay {relays}")
    assert (status, out) == (1, "")
    assert err[0].startswith(f"error: {why}")
    assert len(err) == 1


@pytest.mark.parametrize(
    ("options", "relays"),
    [
        ("--publish alice", "0.14"),
        ("--publish alice/**", "all"),
        ("--publish alice --cluster", "0.10"),
        ("--publish cam*", "0.15"),
        ("--publish-pattern alice", "0.17 --relay 0.17.10 --relay 1.0"),
        (f"--publish {DEEP}", "0.14"),
        (f"--publish {FULL}", "0.14"),
    ],
)
def test_a_token_for_the_named_relays_needs_no_note(cli: Cli, options: str, relays: str) -> None:
    status, out, err = sign(cli, f"{options} --relay {relays}")
    assert (status, out.count("."), err) == (0, 2, [])


@pytest.mark.parametrize("options", ["--cluster", f"--publish {DEEP}"])
def test_what_newer_relays_refuse_is_noted(cli: Cli, options: str) -> None:
    status, _, err = sign(cli, f"--publish a {options}")
    assert status == 0
    assert len(err) == 1
    assert err[0].startswith(f"note: {SECOND_TOKEN}")


@pytest.mark.parametrize("text", ["", "14", "latest", "0.x", "0.14,0.17", "x" * 300])
@pytest.mark.parametrize("command", ["sign --key hs.jwk --publish a", "generate"])
def test_another_word_is_no_version(cli: Cli, command: str, text: str) -> None:
    message = cli.refused(2, *command.split(), f"--relay={text}")
    assert message == "--relay: expected a version of moq-relay, such as 0.14 or 0.17.10, or all"


# -- the scope of a key


@pytest.mark.parametrize(
    ("options", "scope", "notes"),
    [
        ("--publish live", Scope("", "live"), []),
        ("--root demo --publish live/** --subscribe ''", Scope("demo", "live", ""), []),
        ("--publish cam*/hd", Scope("", Pattern("cam*/hd")), [FIRST_KEY]),
        ("--publish-pattern alice", Scope("", Pattern("alice")), [FIRST_KEY]),
        ("--root r --subscribe-pattern ''", Scope("r", (), Pattern("")), [FIRST_KEY]),
        ("--publish a --subscribe b/*", Scope("", "a", Pattern("b/*")), [FIRST_KEY]),
    ],
)
def test_generate_takes_a_scope_of_paths_and_patterns(cli: Cli, options: str, scope: Scope, notes: list[str]) -> None:
    status, text, err = cli.run("generate", *shlex.split(options))
    assert (status, Key.from_str(text).scope) == (0, scope)
    assert err.splitlines() == [f"note: {note}" for note in notes]


def test_generate_writes_nothing_that_a_named_relay_cannot_load(cli: Cli) -> None:
    argv = ("generate", "--out", "new.jwk", "--publish", "cam*")
    assert cli.refused(1, *argv, "--relay", "0.14") == FIRST_KEY
    assert not Path("new.jwk").exists()
    deep = cli.refused(1, "generate", "--out", "new.jwk", "--publish", DEEP, "--relay", "0.17")
    assert deep.startswith("relays from 0.15 on cannot load this key: invalid pattern")
    assert not Path("new.jwk").exists()
    for scope, why in (
        (("--root", "a*", "--publish", "x"), "a root with `*` permits nothing"),
        (("--root", "a*", "--publish-pattern", "x"), "a root with `*` permits nothing"),
        (("--root", "a/a", "--publish", FULL[2:]), "below its root, invalid pattern: it has 34 segments"),
    ):
        useless = cli.refused(1, "generate", "--out", "new.jwk", *scope, "--relay", "0.17")
        assert useless.startswith(f"relays from 0.15 on refuse every token of this key: {why}")
        assert not Path("new.jwk").exists()
        assert f"refuse every token of this key: {why}" in cli.run("generate", *scope)[2]
    assert cli.done(*argv, "--relay", "0.17") == ""
    assert cli.done("generate", "--publish", "a", "--relay", "all")


def test_a_path_as_deep_as_patterns_get_is_noted(cli: Cli) -> None:
    for relays in ("--relay", "0.17"), ("--relay", "all"), ():
        assert cli.run("generate", "--publish", f"/{FULL}/", *relays)[2] == f"note: {FULL_PATH}\n"
        assert sign(cli, shlex.join(["--publish", FULL, *relays]))[2] == [f"note: {FULL_PATH}"]
    assert FULL_PATH in cli.run("keys", "rotate", "keys", "--algorithm", "HS256", "--publish", FULL)[2]
    assert FULL_PATH not in cli.run("generate", "--publish-pattern", FULL)[2]
    assert cli.run("generate", "--publish", FULL[2:])[2] == ""


@pytest.mark.parametrize("option", ["--publish-pattern", "--subscribe-pattern"])
def test_a_pattern_is_a_scope_for_the_root(cli: Cli, option: str) -> None:
    _, text, _ = cli.run("generate", "--root", "demo", option, "alice")
    scope = Key.from_str(text).scope
    assert scope is not None
    assert scope.root == "demo"


def test_rotate_takes_patterns(cli: Cli) -> None:
    first = ("--publish", "cam*/hd", "--subscribe", "cam", "--subscribe-pattern", "bob")
    status, kid, err = cli.run("keys", "rotate", "keys", "--algorithm", "HS256", *first)
    assert (status, err) == (0, f"note: {FIRST_KEY}\n")
    assert Key.from_file(f"keys/{kid.strip()}.jwk").scope == Scope("", "cam*/hd", ("cam", Pattern("bob")))
    assert "the new scope permits 'cam*', which" in cli.refused(1, "keys", "rotate", "keys", "--publish", "cam*")
    narrower = ("--publish-pattern", "cam1/hd", "--root", "")
    status, kid, err = cli.run("keys", "rotate", "keys", *narrower)
    assert (status, err) == (0, f"note: {FIRST_KEY}\n")
    assert Key.from_file(f"keys/{kid.strip()}.jwk").scope == Scope("", Pattern("cam1/hd"))
    # A scope that stays as it is needs no note each night.
    assert cli.done("keys", "rotate", "keys").strip() != kid.strip()


def test_list_says_which_relays_load_a_key(cli: Cli) -> None:
    cli.run("generate", "--id", "a", "--out-dir", "keys", "--publish", "cam*/hd", "--subscribe-pattern", "bob")
    cli.run("generate", "--id", "b", "--out-dir", "keys", "--publish", "cam")
    lines = cli.done("keys", "list", "keys").splitlines()
    assert [line for line in lines if line.startswith(" ")] == [
        "  scope: --publish 'cam*/hd' --subscribe-pattern bob",
        *textwrap.wrap(FIRST_KEY, 80, initial_indent="  ", subsequent_indent="    "),
        "  scope: --publish cam",
    ]
    rows = json.loads(cli.done("keys", "list", "keys", "--json"))
    assert [(row["kid"], row["scope"], row["needs_relay"]) for row in rows] == [
        ("a", {"root": "", "publish": ["cam*/hd"], "subscribe": ["bob"]}, "0.15"),
        ("b", {"root": "", "put": ["cam"], "get": []}, None),
    ]


# -- output for tokens and keys


@pytest.mark.parametrize(
    ("claims", "lines", "grants"),
    [
        (
            {"root": "r", "publish": ["alice", "b/**"], "subscribe": ["cam*", "**"]},
            ["publish    r/alice (that path only), r/b", "subscribe  r/cam*, r"],
            {"publish": ["r/b"], "subscribe": ["r"], "publish_patterns": ["r/alice"], "subscribe_patterns": ["r/cam*"]},
        ),
        (
            {"publish": ["", "**"], "subscribe": []},
            ["publish    (that path only), everything", "subscribe  nothing"],
            {"publish": [""], "subscribe": [], "publish_patterns": [""]},
        ),
        # Tokens that should not exist.
        (
            {"publish": ["a**", "/b", 5, "c"], "subscribe": {}},
            ["publish    c (that path only)", "subscribe  nothing"],
            {"publish": [], "subscribe": [], "publish_patterns": ["c"]},
        ),
        (
            {"root": "x*", "publish": ["c"], "subscribe": None},
            ["publish    nothing", "subscribe  nothing"],
            {"publish": [], "subscribe": []},
        ),
    ],
)
def test_inspect_shows_patterns_and_which_relays_read_them(
    cli: Cli, claims: dict[str, object], lines: list[str], grants: dict[str, object]
) -> None:
    token = forge.token(HS, claims)
    _, out, _ = cli.run("inspect", token)
    shown = out.splitlines()[2:]
    assert shown == [
        "time       never expires",
        *lines,
        f"relays     {FIRST_TOKEN[7:]}",
        "signature  not checked: anybody can have written this token",
    ]
    found = json.loads(cli.run("inspect", "--json", token)[1])
    assert (found["grants"], found["needs_relay"], found["ignored"]) == (grants, "0.15", [])


def test_patterns_beside_prefixes_are_ignored(cli: Cli) -> None:
    token = forge.token(HS, {"put": ["a"], "publish": ["b"]})
    found = json.loads(cli.run("inspect", "--json", token)[1])
    assert found["grants"] == {"publish": ["a"], "subscribe": []}
    assert (found["needs_relay"], found["ignored"]) == (None, ["`publish` (called `put`)"])


def test_inspect_shows_the_name_of_a_token_and_when_it_begins(cli: Cli) -> None:
    _, token, _ = sign(cli, "--publish a --subject alice@example.com --jti 7f3a --not-before 10m")
    assert cli.done("inspect", token).splitlines()[2:] == [
        "subject    alice@example.com",
        "token id   7f3a",
        "time       becomes valid in 10 min, at 2027-01-15 08:10:00 UTC",
        "time       expires in 1 h, at 2027-01-15 09:00:00 UTC",
        "publish    a",
        "subscribe  nothing",
        "ignored    `sub`, `jti`",
        "signature  not checked: anybody can have written this token",
    ]
    refused = cli.run("inspect", "--key", "hs.jwk", stdin=token)
    assert refused[0] == 1
    assert "not-yet-valid: the token is valid in 10 min, from 2027-01-15 08:10:00 UTC on" in refused[1]


@pytest.mark.parametrize("value", [["a"], {"x": 1}, 5, None])
def test_only_text_names_a_token(cli: Cli, value: object) -> None:
    out = cli.run("inspect", forge.token(HS, {"put": ["a"], "sub": value, "jti": value}))[1]
    assert "subject" not in out.replace('"sub', "")
    assert "token id" not in out


KEY = "key        HS256, secret\nid         test-key\noperations sign, verify\n"


@pytest.mark.parametrize(
    ("scope", "lines"),
    [
        (None, "scope      none\n"),
        ({"root": "r", "put": ["a"], "get": []}, "scope      publishing r/a, subscribing to nothing\n"),
        (
            {"root": "", "publish": ["alice"], "subscribe": ["cam*"]},
            f"scope      publishing alice (that path only), subscribing to cam*\nrelays     {FIRST_KEY[7:]}\n",
        ),
    ],
)
def test_inspect_shows_a_key_without_its_secret(cli: Cli, scope: object, lines: str) -> None:
    members = forge.jwk(HS) | {"scope": scope}
    Path("k.jwk").write_text(json.dumps(members), encoding="utf-8")
    assert cli.done("inspect", "--in", "k.jwk") == KEY + lines
    assert cli.done("inspect", stdin=json.dumps(members)) == KEY + lines
    assert cli.done("inspect", stdin=forge.b64(forge.compact(members))) == KEY + lines
    (found,) = json.loads(cli.done("inspect", "--json", "--in", "k.jwk"))
    assert found == {
        "kid": "test-key",
        "algorithm": "HS256",
        "half": "secret",
        "operations": ["sign", "verify"],
        "scope": scope,
        "needs_relay": "0.15" if "relays" in lines else None,
    }


def test_inspect_shows_every_key_of_a_set(cli: Cli) -> None:
    keys = {"keys": [forge.public_jwk(Algorithm.EDDSA, kid="ed"), forge.jwk(Algorithm.ES256, kid="es")]}
    out = cli.done("inspect", stdin=json.dumps(keys))
    assert [block.splitlines()[:2] for block in out.split("\n\n")] == [
        ["key        EdDSA, public", "id         ed"],
        ["key        ES256, private", "id         es"],
    ]
    assert forge.jwk(Algorithm.ES256)["d"] not in out
    assert [key["kid"] for key in json.loads(cli.done("inspect", "--json", stdin=json.dumps(keys)))] == ["ed", "es"]


def test_inspect_names_what_is_wrong_with_a_key(cli: Cli) -> None:
    why = cli.refused(1, "inspect", stdin=json.dumps(forge.jwk(HS, alg="HS999")))
    assert why.startswith("standard input: the member `alg` must be one of")
    # As an argument every user of the machine could see it.
    assert cli.run("inspect", json.dumps(forge.jwk(HS)))[0] == 1


def test_inspect_says_that_older_relays_cannot_load_the_key(cli: Cli) -> None:
    Path("k.jwk").write_text(json.dumps(forge.jwk(HS, scope={"publish": ["cam*"]})), encoding="utf-8")
    token = cli.run("sign", "--key", "k.jwk", "--publish-pattern", "cam1", "--expires", "1h")[1]
    status, out, err = cli.run("inspect", "--key", "k.jwk", stdin=token)
    assert (status, "signature  good" in out) == (0, True)
    assert err == f"note: {FIRST_KEY}\n"


# -- verify


def test_verify_says_which_relays_refuse_a_token_with_patterns(cli: Cli) -> None:
    token = sign(cli, "--root r --publish-pattern alice --publish b")[1]
    status, out, err = cli.run("verify", "--key", "hs.jwk", "--path", "/r", stdin=token)
    assert (status, json.loads(out)) == (0, {"root": "r", "publish": ["alice", "b/**"], "exp": NOW + 3600})
    assert err.splitlines() == [
        f"note: {FIRST_TOKEN}",
        "note: may publish alice (that path only), b at /r",
        "note: may subscribe to nothing at /r",
    ]
    assert cli.run("verify", "--key", "hs.jwk", "--strict", stdin=token)[2] == ""
    found = json.loads(cli.run("verify", "--key", "hs.jwk", "--path", "/r", "--json", stdin=token)[1])
    assert found["permissions"] == {"publish": ["b"], "subscribe": [], "publish_patterns": ["alice"]}


@pytest.mark.parametrize(
    ("claims", "why"),
    [
        ('"aud":"x"', "`aud`"),
        ('"cluster":true', "'cluster'"),
        ('"room":"x"', "'room'"),
        ('"get":["a*"]', "`get`"),
        (f'"get":["{DEEP}"]', "`get`"),
        ('"publish":["b"]', "beside"),
        ('"exp":1800003600.0', "`exp`"),
    ],
)
def test_verify_strictly_refuses_what_newer_relays_refuse(cli: Cli, claims: str, why: str) -> None:
    token = forge.token(HS, f'{{"root":"","put":["a"],{claims}}}'.encode())
    assert cli.run("verify", "--key", "hs.jwk", stdin=token)[0] == ("aud" in claims)
    message = cli.refused(1, "verify", "--key", "hs.jwk", "--strict", stdin=token)
    assert message.startswith("refused: bad-claims: ")
    assert why.strip("`'") in message


# -- subject, id, start of validity


def test_sign_names_a_token(cli: Cli) -> None:
    status, token, err = sign(cli, "--publish a --subject alice@example.com --jti 7f3a")
    assert (status, err) == (0, [])
    claims = {"root": "", "put": ["a"], "exp": NOW + 3600, "sub": "alice@example.com", "jti": "7f3a"}
    assert payload(token) == claims


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("10m", NOW + 600),
        ("now", NOW),
        ("0s", NOW),
        (str(NOW + 5), NOW + 5),
        ("2027-01-15T08:00:01Z", NOW + 1),
        ("2026-01-01", 1_767_225_600),
    ],
)
def test_not_before_takes_the_forms_of_expires(cli: Cli, text: str, start: int) -> None:
    status, token, err = sign(cli, f"--publish a --not-before {text}")
    assert (status, payload(token)["nbf"]) == (0, start)
    assert err == ["note: relays before 0.15 ignore --not-before, and accept the token at once"]
    assert sign(cli, f"--publish a --not-before {text} --relay 0.17")[2] == []


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ("--not-before 2h", "--not-before must be earlier than --expires"),
        ("--not-before 1h", "--not-before must be earlier than --expires"),
        ("--not-before 3600", "--not-before 3600 is a Unix timestamp, 1970-01-01 01:00:00 UTC: for a duration add"),
        ("--not-before never", "--not-before must be a duration such as 90s, 15m, 1h or 7d, a Unix timestamp"),
        ("--not-before tomorrow", "--not-before must be a duration"),
        ("--not-before '1 h'", "--not-before '1 h': a duration is a whole number and a unit"),
        ("--not-before 1969-12-31", "--not-before must be in 1970 or later"),
        ("--not-before 18000000000000", "--not-before is after the year 9999"),
        ("--subject ''", "--subject must not be empty"),
        ("--jti ''", "--jti must not be empty"),
        ("--jti a --jti b", "--jti is given twice: it takes one value"),
        ("--id a", "no such option '--id'"),
    ],
)
def test_sign_refuses_names_and_times(cli: Cli, options: str, why: str) -> None:
    argv = ("sign", "--key", "hs.jwk", "--publish", "a", "--expires", "1h", *shlex.split(options))
    assert why.casefold() in cli.refused(2, *argv).casefold()


def test_a_url_fits_a_token_with_patterns(cli: Cli) -> None:
    status, url, _ = sign(cli, "--root rooms/1 --publish-pattern alice --url https://relay.example.com")
    assert (status, url.startswith("https://relay.example.com/rooms/1?jwt=e")) == (0, True)
    status, url, _ = sign(cli, "--root rooms/1 --publish-pattern alice --url https://relay.example.com/rooms/1/alice")
    assert status == 0
    beyond = sign(cli, "--root rooms/1 --publish-pattern alice --url https://relay.example.com/rooms/1/alice/x")
    assert beyond == (2, "", ["error: --url: the token grants nothing at the path 'rooms/1/alice/x'"])
