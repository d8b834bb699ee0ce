"""Issue tokens in a backend: signing keys that follow a rotation, and credentials that clients can dial with."""

from moq_token.issuing.credential import Credential
from moq_token.issuing.issuer import MAX_SUBJECT_CHARACTERS, Issuer
from moq_token.issuing.signing import MAX_STALE_SECONDS, SigningKeys

__all__ = ["MAX_STALE_SECONDS", "MAX_SUBJECT_CHARACTERS", "Credential", "Issuer", "SigningKeys"]
