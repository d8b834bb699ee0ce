"""The original programs and libraries, as the tests call them."""

from __future__ import annotations

import http.client
import json
import os
import re
import socket
import subprocess
import sys
import threading
from abc import ABC, abstractmethod
from collections import deque
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from moq_token import Pattern, Patterns

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from moq_token import Algorithm

HERE = Path(__file__).parent
TYPESCRIPT_PACKAGE = HERE / "node_modules" / "@moq" / "token"

Json = dict[str, Any]

# Far enough ahead for every clock, and below 2**31.
EXPIRES = 2_000_000_000


class RefusedByPeerError(Exception):
    """The other side has refused: an original, or the command line of this package."""


class TypeScript:
    """The library ``@moq/token`` in one long-lived node process."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def generate(self, algorithm: str, kid: str) -> str:
        """Make a key and return the text of its file."""
        return json.dumps(self._call("generate", algorithm, kid), indent=2)

    def load(self, key: str) -> Json:
        return self._mapping("load", key)

    def load_public(self, key: str) -> Json:
        return self._mapping("loadPublic", key)

    def sign(self, key: str, claims: Mapping[str, object]) -> str:
        token = self._call("sign", key, claims)
        assert isinstance(token, str)
        return token

    def verify(self, key: str, token: str, root: str) -> Json:
        return self._mapping("verify", key, token, root)

    def verify_with_public(self, key: str, token: str, root: str) -> Json:
        return self._mapping("verifyWithPublic", key, token, root)

    def _mapping(self, name: str, *args: object) -> Json:
        value = self._call(name, *args)
        assert isinstance(value, dict)
        return value

    def _call(self, name: str, *args: object) -> object:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"name": name, "args": args}) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        if "error" in answer:
            raise RefusedByPeerError(answer["error"])
        return answer["value"]


class CommandLine:
    """A ``moq-token`` command, of this package or an original."""

    def __init__(self, *command: str | Path) -> None:
        self.command = command

    def __call__(self, *arguments: str | Path, stdin: str = "") -> str:
        """Run it and return its output. Raises ``RefusedByPeerError`` if it refuses."""
        done = subprocess.run(
            [*self.command, *arguments], input=stdin, capture_output=True, encoding="utf-8", check=False
        )
        if done.returncode != 0:
            raise RefusedByPeerError(f"exit status {done.returncode}: {done.stderr}")
        return done.stdout


class OriginalCommandLine(CommandLine, ABC):
    """An original, with what differs between them."""

    @abstractmethod
    def generate(self, algorithm: Algorithm, key: Path, public: Path, *, base64: bool) -> None:
        """Write a key, and its public half where there is one, as JSON or base64url if it can."""

    @abstractmethod
    def verify(self, key: Path, token: str, root: str) -> Json:
        """Return the claims that it prints."""


class TypeScriptCommandLine(OriginalCommandLine):
    def generate(self, algorithm: Algorithm, key: Path, public: Path, *, base64: bool) -> None:
        form = ["--base64"] if base64 else []
        self("generate", "--key", key, "--algorithm", algorithm, *public_arguments(algorithm, public), *form)

    def verify(self, key: Path, token: str, root: str) -> Json:
        return claims_without_iat(self("verify", "--key", key, "--root", root, stdin=token))


class RustCommandLine(OriginalCommandLine):
    def generate(self, algorithm: Algorithm, key: Path, public: Path, *, base64: bool) -> None:  # noqa: ARG002
        # It writes base64url only.
        self("generate", "--out", key, "--algorithm", algorithm, *public_arguments(algorithm, public))

    def verify(self, key: Path, token: str, root: str) -> Json:
        printed = " ".join(self("verify", "--key", key, stdin=token).split())
        found = _PRINTED_CLAIMS.match(printed)
        assert found is not None, printed
        claims = {"root": found[1], "put": _quoted(found[2]), "get": _quoted(found[3]), "exp": int(found[4])}
        assert claims["root"] == root
        return claims


# It prints the claims for people, in the debug notation of Rust.
_PRINTED_CLAIMS = re.compile(
    r'Claims { root: "(.*)", publish: \[(.*)\], subscribe: \[(.*)\], expires: Some\( SystemTime { tv_sec: (\d+),'
)


def _quoted(text: str) -> list[str]:
    return re.findall(r'"(.*?)"', text)


OURS = CommandLine(sys.executable, "-m", "moq_token")
OUR_AUTH = CommandLine(*OURS.command, "auth")
"""The commands that mean what those of ``moq auth`` mean."""


class AuthServer:
    """A running auth server on a Unix socket, asked as a relay asks it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._connection = _UnixConnection(path)

    def connect(self, path: str, token: str | None = None) -> Json | None:
        """Report a client that dials, and return its grant, or None if it is refused."""
        request = {"id": "0" * 32, "event": "connect", "node": "", "transport": "quic", "path": path}
        if token is not None:
            request["query"] = f"jwt={token}"
        status, body = self.ask(json.dumps(request))
        if status == http.HTTPStatus.FORBIDDEN:
            return None
        assert status == http.HTTPStatus.OK, body
        grant = json.loads(body)
        assert isinstance(grant, dict)
        return grant

    def ask(self, body: str) -> tuple[int, bytes]:
        """Send the body of a request, and return the status and the body of the answer."""
        self._connection.request("POST", "/", body.encode(), {"content-type": "application/json"})
        with self._connection.getresponse() as response:
            return response.status, response.read()

    def close(self) -> None:
        self._connection.close()


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=100)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


