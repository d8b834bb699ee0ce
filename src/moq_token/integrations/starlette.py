"""Verify tokens in the routes of a FastAPI or Starlette application, such as those for recordings or a chat.

    tokens = Tokens("keys")

    @app.get("/rooms/{room}/recordings")
    async def recordings(allowed: Annotated[Permissions, Depends(tokens.permissions("/rooms/{room}"))]):
        ...

It needs ``starlette``, on which FastAPI is built: ``pip install fastapi`` or ``pip install starlette``.
"""

from __future__ import annotations

import errno
import os
import re
import time
from typing import TYPE_CHECKING
from urllib.parse import quote

try:
    from starlette.exceptions import HTTPException, WebSocketException
    from starlette.requests import HTTPConnection  # noqa: TC002 - FastAPI reads the annotations while it runs
except ImportError as _error:
    _message = "this module requires Starlette. Run: pip install fastapi (or: pip install starlette)"
    raise ImportError(_message, name=_error.name) from _error

from moq_token import path as paths
from moq_token.auth.decision import kid_of
from moq_token.claims import Claims, Permissions  # noqa: TC001 - as above
from moq_token.errors import (
    ConfigError,
    InvalidKeyIdError,
    InvalidTokenError,
    KeyNotFoundError,
    KeyOperationError,
    NotAdmittedError,
    RefusedError,
    UnauthorizedError,
    UnavailableError,
    sealed,
    shown,
)
from moq_token.jws import MAX_TOKEN_BYTES
from moq_token.key import Key
from moq_token.keyset import KeySet
from moq_token.kid import KeyId
from moq_token.sources import FileSource, UrlSource
from moq_token.sources.opening import open_keys
from moq_token.sources.source import sealed_coroutine

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

    from moq_token.sources import KeySource

__all__ = ["Tokens"]

_RETRY_SECONDS = 5
_POLICY_VIOLATION, _TRY_AGAIN_LATER = 1008, 1013  # the close codes of WebSockets (RFC 6455, section 7.4)
_PARAMETER = re.compile(r"\{([A-Za-z_]\w*)\}")
# What an issuer leaves as it is in a path (RFC 3986, section 3.3).
_DOTS = frozenset((".", ".."))
_LITERAL = "!$&'()+,;=:@/"


class Tokens:
    """Verify the tokens of requests and WebSockets: ``Authorization: Bearer TOKEN``, or ``?jwt=TOKEN``.

    Create one object when the program starts, and keep it. Browsers cannot send ``Authorization`` with a WebSocket, so
    their pages use ``?jwt=TOKEN`` there.

    Parameters
    ----------
    keys
        What verifies: a ``Key``, a ``KeySet``, a ``KeySource``, or a path or URL: of
        a directory of ``{kid}.jwk`` files (a URL that ends with ``/``), of one key (a URL that ends with ``.jwk``), or
        of a JWK Set.
    clock
        Returns the time in Unix seconds.

    A request gets 401 (with ``WWW-Authenticate``) if it has no token, two different ones, or an invalid or expired one;
    403 if the token is valid but grants nothing at the path; 503 if the keys cannot be read at the moment. A WebSocket
    is closed with the code 1008, or 1013 if the keys cannot be read. Before ``accept``, the server answers 403 instead.

    Raises ``ConfigError`` for an invalid path or URL, and ``FileNotFoundError`` for a path that does not exist.

    """

    @sealed
    def __init__(
        self, keys: Key | KeySet | KeySource | str | os.PathLike[str], *, clock: Callable[[], float] = time.time
    ) -> None:
        if isinstance(keys, str | os.PathLike):
            path = os.fspath(keys)
            keys = open_keys(path)
            # Later, it would look like tokens of an unknown key.
            if "://" not in path and not os.path.exists(path):  # noqa: PTH110 - False for any text
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        elif not isinstance(keys, Key | KeySet) and not hasattr(keys, "aclose"):
            raise TypeError(f"`keys` must be a Key, a KeySet, a KeySource, a path or a URL, not {type(keys).__name__}")
        self._keys = keys
        self._clock = clock

    async def claims(self, connection: HTTPConnection) -> Claims:
        """Return the verified claims of the token of a request or WebSocket. Use it as ``Depends(tokens.claims)``.

        Raises ``starlette.exceptions.HTTPException`` (401, 503), or for a WebSocket
        ``starlette.exceptions.WebSocketException``.
        """
        try:
            return await self._verified(connection)
        except (RefusedError, UnavailableError) as error:
            failure = _refusal(error, connection)
        raise failure

    def permissions(self, path: str) -> Callable[[HTTPConnection], Coroutine[Any, Any, Permissions]]:
        """Return a dependency that returns what the token allows at a path: ``Depends(tokens.permissions(…))``.

        ``{name}`` in the path stands for the parameter of the route with this name, as the route gets it: decoded. In
        Starlette, call the dependency with the request or WebSocket, and await the result. It raises as ``claims``
        does, with the status 403 where the token grants nothing at the path, and ``RuntimeError`` where the route
        has no such parameter. Raises ``ConfigError`` for a path with a wildcard, or with a brace that does not
        belong to a parameter.
        """
        if not isinstance(path, str):
            raise TypeError(f"`path` must be a str, not {type(path).__name__}")
        if not {"{", "}", "*"}.isdisjoint(_PARAMETER.sub("", path)):
            # Taken literally, it would be a path that no token grants.
            raise ConfigError(f"`path`: expected a path such as /rooms/{{room}}, without wildcards, got {shown(path)}")

        async def permissions(connection: HTTPConnection) -> Permissions:
            claims = await self.claims(connection)
            try:
                return claims.authorize(_filled(path, connection))
            except UnauthorizedError as error:
                failure = _refusal(error, connection)
            raise failure

        return permissions

    @sealed_coroutine
    async def _verified(self, connection: HTTPConnection) -> Claims:
        token = _token(connection)
        keys = self._keys
        if isinstance(keys, Key | KeySet):
            verifier: Key | KeySet = keys
        else:
            kid = None if isinstance(keys, FileSource | UrlSource) else kid_of(token)
            try:
                verifier = await keys.get(None if kid is None else KeyId(kid))
            except InvalidKeyIdError:
                raise KeyNotFoundError("invalid `kid` in the token header") from None
        try:
            return verifier.verify(token, now=self._clock())
        except KeyOperationError as error:
            raise KeyNotFoundError(str(error)) from None


