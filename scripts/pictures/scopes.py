"""Draw what limits what: the scope of a key, the root of a token, and what the token grants."""

from __future__ import annotations

from moq_token import Claims, InvalidClaimsError, Key, Scope
from scripts.pictures.svg import box, picture, text

SCOPE = Scope("project", publish="live", subscribe="")
CLAIMS = Claims("project/live/room", publish="camera", subscribe="")
OUTSIDE = Claims("other", publish="camera")
WIDTH, HEIGHT = 640, 300


def figure() -> str:
    """Return the figure as SVG. The key must sign what is inside, and refuse what is outside."""
    key = Key.generate("EdDSA").with_scope(SCOPE)
    allowed = key.to_public().verify(key.sign(CLAIMS)).authorize("")
    try:
        key.sign(OUTSIDE)
    except InvalidClaimsError:
        refused = f"root {OUTSIDE.root}: refused"
    else:
        raise AssertionError("the scope limits nothing")
    parts = [
        box(8, 8, 624, 284),
        text(22, 30, "the relay: all paths", "quiet"),
        box(24, 44, 440, 236, "watch"),
        text(38, 66, "scope of the key", "head"),
        text(38, 85, _words(SCOPE.root, SCOPE.publish, SCOPE.subscribe), "mono small"),
        box(44, 100, 400, 166, "warm"),
        text(58, 122, "token", "head"),
        text(58, 141, _words(CLAIMS.root, CLAIMS.publish, CLAIMS.subscribe), "mono small"),
        box(64, 156, 360, 40, "both"),
        text(78, 181, f"may publish   {allowed.publish[0]}/…", "mono small"),
        box(64, 208, 360, 40, "both"),
        text(78, 233, f"may watch     {allowed.subscribe[0]}/…", "mono small"),
        box(472, 130, 152, 48, "bad"),
        text(548, 159, refused, "mono small center"),
    ]
    return picture("scopes", "A token grants a part of what the scope of its key allows", WIDTH, HEIGHT, parts)


def _words(root: str, publish: tuple[object, ...], subscribe: tuple[object, ...]) -> str:
    return f"root {root}  publish {publish[0]}  subscribe {subscribe[0] or chr(34) * 2}"
