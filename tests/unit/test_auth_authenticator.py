"""The Authenticator: what it fetches, what it caches, and that an outage never admits a client."""

from __future__ import annotations

import asyncio
import json
import traceback
import unicodedata
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moq_token import (
    Algorithm,
    Claims,
    ConfigError,
    Error,
    Key,
    KeyId,
    KeyNotFoundError,
    RefusedError,
    Scope,
    UnavailableError,
)
from moq_token.auth import (
    AuthConfig,
    Authenticator,
    Certificate,
    ClientTls,
    Connection,
    Grant,
    PublicAccess,
    Rejection,
    Transport,
    authenticator,
)
from moq_token.auth.api import parse_answer, parse_public, public_api_url
from tests.forge import NOW, b64, jwk_of, mac, token

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from moq_token.trace import Trace

KEY = Key.generate("HS256", "one")
CLAIMS = Claims("rooms", publish="alice", subscribe="", expires=NOW + 60)
TOKEN = KEY.sign(CLAIMS)
GRANT = Grant("rooms", ("alice",), ("",), NOW + 60, "one")
API = "https://api.example/auth"


class Counting(Key):
    """A key that counts how often it verifies."""

    verified = 0

    def verify(
        self,
        token: str,
        *,
        now: float | None = None,
        leeway: float = 0,
        strict: bool = False,
        trace: Trace | None = None,
    ) -> Claims:
        Counting.verified += 1
        return super().verify(token, now=now, leeway=leeway, strict=strict, trace=trace)


def counting(key: Key) -> Key:
    return Counting.from_str(key.to_json())


class Source:
    """A source that returns what the test has set last, and counts the calls."""

    def __init__(self, answer: Key | Error) -> None:
        self.answer = answer
        self.asked: list[KeyId | None] = []
        self.closed = False

    async def get(self, kid: KeyId | None, /) -> Key:
        self.asked.append(kid)
        await asyncio.sleep(0)
        if isinstance(self.answer, Error):
            raise self.answer
        return self.answer

    async def aclose(self) -> None:
        self.closed = True


class Fetcher:
    """A fetcher that returns a body for each URL, and counts the requests."""

    def __init__(self, *bodies: tuple[str, object]) -> None:
        self.bodies = dict(bodies)
        self.asked: list[str] = []

    async def fetch(self, url: str) -> bytes:
        self.asked.append(url)
        if url not in self.bodies:
            raise UnavailableError("nobody is there")
        body = self.bodies[url]
        return body if isinstance(body, bytes) else json.dumps(body).encode()


class Clock:
    def __init__(self) -> None:
        self.now: float = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def count() -> None:
    Counting.verified = 0


def rooms(text: str | None = TOKEN) -> Connection:
    return Connection("/rooms", text)


def run(body: Callable[[Authenticator], Awaitable[None]], config: AuthConfig | None = None, **options: Any) -> None:  # noqa: ANN401 - those of Authenticator
    async def main() -> None:
        async with Authenticator(config or AuthConfig(), **{"clock": lambda: NOW, **options}) as opened:
            await body(opened)

    asyncio.run(main())


async def reason(opened: Authenticator, connection: Connection) -> str:
    with pytest.raises(RefusedError) as caught:
        await opened.authenticate(connection)
    return caught.value.reason


# -- remembering


def test_a_token_that_comes_back_is_not_verified_again_though_its_key_is_asked_for() -> None:
    source = Source(counting(KEY))

    async def body(opened: Authenticator) -> None:
        for _ in range(5):
            assert await opened.authenticate(rooms()) == GRANT
        assert Counting.verified == 1
        assert source.asked == [KeyId("one")] * 5
        # The cache holds the claims of the token, not what it grants at a path.
        assert (await opened.authenticate(Connection("/rooms/alice", TOKEN))).publish == ("",)
        assert await reason(opened, Connection("/halls", TOKEN)) == "root-mismatch"
        assert Counting.verified == 1

    run(body, keys=source)


def test_remembering_can_be_turned_off() -> None:
    async def body(opened: Authenticator) -> None:
        for _ in range(3):
            assert await opened.authenticate(rooms()) == GRANT
        assert Counting.verified == 3

    run(body, keys=Source(counting(KEY)), remember=0)
    with pytest.raises(ValueError, match="remember"):
        Authenticator(AuthConfig(key="a"), remember=-1)


