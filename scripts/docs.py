"""Generate parts of the documentation from the program, build the site, and check it.

    python -m scripts.docs write   # update the generated parts of docs/
    python -m scripts.docs build   # build the site into build/docs, warnings are errors

A generated part stands between ``<!-- begin NAME -->`` and ``<!-- end -->`` of a page; a test compares it.
"""

import re
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterable
from pathlib import Path

from moq_token import Claims, UnauthorizedError
from scripts import check_links, docs_commands, docs_messages, docs_metrics, pictures
from scripts.pictures import terminal

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
ASSETS = DOCS / "assets"
PART = re.compile(
    r"^(?P<indent> *)(?P<begin><!-- begin (?P<what>\w+) ?(?P<of>[^>]*?) -->\n).*?^ *(?P<end><!-- end -->)",
    re.DOTALL | re.MULTILINE,
)
# Pages that are opened from a disk load this script from a third party. Ours is in docs/assets/offline.js.
SHIM = re.compile(r'<script src="https://unpkg\.com/iframe-worker/shim"[^>]*></script>')
# Each error message is a section, so that the search leads to it. A table of contents and links to hundreds of sections
# that are all named "Message" help nobody, and were most of the page.
OF_MESSAGES = re.compile(
    r'<li class="md-nav__item">\s*<a href="#m-.*?</li>\s*|<a class="headerlink" href="#m-.*?</a>', re.DOTALL
)
# What the generator and its plugins print without a problem. Anything else is a warning.
QUIET = re.compile(r"(Build started|No issues found|Build finished.*|\s*)")

GRANTS: list[tuple[Claims, str]] = [
    (Claims("rooms/123", "alice", ""), "/rooms/123"),
    (Claims("rooms/123", "alice", ""), "/rooms/123/alice"),
    (Claims("rooms/123", "alice", ""), "/rooms/123/bob"),
    (Claims("rooms/123", "alice", ""), "/"),
    (Claims("rooms/123", "alice", ""), "/rooms/1234"),
    (Claims("rooms/123", "alice"), "/rooms/123/bob"),
    (Claims("rooms/123", ["alice/camera", "alice/screen"]), "/rooms/123/alice"),
    (Claims("", (), ["news", "sport/live"]), "/sport"),
    (Claims("demo", "", ""), "/demolition"),
]


def grants_table(_: str) -> str:
    """Return the table of permissions, each row computed by ``Claims.authorize()``."""
    rows = ["| token | dialed path | the client may |", "| --- | --- | --- |"]
    for claims, path in GRANTS:
        token = f"{_code([claims.root])}: publish {_code(claims.publish)}, subscribe {_code(claims.subscribe)}"
        try:
            permissions = claims.authorize(path)
            answer = f"publish {_allowed(permissions.publish)}, subscribe to {_allowed(permissions.subscribe)}"
        except UnauthorizedError as error:
            answer = f"refused: `{error.reason}`"
        rows.append(f"| {token} | {_code([path])} | {answer} |")
    return "\n".join(rows) + "\n"


def _code(paths: Iterable[object]) -> str:
    return ", ".join(f"`{path}`" if path else '`""`' for path in paths) or "none"


def _allowed(prefixes: tuple[object, ...]) -> str:
    return "nothing" if not prefixes else ", ".join(f"`{prefix}`" if prefix else "everything" for prefix in prefixes)


def source(path: str) -> str:
    """Return a file of the repository as a block of Python."""
    return f"```python\n{(ROOT / path).read_text(encoding='utf-8').strip()}\n```\n"


PARTS: dict[str, Callable[[str], str]] = {
    "commands": lambda _: docs_commands.reference(),
    "grants": grants_table,
    "explain": terminal.explained_block,
    "messages": docs_messages.messages_page,
    "screen": terminal.screen,
    "metrics": docs_metrics.metrics_table,
    "source": source,
}


def renewed(text: str) -> str:
    """Return the text of a page with its generated parts as they should be."""
    return PART.sub(
        lambda part: textwrap.indent(f"{part['begin']}{PARTS[part['what']](part['of'])}{part['end']}", part["indent"]),
        text,
    )


def generated() -> dict[Path, str]:
    """Return every file that has generated parts, as it should be."""
    pages = {path: path.read_text(encoding="utf-8") for path in sorted(DOCS.rglob("*.md"))}
    files = {path: renewed(text) for path, text in pages.items() if PART.search(text)}
    return files | {ASSETS / name: figure() for name, figure in pictures.FIGURES.items()}


def write() -> None:
    for path, text in generated().items():
        path.write_text(text, encoding="utf-8")


def make(top: Path) -> Path:
    """Build the site of a directory that has the configuration and the pages, and return where it is."""
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--clean"]
    done = subprocess.run(command, cwd=top, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    # The plugins only log their warnings, in strict mode too.
    disliked = [line for line in done.stdout.splitlines() if not QUIET.fullmatch(line)]
    if done.returncode or disliked:
        sys.exit("\n".join(disliked) or f"zensical failed with {done.returncode}")
    site = top / "build" / "docs"
    for page in site.rglob("*.html"):
        # The 404 page is shown at any address, so it needs the absolute one.
        up = "/" if page.name == "404.html" else "../" * (len(page.relative_to(site).parts) - 1)
        text, count = SHIM.subn(f'<script src="{up}assets/offline.js"></script>', page.read_text("utf-8"))
        if not count:
            sys.exit(f"{page.name}: there is no shim to replace")
        page.write_text(OF_MESSAGES.sub("", text), encoding="utf-8")
    return site


def build() -> None:
    stale = [
        path for path, text in generated().items() if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    if stale:
        names = ", ".join(str(path.relative_to(ROOT)) for path in stale)
        sys.exit(f"not up to date, run `python -m scripts.docs write`: {names}")
    check_links.main(str(make(ROOT)))


if __name__ == "__main__":
    {"write": write, "build": build}[sys.argv[1]]()
