"""Guard a MoQ server built on ``moq-rs``: admit clients by token, and limit each session to its grant.

    async with moq.Server("[::]:443", tls_cert=…, tls_key=…) as server, Authenticator(config) as authenticator:
        async for session in guard(server, authenticator):
            print(session.path, session.grant)

Install it with ``pip install "moq-token[moq]"``.

What is enforced for each session:

- Admission: the ``Authenticator`` decides, or an auth server by way of a
  ``RemoteAuthenticator``. A client that is not admitted is rejected with 401, 403 or 502, see
  ``Rejection``. ``moq-rs`` does that after the connection is established: the client's
  ``connect`` succeeds, then its session fails with an error for which ``moq.is_auth`` is true (401 and 403 alike).
- Publishing: each session announces into an origin of its own. Only broadcasts that the grant covers (at or beneath a
  prefix, or matched by a pattern) are copied from there into ``hub``, under the root of the grant. Other announcements
  are ignored.
- Subscribing: each session sees an origin of its own, which announces only the broadcasts of ``hub`` that the grant
  covers. Others cannot be discovered, and have no tracks when they are requested by name.
- Mounts: what an auth server mounts is seen at its place, and hides what the root has there. Nothing can be published
  at it.
- A session to which nothing is granted in a role has no origin for that role, not even the origin of the server.
- Expiry: the session is closed when the grant expires, at most 30 seconds late if the clock is set forward.
- Re-checks: an auth server is asked again as often as it says, and when ``GuardedSession.nudge()`` is called. The
  session is closed when the answer is no, and when the new grant has another root, other mounts or another ``peer``, or
  allows less. One that allows more does not widen the session. ``peer`` has no other effect here.

Limits:

- ``MAX_PENDING`` (1,000): clients that wait for the decision. The one that has waited longest is rejected with 502.
- ``PENDING_SECONDS`` (20): from the arrival of a client to the established session. Then it is rejected with 502.
- ``REJECTING_SECONDS`` (5): for telling a client that it is rejected.
- ``MAX_UNSEEN`` (1,000): admitted sessions that the loop has not taken yet. Further clients are rejected with 502.
- ``MAX_BROADCASTS`` (1,000): broadcasts that a session publishes at a time. Further ones are ignored.
- ``MAX_TRACKS`` (1,000): tracks of a broadcast that are carried at a time. Further ones are refused.
- ``MAX_FETCHES`` (100): past groups of a track that are fetched at a time. Further fetches are refused.
- ``LINGER_SECONDS`` (2): how long a track is still pulled after its last subscriber has left.

Not limited: the number of sessions, and the amount of data, that the bearer of a valid token can cause. Without an auth
server, a token is valid until it expires; removing its key does not close sessions.

Live groups and datagrams are carried as they arrive, past groups when they are fetched. A track is pulled from its
publisher once for all subscribers, and only while it has some. If several broadcasts have the same path, ``moq-rs``
chooses one by its route, as in relays: often the newest. A track that is watched can stay with the publisher it has
until that one leaves. A service that announces a prefix and serves requests beneath it on demand is carried at the
prefix only.

Log records go to the logger ``moq_token.integrations.moq``, at level INFO for each client that is admitted, refused,
gone before it was answered, or ended. They never hold a token. Their attributes are ``event`` (``admitted``,
``refused``, ``gone``, ``ended``, or ``failed`` at level ERROR) and, where known, ``path``, ``kid``, ``transport``,
``expires``, ``reason`` and ``status``. ``moq-rs`` does not tell the remote address of a client, so no record has it.
"""

try:
    from moq import Request as _Request  # noqa: F401 - another project's package `moq` has no such name
except ImportError as _error:
    _message = 'the guard needs the extra `moq`: pip install "moq-token[moq]"'
    if _error.name == "moq" and not isinstance(_error, ModuleNotFoundError):
        _message += ' (the installed module `moq` is not that of moq-rs; "pip uninstall moq" first)'
    raise ImportError(_message, name=_error.name) from _error

from moq_token.integrations.moq.admission import (
    MAX_PENDING,
    MAX_UNSEEN,
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
    "MAX_UNSEEN",
    "PENDING_SECONDS",
    "REJECTING_SECONDS",
    "GuardedSession",
    "guard",
]
