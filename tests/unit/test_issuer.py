"""Credentials: tokens that always expire and name their bearer, in URLs that are ready to dial."""

from __future__ import annotations

import doctest
import json
import logging
import pickle
import subprocess
import sys
import traceback
from datetime import timedelta
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moq_token import (
    Algorithm,
    Claims,
    ConfigError,
    Error,
    InvalidClaimsError,
    InvalidKeyError,
    InvalidPatternError,
    Key,
    KeyOperationError,
    KeySet,
    Pattern,
    Scope,
    UnavailableError,
)
from moq_token.auth import Connection, decide
from moq_token.issuing import MAX_STALE_SECONDS, MAX_SUBJECT_CHARACTERS, Issuer, SigningKeys, issuer
from tests import forge

if TYPE_CHECKING:
    from pathlib import Path

KEY = forge.key(Algorithm.HS256)
RELAY = "https://relay.example.com"
NOW = 1_700_000_000


def make(keys: Any = KEY, relay: str = RELAY, **options: Any) -> Issuer:  # noqa: ANN401 - also wrong ones
    return Issuer(keys, relay, clock=lambda: NOW + 0.9, **options)


def test_the_example_holds() -> None:
    assert doctest.testmod(issuer).attempted >= 5
    assert doctest.testmod(issuer).failed == 0


def test_a_credential_has_everything_that_a_client_needs() -> None:
    credential = make().grant("rooms/123", publish="alice", subscribe="", subject="alice")
    assert credential.server_url == "https://relay.example.com/rooms/123"
    assert credential.url == f"https://relay.example.com/rooms/123?jwt={credential.token}"
    assert (credential.expires, credential.expires_in) == (NOW + 3600, 3600)
    claims = KEY.verify(credential.token, now=NOW, strict=True)
    assert claims == Claims("rooms/123", "alice", "", expires=NOW + 3600, issued=NOW, subject="alice", id=credential.id)
    assert credential.subject == "alice"
    assert credential.id is not None
    assert len(credential.id) == 22
    assert json.loads(credential.to_json()) == credential.to_members()
    assert credential.to_members() == {
        "server_url": credential.server_url,
        "participant_token": credential.token,
        "url": credential.url,
        "token": credential.token,
        "expires": credential.expires,
        "expires_in": 3600,
    }


def test_every_token_has_its_own_id() -> None:
    issuer = make()
    assert len({issuer.grant("a", "b", subject="c").id for _ in range(100)}) == 100


def test_a_relay_accepts_the_url() -> None:
    credential = make().grant("/rooms//123/", publish=["alice", "alice-screen"], subject="alice")
    grant = decide(Connection.from_url(credential.url), key=KEY, now=NOW)
    assert (grant.root, grant.publish, grant.subscribe) == ("rooms/123", ("alice", "alice-screen"), ())
    assert grant.expires == NOW + 3600


def test_patterns_are_granted() -> None:
    credential = make().grant("rooms/123", publish=Pattern("alice"), subscribe="*/camera", subject="alice")
    claims = KEY.verify(credential.token, now=NOW, strict=True)
    assert (claims.publish, claims.subscribe) == ((Pattern("alice"),), (Pattern("*/camera"),))
    with pytest.raises(InvalidPatternError):
        make().grant("rooms/123", publish="a**", subject="alice")


def test_the_path_of_the_relay_is_part_of_every_token() -> None:
    credential = make(relay=f"{RELAY}/project/a%20b/").grant("rooms/123", "alice", subject="alice")
    assert credential.server_url == f"{RELAY}/project/a%20b/rooms/123"
    assert decide(Connection.from_url(credential.url), key=KEY, now=NOW).publish == ("alice",)


@pytest.mark.parametrize(("path", "dialed"), [("", "/"), ("/", "/"), ("a", "/a")])
def test_the_top(path: str, dialed: str) -> None:
    credential = make().grant(path, "b", subject="c")
    assert credential.server_url == RELAY + dialed
    assert Connection.from_url(credential.url).path == dialed


@given(st.text(max_size=20), st.text(max_size=20))
def test_every_path_is_dialed_as_it_is_signed_and_none_is_taken_for_another(one: str, other: str) -> None:
    dialed = []
    for path in one, other:
        try:
            credential = make().grant(path, "alice", subject="alice")
        except InvalidClaimsError:
            assert "*" in path or "://" in path or {".", ".."} & set(path.split("/"))
            return
        connection = Connection.from_url(credential.url)
        assert decide(connection, key=KEY, now=NOW).publish == ("alice",)
        assert credential.server_url.isascii()
        dialed.append(connection.path)
    names = [[segment for segment in path.split("/") if segment] for path in (one, other)]
    assert (dialed[0] == dialed[1]) == (names[0] == names[1])


