"""Read the settings of ``serve``: from flags, the environment and the table ``[serve]`` of a TOML file."""

from __future__ import annotations

import difflib
import math
import re
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, TypeAlias

from moq_token.auth.tables import read_toml
from moq_token.errors import ConfigError, InvalidPatternError, shown, shown_path
from moq_token.pattern import Pattern
from moq_token.recognizer import what_is_key_or_token
from moq_token.server.caps import CapKind
from moq_token.server.humantime import parse_humantime
from moq_token.server.nudges import parse_relay
from moq_token.server.settings import Settings
from moq_token.server.spread import MAX_SPREAD

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Mapping

ENVIRONMENT: Final = "MOQ_TOKEN_SERVE_"
TABLE: Final = "serve"
CONFIG_VARIABLE: Final = "MOQ_TOKEN_SERVE_CONFIG"
"""Names the file, as ``--config`` does; only the command ``serve`` reads it."""

# What Kubernetes adds to the environment of every container for a Service that is named `moq-token-serve`.
_SERVICE_LINKS = re.compile(r"SERVICE_|PORT($|_)")
_COUNT_DIGITS = 9

Kind: TypeAlias = Literal["text", "patterns", "relays", "flag", "count", "duration", "fraction", "choice", "choices"]


class Setting(NamedTuple):
    """One setting: its kind, and the values that a choice has."""

    kind: Kind
    choices: tuple[str, ...] = ()


SETTINGS: Final[Mapping[str, Setting]] = {
    "listen": Setting("text"),
    "listen_public": Setting("flag"),
    "key": Setting("text"),
    "key_dir": Setting("text"),
    "public_publish": Setting("patterns"),
    "public_subscribe": Setting("patterns"),
    "mtls_publish": Setting("patterns"),
    "mtls_subscribe": Setting("patterns"),
    "tier": Setting("text"),
    "expires": Setting("duration"),
    "revalidate": Setting("duration"),
    "limit_token": Setting("count"),
    "limit_remote": Setting("count"),
    "limit_subject": Setting("count"),
    "kick_oldest": Setting("choices", tuple(CapKind)),
    "policy": Setting("text"),
    "contract": Setting("choice", ("post", "get", "both")),
    "publish_keys": Setting("flag"),
    "share_secrets": Setting("flag"),
    "lenient": Setting("flag"),
    "spread": Setting("fraction"),
    "tls_cert": Setting("text"),
    "tls_key": Setting("text"),
    "tls_client_ca": Setting("text"),
    "secret_file": Setting("text"),
    "admin": Setting("text"),
    "state": Setting("text"),
    "relay": Setting("relays"),
    "share": Setting("text"),
    "require_share": Setting("flag"),
    "share_secret_file": Setting("text"),
    "log": Setting("choice", ("text", "json")),
}


