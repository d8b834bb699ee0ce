"""Requests: what the reference server reads (tests/vectors/requests.json), known differences, and secrets in `repr`."""

from __future__ import annotations

import json
import traceback
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moq_token import InvalidRequestError
from moq_token.contract import Event, Peer, Request, Token, Usage
from moq_token.contract.wire import MAX_BYTES

DIRECTORY = Path(__file__).parents[1] / "vectors"
VECTORS = json.loads((DIRECTORY / "requests.json").read_text(encoding="utf-8"))["requests"]

# The contract grows: a member that a later relay writes must not become an outage.
LENIENT = {
    **{f"transport {name}": "any transport" for name in ("srt", "webrtc", "webtransport")},
    **{f"transport {name}": "any transport" for name in ("QUIC", "Quic", "web-socket")},
    "transport is empty": "any transport",
    'role "both"': "any role",
    'role "Publisher"': "any role",
    **{
        f"remote {value}": "an unreadable address counts as absent"
        for value in (
            '"203.0.113.9"', '"2001:db8::1"', '"localhost:80"', '"203.0.113.9:"', '"203.0.113.9:65536"',
            '"[fe80::1%eth0]:80"', '"0203.0.113.9:1"', '" 203.0.113.9:1"', '["203.0.113.9",1]', "1",
        )
    },
    "event end": "an end without its members is counted",
    "end reason null": "an end without its members is counted",
    "end duration null": "an end without its members is counted",
    "end without bytes": "an end without its members is counted",
    "end reason = 5": "an end without its members is counted",
    "end duration = 1e+300": "an end without its members is counted",
    'end bytes = {"sent":1}': "an end without its members is counted",
    'end bytes = {"sent":1,"received":-1}': "an end without its members is counted",
    'end bytes = {"sent":1,"received":1.0}': "an end without its members is counted",
}  # fmt: skip
STRICT = {"event is number": "an accident of the reference reader: a variant by its number"}

MINIMAL = {"id": "00ff", "event": "connect", "node": "relay-1", "transport": "quic", "path": "/demo"}


def text(**members: Any) -> str:  # noqa: ANN401 - any JSON
    return json.dumps({**MINIMAL, **members})


@pytest.mark.parametrize("row", VECTORS, ids=lambda row: row["name"])
def test_the_reference_server(row: dict[str, Any]) -> None:
    if row["name"] in STRICT or not (row["ok"] or row["name"] in LENIENT):
        with pytest.raises(InvalidRequestError, match=r"^invalid request: [^\n]+$") as caught:
            Request.from_json(row["json"])
        assert caught.value.status in {400, 422}
        assert len(str(caught.value)) < 200
        return
    read = Request.from_json(row["json"])
    if row["ok"]:
        assert read.to_json().decode() == row["rewritten"]
        assert Request.from_json(row["rewritten"]) == read


def test_the_lists_of_differences_name_rows() -> None:
    rows = {row["name"]: row["ok"] for row in VECTORS}
    assert not any(rows[name] for name in LENIENT)
    assert all(rows[name] for name in STRICT)


FULL = Request(
    id="cff58a6768af5f08a7a430798de4a27c",
    event=Event.CONNECT,
    node="relay-test",
    transport="quic",
    remote="127.0.0.1:37137",
    local="[::1]:53257",
    server_name="localhost",
    alpn="moq-lite-06",
    path="/rooms/123",
    query="jwt=abc.def.ghi&x=%20y",
    token=Token(0, b"secret-token"),
    role="publisher",
    tls=Peer(name="edge0.example", fingerprint="df844f", expires=1796617345, issuer="CN=test cluster CA"),
)


def test_a_request_is_written_as_relays_do() -> None:
    assert FULL.to_json().decode() == (
        '{"id":"cff58a6768af5f08a7a430798de4a27c","event":"connect","node":"relay-test","transport":"quic",'
        '"remote":"127.0.0.1:37137","local":"[::1]:53257","server_name":"localhost","alpn":"moq-lite-06",'
        '"path":"/rooms/123","query":"jwt=abc.def.ghi&x=%20y","token":{"kind":0,"value":"c2VjcmV0LXRva2Vu"},'
        '"role":"publisher","tls":{"name":"edge0.example","fingerprint":"df844f","expires":1796617345,'
        '"issuer":"CN=test cluster CA"}}'
    )
    assert Request.from_json(FULL.to_json()) == FULL


@pytest.mark.parametrize(
    "sent", json.loads((DIRECTORY / "relay_requests.json").read_text(encoding="utf-8"))["requests"]
)
def test_what_a_relay_has_sent_is_read_and_written_to_the_byte(sent: str) -> None:
    assert Request.from_json(sent).to_json().decode() == sent


