"""The search of the documentation site finds every message, reason, command, option and name, with its own code."""

from __future__ import annotations

import http.server
import importlib.util
import json
import re
import shutil
import subprocess
import threading
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, get_args

import pytest

import moq_token
from scripts import docs, docs_commands, docs_messages, docs_metrics
from tests.interop.peers import HERE, missing
from tests.interop.test_browser import PATIENCE, chromium
from tests.serving import in_thread

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SAMPLE = 30
ALSO_ANSWERED = {
    "there is no token": "reasons.html#token-expected",
    "the token grants nothing at the path": "how-tokens-work.html#what-a-token-grants-at-a-path",
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site, and not in the repository, where another test may build it at the same time."""
    if importlib.util.find_spec("zensical") is None:
        pytest.skip("needs zensical: `make docs` installs it and runs this")
    top = tmp_path_factory.mktemp("site")
    for name in ("src", "scripts"):
        (top / name).symlink_to(docs.ROOT / name, target_is_directory=True)
    for name in ("zensical.toml", "CHANGELOG.md"):
        shutil.copy(docs.ROOT / name, top)
    shutil.copytree(docs.DOCS, top / "docs")
    return docs.make(top)


def words(message: str) -> str:
    """Return what is always in a message."""
    return " ".join(re.sub(r"\S*…\S*", " ", message).split())


def questions() -> dict[str, tuple[str, ...]]:
    """Return what people search for, and the places of which one must be among the results."""
    found: dict[str, tuple[str, ...]] = {}
    for message, slug in docs_messages.entries():
        text = words(message.text)
        if len(re.findall(r"\b(?!must\b)[A-Za-z]{4,}", text)) < 2:
            continue  # `a path must be a str, not …` has too few words to search for
        found[text] = (*found.get(text, ()), f"messages.html#{slug}", ALSO_ANSWERED.get(text, f"messages.html#{slug}"))
    for reason in get_args(moq_token.Reason):
        found[reason] = (f"reasons.html#{reason}",)
    for name, command in docs_commands.commands():
        here = f"command-line.html#{name.replace(' ', '-')}"
        found[name] = (here,)
        for param in command.params:
            if not getattr(param, "hidden", False) and name != "auth serve":  # another name of `serve`
                found |= {f"moq-token-cli {name} {option}": (here,) for option in param.opts if option.startswith("--")}
    for name in moq_token.__all__:
        if name != "__version__":
            found[name] = ("reference/",)
    for family in docs_metrics.metrics():
        found[family.name] = ("metrics.html",)
    return found


def unanswered(expected: dict[str, tuple[str, ...]], found: dict[str, list[str]]) -> list[str]:
    """Return the questions without the right answer among the first ten, with what was found instead."""
    return [
        f"{asked}: {', '.join(got[:3]) or 'nothing'}"
        for asked, got in found.items()
        if not any(each.startswith(expected[asked]) for each in got)
    ]


def test_it_finds_the_words_of_everything(site: Path) -> None:
    node = shutil.which("node")
    if node is None:
        missing("node")
    expected = questions()
    asked = list(expected)
    done = subprocess.run(
        [node, HERE / "search.js", site], input=json.dumps(asked), capture_output=True, encoding="utf-8", check=False
    )
    assert done.returncode == 0, done.stderr
    assert unanswered(expected, dict(zip(asked, json.loads(done.stdout), strict=True))) == []


def test_the_page_of_messages_is_not_a_table_of_contents(site: Path) -> None:
    page = (site / "messages.html").read_text(encoding="utf-8")
    assert page.count('href="#m-') == 0 < page.count('id="m-')


class _Site(http.server.SimpleHTTPRequestHandler):
    """Serves the site, the page that uses its search, and the questions; takes the answers."""

    def __init__(self, *arguments: Any, world: dict[str, Any], directory: str) -> None:  # noqa: ANN401 - of the base
        self.world = world
        super().__init__(*arguments, directory=directory)

    def do_GET(self) -> None:
        match self.path:
            case "/search-page":
                self.answer((HERE / "search.html").read_bytes(), "text/html")
            case "/questions":
                self.answer(json.dumps(self.world["questions"]).encode(), "application/json")
            case _:
                super().do_GET()

    def do_POST(self) -> None:
        self.world["report"] = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.answer(b"", "text/plain")
        self.world["done"].set()

    def answer(self, body: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - of the base
        pass


@contextmanager
def served(site: Path, world: dict[str, Any]) -> Iterator[int]:
    handler = partial(_Site, world=world, directory=str(site))
    with in_thread(http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)) as server:
        yield server.server_port


def test_it_finds_them_in_a_browser(site: Path, tmp_path: Path) -> None:
    expected = questions()
    asked = list(expected)[:: len(expected) // SAMPLE]
    world: dict[str, Any] = {"questions": asked, "done": threading.Event()}
    with served(site, world) as port, (tmp_path / "log").open("w") as log:
        arguments = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
        arguments += [f"--user-data-dir={tmp_path / 'profile'}", f"http://127.0.0.1:{port}/search-page"]
        with subprocess.Popen([chromium(), *arguments], stdout=log, stderr=log) as process:
            try:
                assert world["done"].wait(PATIENCE), (tmp_path / "log").read_text()[-2000:]
            finally:
                process.terminate()
    report = world["report"]
    assert report.get("failure") is None, report
    found = {
        question: [re.sub(r"^https?://[^/]+/|\?h=[^#]*", "", link) for link in links]
        for question, links in report["found"].items()
    }
    assert len(found) >= SAMPLE
    assert unanswered(expected, found) == []
