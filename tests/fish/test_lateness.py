"""What time travel costs, in calls of the reducer: exact figures."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from fish import Fish, Metadata, Pond
from fish.surroundings import Limits
from lamport.event import Event
from lamport.tags import Tag
from simulations.loop import run_simulated
from tests.fish.memory_log import MemoryLog, event_of
from tests.fish.ponds import from_scratch, story, turns

KNOWN = 6_000

LATENESS = (5_999, 3_000, 1_025, 1_000, 513, 300, 100, 17, 4, 1)
"""Each event comes from one stream, so that each is less late than the one before."""


class Counted:
    """A fish whose state depends on the order of all events, and the number of its reducer's calls."""

    def __init__(self, **more: Any) -> None:
        self.calls = 0
        self.fish: Fish[int] = Fish("counted", Tag("a"), 7, self.on_event, **more)

    def on_event(self, state: int, payload: int, _: Metadata) -> int:
        self.calls += 1
        return (state * 31 + payload) % 1_000_003

    def taken(self) -> int:
        """The calls since this was last asked."""
        calls, self.calls = self.calls, 0
        return calls


def known(count: int = KNOWN) -> MemoryLog:
    """One stream with a timestamp in ten."""
    log = MemoryLog(page=1_000)
    log.commit([event_of(1, 10 * (n + 1), n, n) for n in range(count)])
    return log


def late_events(log: MemoryLog, count: int = KNOWN) -> Iterator[tuple[int, Event]]:
    """One event after the other arrives late; how late it is."""
    for added, lateness in enumerate(LATENESS):
        lamport = 10 * (count + added - lateness) + 5
        yield lateness, log.receive(2, lamport, lateness)


async def current(pond: Pond, counted: Counted, log: MemoryLog) -> None:
    assert await pond.current_state(counted.fish) == from_scratch_of(counted.fish, log)


def from_scratch_of(fish: Fish[int], log: MemoryLog) -> int:
    state: Any = from_scratch(fish, log.events)  # type: ignore[arg-type]  # any state will do
    calls: int = state
    return calls


@pytest.mark.parametrize("where", ["here", "apart"])
def test_an_event_that_is_late_by_d_costs_at_most_2d_and_16_calls(where: str) -> None:
    async def act(log: MemoryLog, pond: Pond) -> None:
        counted = Counted(isolated=where == "apart")
        await pond.current_state(counted.fish)
        counted.taken()
        for lateness, event in late_events(log):
            await pond.current_state(counted.fish)
            place = len([one for one in log.events if one.key > event.key])
            assert counted.taken() <= 2 * place + 16, lateness
        await current(pond, counted, log)

    story(act, known())


@pytest.mark.parametrize("fresh", [0, 700, 1_023])
@pytest.mark.parametrize("lateness", LATENESS)
def test_right_after_a_restart_it_costs_at_most_4d_and_1024_calls(
    lateness: int, fresh: int
) -> None:
    """`fresh` events came in behind the last snapshot before the node was killed."""
    log = known()

    async def fill(_log: MemoryLog, pond: Pond) -> None:
        counted = Counted()
        await pond.current_state(counted.fish)

    async def act(log: MemoryLog, pond: Pond) -> None:
        counted = Counted()
        await pond.current_state(counted.fish)
        assert counted.taken() == fresh
        late = log.receive(2, 10 * (KNOWN + fresh - lateness) + 5, "late" and lateness)
        await pond.current_state(counted.fish)
        place = len([one for one in log.events if one.key > late.key])
        assert counted.taken() <= 4 * place + 1_024
        await current(pond, counted, log)

    story(fill, log)
    log.commit([event_of(1, 10 * (n + 1), n, n) for n in range(KNOWN, KNOWN + fresh)])
    story(act, log)


