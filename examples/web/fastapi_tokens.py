"""Issue tokens with FastAPI: a signed-in member of a room may publish there and watch the other members.

Run it with: MOQ_SIGNING_KEYS=signing fastapi run examples/web/fastapi_tokens.py
"""

import os
from datetime import timedelta
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException, Response

from moq_token import Claims
from moq_token.issuing import SigningKeys

RELAY = "https://relay.example.com"
LIFETIME = timedelta(minutes=10)
MEMBERS = {"123": {"alice", "bob"}}  # replace with your database

app = FastAPI()
keys = SigningKeys(os.environ["MOQ_SIGNING_KEYS"])


def signed_in() -> str:
    """Replace this with your own sign-in: return the id of the user who sends the request."""
    raise HTTPException(401, "sign in first")


@app.post("/rooms/{room}/token")
def token(room: str, user: Annotated[str, Depends(signed_in)], response: Response) -> dict[str, str]:
    if user not in MEMBERS.get(room, ()):
        raise HTTPException(403, "not a member of this room")
    claims = Claims(f"rooms/{room}", publish=user, subscribe="", expires=LIFETIME)
    response.headers["Cache-Control"] = "no-store"
    return {"url": f"{RELAY}/rooms/{room}?jwt={keys.sign(claims)}"}
