"""Convert docstrings to Markdown for griffe: Sphinx references become links, and text comes before parameters."""

from __future__ import annotations

import re
from typing import Any

import griffe

from moq_token import __all__ as PACKAGE_NAMES  # noqa: N812 - a constant here
from moq_token.auth import __all__ as AUTH_NAMES  # noqa: N812 - as above
from moq_token.sources import __all__ as SOURCES_NAMES  # noqa: N812 - as above

HOMES = {
    **dict.fromkeys(PACKAGE_NAMES, "moq_token"),
    **dict.fromkeys(AUTH_NAMES, "moq_token.auth"),
    **dict.fromkeys(SOURCES_NAMES, "moq_token.sources"),
}
# A reference, or code that is the name of something public, such as `Key.verify`.
REFERENCE = re.compile(r"(:(?:class|meth|func|data|exc):)?`([^`\n]+)`")


def prose_first(text: str) -> str:
    """Move paragraphs that follow a section of parameters before it. Otherwise they become part of the section."""
    found = re.search(r"^Parameters\n-+\n", text, re.MULTILINE)
    if found is None:
        return text
    paragraphs = text[found.end() :].split("\n\n")
    # A parameter is a name, with an indented description below it.
    prose = next(
        (i for i, paragraph in enumerate(paragraphs) if not paragraph.partition("\n")[2].startswith(" ")), None
    )
    if prose is None:
        return text
    moved, kept = "\n\n".join(paragraphs[prose:]).strip(), "\n\n".join(paragraphs[:prose])
    return f"{text[: found.start()]}{moved}\n\n{found[0]}{kept}\n"


def linked(text: str, members: set[str], path: str) -> str:
    """Turn ``:meth:`Key.verify``` and ```Key.verify``` into links to the pages of the reference, or into plain code."""

    def link(match: re.Match[str]) -> str:
        role, target = match.groups()
        name = target.removeprefix("~")
        label = name.rpartition(".")[2] if target.startswith("~") else name
        if name.startswith("moq_token."):
            name = name.rpartition(".")[2]
        first = name.partition(".")[0]
        if first in HOMES:
            return f"[`{label}`][{HOMES[first]}.{name}]"
        if role and name in members:
            return f"[`{label}`][{path}.{name}]"
        return f"`{label}`"

    return REFERENCE.sub(link, text)


class Docstrings(griffe.Extension):
    """The extension that mkdocstrings loads from this file."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:  # noqa: ANN401 - griffe's own signature
        if obj.docstring is None:
            return
        owner = obj if obj.is_class else obj.parent
        home = f"{HOMES[owner.name]}.{owner.name}" if owner is not None and owner.name in HOMES else ""
        members = set(owner.members) if owner is not None and home else set()
        text = obj.docstring.value.replace("``", "`")
        obj.docstring.value = prose_first(linked(text, members, home))
