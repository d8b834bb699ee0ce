"""Issue tokens in a backend: signing keys that follow a rotation."""

from moq_token.issuing.signing import MAX_STALE_SECONDS, SigningKeys

__all__ = ["MAX_STALE_SECONDS", "SigningKeys"]