def _token(connection: HTTPConnection) -> str:
    found = set(filter(None, connection.query_params.getlist("jwt")))
    for value in connection.headers.getlist("authorization"):
        scheme, _, token = value.partition(" ")
        if scheme.lower() == "bearer" and token.strip():
            found.add(token.strip())
    if not found:
        raise NotAdmittedError("missing token: send Authorization: Bearer TOKEN")
    if len(found) > 1:
        raise NotAdmittedError("the request has two different tokens: send one", reason="two-tokens")
    token = found.pop()
    if len(token) > MAX_TOKEN_BYTES:
        raise InvalidTokenError(f"the token must not be longer than {MAX_TOKEN_BYTES} bytes")
    return token


def _filled(path: str, connection: HTTPConnection) -> str:
    """Return the path with its parameters, encoded as an issuer encodes it.

    Raises ``UnauthorizedError`` for ``.`` and ``..``: a token for ``rooms/1`` must not allow ``rooms/1/../2``,
    which a file system takes for ``rooms/2``.
    """

    def value(match: re.Match[str]) -> str:
        if match[1] not in connection.path_params:
            raise RuntimeError(f"the route has no parameter `{match[1]}`, which the path of the permissions names")
        return str(connection.path_params[match[1]])

    filled = paths.normalize(_PARAMETER.sub(value, path))
    if not _DOTS.isdisjoint(filled.split("/")):
        raise UnauthorizedError("the path has the segment `.` or `..`, which may be resolved later", path=filled)
    return quote(filled, safe=_LITERAL)


def _refusal(error: RefusedError | UnavailableError, connection: HTTPConnection) -> HTTPException | WebSocketException:
    """Return the answer for an error. Its message never has a token."""
    if connection.scope["type"] == "websocket":  # the text is a code, as a close frame has room for 123 bytes only
        if isinstance(error, UnavailableError):
            return WebSocketException(_TRY_AGAIN_LATER, "unavailable")
        return WebSocketException(_POLICY_VIOLATION, error.reason)
    if isinstance(error, UnavailableError):
        return HTTPException(503, "the keys cannot be read, try again", {"Retry-After": str(_RETRY_SECONDS)})
    if isinstance(error, UnauthorizedError):
        return HTTPException(403, str(error))
    # RFC 6750, section 3: without a token, no error is named.
    named = "" if isinstance(error, NotAdmittedError) else ' error="invalid_token"'
    # The text of the error may have the path of a file of the server.
    message = "the key that signed the token is unknown" if isinstance(error, KeyNotFoundError) else str(error)
    return HTTPException(401, message, {"WWW-Authenticate": f"Bearer{named}"})
