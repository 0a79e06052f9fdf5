"""Which requests a commit takes: who brings little does not stand behind who brings much, and nobody starves."""

import asyncio
from collections.abc import Awaitable, Iterable
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from lamport.event import Event
from lamport.ids import NodeId
from lamport.log import MAX_WAITING
from lamport.requests import SHORT_BYTES, SHORT_EVENTS, Request
from lamport.turns import (
    LIVELY_S,
    MAX_COMMIT_EVENTS,
    MAX_LONG_EVENTS,
    MAX_REST_S,
    QUIET_S,
    REST,
    Turns,
)
from tests.lamport.keys import Author, drafts, member, open_log

HERE, A, B, C = (NodeId(bytes([number]) * 32) for number in range(4))
LONG = SHORT_EVENTS + 1

Line = tuple[NodeId | None, int, bool]
"""Of a request: whose it is, its events, whether its caller has gone meanwhile."""

LINES = st.tuples(
    st.sampled_from([None, HERE, A, B, C]),
    st.sampled_from([1, 2, SHORT_EVENTS, LONG, 1_000, MAX_COMMIT_EVENTS]),
    st.booleans(),
)


LOOP = asyncio.new_event_loop()
"""Futures want one; it never runs."""
LOOP.close()


class Clock:
    """A clock that goes on when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def request(
    author: NodeId | None, events: int, size: int = 100, *, cancelled: bool = False
) -> Request:
    result: asyncio.Future[tuple[Event, ...]] = asyncio.Future(loop=LOOP)
    if cancelled:
        result.cancel()
    return Request(None, (), events, size, result, author)


class Door:
    """The line with a writer at it, who needs as long for each commit as it is told."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.turns = Turns(HERE, MAX_WAITING, self.clock)

    def add(self, author: NodeId | None, events: int, *, cancelled: bool = False) -> Request:
        added = request(author, events, cancelled=cancelled)
        self.turns.add(added)
        return added

    def commit(self, seconds: float = 0.01) -> list[Request]:
        """Make the next commit, behind the rest where all that waits rests."""
        taken = self.turns.take()
        if not taken and self.turns:
            self.clock.now += self.turns.rest_s or 0.0
            taken = self.turns.take()
        self.clock.now += seconds
        self.turns.took()
        return taken


def lines_of(requests: Iterable[Request]) -> dict[NodeId | None, list[int]]:
    """The requests of each line, in their order; what came of an own stream stands with what is appended to it."""
    found: dict[NodeId | None, list[int]] = {}
    for one in requests:
        found.setdefault(None if one.author == HERE else one.author, []).append(id(one))
    return found


@given(st.lists(st.one_of(LINES, st.floats(0.0, 2.0)), max_size=60))
def test_every_line_keeps_its_order_and_every_request_is_taken_once(
    steps: list[Line | float],
) -> None:
    door, added, taken = Door(), [], []
    for step in steps:
        if isinstance(step, float):
            taken += door.commit(step)
        else:
            author, events, gone = step
            new = door.add(author, events, cancelled=gone)
            added += [] if gone else [new]
    while door.turns:
        taken += door.commit()
    assert lines_of(taken) == lines_of(added)


@given(st.lists(LINES, max_size=60))
def test_a_commit_takes_nothing_more_once_it_has_reached_its_bound(
    lines: list[Line],
) -> None:
    door = Door()
    for author, events, gone in lines:
        door.add(author, events, cancelled=gone)
    while door.turns:
        group = door.commit()
        assert sum(one.events for one in group[:-1]) < MAX_COMMIT_EVENTS


@given(
    st.lists(st.lists(LINES, max_size=4), min_size=20, max_size=20),
    st.sampled_from([A, B]),
    st.integers(0, 3),
)
def test_a_long_range_is_taken_soon_whatever_short_ones_come(
    brought: list[list[Line]], author: NodeId, before: int
) -> None:
    """Behind those of its own author and one of each other author, in every second commit behind a rest."""
    door = Door()
    for _ in range(before):
        door.add(author, LONG)
    long, commits = door.add(author, LONG), 0
    while not any(one is long for one in door.turns.take()):
        for line in brought[commits % len(brought)]:
            door.add(line[0] if line[0] in (None, HERE) else C, min(line[1], SHORT_EVENTS))
        door.clock.now += MAX_REST_S
        door.turns.took()
        commits += 1
        assert commits < 3 * (before + 2)


def test_who_brings_little_is_in_the_next_commit_however_much_stands_there() -> None:
    door = Door()
    for _ in range(100):
        door.add(A, 1_000)
    long = len(door.commit())
    short, appended = door.add(B, 1), door.add(None, 1)
    assert door.commit() == [short, appended]
    assert 0 < long < 100


def test_while_others_bring_little_a_commit_has_one_long_range_and_authors_take_turns() -> None:
    door = Door()
    for author in (A, A, A, B, C):
        door.add(author, LONG)
    authors = []
    for _ in range(20):
        door.add(None, 1)
        authors += [[one.author for one in door.commit() if one.events == LONG]]
        door.clock.now += MAX_REST_S
    assert [one for some in authors for one in some] == [A, B, C, A, A]
    assert all(len(some) <= 1 for some in authors)


