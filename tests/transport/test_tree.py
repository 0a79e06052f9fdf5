"""The edges of the push tree, one event at a time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transport.tree import Edge, Heard


def test_every_link_begins_in_the_tree() -> None:
    assert Edge().eager


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
    edge = Edge()
    edge.eager = before
    assert edge.hear(heard) == say
    assert edge.eager == then


@given(st.lists(st.tuples(st.sampled_from(Heard), st.booleans())))
def test_both_ends_agree_whatever_happens_in_turn(happenings: list[tuple[Heard, bool]]) -> None:
    ends = Edge(), Edge()
    for heard, at in happenings:
        if heard in (Heard.PRUNE, Heard.GRAFT):
            continue
        told = ends[at].hear(heard)
        if told is not None:
            assert ends[not at].hear(Heard.GRAFT if told else Heard.PRUNE) is None
        assert ends[0].eager == ends[1].eager
