"""The commands for tokens, and the whole program, called as from a shell."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

import moq_token
from moq_token import Algorithm, Claims, Key, KeySet, RefusedError, Scope, compiled
from moq_token import cli as command_line
from moq_token.auth import Connection
from moq_token.cli import keyring, main, output, program, times, tokens
from moq_token.files import MAX_FILE_BYTES
from moq_token.path import normalize
from tests import forge
from tests.command_line import OTHER_SECRET, Cli

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

HS, RS, PS, ES, ED = forge.ONE_OF_EACH
NOW = forge.NOW
TOKEN = forge.token(HS)
SIGN = ("sign", "--key", "hs.jwk", "--publish", "")


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory with the files that the tables name. No test changes it."""
    folder = tmp_path_factory.mktemp("desk")
    lay_out(folder)
    return folder


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, desk: Path) -> Cli:
    monkeypatch.chdir(desk)
    made = Cli(capsys, monkeypatch)
    made.at(float(NOW))
    return made


@pytest.fixture
def own(cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Cli:
    """Call the command line where files may be written."""
    lay_out(tmp_path)
    monkeypatch.chdir(tmp_path)
    return cli


def lay_out(folder: Path) -> None:
    """Write the keys, sets, directories and tokens that the tables name."""
    files: dict[str, Mapping[str, object] | str] = {
        "hs.jwk": forge.jwk(HS),
        "hs.base64": forge.b64(forge.compact(forge.jwk(HS))),
        "other.jwk": forge.jwk(HS, k=OTHER_SECRET),
        "ed.jwk": forge.jwk(ED, kid="ed"),
        "ed.public": forge.public_jwk(ED, kid="ed"),
        "nokid.jwk": forge.jwk(HS, kid=None),
        "signs.jwk": forge.jwk(HS, key_ops=["sign"]),
        "verifies.jwk": forge.jwk(HS, key_ops=["verify"]),
        "scoped.jwk": forge.jwk(HS, scope={"root": "rooms", "put": ["123/alice"]}),
        "set.jwk": {"keys": [forge.public_jwk(ED, kid="ed"), forge.jwk(HS), forge.jwk(ES, kid="es")]},
        "public-set.jwk": {"keys": [forge.public_jwk(ED, kid="ed"), forge.public_jwk(ES, kid="es")]},
        "one.jwk": {"keys": [forge.jwk(HS)]},
        "empty-set.jwk": {"keys": []},
        "keys/test-key.jwk": forge.jwk(HS),
        "keys/ed.jwk": forge.public_jwk(ED, kid="ed"),
        "two/a.jwk": forge.jwk(HS, kid="a"),
        "two/b.jwk": forge.jwk(HS, kid="b"),
        "many.jwk": {"keys": [forge.public_jwk(ED, kid=f"key-{index}") for index in range(7)]},
        "broken.jwk": json.dumps(forge.jwk(HS))[:-1],
        "secret.jwk": forge.jwk(HS, alg="HS999"),
        "key.pem": forge.public_forms(ED)["pem"].decode(),
        "alice.jwt": f"{TOKEN}\n",
        "large": " " * (MAX_FILE_BYTES + 1),
    }
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    (folder / "folder").mkdir()


def grant(**claims: object) -> str:
    return forge.token(HS, forge.claim(**claims))


def payload(token: str) -> dict[str, object]:
    claims: dict[str, object] = json.loads(forge.unb64(token.strip().split(".")[1]))
    return claims


def unix(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


@pytest.mark.parametrize("algorithm", ["EC256", "EC384", *Algorithm])
def test_every_algorithm_of_the_page_signs_and_verifies(own: Cli, algorithm: str) -> None:
    known = Algorithm.parse(algorithm)
    if known.kty == "RSA":  # made of a published key, as it takes long to find one
        Path("k.jwk").write_text(json.dumps(forge.jwk(known)), encoding="utf-8")
        Path("v.jwk").write_text(json.dumps(forge.public_jwk(known)), encoding="utf-8")
    else:
        public = () if known.symmetric else ("--public", "v.jwk")
        own.done("generate", "--algorithm", algorithm, "--out", "k.jwk", *public)
    verifier = "k.jwk" if known.symmetric else "v.jwk"
    token = own.done("sign", "--key", "k.jwk", "--root", "r", "--publish", "", "--expires", "1h")
    assert json.loads(forge.unb64(token.split(".")[0]))["alg"] == known.value
    assert json.loads(own.done("verify", "--key", verifier, stdin=token))["exp"] == NOW + 3600
    assert Key.from_file(verifier).verify(token.strip(), now=NOW).publish == ("",)


# -- sign


@pytest.mark.parametrize(
    ("options", "claims"),
    [
        (["--publish", ""], {"root": "", "put": [""]}),
        (["--subscribe", ""], {"root": "", "get": [""]}),
        (["--publish="], {"root": "", "put": [""]}),
        (["--root", "rooms/123", "--publish", "alice"], {"root": "rooms/123", "put": ["alice"]}),
        (["--root=rooms", "--subscribe=a=b"], {"root": "rooms", "get": ["a=b"]}),
        (["--publish", "b", "--subscribe", "c", "--publish", "a"], {"root": "", "put": ["b", "a"], "get": ["c"]}),
        (["--publish=-dash", "--root", "ünï/😀"], {"root": "ünï/😀", "put": ["-dash"]}),
        (["--publish", "", "--issued", "now"], {"root": "", "put": [""], "iat": NOW}),
        (["--publish", "", "--issued", "NOW"], {"root": "", "put": [""], "iat": NOW}),
        (["--publish", "", "--issued", "0"], {"root": "", "put": [""], "iat": 0}),
        (["--publish", "", "--issued", "2027-01-01"], {"root": "", "put": [""], "iat": unix("2027-01-01")}),
        (
            ["--issued", "now", "--expires", "1h", "--subscribe", "s", "--publish", "p", "--root", "r"],
            {"root": "r", "put": ["p"], "get": ["s"], "exp": NOW + 3600, "iat": NOW},
        ),
    ],
)
def test_sign_writes_what_the_options_say(cli: Cli, options: list[str], claims: dict[str, object]) -> None:
    # HMAC leaves no choice, so the token is known to the last character.
    lasting = () if "--expires" in options else ("--expires", "never")
    assert cli.done("sign", "--key", "hs.jwk", *options, *lasting) == f"{forge.token(HS, claims)}\n"


@pytest.mark.parametrize(
    ("text", "expires"),
    [
        ("90s", NOW + 90),
        ("15m", NOW + 900),
        ("1h", NOW + 3600),
        ("7d", NOW + 604_800),
        ("2w", NOW + 1_209_600),
        ("1h30m", NOW + 5400),
        ("1w2d3h4m5s", NOW + 788_645),
        ("0h1s", NOW + 1),
        ("+1h", NOW + 3600),
        (str(NOW + 1), NOW + 1),
        (f"+{NOW + 1}", NOW + 1),
        ("2027-01-31", unix("2027-01-31")),
        ("2027-01-31T12:00:00Z", unix("2027-01-31T12:00:00")),
        ("2027-01-31t12:00:00z", unix("2027-01-31T12:00:00")),
        ("2027-01-31 12:00:00+02:00", unix("2027-01-31T10:00:00")),
        ("2027-01-31T12:00:00-05:30", unix("2027-01-31T17:30:00")),
        ("2027-01-31T12:00:00.9Z", unix("2027-01-31T12:00:00")),
        ("2028-02-29", unix("2028-02-29")),
        ("9999-12-31T23:59:59Z", 253_402_300_799),
        ("never", None),
        ("NEVER", None),
    ],
)
@pytest.mark.parametrize("fraction", [0.0, 0.9])
def test_sign_reads_an_expiry(cli: Cli, text: str, expires: int | None, fraction: float) -> None:
    cli.at(NOW + fraction)
    assert payload(cli.done(*SIGN, "--expires", text)).get("exp") == expires


@pytest.mark.parametrize(
    ("text", "expires", "past"),
    [
        (str(NOW), NOW, "0 s ago, at 2027-01-15 08:00:00 UTC"),
        (str(NOW - 3), NOW - 3, "3 s ago, at 2027-01-15 07:59:57 UTC"),
        ("1735689600", 1735689600, "2 years ago, at 2025-01-01 00:00:00 UTC"),
        ("2020-01-01", unix("2020-01-01"), "7 years ago, at 2020-01-01 00:00:00 UTC"),
        ("2027-01-15T09:59:00+02:00", NOW - 60, "1 min ago, at 2027-01-15 07:59:00 UTC"),
        ("1999-12-31", unix("1999-12-31"), "27 years ago, at 1999-12-31 00:00:00 UTC"),
        ("1000000000", 1_000_000_000, "25 years ago, at 2001-09-09 01:46:40 UTC"),
    ],
)
@pytest.mark.parametrize("more", [[], ["--allow-past"]])
def test_sign_notes_that_a_token_has_expired(cli: Cli, text: str, expires: int, past: str, more: list[str]) -> None:
    status, token, err = cli.run(*SIGN, "--expires", text, *more)
    assert (status, payload(token)["exp"]) == (0, expires)
    assert err == f"note: this token has already expired, so relays refuse it: it expired {past}\n"
    assert "the token expired" in cli.refused(1, "verify", "--key", "hs.jwk", stdin=token)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("0s", "--expires must be later than now: a duration must be at least 1s"),
        ("0h0m", "--expires must be later than now"),
        ("3600", "--expires 3600 is a Unix timestamp, 1970-01-01 01:00:00 UTC: for a duration add the unit"),
        ("0", "--expires 0 is a Unix timestamp, 1970-01-01 00:00:00 UTC"),
        ("2027", "1970-01-01 00:33:47 UTC"),  # a year alone is no date
        ("999999999", "--expires 999999999 is a Unix timestamp, 2001-09-09 01:46:39 UTC"),
        ("1969-12-31", "--expires must be in 1970 or later"),
        ("-1h", "--expires '-1h': a duration must not be negative"),
        ("-1h30m", "must not be negative"),
    ],
)
def test_sign_refuses_what_can_hardly_be_an_expiry(cli: Cli, text: str, why: str) -> None:
    assert why in cli.refused(2, *SIGN, f"--expires={text}")
    assert why in cli.refused(2, *SIGN, f"--expires={text}", "--allow-past")


