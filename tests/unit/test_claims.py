"""Create claims in Python, and check what they allow at a path."""

from __future__ import annotations

import copy
import inspect
import json
import pickle
import pydoc
import sys
from datetime import UTC, datetime, timedelta, timezone
from enum import IntEnum
from typing import TYPE_CHECKING, Any

import pytest

from moq_token import (
    Algorithm,
    Claims,
    InvalidClaimsError,
    InvalidKeyError,
    KeyId,
    Permissions,
    Scope,
    UnauthorizedError,
)
from tests import forge
from tests.forge import NOW
from tests.naming import named

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

END_OF_9999 = 253402300799
FULL = Claims("a", "b", ["c", "d"], cluster=True, expires=NOW, issued=NOW - 10)


class Number(IntEnum):
    TIME = NOW


# -- the constructor


def test_nothing_is_the_default() -> None:
    claims = Claims()
    assert (claims.root, claims.publish, claims.subscribe, claims.cluster) == ("", (), (), False)
    assert (claims.expires, claims.issued, claims.expires_at, claims.issued_at) == (None, None, None, None)
    assert claims == Claims("", (), (), cluster=False, expires=None, issued=None)
    assert claims == Claims(root="", publish=[], subscribe=iter(()))


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("", ("",)),
        ("a", ("a",)),
        ("a/b", ("a/b",)),
        ("/a//b/", ("/a//b/",)),
        ([], ()),
        ((), ()),
        (["a"], ("a",)),
        (("a", "b"), ("a", "b")),
        ({"a": 1}, ("a",)),
        ({"a"}, ("a",)),
        ((name for name in "ab"), ("a", "b")),
        (["a", "a", ""], ("a", "a", "")),
        (["é", "😀", "\0"], ("é", "😀", "\0")),
        (map(str, range(3)), ("0", "1", "2")),
    ],
    ids=named,
)
def test_paths(given: str | Iterable[str], kept: tuple[str, ...]) -> None:
    given = list(given) if not isinstance(given, str | list | tuple | dict | set) else given
    for claims in (Claims("r", given, "x"), Claims("r", publish=given, subscribe=["x"])):
        assert claims.publish == kept
        assert type(claims.publish) is tuple
    assert Claims("r", "x", given).subscribe == kept
    assert Claims(subscribe=iter(kept)).subscribe == kept
    assert Scope("r", given, "x").publish == kept
    assert Scope("r", "x", given).subscribe == kept
    assert Scope("r", iter(kept)).publish == kept


def test_what_is_handed_in_is_not_kept() -> None:
    given = ["a"]
    claims, scope = Claims("", given, given), Scope("", given, given)
    given.append("b")
    assert claims.publish == claims.subscribe == scope.publish == scope.subscribe == ("a",)


def test_subclasses_of_str_can_be_written() -> None:
    kid = KeyId("abc")
    claims = Claims(kid, [kid, Algorithm.HS256], kid)
    assert forge.key(Algorithm.HS256).verify(forge.key(Algorithm.HS256).sign(claims)) == claims
    assert claims == Claims("abc", ["abc", "HS256"], "abc")
    scope = Scope(kid, [kid], (kid,))
    key = forge.key(Algorithm.HS256).with_scope(scope)
    assert json.loads(key.to_json())["scope"] == {"root": "abc", "put": ["abc"], "get": ["abc"]}


NO_PATHS = [None, 1, True, 1.5, b"a", [b"a"], ["a", None], [1], ["a", ["b"]], [("a",)], object(), bytearray(b"a")]


