"""Convert docstrings to Markdown for griffe: names become links, and text comes before parameters.

Docstrings write names as ``help()`` and editors show them best: as code, without roles of Sphinx.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import griffe

from moq_token import __all__ as PACKAGE_NAMES  # noqa: N812 - a constant here
from moq_token.auth import __all__ as AUTH_NAMES  # noqa: N812 - as above
from moq_token.contract import __all__ as CONTRACT_NAMES  # noqa: N812 - as above
from moq_token.issuing import __all__ as ISSUING_NAMES  # noqa: N812 - as above
from moq_token.server import __all__ as SERVER_NAMES  # noqa: N812 - as above
from moq_token.sources import __all__ as SOURCES_NAMES  # noqa: N812 - as above

if TYPE_CHECKING:
    from collections.abc import Mapping

HOMES = {
    **dict.fromkeys(PACKAGE_NAMES, "moq_token"),
    **dict.fromkeys(AUTH_NAMES, "moq_token.auth"),
    **dict.fromkeys(SOURCES_NAMES, "moq_token.sources"),
    **dict.fromkeys(ISSUING_NAMES, "moq_token.issuing"),
}
# In the contract and the auth server, `Grant` is the one of the contract.
SERVER_HOMES = {
    **HOMES,
    **dict.fromkeys(SERVER_NAMES, "moq_token.server"),
    **dict.fromkeys(CONTRACT_NAMES, "moq_token.contract"),
}
# Code that can be the name of something public, such as `Key`, `Key.verify()` or `moq_token.auth.Grant`.
NAME = re.compile(r"`((?:moq_token\.(?:\w+\.)*)?)([\w.]+)((?:\(\))?)`")
# A session of the interpreter, which Markdown would read as a quotation.
SESSION = re.compile(r"^>>> (?:.+\n)+", re.MULTILINE)


def prose_first(text: str) -> str:
    """Move paragraphs that follow a section of parameters or attributes before it, or they become part of it."""
    found = re.search(r"^(?:Parameters|Attributes)\n-+\n", text, re.MULTILINE)
    if found is None:
        return text
    paragraphs = text[found.end() :].split("\n\n")
    # A parameter is a name, with an indented description below it.
    prose = next((i for i, paragraph in enumerate(paragraphs) if "\n " not in paragraph), None)
    if prose is None:
        return text
    moved, kept = "\n\n".join(paragraphs[prose:]).strip(), "\n\n".join(paragraphs[:prose])
    return f"{text[: found.start()]}{moved}\n\n{found[0]}{kept}\n"


def linked(text: str, members: set[str], path: str, homes: Mapping[str, str] = HOMES) -> str:
    """Turn code such as ```Key.verify()``` into a link if the reference has something of this name.

    A method of the class at ``path`` may stand alone: ```verify()```.
    """

    def link(match: re.Match[str]) -> str:
        module, name, call = match.groups()
        first = name.partition(".")[0]
        # A function has no members: `decide.lookup` is an attribute of what a caller passes.
        if first in homes and (name == first or first[:1].isupper()):
            return f"[{match[0]}][{module or homes[first] + '.'}{name}]"
        if call and name in members:
            return f"[{match[0]}][{path}.{name}]"
        return match[0]

    return NAME.sub(link, text)


class Docstrings(griffe.Extension):
    """The extension that mkdocstrings loads from this file."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:  # noqa: ANN401 - griffe's own signature
        if obj.docstring is None:
            return
        owner = obj if obj.is_class else obj.parent
        homes = SERVER_HOMES if obj.path.startswith(("moq_token.contract.", "moq_token.server.")) else HOMES
        home = f"{homes[owner.name]}.{owner.name}" if owner is not None and owner.name in homes else ""
        members = set(owner.members) if owner is not None and home else set()
        text = obj.docstring.value.replace("``", "`")
        text = re.sub(r"::$", ":", text, flags=re.MULTILINE)  # in front of indented code, which Markdown knows too
        text = SESSION.sub(r"```pycon\n\g<0>```\n", linked(text, members, home, homes))
        obj.docstring.value = prose_first(text)
