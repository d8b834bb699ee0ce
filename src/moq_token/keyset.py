"""A set of keys (JWK Set; RFC 7517, section 5), for rotating them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

import msgspec

from moq_token import files, jws
from moq_token.errors import InvalidKeyError, KeyNotFoundError, KeyOperationError, sealed, shown
from moq_token.key import Key, KeyOperation, parse_members

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from moq_token.claims import Claims

MAX_KEYS = 1000


class KeySet:
    """Keys of which the first that can sign does, and of which a token's ``kid`` picks the one that verifies.

    ``keys`` is a tuple, at most 1,000 long (:class:`InvalidKeyError`), never changed. Iterating gives the keys.
    """

    __slots__ = ("keys",)

    keys: tuple[Key, ...]

    @sealed
    def __init__(self, keys: Iterable[Key]) -> None:
        keys = tuple(keys)
        if len(keys) > MAX_KEYS:
            raise InvalidKeyError(f"a key set must not hold more than {MAX_KEYS} keys, this has {len(keys)}")
        for key in keys:
            if not isinstance(key, Key):
                raise TypeError(f"a key set holds Key objects, not {type(key).__name__}")
        object.__setattr__(self, "keys", keys)

    @classmethod
    @sealed
    def from_str(cls, text: str | bytes) -> KeySet:
        """Read a JWK Set from JSON. Raises :class:`InvalidKeyError`, naming the key and the member at fault."""
        return cls._from_members(parse_members(text))

    @classmethod
    @sealed
    def from_file(cls, path: str | Path) -> KeySet:
        """Read a JWK Set from a file of at most 1 MiB.

        Raises :class:`InvalidKeyError` for bad content, a directory and a name with a NUL in it; other
        :class:`OSError` passes.
        """
        return cls._from_members(parse_members(files.read(path)))

    @classmethod
    def _from_members(cls, members: dict[str, object]) -> KeySet:
        jwks = members.get("keys")
        if not isinstance(jwks, list):
            raise InvalidKeyError("a key set must have a member `keys`, a list")
        if len(jwks) > MAX_KEYS:
            raise InvalidKeyError(f"a key set must not hold more than {MAX_KEYS} keys, this has {len(jwks)}")
        keys = []
        for index, jwk in enumerate(jwks):
            if not isinstance(jwk, dict):
                raise InvalidKeyError(f"keys[{index}] must be a JSON object")
            try:
                keys.append(Key.from_members(jwk))
            except InvalidKeyError as error:
                raise type(error)(f"keys[{index}]: {error}") from None
        return cls(keys)

    def to_str(self) -> str:
        """Write the set as JSON, private members included where its keys have them (see :meth:`to_public_set`)."""
        return msgspec.json.encode({"keys": [key.to_members() for key in self.keys]}).decode()

    @sealed
    def to_file(self, path: str | Path, *, overwrite: bool = True) -> None:
        """Write the set to a file as :meth:`Key.to_file` does, mode 0600 where any key is private."""
        private = any(key.is_private for key in self.keys)
        files.write(path, f"{self.to_str()}\n".encode(), private=private, overwrite=overwrite)

    def to_public_set(self) -> KeySet:
        """Return the set of the public halves. Raises :class:`KeyOperationError` where one is a secret (``oct``)."""
        return KeySet(key.to_public() for key in self.keys)

    def find_key(self, kid: str) -> Key | None:
        """Return the first key with this id, or None. A key without an id is never found."""
        return next((key for key in self.keys if key.kid is not None and key.kid == kid), None)

    def find_supported_key(self, operation: KeyOperation | str) -> Key | None:
        """Return the first key that may do this and has the material for it, or None.

        Raises :class:`ValueError` for an unknown operation.
        """
        operation = KeyOperation(operation)
        needs_private = operation in {KeyOperation.SIGN, KeyOperation.DECRYPT}
        return next(
            (key for key in self.keys if operation in key.operations and (key.is_private or not needs_private)), None
        )

    def sign(self, claims: Claims) -> str:
        """Sign with the first key that may and can, as :meth:`Key.sign`.

        Raises :class:`KeyOperationError` where none can, and what :meth:`Key.sign` raises.
        """
        key = self.find_supported_key(KeyOperation.SIGN)
        if key is None:
            raise KeyOperationError("no key of this set may sign and has its private half")
        return key.sign(claims)

    @sealed
    def verify(self, token: str, *, now: float | None = None, leeway: float = 0) -> Claims:
        """Check a token with the key that its ``kid`` names, as :meth:`Key.verify`.

        A token without ``kid`` is accepted only where the set holds exactly one key. Raises :class:`KeyNotFoundError`
        for an unknown ``kid``, or none where there are several keys, and what :meth:`Key.verify` raises.
        """
        return self._key_of(token).verify(token, now=now, leeway=leeway)

    def _key_of(self, token: str) -> Key:
        _, header, _, _ = jws.split(token)
        kid = jws.kid_of(jws.parse_header(header))
        if kid is not None:
            key = self.find_key(kid)
            if key is None:
                raise KeyNotFoundError(f"no key of this set has the id {shown(kid)}", kid=kid)
            return key
        if len(self.keys) != 1:
            raise KeyNotFoundError(f"the token names no `kid`, and the set holds {len(self.keys)} keys, not one")
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
        raise AttributeError("a key set is never changed")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError("a key set is never changed")

    def __copy__(self) -> KeySet:
        return self

    def __deepcopy__(self, _: dict[int, Any]) -> KeySet:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("a key set is not pickled, lest its secrets end in a cache or a queue: use to_str()")
