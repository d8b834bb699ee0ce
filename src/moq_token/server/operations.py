"""What operators ask of the admin listener: sessions, bans and kicks, in JSON (see ``moq_token.server.api``)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, unquote

import msgspec

from moq_token.contract.wire import MAX_BYTES
from moq_token.errors import Error, InvalidDenialError, InvalidPatternError, shown, without_tokens
from moq_token.pattern import Pattern
from moq_token.server.api import (
    DEFAULT_SESSIONS,
    MAX_SESSIONS,
    BanRequest,
    Bans,
    Failed,
    Fault,
    Filter,
    KickRequest,
    ListedSession,
    Listing,
)
from moq_token.server.denial import Denial, check_text, network
from moq_token.server.http import HttpRequest, HttpResponse
from moq_token.server.humantime import parse_humantime
from moq_token.server.identity import digest
from moq_token.server.log import log
from moq_token.server.responses import JSON
from moq_token.server.session import bounded_name
from moq_token.server.share import everywhere
from moq_token.server.turns import in_turns
from moq_token.times import END_OF_9999
from moq_token.unverified import read_unverified

if TYPE_CHECKING:
    from collections.abc import Callable

    from moq_token.server.api import Receipt
    from moq_token.server.app import AuthServer
    from moq_token.server.http import Caller
    from moq_token.server.session import Session

PATHS: Final = ("/sessions", "/bans", "/kick")
MAX_TOKEN_CHARACTERS: Final = 64 * 1024

_MAX_MESSAGE_CHARACTERS, _MAX_LOGGED_CHARACTERS = 500, 100
_FILTERS = Filter.__struct_fields__
_LIMIT = re.compile(r"[1-9][0-9]{0,5}", re.ASCII)


class FaultError(Exception):
    """A request that cannot be answered, with the HTTP status that says so."""

    def __init__(self, status: int, message: str, reason: str) -> None:
        super().__init__(message)
        self.status: int = status
        self.reason: str = reason


class Operations:
    """Answers ``/sessions``, ``/bans`` and ``/kick`` for one server."""

    def __init__(self, server: AuthServer) -> None:
        self._server = server

    async def handle(self, request: HttpRequest) -> HttpResponse:
        """Answer one HTTP request, whose path is one of ``PATHS`` or below ``/bans/``."""
        try:
            return HttpResponse(200, msgspec.json.encode(await self._answer(request)), JSON)
        except FaultError as error:
            failed = error
        except InvalidDenialError as error:
            failed = FaultError(409 if error.reason == "too-many" else 422, str(error), error.reason)
        extra = _audit(f"{request.method} {request.target.partition('?')[0][:_MAX_LOGGED_CHARACTERS]}", request.caller)
        log.info("an operation failed: %s", failed, extra=extra | {"reason": failed.reason})
        return fault(failed.status, str(failed), failed.reason)

    async def _answer(self, request: HttpRequest) -> object:
        path, _, query = request.target.partition("?")
        caller = request.caller
        match request.method, path:
            case "GET" | "HEAD", "/sessions":
                log.info("sessions are listed", extra=_audit("sessions", caller))
                return await self._all_sessions(query)
            case "GET" | "HEAD", "/bans":
                log.info("bans are listed", extra=_audit("bans", caller))
                revocations = self._server.revocations
                return Bans(revocations.denials.in_force(self._server.live.now().unix), revocations.storing.is_stored)
            case "POST", "/bans":
                return await self._ban(_read(request, BanRequest), caller)
            case "POST", "/kick":
                return await self._kick(_read(request, KickRequest), caller)
            case "DELETE", _ if path.startswith("/bans/"):
                return await self._lift(unquote(path.removeprefix("/bans/")), query, caller)
        raise FaultError(405, f"method not allowed: {request.method}", "method")

    async def _all_sessions(self, query: str) -> Listing:
        own, share = await self.sessions(query), self._server.share
        if share is None:
            return own
        return await everywhere.listing(share, own, query, int(dict(parse_qsl(query)).get("limit", DEFAULT_SESSIONS)))

    async def sessions(self, query: str) -> Listing:
        """List the sessions of this node. Raises ``FaultError`` and ``InvalidDenialError``."""
        try:
            given = dict(parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query), errors="strict"))
        except ValueError:
            raise FaultError(400, "the query must be name=value pairs, percent-encoded", "bad-query") from None
        limit = given.pop("limit", str(DEFAULT_SESSIONS))
        if not _LIMIT.fullmatch(limit) or int(limit) > MAX_SESSIONS:
            raise FaultError(400, f"`limit` must be a number from 1 to {MAX_SESSIONS}", "bad-query")
        unknown = [name for name in given if name not in _FILTERS]
        if unknown:
            raise FaultError(400, f"unknown filter {unknown[0][:40]!r}; expected {', '.join(_FILTERS)}", "bad-query")
        found: list[ListedSession | msgspec.Raw] = []
        count, matches = 0, _test(Filter(**given))
        async for session in in_turns(self._server.live.current()):
            if matches(session):
                count += 1
                if count <= int(limit):
                    found.append(_listed(session))
        return Listing(found, count)

    async def _ban(self, asked: BanRequest, caller: Caller | None) -> object:
        server = self._server
        members: dict[str, Any] = {
            name: getattr(asked, name) for name in BanRequest.__struct_fields__ if name not in _NOT_DENIED
        }
        if asked.token is not None:
            members["token"] = digest(_token(asked.token), server.digest_key).hex()
        denial = Denial(**members, until=_until(asked, server.live.now().unix))
        action = "ban" if denial.refuses else "narrow"
        what = f"a dry run of {action}" if asked.dry_run else action
        log.info("%s: %s", what, denial.whom(), extra=_audit(action, caller, asked, denial))
        others_by = server.questions.out_by(denial)
        if server.share is None:
            banned = await server.revocations.ban(denial, dry_run=asked.dry_run, others_by=others_by)
        else:
            banned = await everywhere.ban(
                server.share, server.revocations, denial, dry_run=asked.dry_run, others_by=others_by
            )
        _log_receipt(action, banned.receipt)
        return banned

    async def _kick(self, asked: KickRequest, caller: Caller | None) -> object:
        if all(getattr(asked, name) is None for name in _FILTERS):
            raise FaultError(422, f"say which sessions: at least one of {', '.join(_FILTERS)}", "invalid")
        for name in ("reason", "author"):
            check_text(name, getattr(asked, name))
        _test(asked)  # before other nodes are asked
        own, share = self.kick_here(asked, caller=caller), self._server.share
        receipt = await (own if share is None else everywhere.kick(share, asked, own))
        _log_receipt("kick", receipt)
        return receipt

    async def kick_here(
        self, asked: KickRequest, seconds: float | None = None, *, caller: Caller | None = None
    ) -> Receipt:
        """Kick the sessions of this node. Raises ``FaultError`` and ``InvalidDenialError``."""
        matches = _test(asked)
        sessions = [session async for session in in_turns(self._server.live.current()) if matches(session)]
        what = "a dry run of kick" if asked.dry_run else "kick"
        given = ((name, getattr(asked, name)) for name in _FILTERS)
        whom = ", ".join(f"{name} {shown(value)}" for name, value in given if value is not None)
        log.info("%s: %s, sessions: %d", what, whom, len(sessions), extra=_audit("kick", caller, asked))
        return await self._server.revocations.kick(
            sessions, reason=asked.reason or "kicked", author=asked.author, dry_run=asked.dry_run, seconds=seconds
        )

    async def _lift(self, denial_id: str, query: str, caller: Caller | None) -> object:
        author = dict(parse_qsl(query)).get("author", "")
        lifted = await self._server.revocations.lift(denial_id, author=author)
        if lifted is None:
            raise FaultError(
                404, f"no ban with the id {shown(denial_id)} is in force: GET /bans lists them", "unknown-ban"
            )
        extra = _audit("unban", caller, denial=lifted.denial) | {"author": author}
        log.info("unban: %s", lifted.denial.whom(), extra=extra)
        return lifted


_PLACE = ("node", "transport", "role")
_NOT_DENIED = ("token", "for_", "until", "dry_run")


def fault(status: int, message: str, reason: str) -> HttpResponse:
    """Return the answer for a request that cannot be answered otherwise."""
    return HttpResponse(status, msgspec.json.encode(Failed(Fault(message, reason))), JSON)


def _read(request: HttpRequest, kind: type[Any]) -> Any:  # noqa: ANN401 - an instance of the kind
    if len(request.body) > MAX_BYTES:
        raise FaultError(413, f"the body is larger than {MAX_BYTES} bytes", "too-large")
    try:
        return msgspec.json.decode(request.body, type=kind)
    except msgspec.ValidationError as error:
        raise FaultError(422, f"invalid body: {error}"[:_MAX_MESSAGE_CHARACTERS], "invalid") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise FaultError(400, "the body must be a JSON object", "bad-json") from None


def _token(text: str) -> str:
    text = text.strip()
    if not text or len(text) > MAX_TOKEN_CHARACTERS or not text.isascii():
        raise FaultError(422, f"`token` must be a token of at most {MAX_TOKEN_CHARACTERS} characters", "invalid")
    return text


def _until(asked: BanRequest, now: float) -> int:
    """Return when a denial ends, in Unix seconds."""
    if asked.for_ is not None and asked.until is not None:
        raise FaultError(422, "`for` and `until` exclude each other: give one of them", "invalid")
    if asked.until is not None:
        if asked.until <= now:
            raise FaultError(422, "`until` is in the past", "invalid")
        return asked.until
    if asked.for_ is not None:
        try:
            seconds = parse_humantime(asked.for_)
        except ValueError as error:
            raise FaultError(422, f"`for`: {error}", "invalid") from None
        if not 0 < seconds <= END_OF_9999 - now:
            raise FaultError(422, "`for` must be longer than 0s, and end before the year 10000", "invalid")
        return int(now + seconds) + 1
    if asked.token is None:
        raise FaultError(422, "say how long: `for`, such as 1h, or `until`, in Unix seconds", "invalid")
    return _end_of(asked.token, now)


def _end_of(token: str, now: float) -> int:
    """Return when a token ends. Nobody has verified it: if its end was changed, then no session has this token."""
    try:
        end = read_unverified(_token(token)).claims.get("exp")
    except Error:
        raise FaultError(422, "`token` is not a JWT: say how long with `for` or `until`", "invalid") from None
    if isinstance(end, bool) or not isinstance(end, int) or end > END_OF_9999:
        raise FaultError(422, "the token has no `exp`: say how long with `for` or `until`", "invalid")
    if end <= now:
        raise FaultError(422, "the token has expired: no session can use it", "invalid")
    return end


def _test(wanted: Filter) -> Callable[[Session], bool]:
    """Make a test of a filter. Raises ``FaultError`` and ``InvalidDenialError``."""
    own = {name: getattr(wanted, name) for name in ("kid", "tier") if getattr(wanted, name) is not None}
    for name in ("id", "jti", "subject"):
        if getattr(wanted, name) is not None:
            own[name] = bounded_name(getattr(wanted, name))
    if wanted.token is not None:
        try:
            own["token"] = bytes.fromhex(wanted.token)
        except ValueError:
            raise FaultError(422, "`token` must be the digest that listings show, in hexadecimal", "invalid") from None
    of_place = {name: getattr(wanted, name) for name in _PLACE if getattr(wanted, name) is not None}
    try:
        pattern = None if wanted.path is None else Pattern(wanted.path)
    except InvalidPatternError as error:
        raise FaultError(422, f"`path`: {error}", "invalid") from None
    addresses = None if wanted.remote is None else network(wanted.remote)

    def test(session: Session) -> bool:
        return (
            all(getattr(session, name) == value for name, value in own.items())
            and all(getattr(session.place, name) == value for name, value in of_place.items())
            and (pattern is None or pattern.matches(session.path))
            and (addresses is None or ((address := session.address) is not None and address in addresses))
        )

    return test


def _listed(session: Session) -> ListedSession:
    place = session.place
    return ListedSession(
        id=session.id,
        node=place.node,
        transport=place.transport,
        remote=session.remote,
        local=place.local,
        server_name=place.server_name,
        alpn=place.alpn,
        path=without_tokens(session.path),
        role=place.role,
        tls=session.tls,
        token=None if session.token is None else session.token.hex(),
        jti=session.jti,
        kid=session.kid,
        subject=session.subject,
        issued=session.issued,
        tier=session.tier,
        grant=msgspec.Raw(session.grant) if session.grant else None,
        first=session.first,
        last=session.last,
        kicked=session.kicked is not None,
    )


def _audit(
    action: str,
    caller: Caller | None,
    asked: BanRequest | KickRequest | None = None,
    denial: Denial | None = None,
) -> dict[str, object]:
    """Return what the log says of a call, besides its message."""
    given: dict[str, object] = {"event": "admin", "action": action}
    if caller is not None:
        given |= {"uid": caller.uid, "gid": caller.gid, "pid": caller.pid}
    if denial is not None:
        given["denial"] = denial.id
    if asked is None:
        return given
    if asked.author:
        given["author"] = asked.author
    if asked.reason:
        given["reason"] = asked.reason
    if asked.dry_run:
        given["dry_run"] = True
    return given


def _log_receipt(action: str, receipt: Any) -> None:  # noqa: ANN401 - a Receipt
    if receipt.dry_run:  # nothing was done, so there is nothing to report
        return
    log.info(
        "%s: ended %d of %d sessions",
        action,
        receipt.ended,
        receipt.matched,
        extra={"event": "receipt", "action": action, "matched": receipt.matched, "ended": receipt.ended},
    )
