"""The command that checks the configuration of a relay."""

from __future__ import annotations

import sys

import click

from moq_token.cli import options, output
from moq_token.cli.grammar import command
from moq_token.cli.grants import RelayVersion
from moq_token.errors import shown_path
from moq_token.generations import Generation

_RELAYS = {Generation.FIRST: "0.14", Generation.SECOND: "0.15"}
_MAX_NOTES = 20


@command(
    "check-config",
    short_help="Check the TOML of a relay, and say how it admits clients.",
    examples=(
        "check-config relay.toml",
        "check-config relay.toml --strict",
        "check-config relay.toml --relay 0.17  # can the file stay as it is?",
    ),
)
@click.argument("file", type=options.FILE, metavar="FILE")
@click.option(
    "--relay",
    "relay",
    type=RelayVersion(),
    metavar="VERSION",
    help="Version of the relay, such as 0.14; default: the one that the settings are for.",
)
@click.option("--strict", is_flag=True, help="Fail for every note, too.")
@options.as_json
def check_config_command(file: str, relay: tuple[Generation, ...] | None, strict: bool, as_json: bool) -> int:
    """Check the TOML of a relay (moq-relay) or of the auth server (`serve`), and say how it admits clients.

    Relays before 0.15 read keys and public prefixes from [auth]. Relays from 0.15 on refuse these settings, and read
    the URL of an auth server, or public patterns. A file for relays before 0.15 is also shown with what replaces each
    setting. Files that it names are read, relative to the working directory, as the relay does. URLs are not asked.
    Variables MOQ_AUTH_… of the environment override the file. Notes name what the relay accepts silently, but what is
    probably not meant. The exit status is 1 where the relay cannot work with the configuration.
    """
    if relay is not None and len(relay) > 1:
        raise click.UsageError("--relay: a file is for relays before 0.15 or from 0.15 on: name one version")
    # Imported here, so that the list of the commands is shown without it: it loads what asks a URL.
    from moq_token.auth.config import in_one_line
    from moq_token.auth.tables import read_toml
    from moq_token.cli.checked import check

    document = read_toml(file)
    if "serve" in document:
        from moq_token.cli.serve import check_file

        return check_file(file, strict=strict, as_json=as_json)
    checked = check(file, document, relay[0] if relay else None)
    failed = bool(checked.problems or (strict and checked.notes))
    if as_json:
        admits: dict[str, list[str]] = {}
        for label, text in checked.lines:
            admits.setdefault(label, []).append(text)
        result = {
            "ok": not failed,
            "relays": _RELAYS[checked.generation],
            "admits": admits,
            "problems": checked.problems,
        }
        result |= {"notes": checked.notes, **checked.more}
        output.emit(output.json_text(result, pretty=output.to_terminal(sys.stdout)))
        return int(failed)
    if failed:
        raise output.Failed(f"{shown_path(file)}: {in_one_line(checked.problems or checked.notes)}")
    output.emit("\n".join(f"{label:<9}{output.printable(text)}" for label, text in checked.lines))
    for note in checked.notes[:_MAX_NOTES]:
        output.note(note)
    return 0
