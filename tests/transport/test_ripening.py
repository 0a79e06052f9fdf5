"""What was announced is waited for, and the earliest is due first."""

from hypothesis import example, given
from hypothesis import strategies as st

from lamport.ids import NodeId, StreamId
from transport.ripening import Ripening

STREAMS = [StreamId(NodeId(bytes(32)), number) for number in range(4)]


A, B = STREAMS[:2]


@example([(A, 1), (B, 3), (B, None), (B, 7), (A, None)])
@given(st.lists(st.tuples(st.sampled_from(STREAMS), st.none() | st.integers(1, 9))))
def test_the_next_that_is_due_is_the_earliest_of_those_that_are_waited_for(
    steps: list[tuple[StreamId, int | None]],
) -> None:
    ripening, waited = Ripening(), dict[StreamId, int]()
    for stream, ripe_at in steps:
        if ripe_at is None:
            ripening.end(stream)
            waited.pop(stream, None)
        else:
            ripening.begin(stream, ripe_at)
            waited.setdefault(stream, ripe_at)
        assert ripening.next_due == min(waited.values(), default=None)
    ripening.due(5)
    assert ripening.next_due == min((at for at in waited.values() if at > 5), default=None)
    assert [ripening.is_ripe(one, 5) for one in STREAMS] == [
        waited.get(one, 0) <= 5 for one in STREAMS
    ]
