"""The command that runs the auth server."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from moq_token.cli import options, output
from moq_token.cli.grammar import command
from moq_token.errors import ConfigError, shown_path

if TYPE_CHECKING:
    from collections.abc import Iterator

    from moq_token.server.listen import Address
    from moq_token.server.run import Service
    from moq_token.server.settings import Settings

_RULE = "PATTERN"
_STANDARD_ERROR = 2


@contextlib.contextmanager
def _hangups_held() -> Iterator[None]:
    """Block SIGHUP until the server handles it, so that one during the start does not end the process."""
    if sys.platform == "win32":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGHUP,))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@command(
    "serve",
    short_help="Run the auth server that relays ask.",
    examples=(
        "serve --key-dir keys --public-subscribe 'lobby/**' --expires 1h --revalidate 1m",
        "serve --config serve.toml --check",
        "serve --policy policy:decide --listen unix:/run/moq-token/auth.sock",
    ),
)
@click.option(
    "--config",
    type=options.FILE,
    envvar="MOQ_TOKEN_SERVE_CONFIG",
    metavar="FILE",
    help="TOML whose table [serve] has these settings. Also from MOQ_TOKEN_SERVE_CONFIG.",
)
@click.option("--check", is_flag=True, help="Print the settings in words, and exit.")
@click.option(
    "--listen",
    metavar="ADDR|unix:PATH",
    help="Where to answer relays: IP address and port; default: 127.0.0.1:4440.",
)
@click.option("--listen-public", is_flag=True, help="Answer other machines too, without authentication.")
@click.option(
    "--key",
    type=options.FILE,
    metavar="FILE|DIR|URL",
    help="What verifies tokens: key, JWK Set or directory of {kid}.jwk; path, https://… or s3://… URL.",
)
@click.option("--key-dir", type=options.FILE, metavar="DIR|URL", help="Directory of {kid}.jwk, by the `kid` of tokens.")
@click.option("--public-publish", multiple=True, metavar=_RULE, help="What anybody may publish: lobby/**. Repeatable.")
@click.option("--public-subscribe", multiple=True, metavar=_RULE, help="What anybody may subscribe to. Repeatable.")
@click.option("--mtls-publish", multiple=True, metavar=_RULE, help="The same for client certificates. Repeatable.")
@click.option("--mtls-subscribe", multiple=True, metavar=_RULE, help="The same for client certificates. Repeatable.")
@click.option("--tier", metavar="LABEL", help="Label for the statistics of the relay, on every grant.")
@click.option(
    "--expires", metavar="DURATION", help="Longest time of a session whose token or certificate has no end: 1h."
)
@click.option("--revalidate", metavar="DURATION", help="How often relays ask again: 1m. Needs --expires.")
@click.option("--limit-token", metavar="N", help="Largest number of sessions with one token. Needs --revalidate.")
@click.option("--limit-remote", metavar="N", help="The same from one address. Needs --revalidate.")
@click.option("--limit-subject", metavar="N", help="The same of one subject (`sub`). Needs --revalidate.")
@click.option(
    "--kick-oldest",
    multiple=True,
    metavar="token|remote|subject",
    help="At this limit, end the oldest session instead of refusing the new one. Repeatable.",
)
@click.option("--policy", metavar="MODULE:FUNCTION", help="Let an async Python function decide instead of rules.")
@click.option("--contract", metavar="post|get|both", help="Answer relays from 0.15 on (post), 0.14 (get), or both.")
@click.option("--publish-keys", is_flag=True, help="Serve the public halves: /keys/{kid}.jwk and a JWK Set.")
@click.option("--share-secrets", is_flag=True, help="Give relay 0.14 on this machine the HMAC secrets that it needs.")
@click.option("--lenient", is_flag=True, help="Read tokens as relay 0.14 does, while you upgrade.")
@click.option("--spread", metavar="N", help="Spread re-checks: shorten times by up to this part, 0 to 0.1 (default).")
@click.option("--tls-cert", type=options.FILE, metavar="FILE", help="Certificate of this server, PEM.")
@click.option("--tls-key", type=options.FILE, metavar="FILE", help="Its private key, PEM.")
@click.option(
    "--tls-client-ca", type=options.FILE, metavar="FILE", help="Answer only relays with a certificate of this CA."
)
@click.option("--secret-file", type=options.FILE, metavar="FILE", help="user:password that relays must send (Basic).")
@click.option("--admin", metavar="ADDR|unix:PATH", help="Where to answer operators: bans, sessions, /metrics, a page.")
@click.option("--state", type=options.FILE, metavar="DIR", help="Where bans are kept over restarts.")
@click.option(
    "--relay",
    multiple=True,
    metavar="NODE=URL",
    help="Internal listener of a relay, to end banned sessions at once: edge-1=http://127.0.0.1:9101. Repeatable.",
)
@click.option("--share", metavar="URL", help="Share caps and bans with other servers: redis://HOST:PORT, rediss://…")
@click.option(
    "--require-share", is_flag=True, help="Admit no new session while the store of --share cannot be reached."
)
@click.option("--share-secret-file", type=options.FILE, metavar="FILE", help="Secret that all servers of a share have.")
@click.option("--log", metavar="text|json", help="Form of the log on standard error; default: text.")
@_hangups_held()
def serve_command(config: str | None, check: bool, **flags: Any) -> None:  # noqa: ANN401 - as each option says
    """Run the auth server that relays ask about their sessions.

    Relays from 0.15 on ask about every session (--auth-url), relay 0.14 about every connection (auth_api). Without
    rules and keys, everybody is refused. Every setting can also be in the table [serve] of --config, and in the
    environment: MOQ_TOKEN_SERVE_KEY_DIR is --key-dir. A flag overrides the environment, which overrides the file.

    SIGTERM stops the server after the answers in progress. SIGHUP reloads the rules and relays of --config,
    --secret-file and --tls-cert.
    """
    given = parsed(flags)
    _open_standard_files()

    def read() -> Settings:
        from moq_token.server.reading import read_settings

        return read_settings(given, config=config, environ=os.environ)

    settings = read()
    from moq_token.cli import served
    from moq_token.server.run import Service, serve

    service = Service(settings, opening=not check)

    def announce(address: Address, admin: Address | None) -> Iterator[str]:
        for label, text in served.lines(service, address, admin):
            yield f"{label}: {text}"
        for text in (*served.key_notes(settings), *served.notes(service)):
            yield f"note: {text}"

    if check:
        _show(service)
        return
    with _logging(settings.log):
        serve(service, read, announce)


def check_file(file: str, *, strict: bool, as_json: bool) -> int:
    """Check the TOML of an auth server, with the environment over it, as `serve --check` does."""
    needs_server()
    from moq_token.auth.config import in_one_line
    from moq_token.cli import served
    from moq_token.server.reading import read_settings
    from moq_token.server.run import Service

    settings = read_settings(config=file, environ=os.environ)
    service = Service(settings)
    found = list(served.findings(settings))
    problems = [str(finding) for finding in found if finding.fatal]
    notes = [*(str(finding) for finding in found if not finding.fatal), *served.notes(service)]
    failed = bool(problems or (strict and notes))
    if as_json:
        admits = dict(served.lines(service, settings.address, settings.admin_address))
        result = {"ok": not failed, "admits": admits, "problems": problems, "notes": notes}
        output.emit(output.json_text(result, pretty=output.to_terminal(sys.stdout)))
    elif failed:
        raise output.Failed(f"{shown_path(file)}: {in_one_line(problems or notes)}")
    else:
        _show(service)
    return int(failed)


def _show(service: Service) -> None:
    from moq_token.cli import served

    settings = service.settings
    output.emit(served.table(served.lines(service, settings.address, settings.admin_address)))
    for text in (*served.key_notes(settings), *served.notes(service)):
        output.note(text)


def parsed(flags: dict[str, Any]) -> dict[str, Any]:
    """Return the values of the flags that were given. Raises ``click.UsageError``, and ``ConfigError``."""
    needs_server()
    from moq_token.server.reading import SETTINGS, parse

    values: dict[str, Any] = {}
    for name, given in flags.items():
        if given in (None, False, ()):
            continue
        try:
            if isinstance(given, tuple):
                values[name] = tuple(parse(SETTINGS[name], text) for text in given)
            else:
                values[name] = given if given is True else parse(SETTINGS[name], given)
        except ValueError as error:
            raise click.UsageError(f"--{name.replace('_', '-')}: {error}") from None
    if "key" in values and "key_dir" in values:
        raise click.UsageError("--key and --key-dir exclude each other: use one of them")
    return values


def needs_server() -> None:
    """Raise ``ConfigError`` if the extra for the auth server is missing."""
    from importlib.util import find_spec

    if find_spec("httptools") is None:
        from moq_token.sources.source import missing_extra

        raise ConfigError(missing_extra("the commands of the auth server", "server"))


def _open_standard_files() -> None:
    """Open the null device as each of standard input, output and error that is closed.

    The event loop would use its number for a file of its own, and libuv aborts the process when it closes one of these.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= _STANDARD_ERROR:
        pass
    os.close(descriptor)


@contextlib.contextmanager
def _logging(form: str) -> Iterator[None]:
    """Log to standard error."""
    import logging

    from moq_token.server.log import JsonFormatter, TextFormatter, ThreadedHandler

    handler: logging.Handler = logging.NullHandler()
    if sys.stderr is not None:  # None where standard error is closed
        stream: BinaryIO = sys.stderr.buffer
        handler = ThreadedHandler(getattr(stream, "raw", stream))
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    log = logging.getLogger("moq_token")
    before = log.level, log.propagate
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
    try:
        yield
    finally:
        log.removeHandler(handler)
        handler.close()
        log.level, log.propagate = before
