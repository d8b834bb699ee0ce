"""Load a custom policy: ``--policy module:function``."""

from __future__ import annotations

import importlib
import inspect
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moq_token.errors import ConfigError, shown, shown_path

if TYPE_CHECKING:
    from moq_token.server.events import Decide
    from moq_token.server.questions import Lookup

# Errors whose text says what to correct in the module, and quotes no value of it.
_TELLING = (ImportError, NameError, AttributeError, SyntaxError)


def load_policy(text: str) -> tuple[Decide, Lookup | None]:
    """Import ``module:function``; the working directory comes first, then the path of Python.

    What it names is an async function from a ``Request`` to a ``Grant``, or a ``Policy``. A function
    ``lookup`` of the same module answers relay 0.14; without one, a method ``lookup`` of the policy does. Raises
    ``ConfigError``.
    """
    name, _, attribute = text.partition(":")
    directory = str(Path.cwd())
    if directory not in sys.path:
        sys.path.insert(0, directory)
    try:
        module = importlib.import_module(name)
        decide: Any = module
        for part in attribute.split("."):
            decide = getattr(decide, part, None)
        lookup: Lookup | None = getattr(decide, "lookup", None) or getattr(module, "lookup", None)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - the module can raise anything
        hint = f" (write {shown(f'{name[:-3]}:{attribute}')[1:-1]}, without .py)" if name.endswith(".py") else ""
        raise ConfigError(f"`--policy`: cannot import {shown(name)}: {_why(error)}{hint}") from None
    if not _is_async(decide):
        if decide is None:
            raise ConfigError(f"`--policy`: module {shown(name)} has no {shown(attribute)}: expected module:function")
        raise ConfigError(f"`--policy`: {shown(attribute)} of {shown(name)} is not an async function or a Policy")
    if not _takes_one(decide):
        raise ConfigError(f"`--policy`: {shown(attribute)} of {shown(name)} must take one argument, the Request")
    if lookup is not None and not _is_async(lookup):
        raise ConfigError(f"`--policy`: 'lookup' of {shown(name)} is not an async function")
    return decide, lookup


def _is_async(decide: Any) -> bool:  # noqa: ANN401 - any object of the module
    if inspect.isclass(decide) or not callable(decide):
        return False
    return inspect.iscoroutinefunction(decide) or inspect.iscoroutinefunction(type(decide).__call__)


def _takes_one(decide: Any) -> bool:  # noqa: ANN401 - as above
    try:
        inspect.signature(decide).bind(None)
    except TypeError:
        return False
    except ValueError:
        pass  # it has no signature
    return True


def _why(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "importlib" not in frame.filename]
    where = f" ({shown_path(own[-1].filename)[1:-1]}, line {own[-1].lineno})" if len(own) > 1 else ""
    message = f": {shown(str(error))[1:-1]}" if isinstance(error, _TELLING) else ""
    return f"{type(error).__name__}{message}{where}"
