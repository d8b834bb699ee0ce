"""Problems of a configuration: local files, settings of other software, and that every check is fast."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from moq_token import ConfigError, Error, Key, KeyNotFoundError, RefusedError, UnavailableError
from moq_token.algorithm import Algorithm
from moq_token.auth import AuthConfig, Authenticator, ClientTls, ConfigWarning, Connection, PublicAccess, decide
from moq_token.auth.advice import MAX_HINTS
from moq_token.auth.api import public_api_url
from moq_token.auth.check import check_files
from moq_token.auth.config import MAX_WARNINGS
from moq_token.auth.outages import MAX_OUTAGES, Outages
from moq_token.auth.tables import MAX_TOML_BYTES, MAX_TOML_DEPTH
from tests import forge

if TYPE_CHECKING:
    from collections.abc import Callable

    from moq_token import KeyId
    from tests.command_line import Cli

HS, ED = Algorithm.HS256, Algorithm.EDDSA
PEM = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA\n-----END PUBLIC KEY-----\n"
HUNTER = "hunter2"

pytestmark = pytest.mark.filterwarnings("ignore::moq_token.auth.ConfigWarning")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def put(name: str, content: object) -> None:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())


def text_of(jwk: dict[str, Any]) -> bytes:
    return json.dumps(jwk).encode()


# -- local files

NO_ALG = {name: value for name, value in forge.public_jwk(ED).items() if name != "alg"}
BAD_KEYS = [
    (PEM.encode(), "this is PEM, but a relay reads JWK: convert it with `moq-token import`"),
    ({"keys": [forge.public_jwk(ED)]}, "this is a JWK Set, which a relay does not read"),
    (NO_ALG, "the member `alg` is missing: convert it with `moq-token import`"),
    (b"\xef\xbb\xbf" + text_of(forge.public_jwk(ED)), "a relay does not read a byte order mark"),
    (text_of(forge.public_jwk(ED)).decode().encode("utf-16"), "a relay does not read a byte order mark or UTF-16"),
    (b"", "invalid key in"),
    (b"hello", "invalid key in"),
    (b"[]", "invalid key in"),
    (b"x" * (1024 * 1024 + 1), "larger than"),
    (forge.jwk(HS, k="AAAA"), "`k`"),
    (forge.jwk(ED, key_ops=["sign"]), "the key must not verify: its `key_ops` must contain `verify`"),
]


@pytest.mark.parametrize(("content", "why"), BAD_KEYS)
@pytest.mark.parametrize("member", ["key", "key_dir"])
def test_a_key_that_no_relay_can_use_is_named(cli: Cli, member: str, content: object, why: str) -> None:
    put("keys/k1.jwk", content)
    put("keys/good.jwk", forge.public_jwk(ED, kid="good"))
    place = "keys" if member == "key_dir" else "keys/k1.jwk"
    Path("relay.toml").write_text(f'[auth]\n{member} = "{place}"\n', encoding="utf-8")
    for argv in ([], ["--strict"]):
        message = cli.refused(1, "check-config", "relay.toml", *argv)
        assert message.startswith(f"'relay.toml': `{member}`: ")
        assert "keys/k1.jwk" in message
        assert why in message
    status, out, _ = cli.run("check-config", "relay.toml", "--json")
    found = json.loads(out)
    assert (status, found["ok"], len(found["problems"])) == (1, False, 1)
    assert why in found["problems"][0]
    secret = forge.jwk(HS)["k"]
    assert str(secret) not in message + out


@pytest.mark.parametrize(
    ("member", "place", "why"),
    [
        ("key", "gone.jwk", "`key`: file not found: gone.jwk (looked in "),
        ("key", "/gone/x.jwk", "`key`: file not found: /gone/x.jwk"),
        ("key", "~/gone.jwk", "`~` is not expanded: write the whole path"),
        ("key_dir", "~/gone", "`~` is not expanded"),
        ("key", "${KEY}", "variables are not expanded"),
        ("key", "$HOME/key.jwk", "variables are not expanded"),
        ("key", "%KEYS%/key.jwk", "variables are not expanded"),
        ("key", "keys", "is a directory: for a directory of keys write `key_dir`"),
        ("key_dir", "keys/a.jwk", "is not a directory: for a single key write `key`"),
        ("key_dir", "gone", "`key_dir`: directory not found: gone"),
        ("key", "pipe", "is not a regular file"),
        ("key", "file:///gone/x.jwk", "file not found: /gone/x.jwk"),
        ("key", "s3://bucket/keys", "`key`"),
        ("key_dir", "gopher://x", "unsupported scheme"),
        ("key", "http://[", "is not a valid URL"),
        ("key", "https://user:hunter2@a b.example/", "is not a valid URL"),
        ("key_dir", "https://a.example/x y", "is not a valid URL"),
        ("key_dir", "https://user:hunter2@[::1/", "is not a valid URL"),
        ("key", "https://user:hunter2@a.example:99999/", "is not a valid URL"),
        ("key", "https://user:hunter2@a\u2100b.example/", "is not a valid URL"),
    ],
)
def test_a_place_without_a_key_is_named_with_what_to_write(cli: Cli, member: str, place: str, why: str) -> None:
    os.mkfifo("pipe")
    put("keys/a.jwk", forge.public_jwk(ED))
    Path("relay.toml").write_text(f'[auth]\n{member} = "{place}"\n', encoding="utf-8")
    message = cli.refused(1, "check-config", "relay.toml")
    assert why in message
    assert HUNTER not in message


@pytest.mark.parametrize(
    ("files", "note"),
    [
        ({"keys/k1.pem": PEM.encode()}, "contains no {kid}.jwk, so every token is refused; not read: 'k1.pem'"),
        ({"keys/a b.jwk": forge.public_jwk(ED)}, "'a b.jwk' is never read: a key id is 1 to 128 characters"),
        ({"keys/k1.jwk": forge.jwk(ED)}, "is a private key, but the public half is enough to verify"),
    ],
)
def test_what_works_and_is_hardly_meant_is_a_note(cli: Cli, files: dict[str, object], note: str) -> None:
    for name, content in files.items():
        put(name, content)
    Path("relay.toml").write_text('[auth]\nkey_dir = "keys"\n', encoding="utf-8")
    status, out, err = cli.run("check-config", "relay.toml")
    assert (status, err.count("note:")) == (0, 1)
    assert out
    assert note in err
    assert note in cli.refused(1, "check-config", "relay.toml", "--strict")


@pytest.mark.parametrize(
    ("tls", "why"),
    [
        ('root = "gone.pem"', "`client.tls.root`: file not found: gone.pem"),
        ('root = "pipe"', "`client.tls.root`: 'pipe' is not a regular file"),
        ('root = "folder"', "`client.tls.root`: 'folder' is a directory"),
        ('root = ["key.jwk"]', "`client.tls.root`: 'key.jwk' contains no PEM certificate"),
        ('cert = "key.jwk"\nkey = "pipe"', "`client.tls.key`: 'pipe' is not a regular file"),
        (
            'cert = "key.jwk"\nkey = "key.jwk"',
            "`client.tls.cert`: 'key.jwk' and 'key.jwk' are not a PEM certificate and its key",
        ),
    ],
)
def test_the_files_of_client_tls_are_read(cli: Cli, tls: str, why: str) -> None:
    """A pipe is not opened, because that would wait for a writer."""
    os.mkfifo("pipe")
    Path("folder").mkdir()
    put("key.jwk", forge.public_jwk(ED))
    Path("relay.toml").write_text(f'[auth]\nkey = "key.jwk"\n[client.tls]\n{tls}\n', encoding="utf-8")
    assert why in cli.refused(1, "check-config", "relay.toml")


def test_no_url_is_asked_and_no_extra_needed(cli: Cli) -> None:
    Path("relay.toml").write_text('[auth]\nkey_dir = "https://keys.example.com/keys/"\n', encoding="utf-8")
    program = """
