"""Check that the version in this tree can be released.

python -m scripts.release_check                 # before you create the tag
python -m scripts.release_check --tag v1.2.3    # while the tag is being released; it must point to this commit
python -m scripts.release_check --notes         # print the entry of the version in the changelog
"""

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def version(root: Path) -> str:
    """Return the version from ``src/moq_token/__init__.py``, the only file that has it."""
    text = (root / "src/moq_token/__init__.py").read_text(encoding="utf-8")
    found = re.search(r'^__version__ = "(\d+\.\d+\.\d+)"$', text, re.MULTILINE)
    if found is None:
        raise SystemExit("src/moq_token/__init__.py: no __version__ of the form 1.2.3")
    return found[1]


def notes(root: Path, released: str) -> str:
    """Return the entry of a version in the changelog, or "" if there is no dated heading or no text below it."""
    text = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    heading = rf"^## \[{re.escape(released)}\] - \d{{4}}-\d\d-\d\d$"
    found = re.search(rf"{heading}\n(.*?)(?=^## |^\[[^]]+\]: |\Z)", text, re.MULTILINE | re.DOTALL)
    return found[1].strip() if found else ""


def objections(root: Path, tag: str | None) -> list[str]:
    """Return the reasons against a release, one line each. ``tag`` is the tag being released, if any."""
    released = version(root)
    wanted = f"v{released}"
    found = []
    if changed := _git(root, "status", "--porcelain"):
        found.append(f"uncommitted changes: {', '.join(line[3:] for line in changed.splitlines())}")
    if not notes(root, released):
        found.append(f'CHANGELOG.md: no entry "## [{released}] - YYYY-MM-DD" with text below it')
    if tag is None:
        if _git(root, "tag", "--list", wanted):
            found.append(f"tag {wanted} already exists")
    elif tag != wanted:
        found.append(f"expected tag {wanted}, got {tag}")
    elif _git(root, "rev-parse", "HEAD") != _git(root, "rev-parse", f"refs/tags/{tag}^{{commit}}"):
        found.append(f"tag {tag} points to another commit")
    repository = os.environ.get("GITHUB_REPOSITORY")
    pyproject = (root / "pyproject.toml").read_text(encoding="utf-8")
    if repository and f'\nRepository = "https://github.com/{repository}"\n' not in pyproject:
        found.append(f"pyproject.toml: `Repository` must be https://github.com/{repository}")
    return found


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"git {arguments[0]}: {done.stderr.strip()}")
    return done.stdout.rstrip()


def main(argv: list[str], root: Path = ROOT) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--tag", metavar="TAG", help="the tag that is being released")
    parser.add_argument("--notes", action="store_true", help="print the entry of the changelog instead of checking")
    given = parser.parse_args(argv)
    if given.notes:
        print(notes(root, version(root)))
        return 0
    found = objections(root, given.tag)
    for objection in found:
        print(f"release-check: {objection}", file=sys.stderr)
    if not found:
        print(f"{version(root)} can be released")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