def test_the_same_key_read_again_counts() -> None:
    source = Source(counting(KEY))

    async def body(opened: Authenticator) -> None:
        await opened.authenticate(rooms())
        source.answer = counting(KEY)
        assert await opened.authenticate(rooms()) == GRANT
        assert Counting.verified == 1

    run(body, keys=source)


@pytest.mark.parametrize(
    ("key", "refused"),
    [
        (Key.generate("HS256", "one"), "bad-signature"),
        (Key.generate("HS512", "one"), "wrong-algorithm"),
        (KEY.with_scope(Scope("rooms", publish="bob", subscribe="")), "scope-exceeded"),
        (KEY.with_operations(["sign"]), "unknown-key"),
        (KeyNotFoundError("withdrawn"), "unknown-key"),
    ],
)
def test_a_key_that_was_changed_or_withdrawn_counts_at_once(key: Key | Error, refused: str) -> None:
    source = Source(KEY)

    async def body(opened: Authenticator) -> None:
        assert await opened.authenticate(rooms()) == GRANT
        source.answer = key
        assert await reason(opened, rooms()) == refused
        assert await reason(opened, rooms()) == refused
        source.answer = KEY
        assert await opened.authenticate(rooms()) == GRANT

    run(body, keys=source)


def test_a_token_is_not_admitted_from_memory_while_its_key_cannot_be_had() -> None:
    source = Source(KEY)

    async def body(opened: Authenticator) -> None:
        await opened.authenticate(rooms())
        source.answer = UnavailableError("down")
        with pytest.raises(UnavailableError, match="down"):
            await opened.authenticate(rooms())

    run(body, keys=source)


def test_a_remembered_token_expires_to_the_second() -> None:
    clock = Clock()

    async def body(opened: Authenticator) -> None:
        await opened.authenticate(rooms())
        clock.now = NOW + 59.999
        assert await opened.authenticate(rooms()) == GRANT
        for clock.now in (NOW + 60, NOW + 61, float("nan"), float("inf")):
            assert await reason(opened, rooms()) == "expired"

    run(body, keys=Source(KEY), clock=clock)


def test_a_clock_put_back_has_the_token_verified_again() -> None:
    clock = Clock()
    native = bytes(32)
    key = Key.from_str(json.dumps(jwk_of(Algorithm.HS256, native) | {"alg": "HS256", "kid": "one"}))
    payload = {"put": [""], "nbf": NOW}
    text = token(
        Algorithm.HS256, payload, {"alg": "HS256", "kid": "one"}, lambda data: mac(Algorithm.HS256, native, data)
    )

    async def body(opened: Authenticator) -> None:
        await opened.authenticate(rooms(text))
        clock.now = NOW - 1
        assert await reason(opened, rooms(text)) == "not-yet-valid"
        clock.now = NOW
        await opened.authenticate(rooms(text))

    run(body, keys=Source(key), clock=clock)


def test_what_is_remembered_is_bounded_and_the_oldest_goes_first() -> None:
    tokens = [KEY.sign(Claims("rooms", publish=str(number))) for number in range(4)]

    async def body(opened: Authenticator) -> None:
        async def admit(*numbers: int) -> int:
            before = Counting.verified
            for number in numbers:
                assert (await opened.authenticate(rooms(tokens[number]))).publish == (str(number),)
            return Counting.verified - before

        assert await admit(0, 1, 2) == 3
        assert await admit(0) == 0
        assert await admit(3) == 1  # and 1, which has not come back for longest, is forgotten
        assert await admit(0, 2, 3) == 0
        assert await admit(1) == 1

    run(body, keys=Source(counting(KEY)), remember=3)


def test_bad_tokens_push_no_good_one_out() -> None:
    forger = Key.generate("HS256", "one")

    async def body(opened: Authenticator) -> None:
        await opened.authenticate(rooms())
        for number in range(20):
            assert await reason(opened, rooms(forger.sign(Claims("rooms", publish=str(number))))) == "bad-signature"
        before = Counting.verified
        assert await opened.authenticate(rooms()) == GRANT
        assert Counting.verified == before

    run(body, keys=Source(counting(KEY)), remember=1)