@pytest.mark.parametrize(
    ("path", "encoded"),
    [
        ("rooms/a b", "rooms/a%20b"),
        ("rooms/a%20b", "rooms/a%2520b"),
        ("rooms/é", "rooms/%C3%A9"),
        ("a?jwt=x#y", "a%3Fjwt=x%23y"),
        ("a\\..\\b", "a%5C..%5Cb"),
        ("a\n\tb", "a%0A%09b"),
        ('^|{}`"<>[]', "%5E%7C%7B%7D%60%22%3C%3E%5B%5D"),
        ("a.b/~c/...", "a.b/~c/..."),
        ("user@host:1;x=1,2!$&'()+", "user@host:1;x=1,2!$&'()+"),
    ],
)
def test_characters_that_a_url_cannot_have_are_encoded(path: str, encoded: str) -> None:
    credential = make().grant(path, "alice", subject="alice")
    assert credential.server_url == f"{RELAY}/{encoded}"
    assert KEY.verify(credential.token, now=NOW).root == encoded


def test_the_token_is_the_path_for_relays_that_take_it_there() -> None:
    for relay, base in ((RELAY, f"{RELAY}/"), (f"{RELAY}/app/", f"{RELAY}/app")):
        credential = make(relay=relay, style="path").grant("rooms/123", "alice", subject="alice")
        assert credential.server_url == base
        assert credential.url == f"{base.rstrip('/')}/{credential.token}"
        assert KEY.verify(credential.token, now=NOW).root.endswith("rooms/123")


# -- keys


def test_keys_of_every_form_sign(tmp_path: Path) -> None:
    KEY.to_file(tmp_path / "key.jwk")
    public = Key.generate("EdDSA").to_public()
    for keys in (
        KEY,
        KeySet([public, KEY]),
        SigningKeys(tmp_path / "key.jwk"),
        tmp_path / "key.jwk",
        str(tmp_path / "key.jwk"),
    ):
        assert KEY.verify(make(keys).grant("a", "b", subject="c").token, now=NOW).subject == "c"


def test_a_rotation_is_followed(tmp_path: Path) -> None:
    path = tmp_path / "key.jwk"
    Key.generate("EdDSA").to_file(path)
    issuer = make(path)
    for _ in range(2):
        key = Key.generate("EdDSA")
        key.to_file(path)
        assert key.verify(issuer.grant("a", "b", subject="c").token, now=NOW).subject == "c"


def test_an_outage_of_the_keys_is_no_refusal(tmp_path: Path) -> None:
    KEY.to_file(tmp_path / "key.jwk")
    now = [0.0]
    issuer = make(SigningKeys(tmp_path / "key.jwk", clock=lambda: now[0]))
    (tmp_path / "key.jwk").unlink()
    assert issuer.grant("a", "b", subject="c").subject == "c"
    now[0] = MAX_STALE_SECONDS + 1
    with pytest.raises(UnavailableError):
        issuer.grant("a", "b", subject="c")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (forge.key(Algorithm.EDDSA).to_public(), "a public key cannot sign"),
        (KEY.with_operations(["verify"]), "`key_ops`"),
        (KeySet([forge.key(Algorithm.EDDSA).to_public()]), "no key in the set can sign"),
        (KeySet([]), "no key in the set can sign"),
    ],
)
def test_keys_that_cannot_sign(keys: Key | KeySet, message: str) -> None:
    with pytest.raises(KeyOperationError, match=message):
        make(keys)


def test_keys_of_a_wrong_kind(tmp_path: Path) -> None:
    with pytest.raises(InvalidKeyError, match="looks like") as caught:
        make(KEY.to_json())
    assert KEY.to_json()[-20:] not in str(caught.value)
    with pytest.raises(FileNotFoundError):
        make(tmp_path / "none.jwk")
    with pytest.raises(TypeError, match="SigningKeys, a Key, a KeySet or a path, not bytes"):
        make(b"key")


def test_the_scope_of_the_key_holds() -> None:
    issuer = make(KEY.with_scope(Scope("rooms", publish="", subscribe="")))
    assert issuer.grant("rooms/123", "alice", subject="alice").subject == "alice"
    with pytest.raises(InvalidClaimsError, match="outside the scope of the key"):
        issuer.grant("other/123", "alice", subject="alice")


# -- times


