"""Read TOML and its tables, within bounds, with errors that name members and never quote the file."""

from __future__ import annotations

import os
import re
import tomllib
from typing import TYPE_CHECKING, Any, TypeAlias

from moq_token import files
from moq_token.errors import ConfigError, InvalidKeyError, shown_path

if TYPE_CHECKING:
    from collections.abc import Mapping

Table: TypeAlias = dict[str, Any]

MAX_TOML_BYTES = 256 * 1024
# Deeper keys, such as a.b.c.d, cost the reader memory that grows with the square of their depth.
MAX_TOML_DEPTH = 32
# Strings and comments of TOML: outside of them there are only keys and numbers.
_TOML_TEXT = re.compile(
    r'''"""(?:[^"\\]|\\.|"(?!""))*"""+|'{3}(?:[^']|'(?!''))*'{3}'*|"(?:[^"\\\n]|\\.)*"|'[^'\n]*'|\#[^\n]*''', re.DOTALL
)


def read_toml(path: str | os.PathLike[str]) -> Table:
    """Read a TOML file. Raises ``ConfigError`` for invalid TOML and more than 256 KiB; ``OSError`` passes."""
    try:
        data = files.read(os.fspath(path))
    except InvalidKeyError as error:  # a directory, no name of a file, or more than 1 MiB
        raise ConfigError(str(error)) from None
    return _parsed(data, shown_path(path))


def _parsed(data: bytes, name: str) -> Table:
    """Parse TOML within bounds. The message never quotes the file, because a line may hold a secret."""
    if len(data) > MAX_TOML_BYTES:
        raise ConfigError(f"{name} is larger than {MAX_TOML_BYTES} bytes: a configuration must be smaller")
    try:
        text = data.decode("utf-8-sig")
        if any(line.count(".") > MAX_TOML_DEPTH for line in _TOML_TEXT.sub("", text).splitlines()):
            raise ConfigError(f"{name} has a key of more than {MAX_TOML_DEPTH} parts")
        return tomllib.loads(text)
    except UnicodeDecodeError:
        raise ConfigError(f"{name} is not valid TOML: it must be UTF-8 text") from None
    except ValueError as error:
        place = f" ({str(error).rpartition('(')[2]}" if str(error).endswith(")") else ""
        raise ConfigError(f"{name} is not valid TOML{place}") from None
    except RecursionError:
        raise ConfigError(f"{name} is nested too deeply") from None


def table(document: Mapping[str, Any], name: str, prefix: str = "") -> Table:
    """Return a copy of a table of a document, empty if there is none. Raises ``ConfigError``."""
    table = document.get(name, {})
    if not isinstance(table, dict):
        raise ConfigError(f"`{prefix}{name}` must be a table")
    return dict(table)


def text(table: Table, prefix: str, name: str) -> str | None:
    """Return a member that is a string, None if it is missing. Raises ``ConfigError``."""
    value = table.get(name)
    if value is not None and not isinstance(value, str):
        raise ConfigError(f"`{prefix}{name}` must be a string")
    return value


def texts(table: Table, prefix: str, name: str) -> tuple[str, ...]:
    """Return a member that is a string or a list of them, empty if it is missing. Raises ``ConfigError``."""
    value = table.get(name, ())
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list | tuple) or not all(isinstance(text, str) for text in values):
        raise ConfigError(f"`{prefix}{name}` must be a string or a list of strings")
    return tuple(values)


def flag(table: Table, prefix: str, name: str) -> bool | None:
    """Return a member that is true or false, None if it is missing. Raises ``ConfigError``."""
    value = table.get(name)
    if value is not None and not isinstance(value, bool):
        raise ConfigError(f"`{prefix}{name}` must be true or false")
    return value
