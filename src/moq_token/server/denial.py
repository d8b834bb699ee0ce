"""One denial: which sessions are refused or may do less, and until when. A record without I/O and without a clock.

A denial is checked after the policy has admitted a session, at its ``connect`` and at each ``revalidate``, so that it
ends live sessions too.
"""

from __future__ import annotations

import hashlib
import ipaddress
import itertools
from typing import TYPE_CHECKING, Any, Final, Literal, Self, TypeAlias

import msgspec
from msgspec.structs import force_setattr

from moq_token.errors import InvalidDenialError, InvalidKeyIdError, InvalidPatternError, shown, utc
from moq_token.kid import KeyId
from moq_token.pattern import Pattern
from moq_token.server.session import bounded_name
from moq_token.times import END_OF_9999

if TYPE_CHECKING:
    from moq_token.contract.address import Address
    from moq_token.server.session import Session

    Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

Role: TypeAlias = Literal["publish", "subscribe"]

KEPT_SECONDS: Final = 7200
"""How long a denial is kept after its end, so that setting back a clock that was ahead does not lose it."""
MAX_TEXT_CHARACTERS: Final = 256
"""Characters of a reason, an author or a node."""
# What a session is compared with exactly, in the order of how few sessions have the same.
EXACT: Final = ("token", "jti", "session", "subject", "kid")

