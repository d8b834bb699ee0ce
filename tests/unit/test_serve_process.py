"""`serve` as a process: where it listens, which clients it answers, what signals do."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import ssl
import stat
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from moq_token import Algorithm, Claims, Key, KeySet
from moq_token.cli import serve as serve_module
from moq_token.server.nudges import Nudger
from moq_token.server.share.sharing import Sharing
from moq_token.server.unseen import Unseen
from tests.certificates import Authority
from tests.serving import ask, dial, environment, serving

if TYPE_CHECKING:
    from pathlib import Path

    from tests.command_line import Cli

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals and unix sockets")


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    directory = tmp_path / "keys"
    directory.mkdir()
    return directory


def add_key(keys: Path, kid: str, algorithm: Algorithm = Algorithm.EDDSA) -> Key:
    key = Key.generate(algorithm, kid)
    (key if algorithm.symmetric else key.to_public()).to_file(keys / f"{kid}.jwk")
    return key


def basic(secret: str) -> str:
    return f"Authorization: Basic {base64.b64encode(secret.encode()).decode()}\r\n"


def write_secret(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_answers_and_stops(tmp_path: Path, keys: Path, number: int) -> None:
    key = add_key(keys, "one")
    token = key.sign(Claims("rooms/123", publish="alice", subscribe="", expires="1h"))
    with serving("--key-dir", "keys", "--tier", "gold", "--admin", "127.0.0.1:0", cwd=tmp_path) as process:
        assert not process.address.endswith(":0")
        assert f"moq-relay --auth-url http://{process.address}/" in process.told
        assert f'[auth] auth_api = "http://{process.address}/"' in process.told
        status, grant = process.connect("/rooms/123", f"jwt={token}")
        assert status == 200
        assert json.loads(grant) == {
            "publish": ["alice/**"],
            "subscribe": ["**"],
            "expires": key.verify(token).expires,
            "tier": "gold",
        }
        assert process.connect("/rooms/124", f"jwt={token}")[0] == 403
        assert process.connect("/rooms/123")[0] == 403
        assert process.ask("/?root=rooms%2F123&kid=one&transport=quic")[0] == 200
        assert process.ask("/metrics")[0] == 404
        assert process.ask("/keys/one.jwk")[0] == 404
        # An idle connection, and one that has sent half of a request, hold nothing up.
        with dial(process.address), dial(process.address) as half:
            half.sendall(b"POST / HTTP/1.1\r\n")
            assert process.stop(number) == 0
    reasons = [line["reason"] for line in process.log if line.get("event") == "refused"]
    assert reasons == ["root-mismatch", "no-public-grant"]
    # The log names the token by a digest.
    assert token.split(".")[1] not in json.dumps(process.log)
    assert process.popen.stdin is None


def test_operators_have_a_listener_of_their_own(tmp_path: Path) -> None:
    with serving("--admin", "unix:admin.sock", "--public-subscribe", "a/**", cwd=tmp_path) as process:
        assert process.connect("/a")[0] == 200
        address = f"unix:{tmp_path}/admin.sock"
        status, text = ask(address, "/metrics")
        assert status == 200
        assert 'moq_token_decisions_total{event="connect",reason="",verdict="granted"} 1.0' in text
        assert 'moq_token_sessions{node="n",tier="",transport="quic"} 1.0' in text
        for path in "/healthz", "/readyz":
            assert ask(address, path) == (200, "ok\n") == process.ask(path)
        assert ask(address, "/nothing")[0] == ask(address, "/keys/x.jwk")[0] == 404
        status, text = ask(address, "/")
        assert status == 200
        assert text.startswith("<!doctype html>")
        told = json.loads(ask(address, "/status")[1])
        assert (told["sessions"], told["health"], told["nodes"]) == (1, "ready", [{"node": "n", "sessions": 1}])
        assert process.ask("/status")[0] == 404
        assert ask(address, "/metrics", {})[0] == 405
        assert stat.S_IMODE((tmp_path / "admin.sock").stat().st_mode) == 0o600
        assert process.stop() == 0
    assert not (tmp_path / "admin.sock").exists()


def test_unix_socket(tmp_path: Path, cli: Cli) -> None:
    place = tmp_path / "auth.sock"
    with serving("--listen", f"unix:{place}", "--public-subscribe", "a/**", cwd=tmp_path) as process:
        assert stat.S_IMODE(place.stat().st_mode) == 0o600
        assert process.address == f"unix:{place}"
        assert f"moq-relay --auth-url unix://{place}" in process.told
        assert "relay 0.14:" not in process.told
        assert process.connect("/a")[0] == 200
        assert "in use: another server listens on it" in cli.refused_after_log("serve", "--listen", f"unix:{place}")
        assert process.connect("/a")[0] == 200
        process.signal(signal.SIGKILL)
        process.popen.wait(100)
    assert place.exists()  # left behind by a crash
    with serving("--listen", f"unix:{place}", cwd=tmp_path) as process:
        assert process.connect("/a")[0] == 403
        assert process.stop() == 0
    assert not place.exists()
    place.write_text("mine")
    assert "is not a socket; it is not replaced" in cli.refused_after_log("serve", "--listen", f"unix:{place}")
    assert place.read_text() == "mine"


def test_socket_of_another_server_is_kept(tmp_path: Path) -> None:
    place = tmp_path / "auth.sock"
    with serving("--listen", f"unix:{place}", cwd=tmp_path) as process:
        place.rename(tmp_path / "old.sock")
        with serving("--listen", f"unix:{place}", "--public-subscribe", "a/**", cwd=tmp_path) as other:
            assert process.stop() == 0
            assert other.connect("/a")[0] == 200


def test_tls(tmp_path: Path) -> None:
    ours, others = Authority(tmp_path, "ours"), Authority(tmp_path, "others")
    cert, key = ours.issue("server", "127.0.0.1")
    argv = ["--tls-cert", cert, "--tls-key", key, "--tls-client-ca", ours.root, "--public-subscribe", "a/**"]
    with serving(*argv, cwd=tmp_path) as process:
        assert f"--auth-url https://{process.address}/" in process.told
        relay = ssl.create_default_context(cafile=ours.root)
        relay.load_cert_chain(*ours.issue("relay", "127.0.0.1"))
        assert process.connect("/a", tls=relay)[0] == 200
        stranger = ssl.create_default_context(cafile=ours.root)
        stranger.load_cert_chain(*others.issue("stranger", "127.0.0.1"))
        for context in stranger, ssl.create_default_context(cafile=ours.root):
            with pytest.raises((ssl.SSLError, ConnectionError, IndexError)):
                process.connect("/a", tls=context)
        with pytest.raises((ConnectionError, IndexError)):
            process.connect("/a")  # plain HTTP

        def serial() -> object:
            with dial(process.address, relay) as connection:
                assert isinstance(connection, ssl.SSLSocket)
                return (connection.getpeercert() or {})["serialNumber"]

        before = serial()
        ours.issue("server", "127.0.0.1")  # the certificate is renewed in place
        process.signal(signal.SIGHUP)
        process.until("reloaded")
        assert serial() != before
        renewed = serial()
        (tmp_path / "server.key").write_text("broken")
        process.signal(signal.SIGHUP)
        assert "unencrypted key" in process.until("reload-failed")["message"]
        assert serial() == renewed
        assert process.stop() == 0


def test_shared_secret(tmp_path: Path) -> None:
    secret = write_secret(tmp_path / "secret", "relay:hunter2\n")
    argv = ["--listen", "0.0.0.0:0", "--secret-file", str(secret), "--public-subscribe", "a/**"]
    with serving(*argv, cwd=tmp_path) as process:
        assert process.connect("/a", headers=basic("relay:hunter2"))[0] == 200
        assert process.connect("/a", headers=basic("relay:hunter3"))[0] == 400
        assert process.connect("/a")[0] == 400
        write_secret(secret, "relay:other-one")
        process.signal(signal.SIGHUP)
        process.until("reloaded")
        assert process.connect("/a", headers=basic("relay:hunter2"))[0] == 400
        assert process.connect("/a", headers=basic("relay:other-one"))[0] == 200
        write_secret(secret, "relay:other-one", 0o644)
        process.signal(signal.SIGHUP)
        assert "chmod 600" in process.until("reload-failed")["message"]
        assert process.connect("/a", headers=basic("relay:other-one"))[0] == 200
        assert process.stop() == 0
    assert "hunter2" not in json.dumps(process.log)
    assert "other-one" not in json.dumps(process.log)
    assert "refuse plain http to another machine" in process.told
    assert "USER:PASSWORD@" in process.told


@pytest.mark.parametrize(
    ("text", "mode", "message"),
    [
        ("relay:hunter2", 0o604, "every user can read or change"),
        ("relay:hunter2", 0o620, "every user can read or change"),
        ("hunter2", 0o600, "must hold one line, user:password"),
        ("relay:", 0o600, "must hold one line"),
        (":hunter2", 0o600, "must hold one line"),
        ("", 0o600, "must hold one line"),
        ("relay:hunter2\nhunter2", 0o600, "must hold one line"),
        ("relay:hunter2" * 100, 0o600, "is larger than 1024 bytes"),
        ("relay:hunter2\udcff", 0o600, "is not UTF-8 text"),
    ],
)
def test_secret_files_that_are_refused(tmp_path: Path, cli: Cli, text: str, mode: int, message: str) -> None:
    path = tmp_path / "secret"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    path.chmod(mode)
    error = cli.refused(1, "serve", "--check", "--secret-file", str(path))
    assert message in error
    path.chmod(0o640)
    path.write_text("relay:hunter2\r\n")
    assert "the shared secret" in cli.done("serve", "--check", "--secret-file", str(path))


def test_reload(tmp_path: Path, keys: Path) -> None:
    config = tmp_path / "serve.toml"

    def write(**members: object) -> None:
        lines = [f"{name} = {json.dumps(value)}" for name, value in members.items()]
        config.write_text("\n".join(("[serve]", *lines, 'listen = "127.0.0.1:0"')))

    key = add_key(keys, "one")
    query = f"jwt={key.sign(Claims(publish='x', expires='1h'))}"
    write(key_dir="keys", public_subscribe=["a/**"])
    with serving("--config", "serve.toml", cwd=tmp_path) as process:
        assert [process.connect(path)[0] for path in ("/a", "/b")] == [200, 403]
        assert process.connect("/", query)[0] == 200
        write(key_dir="keys", public_subscribe=["b/**"], tier="gold")
        process.signal(signal.SIGHUP)
        process.until("reloaded")
        assert [process.connect(path)[0] for path in ("/a", "/b")] == [403, 200]
        assert json.loads(process.connect("/b")[1])["tier"] == "gold"
        # The keys that were read outlive their directory, and the reload.
        (tmp_path / "keys").rename(tmp_path / "gone")
        assert process.connect("/", query)[0] == 200
        process.signal(signal.SIGHUP)
        process.until("reloaded")
        assert process.connect("/", query)[0] == 200
        for broken, message in (
            ('[serve]\npublic_subscribe = "anon"\n', "'anon' has no wildcard"),
            ("[serve]\nzzz = 1\n", "`serve.zzz` is unknown"),
            ("[serve", "is not valid TOML"),
        ):
            config.write_text(broken)
            process.signal(signal.SIGHUP)
            failed = process.until("reload-failed")
            assert failed["level"] == "error"
            assert message in failed["message"]
            assert [process.connect(path)[0] for path in ("/a", "/b")] == [403, 200]
        config.unlink()
        process.signal(signal.SIGHUP)
        assert "No such file" in process.until("reload-failed")["message"]
        write(key_dir="keys", contract="post", admin="127.0.0.1:0")
        process.signal(signal.SIGHUP)
        assert "`contract`, `admin`" in process.until("restart-needed")["message"]
        process.until("reloaded")
        assert process.connect("/b")[0] == 403
        assert process.stop() == 0


def test_reload_finds_a_set_in_place_of_a_key(tmp_path: Path, keys: Path) -> None:
    one, two = add_key(keys, "one"), add_key(keys, "two")
    place = tmp_path / "verify.json"
    one.to_public().to_file(place)
    query = f"jwt={two.sign(Claims(publish='x', expires='1h'))}"
    with serving("--key", "verify.json", cwd=tmp_path) as process:
        assert process.connect("/", query)[0] == 403
        place.write_text(KeySet([one.to_public(), two.to_public()]).to_str())
        process.signal(signal.SIGHUP)
        process.until("reloaded")
        assert process.connect("/", query)[0] == 200
        assert process.stop() == 0


POLICY = """
from moq_token import RefusedError
from moq_token.contract import Answer, PublicPaths
from moq_token.server import Grant, Policy

