"""Connections: parse the URL that a client dialed. The table of decisions tests the rules; these are edge cases."""

from __future__ import annotations

import copy
import pickle
import traceback
from dataclasses import FrozenInstanceError
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from moq_token import NotAdmittedError
from moq_token.auth import Certificate, Connection, Transport
from moq_token.auth.connection import MAX_URL_CHARACTERS

if TYPE_CHECKING:
    from collections.abc import Callable

TOKEN = "eyJhbGciOiJIUzI1NiJ9.c2VjcmV0.c2lnbmF0dXJl"
# What URLs are made of, more often than chance would put it there.
PIECES = st.lists(
    st.one_of(
        st.sampled_from(
            [
                "https://",
                "moqt://",
                "/",
                "//",
                "?",
                "#",
                "jwt=",
                "&",
                "..",
                "%2e",
                ".",
                "@",
                ":",
                "[",
                "]",
                "\\",
                "%",
                " ",
            ]
        ),
        st.text(st.characters(), max_size=8),
    ),
    max_size=24,
).map("".join)


def refusal_of(function: Callable[[], object]) -> NotAdmittedError:
    with pytest.raises(NotAdmittedError) as caught:
        function()
    assert caught.value.reason == "bad-url"
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize(
    "url",
    [
        "",
        "/rooms/123",
        "rooms",
        "relay.example/rooms",
        "relay.example:443/rooms",
        "ftp://relay.example/",
        "file:///rooms",
        "javascript:alert(1)",
        "https://",
        "https:///",
        "https://?jwt=x",
        "https://:4443/",
        "https://a b/",
        "https://a%20b/",
        "https://a%2Fb/",
        "https://[::1/",
        "https://relay.example:65536/",
        "https://relay.example:-1/",
        "https://relay.example:4443x/",
        "https://relay.example:" + "9" * 5000,
        "https://relay.example:٤٤٣/",
        "https://relay.example/\ud800",
        "https://" + "ü" * 70 + ".example/",
        "moqt:relay.example",
        "https://relay.example/" + "x" * MAX_URL_CHARACTERS,
    ],
)
def test_what_is_no_url_is_refused(url: str) -> None:
    refusal_of(lambda: Connection.from_url(url))


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("https://relay.example", "/"),
        ("https:relay.example/x", "/x"),
        ("https://relay.example:65535/x", "/x"),
        ("https:////relay.example/x", "/x"),
        ("  https://relay.example/x\n", "/x"),
        ("ht\ntps://relay.example/a\tb", "/ab"),
        ("https://relay.example/a/./b/../c/", "/a/c/"),
        ("https://relay.example/a/..", "/"),
        ("https://relay.example/a/%2E", "/a/"),
        ("https://relay.example/../../a", "/a"),
        ("https://relay.example/a//b", "/a//b"),
        ("https://relay.example/%", "/%"),
        ("https://relay.example/%zz|^", "/%zz|^"),
        ('https://relay.example/"<>`{}', "/%22%3C%3E%60%7B%7D"),
        ("https://bücher.example/x", "/x"),
        ("iroh://node/x", "/x"),
        ("tcp://127.0.0.1:4443/x", "/x"),
    ],
)
def test_the_path_is_what_a_browser_would_send(url: str, path: str) -> None:
    assert Connection.from_url(url).path == path


def test_the_longest_domain_counts_in_any_order_and_case() -> None:
    for domains in (["cdn.example", "usw.cdn.example"], ["USW.CDN.example", ".cdn.example"]):
        assert Connection.from_url("https://a.b.usw.cdn.example/x", domains).path == "/b/a/x"
    assert Connection.from_url("https://a.cdn.example/x", "cdn.example").path == "/a/x"
    assert Connection.from_url("https://a.bücher.example/x", ["xn--bcher-kva.example"]).path == "/a/x"


def test_a_path_with_its_query_still_on_it_is_split() -> None:
    split = Connection.from_path_query("/rooms/1", f"jwt={TOKEN}")
    assert split == Connection.from_path_query(f"/rooms/1?jwt={TOKEN}")
    assert (split.path, split.token) == ("/rooms/1", TOKEN)
    # Of two queries the one that came as such counts.
    assert Connection.from_path_query(f"/rooms/1?jwt={TOKEN}", "a=b").token is None


def test_nothing_is_an_empty_path_or_token() -> None:
    assert Connection("") == Connection("/", "")
    assert Connection("", "").token is None
    assert Connection.from_path_query("").path == "/"


