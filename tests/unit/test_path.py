import pytest

from moq_token.path import join, normalize, strip_prefix


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("", ""),
        ("/", ""),
        ("///", ""),
        ("a", "a"),
        ("/a", "a"),
        ("a/", "a"),
        ("/foo//bar/", "foo/bar"),
        ("a//b", "a/b"),
        ("a///b////c", "a/b/c"),
        (".", "."),
        ("./a/../b", "./a/../b"),
        ("%2F", "%2F"),
        ("a%2F%2Fb", "a%2F%2Fb"),
        ("a\\b", "a\\b"),
        (" / ", " / "),
        ("\0", "\0"),
        ("é/e\u0301", "é/e\u0301"),
        ("a\u2215b", "a\u2215b"),
    ],
)
def test_normalize(path: str, expected: str) -> None:
    assert normalize(path) == expected
    assert normalize(expected) == expected


@pytest.mark.parametrize(
    ("path", "prefix", "rest"),
    [
        ("", "", ""),
        ("a", "", "a"),
        ("a/b", "", "a/b"),
        ("a", "a", ""),
        ("a/b", "a", "b"),
        ("a/b/c", "a/b", "c"),
        ("foobar", "foo", None),
        ("foo", "foobar", None),
        ("foo", "foo/bar", None),
        ("", "a", None),
        ("b/a", "a", None),
        ("A", "a", None),
        ("foo/barbaz", "foo/bar", None),
    ],
)
def test_strip_prefix(path: str, prefix: str, rest: str | None) -> None:
    assert strip_prefix(path, prefix) == rest


@pytest.mark.parametrize(
    ("base", "rest", "whole"),
    [("", "", ""), ("a", "", "a"), ("", "a", "a"), ("a", "b", "a/b"), ("a/b", "c/d", "a/b/c/d")],
)
def test_join(base: str, rest: str, whole: str) -> None:
    assert join(base, rest) == whole
