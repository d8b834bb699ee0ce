"""The code blocks of the documents run."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.contract.fences import run_document

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", ["README.md"])
def test_runs_as_written(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert {"python", "console"} <= run_document(ROOT / name)


def test_every_make_target_in_the_documents_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for name in ("README.md", "CONTRIBUTING.md"):
        text = (ROOT / name).read_text(encoding="utf-8")
        targets = set(re.findall(r"(?:^|`)(?:\$ )?make ([a-z-]+)", text, re.MULTILINE))
        assert targets, name
        for target in targets:
            assert f"\n{target}:" in makefile, f"{name}: make {target}"


DOCUMENT = """\
Text.

```python
answer = 42
```

1. A list:

   ```sh
   echo word > file
   ```

```python
import re
import tomllib
from pathlib import Path
from typing import Any

assert Path("file").read_text() == "word\\n"
assert answer == {answer}
```
"""


def test_blocks_continue_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "page.md").write_text(DOCUMENT.replace("{answer}", "42"), encoding="utf-8")
    assert run_document(tmp_path / "page.md") == {"python", "sh"}


@pytest.mark.parametrize(
    "document",
    [
        DOCUMENT.replace("{answer}", "43"),
        "```sh\nfalse | true\n```\n",
        "```sh\ntrue  # exits with 1\n```\n",
        "```json\n{\n```\n",
        "```toml\n[\n```\n",
        "```\ntext\n```\n",
        "```pyhton\nx = 1\n```\n",
    ],
)
def test_a_block_that_fails_is_noticed(document: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "page.md").write_text(document, encoding="utf-8")
    with pytest.raises((AssertionError, ValueError)):
        run_document(tmp_path / "page.md")


PRINTED = """\
<!-- begin source examples/hello.py -->
```python
print("hello from", "4f0a1b2c3d4e5f60")
```
<!-- end -->

```console
pip install "moq-token[server]"
python hello.py
moq-relay --auth-url http://127.0.0.1:4440/
moq-token-cli generate \\
  --out key.jwk
moq-token-cli serve --key key.jwk --expires 1h
```

<!-- output -->
```text
hello from 0000000000000000
tokens …
relay 0.14 …
```

<!-- not run -->
```text
17 4 * * *
```

<!-- begin commands -->
```text
Usage
```
<!-- end -->
"""


def test_commands_print_what_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "page.md").write_text(PRINTED, encoding="utf-8")
    assert run_document(tmp_path / "page.md") == {"python", "console", "text"}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("hello from 0", "hello to 0"),
        ("tokens …\n", ""),
        ("python hello.py", "python goodbye.py"),
        ("--expires 1h", "--expire 1h"),
        ("<!-- output -->\n", ""),
        ("<!-- not run -->\n", ""),
    ],
)
def test_output_that_differs_is_noticed(old: str, new: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert old in PRINTED
    (tmp_path / "page.md").write_text(PRINTED.replace(old, new), encoding="utf-8")
    with pytest.raises(AssertionError):
        run_document(tmp_path / "page.md")


def test_every_extra_that_is_installed_exists() -> None:
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        named = re.findall(r"moq-token\[([a-z,]+)\]", page.read_text(encoding="utf-8"))
        assert {each for extras in named for each in extras.split(",")} <= set(project()["optional-dependencies"]), page


def test_links_of_the_readme_work_where_it_is_copied_to() -> None:
    """PyPI also shows the README, and relative links do not work there."""
    repository = project()["urls"]["Repository"]
    targets = re.findall(r"\]\(([^)]+)\)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert targets
    for target in targets:
        assert target.startswith("https://"), target
        if target.startswith("https://github.com/"):
            path = target.removeprefix(f"{repository}/blob/main/")
            assert (ROOT / path).exists(), target
        if target.startswith("https://raw.githubusercontent.com/"):
            assert (ROOT / target.partition("/main/")[2]).is_file(), target


def test_the_extra_all_has_every_extra() -> None:
    extras = project()["optional-dependencies"]
    assert extras["all"] == [f"moq-token[{','.join(sorted(set(extras) - {'all'}))}]"]


def test_tests_of_cryptography_run_with_and_without_fast() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    found = re.search(r"^FAST_MATTERS := .*,([a-z ]+)\)$", makefile, re.MULTILINE)
    assert found is not None
    named = set(found[1].split())
    files = {path.stem.removeprefix("test_"): path for path in (ROOT / "tests" / "unit").glob("test_*.py")}
    importing = re.compile(r"^from moq_token(?: import .*|\.)\b(?:material|primitives)\b", re.MULTILINE)
    touching = {name for name, path in files.items() if importing.search(path.read_text(encoding="utf-8"))}
    assert touching <= named <= set(files)


def project() -> dict[str, Any]:
    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return project
