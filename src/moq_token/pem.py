"""PEM (RFC 7468), the form in which other tools keep keys: PKCS#8, PKCS#1, SEC1, SPKI and X.509 certificates."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from moq_token import der, keytext, recognizer
from moq_token.errors import InvalidKeyError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes
    from cryptography.hazmat.primitives.serialization import KeySerializationEncryption

    from moq_token.primitives import PrivateKey, PublicKey

# The work that a password may cost, which the file itself asks for: iterations of PBKDF2 (OWASP recommends 600,000, and
# OpenSSL writes 2,048), and N * r * p of scrypt, of which each unit takes 128 bytes. Both take about a second.
MAX_ITERATIONS = 5_000_000
MAX_SCRYPT_COST = 2**21

_BEGIN, _END, _DASHES = b"-----BEGIN ", b"-----END ", b"-----"
_ENCRYPTED = b"ENCRYPTED PRIVATE KEY"
_PRIVATE = (b"PRIVATE KEY", _ENCRYPTED, b"RSA PRIVATE KEY", b"EC PRIVATE KEY")
_PUBLIC = (b"PUBLIC KEY", b"RSA PUBLIC KEY")
_CERTIFICATE = b"CERTIFICATE"
_LINE_CHARACTERS = 64
_MAX_LINE_CHARACTERS = 200  # of a line that is looked at for faults
_MAX_HEADER_BYTES = 4096  # of an encrypted key; usual are about 100
_REQUEST = "this is a certificate request: write its public key with `openssl req -in FILE -noout -pubkey`"
_OTHER_LABELS = {
    b"OPENSSH PRIVATE KEY": "this is a private key in OpenSSH format: convert it first, with `ssh-keygen -p "
    "-m PKCS8 -f FILE`; an Ed25519 key cannot be converted, so generate a new one with `moq-token generate`",
    b"CERTIFICATE REQUEST": _REQUEST,
    b"NEW CERTIFICATE REQUEST": _REQUEST,
    b"TRUSTED CERTIFICATE": "this is a certificate in OpenSSL format: convert it with `openssl x509 -in FILE`",
    b"PKCS7": "this is a PKCS#7 bundle: write its certificates with `openssl pkcs7 -in FILE -print_certs`",
    b"X509 CRL": "this is a list of revoked certificates, not a key",
    b"DSA PRIVATE KEY": "this is a DSA key, which is not supported: expected RSA, P-256, P-384 or Ed25519",
    b"PGP PRIVATE KEY BLOCK": "this is a PGP key, which is not supported",
    b"PGP PUBLIC KEY BLOCK": "this is a PGP key, which is not supported",
    b"EC PARAMETERS": "these are the parameters of a curve without a key",
    b"DH PARAMETERS": "these are Diffie-Hellman parameters without a key",
}


def parse(text: str | bytes, password: bytes | None) -> PrivateKeyTypes | PublicKeyTypes:
    """Read the first private key of a PEM file, or else its first public key, or else its first certificate's.

    Whether a certificate is valid, and who signed it, is not checked. Raises ``InvalidKeyError``.
    """
    from cryptography.hazmat.primitives import serialization
    from cryptography.x509 import load_pem_x509_certificate

    data = _unescaped(keytext.plain(text))
    blocks: dict[bytes, bytes] = {}
    for label, block in _blocks(data):
        blocks.setdefault(label, block)
    label = next((label for label in (*_PRIVATE, *_PUBLIC, _CERTIFICATE) if label in blocks), b"")
    if not label:
        raise InvalidKeyError(
            next(
                (_OTHER_LABELS[label] for label in _OTHER_LABELS if label in blocks),
                _fault(data, keytext.decoded(text)),
            )
        )
    block = blocks[label]
    if label == _ENCRYPTED and password is not None:
        _check_work(block)
    try:
        if label in _PRIVATE:
            return serialization.load_pem_private_key(block, password, unsafe_skip_rsa_key_validation=True)
        if label in _PUBLIC:
            return serialization.load_pem_public_key(block)
        return load_pem_x509_certificate(block).public_key()
    except TypeError:
        what = "is not encrypted: leave the password out"
        if password is None:
            what = "is encrypted: a password is required (`password`, or --password-file on the command line)"
        raise InvalidKeyError(f"the PEM {what}") from None
    except Exception:  # noqa: BLE001 - damaged input raises exceptions that are not documented
        what = "it is damaged or of an unsupported kind"
        raise InvalidKeyError(
            f"the PEM cannot be read: {what if password is None else 'wrong password, or ' + what}"
        ) from None


def is_pem(text: bytes) -> bool:
    """Return whether a text is meant as PEM: plain, escaped, in base64, or with a damaged line BEGIN or END."""
    import re

    data = _unescaped(text)
    if data.startswith(b"{"):  # JSON that has PEM in a member
        return False
    label = rb"(BEGIN|END)[ \x80-\xff]{1,3}([A-Z0-9]{1,20}[ \x80-\xff]{1,3}){0,4}(KEY|CERTIFICATE)"
    return _BEGIN in data or _END in data or re.search(label, data) is not None


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


def _unescaped(data: bytes) -> bytes:
    """Undo what environment variables and configuration files do to PEM: base64 encoding and escaped line breaks."""
    if _BEGIN not in data:
        inside = keytext.base64_of_any_kind(data)
        if inside is not None and inside.lstrip().startswith(_BEGIN):
            data = inside
    for escape in (b"\\r\\n", b"\\n", b"\\r"):
        data = data.replace(escape, b"\n")
    return data


def _blocks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    # One pass for any input: a regular expression would search again for each missing end.
    start = data.find(_BEGIN)
    while start >= 0:
        after_label = data.find(_DASHES, start + len(_BEGIN))
        label = data[start + len(_BEGIN) : after_label]
        marker = _END + label + _DASHES
        end = data.find(marker, after_label)
        if after_label < 0 or end < 0:
            return
        yield label, _normal(label, data[after_label + len(_DASHES) : end])
        start = data.find(_BEGIN, end + len(marker))


def _normal(label: bytes, body: bytes) -> bytes:
    """Rewrite a block in lines of 64 characters; leave one with headers (RFC 1421) unchanged."""
    if b":" not in body:
        text = b"".join(body.split())
        lines = [text[at : at + _LINE_CHARACTERS] for at in range(0, len(text), _LINE_CHARACTERS)]
        body = b"\n" + b"\n".join(lines) + b"\n"
    return _BEGIN + label + _DASHES + body + _END + label + _DASHES + b"\n"


def _fault(data: bytes, raw: bytes) -> str:
    """Return why a text that should be PEM contains no key."""
    import re

    if not is_pem(data) or b"BEGIN SSH2" in data:
        if data.startswith(b"{"):
            return "this is JSON, not PEM: Key.from_str reads a JWK"
        return recognizer.name_of(raw, "PEM, which begins with -----BEGIN")
    begin = re.search(rb"-----BEGIN ([A-Z0-9 ]{1,40})-----", data)
    end = re.search(rb"-----END ([A-Z0-9 ]{1,40})-----", data)
    fault = _fault_of_a_line(data)
    if fault is not None:
        return fault
    if begin is not None and end is not None:
        if begin[1] != end[1]:
            return "invalid PEM: its lines -----BEGIN …----- and -----END …----- differ"
        return "unsupported PEM: expected a private key, a public key or a certificate"
    found, missing = (begin, "END") if begin is not None else (end, "BEGIN")
    label = "…" if found is None else found[1].decode()
    return f"invalid PEM: the line -----{missing} {label}----- is missing, the text was cut off"


def _fault_of_a_line(data: bytes) -> str | None:
    import re

    for number, line in enumerate(data.splitlines(), 1):
        text = line.decode(errors="replace")
        if len(text) > _MAX_LINE_CHARACTERS or re.search("(BEGIN|END)[^a-z]{1,80}(KEY|CERTIFICATE)", text) is None:
            continue
        strange = next((char for char in text if not char.isascii()), None)
        if strange is not None:
            return (
                f"invalid PEM: line {number} has the character U+{ord(strange):04X}, as text copied from a page or a "
                "document has: expected plain spaces and hyphens"
            )
        if re.fullmatch(r"\s*-----(BEGIN|END) [A-Z0-9 ]+-----\s*", text) is None and not re.search(
            "-----.*-----", text
        ):
            return f"invalid PEM: line {number} must have five hyphens on either side"
    return None


# The object identifier of scrypt (RFC 7914, section 7.1) in the header of an encrypted key.
_SCRYPT = bytes.fromhex("2b06010401da47040b")


def _check_work(block: bytes) -> None:
    """Refuse a file whose password hashing is too expensive, before computing it. Raises ``InvalidKeyError``."""
    body = block.partition(b"\n")[2].partition(_END)[0]
    content = keytext.base64_of_any_kind(body)
    outer = None if content is None else der.elements(content)
    inner = der.elements(outer[0].content) if outer else None
    if not inner or len(inner[0].content) > _MAX_HEADER_BYTES:
        raise InvalidKeyError("invalid PEM: it is damaged")
    identifiers, integers = _numbers(inner[0])
    if _SCRYPT in identifiers:
        bounded = math.prod(integers[:3]) <= MAX_SCRYPT_COST and 0 not in integers[:3]
    else:
        bounded = all(integer <= MAX_ITERATIONS for integer in integers)
    if not bounded:
        raise InvalidKeyError(
            "the password hashing of this PEM is too expensive: expected at most "
            f"{MAX_ITERATIONS:,} iterations, or N * r * p up to {MAX_SCRYPT_COST:,} with scrypt"
        )


def _numbers(header: der.Element) -> tuple[list[bytes], list[int]]:
    """Return the object identifiers and the integers in a header, in their order."""
    identifiers, integers = [], []
    pending = [header]
    while pending:
        element = pending.pop()
        if element.tag == der.SEQUENCE:
            within = der.elements(element.content)
            if within is None:
                raise InvalidKeyError("invalid PEM: it is damaged")
            pending += reversed(within)
        elif element.tag == der.INTEGER:
            integers.append(int.from_bytes(element.content))
        elif element.tag == der.OID:
            identifiers.append(element.content)
    return identifiers, integers
