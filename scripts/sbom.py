"""Write the bill of materials of the wheel and its dependencies, in CycloneDX, from an environment with only these.

python -m scripts.sbom ENVIRONMENT FILE
"""

import json
import subprocess
import sys
from pathlib import Path

from scripts.release_check import ROOT, version

TOOL = [str(Path(sys.executable).with_name("cyclonedx-py")), "environment", "--output-reproducible"]


def main(environment: str, out: str) -> None:
    options = ["--pyproject", str(ROOT / "pyproject.toml"), "--mc-type", "application"]
    done = subprocess.run([*TOOL, *options, environment], capture_output=True, text=True, check=True)
    bill = json.loads(done.stdout)
    # The tool does not find the version, because it is dynamic in pyproject.toml.
    released = version(ROOT)
    bill["metadata"]["component"] |= {"version": released, "purl": f"pkg:pypi/moq-token@{released}"}
    assert bill["components"]
    Path(out).write_text(json.dumps(bill, indent=2, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