@pytest.mark.parametrize("wrong", NO_PATHS, ids=named)
@pytest.mark.parametrize("made", [Claims, Scope])
def test_paths_of_wrong_type(made: Callable[..., object], wrong: object) -> None:
    for arguments in (("r", wrong), ("r", "a", wrong), ("r", wrong, wrong)):
        with pytest.raises(TypeError):
            made(*arguments)
    with pytest.raises(TypeError):
        FULL.with_publish(wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        FULL.with_subscribe(wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [None, 1, True, b"a", ["a"], ("a",), object()], ids=named)
@pytest.mark.parametrize("made", [Claims, Scope])
def test_root_of_wrong_type(made: Callable[..., object], wrong: object) -> None:
    with pytest.raises(TypeError):
        made(wrong, "a")
    with pytest.raises(TypeError):
        FULL.with_root(wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [None, 1, 0, "true", [], object()], ids=named)
def test_cluster_of_wrong_type(wrong: bool) -> None:  # noqa: FBT001
    with pytest.raises(TypeError):
        Claims("", "a", cluster=wrong)
    with pytest.raises(TypeError):
        FULL.with_cluster(wrong)


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("put", "use publish"),
        ("get", "use subscribe"),
        ("exp", "use expires"),
        ("iat", "use issued"),
        ("aud", "expected root, publish, subscribe"),
        ("expires_in", "expected root, publish, subscribe"),
        ("self", "expected root, publish, subscribe"),
        ("x" * 1000, "expected root, publish, subscribe"),
    ],
)
def test_unknown_arguments(name: str, advice: str) -> None:
    with pytest.raises(TypeError, match=rf"^Claims\(\) .*'{name[:40]}.*: {advice}") as raised:
        Claims("r", **{name: "x"})  # type: ignore[arg-type,unused-ignore]
    assert len(str(raised.value)) < 300
    with pytest.raises(TypeError, match=r"^Scope\(\) .*: (use|expected) "):
        Scope("r", **{name: "x"})


def test_too_many_arguments() -> None:
    make: Any = Claims
    with pytest.raises(TypeError, match=r"^Claims\(\) "):
        make("", "a", "b", True)  # noqa: FBT003
    make = Scope
    with pytest.raises(TypeError, match=r"^Scope\(\) "):
        make("", "a", "b", "c")


def test_signatures_show_what_callers_pass() -> None:
    grants = "'str | Pattern | Iterable[str | Pattern]' = ()"
    roles = f"publish: {grants}, subscribe: {grants}"
    assert str(inspect.signature(Claims)).startswith(f"(root: 'str' = '', {roles}, *, cluster: 'bool' = False, ")
    assert str(inspect.signature(Scope)) == f"(root: 'str' = '', {roles}) -> 'Scope'"
    assert str(inspect.signature(Permissions)) == f"({roles}) -> 'Permissions'"
    assert "expires: 'int | datetime | timedelta | str | None' = None" in str(inspect.signature(Claims))
    for shown_class in (Claims, Scope, Permissions):
        page = pydoc.plain(pydoc.render_doc(shown_class))
        first = page.partition("Method resolution order")[0]
        unbroken = str.maketrans("", "", " \n|")  # Python 3.13 breaks long lines
        signature = f"{shown_class.__name__}{inspect.signature(shown_class)}"
        assert signature.translate(unbroken) in first.translate(unbroken)
        for inside in ("msgspec.Meta", ":class:", ":meth:", "**unknown"):
            assert inside not in page


@pytest.mark.parametrize("text", ["\ud800", "a\udfff", "\ude00\ud83d", "😀\ud83d"], ids=ascii)
def test_text_that_utf_8_cannot_carry(text: str) -> None:
    makers: Any = (Claims, Scope)
    for arguments in ((text,), ("", text), ("", ["a", text]), ("", (), text), ("", "a", ["b", text])):
        for make in makers:
            with pytest.raises(InvalidClaimsError):
                make(*arguments)
    for change in (FULL.with_root, FULL.with_publish, FULL.with_subscribe):
        with pytest.raises(InvalidClaimsError):
            change(text)


# -- time


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (None, None),
        (0, 0),
        (1, 1),
        (NOW, NOW),
        (END_OF_9999, END_OF_9999),
        (Number.TIME, NOW),
        (datetime.fromtimestamp(NOW, UTC), NOW),
        (datetime.fromtimestamp(NOW, timezone(timedelta(hours=5, minutes=30))), NOW),
        (datetime(1970, 1, 1, tzinfo=UTC), 0),
        (datetime(1970, 1, 1, 1, tzinfo=timezone(timedelta(hours=1))), 0),
        (datetime(2027, 1, 15, 8, 0, 0, 999999, tzinfo=UTC), NOW),
        (datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC), 253402300799),
        (datetime(3000, 1, 1, 0, 0, 0, 999999, tzinfo=UTC), 32503680000),
    ],
    ids=named,
)
def test_times(given: int | datetime | None, kept: int | None) -> None:
    for claims in (Claims("", "a", expires=given, issued=given), FULL.with_expires(given).with_issued(given)):
        for value in (claims.expires, claims.issued):
            assert value == kept
            assert type(value) is type(kept)
        for moment in (claims.expires_at, claims.issued_at):
            assert (moment is None) is (kept is None)
            if moment is not None:
                assert moment.utcoffset() == timedelta(0)
                assert kept is not None
                assert moment.timestamp() == kept or kept > 253402300799


