"""Write decisions.json: the decisions of a relay, rule by rule, with expectations worked out by hand.

Run as ``python -m tests.vectors.make_decisions`` from the top of the project. Tokens are signed by ``tests.forge``, not
by the package; those of PSS and ECDSA differ from run to run. Nothing here asks the package what it would decide.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from moq_token import Algorithm
from tests import forge
from tests.forge import b64, compact

TARGET = Path(__file__).with_name("decisions.json")
FUTURE, PAST = 4_102_444_800, 1_000_000_000
TOP = {"put": [""], "get": [""], "exp": FUTURE}
ROOM = {"root": "rooms/123", "put": ["alice"], "get": [""], "exp": FUTURE}

Row = dict[str, Any]

# -- keys, by the names under which cases put them into files and answers


def _secret(number: int, **members: object) -> dict[str, object]:
    return {"kty": "oct", "alg": "HS256", "k": b64(bytes([number]) * 32), **members}


SIGNERS: dict[str, tuple[Algorithm, Any]] = {
    "hs": (Algorithm.HS256, bytes([1]) * 32),
    "scoped": (Algorithm.HS256, bytes([2]) * 32),
    "signer": (Algorithm.HS256, bytes([3]) * 32),
    "nokid": (Algorithm.HS256, bytes([4]) * 32),
    "attacker": (Algorithm.HS256, bytes([9]) * 32),
    "rs": (Algorithm.RS256, forge.native(Algorithm.RS256)),
    "ps": (Algorithm.PS256, forge.native(Algorithm.PS256)),
    "es": (Algorithm.ES256, forge.native(Algorithm.ES256)),
    "ed": (Algorithm.EDDSA, forge.native(Algorithm.EDDSA)),
}
KEYS: dict[str, dict[str, object]] = {
    "hs": _secret(1, kid="hs", key_ops=["sign", "verify"]),
    "scoped": _secret(2, kid="scoped", scope={"root": "rooms", "put": ["123/alice"], "get": ["123"]}),
    "signer": _secret(3, kid="signer", key_ops=["sign"]),
    "nokid": _secret(4),
    **{name: forge.public_jwk(SIGNERS[name][0], kid=name) for name in ("rs", "ps", "es", "ed")},
}

# -- tokens, by the names that stand in braces in a URL


def _token(signer: str, claims: object, **header: object) -> str:
    algorithm, native = SIGNERS[signer]
    head = {"typ": "JWT", "alg": algorithm.value, "kid": signer, **header}
    head = {name: value for name, value in head.items() if value is not ...}
    payload = claims if isinstance(claims, bytes) else compact(claims)
    return forge.token(algorithm, payload, head, lambda data: forge.sign(algorithm, data, native))


GOOD = _token("hs", ROOM)
SEGMENTS = GOOD.split(".")
TOKENS: dict[str, str] = {
    # good ones
    "good": GOOD,
    "top": _token("hs", TOP),
    "forever": _token("hs", {"root": "rooms/123", "put": ["alice"], "get": [""]}),
    "exp-null": _token("hs", {"root": "", "get": [""], "exp": None}),
    "reader": _token("hs", {"root": "rooms/123", "get": ["bob", "carol"], "exp": FUTURE}),
    "writer": _token("hs", {"root": "rooms/123", "put": ["alice/camera"], "exp": FUTURE}),
    "string": _token("hs", {"root": "rooms/123", "put": "alice", "get": "", "exp": FUTURE}),
    "slashes": _token("hs", {"root": "//rooms//123/", "put": ["/alice/"], "get": ["/"], "exp": FUTURE}),
    "overlapping": _token("hs", {"root": "r", "put": ["b/c", "b", "a/long/one", "b/d", "ab"], "get": ["x", ""]}),
    "two": _token("hs", {"put": ["rooms/123/alice", "rooms/9"], "get": ["rooms"], "exp": FUTURE}),
    "cluster": _token("hs", {**TOP, "cluster": True}),
    "unknown-claim": _token("hs", {**TOP, "sub": "alice", "role": {"admin": 1}}),
    "demo": _token("hs", {"root": "demo", "put": [""], "get": [""], "exp": FUTURE}),
    "demo-cam": _token("hs", {"root": "demo", "put": ["cam"], "get": [""], "exp": FUTURE}),
    "dotted": _token("hs", {"root": "a/../b", "get": [""], "exp": FUTURE}),
    "encoded": _token("hs", {"root": "caf%C3%A9", "get": [""], "exp": FUTURE}),
    "unicode": _token("hs", {"root": "café", "get": [""], "exp": FUTURE}),
    "customer": _token("hs", {"root": "customer/team", "put": ["cam"], "get": [""], "exp": FUTURE}),
    "rs": _token("rs", ROOM),
    "ps": _token("ps", ROOM),
    "es": _token("es", ROOM),
    "ed": _token("ed", ROOM),
    "in-scope": _token("scoped", {"root": "rooms/123", "put": ["alice/camera"], "get": [""], "exp": FUTURE}),
    # kids
    "no-kid": _token("hs", ROOM, kid=...),
    "unnamed": _token("nokid", ROOM, kid=...),
    "other-kid": _token("hs", ROOM, kid="other"),
    "kid-null": _token("hs", ROOM, kid=None),
    "kid-number": _token("hs", ROOM, kid=7),
    "kid-empty": _token("hs", ROOM, kid=""),
    "kid-climbs": _token("hs", ROOM, kid="../hs"),
    "kid-slash": _token("hs", ROOM, kid="keys/hs"),
    "kid-dot": _token("hs", ROOM, kid="hs.jwk"),
    "kid-percent": _token("hs", ROOM, kid="%68s"),
    "kid-space": _token("hs", ROOM, kid="hs "),
    "kid-nul": _token("hs", ROOM, kid="hs\0"),
    "kid-unicode": _token("hs", ROOM, kid="hś"),
    "kid-query": _token("hs", ROOM, kid="hs?x=1"),
    "kid-url": _token("hs", ROOM, kid="https://evil.example/hs"),
    "kid-128": _token("hs", ROOM, kid="k" * 128),
    "kid-129": _token("hs", ROOM, kid="k" * 129),
    "kid-nobody": _token("hs", ROOM, kid="nobody"),
    "kid-broken": _token("hs", ROOM, kid="broken"),
    "kid-empty-file": _token("hs", ROOM, kid="empty"),
    "kid-html": _token("hs", ROOM, kid="html"),
    "kid-set": _token("hs", ROOM, kid="set"),
    "kid-gone": _token("hs", ROOM, kid="gone"),
    "kid-500": _token("hs", ROOM, kid="error"),
    "kid-503": _token("hs", ROOM, kid="busy"),
    "kid-403": _token("hs", ROOM, kid="forbidden"),
    "kid-case": _token("hs", ROOM, kid="HS"),
    # bad ones
    "expired": _token("hs", {**ROOM, "exp": PAST}),
    "expired-at-0": _token("hs", {**ROOM, "exp": 0}),
    "forged": _token("attacker", ROOM, kid="hs"),
    "forged-expired": _token("attacker", {**ROOM, "exp": PAST}, kid="hs"),
    "forged-useless": _token("attacker", {"root": "rooms/123"}, kid="hs"),
    "unsigned": f"{SEGMENTS[0]}.{SEGMENTS[1]}.",
    "alg-none": f"{b64(compact({'typ': 'JWT', 'alg': 'none', 'kid': 'hs'}))}.{SEGMENTS[1]}.",
    "alg-384": _token("hs", ROOM, alg="HS384"),
    "alg-unknown": _token("hs", ROOM, alg="HS999"),
    "alg-missing": _token("hs", ROOM, alg=...),
    "confused": forge.token(
        Algorithm.HS256,
        ROOM,
        {"typ": "JWT", "alg": "HS256", "kid": "rs"},
        lambda data: forge.mac(Algorithm.HS256, json.dumps(KEYS["rs"]).encode(), data),
    ),
    "other-payload": f"{SEGMENTS[0]}.{b64(compact(TOP))}.{SEGMENTS[2]}",
    "signed-by-scoped": _token("scoped", ROOM, kid="hs"),
    "useless": _token("hs", {"root": "rooms/123", "exp": FUTURE}),
    "useless-lists": _token("hs", {"root": "rooms/123", "put": [], "get": [], "exp": FUTURE}),
    "useless-cluster": _token("hs", {"root": "rooms/123", "cluster": True, "exp": FUTURE}),
    "beyond-scope": _token("scoped", {"root": "rooms/123", "put": ["bob"], "get": [""], "exp": FUTURE}),
    "above-scope": _token("scoped", {"root": "rooms", "get": [""], "exp": FUTURE}),
    "other-role": _token("scoped", {"root": "rooms/123", "put": [""], "exp": FUTURE}),
    "not-yet": _token("hs", {**ROOM, "nbf": FUTURE - 1}),
    "for-others": _token("hs", {**ROOM, "aud": "somebody"}),
    "exp-text": _token("hs", {**ROOM, "exp": str(FUTURE)}),
    "put-number": _token("hs", {**ROOM, "put": [7]}),
    "put-null": _token("hs", {**ROOM, "put": None}),
    "root-number": _token("hs", {**ROOM, "root": 7}),
    "no-object": _token("hs", b"[]"),
    "no-json": _token("hs", b"{"),
    "by-signer": _token("signer", ROOM),
    "two-segments": f"{SEGMENTS[0]}.{SEGMENTS[1]}",
    "four-segments": f"{GOOD}.x",
    "padded": f"{GOOD}=",
    "garbage": "garbage",
    "dots": "..",
}

CASES: list[dict[str, Any]] = []


def case(name: str, toml: str = "", **config: Any) -> None:  # noqa: ANN401 - files, http, env, rows, error, warnings
    CASES.append({"name": name, "toml": toml, **config})


def admitted(url: str, root: str, publish: list[str], subscribe: list[str], **grant: object) -> Row:
    return {"url": url, "grant": {"root": root, "publish": publish, "subscribe": subscribe, **grant}}


def room(url: str, kid: str | None = "hs", **grant: object) -> Row:
    """Expect what ROOM grants at its root."""
    return admitted(url, "rooms/123", ["alice"], [""], expires=FUTURE, kid=kid, **grant)


def refused(url: str, reason: str, **more: object) -> Row:
    """If the original decides differently, ``relay`` is its answer: a status, or "admitted"."""
    return {"url": url, "reason": reason, **more}


def unavailable(url: str, **more: object) -> Row:
    return {"url": url, "unavailable": True, **more}


def answer(body: object, status: int = 200, headers: dict[str, str] | None = None) -> dict[str, Any]:
    """``{"key": name}`` anywhere in a body stands for that key."""
    return {"status": status, "body": body, "headers": headers or {}}


HTTPS = "https://relay.example"
UNASKED = {"ask": False}

# -- A connection ---------------------------------------------------------------------------------------------------

case(
    "the token of a URL",
    '[auth]\nkey = "key.jwk"\n',
    files={"key.jwk": {"key": "hs"}},
    rows=[
        room(f"{HTTPS}/rooms/123?jwt={{good}}"),
        room(f"{HTTPS}/rooms/123?jwt={{good}}&"),
        room(f"{HTTPS}/rooms/123?jwt={{good}}#fragment"),
        room(f"{HTTPS}/rooms/123?a=b&jwt={{good}}&c"),
        room(f"{HTTPS}/rooms/123?%6Awt={{good}}"),
        room(f"{HTTPS}/rooms/123?jwt={{good}}&jwt="),
        room(f"{HTTPS}/rooms/123?jwt={{garbage}}&jwt={{good}}"),
        room(f"{HTTPS}/rooms/123?jwt=&jwt={{good}}"),
        room(f"{HTTPS}/rooms/123?jwt={SEGMENTS[0]}%2E{SEGMENTS[1]}%2e{SEGMENTS[2]}"),
        room("https://user:password@relay.example:4443/rooms/123?jwt={good}"),
        room("HTTPS://RELAY.EXAMPLE/rooms/123?jwt={good}"),
        refused(f"{HTTPS}/rooms/123?jwt={{good}}&jwt={{garbage}}", "malformed"),
        refused(f"{HTTPS}/rooms/123", "token-expected"),
        refused(f"{HTTPS}/rooms/123?jwt=", "token-expected"),
        refused(f"{HTTPS}/rooms/123?jwt", "token-expected"),
        refused(f"{HTTPS}/rooms/123?jwt=&jwt=", "token-expected"),
        refused(f"{HTTPS}/rooms/123?JWT={{good}}", "token-expected"),
        refused(f"{HTTPS}/rooms/123?token={{good}}", "token-expected"),
        refused(f"{HTTPS}/rooms/123?x=jwt={{good}}", "token-expected"),
        refused(f"{HTTPS}/rooms/123?a;jwt={{good}}", "token-expected"),
        refused(f"{HTTPS}/rooms/123#?jwt={{good}}", "token-expected"),
        refused(f"{HTTPS}/rooms/123?jwt={{good}}%20", "malformed"),
        refused(f"{HTTPS}/rooms/123?jwt=+{{good}}", "malformed"),
        refused(f"{HTTPS}/rooms/123?jwt={{good}}?", "malformed"),
        refused(f"{HTTPS}/rooms/123?jwt=%FF", "malformed"),
    ],
)
case(
    "the path of a URL",
    '[auth]\nkey = "key.jwk"\n',
    files={"key.jwk": {"key": "hs"}},
    rows=[
        admitted(f"{HTTPS}?jwt={{top}}", "", [""], [""], expires=FUTURE, kid="hs"),
        admitted(f"{HTTPS}/?jwt={{top}}", "", [""], [""], expires=FUTURE, kid="hs"),
        admitted(f"{HTTPS}///?jwt={{top}}", "", [""], [""], expires=FUTURE, kid="hs"),
        room(f"{HTTPS}//rooms///123/?jwt={{good}}"),
        room(f"{HTTPS}/rooms/x/../123?jwt={{good}}"),
        room(f"{HTTPS}/./rooms/%2e/123/x/%2E%2e?jwt={{good}}"),
        room(f"{HTTPS}/../rooms/123?jwt={{good}}"),
        room(f"{HTTPS}\\rooms\\123?jwt={{good}}"),
        admitted(f"{HTTPS}/caf%C3%A9?jwt={{encoded}}", "caf%C3%A9", [], [""], expires=FUTURE, kid="hs"),
        admitted(f"{HTTPS}/café?jwt={{encoded}}", "caf%C3%A9", [], [""], expires=FUTURE, kid="hs"),
        admitted(f"{HTTPS}/a b?jwt={{top}}", "a%20b", [""], [""], expires=FUTURE, kid="hs") | UNASKED,
        refused(f"{HTTPS}/café?jwt={{unicode}}", "root-mismatch"),
        refused(f"{HTTPS}/caf%c3%a9?jwt={{encoded}}", "root-mismatch"),
        refused(f"{HTTPS}/rooms%2F123?jwt={{good}}", "root-mismatch"),
        refused(f"{HTTPS}/r%6Foms/123?jwt={{good}}", "root-mismatch"),
        refused(f"{HTTPS}/Rooms/123?jwt={{good}}", "root-mismatch"),
        refused(f"{HTTPS}/rooms/1234?jwt={{good}}", "root-mismatch"),
        refused(f"{HTTPS}/b?jwt={{dotted}}", "root-mismatch"),
    ],
)
case(
    "the path and query of a SETUP message",
    '[auth]\nkey = "key.jwk"\n',
    files={"key.jwk": {"key": "hs"}},
    rows=[
        room("moqt://relay.example/rooms/123?jwt={good}"),
        room("moql://relay.example/rooms//123/?jwt={good}"),
        admitted("moqt://relay.example?jwt={top}", "", [""], [""], expires=FUTURE, kid="hs"),
        refused("moqt://relay.example/rooms/123", "token-expected"),
        refused("moqt://relay.example/rooms%2F123?jwt={good}", "root-mismatch"),
        {"path": "/rooms/123", "query": "jwt={good}", **room("")},
        {"path": "rooms/123", "query": "jwt=&jwt={good}&jwt=", **room("")},
        {"path": "/rooms/123?jwt={good}", "query": None, **room("")},
        {"path": "", "query": "jwt={top}", **admitted("", "", [""], [""], expires=FUTURE, kid="hs")},
        {"path": "/a/../b", "query": "jwt={dotted}", **admitted("", "a/../b", [], [""], expires=FUTURE, kid="hs")},
        {"path": "/café", "query": "jwt={unicode}", **admitted("", "café", [], [""], expires=FUTURE, kid="hs")},
        {"path": "/rooms/123", "query": None, **refused("", "token-expected")},
        {"path": "/b", "query": "jwt={dotted}", **refused("", "root-mismatch")},
        {"path": "\\rooms\\123", "query": "jwt={good}", **refused("", "root-mismatch")},
    ],
)
case(
    "labels of the host before a domain",
    '[auth]\nkey = "key.jwk"\ndomains = ["cdn.example", ".USW.cdn.example", "other.example"]\n',
    files={"key.jwk": {"key": "hs"}},
    rows=[
        admitted(
            "https://team.customer.cdn.example/foo?jwt={top}",
            "customer/team/foo",
            [""],
            [""],
            expires=FUTURE,
            kid="hs",
        ),
        admitted("https://a.b.c.cdn.example/?jwt={top}", "c/b/a", [""], [""], expires=FUTURE, kid="hs"),
        admitted("https://x.usw.cdn.example/foo?jwt={top}", "x/foo", [""], [""], expires=FUTURE, kid="hs"),
        admitted("https://usw.cdn.example/foo?jwt={top}", "foo", [""], [""], expires=FUTURE, kid="hs"),
        admitted("https://cdn.example/foo?jwt={top}", "foo", [""], [""], expires=FUTURE, kid="hs"),
        admitted("https://x.cdn.example/../foo?jwt={top}", "x/foo", [""], [""], expires=FUTURE, kid="hs"),
        admitted("https://TEAM.CDN.Example/foo?jwt={top}", "team/foo", [""], [""], expires=FUTURE, kid="hs"),
        admitted("https://x.other.example:4443/?jwt={top}", "x", [""], [""], expires=FUTURE, kid="hs"),
        admitted("https://xcdn.example/foo?jwt={top}", "foo", [""], [""], expires=FUTURE, kid="hs"),
        admitted("https://x.cdn.example.org/foo?jwt={top}", "foo", [""], [""], expires=FUTURE, kid="hs"),
        admitted("https://[::1]/foo?jwt={top}", "foo", [""], [""], expires=FUTURE, kid="hs"),
        admitted("https://x.cdn.example./foo?jwt={top}", "foo", [""], [""], expires=FUTURE, kid="hs"),
        admitted("wss://x.cdn.example/foo?jwt={top}", "x/foo", [""], [""], expires=FUTURE, kid="hs"),
        admitted("moqt://x.cdn.example/foo?jwt={top}", "foo", [""], [""], expires=FUTURE, kid="hs") | UNASKED,
        admitted(
            "https://team.customer.cdn.example/cam?jwt={customer}",
            "customer/team/cam",
            [""],
            [""],
            expires=FUTURE,
            kid="hs",
        ),
        admitted(
            "https://customer.cdn.example/?jwt={customer}", "customer", ["team/cam"], ["team"], expires=FUTURE, kid="hs"
        ),
        refused("https://customer.team.cdn.example/?jwt={customer}", "root-mismatch"),
        refused("https://cdn.example/?jwt={customer}&jwt={garbage}", "malformed"),
    ],
)
case(
    "a domain as a string, before public prefixes",
    '[auth]\npublic = "customer/live"\ndomains = "cdn.example"\n',
    rows=[
        admitted("https://customer.cdn.example/live", "customer/live", [""], [""]),
        admitted("https://customer.cdn.example/", "customer", ["live"], ["live"]),
        admitted("https://live.customer.cdn.example/x", "customer/live/x", [""], [""]),
        admitted("https://cdn.example/", "", ["customer/live"], ["customer/live"]),
        refused("https://customer.cdn.example/vod", "token-expected"),
        refused("https://customer.example/live", "token-expected"),
    ],
)

# -- `key` ----------------------------------------------------------------------------------------------------------

case(
    "one key for all tokens, whatever their kid",
    '[auth]\nkey = "key.jwk"\n',
    files={"key.jwk": {"key": "hs"}},
    rows=[
        room(f"{HTTPS}/rooms/123?jwt={{no-kid}}", kid=None),
        room(f"{HTTPS}/rooms/123?jwt={{kid-null}}", kid=None),
        room(f"{HTTPS}/rooms/123?jwt={{other-kid}}", kid="other"),
        room(f"{HTTPS}/rooms/123?jwt={{kid-climbs}}", kid="../hs"),
        room(f"{HTTPS}/rooms/123?jwt={{kid-empty}}", kid=""),
        refused(f"{HTTPS}/rooms/123?jwt={{kid-number}}", "malformed"),
    ],
)
case(
    "a key without a kid, written in base64url",
    '[auth]\nkey = "key.jwk"\n',
    files={"key.jwk": {"base64": "nokid"}},
    rows=[
        room(f"{HTTPS}/rooms/123?jwt={{unnamed}}", kid=None),
        refused(f"{HTTPS}/rooms/123?jwt={{good}}", "bad-signature"),
    ],
)
for name in ("rs", "ps", "es", "ed"):
    case(
        f"a public key of {SIGNERS[name][0]}",
        '[auth]\nkey = "key.jwk"\n',
        files={"key.jwk": {"key": name}},
        rows=[
            room(f"{HTTPS}/rooms/123?jwt={{{name}}}", kid=name),
            refused(f"{HTTPS}/rooms/123?jwt={{good}}", "wrong-algorithm"),
        ],
    )
case(
    "a key at a URL",
    '[auth]\nkey = "{http}/key.jwk"\n',
    http={"/key.jwk": answer({"key": "hs"}, headers={"Cache-Control": "max-age=60"})},
    rows=[
        room(f"{HTTPS}/rooms/123?jwt={{good}}"),
        room(f"{HTTPS}/rooms/123?jwt={{no-kid}}", kid=None),
        refused(f"{HTTPS}/rooms/123?jwt={{forged}}", "bad-signature"),
        refused(f"{HTTPS}/rooms/123", "token-expected"),
    ],
)
for name, reply, row in (
    ("that is not there", answer("", 404), refused(f"{HTTPS}/rooms/123?jwt={{good}}", "unknown-key")),
    ("of a server in trouble", answer({"key": "hs"}, 500), unavailable(f"{HTTPS}/rooms/123?jwt={{good}}")),
    ("that is none", answer("<html></html>"), unavailable(f"{HTTPS}/rooms/123?jwt={{good}}", relay=401)),
):
    case(f"a key at a URL {name}", '[auth]\nkey = "{http}/key.jwk"\n', http={"/key.jwk": reply}, rows=[row])
case(
    "a key file that became unreadable is no refusal",
    '[auth]\nkey = "key.jwk"\n',
    files={"key.jwk": "{"},
    rows=[
        unavailable(f"{HTTPS}/rooms/123?jwt={{good}}", relay=401),
        refused(f"{HTTPS}/rooms/123?jwt={{garbage}}", "malformed"),
        refused(f"{HTTPS}/rooms/123", "token-expected"),
    ],
)

# -- `key_dir` ------------------------------------------------------------------------------------------------------

DIRECTORY: dict[str, object] = {
    f"keys/{name}.jwk": {"key": name} for name in ("hs", "scoped", "signer", "rs", "es", "ed")
}
case(
    "a directory of keys",
    '[auth]\nkey_dir = "keys"\n',
    files={
        **DIRECTORY,
        "hs.jwk": {"key": "hs"},
        "keys/" + "k" * 128 + ".jwk": {"key": "hs"},
        "keys/other.jwk": {"key": "hs"},
        "keys/broken.jwk": '{"kty":"oct"',
        "keys/empty.jwk": "",
        "keys/set.jwk": {"keys": ["hs"]},
    },
    rows=[
        room(f"{HTTPS}/rooms/123?jwt={{good}}"),
        room(f"{HTTPS}/rooms/123?jwt={{rs}}", kid="rs"),
        room(f"{HTTPS}/rooms/123?jwt={{es}}", kid="es"),
        room(f"{HTTPS}/rooms/123?jwt={{ed}}", kid="ed"),
        room(f"{HTTPS}/rooms/123?jwt={{other-kid}}", kid="other"),
        room(f"{HTTPS}/rooms/123?jwt={{kid-128}}", kid="k" * 128),
        refused(f"{HTTPS}/rooms/123?jwt={{no-kid}}", "kid-missing"),
        refused(f"{HTTPS}/rooms/123?jwt={{kid-null}}", "kid-missing"),
        refused(f"{HTTPS}/rooms/123?jwt={{kid-number}}", "malformed"),
        *(
            refused(f"{HTTPS}/rooms/123?jwt={{kid-{name}}}", "bad-kid")
            for name in ("empty", "climbs", "slash", "dot", "percent", "space", "nul", "unicode", "query", "url", "129")
        ),
        refused(f"{HTTPS}/rooms/123?jwt={{kid-nobody}}", "unknown-key"),
        refused(f"{HTTPS}/rooms/123?jwt={{kid-case}}", "unknown-key"),
        unavailable(f"{HTTPS}/rooms/123?jwt={{kid-broken}}", relay=401),
        unavailable(f"{HTTPS}/rooms/123?jwt={{kid-empty-file}}", relay=401),
        unavailable(f"{HTTPS}/rooms/123?jwt={{kid-set}}", relay=401),
        refused(f"{HTTPS}/rooms/123?jwt={{by-signer}}", "unknown-key"),
        refused(f"{HTTPS}/rooms/123", "token-expected"),
    ],
)
case(
    "what is wrong with a token",
    '[auth]\nkey_dir = "keys"\n',
    files=DIRECTORY,
    rows=[
        *(
            refused(f"{HTTPS}/rooms/123?jwt={{{name}}}", reason)
            for name, reason in (
                ("expired", "expired"),
                ("expired-at-0", "expired"),
                ("forged", "bad-signature"),
                ("forged-expired", "bad-signature"),
                ("forged-useless", "bad-signature"),
                ("unsigned", "bad-signature"),
                ("alg-none", "wrong-algorithm"),
                ("alg-384", "wrong-algorithm"),
                ("alg-unknown", "wrong-algorithm"),
                ("alg-missing", "wrong-algorithm"),
                ("confused", "wrong-algorithm"),
                ("other-payload", "bad-signature"),
                ("signed-by-scoped", "bad-signature"),
                ("useless", "useless"),
                ("useless-lists", "useless"),
                ("useless-cluster", "useless"),
                ("beyond-scope", "scope-exceeded"),
                ("above-scope", "scope-exceeded"),
                ("other-role", "scope-exceeded"),
                ("for-others", "bad-claims"),
                ("exp-text", "bad-claims"),
                ("put-number", "bad-claims"),
                ("put-null", "bad-claims"),
                ("root-number", "bad-claims"),
                ("no-object", "bad-claims"),
                ("no-json", "malformed"),
                ("two-segments", "malformed"),
                ("four-segments", "malformed"),
                ("padded", "malformed"),
                ("garbage", "malformed"),
                ("dots", "malformed"),
            )
        ),
        refused(f"{HTTPS}/rooms/123?jwt={{not-yet}}", "not-yet-valid", relay="admitted"),
        admitted(
            f"{HTTPS}/rooms/123?jwt={{in-scope}}", "rooms/123", ["alice/camera"], [""], expires=FUTURE, kid="scoped"
        ),
        # What a token allows is looked at last: at another path the faults above are still the reasons.
        refused(f"{HTTPS}/elsewhere?jwt={{expired}}", "expired"),
        refused(f"{HTTPS}/elsewhere?jwt={{forged}}", "bad-signature"),
    ],
)
case(
    "what a good token grants at the dialed path",
    '[auth]\nkey_dir = "keys/"\n',
    files=DIRECTORY,
    rows=[
        room(f"{HTTPS}/rooms/123?jwt={{good}}"),
        admitted(f"{HTTPS}/rooms/123/alice?jwt={{good}}", "rooms/123/alice", [""], [""], expires=FUTURE, kid="hs"),
        admitted(f"{HTTPS}/rooms/123/alice/x?jwt={{good}}", "rooms/123/alice/x", [""], [""], expires=FUTURE, kid="hs"),
        admitted(f"{HTTPS}/rooms/123/bob?jwt={{good}}", "rooms/123/bob", [], [""], expires=FUTURE, kid="hs"),
        admitted(f"{HTTPS}/?jwt={{good}}", "", ["rooms/123/alice"], ["rooms/123"], expires=FUTURE, kid="hs"),
        admitted(f"{HTTPS}/rooms?jwt={{good}}", "rooms", ["123/alice"], ["123"], expires=FUTURE, kid="hs"),
        refused(f"{HTTPS}/rooms/124?jwt={{good}}", "root-mismatch"),
        refused(f"{HTTPS}/room?jwt={{good}}", "root-mismatch"),
        admitted(f"{HTTPS}/rooms/123?jwt={{writer}}", "rooms/123", ["alice/camera"], [], expires=FUTURE, kid="hs"),
        admitted(
            f"{HTTPS}/rooms/123/alice?jwt={{writer}}", "rooms/123/alice", ["camera"], [], expires=FUTURE, kid="hs"
        ),
        refused(f"{HTTPS}/rooms/123/bob?jwt={{writer}}", "no-access"),
        refused(f"{HTTPS}/rooms/123/alicia?jwt={{writer}}", "no-access"),
        admitted(f"{HTTPS}/rooms/123?jwt={{reader}}", "rooms/123", [], ["bob", "carol"], expires=FUTURE, kid="hs"),
        admitted(f"{HTTPS}/rooms/123/carol/x?jwt={{reader}}", "rooms/123/carol/x", [], [""], expires=FUTURE, kid="hs"),
        refused(f"{HTTPS}/rooms/123/dave?jwt={{reader}}", "no-access"),
        room(f"{HTTPS}/rooms/123?jwt={{string}}"),
        room(f"{HTTPS}/rooms/123?jwt={{slashes}}"),
        admitted(f"{HTTPS}/rooms/123?jwt={{forever}}", "rooms/123", ["alice"], [""], kid="hs"),
        admitted(f"{HTTPS}/any/where?jwt={{exp-null}}", "any/where", [], [""], kid="hs"),
        admitted(f"{HTTPS}/r?jwt={{overlapping}}", "r", ["b", "ab", "a/long/one"], [""], kid="hs"),
        admitted(f"{HTTPS}/r/b?jwt={{overlapping}}", "r/b", [""], [""], kid="hs"),
        admitted(f"{HTTPS}/?jwt={{overlapping}}", "", ["r/b", "r/ab", "r/a/long/one"], ["r"], kid="hs"),
        admitted(f"{HTTPS}/?jwt={{two}}", "", ["rooms/9", "rooms/123/alice"], ["rooms"], expires=FUTURE, kid="hs"),
        admitted(f"{HTTPS}/rooms?jwt={{two}}", "rooms", ["9", "123/alice"], [""], expires=FUTURE, kid="hs"),
        admitted(f"{HTTPS}/rooms/9/x?jwt={{two}}", "rooms/9/x", [""], [""], expires=FUTURE, kid="hs"),
        refused(f"{HTTPS}/halls?jwt={{two}}", "no-access"),
        admitted(f"{HTTPS}/x?jwt={{cluster}}", "x", [""], [""], expires=FUTURE, kid="hs"),
        admitted(f"{HTTPS}/x?jwt={{unknown-claim}}", "x", [""], [""], expires=FUTURE, kid="hs"),
        admitted(f"{HTTPS}/demo?jwt={{demo-cam}}", "demo", ["cam"], [""], expires=FUTURE, kid="hs"),
        admitted(f"{HTTPS}/demo/cam?jwt={{demo-cam}}", "demo/cam", [""], [""], expires=FUTURE, kid="hs"),
        admitted(f"{HTTPS}/?jwt={{demo-cam}}", "", ["demo/cam"], ["demo"], expires=FUTURE, kid="hs"),
        admitted(f"{HTTPS}/?jwt={{demo}}", "", ["demo"], ["demo"], expires=FUTURE, kid="hs"),
        refused(f"{HTTPS}/demolition?jwt={{demo}}", "root-mismatch"),
    ],
)
KEYS_BY_HTTP = {
    "/keys/hs.jwk": answer({"key": "hs"}),
    "/keys/ed.jwk": answer({"key": "ed"}, headers={"Cache-Control": "no-store"}),
    "/keys/broken.jwk": answer("no key"),
    "/keys/empty.jwk": answer(""),
    "/keys/html.jwk": answer("<html></html>", headers={"Content-Type": "text/html"}),
    "/keys/set.jwk": answer({"keys": ["hs"]}),
    "/keys/gone.jwk": answer("", 410),
    "/keys/error.jwk": answer({"key": "hs"}, 500),
    "/keys/busy.jwk": answer({"key": "hs"}, 503),
    "/keys/forbidden.jwk": answer({"key": "hs"}, 403),
    "/hs.jwk": answer({"key": "scoped"}),
}
for slash in ("", "/"):
    case(
        f"a directory of keys at a URL {'with' if slash else 'without'} its last slash",
        f'[auth]\nkey_dir = "{{http}}/keys{slash}"\n',
        http=KEYS_BY_HTTP,
        rows=[
            room(f"{HTTPS}/rooms/123?jwt={{good}}"),
            room(f"{HTTPS}/rooms/123?jwt={{ed}}", kid="ed"),
            refused(f"{HTTPS}/rooms/123?jwt={{forged}}", "bad-signature"),
            refused(f"{HTTPS}/rooms/123?jwt={{expired}}", "expired"),
            refused(f"{HTTPS}/rooms/123?jwt={{no-kid}}", "kid-missing"),
            *(
                refused(f"{HTTPS}/rooms/123?jwt={{kid-{name}}}", "bad-kid")
                for name in ("empty", "climbs", "slash", "percent", "query", "url")
            ),
            refused(f"{HTTPS}/rooms/123?jwt={{kid-nobody}}", "unknown-key"),
            refused(f"{HTTPS}/rooms/123?jwt={{kid-gone}}", "unknown-key", relay=502),
            *(unavailable(f"{HTTPS}/rooms/123?jwt={{kid-{name}}}") for name in ("500", "503", "403")),
            *(
                unavailable(f"{HTTPS}/rooms/123?jwt={{kid-{name}}}", relay=401)
                for name in ("broken", "empty-file", "html", "set")
            ),
            refused(f"{HTTPS}/rooms/123", "token-expected"),
        ],
    )
case(
    "a key server that nobody can reach",
    '[auth]\nkey_dir = "http://127.0.0.1:1/keys"\npublic = "anon"\n',
    rows=[
        unavailable(f"{HTTPS}/rooms/123?jwt={{good}}"),
        unavailable(f"{HTTPS}/anon?jwt={{good}}"),
        refused(f"{HTTPS}/rooms/123?jwt={{kid-climbs}}", "bad-kid"),
        refused(f"{HTTPS}/rooms/123?jwt={{garbage}}", "malformed"),
        admitted(f"{HTTPS}/anon", "anon", [""], [""]),
    ],
)

# -- `public` -------------------------------------------------------------------------------------------------------

case(
    "one prefix for both roles",
    '[auth]\npublic = "anon"\n',
    rows=[
        admitted(f"{HTTPS}/anon", "anon", [""], [""]),
        admitted(f"{HTTPS}/anon/room/7", "anon/room/7", [""], [""]),
        admitted(f"{HTTPS}/", "", ["anon"], ["anon"]),
        admitted(f"{HTTPS}//anon/", "anon", [""], [""]),
        admitted(f"{HTTPS}/anon?jwt=", "anon", [""], [""]),
        refused(f"{HTTPS}/anonymous", "token-expected"),
        refused(f"{HTTPS}/ano", "token-expected"),
        refused(f"{HTTPS}/other/anon", "token-expected"),
        refused(f"{HTTPS}/ANON", "token-expected"),
        refused(f"{HTTPS}/anon?jwt={{good}}", "no-key-source"),
        refused(f"{HTTPS}/anon?jwt={{garbage}}", "no-key-source"),
    ],
)
case(
    "several prefixes, written carelessly",
    '[auth]\npublic = ["/anon/", "demo//live", "anon/x"]\n',
    rows=[
        admitted(f"{HTTPS}/", "", ["anon", "demo/live"], ["anon", "demo/live"]),
        admitted(f"{HTTPS}/demo", "demo", ["live"], ["live"]),
        admitted(f"{HTTPS}/demo/live/1", "demo/live/1", [""], [""]),
        admitted(f"{HTTPS}/anon/x", "anon/x", [""], [""]),
        refused(f"{HTTPS}/demo/vod", "token-expected"),
    ],
)
for name, value in (("the empty prefix", '""'), ("a slash", '"/"'), ("the empty prefix in a list", '["", "anon"]')):
    case(
        f"{name} is everything",
        f"[auth]\npublic = {value}\n",
        rows=[
            admitted(f"{HTTPS}/", "", [""], [""]),
            admitted(f"{HTTPS}/what/ever", "what/ever", [""], [""]),
            refused(f"{HTTPS}/?jwt={{good}}", "no-key-source"),
        ],
    )
case(
    "prefixes per role",
    '[auth.public]\nsubscribe = ["live", "vod"]\npublish = "live/guests"\n',
    rows=[
        admitted(f"{HTTPS}/", "", ["live/guests"], ["vod", "live"]),
        admitted(f"{HTTPS}/live", "live", ["guests"], [""]),
        admitted(f"{HTTPS}/live/guests", "live/guests", [""], [""]),
        admitted(f"{HTTPS}/live/hosts", "live/hosts", [], [""]),
        admitted(f"{HTTPS}/vod/1", "vod/1", [], [""]),
        refused(f"{HTTPS}/other", "token-expected"),
    ],
)
case(
    "public for one role only",
    '[auth.public]\npublish = ["inbox"]\n',
    rows=[
        admitted(f"{HTTPS}/inbox/7", "inbox/7", [""], []),
        admitted(f"{HTTPS}/", "", ["inbox"], []),
        refused(f"{HTTPS}/outbox", "token-expected"),
    ],
)
case(
    "a URL as a plain string is a prefix",
    '[auth]\npublic = "https://api.example/public"\n',
    warnings=["auth.public.api"],
    rows=[
        admitted(f"{HTTPS}/", "", ["https:/api.example/public"], ["https:/api.example/public"]),
        admitted(f"{HTTPS}/https://api.example/public/x", "https:/api.example/public/x", [""], [""]),
        refused(f"{HTTPS}/rooms/123", "token-expected"),
    ],
)
case(
    "a prefix is no pattern",
    '[auth]\npublic = ["anon/**", "*"]\n',
    warnings=["'anon/**'", "'*'"],
    rows=[
        admitted(f"{HTTPS}/anon/**", "anon/**", [""], [""]),
        refused(f"{HTTPS}/anon/1", "token-expected"),
        admitted(f"{HTTPS}/*/1", "*/1", [""], [""]),
    ],
)
case(
    "tokens beside public prefixes",
    '[auth]\nkey_dir = "keys"\npublic = "anon"\n',
    files=DIRECTORY,
    rows=[
        admitted(f"{HTTPS}/anon/1", "anon/1", [""], [""]),
        room(f"{HTTPS}/rooms/123?jwt={{good}}"),
        # A token never adds to what is public, nor what is public to a token.
        refused(f"{HTTPS}/anon?jwt={{good}}", "root-mismatch"),
        admitted(f"{HTTPS}/?jwt={{good}}", "", ["rooms/123/alice"], ["rooms/123"], expires=FUTURE, kid="hs"),
        admitted(f"{HTTPS}/anon?jwt={{exp-null}}", "anon", [], [""], kid="hs"),
        *(
            refused(f"{HTTPS}/anon?jwt={{{name}}}", reason)
            for name, reason in (
                ("expired", "expired"),
                ("forged", "bad-signature"),
                ("alg-none", "wrong-algorithm"),
                ("useless", "useless"),
                ("beyond-scope", "scope-exceeded"),
                ("garbage", "malformed"),
                ("no-kid", "kid-missing"),
                ("kid-climbs", "bad-kid"),
                ("kid-nobody", "unknown-key"),
            )
        ),
        refused(f"{HTTPS}/rooms/123", "token-expected"),
    ],
)
PUBLIC_API = {
    "/public/rooms/123": answer({"subscribe": ["", "chat"], "publish": ["guests"]}),
    "/public/one/role": answer({"subscribe": ["live"]}),
    "/public/extra": answer({"publish": [""], "tier": "x", "subscribe": []}),
    "/public/nothing": answer({}),
    "/public/empty": answer({"subscribe": [], "publish": []}),
    "/public/": answer({"subscribe": ["lobby"]}),
    "/public/a%20b": answer({"subscribe": [""]}),
    "/public/error": answer({"subscribe": [""]}, 500),
    "/public/forbidden": answer({"subscribe": [""]}, 403),
    "/public/html": answer("<html></html>"),
    "/public/list": answer(["live"]),
    "/public/string": answer({"subscribe": "live"}),
    "/public/null": answer({"subscribe": None}),
    "/public/number": answer({"publish": [1]}),
    "/public/static": answer({"subscribe": ["from/the/api"]}),
    "/secret": answer({"publish": [""]}),
}
case(
    "a public-access URL",
    '[auth.public]\nsubscribe = "static"\napi = "{http}/public"\n',
    http=PUBLIC_API,
    rows=[
        admitted(f"{HTTPS}/rooms/123", "rooms/123", ["guests"], [""]),
        admitted(f"{HTTPS}/one//role/", "one/role", [], ["live"]),
        admitted(f"{HTTPS}/extra", "extra", [""], []),
        admitted(f"{HTTPS}/a%20b", "a%20b", [], [""]),
        # The static prefix fits these, so nobody asks: the top lies above it.
        admitted(f"{HTTPS}/static/1", "static/1", [], [""]),
        admitted(f"{HTTPS}/", "", [], ["static"]),
        refused(f"{HTTPS}/nothing", "token-expected"),
        refused(f"{HTTPS}/empty", "token-expected"),
        *(
            unavailable(f"{HTTPS}/{name}")
            for name in ("missing", "error", "forbidden", "html", "list", "string", "null", "number")
        ),
        refused(f"{HTTPS}/rooms/123?jwt={{good}}", "no-key-source"),
        {"path": "/../secret", "query": None, **refused("", "token-expected"), **UNASKED},
        {"path": "/x/%2E%2e/%2e%2E/secret", "query": None, **refused("", "token-expected"), **UNASKED},
        {"path": "/http://127.0.0.1:1/x", "query": None, **unavailable(""), **UNASKED},
    ],
)
case(
    "a public-access URL alone, beside a key",
    '[auth]\nkey = "key.jwk"\n[auth.public]\napi = "{http}/public/"\n',
    files={"key.jwk": {"key": "hs"}},
    http=PUBLIC_API,
    rows=[
        admitted(f"{HTTPS}/", "", [], ["lobby"]),
        admitted(f"{HTTPS}/static", "static", [], ["from/the/api"]),
        admitted(f"{HTTPS}/error?jwt={{top}}", "error", [""], [""], expires=FUTURE, kid="hs"),
        refused(f"{HTTPS}/rooms/123?jwt={{forged}}", "bad-signature"),
        unavailable(f"{HTTPS}/error"),
    ],
)
case(
    "a public-access URL that nobody can reach",
    '[auth.public]\napi = "http://127.0.0.1:1/"\npublish = ["static"]\n',
    rows=[
        unavailable(f"{HTTPS}/rooms/123"),
        admitted(f"{HTTPS}/static/x", "static/x", [""], []),
    ],
)

# -- `auth_api` -----------------------------------------------------------------------------------------------------

API = '[auth]\nauth_api = "{http}/auth"\n'
HS = {"key": "hs"}
case(
    "auth_api, with tokens",
    API,
    http={
        "/auth?root=rooms/123&kid=hs": answer({"key": HS}, headers={"Cache-Control": "max-age=30"}),
        "/auth?root=demo&kid=hs": answer({"key": HS, "alias": "x7k2qp", "tier": "region/sjc"}),
        "/auth?root=demo/cam&kid=hs": answer({"key": HS, "alias": "/x7k2qp//cam/", "tier": ""}),
        "/auth?root=demo/room&kid=hs": answer({"key": HS, "alias": "x7k2qp"}),
        "/auth?root=demo/one&kid=hs": answer({"key": HS, "alias": "x7k2qp/one/more"}),
        "/auth?root=demo/gone&kid=hs": answer({"key": HS, "alias": ""}),
        "/auth?root=&kid=hs": answer({"key": HS, "alias": ""}),
        "/auth?root=no/key&kid=hs": answer({"public": {"subscribe": [""], "publish": [""]}, "tier": "x"}),
        "/auth?root=key/null&kid=hs": answer({"key": None, "alias": None, "public": None, "tier": None}),
        "/auth?root=other/key&kid=hs": answer({"key": {"key": "scoped"}}),
        "/auth?root=unnamed": answer({"key": HS}),
        "/auth?root=missing&kid=hs": answer({"key": HS}, 404),
        "/auth?root=error&kid=hs": answer({"key": HS}, 500),
        "/auth?root=forbidden&kid=hs": answer({"key": HS}, 403),
        "/auth?root=nobody&kid=hs": answer({}),
        "/auth?root=html&kid=hs": answer("<html></html>"),
        "/auth?root=text&kid=hs": answer('"yes"'),
        "/auth?root=bad/key&kid=hs": answer({"key": {"kty": "oct"}}),
        "/auth?root=bad/alias&kid=hs": answer({"key": HS, "alias": 7}),
        "/auth?root=bad/tier&kid=hs": answer({"key": HS, "tier": ["x"]}),
        "/auth?root=bad/public&kid=hs": answer({"key": HS, "public": {"subscribe": "live"}}),
        "/auth?root=unknown&kid=hs": answer({"key": HS, "answer": 42}),
    },
    rows=[
        room(f"{HTTPS}/rooms/123?jwt={{good}}"),
        admitted(
            f"{HTTPS}/demo?jwt={{demo-cam}}", "x7k2qp", ["cam"], [""], expires=FUTURE, kid="hs", tier="region/sjc"
        ),
        admitted(f"{HTTPS}/demo/cam?jwt={{demo-cam}}", "x7k2qp/cam", [""], [""], expires=FUTURE, kid="hs"),
        admitted(f"{HTTPS}/?jwt={{top}}", "", [""], [""], expires=FUTURE, kid="hs"),
        admitted(f"{HTTPS}/unknown?jwt={{top}}", "unknown", [""], [""], expires=FUTURE, kid="hs"),
        admitted(f"{HTTPS}/unnamed?jwt={_token('hs', TOP, kid=...)}", "unnamed", [""], [""], expires=FUTURE, kid=None),
        # An alias renames the path, no more: it has as many segments.
        refused(f"{HTTPS}/demo/room?jwt={{demo}}", "root-mismatch"),
        refused(f"{HTTPS}/demo/one?jwt={{demo}}", "root-mismatch"),
        refused(f"{HTTPS}/demo/gone?jwt={{demo}}", "root-mismatch"),
        # The token is held against the dialed path, not against the alias.
        refused(f"{HTTPS}/demo?jwt={{good}}", "root-mismatch"),
        refused(f"{HTTPS}/no/key?jwt={{top}}", "unknown-key"),
        refused(f"{HTTPS}/key/null?jwt={{top}}", "unknown-key"),
        refused(f"{HTTPS}/nobody?jwt={{top}}", "unknown-key"),
        refused(f"{HTTPS}/other/key?jwt={{top}}", "bad-signature"),
        refused(f"{HTTPS}/rooms/123?jwt={{expired}}", "expired"),
        refused(f"{HTTPS}/rooms/123?jwt={{forged}}", "bad-signature"),
        refused(f"{HTTPS}/rooms/123?jwt={{useless}}", "useless"),
        refused(f"{HTTPS}/missing?jwt={{garbage}}", "malformed"),
        refused(f"{HTTPS}/missing?jwt={{kid-climbs}}", "bad-kid", relay=502),
        *(
            unavailable(f"{HTTPS}/{name}?jwt={{top}}")
            for name in (
                *("missing", "error", "forbidden", "html", "text"),
                *("bad/key", "bad/alias", "bad/tier", "bad/public"),
            )
        ),
    ],
)
case(
    "auth_api, without tokens",
    API,
    http={
        "/auth?root=rooms/123": answer({"public": {"subscribe": [""], "publish": ["guests"]}, "tier": "free"}),
        "/auth?root=demo": answer({"public": {"subscribe": ["live"]}, "alias": "x7k2qp"}),
        "/auth?root=demo/room": answer({"public": {"subscribe": ["live"]}, "alias": "x7k2qp"}),
        "/auth?root=a//b": answer({"public": {"publish": ["/c/", "c/d"]}}),
        "/auth?root=caf%C3%A9": answer({"public": {"publish": [""]}}),
        "/auth?root=": answer({"public": {"subscribe": ["lobby"]}}),
        "/auth?root=nothing": answer({}),
        "/auth?root=key/only": answer({"key": HS}),
        "/auth?root=empty": answer({"public": {}}),
        "/auth?root=empty/lists": answer({"public": {"subscribe": [], "publish": []}}),
        "/auth?root=missing": answer({"public": {"subscribe": [""]}}, 404),
        "/auth?root=list": answer([]),
        "/auth?root=public/list": answer({"public": ["live"]}),
        "/auth?root=bad/key": answer({"public": {"subscribe": [""]}, "key": {"kty": "oct"}}),
    },
    rows=[
        admitted(f"{HTTPS}/rooms/123", "rooms/123", ["guests"], [""], tier="free"),
        admitted(f"{HTTPS}/demo", "x7k2qp", [], ["live"]),
        admitted(f"{HTTPS}//a//b/", "a/b", ["c"], []),
        admitted(f"{HTTPS}/caf%C3%A9", "caf%C3%A9", [""], []),
        admitted(f"{HTTPS}/", "", [], ["lobby"]),
        refused(f"{HTTPS}/demo/room", "root-mismatch"),
        *(refused(f"{HTTPS}/{name}", "token-expected") for name in ("nothing", "key/only", "empty", "empty/lists")),
        unavailable(f"{HTTPS}/missing"),
        unavailable(f"{HTTPS}/list", relay=401),
        unavailable(f"{HTTPS}/public/list"),
        unavailable(f"{HTTPS}/bad/key"),
        unavailable(f"{HTTPS}/unheard/of"),
    ],
)
case(
    "auth_api whose URL has a query, after the host rule",
    '[auth]\nauth_api = "{http}/auth?node=7"\ndomains = "cdn.example"\n',
    http={
        "/auth?node=7&root=customer/team/x&kid=hs": answer({"key": HS}),
        "/auth?node=7&root=customer/y": answer({"public": {"subscribe": [""]}}),
    },
    rows=[
        admitted(
            "https://team.customer.cdn.example/x?jwt={top}", "customer/team/x", [""], [""], expires=FUTURE, kid="hs"
        ),
        admitted("https://customer.cdn.example/y", "customer/y", [], [""]),
        unavailable("https://cdn.example/y"),
    ],
)
case(
    "auth_api that nobody can reach",
    '[auth]\nauth_api = "http://127.0.0.1:1/"\n',
    rows=[
        unavailable(f"{HTTPS}/rooms/123?jwt={{good}}"),
        unavailable(f"{HTTPS}/rooms/123"),
        refused(f"{HTTPS}/rooms/123?jwt={{garbage}}", "malformed"),
    ],
)

# -- client certificates --------------------------------------------------------------------------------------------

CERTIFIED = {"certificate": FUTURE}
case(
    "a client certificate",
    '[auth]\nkey = "key.jwk"\nmtls_tier = "mesh"\n',
    files={"key.jwk": {"key": "hs"}},
    rows=[
        admitted(f"{HTTPS}/", "", [""], [""], expires=FUTURE, tier="mesh") | CERTIFIED,
        admitted(f"{HTTPS}/demo//x", "demo/x", [""], [""], expires=FUTURE, tier="mesh") | CERTIFIED,
        admitted(f"{HTTPS}/demo?jwt={{garbage}}", "demo", [""], [""], expires=FUTURE, tier="mesh") | CERTIFIED,
        admitted(f"{HTTPS}/x?jwt={{top}}", "x", [""], [""], expires=FUTURE, kid="hs"),
    ],
)
case(
    "a client certificate and auth_api",
    '[auth]\nauth_api = "{http}/auth"\nmtls_tier = "mesh"\n',
    http={
        "/auth?root=demo&mtls=true": answer({"alias": "x7k2qp", "tier": "region/sjc"}),
        "/auth?root=demo/x&mtls=true": answer({"tier": ""}),
        "/auth?root=&mtls=true": answer({}),
        "/auth?root=error&mtls=true": answer({}, 500),
        "/auth?root=demo": answer({"public": {"subscribe": [""]}}),
    },
    rows=[
        admitted(f"{HTTPS}/demo", "x7k2qp", [""], [""], expires=FUTURE, tier="region/sjc") | CERTIFIED,
        admitted(f"{HTTPS}/demo?jwt={{good}}", "x7k2qp", [""], [""], expires=FUTURE, tier="region/sjc") | CERTIFIED,
        admitted(f"{HTTPS}/demo/x", "demo/x", [""], [""], expires=FUTURE) | CERTIFIED,
        admitted(f"{HTTPS}/", "", [""], [""], expires=FUTURE, tier="mesh") | CERTIFIED,
        unavailable(f"{HTTPS}/error") | CERTIFIED,
        admitted(f"{HTTPS}/demo", "demo", [], [""]),
    ],
)

# -- the environment ------------------------------------------------------------------------------------------------

case(
    "the environment over the table",
    '[auth]\nkey = "wrong.jwk"\npublic = ["anon", "demo"]\ndomains = ["cdn.example", "other.example"]\n',
    env={"MOQ_AUTH_KEY": "key.jwk", "MOQ_AUTH_PUBLIC": "open", "MOQ_AUTH_DOMAIN": "new.example"},
    files={"key.jwk": {"key": "hs"}, "wrong.jwk": {"key": "scoped"}},
    rows=[
        room(f"{HTTPS}/rooms/123?jwt={{good}}"),
        admitted(f"{HTTPS}/", "", ["open"], ["open"]),
        refused(f"{HTTPS}/anon", "token-expected"),
        admitted("https://open.new.example/x", "open/x", [""], [""]),
        refused("https://open.cdn.example/x", "token-expected"),
    ],
)
case(
    "what the environment adds to public access",
    '[auth.public]\nsubscribe = ["live"]\n',
    env={
        "MOQ_AUTH_PUBLIC_SUBSCRIBE": "vod",
        "MOQ_AUTH_PUBLIC_PUBLISH": "inbox",
        "MOQ_AUTH_PUBLIC_API": "{http}/public",
    },
    http=PUBLIC_API,
    rows=[
        admitted(f"{HTTPS}/", "", ["inbox"], ["vod", "live"]),
        admitted(f"{HTTPS}/inbox", "inbox", [""], []),
        admitted(f"{HTTPS}/rooms/123", "rooms/123", ["guests"], [""]),
    ],
)
case(
    "the environment alone",
    env={"MOQ_AUTH_KEY_DIR": "keys"},
    files=DIRECTORY,
    rows=[
        room(f"{HTTPS}/rooms/123?jwt={{good}}"),
        refused(f"{HTTPS}/rooms/123?jwt={{no-kid}}", "kid-missing"),
    ],
)
case(
    "auth_api and its tier by the environment",
    env={"MOQ_AUTH_API": "{http}/auth", "MOQ_AUTH_MTLS_TIER": "mesh"},
    http={
        "/auth?root=demo&mtls=true": answer({}),
        "/auth?root=demo": answer({"public": {"publish": [""]}}),
    },
    rows=[
        admitted(f"{HTTPS}/demo", "demo", [""], [""], expires=FUTURE, tier="mesh") | CERTIFIED,
        admitted(f"{HTTPS}/demo", "demo", [""], []),
    ],
)
case(
    "an empty variable is a prefix too: everything is public",
    env={"MOQ_AUTH_PUBLIC": ""},
    rows=[admitted(f"{HTTPS}/x", "x", [""], [""])],
)

# -- configurations that are taken, and not ---------------------------------------------------------------------------

case(
    "members that nobody knows",
    '[auth]\npublic = "anon"\nkey-dir = "keys"\ndomain = "cdn.example"\npublic_subscribe = "live"\nfuture = true\n',
    warnings=["key-dir", "domain", "public_subscribe", "future"],
    rows=[
        admitted(f"{HTTPS}/anon", "anon", [""], [""]),
        admitted("https://anon.cdn.example/", "", ["anon"], ["anon"]),
        refused(f"{HTTPS}/live", "token-expected"),
        refused(f"{HTTPS}/anon?jwt={{good}}", "no-key-source"),
    ],
)
case(
    "nothing that counts beside auth_api: an empty list and an empty table are no public access",
    '[auth]\nauth_api = "{http}/auth"\npublic = []\n',
    http={"/auth?root=x": answer({"public": {"publish": [""]}})},
    rows=[admitted(f"{HTTPS}/x", "x", [""], [])],
)
case(
    "the older TLS table before the newer one",
    '[auth]\npublic = "anon"\n[auth.tls]\ndisable_verify = true\n[client.tls]\nsystem_roots = true\n',
    warnings=["auth.tls", "disable_verify"],
    rows=[admitted(f"{HTTPS}/anon", "anon", [""], [""])],
)
for name, toml, more in (
    ("nothing at all", "", {}),
    ("an empty table", "[auth]\n", {}),
    ("nothing but domains and a tier", '[auth]\ndomains = "cdn.example"\nmtls_tier = "mesh"\n', {}),
    ("an empty list of public prefixes", "[auth]\npublic = []\n", {}),
    ("an empty table of public prefixes", "[auth.public]\nsubscribe = []\npublish = []\n", {}),
    ("key and key_dir", '[auth]\nkey = "key.jwk"\nkey_dir = "keys"\n', {"files": {"key.jwk": HS, **DIRECTORY}}),
    (
        "key, and key_dir in the environment",
        '[auth]\nkey = "key.jwk"\n',
        {"files": {"key.jwk": HS, **DIRECTORY}, "env": {"MOQ_AUTH_KEY_DIR": "keys"}},
    ),
    ("auth_api and key", '[auth]\nauth_api = "http://127.0.0.1:1/"\nkey = "key.jwk"\n', {"files": {"key.jwk": HS}}),
    ("auth_api and key_dir", '[auth]\nauth_api = "http://127.0.0.1:1/"\nkey_dir = "keys"\n', {"files": DIRECTORY}),
    ("auth_api and public", '[auth]\nauth_api = "http://127.0.0.1:1/"\npublic = "anon"\n', {}),
    ("auth_api and everything public", '[auth]\nauth_api = "http://127.0.0.1:1/"\npublic = ""\n', {}),
    (
        "auth_api and a public role in the environment",
        '[auth]\nauth_api = "http://127.0.0.1:1/"\n',
        {"env": {"MOQ_AUTH_PUBLIC_SUBSCRIBE": "live"}},
    ),
    (
        "a public-access URL in the table and in the environment",
        '[auth.public]\napi = "http://127.0.0.1:1/a"\n',
        {"env": {"MOQ_AUTH_PUBLIC_API": "http://127.0.0.1:1/b"}},
    ),
    ("a missing key file", '[auth]\nkey = "key.jwk"\n', {}),
    ("a directory for a key", '[auth]\nkey = "keys"\n', {"files": DIRECTORY}),
    ("an empty name for a key", '[auth]\nkey = ""\n', {}),
    ("a missing key directory", '[auth]\nkey_dir = "keys"\n', {}),
    ("a file for a key directory", '[auth]\nkey_dir = "key.jwk"\n', {"files": {"key.jwk": HS}}),
    ("an auth_api that is no URL", '[auth]\nauth_api = "auth"\n', {}),
    ("an empty auth_api", '[auth]\nauth_api = ""\n', {}),
    ("a public-access URL that is none", '[auth.public]\napi = "public"\n', {}),
    ("an empty domain", '[auth]\npublic = "anon"\ndomains = [""]\n', {}),
    ("a domain of dots", '[auth]\npublic = "anon"\ndomains = "."\n', {}),
    ("an empty domain in the environment", '[auth]\npublic = "anon"\n', {"env": {"MOQ_AUTH_DOMAIN": ""}}),
    ("a number for a key", "[auth]\nkey = 7\n", {}),
    ("a number for public", "[auth]\npublic = 7\n", {}),
    ("numbers for public", "[auth]\npublic = [7]\n", {}),
    ("a number for a role", "[auth.public]\nsubscribe = 7\n", {}),
    ("a list for mtls_tier", '[auth]\npublic = "anon"\nmtls_tier = ["mesh"]\n', {}),
    ("a number for domains", '[auth]\npublic = "anon"\ndomains = 7\n', {}),
    ("a string for the table", 'auth = "anon"\n', {}),
    ("no TOML", "[auth\n", {}),
    ("the same member twice", '[auth]\npublic = "a"\npublic = "b"\n', {}),
    ("an unknown member of auth.tls", '[auth]\npublic = "anon"\n[auth.tls]\nroots = "ca.pem"\n', {}),
    ("an unknown member of client.tls", '[auth]\npublic = "anon"\n[client.tls]\nroots = "ca.pem"\n', {}),
    ("half an identity in auth.tls", '[auth]\npublic = "anon"\n[auth.tls]\ncert = "cert.pem"\n', {}),
    ("half an identity in client.tls", '[auth]\npublic = "anon"\n[client.tls]\nkey = "key.pem"\n', {}),
    (
        "trust beside disable_verify",
        '[auth]\npublic = "anon"\n[client.tls]\ndisable_verify = true\nsystem_roots = true\n',
        {},
    ),
    ("no roots at all", '[auth]\npublic = "anon"\n[client.tls]\nsystem_roots = false\n', {}),
    (
        "a fingerprint beside roots",
        f'[auth]\npublic = "anon"\n[client.tls]\nfingerprint = "{"00" * 32}"\nsystem_roots = true\n',
        {},
    ),
    ("a flag that is none", '[auth]\npublic = "anon"\n[auth.tls]\ndisable_verify = "yes"\n', {}),
    (
        "a flag of the environment that is none",
        '[auth]\npublic = "anon"\n',
        {"env": {"MOQ_CLIENT_TLS_DISABLE_VERIFY": "yes"}},
    ),
):
    case(f"no configuration: {name}", toml, error=True, **more)


def main() -> None:
    document = {
        "source": (
            "The rules of moq-relay 0.14 for a connection and its [auth] table, worked out by hand; where a row has "
            "`relay`, moq-relay 0.14.18 answers that instead: a status, or that it admits"
        ),
        "made_by": ["python -m tests.vectors.make_decisions"],
        "note": (
            "Keys and tokens for tests only: they are public, and protect nothing. A token's name in braces in a URL "
            "stands for the token, {http} for the address of a server that gives the answers of `http` and 404 to "
            'everything else, {"key": name} in a file or a body for that key. Where a `grant` leaves out `expires`, '
            "`kid` or `tier`, null, null and an empty tier are expected. `certificate` is the expiry of a verified "
            "client certificate; rows with it, with `path` or with `ask` false cannot be asked of the original by a "
            "client."
        ),
        "keys": KEYS,
        "tokens": TOKENS,
        "cases": CASES,
    }
    TARGET.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    rows = sum(len(case.get("rows", ())) or 1 for case in CASES)
    print(f"{len(CASES)} cases, {rows} decisions")  # noqa: T201 - the only output of a program


if __name__ == "__main__":
    main()