def read_settings(
    flags: Mapping[str, object] | None = None,
    *,
    config: str | os.PathLike[str] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Settings:
    """Read settings: ``flags`` (values by name) override ``environ``, which overrides the table ``[serve]`` of a file.

    A list of one place replaces that of another, and ``key`` and ``key_dir`` replace each other. Raises
    ``ConfigError`` for what cannot be read and for members that are unknown; ``OSError`` passes.
    """
    settings: dict[str, Any] = {}
    origins: dict[str, str] = {}
    warnings: list[str] = []
    levels: list[dict[str, tuple[Any, str]]] = []
    if config is not None:
        levels.append(dict(_from_file(config)))
    levels.append(dict(_from_environment(environ or {}, warnings)))
    levels.append({name: (value, f"--{name.replace('_', '-')}") for name, value in (flags or {}).items()})
    for level in levels:
        if "key" in level and "key_dir" in level:
            raise ConfigError(f"`{level['key'][1]}` and `{level['key_dir'][1]}` exclude each other: remove one of them")
        for name in level.keys() & {"key", "key_dir"}:
            other = "key_dir" if name == "key" else "key"
            settings.pop(other, None)
            origins.pop(other, None)
        for name, (value, label) in level.items():
            settings[name] = value
            origins[name] = label
    return Settings(**settings, origins=origins, warnings=tuple(warnings))


def parse(setting: Setting, text: str) -> Any:  # noqa: ANN401 - as its kind says
    """Read the text of one value, of several one by one. Raises ``ValueError`` with what is expected."""
    if what_is_key_or_token(text):
        raise ValueError("this looks like a key or a token, which no setting takes: give the file of a key with --key")
    if setting.choices:
        if text not in setting.choices:
            raise ValueError(f"expected {', '.join(setting.choices[:-1])} or {setting.choices[-1]}, got {shown(text)}")
        return text
    return _PARSERS[setting.kind](text)


def _text(text: str) -> str:
    if not text or "\0" in text:
        raise ValueError("must not be empty")
    return text


def _count(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= _COUNT_DIGITS):
        raise ValueError(f"expected a whole number of at most {_COUNT_DIGITS} digits")
    return int(text)


def _fraction(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not 0 <= value <= MAX_SPREAD:
        raise ValueError(f"expected a number from 0 to {MAX_SPREAD}")
    return value


def _pattern(text: str) -> str:
    try:
        Pattern(text)
    except InvalidPatternError as error:
        raise ValueError(str(error)) from None
    return text


def _relay(text: str) -> str:
    try:
        parse_relay(text)
    except ConfigError as error:
        raise ValueError(str(error)) from None
    return text


def _flag(text: str) -> bool:
    if text not in _FLAGS:
        raise ValueError(f"expected true or false, got {shown(text)}")
    return _FLAGS[text]


_FLAGS = {"true": True, "1": True, "false": False, "0": False}
_PARSERS: dict[str, Callable[[str], Any]] = {
    "text": _text,
    "patterns": _pattern,
    "relays": _relay,
    "flag": _flag,
    "count": _count,
    "duration": lambda text: math.ceil(parse_humantime(text)),
    "fraction": _fraction,
}


def _from_file(path: str | os.PathLike[str]) -> Iterator[tuple[str, tuple[Any, str]]]:
    table = read_toml(path).get(TABLE)
    if not isinstance(table, dict):
        raise ConfigError(f"{shown_path(path)} has no table [{TABLE}]: write the settings of the auth server there")
    for member, value in table.items():
        name = member.replace("-", "_")
        if name not in SETTINGS or (name != member and name in table):
            close = difflib.get_close_matches(name, SETTINGS, n=1)
            hint = f"did you mean `{close[0]}`?" if close else "`serve --help` lists the settings"
            raise ConfigError(f"`{TABLE}.{shown(member)[1:-1]}` is unknown: {hint}")
        label = f"{TABLE}.{name}"
        try:
            yield name, (_from_toml(SETTINGS[name], value), label)
        except ValueError as error:
            raise ConfigError(f"`{label}`: {error}") from None


def _from_toml(setting: Setting, value: object) -> Any:  # noqa: ANN401 - as its kind says
    match setting.kind, value:
        case "flag", bool():
            return value
        case ("count", int()) | ("fraction", int() | float()) if not isinstance(value, bool):
            return parse(setting, str(value))
        case "patterns" | "relays" | "choices", str():
            return (parse(setting, value),)
        case "patterns" | "relays" | "choices", list() if all(isinstance(each, str) for each in value):
            return tuple(parse(setting, each) for each in value)
        case "text" | "duration" | "choice", str():
            return parse(setting, value)
    raise ValueError(f"must be {_TOML_TYPES.get(setting.kind, 'a string')}")


_TOML_TYPES = {
    "flag": "true or false",
    "count": "a whole number",
    "duration": 'a string with a unit, such as "90s" or "1h"',
    "fraction": "a number",
    "patterns": "a string or a list of strings",
    "relays": "a string or a list of strings",
    "choices": "a string or a list of strings",
}


def _from_environment(environ: Mapping[str, str], warnings: list[str]) -> Iterator[tuple[str, tuple[Any, str]]]:
    for variable, text in environ.items():
        if not variable.startswith(ENVIRONMENT) or not text:
            continue
        name = variable.removeprefix(ENVIRONMENT)
        setting = SETTINGS.get(name.lower()) if name.isupper() else None
        if setting is None:
            if variable != CONFIG_VARIABLE and not _SERVICE_LINKS.match(name):
                close = difflib.get_close_matches(name.lower(), SETTINGS, n=1)
                hint = f": did you mean {ENVIRONMENT}{close[0].upper()}?" if close else ""
                warnings.append(f"{shown(variable)[1:-1]} is unknown and ignored{hint}")
            continue
        try:
            if setting.kind in {"patterns", "relays", "choices"}:
                value: Any = tuple(parse(setting, part.strip()) for part in text.split(","))
            else:
                value = parse(setting, text)
        except ValueError as error:
            raise ConfigError(f"`{variable}`: {error}") from None
        yield name.lower(), (value, variable)
