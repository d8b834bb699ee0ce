"""The demo, run as `make demo` runs it, and that it notices when its account would not be true."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("moq", exc_type=ImportError, reason="moq-rs is not built for this interpreter")

MAIN = "def main("
EXAMPLES = Path(__file__).parents[2] / "examples"


def run(demo: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(demo)], capture_output=True, text=True, check=False, timeout=60)


def test_the_demo_happens() -> None:
    done = run(EXAMPLES / "demo.py")
    assert done.returncode == 0, done.stdout + done.stderr
    for line in (
        "viewer  watches `alice`: one, two, three",
        "viewer  does not find `bob`",
        "server  refused at '/rooms/123': bad-signature",
        "server  refused at '/rooms/123': expired",
        "server  refused at '/rooms/123': token-expected",
        "forged  was refused",
        "expired was refused",
        "nobody  was refused",
        "done    everything worked as expected",
    ):
        assert f"\n{line}" in done.stdout, line


@pytest.mark.parametrize(
    ("correct", "wrong"),
    [
        ("Authenticator(config)", "Authenticator(config, clock=lambda: 0)"),  # the expired token is admitted
        (MAIN, f"Grant.can_publish = lambda self, name: True\n\n\n{MAIN}"),  # what may not be published is seen
        (MAIN, f"Grant.can_subscribe = lambda self, name: False\n\n\n{MAIN}"),  # nothing reaches the viewer
        ('"%(message)s"', '"%(levelname)s"'),  # it says something else
    ],
    ids=["expired", "everything", "nothing", "words"],
)
def test_a_relay_that_is_wrong_is_noticed(tmp_path: Path, correct: str, wrong: str) -> None:
    relay = (EXAMPLES / "relay.py").read_text(encoding="utf-8")
    assert relay.count(correct) == 1
    relay = relay.replace(correct, wrong).replace(
        "import AuthConfig, Authenticator", "import AuthConfig, Authenticator, Grant"
    )
    (tmp_path / "relay.py").write_text(relay, encoding="utf-8")
    demo = (EXAMPLES / "demo.py").read_text(encoding="utf-8").replace("TIME_LIMIT = 30", "TIME_LIMIT = 3")
    (tmp_path / "demo.py").write_text(demo, encoding="utf-8")
    done = run(tmp_path / "demo.py")
    assert done.returncode != 0
    assert "done " not in done.stdout


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[auth]\n", "error: nothing is configured"),
        ("[auth]\nkey = 'none.jwk'\n", "error: `key`: file not found: none.jwk"),
        ("[auth", "is not valid TOML"),
        ("[auth]\npublic = ''\n[server]\nbind = 'nonsense'\n", "error: "),
        (None, "error: "),
    ],
    ids=["nothing", "no-key", "no-toml", "no-address", "no-file"],
)
def test_the_relay_says_in_one_line_why_it_cannot_start(tmp_path: Path, text: str | None, said: str) -> None:
    config = tmp_path / "relay.toml"
    if text is not None:
        config.write_text(text, encoding="utf-8")
    command = [sys.executable, str(EXAMPLES / "relay.py"), str(config)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert said in done.stderr
