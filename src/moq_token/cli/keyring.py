"""Read the inputs of the commands: keys, sets and directories of keys, tokens and passwords."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import click

from moq_token import files, jws
from moq_token.cli.grammar import is_secret
from moq_token.cli.output import Failed, note, place, reason, run_quietly, to_terminal
from moq_token.errors import InvalidKeyError, InvalidKeyIdError, KeyNotFoundError, KeyOperationError, shown, shown_path
from moq_token.files import MAX_FILE_BYTES
from moq_token.key import Key
from moq_token.keyset import KeySet, ReadSet, read_set
from moq_token.keytext import parse_members
from moq_token.kid import KeyId
from moq_token.recognizer import is_file_name

if TYPE_CHECKING:
    from moq_token.claims import Claims
    from moq_token.trace import Trace

_WEB = ("http://", "https://")
_STDIN = ("-", "/dev/stdin", "/dev/fd/0")
_MAX_TOKEN_BYTES = jws.MAX_TOKEN_BYTES + 4096  # room for white space around it
# Endings of file names that no token has: the last part of a token is a signature, of 43 characters or more.
_TOKEN_SUFFIXES = (".jwt", ".txt", ".token")
_LISTED_KEYS = 5
_MAX_NAME_CHARACTERS = 255


class Source(NamedTuple):
    """Where keys are read from: the name of a file or directory, ``-``, or None for the environment variable."""

    path: str | None

    def __str__(self) -> str:
        return "MOQ_TOKEN_KEY_DATA" if self.path is None else _called(self.path)

    @property
    def is_stdin(self) -> bool:
        return self.path in _STDIN

    def read(self) -> bytes:
        """Read the text of the key. Raises ``Failed``."""
        if self.path is None:
            text = os.environ["MOQ_TOKEN_KEY_DATA"].encode("utf-8", "surrogateescape")
            if _names_a_file(text):
                raise Failed(f"{self}: this looks like a file name: use MOQ_TOKEN_KEY for a file name")
            return text
        return read(self.path, "key")


class KeyDirectory(NamedTuple):
    """A directory of ``{kid}.jwk`` files, as relays have them for ``key_dir``."""

    path: str

    def find_key(self, kid: str) -> Key | None:
        """Read the key with this id, or return None. An invalid id reads no file."""
        try:
            path = os.path.join(self.path, f"{KeyId(kid)}.jwk")
        except InvalidKeyIdError:
            return None
        return read_key(Source(path)) if os.path.lexists(path) else None

    def kids(self) -> list[str]:
        """List the ids for which there are files."""
        return sorted(name.removesuffix(".jwk") for name in os.listdir(self.path) if name.endswith(".jwk"))

    def files(self) -> list[str]:
        """List the files that keys are in."""
        return [os.path.join(self.path, f"{kid}.jwk") for kid in self.kids()]


class RemoteDirectory(NamedTuple):
    """A directory of keys at a URL or in an object store."""

    url: str

    def __str__(self) -> str:
        return shown_path(place(self.url))

    def find_key(self, kid: str) -> Key | None:
        """Fetch the key with this id, or return None. Raises ``UnavailableError`` and ``ConfigError``."""
        from moq_token.sources.opening import open_directory

        async def get() -> Key:
            source = open_directory(self.url)
            try:
                return await source.get(KeyId(kid))
            finally:
                await source.aclose()

        try:
            return run_quietly(get())
        except (InvalidKeyIdError, KeyNotFoundError):
            return None


Keys: TypeAlias = Key | KeySet | KeyDirectory | RemoteDirectory


def source(path: str | None) -> Source:
    """Return where the key is: from ``--key``, else from the environment. Raises ``click.UsageError``."""
    if path is not None:
        return Source(path)
    path, data = os.environ.get("MOQ_TOKEN_KEY"), os.environ.get("MOQ_TOKEN_KEY_DATA")
    if path and data:
        raise click.UsageError("MOQ_TOKEN_KEY and MOQ_TOKEN_KEY_DATA are both set: unset one of them, or name the key")
    if not path and not data:
        raise click.UsageError(
            "no key: name its file (- for standard input), or set MOQ_TOKEN_KEY to the name of the file or "
            "MOQ_TOKEN_KEY_DATA to the key itself"
        )
    if path and is_secret(path):
        raise click.UsageError(
            "MOQ_TOKEN_KEY must be a file name, but this looks like a key: use MOQ_TOKEN_KEY_DATA for a key"
        )
    return Source(path or None)


def read_key(where: Source) -> Key:
    """Read one key. Raises ``Failed`` and ``InvalidKeyError``."""
    key = read_signer(where)
    if isinstance(key, KeySet):
        raise Failed(f"{where} is a set of keys, expected a single key")
    return key


def read_signer(where: Source) -> Key | KeySet:
    """Read a key, a set of them, or the key of a directory that signs. Raises ``Failed`` and ``Error``."""
    if where.path is not None and os.path.isdir(where.path):
        from moq_token.rotation import Rotation

        return Rotation(where.path).signing_key()
    return parse(where, where.read())


def parse(where: Source, text: bytes) -> Key | KeySet:
    """Read the text of a key or of a set. Raises ``InvalidKeyError``, which names where it is from."""
    try:
        members = parse_members(text)
        return noted(where, read_set(members)) if "keys" in members else Key.from_members(members)
    except InvalidKeyError as error:
        raise type(error)(f"{where}: {error}") from None


def _names_a_file(text: bytes) -> bool:
    name = text.decode(errors="replace").strip()
    return is_file_name(name) or (len(name) <= _MAX_NAME_CHARACTERS and os.path.isfile(name))


def noted(where: Source, found: ReadSet) -> KeySet:
    """Return the keys of a set that was read, and print a note that names the keys that were ignored."""
    if found.ignored:
        more = len(found.ignored) - _LISTED_KEYS
        listed = "; ".join(found.ignored[:_LISTED_KEYS]) + (f"; and {more} more" if more > 0 else "")
        count = len(found.ignored)
        note(f"{where}: ignored {count} key{'s' * (count > 1)} that tokens cannot use: {listed}")
    return found.keys


def read_keys(where: Source) -> Keys:
    """Read a key or a set, or take a directory of keys, here or at a URL.

    Of the URLs of http and https those with a last slash are directories. Raises ``Failed`` and ``Error``.
    """
    if where.path is not None and where.path.lower().startswith("file://"):
        from moq_token.sources.opening import local_path

        where = Source(local_path(where.path))
    if where.path is None or "://" not in where.path:
        is_directory = where.path is not None and os.path.isdir(where.path)
        return KeyDirectory(where.path) if where.path is not None and is_directory else read_signer(where)
    if where.path.endswith("/") or not where.path.lower().startswith(_WEB):
        return RemoteDirectory(where.path)
    return parse(where, _fetch(where.path))


def _fetch(url: str) -> bytes:
    from moq_token.sources import Http
    from moq_token.sources.urls import check_url

    async def fetch() -> bytes:
        async with Http() as http:
            return await http.fetch(check_url(url))

    return run_quietly(fetch())


class Verifier:
    """Verify tokens with the key that each token names, as relays choose it.

    ``strict`` also refuses what relays from 0.15 refuse. ``key`` is the one that was chosen last.
    """

    def __init__(self, keys: Keys, *, strict: bool = False) -> None:
        self._keys = keys
        self._strict = strict
        self.key: Key | None = None

    def verify(self, token: str, *, now: float, trace: Trace | None = None) -> Claims:
        """Return the claims of a valid token. Raises ``RefusedError``, also where its key may not verify."""
        self.key = _key_for(self._keys, token, trace)
        try:
            return self.key.verify(token, now=now, strict=self._strict, trace=trace)
        except KeyOperationError as error:
            raise KeyNotFoundError(str(error)) from None


def _key_for(keys: Keys, token: str, trace: Trace | None) -> Key:
    """Choose the key that verifies a token. Raises ``KeyNotFoundError`` and ``InvalidTokenError``.

    A single key is used whatever the token names, as in relays that have only one.
    """
    if isinstance(keys, Key):
        return keys
    if trace is not None:
        trace.begin("form")
    _, header, _, _ = jws.split(token)
    kid = jws.kid_of(jws.parse_header(header))
    if trace is not None:
        trace.begin("key")
    if kid is None:
        if isinstance(keys, KeySet) and len(keys) == 1:
            return keys.keys[0]
        raise KeyNotFoundError(f"the token has no `kid`, which is needed to select the key{_among(keys)}")
    key = keys.find_key(kid)
    if key is None:
        raise KeyNotFoundError(f"no key with the id {shown(kid)}{_among(keys)}", kid=kid)
    return key


def read_token(word: str | None, path: str | None, key: Source | None = None) -> str:
    """Read a token: the argument itself, a file, or standard input; white space around it is dropped.

    Raises ``Failed``, and ``click.UsageError`` where two things would be read from the same place.
    """
    if word is not None and path is not None:
        raise click.UsageError("give the token as an argument or with --in, not both")
    if word is not None and word not in _STDIN:
        _refuse_file_name(word)
        return word.strip()
    path = path or "-"
    if path in _STDIN and key is not None and key.is_stdin:
        raise click.UsageError("key and token cannot both come from standard input: name a file for one of them")
    data = read(path, "token", _MAX_TOKEN_BYTES)
    # Some shells write UTF-16, and some editors a byte order mark.
    encoding = "utf-16" if data.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    return data.decode(encoding, "replace").strip()


def _refuse_file_name(word: str) -> None:
    """Raise ``click.UsageError`` where a token should be and the name of a file is."""
    if os.path.lexists(word):
        raise click.UsageError(f"expected a token, got a file name: use --in {shown_path(word)}")
    if "://" not in word and word.endswith(_TOKEN_SUFFIXES):
        raise click.UsageError(f"expected a token, got {shown(word)}: file not found, and files are passed with --in")


def read_password(path: str | None, key: Source | None = None) -> bytes | None:
    """Read a password, the first line of a file. Raises ``Failed`` and ``click.UsageError``."""
    if path is None:
        return None
    if path in _STDIN and key is not None and key.is_stdin:
        raise click.UsageError("key and password cannot both come from standard input: name a file for one of them")
    password = read(path, "password").partition(b"\n")[0].removesuffix(b"\r")
    if not password:
        raise Failed(f"{_called(path)} has an empty first line, expected a password")
    return password


def read(path: str, what: str, limit: int = MAX_FILE_BYTES) -> bytes:
    """Read a whole file, or standard input, of at most ``limit`` bytes. Raises ``Failed``."""
    try:
        if path not in _STDIN:
            if "\0" in path:
                raise ValueError  # noqa: TRY301 - worded as below
            return files.read(path, limit)
        if sys.stdin is None:
            raise Failed(f"cannot read the {what}: standard input is closed")
        if to_terminal(sys.stdin):
            note(f"reading the {what} from the terminal: end it with Ctrl-D on a line of its own")
        data = sys.stdin.buffer.read(limit + 1)
    except InvalidKeyError as error:
        raise Failed(f"cannot read the {what}: {error}") from None
    except (OSError, ValueError) as error:
        raise Failed(f"cannot read {_called(path)}: {reason(error)}") from None
    if len(data) > limit:
        raise Failed(f"{_called(path)} is too large for a {what}: expected at most {limit} bytes")
    return data


def _called(path: str) -> str:
    return "standard input" if path in _STDIN else shown_path(place(path))


def _among(keys: KeySet | KeyDirectory | RemoteDirectory) -> str:
    if isinstance(keys, RemoteDirectory):
        return f" at {keys}"
    kids = [key.kid for key in keys if key.kid is not None] if isinstance(keys, KeySet) else keys.kids()
    listed = [shown(kid) for kid in kids]
    if not listed:
        return ", and no key has an id" if isinstance(keys, KeySet) and keys.keys else ", as there are no keys at all"
    more = ", …" if len(listed) > _LISTED_KEYS else ""
    return f"; available ids: {', '.join(listed[:_LISTED_KEYS])}{more}"
