"""The command lines of moq-relay on the pages start the relay."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from moq_token import Key
from tests.certificates import Authority
from tests.contract.fences import blocks
from tests.interop.peers import program

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.rust

DOCS = Path(__file__).parents[2] / "docs"
# A relay needs a certificate, and takes free ports here. Some pages show only the flags that matter there.
FIRST = ("--server-bind", "--tls-generate", "--tls-cert", "--tls-key")  # of relays to 0.14
SECOND = ("--listen", "--listen-tls-generate", "--listen-tls-cert", "--listen-tls-key", "--internal-listen")
INTERNAL = "--internal-listen"


def command_lines() -> Iterator[str]:
    for page in [*sorted(DOCS.rglob("*.md")), DOCS.parent / "README.md"]:
        for block in blocks(page.read_text(encoding="utf-8")):
            if block.language in {"console", "sh"}:
                yield from re.findall(r"^moq-relay .*$", block.text.replace("\\\n", " "), re.MULTILINE)


@pytest.mark.parametrize("line", sorted(set(command_lines())))
def test_it_starts(line: str, tmp_path: Path) -> None:
    pytest.importorskip("moq", exc_type=ImportError, reason="moq-rs is not built for this interpreter")
    from tests.interop.relays import running

    words = shlex.split(line)[1:]
    generation, own = ("RUST_MOQ_RELAY", FIRST) if FIRST[0] in words else ("RUST_MOQ_RELAY_SECOND", SECOND)
    kept = [word for before, word in zip(["", *words], words, strict=False) if word not in own and before not in own]
    certificate, key = Authority(tmp_path, "authority").issue("relay", "127.0.0.1")
    bind, _, cert_flag, key_flag = own[:4]
    listen = [bind, "127.0.0.1:0", cert_flag, certificate, key_flag, key]
    listen += [INTERNAL, "127.0.0.1:0"] if INTERNAL in words else []
    Key.generate("EdDSA").to_public().to_file(tmp_path / "public.jwk")
    (tmp_path / "relay.toml").write_text('[auth]\nkey = "public.jwk"\n', encoding="utf-8")
    with running(program(generation), *listen, *kept, directory=tmp_path) as relay:
        assert relay.port


def test_the_page_of_relays_has_a_whole_command_line() -> None:
    page = (DOCS / "relays-015.md").read_text(encoding="utf-8")
    assert "--listen-tls-generate localhost" in page
    assert any("--listen-tls-generate" in line and "--auth-url" in line for line in command_lines())
