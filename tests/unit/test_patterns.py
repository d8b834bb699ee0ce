"""Unions of patterns: the vectors, a comparison of every pair of members, and sizes that must not be slow."""

from __future__ import annotations

import copy
import pickle
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moq_token import InvalidPatternError, Pattern, Patterns
from moq_token.patterns import MAX_PATTERNS

from .test_pattern import PATHS as ALL_PATHS
from .test_pattern import PATTERNS, SEGMENTS, TEXTS, VECTORS, model_paths

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PATHS = ALL_PATHS[:300]

# Partials that overlap in all ways, so that an index that mistakes one requirement for another is caught.
SHAPES = ["a", "aa", "aaa", "b", "*", "a*", "*a", "a*a", "aa*", "*aa", "aa*a", "a*aa", "aa*aa", "b*a", "**"]
SHAPED = st.lists(st.sampled_from(SHAPES), max_size=4).filter(lambda segments: segments.count("**") < 2).map("/".join)
MANY = st.lists(SHAPED.map(Pattern), min_size=9, max_size=30)


def reduced(patterns: Sequence[Pattern]) -> list[Pattern]:
    distinct = set(patterns)
    return sorted(one for one in distinct if not any(other != one and other.contains(one) for other in distinct))


@pytest.mark.parametrize("row", VECTORS["unions"])
def test_unions(row: dict[str, list[str]]) -> None:
    assert list(map(str, Patterns(row["input"]))) == row["canonical"]


@pytest.mark.parametrize("row", VECTORS["union_covers"])
def test_union_covers(row: dict[str, Any]) -> None:
    assert Patterns(row["outer"]).contains(Patterns(row["inner"])) is row["expect"]


@given(st.lists(PATTERNS, max_size=6), st.lists(PATTERNS, max_size=6))
def test_few_patterns_as_the_model(some: list[Pattern], others: list[Pattern]) -> None:
    one, other = Patterns(some), Patterns(others)
    mine = frozenset().union(*(model_paths(str(pattern)) for pattern in some))
    theirs = frozenset().union(*(model_paths(str(pattern)) for pattern in others))
    assert list(one) == reduced(some)
    assert {path for path in PATHS if one.matches(path)} == mine & set(PATHS)
    assert one.overlaps(other) is bool(mine & theirs)
    assert one.contains(other) is all(any(a.contains(b) for a in some) for b in others)
    both = one.intersect(other)
    assert {path for path in PATHS if both.matches(path)} == mine & theirs & set(PATHS)


@given(MANY, SHAPED.map(Pattern), st.lists(st.sampled_from([*SHAPES, "aaaa", "ab"]), max_size=5).map("/".join))
def test_many_patterns_as_one_by_one(patterns: list[Pattern], inner: Pattern, path: str) -> None:
    union = Patterns(patterns)
    assert list(union) == reduced(patterns)
    assert union.matches(path) is any(pattern.matches(path) for pattern in patterns)
    assert union.contains(inner) is any(pattern.contains(inner) for pattern in patterns)


@given(MANY, st.lists(st.sampled_from(SEGMENTS), max_size=3).map("/".join))
def test_rebase_and_rooted_as_one_by_one(patterns: list[Pattern], root: str) -> None:
    union = Patterns(patterns)
    assert list(union.rebase(root)) == reduced([left for pattern in patterns for left in pattern.rebase(root)])
    assert list(union.rooted(root)) == reduced([pattern.rooted(root) for pattern in patterns])


@given(st.lists(TEXTS.filter(lambda text: text.split("/").count("**") < 2), max_size=8))
def test_order_and_repetition_make_no_difference(texts: list[str]) -> None:
    union = Patterns(texts)
    assert union == Patterns(reversed(texts * 2)) == Patterns(map(Pattern, texts)) == Patterns(union)
    assert hash(union) == hash(Patterns(reversed(texts)))


SIZES: dict[str, Callable[[int], str]] = {
    "literals": lambda i: f"room/{i}",
    "subtrees": lambda i: f"room/{i}/**",
    "wildcards with a name": lambda i: f"room{i}/*/chat",
    "wildcards behind one name": lambda i: f"room/*/cam{i}",
    "partials of one segment": lambda i: f"a{i}*",
    "both ends": lambda i: f"{i}*{i}",
    "around a globstar": lambda i: f"a{i % 7}*/**/*{i}",
    "bits": lambda i: "/".join("a*"[i >> bit & 1] for bit in range(12)),
}