def test_sign_refuses_a_time_of_issue_before_1970(cli: Cli) -> None:
    assert cli.refused(2, *SIGN, "--issued", "1969-12-31") == "--issued must be in 1970 or later"


def test_sign_notes_paths_that_are_probably_not_meant(cli: Cli) -> None:
    argv = ("sign", "--key", "hs.jwk", "--root", "rooms/{id}", "--publish", "alice?", "--publish", "bob")
    status, token, err = cli.run(*argv, "--subscribe", "../x", "--expires", "1h")
    assert status == 0
    assert payload(token)["put"] == ["alice?", "bob"]
    assert err.splitlines() == [
        "note: --root 'rooms/{id}': `{id}` stands for itself, and is not replaced: fill in the value",
        "note: --publish 'alice?': `?` stands for itself, and does not end the path as in a URL",
        "note: --subscribe '../x': `..` is an ordinary name, and does not lead to another directory",
    ]


@pytest.mark.parametrize(
    "word", [json.dumps(forge.jwk(HS)), f" {json.dumps(forge.jwk(ED))}", "-----BEGIN PRIVATE KEY-----\nMC4C"]
)
def test_a_key_in_place_of_a_path_is_not_repeated(cli: Cli, word: str) -> None:
    status, _, err = cli.run("sign", "--key", "hs.jwk", f"--root={word}", "--publish", "", "--expires", "1h")
    assert (status, err) == (0, "note: --root: this looks like a key or a token, and not like a path\n")


def test_a_scope_has_the_same_notes(cli: Cli) -> None:
    _, key, err = cli.run("generate", "--publish", "..")
    assert Key.from_str(key).scope == Scope("", ("..",))
    assert err == "note: --publish '..': `..` is an ordinary name, and does not lead to another directory\n"


@pytest.mark.parametrize("terminal", [False, True])
def test_sign_notes_that_a_token_never_expires(cli: Cli, monkeypatch: pytest.MonkeyPatch, *, terminal: bool) -> None:
    monkeypatch.setattr(output, "to_terminal", lambda _: terminal)
    monkeypatch.setenv("NO_COLOR", "1")
    status, token, err = cli.run(*SIGN)
    assert (status, "exp" in payload(token)) == (0, False)
    assert err == (
        "note: this token never expires: use --expires 1h to limit it, or --expires never to silence this note\n"
    )
    assert cli.done(*SIGN, "--expires", "never") == token
    assert cli.done(*SIGN, "--expires", "1h") != token


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("2030-01-01T00:00:00", "the time zone is missing: add Z for UTC"),
        ("2030-01-01 00:00", "the time zone is missing"),
        ("2030-01-01T00:00:00.5", "the time zone is missing"),
        ("2030-01-01T00:00:00+0100", "the time zone must have hours, a colon and minutes, such as +01:00"),
        ("2030-01-01T00:00:00-05", "the time zone must have hours, a colon and minutes"),
        ("2030-01-01 00:00:00 +0100", "the time zone must have hours, a colon and minutes"),
        ("2030-01-01 00:00:00 UTC", "the time zone must be Z for UTC"),
        ("2030-01-01T00:00:00CET", "must be a "),
        ("2030-01-01 00:00:00 +01:00", "without a space in front"),
        ("2030-01-01T00:00Z", "the seconds are missing"),
        ("20300101T000000Z", "with dashes and colons"),
        ("1 h", "a whole number and a unit"),
        ("1.5h", "a whole number and a unit"),
        ("1hour", "a whole number and a unit"),
        ("30 minutes", "a whole number and a unit"),
        ("2D", "a whole number and a unit"),
    ],
)
def test_a_time_that_is_nearly_right_gets_the_fitting_advice(cli: Cli, text: str, why: str) -> None:
    for option in ("--expires", "--issued"):
        assert why in cli.refused(2, *SIGN, option, text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.4, "0 s"),
        (1.5, "2 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (60, "1 min"),
        (61, "61 s"),
        (119.6, "2 min"),
        (3540, "59 min"),
        (3599.2, "1 h"),
        (3600, "1 h"),
        (3660, "61 min"),
        (5400, "90 min"),
        (7199, "2 h"),
        (86399, "24 h"),
        (86400, "24 h"),
        (90000, "25 h"),
        (172799.5, "2 days"),
        (604799, "7 days"),
        (364.7 * 86400, "365 days"),
        (47.4 * 3600, "47 h"),
        (547.6 * 86400, "548 days"),
        (912 * 86400, "2 years"),
        (60 * 86400, "60 days"),
        (60 * 3600, "3 days"),
        (-3599, "1 h"),
    ],
)
def test_a_span_is_rounded(seconds: float, text: str) -> None:
    assert times.span(seconds) == text


NO_TIME = (
    *("", " ", "h", "1y", "1h1h", "1m1h", "1.5h", "1 h", "1H", "1hour", "--", "=1h", "1e9", "0x10", "nan", "inf", "٣h"),
    *("tomorrow", " never", "never ", "1h\n", "-1", "1_000_000_000", "9" * 19, "1" * 10_000, "1" * 10 + "d"),
    *("2027-02-29", "2027-13-01", "2027-1-1", "0000-01-01", "2027-01-31T12:00Z", "2027-01-31T12:00:00"),
    *("2027-01-31T25:00:00Z", "2027-01-31T12:60:00Z", "2027-01-31T12:00:60Z", "2027-01-31T12:00:00+25:00"),
    *("2027-01-31T12:00:00,5Z", "2027-W05-1", "+2027-01-31", "2027-01-31Z", "\x1b[31m", "now"),
)


@pytest.mark.parametrize("text", NO_TIME)
def test_sign_refuses_what_is_no_time(cli: Cli, text: str) -> None:
    for option in ("--expires", "--issued"):
        if (option, text) != ("--issued", "now"):
            why = cli.refused(2, *SIGN, f"{option}={text}")
            assert why.startswith((f"{option} must be ", f"{option} {text!r}: "))


@pytest.mark.parametrize("text", [str(NOW * 1000), "253402300800", "9" * 18])
def test_sign_refuses_milliseconds(cli: Cli, text: str) -> None:
    for option in ("--expires", "--issued"):
        assert f"{option} is after the year 9999" in cli.refused(2, *SIGN, option, text)
    assert "after the year 9999" in cli.refused(2, *SIGN, "--expires", "999999999w")


