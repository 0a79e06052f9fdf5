"""The fold with time travel, against the fold of everything in order from scratch."""

import itertools
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fish import Fish, FishStopped, Metadata
from fish.timeline import CHUNK, DENSE_FROM, MANY, PRUNE_EVERY, SPREAD, STRIDE, Timeline
from lamport.event import Event
from lamport.offsets import OffsetMap
from lamport.tags import Tag
from tests.fish.histories import arriving_histories, patient
from tests.fish.memory_log import NODE, event_of, stream_of

State = tuple[object, ...]


def listed(state: State, event: Any, metadata: Metadata) -> State:
    return (*state, (metadata.event_id, event))


def counted(state: int, _event: Any, _metadata: Metadata) -> int:
    return state + 1


def is_reset(event: Any, _metadata: Metadata) -> bool:
    return bool(event[1])


LIST: Fish[State] = Fish("list", Tag("a"), (), listed)
RESET: Fish[State] = Fish("reset", Tag("a"), (), listed, is_reset=is_reset)
COUNT: Fish[int] = Fish("count", Tag("a"), 0, counted)


def from_scratch(fish: Fish[State], events: Sequence[Event]) -> State:
    state = fish.initial
    for event in sorted(events, key=lambda one: one.key):
        metadata = Metadata.of(event, NODE)
        if fish.is_reset is not None and fish.is_reset(event.payload, metadata):
            state = fish.initial
        state = fish.on_event(state, event.payload, metadata)
    return state


class Keeper:
    """Feeds a timeline as a running fish does, from everything that is known so far."""

    def __init__(self, fish: Fish[Any]) -> None:
        self.timeline = Timeline(fish, NODE)
        self.known: list[Event] = []
        self._offsets = OffsetMap()
        self._fish = fish

    def take_in(self, batch: Sequence[Event]) -> None:
        new = [one for one in batch if one.offset > self._offsets.of(one.stream)]
        self._offsets = self._offsets.raised({one.stream: one.offset for one in new})
        self.known = sorted([*self.known, *new], key=lambda one: one.key)
        matching = [one for one in batch if self._fish.selects(one, NODE)]
        late = self.timeline.late(matching)
        if late is None:
            self.timeline.advance(matching)
        else:
            after = self.timeline.rewind_to(late)
            behind = [one for one in self.matching if after is None or one.key > after]
            self.timeline.advance(behind)
        self.timeline.cover(self._offsets)

    @property
    def matching(self) -> list[Event]:
        return [one for one in self.known if self._fish.selects(one, NODE)]


def _reached(events: Sequence[Event]) -> dict[Any, int]:
    return {one.stream: one.offset for one in events}


def line(count: int, *, first: int = 0) -> list[Event]:
    """Events of one stream at every tenth timestamp, so that others fit between."""
    return [event_of(1, 10 * (n + 1), n, (n, False)) for n in range(first, first + count)]


@patient
@given(arriving_histories(resets=False))
def test_the_state_is_the_fold_in_key_order_after_every_batch(batches: list[list[Event]]) -> None:
    keeper = Keeper(LIST)
    for batch in batches:
        keeper.take_in(batch)
        assert keeper.timeline.state == from_scratch(LIST, keeper.matching)
        assert keeper.timeline.count == len(keeper.matching)
        assert keeper.timeline.offsets == OffsetMap(_reached(keeper.known))


@patient
@given(arriving_histories())
def test_the_state_is_the_fold_from_the_newest_reset_on(batches: list[list[Event]]) -> None:
    keeper = Keeper(RESET)
    for batch in batches:
        keeper.take_in(batch)
        assert keeper.timeline.state == from_scratch(RESET, keeper.matching)
        resets = [one.key for one in keeper.matching if one.payload[1]]
        assert keeper.timeline.horizon == max(resets, default=None)
        assert keeper.timeline.count == len(keeper.timeline.state)


