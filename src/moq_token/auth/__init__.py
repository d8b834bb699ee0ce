"""What a relay decides: from its configuration, a connection and the keys to what the session may do.

:class:`Authenticator` fetches what is needed and decides; :func:`decide` is the decision alone, synchronous and pure.
"""

from moq_token.auth.authenticator import Authenticator
from moq_token.auth.config import AuthConfig, ClientTls, PublicAccess
from moq_token.auth.connection import Certificate, Connection, Transport
from moq_token.auth.decision import Grant, Rejection, decide

__all__ = [
    "AuthConfig",
    "Authenticator",
    "Certificate",
    "ClientTls",
    "Connection",
    "Grant",
    "PublicAccess",
    "Rejection",
    "Transport",
    "decide",
]