def test_an_end_is_written_with_its_members() -> None:
    members: dict[str, Any] = {"id": "a", "event": Event.END, "node": "n", "transport": "http", "path": "/"}
    end = Request(**members, reason="done", duration=0.000171979, usage=Usage(1, 2))
    assert end.to_json().startswith(
        b'{"id":"a","event":"end","reason":"done","duration":0.000171979,"bytes":{"sent":1,"received":2},"node":"n",'
    )
    assert Request.from_json(end.to_json()) == end
    with pytest.raises(InvalidRequestError, match="an end needs"):
        Request(**members, reason="done").to_json()


@pytest.mark.parametrize("value", ["9" * 5000, "-0", "1e999", "0." + "9" * 5000, r'"\ud800"', "[" * 120 + "]" * 120])
def test_an_unknown_member_is_ignored_whatever_its_value(value: str) -> None:
    assert Request.from_json(text()[:-1] + f',"x":{value}}}') == Request.from_json(text())


@pytest.mark.parametrize("spelled", ["{}", "[]", "{} ", '{"a":1}'])
@pytest.mark.parametrize("event", ["connect", "revalidate", "end"])
def test_what_belongs_to_an_end_is_ignored_elsewhere(event: str, spelled: str) -> None:
    members = f'"event":"{event}","reason":{spelled},"duration":{spelled},"bytes":{spelled}'
    read = Request.from_json('{"id":"a",' + members + ',"node":"","transport":"x","path":""}')
    assert (read.reason, read.duration, read.usage) == (None, None, None)


@pytest.mark.parametrize(
    ("document", "reason", "status"),
    [
        ("", "bad-json", 400),
        ("{", "bad-json", 400),
        ("nonsense", "bad-json", 400),
        (text()[:-1] + ',"x":NaN}', "bad-json", 400),
        (text(path="\ud83d"), "bad-json", 400),
        (text().encode() + b"\xff", "bad-json", 400),
        (text(x="").encode()[:-2] + b'\xff"}', "bad-json", 400),
        ("\ufeff" + text(), "bad-json", 400),
        (text() + "x", "bad-json", 400),
        (text()[:-4] + ',"token":{"kind":-0,"value":"YQ"}}', "bad-json", 400),
        (text()[:-1] + ',"id":"00ff"}', "duplicate-member", 400),
        (text()[:-1] + r',"\u0069d":"00ff"}', "duplicate-member", 400),
        (text()[:-1] + ' , "id" : "00ff" }', "duplicate-member", 400),
        (text()[:-1] + ',"tls":{"name":"a","fingerprint":"b","issuer":"c","name":"d"}}', "duplicate-member", 400),
        (text()[:-1] + ',"token":{"kind":0,"value":"YQ","kind":0}}', "duplicate-member", 400),
        (text()[:-1] + ',"x":' + "[" * 127 + "]" * 127 + "}", "too-deep", 400),
        (text()[:-1] + ',"x":' + '{"a":' * 127 + "1" + "}" * 127 + "}", "too-deep", 400),
        (text()[:-1] + ',"x":' + "[" * 100_000 + "]" * 100_000 + "}", "too-deep", 400),
        (text(x="a" * MAX_BYTES), "too-large", 413),
        ("5", "bad-member", 422),
        ("null", "bad-member", 422),
        ("{}", "missing-member", 422),
        (text(event="disconnect"), "unknown-event", 422),
        (text(event=""), "unknown-event", 422),
        (text(event=1), "bad-member", 422),
        (text(id=None), "bad-member", 422),
        (text(query=5), "bad-member", 422),
        (text(tls={"name": "a"}), "missing-member", 422),
        (text(tls="secret"), "bad-member", 422),
        (text(token="secret"), "bad-member", 422),
        (text(token={"kind": 2**64, "value": ""}), "bad-member", 422),
        (text(token={"kind": 2**64 - 1, "value": "A"}), "bad-member", 422),
        (text(token={"kind": 0, "value": "é"}), "bad-member", 422),
        (text(token={"kind": 0, "value": "YQ==="}), "bad-member", 422),
        (text(token={"kind": 0, "value": "YQ===="}), "bad-member", 422),
        (text(token={"kind": 0, "value": "YWJj===="}), "bad-member", 422),
    ],
    ids=lambda value: str(value)[:40],
)
def test_errors_say_which_kind(document: str | bytes, reason: str, status: int) -> None:
    with pytest.raises(InvalidRequestError, match=r"^invalid request: [^\n]{,150}$") as caught:
        Request.from_json(document)
    assert (caught.value.reason, caught.value.status) == (reason, status)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "broken", [{"path": 5}, {"event": "x"}, {"token": {"kind": 0, "value": "secret!"}}, {"tls": []}]
)
def test_no_frame_of_an_error_shows_a_secret(broken: dict[str, object]) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        Request.from_json(text(**{"query": "jwt=secret", **broken}))
    beneath = (
        caught.value.__traceback__.tb_next if caught.value.__traceback__ else None
    )  # without the frame of this test
    trace = traceback.TracebackException(InvalidRequestError, caught.value, beneath, capture_locals=True)
    assert "secret" not in "".join(trace.format())
    assert caught.value.__context__ is None


