"""A key: generate it, load it, write it, and sign and verify tokens with it."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Mapping
from hmac import compare_digest
from typing import TYPE_CHECKING, Any, Never, NoReturn

import msgspec

from moq_token import compiled, files, jws, material, pem
from moq_token.algorithm import Algorithm
from moq_token.claims import Claims, Scope
from moq_token.claims.scope import exceeded
from moq_token.claims.wire import SCOPE_MEMBERS, decode, decode_scope, encode, scope_members
from moq_token.encoding import b64encode
from moq_token.errors import (
    ExpiredTokenError,
    InvalidClaimsError,
    InvalidKeyError,
    InvalidTokenError,
    KeyOperationError,
    NotYetValidTokenError,
    ScopeExceededError,
    bare,
    sealed,
    shown,
    shown_path,
)
from moq_token.jwk import SIGN_AND_VERIFY, KeyOperation, algorithm_of, operations_of
from moq_token.keytext import encoded, parse_members
from moq_token.kid import KeyId
from moq_token.recognizer import name_of_members

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from moq_token.jws import Sign, Verify
    from moq_token.material import Material
    from moq_token.trace import Trace


# A key whose scope has more prefixes than this is refused: each prefix of a token is compared with all of them.
MAX_SCOPE_PREFIXES = 1000

_INFINITY = float("inf")
# What base64 leaves of the bytes of a token, less the longest header and the signature of the longest RSA key.
_MAX_PAYLOAD_BYTES = (jws.MAX_TOKEN_BYTES - 2048) * 3 // 4
_MAX_PASSWORD_BYTES = 1023  # the bound of OpenSSL
_VERIFY = frozenset((KeyOperation.VERIFY,))


class Key:
    """A key of one algorithm that signs and verifies tokens: a secret, a private half or a public half.

    Make one with ``generate``, ``from_str``, ``from_file``, ``from_pem`` or ``from_secret``. Keys
    are immutable and safe to use from many threads. Two keys are equal when all their members are equal. A key cannot
    be printed or pickled: it leaves the process only by ``to_json``, ``to_members``, ``to_str``,
    ``to_file`` and ``to_pem``.

    Attributes
    ----------
    algorithm : Algorithm
        The one algorithm that the key signs or verifies with.
    kid : KeyId | None
        The key id, which is written into the header of every token.
    operations : frozenset[KeyOperation]
        The operations that the key is allowed to do.
    scope : Scope | None
        The limit on what the key can sign; None means no limit.

    """

    __slots__ = (
        "_material",
        "_sign",
        "_verify",
        "algorithm",
        "is_first_generation",
        "kid",
        "operations",
        "scope",
    )

    algorithm: Algorithm
    kid: KeyId | None
    operations: frozenset[KeyOperation]
    scope: Scope | None
    is_first_generation: bool
    """Whether the key was read from a form that relays from 0.15 on refuse: without ``kty``, or with other members in
    its scope than these know. Written again it has the form that they read."""

    _material: Material
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
        operations: frozenset[KeyOperation] = SIGN_AND_VERIFY,
        scope: Scope | None = None,
        *,
        is_first_generation: bool = False,
    ) -> Key:
        if scope is not None and len(scope.publish) + len(scope.subscribe) > MAX_SCOPE_PREFIXES:
            raise InvalidKeyError(f"a scope must not have more than {MAX_SCOPE_PREFIXES} prefixes")
        key = object.__new__(cls)
        headers = jws.usual_spellings(algorithm, kid)  # the first is the one that `sign` writes
        members = material.public, material.private
        sign, verify = None, None
        if KeyOperation.SIGN in operations and material.sign is not None:
            sign = compiled.signer(algorithm, headers[0], *members) or jws.signer(headers[0], material.sign)
        if KeyOperation.VERIFY in operations:
            verify = compiled.verifier(algorithm, headers, *members) or jws.verifier(
                algorithm, headers, material.verify
            )
        values = material, sign, verify, algorithm, is_first_generation, kid, operations, scope
        for name, value in zip(Key.__slots__, values, strict=True):
            object.__setattr__(key, name, value)
        return key

    # -- making and loading

    @classmethod
    @sealed
    def generate(cls, algorithm: Algorithm | str, kid: str | None = None) -> Key:
        """Generate a key: a secret of 32, 48 or 64 bytes, RSA of 2048 bits, or a key of the curve of the algorithm.

        ``algorithm`` may be spelled as ``Algorithm.parse`` takes it; ``kid`` None generates a random id. Raises
        ``ValueError`` for an unknown algorithm and ``InvalidKeyIdError``.
        """
        algorithm = Algorithm.parse(algorithm)
        kid = KeyId.random() if kid is None else KeyId(kid)
        return cls._of(algorithm, material.generate(algorithm), kid)

    @classmethod
    @sealed
    def from_str(cls, text: str | bytes) -> Key:
        """Read a key from JSON (RFC 7517) or from base64url of that JSON.

        Outer white space and a byte order mark are ignored; bytes may be UTF-8, UTF-16 or UTF-32. Unknown members are
        ignored, and a missing ``alg`` is derived from the curve where it has one. Raises ``InvalidKeyError``,
        which names the invalid member, or what the text is instead of a JWK.
        """
        return cls.from_members(parse_members(text))

    @classmethod
    @sealed
    def from_file(cls, path: str | Path) -> Key:
        """Read a key from a regular file of at most 1 MiB, as ``from_str`` does.

        Raises ``InvalidKeyError`` for invalid content, for a directory, a pipe or a device, for a file name with a
        NUL, and for a key given in place of the file name; other ``OSError`` passes.
        """
        return cls.from_members(parse_members(read_file(path)))

    @classmethod
    @sealed
    def from_pem(
        cls,
        data: str | bytes,
        algorithm: Algorithm | str | None = None,
        *,
        kid: str | None = None,
        password: str | bytes | None = None,
    ) -> Key:
        r"""Read a key from PEM: PKCS#8, PKCS#1, SEC1, an SPKI public key or the public key of an X.509 certificate.

        PEM has neither algorithm nor ``kid``. ``algorithm`` None derives it from the curve; RSA fits several, so name
        one. ``kid`` None makes a key without an id. Of several keys the first private one is taken, else the first
        public one. PEM whose line breaks are written as ``\n`` or are missing, as in environment variables, is taken
        too. Whether a certificate is valid is not checked.

        Raises ``InvalidKeyError``, also for a wrong or missing password, and ``ValueError`` for an unknown
        algorithm, and for RSA without one.
        """
        named = None if algorithm is None else Algorithm.parse(algorithm)
        native = pem.parse(data, None if password is None else encoded(password))
        if named is None:
            named = material.algorithm_of_native(native)
        made = material.from_native(named, native)
        operations = _VERIFY if made.sign is None else SIGN_AND_VERIFY
        return cls._of(named, made, None if kid is None else KeyId(kid), operations)

    @classmethod
    @sealed
    def from_secret(
        cls, secret: str | bytes, algorithm: Algorithm | str = Algorithm.HS256, *, kid: str | None = None
    ) -> Key:
        """Make a key for HMAC of a shared secret that another program uses already.

        ``secret`` counts byte for byte; a str is encoded as UTF-8. Decode a secret that is kept in hexadecimal or
        base64 first, if the other program does so. ``kid`` None makes a key without an id.

        Raises ``InvalidKeyError`` for a secret of less than 32 bytes (RFC 7518, section 3.2) or more than 4,096,
        and ``ValueError`` for an algorithm other than HS256, HS384 and HS512.
        """
        algorithm = Algorithm.parse(algorithm)
        if not algorithm.symmetric:
            raise ValueError(f"{algorithm} has no shared secret: expected HS256, HS384 or HS512")
        made = material.from_secret(algorithm, encoded(secret))
        return cls._of(algorithm, made, None if kid is None else KeyId(kid))

    @classmethod
    @sealed
    def from_members(cls, jwk: Mapping[str, object]) -> Key:
        """Read a key from the members of a JWK, as a JSON reader returns them. Raises ``InvalidKeyError``."""
        if not isinstance(jwk, Mapping):
            raise TypeError(f"a JWK must be a mapping of its members, not {type(jwk).__name__}: from_str reads JSON")
        what = name_of_members(jwk)
        if what is not None:
            raise InvalidKeyError(what)
        algorithm = algorithm_of(jwk)
        kid, scope = jwk.get("kid"), jwk.get("scope")
        if kid is not None and not isinstance(kid, str):
            raise InvalidKeyError("the member `kid` must be a string")
        return cls._of(
            algorithm,
            material.load(algorithm, jwk),
            None if kid is None else KeyId(kid),
            operations_of(jwk),
            None if scope is None else decode_scope(scope),
            is_first_generation=jwk.get("kty") is None
            or (isinstance(scope, dict) and not scope.keys() <= SCOPE_MEMBERS),
        )

    # -- variants

    def to_public(self) -> Key:
        """Return the public half, which only verifies, with the same ``kid`` and scope.

        Raises ``KeyOperationError`` for a secret (``oct``): whoever holds one can sign.
        """
        if self.algorithm.symmetric:
            raise KeyOperationError(f"a key for {self.algorithm} is a secret and has no public half")
        public = material.load(self.algorithm, self._material.public)
        return Key._of(self.algorithm, public, self.kid, _VERIFY, self.scope)

    def with_kid(self, kid: str | None) -> Key:
        """Return the same key with another id, or with none. Raises ``InvalidKeyIdError``."""
        kid = None if kid is None else KeyId(kid)
        return Key._of(self.algorithm, self._material, kid, self.operations, self.scope)

    def with_scope(self, scope: Scope | None) -> Key:
        """Return the same key with another scope, or with none.

        Raises ``InvalidKeyError`` for a scope that permits nothing or has more than 1,000 prefixes.
        """
        if scope is not None:
            if not isinstance(scope, Scope):
                raise TypeError(f"a scope must be a Scope, not {type(scope).__name__}")
            scope.validate()
        return Key._of(self.algorithm, self._material, self.kid, self.operations, scope)

    @sealed
    def with_operations(self, operations: Iterable[KeyOperation | str]) -> Key:
        """Return the same key, limited to these operations. Raises ``ValueError`` for an unknown one."""
        allowed = frozenset(KeyOperation(operation) for operation in operations)
        return Key._of(self.algorithm, self._material, self.kid, allowed, self.scope)

    # -- writing

    @property
    def is_private(self) -> bool:
        """Whether the key must stay secret: it has a private half, or is a secret for HMAC."""
        return bool(self._material.private)

    @sealed
    def to_json(self) -> str:
        """Write the key as a JWK, private members included where it has them (see ``to_public``)."""
        return msgspec.json.encode(self.to_members()).decode()

    @sealed
    def to_members(self) -> dict[str, object]:
        """Return the members of the JWK, private members included where it has them."""
        public = self._material.public
        jwk: dict[str, object] = {"kty": public["kty"], "alg": str(self.algorithm)}
        if self.kid is not None:
            jwk["kid"] = str(self.kid)
        jwk["key_ops"] = [str(operation) for operation in KeyOperation if operation in self.operations]
        jwk |= public
        jwk |= self._material.private
        if self.scope is not None:
            jwk["scope"] = scope_members(self.scope)
        return jwk

    @sealed
    def to_str(self) -> str:
        """Write the key as base64url of its JSON: the older form, which every relay reads and variables can hold."""
        return b64encode(self.to_json().encode()).decode()

    @sealed
    def to_file(self, path: str | Path, base64: bool = False, *, overwrite: bool = True) -> None:  # noqa: FBT001, FBT002
        """Write the key to a file, as JSON or in the older form; mode 0600 where it is private.

        The file is replaced as a whole or not at all. Raises ``FileExistsError`` where it exists and ``overwrite``
        is off, and for a symbolic link in its place; ``InvalidKeyError`` for a key given in place of the name;
        other ``OSError`` passes.
        """
        text = self.to_str() if base64 else self.to_json()
        files.write(path, f"{text}\n".encode(), private=self.is_private, overwrite=overwrite)

    @sealed
    def to_pem(self, password: str | bytes | None = None) -> str:
        """Write PKCS#8 PEM, encrypted where a password is given, or SPKI PEM for a public half.

        PEM does not hold the algorithm, the ``kid``, the operations and the scope. Raises ``KeyOperationError``
        for a secret, for an empty password, and for a password with a public half.
        """
        secret = None if password is None else encoded(password)
        if secret is not None and not (0 < len(secret) <= _MAX_PASSWORD_BYTES and self.is_private):
            raise KeyOperationError(
                f"a password has 1 to {_MAX_PASSWORD_BYTES} bytes, and a public key takes no password"
            )
        if self._material.native_private is not None:
            return pem.dump_private(self._material.native_private, secret)
        if self._material.native_public is not None:
            return pem.dump_public(self._material.native_public)
        raise KeyOperationError(f"a key for {self.algorithm} is a secret, which PEM cannot hold")

    @sealed
    def thumbprint(self) -> str:
        """Return the JWK thumbprint (RFC 7638, SHA-256, base64url), the same for both halves.

        The thumbprint of a secret (``oct``) is a hash of it: publish it only if the secret is random.
        """
        required = dict(self._material.public)
        if self.algorithm.symmetric:
            required |= self._material.private
        digest = hashlib.sha256(msgspec.json.encode(required, order="sorted")).digest()
        return b64encode(digest).decode()

    # -- signing and verifying

    def sign(self, claims: Claims) -> str:
        """Sign claims and return the token.

        Raises ``InvalidClaimsError`` where the claims grant nothing, exceed the scope of the key or make a token
        of more than 64 KiB, and ``KeyOperationError`` where the key may not sign or has no private half. Whether
        ``expires`` is in the future is not checked.
        """
        if self._sign is None:
            raise _cannot(self, KeyOperation.SIGN)
        if not isinstance(claims, Claims):
            raise TypeError(f"expected Claims to sign, not {type(claims).__name__}")
        claims.validate()
        payload = encode(claims)
        if len(payload) > _MAX_PAYLOAD_BYTES:  # before each of their prefixes is compared with the scope
            raise InvalidClaimsError(f"the claims must not take more than {_MAX_PAYLOAD_BYTES} bytes as JSON")
        if self.scope is not None:
            path = self.scope.exceeded_by(claims)
            if path is not None:
                raise InvalidClaimsError(f"the claims grant {shown(path)}, which is outside the scope of the key")
        return self._sign(payload)

    def verify(  # noqa: C901 - a call for each check would cost more than all the branches
        self,
        token: str,
        *,
        now: float | None = None,
        leeway: float = 0,
        strict: bool = False,
        trace: Trace | None = None,
    ) -> Claims:
        """Verify a token that was signed with this key and return its claims.

        The checks are those of a relay, in this order: form, algorithm (that of the key, never of the header),
        signature, types of the claims, ``exp``, ``nbf``, whether anything is granted, scope. ``now`` is in Unix
        seconds, None means the clock; ``leeway`` is the number of seconds by which clocks may differ. ``trace`` records
        the checks as they are made.

        ``strict`` also refuses what relays from 0.15 refuse: unknown claims (``aud`` and ``cluster`` among them), ``*``
        and more than 32 segments in ``put`` and ``get``, these two beside ``publish`` or ``subscribe``, and times
        written as floats. Otherwise tokens are read as relays before 0.15 do: unknown claims are ignored, ``*`` in
        ``put`` and ``get`` is an ordinary character, and ``publish`` and ``subscribe`` are ignored beside them.

        Raises ``InvalidTokenError`` and its subclasses ``InvalidSignatureError``,
        ``ExpiredTokenError``, ``NotYetValidTokenError`` and ``ScopeExceededError``;
        ``KeyOperationError`` where the key may not verify. Not checked: the ``kid`` of the token (see
        ``KeySet``), and what the claims allow at a path (see ``Claims.authorize``).
        """
        try:
            claims = self._read(token, leeway, strict, trace)
        except BaseException as error:  # noqa: BLE001 - strip every traceback: its frames hold the token
            del token
            raise bare(error)  # noqa: B904 - the one being handled
        del token  # so that the tracebacks of what follows need not be stripped
        if trace is not None:
            trace.begin("time")
        if now is None:
            now = time.time()
        elif not isinstance(now, int | float):
            raise TypeError(f"now must be a number of Unix seconds, not {type(now).__name__}")
        # Written so that a clock that is NaN refuses every token.
        if claims.expires is not None and not now < claims.expires + leeway:
            raise ExpiredTokenError(expires=claims.expires)
        if claims.not_before is not None and not now + leeway >= claims.not_before:
            raise NotYetValidTokenError(not_before=claims.not_before)
        if trace is not None:
            trace.begin("grants")
        if not claims.publish and not claims.subscribe:
            raise InvalidTokenError("the token grants nothing", reason="useless")
        if trace is not None:
            trace.begin("scope")
        if self.scope is not None:
            path = exceeded(self.scope, claims, as_patterns=strict)
            if path is not None:
                message = f"the token grants {shown(path)}, which is outside the scope of its key"
                raise ScopeExceededError(message, path=path)
        return claims

    def _read(self, token: str, leeway: float, strict: bool, trace: Trace | None) -> Claims:  # noqa: FBT001
        if trace is not None:
            trace.begin("key")
        verify = self._verify
        if verify is None:
            raise _cannot(self, KeyOperation.VERIFY)
        if not 0 <= leeway < _INFINITY:
            raise ValueError("leeway must be a number of seconds, 0 or more")
        payload = verify(token, trace)  # form, algorithm and signature: see jws.py
        if trace is not None:
            trace.begin("claims")
        return decode(payload, strict=strict)

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
        raise AttributeError("a key is immutable: use a with_… method to make a variant")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError("a key is immutable")

    def __copy__(self) -> Key:
        return self

    def __deepcopy__(self, _: dict[int, Any]) -> Key:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("a key cannot be pickled, so that no secret ends up in a cache or a queue: use to_json()")


def read_file(path: str | Path) -> bytes:
    """Read a file of keys, and raise as ``moq_token.files.read``; for a directory, the error names what reads it."""
    if not isinstance(path, str | bytes | os.PathLike):  # an int would be read as a descriptor
        raise TypeError(f"a file name must be a str or a path, not {type(path).__name__}")
    if os.path.isdir(path):  # noqa: PTH112 - a Path would only wrap this
        raise InvalidKeyError(
            f"{shown_path(os.fsdecode(path))} is a directory, expected a file: to sign with a directory of keys, use "
            "moq_token.issuing.SigningKeys; to verify, moq_token.sources.DirectorySource"
        )
    return files.read(path)


def _cannot(key: Key, operation: KeyOperation) -> KeyOperationError:
    if operation not in key.operations:
        return KeyOperationError(f"this key may not {operation}: `key_ops` does not include it")
    return KeyOperationError(f"this key cannot {operation}: it is only a public half")
