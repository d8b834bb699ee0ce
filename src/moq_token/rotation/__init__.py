"""A directory of signing keys that are replaced one after another, and the public halves that relays read.

``DIR`` holds the private keys as ``{kid}.jwk`` and the state as ``rotation.json``. Another directory, which the state
names, holds the public halves. Secrets (``oct``) have none: relays then read ``DIR`` itself.
"""

from moq_token.rotation.change import Change, Rotation
from moq_token.rotation.state import STATE_NAME, SUFFIX, Directory, KeyFile, Listed, State, Use

__all__ = ["STATE_NAME", "SUFFIX", "Change", "Directory", "KeyFile", "Listed", "Rotation", "State", "Use"]
