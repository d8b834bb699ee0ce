"""Nodes that share through a real store: caps and denials of all, and what goes on when the store fails."""

from __future__ import annotations

import asyncio
import ssl
import time
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from moq_token.errors import UnavailableError
from moq_token.server.caps import Cap, CapKind
from moq_token.server.denial import Denial
from moq_token.server.share import sharing as sharing_module
from moq_token.server.share.health import DEADLINE_SECONDS
from tests.certificates import Authority
from tests.ports import free_port
from tests.sharing import ONE_PER_TOKEN, admits, instant, session, shared, until
from tests.store import BINARY, Proxy, Server, sentinel, server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from moq_token.server.caps import Caps
    from moq_token.server.share.sharing import Sharing

pytestmark = pytest.mark.skipif(BINARY is None, reason="there is no valkey-server for this platform")

ROOT = Path(__file__).parents[2]
END = int(time.time()) + 86_400
FOREIGN = "another secret of other nodes, for tests"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with server(tmp_path_factory.mktemp("store")) as store:
        yield store


@pytest.fixture
def store(running: Server) -> Server:
    """One server for all tests that do it no harm."""
    with running.client() as client:
        client.flushall()
    return running


def test_the_deadline_leaves_a_relay_time() -> None:
    assert DEADLINE_SECONDS == 0.25


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pull and try again often, so that no test waits for seconds, and be patient with a busy machine."""
    for name in "DEADLINE_SECONDS", "CONNECT_SECONDS":
        monkeypatch.setattr(f"moq_token.server.share.store.{name}", 20)
    monkeypatch.setattr(sharing_module, "START_SECONDS", 20)
    monkeypatch.setattr(sharing_module, "PULL_SECONDS", 0.2)
    monkeypatch.setattr("moq_token.server.share.health.RETRY_SECONDS", 0.05)


def test_caps_count_the_sessions_of_all_nodes(store: Server) -> None:
    async def run() -> None:
        caps: Caps = {CapKind.TOKEN: Cap(2), CapKind.REMOTE: Cap(3)}
        async with shared(store.url, caps) as (one, _), shared(store.url, caps) as (two, _):
            first, second = session("1"), session("2")
            assert await admits(one, first) == [None]
            assert await admits(two, second, session("3")) == [None, "token-limit"]
            assert await admits(two, session("1"), session("2")) == [None, None]  # ids count, connects do not
            assert await admits(one, session("4", b"u"), session("5", b"v")) == [None, "remote-limit"]
            # A refused session takes no place in any cap.
            assert await admits(one, session("5", b"v", remote="192.0.2.8:1")) == [None]
            # A re-check is never refused, also of a session that nobody has counted.
            one.places.refresh(session("6"), instant())
            two.places.release(second, instant())
            one.places.release(first, instant())
            await until(lambda: store_count(store, "t:") == 3)
            assert await admits(two, session("7"), session("8")) == [None, "token-limit"]
            # What a session does not have is not counted.
            assert await admits(two, session("9", remote=None, token=None)) == [None]  # type: ignore[arg-type]

    asyncio.run(run())


def store_count(store: Server, kind: str) -> int:
    """Return the number of leases for the caps of a kind."""
    with store.client() as client:
        return sum(client.zcard(key) for key in client.scan_iter(f"*}}:{kind}*") if not key.endswith(b":starts"))


def test_leases_end(store: Server) -> None:
    async def run() -> None:
        async with shared(store.url, ONE_PER_TOKEN) as (one, _):
            assert await admits(one, session("1"), session("2")) == [None, "token-limit"]
            one.places.refresh(session("1", lease=time.monotonic() + 0.05), instant())
            async with asyncio.timeout(60):
                while await admits(one, session("2")) == ["token-limit"]:  # noqa: ASYNC110 - the store tells nobody
                    await asyncio.sleep(0.01)

    asyncio.run(run())


def test_the_oldest_is_kicked_wherever_it_is(store: Server) -> None:
    async def run() -> None:
        caps: Caps = {CapKind.SUBJECT: Cap(2, kick_oldest=True)}
        async with shared(store.url, caps) as (one, at_one), shared(store.url, caps) as (two, at_two):
            old = session("1")
            assert await admits(one, old) == [None]
            # Each begins after the one before was admitted: of those that begin in one millisecond, any is the oldest.
            for number in "23":
                assert await admits(two, session(number)) == [None]
            await asyncio.wait_for(at_one.heard.wait(), 20)
            assert at_one.kicks == [("1", "subject-limit")]
            assert at_two.kicks == []
            # If the message is lost, as in a restart, the next re-check tells. It takes no place again.
            at_one.heard.clear()
            one.places.refresh(old, instant())
            await asyncio.wait_for(at_one.heard.wait(), 20)
            assert at_one.kicks == [("1", "subject-limit")] * 2
            # The newcomer's own node is told in the answer.
            assert await admits(two, session("4")) == [None]
            assert at_two.kicks == [("2", "subject-limit")]

    asyncio.run(run())


def test_denials_reach_all_nodes(store: Server) -> None:
    async def run() -> None:
        first = Denial(subject="mallory", until=END, at=1.0)
        async with shared(store.url, denials=[first]) as (one, at_one), shared(store.url) as (_, at_two):
            assert list(at_two.known) == [first]  # known before its start was over
            at_two.heard.clear()
            ban = Denial(remote="192.0.2.0/24", until=END, at=2.0, reason="abuse")
            at_one.known.put(ban)
            one.publish([ban])
            await asyncio.wait_for(at_two.heard.wait(), 20)
            assert ban in list(at_two.known)
            lifted = Denial(remote="192.0.2.0/24", until=END, at=3.0, lifted=True)
            at_two.known.put(lifted)  # and its message is lost
            await until(lambda: lifted in list(at_one.known))
            assert at_one.known.in_force(time.time()) == [first] == at_two.known.in_force(time.time())

    asyncio.run(run())


def test_denials_come_back_after_a_flush(store: Server) -> None:
    async def run() -> None:
        ban = Denial(subject="mallory", until=END, at=1.0)
        async with shared(store.url, denials=[ban]):
            with store.client() as client:
                client.flushall()
            async with shared(store.url) as (_, late):
                await until(lambda: list(late.known) == [ban])

    asyncio.run(run())


def test_a_share_with_too_many_denials_says_so_once(
    store: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("moq_token.server.share.denials.MAX_SHARED", 2)
    monkeypatch.setattr(sharing_module, "PULL_SECONDS", 60)
    denials = [Denial(subject=f"mallory{number}", until=END, at=1.0) for number in range(5)]

    async def run() -> None:
        async with shared(store.url, denials=denials) as (one, _), shared(store.url) as (_, at_two):
            assert one.problem is None
            assert len(list(at_two.known)) == 2

    asyncio.run(run())
    assert caplog.text.count("too many denials") == 1


def test_what_others_write_to_the_store_is_skipped(store: Server, caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        ban = Denial(subject="mallory", until=END, at=1.0)
        caps: Caps = {CapKind.TOKEN: Cap(1, kick_oldest=True)}
        async with shared(store.url, caps) as (one, at_one), shared(store.url, denials=[ban]) as (two, _):
            await until(lambda: list(at_one.known) == [ban])
            nodes, denials = one.names.key(b"nodes"), one.names.key(b"denials")
            large, later = b"x" * 2_000_000, time.time() * 1000 + 60_000
            with store.client() as client:
                client.hset(denials, "y" * 16, 25 * large)
                client.hset(denials, large, "z")
                client.hset(denials, "z" * 16, "not a denial")
                client.zadd(nodes, {large: later})
            await until(lambda: "2 records of the store are not denials" in caplog.text)
            assert await admits(one, session("1")) == [None]
            (starts,) = (key for key in client.scan_iter() if key.endswith(b":starts"))
            client.zadd(starts, {large: 1})
            client.zadd(starts.removesuffix(b":starts"), {large: later})
            assert await admits(one, session("2")) == [None]
            assert len(at_one.kicks) == 1
            assert (one.problem, two.problem) == (None, None)
            assert (await one.ask(b'"?"', 20)).missing == ()

    asyncio.run(run())
    assert caplog.text.count("records of the store") <= 2  # once for each node


def test_nodes_with_another_secret_are_not_of_the_share(store: Server) -> None:
    async def run() -> None:
        ban = Denial(subject="mallory", until=END, at=1.0)
        async with shared(store.url, ONE_PER_TOKEN, denials=[ban]) as (one, _):
            assert await admits(one, session("1")) == [None]
            async with shared(store.url, ONE_PER_TOKEN, secret=FOREIGN) as (two, at_two):
                assert await admits(two, session("2")) == [None]
                assert list(at_two.known) == []
                assert two.nodes == (two.node,)

    asyncio.run(run())


def test_nothing_personal_is_stored_in_clear(store: Server) -> None:
    async def run() -> None:
        ban = Denial(subject="mallory", remote="198.51.100.9", until=END, at=1.0, reason="spam", author="operator")
        caps: Caps = {kind: Cap(1, kick_oldest=True) for kind in CapKind}
        with store.client() as watcher, watcher.monitor() as monitor:
            async with shared(store.url, caps, denials=[ban]) as (one, at_one), shared(store.url) as (two, _):
                assert await admits(one, session("sessionid1"), session("sessionid2")) == [None, None]
                await two.ask(b'"subject=mallory"')
                one.publish([ban])
                await until(lambda: at_one.kicks)
            watcher_client = store.client()
            watcher_client.echo("the end")
            seen = ""
            for command in monitor.listen():
                seen += str(command)
                if "the end" in str(command):
                    break
            with watcher_client as client:
                assert all(client.ttl(key) >= 0 for key in client.scan_iter())
                dump = b"".join(key + (client.dump(key) or b"") for key in client.scan_iter())
        for text in "sessionid", "mallory", "alice", "192.0.2.7", "198.51.100.9", "spam", "operator", "/room":
            assert text not in seen
            assert text.encode() not in dump

    asyncio.run(run())


def test_questions_are_answered_by_all_nodes(store: Server) -> None:
    async def run() -> None:
        async with shared(store.url) as (one, _), shared(store.url) as (two, _), shared(store.url) as (three, _):
            await until(lambda: len(one.nodes) == 3)
            answers = await one.ask(b'"limit=3"', 20)
            assert answers.problem is None
            assert answers.missing == ()
            assert answers.answers == {each.node: b'["limit=3"]' for each in (two, three)}
        # A node that is gone without a word is named.
        async with shared(store.url) as (one, _):
            with store.client() as client:
                later = time.time() * 1000 + 60_000
                client.zadd(one.names.key(b"nodes"), {"gone": later, "n" * 257: later})
            await until(lambda: "gone" in one.nodes)
            answers = await one.ask(b'"?"', 0.1)
            assert (answers.missing, answers.gone) == (("gone",), ())


def test_nodes_that_stop_without_leaving_are_missed(store: Server) -> None:
    async def run() -> None:
        async with shared(store.url, place="here:1") as (one, _), shared(store.url, place="here:2"):
            async with shared(store.url, place="here:3"):
                await until(lambda: len(one.nodes) == 3)
            assert (await one.ask(b'"?"')).gone == ()  # it has left
            async with shared(store.url, place="here:3") as (three, at_three):
                at_three.is_busy = True
            assert (await one.ask(b'"?"')).gone == (three.node,)
            async with shared(store.url, place="here:3"):
                assert (await one.ask(b'"?"')).gone == ()  # it is back
            now = time.time() * 1000
            with store.client() as client:
                members = {
                    "here:1-old": now - 1,
                    "here:3-old": now - 1,
                    "here:4-old": now - 1,
                    "here:5-old": now - 3.7e6,
                }
                client.zadd(one.names.key(b"nodes"), members)
            # Of those that were started again, and of those from long ago, nothing is said.
            assert (await one.ask(b'"?"')).gone == tuple(sorted((three.node, "here:3-old", "here:4-old")))

    asyncio.run(run())


def test_a_killed_store_stops_nobody(tmp_path: Path) -> None:
    async def run(store: Server) -> None:
        async with (
            shared(store.url, ONE_PER_TOKEN) as (one, at_one),
            shared(store.url, ONE_PER_TOKEN, required=True) as (two, at_two),
        ):
            first = session("1")
            assert await admits(one, first, session("2")) == [None, "token-limit"]
            await until(lambda: len(one.nodes) == 2)
            store.kill()
            await until(lambda: one.problem and two.problem)
            assert await admits(one, session("2")) == [None]
            assert one.places.alone == 1
            with pytest.raises(UnavailableError, match="the share cannot be asked"):
                await two.places.admit(session("3"), instant())
            ban = Denial(subject="mallory", until=END, at=1.0)
            at_one.known.put(ban)
            one.publish([ban])
            one.places.release(first, instant())
            answers = await one.ask(b'"?"')
            assert answers.problem == one.problem
            assert answers.missing == (two.node,)
            store.start()  # empty
            await until(lambda: not one.problem and not two.problem)
            await until(lambda: list(at_two.known) == [ban])
            assert await admits(two, session("4")) == [None]
            assert await admits(one, session("5")) == ["token-limit"]

    with server(tmp_path) as store:
        asyncio.run(run(store))


def test_a_paused_store_delays_one_decision_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("moq_token.server.share.store.DEADLINE_SECONDS", 2)

    async def run(store: Server) -> None:
        async with shared(store.url, {CapKind.TOKEN: Cap(9)}) as (one, _):
            ended = session("1")
            assert await admits(one, ended) == [None]
            with store.paused():
                waiting = [
                    asyncio.create_task(one.places.admit(session(str(number)), instant())) for number in range(2, 6)
                ]
                async with asyncio.timeout(15):
                    assert await asyncio.gather(*waiting) == [None] * 4
                await until(lambda: one.problem == "no answer within 2000 ms")
                assert one.places.alone == 4
                # Nobody waits for it any more.
                with pytest.raises(StopIteration):
                    one.places.admit(session("7"), instant()).send(None)
                assert await admits(one, session("8")) == [None]
                one.places.release(ended, instant())
            await until(lambda: not one.problem)
            # The end that was reported meanwhile has given its place back.
            newcomers = [session(f"x{number}") for number in range(10)]
            assert (await admits(one, *newcomers)).count(None) == 5

    with server(tmp_path) as store:
        asyncio.run(run(store))


def test_a_slow_store_is_waited_for_up_to_the_deadline(store: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("moq_token.server.share.store.DEADLINE_SECONDS", 2)

    async def run(proxy: Proxy) -> None:
        async with shared(f"redis://127.0.0.1:{proxy.port}", ONE_PER_TOKEN) as (one, _):
            proxy.delay = 0.04
            assert await admits(one, session("1"), session("2")) == [None, "token-limit"]
            proxy.delay = 3
            assert await admits(one, session("2")) == [None]
            await until(lambda: one.problem)
            proxy.delay = 0.0
            await until(lambda: not one.problem)
            assert await admits(one, session("3")) == ["token-limit"]

    proxy = Proxy(store.port)
    try:
        asyncio.run(run(proxy))
    finally:
        proxy.close()


def test_a_full_store_takes_no_part(tmp_path: Path) -> None:
    async def run(store: Server) -> None:
        async with shared(store.url, ONE_PER_TOKEN) as (one, _):
            assert await admits(one, session("1")) == [None]
            with store.client() as client:
                client.config_set("maxmemory", "1")
                await until(lambda: one.problem)
                assert one.problem == "it is full: raise `maxmemory`"
                assert await admits(one, session("2")) == [None]
                client.config_set("maxmemory", "0")
            await until(lambda: not one.problem)
            assert await admits(one, session("3")) == ["token-limit"]

    with server(tmp_path, "--maxmemory-policy", "noeviction") as store:
        asyncio.run(run(store))


def test_a_flushed_store_lets_in_what_it_has_forgotten(store: Server) -> None:
    async def run() -> None:
        caps: Caps = {CapKind.TOKEN: Cap(2)}
        async with shared(store.url, caps) as (one, _):
            first, second = session("1"), session("2")
            assert await admits(one, first, second, session("3")) == [None, None, "token-limit"]
            with store.client() as client:
                client.flushall()
            one.places.refresh(first, instant())
            one.places.refresh(second, instant())
            assert await admits(one, session("4")) == ["token-limit"]

    asyncio.run(run())


@pytest.mark.parametrize(
    ("options", "acl", "userinfo", "problem"),
    [
        (("--requirepass", "right"), "", ":wrong@", "the user or the password is missing or wrong"),
        (("--requirepass", "right"), "", "", "the user or the password is missing or wrong"),
        (("--requirepass", "right"), "", ":right@", None),
        (
            (),
            "on >pass resetchannels ~moq-token:* &moq-token:* -@all +evalsha",
            "moq:pass@",
            "this user is not allowed",
        ),
        ((), "on >pass resetchannels ~moq-token:* &moq-token:* +@all -zadd", "moq:pass@", "this user is not allowed"),
        ((), "on >pass resetchannels ~other:* &moq-token:* +@all", "moq:pass@", "this user is not allowed"),
        ((), "on >pass resetchannels ~moq-token:* &other:* +@all", "moq:pass@", "this user is not allowed"),
        (("--rename-command", "EVALSHA", ""), "", "", "it does not know a command that is needed"),
        (("--rename-command", "SCRIPT", ""), "", "", "it does not know a command that is needed"),
        (("--rename-command", "ZADD", ""), "", "", "it does not know a command that is needed"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_stops(
    tmp_path: Path, options: tuple[str, ...], acl: str, userinfo: str, problem: str | None
) -> None:
    async def run(store: Server) -> None:
        url = store.url.replace("redis://", f"redis://{userinfo}")
        async with shared(url, ONE_PER_TOKEN) as (one, _):
            if problem is not None:
                assert one.problem is not None
                assert one.problem.startswith(problem)
            expected = None if problem is not None else "token-limit"
            assert await admits(one, session("1"), session("2")) == [None, expected]

    with server(tmp_path, *options) as store:
        allow(store, acl)
        asyncio.run(run(store))


def allow(store: Server, acl: str) -> None:
    """Make the user `moq` with these rights."""
    if acl:
        with store.client() as client:
            client.execute_command("ACL", "SETUSER", "moq", *acl.split())


# The commands that the documentation lists for the user of a share.
ACL = (
    "on >pass resetchannels ~moq-token:* &moq-token:* -@all +select +ping +evalsha +script|load +publish +subscribe"
    " +time +pttl +pexpire +zadd +zrem +zcard +zscore +zrange +zrangebyscore +zremrangebyscore +hset +hget +hdel +hlen"
    " +hstrlen +hexists +hkeys"
)


def test_a_user_with_only_what_is_needed(tmp_path: Path) -> None:
    page = (ROOT / "docs/several-machines.md").read_text(encoding="utf-8")
    assert f"ACL SETUSER moq {ACL.replace('>pass', '>PASSWORD')}\n" in page

    async def run(store: Server) -> None:
        url = store.url.replace("redis://", "redis://moq:pass@")
        caps: Caps = {CapKind.TOKEN: Cap(1, kick_oldest=True), CapKind.SUBJECT: Cap(5)}
        ban = Denial(subject="mallory", until=END, at=1.0)
        async with shared(url, caps, denials=[ban]) as (one, at_one), shared(url, caps) as (two, at_two):
            assert await admits(one, session("1"), session("2")) == [None, None]
            await until(lambda: at_one.kicks)
            one.places.release(session("2"), instant())
            assert list(at_two.known) == [ban]
            assert (await two.ask(b'"?"', 20)).missing == ()
            assert one.problem is None

    with server(tmp_path) as store:
        allow(store, ACL)
        asyncio.run(run(store))


def test_tls(tmp_path: Path, store: Server) -> None:
    ours, others = Authority(tmp_path, "ours"), Authority(tmp_path, "others")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*ours.issue("server", "127.0.0.1"))
    proxy = Proxy(store.port, tls=context)

    @asynccontextmanager
    async def trusting(root: str) -> AsyncIterator[Sharing]:
        async with shared(f"rediss://127.0.0.1:{proxy.port}?ssl_ca_certs={root}", ONE_PER_TOKEN) as (one, _):
            yield one
        # asyncio closes the transport of a failed handshake in its own time. What remains is the pipe of the loop.
        files: Any = asyncio.get_running_loop()
        await until(lambda: len(files._selector.get_map()) == 1)  # noqa: SLF001

    async def run() -> None:
        async with trusting(ours.root) as one:
            await until(lambda: one.problem is None)
            assert await admits(one, session("1"), session("2")) == [None, "token-limit"]
        async with trusting(others.root) as one:
            await until(lambda: "certificate is not trusted" in (one.problem or ""))

    try:
        asyncio.run(run())
    finally:
        proxy.close()


def test_cluster(tmp_path: Path) -> None:
    async def run(port: int) -> None:
        async with shared(f"redis+cluster://127.0.0.1:{free_port()},127.0.0.1:{port}", ONE_PER_TOKEN) as (one, _):
            assert one.problem is None
            assert await admits(one, session("1"), session("2")) == [None, "token-limit"]

    with server(tmp_path, "--cluster-enabled", "yes") as store:
        with store.client() as client:
            client.execute_command("CLUSTER", "ADDSLOTS", *range(16384))
            for _ in range(500):
                if b"cluster_state:ok" in (client.execute_command("CLUSTER", "INFO") or b""):
                    break
                time.sleep(0.02)  # until the server has noticed
        asyncio.run(run(store.port))


def test_sentinel_with_a_password(tmp_path: Path, store: Server) -> None:
    """See test_share_failover.py for what it is good for."""

    async def problem(options: str) -> str | None:
        url = f"redis+sentinel://127.0.0.1:{watcher.port}/shared{options}"
        async with shared(url, ONE_PER_TOKEN) as (one, _):
            return one.problem

    watcher = sentinel(tmp_path / "sentinel", store, "requirepass guarded")
    try:
        assert asyncio.run(problem("?sentinel_password=guarded")) is None
        for options in "", "?sentinel_password=wrong":
            assert "the user or the password is missing or wrong" in (asyncio.run(problem(options)) or "")
    finally:
        watcher.kill()
