"""How things are called in the store: nothing there can be read, or looked up, without the secret of the nodes."""

from __future__ import annotations

import hashlib
import os
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

DIGEST_BYTES: Final = 16
_NONCE_BYTES = 12


class Names:
    """The names, digests and seals that follow from the secret that the nodes of a share have in common.

    Nodes with another secret use other keys of the same store: they neither see nor disturb these.
    """

    def __init__(self, secret: str) -> None:
        root = secret.encode()
        self.share: str = _derive(root, b"share")[:4].hex()
        """A short public name, the same on all nodes that share."""
        self.token_key: bytes = _derive(root, b"token")
        """The key of the digests by which tokens are known."""
        self._digest_key = _derive(root, b"digest")
        self._seal = AESGCM(_derive(root, b"seal"))
        self._prefix = f"moq-token:{{{self.share}}}:".encode()

    def __repr__(self) -> str:
        return f"<Names of the share {self.share}>"

    def key(self, name: bytes) -> bytes:
        """Return the key of that name. The hash tag, in braces, puts all of them into one slot of a cluster."""
        return self._prefix + name

    def digest(self, kind: bytes, value: bytes) -> bytes:
        """Return what stands for a value in the store (16 bytes); the same value of another kind has another digest."""
        # The kind has no fixed length, so its length keeps ("a", "bc") and ("ab", "c") apart.
        return hashlib.blake2b(
            bytes((len(kind),)) + kind + value, digest_size=DIGEST_BYTES, key=self._digest_key
        ).digest()

    def seal(self, data: bytes, context: bytes) -> bytes:
        """Encrypt data (AES-256-GCM). It can be opened with the same context only."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._seal.encrypt(nonce, data, context)

    def open(self, sealed: bytes, context: bytes) -> bytes | None:
        """Decrypt what another node has sealed with this context; None if it was anything else."""
        try:
            return self._seal.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], context)
        except (InvalidTag, ValueError):
            return None


def _derive(secret: bytes, purpose: bytes) -> bytes:
    return hashlib.blake2b(secret, digest_size=32, person=b"moq-share-" + purpose).digest()
