"""The Lamport clock: ahead of everything it has seen, and bounded."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamport.chain import check_range
from lamport.clock import LamportClock
from lamport.codec import encode_draft
from lamport.commit import CommitBuilder
from lamport.errors import LimitExceeded
from lamport.event import draft
from lamport.ids import MAX_LAMPORT
from lamport.routes import OwnStreams
from tests.lamport.keys import NOW_US, Author, member

OURS, BOB = member(), member("bob")
ONE = [encode_draft(draft("x", None))]
SEEN = st.lists(st.none() | st.integers(1, 50), max_size=10)


def builder(clock: int = 0) -> CommitBuilder:
    """For a commit of a node whose clock stands there, and which knows nothing yet."""
    own = OwnStreams(Author(OURS).stream)
    return CommitBuilder(
        own=own, clock=LamportClock(clock), heads={}, authors={}, horizons={}, keys=OURS
    )


@given(SEEN)
def test_each_event_of_ours_is_above_everything_seen_before(seen: list[int | None]) -> None:
    """What Bob says is so many ticks behind what he said before, and often behind ours."""
    commit, bob, highest = builder(), Author(BOB), 0
    for ticks in seen:
        if ticks is None:
            [event] = commit.append(ONE, NOW_US)
            assert event.lamport == highest + 1
        else:
            [event] = commit.receive(check_range(bob.say(bob.head.lamport + ticks), OURS))
        highest = max(highest, event.lamport)
        assert commit.build().clock.highest == highest


def test_a_new_clock_stamps_one() -> None:
    [event] = builder().append(ONE, NOW_US)
    assert event.lamport == 1


def test_what_was_received_late_does_not_set_the_clock_back() -> None:
    assert LamportClock(9).raised(3) == LamportClock(9)


def test_the_last_timestamp_is_given_and_none_behind_it() -> None:
    commit = builder(MAX_LAMPORT - 1)
    [event] = commit.append(ONE, NOW_US)
    assert event.lamport == MAX_LAMPORT == 2**43 - 1
    commit = builder(MAX_LAMPORT)
    with pytest.raises(LimitExceeded, match=str(MAX_LAMPORT)):
        commit.append(ONE, NOW_US)
    assert not commit.build().events
