"""TLS of the HTTP client: the servers that it trusts, and its client certificate."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import Protocol

from moq_token.errors import ConfigError, sealed, shown_path
from moq_token.recognizer import secret_in_place_of_path


class TlsOptions(Protocol):
    """The servers to trust and the client certificate; the members of ``Tls``."""

    @property
    def roots(self) -> tuple[str, ...]:
        """PEM files of trusted root certificates."""
        ...

    @property
    def cert(self) -> str | None:
        """The PEM file of the client certificate."""
        ...

    @property
    def key(self) -> str | None:
        """The PEM file of the private key for ``cert``."""
        ...

    @property
    def disable_verify(self) -> bool:
        """Whether to accept every certificate."""
        ...

    @property
    def system_roots(self) -> bool | None:
        """Whether to trust the system's roots; None: only if ``roots`` is empty."""
        ...


@dataclass(frozen=True, slots=True)
class Tls:
    """The servers that HTTPS trusts, and the client certificate, as names of PEM files.

    ``roots`` are trusted instead of the system's roots, or in addition to them if ``system_roots`` is True. ``cert``
    and ``key`` identify the client. ``disable_verify`` accepts every certificate.
    """

    roots: tuple[str, ...] = ()
    cert: str | None = None
    key: str | None = None
    disable_verify: bool = False
    system_roots: bool | None = None


@sealed
def make_context(tls: TlsOptions) -> ssl.SSLContext:
    """Return the TLS context for these options.

    Raises ``ConfigError`` for a file that is missing or unusable, naming it.
    """
    import truststore

    if tls.disable_verify or (tls.roots and not tls.system_roots):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    else:
        context = truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if tls.disable_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if (tls.cert is None) != (tls.key is None):
        raise ConfigError("TLS: `cert` and `key` must be set together")
    for place in (*tls.roots, tls.cert, tls.key):
        what = None if place is None else secret_in_place_of_path(place)
        if what is not None:
            raise ConfigError(f"TLS: expected the path of a PEM file, but this looks like {what}")
    name = ""
    try:
        for root in tls.roots:
            name = shown_path(root)
            context.load_verify_locations(root)
        if tls.cert is not None:
            name = f"{shown_path(tls.cert)}, {shown_path(tls.key or '')}"
            # Without a password here, OpenSSL would ask for one on the terminal.
            context.load_cert_chain(tls.cert, tls.key, password=_no_password)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) and not isinstance(error, ssl.SSLError) else None
        raise ConfigError(f"TLS: cannot use {name}: {why or 'no valid PEM, or encrypted with a password'}") from None
    return context


def _no_password() -> str:
    raise ValueError("the key is encrypted")
