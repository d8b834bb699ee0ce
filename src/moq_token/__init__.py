"""Tokens for Media over QUIC: make keys, sign tokens, verify them, and say what they allow.

>>> from datetime import timedelta
>>> from moq_token import Claims, Key
>>> key = Key.generate("HS256")
>>> token = key.sign(Claims("rooms/123", publish="alice", subscribe="", expires=timedelta(hours=1)))
>>> key.verify(token).authorize("/rooms/123").can_publish("alice/camera")
True
"""

from moq_token.algorithm import Algorithm
from moq_token.claims import Claims, Permissions, Scope
from moq_token.errors import (
    ConfigError,
    Error,
    ExpiredTokenError,
    InvalidClaimsError,
    InvalidDenialError,
    InvalidGrantError,
    InvalidKeyError,
    InvalidKeyIdError,
    InvalidPatternError,
    InvalidRequestError,
    InvalidSignatureError,
    InvalidTokenError,
    KeyNotFoundError,
    KeyOperationError,
    NotAdmittedError,
    NotYetValidTokenError,
    Reason,
    RefusedError,
    ScopeExceededError,
    UnauthorizedError,
    UnavailableError,
)
from moq_token.jwk import KeyOperation
from moq_token.key import Key
from moq_token.keyset import KeySet
from moq_token.kid import KeyId
from moq_token.pattern import Pattern
from moq_token.patterns import Patterns
from moq_token.trace import Trace
from moq_token.unverified import UnverifiedToken, read_unverified

__version__ = "0.1.0"

__all__ = [
    "Algorithm",
    "Claims",
    "ConfigError",
    "Error",
    "ExpiredTokenError",
    "InvalidClaimsError",
    "InvalidDenialError",
    "InvalidGrantError",
    "InvalidKeyError",
    "InvalidKeyIdError",
    "InvalidPatternError",
    "InvalidRequestError",
    "InvalidSignatureError",
    "InvalidTokenError",
    "Key",
    "KeyId",
    "KeyNotFoundError",
    "KeyOperation",
    "KeyOperationError",
    "KeySet",
    "NotAdmittedError",
    "NotYetValidTokenError",
    "Pattern",
    "Patterns",
    "Permissions",
    "Reason",
    "RefusedError",
    "Scope",
    "ScopeExceededError",
    "Trace",
    "UnauthorizedError",
    "UnavailableError",
    "UnverifiedToken",
    "__version__",
    "read_unverified",
]