def test_times_of_other_peoples_tokens_beyond_the_calendar() -> None:
    last = datetime.max.replace(tzinfo=UTC)
    key = forge.key(Algorithm.HS256)
    for seconds in (END_OF_9999 + 1, 10**12, NOW * 1000, 2**53 - 1):
        for payload in (
            f'{{"root":"","put":["a"],"exp":{seconds},"iat":{seconds}}}',
            f'{{"put":"a","exp":{seconds}.0,"iat":{seconds}}}',
        ):
            claims = key.verify(forge.token(Algorithm.HS256, payload.encode()))
            assert claims.expires == claims.issued == seconds
            assert claims.expires_at == claims.issued_at == last
            moved = claims.with_root("b").with_issued(None)
            assert (moved.root, moved.expires, moved.issued) == ("b", seconds, None)
            assert pickle.loads(pickle.dumps(claims)) == claims  # noqa: S301
            with pytest.raises(InvalidClaimsError):
                claims.with_expires(seconds)


@pytest.mark.parametrize(
    ("given", "seconds"),
    [("90s", 90), ("15m", 900), ("1h", 3600), ("1h30m", 5400), ("7d", 604800), ("2w", 1209600), ("+1h", 3600)],
)
def test_a_duration_is_from_now(given: str, seconds: int) -> None:
    before = int(datetime.now(UTC).timestamp())
    for claims in (Claims(expires=given), FULL.with_expires(given)):
        assert claims.expires is not None
        assert before + seconds <= claims.expires <= datetime.now(UTC).timestamp() + seconds
        assert type(claims.expires) is int


@pytest.mark.parametrize(
    "text",
    [
        *("", "1", "3600", "1.5h", "1 h", "h", "1h1h", "1m1h", "-1h", "0s", "1y", "\u0661h", "1h\n", "never"),
        *("2030-01-01", "9" * 99, "999999999w", "secret"),
    ],
    ids=ascii,
)
def test_durations_that_make_no_sense(text: str) -> None:
    with pytest.raises(InvalidClaimsError, match=r"^expires must ") as raised:
        Claims("", "a", expires=text)
    assert "secret" not in str(raised.value)
    assert len(str(raised.value)) < 200
    with pytest.raises(InvalidClaimsError):
        FULL.with_expires(text)


@pytest.mark.parametrize("scale", [1000, 10**6, 10**9])
def test_times_in_another_unit(scale: int) -> None:
    for name in ("expires", "issued"):
        with pytest.raises(InvalidClaimsError, match=f"^{name} .*seconds, not milliseconds"):
            Claims("", "a", **{name: NOW * scale})  # type: ignore[arg-type]


def test_the_error_for_a_time_of_the_wrong_type_names_all_that_is_accepted() -> None:
    for wrong in (NOW + 3600.5, NOW + 0.0, True, b"1h", [NOW]):
        with pytest.raises(TypeError) as raised:
            Claims("", "a", expires=wrong)  # type: ignore[arg-type]
        for word in ("expires", "int", "datetime", "timedelta", '"1h"', "None", type(wrong).__name__):
            assert word in str(raised.value)
        with pytest.raises(TypeError, match="issued must be Unix seconds as an int, an aware datetime, or None"):
            Claims("", "a", issued=wrong)  # type: ignore[arg-type]


def test_a_timedelta_is_from_now() -> None:
    before = int(datetime.now(UTC).timestamp())
    hour, past = Claims(expires=timedelta(hours=1)).expires, Claims(expires=timedelta(seconds=-90)).expires
    after = int(datetime.now(UTC).timestamp())
    assert hour is not None
    assert before <= hour - 3600 <= after
    assert past is not None
    assert before <= past + 90 <= after
    assert type(hour) is int
    with_method = FULL.with_expires(timedelta(days=1)).expires
    assert with_method is not None
    assert before <= with_method - 86400 <= after + 5


