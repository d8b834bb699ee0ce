"""What a token says (claims), what a key may sign (scope), and what follows at a path (permissions)."""

from moq_token.claims.claims import Claims
from moq_token.claims.permissions import Permissions
from moq_token.claims.scope import Scope

__all__ = ["Claims", "Permissions", "Scope"]
