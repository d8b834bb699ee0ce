"""What denials do to one session: refuse it, or take something away from its grant."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from moq_token import path as paths
from moq_token.contract import Grant, PublicPaths
from moq_token.errors import InvalidPatternError, RefusedError, UnauthorizedError
from moq_token.pattern import Pattern
from moq_token.patterns import Patterns
from moq_token.server.denial import Matcher, facts_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from moq_token.server.denial import Denial
    from moq_token.server.session import Session


class Verdict(msgspec.Struct, frozen=True):
    """The denials in force that match one session: the one that refuses it, if any, and those that narrow it."""

    refusing: Denial | None
    narrowing: tuple[Denial, ...] = ()

    def apply(self, grant: Grant, path: str) -> Grant:
        """Return what is left of a grant at the dialed path.

        Raises ``RefusedError`` (``banned``) if the session is refused, or nothing is left of its grant.
        """
        if self.refusing is not None:
            raise RefusedError(self.refusing.describe(), reason="banned")
        for denial in self.narrowing:
            try:
                grant = _narrowed(grant, denial, path)
            except UnauthorizedError:
                raise RefusedError(f"nothing is left of the grant, {denial.describe()}", reason="banned") from None
        return grant

    def left(self, public: PublicPaths, path: str) -> PublicPaths | None:
        """Return what is left of what is public at a path for relay 0.14; None for nothing."""
        publish, subscribe = (
            {prefix: Pattern.subtree(prefix) for prefix in prefixes} for prefixes in (public.publish, public.subscribe)
        )
        try:
            grant = self.apply(Grant(publish=publish.values(), subscribe=subscribe.values()), path)
        except RefusedError:
            return None
        return PublicPaths(
            subscribe=tuple(prefix for prefix, subtree in subscribe.items() if grant.subscribe.contains(subtree)),
            publish=tuple(prefix for prefix, subtree in publish.items() if grant.publish.contains(subtree)),
        )


def concerns(denial: Denial) -> Callable[[Session], bool]:
    """Return the test of whether a denial refuses a live session, or takes something away from it."""
    matcher = Matcher(denial)
    # Most sessions differ in one of these, which is quicker to see than all facts.
    members = (("session", "id"), ("jti", "jti"), ("kid", "kid"), ("subject", "subject"))
    exact = [(name, getattr(denial, member)) for member, name in members if getattr(denial, member) is not None]

    def test(session: Session) -> bool:
        for name, value in exact:
            if getattr(session, name) != value:
                return False
        facts = facts_of(session, address=denial.remote is not None)
        return matcher.matches(facts) and (denial.refuses or takes(denial, session))

    return test


def _narrowed(grant: Grant, denial: Denial, path: str) -> Grant:
    """Return what a denial leaves of a grant. Raises ``UnauthorizedError`` if that is nothing."""
    denied = None if denial.narrow_path is None else Pattern(denial.narrow_path)
    root = paths.normalize(path if grant.root is None else grant.root)
    left: dict[str, Patterns] = {"publish": grant.publish, "subscribe": grant.subscribe}
    for role in left if denial.role is None else (denial.role,):
        left[role] = Patterns(
            () if denied is None else (granted for granted in left[role] if not _reaches(granted, root, denied))
        )
    if not any(left.values()):
        raise UnauthorizedError("nothing is left of the grant", path=path)
    mounts = grant.mounts
    if denied is not None and denial.role != "publish":
        # A mount shows the subtree of another path.
        mounts = {place: shows for place, shows in mounts.items() if not _reaches(Pattern("**"), shows, denied)}
    if left["publish"] == grant.publish and left["subscribe"] == grant.subscribe and mounts == grant.mounts:
        return grant
    return replace(grant, **left, mounts=mounts)


def _reaches(granted: Pattern, root: str, denied: Pattern) -> bool:
    """Whether a pattern that is granted at a path overlaps what is denied; also where that cannot be decided."""
    try:
        return granted.rooted(root).overlaps(denied)
    except InvalidPatternError:
        return True


def takes(denial: Denial, session: Session) -> bool:
    """Return whether a denial changes what a live session may do. A session whose grant was too long to keep counts."""
    if not session.grant:
        return True
    grant = Grant.from_json(session.grant, now=0)
    try:
        return _narrowed(grant, denial, session.path) is not grant
    except UnauthorizedError:
        return True
