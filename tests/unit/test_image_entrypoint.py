"""The user that the program runs as in the container. scripts/image-test runs the image itself."""

import subprocess
import sys
from pathlib import Path

import pytest

from scripts import image_entrypoint

ROOT = Path(__file__).parents[2]
NO_PRIVILEGES = ["--clear-groups", "--inh-caps=-all", "--bounding-set=-all", "--no-new-privs", "--"]
PROGRAM = ["/opt/moq-token/bin/moq-token-cli", "--key", "root.jwk", "generate"]


@pytest.mark.parametrize(
    ("user", "owner", "directory", "become"),
    [
        (0, (1234, 2345), "/app", (1234, 2345)),
        (0, (0, 0), "/app", (0, 0)),
        (0, (1234, 0), "/srv/keys", (1234, 0)),
        (0, (0, 0), "/", (65532, 65532)),
    ],
)
def test_root_becomes_the_owner(user: int, owner: tuple[int, int], directory: str, become: tuple[int, int]) -> None:
    uid, gid = become
    words = image_entrypoint.command(PROGRAM[1:], user, owner, directory)
    assert words == ["/usr/bin/setpriv", f"--reuid={uid}", f"--regid={gid}", *NO_PRIVILEGES, *PROGRAM]


@pytest.mark.parametrize("owner", [(1234, 2345), (0, 0), (4321, 4321)])
def test_any_other_user_is_kept(owner: tuple[int, int]) -> None:
    assert image_entrypoint.command(PROGRAM[1:], 4321, owner, "/app") == PROGRAM


def test_arguments_are_passed_on_as_they_are() -> None:
    words = ["", "a b", "$(id)", "`id`", "--reuid=0", "--", "\n", "é"]
    assert image_entrypoint.command(words, 0, (1, 2), "/app")[-len(words) :] == words


def test_the_working_directory_has_no_influence(tmp_path: Path) -> None:
    for name in ("os", "sys", "site", "sitecustomize", "__future__"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit(99)\n", encoding="utf-8")
    words = [sys.executable, "-I", "-S", str(ROOT / "scripts" / "image_entrypoint.py")]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    # Outside the image the program is missing, but nothing of this directory ran.
    assert "No such file or directory" in done.stderr
    assert done.returncode not in {0, 99}


def test_the_image_starts_it() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    final = dockerfile[dockerfile.rindex("\nFROM ") :]
    assert 'ENTRYPOINT ["/opt/moq-token/bin/python", "-I", "-S", "/opt/moq-token/entrypoint.py"]' in final
    assert "\nUSER " not in final
    assert "COPY scripts/image_entrypoint.py /opt/moq-token/entrypoint.py" in final
