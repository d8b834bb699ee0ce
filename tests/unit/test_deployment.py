"""The files of deploy/ and the example policy work unchanged."""

from __future__ import annotations

import json
import shutil
import signal
import sqlite3
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from moq_token import Claims, Key
from moq_token.server.reading import SETTINGS, read_settings
from tests.command_line import Cli
from tests.serving import serving

if TYPE_CHECKING:
    from moq_token.server.settings import Settings

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
UNIT = DEPLOY / "moq-token-serve.service"


def documents(name: str) -> list[Any]:
    yaml = pytest.importorskip("yaml")
    return list(yaml.safe_load_all((DEPLOY / name).read_text()))


def test_settings_are_valid(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cli = Cli(capsys, monkeypatch)
    (tmp_path / "keys").mkdir()
    Key.generate("EdDSA", "one").to_public().to_file(tmp_path / "keys" / "one.jwk")
    monkeypatch.chdir(tmp_path)
    assert "lobby/**" in cli.done("check-config", "--strict", str(DEPLOY / "serve.toml"))


def test_unit_is_valid(tmp_path: Path) -> None:
    verify = shutil.which("systemd-analyze")
    if verify is None:
        pytest.skip("needs systemd-analyze")
    text = UNIT.read_text()
    program = "/usr/local/bin/moq-token-cli"
    assert f"ExecStart={program} serve --config /etc/moq-token/serve.toml\n" in text
    assert "\nStateDirectory=moq-token-serve\n" in text
    assert "\nEnvironment=MOQ_TOKEN_SERVE_STATE=%S/moq-token-serve\n" in text
    copy = tmp_path / UNIT.name
    copy.write_text(text.replace(program, "/bin/true"))
    done = subprocess.run([verify, "verify", copy], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_compose_file() -> None:
    (compose,) = documents("compose.yaml")
    auth, relay, network = (compose["services"][name] for name in ("auth", "relay", "network"))
    # Loopback is the same for both, and stays so when one of them is restarted.
    assert auth["network_mode"] == relay["network_mode"] == "service:network"
    assert "network_mode" not in network
    assert not {"ports", "depends_on"} & {*auth, *relay}
    assert network["ports"] == [f"443:{relay['environment']['MOQ_LISTEN'].rpartition(':')[2]}/udp"]
    holding = subprocess.Popen([sys.executable, *network["entrypoint"][1:]])
    holding.terminate()
    assert holding.wait(100) in {0, -signal.SIGTERM}  # the latter if it came before the handler
    assert relay["environment"]["MOQ_AUTH_URL"] == f"http://{read_settings(config=DEPLOY / 'serve.toml').listen}/"
    assert auth["command"] == ["serve", "--config", f"{auth['working_dir']}/serve.toml"]
    environment = auth["environment"]
    state = environment["MOQ_TOKEN_SERVE_STATE"]
    assert auth["volumes"] == [f"./moq-token:{auth['working_dir']}:ro", f"./state:{state}"]
    settings = read_settings(config=DEPLOY / "serve.toml", environ=environment)
    assert settings.state == state
    _check_bans(settings, relay["environment"], environment)


def _check_bans(settings: Settings, relay: dict[str, str], auth: dict[str, str]) -> None:
    """Check that the relay listens where the server tells it of bans, and the commands ask where the server listens."""
    assert settings.relays[relay["MOQ_STATS_NODE"]].url == f"http://{relay['MOQ_INTERNAL_LISTEN']}"
    assert auth["MOQ_TOKEN_ADMIN"] == f"http://{settings.admin}"
    assert not settings.warnings


def test_kubernetes_manifest(tmp_path: Path) -> None:
    settings, deployment, service = documents("kubernetes.yaml")
    config = tmp_path / "serve.toml"
    config.write_text(settings["data"]["serve.toml"])
    read = read_settings(config=config)
    read.check()
    pod = deployment["spec"]["template"]["spec"]
    (auth,), (relay,) = pod["initContainers"], pod["containers"]
    environment = {each["name"]: each["value"] for each in relay["env"]}
    assert environment["MOQ_AUTH_URL"] == f"http://{read.listen}/"
    _check_bans(read, environment, {each["name"]: each["value"] for each in auth["env"]})
    mounts = {each["mountPath"]: each["name"] for each in auth["volumeMounts"]}
    assert mounts[str(Path(str(read.state)).parent)] == "state"
    assert mounts[str(read.key_dir)] == "keys"
    assert mounts[str(Path(auth["args"][-1]).parent)] == "settings"
    volumes = {each["name"] for each in pod["volumes"]}
    assert volumes == {each["name"] for container in (auth, relay) for each in container["volumeMounts"]}
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert labels == deployment["spec"]["selector"]["matchLabels"] == service["spec"]["selector"]


def test_nixos_module() -> None:
    """Its unit is that of the file, but for what NixOS does otherwise."""
    program = shutil.which("nix-instantiate")
    if program is None:
        pytest.skip("needs nix-instantiate")
    settings = tomllib.loads((DEPLOY / "serve.toml").read_text())["serve"]
    keys = dict.fromkeys(("directory", "publicDirectory", "user", "algorithm", "overlap", "startAt"), "x")
    given = {"serve": {"enable": True, "user": None, "settings": settings}, "keys": {"main": keys}}
    arguments = "--argstr", "module", str(ROOT / "nix" / "module.nix"), "--argstr", "given", json.dumps(given)
    done = subprocess.run(
        [program, "--eval", "--strict", "--json", str(ROOT / "tests" / "nixos.nix"), *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)
    assert json.loads(made["etc"]["moq-token/serve.toml"]["source"]) == {"serve": settings}
    assert set(made["services"]) == {"moq-token-serve", "moq-token-keys-main"}
    assert set(made["timers"]) == {"moq-token-keys-main"}
    unit = {
        name: [str(each) for each in (value if isinstance(value, list) else [value])]
        for name, value in made["services"]["moq-token-serve"]["serviceConfig"].items()
    }
    expected = _service_section()
    for name in ("WorkingDirectory", "ConfigurationDirectory"):  # NixOS makes /etc/moq-token itself
        del expected[name]
    (mine,), (other,) = unit.pop("ExecStart"), expected.pop("ExecStart")
    assert mine.partition(" ")[2] == other.partition(" ")[2]  # the program is elsewhere
    # A small system may have no other `kill` than that of the shell.
    assert unit.pop("ExecReload")[0].partition(" ")[2] in expected.pop("ExecReload")[0]
    assert unit == expected


def _service_section() -> dict[str, list[str]]:
    """Return the values of the unit file, with those of lists apart and switches as Python writes them."""
    found: dict[str, list[str]] = {}
    section = UNIT.read_text().partition("[Service]\n")[2].partition("[Install]")[0]
    for line in filter(None, section.splitlines()):
        name, _, value = line.partition("=")
        values = value.split() if name == "RestrictAddressFamilies" else [value]
        found.setdefault(name, []).extend({"yes": "True", "no": "False"}.get(each, each) for each in values)
    return found


def test_documentation_names_every_setting() -> None:
    text = (ROOT / "docs" / "auth-server.md").read_text()
    assert not [name for name in SETTINGS if f"`--{name.replace('_', '-')}" not in text]


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_policy_with_a_database(tmp_path: Path) -> None:
    key = Key.generate("EdDSA", "one")
    (tmp_path / "keys").mkdir()
    key.to_public().to_file(tmp_path / "keys" / "one.jwk")
    users = tmp_path / "users.db"
    environ = {"MOQ_USERS": str(users), "MOQ_KEYS": str(tmp_path / "keys")}

    def query(subject: str | None) -> str:
        return f"jwt={key.sign(Claims('r', publish='x', subscribe='', subject=subject, expires='1h'))}"

    with serving("--policy", "examples.policy:decide", cwd=ROOT, environ=environ) as process:
        assert process.connect("/r", query("alice"))[0] == 503  # no database is no verdict
        database = sqlite3.connect(users)
        database.execute("CREATE TABLE users (name TEXT PRIMARY KEY, state TEXT)")
        database.executemany("INSERT INTO users VALUES (?, ?)", [("bob", "suspended"), ("carol", "muted")])
        database.commit()
        database.close()
        assert json.loads(process.connect("/r", query("alice"))[1])["publish"] == ["x/**"]
        assert process.connect("/r", query("bob")) == (403, "this user is suspended")
        muted = json.loads(process.connect("/r", query("carol"))[1])
        assert ("publish" in muted, muted["subscribe"]) == (False, ["**"])
        assert process.connect("/r", query(None))[0] == 200
        assert process.connect("/lobby/x")[0] == 200
        assert json.loads(process.ask("/?root=r&kid=one&transport=quic")[1])["key"]["kid"] == "one"
        assert process.stop() == 0
