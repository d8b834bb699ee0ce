"""Verify tokens in FastAPI routes: list recordings for those who may watch.

Run it: MOQ_KEYS=keys fastapi run examples/web/fastapi_routes.py
"""

import os
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException

from moq_token import Permissions
from moq_token.integrations.starlette import Tokens

RECORDINGS = {"123": ["alice/monday", "bob/monday"]}  # replace with yours

app = FastAPI()
tokens = Tokens(os.environ["MOQ_KEYS"])

# Reads `Authorization: Bearer TOKEN` or `?jwt=TOKEN`.
InRoom = Annotated[Permissions, Depends(tokens.permissions("/rooms/{room}"))]


@app.get("/rooms/{room}/recordings")
def recordings(room: str, allowed: InRoom) -> list[str]:
    found = RECORDINGS.get(room)
    if found is None:
        raise HTTPException(404, "no such room")
    return [name for name in found if allowed.can_subscribe(name)]
