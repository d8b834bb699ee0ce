"""Flaws that are planted into the engine, each of which the simulation has to find."""

from __future__ import annotations

import importlib
import inspect
import textwrap
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from moq_token.server.session import Refusal

if TYPE_CHECKING:
    from collections.abc import Iterator


class Mutant(NamedTuple):
    """A function of the engine in which one text is replaced by another."""

    name: str
    place: str
    """A module of the server, and a function in it."""
    text: str
    flaw: str
    kind: str = "engine"
    """The worlds in which it is looked for: the quickest ones that show it."""
    is_rare: bool = False
    """Whether so few schedules show it that only its script does in each run of the tests."""

    @property
    def file(self) -> str:
        """The name of the script that finds it."""
        return self.name.replace(" ", "_").replace("-", "")


MUTANTS = (
    Mutant(
        "a repeated connect is counted again",
        "sessions:Sessions.handle",
        "if session is not None:",
        "if session is not None and request.event is not Event.CONNECT:",
    ),
    Mutant("ended ids are forgotten at once", "sessions:Sessions._end", "self._ended.add(key)", "pass"),
    Mutant("an end is counted each time", "sessions:Sessions._end", "if key in self._ended:", "if False:"),
    Mutant("ended ids are forgotten after 5 s", "sessions:Sessions.advance", "LATE_SECONDS", "5"),
    Mutant(
        "leases end by the clock of the machine",
        "sessions:Sessions.handle",
        "effects = self.advance(now)",
        "now = now._replace(steady=now.unix)\n    effects = self.advance(now)",
    ),
    Mutant(
        "the lease follows the clock of the machine",
        "sessions:_lease",
        "now.steady + LEASE_CADENCES",
        "now.unix - 1_800_000_000 + LEASE_CADENCES",
    ),
    Mutant("a lease lasts one cadence", "sessions:_lease", "LEASE_CADENCES * admission", "admission"),
    Mutant(
        "a re-check does not refresh the lease",
        "sessions:Sessions._renew",
        "session.lease = _lease(session, now)",
        "pass",
    ),
    Mutant("a shorter lease is noticed late", "sessions:Sessions._renew", "session.lease < session.due", "False"),
    Mutant(
        "a cap refuses a re-check",
        "sessions:Sessions.handle",
        "self._refusal(session) if is_new else None",
        "self._refusal(session)",
    ),
    Mutant("a re-check kicks", "sessions:Sessions.handle", "if is_new:\n        effects", "if True:\n        effects"),
    Mutant(
        "a re-check of an unknown session is ignored",
        "sessions:Sessions.handle",
        "if refusal is not None:",
        "if refusal is not None or request.event is not Event.CONNECT:",
    ),
    Mutant("a cap admits one too many", "caps:Counter.is_full", ">=", ">"),
    Mutant(
        "an ended session keeps its place in the cap", "sessions:Sessions._remove", "self._release(session)", "pass"
    ),
    Mutant(
        "a kicked session leaves the cap twice", "sessions:Sessions._remove", "if session.kicked is None:", "if True:"
    ),
    Mutant(
        "a kicked session is admitted again",
        "sessions:Sessions.handle",
        "Outcome(session.kicked, effects)",
        "Outcome(None, effects)",
    ),
    Mutant("a kicked session keeps its lease", "sessions:Sessions.handle", "if session.kicked is None:", "if True:"),
    Mutant(
        "the newest session is kicked",
        "caps:Counter.oldest",
        "self._holders.first(self._held(newcomer))",
        "list(self._holders.pop(self._held(newcomer)))[-1]",
    ),
    Mutant(
        "a late connect brings a session back",
        "sessions:Sessions.handle",
        "if key in self._ended:",
        "if key in self._ended and request.event is not Event.CONNECT:",
    ),
    Mutant(
        "a late re-check brings a session back",
        "sessions:Sessions.handle",
        "if key in self._ended:",
        "if key in self._ended and request.event is Event.CONNECT:",
    ),
    Mutant(
        "a refused newcomer takes a place",
        "sessions:Sessions.handle",
        "if refusal is not None:\n        return",
        "if refusal is not None:\n        self._register(session, now)\n        return",
    ),
    Mutant("an end of a session leaves it in the table", "sessions:Sessions._end", "self._remove(session)", "pass"),
    Mutant(
        "a lift leaves nothing behind",
        "denials:Denials.put",
        "self._known[denial.id] = matcher",
        "self._known.pop(denial.id, None)\n    if not denial.lifted:\n        self._known[denial.id] = matcher",
        kind="share",
    ),
    Mutant("an older denial replaces a newer one", "denial:Denial.replaces", "mine > theirs", "mine < theirs"),
    Mutant(
        "the same ban again is ignored",
        "denials:Denials.put",
        "if known is not None and not denial.replaces(known.denial):",
        "if known is not None:",
    ),
    Mutant("denials end early", "denials:Denials.match", "now >= denial.until", "now >= denial.until - 20"),
    Mutant("denials are forgotten at their end", "denial:Denial.forgotten", " + KEPT_SECONDS", ""),
    Mutant("denials do not end", "denials:Denials.match", "now >= denial.until or", ""),
    Mutant("a lifted denial still refuses", "denials:Denials.put", "if not denial.lifted:", "if True:"),
    Mutant(
        "the clock decides which of two orders counts",
        "denials:Denials.stamped",
        "max(now, known.at + _TICK_SECONDS)",
        "now",
    ),
    Mutant("an order after another leaves the first in force", "denials:Denials.put", "self._remove(known)", "pass"),
    Mutant(
        "networks are compared with whole addresses", "denials:Denials._candidates", "number >> bits << bits", "number"
    ),
    Mutant(
        "one matcher is enough",
        "denial:Matcher.matches",
        "\n        and (self._network is None",
        "\n        or (self._network is None",
        kind="server",
    ),
    Mutant("a narrowing takes nothing", "verdict:Verdict.apply", "grant = _narrowed(grant, denial, path)", "pass"),
    Mutant(
        "a narrowing takes both roles", "verdict:_narrowed", "left if denial.role is None else (denial.role,)", "left"
    ),
    Mutant(
        "denials are only checked at connect",
        "events:Events._denied",
        "if not denials:",
        "if not denials or asked.event is not Event.CONNECT:",
        kind="server",
    ),
    Mutant(
        "a decision that cannot be made is a refusal",
        "events:Events._not_granted",
        "return unavailable()",
        "return HttpResponse(403)",
        kind="server",
    ),
    Mutant(
        "a restart forgets the denials on the disk",
        "storing:Storing.__init__",
        "Denials(() if state is None else state.denials)",
        "Denials()",
        kind="server",
    ),
    Mutant(
        "denials are not stored",
        "storing:Storing._save",
        "snapshot = list(self.denials)",
        "snapshot = []",
        kind="server",
    ),
    Mutant(
        "a receipt is always complete",
        "receipts:Pending.receipt",
        "complete=not self._alive",
        "complete=True",
        kind="server",
    ),
    Mutant(
        "a session that was told is out",
        "ending:Ending._end_at",
        "else:\n            pending.reached(node)",
        "else:\n            [pending.ended(session.id, 0) for session in sessions]",
        kind="server",
    ),
    Mutant(
        "a lost session leaves the receipt",
        "live:LiveSessions._follow",
        "if self._metrics is not None:\n                self._metrics.lost()",
        "self.revocations.ended(effect.session.id)",
        kind="server",
        is_rare=True,
    ),
    Mutant(
        "the place of an ended session is not given back",
        "share.places:Places._give_back",
        "self._link.call(call)",
        "self._link._aio.create_future()",
        kind="share",
    ),
    Mutant(
        "a re-check does not renew the place",
        "share.places:Places.refresh",
        "if self._link is not None:",
        "if False:",
        kind="share",
    ),
    Mutant(
        "a store that is down refuses",
        "share.places:Places.admit",
        "self._decide_alone(str(error))\n        return None",
        "return Refusal('token-limit', 'too many live sessions for this token')",
        kind="share",
    ),
    Mutant(
        "other nodes do not hear of a denial",
        "share.sharing:Sharing._received",
        "elif kind == _DENIAL:",
        "elif False:",
        kind="share",
    ),
    Mutant(
        "denials are pulled at the start only",
        "share.sharing:Sharing._attached",
        "await link.failed(PULL_SECONDS)\n            await self._pull(link, self._node)",
        "await link.failed(PULL_SECONDS)",
        kind="share",
    ),
    Mutant(
        "a store that has lost denials does not get them back",
        "share.sharing:Sharing._pull",
        "for denial in lacking:",
        "for denial in ():",
        kind="share",
    ),
    Mutant(
        "a session that was kicked elsewhere goes on",
        "live:LiveSessions.kick",
        "self._follow(self.sessions.kick(session_id, refusal))",
        "self.share.problem",
        kind="share",
    ),
    Mutant(
        "a receipt promises the end too early",
        "receipts:_out_by",
        "session.last + session.revalidate + ASKING_SECONDS",
        "session.last + 1",
        kind="server",
    ),
    Mutant(
        "the store is told whom a session is of",
        "share.caps:SharedCaps.call",
        "self._names.digest(tag, data).hex().encode()",
        "(b'0' * 32 + data)[-32:]",
        kind="share",
    ),
    Mutant(
        "a session is lost when nothing can be decided about it",
        "events:Events._not_granted",
        "self._live.seen(asked)",
        "pass",
        kind="server",
    ),
    Mutant(
        "a receipt is complete although a lost session may live",
        "live:LiveSessions._follow",
        "self.revocations.ending.unseen.add_lost(effect.session)",
        "pass",
        kind="server",
    ),
    Mutant(
        "a receipt is complete before a relay has asked",
        "unseen:Unseen._discover",
        "if await self._have_come(asking) and",
        "if",
        kind="server",
        is_rare=True,
    ),
    Mutant(
        "a receipt says that denials are stored on a full disk",
        "storing:Storing.is_stored",
        " and self._fault is None",
        "",
        kind="server",
    ),
    Mutant(
        "denials are not stored once the disk takes them",
        "storing:Storing._store_again",
        "while self._fault is not None:",
        "while False:",
        kind="server",
    ),
    Mutant(
        "relay 0.14 is not told of denials",
        "questions:Questions._answered",
        "answer = self._denied(question, answer)",
        "pass",
        kind="server",
    ),
    Mutant(
        "relay 0.14 admits a certificate that is denied",
        "questions:Questions._look_up",
        "if question.mtls:",
        "if False:",
        kind="server",
    ),
    Mutant(
        "relay 0.14 asks again late",
        "questions:Questions._cache_control",
        "{_seconds(self.max_age)}",
        "{2 * _seconds(self.max_age)}",
        kind="server",
    ),
    Mutant(
        "a receipt forgets how long relay 0.14 was told to wait",
        "questions:Questions.change_policy",
        "self._earlier_by = max(",
        "max(",
        kind="server",
    ),
    Mutant(
        "the share is not required",
        "share.places:Places._decide_alone",
        "if self.required:",
        "if False:",
        kind="require",
    ),
    Mutant(
        "the nodes admit one too many together",
        "share.caps:SharedCaps.call",
        "(limit, kicks)",
        "(limit + 1, kicks)",
        kind="share",
    ),
    Mutant(
        "a node stays alone once the store was lost",
        "share.sharing:Sharing._run",
        "await asyncio.sleep(self._health.pause(asyncio.get_running_loop().time()))",
        "return",
        kind="share",
    ),
    Mutant(
        "the store takes the latest re-check for the start of a session",
        "share.caps:SharedCaps.call",
        "max(0, int((now.steady - session.began) * 1_000_000))",
        "0",
        kind="share",
    ),
    Mutant(
        "a node that has vanished is not missed",
        "share.nodes:Nodes.others",
        "in self._seen",
        "in self.there",
        kind="share",
    ),
    Mutant(
        "a receipt is complete without the other nodes",
        "share.receipts:together",
        "complete=not missing and all(each.complete for each in receipts)",
        "complete=own.complete",
        kind="share",
    ),
)


@contextmanager
def planted(mutant: Mutant) -> Iterator[None]:
    """Have the engine run with a flaw for the length of the block."""
    function = _function(mutant.place)
    source = textwrap.dedent(inspect.getsource(function))
    assert source.count(mutant.text) == 1, f"{mutant.name}: the text occurs {source.count(mutant.text)} times"
    names = function.__globals__ | {"Refusal": Refusal}
    flawed = "from __future__ import annotations\n" + source.replace(mutant.text, mutant.flaw)
    exec(compile(flawed, mutant.name, "exec"), names)  # noqa: S102 - our own source
    sound = function.__code__
    made: Any = names[function.__name__]
    function.__code__ = getattr(made, "fget", made).__code__
    try:
        yield
    finally:
        function.__code__ = sound


def _function(place: str) -> Any:  # noqa: ANN401 - a function as such has no type
    module, _, names = place.partition(":")
    found: Any = importlib.import_module(f"moq_token.server.{module}")
    for name in names.split("."):
        found = inspect.getattr_static(found, name)
    return getattr(found, "fget", found)
