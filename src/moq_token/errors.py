"""The exceptions, named by what the caller should do about them.

Three branches under :class:`Error`: the input makes no sense (:class:`InvalidKeyError`, :class:`InvalidClaimsError`,
:class:`ConfigError`), the answer is no (:class:`RefusedError`), somebody else is down (:class:`UnavailableError`).
Catch a branch; new leaves may be added to it. Messages carry names, numbers and key ids, never a token or the value
of a key's member.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

_P = ParamSpec("_P")
_R = TypeVar("_R")
_E = TypeVar("_E", bound=Exception)

_SHOWN_CHARACTERS = 80


class Error(Exception):
    """Base of every exception that this package raises on its own account."""


class InvalidKeyError(Error):
    """What was given is no usable key, key set or scope. The message names the member at fault, never its value."""


class InvalidKeyIdError(InvalidKeyError):
    """What was given is no key id: 1 to 128 characters of ``A-Z a-z 0-9 - _``."""


class KeyOperationError(InvalidKeyError):
    """The key may not do that (``key_ops``), or cannot (no private half, no public half)."""


class InvalidClaimsError(Error):
    """What the caller asked to sign makes no sense, or exceeds the scope of the key."""


class InvalidPatternError(Error, ValueError):
    """The text is not a valid pattern, or what would result is not.

    ``reason`` is a stable code: ``empty-segment``, ``invalid-segment``, ``multiple-globstars``, ``too-many-segments``,
    ``too-long``, ``invalid-unicode``, and ``too-many-patterns`` for a union or an intersection that is too large.
    """

    def __init__(self, message: str, *, reason: str = "invalid-segment") -> None:
        super().__init__(message)
        self.reason = reason


class ConfigError(Error):
    """The configuration contradicts itself."""


class RefusedError(Error):
    """The answer is no, and asking again will not help.

    ``reason`` is a stable code for programs and logs; each class below names its own.
    """

    reason: str = "refused"


class InvalidTokenError(RefusedError):
    """The token is no good, ``reason`` tells why.

    ``malformed``, ``wrong-algorithm``, ``bad-claims`` or ``useless`` (grants nothing); where its ``kid`` is to pick one
    of many keys, ``kid-missing`` or ``bad-kid``.
    """

    reason = "malformed"

    # To refuse must cost little more than to accept: `__new__` has kept the message, and no class above is called.
    def __init__(self, message: str, /, *, reason: str | None = None) -> None:  # noqa: ARG002
        if reason is not None:
            self.reason = reason


class InvalidSignatureError(InvalidTokenError):
    """The signature was not made over this token by this key (``bad-signature``)."""

    reason = "bad-signature"


class ExpiredTokenError(InvalidTokenError):
    """The token is refused from ``expires`` (Unix seconds) on (``expired``; RFC 7519, section 4.1.4)."""

    reason = "expired"

    def __init__(self, message: str, /, *, expires: int = 0) -> None:  # noqa: ARG002 - as above
        self.expires = expires


class NotYetValidTokenError(InvalidTokenError):
    """The token is refused before ``not_before`` (Unix seconds) (``not-yet-valid``; RFC 7519, section 4.1.5)."""

    reason = "not-yet-valid"

    def __init__(self, message: str, /, *, not_before: int = 0) -> None:  # noqa: ARG002 - as above
        self.not_before = not_before


class ScopeExceededError(InvalidTokenError):
    """The token grants ``path``, which the scope of its key does not (``scope-exceeded``)."""

    reason = "scope-exceeded"

    def __init__(self, message: str, *, path: str = "") -> None:
        super().__init__(message)
        self.path = path


class KeyNotFoundError(RefusedError):
    """There is no key with the ``kid`` that the token names, or it names none (``unknown-key``)."""

    reason = "unknown-key"

    def __init__(self, message: str, *, kid: str | None = None) -> None:
        super().__init__(message)
        self.kid = kid


class UnauthorizedError(RefusedError):
    """The token is good, but not at ``path``: ``root-mismatch`` (no overlap) or ``no-access`` (nothing granted)."""

    reason = "no-access"

    def __init__(self, message: str, *, path: str = "", reason: str | None = None) -> None:
        super().__init__(message)
        self.path = path
        if reason is not None:
            self.reason = reason


class NotAdmittedError(RefusedError):
    """The connection is refused whatever its token may say, ``reason`` tells why.

    ``token-expected``: it has none, and nothing is public at the dialed path. ``no-key-source``: it has one, and
    nothing is configured to verify it with. ``bad-url``: what was dialed is no URL.
    """

    reason = "token-expected"

    def __init__(self, message: str, *, reason: str | None = None) -> None:
        super().__init__(message)
        if reason is not None:
            self.reason = reason


class UnavailableError(Error):
    """Somebody else is down, so the question could not be answered. Asking again may help."""


def shown(text: str) -> str:
    """Quote a foreign name for a message: escaped, so that it cannot break a line, and cut when it is long."""
    return repr(text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…")


def bare(error: _E) -> _E:
    """Strip an error that is raised again of the frames and the causes that have seen a secret, and return it.

    Crash reporters print the local variables of every frame of a traceback, and a chained exception can hold the very
    text that could not be decoded.
    """
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)


def sealed(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Wrap a function that is handed secrets, so that every error leaves it :func:`bare`."""

    @functools.wraps(function)
    def wrapper(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        try:
            return function(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 - whatever it is, the frames must not travel with it
            del args, kwargs
            raise bare(error)  # noqa: B904 - the one being handled

    return wrapper