def test_a_duration_is_bounded_too() -> None:
    with pytest.raises(click.UsageError, match="--overlap is too long"):
        times.duration("999999999w", "--overlap")


UNITS = {"w": 604_800, "d": 86_400, "h": 3600, "m": 60, "s": 1}


@given(st.dictionaries(st.sampled_from("wdhms"), st.integers(0, 9_999), min_size=1), st.integers(0, 2_000_000_000))
def test_a_duration_is_the_sum_of_its_parts(parts: dict[str, int], now: int) -> None:
    text = "".join(f"{parts[unit]}{unit}" for unit in UNITS if unit in parts)
    length = sum(UNITS[unit] * count for unit, count in parts.items())
    assert times.duration(text, "--option") == length
    if length:
        assert times.expiry(text, now + 0.5) == now + length
    if len(parts) > 1:
        backwards = "".join(f"{parts[unit]}{unit}" for unit in reversed(UNITS) if unit in parts)
        with pytest.raises(click.UsageError, match="--option must be a duration"):
            times.duration(backwards, "--option")


@given(st.text() | st.from_regex(r"[+-]?[0-9:TZwdhms. -]{1,30}"))
def test_any_text_is_a_time_or_refused(text: str) -> None:
    with contextlib.suppress(click.UsageError):
        expires = times.expiry(text, NOW)
        assert expires is None or 0 <= expires < 253_402_300_800
    with contextlib.suppress(click.UsageError):
        assert times.issue(text, NOW) < 253_402_300_800


@pytest.mark.parametrize(
    ("url", "root", "expected"),
    [
        ("https://relay.example.com", "rooms/123", "https://relay.example.com/rooms/123?jwt="),
        ("https://relay.example.com/", "rooms/123", "https://relay.example.com/rooms/123?jwt="),
        ("https://relay.example.com:4443", "/rooms//123/", "https://relay.example.com:4443/rooms/123?jwt="),
        ("https://relay.example.com/rooms//123/", "rooms/123", "https://relay.example.com/rooms//123/?jwt="),
        ("https://relay.example.com/rooms/123/bob", "rooms/123", "https://relay.example.com/rooms/123/bob?jwt="),
        ("https://relay.example.com/rooms?a", "rooms/123", "https://relay.example.com/rooms?a&jwt="),
        ("https://relay.example.com/base", "", "https://relay.example.com/base?jwt="),
        ("https://relay.example.com", "", "https://relay.example.com/?jwt="),
        ("https://relay.example.com/?a=b&c", "r", "https://relay.example.com/r?a=b&c&jwt="),
        ("https://relay.example.com", "caf%C3%A9", "https://relay.example.com/caf%C3%A9?jwt="),
        ("https://relay.example.com", "a'b&c=d+e;%", "https://relay.example.com/a'b&c=d+e;%?jwt="),
        ("https://relay.example.com/a b/ü?c d", "", "https://relay.example.com/a%20b/%C3%BC?c%20d&jwt="),
        ("https://bücher.example", "r", "https://bücher.example/r?jwt="),
        ("HTTPS://relay.example.com", "r", "https://relay.example.com/r?jwt="),
        ("moqt://[::1]:443", "r", "moqt://[::1]:443/r?jwt="),
        ("http://localhost:4443", "r", "http://localhost:4443/r?jwt="),
    ],
)
def test_sign_prints_the_url_to_dial(cli: Cli, url: str, root: str, expected: str) -> None:
    argv = (*SIGN, "--root", root, "--expires", "1h")
    assert cli.done(*argv, "--url", url) == f"{expected}{cli.done(*argv)}"


@pytest.mark.parametrize(
    ("url", "why"),
    [
        *(
            (url, "--url must be the URL of a relay")
            for url in (
                *("", "relay.example.com", "relay.example.com:443", "https://", "https:///rooms", "//relay", "/rooms"),
                *("https://relay:0", "https://relay:99999", "https://relay:x", "https://[::1", "https://:443"),
            )
        ),
        ("https://bob:hunter2@relay.example.com", "--url must have no user name or password"),
        ("https://@relay.example.com", "--url must have no user name or password"),
        ("https://relay.example.com/#top", "--url must have no fragment"),
        (f"https://relay.example.com/?jwt={TOKEN}", "no `jwt` parameter"),
        ("https://relay.example.com/?a=b&j%77t=", "no `jwt` parameter"),
        ("ftp://relay.example.com", "unsupported scheme: 'ftp'"),
        ("moqt://relay example", "--url must be the URL of a relay"),
        ("https://relay.example.com/a\nb", "--url must be the URL of a relay"),
        (f"https://relay.example.com/{'a' * 200_000}", "too long"),
    ],
)
def test_sign_refuses_a_url(cli: Cli, url: str, why: str) -> None:
    assert why in cli.refused(2, *SIGN, "--url", url)


@pytest.mark.parametrize(
    ("url", "root", "why"),
    [
        *(
            ("https://relay.example.com", root, f"in a URL the root {root!r} becomes {held!r}")
            for root, held in {
                "café": "caf%C3%A9",
                "a b": "a%20b",
                "a?b#c": "a%3Fb%23c",
                "{a}": "%7Ba%7D",
                "..": "",
                "a/../b": "b",
                "a/%2E": "a",
                "a\\b": "a/b",
            }.items()
        ),
        ("https://relay.example.com/base", "rooms", "the path 'base' does not overlap the root 'rooms'"),
        ("https://relay.example.com/rooms/bob", "rooms", "grants nothing at the path 'rooms/bob'"),
    ],
)
def test_sign_prints_no_url_that_a_relay_would_refuse(cli: Cli, url: str, root: str, why: str) -> None:
    argv = ("sign", "--key", "hs.jwk", "--root", root, "--publish", "alice", "--expires", "1h", "--url", url)
    assert why in cli.refused(2, *argv)


SEGMENTS = st.text("ab./%2e\\é ?#&=+'", max_size=8)


@given(SEGMENTS, SEGMENTS, st.sampled_from(["", "/", "/?a", "/a", "/a/b?c=%20d"]))
def test_a_url_that_is_printed_is_admitted_where_it_leads(root: str, publish: str, rest: str) -> None:
    claims = Claims(root, publish)
    with contextlib.suppress(click.UsageError):
        dialed = Connection.from_url(tokens.dialed(f"https://relay.example{rest}", claims) + "header.payload.signature")
        assert dialed.token == "header.payload.signature"
        assert claims.authorize(dialed.path).publish
        if rest in {"", "/", "/?a"}:
            assert dialed.path.strip("/") == normalize(root)


NOTHING = "the token grants nothing: add"
TWICE = "is given twice: it takes one value"


@pytest.mark.parametrize(
    ("status", "argv", "why"),
    [
        (2, "sign --key hs.jwk", NOTHING),
        (2, "sign --key hs.jwk --root rooms --expires 1h --cluster", NOTHING),
        (2, "sign --publish a", "no key: name its file (- for standard input), or set MOQ_TOKEN_KEY"),
        (2, "sign --key", "--key needs a value: --key FILE"),
        (2, "sign --publish", "--publish needs a value: --publish PATH"),
        (2, "sign --publish --subscribe a", "--publish needs a value, but an option follows"),
        (2, "sign --publish -a", "write a value that starts with a dash as --publish=VALUE"),
        (2, "sign --expires -1h --publish a", "--expires needs a value, but an option follows"),
        *(
            (2, f"sign --publish a {option} 1 {option} 2", f"{option} {TWICE}")
            for option in ("--key", "--root", "--expires", "--issued", "--url")
        ),
        (2, "sign --key=a --publish a --key b", f"--key {TWICE}"),
        (2, "sign --cluster --cluster", f"--cluster {TWICE}"),
        (2, "sign --cluster=yes --publish a", "does not take a value"),
        (
            2,
            "sign --key hs.jwk --publish a b",
            "unexpected argument 'b': an option takes one value; repeat it for more",
        ),
        (2, f"sign --key hs.jwk --publish a {TOKEN}", "unexpected argument: an option takes one value"),
        (2, "sign --expire 1h", "no such option"),
        (2, "sign --pub a", "no such option"),
        (2, f"sign --{TOKEN}", "no such option: run "),
        (2, "sign -k hs.jwk", "no such option"),
        (2, f"sign --publish a --key {TOKEN}", "--key expects a file name, but this looks like a key or a token"),
        (1, "sign --key missing.jwk --publish a", "cannot read 'missing.jwk': No such file or directory"),
        (1, "sign --key broken.jwk --publish a", "'broken.jwk': the key is not valid JSON"),
        (1, "sign --key secret.jwk --publish a", "'secret.jwk': the member `alg` must be one of HS256"),
        (1, "sign --key key.pem --publish a", "this is PEM: convert it with the command `import`"),
        (1, "sign --key large --publish a", "'large' is larger than"),
        (1, "sign --key ed.public --publish a", "may not sign"),
        (1, "sign --key verifies.jwk --publish a", "may not sign"),
        (1, "sign --key public-set.jwk --publish a", "no key in this set has a private half"),
        (1, "sign --key empty-set.jwk --publish a", "no key in this set has a private half"),
        (1, "sign --key folder --publish a", "no key in 'folder' can sign"),
        (1, "sign --key two --publish a", "2 keys in 'two' can sign and none is active"),
        (
            1,
            "sign --key scoped.jwk --root rooms --publish 123",
            "the claims grant 'rooms/123', which is outside the scope of the key",
        ),
        (1, "sign --key scoped.jwk --root rooms --subscribe 123/alice", "which is outside the scope of the key"),
        (1, f"sign --key hs.jwk --publish {'a' * 70_000}", "the claims must not take more than"),
        (1, "sign --key hs.jwk --publish \udcff", "lone surrogate"),
        (1, "sign --key hs.jwk/x --publish a", "cannot read 'hs.jwk/x': Not a directory"),
        (1, "sign --key a\0b --publish a", "cannot read 'a\\x00b': invalid file name"),
    ],
)
def test_sign_refuses(cli: Cli, status: int, argv: str, why: str) -> None:
    assert why.casefold() in cli.refused(status, *argv.split(" ")).casefold()


