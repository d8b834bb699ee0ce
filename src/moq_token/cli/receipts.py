"""How the answers of the admin listener are shown to people: receipts, bans and sessions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from moq_token.cli import output, times
from moq_token.errors import utc

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_LABEL = 13
_NAMED = 5
_WIDEST_CELL = 48
# The members of a denial that say whom it is about, and what each is called.
_MATCHERS = {
    "subject": "subject",
    "token": "token",
    "jti": "token id",
    "kid": "key",
    "session": "session",
    "remote": "address",
    "path": "path",
}


def is_complete(answer: dict[str, Any]) -> bool:
    """Return whether all sessions that matched have ended. An answer without a receipt says nothing of the kind."""
    return _receipt(answer).get("complete") is True


def denied(answer: dict[str, Any], now: float, *, dry_run: bool) -> Iterator[str]:
    """Say whom a ban keeps out until when, and what has become of the live sessions."""
    denial = _mapping(answer.get("denial"))
    verb = "would take" if dry_run else "takes"
    yield _line("whom", whom(denial))
    yield _line(
        "what",
        f"{verb} {_loss(denial)} away" if _is_narrow(denial) else f"{'would be' if dry_run else 'is'} refused",
    )
    until = denial.get("until")
    if isinstance(until, int):
        yield _line("until", f"{utc(until)}, in {times.span(until - now)}")
    if not dry_run and denial.get("id"):
        yield _line("id", f"{denial['id']}, to lift it: unban {denial['id']}")
    if not dry_run and _receipt(answer).get("stored") is False:
        yield _line(
            "not stored",
            "a restart of the server lifts it: set --state DIR of `serve`, or see its log",
        )
    yield from kicked(answer, now, dry_run=dry_run)


def kicked(answer: dict[str, Any], now: float, *, dry_run: bool) -> Iterator[str]:
    """Say what has become of the live sessions."""
    receipt = _receipt(answer)
    matched, ended = receipt.get("matched", 0), receipt.get("ended", 0)
    unreachable = map(_unreachable, map(_mapping, receipt.get("unreachable") or []))
    if dry_run:
        yield _line("would end", _sessions(matched))
        yield from unreachable
        return
    slowest = receipt.get("slowest_ms")
    took = f", the slowest after {slowest:.0f} ms" if ended and isinstance(slowest, int | float) else ""
    yield _line("ended", f"{ended} of {_sessions(matched)}{took}" if matched else "no live session matched")
    alive = receipt.get("alive") or []
    if alive:
        yield _line("still alive", f"{matched - ended}: {_named(alive)}")
    yield from unreachable
    yield from _rest(receipt, now, alive=bool(alive))


def _rest(receipt: dict[str, Any], now: float, *, alive: bool) -> Iterator[str]:
    """Say when the sessions are out that are alive or not known."""
    out_by, expires_by = receipt.get("out_by"), receipt.get("expires_by")
    starting = any(_mapping(found).get("kind") == "start" for found in receipt.get("unreachable") or [])
    if isinstance(out_by, int | float):
        at = f"{utc(int(out_by))}, in {times.span(max(out_by - now, 0))}"
        if not alive and not starting:
            # Relay 0.14 reports no sessions, so that those that it has are in no count.
            yield _line("relay 0.14", f"{at}: by then, its sessions have ended too")
            return
        outage = "if the relay cannot reach its auth server"
        if not isinstance(expires_by, int | float):
            yield _line("out by", f"{at}, or {outage}, at the end of the grant")
        else:
            yield _line("out by", f"{at}{f', or by {utc(int(expires_by))} {outage}' if expires_by > out_by else ''}")
    elif alive:
        yield _line("out by", "unknown: relays do not ask again by themselves without `serve --revalidate`")


def lifted(answer: dict[str, Any], now: float) -> Iterator[str]:
    """Say which ban was lifted."""
    denial = _mapping(answer.get("denial"))
    left = f", {times.span(denial['until'] - now)} before its end" if isinstance(denial.get("until"), int) else ""
    yield f"lifted {denial.get('id', '')}: {whom(denial)}{left}"


def bans(answer: dict[str, Any], now: float) -> Iterator[str]:
    """Lay out the bans in force, one line for each."""
    rows = [
        (
            str(denial.get("id", "")),
            whom(denial),
            f"loses {_loss(denial)}" if _is_narrow(denial) else "refused",
            times.span(denial["until"] - now) if isinstance(denial.get("until"), int) else "-",
            str(denial.get("author") or "-"),
            str(denial.get("reason") or ""),
        )
        for denial in map(_mapping, answer.get("bans") or [])
    ]
    yield from _table(("ID", "WHOM", "WHAT", "FOR", "BY", "REASON"), rows, "nobody is banned")


def sessions(answer: dict[str, Any], now: float) -> Iterator[str]:
    """Lay out live sessions, one line for each."""
    listed = list(map(_mapping, answer.get("sessions") or []))
    rows = [
        (
            str(session.get("id", "")),
            str(session.get("subject") or "-"),
            str(session.get("path", "")),
            str(session.get("remote") or "-"),
            str(session.get("node") or "-"),
            times.span(max(now - session["first"], 0)) if isinstance(session.get("first"), int | float) else "-",
        )
        for session in listed
    ]
    yield from _table(("ID", "SUBJECT", "PATH", "REMOTE", "NODE", "SINCE"), rows, "no live session matches")
    count = answer.get("count")
    if isinstance(count, int) and count > len(listed):
        yield f"and {count - len(listed)} more: add --limit, or narrow the list with --subject, --path or --remote"
    missing = answer.get("missing")
    if isinstance(missing, list) and missing:
        yield f"the sessions of these servers are missing, they did not answer: {_named(missing)}"


def whom(denial: dict[str, Any]) -> str:
    """Say in words whom a denial is about."""
    # The pattern of the path `/` is empty.
    words = [f"{text} {denial[name] or '/'}" for name, text in _MATCHERS.items() if denial.get(name) is not None]
    if isinstance(denial.get("issued_before"), int):
        words.append(f"tokens issued before {utc(denial['issued_before'])}")
    return ", ".join(words) or "nobody"


def _is_narrow(denial: dict[str, Any]) -> bool:
    return denial.get("role") is not None or denial.get("narrow_path") is not None


def _loss(denial: dict[str, Any]) -> str:
    """Say what a denial takes away."""
    role, path = denial.get("role"), denial.get("narrow_path")
    return f"{role or 'everything'}{'' if path is None else f' at {path}'}"


def _unreachable(found: dict[str, Any]) -> str:
    node, error = found.get("node", ""), found.get("error", "")
    if found.get("kind") == "share":
        return _line("unreachable", str(error))
    if found.get("kind") == "server":
        return _line("unreachable", f"auth server {node}: {error}")
    if found.get("kind") == "start":
        return _line("starting", f"{f'the auth server {node}' if node else 'this server'} {error}")
    at = f" at {found['url']}" if found.get("url") else ""
    of = f", of the auth server {found['server']}" if found.get("server") else ""
    relay = "relay 0.14" if found.get("kind") == "relay-0.14" else f"relay {node}"
    return _line("unreachable", f"{relay}{at}{of}: {error}")


def _receipt(answer: dict[str, Any]) -> dict[str, Any]:
    return _mapping(answer.get("receipt", answer))


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _line(label: str, text: str) -> str:
    return f"{label:<{_LABEL}}{text}"


def _sessions(count: int) -> str:
    return f"{count} session{'' if count == 1 else 's'}"


def _named(ids: Sequence[object]) -> str:
    more = len(ids) - _NAMED
    return ", ".join(map(str, ids[:_NAMED])) + (", …" if more > 0 else "")


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]], otherwise: str) -> Iterator[str]:
    if not rows:
        yield otherwise
        return
    shown = [head, *(tuple(map(output.printable, row)) for row in rows)]
    widths = [min(max(map(len, column)), _WIDEST_CELL) for column in zip(*shown, strict=True)]
    for row in shown:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
