"""How relays of both generations read a token. Its signature is not verified, and the scope of its key not applied."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moq_token import jws
from moq_token.algorithm import Algorithm
from moq_token.claims.wire import KNOWN, MAX_ISSUER_DEPTH
from moq_token.encoding import deeper_than, parse_json
from moq_token.errors import InvalidKeyIdError, InvalidTokenError, sealed, shown, utc
from moq_token.kid import KeyId
from moq_token.lint.finding import FIRST, SECOND, Findings
from moq_token.lint.grants import Words, read_grants

if TYPE_CHECKING:
    from collections.abc import Mapping

    from moq_token.generations import Generation
    from moq_token.lint.finding import Reading

# The number of claims that are named; the rest are counted.
MAX_NAMED = 8

_LONGEST = 2**63
# Relays use none of these members, but refuse a token in which one has another type.
_HEADER_TYPES = {
    **dict.fromkeys(("typ", "cty", "jku", "x5u", "x5t", "x5t#S256", "enc", "zip", "url", "nonce"), str),
    **dict.fromkeys(("x5c", "crit"), list),
    "jwk": dict,
}
_HEADER_WORDS = {str: "a string", list: "a list of strings", dict: "a JSON object"}
_RESIGN = "sign the token with `moq-token sign`"
_WITHOUT = "sign the token without it"
_WORDS = Words("the claim", "", "the token grants nothing", _RESIGN, of_token=True)


@sealed
def read_token(token: str, *, now: float) -> tuple[Reading, Reading]:
    """Return how relays before 0.15, and relays from 0.15 on, read a token. ``now`` is in Unix seconds.

    Relays from 0.15 on ask an auth server: it is taken to be as strict as ``moq auth serve``. Not checked: the
    signature, the scope of the key, and what the token grants at a path. Raises ``TypeError`` for what is not a
    string.
    """
    found = Findings()
    try:
        _, header, payload, signature = jws.split(token)
        members = jws.parse_header(header)
    except InvalidTokenError as error:
        found.refuse("malformed", str(error), "copy the whole token: three parts and two dots")
        return found.readings()
    _read_header(members, signature, found)
    _check_header_types(members, found)
    try:
        claims = parse_json(payload)
    except ValueError as error:
        found.refuse("bad-json", f"the claims are not valid JSON: {error}", _RESIGN)
        return found.readings()
    if not isinstance(claims, dict):
        found.refuse("bad-json", "the claims must be a JSON object", _RESIGN)
        return found.readings()
    _read_names(claims, found)
    _read_times(claims, now, found)
    read_grants(claims, _WORDS, found)
    return found.readings()


def _read_header(header: Mapping[str, object], signature: bytes, found: Findings) -> None:
    algorithm = header.get("alg")
    if not isinstance(algorithm, str) or algorithm not in Algorithm.__members__.values():
        found.refuse("bad-alg", f"`alg` in the header must be one of {', '.join(Algorithm)}", _RESIGN)
    elif not signature:
        found.refuse("unsigned", "the token has no signature", _RESIGN)
    elif Algorithm(algorithm).symmetric:
        note_shared_secret(found)
    kid = header.get("kid")
    if kid is None:
        note_no_kid("the token", found)
    elif not isinstance(kid, str):
        found.refuse("bad-kid", "`kid` in the header must be a string", _RESIGN)
    else:
        _check_kid(kid, found)
    for name in ("crit", "b64"):
        if name in header:
            found.note(name, f"`{name}` in the header: relays ignore it, but this package refuses the token", _WITHOUT)


def _check_header_types(header: Mapping[str, object], found: Findings) -> None:
    for name, value in header.items():
        kind = _HEADER_TYPES.get(name)
        if kind is None or value is None:
            continue
        texts = value if isinstance(value, list) else []
        if not isinstance(value, kind) or not all(isinstance(text, str) for text in texts):
            found.refuse("bad-type", f"`{name}` in the header must be {_HEADER_WORDS[kind]}", _RESIGN)


def _check_kid(kid: str, found: Findings) -> None:
    try:
        KeyId(kid)
    except InvalidKeyIdError:
        found.note(
            "bad-kid",
            "`kid` in the header is invalid: with a directory of keys, the token is refused",
            "sign with a key whose id is 1 to 128 characters of A-Z a-z 0-9 - _",
        )


def note_no_kid(what: str, found: Findings) -> None:
    """Note that a key, or a token, does not work with a directory of keys."""
    message = f"{what} has no `kid`: with a directory of keys (`key_dir`, `--key-dir`), tokens are refused"
    found.note("no-kid", message, "sign with a key that has an id, as `moq-token generate` makes them")


def note_shared_secret(found: Findings) -> None:
    """Note what the algorithms HS256, HS384 and HS512 mean for relays."""
    fix = "use EdDSA or ES256, and hand out the public half only"
    what = "anybody who verifies with a shared secret (HS256, HS384, HS512) can also sign"
    found.note("shared-secret", f"{what}; with `auth_api`, the answer would contain the secret", fix, FIRST)
    found.note("shared-secret", f"{what}: only the auth server may hold it", fix, SECOND)


def _read_names(claims: Mapping[str, object], found: Findings) -> None:
    _read_audience(claims, found)
    if isinstance(claims.get("sub"), list | dict):
        found.refuse("bad-type", "the claim `sub` must not be a list or an object", "write a string")
    if deeper_than(MAX_ISSUER_DEPTH, claims.get("iss")):
        message = f"the claim `iss` must not be nested deeper than {MAX_ISSUER_DEPTH} levels"
        found.refuse("bad-type", message, "write a string")
    unknown = [name for name in claims if name not in KNOWN]
    for name in unknown[:MAX_NAMED]:
        code = name if name in {"aud", "cluster"} else "unknown-claim"
        null = " (also with the value null)" if claims[name] is None else ""
        found.refuse(code, f"unknown claim `{shown(name)[1:-1]}`{null}", _WITHOUT, SECOND)
        if name == "cluster":
            found.note(code, "the claim `cluster` is ignored from 0.11 on", _WITHOUT, FIRST)
        elif name != "aud":
            found.note(code, f"the claim `{shown(name)[1:-1]}` is ignored", _WITHOUT, FIRST)
    if len(unknown) > MAX_NAMED:
        more = f"{len(unknown) - MAX_NAMED} more unknown claims"
        found.refuse("unknown-claim", more, _WITHOUT, SECOND)
        found.note("unknown-claim", f"{more} are ignored", _WITHOUT, FIRST)


def _read_audience(claims: Mapping[str, object], found: Findings) -> None:
    audience = claims.get("aud")
    if isinstance(audience, str) or (isinstance(audience, list) and all(isinstance(text, str) for text in audience)):
        found.refuse("aud", "the claim `aud`: the token is meant for another service", _WITHOUT, FIRST)
    elif "aud" in claims:
        message = "the claim `aud` is not a string: relays ignore it, but this package refuses the token"
        found.note("aud", message, _WITHOUT, FIRST)


def _read_times(claims: Mapping[str, object], now: float, found: Findings) -> None:
    expires, _ = (_time(claims, name, found) for name in ("exp", "iat"))
    if expires is not None and not now < expires:
        found.refuse("expired", f"the token expired at {utc(expires)}", "sign a new token")
    elif claims.get("exp") is None:
        found.note("no-expiry", "the token never expires", "sign with --expires 1h to limit it")
    if claims.get("nbf") is None:
        return
    if isinstance(claims["nbf"], list | dict):  # which relays before 0.15 read, though they ignore it
        found.refuse("bad-type", "the claim `nbf` must not be a list or an object", _RESIGN, FIRST)
    begins = _time(claims, "nbf", found, SECOND)
    if begins is None or begins > now:
        message = "the claim `nbf` is ignored: the token is valid already"
        found.note("nbf", message, "do not hand out a token before it is valid", FIRST)
    if begins is not None and begins > now:
        message = f"the token is not valid before {utc(begins)}"
        found.refuse("not-yet-valid", message, "wait, or compare the clocks", SECOND)


def _time(claims: Mapping[str, object], name: str, found: Findings, *generations: Generation) -> int | None:
    value = claims.get(name)
    if value is None or (type(value) is int and -_LONGEST <= value < _LONGEST):
        return value
    what = f"the claim `{name}` must be an integer, in Unix seconds, without a fraction or an exponent"
    found.refuse("bad-type", what, _RESIGN, *generations)
    return None
