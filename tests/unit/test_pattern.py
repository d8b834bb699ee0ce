"""One pattern, compared with relays of the second generation (tests/vectors/patterns.json) and a brute-force model."""

from __future__ import annotations

import contextlib
import copy
import itertools
import json
import pickle
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moq_token import Error, InvalidPatternError, Pattern
from moq_token.pattern import MAX_CHARACTERS, MAX_SEGMENTS

if TYPE_CHECKING:
    from collections.abc import Callable

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "patterns.json").read_text(encoding="utf-8"))

# Small enough to list every path, rich enough to tell apart any two of the patterns below.
SEGMENTS = ["a", "b", "ab", "aab", "acb", "c"]
PATHS = ["/".join(path) for length in range(5) for path in itertools.product(SEGMENTS, repeat=length)]


def model_segment(segment: str, text: str) -> bool:
    if "*" not in segment:
        return segment == text
    start, end = segment.split("*")
    return any(text == start + text[len(start) : stop] + end for stop in range(len(start), len(text) + 1))


def model(pattern: tuple[str, ...], path: tuple[str, ...]) -> bool:
    if not pattern:
        return not path
    if pattern[0] == "**":
        return any(model(pattern[1:], path[skip:]) for skip in range(len(path) + 1))
    return bool(path) and model_segment(pattern[0], path[0]) and model(pattern[1:], path[1:])


@cache
def model_paths(text: str) -> frozenset[str]:
    """Return the listed paths that a pattern matches."""
    pattern = tuple(text.split("/")) if text else ()
    return frozenset(path for path in PATHS if model(pattern, tuple(path.split("/")) if path else ()))


TEXTS = st.lists(st.sampled_from(["a", "b", "ab", "*", "a*", "*b", "a*b", "**"]), max_size=3).map("/".join)
PATTERNS = TEXTS.filter(lambda text: text.split("/").count("**") < 2).map(Pattern)


@pytest.mark.parametrize("row", VECTORS["parse"], ids=lambda row: row["text"][:40])
def test_parse(row: dict[str, object]) -> None:
    text = str(row["text"])
    if not row["ok"]:
        with pytest.raises(InvalidPatternError) as caught:
            Pattern(text)
        assert caught.value.reason == row["error"]
        return
    pattern = Pattern(text)
    assert str(pattern) == row["canonical"]
    assert pattern == Pattern(str(pattern))
    assert pattern.is_literal is row["literal"]
    assert pattern.prefix == row["prefix"]
    assert pattern.is_subtree is (row["prefix"] is not None)
    assert (pattern.tail is not None) is row["globstar"]
    assert (*pattern.head, *(() if pattern.tail is None else ("**", *pattern.tail))) == tuple(
        str(row["canonical"]).split("/") if text else ()
    )


@pytest.mark.parametrize("make", [Pattern.literal, Pattern.subtree])
def test_a_pattern_of_a_path(make: type[Pattern]) -> None:
    rows = VECTORS["literal" if make == Pattern.literal else "subtree"]
    assert len(rows) > 20
    for row in rows:
        if row["ok"]:
            assert str(make(row["path"])) == row["pattern"]
        else:
            with pytest.raises(InvalidPatternError) as caught:
                make(row["path"])
            assert caught.value.reason == row["error"]


@pytest.mark.parametrize("row", VECTORS["matches"])
def test_matches(row: dict[str, Any]) -> None:
    assert Pattern(row["pattern"]).matches(row["path"]) is row["expect"]


@pytest.mark.parametrize(
    ("matrix", "columns", "ask"),
    [
        ("matches_matrix", "paths", lambda pattern, path: pattern.matches(path)),
        ("contains_matrix", "patterns", lambda outer, inner: outer.contains(Pattern(inner))),
        ("overlaps_matrix", "patterns", lambda one, other: one.overlaps(Pattern(other))),
    ],
)
def test_the_matrices(matrix: str, columns: str, ask: Callable[[Pattern, str], bool]) -> None:
    table = VECTORS[matrix]
    for text, row in zip(table["patterns"], table["rows"], strict=True):
        pattern = Pattern(text)
        answers = "".join(str(int(ask(pattern, column))) for column in table[columns])
        assert (text, answers) == (text, row)


