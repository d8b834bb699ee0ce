"""Hand out tokens with FastAPI: whoever is signed in, and belongs to a room, may speak there and watch the others.

Run it as: MOQ_SIGNING_KEY=private.jwk fastapi run examples/web/fastapi_tokens.py
"""

import os
from datetime import timedelta
from functools import cache
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException, Response

from moq_token import Claims, Key

RELAY = "https://relay.example.com"
LIFETIME = timedelta(minutes=10)
MEMBERS = {"123": {"alice", "bob"}}  # stands for your database

app = FastAPI()


@cache
def signing_key() -> Key:
    return Key.from_file(os.environ["MOQ_SIGNING_KEY"])


def signed_in() -> str:
    """Stand for your own sign-in: return the id of the user who is asking."""
    raise HTTPException(401, "sign in first")


@app.post("/rooms/{room}/token")
def token(room: str, user: Annotated[str, Depends(signed_in)], response: Response) -> dict[str, str]:
    if user not in MEMBERS.get(room, ()):
        raise HTTPException(403, "not a member of this room")
    claims = Claims(f"rooms/{room}", publish=user, subscribe="", expires=LIFETIME)
    response.headers["Cache-Control"] = "no-store"
    return {"url": f"{RELAY}/rooms/{room}?jwt={signing_key().sign(claims)}"}
