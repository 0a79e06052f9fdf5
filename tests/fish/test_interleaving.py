"""The law under random interleavings of arrivals, questions, effects and restarts."""

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from fish import (
    Pond,
)
from fish.surroundings import Limits
from lamport.event import Event
from tests.fish.histories import arriving_histories
from tests.fish.memory_log import AT_ONCE, MemoryLog, event_of
from tests.fish.ponds import (
    LIST,
    RESET,
    State,
    Watch,
    from_scratch,
    story,
    turns,
    within,
)


def test_an_inbox_that_overflows_is_read_from_the_log() -> None:
    async def act(log: MemoryLog, pond: Pond) -> None:
        await pond.current_state(LIST)
        reads, most = log.reads, Limits().waiting_events
        log.commit([event_of(1, 10 + n, n, n) for n in range(most)])
        assert await pond.current_state(LIST) == tuple(range(most))
        assert log.reads == reads
        log.commit([event_of(2, 9_000 + n, n, n) for n in range(most + 1)])
        state = await pond.current_state(LIST)
        assert state == (*range(most), *range(most + 1))
        assert log.reads == reads + 1

    story(act, MemoryLog(page=1_000))


def test_a_late_event_among_those_read_from_the_log_shows_only_the_end_result() -> None:
    async def act(log: MemoryLog, pond: Pond) -> None:
        log.receive(1, 5, "first")
        watch = Watch(pond, LIST)
        await pond.current_state(LIST)
        log.commit([event_of(2, 1 + n, n, n) for n in range(Limits().waiting_events + 1)])
        state = await pond.current_state(LIST)
        assert state == from_scratch(LIST, log.events)
        assert watch.states == [("first",), state]

    story(act, MemoryLog(page=1_000))


def test_a_fish_that_starts_ahead_of_a_lagging_follower_loses_nothing() -> None:
    async def act(log: MemoryLog, pond: Pond) -> None:
        await pond.current_state(RESET)
        for lamport in range(10, 60):
            log.receive(1, lamport, (lamport, False))
        watch = Watch(pond, LIST)
        while not watch.states:
            await turns(1)
        log.receive(2, 5, ("late", False))
        assert await pond.current_state(LIST) == from_scratch(LIST, log.events)

    story(act, MemoryLog(page=100, batch=1))


steps = st.lists(
    st.sampled_from(["turn", "turn", "ask", "observe", "observe other", "run"]),
    min_size=0,
    max_size=3,
)


logs = st.builds(
    MemoryLog, page=st.integers(1, 4), batch=st.sampled_from([1, 2, 5, AT_ONCE, AT_ONCE])
)
limits = st.builds(Limits, waiting_events=st.integers(0, 4), snapshot_every=st.integers(1, 9))


@settings(max_examples=300, deadline=None)
@given(arriving_histories(), st.lists(steps, max_size=60), logs, limits)
def test_the_state_is_the_fold_of_what_is_known_under_any_interleaving(
    batches: list[list[Event]], plans: list[list[str]], log: MemoryLog, limits: Limits
) -> None:
    asyncio.run(_interleaved(batches, plans, log, limits))


async def _interleaved(
    batches: list[list[Event]], plans: list[list[str]], log: MemoryLog, limits: Limits
) -> None:
    """Arrivals, questions, effects and restarts mixed; small inboxes overflow often."""
    for number in range(0, max(len(batches), 1), 4):
        async with asyncio.TaskGroup() as tasks:
            pond = Pond(log, tasks, limits=limits)
            await _one_life(batches[number : number + 4], plans[number : number + 4], log, pond)
            await pond.close()


async def _one_life(
    batches: list[list[Event]], plans: list[list[str]], log: MemoryLog, pond: Pond
) -> None:
    shown: list[State] = []
    for number, batch in enumerate(batches):
        log.commit(batch)
        for step in plans[number] if number < len(plans) else ():
            if step == "turn":
                await turns(1)
            elif step == "ask":
                known = len(log.commits)
                snapshot = await pond.snapshot(RESET)
                assert snapshot.offsets.covers(log.commits[known - 1].offsets)
                assert snapshot.state == from_scratch(RESET, within(log, snapshot.offsets))
            elif step == "observe":
                pond.observe(RESET, shown.append)
            elif step == "observe other":
                pond.observe(LIST)
            elif step == "run":
                await pond.run(RESET, lambda state, enqueue: enqueue("a", (len(state), False)))
    for definition in (LIST, RESET):
        assert await pond.current_state(definition) == from_scratch(definition, log.events)
    if log.batch == AT_ONCE:  # otherwise a batch may end within a commit, and its state be shown
        prefixes = [from_scratch(RESET, within(log, commit.offsets)) for commit in log.commits]
        assert all(state == () or state in prefixes for state in shown)
