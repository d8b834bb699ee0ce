"""A set of keys (JWK Set; RFC 7517, section 5), for key rotation."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import msgspec

from moq_token import files, jws
from moq_token.errors import InvalidKeyError, KeyNotFoundError, KeyOperationError, sealed, shown
from moq_token.jwk import KeyOperation
from moq_token.key import Key, read_file
from moq_token.keytext import parse_members
from moq_token.kid import KeyId
from moq_token.recognizer import name_of_members

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from moq_token.claims import Claims
    from moq_token.trace import Trace

MAX_KEYS = 1000


class KeySet:
    """An immutable set of keys: the first that can sign signs, and the ``kid`` of a token picks the one that verifies.

    ``keys`` is a tuple of at most 1,000 keys (``InvalidKeyError``). Iterating gives the keys.
    """

    __slots__ = ("keys",)

    keys: tuple[Key, ...]

    @sealed
    def __init__(self, keys: Iterable[Key]) -> None:
        if not isinstance(keys, Iterable):
            raise TypeError(f"a key set must be made of an iterable of Key objects, not {type(keys).__name__}")
        keys = tuple(keys)
        if len(keys) > MAX_KEYS:
            raise InvalidKeyError(f"a key set must not have more than {MAX_KEYS} keys, got {len(keys)}")
        for key in keys:
            if not isinstance(key, Key):
                raise TypeError(f"a key set must contain Key objects, not {type(key).__name__}")
        object.__setattr__(self, "keys", keys)

    @classmethod
    @sealed
    def from_str(cls, text: str | bytes) -> KeySet:
        """Read a JWK Set from JSON.

        Keys of a kind that tokens cannot use are ignored (RFC 7517, section 5). Raises ``InvalidKeyError``
        where a set has more than 1,000 keys or none that is usable; the message names the first fault.
        """
        return read_set(parse_members(text)).keys

    @classmethod
    @sealed
    def from_file(cls, path: str | Path) -> KeySet:
        """Read a JWK Set from a file of at most 1 MiB, as ``from_str`` does.

        Raises ``InvalidKeyError`` for invalid content, a directory and a file name with a NUL; other
        ``OSError`` passes.
        """
        return read_set(parse_members(read_file(path))).keys

    @sealed
    def to_str(self) -> str:
        """Write the set as JSON, private members included where its keys have them (see ``to_public_set``)."""
        return msgspec.json.encode({"keys": [key.to_members() for key in self.keys]}).decode()

    @sealed
    def to_file(self, path: str | Path, *, overwrite: bool = True) -> None:
        """Write the set to a file as ``Key.to_file`` does, mode 0600 where any key is private."""
        private = any(key.is_private for key in self.keys)
        files.write(path, f"{self.to_str()}\n".encode(), private=private, overwrite=overwrite)

    def to_public_set(self) -> KeySet:
        """Return the set of the public halves. Raises ``KeyOperationError`` where one is a secret (``oct``)."""
        return KeySet(key.to_public() for key in self.keys)

    def find_key(self, kid: str) -> Key | None:
        """Return the first key with this id, or None. A key without an id is never found."""
        return next((key for key in self.keys if key.kid is not None and key.kid == kid), None)

    @sealed
    def find_supported_key(self, operation: KeyOperation | str) -> Key | None:
        """Return the first key that may do this operation and has the material for it, or None.

        Raises ``ValueError`` for an unknown operation.
        """
        return self._first(KeyOperation(operation))

    def _first(self, operation: KeyOperation) -> Key | None:
        needs_private = operation in {KeyOperation.SIGN, KeyOperation.DECRYPT}
        return next(
            (key for key in self.keys if operation in key.operations and (key.is_private or not needs_private)), None
        )

    def sign(self, claims: Claims) -> str:
        """Sign claims with the first key that may and can sign, as ``Key.sign`` does.

        Raises ``KeyOperationError`` where none can, and what ``Key.sign`` raises.
        """
        key = self._first(KeyOperation.SIGN)
        if key is None:
            raise KeyOperationError("no key in this set has a private half and is allowed to sign")
        return key.sign(claims)

    @sealed
    def verify(
        self,
        token: str,
        *,
        now: float | None = None,
        leeway: float = 0,
        strict: bool = False,
        trace: Trace | None = None,
    ) -> Claims:
        """Verify a token with the key that its ``kid`` names, as ``Key.verify`` does.

        A token without ``kid`` is accepted only where the set holds exactly one key. Raises ``KeyNotFoundError``
        for an unknown ``kid``, or none where there are several keys, and what ``Key.verify`` raises.
        """
        return self._key_of(token, trace).verify(token, now=now, leeway=leeway, strict=strict, trace=trace)

    def _key_of(self, token: str, trace: Trace | None) -> Key:
        if trace is not None:
            trace.begin("form")
        _, header, _, _ = jws.split(token)
        kid = jws.kid_in(header)
        if trace is not None:
            trace.begin("key")
        if kid is not None:
            key = self.find_key(kid)
            if key is None:
                raise KeyNotFoundError(f"key not found: no key in this set has the id {shown(kid)}", kid=kid)
            return key
        if len(self.keys) != 1:
            raise KeyNotFoundError(f"the token has no `kid`, but the set has {len(self.keys)} keys, not exactly one")
        return self.keys[0]

    def __iter__(self) -> Iterator[Key]:
        return iter(self.keys)

    def __len__(self) -> int:
        return len(self.keys)

    def __repr__(self) -> str:
        return f"<KeySet {list(self.keys)!r}>"

    def __eq__(self, other: object) -> bool:
        return self.keys == other.keys if isinstance(other, KeySet) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.keys)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError("a key set is immutable")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError("a key set is immutable")

    def __copy__(self) -> KeySet:
        return self

    def __deepcopy__(self, _: dict[int, Any]) -> KeySet:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("a key set cannot be pickled, so that no secret ends up in a cache or a queue: use to_str()")


class ReadSet(NamedTuple):
    """The usable keys of a JWK Set, and a line for each member that was ignored."""

    keys: KeySet
    ignored: tuple[str, ...]


def read_set(members: Mapping[str, object], read: Callable[[dict[str, object]], Key] = Key.from_members) -> ReadSet:
    """Read the members of a JWK Set, each with ``read``; everything that reads a set does it with this function.

    Members that ``read`` refuses, and keys for encryption, are ignored. Raises ``InvalidKeyError`` where
    ``keys`` is not a list, has more than 1,000 members, or has members but no usable one. An empty list is an empty
    set.
    """
    jwks = members.get("keys")
    if not isinstance(jwks, list):
        what = "this is a single key: read it with Key.from_str or Key.from_file" if "kty" in members else None
        what = what or name_of_members(members) or "its member `keys` must be a list"
        raise InvalidKeyError(f"expected a JWK set: {what}")
    if len(jwks) > MAX_KEYS:  # before any of them is built
        raise InvalidKeyError(f"a key set must not have more than {MAX_KEYS} keys, got {len(jwks)}")
    keys, ignored = [], []
    for index, jwk in enumerate(jwks):
        try:
            keys.append(read(_for_signatures(jwk)))
        except InvalidKeyError as error:
            ignored.append(f"keys[{index}]{_kid_of(jwk)}: {error}")
    if ignored and not keys:
        raise InvalidKeyError(f"no usable key in the set: {ignored[0]}")
    return ReadSet(KeySet(keys), tuple(ignored))


def _kid_of(jwk: object) -> str:
    kid = jwk.get("kid") if isinstance(jwk, dict) else None
    try:
        return "" if kid is None else f" ({KeyId(kid)!s})"
    except (InvalidKeyError, TypeError):
        return ""  # a text of any kind, which may be a secret in the wrong place


def _for_signatures(jwk: object) -> dict[str, object]:
    if not isinstance(jwk, dict):
        raise InvalidKeyError("expected a JSON object")
    if jwk.get("use") not in (None, "sig"):
        raise InvalidKeyError("the member `use` says that the key is not for signatures")
    return jwk
