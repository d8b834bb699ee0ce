"""The release: the distributions and the files in them, the workflows, and the checks before a release."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

from moq_token import __version__
from moq_token.cli.program import program
from scripts import man, release_check

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
WHEEL = f"moq_token-{__version__}"


# The distributions


def build(tree: Path, target: str, out: Path, **environment: str) -> Path:
    command = [sys.executable, "-m", "hatchling", "build", "--target", target, "--directory", str(out)]
    subprocess.run(command, cwd=tree, env=os.environ | environment, capture_output=True, text=True, check=True)
    (made,) = out.iterdir()
    return made


def copy(tree: Path, *, mode: int, seconds: int) -> Path:
    """Copy the sources of the wheel with other modes, times and order, as another machine might have them."""
    tree.mkdir()
    names = ["share", "src", "pyproject.toml", "README.md", "LICENSE-MIT", "LICENSE-APACHE", ".gitignore"]
    for name in names if mode == 0o600 else reversed(names):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, tree / name)
    for path in tree.rglob("*"):
        if path.is_file():
            path.chmod(mode)
        os.utime(path, (seconds, seconds))
    return tree


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("wheel")
    return build(copy(directory / "tree", mode=0o644, seconds=1_600_000_000), "wheel", directory / "dist", TZ="UTC")


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(ROOT, "sdist", tmp_path_factory.mktemp("sdist"))


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    files = {path.relative_to(ROOT / "src").as_posix() for path in (ROOT / "src/moq_token").rglob("*.py")}
    files |= {"moq_token/py.typed", "moq_token/server/page.html", "moq_token/server/share/script.lua"}
    files |= {"moq_token_cli.py"}
    files |= {f"{WHEEL}.data/data/share/{name}" for name in man.files()}
    info = ["METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE-MIT", "licenses/LICENSE-APACHE"]
    files |= {f"{WHEEL}.dist-info/{name}" for name in info}
    with zipfile.ZipFile(wheel) as archive:
        assert set(archive.namelist()) == files
        assert wheel.name == f"{WHEEL}-py3-none-any.whl"
        assert f"\nVersion: {__version__}\n" in archive.read(f"{WHEEL}.dist-info/METADATA").decode()


def test_two_builds_of_the_wheel_are_the_same_bytes(wheel: Path, tmp_path: Path) -> None:
    tree = copy(tmp_path / "elsewhere", mode=0o600, seconds=1_700_000_000)
    again = build(tree, "wheel", tmp_path / "dist", TZ="Asia/Tokyo", PYTHONHASHSEED="1", LC_ALL="C")
    assert again.name == wheel.name
    assert again.read_bytes() == wheel.read_bytes()


def test_the_sdist_holds_all_that_the_wheel_is_made_of_and_the_tests(sdist: Path, wheel: Path, tmp_path: Path) -> None:
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    tree = tmp_path / WHEEL
    assert build(tree, "wheel", tmp_path / "dist").read_bytes() == wheel.read_bytes()
    names = {path.relative_to(tree).as_posix() for path in tree.rglob("*") if path.is_file()}
    assert {f"share/{name}" for name in man.files()} <= names
    assert {"CHANGELOG.md", "Makefile", "requirements/base.txt", "tests/contract/test_release.py"} <= names
    made = re.compile(r"(^|/)(\.git|\.venv|build|dist|node_modules|__pycache__|\.[a-z_]+_cache)/|\.(jwk|jwt)$")
    vectors = re.compile(r"^(tests|benchmarks)/")
    assert [name for name in names if made.search(name) and not vectors.match(name)] == []


# The manual page and the completions


def test_share_is_what_the_program_says() -> None:
    there = {
        path.relative_to(man.SHARE).as_posix(): path.read_text(encoding="utf-8")
        for path in man.SHARE.rglob("*")
        if path.is_file()
    }
    assert there == man.files(), "make man renews it"


def test_the_page_names_every_command_and_option() -> None:
    page = man.page()
    assert f'"moq-token {__version__}"' in page
    for name, command in man.commands(program):
        section = page.partition(f'.SS "{man.escaped(name)}"\n')[2].partition("\n.S")[0]
        assert section, name
        for parameter in command.params:
            if not getattr(parameter, "hidden", False) and parameter.opts[0].startswith("--"):
                assert man.escaped(parameter.opts[0]) in section, (name, parameter.opts)


def test_no_line_of_the_page_is_a_request_by_accident() -> None:
    requests = {line.split()[0] for line in man.page().splitlines() if line.startswith((".", "'"))}
    assert requests == {".TH", ".SH", ".SS", ".PP", ".TP", ".RS", ".RE", ".nf", ".fi"}
    assert man.escaped("a\\b-c") == "a\\eb\\-c"
    assert man.line(".dot") == "\\&.dot"


@pytest.mark.skipif(shutil.which("bash") is None or sys.platform == "win32", reason="bash reads it")
def test_the_completion_of_bash_is_bash() -> None:
    script = man.SHARE / "bash-completion/completions/moq-token-cli"
    done = subprocess.run(
        ["bash", "-c", f'source "{script}" && complete -p moq-token-cli'], capture_output=True, text=True, check=True
    )
    assert "-F" in done.stdout


# The workflows


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned_and_permissions_are_few(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    uses = re.findall(r"^ *(?:- )?uses: (.*)$", text, re.MULTILINE)
    assert uses
    assert [line for line in uses if not re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line)] == []
    assert "\npermissions: {}\n" in text
    jobs = re.findall(r"^  [\w-]+:\n    (?:.*\n(?!  \w))*", text.partition("\njobs:\n")[2], re.MULTILINE)
    assert jobs
    assert [job.partition(":")[0].strip() for job in jobs if "\n    permissions:\n" not in job] == []
    assert text.count("uses: actions/checkout@") == text.count("persist-credentials: false")
    assert "pull_request_target" not in text


def test_one_action_has_one_version_everywhere() -> None:
    versions: dict[str, set[str]] = {}
    for path in WORKFLOWS:
        for name, pin in re.findall(r"uses: ([\w/-]+)@(.*)$", path.read_text(encoding="utf-8"), re.MULTILINE):
            versions.setdefault(name, set()).add(pin)
    assert {name: pins for name, pins in versions.items() if len(pins) > 1} == {}


def test_the_workflows_run_make_targets_that_there_are() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for path in WORKFLOWS:
        for words in re.findall(r"run: (?:.* )?make (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE):
            for target in words.split():
                assert "=" in target or f"\n{target}:" in makefile, f"{path.name}: make {target}"


def test_the_way_to_a_release_runs_make_targets_that_there_are() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    text = (ROOT / "RELEASING.md").read_text(encoding="utf-8")
    commands = re.findall(r"(?:^ *|`|sudo )make ([a-z -]+)(?:$|`)", text, re.MULTILINE)
    targets = {target for command in commands for target in command.split()}
    assert {"man", "check", "release-check", "image-test"} <= targets
    assert [target for target in targets if f"\n{target}:" not in makefile] == []


def test_every_python_that_is_promised_is_tried() -> None:
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    prefix = "Programming Language :: Python :: 3."
    promised = [name.rpartition(" ")[2] for name in pyproject["project"]["classifiers"] if name.startswith(prefix)]
    matrix = re.findall(r"python: \[(.*)\]", (ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))
    assert [re.findall(r'"(.*?)"', line) for line in matrix] == [promised, promised]


# When to release


CHANGELOG = """\
# Changelog

