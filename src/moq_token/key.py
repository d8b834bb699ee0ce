"""A key: made, loaded, written, and above all signing and verifying tokens."""

from __future__ import annotations

import hashlib
import time
from enum import StrEnum
from hmac import compare_digest
from typing import TYPE_CHECKING, Any, Never, NoReturn

import msgspec

from moq_token import files, jws, material, pem
from moq_token.algorithm import Algorithm
from moq_token.claims import Claims, Scope
from moq_token.claims.wire import decode, decode_scope, encode
from moq_token.encoding import b64decode, b64encode, parse_json
from moq_token.errors import (
    ExpiredTokenError,
    InvalidClaimsError,
    InvalidKeyError,
    InvalidSignatureError,
    InvalidTokenError,
    KeyOperationError,
    ScopeExceededError,
    bare,
    sealed,
    shown,
)
from moq_token.kid import KeyId

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from moq_token.material import Material
    from moq_token.primitives import Sign, Verify
    from moq_token.trace import Trace


class KeyOperation(StrEnum):
    """What a key may be used for (``key_ops``; RFC 7517, section 4.3)."""

    SIGN = "sign"
    VERIFY = "verify"
    DECRYPT = "decrypt"
    ENCRYPT = "encrypt"


_INFINITY = float("inf")
# What base64 leaves of a token's bytes, with room for the longest header and for the signature of the longest RSA key.
_MAX_PAYLOAD_BYTES = (jws.MAX_TOKEN_BYTES - 2048) * 3 // 4
_MAX_PASSWORD_BYTES = 1023  # OpenSSL's own bound
_VERIFY = frozenset((KeyOperation.VERIFY,))
_SIGN_AND_VERIFY = frozenset((KeyOperation.SIGN, KeyOperation.VERIFY))


