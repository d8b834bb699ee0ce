"""The configuration of a relay: valid settings, contradictions, and settings that are probably mistakes."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moq_token import Algorithm, ConfigError
from moq_token.auth import AuthConfig, ClientTls, PublicAccess
from tests import forge

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.filterwarnings("ignore::moq_token.auth.ConfigWarning")

SECRET = "hunter2"
URL = f"https://user:{SECRET}@api.example/auth?key={SECRET}"


def auth(**members: object) -> AuthConfig:
    return AuthConfig.from_mapping({"auth": members})


def contradiction(document: dict[str, Any], environ: dict[str, str] | None = None, *, strict: bool = False) -> str:
    """Return why a configuration is refused."""
    with pytest.raises(ConfigError) as caught:
        AuthConfig.from_mapping(document, environ=environ, strict=strict)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_table_is_read_whole() -> None:
    config = AuthConfig.from_mapping(
        {
            "listen": "[::]:443",
            "log": {"level": "debug"},
            "auth": {
                "key_dir": "keys",
                "public": {"subscribe": "live", "publish": ["a", "b"], "api": "https://api.example/public"},
                "domains": [".CDN.example", "other.example"],
                "mtls_tier": "mesh",
            },
            "client": {
                "bind": "[::]:0",
                "tls": {"root": "ca.pem", "cert": "cert.pem", "key": "key.pem", "system_roots": True},
            },
        }
    )
    assert config == AuthConfig(
        key_dir="keys",
        public=PublicAccess(("live",), ("a", "b"), "https://api.example/public"),
        domains=("cdn.example", "other.example"),
        mtls_tier="mesh",
        tls=ClientTls(("ca.pem",), "cert.pem", "key.pem", system_roots=True),
    )
    assert config.warnings == ()
    assert config.urls == ("https://api.example/public",)


@pytest.mark.parametrize(
    ("value", "subscribe", "publish"),
    [
        ("anon", ("anon",), ("anon",)),
        (["a", "b"], ("a", "b"), ("a", "b")),
        ([], (), ()),
        ({"subscribe": "a"}, ("a",), ()),
        ({"publish": ["a", "b"], "subscribe": []}, (), ("a", "b")),
    ],
)
def test_public_has_three_spellings(value: object, subscribe: tuple[str, ...], publish: tuple[str, ...]) -> None:
    assert auth(public=value, mtls_tier="x").public == PublicAccess(subscribe, publish)


@pytest.mark.parametrize(
    ("members", "named"),
    [
        ({"key": "a", "key_dir": "b"}, ["`key`", "`key_dir`"]),
        ({"auth_api": URL, "key": "a"}, ["`auth_api`", "`key`"]),
        ({"auth_api": URL, "key_dir": "a"}, ["`auth_api`", "`key_dir`"]),
        ({"auth_api": URL, "public": "a"}, ["`auth_api`", "`public`"]),
        ({"auth_api": URL, "public": ""}, ["`auth_api`", "`public`"]),
        ({"auth_api": URL, "public": {"api": URL}}, ["`auth_api`", "`public`"]),
        ({"auth_api": SECRET}, ["`auth_api`"]),
        ({"auth_api": f"ftp://{SECRET}/"}, ["`auth_api`"]),
        ({"auth_api": f"https://[{SECRET}/"}, ["`auth_api`"]),
        ({"auth_api": "https:///path"}, ["`auth_api`"]),
        ({"auth_api": f"https://api.example/ü{SECRET}"}, ["`auth_api`"]),
        ({"auth_api": f"https://api.example/\n{SECRET}"}, ["`auth_api`"]),
        ({"public": {"api": SECRET}}, ["`public.api`"]),
        ({"public": "a", "domains": ["..."]}, ["`domains`"]),
        ({"key": "a", "tls": {"cert": "a"}}, ["`cert`", "`key`"]),
        ({"key": "a", "tls": {"disable_verify": True, "root": "a"}}, ["`disable_verify`", "`root`"]),
        ({"key": "a", "tls": {"rootz": "a"}}, ["`auth.tls.rootz`", "`root`"]),
        ({"key": 7}, ["`auth.key`", "string"]),
        ({"key_dir": ["a"]}, ["`auth.key_dir`", "string"]),
        ({"auth_api": True}, ["`auth.auth_api`", "string"]),
        ({"mtls_tier": 7}, ["`auth.mtls_tier`", "string"]),
        ({"domains": {"a": 1}}, ["`auth.domains`", "list"]),
        ({"domains": ["a", 7]}, ["`auth.domains`", "list"]),
        ({"public": True}, ["`auth.public`", "list"]),
        ({"public": ["\ud800"]}, ["`auth.public`", "Unicode"]),
        ({"public": {"api": ["a"]}}, ["`auth.public.api`", "string"]),
        ({"public": {"publish": [7]}}, ["`auth.public.publish`", "list"]),
        ({"tls": []}, ["`auth.tls`", "table"]),
        ({"tls": {"root": 7}}, ["`auth.tls.root`", "list"]),
        ({"tls": {"cert": ["a"], "key": "b"}}, ["`auth.tls.cert`", "string"]),
        ({"tls": {"disable_verify": 1}}, ["`auth.tls.disable_verify`", "true or false"]),
    ],
)
def test_what_contradicts_itself_names_the_members_and_no_value(members: dict[str, Any], named: list[str]) -> None:
    message = contradiction({"auth": members})
    assert all(name in message for name in named), message
    assert SECRET not in message


@pytest.mark.parametrize(
    ("tls", "named"),
    [
        ({"cert": "a"}, "`cert`"),
        ({"key": "a"}, "`key`"),
        ({"disable_verify": True, "system_roots": True}, "`system_roots`"),
        ({"disable_verify": True, "fingerprint": "00"}, "`fingerprint`"),
        ({"fingerprint": "00", "root": "a"}, "`fingerprint`"),
        ({"fingerprint": "00", "system_roots": True}, "`fingerprint`"),
        ({"system_roots": False}, "`system_roots`"),
        ({"rot": "a"}, "`client.tls.rot`"),
    ],
)
def test_client_tls_is_checked_too(tls: dict[str, Any], named: str) -> None:
    assert named in contradiction({"auth": {"public": "a"}, "client": {"tls": tls}})


def test_a_fingerprint_counts_only_where_nothing_is_fetched() -> None:
    tls = {"client": {"tls": {"fingerprint": ["00"]}}}
    assert AuthConfig.from_mapping({"auth": {"key": "key.jwk"}} | tls).tls.fingerprints == ("00",)
    assert "`fingerprint`" in contradiction({"auth": {"key": "https://keys.example/key.jwk"}} | tls)


def test_the_older_tls_table_comes_first() -> None:
    document: dict[str, Any] = {
        "auth": {"key": "a", "tls": {"root": "old.pem"}},
        "client": {"tls": {"root": "new.pem"}},
    }
    config = AuthConfig.from_mapping(document)
    assert config.tls == ClientTls(("old.pem",))
    assert "`auth.tls`" in config.warnings[0]
    document["auth"]["tls"] = {"root": []}
    assert AuthConfig.from_mapping(document).tls == ClientTls(("new.pem",))
    assert AuthConfig.from_mapping(document).warnings == ()


def test_the_environment_is_laid_over_the_table() -> None:
    document = {
        "auth": {
            "key": "old.jwk",
            "public": {"subscribe": ["live"]},
            "domains": ["a.example", "b.example"],
            "mtls_tier": "old",
        }
    }
    environ = {
        "MOQ_AUTH_KEY": "new.jwk",
        "MOQ_AUTH_PUBLIC_SUBSCRIBE": "vod",
        "MOQ_AUTH_PUBLIC_PUBLISH": "inbox",
        "MOQ_AUTH_PUBLIC_API": "https://api.example/",
        "MOQ_AUTH_DOMAIN": "c.example",
        "MOQ_AUTH_MTLS_TIER": "new",
        "MOQ_CLIENT_TLS_ROOT": "ca.pem",
        "MOQ_CLIENT_TLS_SYSTEM_ROOTS": "true",
        "HOME": "/home/relay",
    }
    config = AuthConfig.from_mapping(document, environ=environ)
    public = PublicAccess(("live", "vod"), ("inbox",), "https://api.example/")
    tls = ClientTls(("ca.pem",), system_roots=True)
    assert config == AuthConfig("new.jwk", public=public, domains=("c.example",), mtls_tier="new", tls=tls)
    assert config.warnings == ()
    assert document["auth"]["key"] == "old.jwk"
    assert AuthConfig.from_env({"MOQ_AUTH_PUBLIC": "", "MOQ_AUTH_TLS_DISABLE_VERIFY": "false"}) == AuthConfig(
        public=PublicAccess(("",), ("",))
    )


def test_the_environment_can_contradict_the_table() -> None:
    assert "`key_dir`" in contradiction({"auth": {"key": "a"}}, {"MOQ_AUTH_KEY_DIR": "b"})
    assert "`auth_api`" in contradiction({"auth": {"public": "a"}}, {"MOQ_AUTH_API": URL})
    both = contradiction({"auth": {"public": {"api": URL}}}, {"MOQ_AUTH_PUBLIC_API": URL})
    assert "MOQ_AUTH_PUBLIC_API" in both
    assert "MOQ_AUTH_TLS_DISABLE_VERIFY" in contradiction({}, {"MOQ_AUTH_TLS_DISABLE_VERIFY": "yes"})


def test_from_mapping_looks_at_no_environment_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOQ_AUTH_KEY", "key.jwk")
    assert AuthConfig.from_mapping({}) == AuthConfig()
    assert AuthConfig.from_env() == AuthConfig("key.jwk")


@pytest.mark.parametrize(
    ("document", "environ", "named"),
    [
        ({"auth": {"key": "a", "keydir": "b"}}, {}, ["`auth.keydir`", "`key_dir`"]),
        ({"auth": {"key": "a", "key-dir": "b"}}, {}, ["`auth.key-dir`", "`key_dir`"]),
        ({"auth": {"public": {"publsh": "a"}}}, {}, ["`auth.public.publsh`", "`publish`"]),
        ({"auth": {"zzz\n": "b"}}, {}, ["`auth.zzz\\n`"]),
        ({}, {"MOQ_AUTH_KEYDIR": "a"}, ["MOQ_AUTH_KEYDIR", "MOQ_AUTH_KEY_DIR"]),
        ({"auth": {"public": "https://api.example/"}}, {}, ["`auth.public.api`"]),
        ({"auth": {"public": "live/**"}}, {}, ["'live/**'"]),
        ({"auth": {"public": {"subscribe": "live/*/x"}}}, {}, ["'live/*/x'"]),
        ({"auth": {"domains": "*.cdn.example"}}, {}, ["`domains`", "'*.cdn.example'"]),
        ({"auth": {"domains": "https://cdn.example"}}, {}, ["`domains`"]),
        ({"auth": {"key": "https://a.example/", "tls": {"disable_verify": True}}}, {}, ["`auth.tls`"]),
        ({"client": {"tls": {"disable_verify": True}}}, {}, ["`disable_verify`"]),
        ({"auth": {"key": "http://keys.example/k"}}, {}, ["plain http"]),
        ({"auth": {"public": {"api": "https://api.example/?a=b"}}}, {}, ["query"]),
    ],
)
def test_what_is_probably_not_meant_is_a_warning_and_strictly_an_error(
    document: dict[str, Any], environ: dict[str, str], named: list[str]
) -> None:
    config = AuthConfig.from_mapping(document, environ=environ)
    assert all(name in config.warnings[0] for name in named), config.warnings
    assert not any("\n" in warning for warning in config.warnings)
    assert contradiction(document, environ, strict=True) == "; ".join(config.warnings)


@pytest.mark.parametrize(
    "url", ["http://localhost:8080/key.jwk", "http://127.0.0.1/k", "http://[::1]/k", "https://a/k"]
)
def test_what_nobody_can_listen_to_is_no_warning(url: str) -> None:
    assert auth(key=url).warnings == ()


def test_toml_and_its_errors(tmp_path: Path) -> None:
    file = tmp_path / "relay.toml"
    file.write_text('[auth]\nkey = "key.jwk"\nunknown = 1\n[other]\nanything = {}\n', encoding="utf-8")
    assert AuthConfig.from_toml(file, environ={}) == AuthConfig("key.jwk")
    assert AuthConfig.from_toml(str(file), environ={"MOQ_AUTH_KEY": "k"}) == AuthConfig("k")
    with pytest.raises(ConfigError, match="unknown"):
        AuthConfig.from_toml(file, environ={}, strict=True)
    file.write_text(f'[auth]\nauth_api = "{SECRET}\n', encoding="utf-8")
    with pytest.raises(ConfigError, match=r"relay\.toml' is not valid TOML \(at line 2") as caught:
        AuthConfig.from_toml(file, environ={})
    assert SECRET not in str(caught.value)
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="is not valid TOML"):
        AuthConfig.from_toml(file, environ={})
    with pytest.raises(FileNotFoundError):
        AuthConfig.from_toml(tmp_path / "missing.toml", environ={})


def test_a_password_in_a_url_never_shows() -> None:
    for config in (auth(auth_api=URL), auth(key=URL), auth(key_dir=URL), auth(public={"api": URL})):
        assert SECRET not in repr(config)
        assert SECRET not in str(config.warnings)
        assert config.urls == (URL,)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(), max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["auth", "client", "tls", "key", "public", "api", "publish", "domains", "root", "cert"]),
            inner,
        )
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(["auth", "client"]), JSON))
def test_any_table_is_a_configuration_or_refused(document: dict[str, Any]) -> None:
    try:
        AuthConfig.from_mapping(document)
        message = ""
    except ConfigError as error:
        message = str(error)
    assert "\n" not in message


def test_reading_a_configuration_touches_no_network() -> None:
    program = """
