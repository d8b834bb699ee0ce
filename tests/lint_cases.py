"""Tokens and keys, and how relays of both generations read them, for the tests of `lint` and its peers."""

from __future__ import annotations

import base64
import json
from typing import Any, NamedTuple

from moq_token import Algorithm
from tests import forge

HEADER = '{"typ":"JWT","alg":"HS256","kid":"test-key"}'
SECRET = forge.SECRET[:32]
KEY: dict[str, Any] = {"kty": "oct", "alg": "HS256", "k": forge.b64(SECRET), "kid": "test-key"}


class Expected(NamedTuple):
    """The codes of the findings for one generation."""

    refused: tuple[str, ...] = ()
    noted: tuple[str, ...] = ()


class Case(NamedTuple):
    """An input. If the real programs give another answer, ``differs`` says why."""

    name: str
    content: Any
    first: Expected = Expected()
    second: Expected = Expected()
    differs: str = ""
    claims: str = '{"root":"demo","put":["a"]}'
    """For a key: those of a token within its scope."""


def token(content: str | tuple[str, str]) -> str:
    """Sign claims, or a header and claims, with the secret of ``KEY``."""
    header, claims = (HEADER, content) if isinstance(content, str) else content
    signed = f"{forge.b64(header.encode())}.{forge.b64(claims.encode())}"
    return f"{signed}.{forge.b64(forge.mac(Algorithm.HS256, SECRET, signed.encode()))}"


def refused(*codes: str) -> Expected:
    return Expected(codes)


def noted(*codes: str) -> Expected:
    return Expected((), codes)


def key(**changes: Any) -> bytes:  # noqa: ANN401 - any JSON
    return forge.compact({**KEY, **changes})


def _without(name: str) -> bytes:
    return forge.compact({member: value for member, value in KEY.items() if member != name})


def _deep(segments: int) -> str:
    return "/".join("a" * segments)


_BOTH = (refused("bad-type"), refused("bad-type"))

