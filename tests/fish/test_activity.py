"""What a pond is at, and what metadata say of time."""

import asyncio
import datetime as dt
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fish import Activity, FishStopped, Metadata, Pond
from lamport.codec import MAX_INTEGER
from tests.fish.memory_log import NODE, MemoryLog, event_of
from tests.fish.ponds import LIST, named, story, turns


def is_busy(pond: Pond) -> bool:
    return pond.activity.is_busy


def test_a_pond_tells_what_it_is_at() -> None:
    async def act(log: MemoryLog, pond: Pond) -> None:
        assert pond.activity == Activity(0, 0, 0, 0, is_catching_up=False)
        pond.observe(LIST)
        assert pond.activity == Activity(1, 1, 0, 0, is_catching_up=False)
        assert is_busy(pond)
        await pond.current_state(LIST)
        await turns(20)
        assert not is_busy(pond)
        with pond.catching_up():
            log.receive(1, 1, "held")
            await turns(20)
            assert pond.activity == Activity(1, 0, 1, 0, is_catching_up=True)
        await turns(20)
        assert pond.activity == Activity(1, 0, 0, 0, is_catching_up=False)

    story(act)


def test_effects_that_run_or_wait_are_counted() -> None:
    async def act(_log: MemoryLog, pond: Pond) -> None:
        gate = asyncio.Event()

        async def wait(_state: Any, _enqueue: Any) -> None:
            await gate.wait()

        async with asyncio.TaskGroup() as tasks:
            for _ in range(3):
                tasks.create_task(pond.run(LIST, wait))
            await turns(20)
            assert (pond.activity.effects, pond.activity.is_busy) == (3, True)
            gate.set()
        await turns(20)
        assert (pond.activity.effects, pond.activity.is_busy) == (0, False)

    story(act)


def test_a_fish_that_stopped_keeps_nobody_busy() -> None:
    async def act(log: MemoryLog, pond: Pond) -> None:
        log.receive(1, 1, "poison")
        with pytest.raises(FishStopped):
            await pond.current_state(named("poisoned"))
        assert pond.activity == Activity(1, 0, 0, 0, is_catching_up=False)

    story(act)


@given(st.integers(0, MAX_INTEGER))
def test_every_timestamp_has_a_date(timestamp: int) -> None:
    event = event_of(1, 1, 0, None)._replace(timestamp=timestamp)
    told = Metadata.of(event, NODE).recorded_at
    epoch = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
    is_exact = told == dt.datetime.max.replace(tzinfo=dt.UTC) or (
        told - epoch == dt.timedelta(microseconds=timestamp)
    )
    assert is_exact
    assert told.tzinfo is dt.UTC


def test_a_timestamp_beyond_all_dates_is_the_last_of_them() -> None:
    event = event_of(1, 1, 0, None)._replace(timestamp=MAX_INTEGER)
    assert Metadata.of(event, NODE).recorded_at.year == dt.MAXYEAR