def test_a_long_token_is_not_remembered() -> None:
    text = KEY.sign(Claims("rooms", publish="x" * 2000))

    async def body(opened: Authenticator) -> None:
        await opened.authenticate(rooms(text))
        await opened.authenticate(rooms(text))
        assert Counting.verified == 2

    run(body, keys=Source(counting(KEY)))


def test_another_spelling_of_a_remembered_token_is_another_token() -> None:
    head, payload, signature = TOKEN.split(".")

    async def body(opened: Authenticator) -> None:
        await opened.authenticate(rooms())
        for text in (
            f"{head}.{payload}.{signature}=",
            f"{head}.{payload}.{signature[:-4]}AAAA",
            f"{head}.{b64(CLAIMS.to_json().replace('alice', 'carol').encode())}.{signature}",
        ):
            assert await reason(opened, rooms(text)) in {"malformed", "bad-signature"}

    run(body, keys=Source(KEY))


def test_many_at_once_get_their_own_answers() -> None:
    good = [KEY.sign(Claims("rooms", publish=str(number))) for number in range(50)]
    bad = [Key.generate("HS256", "one").sign(CLAIMS) for _ in range(50)]

    async def body(opened: Authenticator) -> None:
        outcomes = await asyncio.gather(
            *(opened.authenticate(rooms(text)) for text in good + bad), return_exceptions=True
        )
        assert [getattr(grant, "publish", None) for grant in outcomes[:50]] == [(str(number),) for number in range(50)]
        assert [getattr(error, "reason", None) for error in outcomes[50:]] == ["bad-signature"] * 50

    run(body, keys=Source(KEY), remember=10)


# -- requests


@pytest.mark.parametrize("kid", ["", "../one", "a/b", "one.jwk", "%6fne", "k" * 129, "ońe", "one\n", "https://evil/"])
def test_a_bad_kid_reaches_no_source_and_no_server(kid: str) -> None:
    text = token(Algorithm.HS256, head={"alg": "HS256", "kid": kid})
    source, fetcher = Source(KEY), Fetcher()

    async def body(opened: Authenticator) -> None:
        with pytest.raises(RefusedError) as caught:
            await opened.authenticate(rooms(text))
        assert caught.value.reason == "bad-kid"
        assert Rejection.of(caught.value) == Rejection.of(KeyNotFoundError("x"))

    run(body, keys=source)
    run(body, AuthConfig(auth_api=API), fetcher=fetcher)
    assert source.asked == fetcher.asked == []


def test_whether_a_key_exists_cannot_be_told_from_outside() -> None:
    forged = Key.generate("HS256", "one").sign(CLAIMS)
    source = Source(KEY)

    async def body(opened: Authenticator) -> None:
        told = set()
        for source.answer in (KEY, KeyNotFoundError("no"), KEY.with_operations(["sign"]), Key.generate("ES256")):
            with pytest.raises(RefusedError) as caught:
                await opened.authenticate(rooms(forged))
            told.add(Rejection.of(caught.value))
        assert told == {Rejection(401, "unauthorized")}

    run(body, keys=source)