TOKENS = [
    Case("prefixes", '{"root":"demo","put":["a"],"get":[""]}'),
    Case("a string is a list of one", '{"put":"a"}'),
    Case("no root, null times", '{"put":["a"],"exp":null,"iat":null,"nbf":null}'),
    Case("iss, sub, jti", '{"put":["a"],"iss":"me","sub":"alice","jti":"1"}'),
    Case("patterns", '{"publish":["cam*/hd"]}', refused("patterns"), Expected()),
    Case("an empty pattern", '{"publish":[""]}', refused("patterns"), Expected()),
    Case("nothing", "{}", refused("useless"), refused("useless")),
    Case("empty lists", '{"put":[],"get":[]}', refused("useless"), refused("useless")),
    Case("empty patterns", '{"publish":[]}', refused("patterns"), refused("useless")),
    Case("mixed", '{"put":["a"],"subscribe":["b"]}', noted("mixed-forms"), refused("mixed-forms")),
    Case("mixed with an empty list", '{"put":["a"],"publish":[]}', noted("mixed-forms"), refused("mixed-forms")),
    Case("put is null", '{"put":null}', *_BOTH),
    Case("put is a number", '{"put":1}', *_BOTH),
    Case("put has a number", '{"put":["a",1]}', *_BOTH),
    Case("publish is a string", '{"publish":"a"}', refused("patterns"), refused("bad-type")),
    Case("root is null", '{"root":null,"put":["a"]}', *_BOTH),
    Case("aud", '{"put":["a"],"aud":"x"}', refused("aud"), refused("aud")),
    Case("aud is a list", '{"put":["a"],"aud":[]}', refused("aud"), refused("aud")),
    Case("aud is null", '{"put":["a"],"aud":null}', noted("aud"), refused("aud")),
    Case("aud is a number", '{"put":["a"],"aud":1}', noted("aud"), refused("aud")),
    Case("aud has a number", '{"put":["a"],"aud":["x",1]}', noted("aud"), refused("aud")),
    Case("cluster", '{"put":["a"],"cluster":true}', noted("cluster"), refused("cluster")),
    Case("cluster is false", '{"put":["a"],"cluster":false}', noted("cluster"), refused("cluster")),
    Case("cluster is a number", '{"put":["a"],"cluster":1}', noted("cluster"), refused("cluster")),
    Case("unknown", '{"put":["a"],"room":"x"}', noted("unknown-claim"), refused("unknown-claim")),
    Case("unknown, null", '{"put":["a"],"room":null}', noted("unknown-claim"), refused("unknown-claim")),
    Case("another case", '{"put":["a"],"Put":["b"]}', noted("unknown-claim"), refused("unknown-claim")),
    Case(
        "many unknown",
        json.dumps({"put": ["a"]} | {f"x{number}": 1 for number in range(50)}),
        noted("unknown-claim"),
        refused("unknown-claim"),
    ),
    Case("a star in a prefix", '{"put":["cam*"]}', noted("star"), refused("star")),
    Case("two stars in a prefix", '{"get":["a/**"]}', noted("star"), refused("star")),
    Case("iss nested as deep as relays look", f'{{"put":["a"],"iss":{"[" * 126}1{"]" * 126}}}'),
    Case("iss nested deeper", f'{{"put":["a"],"iss":{"[" * 127}1{"]" * 127}}}', *_BOTH),
    Case("iss of objects nested deeper", '{"put":["a"],"iss":' + '{"a":' * 127 + "1" + "}" * 128, *_BOTH),
    Case("iss of empty lists nested deeper", f'{{"put":["a"],"iss":{"[" * 127}{"]" * 127}}}', *_BOTH),
    Case("jti nested deeper", f'{{"put":["a"],"jti":{"[" * 127}1{"]" * 127}}}'),
    Case("negative zero as a time", '{"put":["a"],"iat":-0}', refused("bad-type"), refused("bad-type")),
    Case("a star in the root", '{"root":"demo/*","put":["a"]}', noted("star"), noted("star")),
    Case("an invalid pattern", '{"publish":["a*b*c"]}', refused("patterns"), refused("bad-pattern")),
    Case("a pattern with an outer slash", '{"publish":["/a"]}', refused("patterns"), refused("bad-pattern")),
    Case("31 segments", json.dumps({"put": [_deep(31)]})),
    Case("32 segments", json.dumps({"put": [_deep(32)]}), Expected(), noted("exact-32")),
    Case("33 segments", json.dumps({"put": [_deep(33)]}), Expected(), refused("too-deep")),
    Case("a deep root", json.dumps({"root": _deep(33), "put": ["a"]}), Expected(), noted("too-deep")),
    Case("expired", '{"put":["a"],"exp":1}', refused("expired"), refused("expired")),
    Case("expired before 1970", '{"put":["a"],"exp":-1}', refused("expired"), refused("expired")),
    Case("an exp with a fraction", '{"put":["a"],"exp":4102444800.0}', *_BOTH),
    Case("an exp that is text", '{"put":["a"],"exp":"4102444800"}', *_BOTH),
    Case("an exp that is true", '{"put":["a"],"exp":true}', *_BOTH),
    Case("an exp that is too large", '{"put":["a"],"exp":9223372036854775808}', *_BOTH),
    Case("an iat that is text", '{"put":["a"],"iat":"1"}', *_BOTH),
    Case("an iat before 1970", '{"put":["a"],"iat":-5}'),
    Case("nbf in the past", '{"put":["a"],"nbf":1}'),
    Case("nbf in the future", '{"put":["a"],"nbf":4102444800}', noted("nbf"), refused("not-yet-valid")),
    Case("nbf that is text", '{"put":["a"],"nbf":"1"}', noted("nbf"), refused("bad-type")),
    Case("sub is a list", '{"put":["a"],"sub":["x"]}', *_BOTH),
    Case("iss and jti of any type", '{"put":["a"],"iss":[1],"jti":{"a":1}}'),
    Case("a list", "[]", refused("bad-json"), refused("bad-json")),
    Case("not JSON", '{"put":["a"]', refused("bad-json"), refused("bad-json")),
    Case("a claim twice", '{"put":["a"],"put":["b"]}', refused("bad-json"), refused("bad-json")),
    Case(
        "an ignored claim twice",
        '{"put":["a"],"x":1,"x":2}',
        refused("bad-json"),
        refused("bad-json"),
        differs="relays before 0.15 ignore it; this package refuses what has two meanings",
    ),
    Case("no kid", ('{"alg":"HS256"}', '{"put":["a"]}')),
    Case("kid is null", ('{"alg":"HS256","kid":null}', '{"put":["a"]}')),
    Case("kid with a slash", ('{"alg":"HS256","kid":"a/b"}', '{"put":["a"]}'), noted("bad-kid"), noted("bad-kid")),
    Case("kid is a number", ('{"alg":"HS256","kid":1}', '{"put":["a"]}'), refused("bad-kid"), refused("bad-kid")),
    Case("no alg", ('{"typ":"JWT"}', '{"put":["a"]}'), refused("bad-alg"), refused("bad-alg")),
    Case("alg none", ('{"alg":"none"}', '{"put":["a"]}'), refused("bad-alg"), refused("bad-alg")),
    Case("alg of the page", ('{"alg":"EC256"}', '{"put":["a"]}'), refused("bad-alg"), refused("bad-alg")),
    Case("typ is a number", ('{"alg":"HS256","typ":1}', '{"put":["a"]}'), *_BOTH),
    *(
        Case(
            f"{name} in the header is of another type", (f'{{"alg":"HS256","{name}":{value}}}', '{"put":["a"]}'), *_BOTH
        )
        for name, value in (("cty", 1), ("jku", "[]"), ("x5t#S256", "true"), ("x5c", '"x"'), ("jwk", "[]"), ("zip", 0))
    ),
    Case("members of the header that are ignored", ('{"alg":"HS256","jku":"x","x5c":["x"],"y":1}', '{"put":["a"]}')),
    Case(
        "null in the header",
        ('{"alg":"HS256","typ":null,"jku":null,"crit":null}', '{"put":["a"]}'),
        noted("crit"),
        noted("crit"),
    ),
    Case("typ of another kind", ('{"alg":"HS256","typ":"at+jwt"}', '{"put":["a"]}')),
    Case("crit", ('{"alg":"HS256","crit":["x"],"x":1}', '{"put":["a"]}'), noted("crit"), noted("crit")),
]

