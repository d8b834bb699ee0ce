"""`ban`, `narrow`, `kick`, `unban`, `bans` and `sessions`: what they ask, what they show, and how they exit.

The admin listener is a small server here, whose answers are given. tests/unit/test_server_revocations.py has the real
one.
"""

from __future__ import annotations

import contextlib
import json
import socketserver
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any

import pytest

from moq_token import Algorithm, Claims
from moq_token.cli import admin, output
from moq_token.server.api import BanRequest, Filter
from tests import forge
from tests.command_line import Cli
from tests.serving import in_thread

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="unix sockets")

NOW = 1_800_000_000
TOKEN = forge.key(Algorithm.HS256).sign(Claims("room", "", expires=NOW + 600))
DENIAL = {"id": "3f2a9c0d1e5b47a68890", "subject": "mallory", "until": NOW + 3600, "reason": "spam", "author": "alice"}
COMPLETE = {
    "matched": 3,
    "ended": 3,
    "alive": [],
    "unreachable": [],
    "slowest_ms": 7.6,
    "out_by": None,
    "complete": True,
}
PARTIAL = {
    "matched": 3,
    "ended": 1,
    "alive": ["a" * 32, "b" * 32],
    "unreachable": [{"node": "edge-2", "url": "http://127.0.0.1:9102", "error": "connection refused"}],
    "slowest_ms": 4,
    "out_by": NOW + 60,
    "expires_by": NOW + 3600,
    "complete": False,
}


