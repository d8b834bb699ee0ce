"""Whether a relay can work with the files that its configuration names."""

from __future__ import annotations

import os
import re
import ssl
import stat
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit
from urllib.request import url2pathname

from moq_token import files
from moq_token.auth.config import in_one_line
from moq_token.errors import ConfigError, InvalidKeyError, InvalidKeyIdError, shown, shown_path
from moq_token.keyset import read_set
from moq_token.keytext import parse_members
from moq_token.kid import KeyId
from moq_token.lint import read_key
from moq_token.sources.objects import SCHEMES
from moq_token.sources.opening import open_source

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from moq_token.auth.config import AuthConfig

# Of a directory, only this number of keys is read.
MAX_CHECKED_KEYS = 1000

_SUFFIX = ".jwk"
_UNEXPANDED = re.compile(r"\$\{|\$[A-Za-z_]|%[A-Za-z_]+%")
_LISTED = 3


class FileFinding(NamedTuple):
    """What is wrong with the file of one member: ``fatal`` if a relay cannot work with it, else a warning."""

    member: str
    message: str
    fatal: bool = True

    def __str__(self) -> str:
        return f"`{self.member}`: {self.message}"


def nothing_configured(warnings: Iterable[str]) -> ConfigError:
    """Return the message that nothing is configured, with the settings that were found instead."""
    message = "nothing is configured, so nobody could get in: set `key`, `key_dir`, `auth_api` or `public` in `[auth]`"
    seen = in_one_line(warnings)
    return ConfigError(f"{message} ({seen})" if seen else message)


def check_exists(text: str, *, directory: bool) -> None:
    """Raise ``ConfigError`` where a path of ``key`` or ``key_dir`` does not exist. Its content is not checked."""
    if "://" in text:
        return
    member = "key_dir" if directory else "key"
    found = _missing(text, directory=directory)
    if found is not None:
        raise ConfigError(f"`{member}`: {found}")


def check_place(text: str, *, directory: bool) -> None:
    """Raise ``ConfigError`` where ``key`` or ``key_dir`` is a URL that no source of keys takes.

    Unlike opening a source, this needs no extra.
    """
    scheme = text.partition("://")[0].lower()
    if scheme in {"http", "https"} or (directory and scheme in SCHEMES):
        return
    open_source(text, directory=directory)


def check_files(config: AuthConfig) -> Iterator[FileFinding]:
    """Read the local files that a configuration names, and say what is wrong with them. No URL is asked.

    What is named relatively is looked for in the working directory, as the relay does.
    """
    if (path := _local(config.key)) is not None:
        missing = _missing(path, directory=False)
        yield from [FileFinding("key", missing)] if missing is not None else _check_key("key", path)
    if (path := _local(config.key_dir)) is not None:
        missing = _missing(path, directory=True)
        yield from [FileFinding("key_dir", missing)] if missing is not None else _check_directory(path)
    yield from _check_tls(config)


def check_served(member: str, text: str, *, directory: bool, lenient: bool) -> Iterator[FileFinding]:
    """Read the local keys of an auth server: a directory, a key or a set. Strictly unless it is ``lenient``."""
    path = _local(text)
    if path is None:
        return
    directory = directory or path.endswith("/") or os.path.isdir(path)  # noqa: PTH112 - a name as it was written
    missing = _missing(path, directory=directory)
    if missing is not None:
        yield FileFinding(member, missing)
    elif directory:
        yield from _check_directory(path, member, strict=not lenient)
    else:
        yield from _check_key(member, path, strict=not lenient, sets=True)


def _local(text: str | None) -> str | None:
    if text is None:
        return None
    if text.lower().startswith("file://"):
        return url2pathname(urlsplit(text).path)
    return None if "://" in text else text


def _missing(path: str, *, directory: bool) -> str | None:
    """Say why there is no file, or no directory, of that name."""
    name = shown_path(path)
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116 - a name as it was written
    except FileNotFoundError:
        where = "" if os.path.isabs(path) else f" (looked in {_working_directory()})"  # noqa: PTH117
        if path.startswith("~"):
            where += "; `~` is not expanded: write the whole path"
        elif _UNEXPANDED.search(path):
            where += "; variables are not expanded: write the path itself"
        return f"{'directory' if directory else 'file'} not found: {name[1:-1]}{where}"
    except (OSError, ValueError) as error:
        return f"cannot read {name}: {_why(error)}"
    if directory and not stat.S_ISDIR(mode):
        return f"{name} is not a directory: for a single key write `key`"
    if not directory and stat.S_ISDIR(mode):
        return f"{name} is a directory: for a directory of keys write `key_dir`"
    if not directory and not stat.S_ISREG(mode):
        return f"{name} is not a regular file"
    return None


def _working_directory() -> str:
    try:
        return shown_path(os.getcwd())[1:-1]  # noqa: PTH109 - as text
    except OSError:
        return "a working directory that no longer exists"


