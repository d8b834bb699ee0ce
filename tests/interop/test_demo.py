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
        "server  refused at 'rooms/123': bad-signature",
        "server  refused at 'rooms/123': expired",
        "server  refused at 'rooms/123': no token",
        "forged  could not come in",
        "expired could not come in",
        "nobody  could not come in",
        "done    all of it as it should be",
    ):
        assert f"\n{line}" in done.stdout, line


@pytest.mark.parametrize(
    ("correct", "wrong"),
    [
        ("claims = key.verify(token)", "claims = key.verify(token, now=0)"),  # the expired token is admitted
        ("granted = claims.authorize(path)", 'granted = Permissions(("",), ("",))'),  # what may not be seen is seen
        ("return name if", "return None if"),  # nothing reaches the viewer
    ],
    ids=["expired", "everything", "nothing"],
)
def test_a_server_that_is_wrong_is_noticed(tmp_path: Path, correct: str, wrong: str) -> None:
    server = (EXAMPLES / "server.py").read_text(encoding="utf-8")
    assert correct in server
    (tmp_path / "server.py").write_text(server.replace(correct, wrong), encoding="utf-8")
    demo = (EXAMPLES / "demo.py").read_text(encoding="utf-8").replace("TIME_LIMIT = 30", "TIME_LIMIT = 5")
    (tmp_path / "demo.py").write_text(demo, encoding="utf-8")
    done = run(tmp_path / "demo.py")
    assert done.returncode != 0
    assert "done " not in done.stdout
