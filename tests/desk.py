"""The files that the tests of commands work with: keys, sets and tokens, and files that block others."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import NameOID

from moq_token import Algorithm
from moq_token.files import MAX_FILE_BYTES
from tests import forge
from tests.command_line import OTHER_SECRET, PASSWORD

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
NOW = forge.NOW
TOKEN = forge.token(HS)
CLAIMS = '{"root":"rooms/123","put":["alice"],"get":[""]}\n'
TWICE = "is given twice: it takes one value"
SIGN = ("sign", "--key", "hs.jwk", "--publish", "")
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


def lay_out_tokens(folder: Path) -> None:
    """Write the keys, sets, directories and tokens that the tables name."""
    files: dict[str, Mapping[str, object] | str] = {
        "hs.jwk": forge.jwk(HS),
        "hs.base64": forge.b64(forge.compact(forge.jwk(HS))),
        "other.jwk": forge.jwk(HS, k=OTHER_SECRET),
        "ed.jwk": forge.jwk(ED, kid="ed"),
        "ed.public": forge.public_jwk(ED, kid="ed"),
        "nokid.jwk": forge.jwk(HS, kid=None),
        "signs.jwk": forge.jwk(HS, key_ops=["sign"]),
        "verifies.jwk": forge.jwk(HS, key_ops=["verify"]),
        "scoped.jwk": forge.jwk(HS, scope={"root": "rooms", "put": ["123/alice"]}),
        "set.jwk": {"keys": [forge.public_jwk(ED, kid="ed"), forge.jwk(HS), forge.jwk(ES, kid="es")]},
        "public-set.jwk": {"keys": [forge.public_jwk(ED, kid="ed"), forge.public_jwk(ES, kid="es")]},
        "one.jwk": {"keys": [forge.jwk(HS)]},
        "empty-set.jwk": {"keys": []},
        "keys/test-key.jwk": forge.jwk(HS),
        "keys/ed.jwk": forge.public_jwk(ED, kid="ed"),
        "two/a.jwk": forge.jwk(HS, kid="a"),
        "two/b.jwk": forge.jwk(HS, kid="b"),
        "many.jwk": {"keys": [forge.public_jwk(ED, kid=f"key-{index}") for index in range(7)]},
        "broken.jwk": json.dumps(forge.jwk(HS))[:-1],
        "secret.jwk": forge.jwk(HS, alg="HS999"),
        "key.pem": forge.public_forms(ED)["pem"].decode(),
        "alice.jwt": f"{TOKEN}\n",
        "large": " " * (MAX_FILE_BYTES + 1),
    }
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    (folder / "folder").mkdir()


def payload(token: str) -> dict[str, object]:
    claims: dict[str, object] = json.loads(forge.unb64(token.strip().split(".")[1]))
    return claims


def unix(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())