## [Unreleased]

## [1.2.3] - 2026-01-31

### Added

- Something.

## [1.2.2] - 2026-01-01
"""


def git(tree: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=Somebody", "-c", "user.email=somebody@example.com", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", *identity, *arguments], cwd=tree, capture_output=True, text=True, check=True)
    return done.stdout


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("GITHUB_REPOSITORY", raising=False)
    package = tmp_path / "src/moq_token"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text('__version__ = "1.2.3"\n')
    (tmp_path / "CHANGELOG.md").write_text(CHANGELOG)
    (tmp_path / "pyproject.toml").write_text('[project.urls]\nRepository = "https://github.com/a/b"\n')
    git(tmp_path, "init", "--quiet")
    commit(tmp_path)
    return tmp_path


def commit(tree: Path) -> None:
    git(tree, "add", "--all")
    git(tree, "commit", "--quiet", "--allow-empty", "--message", "A change")


def check(tree: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    status = release_check.main(list(arguments), tree)
    out, err = capsys.readouterr()
    return status, out + err


def test_a_clean_tree_with_a_new_version_may_be_released(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    git(tree, "tag", "v1.2.2")
    assert check(tree, capsys) == (0, "1.2.3 can be released\n")


@pytest.mark.parametrize("name", ["CHANGELOG.md", "new.txt"])
def test_a_dirty_tree_may_not(tree: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with (tree / name).open("a") as file:
        file.write("more\n")
    assert check(tree, capsys) == (1, f"release-check: uncommitted changes: {name}\n")


@pytest.mark.parametrize(
    "entry",
    [
        "",
        "## [1.2.3]\n\n- No date.\n",
        "## [1.2.3] - 2026-01-31\n\n## [1.2.2] - 2026-01-01\n\n- Nothing in it.\n",
        "## [11.2.3] - 2026-01-31\n\n- Another.\n",
        "## [1x2.3] - 2026-01-31\n\n- Another.\n",
    ],
)
def test_without_an_entry_in_the_changelog_it_may_not(
    tree: Path, entry: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tree / "CHANGELOG.md").write_text(f"# Changelog\n\n{entry}")
    commit(tree)
    said = 'release-check: CHANGELOG.md: no entry "## [1.2.3] - YYYY-MM-DD" with text below it\n'
    assert check(tree, capsys) == (1, said)


def test_a_version_that_is_tagged_may_not(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    git(tree, "tag", "v1.2.3")
    assert check(tree, capsys) == (1, "release-check: tag v1.2.3 already exists\n")


def test_while_a_tag_is_released_it_has_to_be_that_of_the_version_and_commit(
    tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    git(tree, "tag", "--annotate", "--message", "v1.2.3", "v1.2.3")
    assert check(tree, capsys, "--tag", "v1.2.3")[0] == 0
    assert check(tree, capsys, "--tag", "v1.2.4") == (
        1,
        "release-check: expected tag v1.2.3, got v1.2.4\n",
    )
    commit(tree)
    assert check(tree, capsys, "--tag", "v1.2.3") == (1, "release-check: tag v1.2.3 points to another commit\n")


def test_the_published_address_is_that_of_the_repository(
    tree: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GITHUB_REPOSITORY", "a/b")
    assert check(tree, capsys)[0] == 0
    monkeypatch.setenv("GITHUB_REPOSITORY", "a/bb")
    said = "release-check: pyproject.toml: `Repository` must be https://github.com/a/bb\n"
    assert check(tree, capsys) == (1, said)


def test_the_notes_are_the_entry(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(tree, capsys, "--notes") == (0, "### Added\n\n- Something.\n")


def test_the_version_is_where_it_is_looked_for() -> None:
    assert release_check.version(ROOT) == __version__
