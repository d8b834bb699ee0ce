"""The state directory of an auth server: what it keeps, and that damage is an error and never an empty list."""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from moq_token import ConfigError, InvalidDenialError, files
from moq_token.server.denial import Denial
from moq_token.server.state import State

if TYPE_CHECKING:
    from pathlib import Path

UNTIL = 1_900_000_000
FIRST, SECOND = Denial(subject="first", until=UNTIL), Denial(token="0" * 32, until=UNTIL, reason="stolen")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Return a state directory with one denial, and with two a moment ago."""
    state = State(str(tmp_path / "state"))
    assert state.denials == ()
    state.save([FIRST])
    state.save([FIRST, SECOND])
    state.close()
    return tmp_path / "state"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_what_is_saved_is_there_after_a_restart(directory: Path) -> None:
    key = (directory / "digest.key").read_text()
    state = State(str(directory))
    assert state.denials == (FIRST, SECOND)
    assert state.digest_key.hex() == key.strip()
    state.save([])
    state.close()
    again = State(str(directory))
    assert (again.denials, again.digest_key) == ((), state.digest_key)
    again.close()
    assert mode(directory) == 0o700
    assert {mode(path) for path in directory.iterdir()} == {0o600}


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[]", b"null", b"\xff\xfe", b'{"version":1,"checksum":"","denials":[]}']
)
def test_damage_is_an_error_that_names_the_backup(directory: Path, content: bytes) -> None:
    (directory / "denials.json").write_bytes(content)
    with pytest.raises(ConfigError, match=r"`state`: denials\.json in '.*copy denials\.json\.bak over it"):
        State(str(directory))
    # The advice helps, and nothing stays locked.
    (directory / "denials.json").write_bytes((directory / "denials.json.bak").read_bytes())
    state = State(str(directory))
    assert state.denials == (FIRST,)
    state.close()


def test_every_cut_and_every_flipped_bit_is_noticed(directory: Path) -> None:
    path = directory / "denials.json"
    whole = path.read_bytes()
    for position in range(0, len(whole), 5):
        flipped = bytearray(whole)
        flipped[position] ^= 4
        for damaged in (whole[:position], bytes(flipped)):
            path.write_bytes(damaged)
            with pytest.raises(ConfigError, match=r"denials\.json\.bak"):
                State(str(directory))


def test_a_file_that_is_gone_is_damage_too(directory: Path) -> None:
    (directory / "denials.json").unlink()
    with pytest.raises(ConfigError, match=r"file not found.*denials\.json\.bak"):
        State(str(directory))
    (directory / "denials.json.bak").unlink()
    state = State(str(directory))
    assert state.denials == ()
    state.close()


def test_the_first_denials_have_a_backup_too(tmp_path: Path) -> None:
    state = State(str(tmp_path))
    state.save([FIRST])
    state.close()
    (tmp_path / "denials.json").unlink()
    with pytest.raises(ConfigError, match=r"file not found.*denials\.json\.bak"):
        State(str(tmp_path))
    (tmp_path / "denials.json").write_bytes((tmp_path / "denials.json.bak").read_bytes())
    state = State(str(tmp_path))
    assert state.denials == ()
    state.close()


def test_deep_nesting_is_damage_too(directory: Path) -> None:
    deep = "[" * 100_000 + "]" * 100_000
    checksum = hashlib.sha256(deep.encode()).hexdigest()
    (directory / "denials.json").write_text(f'{{"version":1,"checksum":"{checksum}","denials":{deep}}}')
    with pytest.raises(ConfigError, match=r"damaged.*denials\.json\.bak"):
        State(str(directory))
    with pytest.raises(InvalidDenialError):
        Denial.from_json(f'{{"subject":{deep},"until":4000000000}}')
    with pytest.raises(InvalidDenialError):
        Denial.from_json(b'{"subject":"\xff","until":4000000000}')


def test_without_its_key_a_denial_of_a_token_would_match_nothing(directory: Path) -> None:
    (directory / "digest.key").unlink()
    with pytest.raises(ConfigError, match=r"digest\.key in '.*': file not found"):
        State(str(directory))


@pytest.mark.parametrize("content", ["", "00" * 31, "zz" * 32])
def test_a_damaged_key_is_an_error_that_does_not_show_it(directory: Path, content: str) -> None:
    (directory / "digest.key").write_text(content)
    with pytest.raises(ConfigError, match="32 bytes in hexadecimal") as caught:
        State(str(directory))
    assert not content or content not in str(caught.value)


@pytest.mark.skipif(os.name != "posix", reason="modes of POSIX")
def test_other_users_must_not_have_access(directory: Path) -> None:
    (directory / "digest.key").chmod(0o640)
    with pytest.raises(ConfigError, match="chmod 600"):
        State(str(directory))
    directory.chmod(0o770)
    with pytest.raises(ConfigError, match="chmod 700"):
        State(str(directory))


def test_a_directory_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="expected a directory"):
        State(str(tmp_path / "file"))
    with pytest.raises(ConfigError, match="No such file or directory"):
        State(str(tmp_path / "missing" / "state"))


def test_two_processes_cannot_use_one_directory(directory: Path) -> None:
    program = (
        "import sys; from moq_token.server.state import State; State(sys.argv[1]); print('open', flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, directory], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "open\n"
        with pytest.raises(ConfigError, match="another auth server uses"):
            State(str(directory))
        other.kill()
    # The lock of a process that was killed is gone.
    State(str(directory)).close()


def test_a_write_that_fails_keeps_what_was_there(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = State(str(directory))

    def fail(path: str, data: bytes, *, private: bool) -> None:
        if path.endswith(".json"):
            raise OSError(28, "No space left on device", path)
        files.write(path, data, private=private)

    monkeypatch.setattr("moq_token.server.state.files", type("files", (), {"write": staticmethod(fail)}))
    with pytest.raises(OSError, match="No space"):
        state.save([])
    monkeypatch.undo()
    state.close()
    again = State(str(directory))
    assert again.denials == (FIRST, SECOND)
    again.close()
