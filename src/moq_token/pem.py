"""PEM (RFC 7468), which is how other tools keep keys: PKCS#8, PKCS#1, SEC1, SPKI and X.509 certificates."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moq_token.errors import InvalidKeyError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes
    from cryptography.hazmat.primitives.serialization import KeySerializationEncryption

    from moq_token.primitives import PrivateKey, PublicKey

_BEGIN, _END, _DASHES = b"-----BEGIN ", b"-----END ", b"-----"
_PRIVATE = (b"PRIVATE KEY", b"ENCRYPTED PRIVATE KEY", b"RSA PRIVATE KEY", b"EC PRIVATE KEY")
_PUBLIC = (b"PUBLIC KEY", b"RSA PUBLIC KEY")
_CERTIFICATE = b"CERTIFICATE"


def parse(data: bytes, password: bytes | None) -> PrivateKeyTypes | PublicKeyTypes:
    """Read the first private key of a PEM file, or else its first public key, or else its first certificate's.

    Whether a certificate is valid, and who signed it, is not checked. Raises :class:`InvalidKeyError`.
    """
    from cryptography.hazmat.primitives import serialization
    from cryptography.x509 import load_pem_x509_certificate

    blocks: dict[bytes, bytes] = {}
    for label, block in _blocks(data):
        blocks.setdefault(label, block)
    try:
        for label in _PRIVATE:
            if label in blocks:
                return serialization.load_pem_private_key(blocks[label], password, unsafe_skip_rsa_key_validation=True)
        for label in _PUBLIC:
            if label in blocks:
                return serialization.load_pem_public_key(blocks[label])
        if _CERTIFICATE in blocks:
            return load_pem_x509_certificate(blocks[_CERTIFICATE]).public_key()
    except TypeError:
        what = "is encrypted: a password is needed" if password is None else "is not encrypted: leave the password out"
        raise InvalidKeyError(f"the PEM {what}") from None
    except Exception:  # noqa: BLE001 - damaged input brings out kinds that are not documented
        what = "it is damaged, or of a kind that is not supported"
        raise InvalidKeyError(
            f"the PEM cannot be read: {what if password is None else 'wrong password, or ' + what}"
        ) from None
    if b"OPENSSH PRIVATE KEY" in blocks:
        raise InvalidKeyError("this is OpenSSH's own form: rewrite it first, with `ssh-keygen -p -m PKCS8 -f FILE`")
    raise InvalidKeyError("there is no PEM key or certificate in this (-----BEGIN … KEY-----)")


def dump_private(native: PrivateKey, password: bytes | None) -> str:
    """Write a private key as PKCS#8, encrypted where there is a password."""
    from cryptography.hazmat.primitives import serialization

    encryption: KeySerializationEncryption = serialization.NoEncryption()
    if password is not None:
        encryption = serialization.BestAvailableEncryption(password)
    return native.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption).decode()


def dump_public(native: PublicKey) -> str:
    """Write a public key as SPKI."""
    from cryptography.hazmat.primitives import serialization

    return native.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()


def _blocks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    # One pass, whatever the input: a regular expression would look for each missing end again and again.
    start = data.find(_BEGIN)
    while start >= 0:
        after_label = data.find(_DASHES, start + len(_BEGIN))
        label = data[start + len(_BEGIN) : after_label]
        marker = _END + label + _DASHES
        end = data.find(marker, after_label)
        if after_label < 0 or end < 0:
            return
        end += len(marker)
        yield label, data[start:end] + b"\n"
        start = data.find(_BEGIN, end)
