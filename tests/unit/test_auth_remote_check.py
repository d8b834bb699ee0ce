"""Configurations of relays from 0.15 on, and the upgrade to them. tests/interop/test_config.py asks the relay."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from moq_token import Algorithm, ConfigError, Patterns
from moq_token.auth import AuthConfig, RemoteConfig
from moq_token.auth.remote_check import Settings, check_settings
from moq_token.auth.remote_config import is_remote
from moq_token.auth.upgrade import upgrade
from moq_token.generations import Generation
from tests import forge
from tests.config_cases import CASES, Case

if TYPE_CHECKING:
    from tests.command_line import Cli

FIRST, SECOND = Generation.FIRST, Generation.SECOND
HUNTER = "hunter2"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(text: str) -> str:
    Path("relay.toml").write_text(text, encoding="utf-8")
    return "relay.toml"


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case.name))
def test_what_keeps_a_relay_from_starting(case: Case) -> None:
    _, findings = check_settings(tomllib.loads(case.toml), case.environ)
    assert tuple(finding.code for finding in findings if finding.refused) == case.refused
    assert tuple(finding.code for finding in findings if not finding.refused) == case.noted
    for finding in findings:
        assert finding.generation is SECOND
        assert str(finding).isprintable()
        assert len(str(finding)) < 400
        assert finding.fix
        assert HUNTER not in str(finding)


@pytest.mark.filterwarnings("ignore::moq_token.auth.ConfigWarning")
@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case.name))
def test_the_configuration_in_use_is_refused_for_the_same(case: Case) -> None:
    document = tomllib.loads(case.toml)
    document.pop("internal", None)  # which is not for the decision
    environ = {name: value for name, value in case.environ.items() if name != "MOQ_INTERNAL_LISTEN"}
    settings, findings = check_settings(document, environ)
    if any(finding.refused for finding in findings):
        with pytest.raises(ConfigError):
            RemoteConfig.from_mapping(document, environ=environ)
    else:
        config = RemoteConfig.from_mapping(document, environ=environ)
        assert (config.url, config.publish, config.subscribe) == settings[:3]


def test_what_is_read() -> None:
    document = tomllib.loads('[auth]\npublic = "a/**"\npublic_publish = ["b/**"]\n[internal]\nlisten = "[::1]:4441"')
    expected = Settings(None, Patterns(["a/**", "b/**"]), Patterns(["a/**"]), "[::1]:4441")
    assert check_settings(document, {}) == (expected, ())
    config, _ = check_settings({}, {"MOQ_AUTH_URL": "http://localhost:1/", "MOQ_INTERNAL_LISTEN": "127.0.0.1:1"})
    assert config == Settings("http://localhost:1/", internal_listen="127.0.0.1:1")


@pytest.mark.parametrize(
    "document", [{"auth": 1}, {"auth": {"url": {}}}, {"internal": []}, {"auth": {"public": [["a"]]}}, {"listen": 1}]
)
def test_any_shape_is_a_finding(document: dict[str, object]) -> None:
    _, findings = check_settings(document, {})
    assert any(finding.refused for finding in findings)


def test_thousands_of_rules_are_a_finding() -> None:
    _, findings = check_settings({"auth": {"public": [f"a{number}/**" for number in range(5000)]}}, {})
    assert [finding.code for finding in findings] == ["too-many-patterns"]


@pytest.mark.parametrize(
    ("toml", "environ", "generation"),
    [
        ("", {}, FIRST),
        ('[auth]\nkey = "k.jwk"', {}, FIRST),
        ('[auth]\npublic = "anon"', {}, FIRST),
        ('[auth]\nkey = "k.jwk"\npublic = "cam*"', {}, FIRST),
        ('[auth.public]\nsubscribe = "anon"', {}, FIRST),
        ('[server]\nbind = "x"\n[auth]\npublic = "anon"', {}, FIRST),
        ("", {"MOQ_AUTH_KEY": "k.jwk"}, FIRST),
        ('[auth]\npublic = "anon/**"', {}, SECOND),
        ('[auth]\npublic = ["anon/**"]', {}, SECOND),
        ('[auth]\nurl = "http://localhost:4440/"', {}, SECOND),
        ('[auth]\npublic_publish = "anon"', {}, SECOND),
        ('[auth]\nurl = "http://localhost:4440/"\nkey = "k.jwk"', {}, SECOND),
        ('[listen]\nbind = "x"\n[auth]\nkey = "k.jwk"', {}, SECOND),
        ("", {"MOQ_AUTH_URL": "http://localhost:4440/"}, SECOND),
    ],
)
def test_the_generation_is_seen_from_the_settings(toml: str, environ: dict[str, str], generation: Generation) -> None:
    assert is_remote(tomllib.loads(toml), environ) is (generation is SECOND)


# -- the upgrade


@pytest.mark.parametrize(
    ("toml", "serve", "missing"),
    [
        ('[auth]\nkey = "public.jwk"', "moq-token-cli serve --key public.jwk", []),
        ('[auth]\nkey_dir = "my keys"', "moq-token-cli serve --key-dir 'my keys'", []),
        (
            '[auth]\nkey = "k"\npublic = "/anon//x/"',
            "moq-token-cli serve --key k --public-publish 'anon/x/**' --public-subscribe 'anon/x/**'",
            [],
        ),
        (
            '[auth.public]\nsubscribe = ["", "b"]',
            "moq-token-cli serve --public-subscribe '**' --public-subscribe 'b/**'",
            [],
        ),
        ('[auth]\npublic = ["cam*"]', "moq-token-cli serve", ["no pattern can express the public prefix 'cam*'"]),
        ('[auth]\nkey = "https://k.example/k"', "moq-token-cli serve --key https://k.example/k", []),
        (
            '[auth]\nkey = "https://a:hunter2@k.example/"',
            "moq-token-cli serve --key URL",
            ["`key` has a user, a password"],
        ),
        (
            '[auth]\nauth_api = "https://a.example/"',
            "moq-token-cli serve",
            ["`auth_api` answers GET"],
        ),
        (
            '[auth.public]\napi = "https://a.example/"',
            "moq-token-cli serve",
            ["`public.api` answers GET"],
        ),
        ('[auth]\nkey = "k"\ndomains = "cdn.example"', "moq-token-cli serve --key k", ["`domains` has no equivalent"]),
        (
            '[server.tls]\nroot = ["ca.pem"]\n[auth]\nkey = "k"',
            "moq-token-cli serve --key k --mtls-publish '**' --mtls-subscribe '**'",
            [],
        ),
        (
            '[auth]\nkey = "k"\nmtls_tier = "gold"',
            "moq-token-cli serve --key k --mtls-publish '**' --mtls-subscribe '**' --tier gold",
            ["`mtls_tier` labels sessions with a certificate only"],
        ),
    ],
)
def test_the_auth_server_that_does_the_same(toml: str, serve: str, missing: list[str]) -> None:
    document = tomllib.loads(toml)
    after = upgrade(AuthConfig.from_mapping(document), document, {})
    assert after.serve == serve
    assert [text[: len(start)] for text, start in zip(after.open, missing, strict=True)] == missing


# -- the command

OLD = '[auth]\nkey = "public.jwk"\npublic = "anon"\n'


def test_an_old_file_is_shown_with_what_replaces_each_setting(cli: Cli) -> None:
    forge.key(Algorithm.EDDSA).to_public().to_file("public.jwk")
    out = cli.done("check-config", write(OLD))
    assert [line for line in out.splitlines() if line.startswith(("relays", "upgrade"))] == [
        "relays   moq-relay 0.14; from 0.15 on, a relay refuses to start with these settings, and asks an auth server",
        "upgrade  `auth.key`: use `url` of an auth server (`moq-token serve --key`)",
        "upgrade  `auth.public`: use --public-publish and --public-subscribe of the auth server, which take patterns",
        (
            "upgrade  start an auth server: moq-token-cli serve --key public.jwk --public-publish 'anon/**' "
            "--public-subscribe 'anon/**'"
        ),
        "upgrade  start the relay with: --auth-url http://127.0.0.1:4440/",
    ]
    found = json.loads(cli.done("check-config", "relay.toml", "--json"))
    assert (found["ok"], found["relays"]) == (True, "0.14")
    assert [each["setting"] for each in found["upgrade"]["replaced"]] == ["auth.key", "auth.public"]
    assert found["upgrade"]["serve"].startswith("moq-token-cli serve --key public.jwk ")


def test_an_old_file_does_not_start_a_new_relay(cli: Cli) -> None:
    message = cli.refused(1, "check-config", write(OLD), "--relay", "0.17")
    assert message.startswith(
        "'relay.toml': `auth.key` is a setting of relays before 0.15: use `url` of an auth server"
    )
    status, out, _ = cli.run("check-config", "relay.toml", "--relay", "0.17", "--json")
    found = json.loads(out)
    assert (status, found["ok"], found["relays"]) == (1, False, "0.15")
    assert [each["code"] for each in found["findings"]] == ["old-setting", "no-wildcard"]


def test_keys_that_the_auth_server_refuses_are_named(cli: Cli) -> None:
    members = forge.jwk(Algorithm.HS256)
    del members["kty"]
    Path("keys").mkdir()
    Path("keys/old.jwk").write_bytes(forge.compact(members))
    out = cli.done("check-config", write('[auth]\nkey_dir = "keys"\n'))
    assert "upgrade  not replaced: the auth server refuses 'keys/old.jwk': the member `kty` is missing" in out


def test_a_new_file_is_checked_for_new_relays(cli: Cli) -> None:
    assert cli.done(
        "check-config", write('[auth]\nurl = "https://me:hunter2@auth.example.com/x?y=1"\n')
    ).splitlines() == [
        "relays   moq-relay 0.15 and later",
        "tokens   decided by the auth server at https://auth.example.com/x, which also says what is public",
    ]
    out = cli.done("check-config", write('[auth]\npublic_subscribe = ["**"]\n'))
    assert out.splitlines()[1:] == [
        "tokens   all refused: there is no auth server to verify them",
        "public   without a token anybody may publish: nothing",
        "public   without a token anybody may subscribe: everything",
    ]
    status, _, err = cli.run("check-config", write('[auth]\npublic = "**"\nkeys = "x"\n'))
    assert (status, err) == (
        0,
        (
            "note: `auth.keys` is unknown, and silently ignored: known are `url`, `public`, `public_publish`, "
            "`public_subscribe`\n"
        ),
    )
    assert "`auth.keys` is unknown" in cli.refused(1, "check-config", "relay.toml", "--strict")
    assert "nothing is configured" in cli.refused(
        1, "check-config", write('[auth]\nurl = "https://a.example/"\n'), "--relay", "0.14"
    )


def test_the_environment_counts(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOQ_AUTH_URL", "http://localhost:4440/")
    assert "http://localhost:4440/" in cli.done("check-config", write(""))
    assert "are both set" in cli.refused(1, "check-config", write('[auth]\npublic = "**"\n'))


def test_one_version_is_checked_at_a_time(cli: Cli) -> None:
    message = cli.refused(2, "check-config", write(OLD), "--relay", "all")
    assert message == "--relay: a file is for relays before 0.15 or from 0.15 on: name one version"


def test_settings_show_no_password() -> None:
    settings, _ = check_settings({"auth": {"url": f"https://user:{HUNTER}@auth.example.com"}}, {})
    assert settings.url is not None
    assert HUNTER in settings.url
    assert HUNTER not in repr(settings)
