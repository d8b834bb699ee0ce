"""Hand out tokens with Flask: whoever is signed in, and belongs to a room, may speak there and watch the others.

Run it as: MOQ_SIGNING_KEY=private.jwk FLASK_SECRET_KEY=… flask --app examples/web/flask_tokens.py run
"""

import os
from datetime import timedelta
from functools import cache

from flask import Flask, Response, abort, jsonify, session

from moq_token import Claims, Key

RELAY = "https://relay.example.com"
LIFETIME = timedelta(minutes=10)
MEMBERS = {"123": {"alice", "bob"}}  # stands for your database

app = Flask(__name__)
app.config.from_prefixed_env()
app.config["SESSION_COOKIE_SAMESITE"] = "Lax"  # no other site can ask in the user's name


@cache
def signing_key() -> Key:
    return Key.from_file(os.environ["MOQ_SIGNING_KEY"])


@app.post("/rooms/<room>/token")
def token(room: str) -> Response:
    user = session.get("user")  # which your own sign-in has put there
    if user is None:
        abort(401)
    if user not in MEMBERS.get(room, ()):
        abort(403)
    claims = Claims(f"rooms/{room}", publish=user, subscribe="", expires=LIFETIME)
    response = jsonify(url=f"{RELAY}/rooms/{room}?jwt={signing_key().sign(claims)}")
    response.headers["Cache-Control"] = "no-store"
    return response
