"""The Python libraries for comparison, each used as efficiently as possible: key prepared once, algorithm fixed.

They are imported by name, as only the environment of the benchmark has them, and some interpreters not all.
"""

from __future__ import annotations

import json
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.fixtures import Grant, Keys


class Peer(NamedTuple):
    """The operations of a library with one key. ``verify`` checks signature and expiry."""

    sign: Callable[[dict[str, Any]], object]
    verify: Callable[[str], object]

    def sign_grant(self, grant: Grant) -> object:
        root, put, get, exp, iat = grant
        return self.sign({"root": root, "put": [put], "get": [get], "exp": exp, "iat": iat})


def peers(keys: Keys) -> dict[str, Peer]:
    """Return the libraries that support the algorithm, by package name."""
    made = {name: make(keys) for name, make in PEERS.items() if installed(name)}
    return {name: peer for name, peer in made.items() if peer is not None}


def installed(name: str) -> str | None:
    """Return the version of a package, or None if it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _pyjwt(keys: Keys) -> Peer:
    jwt = import_module("jwt")
    algorithm, headers = str(keys.algorithm), {"kid": keys.kid}
    private, public = keys.native_private or keys.secret, keys.native_public or keys.secret
    return Peer(
        sign=lambda claims: jwt.encode(claims, private, algorithm, headers),
        verify=lambda token: jwt.decode(token, public, [algorithm]),
    )


def _joserfc(keys: Keys) -> Peer:
    jwt, jwk, jws = (import_module(f"joserfc.{name}") for name in ("jwt", "jwk", "jws"))
    header = {"alg": str(keys.algorithm), "kid": keys.kid}
    private, public = jwk.import_key(keys.jwk), jwk.import_key(keys.public_jwk)
    algorithms, rules = jws.JWSRegistry(algorithms=[str(keys.algorithm)]), jwt.JWTClaimsRegistry()

    def verify(token: str) -> object:
        claims = jwt.decode(token, public, registry=algorithms).claims
        rules.validate(claims)
        return claims

    return Peer(sign=lambda claims: jwt.encode(header, claims, private, registry=algorithms), verify=verify)


def _authlib(keys: Keys) -> Peer:
    jose = import_module("authlib.jose")
    jwt = jose.JsonWebToken([str(keys.algorithm)])
    header = {"alg": str(keys.algorithm), "kid": keys.kid}
    private, public = jose.JsonWebKey.import_key(keys.jwk), jose.JsonWebKey.import_key(keys.public_jwk)

    def verify(token: str) -> object:
        claims = jwt.decode(token, public)
        claims.validate()
        return claims

    return Peer(sign=lambda claims: jwt.encode(header, claims, private), verify=verify)


def _python_jose(keys: Keys) -> Peer | None:
    if keys.algorithm == "EdDSA" or keys.algorithm.startswith("PS"):
        return None
    jwt, jwk = import_module("jose.jwt"), import_module("jose.jwk")
    algorithm, headers = str(keys.algorithm), {"kid": keys.kid}
    private, public = jwk.construct(keys.jwk, algorithm), jwk.construct(keys.public_jwk, algorithm)
    return Peer(
        sign=lambda claims: jwt.encode(claims, private, algorithm, headers),
        verify=lambda token: jwt.decode(token, public, algorithm),
    )


def _jwcrypto(keys: Keys) -> Peer:
    jwt, jwk = import_module("jwcrypto.jwt"), import_module("jwcrypto.jwk")
    algorithms, header = [str(keys.algorithm)], {"typ": "JWT", "alg": str(keys.algorithm), "kid": keys.kid}
    private, public = jwk.JWK(**keys.jwk), jwk.JWK(**keys.public_jwk)

    def sign(claims: dict[str, Any]) -> object:
        token = jwt.JWT(header, claims)
        token.make_signed_token(private)
        return token.serialize()

    def verify(token: str) -> object:
        return json.loads(jwt.JWT(jwt=token, key=public, algs=algorithms, expected_type="JWS").claims)

    return Peer(sign, verify)


def _rsjwt(keys: Keys) -> Peer | None:
    # It sets no kid, and returns a view that creates the Python objects of the claims when they are read.
    if not keys.algorithm.symmetric:
        return None
    jwt = import_module("rsjwt").JWT(keys.secret.decode(), algorithm=str(keys.algorithm))
    return Peer(jwt.encode, jwt.decode)


def _ryjwt(keys: Keys) -> Peer:
    ryjwt = import_module("ryjwt")
    algorithms, header = [str(keys.algorithm)], {"kid": keys.kid}
    if keys.algorithm.symmetric:
        key = ryjwt.SecretKey(keys.secret, algorithms=algorithms)
        return Peer(lambda claims: key.encode(claims, header=header), key.decode)
    private = ryjwt.PrivateKey(keys.pem, algorithms=algorithms)
    public = ryjwt.PublicKey(keys.public_pem, algorithms=algorithms)
    return Peer(lambda claims: private.encode(claims, header=header), public.decode)


PEERS: dict[str, Callable[[Keys], Peer | None]] = {
    "PyJWT": _pyjwt,
    "joserfc": _joserfc,
    "Authlib": _authlib,
    "python-jose": _python_jose,
    "jwcrypto": _jwcrypto,
    "rsjwt": _rsjwt,
    "ryjwt": _ryjwt,
}
COMPILED = frozenset(("rsjwt", "ryjwt"))