@pytest.mark.parametrize(
    "nonsense",
    [
        -1,
        -(2**63),
        END_OF_9999 + 1,
        datetime.max.replace(tzinfo=timezone(timedelta(hours=-23))),
        2**63,
        10**400,
        datetime(2030, 1, 1),  # noqa: DTZ001
        datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC),
        datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
        datetime.min.replace(tzinfo=UTC),
        datetime.min.replace(tzinfo=timezone(timedelta(hours=23))),
        datetime(1970, 1, 1, 0, 30, tzinfo=timezone(timedelta(hours=1))),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_times_that_make_no_sense(nonsense: int | datetime) -> None:
    with pytest.raises(InvalidClaimsError):
        Claims("", "a", expires=nonsense)
    with pytest.raises(InvalidClaimsError):
        Claims("", "a", issued=nonsense)
    with pytest.raises(InvalidClaimsError):
        FULL.with_expires(nonsense)
    with pytest.raises(InvalidClaimsError):
        FULL.with_issued(nonsense)


@pytest.mark.parametrize(
    "nonsense", [timedelta.max, timedelta.min, timedelta(days=-100_000), timedelta(days=-365 * 60)]
)
def test_timedeltas_that_leave_the_calendar(nonsense: timedelta) -> None:
    with pytest.raises(InvalidClaimsError):
        Claims("", "a", expires=nonsense)


@pytest.mark.parametrize(
    "wrong", [True, False, 1.0, float("nan"), b"1", [], datetime(2030, 1, 1, tzinfo=UTC).date(), object()]
)
def test_times_of_wrong_type(wrong: Any) -> None:  # noqa: ANN401
    with pytest.raises(TypeError):
        Claims("", "a", expires=wrong)
    with pytest.raises(TypeError):
        Claims("", "a", issued=wrong)
    with pytest.raises(TypeError):
        FULL.with_expires(wrong)
    with pytest.raises(TypeError):
        FULL.with_issued(wrong)


def test_issued_is_no_timedelta() -> None:
    for wrong in (timedelta(0), "1h"):
        with pytest.raises(TypeError):
            Claims("", "a", issued=wrong)  # type: ignore[arg-type]


# -- the wire form


@pytest.mark.parametrize(
    ("claims", "written"),
    [
        (Claims(), '{"root":""}'),
        (Claims("", "a"), '{"root":"","put":["a"]}'),
        (Claims("r", (), [""]), '{"root":"r","get":[""]}'),
        (Claims("", "a", expires=0, issued=0), '{"root":"","put":["a"],"exp":0,"iat":0}'),
        (Claims("é", '"\\\n'), '{"root":"é","put":["\\"\\\\\\n"]}'),
        (FULL, f'{{"root":"a","put":["b"],"get":["c","d"],"cluster":true,"exp":{NOW},"iat":{NOW - 10}}}'),
    ],
)
def test_what_is_written(claims: Claims, written: str) -> None:
    assert claims.to_json() == written
    if claims.publish or claims.subscribe:
        key = forge.key(Algorithm.HS256)
        payload = key.sign(claims).split(".")[1]
        assert forge.unb64(payload).decode() == written
        assert key.verify(key.sign(claims), now=-1) == claims


# -- variants, identity


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda: FULL.with_root("x"), Claims("x", "b", ["c", "d"], cluster=True, expires=NOW, issued=NOW - 10)),
        (lambda: FULL.with_publish("x"), Claims("a", "x", ["c", "d"], cluster=True, expires=NOW, issued=NOW - 10)),
        (lambda: FULL.with_publish(()), Claims("a", (), ["c", "d"], cluster=True, expires=NOW, issued=NOW - 10)),
        (lambda: FULL.with_subscribe(["x"]), Claims("a", "b", "x", cluster=True, expires=NOW, issued=NOW - 10)),
        (lambda: FULL.with_cluster(cluster=False), Claims("a", "b", ["c", "d"], expires=NOW, issued=NOW - 10)),
        (lambda: FULL.with_expires(5), Claims("a", "b", ["c", "d"], cluster=True, expires=5, issued=NOW - 10)),
        (lambda: FULL.with_expires(None), Claims("a", "b", ["c", "d"], cluster=True, issued=NOW - 10)),
        (lambda: FULL.with_issued(None), Claims("a", "b", ["c", "d"], cluster=True, expires=NOW)),
    ],
)
def test_variants(change: Callable[[], Claims], expected: Claims) -> None:
    before = copy.copy(FULL)
    assert change() == expected
    assert change() != FULL
    assert before == FULL


