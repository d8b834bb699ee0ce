"""Compare `Policy` with the decisions of the Rust reference, row by row."""

from __future__ import annotations

import asyncio
import gc
import json
import os
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from moq_token import Algorithm, Claims, Key, KeyId, KeyNotFoundError, Pattern, Patterns, RefusedError, UnavailableError
from moq_token.contract import Event
from moq_token.keytext import MAX_KEY_BYTES
from moq_token.server import AuthServer, Cap, CapKind, Grant, Policy, Request, keys, policy
from moq_token.server.http import HttpRequest, HttpResponse
from moq_token.server.keys import FRESH_SECONDS, PolicyKeys
from tests import forge
from tests.forge import VECTORS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

DOCUMENT = json.loads((VECTORS / "auth_server.json").read_text(encoding="utf-8"))

# Known differences from the reference, on purpose: the status, and the reason.
DIFFERENT = {
    "mtls with a certificate past its end": (403, "a relay takes the grant that has ended for an outage"),
    "malformed token: crit": (403, "an extension that is not understood (RFC 7515, section 4.1.11)"),
    "end without bytes": (204, "the end of a session is the end, however little is said of it"),
    "unknown transport": (200, "the contract grows: a transport decides nothing"),
    "remote not an address": (200, "it counts as absent, and decides nothing without a cap"),
}
# The variants of the reference's refusals, and our reason codes for them.
REASONS = {
    "no-keys": {"no-key-source"},
    "missing-key-id": {"kid-missing"},
    "invalid-token": {
        *("bad-claims", "bad-signature", "expired", "malformed", "no-access", "not-yet-valid", "scope-exceeded"),
        *("unknown-key", "useless", "wrong-algorithm"),
    },
}


class Clock:
    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the key files of the reference's run."""
    path = tmp_path_factory.mktemp("keys")
    for name, content in DOCUMENT["files"].items():
        (path / name).write_text(content, encoding="utf-8")
    return path


def server(settings: dict[str, Any], directory: Path, clock: Clock) -> AuthServer:
    settings = {
        name: list(map(Pattern, value)) if name.endswith(("_publish", "_subscribe")) else value
        for name, value in settings.items()
    }
    keys = directory if settings.pop("key_dir", None) else None
    if "key" in settings:
        keys = directory / settings.pop("key")
    limits = {kind: settings.pop(f"limit_{kind}", None) for kind in ("token", "remote")}
    caps = {CapKind(kind): Cap(limit) for kind, limit in limits.items() if limit is not None}
    return AuthServer(Policy(keys, **settings, spread=0, clock=clock), caps=caps, clock=clock, steady=clock)


def posted(request: dict[str, Any]) -> HttpRequest:
    return HttpRequest("POST", "/", {"content-type": "application/json"}, json.dumps(request).encode())


def ask(server: AuthServer, request: dict[str, Any]) -> HttpResponse:
    return asyncio.run(server.handle(posted(request)))


@pytest.mark.parametrize("row", DOCUMENT["decisions"], ids=lambda row: row["name"])
def test_decision(
    row: dict[str, Any], directory: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "FRESH_SECONDS", 60)  # however long the first answer takes
    clock = Clock(row.get("now", DOCUMENT["provenance"]["made"]))
    caplog.set_level("INFO", "moq_token.server")
    asked = server(row["policy"], directory, clock)
    response = ask(asked, row["request"])
    expected, _ = DIFFERENT.get(row["name"], (row["status"], ""))
    assert response.status == expected
    if row["name"] in DIFFERENT:
        assert expected != row["status"]
    elif response.status == 200:
        assert json.loads(response.body) == row["grant"]
    elif response.status == 403:
        (reason,) = (vars(record)["reason"] for record in caplog.records if "reason" in vars(record))
        assert reason in REASONS.get(row["reason"], {row["reason"]})
    # The second time the key is known. What is granted then waits for nothing, and what is answered is the same.
    again = asked.respond(posted(row["request"]))
    assert response.status != 200 or isinstance(again, HttpResponse)
    assert (again if isinstance(again, HttpResponse) else asyncio.run(again)) == response