@contextmanager
def serving(auth: CommandLine, *arguments: str | Path) -> Iterator[str]:
    """Run ``serve`` of a command line, and yield the line that says where it listens."""
    with subprocess.Popen(
        [*auth.command, "serve", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        log = process.stderr
        assert log is not None
        listens = next((line for line in log if "listening" in line), None)
        # Read its log, because it blocks when the pipe is full.
        reader = threading.Thread(target=deque, args=(log, 0))
        reader.start()
        try:
            assert listens is not None, "it does not listen"
            yield listens
        finally:
            process.kill()
            reader.join()


@contextmanager
def auth_server(auth: CommandLine, path: Path, *arguments: str | Path) -> Iterator[AuthServer]:
    """Run ``serve`` on a Unix socket: the original does not print a port that it chooses."""
    with serving(auth, "--listen", f"unix:{path}", *arguments):
        server = AuthServer(path)
        try:
            yield server
        finally:
            server.close()


def missing(what: str) -> NoReturn:
    """Skip a test whose peer is not installed. In CI, fail instead."""
    if os.environ.get("CI"):
        pytest.fail(f"CI must have {what}")
    pytest.skip(f"needs {what}")


def program(variable: str) -> str:
    """Return the path of a Rust program."""
    path = os.environ.get(variable)
    if not path:
        missing(f"the Rust program that {variable} names: `make interop` builds it")
    return path


def public_arguments(algorithm: Algorithm, path: Path) -> tuple[str | Path, ...]:
    """Return the options of ``generate`` for the public half, if the algorithm has one."""
    return () if algorithm.symmetric else ("--public", path)


def tampered(token: str) -> str:
    """Change the first character of the signature, which leaves the encoding canonical."""
    signed, _, signature = token.rpartition(".")
    return f"{signed}.{'B' if signature[0] == 'A' else 'A'}{signature[1:]}"


def claims_without_iat(text: str) -> Json:
    """Parse claims, without the time of issue, which the TypeScript original always sets."""
    claims = json.loads(text)
    assert isinstance(claims, dict)
    claims.pop("iat", None)
    return claims


def canonical(grants: tuple[str | Pattern, ...]) -> list[str]:
    """Write grants as patterns, reduced and sorted."""
    return list(map(str, Patterns(Pattern.subtree(grant) if isinstance(grant, str) else grant for grant in grants)))
