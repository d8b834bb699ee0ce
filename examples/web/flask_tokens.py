"""Issue tokens with Flask: a signed-in member of a room may publish there and watch the other members.

Run it with: MOQ_SIGNING_KEYS=signing FLASK_SECRET_KEY=… flask --app examples/web/flask_tokens.py run
"""

import os
from datetime import timedelta

from flask import Flask, Response, abort, jsonify, session

from moq_token import Claims
from moq_token.issuing import SigningKeys

RELAY = "https://relay.example.com"
LIFETIME = timedelta(minutes=10)
MEMBERS = {"123": {"alice", "bob"}}  # replace with your database

app = Flask(__name__)
app.config.from_prefixed_env()
app.config["SESSION_COOKIE_SAMESITE"] = "Lax"  # other sites cannot send requests as this user
keys = SigningKeys(os.environ["MOQ_SIGNING_KEYS"])


@app.post("/rooms/<room>/token")
def token(room: str) -> Response:
    user = session.get("user")  # set by your own sign-in
    if user is None:
        abort(401)
    if user not in MEMBERS.get(room, ()):
        abort(403)
    claims = Claims(f"rooms/{room}", publish=user, subscribe="", expires=LIFETIME)
    response = jsonify(url=f"{RELAY}/rooms/{room}?jwt={keys.sign(claims)}")
    response.headers["Cache-Control"] = "no-store"
    return response