def test_how_it_came_is_kept() -> None:
    certificate = Certificate(expires=5)
    for made in (
        Connection.from_url("https://a/", transport=Transport.QUIC, certificate=certificate),
        Connection.from_path_query("/", transport=Transport.QUIC, certificate=certificate),
    ):
        assert (made.transport, made.certificate) == (Transport.QUIC, certificate)
    for wrong in ("carrier-pigeon", 5, "x" * 10_000):
        with pytest.raises(ValueError, match=r"^transport must be one of quic, websocket, tcp, unix, iroh$"):
            Connection("/", transport=wrong)  # type: ignore[arg-type]
    for path, token in ((5, None), (None, None), ("/", b"x"), ("/", 5)):
        with pytest.raises(TypeError, match="must be a str"):
            Connection(path, token)  # type: ignore[arg-type]


@pytest.mark.parametrize("scheme", ["moqt", "moql", "tcp", "iroh"])
def test_the_host_does_not_count_where_it_does_not_reach_a_relay(scheme: str) -> None:
    dialed = Connection.from_url(f"{scheme}://123.rooms.relay.example/x", ["relay.example"])
    assert (dialed.path, Connection.from_url(f"{scheme}://a b/x").path) == ("/x", "/x")


@pytest.mark.parametrize("function", [Connection.from_url, Connection.from_path_query])
def test_what_is_too_long_is_refused(function: Callable[[str], Connection]) -> None:
    refusal_of(lambda: function("https://a/" + "x" * MAX_URL_CHARACTERS))
    refusal_of(lambda: Connection.from_path_query("/", "x=&" * MAX_URL_CHARACTERS))
    refusal_of(lambda: Connection("/" * (MAX_URL_CHARACTERS + 1)))
    assert len(Connection("/" * MAX_URL_CHARACTERS).path) == MAX_URL_CHARACTERS
    assert Connection.from_url(f"https://{'a' * 253}/x").path == "/x"
    refusal_of(lambda: Connection.from_url(f"https://{'a' * 254}/x"))


def taken(function: Callable[[], Connection]) -> Connection | None:
    """Return the connection, or None where it is refused as it should be."""
    try:
        return function()
    except NotAdmittedError as error:
        reason = error.reason
    assert reason == "bad-url"
    return None


@given(PIECES, st.lists(st.text(max_size=10), max_size=3))
@example("https://\u2024\u2024/", [])
@example("https://relay.example:\u0664/", [])
@example("https://[/?jwt=%", ["."])
def test_any_url_is_a_connection_or_refused(url: str, domains: list[str]) -> None:
    connection = taken(lambda: Connection.from_url(url, domains))
    if connection is not None:
        assert connection.path.startswith("/")
        assert connection.path.isascii()
        assert not {"..", ".", "%2e", "%2E"} & set(connection.path.split("/"))


@given(st.text(st.characters()), st.none() | st.text(st.characters()))
def test_any_path_and_query_are_a_connection_or_refused(path: str, query: str | None) -> None:
    connection = taken(lambda: Connection.from_path_query(path, query))
    if connection is not None:
        assert connection.path == (path.partition("?")[0] or "/")


@pytest.mark.parametrize(
    "connection",
    [
        Connection("/rooms", TOKEN),
        Connection.from_url(f"https://relay.example/rooms?jwt={TOKEN}"),
        Connection.from_path_query("/rooms", f"jwt={TOKEN}"),
    ],
)
def test_the_token_never_shows(connection: Connection) -> None:
    assert connection.token == TOKEN
    for text in (repr(connection), str(connection), f"{connection}", repr([connection]), repr({"c": connection})):
        assert "c2VjcmV0" not in text
        assert "/rooms" in text
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(connection)
    with pytest.raises(FrozenInstanceError):
        connection.token = "other"  # type: ignore[misc]
    with pytest.raises(TypeError):
        copy.deepcopy(connection)


@pytest.mark.parametrize(
    "function",
    [
        lambda: Connection.from_url(f"gopher://relay.example/?jwt={TOKEN}"),
        lambda: Connection.from_url(f"https://:1/?jwt={TOKEN}"),
        lambda: Connection.from_url(f"https://{TOKEN}@:1/"),
        lambda: Connection.from_url(f"https://relay.example:{TOKEN}/"),
        lambda: Connection.from_url(f"https://relay.example/\ud800?jwt={TOKEN}"),
        lambda: Connection.from_path_query("/\ud800", f"jwt={TOKEN}"),
    ],
)
def test_an_error_does_not_carry_the_token(function: Callable[[], object]) -> None:
    error = refusal_of(function)
    trace = traceback.TracebackException.from_exception(error, capture_locals=True)
    assert "c2VjcmV0" not in "".join(trace.format())
