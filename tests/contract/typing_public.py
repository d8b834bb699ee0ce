"""The public interface as programs use it. Only the type checkers read this file; it is never run."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, assert_type

from moq_token import (
    Algorithm,
    Claims,
    ConfigError,
    Error,
    ExpiredTokenError,
    InvalidClaimsError,
    InvalidKeyError,
    InvalidKeyIdError,
    InvalidPatternError,
    InvalidSignatureError,
    InvalidTokenError,
    Key,
    KeyId,
    KeyNotFoundError,
    KeyOperation,
    KeyOperationError,
    KeySet,
    NotYetValidTokenError,
    Pattern,
    Patterns,
    Permissions,
    Reason,
    RefusedError,
    Scope,
    ScopeExceededError,
    UnauthorizedError,
    UnavailableError,
    UnverifiedToken,
    __version__,
    read_unverified,
)
from moq_token.integrations.starlette import Tokens
from moq_token.issuing import Credential, Issuer, SigningKeys, TokenRequest, TokenSource, endpoint

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.requests import Request


def algorithms() -> None:
    assert_type(Algorithm.parse("EC256"), Algorithm)
    assert_type(Algorithm.EDDSA.kty, str)
    assert_type(Algorithm.EDDSA.symmetric, bool)
    text: str = Algorithm.HS256
    version: str = __version__
    print(text, version)  # noqa: T201


def claims() -> None:
    assert_type(Claims(), Claims)
    made = Claims("rooms/123", "alice", [""], cluster=True, expires=timedelta(hours=1), issued=datetime.now(UTC))
    assert_type(made, Claims)
    Claims(root="a", publish=("a", "b"), subscribe={"a"}, expires=5, issued=5)
    Claims("a", (name for name in "ab"), expires=datetime.now(UTC))
    Claims("a", expires=None, issued=None)
    Claims("a", expires="1h").with_expires("7d")
    Claims("a", Pattern("b"), [Pattern("c/*"), "d"], subject="e", id="f", not_before=5)
    assert_type(made.subject, str | None)
    assert_type(made.id, str | None)
    assert_type(made.not_before, int | None)
    assert_type(made.not_before_at, datetime | None)
    assert_type(made.with_subject("a").with_id(None).with_not_before(datetime.now(UTC)), Claims)
    assert_type(made.root, str)
    assert_type(made.publish, tuple[str | Pattern, ...])
    assert_type(made.subscribe, tuple[str | Pattern, ...])
    assert_type(made.cluster, bool)
    assert_type(made.expires, int | None)
    assert_type(made.issued, int | None)
    assert_type(made.expires_at, datetime | None)
    assert_type(made.issued_at, datetime | None)
    assert_type(made.validate(), None)
    assert_type(made.to_json(), str)
    assert_type(made.with_root("a"), Claims)
    assert_type(made.with_publish("a"), Claims)
    assert_type(made.with_subscribe(["a"]), Claims)
    assert_type(made.with_cluster(cluster=False), Claims)
    assert_type(made.with_expires(timedelta(1)), Claims)
    assert_type(made.with_issued(None), Claims)
    assert_type(hash(made), int)

    Claims(5)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    Claims("a", 5)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    Claims("a", expires=5.0)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    Claims("a", issued=timedelta(1))  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    Claims("a", put="b")  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]
    Claims("a", "b", "c", True)  # type: ignore[call-arg] # pyright: ignore[reportCallIssue] # noqa: FBT003
    made.root = "b"  # type: ignore[misc] # pyright: ignore[reportAttributeAccessIssue]


def permissions(made: Claims) -> None:
    allowed = made.authorize("/rooms/123")
    assert_type(allowed, Permissions)
    assert_type(allowed.publish, tuple[str | Pattern, ...])
    assert_type(allowed.subscribe, tuple[str | Pattern, ...])
    assert_type(allowed.can_publish("a"), bool)
    assert_type(allowed.can_subscribe("a"), bool)
    Permissions(publish=("a",), subscribe=("b",))
    Permissions("a", Pattern("b"))
    allowed.publish = ()  # type: ignore[misc] # pyright: ignore[reportAttributeAccessIssue]


def scopes(made: Claims) -> None:
    scope = Scope("project", publish="live", subscribe=["watch"])
    assert_type(scope, Scope)
    assert_type(scope.root, str)
    assert_type(scope.publish, tuple[str | Pattern, ...])
    assert_type(scope.allows(made), bool)
    assert_type(scope.validate(), None)


def patterns() -> None:
    pattern = Pattern("rooms/*/chat")
    assert_type(pattern, Pattern)
    assert_type(Pattern.literal("a"), Pattern)
    assert_type(Pattern.subtree("a"), Pattern)
    assert_type(pattern.matches("a"), bool)
    assert_type(pattern.contains(pattern), bool)
    assert_type(pattern.overlaps(pattern), bool)
    assert_type(pattern.intersect(pattern), tuple[Pattern, ...])
    assert_type(pattern.rebase("a"), tuple[Pattern, ...])
    assert_type(pattern.rooted("a"), Pattern)
    assert_type(pattern.is_subtree, bool)
    assert_type(pattern.prefix, str | None)
    assert_type(sorted([pattern]), list[Pattern])
    union = Patterns(["a", pattern])
    assert_type(union, Patterns)
    assert_type(Patterns(union), Patterns)
    assert_type(iter(union), Iterator[Pattern])
    assert_type(union.contains(union) or union.contains(pattern), bool)
    assert_type(union.intersect(pattern), Patterns)
    assert_type(union.rebase("a"), Patterns)
    pattern.prefix = "a"  # type: ignore[misc] # pyright: ignore[reportAttributeAccessIssue]


def keys(path: Path) -> None:
    key = Key.generate("HS256")
    assert_type(key, Key)
    Key.generate(Algorithm.EDDSA, "root")
    Key.generate(Algorithm.EDDSA, kid=KeyId.random())
    assert_type(Key.from_str("{}"), Key)
    assert_type(Key.from_str(b"{}"), Key)
    assert_type(Key.from_file(path), Key)
    assert_type(Key.from_file("key.jwk"), Key)
    assert_type(Key.from_pem(b"", Algorithm.ES256, kid="a", password="b"), Key)
    assert_type(Key.from_pem("", "ES256", password=b"b"), Key)
    assert_type(key.algorithm, Algorithm)
    assert_type(key.kid, KeyId | None)
    assert_type(key.operations, frozenset[KeyOperation])
    assert_type(key.scope, Scope | None)
    assert_type(key.is_private, bool)
    assert_type(key.to_str(), str)
    assert_type(key.to_json(), str)
    assert_type(key.to_file(path), None)
    assert_type(key.to_file("key.jwk", base64=True, overwrite=False), None)
    assert_type(key.to_pem(), str)
    assert_type(key.to_pem(password="a"), str)
    assert_type(key.to_public(), Key)
    assert_type(key.with_scope(Scope("", "a")), Key)
    assert_type(key.with_scope(None), Key)
    assert_type(key.with_operations(["sign", KeyOperation.VERIFY]), Key)
    assert_type(key.with_kid(None), Key)
    assert_type(key.with_kid("a"), Key)
    assert_type(key.thumbprint(), str)
    assert_type(key.sign(Claims("", "a")), str)
    assert_type(key.verify("a.b.c"), Claims)
    assert_type(key.verify("a.b.c", now=5, leeway=0.5), Claims)
    assert_type(key.verify("a.b.c", now=None, strict=True), Claims)
    key.verify(b"a.b.c")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    key.sign({"root": ""})  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    name: str = KeyId("a")
    print(name)  # noqa: T201


def sets(path: Path, key: Key) -> None:
    made = KeySet([key])
    assert_type(made, KeySet)
    assert_type(made.keys, tuple[Key, ...])
    assert_type(iter(made), Iterator[Key])
    assert_type(len(made), int)
    assert_type(KeySet.from_str("{}"), KeySet)
    assert_type(KeySet.from_file(path), KeySet)
    assert_type(made.to_str(), str)
    assert_type(made.to_file(path, overwrite=False), None)
    assert_type(made.to_public_set(), KeySet)
    assert_type(made.find_key("a"), Key | None)
    assert_type(made.find_supported_key(KeyOperation.SIGN), Key | None)
    assert_type(made.find_supported_key("verify"), Key | None)
    assert_type(made.sign(Claims("", "a")), str)
    assert_type(made.verify("a.b.c", now=1.5, leeway=5, strict=True), Claims)
    for one in made:
        assert_type(one, Key)


def issuing(path: Path) -> None:
    keys = SigningKeys(path)
    SigningKeys("signing", clock=lambda: 1.5)
    assert_type(keys.key, Key)
    assert_type(keys.sign(Claims("", "a")), str)
    Issuer(path, "https://relay", "1h", 86400, style="path", clock=lambda: 1.5)
    issuer = Issuer(keys, relay="https://relay", lifetime=timedelta(hours=1), max_lifetime="24h")
    credential = issuer.grant("a", publish=[Pattern("b"), "c"], subscribe="", subject="d", lifetime=60)
    assert_type(credential, Credential)
    assert_type(issuer.issue(Claims("", "a", subject="d")), Credential)
    assert_type(credential.url + credential.token + credential.server_url, str)
    assert_type(credential.expires + credential.expires_in, int)
    assert_type(credential.subject, str | None)
    assert_type(credential.to_json(), str)
    assert_type(credential.to_members(), dict[str, str | int])


async def token_source(issuer: Issuer) -> None:
    async def fetch() -> dict[str, object]:
        return {}

    source = TokenSource("https://app/token", body={"room_name": "a"}, headers={"Cookie": "a=b"})
    assert_type(await source.get(), Credential)
    assert_type(source.get_sync(), Credential)
    source.forget()
    TokenSource(fetch, clock=lambda: 1.5, jitter=lambda: 0.5)
    TokenSource(lambda: issuer.grant("a", "b", subject="c"))


async def routes(request: Request) -> None:
    tokens = Tokens("keys", clock=lambda: 1.5)
    assert_type(await tokens.claims(request), Claims)
    assert_type(await tokens.permissions("/rooms/{room}")(request), Permissions)


def token_endpoint(issuer: Issuer) -> None:
    async def authorize(asked: TokenRequest) -> Claims:
        assert_type(asked.room_name, str | None)
        assert_type(asked.headers.get("cookie"), str | None)
        return Claims("", "a", subject="b")

    endpoint(issuer, authorize)
    endpoint(issuer, lambda _: Claims("", "a", subject="b"), origins=["https://app"], per_minute=5, clock=lambda: 1.5)


def unverified() -> None:
    read = read_unverified("a.b.c")
    assert_type(read, UnverifiedToken)
    assert_type(read.header, dict[str, object])
    assert_type(read.claims, dict[str, object])


def errors(key: Key) -> None:
    try:
        key.verify("a.b.c").authorize("a")
    except ExpiredTokenError as error:
        assert_type(error.expires, int)
    except NotYetValidTokenError as error:
        assert_type(error.not_before, int)
    except InvalidPatternError as error:
        assert_type(error.reason, str)
    except ScopeExceededError as error:
        assert_type(error.path, str)
    except UnauthorizedError as error:
        assert_type(error.path, str)
    except KeyNotFoundError as error:
        assert_type(error.kid, str | None)
    except (InvalidSignatureError, InvalidTokenError, RefusedError) as error:
        assert_type(error.reason, Reason)
    except (InvalidKeyIdError, KeyOperationError, InvalidKeyError, InvalidClaimsError, ConfigError, UnavailableError):
        pass
    except Error as error:
        print(error)  # noqa: T201
