"""The record of one decision: which checks were made, in their order, and how it ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Self, TypeAlias

from moq_token.errors import RefusedError

if TYPE_CHECKING:
    from types import TracebackType

    from moq_token.errors import Reason

Check: TypeAlias = Literal[
    "url",  # what was dialed is a URL of a relay
    "certificate",  # the client has a verified certificate, which counts instead of a token
    "public",  # there is no token, and the path is public
    "key",  # there is a key for this token, and it may verify
    "form",  # three segments of canonical base64url, and a JSON header
    "algorithm",  # the header names the algorithm of the key
    "signature",
    "claims",  # they are JSON and have the right types
    "time",  # `nbf` and `exp`
    "grants",  # the token grants something at all
    "scope",  # the token stays within the scope of its key
    "remembered",  # the same token was verified before, with the same key
    "alias",  # the alias from `auth_api` is as deep as the path
    "path",  # the token grants something at the dialed path
    "broadcast",  # the question asked beside: may this be published, or watched
]


class Trace:
    """Record the checks of one decision while they are made.

    Pass one to ``Key.verify``, ``decide`` or
    ``Authenticator.authenticate``, inside its ``with`` block::

        with contextlib.suppress(RefusedError), Trace() as trace:
            key.verify(token, trace=trace)
        print(trace.allowed, trace.reason, trace.passed, trace.failed)

    A check that was not made is not recorded. It holds neither the token nor the claims.

    Attributes
    ----------
    allowed : bool | None
        True where the block was left without an error, False where a ``RefusedError`` left it, and None before
        that and after any other error, when the decision is not known.
    reason : Reason | None
        The reason code of the refusal.
    message : str
        The text of the error that left the block, empty without one.

    """

    __slots__ = ("_checks", "allowed", "message", "reason")

    def __init__(self) -> None:
        self.allowed: bool | None = None
        self.reason: Reason | None = None
        self.message: str = ""
        self._checks: list[Check] = []

    @property
    def passed(self) -> tuple[Check, ...]:
        """The checks that were passed, in the order in which they were made."""
        return tuple(self._checks if self.allowed else self._checks[:-1])

    @property
    def failed(self) -> Check | None:
        """The check that the decision ended with, or None where it allowed the client in."""
        return None if self.allowed or not self._checks else self._checks[-1]

    def begin(self, check: Check) -> None:
        """Record that a check begins, so that all before it were passed. One that is made again counts once, here."""
        if check in self._checks:
            self._checks.remove(check)
        self._checks.append(check)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self.allowed = True
            return
        self.message = str(error)
        if isinstance(error, RefusedError):
            self.allowed, self.reason = False, error.reason
