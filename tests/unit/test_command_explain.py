"""The command `explain`, called as from a shell."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moq_token import Key, RefusedError
from moq_token.cli import main
from tests import forge
from tests.command_line import SECRETS, Cli
from tests.desk import (
    HS,
    RELAY,
    SECRET_WORD,
    TOKEN,
    grant,
    put,
)


class Refusal(NamedTuple):
    """The messages of the command for refused tokens. The clock is fixed at ``forge.NOW``."""

    failed: str
    reason: str
    message: str
    fix: str
    token: str
    key: str = "hs.jwk"
    options: tuple[str, ...] = ("--path", "/rooms/123")


PUBLISH_ONLY = grant(get=...)
REFUSALS = {
    "no token": Refusal("form", "token-expected", "there is no token", "dial with ?jwt=TOKEN", ""),
    "one segment": Refusal("form", "malformed", "this has 1", "copy the whole token", "eyJ"),
    "a segment cut off": Refusal("form", "malformed", "this has 2", "copy the whole token", TOKEN.rpartition(".")[0]),
    "padding": Refusal("form", "malformed", "not canonical base64url", "copy the whole token", f"{TOKEN}="),
    "no JSON": Refusal("claims", "malformed", "not valid JSON", "copy the whole token", forge.token(HS, b"{")),
    "no header": Refusal(
        "form", "malformed", "header of the token", "copy the whole token", forge.token(HS, head=b"[]")
    ),
    "another id": Refusal(
        "key",
        "unknown-key",
        "no key with the id 'test-key'; available ids: 'ed', 'es'",
        "use the key",
        TOKEN,
        "set.jwk",
    ),
    "no id": Refusal(
        "key",
        "unknown-key",
        "has no `kid`",
        "use the key that signed the token",
        forge.token(HS, head=forge.header(HS, kid=...)),
        "set.jwk",
    ),
    "no file": Refusal("key", "unknown-key", "available ids: 'other'", "publish its public half", TOKEN, "directory"),
    "an id that is none": Refusal(
        "key",
        "unknown-key",
        "no key with the id '../hs'",
        "use the key",
        forge.token(HS, head=forge.header(HS, kid="../hs")),
        "directory",
    ),
    "an empty directory": Refusal("key", "unknown-key", "there are no keys at all", "use the key", TOKEN, "folder"),
    "a key for signing": Refusal("key", "unknown-key", "may not verify", "use the key", TOKEN, "sign.jwk"),
    "another algorithm": Refusal(
        "algorithm",
        "wrong-algorithm",
        "the token has 'HS256' as `alg`",
        "the key decides the algorithm",
        TOKEN,
        "ed.public",
    ),
    "none": Refusal(
        "algorithm",
        "wrong-algorithm",
        "its key is for HS256",
        "the key decides the algorithm",
        forge.token(HS, head=forge.header(HS, alg="none"), signer=lambda _: b""),
    ),
    "a changed token": Refusal(
        "signature",
        "bad-signature",
        "the signature does not match",
        "the token was changed",
        forge.token(HS, signer=lambda data: forge.sign(HS, data, bytes(64))),
    ),
    "a wrong type": Refusal(
        "claims", "bad-claims", "the claim `put`", "sign the token with `moq-token sign`", grant(put=5)
    ),
    "an audience": Refusal("claims", "bad-claims", "`aud`", "sign the token with `moq-token sign`", grant(aud="x")),
    "just expired": Refusal(
        "time",
        "expired",
        "the token expired 1 min ago, at 2027-01-15 07:59:00 UTC",
        "sign for longer, or compare the clocks",
        grant(exp=forge.NOW - 60),
    ),
    "long expired": Refusal(
        "time",
        "expired",
        "the token expired 2 h ago, at 2027-01-15 06:00:00 UTC",
        "sign a new token",
        grant(exp=forge.NOW - 7200),
    ),
    "not yet valid": Refusal(
        "time",
        "not-yet-valid",
        "the token is valid in 10 min, from 2027-01-15 08:10:00 UTC on",
        "wait, or compare the clocks",
        grant(nbf=forge.NOW + 600),
    ),
    "nothing granted": Refusal(
        "grants",
        "useless",
        "grants nothing",
        "sign with --publish or --subscribe",
        grant(put=..., get=...),
    ),
    "beyond the scope": Refusal(
        "scope",
        "scope-exceeded",
        "grants 'rooms/123'",
        "allows publishing rooms/123/alice, subscribing to nothing",
        TOKEN,
        "scoped.jwk",
    ),
    "elsewhere": Refusal(
        "path",
        "root-mismatch",
        "does not overlap the root 'rooms/123'",
        "dial '/rooms/123', or a path beneath it",
        TOKEN,
        "hs.jwk",
        ("--path", "/rooms/999"),
    ),
    "nothing there": Refusal(
        "path",
        "no-access",
        "grants nothing at the path 'rooms/123/bob'",
        "it grants publishing rooms/123/alice, subscribing to nothing",
        PUBLISH_ONLY,
        "hs.jwk",
        ("--path", "/rooms/123/bob"),
    ),
    "another broadcast": Refusal(
        "broadcast",
        "no-access",
        "at '/rooms/123' the client must not publish 'bob'",
        "sign with --publish for it; granted there: alice",
        TOKEN,
        "hs.jwk",
        ("--path", "/rooms/123", "--publish", "/bob/"),
    ),
    "nothing to subscribe to": Refusal(
        "broadcast",
        "no-access",
        "at '/rooms/123' the client must not subscribe to 'alice'",
        "sign with --subscribe for it; granted there: nothing",
        PUBLISH_ONLY,
        "hs.jwk",
        ("--path", "rooms/123", "--publish", "alice", "--subscribe", "alice"),
    ),
}


CHECKS = ("key", "form", "algorithm", "signature", "claims", "time", "grants", "scope", "path", "broadcast")


def outcomes(failed: str | None) -> dict[str, bool]:
    """Return the checks that are made of a token, in their order: all are passed but the last one, if one fails."""
    made = {"form": ("form",), "key": ("form", "key"), None: CHECKS}.get(failed)
    if made is None:
        made = CHECKS[: CHECKS.index(failed or "") + 1]
    return {check: check != failed for check in made}


@pytest.mark.parametrize("case", REFUSALS.values(), ids=list(REFUSALS))
def test_explain_says_why_not(counter: Cli, case: Refusal) -> None:
    argv = ["explain", "--key", case.key, *case.options]
    status, out, err = counter.run(*argv, "--json", stdin=f"{case.token}\n")
    assert (status, err) == (1, "")
    found = json.loads(out)
    permissions, ignored = found.pop("permissions"), found.pop("ignored")
    assert (found.pop("relays"), found.pop("others")) == ("relays before 0.15", [])
    message, fix = found.pop("message"), found.pop("fix")
    assert found == {"allowed": False, "checks": outcomes(case.failed), "failed": case.failed, "reason": case.reason}
    assert list(found["checks"])[-1] == case.failed
    assert ignored == []
    assert case.message in message
    assert case.fix in fix
    assert (permissions is None) is ("--publish" not in case.options)

    status, text, err = counter.run(*argv, stdin=case.token)
    lines = [f"{check:<12}{'yes' if passed else 'NO'}" for check, passed in found["checks"].items()]
    assert (status, err) == (1, "")
    assert text.splitlines() == [f"refused: {case.reason}: {message}", *lines, f"fix: {fix}"]
    signature = case.token.rpartition(".")[2]
    assert not [secret for secret in SECRETS if secret in out + text]
    assert len(signature) < 40 or signature not in out + text


@pytest.mark.parametrize("case", REFUSALS.values(), ids=list(REFUSALS))
def test_verify_and_inspect_say_the_same(counter: Cli, case: Refusal) -> None:
    if case.failed in {"path", "broadcast"} or case.reason == "token-expected":
        return
    text = counter.refused(1, "verify", "--key", case.key, stdin=case.token)
    assert f"refused: {case.reason}: " in text
    assert case.message in text
    status, out, _ = counter.run("inspect", "--key", case.key, "--json", stdin=case.token)
    assert status == 1
    if out:  # nothing of a malformed token is shown
        found = json.loads(out)
        signature = "bad" if case.failed == "signature" else "good" if outcomes(case.failed).get("signature") else None
        assert (found["reason"], found["signature"]) == (case.reason, signature or "not checked")
        assert case.message in found["refused"]
    else:
        assert case.reason == "malformed"


@pytest.mark.parametrize("key", ["hs.jwk", "both.jwk", "keys", "keys/"])
def test_explain_says_yes(counter: Cli, key: str) -> None:
    argv = ["explain", "--key", key, "--path", "/rooms//123/", "--publish", "alice/cam", "--subscribe", "bob"]
    text = counter.done(*argv, stdin=TOKEN)
    lines = [f"{check:<12}yes" for check in CHECKS]
    assert text.splitlines() == ["allowed: may publish alice; may subscribe to everything there", *lines]
    found = json.loads(counter.done(*argv, "--json", stdin=TOKEN))
    assert found == {
        "relays": "relays before 0.15",
        "others": [],
        "allowed": True,
        "checks": outcomes(None),
        "failed": None,
        "reason": None,
        "message": None,
        "fix": None,
        "permissions": {"publish": ["alice"], "subscribe": [""]},
        "ignored": [],
    }


def test_explain_takes_the_token_from_anywhere(counter: Cli) -> None:
    put("alice.jwt", f"  {TOKEN}\n")
    argv = ["explain", "--key", "hs.jwk", "--path", "rooms/123"]
    expected = counter.done(*argv, stdin=TOKEN)
    assert counter.done(*argv, TOKEN) == expected
    assert counter.done(*argv, "-", stdin=TOKEN) == expected
    assert counter.done(*argv, "--in", "alice.jwt") == expected
    assert counter.done(*argv, "--in", "-", stdin=TOKEN) == expected
    stdin = Path("hs.jwk").read_bytes()
    assert counter.done("explain", "--key", "-", "--path", "rooms/123", "--in", "alice.jwt", stdin=stdin) == expected


@pytest.mark.parametrize(
    ("status", "argv", "why"),
    [
        (2, [], "missing path: add --path"),
        (2, ["--key", "hs.jwk"], "missing path: add --path"),
        (2, ["--path", "a"], "no key: name its file"),
        (2, ["--path", "a", "--key", "-"], "key and token cannot both come from standard input"),
        (2, ["--path", "a", "--key", "hs.jwk", TOKEN, "--in", "x"], "as an argument or with --in, not both"),
        (2, ["--path", "a", "--key", "hs.jwk", "--in", TOKEN], "--in expects a file name"),
        (2, ["--path", "a", "--key", "hs.jwk", TOKEN, TOKEN], "unexpected argument"),
        (2, ["--config", "relay.toml", "--key", "hs.jwk"], "--config names the key"),
        (2, ["--config", "relay.toml", "--path", "a"], "--config names the key"),
        (1, ["--path", "a", "--key", "hs.jwk", "--in", "gone"], "cannot read 'gone'"),
        (1, ["--path", "a", "--key", "hs.jwk", "--in", "large"], "'large' is larger than"),
        (1, ["--path", "a", "--key", "gone", TOKEN], "cannot read 'gone'"),
        (1, ["--path", "a", "--key", "ed.pem", TOKEN], "convert it with the command `import`"),
        (1, ["--path", "a", "--key", "bad", TOKEN], "bad/test-key.jwk'"),
        (1, ["--config", "gone.toml", "https://relay.example/"], "gone.toml"),
        (1, ["--config", "ed.pem", "https://relay.example/"], "'ed.pem' is not valid TOML"),
        (1, ["--config", "empty", "https://relay.example/"], "nothing is configured"),
    ],
)
def test_explain_refuses(counter: Cli, status: int, argv: list[str], why: str) -> None:
    put("large", "x" * 100_000)
    put("bad/test-key.jwk", SECRET_WORD)
    message = counter.refused(status, "explain", *argv)
    assert why in message
    assert TOKEN.rpartition(".")[2] not in message


@pytest.mark.parametrize(
    ("toml", "url", "options", "failed", "reason", "said"),
    [
        (RELAY, f"https://r.test/rooms/123?jwt={TOKEN}", (), None, None, "may publish alice;"),
        (
            RELAY,
            f"https://123.rooms.relay.example/?jwt={TOKEN}",
            ("--publish", "alice"),
            None,
            None,
            "may publish alice",
        ),
        (RELAY, "https://r.test/live", ("--subscribe", "x"), None, None, "publish open; may subscribe to everything"),
        (RELAY, "https://r.test/live", ("--publish", "x"), "broadcast", "no-access", "granted there: open"),
        (RELAY, "https://r.test/rooms/123", (), "public", "token-expected", "dial with ?jwt=TOKEN"),
        (RELAY, "rooms/123", (), "url", "bad-url", "dial a URL such as"),
        (RELAY, "ftp://r.test/rooms/123", (), "url", "bad-url", "unsupported scheme: 'ftp'"),
        (RELAY, "https://r.test/live?jwt=a.b", (), "form", "malformed", "copy the whole token"),
        (RELAY, f"https://r.test/live?jwt={TOKEN}", (), "path", "root-mismatch", "dial '/rooms/123', or"),
        (RELAY, f"https://r.test/rooms/123?jwt={grant(exp=1)}", (), "time", "expired", "sign a new token"),
        (
            RELAY,
            f"https://r.test/rooms/123?jwt={forge.token(HS, head=forge.header(HS, kid=...))}",
            (),
            "key",
            "kid-missing",
            "sign with a key that has an id",
        ),
        (
            RELAY,
            f"https://r.test/rooms/123?jwt={forge.token(HS, head=forge.header(HS, kid='a/b'))}",
            (),
            "key",
            "bad-kid",
            "whose id is 1 to 128 characters",
        ),
        (
            RELAY,
            f"https://r.test/rooms/123?jwt={forge.token(HS, head=forge.header(HS, kid='gone'))}",
            (),
            "key",
            "unknown-key",
            "use the key that signed the token",
        ),
        ('auth.public = ""', f"https://r.test/rooms/123?jwt={TOKEN}", (), "key", "no-key-source", "set `key`"),
        (
            'auth.key = "scoped.jwk"',
            f"https://r.test/rooms/123?jwt={TOKEN}",
            (),
            "scope",
            "scope-exceeded",
            "grant less",
        ),
        ('auth.key = "sign.jwk"', f"https://r.test/rooms/123?jwt={TOKEN}", (), "key", "unknown-key", "may not verify"),
        ('auth.key = "ed.public"', f"https://r.test/?jwt={TOKEN}", (), "algorithm", "wrong-algorithm", "'HS256'"),
    ],
)
def test_explain_asks_a_configuration_about_a_url(  # noqa: PLR0917 - as above
    counter: Cli, toml: str, url: str, options: tuple[str, ...], failed: str | None, reason: str | None, said: str
) -> None:
    put("relay.toml", toml)
    for argv, stdin in (((url,), ""), (("-",), f"{url}\n"), ((), url)):
        status, out, err = counter.run("explain", "--config", "relay.toml", *options, *argv, stdin=stdin)
        assert (status, err) == (int(failed is not None), "")
        assert said in out
    found = json.loads(counter.run("explain", "--config", "relay.toml", *options, url, "--json")[1])
    assert (found["allowed"], found["failed"], found["reason"]) == (failed is None, failed, reason)
    assert list(found["checks"])[-1:] == ([failed] if failed is not None else list(found["checks"])[-1:])
    assert list(found["checks"].values()).count(False) == int(failed is not None)
    assert "signature" not in found["checks"] or TOKEN.partition(".")[0] in url or "jwt=" in url
    assert TOKEN.rpartition(".")[2] not in out


@pytest.fixture(scope="module")
def verifiers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("verifiers")
    for name, changes in (("open", {}), ("scoped", {"scope": {"root": "a", "put": ["", "b"], "get": ["b"]}})):
        (directory / name).write_text(json.dumps(forge.jwk(HS, **changes)), encoding="utf-8")
    return directory


SEGMENTS = st.lists(st.sampled_from(["a", "b", "ab", "", "é", ".."]), max_size=3).map("/".join)
PREFIXES = st.one_of(SEGMENTS, st.lists(SEGMENTS, max_size=2), st.just(...), st.just(5))
CLAIMS = st.fixed_dictionaries(
    {"root": SEGMENTS, "put": PREFIXES, "get": PREFIXES},
    optional={"exp": st.sampled_from([1, 2**40, "soon"]), "nbf": st.sampled_from([1, 2**40])},
)


@given(
    claims=CLAIMS,
    name=st.sampled_from(["open", "scoped"]),
    path=SEGMENTS,
    publish=SEGMENTS,
    good=st.sampled_from([True, True, True, False]),
)
def test_explain_says_yes_exactly_where_the_library_does(
    verifiers: Path, claims: dict[str, object], name: str, path: str, publish: str, *, good: bool
) -> None:
    secret = forge.SECRET if good else bytes(64)
    text = forge.token(HS, forge.claim(**claims), signer=lambda data: forge.sign(HS, data, secret))
    key = Key.from_file(verifiers / name)
    reason = None
    try:
        allowed = key.verify(text).authorize(path).can_publish(publish)
        reason = None if allowed else "no-access"
    except RefusedError as error:
        reason = error.reason
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        status = main(
            ["explain", text, "--key", str(verifiers / name), f"--path={path}", f"--publish={publish}", "--json"]
        )
    found = json.loads(out.getvalue())
    assert (status, found["allowed"], found["reason"]) == (int(reason is not None), reason is None, reason)
