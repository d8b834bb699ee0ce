"""How relays of both generations, and their auth servers, read a file with a key."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moq_token import recognizer
from moq_token.algorithm import Algorithm
from moq_token.encoding import b64decode, parse_json
from moq_token.errors import InvalidKeyError, InvalidKeyIdError, sealed, shown
from moq_token.jwk import KeyOperation
from moq_token.key import Key
from moq_token.keytext import MAX_KEY_BYTES, base64_of_any_kind
from moq_token.kid import KeyId
from moq_token.lint.finding import FIRST, ROLES, SECOND, Findings
from moq_token.lint.grants import PREFIXES, Words, read_grants
from moq_token.lint.tokens import MAX_NAMED, note_no_kid, note_shared_secret

if TYPE_CHECKING:
    from collections.abc import Mapping

    from moq_token.lint.finding import Reading

_NOT_MATERIAL = frozenset(("key_ops", "kid", "scope"))
_MARKS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")
_IMPORT = "convert it with `moq-token import`"
_WORDS = Words("the member", "scope.", "the scope permits nothing", "generate a key with another scope", of_token=False)
_EVERYTHING = ("**",)


@sealed
def read_key(data: bytes) -> tuple[Reading, Reading]:
    """Return how relays before 0.15, and auth servers of relays from 0.15 on, read the content of a key file.

    What is granted is the scope of the key: what it can sign for, and what is accepted from it. Whether somebody else
    knows the key cannot be checked.
    """
    found = Findings()
    try:
        members = _members(data)
    except _RefusedText as error:
        found.refuse(*error.args)
        return found.readings()
    _read_use(members, found)
    _read_material(members, found)
    _read_scope(members.get("scope"), found)
    return found.readings()


class _RefusedText(Exception):  # noqa: N818 - the arguments are those of a finding
    pass


def _members(data: bytes) -> dict[str, object]:
    """Read a JSON object, or base64url of one, as relays do, which is stricter than ``parse_members()``."""
    if len(data) > MAX_KEY_BYTES:
        raise _RefusedText("too-large", f"a key must not be larger than {MAX_KEY_BYTES} bytes")
    if data.startswith(_MARKS) or b"\0" in data[:4]:
        raise _RefusedText("encoding", "a relay does not read a byte order mark or UTF-16", _IMPORT)
    if b"-----BEGIN " in data[:1024]:
        raise _RefusedText("pem", "this is PEM, but a relay reads JWK", _IMPORT)
    text = data.decode(errors="surrogateescape").strip().encode(errors="surrogateescape")  # white space of Unicode too
    if not text.startswith(b"{"):
        try:
            text = b64decode(text).strip()
        except ValueError:
            if (base64_of_any_kind(text) or b"").lstrip().startswith(b"{"):
                what = "the base64url has padding, line breaks or another alphabet, which a relay does not read"
                raise _RefusedText("base64", what, _IMPORT) from None
    if not text.startswith(b"{"):
        raise _RefusedText("not-a-key", recognizer.name_of(data.strip()))
    try:
        members = parse_json(text)
    except ValueError as error:
        raise _RefusedText("bad-json", f"the key is not valid JSON: {error}", "write the key again") from None
    assert isinstance(members, dict)  # noqa: S101 - it begins with a brace
    if "keys" in members and "kty" not in members:
        fix = "write one key, or a directory of them as {kid}.jwk (`key_dir`, `--key-dir`)"
        raise _RefusedText("jwk-set", "this is a JWK Set, which a relay does not read", fix)
    return members


def _read_use(members: Mapping[str, object], found: Findings) -> None:
    """Read what the key is for: ``alg``, ``kty``, ``key_ops``."""
    algorithm, operations = members.get("alg"), members.get("key_ops", ["sign", "verify"])
    if algorithm is None:
        found.refuse("no-alg", "the member `alg` is missing", _IMPORT)
    elif not isinstance(algorithm, str) or algorithm not in Algorithm.__members__.values():
        found.refuse("bad-alg", f"the member `alg` must be one of {', '.join(Algorithm)}", _IMPORT)
    if "kty" not in members:
        message = "the member `kty` is missing, which means `oct` to relays before 0.15 only"
        found.refuse("no-kty", message, _IMPORT, SECOND)
    if not isinstance(operations, list) or not set(map(str, operations)) <= set(KeyOperation):
        found.refuse("bad-key-ops", f"the member `key_ops` must be a list of {', '.join(KeyOperation)}", _IMPORT)
    elif KeyOperation.VERIFY not in operations:
        found.refuse("no-verify", "the key must not verify", "its `key_ops` must contain `verify`")


def _read_material(members: Mapping[str, object], found: Findings) -> None:
    """Read ``kid`` and the members that are the key itself."""
    kid = members.get("kid")
    try:
        if kid is None:
            note_no_kid("the key", found)
        else:
            KeyId(kid if isinstance(kid, str) else "")
    except InvalidKeyIdError as error:
        found.refuse("bad-kid", f"the member `kid`: {error}", "give the key an id with `moq-token import --kid`")
    try:
        key = Key.from_members({name: value for name, value in members.items() if name not in _NOT_MATERIAL})
    except InvalidKeyError as error:
        if not found.refused(FIRST):  # otherwise a more exact finding exists already
            found.refuse("bad-key", str(error), "generate the key again, or convert it with `moq-token import`")
    else:
        for name in ("n", "e") if key.algorithm.kty == "RSA" else ():
            if (base64_of_any_kind(str(members[name]).encode()) or b"").startswith(b"\0"):
                found.refuse("bad-key", f"the member `{name}` starts with a zero byte: relays accept no token", _IMPORT)
                break
        if key.algorithm.symmetric:
            note_shared_secret(found)
        elif key.is_private:
            found.note("private", "this is a private key: to verify, its public half is enough", "`moq-token public`")


def _read_scope(scope: object, found: Findings) -> None:
    if scope is None:
        for generation in (FIRST, SECOND):
            for role in ROLES:
                found.grant(generation, role, _EVERYTHING)
        return
    if not isinstance(scope, dict):
        found.refuse("bad-type", "the member `scope` must be a JSON object", _IMPORT)
        return
    unknown = [name for name in scope if name not in {"root", *PREFIXES, *ROLES}]
    for name in unknown[:MAX_NAMED]:
        found.refuse("unknown-member", f"unknown member `scope.{shown(name)[1:-1]}`", "remove it", SECOND)
        found.note("unknown-member", f"`scope.{shown(name)[1:-1]}` is ignored", "remove it", FIRST)
    read_grants(scope, _WORDS, found)