@pytest.mark.parametrize(
    ("option", "now"),
    [
        ("--path", "--root"),
        ("--guest", "--subscribe and --publish"),
        ("--guest-sub", "--subscribe"),
        ("--guest-pub", "--publish"),
        ("--publish-force", "--publish"),
    ],
)
def test_removed_spellings_are_explained(cli: Cli, option: str, now: str) -> None:
    for words in ([option], [option, "demo"], [f"{option}=demo"]):
        assert cli.refused(2, *SIGN, *words) == f"{option} was removed: use {now}"


def test_a_value_is_no_removed_spelling(cli: Cli) -> None:
    assert payload(cli.done(*SIGN, "--expires", "never", "--root=--guest"))["root"] == "--guest"
    assert "unexpected argument '--guest'" in cli.refused(2, *SIGN, "--", "--guest")


@pytest.mark.parametrize("text", [json.dumps(forge.jwk(HS)), forge.b64(forge.compact(forge.jwk(HS)))])
@pytest.mark.parametrize("command", ["sign", "verify", "inspect", "explain"])
def test_a_key_in_place_of_its_file_is_not_repeated(cli: Cli, command: str, text: str) -> None:
    assert "pass it on standard input, as -" in cli.refused(2, command, "--key", text)
    assert "pass it on standard input, as -" in cli.refused(2, "--key", text, command)
    assert "pass it on standard input, as -" in cli.refused(2, command, f"--key={text}")


def test_a_pem_in_place_of_its_file_is_not_repeated(cli: Cli) -> None:
    text = "-----BEGIN PRIVATE KEY-----\nhunter2"
    assert "looks like a key" in cli.refused(2, *SIGN[:1], f"--key={text}", "--publish", "a")
    assert "an option follows" in cli.refused(2, *SIGN[:1], "--key", text, "--publish", "a")


# -- where the key is


