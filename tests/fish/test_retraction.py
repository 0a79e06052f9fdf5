"""Fish and retractions: whatever was folded, stored or on its way, the state is the fold without what is hidden."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fish import Fish, FishStopped, Pond
from fish.surroundings import Limits
from lamport.event import Event
from lamport.offsets import OffsetMap
from lamport.tags import Tag
from lamport.upcasters import Upcaster, Upcasters
from tests.fish.histories import arriving_histories, patient
from tests.fish.memory_log import AT_ONCE, MemoryLog
from tests.fish.ponds import LIST, RESET, Watch, from_scratch, listed, story, turns

SMALL = Limits(waiting_events=3, snapshot_every=2)


def visible(log: MemoryLog, offsets: OffsetMap) -> list[Event]:
    """What a log shows up to these offsets, in key order."""
    held = [one for one in log.events if one.offset <= offsets.of(one.stream)]
    return [one for one in held if not log.hides(one, offsets)]


def test_a_retracted_event_is_folded_away() -> None:
    async def act(log: MemoryLog, pond: Pond) -> None:
        events = [log.receive(1, n, n) for n in range(1, 6)]
        assert await pond.current_state(LIST) == (1, 2, 3, 4, 5)
        log.retract(events[2].key)
        assert await pond.current_state(LIST) == (1, 2, 4, 5)
        log.retract(events[4].key, stream=8)
        assert await pond.current_state(LIST) == (1, 2, 4)

    story(act)


def test_the_one_that_opened_an_observation_is_told_without_a_state_in_between() -> None:
    async def act(log: MemoryLog, pond: Pond) -> None:
        first = log.receive(1, 1, 1)
        log.receive(1, 2, 2)
        watch = Watch(pond, LIST)
        await pond.current_state(LIST)
        log.retract(first.key)
        await pond.current_state(LIST)
        assert watch.states == [(1, 2), (2,)]

    story(act)


def test_a_retracted_reset_brings_back_what_stood_before_it() -> None:
    async def act(log: MemoryLog, pond: Pond) -> None:
        log.receive(1, 1, ("a", False))
        reset = log.receive(1, 2, ("b", True))
        log.receive(1, 3, ("c", False))
        assert await pond.current_state(RESET) == (("b", True), ("c", False))
        log.retract(reset.key)
        assert await pond.current_state(RESET) == (("a", False), ("c", False))

    story(act)


def test_of_several_retracted_at_once_the_lowest_behind_the_reset_counts() -> None:
    async def act(log: MemoryLog, pond: Pond) -> None:
        before = log.receive(1, 1, ("a", False))
        log.receive(1, 2, ("b", True))
        behind = log.receive(1, 3, ("c", False))
        log.receive(1, 4, ("d", False))
        await pond.current_state(RESET)
        log.retract(before.key)
        log.retract(behind.key)
        assert await pond.current_state(RESET) == (("b", True), ("d", False))

    story(act)


def test_a_stored_snapshot_whose_reset_was_retracted_does_not_hold() -> None:
    async def fill(log: MemoryLog, pond: Pond) -> None:
        log.receive(1, 1, ("a", False))
        log.receive(1, 2, ("b", True))
        log.receive(1, 3, ("c", False))
        await pond.current_state(RESET)

    async def again(_log: MemoryLog, pond: Pond) -> None:
        assert await pond.current_state(RESET) == (("a", False), ("c", False))

    log = story(fill)
    log.retract(log.events[1].key)
    story(again, log)


def test_what_does_not_concern_a_fish_is_not_replayed() -> None:
    async def act(log: MemoryLog, pond: Pond) -> None:
        other = log.receive(1, 1, "other", "other")
        log.receive(1, 2, 2)
        await pond.current_state(LIST)
        reads = log.reads
        log.retract(other.key)
        await pond.current_state(LIST)
        assert log.reads == reads

    story(act)


def test_a_retraction_before_its_target_hides_it_when_it_comes() -> None:
    async def act(log: MemoryLog, pond: Pond) -> None:
        log.receive(1, 1, 1)
        await pond.current_state(LIST)
        log.retract(log.events[0].key._replace(lamport=2), lamport=9)
        log.receive(1, 2, 2)
        log.receive(1, 3, 3)
        assert await pond.current_state(LIST) == (1, 3)

    story(act)


def test_poison_that_is_retracted_before_it_is_folded_stops_nobody() -> None:
    async def act(log: MemoryLog, pond: Pond) -> None:
        log.receive(1, 1, 1)
        await pond.current_state(LIST)
        poison = log.receive(1, 2, "poison")
        log.retract(poison.key)
        assert await pond.current_state(LIST) == (1,)

    story(act)


def test_poison_that_is_retracted_while_it_waits_behind_a_replay_stops_nobody() -> None:
    async def act(log: MemoryLog, pond: Pond) -> None:
        for lamport in range(1, 40):
            log.receive(1, lamport, lamport)
        pond.observe(LIST)
        await turns(5)
        poison = log.receive(1, 50, "poison")
        log.retract(poison.key)
        assert await pond.current_state(LIST) == tuple(range(1, 40))

    story(act, MemoryLog(page=1, batch=1))


def test_a_stopped_fish_goes_on_after_a_restart_without_its_poison() -> None:
    async def stop(log: MemoryLog, pond: Pond) -> None:
        log.receive(1, 1, 1)
        poison = log.receive(1, 2, "poison")
        log.receive(1, 3, 3)
        with pytest.raises(FishStopped):
            await pond.current_state(LIST)
        log.retract(poison.key)

    async def again(_log: MemoryLog, pond: Pond) -> None:
        assert await pond.current_state(LIST) == (1, 3)

    story(again, story(stop))


def test_a_stored_snapshot_with_a_retracted_event_does_not_hold() -> None:
    async def fill(log: MemoryLog, pond: Pond) -> None:
        for lamport in range(1, 5):
            log.receive(1, lamport, lamport)
        assert await pond.current_state(LIST) == (1, 2, 3, 4)

    async def again(_log: MemoryLog, pond: Pond) -> None:
        assert await pond.current_state(LIST) == (1, 3, 4)

    log = story(fill)
    assert len(log.snapshots) == 1
    log.retract(log.events[1].key)
    story(again, log)
    assert [one.count for one in log.snapshots] == [3]


@patient
@given(
    arriving_histories(),
    st.data(),
    st.integers(1, 5),
    st.sampled_from([1, 2, AT_ONCE]),
    st.sampled_from([SMALL, Limits()]),
)
def test_every_state_is_the_fold_of_what_is_visible_at_its_offsets(
    batches: list[list[Event]], data: st.DataObject, page: int, batch: int, limits: Limits
) -> None:
    log = MemoryLog(page, batch)
    every = [event.key for one in batches for event in one]
    retracted = data.draw(st.lists(st.sampled_from(every), max_size=5)) if every else []
    acts: list[Any] = data.draw(st.permutations([*range(len(batches)), *retracted]))
    order = iter(batches)
    restarts = data.draw(st.sets(st.integers(0, len(acts)), max_size=2))

    async def live(part: Sequence[Any]) -> None:
        async with asyncio.TaskGroup() as tasks:
            pond = Pond(log, tasks, limits=limits)
            asked = []
            for act in part:
                if isinstance(act, int):
                    log.commit(next(order))
                else:
                    log.retract(act, lamport=max(act.lamport, 100) + len(log.events))
                asked += [tasks.create_task(shown(pond, one)) for one in (LIST, RESET)]
                await turns(act % 7 if isinstance(act, int) else act.lamport % 7)
            await asyncio.gather(*asked)
            await pond.close()

    async def shown(pond: Pond, one: Fish[Any]) -> None:
        snapshot = await pond.snapshot(one)
        assert snapshot.state == from_scratch(one, visible(log, snapshot.offsets))

    start = 0
    for end in [*sorted(restarts), len(acts)]:
        log.reopen()
        asyncio.run(live(acts[start:end]))
        start = end


def upcast(payload: Any) -> Any:
    return payload + "?"  # a number raises


def test_reducers_see_todays_version_and_one_upcaster_that_raises_stops_one_fish() -> None:
    numbers: Fish[tuple[Any, ...]] = Fish("numbers", Tag("b"), (), listed)

    async def act(log: MemoryLog, pond: Pond) -> None:
        log.receive(1, 1, "x", "a")
        assert await pond.current_state(LIST) == ("x?",)
        watch = Watch(pond, LIST)
        log.receive(1, 2, 2, "a")
        log.receive(1, 3, 3, "b")
        with pytest.raises(
            FishStopped, match=r"its upcaster raised UpcastFailed: .*'a'.*TypeError"
        ):
            await pond.current_state(LIST)
        assert await pond.current_state(numbers) == (3,)
        [text] = pond.stopped.values()
        assert str(log.events[1].key) in text
        assert watch.states == [("x?",)]

    log = MemoryLog()
    log.upcasters = Upcasters(Upcaster("a", 1, upcast))
    story(act, log)


def test_other_upcasters_invalidate_stored_snapshots() -> None:
    async def fill(log: MemoryLog, pond: Pond) -> None:
        if not log.events:
            log.receive(1, 1, "x")
        states.append(await pond.current_state(LIST))

    states: list[Any] = []
    log = story(fill)
    log.upcasters = Upcasters(Upcaster("a", 1, upcast))
    story(fill, log)
    log.upcasters = Upcasters(Upcaster("a", 1, lambda payload: payload + "!"))
    story(fill, log)
    reads = log.reads
    story(fill, log)
    assert states == [("x",), ("x?",), ("x!",), ("x!",)]
    assert log.reads == reads + 2, (
        "its snapshot holds: one look for what it lacks, and one behind it"
    )
