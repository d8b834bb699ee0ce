"""Which relays the answer of `explain` is for, and its notes about the others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from moq_token import Algorithm, Pattern
from moq_token.claims import Claims
from tests import forge
from tests.command_line import Cli
from tests.lint_cases import key, token

URL = "https://relay.example.com/anon/room"
GOOD = '{"root":"anon","put":[""],"exp":1800000060}'
CLUSTER = '{"root":"anon","put":[""],"exp":1800000060,"cluster":true,"x":1}'


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Cli:
    monkeypatch.chdir(tmp_path)
    Path("key.jwk").write_bytes(key())
    cli = Cli(capsys, monkeypatch)
    cli.at(forge.NOW)
    return cli


def config(text: str) -> tuple[str, str]:
    Path("relay.toml").write_text(f"[auth]\n{text}\n", encoding="utf-8")
    return "--config", "relay.toml"


def test_a_key_says_where_the_others_decide_otherwise(cli: Cli) -> None:
    argv = ("explain", "--key", "key.jwk", "--path", "/anon")
    assert "answer for" not in cli.done(*argv, stdin=token(GOOD))
    status, _, err = cli.run(*argv, stdin=token(CLUSTER))
    assert (status, err.splitlines()) == (
        0,
        [
            "note: relays from 0.15 on refuse this token: unknown claim `cluster`: sign the token without it",
            "note: relays from 0.15 on refuse this token: unknown claim `x`: sign the token without it",
        ],
    )
    found = json.loads(cli.run(*argv, "--json", stdin=token(CLUSTER))[1])
    assert (found["relays"], [each["code"] for each in found["others"]]) == (
        "relays before 0.15",
        ["cluster", "unknown-claim"],
    )


def test_patterns_are_named_for_the_relays_that_read_them(cli: Cli) -> None:
    text = forge.key(Algorithm.EDDSA).sign(Claims("anon", publish=Pattern("cam*/hd")))
    forge.key(Algorithm.EDDSA).to_public().to_file("public.jwk")
    status, out, err = cli.run("explain", "--key", "public.jwk", "--path", "/anon", stdin=text)
    assert (status, out.partition(":")[2][:9]) == (1, " useless:")
    assert err == "note: relays from 0.15 on read this token: it grants patterns (anon/cam*/hd)\n"
    # They are not the misspelt claims of other software.
    assert "called" not in out
    assert out.splitlines()[-1] == "fix: grant subtrees only (`alice/**`), or use relays from 0.15 on"


def test_an_unverified_token_is_not_judged_further(cli: Cli) -> None:
    status, _, err = cli.run("explain", "--key", "key.jwk", "--path", "/anon", stdin=f"{token(CLUSTER)[:-4]}AAAA")
    assert (status, err) == (1, "")


def test_an_old_file_answers_for_old_relays(cli: Cli) -> None:
    out = cli.done("explain", *config('key = "key.jwk"'), f"{URL}?jwt={token(GOOD)}")
    assert out.splitlines()[-1] == "answer for  relays before 0.15"
    status, _, err = cli.run("explain", *config('key = "key.jwk"'), f"{URL}?jwt={token(CLUSTER)}")
    assert (status, err.count("note: relays from 0.15 on refuse this token")) == (0, 2)
    found = json.loads(cli.done("explain", *config('public = "anon"'), "--json", URL))
    assert (found["relays"], found["allowed"]) == ("relays before 0.15", True)


def test_public_rules_answer_for_new_relays(cli: Cli) -> None:
    rules = config('public_subscribe = "anon/**"')
    assert cli.done("explain", *rules, URL).splitlines() == [
        "allowed: may publish nothing; may subscribe to everything there",
        "url         yes",
        "public      yes",
        "answer for  relays from 0.15 on",
    ]
    assert cli.done("explain", *rules, "--subscribe", "x", URL)
    for url, options, reason in (
        ("https://relay.example.com/other", (), "no-access"),
        (f"{URL}?jwt={token(GOOD)}", (), "no-key-source"),
        (URL, ("--publish", "x"), "no-access"),
    ):
        status, out, _ = cli.run("explain", *rules, *options, url)
        assert (status, out.partition(":")[2].partition(":")[0].strip()) == (1, reason)
        assert "answer for  relays from 0.15 on" in out


def test_where_an_auth_server_decides_that_is_said(cli: Cli) -> None:
    message = cli.refused(1, "explain", *config('url = "https://me:hunter2@auth.example.com/x?y=1"'), URL)
    assert message == (
        "relays from 0.15 on ask the auth server at https://auth.example.com/x: pass its configuration as --config, or "
        "its key and the path with --key and --path"
    )
    assert "has no wildcard" in cli.refused(1, "explain", *config('public_publish = "anon"'), URL)