_ID_BYTES = 10
_DIGEST_CHARACTERS = 32
_MAX_AT = 2.0 * END_OF_9999
_MAPPED_BITS = 96
_MATCHERS = (*EXACT, "remote", "path", "issued_before")
_IDENTITY = (*_MATCHERS, "everybody", "role", "narrow_path")


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one session, which denials are compared with.

    Attributes
    ----------
    session
        Its id.
    token
        The keyed digest of its token in hexadecimal, None without a token.
    jti, kid, subject, issued
        What its token says; None where it does not, or where nobody has verified the token.
    address
        The address of the client.
    path, root
        The path as dialed, and the path that the grant puts in its place.

    """

    session: str = ""
    token: str | None = None
    jti: str | None = None
    kid: str | None = None
    subject: str | None = None
    address: Address | None = None
    path: str = ""
    root: str | None = None
    issued: int | None = None

    def __post_init__(self) -> None:
        for name in ("session", "jti", "subject"):
            value = getattr(self, name)
            if value is not None:
                force_setattr(self, name, bounded_name(value))

    @property
    def has_credential(self) -> bool:
        """Whether something was issued for the session, and may have to be newer."""
        return any(value is not None for value in (self.token, self.jti, self.subject, self.issued))


class Denial(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is denied, to whom, and until when. The record is what is stored, shown, and sent to other nodes.

    Attributes
    ----------
    id
        Follows from the matchers and the effect, so that the same denial again replaces the older one. Computed where
        it is not given.
    token, jti, kid, subject, session, remote, path, issued_before, everybody
        The matchers: a session is denied if all that are given match. ``token`` is a keyed digest in hexadecimal,
        ``remote`` an address or a network, ``path`` a pattern of the dialed path. ``issued_before`` (Unix seconds)
        matches tokens that were issued earlier, and those that do not say when they were issued, as they cannot show
        that they are newer; never sessions without a token. Alone it needs ``everybody``.
    role, narrow_path
        What is taken away instead of refusing the session: ``publish`` or ``subscribe``, and what overlaps a pattern
        from the top (of both roles where none is given). A grant cannot say "all but this", so that a granted pattern
        that overlaps ``narrow_path`` in part is taken away whole.
    until
        When the denial ends, in Unix seconds.
    reason, author
        Free text, for the log and for other operators.
    at, node
        When and where it was set. Of two denials with the same id the later one counts (see ``replaces()``).
    lifted
        The denial was lifted. It is kept until its end, so that it replaces older ones that come late.
    kept
        Until when it is kept at least (Unix seconds): the end of the one that it has replaced.

    Raises ``InvalidDenialError``. Reading JSON raises ``msgspec.ValidationError``; see ``from_json()``.

    """

    id: str = ""
    token: str | None = None
    jti: str | None = None
    kid: str | None = None
    subject: str | None = None
    session: str | None = None
    remote: str | None = None
    path: str | None = None
    issued_before: int | None = None
    everybody: bool = False
    role: Role | None = None
    narrow_path: str | None = None
    until: int
    reason: str = ""
    author: str = ""
    at: float = 0.0
    node: str = ""
    lifted: bool = False
    kept: int = 0

    def __post_init__(self) -> None:
        for name in ("jti", "subject", "session"):
            value = getattr(self, name)
            if value is not None:
                force_setattr(self, name, bounded_name(value))
        self._check()
        if self.remote is not None:
            force_setattr(self, "remote", _network_text(network(self.remote)))
        for name in ("path", "narrow_path"):
            if getattr(self, name) is not None:
                force_setattr(self, name, str(_pattern(name, getattr(self, name))))
        identity = {name: getattr(self, name) for name in _IDENTITY if getattr(self, name) not in {None, False}}
        derived = hashlib.blake2b(msgspec.json.encode(identity), digest_size=_ID_BYTES).hexdigest()
        if self.id not in {"", derived}:
            raise InvalidDenialError("invalid denial: `id` does not match the other members")
        force_setattr(self, "id", derived)

    def _check(self) -> None:
        self._check_matchers()
        for name in ("until", "issued_before"):
            value = getattr(self, name)
            if value is not None and not 0 < value <= END_OF_9999:
                raise InvalidDenialError(f"`{name}` must be in Unix seconds, and before the year 10000")
        if not 0 <= self.at <= _MAX_AT or not 0 <= self.kept <= END_OF_9999:
            raise InvalidDenialError("`at` and `kept` must be in Unix seconds")
        for name in ("reason", "author", "node"):
            check_text(name, getattr(self, name))

    def _check_matchers(self) -> None:
        given = [name for name in _MATCHERS if getattr(self, name) is not None]
        if self.everybody and not given:
            raise InvalidDenialError("`everybody` needs `issued_before`: it denies every token that is older")
        if not given:
            raise InvalidDenialError(f"a denial needs at least one of {', '.join(f'`{name}`' for name in _MATCHERS)}")
        if self.everybody != (given == ["issued_before"]):
            raise InvalidDenialError(
                "`everybody` belongs to `issued_before` without any other matcher"
                if self.everybody
                else "`issued_before` alone denies every older token: add `everybody`, or another matcher"
            )
        if self.token is not None and not _is_digest(self.token):
            raise InvalidDenialError(f"`token` must be a digest of {_DIGEST_CHARACTERS} lower-case hexadecimal digits")
        if self.kid is not None:
            _check_kid(self.kid)
        for name in ("jti", "subject", "session"):
            if getattr(self, name) == "":
                raise InvalidDenialError(f"`{name}` must not be empty")

    @classmethod
    def from_json(cls, document: bytes | str) -> Self:
        """Read one denial as another node or the state file has it. Raises ``InvalidDenialError``."""
        try:
            return msgspec.json.decode(document, type=cls)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise InvalidDenialError(f"invalid denial: {error}") from None

    def to_json(self) -> bytes:
        """Return the denial as JSON, without the members that have their default."""
        return msgspec.json.encode(self)

    @property
    def forgotten(self) -> int:
        """When the denial can be forgotten, in Unix seconds."""
        return max(self.until, self.kept) + KEPT_SECONDS

    @property
    def refuses(self) -> bool:
        """Whether the session is refused, rather than narrowed."""
        return self.role is None and self.narrow_path is None

    @property
    def is_for_first(self) -> bool:
        """Whether it can match what relay 0.14 shows: the ``kid`` of a token, and the path."""
        given = {name for name in _MATCHERS if getattr(self, name) is not None}
        return given <= {"kid", "path"}

    def replaces(self, other: Denial) -> bool:
        """Whether this denial takes precedence over the other one with the same id.

        The later one does; all nodes choose the same one, in whichever order they hear of them.
        """
        mine, theirs = (self.at, self.node, self.lifted), (other.at, other.node, other.lifted)
        return mine > theirs or (mine == theirs and self.to_json() > other.to_json())

    def whom(self) -> str:
        """Say in one line whom it is about and what it does, for the log."""
        given = [f"{name} {shown(str(getattr(self, name)))}" for name in _MATCHERS if getattr(self, name) is not None]
        lost = [] if self.refuses else [f"without {self.role or 'both roles'}"]
        if self.narrow_path is not None:
            lost.append(f"at {shown(self.narrow_path)}")
        return f"{', '.join(given)}{', ' if lost else ''}{' '.join(lost)}, until {utc(self.until)}"

    def describe(self) -> str:
        """Say in one line why a session is refused, for the log and the answer."""
        reason = f": {self.reason}" if self.reason else ""
        return f"banned until {utc(self.until)}{reason} (denial {self.id})"