@pytest.mark.parametrize("row", DOCUMENT["sequences"], ids=lambda row: row["name"])
def test_sequence(row: dict[str, Any], directory: Path) -> None:
    clock = Clock(DOCUMENT["provenance"]["made"])
    asked = server(row["policy"], directory, clock)
    start = clock.now
    for step in row["steps"]:
        clock.now = start + step["at"]
        assert ask(asked, step["request"]).status == step["status"], step


@pytest.mark.parametrize("row", DOCUMENT["http"], ids=lambda row: row["name"])
def test_http(row: dict[str, Any], directory: Path) -> None:
    body = b"x" * row["bytes"] if row["sent"] is None else row["sent"].encode()
    headers = {} if row["content_type_sent"] is None else {"content-type": row["content_type_sent"]}
    asked = server({"public_subscribe": ["**"]}, directory, Clock(0))
    status = asyncio.run(asked.handle(HttpRequest(row["method"], row["uri"], headers, body))).status
    # What the reference does not know: a question of relay 0.14, here without its `root`.
    assert status == (422 if row["method"] in {"GET", "HEAD"} else row["status"])


@pytest.mark.parametrize(("segments", "status"), [(15, 200), (16, 403)])
def test_a_subtree_beyond_what_patterns_can_express_is_refused(tmp_path: Path, segments: int, status: int) -> None:
    """From the top, the path has this many segments more; `**` counts as one."""
    forge.key(Algorithm.HS256).to_file(tmp_path / "key.jwk")
    token = forge.token(Algorithm.HS256, {"root": "/".join("a" * 16), "put": ["/".join("b" * segments)]})
    request = {"id": "1", "event": "connect", "node": "", "transport": "quic", "path": "/", "query": f"jwt={token}"}
    assert ask(server({"key": "key.jwk"}, tmp_path, Clock(forge.NOW)), request).status == status


@pytest.mark.parametrize("remember", [0, 3, 1000])
def test_what_is_remembered_of_claims_is_theirs_alone(directory: Path, remember: int) -> None:
    """A new claims object at the memory address of an old one gets its own grants."""
    key = forge.key(Algorithm.HS256)
    key.to_file(directory / f"{key.kid}.jwk", overwrite=True)
    policy = Policy(directory, remember=remember, clock=Clock(forge.NOW))
    tokens = {name: key.sign(Claims("room", name, f"{name}/x")) for name in map(str, range(50))}
    for _ in range(3):
        for name, token in tokens.items():
            for path, below in (("/room", f"{name}/"), (f"/room/{name}", ""), ("/", f"room/{name}/")):
                request = Request(
                    id="1", event=Event.CONNECT, node="", transport="quic", path=path, query=f"jwt={token}"
                )
                grant = asyncio.run(policy(request))
                assert list(map(str, grant.publish)) == [f"{below}**"]


def test_a_key_that_is_refused_replaces_the_last_good_one() -> None:
    """A source that fails afterwards does not bring back the key that was replaced."""
    good = Key.generate("HS256", "one")
    refused = Key.from_members({name: value for name, value in good.to_members().items() if name != "kty"})

    class Source:
        answers: ClassVar[list[Key | UnavailableError]] = [good, UnavailableError("down"), refused]

        async def get(self, kid: KeyId | None, /) -> Key:
            assert kid == "one"
            answer = self.answers.pop(0) if self.answers else UnavailableError("down")
            if isinstance(answer, UnavailableError):
                raise answer
            return answer

        async def aclose(self) -> None:
            """Close nothing."""

    clock = Clock(0.0)
    keys = PolicyKeys(Source(), strict=True, remember=0, clock=clock)

    async def get() -> Key:
        clock.now += FRESH_SECONDS
        return await keys.get("one")

    assert asyncio.run(get()) is good
    assert asyncio.run(get()) is good  # the last good one, while the source is down
    with pytest.raises(KeyNotFoundError):
        asyncio.run(get())
    with pytest.raises(UnavailableError):
        asyncio.run(get())


