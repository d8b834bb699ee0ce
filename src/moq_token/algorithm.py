"""The signature algorithms of MoQ tokens (RFC 7518, section 3.1; RFC 8037)."""

from __future__ import annotations

from enum import StrEnum
from typing import NoReturn

from moq_token.recognizer import what_is_secret


class Algorithm(StrEnum):
    """How a key signs. The value is the ``alg`` of keys and tokens."""

    HS256 = "HS256"
    HS384 = "HS384"
    HS512 = "HS512"
    RS256 = "RS256"
    RS384 = "RS384"
    RS512 = "RS512"
    PS256 = "PS256"
    PS384 = "PS384"
    PS512 = "PS512"
    ES256 = "ES256"
    ES384 = "ES384"
    EDDSA = "EdDSA"

    @classmethod
    def parse(cls, name: str) -> Algorithm:
        """Read an algorithm as a person writes it: in any case, ``EC256``/``EC384`` and ``Ed25519`` included.

        Raises ``ValueError`` for any other name, and ``TypeError`` for what is no text. Keys and tokens are read
        case-sensitively, not by this.
        """
        if not isinstance(name, str):
            raise TypeError(f"an algorithm must be a str, not {type(name).__name__}")
        try:
            return _SPELLINGS[name.lower()]
        except KeyError:
            raise ValueError(_unknown(name)) from None

    @classmethod
    def _missing_(cls, value: object) -> NoReturn:
        # The message of the enumeration itself would repeat the value, which may be a key given in the wrong place.
        raise ValueError(_unknown(value))

    @property
    def kty(self) -> str:
        """The JWK key type: ``oct``, ``RSA``, ``EC`` or ``OKP``."""
        return _KTY[self[:2]]

    @property
    def symmetric(self) -> bool:
        """Whether the same secret signs and verifies (HMAC), so that there is no public half."""
        return self.kty == "oct"


_KTY = {"HS": "oct", "RS": "RSA", "PS": "RSA", "ES": "EC", "Ed": "OKP"}
_SPELLINGS = {algorithm.lower(): algorithm for algorithm in Algorithm} | {
    "ec256": Algorithm.ES256,  # the documentation page of the originals calls them so
    "ec384": Algorithm.ES384,
    "ed25519": Algorithm.EDDSA,  # RFC 9864
}


def _unknown(value: object) -> str:
    what = what_is_secret(value) if isinstance(value, str) else None
    got = "" if what is None else f"; this looks like {what}"
    return f"unknown algorithm: must be one of {', '.join(Algorithm)}{got}"
