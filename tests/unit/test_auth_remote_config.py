"""The configuration of relays from 0.15 on: the relay's own rules for it, and which generation a file is for."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING, Any

import pytest

from moq_token import ConfigError, Pattern, Patterns
from moq_token.auth import AuthConfig, ClientTls, ConfigWarning, RemoteConfig, load_config
from moq_token.auth.remote_config import is_remote
from tests.config_cases import CASES, Case

if TYPE_CHECKING:
    from pathlib import Path

SECRET = "hunter2"
URL = "https://auth.example/ask?x=1"


def auth(**members: object) -> RemoteConfig:
    return RemoteConfig.from_mapping({"auth": members})


def fault(document: dict[str, Any], environ: dict[str, str] | None = None, *, strict: bool = False) -> str:
    """Return why a configuration is refused."""
    with pytest.raises(ConfigError) as caught:
        RemoteConfig.from_mapping(document, environ=environ, strict=strict)
    message = str(caught.value)
    assert "\n" not in message
    assert SECRET not in message
    assert len(message) < 1500
    return message


def test_a_table_is_read_whole() -> None:
    document = {
        "listen": {"bind": "[::]:443"},
        "auth": {"url": URL},
        "connect": {"url": "x", "tls": {"root": "ca.pem", "cert": "c.pem", "key": "k.pem", "system_roots": True}},
    }
    tls = ClientTls(("ca.pem",), "c.pem", "k.pem", system_roots=True)
    assert RemoteConfig.from_mapping(document) == RemoteConfig(URL, tls=tls)


def test_rules_of_both_roles_add_up() -> None:
    config = auth(public=["anon/**"], public_subscribe="live/*", public_publish=["in/**", "out/**"])
    assert config == RemoteConfig(None, ["anon/**", "in/**", "out/**"], ["anon/**", "live/*"])
    assert config.publish == Patterns(["anon/**", "in/**", "out/**"])


def test_the_environment_overrides_the_file_and_splits_at_commas() -> None:
    document = {"auth": {"public": "anon/**", "public_publish": "p/**"}}
    environ = {"MOQ_AUTH_PUBLIC": "a/**,b/**", "MOQ_AUTH_PUBLIC_SUBSCRIBE": "c/**"}
    config = RemoteConfig.from_mapping(document, environ=environ)
    assert config == RemoteConfig(None, ["a/**", "b/**", "p/**"], ["a/**", "b/**", "c/**"])
    environ = {"MOQ_AUTH_URL": URL, "MOQ_CONNECT_TLS_ROOT": "a,b", "MOQ_CONNECT_TLS_INSECURE": "false"}
    assert RemoteConfig.from_env(environ) == RemoteConfig(URL, tls=ClientTls(("a", "b")))
    assert "true or false" in fault({}, {"MOQ_AUTH_URL": URL, "MOQ_CONNECT_TLS_INSECURE": "1"})


@pytest.mark.parametrize(
    "url",
    [
        "https://auth.example",
        f"https://user:{SECRET}@auth.example:4440/x?y=z",
        "http://127.0.0.1:4440/",
        "http://127.9.9.9",
        "http://[::1]:4440",
        "http://localhost:4440",
        "HTTP://LOCALHOST",
        "unix:///run/auth.sock",
        "unix:/run/auth.sock",
        "unix:///run/a%20b.sock",
    ],
)
def test_urls_that_a_relay_takes(url: str) -> None:
    config = auth(url=url)
    assert config.url == url
    assert SECRET not in repr(config)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        (f"http://user:{SECRET}@192.0.2.1/?{SECRET}", "http://192.0.2.1/ is not on this machine"),
        ("http://auth.example", "not on this machine"),
        ("http://localhost.example", "not on this machine"),
        ("http://127.0.0.1.example", "not on this machine"),
        ("http://[::ffff:127.0.0.1]", "not on this machine"),
        ("http://0.0.0.0", "not on this machine"),
        (f"ftp://{SECRET}@auth.example", "must start with https://"),
        (SECRET, "must start with https://"),
        ("", "must start with https://"),
        ("https://", "host is missing"),
        ("https://auth.example:99999", "no valid host and port"),
        ("https://auth example", "without spaces"),
        ("unix://run/auth.sock", "unix:///path"),
        ("unix:///", "unix:///path"),
        ("unix:///a%00b", "unix:///path"),
        (f"unix:///a?{SECRET}", "unix:///path"),
        (f"https://auth.example/{SECRET * 2000}", "too long"),
    ],
)
def test_urls_that_a_relay_refuses(url: str, why: str) -> None:
    assert why in fault({"auth": {"url": url}})
    assert why in fault({}, {"MOQ_AUTH_URL": url})


@pytest.mark.parametrize(
    ("members", "why"),
    [
        ({}, "nothing is configured"),
        ({"public": []}, "nothing is configured"),
        ({"url": URL, "public": "**"}, "exclude each other"),
        ({"url": URL, "public_publish": "**"}, "exclude each other"),
        ({"public": "anon"}, "write 'anon/**' for the subtree"),
        ({"public": "/a//b/"}, "segment 1 is empty"),
        ({"public": "a/b"}, "write 'a/b/**' for the subtree"),
        ({"public": ""}, "write '**' for the subtree"),
        ({"public_subscribe": ["a/**", "b"]}, "`auth.public_subscribe`: 'b' has no wildcard"),
        ({"public_publish": "a/**/b/**"}, "`auth.public_publish`"),
        ({"public": ["a/**,b/**"]}, "`auth.public`"),
        ({"public": 7}, "must be a string or a list"),
        ({"url": 7}, "`auth.url` must be a string"),
    ],
)
def test_what_contradicts_itself(members: dict[str, object], why: str) -> None:
    assert why in fault({"auth": members})


def test_a_literal_with_no_room_for_a_wildcard_is_taken() -> None:
    path = "/".join("a" * 32)
    assert auth(public=path).publish.matches(path)
    assert RemoteConfig(publish=[Pattern("anon")]).publish.matches("anon")


@pytest.mark.parametrize(
    ("document", "environ", "named", "new"),
    [
        ({"auth": {"key": "k"}}, {}, "`auth.key`", "`url`"),
        ({"auth": {"key_dir": "k", "public": "**"}}, {}, "`auth.key_dir`", "serve --key-dir"),
        ({"auth": {"auth_api": "k"}}, {}, "`auth.auth_api`", "`url`"),
        ({"auth": {"domains": []}}, {}, "`auth.domains`", "server_name"),
        ({"auth": {"mtls_tier": "x"}}, {}, "`auth.mtls_tier`", "--tier"),
        ({"auth": {"tls": {}}}, {}, "`auth.tls`", "`[connect.tls]`"),
        ({"auth": {"public": {"subscribe": "x"}}}, {}, "`[auth.public]`", "public_subscribe"),
        ({"server": {}}, {}, "`[server]`", "`[listen]`"),
        ({"client": {}}, {}, "`[client]`", "`[connect]`"),
        *(
            ({"auth": {"url": URL}}, {f"MOQ_AUTH_{name}": SECRET}, f"MOQ_AUTH_{name}", "use ")
            for name in ("KEY", "KEY_DIR", "API", "PUBLIC_API", "DOMAIN", "MTLS_TIER", "TLS_ROOT", "TLS_DISABLE_VERIFY")
        ),
    ],
)
def test_old_settings_are_refused_by_name(
    document: dict[str, Any], environ: dict[str, str], named: str, new: str
) -> None:
    message = fault(document, environ)
    assert named in message
    assert new in message


def test_all_old_settings_are_named_at_once() -> None:
    message = fault({"auth": {"key": SECRET, "domains": SECRET}, "server": {}}, {"MOQ_AUTH_API": SECRET})
    assert [name in message for name in ("`auth.key`", "`auth.domains`", "`[server]`", "MOQ_AUTH_API")] == [True] * 4


def test_unknown_members_are_ignored_with_a_warning() -> None:
    with pytest.warns(ConfigWarning, match=r"`auth\.zzz` is unknown") as caught:
        config = RemoteConfig.from_mapping({"auth": {"url": URL, "zzz": 1}})
    assert caught[0].filename == __file__
    assert config == RemoteConfig(URL)
    assert config.warnings == ("`auth.zzz` is unknown and ignored",)
    assert "zzz" in fault({"auth": {"url": URL, "zzz": 1}}, strict=True)
    assert "`connect.tls.zzz`" in fault({"auth": {"url": URL}, "connect": {"tls": {"zzz": 1}}})


# What check-config says beyond `[auth]`, and does not refuse.
ELSEWHERE = {"bad-address", "unknown-member"}


@pytest.mark.filterwarnings("ignore::moq_token.auth.ConfigWarning")
@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case.name))
def test_it_takes_what_a_relay_takes(case: Case) -> None:
    document = tomllib.loads(case.toml)
    if set(case.refused) - ELSEWHERE:
        fault(document, dict(case.environ))
    else:
        RemoteConfig.from_mapping(document, environ=case.environ)


def test_wrong_types_of_arguments() -> None:
    with pytest.raises(TypeError):
        RemoteConfig(7)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        RemoteConfig(URL, tls="x")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("document", "environ", "remote"),
    [
        ({"auth": {"url": URL}}, {}, True),
        ({"auth": {"url": URL, "key": "k"}}, {}, True),
        ({}, {"MOQ_AUTH_URL": URL}, True),
        ({"auth": {"public": "anon/**"}}, {}, True),
        ({"auth": {}}, {"MOQ_AUTH_PUBLIC": "**"}, True),
        ({"auth": {"public_publish": "a"}}, {}, True),
        ({"listen": {"bind": "x"}, "auth": {"public": "anon"}}, {}, True),
        ({"auth": {"public": "anon"}}, {}, False),
        ({"auth": {"key": "k", "public": "**"}}, {}, False),
        ({"auth": {"public": {"subscribe": "x"}}}, {}, False),
        ({"listen": "[::]:443", "auth": {"key": "k"}}, {}, False),
        ({"auth": {}}, {"MOQ_AUTH_KEY": "k", "MOQ_AUTH_PUBLIC": "*"}, False),
        ({"auth": 7}, {}, False),
        ({}, {}, False),
    ],
)
def test_which_generation_a_file_is_for(document: dict[str, Any], environ: dict[str, str], *, remote: bool) -> None:
    assert is_remote(document, environ) is remote


def test_a_file_of_either_generation(tmp_path: Path) -> None:
    file = tmp_path / "relay.toml"
    file.write_text('[auth]\nurl = "unix:///run/a.sock"\n')
    assert load_config(file, environ={}) == RemoteConfig("unix:///run/a.sock")
    assert RemoteConfig.from_toml(file, environ={}) == RemoteConfig("unix:///run/a.sock")
    file.write_text('[auth]\nkey_dir = "keys"\n')
    assert load_config(file, environ={}) == AuthConfig(key_dir="keys")
    file.write_text("[auth")
    with pytest.raises(ConfigError, match="not valid TOML"):
        load_config(file)