@pytest.mark.parametrize("member", SIZES.values(), ids=SIZES)
def test_thousands_of_patterns_are_not_compared_in_pairs(
    member: Callable[[int], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def compare(*_: object) -> bool:
        raise AssertionError("compared one by one")

    monkeypatch.setattr(Pattern, "contains", compare)
    monkeypatch.setattr(Pattern, "matches", compare)
    union = Patterns(member(i) for i in range(MAX_PATTERNS))
    assert union.contains(union)
    assert not union.matches("x/y/z")
    assert union.contains(Pattern(member(5)))
    assert not union.contains(Pattern("**"))
    assert len(union.rebase("room")) <= MAX_PATTERNS


def test_many_literals_and_subtrees() -> None:
    rooms = [f"room/{i}" for i in range(10, 40)]
    union = Patterns(
        [*(f"{room}/**" for room in rooms), *(f"{room}/a" for room in rooms), "lone", "room/9/a", "room/*"]
    )
    assert list(map(str, union)) == ["lone", "room/*", *(f"{room}/**" for room in rooms), "room/9/a"]
    for path, expected in {
        "room/20": True,
        "/room//20/": True,
        "room/20/a/b/c": True,
        "room/9": True,
        "room/9/a": True,
        "room/9/b": False,
        "room/201/a": False,
        "lone": True,
        "lone/a": False,
        "": False,
    }.items():
        assert (path, union.matches(path)) == (path, expected)
    for text, expected in {
        "room/20/**": True,
        "room/20/*/a": True,
        "room/20/a/**": True,
        "room/*/a": False,
        "room/**": False,
        "room/9*": True,
        "**": False,
        "": False,
    }.items():
        assert (text, union.contains(Pattern(text))) == (text, expected)
    assert list(Patterns([*union, "**"])) == [Pattern("**")]


def test_the_number_of_patterns_is_bounded() -> None:
    taken = 0

    def endless() -> object:
        nonlocal taken
        while True:
            taken += 1
            yield "a"

    with pytest.raises(InvalidPatternError, match="the limit is 4096") as caught:
        Patterns(endless())  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    assert caught.value.reason == "too-many-patterns"
    assert taken == MAX_PATTERNS + 1
    assert len(Patterns(str(i) for i in range(MAX_PATTERNS))) == MAX_PATTERNS


def test_an_intersection_of_unions_is_bounded() -> None:
    stars = Patterns(f"*/{i}" for i in range(40))
    names = Patterns(f"{i}/*" for i in range(40))
    with pytest.raises(InvalidPatternError) as caught:
        stars.intersect(names)
    assert caught.value.reason == "too-many-patterns"
    assert stars.intersect(Pattern("a/*")) == Patterns(f"a/{i}" for i in range(40))


def test_the_empty_union() -> None:
    empty = Patterns()
    assert not empty
    assert empty == Patterns([])
    assert not empty.matches("")
    assert Patterns(["a"]).contains(empty)
    assert empty.contains(empty)
    assert not empty.contains(Pattern("a"))
    assert not empty.overlaps(Pattern("**"))
    assert empty.rooted("a/*") == empty.rebase("a/*") == empty
    with pytest.raises(InvalidPatternError):
        Patterns(["a"]).rooted("a/*")


def test_a_union_is_a_value() -> None:
    union = Patterns(["b", "a/*/**", "b"])
    assert repr(union) == "Patterns(['a/**/*', 'b'])"
    assert len(union) == 2
    assert Pattern("b") in union
    assert union != [Pattern("a/**/*"), Pattern("b")]
    for same in (copy.copy(union), copy.deepcopy(union), pickle.loads(pickle.dumps(union))):  # noqa: S301 - made here
        assert same == union
        assert same.matches("b")
    with pytest.raises(AttributeError):
        union._members = ()  # noqa: SLF001
    with pytest.raises(AttributeError):
        del union._members  # noqa: SLF001


@pytest.mark.parametrize("wrong", ["a", b"a", 5, None, [5], [None], [["a"]]])
def test_wrong_types(wrong: list[str]) -> None:
    with pytest.raises(TypeError):
        Patterns(wrong)


def test_an_invalid_member_is_named() -> None:
    with pytest.raises(InvalidPatternError, match="invalid pattern 'a//b': segment 2 is empty"):
        Patterns(["a", "a//b"])