def test_the_question_to_auth_api_says_everything_but_the_token() -> None:
    fetcher = Fetcher()
    certificate = Certificate(NOW + 1)

    async def body(opened: Authenticator) -> None:
        for connection in (
            Connection("//a b/c&d=e/", TOKEN, Transport.WEBSOCKET),
            Connection("/", TOKEN, Transport.QUIC, certificate),
            Connection("/%2F"),
        ):
            with pytest.raises(UnavailableError):
                await opened.authenticate(connection)

    run(body, AuthConfig(auth_api=f"{API}?node=7#x"), fetcher=fetcher)
    assert fetcher.asked == [
        f"{API}?node=7&root=a+b%2Fc%26d%3De&kid=one&transport=websocket",
        f"{API}?node=7&root=&mtls=true&transport=quic",
        f"{API}?node=7&root=%252F",
    ]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"true",
        b"{",
        b"\xff",
        b"[" * 100_000,
        b'{"key": 1}',
        b'{"key": "%s"}' % TOKEN.encode(),
        b'{"key": {"kty": "oct", "alg": "none", "k": ""}}',
        b'{"public": [""]}',
        b'{"public": {"publish": ""}}',
        b'{"public": {"publish": [null]}}',
        b'{"alias": 1}',
        b'{"tier": false}',
        b'{"alias": "\\ud800"}',
        b'{"public": {"publish": [""]}, "public": {}}',
        b'{"alias": NaN}',
    ],
)
def test_an_answer_that_is_not_wholly_good_admits_nobody(body: bytes) -> None:
    fetcher = Fetcher((f"{API}?root=rooms&kid=one", body), (f"{API}?root=rooms", body))

    async def ask(opened: Authenticator) -> None:
        for connection in (rooms(), rooms(None), Connection("/rooms", TOKEN, certificate=Certificate())):
            with pytest.raises(UnavailableError):
                await opened.authenticate(connection)

    fetcher.bodies[f"{API}?root=rooms&mtls=true"] = body
    run(ask, AuthConfig(auth_api=API), fetcher=fetcher)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["alias", "public", "publish", "subscribe", "key", "tier", "kty", "alg", "k", "scope"]),
            inner,
        )
    ),
    max_leaves=12,
)


@given(JSON.map(json.dumps).map(str.encode) | st.binary(max_size=64))
def test_any_answer_is_read_or_unavailable(body: bytes) -> None:
    for parse in (parse_answer, parse_public):
        try:
            parse(body, "/path")
            message = ""
        except UnavailableError as error:
            message = str(error)
        assert "\n" not in message


@given(st.text(max_size=20).map(lambda text: f"/{text}"), st.sampled_from(["", "/", "?a=b"]))
def test_no_path_leads_out_of_the_public_access_url(path: str, end: str) -> None:
    url = public_api_url(f"https://api.example/public{end}", path)
    if url is None:
        # Only what can be read as a dot is left out: one that is encoded, or that Unicode normalization makes of it.
        assert "%" in path or "." in unicodedata.normalize("NFKC", path)
        return
    assert url.isascii()
    assert url.startswith("https://api.example/public/")
    assert not {".", ".."} & {part.lower().replace("%2e", ".") for part in urlsplit(url).path.split("/")}
    assert "\\" not in url
    assert "#" not in url


def test_the_query_of_the_public_access_url_counts_at_the_top_only() -> None:
    assert public_api_url("https://api.example/public?a=b", "/") == "https://api.example/public/?a=b"
    assert public_api_url("https://api.example/public?a=b", "/x?y#z") == "https://api.example/public/x%3Fy%23z"


def test_the_public_access_url_is_asked_only_where_no_prefix_fits() -> None:
    config = AuthConfig(public=PublicAccess(("static",), (), "https://api.example/p"))
    fetcher = Fetcher(("https://api.example/p/rooms", {"publish": ["", "x"]}), ("https://api.example/p/empty", {}))

    async def body(opened: Authenticator) -> None:
        assert await opened.authenticate(Connection("/static/1")) == Grant("static/1", (), ("",))
        assert await opened.authenticate(Connection("/")) == Grant("", (), ("static",))
        assert fetcher.asked == []
        assert await opened.authenticate(rooms(None)) == Grant("rooms", ("",), ())
        assert await reason(opened, Connection("/empty")) == "token-expected"
        assert await reason(opened, Connection("/a/../b")) == "token-expected"
        assert await reason(opened, rooms()) == "no-key-source"
        with pytest.raises(UnavailableError):
            await opened.authenticate(Connection("/elsewhere"))
        assert len(fetcher.asked) == 3

    run(body, config, fetcher=fetcher)


def test_a_token_checked_by_auth_api_is_remembered_no_longer_than_its_key() -> None:
    url = f"{API}?root=rooms&kid=one"
    fetcher = Fetcher((url, {"key": json.loads(KEY.to_json()), "alias": "x7", "tier": "gold"}))

    async def body(opened: Authenticator) -> None:
        for _ in range(2):
            grant = await opened.authenticate(rooms())
            assert grant == Grant("x7", ("alice",), ("",), NOW + 60, "one", "gold")
        fetcher.bodies[url] = {}
        assert await reason(opened, rooms()) == "unknown-key"
        fetcher.bodies[url] = {"key": json.loads(Key.generate("HS256", "one").to_json())}
        assert await reason(opened, rooms()) == "bad-signature"
        del fetcher.bodies[url]
        with pytest.raises(UnavailableError):
            await opened.authenticate(rooms())

    run(body, AuthConfig(auth_api=API), fetcher=fetcher)


