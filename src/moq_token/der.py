"""A minimal reader and writer of DER (X.690): what kind of file it is, which numbers it has, and numbers as DER."""

from __future__ import annotations

from typing import NamedTuple

INTEGER, BIT_STRING, OCTET_STRING, OID, SEQUENCE = 2, 3, 4, 6, 0x30


class Element(NamedTuple):
    """An element of DER: its tag and its content."""

    tag: int
    content: bytes


def elements(data: bytes) -> list[Element] | None:
    """Take a sequence of DER elements apart, or return None if it is not one. Nested sequences are not parsed."""
    found = []
    at = 0
    while at < len(data):
        if len(data) - at < 2 or data[at] & 0x1F == 0x1F:  # noqa: PLR2004 - no longer tags are in use
            return None
        tag, length, start = data[at], data[at + 1], at + 2
        if length & 0x80:
            size = length & 0x7F
            if not 0 < size <= 4:  # noqa: PLR2004
                return None
            length, start = int.from_bytes(data[start : start + size]), start + size
        at = start + length
        if at > len(data):
            return None
        found.append(Element(tag, data[start:at]))
    return found


def sequence_of_integers(*values: int) -> bytes:
    """Write a sequence of integers that are not negative, as ``RSAPublicKey`` and ``RSAPrivateKey`` of RFC 8017 are."""
    return _element(
        SEQUENCE, b"".join(_element(INTEGER, value.to_bytes(value.bit_length() // 8 + 1)) for value in values)
    )


def _element(tag: int, content: bytes) -> bytes:
    length = len(content)
    if length < 0x80:  # noqa: PLR2004
        return bytes((tag, length)) + content
    size = (length.bit_length() + 7) // 8
    return bytes((tag, 0x80 | size)) + length.to_bytes(size) + content