import sys
for name in ("httpx2", "hishel", "truststore", "obstore"):
    sys.modules[name] = None
sys.addaudithook(lambda event, _: sys.exit(event) if event.startswith("socket.") else None)
from moq_token.cli import main
sys.exit(main(["check-config", "relay.toml", "--strict"]))
"""
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == cli.done("check-config", "relay.toml")
    assert "relays   moq-relay 0.14; from 0.15 on, a relay refuses to start with these settings" in done.stdout


def test_only_so_many_keys_of_a_directory_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("moq_token.auth.check.MAX_CHECKED_KEYS", 2)
    for number in range(5):
        put(f"keys/k{number}.jwk", b"")
    found = list(check_files(AuthConfig(key_dir="keys")))
    assert [finding.fatal for finding in found] == [True, True, False]
    assert "only the first 2 of 5 keys were checked" in str(found[-1])


# -- settings of others


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        (
            '[auth]\njwks = "https://id.example.com/jwks.json"',
            ["`auth.jwks`", "a relay does not read JWK Sets", "`key_dir`"],
        ),
        ('[auth]\njwks_url = "https://id.example.com/jwks.json"', ["`auth.jwks_url`", "does not read JWK Sets"]),
        ('[auth]\napi = "https://x.example/api"', ["`auth.api`", "write `auth_api`"]),
        ('[auth]\nauth-server = "https://x.example/api"', ["`auth.auth-server`", "write `auth_api`"]),
        ('key = "pub.jwk"', ["`key` is outside `[auth]`", "move it there"]),
        ('public = "anon"', ["`public` is outside `[auth]`"]),
        ('jwks = "x"', ["`jwks` is outside `[auth]`", "does not read JWK Sets"]),
        ('[jwt]\nsecret = "hunter2"', ["the table `[jwt]` is ignored: write `[auth]`"]),
        ('[auth]\nsecret = "hunter2"', ["`auth.secret`", "make a key of the secret with `moq-token import`"]),
        ('[auth]\npublic_key = "k.pem"', ["`auth.public_key`", "convert the key with `moq-token import`"]),
        ('[auth]\nissuer = "x"', ["`auth.issuer`", "remove it"]),
        ('[auth]\nalgorithms = ["EdDSA"]', ["`auth.algorithms`", "the key decides the algorithm"]),
        ('[auth]\nurl = "https://x.example/"', ["`auth.url`", "relays from 0.15 on"]),
        ('[auth]\npublic_subscribe = "anon/**"', ["relays from 0.15 on"]),
        ("[auth]\nallow_anonymous = true", ["write `public`"]),
        ("[auth]\nzzz = 1", ["`auth.zzz` is unknown and ignored"]),
    ],
)
def test_what_was_seen_and_is_ignored_is_named_with_what_to_write(cli: Cli, toml: str, said: list[str]) -> None:
    Path("relay.toml").write_text(toml, encoding="utf-8")
    for argv in ([], ["--strict"]):
        message = cli.refused(1, "check-config", "relay.toml", "--relay", "0.14", *argv)
        assert message.startswith("'relay.toml': nothing is configured")
        assert all(text in message for text in said), message
        assert HUNTER not in message
    config = AuthConfig.from_toml("relay.toml", environ={})
    with pytest.raises(ConfigError, match="nothing is configured") as caught:
        Authenticator(config)
    assert all(text in str(caught.value) for text in said)


@pytest.mark.parametrize(
    ("document", "warning"),
    [
        ({"key": "pub.jwk"}, "`key` is outside `[auth]` and ignored: move it there"),
        ({"auth": {"key": "pub.jwk", "kei": "x"}}, "`auth.kei` is unknown and ignored; did you mean `key`?"),
        ({"auth": {"public": {"publsh": "x"}}}, "`auth.public.publsh` is unknown and ignored; did you mean `publish`?"),
        ({"authentication": {"key": "pub.jwk"}}, "the table `[authentication]` is ignored: write `[auth]`"),
    ],
)
def test_a_setting_without_effect_is_a_warning_at_the_line_that_reads_it(
    document: dict[str, Any], warning: str
) -> None:
    with pytest.warns(ConfigWarning) as caught:
        config = AuthConfig.from_mapping(document)
    assert [str(one.message) for one in caught] == [warning]
    assert caught[0].filename == __file__
    assert config.warnings == (warning,)


def test_a_file_and_the_environment_are_warned_about_as_a_mapping_is(tmp_path: Path) -> None:
    path = tmp_path / "relay.toml"
    path.write_text('key = "pub.jwk"\n', encoding="utf-8")
    with pytest.warns(ConfigWarning, match="`key` is outside") as caught:
        AuthConfig.from_toml(path, environ={})
    assert caught[0].filename == __file__
    with pytest.warns(ConfigWarning, match="MOQ_AUTH_KEYS is unknown") as caught:
        AuthConfig.from_env({"MOQ_AUTH_KEYS": "x"})
    assert caught[0].filename == __file__


def test_a_warning_is_never_longer_than_a_line_and_never_a_key() -> None:
    secret = forge.key(Algorithm.HS256).to_json()
    with pytest.warns(ConfigWarning) as caught:
        AuthConfig.from_mapping({"auth": {"key": "k", secret: 1, "x" * 10_000: 2}})
    assert all(len(str(one.message)) < 300 for one in caught)
    assert secret[-20:] not in "".join(str(one.message) for one in caught)


def test_a_variable_of_newer_relays_is_named() -> None:
    warnings = AuthConfig.from_env({"MOQ_AUTH_URL": "https://x.example/"}).warnings
    assert len(warnings) == 1
    assert "MOQ_AUTH_URL" in warnings[0]
    assert "relays from 0.15 on" in warnings[0]


# -- arguments in Python


def test_paths_and_single_texts_are_taken() -> None:
    put("pub.jwk", forge.public_jwk(ED))
    config = AuthConfig(key=Path("pub.jwk"), public=PublicAccess("a", ["b"]), domains="x.example")
    assert config == AuthConfig("pub.jwk", public=PublicAccess(("a",), ("b",)), domains=("x.example",))
    assert AuthConfig(key_dir=Path("keys")).key_dir == "keys"
    assert ClientTls(Path("ca.pem"), Path("c.pem"), Path("k.pem")) == ClientTls(("ca.pem",), "c.pem", "k.pem")

    async def enter() -> None:
        async with Authenticator(config):
            pass

    asyncio.run(enter())


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (AuthConfig, {"key": 5}),
        (AuthConfig, {"key": b"x"}),
        (AuthConfig, {"key_dir": Key.generate("HS256")}),
        (AuthConfig, {"public": "anon"}),
        (AuthConfig, {"tls": {}}),
        (AuthConfig, {"domains": 5}),
        (AuthConfig, {"domains": [5]}),
        (AuthConfig, {"auth_api": Path("x")}),
        (AuthConfig, {"mtls_tier": 5}),
        (PublicAccess, {"subscribe": 5}),
        (PublicAccess, {"publish": [b"x"]}),
        (PublicAccess, {"publish": b"x"}),
        (PublicAccess, {"api": 5}),
        (ClientTls, {"roots": 5}),
        (ClientTls, {"cert": 5, "key": "x"}),
        (decide, {"connection": Connection("/anon"), "public": "anon"}),
    ],
)
def test_what_cannot_be_taken_is_refused_where_it_is_passed(
    function: Callable[..., object], arguments: dict[str, object]
) -> None:
    with pytest.raises(TypeError, match=r"^\w+ must be .*, not \w+$"):
        function(**arguments)


def test_public_access_goes_to_the_decision() -> None:
    connection = Connection.from_url("https://relay.example.com/anon/x")
    grant = decide(connection, public=PublicAccess(publish=["anon"]))
    assert (grant.publish, grant.subscribe) == (("",), ())
    with pytest.raises(RefusedError) as caught:
        decide(connection, public=PublicAccess(publish=["other"]))
    assert caught.value.reason == "token-expected"


# -- bounds


@pytest.mark.parametrize(
    "text",
    [
        "a = " + "[" * 20_000,
        "a = " + "[" * 1_000 + "]" * 1_000,
        "a = " + "{b=" * 20_000,
        "[" + ".".join(["a"] * 20_000) + "]",
        ".".join(["a"] * 20_000) + " = 1",
        ".".join(['"a.b"'] * 20_000) + " = 1",
        ".".join(["a"] * (MAX_TOML_DEPTH + 2)) + " = 1\n",
        'a = {x = """\n# """, ' + ".".join(["a"] * 100) + " = 1}",
        "a = '''\n\"''' \n" + ".".join(["a"] * 100) + " = 1",
        "#" * (MAX_TOML_BYTES + 1),
        "\udcff",
        'key = "hunter2',
    ],
    ids=range(12),
)
def test_toml_is_bounded_before_it_is_read(text: str) -> None:
    Path("relay.toml").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ConfigError) as caught:
        AuthConfig.from_toml("relay.toml", environ={})
    assert len(str(caught.value)) < 200
    assert "relay.toml" in str(caught.value)
    assert HUNTER not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        '[auth]\nkey = "k"\n# ' + "." * 1000,
        '[auth]\nkey = "k"\ndomains = [' + ", ".join(f'"a{number}.b.c.example"' for number in range(100)) + "]",
        '[auth]\nkey = \'k\'\n[log]\nx = """\n' + "." * 1000 + '\n""""\n',
        "\ufeff[auth]\nkey = 'k'\n",
        "[auth]\nkey = 'k'\n[a.b.c.d.e.f]\ng.h.i = 1.5\n# don't\n",
    ],
)
def test_ordinary_toml_is_taken(text: str) -> None:
    Path("relay.toml").write_text(text, encoding="utf-8")
    assert AuthConfig.from_toml("relay.toml", environ={}).key == "k"