class Listener:
    """Answers every request with the same status and body, and keeps the requests."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, Any]] = []
        self.status = 200
        self.body: bytes = b"{}"

    def answers(self, value: object, status: int = 200) -> None:
        self.body, self.status = json.dumps(value).encode(), status


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


@contextlib.contextmanager
def listening(path: Path) -> Iterator[Listener]:
    listener = Listener()

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            length = int(self.headers.get("content-length", 0))
            body = json.loads(self.rfile.read(length)) if length else None
            listener.requests.append((self.command, self.path, body))
            self.send_response(listener.status)
            self.send_header("content-length", str(len(listener.body)))
            self.end_headers()
            self.wfile.write(listener.body)

        do_GET = do_POST = do_DELETE = answer  # noqa: N815 - the names of the base class

        def log_message(self, format: str, *args: object) -> None: ...  # noqa: A002 - of the base class

        def address_string(self) -> str:
            return ""

    with in_thread(_Server(str(path), Handler)):
        yield listener


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    made = Cli(capsys, monkeypatch)
    made.at(NOW)
    return made


@pytest.fixture
def at(tmp_path: Path) -> str:
    return f"unix:{tmp_path}/admin.sock"


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str) -> Iterator[Listener]:
    monkeypatch.setenv("MOQ_TOKEN_ADMIN", at)
    monkeypatch.setenv("LOGNAME", "carol")
    with listening(tmp_path / "admin.sock") as listener:
        yield listener


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "to_terminal", lambda stream: stream is sys.stdout)
    monkeypatch.setattr(output, "coloured", lambda _: False)


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        ("ban --subject mallory --for 1h", {"subject": "mallory", "for": "3600s"}),
        (
            "ban --jti 1 --kid k --session s --remote 192.0.2.0/24 --path rooms/** --for 1d",
            {"jti": "1", "kid": "k", "session": "s", "remote": "192.0.2.0/24", "path": "rooms/**", "for": "86400s"},
        ),
        (
            "ban --issued-before now --everybody --for 1h --reason leak --author bob --dry-run",
            {
                "issued_before": NOW,
                "everybody": True,
                "for": "3600s",
                "reason": "leak",
                "author": "bob",
                "dry_run": True,
            },
        ),
        ("ban --token -", {"token": TOKEN}),
        ("ban --token - --for 15m", {"token": TOKEN, "for": "900s"}),
        ("ban --path /rooms/1 --for 1h", {"path": "rooms/1", "for": "3600s"}),
        (
            "narrow --subject mallory --without publish --for 10m",
            {"subject": "mallory", "role": "publish", "for": "600s"},
        ),
        (
            "narrow --subject mallory --without-path /rooms/1/** --for 10m",
            {"subject": "mallory", "narrow_path": "rooms/1/**", "for": "600s"},
        ),
    ],
)
def test_bans(cli: Cli, server: Listener, argv: str, expected: dict[str, object]) -> None:
    answer = {"denial": DENIAL, "receipt": COMPLETE}
    server.answers(answer)
    assert json.loads(cli.done(*argv.split(), stdin=f"{TOKEN}\n")) == answer
    assert server.requests == [("POST", "/bans", {"author": "carol", **expected})]


@pytest.mark.parametrize("around", ["{}", "Bearer {}\n", "https://relay.example.com/room?jwt={}"])
def test_the_token_can_be_pasted(cli: Cli, server: Listener, around: str) -> None:
    server.answers({"denial": DENIAL, "receipt": COMPLETE})
    cli.done("ban", "--token", "-", stdin=around.format(TOKEN))
    assert server.requests == [("POST", "/bans", {"token": TOKEN, "author": "carol"})]


@pytest.mark.parametrize("given", ["", "root:x:0:0", '{"kty":"oct","k":"hunter2"}', f"{TOKEN}.x"])
def test_what_is_no_token_is_not_sent(cli: Cli, server: Listener, given: str) -> None:
    cli.refused(1, "ban", "--token", "-", stdin=given)
    assert server.requests == []


def test_kick(cli: Cli, server: Listener) -> None:
    server.answers(COMPLETE)
    assert json.loads(cli.done("kick", "--session", "abc")) == COMPLETE
    assert (
        json.loads(cli.done(*["kick", "--node", "n", "--path", "a", "--dry-run", "--reason", "x", "--author", "bob"]))
        == COMPLETE
    )
    assert server.requests == [
        ("POST", "/kick", {"id": "abc", "author": "carol"}),
        ("POST", "/kick", {"node": "n", "path": "a", "author": "bob", "reason": "x", "dry_run": True}),
    ]


def test_listings(cli: Cli, server: Listener) -> None:
    server.answers({"sessions": [], "bans": []})
    for argv in ("sessions", "sessions --subject a&b --session 1 --path /rooms/** --limit 5", "bans", "bans --json"):
        cli.done(*argv.split())
    assert [target for _, target, _ in server.requests] == [
        "/sessions",
        "/sessions?subject=a%26b&id=1&path=rooms%2F%2A%2A&limit=5",
        "/bans",
        "/bans",
    ]


def test_unban(cli: Cli, server: Listener) -> None:
    server.answers({"denial": DENIAL})
    assert len(cli.done("unban", "01ab", "cd").splitlines()) == 2
    assert [request[:2] for request in server.requests] == [
        ("DELETE", "/bans/01ab?author=carol"),
        ("DELETE", "/bans/cd?author=carol"),
    ]


def test_unban_goes_on_after_a_ban_that_is_not_in_force(cli: Cli, server: Listener) -> None:
    server.answers({"error": {"message": "x", "reason": "unknown-ban"}}, 404)
    status, out, err = cli.run("unban", "01ab", "cd")
    assert (status, out) == (1, "")
    assert err.splitlines() == [
        f"error: no ban with the id '{name}' is in force: `bans` lists them" for name in ("01ab", "cd")
    ]
    server.answers({"error": {"message": "the disk is full", "reason": "x"}}, 503)
    assert "the disk is full" in cli.refused(1, "unban", "01ab", "cd")


@pytest.mark.parametrize("name", [*BanRequest.__struct_fields__, *Filter.__struct_fields__])
def test_what_is_wrong_is_named_as_the_option(cli: Cli, server: Listener, name: str) -> None:
    options = {
        "narrow_path": "--without-path",
        "role": "--without",
        "id": "`id`",
        "tier": "`tier`",
        "transport": "`transport`",
    }
    server.answers({"error": {"message": f"`{name.rstrip('_')}` is `a/**`", "reason": "invalid"}}, 422)
    told = cli.refused(2, "ban", "--subject", "x", "--for", "1h")
    assert f"{options.get(name, '--' + name.rstrip('_').replace('_', '-'))} is `a/**`" in told


@pytest.mark.parametrize("command", ["ban --subject mallory --for 1h", "kick --subject mallory"])
def test_the_status_says_whether_all_have_ended(cli: Cli, server: Listener, command: str) -> None:
    def status(receipt: dict[str, object], *more: str) -> int:
        server.answers({"denial": DENIAL, "receipt": receipt} if command.startswith("ban") else receipt)
        return cli.run(*command.split(), *more)[0]

    assert status(COMPLETE) == 0
    assert status(PARTIAL) == 1
    assert status({}) == 1  # no receipt is not a good one
    assert status(PARTIAL, "--dry-run") == 0


# -- for people


@pytest.mark.usefixtures("terminal")
def test_receipts_for_people(cli: Cli, server: Listener) -> None:
    server.answers({"denial": DENIAL, "receipt": COMPLETE})
    assert cli.run("ban", "--subject", "mallory", "--for", "1h")[1].splitlines() == [
        "whom         subject mallory",
        "what         is refused",
        "until        2027-01-15 09:00:00 UTC, in 1 h",
        "id           3f2a9c0d1e5b47a68890, to lift it: unban 3f2a9c0d1e5b47a68890",
        "ended        3 of 3 sessions, the slowest after 8 ms",
    ]
    server.answers({"denial": DENIAL | {"role": "publish", "narrow_path": "rooms/1/**"}, "receipt": PARTIAL})
    assert cli.run("narrow", "--subject", "mallory", "--for", "1h", "--without", "publish")[1].splitlines()[1:] == [
        "what         takes publish at rooms/1/** away",
        "until        2027-01-15 09:00:00 UTC, in 1 h",
        "id           3f2a9c0d1e5b47a68890, to lift it: unban 3f2a9c0d1e5b47a68890",
        "ended        1 of 3 sessions, the slowest after 4 ms",
        f"still alive  2: {'a' * 32}, {'b' * 32}",
        "unreachable  relay edge-2 at http://127.0.0.1:9102: connection refused",
        (
            "out by       2027-01-15 08:01:00 UTC, in 1 min, "
            "or by 2027-01-15 09:00:00 UTC if the relay cannot reach its auth server"
        ),
    ]
    # Without a cadence, they are out at the end of their grants in any case.
    server.answers({"denial": DENIAL, "receipt": PARTIAL | {"expires_by": NOW + 60}})
    assert cli.run("ban", "--subject", "m", "--for", "1h")[1].endswith(
        "out by       2027-01-15 08:01:00 UTC, in 1 min\n"
    )
    starting = {
        "kind": "start",
        "node": "",
        "error": "started 3 s ago and does not know all sessions yet: they come back",
    }
    rest = {"matched": 0, "ended": 0, "alive": [], "unreachable": [starting], "out_by": NOW + 60, "complete": False}
    server.answers({"denial": DENIAL, "receipt": rest})
    status, text, _ = cli.run("ban", "--subject", "m", "--for", "1h")
    assert status == 1
    assert text.splitlines()[-3:] == [
        "ended        no live session matched",
        "starting     this server started 3 s ago and does not know all sessions yet: they come back",
        (
            "out by       2027-01-15 08:01:00 UTC, in 1 min, "
            "or if the relay cannot reach its auth server, at the end of the grant"
        ),
    ]
    server.answers(
        {"denial": DENIAL, "receipt": rest | {"unreachable": [starting | {"node": "b-12ab"}], "out_by": None}}
    )
    assert (
        cli.run("ban", "--subject", "m", "--for", "1h")[1]
        .splitlines()[-1]
        .startswith("starting     the auth server b-")
    )
    others = [
        {"kind": "share", "node": "", "error": "other servers were not asked: it is full"},
        {"kind": "server", "node": "b-12ab", "error": "no answer within 5 s"},
        {"node": "edge-3", "server": "c-34cd", "error": "connection refused"},
        {"kind": "relay-0.14", "node": "", "error": "it cannot be told"},
        {"kind": "relay-0.14", "node": "", "server": "c-34cd", "error": "it cannot be told"},
    ]
    server.answers({"denial": DENIAL, "receipt": PARTIAL | {"unreachable": others}})
    lines = cli.run("ban", "--subject", "mallory", "--for", "1h")[1].splitlines()
    assert [line for line in lines if line.startswith("unreachable")] == [
        "unreachable  other servers were not asked: it is full",
        "unreachable  auth server b-12ab: no answer within 5 s",
        "unreachable  relay edge-3, of the auth server c-34cd: connection refused",
        "unreachable  relay 0.14: it cannot be told",
        "unreachable  relay 0.14, of the auth server c-34cd: it cannot be told",
    ]
    server.answers({"denial": DENIAL, "receipt": PARTIAL | {"stored": False}})
    assert "not stored   a restart" in cli.run("ban", "--subject", "mallory", "--for", "1h")[1]
    told = cli.run("ban", "--subject", "mallory", "--for", "1h", "--dry-run")[1]
    assert "would be refused" in told
    assert told.splitlines()[-2:] == [
        "would end    3 sessions",
        "unreachable  relay edge-2 at http://127.0.0.1:9102: connection refused",
    ]
    server.answers(COMPLETE | {"matched": 0, "ended": 0})
    assert cli.run("kick", "--session", "x")[:2] == (0, "ended        no live session matched\n")
    server.answers(PARTIAL | {"out_by": None})
    assert "out by       unknown" in cli.run("kick", "--session", "x")[1]
    server.answers(COMPLETE | {"out_by": NOW + 60})
    told = cli.run("kick", "--session", "x")[1]
    assert told.endswith("relay 0.14   2027-01-15 08:01:00 UTC, in 1 min: by then, its sessions have ended too\n")


@pytest.mark.usefixtures("terminal")
def test_listings_for_people(cli: Cli, server: Listener) -> None:
    bans = [
        DENIAL,
        {"id": "aa", "issued_before": NOW, "everybody": True, "until": NOW + 86400 * 3},
        {"id": "bb", "remote": "192.0.2.0/24", "path": "rooms/**", "role": "publish", "until": NOW + 90},
    ]
    server.answers({"bans": bans})
    assert cli.run("bans")[1].splitlines() == [
        "ID                    WHOM                                          WHAT           FOR     BY     REASON",
        "3f2a9c0d1e5b47a68890  subject mallory                               refused        1 h     alice  spam",
        "aa                    tokens issued before 2027-01-15 08:00:00 UTC  refused        3 days  -",
        "bb                    address 192.0.2.0/24, path rooms/**           loses publish  90 s    -",
    ]
    session = {"id": "s1", "subject": "mallory", "path": "/rooms/1", "remote": "192.0.2.1:5", "node": "n", "first": NOW}
    server.answers({"sessions": [session, {"id": "s2\x1b[2J"}], "count": 7})
    assert cli.run("sessions")[1].splitlines() == [
        "ID         SUBJECT  PATH      REMOTE       NODE  SINCE",
        "s1         mallory  /rooms/1  192.0.2.1:5  n     0 s",
        "s2\\x1b[2J  -                  -            -     -",
        "and 5 more: add --limit, or narrow the list with --subject, --path or --remote",
    ]
    server.answers({"sessions": [session], "count": 1, "missing": ["b", "c"]})
    assert cli.run("sessions")[1].endswith("these servers are missing, they did not answer: b, c\n")
    server.answers({"sessions": [], "bans": []})
    assert cli.run("sessions")[1] == "no live session matches\n"
    assert cli.run("bans")[1] == "nobody is banned\n"
    server.answers({"denial": DENIAL})
    assert cli.run("unban", "aa")[1] == "lifted 3f2a9c0d1e5b47a68890: subject mallory, 1 h before its end\n"


# -- wrong usage, and what does not answer


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ("ban --for 1h", "say whom"),
        ("kick", "say whom"),
        ("ban --subject x", "--for is missing"),
        ("ban --subject x --for 1", "--for must be a duration such as"),
        ("ban --subject x --for 1h --until 3", "no such option '--until'"),
        ("ban --issued-before yesterday --for 1h --everybody", "--issued-before must be a Unix timestamp"),
        ("narrow --subject x --for 1h", "say what they lose"),
        ("narrow --subject x --for 1h --without watch", "'watch' is not one of"),
        ("unban", "the id of a ban is missing"),
        ("unban mallory", "expected the id of a ban, got 'mallory': `bans` lists them"),
        ("unban ../kick", "expected the id of a ban, got '../kick'"),
        (f"ban --subject {TOKEN} --for 1h", "--subject: this looks like a token: pass it with --token FILE"),
        (f"kick --session {TOKEN}", "--session: this looks like a token"),
        (f"sessions --jti {TOKEN}", "--jti: this looks like a token"),
        (f"ban --subject x --for 1h --reason {TOKEN}", "--reason: this looks like a token"),
        (f"ban --subject x --for {TOKEN}", "--for must be a duration such as"),
        (f"ban --subject x --for {'9' * 9000}", "--for must be a duration such as"),
        (f"unban {TOKEN}", "expected the id of a ban: `bans` lists them"),
        (f"bans --admin {TOKEN}", "--admin must be unix:PATH"),
        (f"ban --token {TOKEN}", "--token expects a file name, but this looks like a key or a token"),
    ],
)
def test_wrong_usage(cli: Cli, server: Listener, argv: str, message: str) -> None:
    said = cli.refused(2, *argv.split())
    assert message in said
    assert TOKEN[:20] not in said
    assert len(said) < 300
    assert server.requests == []


@pytest.mark.parametrize(
    "place",
    [
        "http://192.0.2.1:4441",
        "http://example.com:4441",
        "https://127.0.0.1:4441",
        "http://127.0.0.1",
        "http://127.0.0.1:4441/x",
        "http://user:hunter2@127.0.0.1:4441",
        "http://127.0.0.1:99999",
        "unix:",
        "/run/admin.sock",
    ],
)
def test_bad_addresses(cli: Cli, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "--admin must be unix:PATH, or http:// with a loopback address" in cli.refused(2, "bans", "--admin", place)
    monkeypatch.setenv("MOQ_TOKEN_ADMIN", place)
    assert "MOQ_TOKEN_ADMIN must be unix:PATH" in cli.refused(2, "bans")


def test_no_address(cli: Cli) -> None:
    assert "or set MOQ_TOKEN_ADMIN" in cli.refused(2, "bans")


def test_nothing_there(cli: Cli, tmp_path: Path, at: str) -> None:
    assert "socket not found: is `serve` running" in cli.refused(1, "bans", "--admin", at)
    (tmp_path / "admin.sock").write_text("")
    assert "connection refused: is `serve` running" in cli.refused(1, "bans", "--admin", at)
    assert "connection refused: is `serve` running" in cli.refused(1, "bans", "--admin", "127.0.0.1:1")
    assert "path of the socket is too long" in cli.refused(1, "bans", "--admin", f"unix:{tmp_path}/{'x' * 200}")


@pytest.mark.parametrize("argv", ["sessions", "kick", "ban --for 1h", "narrow --for 1h --without publish"])
def test_arguments_that_are_not_utf_8(cli: Cli, server: Listener, argv: str) -> None:
    told = cli.refused(2, *argv.split(), "--subject", b"\xffx".decode(errors="surrogateescape"))
    assert "--subject is not valid UTF-8" in told
    assert not server.requests
    wrong = ("narrow", "--for", "1h", "--subject", "x", "--without-path", "\udcff")
    assert "--without-path is not valid UTF-8" in cli.refused(2, *wrong)
    assert "--reason is not valid UTF-8" in cli.refused(2, "kick", "--subject", "x", "--reason", "\udcff")


@pytest.mark.parametrize(
    ("body", "status", "expected"),
    [
        (b"<html>", 200, (1, "answered 200 without a reason")),
        (b"[]", 200, (1, "answered 200 without a reason")),
        (b"not found\n", 404, (1, "is not an admin listener: give the address of `serve --admin`")),
        (b'{"error":{"message":"unknown ban","reason":"not-found"}}', 404, (1, "unknown ban")),
        (b'{"error":{"message":"`remote` must be an address","reason":"invalid"}}', 400, (2, "--remote must be")),
        (b'{"error":{"message":"' + b"x" * 9999 + b'"}}', 503, (1, "x" * 500)),
        (b'{"error":{"message":"a\\u001bb\\nc"}}', 500, (1, "a\\x1bb\\nc")),
    ],
)
def test_other_answers(cli: Cli, server: Listener, body: bytes, status: int, expected: tuple[int, str]) -> None:
    server.body, server.status = body, status
    told = cli.refused(expected[0], "bans")
    assert expected[1] in told
    assert len(told) < 1000


def test_answers_are_bounded(cli: Cli, server: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin, "MAX_ANSWER_BYTES", 1500)
    server.answers({"bans": [], "x": "y" * 1500})
    assert "answered 200 without a reason" in cli.refused(1, "bans")


def test_a_server_that_hangs(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str) -> None:
    import socket

    monkeypatch.setattr(admin, "SECONDS", 0.1)
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "admin.sock"))
        silent.listen()
        assert "no answer from the auth server within 0.1 s" in cli.refused(1, "bans", "--admin", at)


def test_something_else_listens(cli: Cli, tmp_path: Path, at: str) -> None:
    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(100)
            self.request.sendall(b"220 mail.example.com ESMTP\r\n")

    with _Server(str(tmp_path / "admin.sock"), Handler) as other:
        thread = threading.Thread(target=other.handle_request)
        thread.start()
        assert "is not the admin listener of an auth server" in cli.refused(1, "bans", "--admin", at)
        thread.join()


def test_the_modules_are_small_to_import() -> None:
    # The help of the program shows these commands; only running one needs HTTP.
    code = "import sys, moq_token.cli.denying; print(*sys.modules)"
    names = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"asyncio", "http.client", "ssl", "moq_token.server"} & set(names)