def test_rebase() -> None:
    for row in VECTORS["rebase"]:
        assert list(map(str, Pattern(row["pattern"]).rebase(row["root"]))) == row["expect"], row


def test_rooted() -> None:
    for row in VECTORS["rooted"]:
        if row["ok"]:
            assert str(Pattern(row["pattern"]).rooted(row["root"])) == row["expect"]
        else:
            with pytest.raises(InvalidPatternError) as caught:
                Pattern(row["pattern"]).rooted(row["root"])
            assert caught.value.reason == row["error"]


def test_intersect() -> None:
    for row in VECTORS["intersect"]:
        one, other = Pattern(row["a"]), Pattern(row["b"])
        if row["ok"]:
            assert list(map(str, one.intersect(other))) == row["expect"], row
            assert other.intersect(one) == one.intersect(other)
        else:
            with pytest.raises(InvalidPatternError) as caught:
                one.intersect(other)
            assert caught.value.reason == "too-many-patterns"


@given(PATTERNS, st.lists(st.sampled_from([*SEGMENTS, "*", "**"]), max_size=5).map("/".join))
def test_matches_as_the_model(pattern: Pattern, path: str) -> None:
    assert pattern.matches(path) is model(
        tuple(str(pattern).split("/")) if str(pattern) else (), tuple(path.split("/")) if path else ()
    )


@given(PATTERNS, PATTERNS)
def test_two_patterns_as_the_model(one: Pattern, other: Pattern) -> None:
    mine, theirs = model_paths(str(one)), model_paths(str(other))
    assert one.contains(other) is (mine >= theirs)
    assert one.overlaps(other) is bool(mine & theirs)
    assert (one == other) is (mine == theirs)
    both = one.intersect(other)
    assert frozenset().union(*(model_paths(str(pattern)) for pattern in both)) == mine & theirs
    assert list(both) == sorted(set(both))
    assert not any(a.contains(b) for a, b in itertools.permutations(both, 2))


@given(PATTERNS, st.lists(st.sampled_from(SEGMENTS), max_size=3))
def test_rebase_as_the_model(pattern: Pattern, segments: list[str]) -> None:
    root = "/".join(segments)
    left = pattern.rebase(root)
    for path in PATHS[:60]:
        beneath = "/".join(filter(None, [root, path]))
        assert any(one.matches(path) for one in left) is pattern.matches(beneath)
    assert list(left) == sorted(set(left))
    assert not any(a.contains(b) for a, b in itertools.permutations(left, 2))


@given(PATTERNS, st.lists(st.sampled_from(SEGMENTS), max_size=3).map("/".join))
def test_rooted_is_undone_by_rebase(pattern: Pattern, root: str) -> None:
    assert pattern in pattern.rooted(root).rebase(root)
    assert pattern.rooted(root).matches(f"{root}/b") is pattern.matches("b")


@given(st.text("ab*/é", max_size=12))
def test_any_text_is_a_pattern_or_a_documented_error(text: str) -> None:
    pattern = None
    with contextlib.suppress(InvalidPatternError):
        pattern = Pattern(text)
    if pattern:
        assert Pattern(str(pattern)) == pattern
        assert pattern.contains(pattern)
        assert str(pattern).count("*") == text.count("*")


@pytest.mark.parametrize(
    ("text", "reason", "words"),
    [
        ("a//b", "empty-segment", "segment 2 is empty"),
        ("/a", "empty-segment", "segment 1 is empty"),
        ("a/b**", "invalid-segment", "segment 2 is 'b**'"),
        ("**/a/**", "multiple-globstars", "`**` may be used once, it is used 2 times"),
        ("/".join("a" * 33), "too-many-segments", "33 segments, the limit is 32"),
        ("a" * (MAX_CHARACTERS + 1), "too-long", "8193 characters, the limit is 8192"),
        ("a\ud83d", "invalid-unicode", "lone surrogate"),
        ("a*\n*", "invalid-segment", r"'a*\n*'"),
    ],
)
def test_errors_name_the_segment_and_the_reason(text: str, reason: str, words: str) -> None:
    with pytest.raises(InvalidPatternError, match=r"^invalid pattern[^\n]*$") as caught:
        Pattern(text)
    assert caught.value.reason == reason
    assert words in str(caught.value)
    assert len(str(caught.value)) < 300
    assert isinstance(caught.value, Error)
    assert isinstance(caught.value, ValueError)
    again = pickle.loads(pickle.dumps(caught.value))  # noqa: S301 - made here
    assert (str(again), again.reason) == (str(caught.value), reason)


