"""The contract of relay 0.14: the query that asks, and the answer."""

from __future__ import annotations

import json
import traceback
from typing import Any

import pytest

from moq_token import InvalidGrantError, InvalidRequestError, Key
from moq_token.contract import Answer, PublicPaths, Question


@pytest.mark.parametrize(
    ("query", "question"),
    [
        ("x?y=1&root=demo%2Froom&transport=quic", Question("demo/room", transport="quic")),
        ("root=demo%2Froom3&kid=hs&transport=quic", Question("demo/room3", "hs", transport="quic")),
        ("root=a&kid=a%2Fb+c&transport=websocket", Question("a", "a/b c", transport="websocket")),
        ("root=&mtls=true&transport=tcp", Question("", mtls=True, transport="tcp")),
        ("root=a%2520b%2F%25C3%25A9&mtls=false", Question("a%20b/%C3%A9")),
    ],
)
def test_questions(query: str, question: Question) -> None:
    assert Question.from_query(query) == question
    assert Question.from_query(question.to_query()) == question


def test_a_question_is_written_as_the_relay_does() -> None:
    assert Question("demo/room", "a/b c", transport="quic").to_query() == "root=demo%2Froom&kid=a%2Fb+c&transport=quic"
    assert Question("", mtls=True, transport="quic").to_query() == "root=&mtls=true&transport=quic"


@pytest.mark.parametrize(
    ("query", "reason", "status"),
    [
        ("", "missing-member", 422),
        ("kid=a", "missing-member", 422),
        ("root=a&root=b", "duplicate-member", 400),
        ("root=a&kid=b&kid=", "duplicate-member", 400),
        ("root=a&mtls=yes", "bad-member", 422),
        ("root=%FF", "bad-json", 400),
        ("root=a" + "&x=1" * 1000, "too-large", 413),
        ("root=" + "a" * 300_000, "too-large", 413),
    ],
)
def test_questions_that_are_refused(query: str, reason: str, status: int) -> None:
    with pytest.raises(InvalidRequestError, match=r"^invalid question: [^\n]{,150}$") as caught:
        Question.from_query(query)
    assert (caught.value.reason, caught.value.status) == (reason, status)


def test_answers_are_as_small_as_can_be() -> None:
    key = Key.generate("EdDSA").to_public()
    assert Answer().to_json() == b"{}"
    assert Answer(public=PublicPaths(publish=["anon"], subscribe=[""])).to_json() == (
        b'{"public":{"subscribe":[""],"publish":["anon"]}}'
    )
    assert json.loads(Answer(alias="pid", key=key, tier="gold").to_json()) == {
        "alias": "pid",
        "key": json.loads(key.to_json()),
        "tier": "gold",
    }
    assert Answer.from_json(Answer(alias="pid", key=key, tier="gold").to_json()) == Answer(
        alias="pid", key=key, tier="gold"
    )


def test_public_paths_by_themselves() -> None:
    paths = PublicPaths(subscribe=["a"])
    assert paths.to_json() == b'{"subscribe":["a"],"publish":[]}'
    assert PublicPaths.from_json(paths.to_json()) == paths
    assert PublicPaths.from_json("{}") == PublicPaths()
    with pytest.raises(TypeError):
        PublicPaths("a")


def test_a_private_half_never_goes_into_an_answer() -> None:
    with pytest.raises(InvalidGrantError) as caught:
        Answer(key=Key.generate("ES256"))
    assert caught.value.reason == "bad-key"
    secret = Key.generate("HS256")
    answer = Answer(key=secret)
    k = json.loads(secret.to_json())["k"]
    assert json.loads(answer.to_json())["key"]["k"] == k
    assert k not in f"{answer!r} {answer} {answer.__rich_repr__()}"


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ({}, Answer()),
        ({"alias": None, "key": None, "tier": None, "public": None, "other": 1}, Answer()),
        ({"public": {}}, Answer(public=PublicPaths())),
        ({"public": {"subscribe": [""], "x": 1}}, Answer(public=PublicPaths([""]))),
    ],
)
def test_answers_are_read_as_the_relay_does(members: dict[str, Any], expected: Answer) -> None:
    assert Answer.from_json(json.dumps(members)) == expected


@pytest.mark.parametrize(
    "document",
    ["", "[]", "null", '{"public":{"publish":null}}', '{"key":"secret"}', '{"key":{"k":"secret"}}', '{"tier":1}'],
)
def test_answers_that_are_an_outage(document: str) -> None:
    with pytest.raises(InvalidGrantError, match=r"^invalid answer: [^\n]{,150}$") as caught:
        Answer.from_json(document)
    beneath = caught.value.__traceback__.tb_next if caught.value.__traceback__ else None
    trace = traceback.TracebackException(InvalidGrantError, caught.value, beneath, capture_locals=True)
    assert "secret" not in "".join(trace.format())
