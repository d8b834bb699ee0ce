"""The command that shows what a token or a key is."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from moq_token.cli import foreign, grants, keyinfo, keyring, options, output, pasted, refusals, times
from moq_token.cli.grammar import command
from moq_token.cli.refusals import listed
from moq_token.cli.tokens import ROLES, by_kind, read_token
from moq_token.errors import InvalidKeyError, RefusedError
from moq_token.key import Key
from moq_token.keytext import parse_members
from moq_token.trace import Trace
from moq_token.unverified import read_unverified

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# How the claims that name a token are labelled.
_NAMES = {"subject": "sub", "token id": "jti"}


@command(
    "inspect",
    short_help="Show the content of a token: claims, times, grants.",
    examples=("inspect < alice.jwt", "inspect --key public.jwk < alice.jwt", "inspect eyJ0eXAi…", "inspect < root.jwk"),
)
@options.token_argument
@options.token_file
@options.keys_or_none
@options.as_json
def inspect_command(token: str | None, token_file: str | None, key: str | None, as_json: bool) -> int:
    """Show the content of a token: header, claims, times in words, and what it grants, as full paths.

    Without --key, nothing is verified: anybody can have written the token. A key in its place, from a file or standard
    input, is shown without its secret.
    """
    where = None if key is None else keyring.source(key)
    given = read_token(token, token_file, where)
    if where is None and token is None and (found := _keys(given, token_file)):
        _show_keys(found, as_json=as_json)
        return 0
    text, around = pasted.find(given)
    if around is not None:
        output.note(f"ignored the text around the token: {around}")
    unverified = read_unverified(text)
    claims, now = unverified.claims, time.time()

    trace, refusal, verifier = Trace(), None, None
    if where is not None:
        try:
            with trace:
                verifier = keyring.Verifier(keyring.read_keys(where))
                verifier.verify(text, now=now, trace=trace)
        except RefusedError as error:
            refusal = error
    signature = "good" if "signature" in trace.passed else "bad" if trace.failed == "signature" else "not checked"

    granted = {role: refusals.granted_by(claims, role) for role in ROLES}
    newer = refusals.only_patterns(claims)
    ignored = foreign.ignored(claims, also_read=ROLES if newer else ())
    if as_json:
        result = {
            "header": unverified.header,
            "claims": claims,
            "grants": by_kind(granted),
            "signature": signature,
            "ignored": ignored,
            "needs_relay": "0.15" if newer else None,
            "reason": None if refusal is None else refusal.reason,
            "refused": None if refusal is None else refusals.told(refusal, now),
        }
        output.emit(output.json_text(result, pretty=output.to_terminal(sys.stdout)))
    else:
        lines = [
            ("header", output.json_text(unverified.header)),
            ("claims", output.json_text(claims)),
            *((label, value) for label, name in _NAMES.items() if isinstance(value := claims.get(name), str)),
            *(("time", line) for line in _times(claims, now)),
            *((role, listed(allowed, full=True)) for role, allowed in granted.items()),
            *([("ignored", ", ".join(ignored))] if ignored else []),
            *([("relays", f"before 0.15 {grants.REFUSE}: {grants.PATTERNS}")] if newer else []),
            ("signature", f"{signature}: anybody can have written this token" if where is None else signature),
        ]
        if refusal is not None:
            lines.append(("refused", f"{refusal.reason}: {refusals.told(refusal, now)}"))
        output.emit(_labelled(lines))
    output.note_oddities(refusals.claimed_paths(claims))
    if verifier is not None and verifier.key is not None:
        grants.note_refused(grants.refused_keys(verifier.key.scope), ())
    return int(refusal is not None)


def _labelled(lines: Iterable[tuple[str, str]]) -> str:
    return "\n".join(f"{label:<11}{output.printable(text)}" for label, text in lines)


def _keys(text: str, name: str | None) -> list[Key]:
    """Return the keys that a text is, if it is a key or a set of them and no token. Raises ``InvalidKeyError``."""
    try:
        if parse_members(text).keys().isdisjoint(("kty", "keys")):
            return []
    except InvalidKeyError:
        return []
    keys = keyring.parse(keyring.Source(name or "-"), text.encode())
    return [keys] if isinstance(keys, Key) else list(keys)


def _show_keys(found: Sequence[Key], *, as_json: bool) -> None:
    if as_json:
        result = [{"kid": None if key.kid is None else str(key.kid), **keyinfo.members(key)} for key in found]
        output.emit(output.json_text(result, pretty=output.to_terminal(sys.stdout)))
    else:
        output.emit("\n\n".join(_labelled(keyinfo.lines(key)) for key in found))


def _times(claims: dict[str, object], now: float) -> Iterable[str]:
    for name, future, past in (
        ("iat", "issued", "issued"),
        ("nbf", "becomes valid", "became valid"),
        ("exp", "expires", "expired"),
    ):
        value = claims.get(name)
        if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < times.FAR:
            yield times.when(int(value), now, future, past)
    if claims.get("exp") is None:
        yield "never expires"
