"""Issue tokens with Flask, to the members of a room who are signed in.

Set MOQ_SIGNING_KEYS=signing and FLASK_SECRET_KEY=…, and run it:
flask --app examples/web/flask_tokens.py run
"""

import os

from flask import Flask, Response, abort, jsonify, session

from moq_token.issuing import Issuer

RELAY = "https://relay.example.com"
MEMBERS = {"123": {"alice", "bob"}}  # replace with your database

app = Flask(__name__)
app.config.from_prefixed_env()
# Other sites cannot send requests as this user.
app.config["SESSION_COOKIE_SAMESITE"] = "Lax"
issuer = Issuer(os.environ["MOQ_SIGNING_KEYS"], RELAY, lifetime="1h")


@app.post("/rooms/<room>/token")
def token(room: str) -> tuple[Response, int]:
    user = session.get("user")  # set by your own sign-in
    if user is None:
        abort(401)
    if user not in MEMBERS.get(room, ()):
        abort(403)
    path = f"rooms/{room}"
    credential = issuer.grant(path, publish=user, subscribe="", subject=user)
    response = jsonify(credential.to_members())
    response.headers["Cache-Control"] = "no-store"
    return response, 201
