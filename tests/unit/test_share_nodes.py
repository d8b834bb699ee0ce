"""Which nodes a share has: those that the store names, those that it has forgotten, and those that are missed."""

from __future__ import annotations

from moq_token.server.share.denials import GONE_SECONDS
from moq_token.server.share.nodes import LEASE_SECONDS, MAX_NODES, Nodes


def test_nodes_that_the_store_has_forgotten_are_asked_for_a_while() -> None:
    nodes = Nodes("a-1")
    nodes.pulled([b"a-1", b"b-1", b"c-1"], [], 0)
    assert list(nodes.there) == ["a-1", "b-1", "c-1"]
    assert nodes.others() == ["b-1", "c-1"]
    nodes.pulled([b"a-1"], [], LEASE_SECONDS - 1)
    assert list(nodes.there) == ["a-1"]
    assert nodes.others() == ["b-1", "c-1"]
    nodes.left("c-1")
    nodes.joined("d-1", LEASE_SECONDS)
    assert nodes.others() == ["b-1", "d-1"]
    nodes.pulled([b"a-1"], [], LEASE_SECONDS)
    assert nodes.others() == ["d-1"]


def test_a_node_is_missed_until_one_is_started_at_its_place() -> None:
    nodes = Nodes("a:1-x")
    nodes.pulled([b"a:1-x", b"b-2:1-y"], [b"a:1-w", b"b-2:1-w", b"b-2:2-w", b"plain"], 0)
    assert list(nodes.gone) == ["b-2:2-w", "plain"]
    # One that has stopped is not waited for.
    nodes.pulled([b"a:1-x"], [b"b-2:1-y"], 1)
    assert nodes.others() == []
    # A store that is flushed forgets those that have stopped, and this node does not for an hour.
    assert list(nodes.gone) == ["b-2:1-y", "b-2:2-w", "plain"]
    nodes.pulled([b"a:1-x"], [], GONE_SECONDS)
    assert list(nodes.gone) == []
    nodes.pulled([b"a:1-x", b"b-2:2-z", b"plain"], [b"b-2:2-w", b"plain"], 1)
    assert list(nodes.gone) == []


def test_what_others_write_to_the_store_is_bounded() -> None:
    nodes = Nodes("a")
    many = [b"%d" % number for number in range(2 * MAX_NODES)]
    nodes.pulled([*many, None, 7, b"\xff"], many, 0)
    nodes.joined("late", 0)
    assert len(nodes.others()) == len(nodes.there) == MAX_NODES
    assert len(nodes.gone) <= MAX_NODES
    nodes.pulled([b"\xff", 7], [None], 1)
    assert list(nodes.there) == ["\ufffd"]