FROZEN = [FULL, Scope("a", "b", "c"), Permissions(("a",), ("b",))]


@pytest.mark.parametrize("value", FROZEN, ids=lambda value: type(value).__name__)
def test_values_are_frozen_and_equal_by_value(value: object) -> None:
    for name in ("publish", "subscribe", "root", "expires", "other"):
        with pytest.raises(AttributeError):
            setattr(value, name, ("x",))
        with pytest.raises((AttributeError, TypeError)):
            delattr(value, name)
    assert not hasattr(value, "__dict__")
    for twin in (copy.copy(value), copy.deepcopy(value), *(pickle.loads(pickle.dumps(value, n)) for n in range(6))):  # noqa: S301
        assert type(twin) is type(value)
        assert twin == value
        assert hash(twin) == hash(value)
    assert len({value, copy.copy(value)}) == 1
    assert value != "x"
    assert all(value != other for other in FROZEN if other is not value)


def test_equality() -> None:
    assert Claims("a", "b") == Claims("a", ["b"])
    assert Claims("a", ["b", "c"]) != Claims("a", ["c", "b"])
    assert Claims("a", "b") != Claims("/a", "b")
    assert Claims("a", "b", expires=1) != Claims("a", "b")


@pytest.mark.skipif(sys.version_info < (3, 13), reason="copy.replace came with 3.13")
def test_replacing_does_not_go_around_the_constructor() -> None:
    replace = copy.replace  # type: ignore[attr-defined,unused-ignore] # pyright: ignore[reportAttributeAccessIssue]
    assert replace(FULL, root="x") == FULL.with_root("x")
    assert replace(FULL, publish="x", expires=None) == FULL.with_publish("x").with_expires(None)
    wrong: list[dict[str, Any]] = [{"root": 1}, {"publish": [1]}, {"expires": []}, {"put": "a"}]
    for changes in wrong:
        with pytest.raises(TypeError):
            replace(FULL, **changes)
    for expires in (-1, "x"):
        with pytest.raises(InvalidClaimsError):
            replace(FULL, expires=expires)


def test_validate() -> None:
    for claims in (Claims("a", "b"), Claims("", "", ""), Claims("", (), ""), FULL, FULL.with_expires(0)):
        claims.validate()
    for claims in (Claims(), Claims("a"), Claims("a", [], []), Claims(cluster=True, expires=1)):
        with pytest.raises(InvalidClaimsError):
            claims.validate()
    Scope("", "a").validate()
    Scope("", (), "").validate()
    for scope in (Scope(), Scope("a"), Scope("a", [], [])):
        with pytest.raises(InvalidKeyError):
            scope.validate()


# -- permissions at a path

Allowed = tuple[tuple[str, ...], tuple[str, ...]]


@pytest.mark.parametrize(
    ("claims", "path", "allowed"),
    [
        # the table of the specification
        (Claims("rooms/123", "alice", ""), "/rooms/123", (("alice",), ("",))),
        (Claims("rooms/123", "alice", ""), "/rooms/123/alice", (("",), ("",))),
        (Claims("rooms/123", "alice", ""), "/rooms/123/bob", ((), ("",))),
        (Claims("rooms/123", "alice", ""), "/", (("rooms/123/alice",), ("rooms/123",))),
        # its sentences
        (Claims("demo", "room/cam", "room"), "demo/room", (("cam",), ("",))),
        (Claims("demo", ["room/cam", "room", "other", ""]), "demo/room", (("cam", "", ""), ())),
        (Claims("demo", "cam", ""), "", (("demo/cam",), ("demo",))),
        (Claims("demo/a", "cam", ""), "demo", (("a/cam",), ("a",))),
        # no root
        (Claims("", "a", ""), "", (("a",), ("",))),
        (Claims("", "a", "b"), "a", (("",), ())),
        (Claims("", "a/b/c"), "a/b", (("c",), ())),
        (Claims("", "", ""), "anything/at/all", (("",), ("",))),
        # normalised
        (Claims("//demo//", "/room//cam/", "//"), "//demo///room//", (("cam",), ("",))),
        (Claims("demo", "/room/"), "", (("demo/room",), ())),
        (Claims("/", "/"), "/", (("",), ())),
        # nothing else is special
        (Claims("a/..", "b"), "a/..", (("b",), ())),
        (Claims("a%2Fb", "c"), "a%2Fb", (("c",), ())),
        (Claims("", "."), ".", (("",), ())),
        # a prefix is a prefix of segments
        (Claims("demo", ["room", "room/cam"], "roomy"), "demo/room", (("", "cam"), ())),
        (Claims("demo", ["room", "roo"], ["ro", "r"]), "demo/room/cam", (("",), ())),
        # deeper than anything granted
        (Claims("a", "b", "b/c"), "a/b/c/d/e", (("",), ("",))),
    ],
)
def test_authorize(claims: Claims, path: str, allowed: Allowed) -> None:
    assert claims.authorize(path) == Permissions(*allowed)


