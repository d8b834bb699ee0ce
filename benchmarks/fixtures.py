"""Make the data of the benchmark: realistic claims, always different, and keys in the forms that libraries take."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from itertools import count
from secrets import token_hex, token_urlsafe
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from cryptography.hazmat.primitives.serialization import load_pem_private_key

from moq_token import Algorithm, Claims, Key, KeyId

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ROOT = "rooms/123"
# Long ago and far in the future, below 2**31.
_ISSUED, _EXPIRES = 1_700_000_000, 2_000_000_000

Grant: TypeAlias = tuple[str, str, str, int, int]
"""The values of claims: ``root``, one ``put``, one ``get``, ``exp`` and ``iat``."""

_number = count()


def grants(amount: int) -> list[Grant]:
    """Return new values for claims."""
    numbers = [next(_number) for _ in range(amount)]
    return [(ROOT, f"viewer-{n:07}", "", _EXPIRES + n, _ISSUED + n) for n in numbers]


def tokens(key: Key) -> Callable[[int], Sequence[str]]:
    """Return a function that makes new tokens."""
    return lambda amount: [signed(key, grant) for grant in grants(amount)]


def signed(key: Key, grant: Grant) -> str:
    root, put, get, exp, iat = grant
    return key.sign(Claims(root, put, get, expires=exp, issued=iat))


def forged(token: str) -> str:
    """Change the signature of a token, but not its encoding."""
    data, _, signature = token.rpartition(".")
    return f"{data}.{'B' if signature[0] == 'A' else 'A'}{signature[1:]}"


def expired(key: Key, token: str) -> str:
    """Make a token with the same claims that has expired."""
    return key.sign(key.verify(token).with_expires(_ISSUED))


def garbage(token: str) -> str:
    """Make a text in the form of a token from random characters."""
    return ".".join(token_urlsafe(len(segment))[: len(segment)] for segment in token.split("."))


class Keys(NamedTuple):
    """A key in all its forms."""

    algorithm: Algorithm
    private: Key
    public: Key
    secret: bytes
    native_private: Any
    native_public: Any
    jwk: dict[str, str]
    public_jwk: dict[str, str]
    """Return only the members with key material, which every library reads."""
    pem: str
    public_pem: str

    @property
    def kid(self) -> str:
        return str(self.private.kid)


def make_keys(algorithm: Algorithm) -> Keys:
    if algorithm.symmetric:
        secret = token_hex(int(algorithm[2:]) // 16).encode()  # text, because rsjwt accepts nothing else
        jwk = {"kty": "oct", "k": urlsafe_b64encode(secret).rstrip(b"=").decode()}
        key = Key.from_str(json.dumps(jwk | {"alg": algorithm, "kid": KeyId.random()}))
        return Keys(algorithm, key, key, secret, None, None, jwk, jwk, "", "")
    return forms(Key.generate(algorithm))


def forms(private: Key) -> Keys:
    """Return all forms of an asymmetric key."""
    public, pem = private.to_public(), private.to_pem()
    native = load_pem_private_key(pem.encode(), None)
    return Keys(
        private.algorithm,
        private,
        public,
        b"",
        native,
        native.public_key(),
        _material(private),
        _material(public),
        pem,
        public.to_pem(),
    )


def _material(key: Key) -> dict[str, str]:
    members = json.loads(key.to_json())
    return {name: value for name, value in members.items() if name not in {"alg", "key_ops", "kid"}}
