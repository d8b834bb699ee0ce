"""Compare `check-config` with a real relay from 0.15 on.

RUST_MOQ_RELAY_SECOND names it.
"""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.config_cases import CASES, Case
from tests.interop.peers import program

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.rust

# The last thing that it logs before it waits for clients; without any configuration it ends just before.
RUNS = "running standalone"
LISTEN = '[listen]\nbind = "127.0.0.1:0"\n[listen.tls]\ngenerate = ["localhost"]\n'


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case.name))
def test_the_relay_starts_or_refuses_to(case: Case, tmp_path: Path) -> None:
    file = tmp_path / "relay.toml"
    command = program("RUST_MOQ_RELAY_SECOND")
    file.write_text(LISTEN + case.toml, encoding="utf-8")
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("MOQ_", "RUST_BACKTRACE"))}
    with subprocess.Popen(
        [command, file],
        env={**environ, **case.environ},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
    ) as relay:
        assert relay.stdout is not None
        lines = []
        for line in relay.stdout:
            lines.append(line)
            if RUNS in line:
                relay.kill()
                break
        started = RUNS in lines[-1]
    if case.differs:
        assert not started
    else:
        assert started is not bool(case.refused), "".join(lines)
