"""The exceptions, named by what the caller should do about them.

Three branches under ``Error``: the input is invalid (``InvalidKeyError``, ``InvalidClaimsError``,
``ConfigError``), the answer is no (``RefusedError``), or another service is down (``UnavailableError``).
Catch a branch; new subclasses may be added to it. Messages contain names, numbers and key ids, never a token or the
value of a member of a key.
"""

from __future__ import annotations

import functools
import os
import re
import time
from typing import TYPE_CHECKING, Literal, ParamSpec, TypeAlias, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Callable

_P = ParamSpec("_P")
_R = TypeVar("_R")
_E = TypeVar("_E", bound=BaseException)

_SHOWN_CHARACTERS = 80
_SHOWN_END_CHARACTERS = 56
_MAX_SEARCHED = 8192
# A header and claims, which are JSON objects in base64url, and perhaps a signature.
_TOKEN = re.compile(r"(?:eyJ|ew[0o])[\w-]{8,}\.(?:ey[\w-]|ew[0o]|e30)[\w-]*(?:\.[\w-]*)?", re.ASCII)

# PEM, a JWK, and both in base64.
_KEY = re.compile(
    r"""-----BEGIN |["'](?:kty|k|d)["'] ?:|^\s*(?:ey[JA]|ew[o0]|LS0tLS1CRUdJTi)[\w+/-]{40,}=*\s*$""", re.ASCII
)
# A normalized path has one slash where a URL has two.
_USERINFO = re.compile(r"(:/{1,2})[^\s/@?#]+@")
_QUERY = re.compile(r"\?[^\s#]+")

Reason: TypeAlias = Literal[
    "bad-claims",
    "bad-kid",
    "bad-signature",
    "bad-url",
    "banned",
    "expired",
    "kid-missing",
    "malformed",
    "no-access",
    "no-key-source",
    "no-mtls-grant",
    "no-public-grant",
    "not-yet-valid",
    "refused",
    "remote-limit",
    "root-mismatch",
    "scope-exceeded",
    "subject-limit",
    "token-and-certificate",
    "token-expected",
    "token-limit",
    "two-tokens",
    "unknown-key",
    "unsupported-token",
    "useless",
    "wrong-algorithm",
]
"""The reason codes of a ``RefusedError``. They do not change; new ones may be added."""


class Error(Exception):
    """Base class of the exceptions of this package."""


class InvalidKeyError(Error):
    """The key, key set or scope is invalid. The message names the member at fault, never its value."""


class InvalidKeyIdError(InvalidKeyError):
    """The key id is invalid: it must be 1 to 128 characters of ``A-Z a-z 0-9 - _``."""


class KeyOperationError(InvalidKeyError):
    """The key may not do that (``key_ops``), or cannot (it has no private half, or no public half)."""


class InvalidClaimsError(Error):
    """The claims to sign are invalid, or exceed the scope of the key."""


class InvalidPatternError(Error, ValueError):
    """The text is not a valid pattern, or what would result is not.

    ``reason`` is a stable code: ``empty-segment``, ``invalid-segment``, ``multiple-globstars``, ``too-many-segments``,
    ``too-long``, ``invalid-unicode``, and ``too-many-patterns`` for a union or an intersection that is too large.
    """

    def __init__(self, message: str, *, reason: str = "invalid-segment") -> None:
        super().__init__(message)
        self.reason = reason


class InvalidRequestError(Error):
    """A document that somebody sent is not a valid request of the auth server contract.

    ``reason`` is a stable code: ``bad-json``, ``too-deep``, ``duplicate-member`` (HTTP status 400), ``too-large``
    (413), ``missing-member``, ``unknown-event`` and ``bad-member`` (422). The ``status`` is never 401 or 403, which
    relays read as a verdict.
    """

    def __init__(self, message: str, *, reason: str = "bad-member") -> None:
        super().__init__(message)
        self.reason = reason

    @property
    def status(self) -> int:
        """The HTTP status to answer with."""
        return {"bad-json": 400, "too-deep": 400, "duplicate-member": 400, "too-large": 413}.get(self.reason, 422)


