"""Recognize texts that are not usable keys, and say what they are and what to do next.

Keys arrive in the shape that another tool, an editor or a shell gave them. No answer repeats any of the text.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from moq_token import der
from moq_token.errors import InvalidKeyError

if TYPE_CHECKING:
    from collections.abc import Mapping

# Longer than any name that an operating system takes (PATH_MAX of Linux).
_MAX_NAME_CHARACTERS = 4096

# -- texts that are not JSON objects


def name_of(
    data: bytes, expected: str = "a JWK, which is a JSON object or base64url of one; the command `import` takes PEM too"
) -> str:
    """Say what a text is that is not a JSON object, and what to do. The message never quotes the text."""
    try:
        text = data.decode().strip()
    except UnicodeDecodeError:
        return _name_of_binary(data, expected)
    if not text:
        return "it is empty: check that it was written completely"
    if "\0" in text:
        return _name_of_binary(data, expected)
    return _name_of_text(text) or f"unknown format: expected {expected}"


def is_file_name(text: str) -> bool:
    """Whether a text looks like the name of a file rather than like its content."""
    import re

    name = text.strip().strip("'\"")
    if len(name) > 255 or "\n" in name:  # noqa: PLR2004 - the longest name of a file on any usual file system
        return False
    by_suffix = r"[^{}\[\]<>\"']*[^{}\[\]<>\"'/.]\.(jwks?|json|pem|key|pub|crt|cer|cert|der|txt|env|p8|p12|pfx|toml)"
    by_place = r"(\.{0,2}|~\w*)/[^{}\[\]<>\"'+=]*|[A-Za-z]:[\\/][^{}\[\]<>\"'+=]*"
    return re.fullmatch(f"{by_suffix}|{by_place}", name, re.IGNORECASE) is not None


_SSH = ("ssh-", "ecdsa-sha2-", "sk-ssh-", "sk-ecdsa-")
_BASE64_OF = {  # how base64 begins of a JSON object, of PEM, and of DER
    ("eyJ", "eyA", "ewo", "ew0"): "a JWK in base64 with line breaks, padding or the characters + and /: decode it "
    "first (base64 -d)",
    ("LS0tLS1CRUdJTi",): "PEM in base64: decode it first (base64 -d), then convert it with `moq-token import`",
    ("MI", "MC", "MD", "ME", "MF", "MG", "MH"): "the base64 of DER, which is PEM without its lines -----BEGIN …----- "
    "and -----END …-----: add them",
}


def _name_of_text(text: str) -> str | None:  # noqa: C901, PLR0911, PLR0912 - a table of conditions
    import re

    first, last = text[0], text[-1]
    if "-----BEGIN PGP" in text:
        return "this is a PGP key, which is not supported: expected a JWK or PEM"
    if "-----BEGIN " in text or "-----END " in text:
        return "this is PEM: convert it with the command `import`, or with Key.from_pem"
    if first in "'\"`\u2018\u201c\u00ab" and len(text) > 1:
        ends = last in "'\"`\u2019\u201d\u00bb"
        return f"there {'are quotes around it' if ends else 'is a quote at its start'}: remove the quotes"
    if first == "[":
        return 'a key must be a JSON object, but this is a list: write a list of keys as {"keys": [...]}'
    if text in {"null", "true", "false", "undefined", "None"} or re.fullmatch(r"-?\d{1,15}(\.\d+)?", text):
        return "a key must be a JSON object, but this is another JSON value"
    if re.match(r"(export\s+|set\s+|\$env:)?[A-Z_][A-Z0-9_]{2,}\s*=\s*\S", text):
        return "this is a line of an environment file (NAME=VALUE): give the value alone"
    if text.startswith(_SSH) or re.match(r"---- ?BEGIN SSH2", text):
        return (
            "this is an OpenSSH public key: convert it to PEM with `ssh-keygen -e -m PKCS8 -f FILE`; an Ed25519 key "
            "cannot be rewritten, so make a new one with `moq-token generate`"
        )
    if text.startswith("PuTTY-User-Key-File"):
        return "this is a PuTTY key: export it as PEM with `puttygen FILE -O private-openssh-new`, then ssh-keygen"
    if text.startswith(("AGE-SECRET-KEY-", "age1")):
        return "this is an age key, which is for encryption: tokens need a key for signatures"
    if first == "<":
        return "this is HTML or XML, not a key: look at what was downloaded"
    if re.match(r"[a-z][a-z0-9+.-]*://", text, re.IGNORECASE):
        return "this is a URL, not a key: read it with a source (moq_token.sources), or with --key URL"
    if re.match(r"(---\s+)?(apiVersion|kind|metadata|data):", text):
        return "this is YAML, not a key: give the value of the member that holds the key"
    compact = text.split(".")
    if first == "e" and len(compact) in {3, 5} and all(re.fullmatch(r"[\w-]*", part) for part in compact):
        if len(compact) == 3:  # noqa: PLR2004
            return "this is a token (JWT), not a key: to read a token, use the command `inspect`"
        return "this is an encrypted key or token (JWE): decrypt it first, for example with `step crypto jwe decrypt`"
    if is_file_name(text):
        return "this looks like a file name, not a key: use Key.from_file or KeySet.from_file"
    if re.fullmatch(r"[A-Za-z0-9+/=_\s-]{24,}", text):
        for starts, what in _BASE64_OF.items():
            if text.startswith(starts):
                return f"this is {what}"
    if re.match(r"\[[\w.\"]+\]\s", text) or re.match(r"[\w.-]+ = ", text):
        return "this is a configuration file, not a key"
    if "\n" not in text:
        return (
            "this is plain text, neither JWK nor PEM: if it is a shared secret, convert it with the command "
            "`import --secret text`, or with Key.from_secret"
        )
    return None


_BINARY = {  # how files begin
    b"\x1f\x8b": "data compressed with gzip: decompress it first",
    b"PK\x03\x04": "a ZIP archive: extract the key from it",
    b"\xfe\xed\xfe\xed": "a Java keystore: export the key with `keytool`, then with `openssl pkcs12`",
    b"SQLite": "a database",
}


def _name_of_binary(data: bytes, expected: str) -> str:
    for start, what in _BINARY.items():
        if data.startswith(start):
            return f"this is {what}"
    kind = name_of_der(data)
    if kind is not None:
        return f"this is {kind}, then use the command `import`"
    return (
        f"this is binary data, expected {expected}: if it is a shared secret, convert it with the command "
        "`import --secret binary`, or with Key.from_secret"
    )


# -- DER


def name_of_der(data: bytes) -> str | None:  # noqa: PLR0911 - as above
    """Say which kind of key or certificate DER holds, and the command that makes PEM of it, or return None."""
    outer = der.elements(data)
    if not outer or len(outer) != 1 or outer[0].tag != der.SEQUENCE:
        return None
    inner = der.elements(outer[0].content)
    if not inner:
        return None
    tags = [element.tag for element in inner]
    if tags[:2] == [der.INTEGER, der.SEQUENCE] and inner[0].content == b"\3":
        return "a PKCS#12 file: convert its key to PEM with `openssl pkcs12 -in FILE -nocerts -nodes`"
    if tags[0] == der.INTEGER or tags == [der.SEQUENCE, der.OCTET_STRING]:
        return "a private key in DER: convert it to PEM with `openssl pkey -inform DER -in FILE`"
    if tags == [der.SEQUENCE, der.BIT_STRING]:
        return "a public key in DER: convert it to PEM with `openssl pkey -pubin -inform DER -in FILE`"
    if tags == [der.SEQUENCE, der.SEQUENCE, der.BIT_STRING]:
        return "a certificate in DER: convert it to PEM with `openssl x509 -inform DER -in FILE`"
    return "DER, but not a known kind of key: expected a JWK or PEM"


# -- JSON


def name_of_broken_json(text: str, why: str) -> str:  # noqa: PLR0911 - as above
    """Describe what is wrong with a text that starts as a JSON object; ``why`` is what the JSON reader says."""
    import re

    if re.match(r"\{\s*[A-Za-z_]\w*\s*:", text):
        return (
            "the double quotes of its JSON are missing, as when a shell has removed them: put single quotes around it"
        )
    if re.match(r"\{\s*'", text):
        return "its JSON has single quotes, as Python prints a dict: JSON needs double quotes (json.dumps)"
    if re.match(r"\{\s*\\", text):
        return "its JSON has backslashes before the quotes: remove them"
    if re.match("\\{\\s*[\u201c\u201d\u201e]", text):
        return "its JSON has typographic quotes, as a word processor writes them: JSON needs plain double quotes"
    if not text.rstrip().endswith("}"):
        return "the key is not valid JSON: it is cut off, or something follows its closing brace"
    if why.startswith("Extra data"):
        return "the key is not valid JSON: there is more than one object, expected one key or a JWK set"
    return f"the key is not valid JSON: {why}"


def name_of_members(members: Mapping[str, object]) -> str | None:  # noqa: C901, PLR0911, PLR0912 - a table of conditions
    """Say what a JSON object is that is not a JWK, and what to do, or return None if unknown."""
    if "kty" in members or "k" in members:
        return None
    if isinstance(members.get("keys"), list):
        return "this is a JWK set, not a single key: read it with KeySet.from_str or KeySet.from_file"
    if "ciphertext" in members or ("protected" in members and "encrypted_key" in members):
        return "this is an encrypted key (JWE), not a JWK: decrypt it first, for example with `step crypto jwe decrypt`"
    if "payload" in members and ("signature" in members or "signatures" in members):
        return "this is signed data (JWS), not a JWK"
    if members.get("type") in {"service_account", "authorized_user", "external_account"}:
        return (
            "this is a Google service account, not a JWK: its member `private_key` is PEM, "
            "jq -r .private_key FILE | moq-token import - --algorithm RS256"
        )
    if isinstance(members.get("apiVersion"), str) or (members.get("kind") == "Secret"):
        return (
            "this is a Kubernetes object, not a JWK: the members of `data` are base64, "
            "kubectl get secret NAME -o jsonpath='{.data.KEY}' | base64 -d"
        )
    if "jwks_uri" in members:
        return "this is an OpenID configuration, not a JWK: the keys are at the URL in its member `jwks_uri`"
    if "PublicKey" in members or "KeyMetadata" in members:
        return (
            "this is an answer of a key service, not a JWK: its `PublicKey` is base64 of DER, "
            "base64 -d | openssl pkey -pubin -inform DER"
        )
    if members.keys() & {"error", "errors", "message", "error_description", "detail", "statusCode"}:
        return "this is an answer with an error message, not a JWK: look at what was downloaded"
    if members.keys() & {"access_token", "id_token", "refresh_token"}:
        return "this is an answer with tokens, not a JWK"
    if members.keys() & {"put", "get", "publish", "subscribe"}:
        return "these are the claims of a token or the scope of a key, not a JWK"
    for name in ("key", "jwk", "jwks", "data", "value", "secret", "result", "private", "privateKey", "publicKey"):
        inside = members.get(name)
        if isinstance(inside, dict) and inside.keys() & {"kty", "keys", "k", "data"}:
            return f"this JSON object has a key in its member `{name}`: give that member alone"
    for name, value in members.items():
        if isinstance(value, str) and "-----BEGIN " in value:
            where = f"its member `{name}`" if name.isidentifier() and len(name) < 40 else "a member"  # noqa: PLR2004
            return f"this is not a JWK, but {where} is PEM: give that text alone to the command `import`"
    if not members:
        return "this is an empty JSON object, not a JWK"
    return None


# -- a key where a name is expected


def what_is_secret(text: str) -> str | None:
    """Say what a text given as a name looks like, if it looks like a key, a secret or a token, else return None.

    The answer names the function that takes it, and repeats nothing of it.
    """
    what = what_is_key_or_token(text)
    if what is None and len(text) > _MAX_NAME_CHARACTERS:
        return "content: Key.from_str takes a key"
    if what is None and _is_random(_bare(text)):
        return "a secret: Key.from_secret takes it"
    return what


def what_is_key_or_token(text: str) -> str | None:
    """Say the same where it is sure: an id or a label can look like a secret, but not like a key or a token."""
    bare = _bare(text)
    if bare.startswith(("-----BEGIN ", "LS0tLS1CRUdJTi")) or "PRIVATE KEY-" in bare:
        return "a PEM key: Key.from_pem takes it"
    if '"keys"' in bare:
        return "a JWK set: KeySet.from_str takes it"
    if bare.startswith(("{", "[{")) or '"kty"' in bare:
        return "a key: Key.from_str takes it"
    if bare.startswith(("eyJ", "eyA", "ewo", "ew0")):
        return "a token" if bare.count(".") > 1 else "a key in base64url: Key.from_str takes it"
    if bare.startswith((*_SSH, "AGE-SECRET-KEY-")) and " " in bare:
        return "a key of another kind"
    return None


def _bare(text: str) -> str:
    return text.strip(" \t\r\n\ufeff'\"`")


_RANDOM_CHARACTERS, _RANDOM_HEX_DIGITS = 40, 32


def _is_random(text: str) -> bool:
    """Whether a word looks like random bytes in hexadecimal or base64, which is not a file name."""
    if len(text) < _RANDOM_HEX_DIGITS or not text.isascii():
        return False
    word = text.rstrip("=")
    if word.strip("0123456789abcdefABCDEF") == "":
        return True
    body = word.replace("-", "").replace("_", "")
    if text.endswith("="):
        body = body.replace("+", "").replace("/", "")
    mixed = any(map(str.isdigit, body)) and any(map(str.isupper, body)) and any(map(str.islower, body))
    return len(text) >= _RANDOM_CHARACTERS and body.isalnum() and mixed


def secret_in_place_of_path(path: str) -> str | None:
    """Say what a path looks like: a key, a secret or a token. Return None for others, and for existing paths."""
    what = what_is_secret(path)
    return None if what is None or os.path.lexists(path) else what


def check_name(name: str) -> None:
    """Refuse a key, secret or token given as a path, unless something of that name exists.

    Raises ``InvalidKeyError``, whose message does not repeat it: the error of the operating system would.
    """
    what = secret_in_place_of_path(name)
    if what is not None:
        raise InvalidKeyError(f"expected a path, but this looks like {what}")
