"""The examples of every command, as its help and the documentation show them, run."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import pytest

from moq_token.cli.grammar import Command
from scripts import docs_commands
from tests.contract.fences import Block, run_shell

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the examples are for a POSIX shell")

# The files that the examples name. All keys with a token are the same one, the active key of `signing`.
PREPARED = r"""
moq-token-cli keys rotate signing --public-dir keys --algorithm EdDSA > old
moq-token-cli keys rotate signing > kid
cp "signing/$(cat kid).jwk" private.jwk
cp "signing/$(cat kid).jwk" root.jwk
cp "keys/$(cat kid).jwk" public.jwk
cp public.jwk browser.json
moq-token-cli generate --algorithm EdDSA --out old.jwk
moq-token-cli generate --algorithm EdDSA --out new.jwk
moq-token-cli generate --algorithm RS256 | moq-token-cli export - --out server.pem
printf 0123456789abcdef0123456789abcdef > secret.txt
moq-token-cli sign --key root.jwk --root rooms/123 --publish alice --expires 1h > alice.jwt
echo "https://relay.example.com/rooms/123?jwt=$(cat alice.jwt)" > url.txt
printf '[auth]\nkey = "public.jwk"\n' > relay.toml
printf '[serve]\nkey_dir = "keys"\n' > serve.toml
printf 'from moq_token.server import Policy\ndecide = Policy()\n' > policy.py
mkdir -p .zfunc .config/fish/completions .local/share/bash-completion/completions
"""
EXAMPLES = {name: command.examples for name, command in docs_commands.commands() if isinstance(command, Command)}
# These need a running auth server; tests/interop runs them.
NEED_A_SERVER = {"ban", "unban", "bans", "kick", "sessions", "narrow"}
# These say no to the prepared files.
SAY_NO = {"auth verify --key public.jwk --in alice.jwt --path demo", "check-config relay.toml --relay 0.17"}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("examples") / "prepared"
    folder.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run_shell(folder, Block(0, "sh", PREPARED))
    return folder


def runnable(example: str) -> str:
    """Return an example as a line for the shell, with what differs each time filled in."""
    line, _, comment = example.partition("  # ")
    setting = re.fullmatch(r"with (MOQ_\w+=\S+)", comment)
    command = f"{setting[1] if setting else ''} moq-token-cli {line}"
    if re.search(r"\bserve\b", line) and "--check" not in line:
        command += " --check"
    command = command.replace("eyJ0eXAi…", "$(cat alice.jwt)").replace("4f0a1b2c3d4e5f60", "$(cat old)")
    written = " ".join(re.findall(r"--out (\S+)", line))
    return f"rm -f {written}\n{'!' if line in SAY_NO else ''} {command}"


@pytest.mark.parametrize("name", sorted(EXAMPLES.keys() - NEED_A_SERVER))
def test_runs(name: str, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, example in enumerate(EXAMPLES[name]):
        folder = tmp_path / str(number)
        shutil.copytree(prepared, folder)
        monkeypatch.chdir(folder)
        monkeypatch.setenv("HOME", str(folder))
        run_shell(Path(name), Block(number, "sh", runnable(example)))