class Key:
    """A key for signing and verifying tokens, private or public half, of one algorithm.

    Made by :meth:`generate`, :meth:`from_str`, :meth:`from_file` and :meth:`from_pem`; never changed afterwards, and
    safe to use from many threads at once. Keys are equal when all their members are. They are neither shown nor
    pickled: what leaves the process leaves by :meth:`to_json`, :meth:`to_str`, :meth:`to_file` or :meth:`to_pem`.

    Attributes
    ----------
    algorithm : Algorithm
    kid : KeyId | None
        Its id, which goes into the header of every token.
    operations : frozenset[KeyOperation]
        What it may do.
    scope : Scope | None
        The ceiling on what it may sign; None is no ceiling.

    """

    __slots__ = ("_header", "_headers", "_material", "_sign", "_verify", "algorithm", "kid", "operations", "scope")

    algorithm: Algorithm
    kid: KeyId | None
    operations: frozenset[KeyOperation]
    scope: Scope | None

    _material: Material
    _header: bytes
    _headers: frozenset[bytes]
    _sign: Sign | None
    _verify: Verify | None

    def __init__(self, *_: Never, **__: Never) -> None:
        """Raise ``TypeError``: use ``generate``, ``from_str``, ``from_file`` or ``from_pem``."""
        raise TypeError("Key() cannot be called: use Key.generate, Key.from_str, Key.from_file or Key.from_pem")

    @classmethod
    def _of(
        cls,
        algorithm: Algorithm,
        material: Material,
        kid: KeyId | None,
        operations: frozenset[KeyOperation] = _SIGN_AND_VERIFY,
        scope: Scope | None = None,
    ) -> Key:
        key = object.__new__(cls)
        headers = jws.usual_spellings(algorithm, kid)  # the first is the one that this package writes
        sign = material.sign if KeyOperation.SIGN in operations else None
        verify = material.verify if KeyOperation.VERIFY in operations else None
        values = (headers[0] + b".", frozenset(headers), material, sign, verify, algorithm, kid, operations, scope)
        for name, value in zip(Key.__slots__, values, strict=True):
            object.__setattr__(key, name, value)
        return key

    # -- making and loading

    @classmethod
    def generate(cls, algorithm: Algorithm | str, kid: str | None = None) -> Key:
        """Make a new key: a secret of 32, 48 or 64 bytes, RSA of 2048 bits, or the curve of the algorithm.

        ``kid`` None makes a random one. Raises :class:`ValueError` for an unknown algorithm and
        :class:`InvalidKeyIdError`.
        """
        algorithm = Algorithm(algorithm)
        kid = KeyId.random() if kid is None else KeyId(kid)
        return cls._of(algorithm, material.generate(algorithm), kid)

    @classmethod
    @sealed
    def from_str(cls, text: str | bytes) -> Key:
        """Read a key from JSON (RFC 7517), or base64url of that JSON, whichever it is; outer white space is ignored.

        Raises :class:`InvalidKeyError`, naming the member at fault. Members that are not known are ignored.
        """
        return cls.from_members(parse_members(text))

    @classmethod
    @sealed
    def from_file(cls, path: str | Path) -> Key:
        """Read a key from a file of at most 1 MiB, as :meth:`from_str` does.

        Raises :class:`InvalidKeyError` for bad content, a directory and a name with a NUL in it; other
        :class:`OSError` passes.
        """
        return cls.from_members(parse_members(files.read(path)))

    @classmethod
    @sealed
    def from_pem(
        cls,
        data: str | bytes,
        algorithm: Algorithm | str,
        *,
        kid: str | None = None,
        password: str | bytes | None = None,
    ) -> Key:
        """Read a key from PEM: PKCS#8, PKCS#1, SEC1, an SPKI public key or the public key of an X.509 certificate.

        PEM says neither the algorithm nor the ``kid``; ``kid`` None makes a key without one. Of several keys the first
        private one counts, then the first public one. A certificate's validity is not checked. Raises
        :class:`InvalidKeyError`, also for a wrong or missing password, and :class:`ValueError` for an unknown
        algorithm.
        """
        algorithm = Algorithm(algorithm)
        native = pem.parse(_bounded(data), None if password is None else _encoded(password))
        made = material.from_native(algorithm, native)
        operations = _VERIFY if made.sign is None else _SIGN_AND_VERIFY
        return cls._of(algorithm, made, None if kid is None else KeyId(kid), operations)

    @classmethod
    @sealed
    def from_members(cls, jwk: Mapping[str, object]) -> Key:
        """Read a key from the members of a JWK, as a JSON reader gives them. Raises :class:`InvalidKeyError`."""
        algorithm = _algorithm(jwk)
        kid, scope = jwk.get("kid"), jwk.get("scope")
        if kid is not None and not isinstance(kid, str):
            raise InvalidKeyError("the member `kid` must be a string")
        return cls._of(
            algorithm,
            material.load(algorithm, jwk),
            None if kid is None else KeyId(kid),
            _operations(jwk),
            None if scope is None else decode_scope(scope),
        )

    # -- variants

    def to_public(self) -> Key:
        """Return the public half, which only verifies, with the same ``kid`` and scope.

        Raises :class:`KeyOperationError` for a secret (``oct``): whoever holds one can sign.
        """
        if self.algorithm.symmetric:
            raise KeyOperationError(f"a key for {self.algorithm} is a secret and has no public half")
        public = material.load(self.algorithm, self._material.public)
        return Key._of(self.algorithm, public, self.kid, _VERIFY, self.scope)

    def with_kid(self, kid: str | None) -> Key:
        """Return the same key with another id. Raises :class:`InvalidKeyIdError`."""
        kid = None if kid is None else KeyId(kid)
        return Key._of(self.algorithm, self._material, kid, self.operations, self.scope)

    def with_scope(self, scope: Scope | None) -> Key:
        """Return the same key with another scope. Raises :class:`InvalidKeyError` for one that permits nothing."""
        if scope is not None:
            if not isinstance(scope, Scope):
                raise TypeError(f"a scope must be a Scope, not {type(scope).__name__}")
            scope.validate()
        return Key._of(self.algorithm, self._material, self.kid, self.operations, scope)

    def with_operations(self, operations: Iterable[KeyOperation | str]) -> Key:
        """Return the same key, allowed to do these operations only. Raises :class:`ValueError` for an unknown one."""
        allowed = frozenset(KeyOperation(operation) for operation in operations)
        return Key._of(self.algorithm, self._material, self.kid, allowed, self.scope)

    # -- writing

    @property
    def is_private(self) -> bool:
        """Whether it holds what must stay secret: a private half, or the secret of HMAC."""
        return bool(self._material.private)

    def to_json(self) -> str:
        """Write the key as a JWK, private members included where it has them (see :meth:`to_public`)."""
        return msgspec.json.encode(self.to_members()).decode()

    def to_members(self) -> dict[str, object]:
        """Return the members of the JWK, private ones included where it has them."""
        public = self._material.public
        jwk: dict[str, object] = {"kty": public["kty"], "alg": str(self.algorithm)}
        if self.kid is not None:
            jwk["kid"] = str(self.kid)
        jwk["key_ops"] = [str(operation) for operation in KeyOperation if operation in self.operations]
        jwk |= public
        jwk |= self._material.private
        if self.scope is not None:
            jwk["scope"] = msgspec.to_builtins(self.scope)
        return jwk

    def to_str(self) -> str:
        """Write the key as base64url of its JSON, the older form that every relay reads, handy in a variable."""
        return b64encode(self.to_json().encode()).decode()

    @sealed
    def to_file(self, path: str | Path, base64: bool = False, *, overwrite: bool = True) -> None:  # noqa: FBT001, FBT002
        """Write the key to a file, as JSON or in the older form; mode 0600 where it is private.

        The file is replaced as a whole or not at all. Raises :class:`FileExistsError` where ``overwrite`` is off and
        it exists, and for a symbolic link in its place; other :class:`OSError` passes.
        """
        text = self.to_str() if base64 else self.to_json()
        files.write(path, f"{text}\n".encode(), private=self.is_private, overwrite=overwrite)

    @sealed
    def to_pem(self, password: str | bytes | None = None) -> str:
        """Write PKCS#8 PEM, encrypted where a password is given, or SPKI PEM for a public half.

        PEM has no room for the algorithm, the ``kid``, the operations and the scope. Raises
        :class:`KeyOperationError` for a secret, and where a password is given for a public half, or an empty one.
        """
        secret = None if password is None else _encoded(password)
        if secret is not None and not (0 < len(secret) <= _MAX_PASSWORD_BYTES and self.is_private):
            raise KeyOperationError(f"a password has 1 to {_MAX_PASSWORD_BYTES} bytes, and a public key takes none")
        if self._material.native_private is not None:
            return pem.dump_private(self._material.native_private, secret)
        if self._material.native_public is not None:
            return pem.dump_public(self._material.native_public)
        raise KeyOperationError(f"a key for {self.algorithm} is a secret, which PEM has no form for")

    def thumbprint(self) -> str:
        """Return the JWK thumbprint (RFC 7638, SHA-256, base64url), the same for both halves.

        That of a secret (``oct``) is a hash of the secret, harmless only while the secret is random.
        """
        required = dict(self._material.public)
        if self.algorithm.symmetric:
            required |= self._material.private
        digest = hashlib.sha256(msgspec.json.encode(required, order="sorted")).digest()
        return b64encode(digest).decode()

    # -- signing and verifying

    def sign(self, claims: Claims) -> str:
        """Make a token: the claims, signed.

        Raises :class:`InvalidClaimsError` where they grant nothing, exceed the scope of the key or make a token of more
        than 64 KiB, and :class:`KeyOperationError` where the key may not sign or has no private half. That ``expires``
        lies ahead is not checked.
        """
        if self._sign is None:
            raise _cannot(self, KeyOperation.SIGN)
        if not isinstance(claims, Claims):
            raise TypeError(f"what is signed must be Claims, not {type(claims).__name__}")
        claims.validate()
        if self.scope is not None:
            path = self.scope.exceeded_by(claims)
            if path is not None:
                raise InvalidClaimsError(f"the claims grant {shown(path)}, which the scope of the key does not")
        payload = encode(claims)
        if len(payload) > _MAX_PAYLOAD_BYTES:
            raise InvalidClaimsError(f"the claims must not take more than {_MAX_PAYLOAD_BYTES} bytes as JSON")
        signed = self._header + b64encode(payload)
        return (signed + b"." + b64encode(self._sign(signed))).decode()

    def verify(self, token: str, *, now: float | None = None, leeway: float = 0, trace: Trace | None = None) -> Claims:
        """Check a token made with this key and return its claims.

        The checks are those of a relay, in this order: form, algorithm (the key's own, whatever the header says),
        signature, then types, expiry, that something is granted, scope. ``now`` is in Unix seconds, None is the clock;
        ``leeway`` allows for clocks that differ, in seconds. ``trace`` records the checks as they are made.

        Raises :class:`InvalidTokenError` and its subclasses :class:`InvalidSignatureError`,
        :class:`ExpiredTokenError`, :class:`NotYetValidTokenError` and :class:`ScopeExceededError`;
        :class:`KeyOperationError` where the key may not verify. The ``kid`` of the token is not compared (see
        :class:`KeySet`), and what the claims allow at a path is :meth:`Claims.authorize`'s part.
        """
        try:
            return self._checked(token, time.time() if now is None else now, leeway, trace)
        except Exception as error:  # noqa: BLE001 - whatever it is, this frame must not travel with it
            del token
            raise bare(error)  # noqa: B904 - the one being handled

    def _checked(  # noqa: C901, PLR0912 - a call for each check would cost more than all the branches
        self, token: str, now: float, leeway: float, trace: Trace | None
    ) -> Claims:
        if trace is not None:
            trace.begin("key")
        verify = self._verify
        if verify is None:
            raise _cannot(self, KeyOperation.VERIFY)
        if not 0 <= leeway < _INFINITY:
            raise ValueError("leeway must be a number of seconds, 0 or more")
        if trace is not None:
            trace.begin("form")
        signed, header, payload, signature = jws.split(token)
        if trace is not None:
            trace.begin("algorithm")
        if header not in self._headers:
            jws.check_header(header, self.algorithm)
        if trace is not None:
            trace.begin("signature")
        if not verify(signature, signed):
            raise InvalidSignatureError("the signature was not made over this token by this key")

        if trace is not None:
            trace.begin("claims")
        claims = decode(payload, now + leeway, trace)
        if trace is not None:
            trace.begin("time")
        # Written so that a clock which is not a number lets nothing pass.
        if claims.expires is not None and not now < claims.expires + leeway:
            raise ExpiredTokenError(expires=claims.expires)
        if trace is not None:
            trace.begin("grants")
        if not claims.publish and not claims.subscribe:
            raise InvalidTokenError("the token grants nothing", reason="useless")
        if trace is not None:
            trace.begin("scope")
        if self.scope is not None:
            path = self.scope.exceeded_by(claims)
            if path is not None:
                raise ScopeExceededError(f"the token grants {shown(path)}, beyond the scope of its key", path=path)
        return claims

    # -- being an object

    def __repr__(self) -> str:
        half = "secret" if self.algorithm.symmetric else "private" if self.is_private else "public"
        return f"<Key {self.algorithm} {half} kid={self.kid and str(self.kid)!r} scope={self.scope!r}>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Key):
            return NotImplemented
        return compare_digest(self.to_json().encode(), other.to_json().encode())

    def __hash__(self) -> int:
        return hash((self.algorithm, self.kid, self.thumbprint()))

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError("a key is never changed; a variant comes from a with_… method")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError("a key is never changed")

    def __copy__(self) -> Key:
        return self

    def __deepcopy__(self, _: dict[int, Any]) -> Key:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("a key is not pickled, lest its secret end in a cache or a queue: use to_json()")


