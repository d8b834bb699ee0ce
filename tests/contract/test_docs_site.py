"""The documentation site: the code on its pages runs, and its generated parts are up to date."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args
from xml.etree import ElementTree as ET

import pytest

import moq_token
import moq_token.auth
import moq_token.contract
import moq_token.issuing
import moq_token.server
import moq_token.sources
from moq_token import jws, key, keyset, keytext, material, pattern, patterns, pem
from moq_token.auth import remembered
from moq_token.server import bounded, denials, http, sessions
from moq_token.server.metrics import Metrics
from moq_token.sources import memory, source, web
from scripts import check_links, docs, docs_commands, docs_messages, docs_metrics, pictures
from tests.contract.fences import blocks, run_document

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
GENERATED = docs.generated()
MODULES = ROOT / "tests" / "interop" / "node_modules"


def name_of(page: Path) -> str:
    return page.relative_to(DOCS).as_posix()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_runs_as_written(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run_document(page)


def test_the_web_backends_are_the_tested_files() -> None:
    page = (DOCS / "web-backends.md").read_text(encoding="utf-8")
    shown = {block.text for block in blocks(page) if block.language == "python"}
    files = {path.read_text(encoding="utf-8") for path in (ROOT / "examples" / "web").glob("*.py")}
    assert files
    assert files <= shown


@pytest.mark.skipif(not shutil.which("node") or not MODULES.is_dir(), reason="node or @moq/token is not there")
def test_the_typescript_runs(tmp_path: Path) -> None:
    text = (DOCS / "coming-from-typescript.md").read_text(encoding="utf-8")
    (program_text,) = (block.text for block in blocks(text) if block.language == "js")
    (tmp_path / "node_modules").symlink_to(MODULES, target_is_directory=True)
    (tmp_path / "page.mjs").write_text(program_text, encoding="utf-8")
    done = subprocess.run(["node", "page.mjs"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "rooms/123\n"), done.stderr


def test_every_make_target_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    lines = [
        line for page in PAGES for block in blocks(page.read_text(encoding="utf-8")) for line in block.text.split("\n")
    ]
    targets = {line.split()[1] for line in lines if line.startswith("make ")}
    assert targets
    assert [target for target in sorted(targets) if f"\n{target}:" not in makefile] == []


# -- generated parts


@pytest.mark.parametrize("path", GENERATED, ids=lambda path: path.name)
def test_generated_parts_are_current(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == GENERATED[path], "python -m scripts.docs write"


def test_every_command_and_option_is_there() -> None:
    page = (DOCS / "command-line.md").read_text(encoding="utf-8")
    sections = dict(re.findall(r"^###? ([a-z -]+)\n(.*?)(?=^###? |\Z)", page, re.DOTALL | re.MULTILINE))
    found = dict(docs_commands.commands())
    assert found.keys() == sections.keys()
    for name, command in found.items():
        if sections[name].strip() == "Another name of [`serve`](#serve).":
            assert command is found["serve"]
            continue
        options = {each for param in command.params if not getattr(param, "hidden", False) for each in param.opts}
        missing = [each for each in options if each.startswith("-") and f"`{each}`" not in sections[name]]
        assert missing == [], name


def test_every_setting_of_the_auth_server_is_explained() -> None:
    page = (DOCS / "auth-server.md").read_text(encoding="utf-8")
    (serve,) = (command for name, command in docs_commands.commands() if name == "serve")
    options = {each for param in serve.params if not getattr(param, "hidden", False) for each in param.opts}
    assert [each for each in sorted(options) if f"`{each}" not in page] == []


def test_every_file_of_deploy_is_on_the_page() -> None:
    page = (DOCS / "auth-server.md").read_text(encoding="utf-8")
    assert [path.name for path in (ROOT / "deploy").iterdir() if f"| `{path.name}` |" not in page] == []


def test_every_extra_is_on_the_home_page() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    page = (DOCS / "index.md").read_text(encoding="utf-8")
    assert [name for name in project["optional-dependencies"] if f"| `{name}` |" not in page] == []


def test_a_stale_part_is_noticed() -> None:
    page = (DOCS / "command-line.md").read_text(encoding="utf-8")
    stale = page.replace("Sign a token and print it.", "Sign.")
    assert stale != page
    assert docs.renewed(stale) == docs.renewed(page)
    assert docs.renewed("<!-- begin grants -->\nold\n<!-- end -->").count("\n| `") == len(docs.GRANTS)


@pytest.mark.parametrize(
    ("text", "markdown"),
    [
        ("With --publish or -, a *", "With `--publish` or -, a `*`"),
        ("cam*/hd or rooms/*/chat, `a`", "`cam*/hd` or `rooms/*/chat`, `a`"),
        ("DIR/{kid}.jwk; a|b [auth]", "`DIR/{kid}.jwk`; a\\|b `[auth]`"),
        ('"" for all <x> snake_case', '`""` for all &lt;x> snake\\_case'),
    ],
)
def test_help_texts_become_markdown(text: str, markdown: str) -> None:
    assert docs_commands.prose(text) == markdown


def test_long_examples_are_broken_before_options() -> None:
    line = "moq-token-cli sign --root 'a  b' --publish alice < in > out.jwt  # why"
    assert docs_commands.broken(line, 40) == (
        "# why\nmoq-token-cli sign --root 'a  b' \\\n  --publish alice < in > out.jwt"
    )
    assert docs_commands.broken(line, 80) == line


@pytest.mark.parametrize("name", pictures.FIGURES)
def test_pictures_load_nothing(name: str) -> None:
    text = (docs.ASSETS / name).read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
    picture = ET.fromstring(text.replace(' xmlns=""', ""))  # noqa: S314 - our own file
    assert (picture.tag, picture.get("role")) == ("svg", "img")
    assert len((picture.findtext("title") or "").split()) > 2, "a text for those who do not see it"
    assert not re.search(r"href|url\(|https?:|<image|<script", text)


@pytest.mark.parametrize("name", sorted(pictures.FIGURES.keys() - {"overview.svg"}))  # on GitHub and PyPI only
def test_pictures_fit_on_a_phone(name: str) -> None:
    text = (docs.ASSETS / name).read_text(encoding="utf-8")
    width = re.search(r'<svg [^>]*width="(\d+)"', text)
    assert width is not None
    assert int(width[1]) <= 358, "what a phone of 390 pixels has between its margins"


def test_the_figure_says_what_authorize_says() -> None:
    figure = (docs.ASSETS / "paths.svg").read_text(encoding="utf-8")
    lines = re.findall(r'class="small[^"]*"[^>]*>([^<]*)<', figure)
    assert " ".join(lines).startswith("publish rooms/123/alice subscribe rooms/123 publish 123/alice subscribe 123 ")
    assert lines[4:6] == ["publish alice", "subscribe “” (all)"]
    assert lines[-1] == "refused: root-mismatch"


# -- the reference


def test_every_public_name_is_in_the_reference() -> None:
    text = "".join(page.read_text(encoding="utf-8") for page in (DOCS / "reference").glob("*.md"))
    found = re.findall(r"^::: (\S+)$", text, re.MULTILINE)
    assert len(found) == len(set(found))
    wanted = {f"moq_token.{name}" for name in moq_token.__all__ if name != "__version__"}
    wanted |= {f"moq_token.auth.{name}" for name in moq_token.auth.__all__}
    wanted |= {f"moq_token.sources.{name}" for name in moq_token.sources.__all__}
    wanted |= {f"moq_token.contract.{name}" for name in moq_token.contract.__all__}
    wanted |= {f"moq_token.issuing.{name}" for name in moq_token.issuing.__all__}
    wanted |= {f"moq_token.server.{name}" for name in moq_token.server.__all__} - {
        f"moq_token.server.{name}" for name in moq_token.contract.__all__
    }
    assert set(found) == wanted | {"moq_token.integrations.moq", "moq_token.integrations.starlette.Tokens"}


def reasons() -> set[str]:
    """Find every reason code of the type, and check that the package uses it."""
    found: set[str] = set()
    for path in (ROOT / "src").rglob("*.py"):
        found |= set(re.findall(r"\breason(?:: Reason)? ?= ?\"([a-z-]+)\"", path.read_text(encoding="utf-8")))
    assert set(get_args(moq_token.Reason)) <= found
    return set(get_args(moq_token.Reason)) - {"refused"}


def test_every_reason_is_explained() -> None:
    page = (DOCS / "reasons.md").read_text(encoding="utf-8")
    assert len(reasons()) > 10
    assert set(re.findall(r"^### `([a-z-]+)`$", page, re.MULTILINE)) == reasons() | {"refused"}


LIMITS = {
    "token": f"{jws.MAX_TOKEN_BYTES >> 10} KiB",
    "key file, body of an HTTP answer, object": f"{min(keytext.MAX_KEY_BYTES, source.MAX_BODY_BYTES) >> 20} MiB",
    "key set": f"{keyset.MAX_KEYS:,} keys",
    "RSA key": f"2048 to {material.MAX_RSA_BITS} bits",
    "secret": f"32 to {material.MAX_SECRET_BYTES:,} bytes",
    "scope of a key": f"{key.MAX_SCOPE_PREFIXES:,} prefixes",
    "encrypted PEM": f"{pem.MAX_ITERATIONS:,} iterations; with scrypt, N · r · p up to {pem.MAX_SCRYPT_COST:,}",
    "`kid`": "128 characters",
    "one fetch": f"{source.TIMEOUT_SECONDS} s, three redirects within one origin",
    "requests for unknown keys": f"{web.UNKNOWN_BURST:.0f} at once, {web.UNKNOWN_PER_SECOND:.0f} a second",
    "cache of a source": f"{memory.MAX_ENTRIES:,} entries, {memory.MAX_BYTES >> 20} MiB",
    "remembered tokens": f"{remembered.REMEMBERED_TOKENS:,}",
    "patterns of a grant": f"{patterns.MAX_PATTERNS:,}; each of at most {pattern.MAX_SEGMENTS} segments and "
    f"{pattern.MAX_CHARACTERS:,} characters",
    "request to the auth server": f"{http.MAX_HEAD_BYTES >> 10} KiB of header, "
    f"{http.MAX_BODY_BYTES >> 10} KiB of body, {http.REQUEST_SECONDS:.0f} s; {http.MAX_CONNECTIONS:,} connections",
    "decision of a policy": f"{bounded.DECISION_SECONDS:.0f} s",
    "live sessions in the table of the auth server": f"{sessions.MAX_SESSIONS:,}",
    "bans": f"{denials.MAX_DENIALS:,}, of which {denials.MAX_PATHS:,} of paths",
}


def test_the_limits_are_those_of_the_code() -> None:
    page = (DOCS / "security.md").read_text(encoding="utf-8").partition("## Limits")[2].partition("\n## ")[0]
    assert dict(re.findall(r"^\| (?!input|---)(.*?) \| (.*?) \|$", page, re.MULTILINE)) == LIMITS


def test_every_event_of_the_log_is_explained() -> None:
    page = (DOCS / "auth-server.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`.*?) \|", page.partition("| `event` |")[2], re.MULTILINE)
    explained = {event for row in rows for event in re.findall(r"`([a-z-]+)`", row)}
    source = "".join(path.read_text("utf-8") for path in (ROOT / "src" / "moq_token" / "server").rglob("*.py"))
    events = set(re.findall(r'"event": "([a-z-]+)"|_tell\(asked, "([a-z-]+)"', source))
    assert {event for found in events for event in found if event} == explained


def test_every_metric_of_a_server_is_listed() -> None:
    metrics = Metrics()
    metrics.watch(tuple)
    text = metrics.render().decode()
    served = dict(re.findall(r"^# TYPE (\w+) (\w+)$", text, re.MULTILINE))
    listed = {family.name: family.kind for family in docs_metrics.metrics()}
    assert {name: kind for name, kind in served.items() if not name.endswith("_created")}.items() <= listed.items()


def test_messages_are_found_in_the_source() -> None:
    found = docs_messages.messages()
    headings = {each.heading for each in found}
    assert {"InvalidKeyError", "ConfigError", "UnavailableError", "Wrong usage of the command line"} <= headings
    assert {
        ("KeyOperationError", "a public key cannot sign: pass the private key", ""),
        ("NotAdmittedError", "the dialed URL has no host", "bad-url"),  # by the callers of a function
        (
            "RefusedError",
            "too many live sessions for this token",
            "token-limit",
        ),  # no exception there
        ("UnauthorizedError", "the path … does not overlap the root … of the token", "root-mismatch"),  # of a variable
        ("UnauthorizedError", "the token grants nothing at the path …", "no-access"),  # the code of the class
    } <= set(found)


# Output of programs is wrapped on the page, and generated pages show whole files.
@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md"], ids=lambda page: page.name)
def test_code_fits_on_the_page(page: Path) -> None:
    for block in blocks(page.read_text(encoding="utf-8")):
        wide = [line for line in block.text.splitlines() if len(line) > docs_commands.CODE_COLUMNS]
        assert block.language == "text" or wide == [], f"line {block.line}"


# -- the site


def configuration() -> dict[str, Any]:
    project: dict[str, Any] = tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))["project"]
    return project


def pages_of(nav: list[dict[str, Any]]) -> Iterator[str]:
    for entry in nav:
        for value in entry.values():
            if isinstance(value, str):
                yield value
            else:
                yield from pages_of(value)


def test_every_page_is_in_the_navigation() -> None:
    config = configuration()
    listed = list(pages_of(config["nav"]))
    assert sorted([*listed, config["exclude_docs"]]) == [name_of(page) for page in PAGES]


def test_nothing_is_fetched_from_elsewhere() -> None:
    assert configuration()["theme"]["font"] is False


SITE = {
    "index.html": '<a href="sub/page.html#place">x</a><img src="a.svg"><a href="https://elsewhere.example/">y</a>',
    "sub/page.html": '<h2 id="place">z</h2><a href="../index.html">x</a><code>[a][b]</code>',
    "a.svg": "<svg/>",
}


def site(tmp_path: Path, **changed: str) -> list[str]:
    for name, text in (SITE | {name.replace("__", "/") + ".html": text for name, text in changed.items()}).items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    return check_links.problems(tmp_path)


def test_a_good_site_has_no_problems(tmp_path: Path) -> None:
    assert site(tmp_path) == []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('<a href="nowhere.html">x</a>', "nowhere.html leads nowhere"),
        ('<a href="page.html#other">x</a>', "no such place"),
        ('<a href="../../outside.html">x</a>', "leads nowhere"),
        ('<img src="missing.png">', "leads nowhere"),
        ('<script src="https://elsewhere.example/x.js"></script>', "loads https://elsewhere.example/x.js"),
        ('<link rel="stylesheet" href="https://elsewhere.example/x.css">', "loads"),
        ("<p>see [`Key`][moq_token.Kee]</p>", "not resolved"),
    ],
)
def test_a_bad_link_is_noticed(text: str, problem: str, tmp_path: Path) -> None:
    (found,) = site(tmp_path, sub__other=text)
    assert found.startswith(str(Path("sub/other.html")))
    assert problem in found


def test_a_site_without_pages_is_none(tmp_path: Path) -> None:
    assert len(check_links.problems(tmp_path)) == 1


def test_the_link_check_fails_by_its_exit_status(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "scripts" / "check_links.py"), str(tmp_path)]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 1
    assert site(tmp_path) == []
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
