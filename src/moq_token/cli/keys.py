"""The commands about keys: generate and convert them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from moq_token import Algorithm, Key, KeySet, Scope
from moq_token.cli import grants, keyring, options, output
from moq_token.cli.grammar import command
from moq_token.errors import InvalidKeyIdError, KeyOperationError, shown, shown_path

if TYPE_CHECKING:
    from collections.abc import Iterable

    from moq_token.generations import Generation
    from moq_token.pattern import Pattern

THUMBPRINT = "thumbprint"


@command(
    "generate",
    short_help="Generate a key.",
    examples=(
        "generate --out root.jwk",
        "generate --algorithm EdDSA --out private.jwk --public public.jwk",
        "generate --algorithm ES256 --out-dir signing --public-dir keys",
        'generate --out team.jwk --root project --publish live --subscribe ""',
    ),
    older_key="--out",
)
@click.option("--algorithm", type=options.ALGORITHM, metavar="ALG", default="HS256", help="HS256 (default), EdDSA, …")
@options.kid
@options.key_targets
@click.option("--root", metavar="PATH", help="Scope of the key: path that the others are relative to.")
@grants.grant_option("--publish", "Scope: path or pattern that tokens may let publish. Repeatable.")
@grants.grant_option("--subscribe", "Scope: path or pattern that tokens may let subscribe to. Repeatable.")
@grants.grant_option("--publish-pattern", "Scope: pattern; without * it is one broadcast.", pattern=True)
@grants.grant_option("--subscribe-pattern", "Scope: pattern; without * it is one broadcast.", pattern=True)
@grants.relay_option("Fail if relays of this version (such as 0.14, or all) cannot load the key. Repeatable.")
@options.base64
@options.file_format
@click.option("--no-clobber", is_flag=True, help="Refuse to write where a file exists, instead of keeping a backup.")
@click.option("--force", is_flag=True, help="Replace files that exist, without a backup.")
def generate_command(
    algorithm: Algorithm,
    kid: str | None,
    out: str | None,
    out_dir: str | None,
    public: str | None,
    public_dir: str | None,
    root: str | None,
    publish: tuple[str | Pattern, ...],
    subscribe: tuple[str | Pattern, ...],
    publish_pattern: tuple[Pattern, ...],
    subscribe_pattern: tuple[Pattern, ...],
    relays: tuple[Generation, ...],
    base64: bool,
    file_format: str | None,
    no_clobber: bool,
    force: bool,
) -> None:
    """Generate a key, and write it to a file or to standard output.

    An existing file is kept beside the new one, as root.jwk.1.bak, then root.jwk.2.bak and so on. With --publish or
    --subscribe, the key has a scope: it can only sign tokens within it. Relays before 0.15 cannot load a key whose
    scope has patterns.
    """
    scope = Scope(root or "", (*publish, *publish_pattern), (*subscribe, *subscribe_pattern))
    scoped = bool(scope.publish or scope.subscribe)
    _exclude(out, out_dir, "--out and --out-dir")
    _exclude(public, public_dir, "--public and --public-dir")
    _exclude(base64 or None, file_format if file_format == "json" else None, "--base64 and --format json")
    _exclude(no_clobber or None, force or None, "--no-clobber and --force")
    wants_public = public is not None or public_dir is not None
    if wants_public and algorithm.symmetric:
        raise click.UsageError(f"a key for {algorithm} has no public half: use an asymmetric algorithm, such as EdDSA")
    if root is not None and not scoped:
        raise click.UsageError('--root alone gives no scope: add --publish PATH or --subscribe PATH ("" for all)')

    key = with_kid(Key.generate(algorithm), kid)
    if scoped:
        key = key.with_scope(scope)
    refused = grants.refused_keys(key.scope)
    grants.require(refused, relays)
    targets = [(key, _target(key, out, out_dir))]
    if wants_public:
        targets.append((key.to_public(), _target(key, public, public_dir)))
    if len({_place(path) for _, path in targets}) < len(targets):
        raise click.UsageError("both halves of the key would go to the same file: use two different paths")
    directories = [Path(directory) for directory in (out_dir, public_dir) if directory is not None]
    for _, path in targets:
        output.check_target(path, force=not no_clobber, new_directory=path.parent in directories)
    for directory in directories:
        output.make_directory(directory)
    for half, path in targets:
        write_keys(half, path, base64=base64 or file_format == "base64", force=force, keep=not force and not no_clobber)
    output.note_oddities({"--root": (scope.root,), "--publish": scope.publish, "--subscribe": scope.subscribe})
    grants.note_refused(refused, relays)
    grants.note_full_paths((*scope.publish, *scope.subscribe), relays)


@command(
    "public",
    short_help="Write the public half of a key or of a set.",
    examples=("public private.jwk --out public.jwk", "public - < private.jwk"),
)
@options.key_argument
@options.out
@options.base64
@options.force
def public_command(file: str | None, out: str, base64: bool, force: bool) -> None:
    """Write the public half of a key, or of every key of a set: what a relay needs to verify tokens."""
    keys = keyring.read_signer(keyring.source(file))
    write_keys(
        keys.to_public() if isinstance(keys, Key) else keys.to_public_set(), Path(out), base64=base64, force=force
    )


@command(
    "export",
    short_help="Write a key as PEM.",
    examples=("export private.jwk --out private.pem", "public private.jwk | moq-token export -"),
)
@options.key_argument
@options.password_file
@options.out
@options.force
def export_command(file: str | None, password_file: str | None, out: str, force: bool) -> None:
    """Write a key as PEM: PKCS#8, encrypted where a password is given, or a public key.

    PEM has no room for the algorithm, the id and the scope.
    """
    where = keyring.source(file)
    password = keyring.read_password(password_file, where)
    key = keyring.read_key(where)
    text = key.to_pem(password).removesuffix("\n")
    path = Path(out)
    output.check_target(path, force=force)
    output.write(path, text, private=key.is_private, force=force)


@command("thumbprint", short_help="Print the thumbprint of a key (RFC 7638).", examples=("thumbprint public.jwk",))
@options.key_argument
def thumbprint_command(file: str | None) -> None:
    """Print the thumbprint of a key (RFC 7638, SHA-256), or of every key of a set; both halves have the same."""
    keys = keyring.read_signer(keyring.source(file))
    output.emit("\n".join(key.thumbprint() for key in ([keys] if isinstance(keys, Key) else keys)))


@command(
    "jwks",
    short_help="Write the public JWK Set of keys and directories.",
    examples=("jwks keys/ > jwks.json", "jwks old.jwk new.jwk --out jwks.json"),
)
@click.argument("files", nargs=-1, type=options.FILE, metavar="FILE|DIR…")
@options.out
@options.force
def jwks_command(files: tuple[str, ...], out: str, force: bool) -> None:
    """Write the public JWK Set of keys, of sets, and of the *.jwk files of directories.

    Refuses secrets (HS256 and the like): whoever could read the set could sign.
    """
    keys: dict[Key, None] = {}
    for source in map(keyring.Source, files) if files else [keyring.source(None)]:
        for where, key in _all_keys(source):
            try:
                public = key.to_public()
            except KeyOperationError as error:
                raise KeyOperationError(f"{where}: {error}") from None
            if any(other.kid == public.kid and other.kid is not None for other in keys if other != public):
                raise output.Failed(f"{where}: duplicate key id {shown(public.kid or '')}")
            keys[public] = None
    if not keys:
        raise output.Failed("no keys found")
    if len(keys) > 1 and any(key.kid is None for key in keys):
        output.note("no token can select a key without an id in a set of several keys")
    write_keys(KeySet(keys), Path(out), base64=False, force=force)


def _all_keys(where: keyring.Source) -> Iterable[tuple[keyring.Source, Key]]:
    keys = keyring.read_keys(where)
    if isinstance(keys, keyring.KeyDirectory):
        for path in keys.files():
            yield from _all_keys(keyring.Source(path))
    elif isinstance(keys, keyring.RemoteDirectory):
        raise output.Failed(f"{where}: this directory cannot be listed: name the keys in it")
    else:
        yield from ((where, key) for key in ([keys] if isinstance(keys, Key) else keys))


def _exclude(one: object, other: object, names: str) -> None:
    if one is not None and other is not None:
        raise click.UsageError(f"{names} exclude each other: use one of them")


def with_kid(key: Key, kid: str | None) -> Key:
    """Give a key the id that --kid names, if any. Raises ``click.UsageError``."""
    if kid is None:
        return key
    try:
        return key.with_kid(key.thumbprint() if kid == THUMBPRINT else kid)
    except InvalidKeyIdError as error:
        raise click.UsageError(f"--kid: {error}") from None


def _target(key: Key, file: str | None, directory: str | None) -> Path:
    return Path("-" if file is None else file) if directory is None else Path(directory, f"{key.kid}.jwk")


def _place(path: Path) -> str:
    if "\0" in str(path):
        raise output.Failed(f"invalid file name: {shown_path(path)}")
    if output.is_stdout(str(path)):
        return "-"
    try:
        return os.path.realpath(path)
    except OSError:  # the working directory is gone: writing names the file
        return str(path)


def write_keys(keys: Key | KeySet, path: Path, *, base64: bool, force: bool, keep: bool = False) -> None:
    """Write a key or a set to a file or to standard output. Raises ``Failed`` and ``click.UsageError``."""
    if isinstance(keys, KeySet):
        if base64:
            raise click.UsageError("--base64 is for a single key, but this is a set of keys")
        text, private = keys.to_str(), any(key.is_private for key in keys)
    else:
        text, private = keys.to_str() if base64 else keys.to_json(), keys.is_private
    output.check_target(path, force=force or keep)
    output.write(path, text, private=private, force=force, keep=keep)
