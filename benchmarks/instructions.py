"""Count the instructions of operations with callgrind, and compare them with ``baseline.json``: ``make bench-check``.

Counts hardly vary from run to run, as times do; they depend on the interpreter, how it was built, and on the libraries.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import ssl
import subprocess
import sys
import sysconfig
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.counted import BARE, MARKER, N
from benchmarks.fixtures import ROOT
from benchmarks.interpreter import build
from moq_token import Key

AT_MOST = 1.1
"""The highest ratio of the instructions of an operation to those of the baseline."""

_BASELINE = Path(__file__).with_name("baseline.json")
_INCOMPARABLE = ("interpreter", "build", "processor")
"""If one of these differs, the counts cannot be compared."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.instructions")
    parser.add_argument("--renew", action="store_true", help="make what is counted now the baseline")
    renew = parser.parse_args().renew
    if shutil.which("valgrind") is None:
        sys.exit("valgrind is not installed, which counts the instructions")

    environment = _environment()
    if renew:
        counts = _operations() | _processes()
        compare(counts, counts)
        _BASELINE.write_text(json.dumps({"environment": environment, "instructions": counts}, indent=2) + "\n")
        return

    baseline = json.loads(_BASELINE.read_text())
    differences = differing(environment, baseline["environment"])
    if any(name in differences for name in _INCOMPARABLE):
        print(f"NOT COMPARABLE with the baseline, nothing is checked: {'; '.join(differences.values())}")
        return
    if differences:
        print(f"The baseline is compared with, but was counted with other versions: {'; '.join(differences.values())}")
    failures = compare(_operations() | _processes(), baseline["instructions"])
    if failures:
        sys.exit(f"more than {AT_MOST} times the baseline, or only in one of the two: {', '.join(failures)}")


def differing(now: dict[str, str], before: dict[str, str]) -> dict[str, str]:
    """Return the differences between two environments."""
    return {name: f"{name} is {now[name]}, was {before.get(name)}" for name in now if now[name] != before.get(name)}


def _environment() -> dict[str, str]:
    """Return what the counts depend on. The first few items change them completely, the libraries slightly."""
    return {
        "interpreter": f"{platform.python_implementation()} {sysconfig.get_python_version()}",
        "build": build(),
        "processor": platform.machine(),
        "Python": platform.python_version(),
        "OpenSSL": ssl.OPENSSL_VERSION.split()[1],
        **{name: version(name) for name in ("click", "cryptography", "msgspec")},
    }


def compare(counts: dict[str, int], before: dict[str, int]) -> list[str]:
    """Print all counts, and return the names of those that are too high or not in the baseline."""
    width = max(map(len, counts))
    print(f"{'instructions':{width}} {'baseline':>11} {'now':>11}  times")
    for name, count in counts.items():
        then = before.get(name)
        compared = f"{'-':>11} {count:11}" if then is None else f"{then:11} {count:11}  {count / then:.3f}"
        print(f"{name:{width}} {compared}")
    unpaired = sorted(counts.keys() ^ before.keys())
    return unpaired + [name for name in counts if name in before and counts[name] > AT_MOST * before[name]]


def _operations() -> dict[str, int]:
    """Count the operations of one process, each as the difference between N and 2 N calls."""
    with TemporaryDirectory() as directory:
        out = Path(directory) / "out"
        names = json.loads(_callgrind(["-m", "benchmarks.counted"], out, MARKER))
        totals = [_total(out.with_name(f"out.{number}")) for number in range(1, 3 * len(names) + 1)]
    counted = {name: (totals[3 * i + 2] - totals[3 * i + 1]) // N for i, name in enumerate(names)}
    return less_bare(counted)


def less_bare(counted: dict[str, int]) -> dict[str, int]:
    """Subtract the primitives from the operations that contain them."""
    counts = {}
    for name, count in counted.items():
        bare = counted.get(BARE + name)
        if bare is not None:
            counts[f"{name}, over the primitive"] = count - bare
        elif not name.startswith(BARE):
            counts[name] = count
    return counts


def _processes() -> dict[str, int]:
    """Count whole processes, without the start and the end of the interpreter."""
    with TemporaryDirectory() as directory:
        out, key = Path(directory) / "out", Path(directory) / "key.jwk"
        Key.generate("HS256").to_file(key)
        start = ["-c", "from moq_token_cli import run; run()"]  # as the installed command does
        processes = {
            "import moq_token": ["-c", "import moq_token"],
            "moq-token sign": [*start, "sign", "--key", str(key), "--root", ROOT, "--publish", "viewer"],
            "moq-token --help": [*start, "--help"],
            "moq-token --version": [*start, "--version"],
        }

        def count(arguments: list[str]) -> int:
            _callgrind(arguments, out)
            return _total(out)

        nothing = count(["-c", "pass"])
        count(processes["moq-token sign"])  # compiles what has changed, and keeps that for the next time
        return {name: count(arguments) - nothing for name, arguments in processes.items()}


def _callgrind(arguments: list[str], out: Path, marker: str | None = None) -> str:
    """Run Python under callgrind and return its output. With a marker, count each part separately."""
    command = ["valgrind", "--quiet", "--tool=callgrind", f"--callgrind-out-file={out}"]
    if marker:
        command.append(f"--dump-before={marker}")
    # Without the second, each process would compile what it imports, where the environment says not to keep that.
    environment = os.environ | {"PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": ""}
    return subprocess.check_output([*command, sys.executable, *arguments], env=environment, encoding="utf-8")


def _total(part: Path) -> int:
    found = re.search(r"^totals: (\d+)", part.read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1])


if __name__ == "__main__":
    main()
