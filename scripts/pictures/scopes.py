"""Draw what limits what: the scope of a key, the root of a token, and what the token grants."""

from __future__ import annotations

from moq_token import Claims, InvalidClaimsError, Key, Scope
from scripts.pictures.svg import box, picture, text

SCOPE = Scope("project", publish="live", subscribe="")
CLAIMS = Claims("project/live/room", publish="camera", subscribe="")
OUTSIDE = Claims("other", publish="camera")
WIDTH, HEIGHT = 352, 372


def figure() -> str:
    """Return the figure as SVG. The key must sign what is inside, and refuse what is outside."""
    key = Key.generate("EdDSA").with_scope(SCOPE)
    allowed = key.to_public().verify(key.sign(CLAIMS)).authorize("")
    try:
        key.sign(OUTSIDE)
    except InvalidClaimsError:
        refused = f"a token with root {OUTSIDE.root}: refused"
    else:
        raise AssertionError("the scope limits nothing")
    parts = [
        box(4, 8, 344, 356),
        text(16, 30, "the relay: all paths", "quiet"),
        box(14, 42, 324, 264, "watch"),
        text(26, 64, "scope of the key", "head"),
        text(26, 83, f"root {SCOPE.root}", "mono small"),
        text(26, 99, _words(SCOPE.publish, SCOPE.subscribe), "mono small"),
        box(26, 112, 300, 182, "warm"),
        text(38, 134, "token", "head"),
        text(38, 153, f"root {CLAIMS.root}", "mono small"),
        text(38, 169, _words(CLAIMS.publish, CLAIMS.subscribe), "mono small"),
        box(38, 182, 276, 46, "both"),
        text(50, 201, "may publish", "small"),
        text(50, 218, f"{allowed.publish[0]}/…", "mono small"),
        box(38, 238, 276, 46, "both"),
        text(50, 257, "may watch", "small"),
        text(50, 274, f"{allowed.subscribe[0]}/…", "mono small"),
        box(26, 316, 300, 36, "bad"),
        text(38, 338, refused, "mono small"),
    ]
    return picture("scopes", "A token grants a part of what the scope of its key allows", WIDTH, HEIGHT, parts)


def _words(publish: tuple[object, ...], subscribe: tuple[object, ...]) -> str:
    return f"publish {publish[0]}  subscribe {subscribe[0] or chr(34) * 2}"