def test_a_burst_of_requests_asks_the_source_of_a_key_once() -> None:
    """A key that was removed or replaced is out after 0.01 s all the same."""
    assert FRESH_SECONDS <= 0.01
    key, clock, asked = Key.generate("HS256", "one"), Clock(0.0), list[KeyId | None]()

    class Source:
        async def get(self, kid: KeyId | None, /) -> Key:
            asked.append(kid)
            if clock.now >= 2 * FRESH_SECONDS:
                raise KeyNotFoundError("removed", kid=kid)
            return key

        async def aclose(self) -> None:
            """Close nothing."""

    known = PolicyKeys(Source(), strict=True, remember=0, clock=clock)
    for now, questions in ((0.0, 1), (0.9, 1), (1.0, 2), (1.9, 2)):
        clock.now = now * FRESH_SECONDS
        assert asyncio.run(known.get("one")) is key
        assert len(asked) == questions
    clock.now = 2 * FRESH_SECONDS
    for _ in range(2):
        with pytest.raises(KeyNotFoundError):
            asyncio.run(known.get("one"))


def asking(key: Key, directory: Path) -> Callable[[str], Grant]:
    """Return a function that lets a policy decide about a token that a user presents."""
    key.to_file(directory / "key.jwk")
    decide = Policy(directory / "key.jwk")

    def ask_for(user: str) -> Grant:
        token = key.sign(Claims("room", user))
        request = Request(id=user, event=Event.CONNECT, node="", transport="quic", path="/room", query=f"jwt={token}")
        return asyncio.run(decide(request))

    return ask_for


def test_what_a_token_grants_is_remembered_for_its_rechecks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bound the oldest alone is dropped: to drop all of them at once would stall the other sessions."""
    monkeypatch.setattr(policy, "REMEMBERED_TOKENS", 2)
    ask_for = asking(Key.generate("HS256", "one"), tmp_path)
    known: dict[str, Patterns] = {}
    for user in ("a", "b", "c"):
        ask_for(user)
        known[user] = ask_for(user).publish
        assert ask_for(user).publish is known[user]
    assert [ask_for(user).publish is known[user] for user in ("b", "c", "a")] == [True, True, False]


def test_tokens_that_come_once_leave_nothing_for_the_garbage_collector(tmp_path: Path) -> None:
    """It stalls all requests while it looks at what is there."""
    ask_for = asking(Key.generate("HS256", "one"), tmp_path)
    ask_for("first")
    gc.collect()
    before = len(gc.get_objects())
    for number in range(300):
        ask_for(str(number))
    gc.collect()
    assert len(gc.get_objects()) < before + 100


def test_a_subclass_of_the_policy_decides_by_itself() -> None:
    class Suspended(Policy):
        async def __call__(self, request: Request) -> Grant:
            raise RefusedError(f"{request.path} is suspended", reason="suspended")

    answered = AuthServer(Suspended(public_subscribe=["**"]))
    assert ask(answered, {"id": "1", "event": "connect", "node": "", "transport": "quic", "path": "/a"}).status == 403


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo, lambda path: path.write_bytes(b" " * (MAX_KEY_BYTES + 1))])
def test_what_is_no_key_file_is_an_unknown_key(tmp_path: Path, make: Callable[[Path], None]) -> None:
    """To ask again does not help, so that it is a refusal; a file that cannot be read is an outage."""
    make(tmp_path / f"{forge.KID}.jwk")
    token = forge.token(Algorithm.HS256, forge.GRANT)
    request = {"id": "1", "event": "connect", "node": "", "transport": "quic", "path": "/", "query": f"jwt={token}"}
    assert ask(server({"key_dir": True}, tmp_path, Clock(forge.NOW)), request).status == 403
    assert ask(server({"key": f"{forge.KID}.jwk"}, tmp_path, Clock(forge.NOW)), request).status == 403
    (tmp_path / "loop.jwk").symlink_to("loop.jwk")
    assert ask(server({"key": "loop.jwk"}, tmp_path, Clock(forge.NOW)), request).status == 503


@pytest.mark.parametrize("ends", [253402300799, 253402300800, 2**53, 2**63 - 1])
def test_the_end_of_a_certificate_counts_as_it_is(tmp_path: Path, ends: int) -> None:
    tls = {"name": "a", "fingerprint": "b", "issuer": "CN=c", "expires": ends}
    request = {"id": "1", "event": "connect", "node": "", "transport": "quic", "path": "/a", "tls": tls}
    answer = ask(server({"mtls_publish": ["**"]}, tmp_path, Clock(forge.NOW)), request)
    assert (answer.status, json.loads(answer.body)) == (200, {"publish": ["**"], "expires": ends})
