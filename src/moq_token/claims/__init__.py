"""Claims of tokens, scopes of keys, and the permissions that result at a path."""

from moq_token.claims.claims import Claims
from moq_token.claims.permissions import Permissions
from moq_token.claims.scope import Scope

__all__ = ["Claims", "Permissions", "Scope"]
