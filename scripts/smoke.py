"""Try the installed wheel: library, both console scripts and `python -m`, with the standard library only.

`make smoke` runs it in a fresh environment that holds the wheel and its base dependencies and nothing else.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from importlib.metadata import distribution
from importlib.resources import files
from pathlib import Path

import moq_token
from moq_token import Algorithm, Claims, Key, KeySet

BIN = Path(sys.executable).parent
COMMANDS = [[str(BIN / "moq-token-cli")], [str(BIN / "moq-token")], [sys.executable, "-m", "moq_token"]]


def check_distribution() -> None:
    wheel = distribution("moq-token")
    assert Path(sys.prefix) in Path(moq_token.__file__).parents, moq_token.__file__
    assert wheel.version == moq_token.__version__
    assert wheel.metadata["License-Expression"] == "MIT OR Apache-2.0"
    assert set(wheel.metadata.get_all("License-File", [])) == {"LICENSE-MIT", "LICENSE-APACHE"}
    assert (files("moq_token") / "py.typed").is_file()
    base = [requirement for requirement in wheel.requires or [] if "extra ==" not in requirement]
    assert [re.split("[<>=]", requirement)[0] for requirement in base] == ["click", "cryptography", "msgspec"], base


def check_library() -> None:
    now = int(time.time())
    claims = Claims("rooms/123", publish="alice", subscribe="", expires=now + 3600)
    for algorithm in Algorithm:
        key = Key.from_str(Key.generate(algorithm).to_str())
        public = key if algorithm.symmetric else Key.from_pem(key.to_public().to_pem(), algorithm, kid=key.kid)
        verified = KeySet([public]).verify(key.sign(claims))
        assert verified == claims
        assert verified.authorize("/rooms/123").can_publish("alice/camera")


def check_command_line(command: list[str]) -> None:
    def run(*arguments: str, status: int = 0, text: str = "") -> str:
        done = subprocess.run([*command, *arguments], input=text, capture_output=True, text=True, check=False)
        assert done.returncode == status, (arguments, done)
        assert "Traceback" not in done.stderr, done.stderr
        return done.stdout

    assert moq_token.__version__ in run("--version")
    assert "generate" in run("--help")
    with tempfile.TemporaryDirectory() as directory:
        os.chdir(directory)
        run("generate", "--algorithm", "EdDSA", "--out", "root.jwk", "--public", "public.jwk")
        assert Path("root.jwk").stat().st_mode & 0o777 == 0o600
        grant = ("--root", "rooms/123", "--publish", "alice", "--subscribe", "")
        token = run("sign", "--key", "root.jwk", *grant, "--expires", "1h")
        assert json.loads(run("verify", "--key", "public.jwk", text=token))["root"] == "rooms/123"
        expired = run("sign", "--key", "root.jwk", *grant, "--expires", "2020-01-01")
        assert not run("verify", "--key", "public.jwk", text=expired, status=1)
        run("generate", "--no-such-option", status=2)
        os.chdir("/")


def main() -> None:
    check_distribution()
    check_library()
    for command in COMMANDS:
        check_command_line(command)
    print(f"moq-token {moq_token.__version__} works as installed in {sys.prefix}")


if __name__ == "__main__":
    main()
