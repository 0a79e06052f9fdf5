"""The Lamport clock: ahead of everything it has seen, and bounded."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamport.clock import LamportClock
from lamport.errors import LimitExceeded
from lamport.ids import MAX_LAMPORT

SEEN = st.lists(st.none() | st.integers(0, 50), max_size=20)


@given(SEEN)
def test_each_tick_is_above_everything_seen_before(seen: list[int | None]) -> None:
    clock, highest = LamportClock(), 0
    for lamport in seen:
        clock = clock.ticked() if lamport is None else clock.raised(lamport)
        assert clock.highest == (highest + 1 if lamport is None else max(highest, lamport))
        highest = clock.highest


def test_a_new_clock_stamps_one() -> None:
    assert LamportClock().ticked().highest == 1


def test_what_was_received_late_does_not_set_the_clock_back() -> None:
    assert LamportClock(9).raised(3) == LamportClock(9)


def test_the_last_timestamp_is_given_and_none_behind_it() -> None:
    last = LamportClock(MAX_LAMPORT - 1).ticked()
    assert last.highest == MAX_LAMPORT == 2**43 - 1
    with pytest.raises(LimitExceeded, match=str(MAX_LAMPORT)):
        last.ticked()
