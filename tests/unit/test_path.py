import pytest
from hypothesis import given
from hypothesis import strategies as st

from moq_token.path import join, normalize, oddity, strip_prefix


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


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("*", "`*` stands for itself, not a wildcard here"),
        ("**", "`**` stands for itself, not a wildcard"),
        ("alice/**", "`**` stands for itself, not a wildcard"),
        ("rooms/*/alice", "`*` stands for itself, not a wildcard"),
        ("cam-*", "`*` stands for itself, not a wildcard"),
        ("rooms/+/alice", "`+` stands for itself, not a wildcard"),
        (".*", "`*` stands for itself, not a wildcard here"),
        ("+", "`+` stands for itself, not a wildcard: a pattern has `*` for one segment"),
        ("rooms/{id}", "`{id}` stands for itself, and is not replaced: fill in the value"),
        ("{{room}}", "`{room}` stands for itself, and is not replaced"),
        ("rooms/${ROOM}", "`${ROOM}` stands for itself, and is not replaced"),
        ("rooms/$ROOM", "`$ROOM` stands for itself, and is not replaced"),
        ("rooms/%ROOM%/a", "`%ROOM%` stands for itself, and is not replaced"),
        ("rooms/:id", "`:id` stands for itself, and is not replaced"),
        ("<room>/alice", "`<room>` stands for itself, and is not replaced"),
        ("..", "`..` is an ordinary name, and does not lead to another directory"),
        ("../x", "`..` is an ordinary name, and does not lead"),
        ("a/./b", "`.` is an ordinary name, and does not lead"),
        ("~/x", "`~` is an ordinary name, and does not lead"),
        ("?jwt=", "`?` stands for itself, and does not end the path as in a URL"),
        ("rooms?a=b", "`?` stands for itself, and does not end"),
        ("rooms#top", "`#` stands for itself, and does not end"),
        ("https://relay.example.com/rooms", "this is a URL: give only its path"),
        ("moqt://relay.example.com", "this is a URL"),
        ("C:/Program Files/Git/rooms/123", "this is a Windows path"),
        ("rooms\\123", "`\\` stands for itself: only a slash separates segments"),
        ("'alice'", "the quotes are part of the path"),
        ('"alice"', "the quotes are part of the path"),
        (" alice", "it has a space at the start or end of a segment, or a control character"),
        ("rooms /alice", "it has a space at the start or end"),
        ("alice\n", "it has a space at the start or end"),
        ("a\0b", "or a control character"),
        *(
            (path, "it has an invisible character")
            for path in ("\ufeffalice", "alice\u200b", "\u202ealice", "a\u00adb")
        ),
        *((path, "only looks like a slash or a `*`") for path in ("\uff0a", "a/\uff0a\uff0a", "a\u2215b", "a\uff0fb")),
        ("{" + "x" * 100 + "}", "`{xxxxxxxxxxxxxxxxxxxxxxx` stands for itself, and is not replaced"),
    ],
)
def test_an_odd_path_is_explained(path: str, why: str) -> None:
    found = oddity(path)
    assert found is not None
    assert why in found
    assert len(found) < 120


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("rooms/{id}/*", "`{id}` stands for itself, and is not replaced: fill in the value"),
        ("rooms/:id/**", "`:id` stands for itself, and is not replaced"),
        ("../*", "`..` is an ordinary name, and does not lead to another directory"),
        ("rooms/+/*", "`+` stands for itself, not a wildcard: a pattern has `*` for one segment"),
        ("cam?/*", "`?` stands for itself, not a wildcard: a pattern has only `*` and `**`"),
        ("cam[0-9]/**", "`[0-9]` stands for itself, not a wildcard: a pattern has only"),
        ("cam[]/**", "`[]` stands for itself, not a wildcard"),
        ("rooms/.*", "`.*` is a segment that starts with a dot, but a pattern is not a regular expression"),
        (".*/hd", "`.*` is a segment that starts with a dot"),
        ("'alice/**'", "the quotes are part of the path"),
        ("https://relay.example.com/**", "this is a URL"),
        ("a\\**", "only a slash separates segments"),
        ("rooms /*", "it has a space at the start or end"),
        ("\ufeffrooms/*", "it has an invisible character"),
        ("rooms/\uff0a/*", "stands for itself: it only looks like"),
    ],
)
def test_an_odd_pattern_is_explained(pattern: str, why: str) -> None:
    found = oddity(pattern, pattern=True)
    assert found is not None
    assert why in found


@pytest.mark.parametrize(
    "pattern", ["", "*", "**", "a", "cam*/hd", "rooms/*/chat", "a/**/leaf", "*.hang", "a.*", "é*/ü"]
)
def test_an_ordinary_pattern_has_no_oddity(pattern: str) -> None:
    assert oddity(pattern, pattern=True) is None


@pytest.mark.parametrize(
    "path",
    [
        *(
            "",
            "/",
            "a",
            "rooms/123",
            "/rooms//123/",
            "alice",
            "bob.hang",
            ".stats/node",
            "demo/bbb.hang",
            "v1.2",
            "a..b",
        ),
        *(
            "user:123",
            "a:b",
            "alice@example.com",
            "room_1-a",
            "a+b",
            "1+1=2",
            "100%",
            "50%off",
            "caf%C3%A9",
            "café",
            "日本/語",
        ),
        *(
            "it's",
            "a b",
            "Alice's room",
            "x$y",
            "$5",
            "a,b",
            "a&b",
            "a=b",
            "(a)",
            "[1]",
            "a|b",
            "~alice",
            "a~1",
            "...",
            "😀",
            "👩\u200d💻",
            "\u0645\u06cc\u200c\u062e",
        ),
    ],
)
def test_an_ordinary_path_has_no_oddity(path: str) -> None:
    assert oddity(path) is None


@given(st.text())
def test_any_path_gets_a_short_sentence_or_none(path: str) -> None:
    found = oddity(path)
    assert found is None or 10 < len(found) < 140


def test_a_long_path_is_read_in_linear_time() -> None:
    for part in ("{", "<", "$", "\\", " ", "/", "a/", "%a", ":a/", "'", "a.", "-+"):
        oddity(part * 65_536)  # the time limit of a test ends what would take longer


def test_an_ordinary_path_compiles_no_expression(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("re.search", None)
    for path in ("", "/", "rooms/123", "a-b_c/é/日本", "0"):
        assert oddity(path) is None
        assert oddity(path, pattern=True) is None
