"""Issue tokens in a backend: signing keys that follow a rotation, and credentials that clients can dial with."""

from typing import TYPE_CHECKING

from moq_token.issuing.credential import Credential
from moq_token.issuing.issuer import MAX_SUBJECT_CHARACTERS, Issuer
from moq_token.issuing.signing import MAX_STALE_SECONDS, SigningKeys

if TYPE_CHECKING:
    from moq_token.issuing.asgi import Authorize, endpoint
    from moq_token.issuing.request import TokenRequest
    from moq_token.issuing.token_source import TokenSource

__all__ = [
    "MAX_STALE_SECONDS",
    "MAX_SUBJECT_CHARACTERS",
    "Authorize",
    "Credential",
    "Issuer",
    "SigningKeys",
    "TokenRequest",
    "TokenSource",
    "endpoint",
]

if not TYPE_CHECKING:  # or a name that does not exist would be an object for type checkers

    def __getattr__(name: str) -> object:
        """Import what needs an event loop when it is first used: most backends only sign."""
        if name in {"Authorize", "TokenRequest", "endpoint"}:
            from moq_token.issuing import asgi

            return getattr(asgi, name)
        if name == "TokenSource":
            from moq_token.issuing.token_source import TokenSource

            return TokenSource
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        """List the names that are not imported yet too, for ``help()`` and completion."""
        return sorted({*globals(), *__all__})