class InvalidGrantError(Error):
    """A grant, or an answer for relay 0.14, that a relay would not accept.

    ``reason`` is a stable code: ``useless`` (it grants nothing, which relays take for a refusal),
    ``unbounded-revalidate``, ``zero-revalidate``, ``expired``, ``bad-root``, ``bad-mounts``, ``bad-key``; for a
    document that is not readable ``bad-pattern`` and those of ``InvalidRequestError``.
    """

    def __init__(self, message: str, *, reason: str = "bad-member") -> None:
        super().__init__(message)
        self.reason = reason


class InvalidDenialError(Error, ValueError):
    """A denial, which bans sessions from an auth server or narrows them, is invalid.

    ``reason`` is a stable code: ``invalid``, or ``too-many`` for one beyond the limits.
    """

    def __init__(self, message: str, *, reason: str = "invalid") -> None:
        super().__init__(message)
        self.reason = reason


class ConfigError(Error):
    """The configuration is invalid, or contradicts itself."""


class RefusedError(Error):
    """The answer is no, and asking again does not help.

    Attributes
    ----------
    reason : Reason
        A stable code for programs and logs. Each subclass documents its own codes. A policy of your own may pass any
        other text.

    """

    reason: Reason = "refused"

    def __init__(self, message: str = "", /, *, reason: Reason | str | None = None) -> None:
        super().__init__(message)
        if reason is not None:
            self.reason = cast("Reason", reason)


class InvalidTokenError(RefusedError):
    """The token is invalid.

    ``reason`` is ``malformed``, ``wrong-algorithm``, ``bad-claims`` or ``useless`` (it grants nothing). Where the
    ``kid`` of the token must select one of many keys, it can also be ``kid-missing`` or ``bad-kid``.
    """

    reason: Reason = "malformed"

    # A refusal must cost little more than an admission: `__new__` has stored the message, so no base class is called.
    def __init__(self, message: str = "", /, *, reason: Reason | None = None) -> None:  # noqa: ARG002
        if reason is not None:
            self.reason = reason


class InvalidSignatureError(InvalidTokenError):
    """The signature does not match the token and the key (``bad-signature``)."""

    reason: Reason = "bad-signature"


class ExpiredTokenError(InvalidTokenError):
    """The token expired at ``expires`` (Unix seconds), and is refused since (``expired``; RFC 7519, section 4.1.4)."""

    reason: Reason = "expired"

    def __init__(self, message: str = "", /, *, expires: int = 0) -> None:  # noqa: ARG002 - as above
        self.expires = expires

    def __str__(self) -> str:
        # Composed only on demand: most refusals are counted, not read.
        return super().__str__() or f"the token expired at {utc(self.expires)}"


class NotYetValidTokenError(InvalidTokenError):
    """The token is not valid before ``not_before`` (Unix seconds) (``not-yet-valid``; RFC 7519, section 4.1.5)."""

    reason: Reason = "not-yet-valid"

    def __init__(self, message: str = "", /, *, not_before: int = 0) -> None:  # noqa: ARG002 - as above
        self.not_before = not_before

    def __str__(self) -> str:
        return super().__str__() or f"the token is not valid before {utc(self.not_before)}"


class ScopeExceededError(InvalidTokenError):
    """The token grants ``path``, which is outside the scope of its key (``scope-exceeded``).

    ``path`` is as the token has it: to log it, take the message, which shows it escaped and cut.
    """

    reason: Reason = "scope-exceeded"

    def __init__(self, message: str, *, path: str = "") -> None:
        super().__init__(message)
        self.path = path


class KeyNotFoundError(RefusedError):
    """There is no key for the ``kid`` of the token, or it has no ``kid`` (``unknown-key``).

    ``kid`` is as the token has it, and nobody has verified it: to log it, take the message, which shows it escaped and
    cut.
    """

    reason: Reason = "unknown-key"

    def __init__(self, message: str, *, kid: str | None = None) -> None:
        super().__init__(message)
        self.kid = kid