# -- opening and closing


def test_it_decides_only_while_it_is_open(tmp_path: Path) -> None:
    path = tmp_path / "key.jwk"
    KEY.to_file(path)
    made = Authenticator(AuthConfig(key=str(path)), clock=lambda: NOW)

    async def main() -> None:
        for _ in range(2):
            with pytest.raises(RuntimeError, match="async with"):
                await made.authenticate(rooms())
            async with made:
                assert await made.authenticate(rooms()) == GRANT
        await made.aclose()

    asyncio.run(main())


def test_what_was_given_stays_open_and_every_token_is_forgotten() -> None:
    source = Source(counting(KEY))
    made = Authenticator(AuthConfig(), keys=source, clock=lambda: NOW)

    async def main() -> None:
        for _ in range(2):
            async with made:
                assert await made.authenticate(rooms()) == GRANT

    asyncio.run(main())
    assert not source.closed
    assert Counting.verified == 2


def test_what_was_opened_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = Source(KEY)
    monkeypatch.setattr(authenticator, "open_source", lambda *_, **__: source)

    async def body(opened: Authenticator) -> None:
        assert await opened.authenticate(rooms()) == GRANT
        assert not source.closed

    run(body, AuthConfig(key_dir=str(tmp_path)))
    assert source.closed


@pytest.mark.parametrize(
    ("config", "named"),
    [
        (AuthConfig(), "nothing is configured"),
        (AuthConfig(domains=("cdn.example",), mtls_tier="x"), "nothing is configured"),
        (AuthConfig(public=PublicAccess()), "nothing is configured"),
    ],
)
def test_nothing_is_no_configuration(config: AuthConfig, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        Authenticator(config)


@pytest.mark.parametrize("member", ["key", "key_dir", "auth_api"])
def test_there_is_one_source_of_keys(member: str) -> None:
    with pytest.raises(ConfigError, match=f"`{member}`"):
        Authenticator(AuthConfig(**{member: API}), keys=Source(KEY))  # type: ignore[arg-type]


class FakeHttp(Fetcher):
    """A replacement for the real fetcher that only records that it is opened and closed."""

    made: list[FakeHttp]

    def __init__(self, tls: ClientTls) -> None:
        super().__init__()
        self.tls, self.closed = tls, False
        self.made.append(self)

    async def aclose(self) -> None:
        self.closed = True


@pytest.fixture
def https(monkeypatch: pytest.MonkeyPatch) -> list[FakeHttp]:
    made: list[FakeHttp] = []
    monkeypatch.setattr(FakeHttp, "made", made, raising=False)
    monkeypatch.setattr(authenticator, "Http", FakeHttp)
    return made


def test_http_is_opened_where_it_is_needed_and_closed_whatever_happens(tmp_path: Path, https: list[FakeHttp]) -> None:
    async def nothing(_: Authenticator) -> None: ...

    run(nothing, AuthConfig(key_dir=str(tmp_path), tls=ClientTls(("missing.pem",))))
    run(nothing, AuthConfig(auth_api=API), fetcher=Fetcher())
    assert https == []

    tls = ClientTls(disable_verify=True)
    run(nothing, AuthConfig(auth_api=API, tls=tls))
    run(nothing, AuthConfig(key_dir="https://keys.example", tls=tls), fetcher=Fetcher())
    with pytest.raises(ConfigError, match=r"`key`: file not found: missing.jwk"):
        run(nothing, AuthConfig(key="missing.jwk", public=PublicAccess(api=API), tls=tls))
    assert [http.tls for http in https] == [tls] * 3
    assert all(http.closed for http in https)


@pytest.mark.parametrize(
    ("member", "value", "named"),
    [
        ("key", "", "`key`"),
        ("key", "missing.jwk", "`key`"),
        ("key", ".", "`key`"),
        ("key", "a\0b", "`key`"),
        ("key", "ftp://hunter2@keys.example/key.jwk", "`key`"),
        ("key", "https://hunter2@/", "`key`"),
        ("key_dir", "", "`key_dir`"),
        ("key_dir", "missing", "`key_dir`"),
        ("key_dir", "http://user:hunter2@[::1", "`key_dir`"),
    ],
)
def test_a_place_that_is_none_is_found_at_the_start(
    member: str, value: str, named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nothing(_: Authenticator) -> None: ...

    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=named) as caught:
        run(nothing, AuthConfig(**{member: value}))  # type: ignore[arg-type]
    assert "hunter2" not in str(caught.value)


def test_a_new_key_counts_at_once(tmp_path: Path) -> None:
    path = tmp_path / "one.jwk"
    path.write_text(KEY.to_json(), encoding="utf-8")

    async def body(opened: Authenticator) -> None:
        assert await opened.authenticate(rooms()) == GRANT
        path.unlink()
        assert await reason(opened, rooms()) == "unknown-key"
        Key.generate("ES384", "one").to_file(path)
        assert await reason(opened, rooms()) == "wrong-algorithm"
        path.write_text("{", encoding="utf-8")
        with pytest.raises(UnavailableError):
            await opened.authenticate(rooms())
        path.write_text(KEY.to_json(), encoding="utf-8")
        assert await opened.authenticate(rooms()) == GRANT

    run(body, AuthConfig(key_dir=str(tmp_path)))


# -- secrets


def connections() -> list[Connection]:
    """Return connections that are refused, each with a token that contains the secret word."""
    word = "hunter2hunter2"
    forged = Key.generate("HS256", "one")
    return [
        rooms(f"{word}.{word}.{word}"),
        rooms(word),
        rooms(f"{TOKEN}{word}"),
        rooms(f"{TOKEN.rpartition('.')[0]}.{b64(word.encode())}"),
        rooms(forged.sign(Claims("rooms", publish=word))),
        rooms(KEY.sign(Claims("rooms", publish=word, expires=1))),
        rooms(KEY.with_kid("other").sign(Claims("halls", publish=word))),
    ]


async def trace_of(opened: Authenticator, connection: Connection) -> str:
    try:
        await opened.authenticate(connection)
    except RefusedError as error:
        traced = traceback.TracebackException.from_exception(error, capture_locals=True)
        return "".join(traced.format()) + str(error) + repr(error)
    raise AssertionError("it was not refused")


def test_no_traceback_shows_a_token_or_a_key() -> None:
    async def body(opened: Authenticator) -> None:
        for connection in connections():
            trace = await trace_of(opened, connection)
            assert (connection.token or "") not in trace
            assert (connection.token or "").rpartition(".")[2] not in trace
            assert str(json.loads(KEY.to_json())["k"]) not in trace

    url = f"{API}?root=rooms&kid="
    answer = {"key": json.loads(KEY.to_json())}
    run(body, keys=Source(KEY))
    run(body, AuthConfig(auth_api=API), fetcher=Fetcher((f"{url}one", answer), (f"{url}other", answer)))
    run(body, AuthConfig(public=PublicAccess(("",), ("",))))


@pytest.mark.parametrize("url", ["http://127.0.0.1:99999/a", "http://h:x/a", "http://h:0/a", "http://:1/a"])
def test_a_url_without_a_good_port_is_no_configuration(url: str) -> None:
    with pytest.raises(ConfigError, match="must be a valid http:// or https:// URL"):
        AuthConfig(auth_api=url)


@pytest.mark.parametrize("member", ["auth_api", "public"])
def test_an_error_of_asking_shows_no_url(member: str) -> None:
    """The secret is neither in the message nor in the local variables of the frames, which crash reports print."""
    url = "http://user:hunter2@127.0.0.1:1/a?k=hunter2"
    config = AuthConfig(auth_api=url) if member == "auth_api" else AuthConfig(public=PublicAccess(api=url))
    del url

    async def ask() -> None:
        async with Authenticator(config) as authenticator:
            await authenticator.authenticate(Connection("/x"))

    with pytest.raises(UnavailableError) as caught:
        asyncio.run(ask())
    shown = traceback.TracebackException.from_exception(caught.value, capture_locals=True).format()
    assert "hunter2" not in "".join(shown)
