"""The public interface: the list of names, the modules that an import loads, and the docstrings."""

from __future__ import annotations

import ast
import enum
import importlib
import inspect
import re
import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

import moq_token

if TYPE_CHECKING:
    from collections.abc import Iterator


def test_all_is_sorted_and_complete() -> None:
    there = {
        name
        for name, value in vars(moq_token).items()
        if not name.startswith("_") and not isinstance(value, ModuleType)
    }
    assert moq_token.__all__ == sorted(moq_token.__all__)
    assert set(moq_token.__all__) == there | {"__version__"}


def test_the_version_is_one() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", moq_token.__version__)


def test_types_are_shipped() -> None:
    assert (files("moq_token") / "py.typed").is_file()


HEAVY = [
    "cryptography",
    "click",
    "asyncio",
    "socket",
    "ssl",
    "json",
    "logging",
    "moq",
    "urllib.request",
]
IMPORTS = """
import sys
import moq_token
{program}
print(*(name for name in {names!r} if name in sys.modules))
"""


def loaded_by(program: str, names: list[str]) -> list[str]:
    source = IMPORTS.format(program=program, names=names)
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_an_import_loads_little() -> None:
    assert loaded_by("", HEAVY) == []


def test_a_secret_needs_no_library_of_cryptography() -> None:
    program = """
from moq_token import Claims, Key, KeySet
key = Key.generate("HS256")
token = key.sign(Claims("a", "b", expires=2**37))
assert KeySet([Key.from_str(key.to_str())]).verify(token).authorize("a")
assert key.verify(token) and key.thumbprint()
"""
    assert loaded_by(program, ["cryptography", "click", "asyncio", "socket", "ssl"]) == []


@pytest.mark.parametrize("argument", ["--help", "--version"])
def test_the_command_says_what_it_is_as_fast_as_it_signs(argument: str) -> None:
    program = f"""
import contextlib, io
from moq_token.cli import main
with contextlib.redirect_stdout(io.StringIO()) as shown:
    assert main([{argument!r}]) == 0
assert "moq-token" in shown.getvalue() or "Commands:" in shown.getvalue()
"""
    slow = [name for name in HEAVY if name not in {"click", "cryptography"}]
    assert (
        loaded_by(program, [*slow, "importlib.metadata", "email", "tomllib", "moq_token.auth", "moq_token.rotation"])
        == []
    )


def test_the_demonstration_of_the_package_holds() -> None:
    import doctest

    assert doctest.testmod(moq_token).attempted >= 4
    assert doctest.testmod(moq_token).failed == 0


PUBLIC = ("", ".auth", ".contract", ".integrations.starlette", ".issuing", ".server", ".sources")
"""The modules that users import from, below the package."""


def documented() -> Iterator[tuple[str, object]]:
    """Return every public name, and every public member that a class of the package defines."""
    for module in PUBLIC:
        yield from documented_in(importlib.import_module(f"moq_token{module}"))


def documented_in(module: ModuleType) -> Iterator[tuple[str, object]]:
    for name in getattr(module, "__all__", ()):
        value = getattr(module, name)
        if isinstance(value, str | int | float):
            continue
        yield name, value
        for member, found in vars(value).items() if inspect.isclass(value) else ():
            if member.startswith("_") or isinstance(found, str | int | enum.Enum):
                continue
            if callable(found) or isinstance(found, property | classmethod | staticmethod):
                yield f"{name}.{member}", getattr(value, member)


def test_every_module_is_documented() -> None:
    directory = Path(moq_token.__file__).parent
    sources = {path.relative_to(directory): path.read_text(encoding="utf-8") for path in directory.rglob("*.py")}
    assert len(sources) > 15
    assert [str(path) for path, source in sources.items() if not ast.get_docstring(ast.parse(source))] == []


def test_everything_public_is_documented() -> None:
    found = dict(documented())
    assert len(found) > 60
    undocumented = [name for name, value in found.items() if not (inspect.getdoc(value) or "").strip()]
    assert undocumented == ["Reason", "Authorize"]  # Python gives a type alias no docstring
    own = [name for name, value in found.items() if inspect.isclass(value) and not vars(value).get("__doc__")]
    assert own == []


RAISES_AS = re.compile(r"\b[Rr]aises? as\b")


