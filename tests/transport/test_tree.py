"""The edges of the push tree, one event at a time."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamport.ids import NodeId
from tests.lamport.keys import member
from transport.tree import MAX_OWN_TREES, Edge, Heard, Tree

ADA = member("ada").node


def an_edge() -> Edge:
    return Edge(Tree(ADA, Random(1)))


def test_every_link_begins_in_each_tree() -> None:
    tree = Tree(ADA, Random(1))
    assert Edge(tree).carries(ADA)
    tree.place.shared = True
    assert Edge(tree).carries(ADA)


@pytest.mark.parametrize(
    ("heard", "before", "then", "say"),
    [
        (Heard.DUPLICATE, True, False, False),
        (Heard.DUPLICATE, False, False, None),
        (Heard.NOTHING_IN_TIME, False, True, True),
        (Heard.NOTHING_IN_TIME, True, True, None),
        (Heard.PRUNE, True, False, None),
        (Heard.PRUNE, False, False, None),
        (Heard.GRAFT, True, True, None),
        (Heard.GRAFT, False, True, None),
    ],
)
def test_what_is_heard_moves_the_edge_and_is_said_once(
    heard: Heard,
    before: bool,  # noqa: FBT001 - a table
    then: bool,  # noqa: FBT001
    say: bool | None,  # noqa: FBT001
) -> None:
    edge = an_edge()
    edge.grafted = before
    assert edge.hear(heard) == say
    assert edge.grafted == then


@given(st.lists(st.tuples(st.sampled_from(Heard), st.booleans())))
def test_both_ends_agree_whatever_happens_in_turn(happenings: list[tuple[Heard, bool]]) -> None:
    ends = an_edge(), an_edge()
    for heard, at in happenings:
        if heard in (Heard.PRUNE, Heard.GRAFT):
            continue
        told = ends[at].hear(heard)
        if told is not None:
            assert ends[not at].hear(Heard.GRAFT if told else Heard.PRUNE) is None
        assert ends[0].grafted == ends[1].grafted


def test_in_a_small_swarm_each_author_has_a_tree_of_its_own() -> None:
    ada, bob = ADA, member("bob").node
    tree = Tree(ada, Random(1))
    edge = Edge(tree)
    assert edge.hear_of(ada, Heard.DUPLICATE) is False
    assert edge.hear_of(ada, Heard.DUPLICATE) is None
    assert not edge.carries(ada)
    assert edge.carries(bob)
    tree.place.shared = True
    assert edge.carries(ada)
    tree.place.shared = False
    assert edge.hear_of(ada, Heard.NOTHING_IN_TIME) is True
    assert edge.carries(ada)


def test_a_link_remembers_so_many_authors_without_it_and_carries_the_others() -> None:
    edge = an_edge()
    authors = [NodeId(bytes([number]) * 32) for number in range(MAX_OWN_TREES + 1)]
    said = [edge.hear_of(author, Heard.DUPLICATE) for author in authors]
    assert said == [False] * MAX_OWN_TREES + [None]
    assert [edge.carries(author) for author in authors] == [False] * MAX_OWN_TREES + [True]


def test_one_late_event_does_not_change_a_shared_tree_and_two_in_a_row_do() -> None:
    tree = Tree(ADA, Random(1))
    assert not tree.may_graft()
    for _ in range(5):
        tree.came()
    assert not tree.may_graft()
    assert tree.may_graft()