@patient
@given(arriving_histories(), st.data())
def test_batches_that_come_again_change_nothing(
    batches: list[list[Event]], data: st.DataObject
) -> None:
    keeper = Keeper(RESET)
    for number, batch in enumerate(batches):
        keeper.take_in(batch)
        state, calls = keeper.timeline.state, keeper.timeline.calls
        keeper.take_in(batches[data.draw(st.integers(0, number))])
        assert keeper.timeline.state is state
        assert keeper.timeline.calls == calls


@patient
@given(arriving_histories(), st.data())
def test_a_timeline_restored_in_the_middle_ends_where_the_others_do(
    batches: list[list[Event]], data: st.DataObject
) -> None:
    split = data.draw(st.integers(0, len(batches)))
    keeper = Keeper(RESET)
    for batch in batches[:split]:
        keeper.take_in(batch)
    before = keeper.timeline
    keeper.timeline = Timeline(RESET, NODE)
    if before.key is not None:
        keeper.timeline.restore(
            before.key,
            before.state,
            count=before.count,
            horizon=before.horizon,
            offsets=before.offsets,
        )
    for batch in batches[split:]:
        keeper.take_in(batch)
        assert keeper.timeline.state == from_scratch(RESET, keeper.matching)


@patient
@given(st.integers(1, 700), st.integers(1, 700))
def test_an_event_late_by_d_positions_costs_at_most_2d_and_16_calls(count: int, late: int) -> None:
    late = min(late, count)
    keeper = Keeper(COUNT)
    keeper.take_in(line(count))
    before = keeper.timeline.calls
    keeper.take_in([event_of(2, 10 * (count - late) + 5, 0, None)])
    assert keeper.timeline.state == count + 1
    assert keeper.timeline.calls - before <= 2 * late + 16


@patient
@given(st.lists(st.integers(1, 120), min_size=1, max_size=12), st.integers(120, 300))
def test_the_bound_holds_for_one_late_event_after_the_other(lates: list[int], count: int) -> None:
    keeper = Keeper(COUNT)
    keeper.take_in(line(count))
    for number, late in enumerate(lates):
        head = len(keeper.known)
        lamport = keeper.known[head - late].lamport
        # Several late events may share a timestamp; each has a stream of its own, and so a key of its own.
        before, event = keeper.timeline.calls, event_of(100 + number, lamport, 0, None)
        keeper.take_in([event])
        positions = sum(1 for one in keeper.known if one.key > event.key)
        assert keeper.timeline.calls - before <= 2 * positions + 16


@patient
@given(st.integers(1, 1_500))
def test_few_checkpoints_are_kept(count: int) -> None:
    keeper = Timeline(COUNT, NODE)
    keeper.advance(line(count))
    assert len(keeper.checkpoints) <= 2 * count.bit_length() + 2 + PRUNE_EVERY + count // DENSE_FROM


