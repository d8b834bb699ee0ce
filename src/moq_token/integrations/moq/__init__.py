"""A guard for MoQ servers built on ``moq-rs``: only admitted sessions, and of each only what its grant allows.

    async with moq.Server("[::]:443", tls_cert=…, tls_key=…) as server, Authenticator(config) as authenticator:
        async for session in guard(server, authenticator):
            print(session.path, session.grant)

It needs ``pip install "moq-token[moq]"``. What is enforced, for each session:

- Who comes in: whom the :class:`~moq_token.auth.Authenticator` admits. The others are rejected with 401, 403 or 502, as
  :class:`~moq_token.auth.Rejection` has it; why, the log says (``moq_token.integrations.moq``, level INFO), not the
  client. ``moq-rs`` makes no difference between 401 and 403, and has no refusal before the connection stands: the
  client's ``connect`` succeeds, and then its session closes with an error that ``moq.is_auth`` knows.
- What it may publish: a session announces into an origin of its own, and only broadcasts at or beneath a granted prefix
  are taken out of it, to ``hub`` under the grant's root. A client cannot be kept from announcing others, but nobody
  hears of them.
- What it may watch: a session sees an origin of its own, in which only broadcasts of ``hub`` at or beneath a granted
  prefix are announced. The others can neither be discovered nor asked for by name.
- A role in which nothing is granted has no origin at all, not even the one that the server was made with.
- How long: the session ends when the grant expires.

No two sessions share an origin, as ``moq-rs`` itself knows roles but no prefixes. What is not enforced: the number of
sessions and bytes that the bearer of a good token may cause, and of announcements and tracks no more than the bounds
below; and a token is good until it expires.

Live groups and datagrams are carried as they come, and old groups when they are fetched. A track is pulled from its
publisher once, however many watch it, and only while anybody does. Of several broadcasts at one path the newest is
watched. A service that announces a prefix, to serve on demand whatever is asked for beneath it, is carried at the
prefix itself only.
"""

from moq_token.integrations.moq.admission import (
    MAX_PENDING,
    PENDING_SECONDS,
    REJECTING_SECONDS,
    GuardedSession,
    guard,
)
from moq_token.integrations.moq.exchange import LINGER_SECONDS, MAX_BROADCASTS, MAX_FETCHES, MAX_TRACKS

__all__ = [
    "LINGER_SECONDS",
    "MAX_BROADCASTS",
    "MAX_FETCHES",
    "MAX_PENDING",
    "MAX_TRACKS",
    "PENDING_SECONDS",
    "REJECTING_SECONDS",
    "GuardedSession",
    "guard",
]
