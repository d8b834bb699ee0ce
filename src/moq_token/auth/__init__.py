"""Decide as a relay does: from configuration, connection and keys to the permissions of the session.

``Authenticator`` fetches what is needed and decides; ``decide()`` is the decision alone, synchronous and pure.
``RemoteAuthenticator`` asks an auth server instead, as relays from 0.15 on do; ``load_config()`` reads the
configuration of either generation.
"""

from moq_token.auth.authenticator import Authenticator
from moq_token.auth.config import AuthConfig, ClientTls, ConfigWarning, PublicAccess
from moq_token.auth.connection import Certificate, Connection, Transport
from moq_token.auth.decision import Grant, Rejection, decide
from moq_token.auth.remote import RemoteAuthenticator, RemoteSession
from moq_token.auth.remote_config import RemoteConfig, load_config

__all__ = [
    "AuthConfig",
    "Authenticator",
    "Certificate",
    "ClientTls",
    "ConfigWarning",
    "Connection",
    "Grant",
    "PublicAccess",
    "Rejection",
    "RemoteAuthenticator",
    "RemoteConfig",
    "RemoteSession",
    "Transport",
    "decide",
    "load_config",
]