def test_warnings_are_bounded_however_many_there_are(cli: Cli) -> None:
    put("k", forge.public_jwk(ED))
    lines = "\n".join(f"{'x' * 100}{number} = 1" for number in range(2_000))
    Path("relay.toml").write_text(f'[auth]\nkey = "k"\n{lines}\n', encoding="utf-8")
    assert len(AuthConfig.from_toml("relay.toml", environ={}).warnings) == MAX_WARNINGS
    with pytest.raises(ConfigError, match=r"and 1995 more$") as caught:
        AuthConfig.from_toml("relay.toml", environ={}, strict=True)
    assert len(str(caught.value)) < 2_000
    assert len(cli.refused(1, "check-config", "relay.toml", "--strict")) < 2_000
    assert len(cli.run("check-config", "relay.toml")[2]) < 10_000


def test_similar_names_are_looked_for_a_bounded_number_of_times(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def get_close_matches(word: str, *_: object) -> list[str]:
        asked.append(word)
        return []

    monkeypatch.setattr("difflib.get_close_matches", get_close_matches)
    found = AuthConfig.from_mapping({"auth": {"key": "k"} | {f"x{number}": 1 for number in range(2_000)}}).warnings
    assert (len(found), len(asked)) == (MAX_WARNINGS, MAX_HINTS)


def test_a_host_is_bounded_before_it_is_decoded() -> None:
    """Composing characters is quadratic: 128 KiB of them took seconds."""
    for host in ("a" + "\u0300" * 60_000, "%CC%80" * 20_000, "\u0300\u0301" * 30_000, "x." * 40_000):
        with pytest.raises(RefusedError, match="longer than 253 characters"):
            Connection.from_url(f"https://{host}/x")
    assert Connection.from_url(f"https://{'a.' * 100}b\u00fc.example/x").path == "/x"


# -- the public-access URL


@pytest.mark.parametrize(
    "path",
    [
        "/..%2fuploads/evil.json",
        "/a/..%2F..%2Fx",
        "/%2e%2e%2fx",
        "/..%5cx",
        "/..\\x",
        "/a%5C..%5Cx",
        "/%252e%252e%252fx",
        "/%25252e%25252e/x",
        "/..;/x",
        "/..;a=b/x",
        "/..%3b/x",
        "/..%00/x",
        "/..%20/x",
        "/%09../x",
        "/.%2fx",
        "/%c0%ae%c0%ae/x",
        "/%c0%af..",
        "/\uff0e\uff0e/x",
        "/..%ef%bc%8fx",
        "/%e2%80%a5/x",
        "/%E2%80%A4%E2%80%A4%2fx",
        "/%2525252525252e./x",
    ],
)
def test_no_spelling_of_dots_leads_out_of_the_public_access_url(path: str) -> None:
    assert public_api_url("https://api.example/public", path) is None


@pytest.mark.parametrize("path", ["/", "/a..b/c", "/...", "/a%20b", "/100%25", "/%C3%A9", "/a;b", "/.hidden", "/a.b"])
def test_ordinary_paths_are_asked_about(path: str) -> None:
    url = public_api_url("https://api.example/public", path)
    assert url is not None
    assert url.startswith("https://api.example/public/")


# -- outages


class Source:
    """A source that returns what the test has set last."""

    def __init__(self) -> None:
        self.answer: Key | Error = UnavailableError("cannot reach https://keys.example/: connection refused")

    async def get(self, kid: KeyId | None, /) -> Key:  # noqa: ARG002 - the same for every id
        if isinstance(self.answer, Error):
            raise self.answer
        return self.answer

    async def aclose(self) -> None:
        """Nothing is open."""


def test_an_outage_and_its_end_are_logged_once_each(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "moq_token.auth")
    source = Source()
    token = forge.token(HS, forge.claim())

    async def run() -> None:
        async with Authenticator(AuthConfig(), keys=source, clock=lambda: forge.NOW) as authenticator:
            for answer in (source.answer, forge.key(HS), source.answer, KeyNotFoundError("x")):
                source.answer = answer
                for _ in range(3):
                    with contextlib.suppress(RefusedError, UnavailableError):
                        await authenticator.authenticate(Connection("/rooms/123", token))

    asyncio.run(run())
    records = [record for record in caplog.records if record.name == "moq_token.auth"]
    assert [(record.levelname, vars(record)["event"]) for record in records] == [
        ("WARNING", "outage"),
        ("INFO", "recovery"),
    ] * 2
    assert records[0].getMessage() == (
        "the key test-key is unavailable: cannot reach https://keys.example/: connection refused"
    )
    assert vars(records[0])["source"] == "the key test-key"
    assert vars(records[0])["cause"] == "cannot reach https://keys.example/: connection refused"
    assert vars(records[1])["seconds"] >= 0
    assert not any(part in caplog.text for part in token.split("."))


def test_outages_are_bounded(caplog: pytest.LogCaptureFixture) -> None:
    outages = Outages(logging.getLogger("moq_token.auth"))
    for number in range(MAX_OUTAGES + 10):
        with pytest.raises(UnavailableError), outages.watch(f"the key {number}"):
            raise UnavailableError("down")
    assert len(caplog.records) == MAX_OUTAGES
