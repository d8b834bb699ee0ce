"""Check and convert what callers pass to the configuration, attribute by attribute of a frozen dataclass."""

from __future__ import annotations

import os

from moq_token.errors import ConfigError
from moq_token.recognizer import secret_in_place_of_path


def set_path(config: object, name: str) -> None:
    """Turn a path, where there is one, into text. Raise ``ConfigError`` for a key in its place."""
    value = getattr(config, name)
    if value is None:
        return
    try:
        text = os.fspath(value)
    except TypeError:
        text = None
    if not isinstance(text, str):
        raise TypeError(f"{name} must be a str, a Path or None, not {type(value).__name__}")
    _check_place(text, name)
    object.__setattr__(config, name, text)


def set_texts(config: object, *names: str, paths: bool = False) -> None:
    """Turn a text, or an iterable of them, into a tuple."""
    for name in names:
        value = getattr(config, name)
        try:
            values = (value,) if isinstance(value, str | os.PathLike) else tuple(value)
            texts = tuple(os.fspath(text) if paths else text for text in values)
        except TypeError:
            texts = (None,)
        if isinstance(value, bytes) or not all(isinstance(text, str) for text in texts):
            raise TypeError(f"{name} must be a str or an iterable of str, not {type(value).__name__}")
        for text in texts if paths and name != "fingerprints" else ():
            _check_place(str(text), name)
        object.__setattr__(config, name, texts)


def _check_place(text: str, name: str) -> None:
    """Raise ``ConfigError`` for a key in place of a path or URL. The message does not repeat it."""
    what = None if "://" in text[:16] else secret_in_place_of_path(text)
    if what is not None:
        raise ConfigError(f"`{name}`: expected a path or URL, but this looks like {what}")


def check_kind(config: object, name: str, kind: type) -> None:
    """Raise ``TypeError`` unless an attribute is of that class."""
    value = getattr(config, name)
    if not isinstance(value, kind):
        raise TypeError(f"{name} must be {kind.__name__}, not {type(value).__name__}")


def check_text(config: object, *names: str) -> None:
    """Raise ``TypeError`` unless each attribute is text or None."""
    for name in names:
        value = getattr(config, name)
        if value is not None and not isinstance(value, str):
            raise TypeError(f"{name} must be a str or None, not {type(value).__name__}")
