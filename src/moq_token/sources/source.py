"""The interface of a key source, and how the bytes that it reads become keys."""

from __future__ import annotations

import asyncio
import functools
import sys
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, Protocol, Self, TypeVar

from moq_token.errors import Error, InvalidKeyError, KeyNotFoundError, UnavailableError, sealed
from moq_token.kid import KeyId
from moq_token.sources.memory import Flights, Lru, again

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from types import TracebackType

    from moq_token.key import Key

# Limits of one request, redirects included, and of its answer.
TIMEOUT_SECONDS = 10
MAX_BODY_BYTES = 1024 * 1024

_P = ParamSpec("_P")
_T = TypeVar("_T")


class KeySource(Protocol):
    """The interface of a source of the keys that verify tokens."""

    async def get(self, kid: KeyId | None, /) -> Key:
        """Return the key with this id. A source of a single key returns that key for every id.

        Raises ``KeyNotFoundError`` if there is no such key, and ``UnavailableError`` if the source could not
        find out. No other exception is raised, whatever a server answers.
        """
        ...

    async def aclose(self) -> None:
        """Close connections and cancel pending requests."""
        ...


class NotFound(UnavailableError):  # noqa: N818 - each source turns it into a KeyNotFoundError
    """The server or store answered that the key does not exist."""


class UnusableKeyError(UnavailableError):
    """The name exists, but it is not a usable key."""


class Closing:
    """Support for ``async with``."""

    async def aclose(self) -> None:
        """Close what is open."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()


class Parsed(Generic[_T]):
    """A memory of parsed bodies: the same body gives the same object, and none is parsed twice."""

    def __init__(self, parse: Callable[[bytes], _T]) -> None:
        self._parse = parse
        self._found: Lru[tuple[bytes, _T | UnavailableError]] = Lru()
        self._flights: Flights[tuple[bytes, _T | UnavailableError]] = Flights()

    def __contains__(self, name: str) -> bool:
        """Whether the last body of this name was a good one."""
        found = self._found.get(name)
        return found is not None and not isinstance(found[1], UnavailableError)

    def known(self, name: str, body: bytes) -> _T | None:
        """Return what this body was found to hold, or None if it was not parsed or is invalid."""
        found = self._found.get(name)
        return None if found is None or found[0] != body or isinstance(found[1], UnavailableError) else found[1]

    @sealed
    def get(self, name: str, body: bytes) -> _T:
        """Parse the body of this name. Raises ``UnavailableError`` for an invalid one."""
        found = self._found.get(name)
        if found is None or found[0] != body:
            found = self._parsed(name, body)
        return self._good(found[1])

    async def get_in_thread(self, name: str, body: bytes) -> _T:
        """Parse without blocking the event loop: a body from a server can take seconds to parse."""
        found = self._found.get(name)
        if found is None or found[0] != body:
            found = await self._flights.join((name, body), lambda: asyncio.to_thread(self._parsed, name, body))
        return self._good(found[1])

    def _good(self, found: _T | UnavailableError) -> _T:
        if isinstance(found, UnavailableError):
            raise again(found)
        return found

    def _parsed(self, name: str, body: bytes) -> tuple[bytes, _T | UnavailableError]:
        found: _T | UnavailableError
        try:
            found = self._parse(body)
        except InvalidKeyError as error:
            found = UnusableKeyError(f"{name} is not usable: {error}")
        self._found.put(name, (body, found), len(body))
        return body, found

    def forget(self, name: str) -> None:
        """Forget the body of this name."""
        self._found.pop(name)


def sealed_coroutine(function: Callable[_P, Coroutine[Any, Any, _T]]) -> Callable[_P, Coroutine[Any, Any, _T]]:
    """Wrap a coroutine function so that no exception that leaves it holds its frames, in which a URL is.

    A URL can hold a password, and crash reporters print the local variables of every frame. Cancellation is such an
    exception too. The cause of an ``Error`` is kept.
    """

    @functools.wraps(function)
    async def wrapper(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        try:
            return await function(*args, **kwargs)
        except BaseException as error:  # noqa: BLE001 - every one has frames
            del args, kwargs
            raise _stripped(error)  # noqa: B904 - the one being handled

    return wrapper


def sealed_function(function: Callable[_P, _T]) -> Callable[_P, _T]:
    """Wrap a function like ``sealed_coroutine()``."""

    @functools.wraps(function)
    def wrapper(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        try:
            return function(*args, **kwargs)
        except BaseException as error:  # noqa: BLE001 - as above
            del args, kwargs
            raise _stripped(error)  # noqa: B904 - as above

    return wrapper


def _stripped(error: BaseException) -> BaseException:
    error.__context__ = None
    if not isinstance(error, Error):
        error.__cause__ = None
    return error.with_traceback(None)


def missing_extra(what: str, extra: str) -> str:
    """Return the message for a missing extra, with a command that fits how this program was installed."""
    package, prefix = f'"moq-token[{extra}]"', sys.prefix.replace("\\", "/")
    command = f"pip install {package}"
    if "/pipx/" in prefix:
        command = f"pipx install --force {package}"
    elif "/uv/tools/" in prefix:
        command = f"uv tool install --force {package}"
    elif prefix.startswith("/nix/"):
        return f"{what} require the extra `{extra}`: add it to the Python packages of this Nix environment"
    return f"{what} require the extra `{extra}`. Run: {command}"


def not_found(what: str, kid: KeyId | None) -> KeyNotFoundError:
    """Return the error for a key that does not exist."""
    return KeyNotFoundError(f"{what} does not exist", kid=None if kid is None else str(kid))


def named(kid: KeyId | None) -> KeyId:
    """Return the id, if there is one. Raises ``KeyNotFoundError`` for None: the source has many keys."""
    if kid is None:
        raise KeyNotFoundError("missing `kid`, which is needed to select the key")
    if not isinstance(kid, KeyId):
        # Only a KeyId cannot contain a path separator.
        raise TypeError(f"kid must be KeyId or None, not {type(kid).__name__}")
    return kid
