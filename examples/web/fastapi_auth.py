"""One FastAPI app that issues tokens and answers the relays that ask about them.

Set MOQ_SIGNING_KEYS=signing, MOQ_KEYS=keys and MOQ_RELAY_SECRET=relay:PASSWORD, and run it with: fastapi run FILE
Relays from 0.15 on ask it with: moq-relay --auth-url https://relay:PASSWORD@api.example.com/moq/
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException, Response

from moq_token import Claims, RefusedError
from moq_token.issuing import SigningKeys
from moq_token.server import AuthServer, Grant, Policy, Request

RELAY = "https://relay.example.com"
LIFETIME = timedelta(minutes=10)
MEMBERS = {"123": {"alice", "bob"}}  # replace with your database

keys = SigningKeys(os.environ["MOQ_SIGNING_KEYS"])
policy = Policy(keys=os.environ["MOQ_KEYS"], expires="1h", revalidate="1m")


async def decide(request: Request) -> Grant:
    """Admit whoever has a token and still is a member of the room."""
    grant = await policy(request)
    room = request.path.strip("/").removeprefix("rooms/")
    if grant.claims is None or grant.claims.subject not in MEMBERS.get(room, ()):
        raise RefusedError("no longer a member of this room", reason="not-a-member")
    return grant


relays = AuthServer(decide, secret=os.environ["MOQ_RELAY_SECRET"])


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    async with relays.lifespan(), policy:
        yield


app = FastAPI(lifespan=lifespan)
app.mount("/moq", relays.asgi)


def signed_in() -> str:
    """Replace this with your own sign-in: return the id of the user who sends the request."""
    raise HTTPException(401, "sign in first")


@app.post("/rooms/{room}/token")
def token(room: str, user: Annotated[str, Depends(signed_in)], response: Response) -> dict[str, str]:
    if user not in MEMBERS.get(room, ()):
        raise HTTPException(403, "not a member of this room")
    claims = Claims(f"rooms/{room}", publish=user, subscribe="", subject=user, expires=LIFETIME)
    response.headers["Cache-Control"] = "no-store"
    return {"url": f"{RELAY}/rooms/{room}?jwt={keys.sign(claims)}"}
