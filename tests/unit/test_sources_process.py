"""A process that has used an object store exits with the intended status."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from moq_token import Claims, Key

if TYPE_CHECKING:
    from pathlib import Path

# The fault of version 0.1.0 ended a third of the runs with SIGABRT.
RUNS = 6
UNREACHABLE = {
    "AWS_ACCESS_KEY_ID": "a",
    "AWS_SECRET_ACCESS_KEY": "hush",
    "AWS_REGION": "us-east-1",
    "AWS_ALLOW_HTTP": "true",
    "AZURE_STORAGE_ACCOUNT_NAME": "account",
    "AZURE_STORAGE_ACCOUNT_KEY": "aHVzaA==",
    "AZURE_ALLOW_HTTP": "true",
}


@pytest.mark.parametrize("url", ["s3://bucket/keys", "az://container/keys"])
def test_a_store_that_cannot_be_reached_does_not_abort_the_process(url: str, tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # and does not listen
        endpoint = f"http://127.0.0.1:{unused.getsockname()[1]}"
        environment = os.environ | UNREACHABLE | {"AWS_ENDPOINT_URL": endpoint, "AZURE_STORAGE_ENDPOINT": endpoint}
        token = tmp_path / "token"
        token.write_text(Key.generate("HS256", "one").sign(Claims(root="a", publish=[""])))
        command = [sys.executable, "-m", "moq_token", "verify", "--key", url, "--in", str(token)]
        for _ in range(RUNS):
            done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
            assert (done.returncode, done.stdout) == (1, "")
            assert "connection refused" in done.stderr
            assert "hush" not in done.stderr
