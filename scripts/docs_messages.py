"""Read from the source what the package says when something is wrong, and list it on a page.

A text is followed from the exception that gets it to the place where it is written: a variable, a function that returns
it, or the callers of a function that takes it. ``…`` stands for what differs from one time to the next.
"""

from __future__ import annotations

import ast
import functools
import re
from itertools import count, groupby, product
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeAlias, get_args

import moq_token

if TYPE_CHECKING:
    from collections.abc import Iterator

SOURCE = Path(moq_token.__file__).parent
ERRORS = {name: getattr(moq_token, name) for name in moq_token.__all__ if name.endswith("Error")}
UNKNOWN = "…"
MAX_DEPTH = 5  # functions between an exception and its text
MAX_TEXTS = 12  # variants of one text
REASONS = set(get_args(moq_token.Reason))

# Further calls with a text for people: the heading, and the position of the text.
CALLS = {
    "UsageError": ("Wrong usage of the command line", 0),
    "ValueError": ("ValueError and TypeError", 0),
    "TypeError": ("ValueError and TypeError", 0),
    "Refusal": ("RefusedError", 1),
    "Problem": ("Problems of the auth server", 0),
    "FileFinding": ("Findings of lint and check-config", 1),
    "_RefusedText": ("Findings of lint and check-config", 1),
    "refuse": ("Findings of lint and check-config", 1),
    "note": ("Findings of lint and check-config", 1),
}
EXPLAINED = {
    "Wrong usage of the command line": "The command line prints these after `error:`, and exits with 2.",
    "ValueError and TypeError": "In a configuration, the name of the setting stands before these.",
    "Problems of the auth server": "`/readyz` and the status page of the [auth server](auth-server.md) show these.",
    "Findings of lint and check-config": "[`lint`](upgrading.md), `check-config` and `sign` print these.",
}


class Message(NamedTuple):
    """One message: its heading, the text with ``…`` for what varies, and its reason code if it has one."""

    heading: str
    text: str
    reason: str


Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef


class Place(NamedTuple):
    """Where an expression stands."""

    module: ast.Module
    function: Function | None


def messages() -> list[Message]:
    """Return every message that the package raises, or shows as a finding or a problem."""
    found = {message for module in modules() for message in _said(module)}
    return sorted(found, key=lambda each: (each.heading, each.text.lower(), each.reason))


@functools.cache
def modules() -> list[ast.Module]:
    """Return the modules of the package."""
    return [ast.parse(path.read_text("utf-8")) for path in sorted(SOURCE.rglob("*.py"))]


@functools.cache
def _functions() -> dict[str, list[Place]]:
    """Return the functions of the package by name."""
    found: dict[str, list[Place]] = {}
    for module in modules():
        for node in ast.walk(module):
            if isinstance(node, Function):
                found.setdefault(node.name, []).append(Place(module, node))
    return found


def _said(module: ast.Module) -> Iterator[Message]:
    for function, call in calls(module):
        name = called(call)
        if name not in CALLS and name not in ERRORS:
            continue
        heading, position = CALLS.get(name, (name, 0))
        given = {key.arg: key.value for key in call.keywords}
        text = given.get("message") or (call.args[position] if len(call.args) > position else None)
        reason = given.get("reason")
        code = str(reason.value) if isinstance(reason, ast.Constant) else getattr(ERRORS.get(name), "reason", "")
        for variant in texts(text, Place(module, function)) if text is not None else ():
            if _is_prose(variant):
                yield Message(heading, " ".join(variant.split()), code)


@functools.cache
def calls(module: ast.Module) -> list[tuple[Function | None, ast.Call]]:
    """Return each call of a module with the function that it stands in."""

    def walk(node: ast.AST, function: Function | None) -> Iterator[tuple[Function | None, ast.Call]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Call):
                yield function, child
            yield from walk(child, child if isinstance(child, Function) else function)

    return list(walk(module, None))


def called(call: ast.Call) -> str:
    """Return the name of the function that is called, without that of its module or object."""
    return call.func.id if isinstance(call.func, ast.Name) else getattr(call.func, "attr", "")


def _is_prose(text: str) -> bool:
    return len(re.findall(r"[a-z]{3,}", text)) > 1


def texts(node: ast.expr, place: Place, depth: int = 0) -> list[str]:  # noqa: C901, PLR0911 - one for each kind
    """Return the texts that an expression can be, with ``…`` where that is not known."""
    if depth > MAX_DEPTH:
        return [UNKNOWN]
    match node:
        case ast.Constant(value=str(text)):
            return [text]
        case ast.Constant(value=None):
            return [""]
        case ast.JoinedStr(values=values):
            return _joined([texts(each, place, depth) for each in values])
        case ast.FormattedValue(value=value):
            found = texts(value, place, depth + 1)
            return found if any(found) and all(not each or _is_prose(each) for each in found) else [UNKNOWN]
        case ast.BinOp(left=left, right=right):
            return _joined([texts(left, place, depth), texts(right, place, depth)])
        case ast.IfExp(body=body, orelse=other):
            return texts(body, place, depth) + texts(other, place, depth)
        case ast.BoolOp(values=values):
            return [text for each in values for text in texts(each, place, depth)]
        case ast.Name(id=name):
            return _variable(node, name, place, depth + 1)
        case ast.Subscript(value=ast.Name(id=name)):
            return _constants(name, place, depth + 1)
        case ast.Call():
            return _returned(called(node), place, depth + 1)
    return [UNKNOWN]