def parse_members(text: str | bytes) -> dict[str, object]:
    """Read a JSON object, or base64url of one, as key files hold it. Raises :class:`InvalidKeyError`."""
    data = _bounded(text).strip()
    if not data.startswith(b"{"):
        try:
            data = b64decode(data.rstrip(b"=")).strip()
        except ValueError:
            raise InvalidKeyError("a key is a JSON object or base64url of one, this is neither") from None
    try:
        members = parse_json(data)
    except ValueError as error:
        raise InvalidKeyError(f"a key must be readable as JSON: {error}") from None
    if not isinstance(members, dict):
        raise InvalidKeyError("a key must be a JSON object")
    return members


def _bounded(text: str | bytes) -> bytes:
    data = _encoded(text)
    if len(data) > files.MAX_FILE_BYTES:
        raise InvalidKeyError(f"a key must not be larger than {files.MAX_FILE_BYTES} bytes")
    return data


def _encoded(text: str | bytes) -> bytes:
    if isinstance(text, bytes):
        return text
    if not isinstance(text, str):
        raise TypeError(f"a key or password must be str or bytes, not {type(text).__name__}")
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise InvalidKeyError("this has a lone surrogate, which UTF-8 cannot carry") from None


def _algorithm(jwk: Mapping[str, object]) -> Algorithm:
    name = jwk.get("alg")
    if name is None:
        algorithm = material.algorithm_of_curve(jwk.get("crv"))
        if algorithm is None:
            raise InvalidKeyError(f"the member `alg` must be one of {', '.join(Algorithm)}, and it is missing")
        if jwk.get("use", "sig") != "sig":
            raise InvalidKeyError("the member `alg` is missing, and `use` says that the key is not for signatures")
        return algorithm
    if name == "Ed25519":  # RFC 9864, as browsers export it
        return Algorithm.EDDSA
    if isinstance(name, str) and name in Algorithm.__members__.values():
        return Algorithm(name)
    raise InvalidKeyError(f"the member `alg` must be one of {', '.join(Algorithm)}")


def _operations(jwk: Mapping[str, object]) -> frozenset[KeyOperation]:
    names = jwk.get("key_ops")
    if names is None:
        return _SIGN_AND_VERIFY
    try:
        if isinstance(names, list):
            return frozenset(KeyOperation(name) for name in names)
    except ValueError:
        pass
    raise InvalidKeyError(f"the member `key_ops` must be a list of {', '.join(KeyOperation)}")


def _cannot(key: Key, operation: KeyOperation) -> KeyOperationError:
    if operation not in key.operations:
        return KeyOperationError(f"this key may not {operation}: its `key_ops` leave that out")
    return KeyOperationError(f"this key cannot {operation}: it is a public half")
