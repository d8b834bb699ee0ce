"""What a client needs to connect: a URL to dial, the token in it, and when it expires."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NoReturn

import msgspec

from moq_token.errors import sealed


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """What a client needs to connect to a relay. An ``Issuer`` and a ``TokenSource`` return it.

    The repr shows neither the token nor the URL with it, and a credential cannot be pickled: ``to_json()`` writes it.

    Attributes
    ----------
    url
        The URL to dial, with the token.
    token
        The token alone.
    server_url
        The URL without the token.
    expires
        When the token expires, in Unix seconds on the clock of the issuer.
    expires_in
        How long the token is valid from its issue, in seconds. Clients should rely on this rather than on ``expires``,
        because their clock may be wrong.
    subject, id
        Whom the token is for, and its own id (``sub`` and ``jti``). None where only the endpoint knows them.

    """

    url: str = field(repr=False)
    token: str = field(repr=False)
    server_url: str
    expires: int
    expires_in: int
    subject: str | None = None
    id: str | None = None

    def to_members(self) -> dict[str, str | int]:
        """Return the members of the answer of a token endpoint, for frameworks that write JSON themselves.

        Clients for token endpoints of LiveKit read ``server_url`` and ``participant_token``. Clients of this package
        read ``url``, which has both, ``token``, ``expires`` and ``expires_in`` (both in seconds).
        """
        return {
            "server_url": self.server_url,
            "participant_token": self.token,
            "url": self.url,
            "token": self.token,
            "expires": self.expires,
            "expires_in": self.expires_in,
        }

    @sealed
    def to_json(self) -> str:
        """Return the answer of a token endpoint as JSON. Send it with ``Cache-Control: no-store``."""
        return msgspec.json.encode(self.to_members()).decode()

    def __reduce__(self) -> NoReturn:
        raise TypeError("a credential cannot be pickled, so that no token ends up in a cache or a queue: use to_json()")
