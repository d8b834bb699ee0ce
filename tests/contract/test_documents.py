"""What the documents tell people to run does run."""

from pathlib import Path

import pytest

from tests.contract.fences import blocks, run_document

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", ["README.md"])
def test_runs_as_written(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert {"python", "sh"} <= run_document(ROOT / name)


def test_every_make_target_in_the_documents_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for name in ("README.md", "CONTRIBUTING.md"):
        text = (ROOT / name).read_text(encoding="utf-8")
        lines = [line.removeprefix("$ ").split() for block in blocks(text) for line in block.text.splitlines()]
        targets = {words[1] for words in lines if words[:1] == ["make"]}
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
from pathlib import Path

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
