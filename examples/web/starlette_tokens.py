"""Issue tokens with Starlette, to the members of a room who are signed in.

Install it: pip install moq-token starlette itsdangerous uvicorn
Set MOQ_SIGNING_KEYS=signing and SESSION_SECRET=…, and run it:
uvicorn examples.web.starlette_tokens:app
"""

import os

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.routing import Route

from moq_token import Claims, NotAdmittedError, RefusedError
from moq_token.issuing import Issuer, TokenRequest, endpoint

RELAY = "https://relay.example.com"
PAGES = ["https://app.example.com"]  # other origins that may ask (CORS)
MEMBERS = {"123": {"alice", "bob"}}  # replace with your database

issuer = Issuer(os.environ["MOQ_SIGNING_KEYS"], RELAY, lifetime="1h")


def authorize(request: TokenRequest) -> Claims:
    room = request.path_params["room"]
    user = request.scope["session"].get("user")  # set by your own sign-in
    if user is None:
        raise NotAdmittedError("sign in first")  # 401
    if user not in MEMBERS.get(room, ()):
        raise RefusedError("not a member of this room")  # 403
    return Claims(f"rooms/{room}", publish=user, subscribe="", subject=user)


tokens = endpoint(issuer, authorize, origins=PAGES, per_minute=30)
session = Middleware(SessionMiddleware, os.environ["SESSION_SECRET"])
app = Starlette(
    routes=[Route("/rooms/{room}/token", tokens)],
    middleware=[session],
)
