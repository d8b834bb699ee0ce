"""The command ``import``: make a key of what other programs keep, PEM, a JWK or a shared secret."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from moq_token import Algorithm, Key, KeySet, keytext, pem
from moq_token.cli import keyring, options, output
from moq_token.cli.grammar import command
from moq_token.cli.keys import THUMBPRINT, with_kid, write_keys
from moq_token.encoding import b64encode
from moq_token.errors import InvalidKeyError, InvalidKeyIdError
from moq_token.jwk import KeyOperation
from moq_token.keyset import read_set
from moq_token.recognizer import name_of_members

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_K = TypeVar("_K")
_FORMS = ("text", "hex", "base64", "base64url", "binary")
# The members of a key that are base64url, and the length in bytes that those of a curve have.
_BINARY = ("k", "n", "e", "d", "p", "q", "dp", "dq", "qi", "x", "y")
_COORDINATE_BYTES = {"P-256": 32, "P-384": 48, "Ed25519": 32}


@command(
    "import",
    short_help="Make a key of PEM, a JWK of other tools, or a secret.",
    examples=(
        "import server.pem --algorithm RS256 --kid thumbprint --out private.jwk",
        "import browser.json --kid laptop --out public.jwk",
        "import secret.txt --secret text --algorithm HS256 --kid backend --out root.jwk",
    ),
)
@options.key_argument
@click.option("--algorithm", type=options.ALGORITHM, metavar="ALG", help="Algorithm, where the key does not say.")
@options.kid
@options.password_file
@click.option(
    "--secret",
    "form",
    type=click.Choice(_FORMS),
    metavar="FORM",
    help="The file is a shared secret: text, hex, base64, base64url or binary.",
)
@options.out
@options.base64
@options.force
def import_command(
    file: str | None,
    algorithm: Algorithm | None,
    kid: str | None,
    password_file: str | None,
    form: str | None,
    out: str,
    base64: bool,
    force: bool,
) -> None:
    """Read a key of another program and write it as a JWK.

    PEM may be PKCS#8, PKCS#1, SEC1, a public key or a certificate. A JWK or JWK Set may lack `alg` and `key_ops`, and
    the zero bytes at the start of coordinates. RSA keys need --algorithm, such as RS256.

    With --secret, the file is a secret that signs tokens with HS256 (or HS384, HS512) already. Choose the form in which
    the other program uses it: most take the text as it is, even where it looks like hex or base64.
    """
    where = keyring.source(file)
    text = where.read()
    password = keyring.read_password(password_file, where)
    if form is not None:
        if password is not None:
            raise click.UsageError("--password-file is for PEM, and --secret says that this is a secret")
        keys: Key | KeySet = with_kid(_of(where, lambda: _secret(text, form, algorithm)), kid)
    elif _of(where, lambda: pem.is_pem(keytext.plain(text))):
        keys = with_kid(_of(where, lambda: _pem(text, algorithm, password)), kid)
    elif password is not None:
        raise click.UsageError("--password-file is for PEM, but this is not PEM")
    else:
        keys = _of(where, lambda: _foreign(where, text, algorithm, kid))
    write_keys(keys, Path(out), base64=base64, force=force)
    if isinstance(keys, Key) and keys.kid is None:
        output.hint("the key has no id, so a `key_dir` cannot find it: add --kid NAME or --kid thumbprint")


def _pem(text: bytes, algorithm: Algorithm | None, password: bytes | None) -> Key:
    try:
        return Key.from_pem(text, algorithm, password=password)
    except ValueError as error:
        raise click.UsageError(f"PEM does not name the algorithm of a key: add --algorithm, as {error}") from None


# -- secrets


def _secret(text: bytes, form: str, algorithm: Algorithm | None) -> Key:
    algorithm = algorithm or Algorithm.HS256
    if not algorithm.symmetric:
        raise click.UsageError(f"--secret is for HS256, HS384 and HS512, not for {algorithm}")
    data = text if form == "binary" else keytext.decoded(text)
    if form != "binary" and (data.lstrip().startswith(b"{") or pem.is_pem(data.strip())):
        raise InvalidKeyError("this is a JWK or PEM, not a secret: leave out --secret")
    if form == "text":
        data = data.removesuffix(b"\n").removesuffix(b"\r")
    elif form != "binary":
        decoded = _bytes_of_hex(data) if form == "hex" else keytext.base64_of_any_kind(data)
        if decoded is None:
            raise InvalidKeyError(f"the secret is not valid {form}: is it plain text (--secret text)?")
        data = decoded
    key = Key.from_secret(data, algorithm)
    if form == "text":
        _note_on_text(data)
    return key


def _note_on_text(secret: bytes) -> None:
    """Print notes on white space or quotes in the secret, and on text that another program may decode."""
    if secret != secret.strip():
        output.note("the white space around the secret is part of it")
    elif secret[:1] in {b'"', b"'"} and secret[:1] == secret[-1:]:
        output.note("the quotes around the secret are part of it")
    elif _bytes_of_hex(secret) is not None:
        output.note("the secret is taken as text: if the other program decodes hexadecimal, use --secret hex")
    elif secret.endswith(b"=") and keytext.base64_of_any_kind(secret) is not None:
        output.note("the secret is taken as text: if the other program decodes base64, use --secret base64")


def _bytes_of_hex(text: bytes) -> bytes | None:
    try:
        return bytes.fromhex(text.decode("ascii").strip().removeprefix("0x"))
    except ValueError:
        return None


# -- JWKs of other tools


def _foreign(where: keyring.Source, text: bytes, algorithm: Algorithm | None, kid: str | None) -> Key | KeySet:
    members = keytext.parse_members(text)
    if "keys" not in members:
        return _foreign_key(members, algorithm, kid)
    if kid not in {None, THUMBPRINT}:
        raise click.UsageError("--kid names one key, but this is a set of keys: use --kid thumbprint")

    def read(jwk: dict[str, object]) -> Key:
        return _foreign_key(jwk, None if jwk.get("alg") else algorithm, kid)

    return keyring.noted(where, read_set(members, read))


def _foreign_key(jwk: Mapping[str, object], algorithm: Algorithm | None, kid: str | None) -> Key:
    """Read a JWK that was made for other programs, without the members that a key has only there."""
    what = name_of_members(jwk)
    if what is not None:
        raise InvalidKeyError(what)
    members = _with_usual_numbers(jwk)
    if members.get("use") not in (None, "sig"):
        raise InvalidKeyError("the member `use` says that the key is not for signatures")
    named = members.setdefault("alg", algorithm)
    if named is None and members.get("kty", "oct") in ("oct", "RSA"):
        raise click.UsageError("the key does not say what it is for: add --algorithm, such as HS256 or RS256")
    if algorithm is not None and (Algorithm.EDDSA if named == "Ed25519" else named) != algorithm:
        raise click.UsageError(f"the key says that it is not for {algorithm}: leave --algorithm out")
    if kid is not None:
        members.pop("kid", None)
    members["key_ops"] = _operations(members)
    try:
        key = Key.from_members(members)
    except InvalidKeyIdError as error:
        raise InvalidKeyIdError(f"{error}: give it another with --kid NAME or --kid thumbprint") from None
    if not key.is_private and KeyOperation.VERIFY not in key.operations:
        raise InvalidKeyError("the member `key_ops` lets a public half only sign, which it cannot")
    return with_kid(key, kid)


def _operations(jwk: Mapping[str, object]) -> object:
    """Return `key_ops` without the operations that are not known here."""
    names = jwk.get("key_ops")
    if isinstance(names, list):
        known = [name for name in names if name in list(KeyOperation)]
        if not {KeyOperation.SIGN, KeyOperation.VERIFY} & set(known):
            raise InvalidKeyError("the member `key_ops` says that the key is not for signatures")
        return known
    if names is None and jwk.get("kty") != "oct" and jwk.get("d") is None:
        return [KeyOperation.VERIFY]
    return names


def _with_usual_numbers(jwk: Mapping[str, object]) -> dict[str, object]:
    """Write the numbers of a key as relays read them: some tools use the other alphabet of base64, or another length.

    They drop leading zero bytes of coordinates, or add one to a number for its sign. Loading the key refuses a result
    that is not a point of the curve, or whose halves do not match.
    """
    members = dict(jwk)
    of_curve = jwk.get("kty") in ("EC", "OKP")
    size = _COORDINATE_BYTES.get(str(jwk.get("crv"))) if of_curve else None
    for name in _BINARY:
        value = jwk.get(name)
        data = keytext.base64_of_any_kind(value.encode()) if isinstance(value, str) and value.isascii() else None
        if not data:
            continue  # loading names the member
        number = data.lstrip(b"\0")
        if number and size is not None:
            data = number.rjust(size, b"\0")
        elif number and jwk.get("kty") == "RSA":
            data = number
        members[name] = b64encode(data).decode()
    return members


def _of(where: keyring.Source, read: Callable[[], _K]) -> _K:
    """Name the file that an error is about."""
    try:
        return read()
    except InvalidKeyError as error:
        raise type(error)(f"{where}: {error}") from None
