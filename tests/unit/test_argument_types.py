"""What is passed to the public interface with a wrong type is refused at once, by a TypeError that names it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from moq_token import Algorithm, Key, KeySet, Pattern, Patterns, sources
from moq_token.auth import AuthConfig, Connection
from moq_token.contract import Answer, Grant, Question, Request
from moq_token.server import Policy
from tests import forge

if TYPE_CHECKING:
    from collections.abc import Callable

KEY = forge.key(Algorithm.HS256)
TOKEN = forge.token(Algorithm.HS256)
GRANT = Grant(publish=["a"], expires=5)
NEITHER_TEXT_NOR_PATH: tuple[object, ...] = (None, 5, 1.5, [], {}, object())

CALLS: dict[str, tuple[Callable[[Any], object], tuple[object, ...]]] = {
    "Pattern.contains": (Pattern("a").contains, (None, "a", 5, [Pattern("a")])),
    "Pattern.overlaps": (Pattern("a").overlaps, (None, "a", 5, [Pattern("a")])),
    "Pattern.intersect": (Pattern("a").intersect, (None, "a", 5, [Pattern("a")])),
    "Patterns": (Patterns, (None, 5, "a", Pattern("a"), [None])),
    "Patterns.contains": (Patterns(["a"]).contains, (None, "a", 5, ["a"])),
    "Patterns.overlaps": (Patterns(["a"]).overlaps, (None, "a", 5, ["a"])),
    "Patterns.intersect": (Patterns(["a"]).intersect, (None, "a", 5, ["a"])),
    "Algorithm.parse": (Algorithm.parse, (None, 5, b"HS256", [])),
    "Key.generate": (Key.generate, (None, 5, b"HS256", [])),
    "Key.from_members": (Key.from_members, (None, 5, "{}", b"{}", [], [("kty", "oct")])),
    "Key.from_file": (Key.from_file, NEITHER_TEXT_NOR_PATH),
    "Key.verify": (lambda now: KEY.verify(TOKEN, now=now), ("1", datetime.now(UTC), [], b"1")),
    "KeySet": (KeySet, (None, 5, KEY, [None])),
    "KeySet.from_file": (KeySet.from_file, NEITHER_TEXT_NOR_PATH),
    "Grant": (lambda publish: Grant(publish=publish), (None, 5, "a", Pattern("a"))),
    "Grant.check": (GRANT.check, (None, "1", float("nan"), float("inf"))),
    "Grant.to_json": (lambda now: GRANT.to_json(now=now), (None, "1", float("nan"), float("inf"))),
    "Grant.from_json": (lambda document: Grant.from_json(document, now=0), (None, 5, 10**30, {}, ["{}"])),
    "Request.from_json": (Request.from_json, (None, 5, 10**30, {}, ["{}"])),
    "Question.from_query": (Question.from_query, (None, 5, b"root=a", ["root=a"])),
    "Answer.from_json": (Answer.from_json, (None, 5, 10**30, {}, ["{}"])),
    "Connection.from_url": (Connection.from_url, (None, 5, b"https://a/b", ["https://a/b"])),
    "Connection.from_path_query": (Connection.from_path_query, (None, 5, b"/a", ["/a"])),
    "the query": (lambda query: Connection.from_path_query("/a", query), (5, b"jwt=a", ["jwt=a"])),
    "AuthConfig.from_mapping": (AuthConfig.from_mapping, (None, 5, "[auth]", [("auth", {})])),
    "Policy": (lambda rules: Policy(public_publish=rules), (None, 5, object())),
    "UrlSource": (sources.UrlSource, (None, 5, b"https://a/b", ["https://a/b"])),
    "JwksUrlSource": (sources.JwksUrlSource, (None, 5, b"https://a/b", ["https://a/b"])),
    "open_source": (sources.open_source, NEITHER_TEXT_NOR_PATH),
    **{
        source.__name__: (source, NEITHER_TEXT_NOR_PATH)
        for source in (sources.FileSource, sources.DirectorySource, sources.JwksFileSource)
    },
}
# What Python itself says of an operation that a type does not have.
RAW = ("has no attribute", "not supported between", "is not iterable", "descriptor", "argument of type", "has no len")


@pytest.mark.parametrize("name", CALLS)
def test_a_wrong_type_is_named(name: str) -> None:
    call, values = CALLS[name]
    for value in values:
        with pytest.raises(TypeError) as caught:
            call(value)
        assert not [text for text in RAW if text in str(caught.value)], str(caught.value)
        assert "\n" not in str(caught.value)
