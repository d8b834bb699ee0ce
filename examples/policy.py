"""A policy with a database: tokens decide first, then the database says who is suspended and who is muted.

Run it beside a relay with: MOQ_KEYS=keys MOQ_USERS=users.db moq-token-cli serve --policy examples.policy:decide
"""

import asyncio
import os
import sqlite3
from contextlib import closing

from moq_token import RefusedError
from moq_token.server import Grant, Policy, Request

USERS = os.environ.get("MOQ_USERS", "users.db")

policy = Policy(
    keys=os.environ.get("MOQ_KEYS", "keys"),
    public_subscribe=["lobby/**"],
    expires="1h",
    revalidate="1m",  # so a suspension takes effect within a minute
)
lookup = policy.lookup  # relay 0.14 asks for keys and public paths, and cannot ask about users


def user_state(user: str) -> str | None:
    """Return `suspended`, `muted` or None. The database may be changed at any time, by anybody else."""
    with closing(sqlite3.connect(f"file:{USERS}?mode=ro", uri=True, timeout=1)) as database:
        row = database.execute("SELECT state FROM users WHERE name = ?", (user,)).fetchone()
    return None if row is None else str(row[0])


async def decide(request: Request) -> Grant:
    """Decide about one session. If this raises any other exception, the relay keeps the session and asks again."""
    grant = await policy(request)
    if grant.claims is None or grant.claims.subject is None:
        return grant
    # In a thread, so that a slow disk holds up nobody else.
    state = await asyncio.to_thread(user_state, grant.claims.subject)
    if state == "suspended":
        raise RefusedError("this user is suspended", reason="suspended")
    return grant.narrowed(publish=()) if state == "muted" else grant
