"""Write the reference of the command line from click's own objects: usage, description, options and examples."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

import click

from moq_token.cli.program import program

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

NAME = "moq-token-cli"
CODE_COLUMNS = 80
"""The longest line of code on a page, in characters: it fits at a width of 1280 pixels without scrolling."""

# What is code in the prose of a help text, if it is not marked: options, file names, patterns, environment variables.
_CODE = re.compile(
    r"`[^`]+`"
    r"|--[a-z][a-z-]*(?: (?:alice|'alice/\*\*')(?= is))?"
    r"|(?<![\w/])[\w.{}*/-]*[*{}][\w.{}*/-]*[\w*}]|(?<![\w/])\*(?![\w/])"
    r"|\b[\w./-]+\.(?:jwk|bak|toml|1\.bak)\b"
    r"|\bMOQ_[A-Z_]+…?(?:\(_DATA\))?"
    r"|\[(?:auth|serve)\]|\"\""
)
_MARKDOWN = str.maketrans({"|": r"\|", "<": "&lt;", "*": r"\*", "_": r"\_", "[": r"\["})


def commands(group: click.Group = program, prefix: str = "") -> Iterator[tuple[str, click.Command]]:
    """Yield every command with its full name, in the order of the help."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is not None:
            yield f"{prefix}{name}", command
            if isinstance(command, click.Group):
                yield from commands(command, f"{prefix}{name} ")


def reference() -> str:
    """Return the sections of all commands, with their headings."""
    overview = ["| command | what it does |", "| --- | --- |"]
    sections = []
    first = {id(command): name for name, command in commands() if " " not in name}  # a command can have two names
    for name, command in commands():
        summary = prose(_paragraphs(command)[0])
        overview.append(f"| [`{name}`](#{name.replace(' ', '-')}) | {summary.partition('. ')[0].rstrip('.')} |")
        other = first.get(id(command), name)
        body = section(name, command) if other == name else f"Another name of [`{other}`](#{other}).\n"
        sections.append(f"{'###' if ' ' in name else '##'} {name}\n\n{body}")
    return "\n".join([*overview, "", *sections])


def section(name: str, command: click.Command) -> str:
    """Return one command: usage, description, a table of its options, and its examples."""
    # Below the program, whose settings have the names of the help option: a command keeps the first ones that it sees.
    context = click.Context(command, click.Context(program, **program.context_settings), name)
    usage = " ".join(command.collect_usage_pieces(context))
    parts = [*(prose(paragraph) for paragraph in _paragraphs(command)), f"```text\n{NAME} {name} {usage}\n```"]
    options = [row for row in (_row(param) for param in command.get_params(context)) if row]
    if options:
        parts.append("\n".join(["| option | meaning |", "| --- | --- |", *options]))
    examples = [broken(f"{NAME} {example}") for example in getattr(command, "examples", ())]
    if examples:
        lines = "\n".join(examples)
        parts.append(f"```console\n{lines}\n```")
    return "\n\n".join(parts) + "\n"


def _row(param: click.Parameter) -> str:
    if not isinstance(param, click.Option) or param.hidden or "--help" in param.opts:
        return ""
    names = ", ".join(f"`{name}`" for name in reversed(param.opts))
    value = "" if param.is_flag else f" {_code(param.metavar or param.make_metavar(click.Context(program)))}"
    return f"| {names}{value} | {prose(param.help or '')} |"


def _code(text: str) -> str:
    # A bar in a table would end the cell, on one of the sites that show these pages even after a backslash.
    return f"<code>{text.replace('|', '&#124;')}</code>" if "|" in text else f"`{text}`"


def _paragraphs(command: click.Command) -> list[str]:
    return [" ".join(paragraph.split()) for paragraph in (command.help or "").strip().split("\n\n")]


def prose(text: str) -> str:
    """Return a text of the help as Markdown, with what people type as code."""
    done, end = [], 0
    for match in _CODE.finditer(text):
        done += [text[end : match.start()].translate(_MARKDOWN), _code(match[0].strip("`"))]
        end = match.end()
    return "".join([*done, text[end:].translate(_MARKDOWN)])


def broken(line: str, columns: int = CODE_COLUMNS) -> str:
    """Return a command line in lines that are short enough, broken before options with a backslash."""
    if len(line) <= columns:
        return line
    line, _, comment = line.partition("  # ")
    words = [match[0] for match in re.finditer(r"(?:'[^']*'|\"[^\"]*\"|\S)+", line)]
    lines: list[str] = []
    for group in _groups(words):
        room = columns - 2 - len(group)  # the backslash, and the space before it
        if lines and len(lines[-1]) + 1 <= room:
            lines[-1] += f" {group}"
        else:
            lines.append(group if not lines else f"  {group}")
    whole = " \\\n".join(lines)
    if shlex.split(whole.replace("\\\n", " ")) != shlex.split(line):
        raise ValueError(f"breaking the line changed it: {line}")
    return f"# {comment}\n{whole}" if comment else whole


def _groups(words: Sequence[str]) -> Iterator[str]:
    """Join each option with its value, and each redirection with its file."""
    group: list[str] = []
    for word in words:
        if group and ((word.startswith("-") and word != "-") or word in {">", "<", "|"}):
            yield " ".join(group)
            group = []
        group.append(word)
    yield " ".join(group)
