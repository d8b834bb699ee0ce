"""A directory of key files for the tests of commands, and files that block others."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import NameOID

from moq_token import Algorithm
from tests import forge
from tests.command_line import PASSWORD

if TYPE_CHECKING:
    from collections.abc import Mapping

HS, RS, PS, ES, ES384, ED = (
    Algorithm.HS256,
    Algorithm.RS256,
    Algorithm.PS256,
    Algorithm.ES256,
    Algorithm.ES384,
    Algorithm.EDDSA,
)
SECRET_WORD = forge.jwk(HS)["k"]


def lay_out() -> None:
    """Create files to work with in the current directory, and some that block others."""
    for name, algorithm in (("hs", HS), ("ed", ED), ("es", ES), ("rsa", RS)):
        put(f"{name}.jwk", forge.jwk(algorithm, kid=name))
        if not algorithm.symmetric:
            put(f"{name}.public", forge.public_jwk(algorithm, kid=name))
    put("set.jwk", {"keys": [forge.jwk(ED, kid="ed"), forge.jwk(ES, kid="es")]})
    put("secrets.jwk", {"keys": [forge.jwk(ED, kid="ed"), forge.jwk(HS, kid="hs")]})
    put("ed.pem", pem(ED))
    put("locked.pem", pem(ED, password=PASSWORD))
    put("password", f"{PASSWORD}\nand something else\n")
    put("empty", "")
    put("there", "precious\n")
    Path("folder").mkdir()
    Path("link").symlink_to("there")
    Path("dangling").symlink_to("nowhere")


def put(name: str, content: Mapping[str, object] | str) -> None:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")


def pem(algorithm: Algorithm, form: str = "PKCS8", password: str | None = None) -> str:
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if password is not None:
        encryption = serialization.BestAvailableEncryption(password.encode())
    native = forge.native(algorithm)
    return native.private_bytes(
        serialization.Encoding.PEM, getattr(serialization.PrivateFormat, form), encryption
    ).decode()


def public_pem(algorithm: Algorithm, form: str = "SubjectPublicKeyInfo") -> str:
    native = forge.native(algorithm).public_key()
    return native.public_bytes(serialization.Encoding.PEM, getattr(serialization.PublicFormat, form)).decode()


def certificate(algorithm: Algorithm) -> str:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "relay.example")])
    native = forge.native(algorithm)
    builder = x509.CertificateBuilder(name, name, native.public_key(), 1)
    builder = builder.not_valid_before(datetime(2020, 1, 1, tzinfo=UTC)).not_valid_after(
        datetime(2021, 1, 1, tzinfo=UTC)
    )
    made = builder.sign(native, None if algorithm is ED else hashes.SHA256())
    return made.public_bytes(serialization.Encoding.PEM).decode()


def mode(name: str) -> int:
    return Path(name).stat().st_mode & 0o777


def files_in(directory: str) -> list[str]:
    return sorted(path.name for path in Path(directory).iterdir())


RELAY = """
[auth]
key_dir = "keys"
public = { subscribe = ["live"], publish = ["live/open"] }
domains = ["relay.example"]
"""


def bare_jwk(algorithm: Algorithm, **changes: object) -> dict[str, object]:
    return forge.jwk(algorithm, **{"alg": None, "kid": None, **changes})


def grant(**claims: object) -> str:
    return forge.token(HS, forge.claim(**claims))


TOKEN = grant()
