"""The signature algorithms of MoQ tokens (RFC 7518, section 3.1; RFC 8037)."""

from __future__ import annotations

from enum import StrEnum


class Algorithm(StrEnum):
    """How a key signs. The value is the ``alg`` that stands in keys and tokens."""

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

        Raises :class:`ValueError` for any other name. Keys and tokens are read case-sensitively, not by this.
        """
        try:
            return _SPELLINGS[str.lower(name)]
        except KeyError:
            raise ValueError(f"unknown algorithm, must be one of {', '.join(cls)}") from None

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
