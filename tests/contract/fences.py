"""Read the fenced blocks of a Markdown file, and run them as a reader would."""

import json
import os
import re
import subprocess
import sys
import textwrap
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

FENCE = re.compile(
    r"^( *)(?:<!-- (?P<mark>[^\n]*) -->\n\1)?```(?P<language>\S*)[^\n]*\n(?P<text>.*?)^\1```$", re.DOTALL | re.MULTILINE
)

# Settings of other programs, and programs for node or a browser.
NOT_RUN = {"js", "yaml"}
# What scripts/docs.py writes from the code, apart from whole files. Only the lines are kept, for their numbers.
GENERATED = re.compile(r"^ *<!-- begin (?!source )\w+.*?^ *<!-- end -->$", re.DOTALL | re.MULTILINE)

# The first words of commands in `console` blocks that are not run here: they need a network, a checkout, a relay, or a
# running auth server. tests/interop runs relays and auth servers.
ELSEWHERE = re.compile(
    r"(?:pip|curl|python3 -m venv|uv|git|docker|nix|alias|make|moq-relay"
    r"|moq-token-cli (?:ban|bans|kick|narrow|sessions|unban))\b"
)
# A command that the page shows to fail.
SAYS_NO = re.compile(r"^(.*\S)  # exits with 1$", re.MULTILINE)
# What differs each time: ids of keys, tokens, times.
DIFFERS = {
    r"\b[0-9a-f]{16}\b": "KID",
    r"\beyJ[\w.-]+": "TOKEN",
    r"\b1[789]\d{8}\b": "SECONDS",
    r"\b\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC": "DATE",
}


class Block(NamedTuple):
    line: int
    language: str
    text: str
    mark: str = ""
    """The comment in front of the block: `output`, `not run`, or `begin source FILE`."""


def blocks(document: str) -> Iterator[Block]:
    for match in FENCE.finditer(document):
        line = document.count("\n", 0, match.start("text")) + 1
        yield Block(line, match["language"], textwrap.dedent(match["text"]), match["mark"] or "")


def run_document(path: Path) -> set[str]:
    """Run the blocks of a document in the working directory, in order.

    Shell blocks find the installed commands; Python blocks continue each other, and those that are whole files are
    saved under their name; JSON and TOML have to be readable; text with the mark `output` is what the commands before
    it print. Blocks with the mark `not run` are left out. Any other block is an error, so that none goes unnoticed.
    Returns the languages that were met.
    """
    names: dict[str, Any] = {"__name__": "__main__"}
    languages: set[str] = set()
    printed = ""
    document = path.read_text(encoding="utf-8")
    for block in blocks(GENERATED.sub(lambda part: "\n" * part[0].count("\n"), document)):
        if block.mark == "not run":
            continue
        languages.add(block.language)
        match block.language:
            case "python" if block.mark.startswith("begin source "):
                Path(Path(block.mark).name).write_text(block.text, encoding="utf-8")
            case "python":
                # The empty lines in front give tracebacks the document's line numbers.
                exec(compile("\n" * (block.line - 1) + block.text, str(path), "exec"), names)  # noqa: S102
            case "sh" | "console":
                printed = run_shell(path, block)
            case "text" if block.mark == "output":
                assert is_shown(printed, block.text), f"{path.name}, line {block.line}: it prints\n{printed}"
            case "json":
                json.loads(block.text)
            case "toml":
                tomllib.loads(block.text)
            case language if language not in NOT_RUN:
                raise AssertionError(f"{path.name}, line {block.line}: nothing checks {language or 'an unnamed block'}")
    return languages


def commands(console: str) -> str:
    """Return the commands of a `console` block that run without a network and come to an end."""
    lines = [line for line in console.splitlines() if not ELSEWHERE.match(line)]
    return "\n".join(f"{line} --check" if line.startswith("moq-token-cli serve ") else line for line in lines)


def is_shown(printed: str, shown: str) -> bool:
    """Whether a block shows what was printed. What differs each time may differ, and `…` stands for any text."""
    for pattern, name in DIFFERS.items():
        printed, shown = re.sub(pattern, name, printed), re.sub(pattern, name, shown)
    any_text = ".*".join(map(re.escape, shown.strip().split("…")))
    return re.fullmatch(any_text, printed.strip(), re.DOTALL) is not None


def run_shell(path: Path, block: Block) -> str:
    """Run a block, and return what it prints."""
    script = SAYS_NO.sub(r"if \1; then exit 1; fi", block.text.replace("\\\n", " "))
    if block.language == "console":
        script = commands(script)
    search = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        env=os.environ | {"PATH": search},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{path.name}, line {block.line}: exit {done.returncode}\n{done.stdout}"
    return done.stdout
