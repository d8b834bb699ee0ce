"""The command that says how relays of both generations read a token or a key."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING

import click

from moq_token.cli import grants, keyring, options, output, pasted
from moq_token.cli.grammar import command
from moq_token.errors import shown_path
from moq_token.generations import Generation
from moq_token.lint import read_key, read_token
from moq_token.recognizer import what_is_secret

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from moq_token.lint import Finding, Reading

# What `what_is_secret` calls a token, and what is only in a text that a token is pasted with.
_TOKEN, _AROUND_TOKENS = "a token", (" ", "://", "=", '"')
_UNCHECKED = {
    "token": "its signature, and the scope of the key that signed it, are not checked: `verify` does that",
    "key": "what its tokens may do at most is its scope",
}


@command(
    "lint",
    short_help="Say which relays read a token or a key, and why not.",
    examples=(
        "lint < alice.jwt",
        "lint public.jwk --relay 0.17",
        "lint alice.jwt --relay 0.14 --relay 0.17 --json",
    ),
)
@click.argument("what", required=False, metavar="[TOKEN|FILE]")
@grants.relay_option("Version of relay to check for, such as 0.14, or all (the default). Repeatable.")
@options.as_json
def lint_command(what: str | None, relays: tuple[Generation, ...], as_json: bool) -> int:
    """Say how relays read a token or a key: what it grants, or why they refuse it, and what to do.

    Relays before 0.15 read other tokens and keys than relays from 0.15 on, which ask an auth server (`moq auth serve`).
    The token or key comes from a file, from standard input, or (a token only) from the command line. The exit status
    is 1 if one of these relays would refuse it. No signature is checked.
    """
    kind, readings = _read(what)
    named = [reading for reading in readings if reading.generation in (relays or tuple(Generation))]
    failed = any(reading.refused for reading in named)
    if as_json:
        result = {"ok": not failed, "kind": kind, "relays": [members(reading) for reading in named]}
        output.emit(output.json_text(result, pretty=output.to_terminal(sys.stdout)))
    else:
        lines = [f"{kind}: {_UNCHECKED[kind]}", *(line for reading in named for line in _lines(kind, reading))]
        output.emit("\n".join(map(output.printable, lines)))
    return int(failed)


def members(reading: Reading) -> dict[str, object]:
    """Return what relays of one generation make of an input, as members for JSON."""
    return {
        "generation": reading.generation.name.lower(),
        "relays": str(reading.generation),
        "refused": reading.refused,
        "publish": reading.publish,
        "subscribe": reading.subscribe,
        "findings": finding_members(reading.findings),
    }


def finding_members(findings: Iterable[Finding]) -> list[dict[str, object]]:
    """Return findings as members for JSON."""
    return [
        {"code": each.code, "refused": each.refused, "message": each.message, "fix": each.fix or None}
        for each in findings
    ]


def _read(what: str | None) -> tuple[str, tuple[Reading, Reading]]:
    """Read a token or a key, whichever it is. Raises ``Failed`` and ``click.UsageError``."""
    if what is None or what == "-" or os.path.lexists(what):
        if what is not None and os.path.isdir(what):
            raise output.Failed("expected a token or a key, got a directory: `keys check` reads a directory of keys")
        data = keyring.read(what or "-", "token or key")
        if not data.strip():
            raise output.Failed("expected a token or a key, got empty input")
    else:
        secret = what_is_secret(what)
        if secret is not None and secret != _TOKEN and not _is_token(what.encode(errors="replace")):
            raise click.UsageError(
                f"this looks like {secret.partition(':')[0]}: pass it in a file or on standard input"
            )
        if secret is None and not any(mark in what for mark in _AROUND_TOKENS):
            raise output.Failed(f"file not found: {shown_path(what)}")
        data = what.encode(errors="replace")
    if not _is_token(data):
        return "key", read_key(data)
    found = pasted.find(data.decode("utf-8-sig", "replace").strip())
    if found.around is not None:
        output.note(f"ignored the text around the token: {found.around}")
    return "token", read_token(found.token, now=time.time())


def _is_token(data: bytes) -> bool:
    """Whether a text is a token, or what a token is pasted with, rather than a key. Keys have no dots around."""
    text = data.strip(b" \t\r\n\xef\xbb\xbf")
    if b'"kty"' in text or b'"keys"' in text or b"-----BEGIN " in text or b"\0" in text:
        return False
    return b"." in text and b'"alg"' not in text


def _lines(kind: str, reading: Reading) -> Iterator[str]:
    if reading.refused:
        yield f"{reading.generation}: {output.paint('refused', 'red', sys.stdout)}"
    else:
        publish, subscribe = (", ".join(grants) or "nothing" for grants in (reading.publish, reading.subscribe))
        who = "may" if kind == "token" else "its tokens may"
        verdict = output.paint("read", "green", sys.stdout)
        yield f"{reading.generation}: {verdict}; {who} publish {publish}; may subscribe to {subscribe}"
    for finding in sorted(reading.findings, key=lambda each: not each.refused):
        yield f"  {finding.code}: {finding.message}"
        if finding.fix:
            yield f"    fix: {finding.fix}"
