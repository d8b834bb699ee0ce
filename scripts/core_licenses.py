"""Write the licenses of the libraries that the compiled core contains: ``python -m scripts.core_licenses``.

They go into its wheel. It needs cargo and the sources of the libraries, which cargo has after a build.
"""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

CORE = Path(__file__).parents[1] / "core"
FILE = CORE / "LICENSES-THIRD-PARTY"
_LICENSE = re.compile(r"(licen[cs]e|notice|copying)", re.IGNORECASE)


def libraries() -> list[dict[str, Any]]:
    """Return the packages that are linked into the core, and not only used to build it."""
    manifest = str(CORE / "Cargo.toml")
    command = ["cargo", "metadata", "--locked", "--format-version", "1", "--manifest-path", manifest]
    found = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    packages = {package["id"]: package for package in found["packages"]}
    nodes = {node["id"]: node for node in found["resolve"]["nodes"]}
    linked: set[str] = set()
    waiting = [found["resolve"]["root"]]
    while waiting:
        for each in nodes[waiting.pop()]["deps"]:
            normal = any(kind["kind"] is None for kind in each["dep_kinds"])
            macro = any("proc-macro" in target["kind"] for target in packages[each["pkg"]]["targets"])
            if normal and not macro and each["pkg"] not in linked:
                linked.add(each["pkg"])
                waiting.append(each["pkg"])
    return sorted((packages[each] for each in linked), key=lambda package: str(package["name"]))


def text() -> str:
    parts = ["The compiled core of moq-token contains these libraries, in binary form.\n"]
    seen: dict[str, str] = {}
    for package in libraries():
        title = f"{package['name']} {package['version']}"
        parts.append(f"{'=' * 80}\n{title}\n{package['license']}\n{package['repository']}\n{'=' * 80}\n")
        files = [path for path in Path(package["manifest_path"]).parent.iterdir() if _LICENSE.match(path.name)]
        if not files:
            raise SystemExit(f"{title} has no license file")
        for path in sorted(files):
            content = path.read_text(encoding="utf-8").strip()
            if content in seen:
                parts.append(f"{path.name}: the same text as {seen[content]}\n")
            else:
                seen[content] = f"{path.name} of {title}"
                parts.append(f"{content}\n")
    return "\n".join(parts)


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