@pytest.mark.parametrize("name", ["hs.jwk", "hs.base64", "one.jwk", "set.jwk", "keys", "keys/", "keys/test-key.jwk"])
def test_sign_takes_a_key_from_everywhere(cli: Cli, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    never = ("--expires", "never")
    expected = f"{forge.token(HS, {'root': '', 'put': ['']})}\n"
    assert cli.done("sign", "--key", name, "--publish", "", *never) == expected
    assert cli.done("--key", name, "sign", "--publish", "", *never) == expected
    assert cli.done(f"--key={name}", "sign", "--publish", "", *never) == expected
    monkeypatch.setenv("MOQ_TOKEN_KEY", name)
    assert cli.done("sign", "--publish", "", *never) == expected
    assert cli.done("sign", "--publish", "", *never, "--key", name) == expected
    if Path(name).is_file():
        text = Path(name).read_text(encoding="utf-8")
        assert cli.done("sign", "--key", "-", "--publish", "", *never, stdin=text) == expected
        assert cli.done("--key", "-", "sign", "--publish", "", *never, stdin=f"{text}\n") == expected
        monkeypatch.setenv("MOQ_TOKEN_KEY", "")
        monkeypatch.setenv("MOQ_TOKEN_KEY_DATA", text)
        assert cli.done("sign", "--publish", "", *never) == expected


def test_a_key_in_the_environment_stands_back_for_one_that_is_named(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOQ_TOKEN_KEY", "missing.jwk")
    monkeypatch.setenv("MOQ_TOKEN_KEY_DATA", "nonsense")
    assert cli.done(*SIGN, "--expires", "never")
    assert cli.done("verify", "--key", "hs.jwk", stdin=TOKEN)
    for argv in (["sign", "--publish", "a"], ["verify"]):
        assert "MOQ_TOKEN_KEY and MOQ_TOKEN_KEY_DATA are both set" in cli.refused(2, *argv)


@pytest.mark.parametrize("argv", [["sign", "--publish", "a"], ["verify", "--in", "alice.jwt"]])
def test_what_is_wrong_in_the_environment_is_named(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, argv: Sequence[str]
) -> None:
    monkeypatch.setenv("MOQ_TOKEN_KEY_DATA", f"hunter2 {OTHER_SECRET}")
    assert cli.refused(1, *argv).startswith("MOQ_TOKEN_KEY_DATA: ")
    monkeypatch.setenv("MOQ_TOKEN_KEY_DATA", "\udcff")
    assert cli.refused(1, *argv).startswith("MOQ_TOKEN_KEY_DATA: ")
    monkeypatch.setenv("MOQ_TOKEN_KEY_DATA", "")
    monkeypatch.setenv("MOQ_TOKEN_KEY", "missing.jwk")
    assert cli.refused(1, *argv).startswith("cannot read 'missing.jwk'")
    for key in (
        json.dumps(forge.jwk(HS)),
        forge.b64(forge.compact(forge.jwk(HS))),
        "-----BEGIN PRIVATE KEY-----\nhunter2",
    ):
        monkeypatch.setenv("MOQ_TOKEN_KEY", key)
        why = cli.refused(2, *argv)
        assert why.startswith("MOQ_TOKEN_KEY must be a file name")
        assert "MOQ_TOKEN_KEY_DATA" in why


@pytest.mark.parametrize("argv", [["verify"], ["verify", "--in", "-"], ["inspect"], ["inspect", "-"]])
@pytest.mark.parametrize("name", ["-", "/dev/stdin", "/dev/fd/0"])
def test_key_and_token_cannot_both_come_from_standard_input(cli: Cli, argv: Sequence[str], name: str) -> None:
    key = Path("hs.jwk").read_text(encoding="utf-8")
    why = "key and token cannot both come from standard input"
    assert why in cli.refused(2, argv[0], "--key", name, *argv[1:], stdin=key)
    if argv[0] == "verify":
        assert why in cli.refused(2, "--key", name, *argv, stdin=key)


# -- verify

CLAIMS = '{"root":"rooms/123","put":["alice"],"get":[""]}\n'
HEADER = {"typ": "JWT", "alg": "HS256", "kid": "test-key"}


@pytest.mark.parametrize(
    "key", ["hs.jwk", "hs.base64", "nokid.jwk", "verifies.jwk", "one.jwk", "set.jwk", "keys", "keys/"]
)
@pytest.mark.parametrize("command", [["verify"], ["--key"]])
def test_verify_prints_the_claims(cli: Cli, key: str, command: Sequence[str]) -> None:
    argv = ["verify", "--key", key] if command == ["verify"] else ["--key", key, "verify"]
    assert cli.done(*argv, stdin=TOKEN) == CLAIMS
    assert cli.done(*argv, stdin=f"\n \t{TOKEN}\r\n\n") == CLAIMS
    assert cli.done(*argv, "--in", "-", stdin=TOKEN) == CLAIMS
    assert cli.done(*argv, "--in", "alice.jwt") == CLAIMS
    assert json.loads(cli.done(*argv, "--json", "--in=alice.jwt")) == {"header": HEADER, "claims": forge.GRANT}


@pytest.mark.parametrize("name", ["hs.jwk", "set.jwk"])
def test_verify_takes_the_key_from_anywhere(cli: Cli, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    text = Path(name).read_text(encoding="utf-8")
    assert cli.done("verify", "--key", "-", "--in", "alice.jwt", stdin=text) == CLAIMS
    monkeypatch.setenv("MOQ_TOKEN_KEY", name)
    assert cli.done("verify", stdin=TOKEN) == CLAIMS
    monkeypatch.delenv("MOQ_TOKEN_KEY")
    monkeypatch.setenv("MOQ_TOKEN_KEY_DATA", text)
    assert cli.done("verify", stdin=TOKEN) == CLAIMS


@pytest.mark.parametrize("option", ["--path", "--root"])
@pytest.mark.parametrize(
    ("path", "publish", "subscribe"),
    [
        ("rooms/123", ["alice"], [""]),
        ("/rooms//123/", ["alice"], [""]),
        ("rooms/123/alice", [""], [""]),
        ("rooms/123/bob", [], [""]),
        ("rooms", ["123/alice"], ["123"]),
        ("", ["rooms/123/alice"], ["rooms/123"]),
    ],
)
def test_verify_says_what_is_granted_at_a_path(
    cli: Cli, option: str, path: str, publish: Sequence[str], subscribe: Sequence[str]
) -> None:
    status, out, err = cli.run("verify", "--key", "hs.jwk", option, path, stdin=TOKEN)
    where = "/" + "/".join(part for part in path.split("/") if part)
    words = [", ".join(prefix or "everything" for prefix in found) or "nothing" for found in (publish, subscribe)]
    assert (status, out) == (0, CLAIMS)
    assert err == f"note: may publish {words[0]} at {where}\nnote: may subscribe to {words[1]} at {where}\n"
    found = json.loads(cli.done("verify", "--key", "hs.jwk", option, path, "--json", stdin=TOKEN))
    assert found["permissions"] == {"publish": list(publish), "subscribe": list(subscribe)}


BAD_SIGNATURE = forge.token(HS, signer=lambda data: forge.sign(HS, data, bytes(64)))
NO_KID = forge.token(HS, head=forge.header(HS, kid=...))
# Which key refuses which token, and why; good is whether `inspect` says that the signature is.
REFUSED = [
    ("hs.jwk", BAD_SIGNATURE, "the signature does not match the token and the key", False),
    ("other.jwk", TOKEN, "the signature does not match the token and the key", False),
    ("hs.jwk", TOKEN[:-1], "", False),
    ("ed.public", TOKEN, "its key is for EdDSA", False),
    (
        "hs.jwk",
        forge.token(HS, head=forge.header(HS, alg="none"), signer=lambda _: b""),
        "its key is for HS256",
        False,
    ),
    ("hs.jwk", forge.token(HS, head=forge.header(HS, crit=["x"])), "`crit`", False),
    ("hs.jwk", grant(exp=NOW), "expired: the token expired 0 s ago, at 2027-01-15 08:00:00 UTC", True),
    ("hs.jwk", grant(exp=1), "the token expired 57 years ago, at 1970-01-01 00:00:01 UTC", True),
    ("hs.jwk", grant(nbf=NOW + 1), "the token is valid in 1 s, from 2027-01-15 08:00:01 UTC on", True),
    ("hs.jwk", grant(exp="soon"), "the claim `exp` must be a whole number", True),
    ("hs.jwk", grant(put=5), "the claim `put` must be", True),
    ("hs.jwk", grant(aud="x"), "the token has an `aud`", True),
    ("hs.jwk", grant(put=..., get=[]), "the token grants nothing", True),
    ("scoped.jwk", TOKEN, "the token grants 'rooms/123', which is outside the scope of its key", True),
    ("public-set.jwk", TOKEN, "no key with the id 'test-key'; available ids: 'ed', 'es'", False),
    ("many.jwk", TOKEN, "available ids: 'key-0', 'key-1', 'key-2', 'key-3', 'key-4', …", False),
    ("empty-set.jwk", TOKEN, "no key with the id 'test-key', as there are no keys at all", False),
    ("folder", TOKEN, "no key with the id 'test-key', as there are no keys at all", False),
    ("two", TOKEN, "no key with the id 'test-key'; available ids: 'a', 'b'", False),
    ("set.jwk", NO_KID, "the token has no `kid`, which is needed to select the key; available ids: 'ed'", False),
    ("keys", NO_KID, "the token has no `kid`", False),
    ("keys", forge.token(HS, head=forge.header(HS, kid="../hs")), "no key with the id '../hs'", False),
    ("keys", forge.token(HS, head=forge.header(HS, kid="\x1b[2J")), "no key with the id '\\x1b[2J'", False),
    (
        "keys",
        forge.token(HS, head=forge.header(HS, kid="k" * 500)),
        f"no key with the id '{'k' * 80}…'",
        False,
    ),
    ("keys", forge.token(HS, head=forge.header(HS, kid=5)), "`kid`", False),
]


@pytest.mark.parametrize(("key", "token", "why", "good"), REFUSED)
def test_verify_refuses(cli: Cli, key: str, token: str, why: str, *, good: bool) -> None:
    message = cli.refused(1, "verify", "--key", key, stdin=token)
    assert why in message
    assert cli.refused(1, "verify", "--key", key, "--json", stdin=token) == message

    said = re.sub("^refused: [a-z-]+: ", "", message)
    status, out, err = cli.run("inspect", "--key", key, "--json", stdin=token)
    if out:
        found = json.loads(out)
        assert (status, err, f"refused: {found['reason']}: {found['refused']}") == (1, "", message)
        assert found["signature"] in ({"good"} if good else {"bad", "not checked"})
        assert (found["signature"] == "bad") is (found["reason"] == "bad-signature")
        status, out, err = cli.run("inspect", "--key", key, stdin=token)
        assert (status, err) == (1, "")
        refused = f"refused    {found['reason']}: {said}"
        assert out.splitlines()[-2:] == [f"signature  {found['signature']}", refused]
    else:
        assert (status, err) == (1, f"error: {said}\n")


def test_a_token_without_id_is_verified_where_there_is_one_key(cli: Cli) -> None:
    for key in ("hs.jwk", "one.jwk"):
        assert cli.done("verify", "--key", key, stdin=NO_KID) == CLAIMS


@pytest.mark.parametrize(
    ("status", "argv", "why"),
    [
        (2, "verify", "no key: name its file"),
        (2, "verify --key", "--key needs a value"),
        (2, "verify --key hs.jwk --key ed.jwk", f"--key {TWICE}"),
        (2, "verify --key hs.jwk --path a --root b", f"--path or --root {TWICE}"),
        (2, "verify --key hs.jwk --in a --in b", f"--in {TWICE}"),
        (2, "verify --json --json", f"--json {TWICE}"),
        (
            2,
            f"verify --key hs.jwk {TOKEN}",
            "unexpected argument: the token is read from standard input, or from a file",
        ),
        (2, f"verify --key hs.jwk --in {TOKEN}", "--in expects a file name, but this looks like a key or a token"),
        (2, "verify --key hs.jwk --publish a", "no such option"),
        (1, "verify --key hs.jwk", "expected a token, got empty input"),
        (1, "verify --key hs.jwk --in hs.jwk", "expected a token, got a key"),
        (1, "verify --key hs.jwk --in missing.jwt", "cannot read 'missing.jwt': No such file or directory"),
        (1, "verify --key hs.jwk --in folder", "'folder' is a directory"),
        (1, "verify --key hs.jwk --in large", "is larger than"),
        (1, "verify --key signs.jwk --in alice.jwt", "may not verify"),
        (1, "verify --key missing.jwk --in alice.jwt", "cannot read 'missing.jwk'"),
        (1, "verify --key broken.jwk --in alice.jwt", "'broken.jwk': the key is not valid JSON"),
        (1, "verify --key key.pem --in alice.jwt", "this is PEM"),
        (1, "verify --key hs.jwk --in alice.jwt --path rooms/999", "does not overlap the root 'rooms/123'"),
        (1, "verify --key hs.jwk --in alice.jwt --path other --json", "does not overlap the root 'rooms/123'"),
        (2, "inspect a b", "unexpected argument 'b'"),
        (2, f"inspect a {TOKEN}", "unexpected argument"),
        (2, "inspect a --in b", "give the token as an argument or with --in, not both"),
        (2, "inspect - --in b", "give the token as an argument or with --in, not both"),
        (2, "inspect --json --json", f"--json {TWICE}"),
        (2, "inspect --path a", "no such option"),
        (1, "inspect", "expected a token, got empty input"),
        (1, "inspect x", "this has 1"),
        (2, "inspect alice.jwt", "use --in"),
        (1, "inspect --in missing.jwt", "cannot read 'missing.jwt'"),
        (1, "inspect --in large", "is larger than"),
        (1, f"inspect {'a' * 70_000}", "the token is longer than"),
        (1, f"inspect {TOKEN.replace('.', '!.', 1)}", "not canonical base64url"),
        (1, f"inspect {forge.token(HS, b'[]')}", "the claims of the token must be a JSON object"),
        (1, f"inspect {forge.token(HS, b'{')}", "the claims of the token are not valid JSON"),
        (1, f"inspect {forge.token(HS, head=b'[]')}", "the header of the token must be a JSON object"),
        (1, f"inspect --key missing.jwk {TOKEN}", "cannot read 'missing.jwk'"),
    ],
)
def test_verify_and_inspect_refuse(cli: Cli, status: int, argv: str, why: str) -> None:
    assert why.casefold() in cli.refused(status, *argv.split(" ")).casefold()


def test_a_broken_key_of_a_directory_is_no_refusal_of_the_token(own: Cli) -> None:
    Path("keys/test-key.jwk").write_text("{hunter2", encoding="utf-8")
    assert "test-key.jwk': the key is not valid JSON" in own.refused(1, "verify", "--key", "keys", stdin=TOKEN)
    Path("keys/test-key.jwk").unlink()
    Path("keys/test-key.jwk").symlink_to("nowhere")
    assert "test-key.jwk': No such file" in own.refused(1, "verify", "--key", "keys", stdin=TOKEN)


def test_a_directory_of_public_keys_verifies_by_the_id(cli: Cli) -> None:
    token = cli.done("sign", "--key", "ed.jwk", "--root", "r", "--publish", "", "--expires", "never")
    for key in ("keys", "set.jwk", "public-set.jwk", "ed.public"):
        assert cli.done("verify", "--key", key, stdin=token) == '{"root":"r","put":[""]}\n'


@given(st.binary(max_size=60) | st.sampled_from([f"{TOKEN}é".encode(), b"\xff\xfe", b".." * 9, b"\0.\0.\0"]))
def test_no_bytes_are_a_token(data: bytes) -> None:
    text = data.decode("utf-8", "replace").strip()
    with pytest.raises(RefusedError):
        keyring.Verifier(KeySet([forge.key(HS)])).verify(text, now=NOW)


# -- inspect


@pytest.mark.parametrize(
    ("claims", "lines"),
    [
        (
            {"root": "rooms/123", "put": ["alice"], "get": [""], "exp": NOW + 5400},
            [
                "time       expires in 90 min, at 2027-01-15 09:30:00 UTC",
                "publish    rooms/123/alice",
                "subscribe  rooms/123",
            ],
        ),
        (
            {"put": [""], "exp": NOW - 3 * 86_400, "iat": NOW - 86_400 * 1000, "nbf": NOW - 30},
            [
                "time       issued 3 years ago, at 2024-04-20 08:00:00 UTC",
                "time       became valid 30 s ago, at 2027-01-15 07:59:30 UTC",
                "time       expired 3 days ago, at 2027-01-12 08:00:00 UTC",
                "publish    everything",
                "subscribe  nothing",
            ],
        ),
        (
            {"root": "/a//b/", "put": "c/", "get": ["", "/d", 5], "nbf": NOW + 7200},
            [
                "time       becomes valid in 2 h, at 2027-01-15 10:00:00 UTC",
                "time       never expires",
                "publish    a/b/c",
                "subscribe  a/b, a/b/d",
            ],
        ),
        # Tokens that should not exist.
        ({"exp": "soon", "put": {}, "root": 5, "get": None}, ["publish    nothing", "subscribe  nothing"]),
        ({"exp": True, "put": ["a"], "root": 5}, ["publish    a", "subscribe  nothing"]),
        ({"exp": 1e300, "iat": -(2**60), "put": []}, ["publish    nothing", "subscribe  nothing"]),
        (
            {"exp": 2**52, "iat": -5.5},
            [
                "time       issued 57 years ago, at 1969-12-31 23:59:55 UTC",
                "time       expires in 142808150 years, at 142715360-12-06 03:48:16 UTC",
                "publish    nothing",
                "subscribe  nothing",
            ],
        ),
    ],
)
def test_inspect_says_what_stands_in_a_token(cli: Cli, claims: dict[str, object], lines: list[str]) -> None:
    token = forge.token(HS, claims, signer=lambda _: b"anything")
    out = cli.done("inspect", token)
    assert out.splitlines() == [
        'header     {"typ":"JWT","alg":"HS256","kid":"test-key"}',
        f"claims     {forge.compact(claims).decode()}",
        *lines,
        "signature  not checked: anybody can have written this token",
    ]
    for argv, stdin in (([], token), (["-"], token), (["--in", "-"], token), ([f" {token}\n"], "")):
        assert cli.done("inspect", *argv, stdin=stdin) == out
    found = json.loads(cli.done("inspect", "--json", token))
    assert (found["header"], found["claims"]) == (HEADER, claims)
    assert (found["signature"], found["refused"]) == ("not checked", None)


@pytest.mark.parametrize("key", ["hs.jwk", "one.jwk", "set.jwk", "keys"])
def test_inspect_checks_with_a_key(cli: Cli, key: str) -> None:
    assert cli.done("inspect", "--key", key, stdin=TOKEN).endswith("\nsignature  good\n")
    assert json.loads(cli.done("inspect", "--key", key, "--json", TOKEN)) == {
        "header": HEADER,
        "claims": forge.GRANT,
        "grants": {"publish": ["rooms/123/alice"], "subscribe": ["rooms/123"]},
        "signature": "good",
        "ignored": [],
        "needs_relay": None,
        "reason": None,
        "refused": None,
    }


def test_inspect_takes_no_key_from_the_environment(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOQ_TOKEN_KEY", "hs.jwk")
    assert "not checked" in cli.done("inspect", TOKEN)
    assert "MOQ_TOKEN_KEY" not in cli.done("inspect", "--help")


@pytest.mark.parametrize("char", ["\x1b", "\x07", "\n", "\r", "\x9b", "\u202e", "\u2028", "\x00"])
@pytest.mark.parametrize("options", [[], ["--json"], ["--key", "hs.jwk"]])
def test_no_token_commands_the_terminal(cli: Cli, char: str, options: list[str]) -> None:
    token = grant(root=f"a{char}b", put=[f"{char}[2Jc"], **{f"x{char}": char})
    for argv in (["inspect", *options], ["verify", "--key", "hs.jwk", "--json"], ["verify", "--key", "hs.jwk"]):
        status, out, err = cli.run(*argv, stdin=token)
        assert status == 0
        assert all(line.isprintable() for line in f"{out}{err}".split("\n"))
        assert len(out.split("\n")) <= 8
        if "--json" in argv or argv[0] == "verify":
            assert f"a{char}b" in out.encode().decode("unicode_escape")
    status, _, err = cli.run("verify", "--key", "hs.jwk", "--path", f"a{char}b", stdin=token)
    assert status == 0
    assert len(err.splitlines()) == 2
    assert all(line.isprintable() for line in err.split("\n"))


def test_inspect_notes_paths_that_are_probably_not_meant(cli: Cli) -> None:
    token = grant(root="rooms/{id}", put=["*", "bob"], get=[f"{number}/.." for number in range(9)])
    status, _, err = cli.run("inspect", token)
    notes = err.splitlines()
    assert (status, len(notes)) == (0, 6)
    assert notes[0].startswith("note: root 'rooms/{id}': `{id}` stands for itself")
    assert notes[1].startswith("note: put '*': `*` stands for itself")
    assert notes[5] == "note: 6 more paths like these"
    explained = cli.run("explain", "--key", "hs.jwk", "--path", "/rooms", "--in", "-", stdin=token)
    star = "note: relays from 0.15 on refuse this token: `*` in `put`: '*': write patterns in `publish` and `subscribe`"
    assert explained[2].splitlines() == [*notes, star]


# -- the program as a whole


def test_an_interrupt_is_quiet(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(keyring, "read_signer", interrupted)
    assert cli.run(*SIGN) == (130, "", "")


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("genrate", "No such command 'genrate'. Did you mean 'generate'?"),
        ("veirfy", "No such command 'veirfy'. Did you mean 'verify'?"),
        ("gen", "No such command 'gen'. Did you mean 'generate'?"),
        ("ex", "No such command 'ex'. Did you mean 'explain' or 'export'?"),
        ("chek-config", "No such command 'chek-config'. Did you mean 'check-config'?"),
        ("rotate", "No such command 'rotate'. Did you mean 'keys rotate'?"),
        ("keys rotat", "No such command 'rotat'. Did you mean 'rotate'?"),
        ("help infpect", "No such command 'infpect'. Did you mean 'inspect'?"),
        ("zzz", "no such command 'zzz': use one of generate, sign"),
        ("sign --pub x", "No such option '--pub'. Did you mean '--publish'?"),
        ("sign --pubilsh=x", "No such option '--pubilsh'. Did you mean '--publish'?"),
        ("sign --exp 1h", "No such option '--exp'. Did you mean '--expires'?"),
        ("sign --expiry 1h", "No such option '--expiry'. Did you mean '--expires'?"),
        ("generate --public-key k", "No such option '--public-key'. Did you mean '--public' or '--public-dir'?"),
        ("generate --alg RS256", "No such option '--alg'. Did you mean '--algorithm'?"),
        ("--versoin", "No such option '--versoin'. Did you mean '--version'?"),
        ("sign --allow", "no such option '--allow': run moq-token sign --help for a list"),
        ("sign -x", "no such option '-x': run moq-token sign --help for a list"),
    ],
)
def test_a_mistyped_word_is_answered_with_what_fits(cli: Cli, line: str, why: str) -> None:
    assert cli.refused(2, *line.split()).startswith(why)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("completion", "missing argument 'bash|zsh|fish'. Choose from: bash, zsh, fish"),
        ("completion csh", "invalid value for 'bash|zsh|fish': 'csh' is not one of 'bash', 'zsh', 'fish'"),
        ("keys retire signing", "missing argument 'KID'"),
    ],
)
def test_a_missing_argument_is_named_on_one_line(cli: Cli, line: str, why: str) -> None:
    why_not = cli.refused(2, *line.split())
    assert (why_not, "\\" in why_not) == (why, False)


@pytest.mark.parametrize(
    "line",
    [
        "inspect alice.jwt",
        "inspect --key hs.jwk alice.jwt",
        "explain --key hs.jwk --path /r alice.jwt",
        "inspect keys/ed.jwk",
    ],
)
def test_a_file_in_place_of_a_token_leads_to_in(cli: Cli, line: str) -> None:
    name = line.rsplit(maxsplit=1)[-1]
    why = cli.refused(2, *line.split())
    assert why == f"expected a token, got a file name: use --in '{name}'"


@pytest.mark.parametrize("name", ["missing.jwt", "nodir/alice.jwt", "token.txt", "./x.token"])
def test_the_name_of_a_missing_file_in_place_of_a_token_is_named(cli: Cli, name: str) -> None:
    why = cli.refused(2, "inspect", name)
    assert why == f"expected a token, got '{name}': file not found, and files are passed with --in"


def test_a_file_after_verify_leads_to_in(cli: Cli) -> None:
    why = cli.refused(2, "verify", "--key", "hs.jwk", "alice.jwt")
    assert why == "unexpected argument: to read the token from a file, use --in 'alice.jwt'"


def test_a_missing_python_module_is_named(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: object) -> None:
        raise ModuleNotFoundError("No module named 'msgspec'", name="msgspec")

    monkeypatch.setattr(keyring, "read_signer", missing)
    assert cli.refused(1, *SIGN).startswith("Python module not found: msgspec")


def test_a_bug_shows_no_traceback_and_no_secret(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def bug(_: object) -> None:
        raise RuntimeError("hunter2")

    monkeypatch.setattr(keyring, "read_signer", bug)
    message = "error: unexpected RuntimeError: this is a bug, please report the command without its keys\n"
    assert cli.run(*SIGN) == (1, "", message)


@pytest.fixture
def handlers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Put back what `run` leaves behind at the end of a process."""
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("handlers")
def test_run_leaves_with_the_status(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    for argv, status in ((["inspect", TOKEN], 0), (["inspect", "x"], 1), (["inspect", "x", "y"], 2)):
        cli.run()
        monkeypatch.setattr(sys, "argv", ["moq-token", *argv])
        with pytest.raises(SystemExit) as leaving:
            command_line.run()
        assert leaving.value.code == status


@pytest.mark.parametrize("option", ["-V", "--version"])
def test_the_version_names_what_it_runs_with(cli: Cli, option: str) -> None:
    first, second, third = cli.done(option).splitlines()
    assert first == f"moq-token {moq_token.__version__}"
    assert re.fullmatch(r"Python 3\.[0-9.]+\S*, cryptography [0-9.]+", second)
    assert third.startswith("extra `fast`: ")


def test_the_version_says_whether_the_core_is_used(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "core", lambda: None)
    for installed, expected in (
        (None, "not installed"),
        ("0.0.1", f"moq-token-core 0.0.1 is not used, expected version {moq_token.__version__}"),
    ):
        monkeypatch.setattr(compiled, "installed", lambda installed=installed: installed)
        assert cli.done("-V").splitlines()[2] == f"extra `fast`: {expected}"


@pytest.mark.parametrize(
    ("argv", "why"),
    [
        (["--key", "hs.jwk"], "missing command: use one of generate, sign, verify"),
        (["--key"], "--key needs a value"),
        (["--key", "--json"], "an option follows"),
        (["--key", "a", "--key", "b", "sign"], "--key is given twice"),
        (["--key", "a", "sign", "--key", "b", "--publish", "c"], "--key is given twice"),
        (["--key", "a", "generate", "--out", "b"], "--key in front of generate means --out: use only one of them"),
        (["--key", "a", "generate", "--out=b"], "--key in front of generate means --out"),
        *((["--key", "hs.jwk", name], f"{name} does not accept --key in front of it") for name in ("inspect", "help")),
        (["--bogus", "sign"], "no such option"),
        (["sign", "--publish", "a", "verify"], "unexpected argument 'verify'"),
        (["Sign"], "No such command 'Sign'. Did you mean 'sign'?"),
        ([""], "no such command '': use one of generate, sign, verify"),
        ([TOKEN], "no such command: use one of "),
        (["completion", TOKEN], ": this is not one of 'bash', 'zsh', 'fish'"),
    ],
)
def test_wrong_usage_is_one_line(cli: Cli, argv: list[str], why: str) -> None:
    assert why.casefold() in cli.refused(2, *argv).casefold()


@pytest.mark.parametrize("argv", [SIGN, ("verify", "--key", "hs.jwk"), ("inspect",), ("help",), ("--version",)])
def test_a_result_that_cannot_be_printed_is_a_failure(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, argv: Sequence[str]
) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    assert cli.refused(1, *argv, stdin=TOKEN) == "cannot write the result: standard output is closed"


def test_an_error_that_cannot_be_printed_is_lost_quietly(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    assert main(["inspect", "x"]) == 1
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stderr", closed)
    assert cli.run("inspect", "x")[:2] == (1, "")


def test_a_terminal_that_knows_few_characters_gets_escapes(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    data = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(data, encoding="ascii"))
    assert main(["inspect", grant(root="ü")]) == 0
    assert cli is not None
    assert b'"root":"\\u00fc"' in data.getvalue()


# -- as a process of its own


def call(
    folder: Path, *argv: str, name: str = "", stdin: str = "", env: Mapping[str, str] | None = None, tail: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run the program in a directory with keys; ``tail`` is what a shell reads behind it, such as ``>&-``."""
    line = f"{name or shlex.quote(sys.executable) + ' -m moq_token'} {shlex.join(argv)} {tail}"
    return subprocess.run(
        ["bash", "-c", line],
        cwd=folder,
        input=stdin,
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


@pytest.mark.parametrize("argv", [SIGN, ("inspect", TOKEN), ("--help",), ("sign", "--help"), ("generate",)])
def test_standard_output_that_is_no_more(desk: Path, argv: Sequence[str]) -> None:
    gone = call(desk, *argv, tail="| true")
    assert (gone.stdout, gone.stderr) == ("", "")
    closed = call(desk, *argv, tail=">&-")
    assert (closed.returncode, closed.stderr) == (1, "error: cannot write the result: standard output is closed\n")
    if Path("/dev/full").exists():
        full = call(desk, *argv, tail="> /dev/full")
        message = "error: cannot write to standard output: No space left on device\n"
        assert (full.returncode, full.stderr) == (1, message)


def test_a_reader_who_has_gone_away_is_no_matter(desk: Path) -> None:
    for argv in (SIGN, ("--help",)):
        reader, writer = os.pipe()
        os.close(reader)
        try:
            done = subprocess.run(
                [sys.executable, "-m", "moq_token", *argv],
                cwd=desk,
                stdin=subprocess.DEVNULL,
                stdout=writer,
                stderr=subprocess.PIPE,
                check=False,
                timeout=100,
            )
        finally:
            os.close(writer)
        assert (done.returncode, done.stderr) == (1, b"")


def test_closed_standard_input_and_error(desk: Path) -> None:
    done = call(desk, "verify", "--key", "hs.jwk", tail="<&-")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: cannot read the token: standard input is closed\n"
    done = call(desk, "verify", "--key", "hs.jwk", tail="2>&-", stdin="x")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "")


def test_the_names_of_the_program_are_one(desk: Path) -> None:
    scripts = Path(sys.executable).parent
    outputs = set()
    for name in (scripts / "moq-token", scripts / "moq-token-cli"):
        done = call(desk, "verify", "--key", "hs.jwk", name=shlex.quote(str(name)), stdin=TOKEN)
        outputs.add((done.returncode, done.stdout, done.stderr))
        assert f"\n  {name.name} generate" in call(desk, "help", name=shlex.quote(str(name))).stdout
    assert outputs == {(0, CLAIMS, "")}
    assert "Usage: python -m moq_token [OPTIONS]" in call(desk, "help").stdout


def test_a_locale_without_unicode_is_served(desk: Path) -> None:
    env = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}
    done = call(desk, "verify", "--key", "hs.jwk", stdin=grant(root="nö/😀"), env=env)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.isascii()
    assert json.loads(done.stdout)["root"] == "nö/😀"


def at_terminal(folder: Path, *argv: str, typed: str = "", env: Mapping[str, str] | None = None) -> tuple[int, str]:
    """Return the status of the program, and all that a person at its terminal sees."""
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "moq_token", *argv],
            cwd=folder,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={**os.environ, "TERM": "xterm", **(env or {})},
        )
        os.close(theirs)
        if typed:
            os.write(ours, typed.encode())
        seen = b""
        with contextlib.suppress(OSError):  # Linux raises this when the other end is closed
            while data := os.read(ours, 4096):
                seen += data
        return process.wait(100), seen.decode().replace("\r\n", "\n")
    finally:
        os.close(ours)