import sys
from moq_token.auth import AuthConfig
sys.addaudithook(lambda event, _: sys.exit(event) if event.startswith("socket") else None)
AuthConfig.from_mapping({"auth": {"auth_api": "https://api.example/"}})
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_file_that_is_none_is_no_configuration(tmp_path: Path) -> None:
    large = tmp_path / "large.toml"
    large.write_bytes(b"#" * (1024 * 1024 + 1))
    for path, why in ((large, "larger than"), (tmp_path, "is a directory")):
        with pytest.raises(ConfigError, match=why):
            AuthConfig.from_toml(path)


@pytest.mark.parametrize("text", [forge.key(Algorithm.HS256).to_json(), forge.key(Algorithm.ES256).to_pem(), "0f" * 32])
def test_a_key_in_place_of_a_path_is_not_repeated(text: str) -> None:
    for make in (
        lambda: AuthConfig(key=text),
        lambda: AuthConfig(key_dir=text),
        lambda: auth(key=text),
        lambda: AuthConfig.from_env({"MOQ_AUTH_KEY_DIR": text}),
        lambda: ClientTls(roots=[text]),
        lambda: ClientTls(cert="c", key=text),
    ):
        with pytest.raises(ConfigError, match="expected a path or URL, but this looks like") as caught:
            make()
        assert text[-24:-4] not in str(caught.value)