def _joined(parts: list[list[str]]) -> list[str]:
    return ["".join(each) for each, _ in zip(product(*parts), range(MAX_TEXTS), strict=False)]


def _variable(node: ast.expr, name: str, place: Place, depth: int) -> list[str]:
    if place.function is not None:
        values = _reaching(name, node, place.function)
        found = [text for value in values for text in texts(value, place, depth)]
        found = found or _passed(name, place.function, place.module, depth)
        if found:
            return found
    return _constants(name, place, depth) or [UNKNOWN]


def _reaching(name: str, node: ast.expr, function: Function) -> list[ast.expr]:
    """Return what the variable can be at this place: the last value in the same block and all after it."""
    around = [each for each in ast.walk(function) if isinstance(each, ast.stmt) and node in ast.walk(each)]
    indent = around[-1].col_offset if around else 0
    before = [value for value in _assigned(name, function) if value.lineno < node.lineno]
    statements = [each for each in ast.walk(function) if isinstance(each, ast.Assign) and each.value in before]
    near = [each.value for each in statements if each.col_offset == indent]
    start = max((value.lineno for value in near), default=0)
    return [value for value in before if value.lineno >= start]


def _assigned(name: str, scope: ast.AST) -> Iterator[ast.expr]:
    for node in ast.walk(scope):
        match node:
            case ast.Assign(targets=[ast.Name(id=target)], value=value) if target == name:
                yield value
            case ast.AnnAssign(target=ast.Name(id=target), value=ast.expr() as value) if target == name:
                yield value
            case ast.NamedExpr(target=ast.Name(id=target), value=value) if target == name:
                yield value


def _passed(name: str, function: Function, module: ast.Module, depth: int) -> list[str]:
    """Return what the callers in this module pass for a parameter."""
    names = [each.arg for each in (*function.args.posonlyargs, *function.args.args) if each.arg not in {"self", "cls"}]
    if name not in names:
        return []
    found = []
    for caller, call in calls(module):
        if called(call) == function.name:
            given = {key.arg: key.value for key in call.keywords}
            value = given.get(name) or (call.args[names.index(name)] if len(call.args) > names.index(name) else None)
            found += texts(value, Place(module, caller), depth) if value is not None else []
    return found


def _constants(name: str, place: Place, depth: int) -> list[str]:
    found = []
    for value in _assigned(name, ast.Module([each for each in place.module.body if not _is_function(each)], [])):
        values = value.values if isinstance(value, ast.Dict) else [value]
        found += [text for each in values for text in texts(each, place._replace(function=None), depth)]
    return found


def _is_function(node: ast.AST) -> bool:
    return isinstance(node, Function | ast.ClassDef)


def _returned(name: str, place: Place, depth: int) -> list[str]:
    """Return what the functions of this name return: those of this module, or of another one."""
    places = _functions().get(name, [])
    found = []
    for each in [each for each in places if each.module is place.module] or places:
        for node in ast.walk(each.function or each.module):
            if isinstance(node, ast.Return) and node.value is not None:
                found += texts(node.value, each, depth)
    return found or [UNKNOWN]


def entries() -> list[tuple[Message, str]]:
    """Return each message with the place that it has on the page."""
    slugs: dict[str, Message] = {}
    for message in messages():
        base = "m-" + re.sub(r"[^a-z0-9]+", "-", message.text.lower())[:50].strip("-")
        names = (f"{base}-{number}" if number > 1 else base for number in count(1))
        slugs[next(name for name in names if name not in slugs)] = message
    return [(message, slug) for slug, message in slugs.items()]


def messages_page(_: str) -> str:
    """Return the messages, each in a section of its own, so that the search leads to it.

    The text is not the heading: the search ranks headings first, and every second question has words of a message.
    """
    parts = []
    for heading, group in groupby(entries(), key=lambda entry: entry[0].heading):
        about = EXPLAINED.get(heading) or f"Exception [`{heading}`][moq_token.{heading}]."
        parts.append(f"## {heading}\n\n{about}\n")
        for message, slug in group:
            code = f"`{message.reason}`"
            link = f"[{code}](reasons.md#{message.reason})" if message.reason in REASONS else code
            reason = f" (reason {link})" if message.reason else ""
            parts.append(f"### Message {{ #{slug} .message }}\n\n`` {message.text} ``{reason}\n")
    return "\n".join(parts)
