"""Nudges: the settings of relays, the filters that cover sessions, the small HTTP client; and receipts."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moq_token import ConfigError, UnavailableError
from moq_token.server import nudges
from moq_token.server.api import Unreachable
from moq_token.server.nudges import Nudger, parse_relay, parse_relays, queries
from moq_token.server.receipts import ASKING_SECONDS, Pending
from moq_token.server.session import Place, Session

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Iterable, Sequence
    from pathlib import Path

START = 1_800_000_000


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a=http://127.0.0.1:9101", ("a", "127.0.0.1", 9101, None, "")),
        ("a=http://10.1.2.3:9101/", ("a", "10.1.2.3", 9101, None, "")),
        ("=http://relay.internal", ("", "relay.internal", 80, None, "")),
        ("a b=http://[::1]:9101/prefix/", ("a b", "::1", 9101, None, "/prefix")),
        ("a=unix:/run/relay.sock", ("a", "localhost", 0, "/run/relay.sock", "")),
        ("a=unix:///run/relay.sock", ("a", "localhost", 0, "/run/relay.sock", "")),
    ],
)
def test_a_relay(text: str, expected: tuple[Any, ...]) -> None:
    relay = parse_relay(text)
    assert (relay.node, relay.host, relay.port, relay.socket, relay.prefix) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "http://127.0.0.1:9101",
        "a=",
        "a=127.0.0.1:9101",
        "a=https://127.0.0.1:9101",
        "a=ftp://127.0.0.1",
        "a=http://",
        "a=http://x:99999",
        "a=http://x:y",
        "a=http://x/?query",
        "a=http://x/#fragment",
        "a=http://user:hunter2@x:9101",
        "a=http://x/ HTTP/1.1",
        "a=http://x/\r\nhost: y",
        "a\n=http://x",
        "a=unix:",
        "a=unix:x\0y",
        f"{'a' * 257}=http://x",
        f"a=http://{'x' * 1100}",
    ],
)
def test_what_is_no_relay(text: str) -> None:
    with pytest.raises(ConfigError, match="NODE=http://HOST:PORT") as caught:
        parse_relay(text)
    assert "hunter2" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_node_with_two_listeners_is_an_error() -> None:
    with pytest.raises(ConfigError, match="given twice"):
        parse_relays(["a=http://x", "a=http://y"])


# -- filters


def session(session_id: str, path: str = "/room", node: str = "n", **members: Any) -> Session:  # noqa: ANN401
    place = Place(node=node, transport="quic", local=None, server_name=None, alpn=None, role=None)
    blank = dict.fromkeys(("remote", "tls", "token", "jti", "kid", "subject", "issued", "tier", "root", "revalidate"))
    times = {"expires": None, "first": 0.0, "began": 0.0, "last": START, "lease": None}
    return Session(**{"id": session_id, "place": place, "grant": b"", "path": path, **blank, **times, **members})


def named(count: int, path: str = "/room", start: int = 0) -> list[Session]:
    return [session(f"{number:032x}", path) for number in range(start, start + count)]


def filters(concerned: list[Session], known: list[Session]) -> list[str]:
    return list(queries(concerned, Counter(each.path for each in known)))


def pending(sessions: Iterable[Session], started: float = 0.0) -> Pending:
    made = Pending(started)
    for each in sessions:
        made.add(each)
    return made


def test_few_sessions_are_named_one_by_one() -> None:
    few = named(3)
    assert filters(few, few) == [f"id={number:032x}" for number in range(3)]
    assert filters([session("a&b=c d")], []) == ["id=a%26b%3Dc%20d"]


def test_many_sessions_are_covered_by_filters_that_hit_few_others() -> None:
    many = named(100)
    assert filters(many, many) == ["path=room"]
    assert filters(many, [*many, *named(300, start=100)]) == ["path=room"]
    assert len(filters(many, [*many, *named(301, start=100)])) == 100
    spread = [each for number in range(100) for each in named(1, f"/room/{number}", number)]
    assert filters(spread, [*spread, *named(300, "/x", 100)]) == [""]
    assert len(filters(spread, [*spread, *named(301, "/x", 100)])) == 100


@pytest.mark.parametrize("path", ["/a*", "/**", "/", "/" + "x" * 600 + "…"])
def test_a_path_that_is_no_literal_pattern_is_no_filter(path: str) -> None:
    many = named(100, path)
    assert filters(many, many) == [""]
    assert filters(many, [*many, *named(900, "/y", 100)])[0].startswith("id=")


# -- the client


@contextlib.asynccontextmanager
async def answering(
    answers: Sequence[bytes | None], address: str | None = None
) -> AsyncIterator[tuple[str, list[str]]]:
    """Listen, and answer the requests in turn; None closes the connection without an answer."""
    seen: list[str] = []
    todo = list(answers)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                seen.append(head.decode())
                answer = todo.pop(0)
                if answer is None:
                    break
                writer.write(answer)
                await writer.drain()
        writer.close()

    if address is not None:
        server = await asyncio.start_unix_server(serve, address)
        url = f"unix:{address}"
    else:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield url, seen
        server.close()


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 100))


ACCEPTED = b'HTTP/1.1 202 Accepted\r\ncontent-length: 10\r\n\r\n{"ids":[]}'
CHUNKED = b"HTTP/1.1 202 Accepted\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"


@pytest.mark.parametrize("on_a_socket", [False, True])
def test_the_client_asks_as_the_relay_expects(tmp_path: Path, *, on_a_socket: bool) -> None:
    async def work() -> None:
        socket = str(tmp_path / "s") if on_a_socket else None
        async with answering([ACCEPTED, CHUNKED, ACCEPTED], socket) as (url, seen):
            nudger = Nudger(parse_relays([f"n={url}"]))
            await nudger.nudge("n", ["id=1"])
            await nudger.nudge("n", ["path=a%2Fb"])
            await nudger.nudge("n", [""])
            lines = [head.split("\r\n") for head in seen]
            assert [each[0] for each in lines] == [
                "POST /sessions/revalidate?id=1 HTTP/1.1",
                "POST /sessions/revalidate?path=a%2Fb HTTP/1.1",
                "POST /sessions/revalidate HTTP/1.1",
            ]
            host = "localhost" if on_a_socket else url.removeprefix("http://")
            assert lines[0][1:] == [f"host: {host}", "user-agent: moq-token", "content-length: 0", "", ""]
            nudger.close()

    run(work())


def test_a_kept_connection_that_the_relay_has_closed_is_replaced() -> None:
    async def work() -> None:
        async with answering([ACCEPTED, None, ACCEPTED]) as (url, seen):
            nudger = Nudger(parse_relays([f"n={url}"]))
            await nudger.nudge("n", ["id=1"])
            await nudger.nudge("n", ["id=2"])
            assert [head.split(" ")[1].partition("?")[2] for head in seen] == ["id=1", "id=2", "id=2"]
            nudger.close()

    run(work())


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (None, "closed the connection"),
        (b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", "HTTP status 404"),
        (b"HTTP/1.1 302 Found\r\nlocation: http://x/\r\ncontent-length: 0\r\n\r\n", "HTTP status 302"),
        (b"SSH-2.0-OpenSSH\r\n", "not HTTP"),
        (b"HTTP/1.1 202 Accepted\r\ncontent-length: 5\r\n\r\n", "no answer within"),
        (b"HTTP/1.1 500 X\r\ncontent-length: 99999999\r\n\r\n" + b"x" * 2000, "HTTP status 500"),
    ],
)
def test_an_answer_that_is_not_of_a_relay(answer: bytes | None, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nudges, "REQUEST_SECONDS", 0.3 if message == "no answer within" else 10)
    monkeypatch.setattr(nudges, "MAX_ANSWER_BYTES", 1000)

    async def work() -> None:
        async with answering([answer]) as (url, _):
            nudger = Nudger(parse_relays([f"n={url}"]))
            with pytest.raises(UnavailableError, match=message):
                await nudger.nudge("n", ["id=1"])
            nudger.close()

    run(work())


def test_a_relay_that_is_not_there() -> None:
    async def work() -> None:
        nudger = Nudger(parse_relays(["n=http://127.0.0.1:1", "m=unix:/nonexistent/socket"]))
        for node in "n", "m":
            with pytest.raises(UnavailableError):
                await nudger.nudge(node, ["id=1"])

    run(work())


# -- receipts


def test_a_receipt_counts_each_end_once() -> None:
    waiting = pending([session("1"), session("2"), session("3", node="m")], 100.0)
    assert waiting.ended("2", 100.25) == 0.25
    assert waiting.ended("2", 100.5) is None
    assert waiting.ended("4", 100.5) is None
    waiting.missed("m", "http://x", "refused")
    waiting.missed("n", "http://y", "refused")
    assert waiting.ended("1", 99.0) == 0.0  # whatever the clock does
    receipt = waiting.receipt(stored=True)
    assert (receipt.matched, receipt.ended, receipt.alive, receipt.slowest_ms) == (3, 2, ("3",), 250)
    assert [each.node for each in receipt.unreachable] == ["m"]
    assert (receipt.complete, waiting.is_over("n"), waiting.is_over("m"), waiting.is_over()) == (
        False,
        True,
        False,
        False,
    )
    assert waiting.ended("3", 101.0) == 1.0
    done = waiting.receipt(stored=True)
    assert (done.complete, done.unreachable, done.slowest_ms, done.out_by) == (True, (), 1000, None)


@pytest.mark.parametrize(
    ("sessions", "others_by", "out_by"),
    [
        ([{"revalidate": 60, "expires": START + 900}], None, START + 60 + ASKING_SECONDS),
        ([{"revalidate": 60, "expires": START + 5}], None, START + 5),
        ([{"expires": START + 900}], None, START + 900),
        ([{"expires": START + 900}, {"expires": START + 90}], None, START + 900),
        ([{"expires": START + 900}, {}], None, None),  # one has no end
        ([], None, None),
        ([], START + 30.5, START + 31),
        ([{"expires": START + 20}], START + 30, START + 30),
        ([{"expires": START + 20}], math.inf, START + 20),  # others cannot be told
    ],
)
def test_when_the_rest_is_out(sessions: list[dict[str, Any]], others_by: float | None, out_by: int | None) -> None:
    waiting = pending(session(f"{number}", **members) for number, members in enumerate(sessions))
    assert waiting.receipt(stored=False, others_by=others_by).out_by == out_by


@pytest.mark.parametrize(
    ("expires", "expires_by"), [([], None), ([START + 900, START + 90], START + 900), ([START + 900, None], None)]
)
def test_when_the_rest_is_out_in_an_outage(expires: list[int | None], expires_by: int | None) -> None:
    waiting = pending(session(f"{number}", revalidate=60, expires=end) for number, end in enumerate(expires))
    assert waiting.receipt(stored=False).expires_by == expires_by
    # The grants of sessions that are not known may last longer.
    other = Unreachable(node="m", error="not reached yet")
    for receipt in (waiting.receipt(stored=False, unseen=[other]), waiting.receipt(stored=False, starting=other)):
        assert (receipt.expires_by, receipt.complete) == (None, False)


@given(st.lists(st.tuples(st.integers(0, 150), st.floats(0, 10)), max_size=300))
def test_a_receipt_adds_up(ends: list[tuple[int, float]]) -> None:
    waiting = pending(session(f"{number:03}", node=f"n{number % 3}") for number in range(120))
    took = [seconds for number, at in ends if (seconds := waiting.ended(f"{number:03}", at)) is not None]
    receipt = waiting.receipt(stored=False)
    assert receipt.ended == len(took) == len({number for number, _ in ends if number < 120})
    assert len(receipt.alive) == min(100, receipt.matched - receipt.ended)
    assert receipt.complete == (receipt.ended == 120) == waiting.is_over()
    assert receipt.slowest_ms == (round(max(took) * 1000) if took else None)
    assert sum(len(waiting.at(node)) for node in waiting.nodes) == receipt.matched - receipt.ended