@pytest.mark.parametrize(
    ("lifetime", "seconds"),
    [("90s", 90), ("1h30m", 5400), (600, 600), (600.9, 600), (timedelta(minutes=5), 300), ("24h", 86400), (1, 1)],
)
def test_lifetimes(lifetime: float | str | timedelta, seconds: int) -> None:
    for credential in (
        make().grant("a", "b", subject="c", lifetime=lifetime),
        make(lifetime=lifetime).grant("a", "b", subject="c"),
    ):
        assert credential.expires_in == seconds
        assert KEY.verify(credential.token, now=NOW).expires == NOW + seconds


BAD_TIMES = ["", "1", "1 hour", "h", 0, -1, 0.5, float("nan"), float("inf"), 10**12, timedelta(0), "0s"]


@pytest.mark.parametrize("lifetime", BAD_TIMES)
def test_invalid_lifetimes(lifetime: float | str | timedelta) -> None:
    with pytest.raises(InvalidClaimsError, match="`lifetime`"):
        make().grant("a", "b", subject="c", lifetime=lifetime)
    with pytest.raises(ConfigError, match="`lifetime`"):
        make(lifetime=lifetime)
    with pytest.raises(ConfigError, match="`max_lifetime`"):
        make(max_lifetime=lifetime)


@pytest.mark.parametrize("lifetime", [True, b"1h", [1]])
def test_lifetimes_of_a_wrong_type(lifetime: float | str | timedelta) -> None:
    with pytest.raises(TypeError, match="`lifetime` must be seconds"):
        make().grant("a", "b", subject="c", lifetime=lifetime)


def test_no_lifetime_is_above_the_maximum() -> None:
    with pytest.raises(ConfigError, match="`lifetime` is 7200 s, longer than `max_lifetime`, 3600 s"):
        make(lifetime="2h", max_lifetime="1h")
    issuer = make(lifetime="5m", max_lifetime="1h")
    assert issuer.grant("a", "b", subject="c", lifetime="1h").expires_in == 3600
    with pytest.raises(InvalidClaimsError, match="a lifetime of 3601 s is above the maximum"):
        issuer.grant("a", "b", subject="c", lifetime=3601)
    for expires, error in ((NOW + 3601, "above the maximum"), (NOW, "expired already"), (NOW - 5, "expired already")):
        with pytest.raises(InvalidClaimsError, match=error):
            issuer.issue(Claims("a", "b", subject="c", expires=expires))


def test_claims_are_issued_with_what_they_lack() -> None:
    issued = make().issue(Claims("a", "b", subject="c", expires=NOW + 5, id="mine", issued=3, not_before=NOW))
    claims = KEY.verify(issued.token, now=NOW)
    assert (claims.expires, claims.issued, claims.not_before, claims.id) == (NOW + 5, NOW, NOW, "mine")
    assert (issued.id, issued.expires_in) == ("mine", 5)
    assert make().issue(Claims("a", "b", subject="c")).expires_in == 3600
    with pytest.raises(TypeError, match="expected Claims"):
        make().issue("claims")  # type: ignore[arg-type]


# -- what is invalid


@pytest.mark.parametrize("subject", ["", "x" * (MAX_SUBJECT_CHARACTERS + 1)])
def test_invalid_subjects(subject: str) -> None:
    with pytest.raises(InvalidClaimsError, match="`subject` is required: the id of the user, with 1 to 256 characters"):
        make().grant("a", "b", subject=subject)


def test_a_subject_is_required() -> None:
    with pytest.raises(TypeError, match="subject"):
        make().grant("a", "b")  # type: ignore[call-arg]
    with pytest.raises(InvalidClaimsError, match="`subject`"):
        make().issue(Claims("a", "b"))
    with pytest.raises(TypeError, match="subject"):
        make().grant("a", "b", subject=7)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "path", ["..", "a/../b", "a/.", "rooms/*", "**", "a\ud800b", "https://relay.example.com/rooms/123"]
)
def test_invalid_paths(path: str) -> None:
    with pytest.raises(InvalidClaimsError):
        make().grant(path, "b", subject="c")


def test_a_grant_of_nothing() -> None:
    with pytest.raises(InvalidClaimsError, match="grant nothing"):
        make().grant("a", subject="c")