class Matcher:
    """Compares sessions with a denial, whose network and pattern are parsed once."""

    __slots__ = ("_network", "_pattern", "denial")

    def __init__(self, denial: Denial) -> None:
        self.denial: Denial = denial
        self._network = None if denial.remote is None else network(denial.remote)
        self._pattern = None if denial.path is None else Pattern(denial.path)

    def matches(self, facts: Facts) -> bool:
        """Whether all matchers of the denial match, whether or not it is in force."""
        denial = self.denial
        return (
            all(getattr(denial, name) is None or getattr(denial, name) == getattr(facts, name) for name in EXACT)
            and (self._network is None or (facts.address is not None and facts.address in self._network))
            and (self._pattern is None or self._is_at(facts, self._pattern))
            and (denial.issued_before is None or _is_older(facts, denial.issued_before))
        )

    @staticmethod
    def _is_at(facts: Facts, pattern: Pattern) -> bool:
        return pattern.matches(facts.path) or (facts.root is not None and pattern.matches(facts.root))

    @property
    def group(self) -> tuple[str, Any]:
        """Where the denial is looked up: under one of its matchers, which few sessions have in common.

        A pattern is looked up under its start, up to the first segment with a wildcard.
        """
        for name in EXACT:
            value = getattr(self.denial, name)
            if value is not None:
                return name, value
        if self._network is not None:
            return f"network{self._network.version}/{self._network.prefixlen}", int(self._network.network_address)
        if self._pattern is not None:
            return "path", "/".join(itertools.takewhile(lambda segment: "*" not in segment, self._pattern.head))
        return "everybody", None


def facts_of(session: Session, *, address: bool = True) -> Facts:
    """Return what is known of a live session; its address, which takes longest to read, only if it is needed."""
    return Facts(
        session=session.id,
        token=None if session.token is None else session.token.hex(),
        jti=session.jti,
        kid=session.kid,
        subject=session.subject,
        address=session.address if address else None,
        path=session.path,
        root=session.root,
        issued=session.issued,
    )


def check_text(name: str, text: str) -> None:
    """Raise ``InvalidDenialError`` for a reason, an author or a node that is not one short line."""
    if len(text) > MAX_TEXT_CHARACTERS or not text.isprintable():
        raise InvalidDenialError(f"`{name}` must be one line of at most {MAX_TEXT_CHARACTERS} printable characters")


def network(text: str) -> Network:
    """Read an address, or a network such as ``192.0.2.0/24``; an IPv4 address in its IPv6 form is the IPv4 address.

    Raises ``InvalidDenialError``.
    """
    try:
        found = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise InvalidDenialError(
            f"`remote` must be an address or a network such as 192.0.2.0/24, without a port, got {shown(text)}"
        ) from None
    if isinstance(found, ipaddress.IPv6Network) and found.prefixlen >= _MAPPED_BITS:
        mapped = found.network_address.ipv4_mapped
        if mapped is not None:
            return ipaddress.IPv4Network((mapped, found.prefixlen - _MAPPED_BITS))
    return found


def _network_text(found: Network) -> str:
    return str(found.network_address) if found.prefixlen == found.max_prefixlen else str(found)


def _check_kid(text: str) -> None:
    try:
        KeyId(text)
    except InvalidKeyIdError as error:
        raise InvalidDenialError(f"`kid`: {error}") from None


def _pattern(name: str, text: str) -> Pattern:
    try:
        return Pattern(text)
    except InvalidPatternError as error:
        raise InvalidDenialError(f"`{name}`: {error}") from None


def _is_digest(text: str) -> bool:
    return len(text) == _DIGEST_CHARACTERS and all(digit in "0123456789abcdef" for digit in text)


def _is_older(facts: Facts, time: int) -> bool:
    return facts.issued < time if facts.issued is not None else facts.has_credential
