"""Issue tokens with FastAPI, to the members of a room who are signed in.

Run it: MOQ_SIGNING_KEYS=signing fastapi run examples/web/fastapi_tokens.py
"""

import os
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException, Response

from moq_token.issuing import Issuer

RELAY = "https://relay.example.com"
MEMBERS = {"123": {"alice", "bob"}}  # replace with your database

app = FastAPI()
issuer = Issuer(os.environ["MOQ_SIGNING_KEYS"], RELAY, lifetime="1h")


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