@pytest.mark.parametrize(
    ("claims", "path", "reason"),
    [
        (Claims("rooms/123", "alice"), "/rooms/123/bob", "no-access"),
        (Claims("demo", "", ""), "/demolition", "root-mismatch"),
        (Claims("demo", "", ""), "/dem", "root-mismatch"),
        (Claims("demo", "", ""), "/Demo", "root-mismatch"),
        (Claims("demo", "", ""), "/other", "root-mismatch"),
        (Claims("demo/a", "", ""), "/demo/b", "root-mismatch"),
        (Claims("demo/a", "", ""), "/demo/ab", "root-mismatch"),
        (Claims("demo", "", ""), "/demo%2Froom", "root-mismatch"),
        (Claims("demo", "", ""), "../demo", "root-mismatch"),
        (Claims("demo", "room"), "/demo/roomy", "no-access"),
        (Claims("demo", "room", "cam"), "/demo/roo", "no-access"),
        (Claims("", "a", "b"), "c", "no-access"),
        (Claims("e\u0301", ""), "é", "root-mismatch"),
        (Claims("demo"), "demo", "no-access"),
        (Claims("demo"), "", "no-access"),
    ],
)
def test_authorize_refuses(claims: Claims, path: str, reason: str) -> None:
    with pytest.raises(UnauthorizedError) as caught:
        claims.authorize(path)
    assert caught.value.reason == reason
    assert caught.value.path == path.strip("/")
    assert str(caught.value).isprintable()


def test_authorize_does_not_look_at_the_clock() -> None:
    assert Claims("", "a", expires=0).authorize("").publish == ("a",)


@pytest.mark.parametrize("wrong", [None, 1, b"a", [], ["a"], ("a",), object()], ids=named)
def test_paths_to_ask_for_are_str(wrong: str) -> None:
    for root in ("", "a"):
        with pytest.raises(TypeError):
            Claims(root, "").authorize(wrong)
        with pytest.raises(TypeError):
            Permissions((root,)).can_publish(wrong)
        with pytest.raises(TypeError):
            Permissions((), (root,)).can_subscribe(wrong)


@pytest.mark.parametrize(
    ("prefixes", "yes", "no"),
    [
        ((), [], ["", "a", "/"]),
        (("",), ["", "/", "a", "a/b", "..", "/a//b/"], []),
        (("a",), ["a", "/a", "a/", "//a//", "a/b", "a/.."], ["", "/", "ab", "b/a", "A", "a%2Fb", "./a", "á"]),
        (("a/b", "c"), ["a/b", "a//b/c", "c/d"], ["a", "a/bc", "a/c", "cd", "b"]),
    ],
)
def test_broadcasts(prefixes: tuple[str, ...], yes: list[str], no: list[str]) -> None:
    publisher, subscriber = Permissions(publish=prefixes), Permissions(subscribe=prefixes)
    for broadcast in yes:
        assert publisher.can_publish(broadcast)
        assert subscriber.can_subscribe(broadcast)
        assert not publisher.can_subscribe(broadcast)
        assert not subscriber.can_publish(broadcast)
    for broadcast in no:
        assert not publisher.can_publish(broadcast)
        assert not subscriber.can_subscribe(broadcast)
