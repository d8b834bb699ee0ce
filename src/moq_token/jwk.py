"""What a JWK says that its key is for: the algorithm (``alg``), and the operations (``key_ops``; RFC 7517)."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, NoReturn

from moq_token import material
from moq_token.algorithm import Algorithm
from moq_token.errors import InvalidKeyError
from moq_token.recognizer import what_is_secret

if TYPE_CHECKING:
    from collections.abc import Mapping


class KeyOperation(StrEnum):
    """What a key may be used for (``key_ops``; RFC 7517, section 4.3)."""

    SIGN = "sign"
    VERIFY = "verify"
    DECRYPT = "decrypt"
    ENCRYPT = "encrypt"

    @classmethod
    def _missing_(cls, value: object) -> NoReturn:
        # The message of the enumeration itself would repeat the value, which may be a key given in the wrong place.
        what = what_is_secret(value) if isinstance(value, str) else None
        got = "" if what is None else f"; this looks like {what}"
        raise ValueError(f"unknown key operation: must be one of {', '.join(cls)}{got}")


SIGN_AND_VERIFY = frozenset((KeyOperation.SIGN, KeyOperation.VERIFY))
"""The operations of a key that does not limit them."""

_MAX_OPERATIONS = 64  # in `key_ops`; RFC 7517 forbids duplicates, and has eight


def algorithm_of(jwk: Mapping[str, object]) -> Algorithm:
    """Return the algorithm of a JWK: its ``alg``, else the one of its curve. Raises ``InvalidKeyError``."""
    name = jwk.get("alg")
    if name is None:
        algorithm = material.algorithm_of_curve(jwk.get("crv"))
        if algorithm is None and "crv" in jwk:
            raise material.unsupported_curve(jwk["crv"])
        if algorithm is None:
            raise InvalidKeyError(f"missing member `alg`: expected one of {', '.join(Algorithm)}")
        if jwk.get("use") not in (None, "sig"):
            raise InvalidKeyError("missing member `alg`, and `use` says that the key is not for signatures")
        return algorithm
    if name == "Ed25519":  # RFC 9864, as browsers export it
        return Algorithm.EDDSA
    if isinstance(name, str) and name in Algorithm.__members__.values():
        return Algorithm(name)
    raise InvalidKeyError(f"the member `alg` must be one of {', '.join(Algorithm)}")


def operations_of(jwk: Mapping[str, object]) -> frozenset[KeyOperation]:
    """Return the ``key_ops`` of a JWK; a JWK without them is for both operations. Raises ``InvalidKeyError``."""
    names = jwk.get("key_ops")
    if names is None:
        return SIGN_AND_VERIFY
    try:
        if isinstance(names, list) and len(names) <= _MAX_OPERATIONS:
            return frozenset(KeyOperation(name) for name in names)
    except ValueError:
        pass
    raise InvalidKeyError(f"the member `key_ops` must be a list of {', '.join(KeyOperation)}")
