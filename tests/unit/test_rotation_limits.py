"""A new key has the algorithm, scope and operations of the previous one, however the rotation is done."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import pytest

from moq_token import Algorithm, Claims, ConfigError, InvalidKeyError, Key, KeyOperation, Scope
from moq_token.rotation import STATE_NAME, Rotation

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="rotation needs the locks of POSIX")

NOW = 1_700_000_000
SCOPE = Scope("project", publish=("live", "vod"), subscribe="")


@pytest.fixture
def rotation(tmp_path: Path) -> Rotation:
    return Rotation(tmp_path / "signing")


@pytest.fixture
def public(tmp_path: Path) -> Path:
    return tmp_path / "keys"


def put(rotation: Rotation, *keys: Key) -> None:
    rotation.directory.mkdir(exist_ok=True)
    for key in keys:
        key.to_file(rotation.path_of(str(key.kid)))


def key(kid: str, algorithm: str = "EdDSA", scope: Scope | None = None, operations: str = "sign verify") -> Key:
    return Key.generate(algorithm, kid).with_scope(scope).with_operations(operations.split())


def rotate(rotation: Rotation, public: Path | None = None, **changes: Any) -> Key:  # noqa: ANN401 - those of Rotation.rotate
    algorithm = changes.pop("algorithm", None)
    kid = rotation.rotate(algorithm, public, None, NOW, **changes).active
    assert kid is not None
    made = rotation.signing_key()
    assert made.kid == kid
    if public is not None:
        assert Key.from_file(public / f"{kid}.jwk") == made.to_public()
    return made


@pytest.mark.parametrize("algorithm", ["EdDSA", "ES384", "PS256", "HS512"])
@pytest.mark.parametrize("operations", ["sign verify", "sign", "sign verify encrypt decrypt"])
def test_a_successor_has_the_limits_of_the_key_before(
    rotation: Rotation, public: Path, algorithm: str, operations: str
) -> None:
    """At the first rotation of a directory, and at each one after it."""
    first = key("first", algorithm, SCOPE, operations)
    put(rotation, first)
    for _ in range(3):
        made = rotate(rotation, None if first.algorithm.symmetric else public)
        assert (made.algorithm, made.scope, made.operations) == (first.algorithm, first.scope, first.operations)
        assert made.thumbprint() != first.thumbprint()


def test_the_first_key_of_an_empty_directory_has_no_limits(rotation: Rotation, public: Path) -> None:
    made = rotate(rotation, public)
    assert (made.algorithm, made.scope) == (Algorithm.EDDSA, None)
    assert made.operations == {KeyOperation.SIGN, KeyOperation.VERIFY}


def test_the_first_key_can_be_given_limits(rotation: Rotation, public: Path) -> None:
    made = rotate(rotation, public, algorithm=Algorithm.ES256, root="project", publish=["live"])
    assert (made.algorithm, made.scope) == (Algorithm.ES256, Scope("project", publish="live"))


def test_several_keys_that_agree_hand_down_their_limits(rotation: Rotation, public: Path) -> None:
    put(rotation, key("a", "ES256", SCOPE), key("b", "ES256", SCOPE, "sign"))
    made = rotate(rotation, public)
    assert (made.algorithm, made.scope, made.operations) == (Algorithm.ES256, SCOPE, frozenset({KeyOperation.SIGN}))
    assert set(rotation.state().retired) == {"a", "b"}


@pytest.mark.parametrize(
    ("keys", "why", "choice"),
    [
        ([key("a", "ES256"), key("b", "EdDSA")], r"different algorithms \(ES256, EdDSA\)", {"algorithm": "EdDSA"}),
        ([key("a", scope=SCOPE), key("b")], "different scopes", {"root": "project", "publish": ["x"]}),
        (
            [key("a", scope=SCOPE), key("b", scope=Scope("other", "x"))],
            "different scopes",
            {"root": "other/x", "publish": "x"},
        ),
        ([key("a", "HS256"), key("b", "EdDSA")], "different algorithms", None),
    ],
)
def test_several_keys_that_differ_need_a_choice(
    rotation: Rotation, public: Path, keys: list[Key], why: str, choice: dict[str, Any] | None
) -> None:
    put(rotation, *keys)
    before = sorted(rotation.directory.iterdir())
    with pytest.raises(ConfigError, match=why):
        rotation.rotate(None, public, None, NOW)
    assert sorted(rotation.directory.iterdir()) == before
    if choice is not None:
        if "algorithm" in choice:
            choice = {"algorithm": Algorithm(choice["algorithm"])}
        rotate(rotation, public, **choice)


def test_what_else_lies_in_the_directory_does_not_count(rotation: Rotation, public: Path) -> None:
    """Keys that cannot sign, the key of an interrupted rotation, and keys beside an active one."""
    put(
        rotation,
        key("signer", "ES256", SCOPE),
        key("pending"),
        key("verifier", operations="verify"),
        key("public").to_public(),
        key("other").with_kid("misnamed"),
    )
    rotation.path_of("misnamed").rename(rotation.path_of("renamed"))
    (rotation.directory / STATE_NAME).write_text('{"pending":"pending"}', encoding="utf-8")
    made = rotate(rotation, public)
    assert (made.algorithm, made.scope) == (Algorithm.ES256, SCOPE)
    assert set(rotation.state().retired) == {"signer"}
    put(rotation, key("stranger", "EdDSA"))
    assert rotate(rotation, public).scope == SCOPE


# -- an active key that cannot be read


def test_the_public_half_of_a_lost_key_hands_down_its_limits(rotation: Rotation, public: Path) -> None:
    put(rotation, key("first", "ES384", SCOPE))
    for lose in ("unlink", "empty", "replace"):
        path = rotation.path_of(str(rotate(rotation, public).kid))
        if lose == "unlink":
            path.unlink()
        elif lose == "empty":
            path.write_text("", encoding="utf-8")
        else:
            path.write_bytes((public / path.name).read_bytes())
        made = rotate(rotation, public)
        assert (made.algorithm, made.scope) == (Algorithm.ES384, SCOPE)
        assert made.operations == {KeyOperation.SIGN, KeyOperation.VERIFY}


@pytest.mark.parametrize("algorithm", ["EdDSA", "HS256"])
@pytest.mark.parametrize("loss", ["deleted", "emptied"])
def test_unknown_limits_are_not_taken_for_none(rotation: Rotation, public: Path, algorithm: str, loss: str) -> None:
    put(rotation, key("first", algorithm, SCOPE))
    target = None if algorithm == "HS256" else public
    lost = rotate(rotation, target)
    for directory in (rotation.directory, public):
        path = directory / f"{lost.kid}.jwk"
        if path.exists() and loss == "emptied":
            path.write_text("", encoding="utf-8")
        else:
            path.unlink(missing_ok=True)
    for changes in ({}, {"algorithm": Algorithm.EDDSA}, {"root": "project", "publish": ["live"]}):
        with pytest.raises(ConfigError, match="cannot be read, so its scope is unknown"):
            rotate(rotation, target, **changes)
    made = rotate(rotation, target, algorithm=Algorithm(algorithm), root="x", publish=["y"], widen=True)
    assert made.scope == Scope("x", "y")
    assert lost.kid not in rotation.state().retired
    assert [line for line in rotation.check(NOW) if "file not found" in line] == []


# -- changing the scope


@pytest.mark.parametrize(
    ("before", "changes", "after"),
    [
        (SCOPE, {"root": "project"}, SCOPE),
        (SCOPE, {"publish": ["live"]}, Scope("project", "live")),
        (SCOPE, {"publish": ["live/a", "vod"], "subscribe": ["live"]}, Scope("project", ("live/a", "vod"), "live")),
        (
            SCOPE,
            {"root": "project/live", "publish": [""], "subscribe": ["", "/"]},
            Scope("project/live", "", ("", "/")),
        ),
        (SCOPE, {"root": "", "subscribe": ["project/x"]}, Scope("", (), "project/x")),
        (SCOPE, {"root": "project/live", "publish": [""]}, Scope("project/live", "")),
        (None, {"root": "project", "publish": [""]}, Scope("project", "")),
        (None, {"subscribe": [""]}, Scope("", (), "")),
    ],
)
def test_a_narrower_scope(
    rotation: Rotation, public: Path, before: Scope | None, changes: dict[str, Any], after: Scope
) -> None:
    put(rotation, key("first", scope=before))
    assert rotate(rotation, public, **changes).scope == after
    assert rotate(rotation, public).scope == after


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"root": "other"}, "other/live"),
        ({"root": "project/room"}, "project/room/live"),
        ({"root": ""}, "live"),
        ({"publish": ["audio"]}, "project/audio"),
        ({"publish": [""]}, "project"),
        ({"publish": ["livestream"]}, "project/livestream"),
        ({"publish": ["live"], "subscribe": ["", ".."], "root": "project2"}, "project2/live"),
        ({"root": "", "subscribe": [""]}, ""),
    ],
)
def test_a_wider_scope_is_asked_for_by_name(
    rotation: Rotation, public: Path, changes: dict[str, Any], path: str
) -> None:
    put(rotation, key("first", scope=SCOPE))
    what = f"'{path}'" if path else "every path"
    with pytest.raises(ConfigError, match=f"the new scope permits {what}, which the scope before does not"):
        rotate(rotation, public, **changes)
    assert rotation.signing_key().kid == "first"
    scope = rotate(rotation, public, widen=True, **changes).scope
    assert scope is not None
    wide = Claims(path, publish="") if scope.allows(Claims(path, publish="")) else Claims(path, subscribe="")
    assert scope.allows(wide)
    assert not SCOPE.allows(wide)


def test_a_scope_that_permits_nothing_is_refused(rotation: Rotation, public: Path) -> None:
    put(rotation, key("first"))
    with pytest.raises(InvalidKeyError, match="nothing"):
        rotate(rotation, public, root="project")


def test_a_negative_overlap_is_refused(rotation: Rotation, public: Path) -> None:
    """If the rotation wrote it into the state, the directory would become unreadable."""
    with pytest.raises(ValueError, match="overlap"):
        rotation.rotate(None, public, -1, NOW)
    assert not rotation.directory.exists()


def test_secrets_and_pairs_do_not_follow_each_other(rotation: Rotation, public: Path) -> None:
    """Relays read the two halves from different directories, so one of them would have no overlap."""
    put(rotation, key("secret", "HS256"))
    with pytest.raises(ConfigError, match="EdDSA cannot replace HS256"):
        rotation.rotate(Algorithm.EDDSA, public, None, NOW)
    assert not public.exists()
    rotation.path_of("secret").unlink()
    put(rotation, key("pair"))
    with pytest.raises(ConfigError, match="HS256 cannot replace EdDSA"):
        rotation.rotate(Algorithm.HS256, None, None, NOW)


def test_a_change_of_algorithm_keeps_the_rest(rotation: Rotation, public: Path) -> None:
    put(rotation, key("first", "EdDSA", SCOPE, "sign"))
    made = rotate(rotation, public, algorithm=Algorithm.ES256)
    assert (made.algorithm, made.scope, made.operations) == (Algorithm.ES256, SCOPE, frozenset({KeyOperation.SIGN}))


def test_state_files_of_before_are_read(rotation: Rotation, public: Path) -> None:
    """Version 0.1.0 wrote neither the overlap nor the times of creation."""
    put(rotation, key("new", "ES256", SCOPE), key("old", "ES256", SCOPE))
    public.mkdir()
    for path in rotation.directory.glob("*.jwk"):
        Key.from_file(path).to_public().to_file(public / path.name)
    state = {"active": "new", "retired": {"old": NOW + 60}, "public": "../keys"}
    (rotation.directory / STATE_NAME).write_text(json.dumps(state), encoding="utf-8")
    assert rotation.signing_key().kid == "new"
    assert rotation.check(NOW) == []
    made = rotate(rotation)
    assert (made.algorithm, made.scope) == (Algorithm.ES256, SCOPE)
    assert rotation.state().retired == {"old": NOW + 60, "new": NOW + 86_400}
    assert rotation.state().created == {str(made.kid): NOW}
    assert rotation.prune(NOW + 60).removed == ("old",)
