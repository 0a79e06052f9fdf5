"""The edges of the push tree, one event at a time."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamport.ids import NodeId
from tests.lamport.keys import member
from transport.tree import LONGEST_PRUNING_S, MAX_OWN_TREES, PRUNING_S, Edge, Heard, Tree


def test_every_link_begins_in_the_tree() -> None:
    assert Edge(Tree(Random(1))).eager


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
    edge = Edge(Tree(Random(1)))
    edge.eager = before
    assert edge.hear(heard) == say
    assert edge.eager == then


@given(st.lists(st.tuples(st.sampled_from(Heard), st.booleans())))
def test_both_ends_agree_whatever_happens_in_turn(happenings: list[tuple[Heard, bool]]) -> None:
    ends = Edge(Tree(Random(1))), Edge(Tree(Random(2)))
    for heard, at in happenings:
        if heard in (Heard.PRUNE, Heard.GRAFT):
            continue
        told = ends[at].hear(heard)
        if told is not None:
            assert ends[not at].hear(Heard.GRAFT if told else Heard.PRUNE) is None
        assert ends[0].eager == ends[1].eager


def test_in_a_small_swarm_each_author_has_a_tree_of_its_own() -> None:
    tree, ada, bob = Tree(Random(1)), member("ada").node, member("bob").node
    edge = Edge(tree)
    assert edge.hear_of(ada, Heard.DUPLICATE) is False
    assert edge.hear_of(ada, Heard.DUPLICATE) is None
    assert not edge.carries(ada)
    assert edge.carries(bob)
    tree.shared = True
    assert edge.carries(ada)
    tree.shared = False
    assert edge.hear_of(ada, Heard.NOTHING_IN_TIME) is True
    assert edge.carries(ada)


def test_a_link_remembers_so_many_authors_without_it_and_carries_the_others() -> None:
    edge = Edge(Tree(Random(1)))
    authors = [NodeId(bytes([number]) * 32) for number in range(MAX_OWN_TREES + 1)]
    said = [edge.hear_of(author, Heard.DUPLICATE) for author in authors]
    assert said == [False] * MAX_OWN_TREES + [None]
    assert [edge.carries(author) for author in authors] == [False] * MAX_OWN_TREES + [True]


def test_one_late_event_does_not_change_a_shared_tree_and_two_in_a_row_do() -> None:
    tree = Tree(Random(1))
    assert not tree.may_graft()
    for _ in range(5):
        tree.came()
    assert not tree.may_graft()
    assert tree.may_graft()


def test_a_shared_tree_is_pruned_seldom() -> None:
    tree = Tree(Random(1))
    assert tree.may_prune(LONGEST_PRUNING_S)
    assert not tree.may_prune(LONGEST_PRUNING_S + PRUNING_S / 2)
    assert tree.may_prune(2 * LONGEST_PRUNING_S)