policy = Policy(public_subscribe=["a/**"])

async def decide(request):
    if request.path == "/crash":
        raise KeyError("hunter2")
    if request.path == "/no":
        raise RefusedError("suspended", reason="suspended")
    return Grant(publish=["x/**"], expires=4102444800)

async def lookup(question):
    return Answer(public=PublicPaths(("x",), ()))
"""


def test_own_policy(tmp_path: Path) -> None:
    (tmp_path / "own_policy.py").write_text(POLICY)
    with serving("--policy", "own_policy:decide", cwd=tmp_path) as process:
        assert process.connect("/y") == (200, '{"publish":["x/**"],"expires":4102444800}')
        assert process.connect("/no") == (403, "suspended")
        assert process.connect("/crash")[0] == 503
        assert '"subscribe":["x"]' in process.ask("/?root=y&transport=quic")[1]
        process.signal(signal.SIGHUP)
        process.until("reloaded")
        assert process.stop() == 0
    assert "hunter2" not in json.dumps(process.log)
    with serving("--policy", "own_policy:policy", cwd=tmp_path) as process:
        assert process.connect("/a")[0] == 200
        assert process.connect("/y")[0] == 403
        assert process.stop() == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import absent_module", "ModuleNotFoundError: No module named 'absent_module'"),
        ("def decide(:\n", "SyntaxError: "),
        ("x = 1\nraise ValueError('hunter2')", "ValueError ("),
        ("raise SystemExit(3)", "SystemExit ("),
        ("decide = 1", "'decide' of 'own_broken' is not an async function or a Policy"),
        ("def decide(request): ...", "is not an async function or a Policy"),
        ("async def decide(): ...", "'decide' of 'own_broken' must take one argument, the Request"),
        ("async def decide(request, user): ...", "must take one argument, the Request"),
        ("async def decide(*, request): ...", "must take one argument, the Request"),
        ("async def decide(request): ...\ndef lookup(question): ...", "'lookup' of 'own_broken' is not an async"),
    ],
)
def test_own_policy_that_cannot_be_used(
    tmp_path: Path, cli: Cli, text: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_broken.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.delitem(sys.modules, "own_broken", raising=False)
    assert message in cli.refused(1, "serve", "--check", "--policy", "own_broken:decide")


def test_contract_get_needs_a_lookup(tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_single.py").write_text("async def decide(request): ...")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    argv = ["serve", "--check", "--policy", "own_single:decide"]
    assert "has no `lookup`" in cli.refused(1, *argv, "--contract", "get")
    assert "own_single:decide decides" in cli.done(*argv)
    assert "relay 0.14" not in cli.done(*argv)


def test_public_keys_are_served(tmp_path: Path, keys: Path) -> None:
    add_key(keys, "one")
    add_key(keys, "hmac", Algorithm.HS256)
    with serving("--key-dir", "keys", "--publish-keys", cwd=tmp_path) as process:
        assert json.loads(process.ask("/keys/one.jwk")[1])["kid"] == "one"
        assert process.ask("/keys/hmac.jwk")[0] == 404
        assert [key["kid"] for key in json.loads(process.ask("/.well-known/jwks.json")[1])["keys"]] == ["one"]
        # Relay 0.14 gets the secret only if the operator allows it.
        assert json.loads(process.ask("/?root=a&kid=hmac&transport=quic")[1]).get("key") is None
    assert "relay 0.14 cannot verify HMAC tokens" in process.told
    with serving("--key-dir", "keys", "--share-secrets", cwd=tmp_path) as process:
        assert json.loads(process.ask("/?root=a&kid=hmac&transport=quic")[1])["key"]["kty"] == "oct"


def test_port_that_is_taken(tmp_path: Path, cli: Cli) -> None:
    with serving(cwd=tmp_path) as process:
        assert "cannot listen on 127.0.0.1" in cli.refused_after_log("serve", "--listen", process.address)
        assert process.stop() == 0


def test_a_reload_during_the_start_is_done_after_it(tmp_path: Path) -> None:
    # The module is imported before the server handles signals.
    (tmp_path / "own_early.py").write_text(
        "import os, signal\nos.kill(os.getpid(), signal.SIGHUP)\nasync def decide(request):\n    return None\n"
    )
    with serving("--policy", "own_early:decide", cwd=tmp_path) as process:
        process.until("reloaded")
        process.signal(signal.SIGHUP)
        process.until("reloaded")
        assert process.stop() == 0


@pytest.mark.slow
def test_a_thread_that_hangs_does_not_hold_it_up(tmp_path: Path) -> None:
    (tmp_path / "own_hanging.py").write_text(
        "import asyncio, time\nasync def decide(request):\n    await asyncio.to_thread(time.sleep, 60)\n"
    )
    with serving("--policy", "own_hanging:decide", cwd=tmp_path) as process, dial(process.address) as connection:
        body = b'{"id":"1","event":"connect","node":"","transport":"quic","path":"/"}'
        head = f"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body)
        assert process.ask("/healthz")[0] == 200  # so the request before is under way
        assert process.stop() == 0


# -- what would be served


def test_check(cli: Cli, tmp_path: Path, keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    add_key(keys, "one")
    argv = "--key-dir keys --public-subscribe lobby/** --expires 1h --revalidate 1m --limit-token 3 --kick-oldest token"
    told = cli.done("serve", "--check", *argv.split())
    for line in (
        "tokens      verified with keys/{kid}.jwk, read when a token names it",
        "public      without a token anybody may publish nothing and subscribe to lobby/**",
        "sessions    end with their token, or after 1 h; relays ask again every 1 min",
        "limits      3 per token, the oldest is ended",
        "may ask     programs on this machine",
        "relay 0.15+ moq-relay --auth-url http://127.0.0.1:4440/",
        'relay 0.14  [auth] auth_api = "http://127.0.0.1:4440/"',
    ):
        assert line in told.splitlines()
    (tmp_path / "serve.toml").write_text('[serve]\nkey_dir = "keys"\n')
    from_file = cli.done("serve", "--check", "--config", "serve.toml")
    assert (
        from_file == cli.done("check-config", "serve.toml") == cli.done("auth", "serve", "--check", "--key-dir", "keys")
    )
    assert json.loads(cli.done("check-config", "serve.toml", "--json"))["ok"] is True
    assert "tokens      all refused" in cli.done("serve", "--check")


@pytest.mark.parametrize(
    ("argv", "note"),
    [
        ("--key absent.jwk", "`--key`: file not found: absent.jwk (looked in "),
        ("--key absent.jwk", "; until this is fixed, its tokens are refused"),
        ("--key-dir absent", "`--key-dir`: directory not found: absent (looked in "),
        ("--key-dir ~/absent", "`~` is not expanded: write the whole path"),
        ("--key broken/text.jwk", "`--key`: invalid key in 'broken/text.jwk': this is plain text"),
        ("--key-dir broken", "`--key-dir`: invalid key in 'broken/text.jwk': this is plain text"),
        ("--key-dir broken/empty", "`--key-dir`: 'broken/empty' contains no {kid}.jwk, so every token is refused"),
        ("--key broken/empty", "`--key`: 'broken/empty' contains no {kid}.jwk"),
        ("--key-dir hmac/one.jwk", "'hmac/one.jwk' is not a directory: for a single key write `key`"),
        ("--key old.jwk", "`--key`: invalid key in 'old.jwk': the member `kty` is missing"),
        ("--key private.jwk", "'private.jwk' is a private key, but the public half is enough to verify"),
        ("--key pem.jwk", "`--key`: invalid key in 'pem.jwk': this is PEM"),
        ("--key set.json", "`--key`: ignored in 'set.json': keys[1]: "),
        ("--key unusable.json", "`--key`: invalid key in 'unusable.json': no usable key in the set"),
        ("--public-publish a/** --public-publish *.hang/**", "not public there for publishing: *.hang/**"),
        ("--mtls-publish **", "relay 0.14 gives a client certificate everything"),
        ("--listen 0.0.0.0:1 --listen-public", "relays from 0.15 on refuse plain http to another machine"),
        ("--listen unix:x --contract get", "relay 0.14 cannot ask at a unix socket"),
        ("--key-dir hmac", "relay 0.14 cannot verify HMAC tokens"),
        ("--key hmac/one.jwk", "relay 0.14 cannot verify HMAC tokens"),
    ],
)
def test_notes(cli: Cli, argv: str, note: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hmac").mkdir()
    add_key(tmp_path / "hmac", "one", Algorithm.HS256)
    (tmp_path / "broken" / "empty").mkdir(parents=True)
    (tmp_path / "broken" / "text.jwk").write_text("x")
    key = Key.generate("EdDSA", "one")
    key.to_file(tmp_path / "private.jwk")
    (tmp_path / "pem.jwk").write_text("-----BEGIN PUBLIC KEY-----\n")
    (tmp_path / "old.jwk").write_text(f'{{"alg":"HS256","key_ops":["verify"],"k":"{"c2VjcmV0" * 6}"}}')
    (tmp_path / "set.json").write_text(f'{{"keys":[{key.to_public().to_json()},{{"kty":"AKP"}}]}}')
    (tmp_path / "unusable.json").write_text('{"keys":[{"kty":"AKP"}]}')
    status, _, err = cli.run("serve", "--check", *argv.split())
    assert status == 0
    assert note in err
    assert [line for line in err.splitlines() if not line.startswith("note: ")] == []
    if "0.14" in note:
        assert cli.run("serve", "--check", *argv.replace(" get", " post").split(), *_post(argv))[2] == ""


def test_keys_are_looked_for_where_the_working_directory_is_gone(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    status, _, err = cli.run("serve", "--check", "--key-dir", "keys")
    assert status == 0
    assert "directory not found: keys (looked in a working directory that no longer exists)" in err


def test_the_check_of_a_file_fails_for_keys_that_no_token_can_be_verified_with(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "keys").mkdir()
    (tmp_path / "serve.toml").write_text('[serve]\nkey_dir = "keys"\n')
    assert "contains no {kid}.jwk" in cli.run("check-config", "serve.toml")[2]  # a note: keys may come later
    assert "contains no {kid}.jwk" in cli.refused(1, "check-config", "serve.toml", "--strict")
    add_key(tmp_path / "keys", "one")
    assert cli.run("check-config", "serve.toml", "--strict")[0] == 0
    (tmp_path / "keys" / "two.jwk").write_text("-----BEGIN PUBLIC KEY-----\n")
    message = cli.refused(1, "check-config", "serve.toml")
    assert "'serve.toml': `serve.key_dir`: invalid key in 'keys/two.jwk': this is PEM" in message
    status, out, _ = cli.run("check-config", "serve.toml", "--json")
    assert (status, json.loads(out)["ok"], len(json.loads(out)["problems"])) == (1, False, 1)


def _post(argv: str) -> list[str]:
    return [] if "--contract" in argv else ["--contract", "post"]


def test_strict_check_fails_for_notes(cli: Cli, tmp_path: Path) -> None:
    config = tmp_path / "serve.toml"
    config.write_text('[serve]\nmtls_publish = "a/**"\n')
    assert "relay 0.14 gives a client certificate" in cli.refused(1, "check-config", "--strict", str(config))
    assert cli.run("check-config", "--strict", "--json", str(config))[0] == 1


def test_url_is_shown_without_credentials(cli: Cli) -> None:
    told = cli.done("serve", "--check", "--key", "https://user:hunter2@keys.example.com/jwks?token=hunter2")
    assert "verified with https://keys.example.com/jwks" in told
    assert "hunter2" not in told


def test_missing_extra(cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config = tmp_path / "serve.toml"
    config.write_text("[serve]\n")
    monkeypatch.setitem(sys.modules, "httptools", None)
    for name in [name for name in sys.modules if name.startswith("moq_token.server")]:
        monkeypatch.delitem(sys.modules, name)
    for argv in (("serve",), ("check-config", str(config)), ("explain", "--config", str(config), "https://x/y")):
        message = cli.refused(1, *argv)
        assert 'require the extra `server`. Run: pip install "moq-token[server]"' in message
    assert "Run the auth server" in cli.done("serve", "--help")


# -- what it would answer


def test_explain(cli: Cli, tmp_path: Path, keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    key = add_key(keys, "one")
    (tmp_path / "serve.toml").write_text('[serve]\nkey_dir = "keys"\npublic_subscribe = "lobby/**"\n')
    token = key.sign(Claims("rooms/123", publish="alice", subscribe="", expires="1h"))

    def explain(url: str, status: int, *more: str) -> str:
        got, out, _ = cli.run("explain", "--config", "serve.toml", *more, "-", stdin=url)
        assert got == status
        return out

    room = f"https://relay.example.com/rooms/123?jwt={token}"
    signed, _, signature = room.rpartition(".")
    forged = f"{signed}.{'B' if signature[0] == 'A' else 'A'}{signature[1:]}"
    assert explain(room, 0).startswith("allowed: may publish alice")
    assert explain(room, 0, "--publish", "alice/camera").startswith("allowed: ")
    assert "must not publish" in explain(room, 1, "--publish", "bob")
    assert json.loads(explain(room, 0, "--json"))["allowed"] is True
    for url, reason, check in (
        (room.replace("123?", "124?"), "root-mismatch", "path"),
        (forged, "bad-signature", "signature"),
        ("https://relay.example.com/rooms", "no-access", "path"),
        (f"https://relay.example.com/rooms?jwt={'x' * 9}", "malformed", "form"),
        ("relay.example.com/rooms", "bad-url", "url"),
        ("https://[/rooms", "bad-url", "url"),
    ):
        told = explain(url, 1)
        assert told.startswith(f"refused: {reason}: ")
        assert f"{check:<12}NO" in told
        assert "fix: " in told
    assert "nothing is public" in explain("https://relay.example.com/rooms", 1)
    for url, said in (
        (f"https://relay.example.com/rooms/123?token={token}", "a token was found in the parameter `token`, but"),
        (f"https://relay.example.com/rooms/123?JWT={token}", "a token was found in the parameter `JWT`, but"),
        (f"https://relay.example.com/rooms/123?{token}", "a token was found without a name: write ?jwt= before it"),
        (f"https://relay.example.com/rooms/123#jwt={token}", "a token was found after the `#`"),
        (f"https://relay.example.com/rooms/123/{token}", "a token was found in the path"),
        (f"https://{token}@relay.example.com/rooms/123", "a token was found before the host"),
    ):
        told = explain(url, 1)
        assert said in told
        assert token[-20:] not in told or f"/{token}" in url  # the path that was dialed is named
    assert "found" not in explain("https://relay.example.com/rooms?token=x", 1)
    claims = Claims("rooms/123", publish="alice", subject="alice", id="7", expires="1h")
    assert "ignored" not in explain(f"https://relay.example.com/rooms/123?jwt={key.sign(claims)}", 0)
    assert explain("https://relay.example.com/lobby/x", 0).startswith("allowed: ")
    (tmp_path / "serve.toml").write_text("[serve]\n")
    assert explain("https://relay.example.com/", 1).startswith("refused: no-public-grant: ")


def test_explain_tells_nobody(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    for owner, name in ((Nudger, "nudge"), (Unseen, "discover"), (Sharing, "lifespan")):
        monkeypatch.setattr(owner, name, lambda *_: pytest.fail("a relay or the store was told"))
    (tmp_path / "secret").write_text(f"{'x' * 32}\n")
    (tmp_path / "secret").chmod(0o600)
    (tmp_path / "own_closed.py").write_text(
        "from moq_token.server import Grant, Policy\n"
        "class Own(Policy):\n"
        "    async def __call__(self, request):\n"
        "        return Grant(publish=['**'])\n"
        "    async def aclose(self):\n"
        "        print('closed')\n"
        "decide = Own()\n"
    )
    (tmp_path / "serve.toml").write_text(
        '[serve]\npolicy = "own_closed:decide"\nrelay = "n=http://127.0.0.1:1"\n'
        'share = "redis://127.0.0.1:1"\nshare_secret_file = "secret"\n'
    )
    out = cli.done("explain", "--config", "serve.toml", "https://relay.example.com/")
    assert "allowed: may publish" in out
    assert out.startswith("closed\n")


def test_explain_a_policy_that_answers_nonsense(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_odd.py").write_text("async def decide(request):\n    return 1\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "serve.toml").write_text('[serve]\npolicy = "own_odd:decide"\n')
    message = cli.refused(1, "explain", "--config", "serve.toml", "https://relay.example.com/")
    assert "the policy returned int, not a Grant" in message


def test_log_for_people(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "moq_token", "auth", "serve", "--listen", "127.0.0.1:0"],
        cwd=tmp_path,
        env=os.environ,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stderr is not None
        line = ""
        while "listening on 127.0.0.1:" not in line:
            line = process.stderr.readline()
            assert line
        process.terminate()
        assert "stopping" in process.stderr.read()
        assert process.wait(100) == 0


def test_a_log_that_nobody_reads_holds_up_nothing(tmp_path: Path) -> None:
    socket = f"unix:{tmp_path / 'auth'}"
    command = [sys.executable, "-m", "moq_token", "serve", "--listen", socket]
    with subprocess.Popen(command, cwd=tmp_path, env=environment(), stderr=subprocess.PIPE) as process:
        try:
            assert process.stderr is not None
            while b"listening on" not in (line := process.stderr.readline()):
                assert line, "it ended"
            request = {"event": "connect", "node": "n", "transport": "quic", "path": "x" * 400}
            # A pipe holds 64 KiB. Each refusal is a line of more than 400 bytes.
            answers = [ask(socket, "/", {**request, "id": str(number)})[0] for number in range(300)]
            assert answers == [403] * 300
            process.send_signal(signal.SIGTERM)
            assert process.wait(100) == 0
        finally:
            process.kill()


def listens(path: Path) -> bool:
    with contextlib.suppress(OSError), dial(f"unix:{path}"):
        return True
    return False


@pytest.mark.parametrize("closed", ["2>&-", "0<&- 1>&- 2>&-"])
def test_it_runs_without_standard_error(tmp_path: Path, closed: str) -> None:
    path = tmp_path / "auth"
    command = [sys.executable, "-m", "moq_token", "serve", "--listen", f"unix:{path}"]
    with subprocess.Popen(["sh", "-c", f'exec "$@" {closed}', "sh", *command], env=environment()) as process:
        try:
            while not listens(path):
                assert process.poll() is None
                time.sleep(0.01)  # it has no other way to say that it listens
            assert ask(f"unix:{path}", "/healthz")[0] == 200
            process.send_signal(signal.SIGTERM)
            assert process.wait(100) == 0
        finally:
            process.kill()


def test_the_module_is_small_to_import() -> None:
    # The help of every command shows the options of `serve`; only running it needs the server.
    names = subprocess.run(
        [sys.executable, "-c", f"import sys, {serve_module.__name__}; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert not {"asyncio", "httptools", "moq_token.server", "ssl"} & set(names)
