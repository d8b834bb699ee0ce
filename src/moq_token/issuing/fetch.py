"""Ask a token endpoint for a credential, with the HTTP client of Python, and read what it answers."""

from __future__ import annotations

import re
import ssl
import time
import urllib.request
from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

from moq_token import jws
from moq_token.encoding import parse_json
from moq_token.errors import ConfigError, Error, RefusedError, UnavailableError, bare, sealed, shown
from moq_token.issuing.credential import Credential
from moq_token.sources.failures import describe_error, describe_status
from moq_token.sources.urls import Address, check_service_url, shown_url
from moq_token.unverified import read_unverified

if TYPE_CHECKING:
    import http.client

TIMEOUT_SECONDS = 10.0
"""How long one request may take."""
MAX_ANSWER_BYTES = 256 * 1024

_CHUNK_BYTES = 16 * 1024
_MAX_URL_CHARACTERS = 2 * jws.MAX_TOKEN_BYTES
_MAX_RETRY_SECONDS = 300.0
_SUCCESS, _VERDICTS = range(200, 300), frozenset((401, 403))
_HEADER_NAME, _HEADER_VALUE = re.compile(r"[A-Za-z0-9-]{1,100}", re.ASCII), re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_REASON = re.compile(r"[a-z0-9-]{1,40}", re.ASCII)


class RetryLaterError(UnavailableError):
    """The endpoint says when to ask again."""

    def __init__(self, message: str, seconds: float = 0) -> None:
        super().__init__(message)
        self.seconds = seconds


class Fetch:
    """Asks one token endpoint. Calling it blocks, for about 10 s at most.

    Raises ``ConfigError`` for an invalid URL or header field.
    """

    @sealed
    def __init__(self, url: str, body: Mapping[str, object] | None, headers: Mapping[str, str] | None) -> None:
        if url.lower().startswith("unix:"):
            raise ConfigError(
                "a token endpoint on a unix socket is not supported: use https://, or http:// for localhost"
            )
        for argument, passed in (("body", body), ("headers", headers)):
            if passed is not None and not isinstance(passed, Mapping):
                raise TypeError(f"`{argument}` must be a dict, not {type(passed).__name__}")
        check_service_url(url)
        self.shown: str = shown_url(url)
        address = Address.of(url)
        origin = address.url.split("/", 3)
        self._url = f"{origin[0]}//{origin[2]}{address.target}"
        self._headers = {"accept": "application/json", "content-type": "application/json", "user-agent": "moq-token"}
        if address.authorization is not None:
            self._headers["authorization"] = address.authorization
        for name, value in (headers or {}).items():
            if not all(isinstance(each, str) for each in (name, value)):
                raise TypeError("`headers` must contain str only")
            if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
                raise ConfigError("`headers`: invalid name or value of a header field")  # which may be a secret
            self._headers[name.lower()] = value
        try:
            self._body = msgspec.json.encode({} if body is None else body)
        except (TypeError, ValueError):
            raise TypeError("`body` must contain values that JSON has, such as str, numbers and lists") from None
        handlers: list[urllib.request.BaseHandler] = [_EveryStatus()]
        if self._url.lower().startswith("https://"):
            handlers.append(urllib.request.HTTPSHandler(context=ssl.create_default_context()))
        else:  # a proxy would read what is sent to this machine unencrypted
            handlers.append(urllib.request.ProxyHandler({}))
        self._opener = urllib.request.build_opener(*handlers)

    @sealed
    def __call__(self) -> Mapping[str, object]:
        """Return the members of the answer. Raises ``RefusedError`` and ``UnavailableError``."""
        try:
            status, retry, body = self._send()
        except Error:
            raise
        except Exception as error:  # noqa: BLE001 - callers catch errors of this package only
            raise UnavailableError(f"{self.shown}: {describe_error(error, self.shown)}") from None
        if status in _VERDICTS:
            raise _refused(self.shown, status, body)
        if status not in _SUCCESS:
            if 300 <= status < 400:  # noqa: PLR2004 - RFC 9110, section 15.4
                raise UnavailableError(f"{self.shown} redirects, which is not followed: use the URL that it leads to")
            message = f"{self.shown} {describe_status(status)}"
            raise UnavailableError(message) if retry is None else RetryLaterError(message, retry)
        try:
            members = parse_json(body)
        except ValueError as error:
            raise UnavailableError(f"{self.shown}: the answer is not valid JSON: {error}") from None
        if not isinstance(members, dict):
            raise UnavailableError(f"{self.shown}: the answer must be a JSON object")
        return members

    def _send(self) -> tuple[int, float | None, bytes]:
        ends = time.monotonic() + TIMEOUT_SECONDS
        request = urllib.request.Request(self._url, self._body, self._headers, method="POST")  # noqa: S310 - http(s)
        body = bytearray()
        with self._opener.open(request, timeout=TIMEOUT_SECONDS) as response:
            while chunk := response.read1(_CHUNK_BYTES):
                body += chunk
                if len(body) > MAX_ANSWER_BYTES:
                    raise UnavailableError(f"{self.shown}: the answer has more than {MAX_ANSWER_BYTES} bytes")
                if time.monotonic() > ends:
                    raise UnavailableError(f"{self.shown} did not answer within {TIMEOUT_SECONDS:g} s")
            return response.status, _retry_after(response), bytes(body)


