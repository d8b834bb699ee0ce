"""The parts of a share that talk to nobody: URLs, names, calls, health, and what is kept of denials."""

from __future__ import annotations

import logging
import pickle
import pprint
import time

import pytest

from moq_token.auth.lease import Instant
from moq_token.errors import ConfigError
from moq_token.server.caps import Cap, CapKind
from moq_token.server.denial import Denial
from moq_token.server.share.caps import MAX_LEASE_SECONDS, SharedCaps
from moq_token.server.share.denials import MAX_RECORD_BYTES, SharedDenials
from moq_token.server.share.health import RETRY_SECONDS, Health
from moq_token.server.share.names import DIGEST_BYTES, Names
from moq_token.server.share.url import parse_store_url
from tests.share_model import StoreModel
from tests.sharing import LEASE, SECRET, instant, session

END = int(time.time()) + 3600


@pytest.mark.parametrize(
    ("text", "kind", "hosts", "shown"),
    [
        ("redis://cache", "standalone", (("cache", 6379),), "redis://cache:6379"),
        ("redis://[::1]:7000/2", "standalone", (("::1", 7000),), "redis://[::1]:7000/2"),
        ("rediss://u:p%40s@cache:1", "standalone", (("cache", 1),), "rediss://u@cache:1"),
        ("redis://:p@cache", "standalone", (("cache", 6379),), "redis://cache:6379"),
        ("redis+sentinel://a,b:1/main", "sentinel", (("a", 26379), ("b", 1)), "redis+sentinel://a:26379,b:1/main"),
        ("rediss+cluster://a:1,b", "cluster", (("a", 1), ("b", 6379)), "rediss+cluster://a:1,b:6379"),
    ],
)
def test_urls(text: str, kind: str, hosts: tuple[tuple[str, int], ...], shown: str) -> None:
    url = parse_store_url(text)
    assert (url.kind, url.hosts, str(url)) == (kind, hosts, shown)
    assert url.tls == text.startswith("rediss")


