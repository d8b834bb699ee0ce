"""The status page: its policy permits its own style and script and nothing else, and it needs nothing else."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
from collections import Counter

from moq_token.server.keys import Problem
from moq_token.server.page import page
from moq_token.server.sessions import Sessions
from moq_token.server.status import MAX_GROUPS, status
from tests.unit.test_sessions import START, admission, at, event

HTML = page().body.decode()
HEADERS = dict(line.split(": ", 1) for line in page().headers.decode().split("\r\n") if line)


def inline(name: str) -> str:
    found: list[str] = re.findall(rf"<{name}>(.*?)</{name}>", HTML, re.DOTALL)
    assert len(found) == 1
    return found[0]


def test_the_policy() -> None:
    policy = dict(part.strip().split(" ", 1) for part in HEADERS["content-security-policy"].split(";"))
    digests = {
        name: base64.b64encode(hashlib.sha256(inline(name).encode()).digest()).decode() for name in ("style", "script")
    }
    assert policy == {
        "default-src": "'none'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
        "connect-src": "'self'",
        "img-src": "data:",
        "style-src": f"'sha256-{digests['style']}'",
        "script-src": f"'sha256-{digests['script']}'",
    }
    assert HEADERS["cache-control"] == "no-store"
    assert HEADERS["x-content-type-options"] == "nosniff"
    assert page().content_type == "text/html; charset=utf-8"


def test_it_has_no_foreign_resources_and_no_inline_handlers() -> None:
    assert "//" not in re.sub(r"^ *// .*$", "", HTML, flags=re.MULTILINE)  # comments of the script
    assert set(re.findall(r"\b(?:src|href)=\"([^\"]*)\"", HTML)) == {"data:,"}
    assert not re.findall(r"<[^>]+\s(on\w+|style)=", HTML)


def test_what_the_server_sends_is_never_markup() -> None:
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b|new Function", inline("script"))


def test_every_element_that_the_script_names_is_there() -> None:
    ids = Counter(re.findall(r"\bid=\"([^\"]+)\"", HTML))
    assert set(ids.values()) == {1}
    named = set(re.findall(r"(?:byId|show)\(\"([^\"]+)\"", inline("script")))
    assert named <= set(ids)
    assert set(re.findall(r"aria-labelledby=\"([^\"]+)\"", HTML)) <= set(ids)


def test_the_status_counts_sessions_by_relay_and_key() -> None:
    table = Sessions()
    for number in range(MAX_GROUPS + 5):
        asked = event("connect", str(number))
        table.handle(asked, at(0), admission(kid=None if number == 0 else f"key-{number % 2}"))
    told = asyncio.run(status(table, [], started=START - 5, now=START))
    assert told["sessions"] == MAX_GROUPS + 5
    assert told["nodes"] == [{"node": "n", "sessions": MAX_GROUPS + 5}]
    assert told["keys"] == [{"kid": "key-0", "sessions": 52}, {"kid": "key-1", "sessions": 52}]
    assert (told["health"], told["started"], told["now"]) == ("ready", START - 5, START)


def test_the_status_says_what_is_wrong() -> None:
    some, all_ = Problem("cannot read a.jwk", is_fatal=False), Problem("cannot read keys", is_fatal=True)
    for problems, health in (([some], "degraded"), ([some, all_], "not ready")):
        told = asyncio.run(status([], problems, started=0, now=0))
        assert told["health"] == health
        assert told["problems"] == [problem.message for problem in problems]