_B64 = base64.urlsafe_b64encode(key())
_PADDED = next(text for n in range(3) if (text := base64.urlsafe_b64encode(key(x="1" * n))).endswith(b"="))
_PATTERNS = {"publish": ["cam*/hd"]}

KEYS = [
    Case("JSON", key()),
    Case("JSON with white space", b" \n" + key() + b"\r\n"),
    Case("JSON with white space of Unicode", "\u00a0".encode() + key() + "\u3000\x85".encode()),
    Case("base64url", _B64.rstrip(b"=")),
    Case("base64url with a line feed", _B64.rstrip(b"=") + b"\n"),
    Case("padded base64url", _PADDED, refused("base64"), refused("base64")),
    Case("standard base64", base64.b64encode(key(x="???>>>")).rstrip(b"="), refused("base64"), refused("base64")),
    Case("a byte order mark", b"\xef\xbb\xbf" + key(), refused("encoding"), refused("encoding")),
    Case("UTF-16", key().decode().encode("utf-16"), refused("encoding"), refused("encoding")),
    Case("PEM", forge.public_forms(Algorithm.ES256)["pem"], refused("pem"), refused("pem")),
    Case("a set", forge.compact({"keys": [KEY]}), refused("jwk-set"), refused("jwk-set")),
    Case("nothing", b"", refused("not-a-key"), refused("not-a-key")),
    Case("a list", b"[]", refused("not-a-key"), refused("not-a-key")),
    Case("half of it", key()[:-9], refused("bad-json"), refused("bad-json")),
    Case(
        "a member twice",
        b'{"kty":"oct",' + key()[1:],
        refused("bad-json"),
        refused("bad-json"),
        differs="relays before 0.15 take one; this package refuses what has two meanings",
    ),
    Case("no kty", _without("kty"), Expected(), refused("no-kty")),
    Case("no alg", _without("alg"), refused("no-alg"), refused("no-alg")),
    Case("no kid", _without("kid")),
    Case("kid is null", key(kid=None)),
    Case("kid is empty", key(kid=""), refused("bad-kid"), refused("bad-kid")),
    Case("kid with a slash", key(kid="a/b"), refused("bad-kid"), refused("bad-kid")),
    Case("kid is a number", key(kid=1), refused("bad-kid"), refused("bad-kid")),
    Case("alg of the page", key(alg="EC256"), refused("bad-alg"), refused("bad-alg")),
    Case("alg none", key(alg="none"), refused("bad-alg"), refused("bad-alg")),
    Case("a short secret", key(k=forge.b64(SECRET[1:])), refused("bad-key"), refused("bad-key")),
    Case("a padded secret", key(k=forge.b64(SECRET) + "=")),
    Case("to verify only", key(key_ops=["verify"])),
    Case("to sign only", key(key_ops=["sign"]), refused("no-verify"), refused("no-verify")),
    Case("key_ops is null", key(key_ops=None), refused("bad-key-ops"), refused("bad-key-ops")),
    Case("an unknown operation", key(key_ops=["verify", "x"]), refused("bad-key-ops"), refused("bad-key-ops")),
    Case("members of other software", key(use="sig", guest=["a"])),
    Case("scope", key(scope={"root": "demo", "put": ["a"]})),
    Case("scope is null", key(scope=None)),
    Case("scope is a list", key(scope=["a"]), refused("bad-type"), refused("bad-type")),
    Case("scope permits nothing", key(scope={"root": "demo"}), refused("useless"), refused("useless")),
    Case("scope with a string", key(scope={"put": "a"}), refused("bad-type"), refused("bad-type")),
    Case(
        "scope with patterns", key(scope=_PATTERNS), refused("patterns"), Expected(), claims='{"publish":["cam1/hd"]}'
    ),
    Case(
        "scope with both forms",
        key(scope={"put": ["demo"], "publish": ["a"]}),
        noted("mixed-forms"),
        refused("mixed-forms"),
    ),
    Case(
        "scope with an unknown member",
        key(scope={"put": ["demo"], "x": 1}),
        noted("unknown-member"),
        refused("unknown-member"),
    ),
    Case("scope with a star", key(scope={"put": ["demo", "a*"]}), noted("star"), refused("star")),
    Case("scope with 33 segments", key(scope={"put": ["demo", _deep(33)]}), Expected(), refused("too-deep")),
    Case(
        "scope with a star in the root",
        key(scope={"root": "a*", "put": ["x"]}),
        noted("star"),
        refused("star"),
        claims='{"root":"a*","put":["x"]}',
    ),
    Case(
        "scope with a deep root",
        key(scope={"root": _deep(32), "put": ["x"]}),
        Expected(),
        refused("too-deep"),
        claims=json.dumps({"root": _deep(32), "put": ["x"]}),
    ),
    Case(
        "scope with a deep root for one role",
        key(scope={"root": _deep(31), "publish": ["x"], "subscribe": ["x/y"]}),
        refused("patterns"),
        refused("too-deep"),
        claims=json.dumps({"root": _deep(31), "publish": ["x"]}),
    ),
    Case("scope with 32 segments", key(scope={"put": ["demo", _deep(32)]}), Expected(), noted("exact-32")),
]
