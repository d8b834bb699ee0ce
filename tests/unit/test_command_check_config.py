"""The command `check-config`, called as from a shell."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests import forge
from tests.desk import (
    HS,
    RELAY,
    SECRET_WORD,
    put,
)

if TYPE_CHECKING:
    from tests.command_line import Cli


@pytest.mark.parametrize(
    ("toml", "lines"),
    [
        (
            'auth.key = "relay.jwk"',
            [
                "tokens   all verified with the key in relay.jwk",
                "public   without a token anybody may publish: nothing",
                "public   without a token anybody may subscribe: nothing",
            ],
        ),
        (
            RELAY + 'mtls_tier = "mesh"',
            [
                "tokens   verified with keys/{kid}.jwk, read when a token names it",
                "public   without a token anybody may publish: live/open",
                "public   without a token anybody may subscribe: live",
                "domains  labels before relay.example go in front of the path",
                "tier     client certificates are counted under mesh",
            ],
        ),
        (
            'auth.public = ""',
            [
                "tokens   all refused: there is no key to verify them with",
                "public   without a token anybody may publish: everything",
                "public   without a token anybody may subscribe: everything",
            ],
        ),
        (
            'auth.auth_api = "https://user:hunter2@api.example/auth?key=hunter2"',
            ["tokens   verified with the key that `auth_api` answers, which also says what is public"],
        ),
        (
            '[auth]\nkey_dir = "https://user:hunter2@api.example/keys/?key=hunter2"',
            [
                "tokens   verified with https://api.example/keys/{kid}.jwk, read when a token names it",
                "public   without a token anybody may publish: nothing",
                "public   without a token anybody may subscribe: nothing",
            ],
        ),
        (
            '[auth]\nkey = "https://api.example/k.jwk?sig=hunter2"\npublic.api = "https://hunter2@api.example/public"',
            [
                "tokens   all verified with the key in https://api.example/k.jwk",
                "public   without a token anybody may publish: nothing",
                "public   without a token anybody may subscribe: nothing",
                "public   where none of these matches, https://api.example/public is asked",
            ],
        ),
    ],
)
def test_check_config_says_how_clients_are_admitted(shell: Cli, toml: str, lines: list[str]) -> None:
    put("relay.jwk", forge.jwk(HS))
    put("keys/test-key.jwk", forge.jwk(HS))
    put("relay.toml", toml)
    out = shell.done("check-config", "relay.toml")
    assert "hunter2" not in out
    relays = (
        "relays   moq-relay 0.14; from 0.15 on, a relay refuses to start with these settings, and asks an auth server"
    )
    assert [line for line in out.splitlines() if not line.startswith("upgrade")] == [relays, *lines]
    assert shell.done("check-config", "relay.toml", "--strict") == out
    found = json.loads(shell.done("check-config", "relay.toml", "--json"))
    assert (found["ok"], found["relays"], found["problems"], found["notes"]) == (True, "0.14", [], [])
    assert found["admits"]["tokens"] == [line[9:] for line in lines if line.startswith("tokens")]


def test_check_config_lets_the_environment_count(shell: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    put("relay.toml", 'auth.key = "relay.jwk"')
    put("other.jwk", forge.jwk(HS))
    assert "`key`" in shell.refused(1, "check-config", "relay.toml")
    monkeypatch.setenv("MOQ_AUTH_KEY", "other.jwk")
    monkeypatch.setenv("MOQ_AUTH_PUBLIC_SUBSCRIBE", "live\x1b[31m")
    out = shell.done("check-config", "relay.toml")
    assert "other.jwk" in out
    assert "may subscribe: live\\x1b[31m\n" in out


@pytest.mark.parametrize(
    ("toml", "warning"),
    [
        (
            '[auth]\nkey = "k"\nkey_dirs = "x"',
            "`auth.key_dirs` is unknown and ignored; did you mean `key_dir`?",
        ),
        ('[auth]\nkey = "k"\npublic = ["live/*"]', "the public prefix 'live/*' is not a pattern"),
        (
            '[auth]\nkey = "k"\npublic = ["https://a.example/x"]',
            "a URL among the public prefixes is taken for a prefix",
        ),
        ('[auth]\nkey = "http://a.example/k"', "plain http lets anybody on the network answer"),
        ('[auth]\nkey = "k"\ndomains = ["*.example"]', "the suffix '*.example' of `domains` matches no host"),
        (
            '[auth]\nkey = "k"\n[client.tls]\ndisable_verify = true',
            "`disable_verify` lets anybody on the network answer",
        ),
    ],
)
def test_check_config_warns_and_strictly_fails(shell: Cli, toml: str, warning: str) -> None:
    put("k", forge.jwk(HS))
    put("relay.toml", toml)
    status, out, err = shell.run("check-config", "relay.toml")
    assert status == 0
    assert out.startswith("relays ")
    assert re.fullmatch(r"note: [^\n]+\n", err)
    assert warning in err
    assert warning in shell.refused(1, "check-config", "relay.toml", "--strict")


@pytest.mark.parametrize(
    ("status", "argv", "why"),
    [
        (2, [], "missing argument"),
        (2, ["relay.toml", "other.toml"], "unexpected argument 'other.toml'"),
        (2, ["relay.toml", "--jsn"], "no such option"),
        (2, ["relay.toml", "--strict", "--strict"], "--strict is given twice"),
        (1, ["gone.toml"], "'gone.toml': No such file or directory"),
        (1, ["folder"], "'folder' is a directory"),
        (1, ["relay.toml"], "`key` and `key_dir` exclude each other"),
        (1, ["broken.toml"], "'broken.toml' is not valid TOML"),
        (1, ["binary.toml"], "'binary.toml' is not valid TOML"),
        (1, ["empty"], "nothing is configured"),
        (1, ["type.toml"], "`auth.key` must be a string"),
        (1, ["scheme.toml"], "`key`: unsupported scheme"),
        (1, ["nowhere.toml"], "`key`"),
        (1, ["no-directory.toml"], "`key_dir`"),
    ],
)
def test_check_config_refuses(desk: Cli, status: int, argv: list[str], why: str) -> None:
    put("relay.toml", 'auth.key = "a"\nauth.key_dir = "b"')
    put("broken.toml", f'auth.key = "{SECRET_WORD}')
    Path("binary.toml").write_bytes(b"\xff\xfe")
    put("type.toml", "auth.key = 5")
    put("nowhere.toml", 'auth.key = "gone.jwk"')
    put("no-directory.toml", 'auth.key_dir = "gone"')
    put("scheme.toml", 'auth.key = "gopher://user:hunter2@a.example/"')
    message = desk.refused(status, "check-config", *argv)
    assert why.casefold() in message.casefold()
    assert "hunter2" not in message


@pytest.mark.parametrize("options", [[], ["--json"], ["--strict"], ["--relay", "0.14"], ["--relay", "0.15"]])
@pytest.mark.parametrize("setting", ["public", "public.publish", "domains", "mtls_tier"])
def test_no_setting_is_shown_with_a_password(cli: Cli, setting: str, options: list[str]) -> None:
    """`public` is a place for prefixes where a URL is a frequent mistake."""
    url = "https://user:hunter2@api.example/public?sig=hunter2"
    put("relay.toml", f'[auth]\n{setting} = "{url}"\n')
    _, out, err = cli.run("check-config", "relay.toml", *options)
    assert "hunter2" not in out + err


@pytest.mark.parametrize("setting", ["public", "domains"])
def test_long_settings_are_cut(cli: Cli, setting: str) -> None:
    names = json.dumps(["x" * 5000, "\u202e\x1b[31m", *(f"room{number}" for number in range(1000))])
    put("relay.toml", f"[auth]\n{setting} = {names}\n")
    _, out, err = cli.run("check-config", "relay.toml")
    # The command line for the auth server is whole, to be copied.
    assert max(len(line) for line in (out + err).splitlines() if "start an auth server" not in line) < 600
    assert all(char.isprintable() or char == "\n" for char in out + err)
    assert ", …" in out + err