@pytest.mark.parametrize(
    ("env", "coloured"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True), ({"TERM": "dumb"}, False)],
)
def test_a_terminal_has_colours_and_notes(desk: Path, env: dict[str, str], *, coloured: bool) -> None:
    error, note = ("\x1b[31merror:\x1b[0m", "\x1b[36mnote:\x1b[0m") if coloured else ("error:", "note:")
    status, seen = at_terminal(desk, "inspect", "x", env=env)
    assert status == 1
    assert seen.startswith(f"{error} ")
    status, seen = at_terminal(desk, *SIGN, env=env)
    token, hint = seen.splitlines()
    assert status == 0
    assert payload(token) == {"root": "", "put": [""]}
    assert hint == (
        f"{note} this token never expires: use --expires 1h to limit it, or --expires never to silence this note"
    )


def test_a_terminal_is_asked_for_a_token_and_shown_json_on_many_lines(desk: Path) -> None:
    status, seen = at_terminal(desk, "verify", "--key", "hs.jwk", typed=f"{TOKEN}\n\x04", env={"NO_COLOR": "1"})
    assert status == 0
    assert "note: reading the token from the terminal: end it with Ctrl-D on a line of its own\n" in seen
    shown = json.dumps(forge.GRANT, indent=2)
    assert seen.endswith(f"{shown}\n")


