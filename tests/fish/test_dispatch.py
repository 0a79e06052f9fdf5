"""Fish in numbers: whom an event concerns, who is evicted, and what rests."""

import asyncio
import gc
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fish import Fish, Metadata, NotCommutative, Pond, WorkIds
from fish.dispatch import Dispatch
from fish.surroundings import Limits
from fish.testing import check_commutative
from lamport.event import Event
from lamport.tags import ALL_EVENTS, Tag, Where
from tests.fish.histories import arriving_histories, patient
from tests.fish.memory_log import NODE, MemoryLog
from tests.fish.ponds import State, listed, story, turns

names = st.sampled_from("abcd")
conjunctions = st.lists(names, max_size=3).map(lambda tags: Tags(*tags))
selections = st.lists(st.tuples(conjunctions, st.booleans()), min_size=1, max_size=3).map(
    lambda parts: Where.union(one.local() if local else one for one, local in parts)
)


def Tags(*tags: str) -> Where:  # noqa: N802 - a selection of tags, of none: everything
    where: Where = ALL_EVENTS
    for tag in tags:
        where = where & Tag(tag)
    return where


@given(st.lists(selections, max_size=8), st.lists(names), st.booleans(), st.data())
@patient
def test_whom_an_event_concerns_is_who_selects_it(
    wheres: list[Where],
    tags: list[str],
    is_local: bool,  # noqa: FBT001 - drawn
    data: st.DataObject,
) -> None:
    index: Dispatch[int] = Dispatch()
    for number, where in enumerate(wheres):
        index.add(number, where)
    gone = data.draw(st.sets(st.sampled_from(range(len(wheres)))) if wheres else st.just(set()))
    for number in sorted(gone):
        index.remove(number)
    concerned = list(index.concerned(tags, is_local=is_local))
    wanted = {
        number
        for number, where in enumerate(wheres)
        if number not in gone and where.matches(tags, is_local=is_local)
    }
    assert set(concerned) == wanted
    assert len(concerned) == len(wanted)
    assert len(index) == len(wheres) - len(gone)


def test_a_fish_among_ten_thousand_is_found_by_its_own_tag() -> None:
    asked = []

    class Asked:
        def __init__(self, number: int) -> None:
            self.number = number

        def __hash__(self) -> int:
            asked.append(self.number)
            return self.number

    index: Dispatch[Asked] = Dispatch()
    for number in range(10_000):
        index.add(Asked(number), Tag("worker").with_id(str(number)))
    asked.clear()
    [found] = index.concerned(("worker", "worker:7"), is_local=False)
    assert found.number == 7
    assert set(asked) <= {7}


def worker(number: int) -> Fish[State]:
    return Fish(f"worker {number}", Tag("worker").with_id(str(number)), (), listed)


def test_a_thousand_fish_at_rest_have_no_task_and_one_follower() -> None:
    async def act(log: MemoryLog, pond: Pond) -> None:
        count = 1_000
        observations = [pond.observe(worker(number)) for number in range(count)]
        for number in range(count):
            await pond.current_state(worker(number))
        await turns(5)
        assert len(asyncio.all_tasks()) < 10
        assert len(log.followed) == 1
        log.receive(1, 1, "x", "worker", "worker:7")
        states = [pond.current_state(worker(number)) for number in (6, 7, 8)]
        assert await asyncio.gather(*states) == [(), ("x",), ()]
        for observation in observations:
            observation.cancel()

    story(act)


def test_idle_fish_go_and_come_back_from_their_snapshots() -> None:
    async def act(log: MemoryLog) -> None:
        async with asyncio.TaskGroup() as tasks:
            pond = Pond(log, tasks, limits=Limits(idle_fish=3))
            calls: list[Any] = []

            def member(number: int) -> Fish[State]:
                def on_event(state: State, event: Any, _: Metadata) -> State:
                    calls.append(event)
                    return (*state, event)

                calls.clear()
                return Fish(f"f{number}", Tag(f"t{number}"), (), on_event)

            watched = pond.observe(worker(0))
            for number in range(8):
                log.receive(1, number + 1, number, f"t{number}")
                assert await pond.current_state(member(number)) == (number,)
                await turns(20)
                assert len(pond.running) <= 3 + 2  # idle ones, the watched and the newest
            assert "worker 0" in pond.running
            calls.clear()
            assert "f0" not in pond.running
            assert await pond.current_state(member(0)) == (0,)
            assert calls == []
            watched.cancel()
            await pond.close()

    asyncio.run(act(MemoryLog()))


