"""The commands `verify` and `inspect`, and where commands find their keys."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moq_token import KeySet, RefusedError
from moq_token.cli import keyring
from tests import forge
from tests.command_line import OTHER_SECRET, Cli
from tests.desk import CLAIMS, HS, NOW, SIGN, TOKEN, TWICE, grant

if TYPE_CHECKING:
    from collections.abc import Sequence


# -- where the key is


@pytest.mark.parametrize("name", ["hs.jwk", "hs.base64", "one.jwk", "set.jwk", "keys", "keys/", "keys/test-key.jwk"])
def test_sign_takes_a_key_from_everywhere(gate: Cli, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    never = ("--expires", "never")
    expected = f"{forge.token(HS, {'root': '', 'put': ['']})}\n"
    assert gate.done("sign", "--key", name, "--publish", "", *never) == expected
    assert gate.done("--key", name, "sign", "--publish", "", *never) == expected
    assert gate.done(f"--key={name}", "sign", "--publish", "", *never) == expected
    monkeypatch.setenv("MOQ_TOKEN_KEY", name)
    assert gate.done("sign", "--publish", "", *never) == expected
    assert gate.done("sign", "--publish", "", *never, "--key", name) == expected
    if Path(name).is_file():
        text = Path(name).read_text(encoding="utf-8")
        assert gate.done("sign", "--key", "-", "--publish", "", *never, stdin=text) == expected
        assert gate.done("--key", "-", "sign", "--publish", "", *never, stdin=f"{text}\n") == expected
        monkeypatch.setenv("MOQ_TOKEN_KEY", "")
        monkeypatch.setenv("MOQ_TOKEN_KEY_DATA", text)
        assert gate.done("sign", "--publish", "", *never) == expected


def test_a_key_in_the_environment_stands_back_for_one_that_is_named(gate: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOQ_TOKEN_KEY", "missing.jwk")
    monkeypatch.setenv("MOQ_TOKEN_KEY_DATA", "nonsense")
    assert gate.done(*SIGN, "--expires", "never")
    assert gate.done("verify", "--key", "hs.jwk", stdin=TOKEN)
    for argv in (["sign", "--publish", "a"], ["verify"]):
        assert "MOQ_TOKEN_KEY and MOQ_TOKEN_KEY_DATA are both set" in gate.refused(2, *argv)


@pytest.mark.parametrize("argv", [["sign", "--publish", "a"], ["verify", "--in", "alice.jwt"]])
def test_what_is_wrong_in_the_environment_is_named(
    gate: Cli, monkeypatch: pytest.MonkeyPatch, argv: Sequence[str]
) -> None:
    monkeypatch.setenv("MOQ_TOKEN_KEY_DATA", f"hunter2 {OTHER_SECRET}")
    assert gate.refused(1, *argv).startswith("MOQ_TOKEN_KEY_DATA: ")
    monkeypatch.setenv("MOQ_TOKEN_KEY_DATA", "\udcff")
    assert gate.refused(1, *argv).startswith("MOQ_TOKEN_KEY_DATA: ")
    monkeypatch.setenv("MOQ_TOKEN_KEY_DATA", "")
    monkeypatch.setenv("MOQ_TOKEN_KEY", "missing.jwk")
    assert gate.refused(1, *argv).startswith("cannot read 'missing.jwk'")
    for key in (
        json.dumps(forge.jwk(HS)),
        forge.b64(forge.compact(forge.jwk(HS))),
        "-----BEGIN PRIVATE KEY-----\nhunter2",
    ):
        monkeypatch.setenv("MOQ_TOKEN_KEY", key)
        why = gate.refused(2, *argv)
        assert why.startswith("MOQ_TOKEN_KEY must be a file name")
        assert "MOQ_TOKEN_KEY_DATA" in why


@pytest.mark.parametrize("argv", [["verify"], ["verify", "--in", "-"], ["inspect"], ["inspect", "-"]])
@pytest.mark.parametrize("name", ["-", "/dev/stdin", "/dev/fd/0"])
def test_key_and_token_cannot_both_come_from_standard_input(gate: Cli, argv: Sequence[str], name: str) -> None:
    key = Path("hs.jwk").read_text(encoding="utf-8")
    why = "key and token cannot both come from standard input"
    assert why in gate.refused(2, argv[0], "--key", name, *argv[1:], stdin=key)
    if argv[0] == "verify":
        assert why in gate.refused(2, "--key", name, *argv, stdin=key)


# -- verify

HEADER = {"typ": "JWT", "alg": "HS256", "kid": "test-key"}


@pytest.mark.parametrize(
    "key", ["hs.jwk", "hs.base64", "nokid.jwk", "verifies.jwk", "one.jwk", "set.jwk", "keys", "keys/"]
)
@pytest.mark.parametrize("command", [["verify"], ["--key"]])
def test_verify_prints_the_claims(gate: Cli, key: str, command: Sequence[str]) -> None:
    argv = ["verify", "--key", key] if command == ["verify"] else ["--key", key, "verify"]
    assert gate.done(*argv, stdin=TOKEN) == CLAIMS
    assert gate.done(*argv, stdin=f"\n \t{TOKEN}\r\n\n") == CLAIMS
    assert gate.done(*argv, "--in", "-", stdin=TOKEN) == CLAIMS
    assert gate.done(*argv, "--in", "alice.jwt") == CLAIMS
    assert json.loads(gate.done(*argv, "--json", "--in=alice.jwt")) == {"header": HEADER, "claims": forge.GRANT}


@pytest.mark.parametrize("name", ["hs.jwk", "set.jwk"])
def test_verify_takes_the_key_from_anywhere(gate: Cli, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    text = Path(name).read_text(encoding="utf-8")
    assert gate.done("verify", "--key", "-", "--in", "alice.jwt", stdin=text) == CLAIMS
    monkeypatch.setenv("MOQ_TOKEN_KEY", name)
    assert gate.done("verify", stdin=TOKEN) == CLAIMS
    monkeypatch.delenv("MOQ_TOKEN_KEY")
    monkeypatch.setenv("MOQ_TOKEN_KEY_DATA", text)
    assert gate.done("verify", stdin=TOKEN) == CLAIMS


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
    gate: Cli, option: str, path: str, publish: Sequence[str], subscribe: Sequence[str]
) -> None:
    status, out, err = gate.run("verify", "--key", "hs.jwk", option, path, stdin=TOKEN)
    where = "/" + "/".join(part for part in path.split("/") if part)
    words = [", ".join(prefix or "everything" for prefix in found) or "nothing" for found in (publish, subscribe)]
    assert (status, out) == (0, CLAIMS)
    assert err == f"note: may publish {words[0]} at {where}\nnote: may subscribe to {words[1]} at {where}\n"
    found = json.loads(gate.done("verify", "--key", "hs.jwk", option, path, "--json", stdin=TOKEN))
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
def test_verify_refuses(gate: Cli, key: str, token: str, why: str, *, good: bool) -> None:
    message = gate.refused(1, "verify", "--key", key, stdin=token)
    assert why in message
    assert gate.refused(1, "verify", "--key", key, "--json", stdin=token) == message

    said = re.sub("^refused: [a-z-]+: ", "", message)
    status, out, err = gate.run("inspect", "--key", key, "--json", stdin=token)
    if out:
        found = json.loads(out)
        assert (status, err, f"refused: {found['reason']}: {found['refused']}") == (1, "", message)
        assert found["signature"] in ({"good"} if good else {"bad", "not checked"})
        assert (found["signature"] == "bad") is (found["reason"] == "bad-signature")
        status, out, err = gate.run("inspect", "--key", key, stdin=token)
        assert (status, err) == (1, "")
        refused = f"refused    {found['reason']}: {said}"
        assert out.splitlines()[-2:] == [f"signature  {found['signature']}", refused]
    else:
        assert (status, err) == (1, f"error: {said}\n")


def test_a_token_without_id_is_verified_where_there_is_one_key(gate: Cli) -> None:
    for key in ("hs.jwk", "one.jwk"):
        assert gate.done("verify", "--key", key, stdin=NO_KID) == CLAIMS


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
def test_verify_and_inspect_refuse(gate: Cli, status: int, argv: str, why: str) -> None:
    assert why.casefold() in gate.refused(status, *argv.split(" ")).casefold()


def test_a_broken_key_of_a_directory_is_no_refusal_of_the_token(gate: Cli) -> None:
    Path("keys/test-key.jwk").write_text("{hunter2", encoding="utf-8")
    assert "test-key.jwk': the key is not valid JSON" in gate.refused(1, "verify", "--key", "keys", stdin=TOKEN)
    Path("keys/test-key.jwk").unlink()
    Path("keys/test-key.jwk").symlink_to("nowhere")
    assert "test-key.jwk': No such file" in gate.refused(1, "verify", "--key", "keys", stdin=TOKEN)


def test_a_directory_of_public_keys_verifies_by_the_id(gate: Cli) -> None:
    token = gate.done("sign", "--key", "ed.jwk", "--root", "r", "--publish", "", "--expires", "never")
    for key in ("keys", "set.jwk", "public-set.jwk", "ed.public"):
        assert gate.done("verify", "--key", key, stdin=token) == '{"root":"r","put":[""]}\n'


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
def test_inspect_says_what_stands_in_a_token(gate: Cli, claims: dict[str, object], lines: list[str]) -> None:
    token = forge.token(HS, claims, signer=lambda _: b"anything")
    out = gate.done("inspect", token)
    assert out.splitlines() == [
        'header     {"typ":"JWT","alg":"HS256","kid":"test-key"}',
        f"claims     {forge.compact(claims).decode()}",
        *lines,
        "signature  not checked: anybody can have written this token",
    ]
    for argv, stdin in (([], token), (["-"], token), (["--in", "-"], token), ([f" {token}\n"], "")):
        assert gate.done("inspect", *argv, stdin=stdin) == out
    found = json.loads(gate.done("inspect", "--json", token))
    assert (found["header"], found["claims"]) == (HEADER, claims)
    assert (found["signature"], found["refused"]) == ("not checked", None)


@pytest.mark.parametrize("key", ["hs.jwk", "one.jwk", "set.jwk", "keys"])
def test_inspect_checks_with_a_key(gate: Cli, key: str) -> None:
    assert gate.done("inspect", "--key", key, stdin=TOKEN).endswith("\nsignature  good\n")
    assert json.loads(gate.done("inspect", "--key", key, "--json", TOKEN)) == {
        "header": HEADER,
        "claims": forge.GRANT,
        "grants": {"publish": ["rooms/123/alice"], "subscribe": ["rooms/123"]},
        "signature": "good",
        "ignored": [],
        "needs_relay": None,
        "reason": None,
        "refused": None,
    }


def test_inspect_takes_no_key_from_the_environment(gate: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOQ_TOKEN_KEY", "hs.jwk")
    assert "not checked" in gate.done("inspect", TOKEN)
    assert "MOQ_TOKEN_KEY" not in gate.done("inspect", "--help")


@pytest.mark.parametrize("char", ["\x1b", "\x07", "\n", "\r", "\x9b", "\u202e", "\u2028", "\x00"])
@pytest.mark.parametrize("options", [[], ["--json"], ["--key", "hs.jwk"]])
def test_no_token_commands_the_terminal(gate: Cli, char: str, options: list[str]) -> None:
    token = grant(root=f"a{char}b", put=[f"{char}[2Jc"], **{f"x{char}": char})
    for argv in (["inspect", *options], ["verify", "--key", "hs.jwk", "--json"], ["verify", "--key", "hs.jwk"]):
        status, out, err = gate.run(*argv, stdin=token)
        assert status == 0
        assert all(line.isprintable() for line in f"{out}{err}".split("\n"))
        assert len(out.split("\n")) <= 8
        if "--json" in argv or argv[0] == "verify":
            assert f"a{char}b" in out.encode().decode("unicode_escape")
    status, _, err = gate.run("verify", "--key", "hs.jwk", "--path", f"a{char}b", stdin=token)
    assert status == 0
    assert len(err.splitlines()) == 2
    assert all(line.isprintable() for line in err.split("\n"))


def test_inspect_notes_paths_that_are_probably_not_meant(gate: Cli) -> None:
    token = grant(root="rooms/{id}", put=["*", "bob"], get=[f"{number}/.." for number in range(9)])
    status, _, err = gate.run("inspect", token)
    notes = err.splitlines()
    assert (status, len(notes)) == (0, 6)
    assert notes[0].startswith("note: root 'rooms/{id}': `{id}` stands for itself")
    assert notes[1].startswith("note: put '*': `*` stands for itself")
    assert notes[5] == "note: 6 more paths like these"
    explained = gate.run("explain", "--key", "hs.jwk", "--path", "/rooms", "--in", "-", stdin=token)
    star = "note: relays from 0.15 on refuse this token: `*` in `put`: '*': write patterns in `publish` and `subscribe`"
    assert explained[2].splitlines() == [*notes, star]