def _check_key(member: str, path: str, *, strict: bool = False, sets: bool = False) -> Iterator[FileFinding]:
    """Check a key as relays before 0.15 read it, or with ``strict`` as auth servers do; with ``sets`` also a set."""
    name = shown_path(path)
    try:
        data = files.read(path)
        if sets and (ignored := _ignored(data)) is not None:
            yield from (FileFinding(member, f"ignored in {name}: {text}", fatal=False) for text in ignored)
            return
        first, second = read_key(data)
    except InvalidKeyError as error:
        yield FileFinding(member, f"invalid key in {name}: {error}")
        return
    except OSError as error:
        yield FileFinding(member, f"cannot read {name}: {_why(error)}")
        return
    findings = (second if strict else first).findings
    refused = next((finding for finding in findings if finding.refused), None)
    if refused is not None:
        yield FileFinding(member, f"invalid key in {name}: {refused}")
    elif any(finding.code == "private" for finding in findings):
        message = f"{name} is a private key, but the public half is enough to verify: moq-token public {name}"
        yield FileFinding(member, message, fatal=False)


def _ignored(data: bytes) -> tuple[str, ...] | None:
    """Return what is ignored in a JWK Set, or None for anything else. Raises ``InvalidKeyError``."""
    try:
        members = parse_members(data)
    except InvalidKeyError:
        return None
    return read_set(members).ignored if "keys" in members else None


def unread_keys(config: AuthConfig) -> Iterator[str]:
    """Name the local key files that relays before 0.15 read, but auth servers of relays from 0.15 on do not."""
    if (path := _local(config.key)) is not None:
        paths = [path]
    elif (path := _local(config.key_dir)) is not None:
        paths = [os.path.join(path, entry) for entry in sorted(os.listdir(path)) if entry.endswith(_SUFFIX)]  # noqa: PTH118, PTH208
    else:
        paths = []
    for path in paths[:MAX_CHECKED_KEYS]:
        try:
            first, second = read_key(files.read(path))
        except (InvalidKeyError, OSError):
            continue  # check_files says so
        refused = next((finding for finding in second.findings if finding.refused), None)
        if refused is not None and not first.refused:
            yield f"the auth server refuses {shown_path(path)}: {refused}"


def _check_directory(path: str, member: str = "key_dir", *, strict: bool = False) -> Iterator[FileFinding]:
    name = shown_path(path)
    try:
        entries = sorted(os.listdir(path))  # noqa: PTH208 - a name as it was written
    except OSError as error:
        yield FileFinding(member, f"cannot read {name}: {_why(error)}")
        return
    keys = [entry for entry in entries if entry.endswith(_SUFFIX)]
    if not keys:
        others = ", ".join(shown(entry) for entry in entries[:_LISTED])
        more = ", …" if len(entries) > _LISTED else ""
        unread = f"; not read: {others}{more}" if others else ""
        yield FileFinding(member, f"{name} contains no {{kid}}.jwk, so every token is refused{unread}", fatal=False)
    for entry in keys[:MAX_CHECKED_KEYS]:
        file = os.path.join(path, entry)  # noqa: PTH118
        try:
            KeyId(entry.removesuffix(_SUFFIX))
        except InvalidKeyIdError:
            message = f"{shown(entry)} is never read: a key id is 1 to 128 characters of A-Z a-z 0-9 - _"
            yield FileFinding(member, message, fatal=False)
            continue
        missing = _missing(file, directory=False)
        yield from [FileFinding(member, missing)] if missing is not None else _check_key(member, file, strict=strict)
    if len(keys) > MAX_CHECKED_KEYS:
        yield FileFinding(member, f"only the first {MAX_CHECKED_KEYS} of {len(keys)} keys were checked", fatal=False)


def _check_tls(config: AuthConfig) -> Iterator[FileFinding]:
    tls = config.tls
    named = [("root", root) for root in tls.roots]
    named += [(name, path) for name, path in (("cert", tls.cert), ("key", tls.key)) if path is not None]
    unusable = False
    for name, path in named:
        missing = _missing(path, directory=False)
        if missing is not None:
            unusable = True
            yield FileFinding(f"client.tls.{name}", missing)
    if unusable:
        return
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for root in tls.roots:
        try:
            context.load_verify_locations(root)
        except (OSError, ValueError):
            yield FileFinding("client.tls.root", f"{shown_path(root)} contains no PEM certificate")
    if tls.cert is not None:
        try:
            context.load_cert_chain(tls.cert, tls.key, password=bytes)  # without one, it would ask the terminal
        except (OSError, ValueError):
            message = f"{shown_path(tls.cert)} and {shown_path(tls.key or '')} are not a PEM certificate and its key"
            yield FileFinding("client.tls.cert", f"{message}, or the key is encrypted")


def _why(error: OSError | ValueError) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or "the name is invalid"