def test_the_states_far_behind_a_long_history_lie_close_together_and_are_no_more_than_so_many() -> (
    None
):
    count = 100_000
    keeper = Timeline(COUNT, NODE)
    keeper.advance(line(count))
    numbers = [key.lamport // 10 for key in keeper.checkpoints]
    assert max(b - a for a, b in itertools.pairwise([0, *numbers])) <= count / (SPREAD / 2)
    assert len(numbers) <= SPREAD + 2 * count.bit_length() + 2 + PRUNE_EVERY


def test_a_late_event_below_the_reset_calls_no_reducer_and_is_covered() -> None:
    keeper = Keeper(RESET)
    keeper.take_in([event_of(1, 5, 0, (1, True)), event_of(1, 8, 1, (2, False))])
    state, calls = keeper.timeline.state, keeper.timeline.calls
    late = event_of(2, 3, 0, (9, True))
    assert keeper.timeline.late([late]) is None
    keeper.take_in([late])
    assert keeper.timeline.state is state
    assert keeper.timeline.calls == calls
    assert keeper.timeline.offsets.of(late.stream) == 0


def test_an_event_with_the_timestamp_of_the_reset_and_a_later_stream_counts() -> None:
    keeper = Keeper(RESET)
    keeper.take_in([event_of(2, 1, 0, (3, True)), event_of(1, 2, 0, (4, False))])
    keeper.take_in([event_of(3, 1, 0, (77, False))])
    keeper.take_in([event_of(0, 1, 0, (78, False))])
    assert [number for _, (number, _) in keeper.timeline.state] == [3, 77, 4]


def test_an_event_of_a_smaller_stream_at_the_same_timestamp_is_late() -> None:
    keeper = Keeper(LIST)
    keeper.take_in([event_of(3, 7, 0, "second")])
    assert keeper.timeline.late([event_of(2, 7, 0, "first")]) is not None
    assert keeper.timeline.late([event_of(4, 7, 0, "third")]) is None


def test_an_event_that_is_late_is_refused_without_a_rewind() -> None:
    keeper = Keeper(LIST)
    keeper.take_in(line(3))
    with pytest.raises(ValueError, match="rewind first"):
        keeper.timeline.advance([event_of(2, 5, 0, None)])


def test_everything_is_asked_for_again_where_no_checkpoint_lies_below() -> None:
    keeper = Keeper(LIST)
    keeper.take_in(line(40))
    assert keeper.timeline.rewind_to(event_of(2, 1, 0, None).key) is None
    assert keeper.timeline.state == ()
    assert keeper.timeline.key is None


def test_going_back_to_an_event_that_is_folded_takes_it_out() -> None:
    keeper = Keeper(LIST)
    keeper.take_in(line(4))
    assert keeper.timeline.rewind_to(keeper.known[2].key) == keeper.known[1].key
    assert keeper.timeline.count == 2


def test_a_reset_leaves_no_checkpoint_below_it() -> None:
    keeper = Keeper(RESET)
    keeper.take_in([*line(50), event_of(2, 900, 0, (7, True)), event_of(2, 901, 1, (8, False))])
    assert keeper.timeline.checkpoints == tuple(one.key for one in keeper.known[50:])
    assert keeper.timeline.count == 2


def test_going_back_behind_a_reset_by_way_of_the_beginning_skips_what_sorts_before_it() -> None:
    events = [*line(50), event_of(2, 900, 0, (7, True)), event_of(2, 902, 1, (8, False))]
    before = Keeper(RESET)
    before.take_in(events)
    restored = Timeline(RESET, NODE)
    assert before.timeline.key is not None
    restored.restore(
        before.timeline.key,
        before.timeline.state,
        count=before.timeline.count,
        horizon=before.timeline.horizon,
        offsets=before.timeline.offsets,
    )
    late = event_of(3, 901, 0, (9, False))
    assert restored.late([late]) == late.key
    assert restored.rewind_to(late.key) is None
    restored.advance(sorted([*events, late], key=lambda one: one.key))
    assert restored.state == from_scratch(RESET, [*events, late])
    assert restored.calls == 3


def test_what_is_covered_never_shrinks() -> None:
    timeline = Timeline(LIST, NODE)
    more, other = OffsetMap({stream_of(1): 5}), OffsetMap({stream_of(1): 2, stream_of(2): 1})
    timeline.cover(more)
    timeline.cover(other)
    assert timeline.offsets == more.raised(other)


def test_going_back_behind_nothing_forgets_the_reset_that_is_taken_out() -> None:
    keeper = Keeper(RESET)
    keeper.take_in([event_of(1, 1, 0, (1, False)), event_of(1, 2, 1, (2, True))])
    assert keeper.timeline.rewind_to(keeper.known[1].key) is None
    assert keeper.timeline.horizon is None


def failing(state: State, event: Any, metadata: Metadata) -> State:
    if event == "poison":
        raise LookupError("poison")
    return listed(state, event, metadata)


def test_a_raising_reducer_leaves_the_last_good_state_and_names_the_event() -> None:
    fish: Fish[State] = Fish("f", Tag("a"), (), failing)
    timeline = Timeline(fish, NODE)
    events = [event_of(1, n + 1, n, payload) for n, payload in enumerate(["x", "poison", "y"])]
    with pytest.raises(FishStopped) as stopped:
        timeline.advance(events)
    assert (stopped.value.fish, stopped.value.function) == ("f", "on_event")
    assert stopped.value.key == events[1].key
    assert isinstance(stopped.value.__cause__, LookupError)
    assert timeline.state == ((str(events[0].key), "x"),)
    assert timeline.key == events[0].key
    assert timeline.offsets == OffsetMap({events[0].stream: 0})


def test_a_raising_reset_test_is_named() -> None:
    timeline = Timeline(RESET, NODE)
    with pytest.raises(FishStopped) as stopped:
        timeline.advance([event_of(1, 1, 0, None)])
    assert stopped.value.function == "is_reset"
    assert timeline.state == ()


def test_a_reset_that_raises_leaves_the_state_before_it() -> None:
    fish: Fish[State] = Fish(
        "f", Tag("a"), (), failing, is_reset=lambda event, _: event == "poison"
    )
    timeline = Timeline(fish, NODE)
    timeline.advance([event_of(1, 1, 0, "x")])
    with pytest.raises(FishStopped):
        timeline.advance([event_of(1, 2, 1, "poison")])
    assert timeline.count == 1
    assert timeline.horizon is None


def telling(state: State, event: Any, metadata: Metadata) -> State:
    """It keeps all it is given, and refuses some of it."""
    if event % 7 == 6:
        raise LookupError("refused")
    return (*state, (event, metadata))


def falling(count: int) -> list[Event]:
    """Events of streams that each sort before what the others brought."""
    return [event_of(n, count - n, 0, n) for n in range(count)]


@example(size=20, again=7, pausing=True, batches=[falling(40)])
@example(size=20, again=0, pausing=False, batches=[falling(40)])
@patient
@given(arriving_histories(resets=False), st.integers(1, 40), st.integers(0, 20), st.booleans())
def test_a_commutative_fish_folds_what_is_new_wherever_it_sorts_and_once(
    batches: list[list[Event]],
    size: int,
    again: int,
    pausing: bool,  # noqa: FBT001 - drawn
) -> None:
    """Pieces of the events in the order of their arrival, each beginning with some of those of the piece before."""
    fish: Fish[State] = Fish("bag", Tag("a"), (), bagged, commutative=True)
    timeline = Timeline(fish, NODE)
    events = [one for batch in batches for one in batch if "a" in one.tags]
    asked = itertools.count()
    for start in range(0, len(events), size):
        some = events[max(0, start - again) : start + size]
        while some:
            pause = (lambda: next(asked) % 3 == 0) if pausing else None
            some = some[timeline.advance(some, pause) :]
        known = events[: start + size]
        assert timeline.state == tuple(sorted(str(one.key) for one in known))
        assert timeline.calls == timeline.count == len(known)
        assert timeline.key == max(one.key for one in known)
        assert len(timeline.checkpoints) == 1


def bagged(state: State, _event: Any, metadata: Metadata) -> State:
    return tuple(sorted((*state, metadata.event_id), key=str))


streamed = st.lists(
    st.tuples(st.sampled_from([0, 1, 5]), st.booleans(), st.integers(0, 20)), max_size=40
)


@example([(1, False, number) for number in range(20)], 20, "stop", [])
@example([(0, False, 6), (1, False, 0)], 1, "stop", [0])
@example([(1, False, number) for number in range(20)], 20, "skip", [3])
@given(
    streamed,
    st.integers(1, 40),
    st.sampled_from(["stop", "skip"]),
    st.lists(st.integers(0, 30), max_size=3),
)
@patient
def test_what_is_folded_fast_is_folded_as_everything_else(
    drawn: list[tuple[int, bool, int]], size: int, on_error: Any, again: list[int]
) -> None:
    fish: Fish[State] = Fish("telling", Tag("a"), (), telling, on_error=on_error)
    events = []
    for number, (stream, is_branch, payload) in enumerate(drawn):
        event = event_of(stream, number + 1, number, payload)
        branch = event.stream._replace(branch=b"b" * 32) if is_branch else event.stream
        events.append(event._replace(key=event.key._replace(stream=branch)))
    fast = Timeline(fish, NODE)
    slow = Timeline(fish, NODE, examine=lambda f, s, e, m: f.on_event(s, e.payload, m))

    def seen(one: Timeline[State]) -> tuple[Any, ...]:
        skipped = [error.key for error in one.skipped]
        return one.state, one.key, one.count, one.calls, one.offsets, one.checkpoints[-1:], skipped

    def advance(one: Timeline[State], some: Sequence[Event]) -> object:
        try:
            return one.advance(some)
        except FishStopped as stopped:
            return stopped.key
        except ValueError as late:  # one that stopped a fish is late for what was folded behind it
            return str(late)

    starts = [*range(0, len(events), size), *again]
    for start in starts:
        some = events[start : start + size]
        assert advance(fast, some) == advance(slow, some)
        assert seen(fast) == seen(slow)


@pytest.mark.parametrize("fish", [COUNT, replace(COUNT, mutates=True)])
def test_the_clock_is_looked_at_after_one_event_then_after_twice_as_many_and_then_often(
    fish: Fish[int],
) -> None:
    calls, asked = itertools.count(1), list[int]()
    last = [0]

    def numbered(state: int, _event: Any, _metadata: Metadata) -> int:
        last[0] = next(calls)
        return state + 1

    def paused() -> bool:
        asked.append(last[0])
        return last[0] > CHUNK and len(asked) % 50 == 0

    timeline = Timeline(replace(fish, on_event=numbered), NODE)
    events = line(3 * CHUNK)
    done = timeline.advance(events, paused)
    assert CHUNK < done < len(events)
    assert done == asked[-1] == timeline.state == timeline.count
    assert {1, 2, 4, 8, 16, 32, 64} <= set(asked)
    while done < len(events):
        done += timeline.advance(events[done:], paused)
    assert max(b - a for a, b in itertools.pairwise(asked)) == STRIDE
    assert timeline.state == len(events)
    assert timeline.calls == len(events), "none is folded twice"


@pytest.mark.parametrize("count", [MANY - 1, 2 * CHUNK])
def test_a_fish_at_rest_holds_the_event_looked_at_last_and_no_other(count: int) -> None:
    timeline, events = Timeline(COUNT, NODE), line(count)
    timeline.advance(events)
    assert timeline.at is events[-1]
    assert all(sys.getrefcount(one) <= 4 for one in events[:-1])


class Struck(BaseException):
    """As what a watchdog raises."""


@pytest.mark.parametrize("where", [0, 3, MANY, CHUNK + 5])
def test_one_that_is_interrupted_stands_before_the_event_it_was_at(where: int) -> None:
    seen: list[Event | None] = []

    def interrupted(state: int, _event: Any, metadata: Metadata) -> int:
        if metadata.offset == where:
            seen.append(timeline.at)
            raise Struck
        return state + 1

    timeline = Timeline(replace(COUNT, on_event=interrupted), NODE)
    events = line(2 * CHUNK)
    with pytest.raises(Struck):
        timeline.advance(events)
    assert seen == [events[where]] == [timeline.at]
    assert timeline.state == timeline.count == where
    assert timeline.key == (events[where - 1].key if where else None)
    assert timeline.offsets.of(events[0].stream) == where - 1
    assert timeline.calls == where + 1
