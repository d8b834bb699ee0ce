"""Read the fenced blocks of a Markdown file, and run them."""

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

FENCE = re.compile(r"^( *)```(?P<language>\S*)[^\n]*\n(?P<text>.*?)^\1```$", re.DOTALL | re.MULTILINE)

# Blocks that are not run: installation and make commands, output, settings of other programs.
NOT_RUN = {"console", "text", "yaml"}


# A command that the page shows to fail.
SAYS_NO = re.compile(r"^(.*\S)  # exits with 1$", re.MULTILINE)


class Block(NamedTuple):
    line: int
    language: str
    text: str


def blocks(document: str) -> Iterator[Block]:
    for match in FENCE.finditer(document):
        yield Block(document.count("\n", 0, match.start("text")) + 1, match["language"], textwrap.dedent(match["text"]))


def run_document(path: Path) -> set[str]:
    """Run the blocks of a document in the working directory, in order, as a reader would.

    Shell blocks find the installed commands; Python blocks continue each other; JSON and TOML have to be readable. A
    block in any other language is an error, so that none goes unnoticed. Returns the languages that were met.
    """
    names: dict[str, Any] = {"__name__": "__main__"}
    languages: set[str] = set()
    for block in blocks(path.read_text(encoding="utf-8")):
        languages.add(block.language)
        match block.language:
            case "python":
                # The empty lines in front give tracebacks the document's line numbers.
                exec(compile("\n" * (block.line - 1) + block.text, str(path), "exec"), names)  # noqa: S102
            case "sh":
                run_shell(path, block)
            case "json":
                json.loads(block.text)
            case "toml":
                tomllib.loads(block.text)
            case language if language not in NOT_RUN:
                raise AssertionError(f"{path.name}, line {block.line}: nothing runs {language or 'an unnamed block'}")
    return languages


def run_shell(path: Path, block: Block) -> None:
    script = SAYS_NO.sub(r"if \1; then exit 1; fi", block.text.replace("\\\n", " "))
    search = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        env=os.environ | {"PATH": search},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{path.name}, line {block.line}: exit {done.returncode}\n{done.stdout}{done.stderr}"
