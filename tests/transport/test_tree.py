"""The edges of the push tree, one event at a time."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transport.tree import Edge, Heard


def test_every_link_begins_in_the_tree_both_ways() -> None:
    edge = Edge()
    assert (edge.fed, edge.feeding) == (True, True)


@pytest.mark.parametrize(
    ("heard", "fed", "then", "say"),
    [
        (Heard.DUPLICATE, True, False, False),
        (Heard.DUPLICATE, False, False, None),
        (Heard.NOTHING_IN_TIME, False, True, True),
        (Heard.NOTHING_IN_TIME, True, True, None),
    ],
)
def test_what_we_hear_moves_how_we_are_fed_and_is_said_once(
    heard: Heard,
    fed: bool,
    then: bool,
    say: bool | None,  # noqa: FBT001 - a table
) -> None:
    edge = Edge()
    edge.fed = fed
    assert edge.hear(heard) == say
    assert (edge.fed, edge.feeding) == (then, True)


def test_what_the_peer_says_moves_how_we_feed_it_and_is_not_answered() -> None:
    edge = Edge()
    for heard, feeding in [(Heard.GRAFT, True), (Heard.PRUNE, False), (Heard.PRUNE, False)]:
        assert edge.hear(heard) is None
        assert (edge.fed, edge.feeding) == (True, feeding)
    assert edge.hear(Heard.GRAFT) is None
    assert edge.feeding


@given(st.lists(st.tuples(st.sampled_from(Heard), st.booleans())))
def test_both_ends_agree_about_both_directions_whatever_happens(
    happenings: list[tuple[Heard, bool]],
) -> None:
    ends = Edge(), Edge()
    for heard, at in happenings:
        if heard in (Heard.PRUNE, Heard.GRAFT):
            continue
        told = ends[at].hear(heard)
        if told is not None:
            assert ends[not at].hear(Heard.GRAFT if told else Heard.PRUNE) is None
    assert all(a.fed == b.feeding for a, b in product(ends, ends) if a is not b)
