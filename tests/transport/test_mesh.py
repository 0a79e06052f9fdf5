"""With how many a node keeps links, decided from numbers alone."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from lamport.ids import NodeId
from transport.mesh import (
    ALL_UP_TO,
    ENOUGH_LINKS,
    EXPLORING_S,
    LONGEST_EXPLORING_S,
    MOST_LINKS,
    PROBATION_S,
    Mesh,
    Standing,
)

STANDINGS = st.lists(
    st.builds(
        Standing,
        st.binary(min_size=32, max_size=32).map(NodeId),
        st.booleans(),
        st.integers(0, 5),
        st.floats(0.0, 20.0),
    ),
    unique_by=lambda one: one.node,
    max_size=20,
)


def mesh() -> Mesh:
    return Mesh(Random(1))


def standing(
    number: int, *, configured: bool = False, events: int = 0, age_s: float = 60.0
) -> Standing:
    return Standing(NodeId(bytes([number]) * 32), configured, events, age_s)


def test_in_a_small_swarm_everybody_is_dialled() -> None:
    assert mesh().wants_more(known=ALL_UP_TO, links=ALL_UP_TO - 1)


def test_in_a_larger_one_a_handful_is_enough() -> None:
    assert mesh().wants_more(known=ALL_UP_TO + 1, links=ENOUGH_LINKS - 1)
    assert not mesh().wants_more(known=ALL_UP_TO + 1, links=ENOUGH_LINKS)


def test_nobody_goes_while_there_is_room() -> None:
    assert mesh().to_let_go([standing(n) for n in range(MOST_LINKS)], MOST_LINKS) is None


def test_the_one_that_brought_least_goes_unless_it_is_new_or_configured() -> None:
    standings = [
        standing(1, configured=True),
        standing(2, age_s=PROBATION_S / 2),
        standing(3, events=1),
        standing(4, events=2),
    ]
    assert mesh().to_let_go(standings, most=3) == standings[2].node


@given(STANDINGS, st.integers(0, 20))
def test_only_a_surplus_that_nobody_configured_goes(standings: list[Standing], most: int) -> None:
    gone = mesh().to_let_go(standings, most)
    free = [one.node for one in standings if not one.configured]
    assert (gone in free) == (len(standings) > most and bool(free))


def test_one_in_reserve_is_looked_at_now_and_then() -> None:
    assert EXPLORING_S <= mesh().exploring_s() <= LONGEST_EXPLORING_S
    assert mesh().to_explore([standing(1).node]) == standing(1).node
    assert mesh().to_explore([]) is None