class UnauthorizedError(RefusedError):
    """The token is valid, but not at ``path``: ``root-mismatch`` (no overlap) or ``no-access`` (nothing granted).

    ``path`` is what the client has dialed, which can be long and hold anything, even a token that was written in the
    wrong place. To log it, take the message, which shows it escaped, cut and without tokens.
    """

    reason: Reason = "no-access"

    def __init__(self, message: str, *, path: str = "", reason: Reason | None = None) -> None:
        super().__init__(message)
        self.path = path
        if reason is not None:
            self.reason = reason


class NotAdmittedError(RefusedError):
    """The connection is refused for a reason that does not depend on the claims of a token.

    ``reason`` is ``token-expected`` (there is no token, and the dialed path is not public), ``no-key-source`` (there is
    a token, and no key is configured to verify it with) or ``bad-url`` (the dialed URL is invalid). An auth server has
    more: ``two-tokens`` and ``token-and-certificate`` (both are presented), ``unsupported-token`` (the SETUP token is
    not a JWT), ``no-public-grant`` and ``no-mtls-grant`` (no rules for sessions without a token, or with a
    certificate), ``token-limit``, ``remote-limit`` and ``subject-limit`` (too many live sessions).
    """

    reason: Reason = "token-expected"


class UnavailableError(Error):
    """Another service is down, so that there is no answer. Asking again may help."""


def utc(seconds: float) -> str:
    """Format Unix seconds for people: ``2027-03-08 10:00:31 UTC``."""
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))
    except (OverflowError, OSError, ValueError):
        return f"{int(seconds)} seconds after 1970"


def without_tokens(text: str) -> str:
    """Hide what looks like a JWT, and passwords and queries of URLs: a dialed path can have them, and is logged."""
    start = text.find(":/")
    if start >= 0:
        text = text[:start] + _QUERY.sub("?…", _USERINFO.sub(r"\1…@", text[start:]))
    return _TOKEN.sub("<token>", text) if "ey" in text or "ew" in text else text


def shown(text: str) -> str:
    """Quote a foreign name for a message: escaped, without tokens and passwords, and cut when it is long.

    A key in place of the name is not shown at all.
    """
    text = text[:_MAX_SEARCHED]
    text = "<key>" if _KEY.search(text) else without_tokens(text)
    return repr(text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…")


def shown_path(path: str | os.PathLike[str]) -> str:
    """Quote the path of a file as ``shown()`` does, but cut a long one in the middle: its end names the file."""
    text = os.fspath(path)
    end = text.find(os.sep, len(text) - _SHOWN_END_CHARACTERS) if len(text) > _SHOWN_CHARACTERS else -1
    if end < 0:
        return shown(text)
    return repr(f"{text[: _SHOWN_CHARACTERS - (len(text) - end)]}…{text[end:]}")


def raised_at(error: BaseException) -> str:
    """Say where an error was raised, for messages that must not have its text: ``policy.py, line 7``."""
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    if last is None:
        return "an unknown place"
    return f"{os.path.basename(last.tb_frame.f_code.co_filename)}, line {last.tb_lineno}"  # noqa: PTH119 - as above


def bare(error: _E) -> _E:
    """Strip the traceback and the causes from an error that is raised again, because they may hold a secret.

    Crash reporters print the local variables of every frame of a traceback, and a chained exception can hold the very
    text that could not be decoded.
    """
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)


def sealed(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Wrap a function that is handed secrets, so that every error leaves it ``bare``.

    That includes ``KeyboardInterrupt``, which can come at any moment.
    """

    @functools.wraps(function)
    def wrapper(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        try:
            return function(*args, **kwargs)
        except BaseException as error:  # noqa: BLE001 - strip every traceback: its frames hold the secret
            del args, kwargs
            raise bare(error)  # noqa: B904 - the one being handled

    return wrapper