def undocumented_errors(source: str) -> Iterator[tuple[str, str]]:
    """Return the public functions that raise an error of the package which their docstring does not name."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Module | ast.ClassDef) or getattr(node, "name", "").startswith("_"):
            continue
        for function in node.body:
            if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            is_new = function.name in {"__init__", "__post_init__", "__new__"}
            if function.name.startswith("_") and not is_new:
                continue
            text = (ast.get_docstring(node if is_new else function) or "") if not isinstance(node, ast.Module) else ""
            text = text or ast.get_docstring(function) or ""
            for name in raised_in(function):
                family = [base.__name__ for base in getattr(moq_token, name).__mro__[:-4]]  # without Error and above
                if not RAISES_AS.search(text) and not any(re.search(rf"\b{base}\b", text) for base in family):
                    yield function.name, name


def raised_in(function: ast.AST) -> set[str]:
    raised = (node.exc for node in ast.walk(function) if isinstance(node, ast.Raise))
    called = (error.func for error in raised if isinstance(error, ast.Call))
    names = {function.id for function in called if isinstance(function, ast.Name)}
    return {name for name in names if issubclass(getattr(moq_token, name, str), moq_token.Error)}


@pytest.mark.parametrize("path", sorted(Path(moq_token.__file__).parent.rglob("*.py")), ids=lambda path: path.name)
def test_docstrings_read_well_in_help(path: Path) -> None:
    """``help()`` and editors show the roles of Sphinx as they are written."""
    assert re.findall(r":\w+:`[^`]*`", path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("module", ["", ".auth", ".contract", ".issuing", ".server", ".sources", ".integrations.moq"])
def test_nobody_has_to_pass_something_private(module: str) -> None:
    if module == ".integrations.moq":
        pytest.importorskip("moq")
    names = vars(importlib.import_module(f"moq_token{module}"))
    classes = [each for name, each in names.items() if inspect.isclass(each) and name in names["__all__"]]
    signatures = {each.__name__: signature_of(each) for each in classes}
    assert [name for name, text in signatures.items() if re.search(r"[(, ]_\w+[:,=)]", text)] == []


def signature_of(each: type) -> str:
    try:
        return str(inspect.signature(each))
    except ValueError:  # a class without one
        return ""


def test_every_error_that_is_raised_is_documented() -> None:
    directory = Path(moq_token.__file__).parent
    found = {
        str(path.relative_to(directory)): errors
        for path in directory.rglob("*.py")
        # The docstrings of commands are their help texts.
        if path.parent.name != "cli" and (errors := list(undocumented_errors(path.read_text(encoding="utf-8"))))
    }
    assert found == {}


def test_an_error_that_is_not_documented_is_found() -> None:
    source = 'def f():\n    """Return."""\n    raise ConfigError("x")\n'
    assert list(undocumented_errors(source)) == [("f", "ConfigError")]
    assert list(undocumented_errors(source.replace("Return.", "Raises ``ConfigError``."))) == []
    assert list(undocumented_errors(f"class C:\n    {source.replace(chr(10), chr(10) + '    ')}")) == [
        ("f", "ConfigError")
    ]


@pytest.mark.parametrize(
    "name", [name for name in moq_token.__all__ if inspect.isclass(getattr(moq_token, name)) and name.endswith("Error")]
)
def test_errors_are_all_of_one_family(name: str) -> None:
    assert issubclass(getattr(moq_token, name), moq_token.Error)


def test_every_error_of_the_library_is_public() -> None:
    from moq_token import errors

    defined = {
        name for name, value in vars(errors).items() if inspect.isclass(value) and value.__module__ == errors.__name__
    }
    assert defined <= set(moq_token.__all__)


QUIET = """
import sys
from moq_token import Algorithm, Claims, Key

keys = [Key.generate(algorithm) for algorithm in Algorithm]
claims = Claims("a", "b", expires=2**37)
pairs = [(key if key.algorithm.symmetric else key.to_public(), key.sign(claims)) for key in keys]
for verifier, token in pairs:
    verifier.verify(token)  # everything that is imported late is imported now
Key.from_str(keys[0].to_json())

seen = []
watching = False

def watch(event, arguments):
    if watching and event.split(".")[0] in {"open", "socket", "os", "subprocess", "import", "urllib"}:
        seen.append(event)

sys.addaudithook(watch)
watching = True
for verifier, token in pairs:
    verifier.verify(token).authorize("a")
    try:
        verifier.verify(token[:-8] + "AAAAAAAA")
    except Exception:
        pass
watching = False
print(seen)
"""


def test_verifying_touches_no_file_and_no_network() -> None:
    done = subprocess.run([sys.executable, "-c", QUIET], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
