"""Ask the admin listener of a running auth server: a small synchronous client, so that commands start fast."""

from __future__ import annotations

import os
import re
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import click

from moq_token.cli.output import Failed, reason
from moq_token.encoding import parse_json
from moq_token.errors import shown
from moq_token.recognizer import what_is_key_or_token

if TYPE_CHECKING:
    from collections.abc import Mapping
    from http.client import HTTPConnection

    from moq_token.cli.options import Decorator

SECONDS = 30.0
"""How long an answer may take. A ban is answered when the sessions have ended, or after 5 s."""
MAX_ANSWER_BYTES = 16 << 20

_VARIABLE = "MOQ_TOKEN_ADMIN"
_UNIX = "unix:"
_MAX_MESSAGE_CHARACTERS = 500
_HTTP_OK, _HTTP_BAD, _HTTP_UNPROCESSABLE, _HTTP_NOT_FOUND = 200, 400, 422, 404

admin: Decorator = click.option(
    "--admin",
    metavar="unix:PATH|URL",
    help=f"Admin listener of the auth server: unix:PATH or http://127.0.0.1:PORT; default: {_VARIABLE}.",
)


# What the admin listener calls otherwise than the options do.
_OPTIONS = {"narrow_path": "without-path", "role": "without"}
_NAMES = (
    "author|dry_run|everybody|for|issued_before|jti|kid|limit|narrow_path|node|path|reason|remote|role|session|subject|"
    "token|until"
)
_NAMED = re.compile(f"`({_NAMES})`")


class Refused(Failed):
    """The auth server refuses a request; ``reason`` is the code that it gives."""

    def __init__(self, message: str, reason: object) -> None:
        super().__init__(message)
        self.reason: object = reason


class Admin:
    """The admin listener at ``--admin``, or at what the environment variable names.

    Raises ``click.UsageError`` for an address that is missing or invalid.
    """

    def __init__(self, given: str | None) -> None:
        where = "--admin" if given else _VARIABLE
        place = given or os.environ.get(_VARIABLE, "")
        if not place:
            raise click.UsageError(
                f"--admin is missing: give the address that `serve --admin` listens on, such as "
                f"unix:/run/moq-token/admin.sock, or set {_VARIABLE}"
            )
        self._path: str | None = None
        self._host, self._port = "localhost", 0
        if place.startswith(_UNIX):
            self._path = place.removeprefix(_UNIX).removeprefix("//")
            self._name = f"{_UNIX}{self._path}"
            good = bool(self._path) and "\0" not in self._path
        else:
            good = self._read_url(place)
            self._name = f"http://{self._host}:{self._port}"
        if not good:
            got = "" if what_is_key_or_token(place) else f", got {shown(place.rpartition('@')[2].partition('?')[0])}"
            raise click.UsageError(
                f"{where} must be unix:PATH, or http:// with a loopback address and a port, such as "
                f"http://127.0.0.1:4441{got}"
            )

    def _read_url(self, place: str) -> bool:
        from urllib.parse import urlsplit

        from moq_token.sources.urls import is_loopback

        try:
            parts = urlsplit(place if "://" in place else f"http://{place}")
            host, self._port = parts.hostname or "", parts.port or 0
        except ValueError:
            return False
        self._host = f"[{host}]" if ":" in host else host
        bare = parts.path in {"", "/"} and not (parts.query or parts.fragment or parts.username or parts.password)
        return parts.scheme == "http" and is_loopback(host) and bare and bool(self._port)

    def get(self, target: str, query: Mapping[str, str | None] = MappingProxyType({})) -> dict[str, Any]:
        """Read one of the listings; a value None is left out of the query. Raises as ``ask()`` does."""
        return self.ask("GET", target, query=query)

    def ask(
        self,
        method: str,
        target: str,
        body: bytes | None = None,
        *,
        query: Mapping[str, str | None] = MappingProxyType({}),
    ) -> dict[str, Any]:
        """Send one request and return the answer, a JSON object. The query is encoded here.

        Raises ``Failed`` if nothing usable answers, ``Refused`` if the server refuses the request, and
        ``click.UsageError`` where it says that the request is invalid.
        """
        from http.client import HTTPConnection, HTTPException
        from urllib.parse import urlencode

        given = urlencode({name: value for name, value in query.items() if value is not None})
        target = f"{target}?{given}" if given else target
        connection = HTTPConnection(self._host, self._port or None, timeout=SECONDS)
        try:
            self._dial(connection)
            connection.request(method, target, body, {} if body is None else {"Content-Type": "application/json"})
            response = connection.getresponse()
            status, data = response.status, response.read(MAX_ANSWER_BYTES + 1)
        except TimeoutError:
            raise Failed(f"{shown(self._name)}: no answer from the auth server within {SECONDS:g} s") from None
        except OSError as error:
            raise Failed(f"cannot reach the auth server at {shown(self._name)}: {self._advice(error)}") from None
        except (HTTPException, ValueError):
            raise Failed(f"{shown(self._name)} is not the admin listener of an auth server") from None
        finally:
            connection.close()
        return self._read(status, data)

    def _read(self, status: int, data: bytes) -> dict[str, Any]:
        try:
            answer = parse_json(data) if len(data) <= MAX_ANSWER_BYTES else None
        except ValueError:
            answer = None
        if status == _HTTP_OK and isinstance(answer, dict):
            return answer
        error = answer.get("error") if isinstance(answer, dict) else None
        message = error.get("message") if isinstance(error, dict) else None
        if not isinstance(message, str) or not message:
            if status == _HTTP_NOT_FOUND:  # such as the address that relays ask
                raise Failed(f"{shown(self._name)} is not an admin listener: give the address of `serve --admin`")
            raise Failed(f"{shown(self._name)} answered {status} without a reason: see the log of the auth server")
        message = message[:_MAX_MESSAGE_CHARACTERS]
        if status in {_HTTP_BAD, _HTTP_UNPROCESSABLE}:
            raise click.UsageError(_NAMED.sub(_option, message))
        raise Refused(message, error.get("reason") if isinstance(error, dict) else None)

    def _advice(self, error: OSError) -> str:
        if isinstance(error, FileNotFoundError):
            return f"socket not found: is `serve` running with --admin {self._name}?"
        if isinstance(error, ConnectionRefusedError):
            return "connection refused: is `serve` running with this --admin?"
        if isinstance(error, PermissionError):
            return "permission denied: run the command as the user that runs `serve`"
        if error.errno is None:  # Python refuses it before the system does
            return "the path of the socket is too long"
        return reason(error)

    def _dial(self, connection: HTTPConnection) -> None:
        import socket

        if self._path is None:
            connection.connect()
            return
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(SECONDS)
        connection.sock.connect(self._path)


def _option(named: re.Match[str]) -> str:
    name = named[1]
    return f"--{_OPTIONS.get(name, name.replace('_', '-'))}"
