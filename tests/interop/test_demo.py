"""The demo, as `make demo` runs it. It fails if something does not happen as shown."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("moq", exc_type=ImportError, reason="moq-rs is not built for this interpreter")

MAIN = "def main("
VISIT = "visit(Clients(urls, certificate), auth, relay, directory)"
EXAMPLES = Path(__file__).parents[2] / "examples"


def run(demo: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(demo)], capture_output=True, text=True, check=False, timeout=120)


def test_the_demo_happens() -> None:
    done = run(EXAMPLES / "demo.py")
    assert done.returncode == 0, done.stdout + done.stderr
    for line in (
        "alice   has a credential for https://localhost:",
        "viewer  has a credential for https://localhost:",
        "mallory gets no token: ",
        "viewer  watches `alice/camera`: one, two, three",
        "viewer  does not find `bob`",
        "viewer  does not find `alice`",
        "auth    refuses at the next re-check: unknown-key",
        "guest   had to leave: unauthorized",
        "relay   ended at '/rooms/123': refused",
        "viewer  watches `alice/screen`: one, two, three",
        "auth    refuses: bad-signature",
        "auth    refuses: expired",
        "auth    refuses: no-public-grant",
        "forged  was refused",
        "expired was refused",
        "nobody  was refused",
        "done    everything worked as expected",
    ):
        assert f"\n{line}" in done.stdout, line


ALL = 'Grant(publish=["**"], subscribe=["**"])'


@pytest.mark.parametrize(
    ("correct", "wrong"),
    [
        (MAIN, f"remote.read_answer = lambda *_: {ALL}\n\n\n{MAIN}"),  # who is refused is admitted
        (MAIN, f"RemoteSession.ended = lambda _: asyncio.sleep(3600)\n\n\n{MAIN}"),  # who was admitted may stay
        (MAIN, f"Grant.can_publish = lambda *_: True\n\n\n{MAIN}"),  # what may not be published is seen
        (MAIN, f"Grant.can_subscribe = lambda *_: False\n\n\n{MAIN}"),  # nothing reaches the viewer
        ('"%(message)s"', '"%(levelname)s"'),  # it says something else
    ],
    ids=["anybody", "forever", "everything", "nothing", "words"],
)
def test_a_relay_that_is_wrong_is_noticed(tmp_path: Path, correct: str, wrong: str) -> None:
    relay = (EXAMPLES / "relay.py").read_text(encoding="utf-8")
    assert relay.count(correct) == 1
    relay = relay.replace(correct, wrong).replace(
        "import moq\n",
        "import moq\nfrom moq_token.auth import RemoteSession, remote\nfrom moq_token.contract import Grant\n",
        1,
    )
    (tmp_path / "relay.py").write_text(relay, encoding="utf-8")
    demo = (EXAMPLES / "demo.py").read_text(encoding="utf-8")
    assert demo.count(VISIT) == 1
    shorter = f"asyncio.wait_for({VISIT}, 3)"  # counted from when all programs have started
    (tmp_path / "demo.py").write_text(demo.replace(VISIT, shorter), encoding="utf-8")
    done = run(tmp_path / "demo.py")
    assert done.returncode != 0
    assert "relay   listens on" in done.stdout, done.stderr
    assert "done " not in done.stdout


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[auth]\n", "error: nothing is configured"),
        ("[auth]\nkey = 'none.jwk'\n", "error: `key`: file not found: none.jwk"),
        ("[auth", "is not valid TOML"),
        ("[auth]\npublic = ''\n[server]\nbind = 'nonsense'\n", "error: "),
        (None, "error: "),
        ("[auth]\nurl = 'http://192.0.2.1/'\n", "error: `url`: http://192.0.2.1/ is not on this machine"),
        ("[auth]\nurl = 'unix:///x'\nkey = 'x'\n", "error: relays from 0.15 on do not read these settings: `auth.key`"),
    ],
    ids=["nothing", "no-key", "no-toml", "no-address", "no-file", "no-loopback", "mixed"],
)
def test_the_relay_says_in_one_line_why_it_cannot_start(tmp_path: Path, text: str | None, said: str) -> None:
    config = tmp_path / "relay.toml"
    if text is not None:
        config.write_text(text, encoding="utf-8")
    command = [sys.executable, str(EXAMPLES / "relay.py"), str(config)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert said in done.stderr
