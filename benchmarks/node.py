"""Run the libraries for Node.js in a second process, which works while this one waits."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.fixtures import Grant, Keys
    from benchmarks.measure import Contender

_HERE = Path(__file__).parent / "node"
_MODULES = _HERE / "node_modules"
COMMAND_LINE = _MODULES / "@moq" / "token" / "cli.js"


class NodeLibrary(NamedTuple):
    """A library of the Node.js process, with the key that was prepared last."""

    name: str
    node: Node

    def sign(self, grant: Grant) -> object:
        return self.node.run(self.name, "sign", [grant])["last"]

    def verify(self, token: str) -> object:
        return self.node.run(self.name, "verify", [token])["last"]

    @property
    def signing(self) -> Contender:
        return lambda grants: float(self.node.run(self.name, "sign", grants)["seconds"])

    @property
    def verifying(self) -> Contender:
        return lambda tokens: float(self.node.run(self.name, "verify", tokens)["seconds"])


class Node:
    """The process, as a context manager. Without Node.js or its packages there are no libraries."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self.versions: dict[str, str] = {}

    def __enter__(self) -> Self:
        node = shutil.which("node")
        if node is not None and _MODULES.is_dir():
            self._process = subprocess.Popen(
                [node, _HERE / "bench.js"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="ascii"
            )
            self.versions = {"node": subprocess.check_output([node, "--version"], encoding="ascii").strip()[1:]}
            for name in json.loads((_HERE / "package.json").read_text())["dependencies"]:
                self.versions[name] = json.loads((_MODULES / name / "package.json").read_text())["version"]
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.communicate()

    def prepare(self, keys: Keys) -> list[NodeLibrary]:
        """Give all libraries a new key, and return those that support its algorithm."""
        if self._process is None:
            return []
        names = self._ask({"algorithm": keys.algorithm, "key": keys.private.to_json()})
        return [NodeLibrary(name, self) for name in names]

    def run(self, name: str, operation: str, items: Sequence[object]) -> dict[str, Any]:
        answer: dict[str, Any] = self._ask({"name": name, "operation": operation, "items": items})
        return answer

    def _ask(self, request: dict[str, object]) -> Any:  # noqa: ANN401 - what comes out of JSON
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        if "error" in answer:
            raise RefusedByNodeError(answer["error"])
        return answer


class RefusedByNodeError(Exception):
    """A library for Node.js has refused a token."""
