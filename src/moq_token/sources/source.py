"""What a source of keys is, and how the bytes that it finds become keys."""

from __future__ import annotations

import asyncio
import functools
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, Protocol, Self, TypeVar

from moq_token.errors import Error, InvalidKeyError, KeyNotFoundError, UnavailableError, sealed
from moq_token.kid import KeyId
from moq_token.sources.memory import Flights, Lru, again

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from types import TracebackType

    from moq_token.key import Key

# One request, redirects included, and what it may bring.
TIMEOUT_SECONDS = 10
MAX_BODY_BYTES = 1024 * 1024

_P = ParamSpec("_P")
_T = TypeVar("_T")


class KeySource(Protocol):
    """Where the keys that verify tokens come from."""

    async def get(self, kid: KeyId | None, /) -> Key:
        """Return the key with that id; a source that holds a single key returns it, whatever the id.

        Raises :class:`KeyNotFoundError` where there is no such key, and :class:`UnavailableError` where that could not
        be found out.
        """
        ...

    async def aclose(self) -> None:
        """Let go of what is open, and give up what is under way."""
        ...


class NotFound(UnavailableError):  # noqa: N818 - it says what was answered, and every source makes another error of it
    """There is nothing of that name, as far as the other side knows."""


class Closing:
    """``async with``, and nothing to close."""

    async def aclose(self) -> None:
        """Let go of what is open."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()


class Parsed(Generic[_T]):
    """What was found in bodies, so that the same body gives the same object and none is parsed twice."""

    def __init__(self, parse: Callable[[bytes], _T]) -> None:
        self._parse = parse
        self._found: Lru[tuple[bytes, _T | UnavailableError]] = Lru()
        self._flights: Flights[tuple[bytes, _T | UnavailableError]] = Flights()

    def __contains__(self, name: str) -> bool:
        """Whether the last body of this name was a good one."""
        found = self._found.get(name)
        return found is not None and not isinstance(found[1], UnavailableError)

    @sealed
    def get(self, name: str, body: bytes) -> _T:
        """Parse the body of this name. Raises :class:`UnavailableError` for an invalid one."""
        found = self._found.get(name)
        if found is None or found[0] != body:
            found = self._parsed(name, body)
        return self._good(found[1])

    async def get_in_thread(self, name: str, body: bytes) -> _T:
        """Do the same without blocking the event loop: a body from elsewhere can take seconds to parse."""
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
            found = UnavailableError(f"{name} is not usable: {error}")
        self._found.put(name, (body, found), len(body))
        return body, found

    def forget(self, name: str) -> None:
        """Drop what was found under this name."""
        self._found.pop(name)


def sealed_coroutine(function: Callable[_P, Coroutine[Any, Any, _T]]) -> Callable[_P, Coroutine[Any, Any, _T]]:
    """Wrap a coroutine function that has a URL in its frames, password included, so that no exception carries them on.

    The cancellation of the caller is one of these exceptions. What an :class:`Error` names as its cause is kept.
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
    """Do the same for a function."""

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


def not_found(what: str, kid: KeyId | None) -> KeyNotFoundError:
    """Make the error that says what does not exist."""
    return KeyNotFoundError(f"{what} does not exist", kid=None if kid is None else str(kid))


def named(kid: KeyId | None) -> KeyId:
    """Return the id of a key among many. Raises :class:`KeyNotFoundError` for None: there is no telling which."""
    if kid is None:
        raise KeyNotFoundError("there are many keys, and no `kid` says which")
    if not isinstance(kid, KeyId):
        # Only the type keeps a name within its directory.
        raise TypeError(f"a key is asked for by its KeyId, not by {type(kid).__name__}")
    return kid