def test_errors_name_the_member() -> None:
    for document, words in {
        '{"id":"a"}': "missing member `event`",
        text(tls={"name": "a", "issuer": "b"}): "missing member `tls.fingerprint`",
        text(path=5): "`path`: expected str",
        text(
            tls={"name": "a", "issuer": "b", "fingerprint": "c", "expires": 1.5}
        ): "`tls.expires`: expected int | null",
        text(event="a\n" * 999): r"unknown event 'a\na\n",
    }.items():
        with pytest.raises(InvalidRequestError) as caught:
            Request.from_json(document)
        assert words in str(caught.value)


def test_unknown_members_are_ignored_at_every_level() -> None:
    read = Request.from_json(
        text(
            future={"id": [1]},
            tls={"name": "a", "fingerprint": "b", "issuer": "c", "san": []},
            token={"kind": 1, "value": "YQ", "alias": 5},
        )
    )
    assert read.tls == Peer(name="a", fingerprint="b", issuer="c")
    assert read.token == Token(1, b"a")
    for depth in (10, 126):
        assert Request.from_json(text()[:-1] + ',"x":' + "[" * depth + "]" * depth + "}").node == "relay-1"
    huge = {"event": "end", "reason": "", "duration": 1, "bytes": {"sent": 2**64, "received": 0}}
    assert Request.from_json(text(**huge)).usage is None
    many = text()[:-1] + ',"x":[' + "[]," * 5000 + "{}]}"
    assert Request.from_json(many).node == "relay-1"


def test_a_token_may_be_padded() -> None:
    for value in ("YQ", "YQ=", "YQ==", "YWI", "YWI=", "YWJj", ""):
        assert Request.from_json(text(token={"kind": 0, "value": value})).token is not None


@pytest.mark.parametrize(
    ("remote", "canonical", "address"),
    [
        ("203.0.113.9:4433", "203.0.113.9:4433", "203.0.113.9"),
        ("203.0.113.9:04433", "203.0.113.9:4433", "203.0.113.9"),
        ("[2001:DB8:0::1]:1", "[2001:db8::1]:1", "2001:db8::1"),
        ("[::ffff:203.0.113.9]:9", "[::ffff:203.0.113.9]:9", "203.0.113.9"),
        ("[::ffff:cb00:7109]:9", "[::ffff:203.0.113.9]:9", "203.0.113.9"),
        ("[fe80::1%1]:80", "[fe80::1%1]:80", "fe80::1%1"),
        ("[fe80::1%99999999999]:80", None, None),
        ("[203.0.113.9]:80", None, None),
        ("2001:db8::1:80", None, None),
        ("203.0.113.9:٤", None, None),
        ("203.0.113.9:-1", None, None),
        ("[::1]:", None, None),
        (":80", None, None),
        ("", None, None),
        ("x" * 100_000 + ":1", None, None),
        ({"host": "203.0.113.9"}, None, None),
        (True, None, None),
    ],
)
def test_addresses(remote: object, canonical: str | None, address: str | None) -> None:
    read = Request.from_json(text(remote=remote, local=remote))
    assert (read.remote, read.local) == (canonical, canonical)
    assert (None if read.address is None else str(read.address)) == address


def test_nothing_secret_shows() -> None:
    shown = f"{FULL!r} {FULL} {FULL.token!r} {FULL.__rich_repr__()} {FULL.token and FULL.token.__rich_repr__()}"
    assert "rooms/123" in shown
    assert "edge0.example" in shown
    for secret in ("abc.def", "jwt=", "secret", "c2VjcmV0"):
        assert secret not in shown
    assert f"query='<{len(FULL.query or '')} characters>'" in repr(FULL)


def test_a_request_is_immutable_and_hashable() -> None:
    with pytest.raises(AttributeError):
        FULL.path = "/"  # type: ignore[misc] # pyright: ignore[reportAttributeAccessIssue]
    assert hash(FULL) == hash(Request.from_json(FULL.to_json()))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
NAMES = [*MINIMAL, "remote", "local", "query", "token", "role", "tls", "reason", "duration", "bytes", "other"]


@given(st.dictionaries(st.sampled_from(NAMES), JSON | st.sampled_from(["connect", "end", "192.0.2.1:1"])))
def test_any_members_give_a_request_or_the_documented_error(members: dict[str, object]) -> None:
    try:
        read = Request.from_json(text(**members))
    except InvalidRequestError:
        return
    if read.event is not Event.END or None not in {read.reason, read.duration, read.usage}:
        assert Request.from_json(read.to_json()) == read


@given(st.binary(max_size=60))
def test_any_bytes_give_a_request_or_the_documented_error(document: bytes) -> None:
    with pytest.raises(InvalidRequestError):
        Request.from_json(document)