def test_credentials_and_certificates_in_urls() -> None:
    url = parse_store_url("rediss://moq:s%2Fecret@cache/0?ssl_ca_certs=/etc/ca.pem&ssl_certfile=c&ssl_keyfile=k")
    assert (url.username, url.password, url.database) == ("moq", "s/ecret", 0)
    assert dict(url.options) == {"ssl_ca_certs": "/etc/ca.pem", "ssl_certfile": "c", "ssl_keyfile": "k"}
    assert parse_store_url("redis://:only@cache").username is None
    watched = parse_store_url("redis+sentinel://:p@a/main?sentinel_username=w&sentinel_password=%23secret")
    assert (watched.password, watched.sentinel_username, watched.sentinel_password) == ("p", "w", "#secret")
    assert "ecret" not in f"{watched!r}"
    for text in repr(url), str(url), f"{url}", pprint.pformat(url), repr({"url": url}):
        assert "ecret" not in text
        assert "ca.pem" not in text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cache:6379", "is invalid: expected redis://HOST:PORT"),
        ("http://cache", "is invalid"),
        ("redis+other://cache", "is invalid"),
        ("redis://", "is invalid"),
        ("redis://u:hunter2@", "is invalid"),
        ("redis://cache:0", "is invalid"),
        ("redis://cache:70000", "is invalid"),
        ("redis://cache:hunter2", "is invalid"),
        ("redis://[::1", "is invalid"),
        ("redis://cache#x", "is invalid"),
        ("redis://cache?hunter2", "is invalid"),
        ("redis://a,b", "has several hosts"),
        ("redis://cache/one", "has an invalid database 'one': expected a number"),
        ("redis+cluster://cache/1", "has a database, which a cluster does not have"),
        ("redis+sentinel://a,b", "has no service"),
        ("redis+sentinel://a/b/c", "has no service"),
        ("redis+cluster://a?sentinel_password=hunter2", "has the option sentinel_password, which needs Sentinel"),
        ("redis+sentinel://a/b?sentinel_password=", "has an invalid option 'sentinel_password'"),
        ("redis://cache?ssl_ca_certs=x", "needs TLS: use rediss://"),
        ("rediss://cache?password=hunter2", "has an invalid option 'password': expected ssl_ca_certs"),
        ("rediss://cache?ssl_ca_certs=", "has an invalid option 'ssl_ca_certs'"),
    ],
)
def test_invalid_urls(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_store_url(text)
    assert message in str(refused.value)
    assert "hunter2" not in str(refused.value)


def test_nodes_with_one_secret_use_the_same_names_and_others_do_not() -> None:
    one, two, other = Names(SECRET), Names(SECRET), Names(SECRET + "!")
    assert one.key(b"x") == two.key(b"x") != other.key(b"x")
    assert one.token_key == two.token_key != other.token_key
    assert one.digest(b"a", b"bc") == two.digest(b"a", b"bc")
    digests = {one.digest(b"a", b"bc"), one.digest(b"ab", b"c"), one.digest(b"a", b"bd"), other.digest(b"a", b"bc")}
    assert {len(digest) for digest in digests} == {DIGEST_BYTES}
    assert len(digests) == 4
    assert one.key(b"x").count(b"{") == 1  # one hash tag, so that all keys are in one slot
    assert one.key(b"x").partition(b"}")[0] == one.key(b"y").partition(b"}")[0]


def test_a_seal_is_opened_by_a_node_of_the_share_for_the_same_purpose_only() -> None:
    one, two, other = Names(SECRET), Names(SECRET), Names(SECRET + "!")
    sealed = one.seal(b"data", b"context")
    assert two.open(sealed, b"context") == b"data"
    assert one.seal(b"data", b"context") != sealed
    assert b"data" not in sealed
    for names, text, context in (
        (two, sealed, b"other"),
        (other, sealed, b"context"),
        (two, sealed[:-1], b"context"),
        (two, bytes((sealed[0] ^ 1,)) + sealed[1:], b"context"),
        (two, b"", b"context"),
        (two, b"short", b"context"),
    ):
        assert names.open(text, context) is None


def test_the_secret_is_not_shown() -> None:
    names = Names(SECRET)
    for text in repr(names), str(names), f"{names}", logging.LogRecord("", 0, "", 0, "%s", (names,), None).getMessage():
        assert SECRET not in text
        assert names.share in text
    assert SECRET.encode() not in names.key(b"x")
    with pytest.raises(TypeError):
        pickle.dumps(names)


def test_calls_hold_digests_and_no_value() -> None:
    caps = SharedCaps({kind: Cap(2, kick_oldest=kind is CapKind.TOKEN) for kind in CapKind}, Names(SECRET))
    call = caps.call(b"admit", session("sessionid", b"tokendigest", subject="alice"), instant())
    assert call is not None
    text = b" ".join([*call.keys, *(word for word in call.arguments if isinstance(word, bytes))])
    for value in b"sessionid", b"tokendigest", b"alice", b"192.0.2.7", b"\xc0\x00\x02\x07":
        assert value not in text
    assert call.arguments[3] <= LEASE * 1000  # type: ignore[operator]
    assert len({key.partition(b"}")[0] for key in call.keys}) == 1


def test_what_no_cap_counts_asks_nothing() -> None:
    assert SharedCaps({}, Names(SECRET)).call(b"admit", session("1"), instant()) is None
    caps = SharedCaps({CapKind.SUBJECT: Cap(1)}, Names(SECRET))
    assert caps.call(b"admit", session("1", subject=None), instant()) is None


@pytest.mark.parametrize("step", [-3600, 0, 3600])
def test_a_session_is_as_old_whatever_happens_to_the_clock(step: int) -> None:
    caps = SharedCaps({CapKind.TOKEN: Cap(1, kick_oldest=True)}, Names(SECRET))
    call = caps.call(b"refresh", session("1", first=1000.0, began=50.0), Instant(1060.0 + step, 110.0))
    assert call is not None
    assert call.arguments[4] == 60_000_000


@pytest.mark.parametrize("lease", [None, 0, 10**9])
def test_every_lease_has_an_end(lease: int | None) -> None:
    caps = SharedCaps({CapKind.TOKEN: Cap(1)}, Names(SECRET))
    call = caps.call(b"refresh", session("1", lease=lease), instant())
    assert call is not None
    assert isinstance(call.arguments[3], int)
    assert 0 < call.arguments[3] <= MAX_LEASE_SECONDS * 1000


@pytest.mark.parametrize("answer", [None, b"OK", [], [b"0"], [9], [-9], [0, b"x123"], {}, 0])
def test_unexpected_answers_of_the_store_are_no_verdict(answer: object) -> None:
    caps = SharedCaps({CapKind.TOKEN: Cap(1)}, Names(SECRET))
    with pytest.raises(ValueError, match="the store"):
        caps.verdict(session("1"), answer)


def test_health_tells_news_once_and_pauses() -> None:
    health = Health()
    assert health.problem is not None
    assert health.pause(0.0) == 0
    health.trying(100.0)
    assert health.failed("refused")
    assert not health.failed("refused")
    assert health.failed("full")
    assert health.pause(100.0) == RETRY_SECONDS
    health.recovered()
    assert health.problem is None
    assert health.failed("refused")
    assert health.pause(100.0) == RETRY_SECONDS  # it has not lasted
    assert health.pause(200.0) == 0


def test_denials_are_exchanged_until_nothing_is_missing() -> None:
    names, model, now = Names(SECRET), StoreModel(), int(time.time() * 1000)
    ban, newer = (Denial(subject="mallory", until=END, at=float(at)) for at in (1, 2))
    one, two = SharedDenials(names), SharedDenials(names)
    for denial in ban, newer, ban:
        model.call(one.put(denial), now)
    digests = model.call(two.pull("two", 15), now)[1]
    missing, lacking = two.compare(digests, [])
    assert len(missing) == 2
    assert lacking == []
    read = []
    for some, call in two.fetches(missing):
        read += [two.read(digest, record) for digest, record in zip(some, model.call(call, now), strict=True)]
    assert sorted(denial.at for denial in read if denial is not None) == [1.0, 2.0]
    # The older one, which nobody has any more, is not fetched again; a lost store is filled again.
    assert two.compare(digests, [newer]) == ([], [])
    assert two.compare(b"", [newer]) == ([], [newer])


def test_a_record_that_comes_back_to_the_store_is_fetched_again() -> None:
    shared = SharedDenials(Names(SECRET))
    call = shared.put(Denial(subject="mallory", until=END, at=1.0))
    digest, record = call.arguments[3], call.arguments[5]
    assert isinstance(digest, bytes)
    assert isinstance(record, bytes)
    assert shared.compare(digest, []) == ([digest], [])
    assert shared.read(digest, record) is not None
    assert shared.compare(digest, []) == ([], [])
    assert shared.compare(b"", []) == ([], [])
    assert shared.compare(digest, []) == ([digest], [])


def test_denials_that_found_no_room_are_fetched_when_there_is_some() -> None:
    names = Names(SECRET)
    shared = SharedDenials(names)
    known = [Denial(subject=f"known-{number}", until=END, at=1.0) for number in range(4)]
    late = [Denial(subject=f"late-{number}", until=END, at=1.0) for number in range(3)]
    digests = [names.digest(b"denial", denial.to_json()) for denial in late]
    for digest, denial in zip(digests, late, strict=True):
        assert shared.read(digest, names.seal(denial.to_json(), b"denial" + digest)) == denial
    shared.leave_out(late, len(known))
    stored = b"".join(digests)
    assert shared.compare(stored, known)[0] == []
    (first,) = shared.compare(stored, known[1:])[0]  # as many as there is room for
    assert first in digests
    assert set(shared.compare(stored, known[2:])[0]) == set(digests)


def test_records_that_nobody_of_the_share_has_written_are_ignored() -> None:
    names = Names(SECRET)
    shared = SharedDenials(names)
    denial = Denial(subject="mallory", until=END, at=1.0)
    call = shared.put(denial)
    digest, record = call.arguments[3], call.arguments[5]
    assert isinstance(digest, bytes)
    assert isinstance(record, bytes)
    assert shared.read(digest, record) == denial
    assert shared.read(b"another digest!!", record) is None
    assert shared.read(digest, record[:-1]) is None
    longest = denial.to_json().ljust(MAX_RECORD_BYTES - (len(record) - len(denial.to_json())))
    assert shared.read(digest, names.seal(longest, b"denial" + digest)) == denial
    assert shared.read(digest, names.seal(longest + b" ", b"denial" + digest)) is None
    assert shared.read(digest, names.seal(b"{}", b"denial" + digest)) is None
    assert SharedDenials(Names(SECRET + "!")).read(digest, record) is None
