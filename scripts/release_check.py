"""Say whether the version that this tree holds may be released.

python -m scripts.release_check                 # before the tag is made
python -m scripts.release_check --tag v1.2.3    # while the tag is being released: it has to be this commit's
python -m scripts.release_check --notes         # print what the changelog says of the version
"""

import argparse
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def version(root: Path) -> str:
    """Return the version that ``src/moq_token/__init__.py`` says, the one place where it stands."""
    text = (root / "src/moq_token/__init__.py").read_text(encoding="utf-8")
    found = re.search(r'^__version__ = "(\d+\.\d+\.\d+)"$', text, re.MULTILINE)
    if found is None:
        raise SystemExit("src/moq_token/__init__.py: no __version__ of the form 1.2.3")
    return found[1]


def notes(root: Path, released: str) -> str:
    """Return what the changelog says of a version, or "" where it has no dated heading or nothing below it."""
    text = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    heading = rf"^## \[{re.escape(released)}\] - \d{{4}}-\d\d-\d\d$"
    found = re.search(rf"{heading}\n(.*?)(?=^## |^\[[^]]+\]: |\Z)", text, re.MULTILINE | re.DOTALL)
    return found[1].strip() if found else ""


def objections(root: Path, tag: str | None) -> list[str]:
    """Return what speaks against a release, each a line; ``tag`` is the tag that is being released already."""
    released = version(root)
    wanted = f"v{released}"
    found = []
    if changed := _git(root, "status", "--porcelain"):
        found.append(f"the tree is dirty: {', '.join(line[3:] for line in changed.splitlines())}")
    if not notes(root, released):
        found.append(f'CHANGELOG.md: no entry "## [{released}] - YYYY-MM-DD" with text below it')
    if tag is None:
        if _git(root, "tag", "--list", wanted):
            found.append(f"{wanted} is tagged already")
    elif tag != wanted:
        found.append(f"the tag is {tag}, and the version is {released}")
    elif _git(root, "rev-parse", "HEAD") != _git(root, "rev-parse", f"refs/tags/{tag}^{{commit}}"):
        found.append(f"{tag} is the tag of another commit")
    return found


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"git {arguments[0]}: {done.stderr.strip()}")
    return done.stdout.rstrip()


def main(argv: list[str], root: Path = ROOT) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--tag", metavar="TAG", help="the tag that is being released")
    parser.add_argument("--notes", action="store_true", help="print the changelog's entry instead of checking")
    given = parser.parse_args(argv)
    if given.notes:
        print(notes(root, version(root)))
        return 0
    found = objections(root, given.tag)
    for objection in found:
        print(f"release-check: {objection}", file=sys.stderr)
    if not found:
        print(f"{version(root)} may be released")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
