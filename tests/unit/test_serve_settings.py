"""The settings of `serve`: their grammar, their sources, and contradictions."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest

from moq_token import ConfigError
from moq_token.cli.serve import serve_command
from moq_token.server import Cap, CapKind
from moq_token.server.humantime import parse_humantime
from moq_token.server.reading import SETTINGS, parse, read_settings
from moq_token.server.settings import FIXED, Settings

if TYPE_CHECKING:
    from pathlib import Path

    from tests.command_line import Cli


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("1m", 60),
        ("1h30m", 5400),
        ("1h 30m", 5400),
        (" 1 h  30 min ", 5400),
        ("30m 1h", 5400),
        ("1d", 86400),
        ("1w", 604800),
        ("1M", 2630016),
        ("1y", 31557600),
        ("500ms", 0.5),
        ("1.5h", 5400),
        ("2hours 3days 1sec", 7200 + 3 * 86400 + 1),
        ("7us", 7e-6),
        ("7µs", 7e-6),
        ("0", 0),
        ("0s", 0),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_humantime(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text",
    [
        "60",
        "",
        " ",
        "1x",
        "1H",
        "h",
        "1h30",
        "-1s",
        "+1s",
        "1,5h",
        "1e3s",
        "1h!",
        "٣s",
        "9" * 30 + "s",
        "9000y",
        "1..5s",
    ],
)
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected a duration|too long"):
        parse_humantime(text)


def test_a_secret_in_place_of_a_duration_is_not_repeated() -> None:
    with pytest.raises(ValueError, match=r"or 1d$"):
        parse_humantime("9AbCdEfGhIjKlMnOpQrStUvWxYz")


@pytest.mark.parametrize("name", sorted(SETTINGS))
def test_a_key_or_a_token_in_place_of_a_value_is_not_repeated(name: str) -> None:
    for secret in ("eyJhbGciOiJIUzI1NiJ9.eyJoaWRkZW4iOjF9.hidden", '{"kty":"oct","k":"hidden"}'):
        variable = f"MOQ_TOKEN_SERVE_{name.upper()}"
        with pytest.raises(ConfigError, match=f"`{variable}`") as caught:
            read_settings(environ={variable: secret})
        assert "hidden" not in str(caught.value)
        assert "eyJ" not in str(caught.value)


def test_parts_of_seconds_are_rounded_up() -> None:
    assert [parse(SETTINGS["revalidate"], text) for text in ("500ms", "1500ms", "1ns", "2s")] == [1, 2, 1, 2]


def toml(directory: Path, text: str) -> Path:
    path = directory / "serve.toml"
    path.write_text(f"[serve]\n{text}\n")
    return path


def test_every_setting_is_a_flag_a_variable_and_a_member_of_the_file(tmp_path: Path) -> None:
    flags = {param.name for param in serve_command.params} - {"config", "check"}
    assert flags == set(SETTINGS) == set(Settings.__slots__) - {"origins", "warnings"}
    assert set(FIXED) < set(SETTINGS)
    samples = {
        "flag": ("true", "true", True),
        "count": ("3", "3", 3),
        "duration": ("1m", '"1m"', 60),
        "fraction": ("0.05", "0.05", 0.05),
        "patterns": ("a/**,b*", '["a/**", "b*"]', ("a/**", "b*")),
        "relays": (
            "n=http://127.0.0.1:1,=unix:a",
            '["n=http://127.0.0.1:1", "=unix:a"]',
            ("n=http://127.0.0.1:1", "=unix:a"),
        ),
        "text": ("x", '"x"', "x"),
    }
    for name, setting in SETTINGS.items():
        if setting.choices:
            word = setting.choices[0]
            sample: tuple[str, str, object] = (word, f'"{word}"', (word,) if setting.kind == "choices" else word)
        else:
            sample = samples[setting.kind]
        variable, member, value = sample
        assert getattr(read_settings(environ={f"MOQ_TOKEN_SERVE_{name.upper()}": variable}), name) == value
        assert getattr(read_settings(config=toml(tmp_path, f"{name} = {member}")), name) == value
        assert getattr(read_settings(config=toml(tmp_path, f"{name.replace('_', '-')} = {member}")), name) == value


def test_a_flag_overrides_the_environment_which_overrides_the_file(tmp_path: Path) -> None:
    path = toml(tmp_path, 'tier = "file"\npublic_publish = ["a/**", "b/**"]\nkey_dir = "keys"\nexpires = "1h"')
    environ = {"MOQ_TOKEN_SERVE_TIER": "environment", "MOQ_TOKEN_SERVE_PUBLIC_PUBLISH": "c/**", "OTHER": "x"}
    settings = read_settings({"tier": "flag"}, config=path, environ=environ)
    assert (settings.tier, settings.public_publish, settings.expires) == ("flag", ("c/**",), 3600)
    assert [settings.label(name) for name in ("tier", "public_publish", "expires", "revalidate")] == [
        "--tier",
        "MOQ_TOKEN_SERVE_PUBLIC_PUBLISH",
        "serve.expires",
        "--revalidate",
    ]
    assert read_settings(config=path, environ=environ).tier == "environment"
    assert read_settings(config=path).tier == "file"
    assert read_settings() == Settings()
    # An empty variable counts as not set, because compose files set empty ones.
    assert read_settings(config=path, environ={"MOQ_TOKEN_SERVE_TIER": ""}).tier == "file"


def test_key_and_key_dir_override_each_other(tmp_path: Path) -> None:
    path = toml(tmp_path, 'key_dir = "keys"')
    for settings in (
        read_settings({"key": "a.jwk"}, config=path),
        read_settings(config=path, environ={"MOQ_TOKEN_SERVE_KEY": "a.jwk"}),
    ):
        assert (settings.key, settings.key_dir) == ("a.jwk", None)
    with pytest.raises(ConfigError, match=r"`serve.key` and `serve.key_dir` exclude each other"):
        read_settings(config=toml(tmp_path, 'key_dir = "keys"\nkey = "a.jwk"'))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("keydir = 'x'", "`serve.keydir` is unknown: did you mean `key_dir`?"),
        ("zzz = 1", "`serve.zzz` is unknown: `serve --help` lists the settings"),
        ("'a\\nb' = 1", r"`serve.a\\\\nb` is unknown"),
        ("public-publish = 'a/**'\npublic_publish = 'b/**'", "`serve.public-publish` is unknown"),
        ("expires = 60", '`serve.expires`: must be a string with a unit, such as "90s" or "1h"'),
        ("expires = '60'", "`serve.expires`: the unit is missing: expected a duration such as 90s"),
        ("limit_token = '3'", "`serve.limit_token`: must be a whole number"),
        ("limit_token = true", "`serve.limit_token`: must be a whole number"),
        ("limit_token = -1", "`serve.limit_token`: expected a whole number of at most 9 digits"),
        ("spread = 0.2", "`serve.spread`: expected a number from 0 to 0.1"),
        ("spread = nan", "`serve.spread`: expected a number from 0 to 0.1"),
        ("lenient = 'yes'", "`serve.lenient`: must be true or false"),
        ("public_publish = [1]", "`serve.public_publish`: must be a string or a list of strings"),
        ("public_publish = 'a//b'", "`serve.public_publish`: .*segment"),
        ("kick_oldest = 'root'", "`serve.kick_oldest`: expected token, remote or subject, got 'root'"),
        ("contract = 'put'", "`serve.contract`: expected post, get or both, got 'put'"),
        ("tier = ''", "`serve.tier`: must not be empty"),
        ("tier = {}", "`serve.tier`: must be a string"),
    ],
)
def test_what_is_wrong_in_the_file(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace("?", r"\?")):
        read_settings(config=toml(tmp_path, text))


def test_file_without_the_table(tmp_path: Path) -> None:
    path = tmp_path / "relay.toml"
    path.write_text('[auth]\nkey = "x"\n')
    with pytest.raises(ConfigError, match=r"has no table \[serve\]"):
        read_settings(config=path)
    path.write_text("serve = 1\n")
    with pytest.raises(ConfigError, match=r"has no table \[serve\]"):
        read_settings(config=path)
    with pytest.raises(FileNotFoundError):
        read_settings(config=tmp_path / "absent")


def test_variables() -> None:
    with pytest.raises(ConfigError, match="`MOQ_TOKEN_SERVE_EXPIRES`: the unit is missing"):
        read_settings(environ={"MOQ_TOKEN_SERVE_EXPIRES": "60"})
    with pytest.raises(ConfigError, match="`MOQ_TOKEN_SERVE_LENIENT`: expected true or false"):
        read_settings(environ={"MOQ_TOKEN_SERVE_LENIENT": "maybe"})
    settings = read_settings(environ={"MOQ_TOKEN_SERVE_KEYDIR": "x", "MOQ_TOKEN_SERVE_key_dir": "x"})
    assert (
        settings.warnings[0] == "MOQ_TOKEN_SERVE_KEYDIR is unknown and ignored: did you mean MOQ_TOKEN_SERVE_KEY_DIR?"
    )
    assert len(settings.warnings) == 2
    # A Service of Kubernetes with the name moq-token-serve adds these to every container.
    links = ("SERVICE_HOST", "SERVICE_PORT", "PORT", "PORT_4440_TCP", "PORT_4440_TCP_ADDR")
    assert read_settings(environ={f"MOQ_TOKEN_SERVE_{name}": "tcp://10.0.0.1" for name in links}) == Settings()


# -- what contradicts itself: the originals refuse these at start too, with the same status

NEEDS_EXPIRES = "`--revalidate` needs `--expires`"
START = [
    # (command line, status, in our message, in that of `moq auth serve` 0.14.10)
    ("--listen nowhere", 1, "`--listen`: expected an address such as 127.0.0.1:4440", "--listen expects a socket addr"),
    ("--listen localhost:4440", 1, "`--listen`: expected an address", "--listen expects a socket address"),
    ("--listen ::1", 1, "`--listen`: expected an address", "--listen expects a socket address"),
    ("--listen 0.0.0.0:0", 1, "is not a loopback address", "is not a loopback address"),
    ("--listen [::]:0", 1, "is not a loopback address", "is not a loopback address"),
    ("--listen 0.0.0.0:0 --revalidate 0s", 1, "is not a loopback address", "is not a loopback address"),
    ("--revalidate 0s --expires 1h", 1, "`--revalidate` must be longer than 0s", "--revalidate must be longer than 0s"),
    ("--revalidate 0", 1, "`--revalidate` must be longer than 0s", "--revalidate must be longer than 0s"),
    ("--revalidate 1m", 1, NEEDS_EXPIRES, "--revalidate needs --expires"),
    ("--revalidate 1m --limit-token 3", 1, NEEDS_EXPIRES, "--revalidate needs --expires"),
    (
        "--limit-token 3",
        1,
        "`--limit-token` needs `--revalidate`",
        "--limit-token and --limit-remote need --revalidate",
    ),
    ("--limit-remote 0", 1, "`--limit-remote` needs `--revalidate`", "need --revalidate"),
    ("--limit-token 3 --public-publish a", 1, "`--limit-token` needs `--revalidate`", "need --revalidate"),
    (
        "--public-publish anon",
        1,
        "`--public-publish`: 'anon' has no wildcard",
        "--public-publish `anon` has no wildcard",
    ),
    ("--public-subscribe a/b", 1, "write 'a/b/**' for the subtree", "write `a/b/**` for the subtree"),
    ("--mtls-publish x --public-subscribe y", 1, "`--public-subscribe`: 'y'", "--public-subscribe `y`"),
    ("--mtls-subscribe x", 1, "`--mtls-subscribe`: 'x' has no wildcard", "--mtls-subscribe `x` has no wildcard"),
    ("--public-publish=", 1, "write '**' for the subtree", "write `**` for the subtree"),
    ("--public-publish a/**,b/**", 2, "--public-publish: ", "invalid value 'a/**,b/**'"),
    ("--public-publish a//b", 2, "--public-publish: ", "empty path segment"),
    ("--expires 60", 2, "--expires: the unit is missing", "time unit needed"),
    ("--expires 1x", 2, "--expires: expected a duration", "unknown time unit"),
    ("--expires=", 2, "--expires: expected a duration", "value was empty"),
    ("--expires 99999999999999y", 2, "--expires: the duration is too long", "number is too large"),
    ("--limit-token x", 2, "--limit-token: expected a whole number", "invalid digit"),
    ("--limit-token=-1", 2, "--limit-token: expected a whole number", "invalid digit"),
    ("--tier a --tier b", 2, "--tier is given twice", "cannot be used multiple times"),
    ("--key a --key-dir b", 2, "--key and --key-dir exclude each other", "cannot be used with"),
    ("--bogus", 2, "no such option '--bogus'", "unexpected argument '--bogus'"),
    ("word", 2, "unexpected argument 'word'", "unexpected argument 'word'"),
]


@pytest.mark.parametrize("command", ["serve", "auth serve"])
@pytest.mark.parametrize(("line", "status", "message"), [row[:3] for row in START])
def test_errors_at_start(cli: Cli, command: str, line: str, status: int, message: str) -> None:
    assert message.lower() in cli.refused(status, *command.split(), "--check", *line.split()).lower()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--expires 0s", "`--expires` must be longer than 0s"),
        ("--limit-subject 3", "`--limit-subject` needs `--revalidate`"),
        ("--kick-oldest token", "`--kick-oldest` token needs `--limit-token`"),
        ("--tls-cert a.pem", "`--tls-cert` needs `--tls-key` too"),
        ("--tls-key a.pem", "`--tls-key` needs `--tls-cert` too"),
        ("--tls-client-ca a.pem", "`--tls-client-ca` needs `--tls-cert` too"),
        ("--listen unix:x --tls-cert a --tls-key b", "relays use no TLS on a unix socket"),
        ("--listen 0.0.0.0:0 --tls-cert a --tls-key b", "is not a loopback address"),
        ("--listen 0.0.0.0:0 --listen-public --share-secrets", "`--share-secrets` gives secrets to any client"),
        ("--publish-keys", "`--publish-keys` needs `--key-dir` with a local directory"),
        ("--publish-keys --key-dir s3://keys", "`--publish-keys` needs `--key-dir` with a local directory"),
        ("--admin 0.0.0.0:9", "must be a loopback address or unix:PATH"),
        ("--admin nowhere", "`--admin`: expected an address"),
        ("--admin 127.0.0.1:4440", "`--admin` and `--listen` are the same address: use two"),
        ("--listen unix:a --admin unix:a", "`--admin` and `--listen` are the same address: use two"),
        ("--policy x", "`--policy` must be module:function, such as policy:decide, got 'x'"),
        ("--policy a:b --key k", "replaces the built-in policy: remove `--key`"),
        ("--policy a:b --key-dir k", "remove `--key-dir`"),
        ("--policy a:b --public-publish a/**", "remove `--public-publish`"),
        ("--policy absent_module:decide", "cannot import 'absent_module': ModuleNotFoundError: No module named"),
        ("--policy json:nothing", "module 'json' has no 'nothing'"),
        ("--policy absent_module.py:decide", "(write absent_module:decide, without .py)"),
        ("--policy json:dumps", "'dumps' of 'json' is not an async function or a Policy"),
        ("--policy json:JSONDecoder", "'JSONDecoder' of 'json' is not an async function or a Policy"),
        ("--secret-file absent", "`--secret-file`: cannot read 'absent': No such file"),
        ("--tls-cert a.pem --tls-key b.pem", "the TLS files 'a.pem' and 'b.pem': cannot be read: No such file"),
        ("--config absent.toml", "'absent.toml': No such file or directory"),
        ("--key ftp://x/y", "`--key`: unsupported scheme 'ftp'"),
        ("--require-share", "`--require-share` needs `--share`"),
        ("--share-secret-file s", "`--share-secret-file` needs `--share`"),
        ("--share redis://cache", "`--share` needs `--share-secret-file`"),
        ("--share cache --share-secret-file s", "`--share`: the URL of the store is invalid: expected redis://HOST"),
        ("--share redis://a --share-secret-file absent", "`--share-secret-file`: cannot read 'absent': No such file"),
        ("--key-dir ftp://x/y", "`--key-dir`: unsupported scheme 'ftp'"),
    ],
)
def test_errors_of_what_is_ours(
    cli: Cli, line: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert message in cli.refused(1, "serve", "--check", *line.split())


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("class Odd(BaseException): pass\nraise Odd('secret')", "Odd"),
        ("raise BaseExceptionGroup('secret', [KeyboardInterrupt()])", "BaseExceptionGroup"),
        ("raise SystemExit('secret')", "SystemExit"),
        ("def __getattr__(name): raise ValueError('secret')", "ValueError"),
        ("class P:\n    def __getattr__(self, name): raise KeyError('secret')\ndecide = P()", "KeyError"),
    ],
)
def test_a_policy_module_that_raises_anything_is_one_line(
    cli: Cli, source: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"raising_{kind.lower()}"  # each has its own, as Python remembers modules
    monkeypatch.chdir(tmp_path)
    (tmp_path / f"{name}.py").write_text(source)
    refused = cli.refused(1, "serve", "--check", "--policy", f"{name}:decide")
    assert f"`--policy`: cannot import '{name}': {kind} (" in refused
    assert "secret" not in refused


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--spread 0.2", "--spread: expected a number from 0 to 0.1"),
        ("--spread x", "--spread: expected a number from 0 to 0.1"),
        ("--contract put", "--contract: expected post, get or both, got 'put'"),
        ("--log xml", "--log: expected text or json"),
        ("--kick-oldest root", "--kick-oldest: expected token, remote or subject"),
        ("--tier=", "--tier: must not be empty"),
    ],
)
def test_values_that_are_wrong_usage(cli: Cli, line: str, message: str) -> None:
    assert message in cli.refused(2, "serve", "--check", *line.split())


def test_errors_name_where_a_setting_comes_from(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = toml(tmp_path, 'public_publish = "anon"')
    assert "`serve.public_publish`: 'anon' has no wildcard" in cli.refused(1, "serve", "--check", "--config", str(path))
    monkeypatch.setenv("MOQ_TOKEN_SERVE_REVALIDATE", "1m")
    assert "`MOQ_TOKEN_SERVE_REVALIDATE` needs `MOQ_TOKEN_SERVE_EXPIRES`" in cli.refused(1, "serve", "--check")
    monkeypatch.delenv("MOQ_TOKEN_SERVE_REVALIDATE")
    path = toml(tmp_path, 'limit_token = 3\nsecret_file = "absent"')
    assert "`serve.limit_token` needs `serve.revalidate`" in cli.refused(1, "check-config", str(path))
    monkeypatch.setenv("MOQ_TOKEN_SERVE_REVALIDATE", "1m")
    assert "`MOQ_TOKEN_SERVE_REVALIDATE` needs `MOQ_TOKEN_SERVE_EXPIRES`" in cli.refused(1, "check-config", str(path))
    monkeypatch.setenv("MOQ_TOKEN_SERVE_EXPIRES", "1h")
    assert "`serve.secret_file`: cannot read 'absent'" in cli.refused(1, "check-config", str(path))


def test_who_may_reach_it() -> None:
    possible: list[dict[str, Any]] = [
        {"listen": "127.0.0.9:1"},
        {"listen": "[::1]:1"},
        {"listen": "unix:/run/x"},
        {"listen": "0.0.0.0:1", "listen_public": True},
        {"listen": "0.0.0.0:1", "secret_file": "s"},
        {"listen": "0.0.0.0:1", "tls_cert": "c", "tls_key": "k", "tls_client_ca": "a"},
        {"policy": "a.b:c.d", "limit_token": 3},
        {"policy": "a:b", "key_dir": "keys", "publish_keys": True},
    ]
    for settings in possible:
        Settings(**settings).check()


def test_the_file_can_be_named_in_the_environment(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "one.toml").write_text('[serve]\npublic_subscribe = "one/**"\n')
    (tmp_path / "two.toml").write_text('[serve]\npublic_subscribe = "two/**"\n')
    monkeypatch.setenv("MOQ_TOKEN_SERVE_CONFIG", "one.toml")
    status, out, err = cli.run("serve", "--check")
    assert (status, "one/**" in out, err) == (0, True, "")
    assert "two/**" in cli.done("serve", "--check", "--config", "two.toml")
    assert "two/**" in cli.done("check-config", "two.toml")
    monkeypatch.setenv("MOQ_TOKEN_SERVE_CONFIG", "absent.toml")
    assert "'absent.toml': No such file" in cli.refused(1, "serve", "--check")


def test_caps() -> None:
    assert Settings(limit_token=3, limit_subject=0, kick_oldest=("token",)).caps == {
        CapKind.TOKEN: Cap(3, kick_oldest=True),
        CapKind.SUBJECT: Cap(0),
    }


def write_share_secret(path: Path, text: str = "what all servers of the share have", mode: int = 0o600) -> None:
    path.write_text(text)
    path.chmod(mode)


def test_check_shows_the_share_without_its_password(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_share_secret(tmp_path / "s")
    url = "redis://moq:hunter2@192.0.2.1/3"
    done = "".join(map(str, cli.run("serve", "--check", "--share", url, "--share-secret-file", "s")))
    assert "caps, bans and sessions through redis://moq@192.0.2.1:6379/3; without it this server decides" in done
    assert "the password in --share can be seen in the list of processes: set MOQ_TOKEN_SERVE_SHARE instead" in done
    assert "the connection to the share is not encrypted" in done
    (tmp_path / "serve.toml").write_text(
        '[serve]\nshare = "rediss+sentinel://:hunter2@a,b/main"\nshare_secret_file = "s"\nrequire_share = true\n'
    )
    quiet = "".join(map(str, cli.run("serve", "--check", "--config", "serve.toml")))
    assert "through rediss+sentinel://a:26379,b:26379/main; without it no new session is admitted" in quiet
    assert "processes" not in quiet
    assert "encrypted" not in quiet
    assert "hunter2" not in done + quiet


@pytest.mark.parametrize(
    ("text", "mode", "message"),
    [
        ("x" * 31, 0o600, "must hold one line of at least 32 characters: run openssl rand -hex 32"),
        ("x" * 40 + "\n" + "x" * 40, 0o600, "must hold one line of at least 32 characters"),
        ("x" * 2000, 0o600, "is larger than 1024 bytes"),
        ("x" * 40, 0o644, "run chmod 600 on it"),
    ],
)
def test_share_secrets_that_are_refused(cli: Cli, tmp_path: Path, text: str, mode: int, message: str) -> None:
    path = tmp_path / "s"
    write_share_secret(path, text, mode)
    refused = cli.refused(1, "serve", "--check", "--share", "redis://cache", "--share-secret-file", str(path))
    assert message in refused
    assert "xxx" not in refused


def test_share_without_its_extra(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_share_secret(tmp_path / "s")
    monkeypatch.setitem(sys.modules, "redis", None)
    monkeypatch.delitem(sys.modules, "moq_token.server.share.store", raising=False)
    refused = cli.refused(1, "serve", "--check", "--share", "redis://cache", "--share-secret-file", "s")
    assert "settings such as `--share` require the extra `valkey`" in refused
    assert 'pip install "moq-token[valkey]"' in refused
