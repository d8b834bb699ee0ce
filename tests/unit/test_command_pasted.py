"""Tokens in pasted text: the command names the text around the token, or what it found instead of one."""

from __future__ import annotations

import json
import os
import textwrap
from pathlib import Path
from urllib.parse import quote

import pytest

from moq_token.algorithm import Algorithm
from moq_token.cli.output import Failed
from moq_token.cli.pasted import find
from tests import forge
from tests.command_line import Cli

ED = Algorithm.EDDSA
TOKEN = forge.token(ED, forge.claim())
HEAD, PAYLOAD, SIGNATURE = TOKEN.split(".")
WRAPPED = "\n".join(textwrap.wrap(TOKEN, 64))

AROUND = [
    (f"Bearer {TOKEN}", "the word `Bearer`"),
    (f"bearer   {TOKEN}", "the word `Bearer`"),
    (f"Bearer%20{TOKEN}", "the word `Bearer`"),
    (f"Authorization: Bearer {TOKEN}", "an `Authorization` header"),
    (f'"authorization": "Bearer {TOKEN}",', "an `Authorization` header"),
    (f"Proxy-Authorization: Bearer {TOKEN}\r\nHost: x", "an `Authorization` header"),
    (f"Cookie: a=b; jwt={TOKEN}; c=d", "a cookie"),
    (f"Set-Cookie: jwt={TOKEN}; Path=/", "a cookie"),
    (f"curl -H 'Authorization: Bearer {TOKEN}' https://x.example", "a command line"),
    (f"https://relay.example.com/rooms/123?jwt={TOKEN}", "a URL"),
    (f"https://relay.example.com/?a=b&amp;token={TOKEN}#top", "a URL"),
    (quote(f"https://relay.example.com/?jwt={TOKEN}", safe=""), "a URL"),
    (json.dumps({"token": TOKEN}), "JSON"),
    (json.dumps([{"data": {"jwt": TOKEN}}], indent=2), "JSON"),
    (f"TOKEN={TOKEN}", "a name and its value"),
    (f'export TOKEN="{TOKEN}"', "a name and its value"),
    (f"token: {TOKEN}", "a name and its value"),
    (f'"{TOKEN}"', "quotation marks"),
    (f"'{TOKEN}'", "quotation marks"),
    (f"\u201c{TOKEN}\u201d", "quotation marks"),
    (f"```\n{TOKEN}\n```", "quotation marks"),
    (quote(f'"{TOKEN}"'), "quotation marks"),
    (f"<{TOKEN}>", "other text"),
    (f"see {TOKEN}. Then", "other text"),
    (f"{TOKEN},", "other text"),
    (f"the token is {TOKEN} \n", "other text"),
    (f"{TOKEN}\nHello", "other text"),
    (WRAPPED, "line breaks or spaces"),
    (WRAPPED.replace("\n", "\r\n    "), "line breaks or spaces"),
    (WRAPPED.replace("\n", " \\\n"), "line breaks or spaces"),
    (WRAPPED.replace("\n", " "), "line breaks or spaces"),
    (f"{HEAD}.\n{PAYLOAD}.\n{SIGNATURE}", "line breaks or spaces"),
    (f"Bearer {WRAPPED}", "the word `Bearer`"),
    (f"{TOKEN} {TOKEN}", "other text"),
    (json.dumps({"protected": HEAD, "payload": PAYLOAD, "signature": SIGNATURE}), "the JSON serialization of a JWS"),
    (
        json.dumps({"payload": PAYLOAD, "signatures": [{"protected": HEAD, "signature": SIGNATURE}]}),
        "the JSON serialization of a JWS",
    ),
]


@pytest.mark.parametrize(("text", "around"), AROUND)
def test_what_is_around_a_token_is_named(text: str, around: str) -> None:
    assert find(text) == (TOKEN, around)


@pytest.mark.parametrize(
    "text",
    [
        TOKEN,
        "",
        "eyJ",
        f"{TOKEN}=",
        f"{TOKEN}x",
        f"x{TOKEN}",
        TOKEN.replace(".", "+."),
        f"{HEAD}.{PAYLOAD}",
        "hello you",
    ],
)
def test_nothing_is_changed_where_no_token_can_be_seen(text: str) -> None:
    assert find(text) == (text, None)


OTHER = forge.token(ED, forge.claim(root="other"))
INSTEAD = [
    (f"{TOKEN}\n{OTHER}\n", "found 2 different tokens"),
    (json.dumps(forge.jwk(ED)), "got a key"),
    (json.dumps({"keys": [forge.jwk(ED)]}), "got a key"),
    (json.dumps(forge.claim()), "got claims without header and signature"),
    ("-----BEGIN PRIVATE KEY-----\nMC4C\n-----END PRIVATE KEY-----", "got PEM"),
    ("Basic dXNlcjpwYXNz", "a user name and password"),
    ("Authorization: Basic dXNlcjpwYXNz", "a user name and password"),
    (f'"{HEAD}.AAAA.BBBB.CCCC.DDDD"', "an encrypted one"),
    (f"{TOKEN[:20]}\u2026{TOKEN[-10:]}", "the token is shortened"),
    (f"{TOKEN[:20]}...", "the token is shortened"),
]


