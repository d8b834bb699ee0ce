"""Signing and verifying by the compiled core, where the extra ``fast`` is installed.

The core makes and checks whole tokens with AWS-LC, in one call. It knows tokens in their usual form only: everything
else is left to the steps in ``moq_token.jws``, which have all the messages. Tests hold the two against each other.
"""

from __future__ import annotations

import functools
from importlib import import_module
from typing import TYPE_CHECKING, Any

from moq_token import jws
from moq_token.der import sequence_of_integers
from moq_token.encoding import b64decode

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import ModuleType

    from moq_token.algorithm import Algorithm
    from moq_token.trace import Trace

DISTRIBUTION = "moq-token-core"
_RSA = ("n", "e", "d", "p", "q", "dp", "dq", "qi")


@functools.cache
def core() -> ModuleType | None:
    """Return the compiled core, or None where it is not installed or belongs to another version of this package."""
    from moq_token import __version__

    module = _module()
    return module if module is not None and module.__version__ == __version__ else None


def installed() -> str | None:
    """Return the version of the core that is installed, None without one."""
    module = _module()
    return None if module is None else str(module.__version__)


def _module() -> ModuleType | None:
    try:
        return import_module("moq_token_core")
    except ImportError:
        return None


def signer(
    algorithm: Algorithm, header: bytes, public: Mapping[str, str], private: Mapping[str, str]
) -> jws.Sign | None:
    """Prepare the making of tokens, like ``moq_token.jws.signer()``, from the checked members of a JWK.

    Returns None without the core, and for a key that it cannot use: AWS-LC takes no RSA exponent of more than 33 bits.
    """
    module = core()
    if module is None:
        return None
    try:
        made = module.Signer(algorithm, header.decode(), _signing_key(algorithm, public, private))
    except ValueError:
        return None
    sign: jws.Sign = made.sign
    return sign


def verifier(
    algorithm: Algorithm, headers: Sequence[bytes], public: Mapping[str, str], private: Mapping[str, str]
) -> jws.Verify | None:
    """Prepare the check of tokens, like ``moq_token.jws.verifier()``, or return None as ``signer()`` does."""
    made = prepared(algorithm, headers, public, private)
    if made is None:
        return None
    verify: Callable[[str], bytes | str | None] = made.verify
    step_by_step = jws.verifier(algorithm, headers, made.check)

    def verify_token(token: str, trace: Trace | None) -> bytes:
        if trace is None:
            found = verify(token)
            if isinstance(found, bytes):
                return found
            if found == "bad-signature":
                raise jws.bad_signature()
            if found == "malformed":
                raise jws.unreadable(token)
        # Its header has to be parsed, it is too long, or the steps have to be recorded.
        return step_by_step(token, trace)

    return verify_token


def prepared(
    algorithm: Algorithm, headers: Sequence[bytes], public: Mapping[str, str], private: Mapping[str, str]
) -> Any:  # noqa: ANN401 - a class of a module that may be missing
    """Return the ``Verifier`` of the core for a key, or None as ``signer()`` does."""
    module = core()
    if module is None:
        return None
    try:
        known = [header.decode() for header in headers]
        return module.Verifier(algorithm, known, _verifying_key(algorithm, public, private))
    except ValueError:
        return None


# The core takes keys in the forms in which AWS-LC does: see core/src/keys.rs.


def _signing_key(algorithm: Algorithm, public: Mapping[str, str], private: Mapping[str, str]) -> bytes:
    if algorithm.kty == "RSA":
        jwk = {**public, **private}
        return sequence_of_integers(0, *(int.from_bytes(_bytes(jwk, name)) for name in _RSA))
    if algorithm.kty == "oct":
        return _bytes(private, "k")
    return _bytes(private, "d") + _verifying_key(algorithm, public, private)


def _verifying_key(algorithm: Algorithm, public: Mapping[str, str], private: Mapping[str, str]) -> bytes:
    if algorithm.kty == "RSA":
        return sequence_of_integers(*(int.from_bytes(_bytes(public, name)) for name in _RSA[:2]))
    if algorithm.kty == "oct":
        return _bytes(private, "k")
    if algorithm.kty == "EC":
        return b"\4" + _bytes(public, "x") + _bytes(public, "y")  # SEC 1, section 2.3.3
    return _bytes(public, "x")


def _bytes(jwk: Mapping[str, str], name: str) -> bytes:
    return b64decode(jwk[name].encode())