@pytest.mark.parametrize("span", [100_000, 70_000, 60_000, 10_000])
def test_a_catch_up_is_folded_once(span: int) -> None:
    """100 chunks from 10 streams into 100,000 known events; they land among the last `span` of these."""
    size, streams, chunks = 100_000, 10, 10
    each = 100
    new = streams * chunks * each
    log = MemoryLog(page=1_000)
    log.commit([event_of(9, 10 * (n + 1), n, n) for n in range(size)])

    async def act(log: MemoryLog, pond: Pond) -> None:
        counted = Counted()
        await pond.current_state(counted.fish)
        counted.taken()
        first, step = 10 * (size - span), 10 * span // (chunks * each)
        shown: list[int] = []
        pond.observe(counted.fish, shown.append)
        await turns(20)
        shown.clear()
        with pond.catching_up():
            for number in shuffled(streams * chunks):
                stream, chunk = number % streams, taken_chunks(number, streams)
                stamps = [first + 1 + step * (chunk * each + n) + stream % 9 for n in range(each)]
                offsets = range(chunk * each, (chunk + 1) * each)
                log.commit(
                    [event_of(stream + 20, s, o, s) for s, o in zip(stamps, offsets, strict=True)]
                )
                await turns(2)
            assert shown == []
        await pond.current_state(counted.fish)
        assert counted.taken() <= 1.5 * new + span
        assert len(shown) == 1
        await current(pond, counted, log)

    virtually(act, log)


def virtually(act: Callable[[MemoryLog, Pond], Awaitable[None]], log: MemoryLog) -> None:
    """A story in which no time passes but what it waits for."""

    async def run() -> None:
        log.reopen()
        async with asyncio.TaskGroup() as tasks:
            pond = Pond(log, tasks)
            await act(log, pond)
            await pond.close()

    run_simulated(run(), random.Random(1))


def shuffled(count: int) -> list[int]:
    """The streams take turns; each in its own order."""
    numbers = list(range(count))
    randomness = random.Random(5)
    order = [number % 10 for number in numbers]
    randomness.shuffle(order)
    due = [0] * 10
    result = []
    for stream in order:
        result.append(due[stream] * 10 + stream)
        due[stream] += 1
    return result


def taken_chunks(number: int, streams: int) -> int:
    """Which chunk of its stream it is."""
    return number // streams


def test_a_commutative_fish_replays_nothing() -> None:
    async def act(log: MemoryLog, pond: Pond) -> None:
        calls = []

        def add(state: int, payload: int, _: Metadata) -> int:
            calls.append(payload)
            return state + payload

        total: Fish[int] = Fish("total", Tag("a"), 0, add, commutative=True)
        before = await pond.current_state(total)
        calls.clear()
        added = sum(lateness for lateness, _ in late_events(log))
        assert await pond.current_state(total) == before + added
        assert len(calls) == len(LATENESS)

    log = known()
    story(act, log)


def test_a_commutative_fish_restarts_from_its_snapshot_whatever_came_late() -> None:
    log = known(100)
    results = []

    async def act(_log: MemoryLog, pond: Pond) -> None:
        calls: list[int] = []

        def add(state: int, payload: int, _: Metadata) -> int:
            calls.append(payload)
            return state + payload

        fish: Fish[int] = Fish("total", Tag("a"), 0, add, commutative=True)
        calls.clear()
        results.append((await pond.current_state(fish), len(calls)))

    story(act, log)
    log.receive(2, 15, 1_000)
    story(act, log)
    story(act, log)
    assert results == [(4_950, 100), (5_950, 1), (5_950, 0)]


def test_a_reset_with_tags_of_its_own_is_found_and_nothing_before_it_is_folded() -> None:
    log = known(500)
    log.receive(2, 4_005, 1, "a", "reset")
    counted = Counted(reset_where=Tag("reset"))

    async def act(log: MemoryLog, pond: Pond) -> None:
        await pond.current_state(counted.fish)
        assert counted.taken() == 101
        await current(pond, counted, log)
        counted.taken()
        log.receive(3, 15, 5, "a", "reset")
        await turns(20)
        assert counted.taken() == 0
        log.receive(3, 4_505, 5, "a", "reset")
        await pond.current_state(counted.fish)
        assert counted.taken() <= 2 * 51 + 16

    story(act, log)


def test_limits_of_a_restart_are_those_of_the_snapshots() -> None:
    assert Limits().snapshot_every == 1_024


def test_who_waits_during_a_catch_up_is_served_at_once_and_provisionally() -> None:
    async def act(log: MemoryLog, pond: Pond) -> None:
        counted = Counted()
        await pond.current_state(counted.fish)
        with ExitStack() as stack:
            stack.enter_context(pond.catching_up())
            log.receive(1, 5, 1)
            snapshot = await pond.snapshot(counted.fish)
            assert snapshot.provisional
            assert snapshot.offsets.covers(log.offsets)
        assert not (await pond.snapshot(counted.fish)).provisional

    story(act)