@pytest.mark.parametrize(
    ("relay", "message"),
    [
        ("https://user@relay.example", "no user or password"),
        ("https://user:hunter2@relay.example", "no user or password"),
        ("https://relay.example?jwt=hunter2", "no query"),
        ("https://relay.example/?", "no query"),
        ("https://relay.example/#hunter2", "no fragment"),
        ("relay.example", "invalid URL"),
        ("https://", "invalid URL"),
        ("https:relay.example", "invalid URL"),
        ("https://relay example", "invalid URL"),
        ("https://relay.example:65536", "invalid URL"),
        ("https://relay.example/a b", "invalid URL"),
        ("https://relay.example/%zz", "invalid URL"),
        ("https://relay.example\n", "invalid URL"),
        ("https://rélay.example", "invalid URL"),
        ("https://relay.example/a/../b", "segment"),
        ("https://relay.example/%2E%2e/b", "segment"),
        ("ftp://relay.example", "unsupported scheme 'ftp'"),
        ("http://relay.example", "use https://"),
        ("http://127.evil.example", "use https://"),
        ("ws://localhost.example", "use https://"),
        (f"https://{'a' * 3000}", "longer than"),
        ("", "invalid URL"),
    ],
)
def test_invalid_relays(relay: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        make(relay=relay)
    assert "hunter2" not in str(caught.value)
    assert str(caught.value).startswith("`relay`")


@pytest.mark.parametrize(
    "relay",
    [
        "https://relay.example:4443",
        "http://localhost:4443",
        "http://127.0.0.1:4443",
        "http://[::1]:4443",
        "ws://localhost",
        "wss://relay.example",
        "moqt://relay.example",
        "https://[2001:db8::1]",
        "HTTPS://Relay.Example/",
    ],
)
def test_valid_relays(relay: str) -> None:
    assert make(relay=relay).grant("a", "b", subject="c").server_url == f"{relay.lower().rstrip('/')}/a"


def test_invalid_arguments() -> None:
    styles: list[Any] = ["header", None, ["path"]]
    for style in styles:
        with pytest.raises(ConfigError, match="`style`"):
            make(style=style)
    with pytest.raises(ConfigError, match="`keys`: expected a path or a key, got a URL"):
        Issuer("https://relay.example.com", "signing")
    with pytest.raises(TypeError, match="`relay` must be a str"):
        make(relay=None)  # type: ignore[arg-type]
    paths: list[Any] = [7, None, b"rooms", PurePosixPath("rooms")]
    for path in paths:
        with pytest.raises(TypeError, match="`path` must be a str, not "):
            make().grant(path, "b", subject="c")


# -- dependencies


LIGHT = """
import sys
for extra in {extras!r}:
    sys.modules[extra] = None
from moq_token import Claims, Key
from moq_token.issuing import Issuer, SigningKeys
issuer = Issuer(Key.generate("HS256"), "https://relay.example.com")
issuer.grant("a", "b", subject="c").to_json()
print(*(name for name in ("asyncio", "socket", "ssl", "json", "urllib.request") if name in sys.modules))
from moq_token.issuing import TokenSource, endpoint
endpoint(issuer, lambda _: Claims("a", "b", subject="c"))
TokenSource("https://app.example.com/token")
print(TokenSource(lambda: issuer.grant("a", "b", subject="c")).get_sync().subject)
"""
EXTRAS = ["httpx2", "hishel", "truststore", "obstore", "httptools", "uvloop", "starlette", "moq"]


def test_signing_loads_little_and_nothing_needs_an_extra() -> None:
    command = [sys.executable, "-c", LIGHT.format(extras=EXTRAS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("\nc\n", "")


LISTED = """
import pydoc
import moq_token.issuing
missing = set(moq_token.issuing.__all__) - set(dir(moq_token.issuing))
text = pydoc.plain(pydoc.render_doc(moq_token.issuing))
print(missing, *(name in text for name in ("class TokenSource", "endpoint(issuer")))
"""


def test_help_shows_what_is_imported_when_it_is_first_used() -> None:
    done = subprocess.run([sys.executable, "-c", LISTED], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("set() True True\n", "")


def test_names_that_do_not_exist() -> None:
    with pytest.raises(ImportError, match="cannot import name 'Endpoint'"):
        exec("from moq_token.issuing import Endpoint")  # noqa: S102 - type checkers know that it does not exist


# -- secrets


def test_a_credential_is_not_shown(caplog: pytest.LogCaptureFixture) -> None:
    credential = make().grant("a", "b", subject="c")
    with caplog.at_level(logging.DEBUG):
        logging.getLogger("test").warning("%s %r", credential, credential)
    for text in (repr(credential), str(credential), f"{credential}", caplog.text, repr(make())):
        assert credential.token.rpartition(".")[2] not in text
        assert credential.token[:20] not in text
    assert "relay.example.com/a" in repr(credential)
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(credential)


def test_errors_hold_no_frames_with_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(issuer, "Credential", fail)
    with pytest.raises(KeyboardInterrupt) as caught:
        make().grant("a", "b", subject="c")
    frames = [frame.f_code.co_name for frame, _ in traceback.walk_tb(caught.value.__traceback__)]
    assert "_issue" not in frames


def test_errors_are_of_the_family() -> None:
    for error in (ConfigError, InvalidClaimsError, KeyOperationError, UnavailableError):
        assert issubclass(error, Error)