def test_many_short_ranges_leave_half_a_commit_to_what_is_appended() -> None:
    door = Door()
    for number in range(MAX_COMMIT_EVENTS // SHORT_EVENTS + 1):
        door.add((A, B)[number % 2], SHORT_EVENTS)
    appended = door.add(None, 1)
    first = door.commit()
    assert first[-1] is appended
    assert sum(one.events for one in first) < MAX_COMMIT_EVENTS / 2 + 2 * SHORT_EVENTS


def test_short_ranges_of_however_many_authors_leave_half_a_commit() -> None:
    door, most = Door(), MAX_COMMIT_EVENTS // SHORT_EVENTS
    for number in range(2 * most):
        door.add(NodeId(bytes([9, *number.to_bytes(2)]) + bytes(29)), SHORT_EVENTS)
    groups = [door.commit() for _ in range(4)]
    assert all(sum(one.events for one in some) <= MAX_COMMIT_EVENTS for some in groups)
    assert door.add(None, 1) in door.commit()


def test_a_long_range_goes_beside_short_ones_only_where_it_was_left_out_for_them_before() -> None:
    door = Door()
    long = door.add(A, LONG)
    first = door.add(None, 1)
    assert door.commit() == [first]
    second = door.add(None, 1)
    assert door.commit() == [long, second]


def test_behind_a_long_range_others_have_the_writer_for_twice_its_time() -> None:
    door = Door()
    door.add(None, 1)
    door.commit()
    for _ in range(2):
        door.add(A, LONG)
    assert len(door.commit(0.01)) == 1
    for _ in range(4):
        assert door.turns.take() == []
        door.clock.now += 0.004
        short = door.add(B, 1)
        assert door.turns.take() == [short]
        door.clock.now += 0.0009
        door.turns.took()
    assert len(door.turns.take()) == 0
    assert door.turns.rest_s is not None
    assert abs(door.turns.rest_s - (REST * 0.01 - 4 * 0.0049)) < 1e-9
    assert [one.author for one in door.commit()] == [A]


def test_long_ranges_do_not_rest_on_where_nobody_comes() -> None:
    door = Door()
    door.add(None, 1)
    door.commit()
    for _ in range(2):
        door.add(A, LONG)
    door.commit(0.1)
    assert door.turns.take() == []
    assert door.turns.rest_s is not None
    assert abs(door.turns.rest_s - QUIET_S) < 1e-9
    door.clock.now += QUIET_S
    assert len(door.turns.take()) == 1


def test_a_disk_that_hangs_costs_no_long_rest() -> None:
    door = Door()
    door.add(None, 1)
    door.commit(0.0)
    for _ in range(2):
        door.add(A, LONG)
    door.commit(10.0)
    door.add(None, 1)
    rested, step = 0.0, QUIET_S / 2
    while not any(one.author == A for one in door.turns.take()):
        door.turns.took()
        door.add(None, 1)
        door.clock.now += step
        rested += step
    assert rested < MAX_REST_S + 3 * step


def test_where_nobody_brings_little_long_ranges_share_commits_and_do_not_rest() -> None:
    door = Door()
    door.add(None, 1)
    door.commit()
    door.clock.now += LIVELY_S
    for _ in range(30):
        door.add(A, MAX_LONG_EVENTS // 10)
    assert [len(door.commit()) for _ in range(3)] == [10, 10, 10]
    assert not door.turns


def test_what_an_author_brings_besides_does_not_hold_up_its_own_long_ranges() -> None:
    door = Door()
    for _ in range(2):
        door.add(A, 1)
        door.commit(0.0)
    for author in (A, A, A, B, B):
        door.add(author, LONG)
    assert [door.turns.is_lively(author) for author in (A, B)] == [False, True]
    assert len(door.commit(0.0)) == 5


def test_of_long_ranges_withdrawn_before_their_turn_none_is_counted() -> None:
    door = Door()
    for _ in range(3):
        door.add(A, LONG, cancelled=True)
    long, appended = door.add(B, LONG), door.add(None, 1)
    assert door.commit() == [appended]
    assert door.commit() == [long]
    door.add(A, LONG, cancelled=True)
    assert door.turns.take() == []
    assert not door.turns


def test_a_range_of_few_events_and_many_bytes_is_long() -> None:
    assert request(A, SHORT_EVENTS, SHORT_BYTES).is_short
    assert not request(A, SHORT_EVENTS, SHORT_BYTES + 1).is_short
    assert not request(A, LONG, 1).is_short


def test_what_is_appended_leaves_room_for_what_comes_and_the_other_way_round() -> None:
    door = Door()
    for _ in range(3):
        door.add(None, MAX_COMMIT_EVENTS)
    short, long = door.add(A, 1), door.add(B, LONG)
    first = door.commit()
    assert first[0] is short
    assert [one.author for one in first] == [A, None]
    assert door.commit()[0] is long


def test_long_ranges_and_what_is_appended_have_each_room_in_every_second_commit() -> None:
    door = Door()
    for _ in range(4):
        door.add(None, MAX_COMMIT_EVENTS)
        door.add(A, MAX_COMMIT_EVENTS)
    assert [[one.author for one in door.commit()] for _ in range(8)] == [[A], [None]] * 4


def test_in_a_log_single_events_are_durable_before_a_flood_that_came_before_them(
    tmp_path: Path,
) -> None:
    async def story() -> None:
        flood = [Author(member(f"flood {number}")).count(LONG) for number in range(20)]
        single = Author(member("bob")).count(1)
        done: list[str] = []

        async def note(name: str, asked: Awaitable[tuple[Event, ...]]) -> None:
            assert await asked
            done.append(name)

        async with open_log(tmp_path) as log, asyncio.TaskGroup() as tasks:
            for one in flood:
                tasks.create_task(note("flood", log.receive(one)))
            tasks.create_task(note("single", log.receive(single)))
            tasks.create_task(note("appended", log.publish(drafts(1))))
        assert done == ["single", "appended", *["flood"] * 20]

    asyncio.run(story())
