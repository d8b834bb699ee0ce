"""The auth server that relays ask: from 0.15 on about every session, 0.14 about every connection (``auth_api``).

``Policy`` decides by keys and rules; ``AuthServer`` answers for it, or for any async function from a
``Request`` to a ``Grant``, over HTTP (``asgi``, or the command ``serve``).
"""

from moq_token.contract import Answer, Grant, Question, Request
from moq_token.sources.source import missing_extra

try:
    from moq_token.server.app import AuthServer
except ModuleNotFoundError as _error:
    if _error.name != "httptools":
        raise
    raise ImportError(missing_extra("auth servers", "server"), name=_error.name) from _error
from moq_token.server.caps import Cap, CapKind
from moq_token.server.denial import Denial
from moq_token.server.policy import Policy
from moq_token.server.state import State

__all__ = ["Answer", "AuthServer", "Cap", "CapKind", "Denial", "Grant", "Policy", "Question", "Request", "State"]
