"""The wire forms of claims and scopes: JSON.

There are two. Path prefixes are ``put`` and ``get``, which every relay reads. Patterns are ``publish`` and
``subscribe``, which relays read from 0.15 on. A document has one form, and both roles are written in the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from moq_token.claims.arguments import plain_text
from moq_token.claims.claims import Claims, unchecked
from moq_token.claims.grants import Held, all_subtrees, as_pattern, held, literal
from moq_token.claims.scope import Scope
from moq_token.encoding import deeper_than, parse_json
from moq_token.errors import InvalidClaimsError, InvalidKeyError, InvalidPatternError, InvalidTokenError, shown
from moq_token.pattern import MAX_SEGMENTS, Pattern
from moq_token.patterns import MAX_PATTERNS
from moq_token.times import MAX_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    Members = Mapping[str, object]

_STAR, _SLASH = ord("*"), ord("/")  # bytes are searched faster for a number
# In strict mode a path with more is read as one broadcast.
_MOST_SLASHES = MAX_SEGMENTS - 2
_PREFIXES, _PATTERNS = ("put", "get"), ("publish", "subscribe")
KNOWN = frozenset(("root", *_PREFIXES, *_PATTERNS, "exp", "iat", "nbf", "iss", "sub", "jti"))
"""The claims that relays from 0.15 on know. They refuse a token with others."""
MAX_ISSUER_DEPTH = 126
"""Lists and objects within each other in `iss`: relays look into this claim, and no further down."""
_TIMES = ("exp", "iat", "nbf")


class _PatternFound(Exception):  # noqa: N818 - no error: it leads to the other form
    pass


def _as_text(value: object) -> str:
    if isinstance(value, Pattern):
        raise _PatternFound
    return plain_text(value)


_encode: Callable[[object], bytes] = msgspec.json.Encoder(enc_hook=_as_text).encode
_decode: Callable[[bytes], Claims] = msgspec.json.Decoder(Claims).decode


# -- writing


def encode(claims: Claims) -> bytes:
    """Write claims as the payload of a token.

    Raises ``InvalidClaimsError`` if there are patterns and a path that no pattern can express.
    """
    try:
        return _encode(claims)
    except _PatternFound:
        pass
    try:
        members = _as_patterns(claims)
    except InvalidPatternError as error:
        raise InvalidClaimsError(f"a path beside a pattern must be valid as a pattern: {error}") from None
    rest = {
        "cluster": claims.cluster or None,
        "exp": claims.expires,
        "iat": claims.issued,
        "nbf": claims.not_before,
        "sub": claims.subject,
        "jti": claims.id,
    }
    members |= {name: value for name, value in rest.items() if value is not None}
    return _encode({"root": claims.root, **members})


def scope_members(scope: Scope) -> dict[str, object]:
    """Return a scope as the member of a key.

    Raises ``InvalidKeyError`` if there are patterns and a path that no pattern can express.
    """
    members: dict[str, object] = {"root": plain_text(scope.root)} if scope.root else {}
    if all_subtrees(scope.publish) and all_subtrees(scope.subscribe):
        for name, grants in zip(_PREFIXES, (scope.publish, scope.subscribe), strict=True):
            members |= {name: [plain_text(grant) for grant in grants]} if grants else {}
        return members
    try:
        return members | _as_patterns(scope)
    except InvalidPatternError as error:
        raise InvalidKeyError(f"a path beside a pattern must be valid as a pattern: {error}") from None


def _as_patterns(value: Claims | Scope) -> dict[str, object]:
    roles = zip(_PATTERNS, (value.publish, value.subscribe), strict=True)
    return {name: [str(as_pattern(grant)) for grant in grants] for name, grants in roles if grants}


# -- reading


def decode(payload: bytes, *, strict: bool) -> Claims:
    """Read the claims of a token whose signature has been verified. Times are not compared with a clock.

    Raises ``InvalidTokenError`` (``malformed``, ``bad-claims``) for claims that are invalid, and for ``aud``.
    ``strict`` refuses what relays from 0.15 refuse; otherwise unknown claims are ignored, and so are ``publish`` and
    ``subscribe`` beside ``put`` or ``get``, as relays before 0.15 do.
    """
    try:
        claims = _decode(payload)
        # Equal bytes prove that the payload had nothing but these claims, once each and in their usual spelling.
        if _encode(claims) == payload:
            plain = _STAR not in payload and not (strict and (claims.cluster or payload.count(_SLASH) > _MOST_SLASHES))
            return claims if plain else _looked_at(claims, strict=strict)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        pass  # the other reader accepts any spelling, and has a message for what is invalid
    return _decode_any_spelling(payload, strict=strict)


def grants_prefixes(payload: bytes) -> bool:
    """Whether a payload that was read has ``put`` or ``get``: relays before 0.15 read no other grants."""
    if not any(name in payload for name in (b"publish", b"subscribe", b"\\")):
        return True
    members = parse_json(payload)
    return isinstance(members, dict) and _has(members, _PREFIXES)


def claims_of_prefixes(root: str, publish: Sequence[str], subscribe: Sequence[str]) -> Claims:
    """Return claims of path prefixes in which ``*`` is an ordinary character, as relays before 0.15 read them.

    Raises ``InvalidClaimsError`` for text that UTF-8 cannot encode.
    """
    return Claims(root, tuple(map(literal, publish)), tuple(map(literal, subscribe)))


SCOPE_MEMBERS = frozenset(("root", *_PREFIXES, *_PATTERNS))
"""The members of a scope. Relays from 0.15 on refuse a key whose scope has others."""


def decode_scope(members: object) -> Scope:
    """Read the ``scope`` member of a key. Raises ``InvalidKeyError``."""
    if not isinstance(members, dict):
        raise InvalidKeyError("the member `scope` must be a JSON object")
    if _has(members, _PREFIXES) and _has(members, _PATTERNS):
        raise InvalidKeyError("the member `scope` must not have `put` or `get` beside `publish` or `subscribe`")
    try:
        root = members.get("root", "")
        if not isinstance(root, str):
            raise _bad("`root` must be a string")
        publish, subscribe = _grants(members, lists_only=True)
        scope = Scope(root, publish, subscribe)
    except (InvalidTokenError, InvalidClaimsError, InvalidPatternError) as error:
        raise InvalidKeyError(f"the member `scope` is invalid: {error}") from None
    scope.validate()
    return scope


def _looked_at(claims: Claims, *, strict: bool) -> Claims:
    """Look at what the quick reader does not: ``*`` in prefixes, and what relays from 0.15 refuse."""
    if strict and claims.cluster:
        raise _unknown("cluster")
    publish, subscribe = (
        _prefixes(name, grants, strict=strict)  # type: ignore[arg-type]  # the quick reader reads text only
        for name, grants in zip(_PREFIXES, (claims.publish, claims.subscribe), strict=True)
    )
    return msgspec.structs.replace(claims, publish=publish, subscribe=subscribe)


def _decode_any_spelling(payload: bytes, *, strict: bool) -> Claims:
    try:
        members = parse_json(payload)
    except ValueError as error:
        raise InvalidTokenError(f"the claims are not valid JSON: {error}") from None
    if not isinstance(members, dict):
        raise _bad("the claims must be a JSON object")
    if strict:
        _check_members(members)
    if "aud" in members:
        raise _bad("the token has an `aud`: it is meant for another service")
    cluster = members.get("cluster", False)
    if not isinstance(cluster, bool):
        raise _bad("the claim `cluster` must be true or false")
    root = members.get("root", "")
    if not isinstance(root, str):
        raise _bad("the claim `root` must be a string")
    publish, subscribe = _grants(members, strict=strict)
    subject, token_id = members.get("sub"), members.get("jti")
    return unchecked(
        {
            "root": root,
            "publish": publish,
            "subscribe": subscribe,
            "cluster": cluster,
            "expires": _time(members, "exp"),
            "issued": _time(members, "iat"),
            "not_before": _time(members, "nbf"),
            "subject": subject if isinstance(subject, str) else None,
            "id": token_id if isinstance(token_id, str) else None,
        }
    )


def _check_members(members: Members) -> None:
    """Refuse what relays from 0.15 refuse before they look at the values."""
    for name in members:
        if name not in KNOWN:
            raise _unknown(name)
    if _has(members, _PREFIXES) and _has(members, _PATTERNS):
        raise _bad("the token has `put` or `get` beside `publish` or `subscribe`, which relays from 0.15 refuse")
    for name in _TIMES:
        if isinstance(members.get(name), float):
            raise _bad(f"the claim `{name}` must be an integer without a fraction or an exponent")
    if isinstance(members.get("sub"), list | dict):
        raise _bad("the claim `sub` must not be a list or an object")
    if deeper_than(MAX_ISSUER_DEPTH, members.get("iss")):
        raise _bad(f"the claim `iss` must not be nested deeper than {MAX_ISSUER_DEPTH} levels")


def _grants(members: Members, *, strict: bool = False, lists_only: bool = False) -> tuple[Held, Held]:
    if _has(members, _PATTERNS) and not _has(members, _PREFIXES):
        publish, subscribe = (_patterns(members, name) for name in _PATTERNS)
    else:
        publish, subscribe = (
            _prefixes(name, _texts(members, name, lists_only=lists_only), strict=strict) for name in _PREFIXES
        )
    return publish, subscribe


def _patterns(members: Members, name: str) -> Held:
    texts = _texts(members, name, lists_only=True)
    if len(texts) > MAX_PATTERNS:
        raise _bad(f"the claim `{name}` must not have more than {MAX_PATTERNS} patterns")
    try:
        return held(map(Pattern, texts))
    except InvalidPatternError as error:
        raise _bad(f"the claim `{name}`: {error}") from None


def _prefixes(name: str, texts: Sequence[str], *, strict: bool) -> Held:
    if not strict:
        return tuple(map(literal, texts))
    try:
        return held(Pattern.subtree(text) if "*" in text or text.count("/") > _MOST_SLASHES else text for text in texts)
    except InvalidPatternError as error:
        raise _bad(f"the claim `{name}` has a prefix that relays from 0.15 on refuse: {error}") from None


def _texts(members: Members, name: str, *, lists_only: bool) -> Sequence[str]:
    value = members.get(name, [])
    if isinstance(value, str) and not lists_only:
        return (value,)
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return value
    raise _bad(f"the claim `{name}` must be {'' if lists_only else 'a string or '}a list of strings")


def _time(members: Members, name: str) -> int | None:
    value = members.get(name)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if value is None or (type(value) is int and 0 <= value <= MAX_SECONDS):
        return value
    raise _bad(f"the claim `{name}` must be a whole number of Unix seconds from 0 to 2**53 - 1")


def _has(members: Members, names: Iterable[str]) -> bool:
    return any(name in members for name in names)


def _unknown(name: str) -> InvalidTokenError:
    return _bad(f"unknown claim {shown(name)}: relays from 0.15 refuse a token with it")


def _bad(message: str) -> InvalidTokenError:
    return InvalidTokenError(message, reason="bad-claims")