@pytest.mark.parametrize(("text", "what"), INSTEAD)
def test_what_is_there_instead_is_named_and_not_repeated(text: str, what: str) -> None:
    with pytest.raises(Failed, match=what) as caught:
        find(text)
    assert not any(part in str(caught.value) for part in text.split() if len(part) > 12)


def test_searching_takes_no_longer_for_long_texts() -> None:
    for text in (
        "eyJ." * 15_000,
        " eyJaa" * 10_000,
        "eyJ" * 20_000 + " ",
        "a\n" * 30_000,
        "{" * 60_000,
        "%65" * 20_000,
    ):
        try:
            assert find(text).around is None
        except Failed as error:
            assert len(str(error)) < 200  # noqa: PT017


@pytest.fixture
def keys(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Cli:
    monkeypatch.chdir(tmp_path)
    Path("pub.jwk").write_text(json.dumps(forge.public_jwk(ED)), encoding="utf-8")
    return Cli(capsys, monkeypatch)


@pytest.mark.parametrize(("text", "around"), AROUND)
def test_inspect_and_explain_take_it_and_verify_says_so(keys: Cli, text: str, around: str) -> None:
    for argv in (["inspect", "--key", "pub.jwk"], ["explain", "--key", "pub.jwk", "--path", "/rooms/123"]):
        status, out, err = keys.run(*argv, stdin=text)
        assert (status, err) == (0, f"note: ignored the text around the token: {around}\n")
        assert out
    message = keys.refused(1, "verify", "--key", "pub.jwk", stdin=text)
    assert message == f"expected only a token, got it with {around}: pass only the token"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig"])
def test_a_byte_order_mark_does_not_matter(keys: Cli, encoding: str) -> None:
    for command in ("inspect", "verify"):
        assert keys.done(command, "--key", "pub.jwk", stdin=f"{TOKEN}{os.linesep}".encode(encoding))


@pytest.mark.parametrize(
    ("claims", "said"),
    [
        ({"path": "a", "publish": ["b"]}, ["`path` (called `root`)", "`publish` (called `put`)"]),
        ({"pub": "a", "sub": ""}, ["`pub` (called `put`)", "`sub` (called `get`)"]),
        ({"video": {"room": "r"}, "iss": "x", "sub": "bob"}, ["`video`", "`iss`", "`sub`"]),
        ({"room": "r", "expires": 5, "guest": "x"}, ["`room` (called `root`)", "`expires` (called `exp`)", "`guest` "]),
        ({f"x{number}": 1 for number in range(100)}, ["`x0`", "`x7`", "and 92 more"]),
        ({"y\n" * 1000: 1}, ["`y\\ny\\n"]),
    ],
)
def test_claims_that_relays_ignore_are_named(keys: Cli, claims: dict[str, object], said: list[str]) -> None:
    token = forge.token(ED, claims)
    status, out, _ = keys.run("explain", "--key", "pub.jwk", "--path", "/", stdin=token)
    assert status == 1
    assert out.startswith("refused: useless: ")
    fix = out.splitlines()[-1]
    assert fix.startswith("fix: sign with --publish or --subscribe; the token has ")
    assert all(text in fix for text in said)
    assert len(fix) < 1000
    if "publish" in claims:  # which relays from 0.15 on read
        said = said[:-1]
    _, out, _ = keys.run("inspect", stdin=token)
    assert all(text in out for text in said)
    assert json.loads(keys.run("inspect", "--json", stdin=token)[1])["ignored"][0].startswith(said[0])


@pytest.mark.parametrize("prefix", ["*", "alice/**", "rooms/{id}", "../x", "a/./b", "x/:id", "$ROOM"])
def test_a_path_that_looks_like_a_pattern_is_noted(keys: Cli, prefix: str) -> None:
    token = forge.token(ED, {"root": "", "put": [prefix]})
    status, _, err = keys.run("explain", "--key", "pub.jwk", "--path", "/", stdin=token)
    assert (status, err.startswith(f"note: put {prefix!r}: ")) == (0, True)


@pytest.mark.parametrize("prefix", ["", "alice", "a/b.hang", "é", "a..b", "12:30", "user@example"])
def test_ordinary_paths_are_not_noted(keys: Cli, prefix: str) -> None:
    token = forge.token(ED, {"root": "", "put": [prefix]})
    assert keys.run("explain", "--key", "pub.jwk", "--path", "/", stdin=token)[2] == ""