def test_a_token_that_is_meant_to_last_needs_no_note(desk: Path) -> None:
    status, seen = at_terminal(desk, *SIGN, "--expires", "never")
    assert (status, len(seen.splitlines())) == (0, 1)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["sig"], "sign"),
        (["sign", "--pub"], "--publish\n--publish-pattern"),
        (["verify", "--pa"], "--path"),
        (["generate", "--algorithm", "Ed"], "EdDSA"),
        (["completion", "ba"], "bash"),
    ],
)
def test_bash_completes(desk: Path, words: list[str], expected: str) -> None:
    program_path = Path(sys.executable).parent / "moq-token"
    line = f"""
        PATH={shlex.quote(str(program_path.parent))}:$PATH
        source <(moq-token completion bash)
        COMP_WORDS=(moq-token {shlex.join(words)})
        COMP_CWORD={len(words)}
        _moq_token_completion moq-token
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(
        ["bash", "--norc", "-c", line], cwd=desk, capture_output=True, text=True, check=False, timeout=100
    )
    assert (done.stdout, done.stderr) == (f"{expected}\n", "")


def in_shell(shell: Sequence[str], script: str, folder: Path) -> str:
    """Run a script with the program on the path, in a shell that is on this machine, and return what it prints."""
    if shutil.which(shell[0]) is None:
        pytest.skip(f"needs {shell[0]}")
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": str(folder)}
    done = subprocess.run([*shell, script], env=env, capture_output=True, text=True, check=False, timeout=100)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("moq-token sig", ["sign"]),
        ("moq-token-cli sign --pub", ["--publish", "--publish-pattern"]),
        ("moq-token generate --algorithm Ed", ["EdDSA"]),
        ("moq-token keys r", ["retire", "rotate"]),
    ],
)
def test_fish_completes(tmp_path: Path, line: str, expected: list[str]) -> None:
    name = line.split(maxsplit=1)[0]
    out = in_shell(["fish", "--no-config", "-c"], f"{name} completion fish | source; complete -C '{line}'", tmp_path)
    assert [found.split("\t")[0] for found in out.splitlines()] == expected


def test_fish_shows_whole_descriptions(tmp_path: Path) -> None:
    lines = "complete -C 'moq-token sign --'; complete -C 'moq-token '"
    out = in_shell(["fish", "--no-config", "-c"], f"moq-token completion fish | source; {lines}", tmp_path)
    found = dict(line.split("\t") for line in out.splitlines())
    sign = program.program.get_command(click.Context(program.program), "sign")
    assert sign is not None
    options = [option for option in sign.params if isinstance(option, click.Option) and not option.hidden]
    assert len(options) > 6
    assert {option.opts[0]: option.help for option in options}.items() <= found.items()
    assert "," in found["--expires"]


def test_no_description_of_a_command_is_cut() -> None:
    from tests.unit.test_command_line import COMMANDS

    assert [words for words, command in COMMANDS if command.get_short_help_str().endswith("...")] == []


@pytest.mark.parametrize("name", ["moq-token", "moq-token-cli"])
def test_zsh_takes_the_completion(tmp_path: Path, name: str) -> None:
    load = f"autoload -U compinit && compinit -u && source <({name} completion zsh)"
    script = f"{load} && print $_comps[{name}]"
    assert in_shell(["zsh", "-f", "-c"], script, tmp_path).strip() == f"_{name.replace('-', '_')}_completion"


def test_the_module_has_a_completion_for_the_program(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = cli.done("completion", "bash")
    monkeypatch.setattr(sys, "argv", ["/somewhere/moq_token/__main__.py"])
    assert cli.done("completion", "bash") == expected


def test_a_scope_limits_what_a_key_signs(own: Cli) -> None:
    scoped = forge.key(HS).with_scope(Scope("rooms", ["123/alice"]))
    scoped.to_file("limited.jwk")
    token = own.done("sign", "--key", "limited.jwk", "--root", "rooms/123", "--publish", "alice/cam", "--expires", "1h")
    assert json.loads(own.done("verify", "--key", "limited.jwk", stdin=token))["put"] == ["alice/cam"]
