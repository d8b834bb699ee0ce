"""The demo, run as `make demo` runs it, and that it notices when its account would not be true."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("moq", exc_type=ImportError, reason="moq-rs is not built for this interpreter")

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(demo: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(demo)], capture_output=True, text=True, check=False, timeout=60)


def test_the_demo_happens() -> None:
    done = run(EXAMPLES / "demo.py")
    assert done.returncode == 0, done.stdout + done.stderr
    for line in (
        "viewer  watches `alice`: one, two, three",
        "viewer  finds no `bob`",
        "server  refused at '/rooms/123': bad-signature",
        "server  refused at '/rooms/123': expired",
        "server  refused at '/rooms/123': token-expected",
        "forged  could not come in",
        "expired could not come in",
        "nobody  could not come in",
        "done    all of it as it should be",
    ):
        assert f"\n{line}" in done.stdout, line


@pytest.mark.parametrize(
    ("correct", "wrong"),
    [
        ("Authenticator(config)", "Authenticator(config, clock=lambda: 0)"),  # the expired token is admitted
        ("guard(server, authenticator)", "guard(server, authenticator, hub=session_hub())"),
    ],
    ids=["expired", "crash"],
)
def test_a_relay_that_is_wrong_is_noticed(tmp_path: Path, correct: str, wrong: str) -> None:
    relay = (EXAMPLES / "relay.py").read_text(encoding="utf-8")
    assert correct in relay
    (tmp_path / "relay.py").write_text(relay.replace(correct, wrong), encoding="utf-8")
    demo = (EXAMPLES / "demo.py").read_text(encoding="utf-8").replace("TIME_LIMIT = 30", "TIME_LIMIT = 5")
    (tmp_path / "demo.py").write_text(demo, encoding="utf-8")
    done = run(tmp_path / "demo.py")
    assert done.returncode != 0
    assert "done " not in done.stdout