@pytest.mark.parametrize("path", ["a/*", "**", "x" * 9000 + "*"])
@pytest.mark.parametrize("make", [Pattern.literal, Pattern.subtree, Pattern("a").rooted])
def test_a_path_in_a_pattern_has_no_wildcard(make: type[Pattern], path: str) -> None:
    with pytest.raises(InvalidPatternError, match=r"must not contain `\*`") as caught:
        make(path)
    assert caught.value.reason == "invalid-segment"
    assert len(str(caught.value)) < 300


def test_the_limit_on_characters_holds_for_what_is_put_together() -> None:
    half = Pattern("a" * (MAX_CHARACTERS // 2))
    with pytest.raises(InvalidPatternError) as caught:
        half.rooted(str(half))
    assert caught.value.reason == "too-long"


def test_a_long_partial_meets_itself_in_linear_time() -> None:
    # A quadratic search for the overlaps would run into the time limit of the tests.
    start, end = "a" * 4000 + "b*", "*" + "a" * 4000 + "c"
    assert [str(pattern) for pattern in Pattern(start).intersect(Pattern(end))] == [f"{start[:-1]}*{end[1:]}"]
    with pytest.raises(InvalidPatternError):
        Pattern("a" * 4000 + "*").intersect(Pattern("*" + "a" * 4000))


def test_what_needs_more_segments_than_a_pattern_may_have_is_left_out() -> None:
    deep = "/".join(["a"] * 20)
    meeting = Pattern(f"{deep}/**").intersect(Pattern(f"**/{deep}"))
    assert [len(pattern.head) for pattern in meeting] == sorted(range(20, MAX_SEGMENTS + 1))
    assert all(pattern.is_literal for pattern in meeting)


def test_equality_order_and_hash_are_those_of_the_canonical_text() -> None:
    assert Pattern("*/**") == Pattern("**/*")
    assert hash(Pattern("*/**")) == hash(Pattern("**/*"))
    assert Pattern("a") != "a"
    assert {Pattern("a"), Pattern("a")} == {Pattern("a")}
    texts = ["", "**/a", "Z", "a", "\uff5e", "😀"]
    assert [str(pattern) for pattern in sorted(map(Pattern, reversed(texts)))] == texts
    assert Pattern("a") < Pattern("b") <= Pattern("b")
    assert Pattern("b") > Pattern("a") >= Pattern("a")
    with pytest.raises(TypeError):
        assert Pattern("a") < "b"


def test_a_pattern_is_a_value() -> None:
    pattern = Pattern("a/*/**")
    assert repr(pattern) == "Pattern('a/**/*')"
    assert str(pattern) == f"{pattern}" == "a/**/*"
    for same in (copy.copy(pattern), copy.deepcopy(pattern), pickle.loads(pickle.dumps(pattern))):  # noqa: S301
        assert same == pattern
        assert same.matches("a/b")
    with pytest.raises(AttributeError):
        pattern.head = ()
    with pytest.raises(AttributeError):
        del pattern.head
    assert not hasattr(pattern, "__dict__")


@pytest.mark.parametrize("wrong", [None, 5, b"a", ["a"], Pattern("a")])
def test_a_text_must_be_a_string(wrong: str) -> None:
    for take in (Pattern, Pattern.literal, Pattern.subtree, Pattern("a").matches, Pattern("a").rebase):
        with pytest.raises(TypeError, match=r"must be a str"):
            take(wrong)
