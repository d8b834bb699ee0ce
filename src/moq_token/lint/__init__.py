"""How relays of both generations read a token or a key: findings as plain data, without files and clocks."""

from moq_token.lint.finding import Finding, Reading
from moq_token.lint.keys import read_key
from moq_token.lint.tokens import read_token

__all__ = ["Finding", "Reading", "read_key", "read_token"]