class _EveryStatus(urllib.request.HTTPErrorProcessor):
    """Returns answers of every status, so that no redirect is followed and no error is raised."""

    def http_response(self, request: object, response: http.client.HTTPResponse) -> http.client.HTTPResponse:  # noqa: ARG002
        return response

    https_response = http_response


def read_members(members: Mapping[str, object], now: float) -> Credential:
    """Read the answer of a token endpoint: one of ours, or one of the shape of LiveKit.

    Raises ``UnavailableError`` for anything else, and for a credential that has expired.
    """
    token = _text(members, "token") or _text(members, "participant_token")
    if token is None:
        raise UnavailableError("the answer has no `token` and no `participant_token`")
    server_url, url = _text(members, "server_url"), _text(members, "url")
    if url is None:
        if server_url is None:
            raise UnavailableError("the answer has no `url` and no `server_url`")
        url = f"{server_url}?jwt={token}"
    if not url.isascii() or not url.isprintable() or len(url) > _MAX_URL_CHARACTERS or "://" not in url:
        raise UnavailableError("the answer has an invalid `url`")
    expires, expires_in = _seconds(members, "expires"), _seconds(members, "expires_in")
    if expires is None and expires_in is None:
        expires = _expires_of(token)
    if expires_in is None:
        expires_in = int(expires - now) if expires is not None else 0
    if expires_in <= 0:
        raise UnavailableError("the answer has a credential that has expired. Check the clocks of both machines")
    return Credential(
        url=url,
        token=token,
        server_url=url.partition("?")[0] if server_url is None else server_url,
        expires=int(now) + expires_in if expires is None else expires,
        expires_in=expires_in,
    )


def _expires_of(token: str) -> int | None:
    try:
        expires = read_unverified(token).claims.get("exp")
    except Error as error:
        raise UnavailableError(f"the answer has no `expires_in` and no valid token: {bare(error)}") from None
    if isinstance(expires, int):
        return expires
    raise UnavailableError("the answer has no `expires_in`, and the token never expires")


def _text(members: Mapping[str, object], name: str) -> str | None:
    value = members.get(name)
    if value is None or (isinstance(value, str) and value):
        return value
    raise UnavailableError(f"the answer has an invalid `{name}`: expected a string")


def _seconds(members: Mapping[str, object], name: str) -> int | None:
    value = members.get(name)
    if value is None:
        return None
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 2**53:
        return int(value)
    raise UnavailableError(f"the answer has an invalid `{name}`: expected seconds")


def _refused(where: str, status: int, body: bytes) -> RefusedError:
    """Return the refusal, with the message and the reason of our endpoint, or the ``detail`` of FastAPI."""
    try:
        members = parse_json(body)
    except ValueError:
        members = None
    if not isinstance(members, dict):
        members = {}
    error = members.get("error")
    text, reason = members.get("detail"), None
    if isinstance(error, dict):
        text, reason = error.get("message"), error.get("reason")
    message = f": {shown(text)}" if isinstance(text, str) else ""
    if not isinstance(reason, str) or not _REASON.fullmatch(reason):
        reason = None
    return RefusedError(f"{where} refused a credential ({status}){message}", reason=reason)


def _retry_after(response: http.client.HTTPResponse) -> float | None:
    value = response.headers.get("retry-after", "")
    return min(float(value), _MAX_RETRY_SECONDS) if re.fullmatch(r"[0-9]{1,6}", value) else None