def test_a_fish_in_use_stays() -> None:
    async def act(log: MemoryLog) -> None:
        async with asyncio.TaskGroup() as tasks:
            pond = Pond(log, tasks, limits=Limits(idle_fish=1))
            standing = pond.keep_running(worker(1), lambda *_: None)
            await pond.run(worker(2), lambda *_: None)
            for number in range(3, 9):
                await pond.current_state(worker(number))
                await turns(20)
            assert "worker 1" in pond.running
            assert "worker 2" not in pond.running
            standing.cancel()
            await pond.run(worker(2), lambda *_: None)
            await pond.close()

    asyncio.run(act(MemoryLog()))


def folded(work: WorkIds, payload: Any, metadata: Metadata) -> WorkIds:
    number, is_closing = payload
    return (
        work.closed(EVERY[number % len(EVERY)])
        if is_closing and EVERY
        else work.opened(metadata.event_key)
    )


EVERY: list[str] = []


@given(batches=arriving_histories())
@patient
def test_work_ids_are_commutative(batches: list[list[Event]]) -> None:
    events = [event for batch in batches for event in batch]
    EVERY[:] = [str(event.key) for event in events]
    work = Fish("work", Tag("a"), WorkIds(), folded, commutative=True)
    check_commutative(work, events, NODE, tries=10)


@given(batches=arriving_histories(resets=False))
@patient
def test_a_commutative_fish_has_the_state_of_the_fold_however_events_arrive(
    batches: list[list[Event]],
) -> None:
    total: Fish[int] = Fish(
        "total", Tag("a"), 0, lambda n, payload, _: n + payload[0], commutative=True
    )

    async def act(log: MemoryLog, pond: Pond) -> None:
        with pond.observe(total):
            for batch in batches:
                log.commit(batch)
                await turns(3)
            wanted = sum(one.payload[0] for one in log.events if "a" in one.tags)
            assert await pond.current_state(total) == wanted

    story(act)


def test_a_false_claim_is_refuted_with_the_two_events_that_matter() -> None:
    log = MemoryLog()
    for stream in (1, 2):
        log.receive(stream, stream, f"by {stream}")
        log.receive(stream, stream + 5, f"more by {stream}")
    last: Fish[Any] = Fish(
        "last", Tag("a"), None, lambda _s, payload, _m: payload, commutative=True
    )
    with pytest.raises(NotCommutative, match=r"more by 1.*more by 2"):
        check_commutative(last, log.events, NODE)


def bytes_of_a_live_fish() -> float:
    """What each of some hundred fish takes, in bytes."""
    count, taken = 500, list[int]()

    async def act(_log: MemoryLog, pond: Pond) -> None:
        def one(number: int) -> Fish[State]:
            where = Tag("worker").with_id(f"w{number}")
            return Fish(f"worker {number}", where, (), listed)

        await pond.current_state(one(count))
        tracemalloc.start()
        watched = []
        try:
            for number in range(count):
                fish = one(number)
                watched.append(pond.observe(fish))
                await pond.current_state(fish)
            gc.collect()  # what waits to be collected is no fish's
            taken.append(tracemalloc.get_traced_memory()[0])
        finally:
            tracemalloc.stop()

    story(act)
    return taken[0] / count


def test_a_live_fish_takes_at_most_two_kibibytes_beside_its_state() -> None:
    # In a process of its own: how large objects are depends on what others of their class went through.
    code = "from tests.fish.test_dispatch import bytes_of_a_live_fish as f; print(f())"
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=root
    )
    assert 200 < float(done.stdout) <= 2_048
