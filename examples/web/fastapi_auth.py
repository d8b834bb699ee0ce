"""One FastAPI app that issues tokens, and answers relays that ask about them.

Set MOQ_SIGNING_KEYS=signing, MOQ_KEYS=keys and MOQ_RELAY_SECRET=relay:PASSWORD,
and run it: fastapi run examples/web/fastapi_auth.py. Relays from 0.15 on ask:
moq-relay --auth-url https://relay:PASSWORD@api.example.com/moq/
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException, Response

from moq_token import RefusedError
from moq_token.issuing import Issuer
from moq_token.server import AuthServer, Grant, Policy, Request

RELAY = "https://relay.example.com"
MEMBERS = {"123": {"alice", "bob"}}  # replace with your database

issuer = Issuer(os.environ["MOQ_SIGNING_KEYS"], RELAY, lifetime="1h")
policy = Policy(keys=os.environ["MOQ_KEYS"], expires="1h", revalidate="1m")


async def decide(request: Request) -> Grant:
    """Admit whoever has a token and still is a member of the room."""
    grant = await policy(request)
    room = request.path.strip("/").removeprefix("rooms/")
    user = grant.claims and grant.claims.subject
    if user not in MEMBERS.get(room, ()):
        raise RefusedError("no longer a member of this room")
    return grant


relays = AuthServer(decide, secret=os.environ["MOQ_RELAY_SECRET"])


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    async with relays.lifespan(), policy:
        yield


app = FastAPI(lifespan=lifespan)
app.mount("/moq", relays.asgi)


def signed_in() -> str:
    """Replace this with your own sign-in: return the id of the user."""
    raise HTTPException(401, "sign in first")


User = Annotated[str, Depends(signed_in)]


@app.post("/rooms/{room}/token", status_code=201)
def token(room: str, user: User, response: Response) -> dict[str, str | int]:
    if user not in MEMBERS.get(room, ()):
        raise HTTPException(403, "not a member of this room")
    response.headers["Cache-Control"] = "no-store"
    path = f"rooms/{room}"
    credential = issuer.grant(path, publish=user, subscribe="", subject=user)
    return credential.to_members()
