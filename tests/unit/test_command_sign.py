"""The command `sign`, called as from a shell."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moq_token import Algorithm, Claims, Key, Scope
from moq_token.auth import Connection
from moq_token.cli import output, times, tokens
from moq_token.path import normalize
from tests import forge
from tests.desk import ED, HS, NOW, SIGN, TOKEN, TWICE, payload, unix

if TYPE_CHECKING:
    from tests.command_line import Cli


@pytest.mark.parametrize("algorithm", ["EC256", "EC384", *Algorithm])
def test_every_algorithm_of_the_page_signs_and_verifies(gate: Cli, algorithm: str) -> None:
    known = Algorithm.parse(algorithm)
    if known.kty == "RSA":  # made of a published key, as it takes long to find one
        Path("k.jwk").write_text(json.dumps(forge.jwk(known)), encoding="utf-8")
        Path("v.jwk").write_text(json.dumps(forge.public_jwk(known)), encoding="utf-8")
    else:
        public = () if known.symmetric else ("--public", "v.jwk")
        gate.done("generate", "--algorithm", algorithm, "--out", "k.jwk", *public)
    verifier = "k.jwk" if known.symmetric else "v.jwk"
    token = gate.done("sign", "--key", "k.jwk", "--root", "r", "--publish", "", "--expires", "1h")
    assert json.loads(forge.unb64(token.split(".")[0]))["alg"] == known.value
    assert json.loads(gate.done("verify", "--key", verifier, stdin=token))["exp"] == NOW + 3600
    assert Key.from_file(verifier).verify(token.strip(), now=NOW).publish == ("",)


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
def test_sign_writes_what_the_options_say(gate: Cli, options: list[str], claims: dict[str, object]) -> None:
    # HMAC leaves no choice, so the token is known to the last character.
    lasting = () if "--expires" in options else ("--expires", "never")
    assert gate.done("sign", "--key", "hs.jwk", *options, *lasting) == f"{forge.token(HS, claims)}\n"


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
def test_sign_reads_an_expiry(gate: Cli, text: str, expires: int | None, fraction: float) -> None:
    gate.at(NOW + fraction)
    assert payload(gate.done(*SIGN, "--expires", text)).get("exp") == expires


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
def test_sign_notes_that_a_token_has_expired(gate: Cli, text: str, expires: int, past: str, more: list[str]) -> None:
    status, token, err = gate.run(*SIGN, "--expires", text, *more)
    assert (status, payload(token)["exp"]) == (0, expires)
    assert err == f"note: this token has already expired, so relays refuse it: it expired {past}\n"
    assert "the token expired" in gate.refused(1, "verify", "--key", "hs.jwk", stdin=token)


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
def test_sign_refuses_what_can_hardly_be_an_expiry(gate: Cli, text: str, why: str) -> None:
    assert why in gate.refused(2, *SIGN, f"--expires={text}")
    assert why in gate.refused(2, *SIGN, f"--expires={text}", "--allow-past")


def test_sign_refuses_a_time_of_issue_before_1970(gate: Cli) -> None:
    assert gate.refused(2, *SIGN, "--issued", "1969-12-31") == "--issued must be in 1970 or later"


def test_sign_notes_paths_that_are_probably_not_meant(gate: Cli) -> None:
    argv = ("sign", "--key", "hs.jwk", "--root", "rooms/{id}", "--publish", "alice?", "--publish", "bob")
    status, token, err = gate.run(*argv, "--subscribe", "../x", "--expires", "1h")
    assert status == 0
    assert payload(token)["put"] == ["alice?", "bob"]
    assert err.splitlines() == [
        "note: --root 'rooms/{id}': `{id}` stands for itself, and is not replaced: fill in the value",
        "note: --publish 'alice?': `?` stands for itself, and does not end the path as in a URL",
        "note: --subscribe '../x': `..` is an ordinary name, and does not lead to another directory",
    ]


@pytest.mark.parametrize(
    ("root", "grant", "granted", "meant"),
    [
        ("rooms/123", "rooms/123/alice", "rooms/123/rooms/123/alice", "alice"),
        ("/rooms/123/", "/rooms/123", "rooms/123/rooms/123", ""),
        ("rooms", "rooms/*/camera", "rooms/rooms/*/camera", "*/camera"),
        ("rooms/12", "rooms/123", None, None),
        ("rooms/123", "rooms", None, None),
        ("", "rooms", None, None),
    ],
)
def test_sign_notes_a_grant_that_repeats_the_root(
    gate: Cli, root: str, grant: str, granted: str | None, meant: str | None
) -> None:
    argv = ("sign", "--key", "hs.jwk", "--root", root, "--publish", "x", "--publish", grant, "--expires", "1h")
    status, _, err = gate.run(*argv, "--relay", "0.15")
    assert status == 0
    assert (f"so the token grants '{granted}': if that is a mistake, use --publish '{meant}'" in err) == bool(granted)


@pytest.mark.parametrize(
    "word", [json.dumps(forge.jwk(HS)), f" {json.dumps(forge.jwk(ED))}", "-----BEGIN PRIVATE KEY-----\nMC4C"]
)
def test_a_key_in_place_of_a_path_is_not_repeated(gate: Cli, word: str) -> None:
    status, _, err = gate.run("sign", "--key", "hs.jwk", f"--root={word}", "--publish", "", "--expires", "1h")
    assert (status, err) == (0, "note: --root: this looks like a key or a token, and not like a path\n")


def test_a_scope_has_the_same_notes(gate: Cli) -> None:
    _, key, err = gate.run("generate", "--publish", "..")
    assert Key.from_str(key).scope == Scope("", ("..",))
    assert err == "note: --publish '..': `..` is an ordinary name, and does not lead to another directory\n"


@pytest.mark.parametrize("terminal", [False, True])
def test_sign_notes_that_a_token_never_expires(gate: Cli, monkeypatch: pytest.MonkeyPatch, *, terminal: bool) -> None:
    monkeypatch.setattr(output, "to_terminal", lambda _: terminal)
    monkeypatch.setenv("NO_COLOR", "1")
    status, token, err = gate.run(*SIGN)
    assert (status, "exp" in payload(token)) == (0, False)
    assert err == (
        "note: this token never expires: use --expires 1h to limit it, or --expires never to silence this note\n"
    )
    assert gate.done(*SIGN, "--expires", "never") == token
    assert gate.done(*SIGN, "--expires", "1h") != token


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
def test_a_time_that_is_nearly_right_gets_the_fitting_advice(gate: Cli, text: str, why: str) -> None:
    for option in ("--expires", "--issued"):
        assert why in gate.refused(2, *SIGN, option, text)


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
def test_sign_refuses_what_is_no_time(gate: Cli, text: str) -> None:
    for option in ("--expires", "--issued"):
        if (option, text) != ("--issued", "now"):
            why = gate.refused(2, *SIGN, f"{option}={text}")
            assert why.startswith((f"{option} must be ", f"{option} {text!r}: "))


@pytest.mark.parametrize("text", [str(NOW * 1000), "253402300800", "9" * 18])
def test_sign_refuses_milliseconds(gate: Cli, text: str) -> None:
    for option in ("--expires", "--issued"):
        assert f"{option} is after the year 9999" in gate.refused(2, *SIGN, option, text)
    assert "after the year 9999" in gate.refused(2, *SIGN, "--expires", "999999999w")


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
def test_sign_prints_the_url_to_dial(gate: Cli, url: str, root: str, expected: str) -> None:
    argv = (*SIGN, "--root", root, "--expires", "1h")
    assert gate.done(*argv, "--url", url) == f"{expected}{gate.done(*argv)}"


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
def test_sign_refuses_a_url(gate: Cli, url: str, why: str) -> None:
    assert why in gate.refused(2, *SIGN, "--url", url)


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
def test_sign_prints_no_url_that_a_relay_would_refuse(gate: Cli, url: str, root: str, why: str) -> None:
    argv = ("sign", "--key", "hs.jwk", "--root", root, "--publish", "alice", "--expires", "1h", "--url", url)
    assert why in gate.refused(2, *argv)


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
def test_sign_refuses(gate: Cli, status: int, argv: str, why: str) -> None:
    assert why.casefold() in gate.refused(status, *argv.split(" ")).casefold()


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
def test_removed_spellings_are_explained(gate: Cli, option: str, now: str) -> None:
    for words in ([option], [option, "demo"], [f"{option}=demo"]):
        assert gate.refused(2, *SIGN, *words) == f"{option} was removed: use {now}"


def test_a_value_is_no_removed_spelling(gate: Cli) -> None:
    assert payload(gate.done(*SIGN, "--expires", "never", "--root=--guest"))["root"] == "--guest"
    assert "unexpected argument '--guest'" in gate.refused(2, *SIGN, "--", "--guest")


@pytest.mark.parametrize("text", [json.dumps(forge.jwk(HS)), forge.b64(forge.compact(forge.jwk(HS)))])
@pytest.mark.parametrize("command", ["sign", "verify", "inspect", "explain"])
def test_a_key_in_place_of_its_file_is_not_repeated(gate: Cli, command: str, text: str) -> None:
    assert "pass it on standard input, as -" in gate.refused(2, command, "--key", text)
    assert "pass it on standard input, as -" in gate.refused(2, "--key", text, command)
    assert "pass it on standard input, as -" in gate.refused(2, command, f"--key={text}")


def test_a_pem_in_place_of_its_file_is_not_repeated(gate: Cli) -> None:
    text = "-----BEGIN PRIVATE KEY-----\nhunter2"
    assert "looks like a key" in gate.refused(2, *SIGN[:1], f"--key={text}", "--publish", "a")
    assert "an option follows" in gate.refused(2, *SIGN[:1], "--key", text, "--publish", "a")
