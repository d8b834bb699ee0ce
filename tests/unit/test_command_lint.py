"""The command `lint`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from moq_token import Algorithm, Claims, Pattern
from tests import forge
from tests.command_line import Cli
from tests.lint_cases import key, token

if TYPE_CHECKING:
    from pathlib import Path

OLD, NEW = "relays before 0.15", "relays from 0.15 on"
BOTH = forge.key(Algorithm.EDDSA).sign(Claims("demo", publish="a", expires=forge.NOW + 60))
PATTERNS = forge.key(Algorithm.EDDSA).sign(Claims("demo", publish=Pattern("cam*/hd"), expires=forge.NOW + 60))
SECRET = "anybody who verifies with a shared secret (HS256, HS384, HS512) can also sign"
_CLAIMS = "expected a token, got claims without header and signature: `sign` makes a token of them"
CLUSTER = token('{"put":["a"],"cluster":true,"exp":1800000060}')


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    cli = Cli(capsys, monkeypatch)
    cli.at(forge.NOW)
    return cli


def test_it_says_for_both_generations_what_a_token_grants(cli: Cli) -> None:
    lines = cli.done("lint", stdin=BOTH).splitlines()
    assert lines == [
        "token: its signature, and the scope of the key that signed it, are not checked: `verify` does that",
        f"{OLD}: read; may publish demo/a/**; may subscribe to nothing",
        f"{NEW}: read; may publish demo/a/**; may subscribe to nothing",
    ]


def test_it_says_why_a_generation_refuses_a_token_and_what_to_do(cli: Cli) -> None:
    status, out, err = cli.run("lint", stdin=CLUSTER)
    assert (status, err) == (1, "")
    assert out.splitlines()[1:3] == [
        f"{OLD}: read; may publish a/**; may subscribe to nothing",
        f"  shared-secret: {SECRET}; with `auth_api`, the answer would contain the secret",
    ]
    assert f"{NEW}: refused\n  cluster: unknown claim `cluster`\n    fix: sign the token without it\n" in out


@pytest.mark.parametrize(
    ("text", "relays", "status"),
    [
        (BOTH, [], 0),
        (BOTH, ["all"], 0),
        (PATTERNS, [], 1),
        (PATTERNS, ["0.14"], 1),
        (PATTERNS, ["0.17"], 0),
        (PATTERNS, ["0.15"], 0),
        (PATTERNS, ["0.14", "0.17"], 1),
        (PATTERNS, ["all"], 1),
        (CLUSTER, ["0.14"], 0),
        (CLUSTER, ["0.17.10"], 1),
    ],
)
def test_the_exit_status_is_about_the_named_relays(cli: Cli, text: str, relays: list[str], status: int) -> None:
    options = [word for version in relays for word in ("--relay", version)]
    got, out, err = cli.run("lint", *options, stdin=text)
    assert (got, err) == (status, "")
    if relays in (["0.14"], ["0.17"]):
        assert (f"{OLD}: " in out, f"{NEW}: " in out) == (relays == ["0.14"], relays == ["0.17"])


def test_json_has_every_finding(cli: Cli) -> None:
    status, out, _ = cli.run("lint", "--json", "--relay", "0.17", stdin=CLUSTER)
    assert status == 1
    assert json.loads(out) == {
        "ok": False,
        "kind": "token",
        "relays": [
            {
                "generation": "second",
                "relays": NEW,
                "refused": True,
                "publish": [],
                "subscribe": [],
                "findings": [
                    {
                        "code": "shared-secret",
                        "refused": False,
                        "message": "anybody who verifies with a shared secret (HS256, HS384, HS512) can also sign: "
                        "only the auth server may hold it",
                        "fix": "use EdDSA or ES256, and hand out the public half only",
                    },
                    {
                        "code": "cluster",
                        "refused": True,
                        "message": "unknown claim `cluster`",
                        "fix": "sign the token without it",
                    },
                ],
            }
        ],
    }


def test_a_key_is_told_from_a_token(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "public.jwk"
    forge.key(Algorithm.EDDSA).to_public().to_file(file)
    assert cli.done("lint", str(file)).startswith("key: ")
    assert cli.done("lint", stdin=file.read_bytes()).startswith("key: ")
    forge.key(Algorithm.EDDSA).to_public().to_file(file, base64=True)
    assert cli.done("lint", str(file)).startswith("key: ")
    status, out, _ = cli.run("lint", stdin=key(scope={"publish": ["cam*/hd"]}))
    assert status == 1
    assert f"{NEW}: read; its tokens may publish cam*/hd; may subscribe to nothing" in out
    for content, kind in (
        (key(kid="a.b"), "key"),
        (key(x="a.b.c"), "key"),
        (b"", ""),
        (b"\xef\xbb\xbf" + key(), "key"),
    ):
        assert cli.run("lint", stdin=content)[1].startswith(kind)


@pytest.mark.parametrize(
    "text", [BOTH, f"Bearer {BOTH}", f"https://relay.example.com/demo?jwt={BOTH}", json.dumps({"token": BOTH})]
)
def test_a_token_is_found_in_what_is_around_it(cli: Cli, tmp_path: Path, text: str) -> None:
    file = tmp_path / "pasted.txt"
    file.write_text(f"{text}\n", encoding="utf-8")
    for words, stdin in (((text,), ""), ((str(file),), ""), ((), text), (("-",), text)):
        status, out, err = cli.run("lint", *words, stdin=stdin)
        assert (status, out[:7]) == (0, "token: ")
        assert err == "" if text == BOTH else err.startswith("note: ignored the text around the token")


@pytest.mark.parametrize(
    ("words", "stdin", "status", "message"),
    [
        ([], "", 1, "expected a token or a key, got empty input"),
        (["missing.jwk"], "", 1, "file not found: 'missing.jwk'"),
        (["."], "", 1, "expected a token or a key, got a directory: `keys check` reads a directory of keys"),
        ([], '{"put":["a.b"]}', 1, _CLAIMS),
        (
            [],
            '{"put":["a.b"]}',
            1,
            ("expected a token, got claims without header and signature: `sign` makes a token of them"),
        ),
    ],
)
def test_what_is_neither_is_one_error(cli: Cli, words: list[str], stdin: str, status: int, message: str) -> None:
    assert cli.refused(status, "lint", *words, stdin=stdin) == message


@pytest.mark.parametrize("stdin", [b"\xff\xfe", b"\x00", b"foo", b"a.b", b"...", b"\x1b[31m.\x07", b"." * 70_000])
def test_any_input_is_answered_on_short_printable_lines(cli: Cli, stdin: bytes) -> None:
    status, out, err = cli.run("lint", stdin=stdin)
    assert status == 1
    assert all(line.isprintable() and len(line) < 400 for line in (out + err).splitlines())
