"""State effects: their order, what they see, what they publish."""

import asyncio
from typing import Any

import pytest

from fish import (
    EffectEnded,
    FishStopped,
    Pond,
)
from lamport.errors import InvalidInput, StoreFull
from tests.fish.memory_log import MemoryLog
from tests.fish.ponds import (
    LIST,
    State,
    story,
    turns,
)


def test_effects_run_one_after_the_other_and_each_sees_the_one_before() -> None:
    async def act(_log: MemoryLog, pond: Pond) -> None:
        seen = []

        async def append(state: State, enqueue: Any) -> None:
            seen.append(len(state))
            await asyncio.sleep(0)
            enqueue("a", len(state))
            enqueue("other", "not for this fish")
            await asyncio.sleep(0)

        results = await asyncio.gather(*(pond.run(LIST, append) for _ in range(30)))
        assert seen == list(range(30))
        assert [one[0].payload for one in results] == seen
        assert await pond.current_state(LIST) == tuple(range(30))

    story(act)


def test_events_of_one_effect_are_published_in_one_piece_when_it_has_returned() -> None:
    async def act(log: MemoryLog, pond: Pond) -> None:
        async def effect(_state: State, enqueue: Any) -> None:
            enqueue("a", 1)
            await turns(5)
            assert log.commits == []
            enqueue(["a", "b"], 2)

        events = await pond.run(LIST, effect)
        assert [commit.events for commit in log.commits] == [events]
        assert [event.tags for event in events] == [("a",), ("a", "b")]

    story(act)


def test_an_effect_that_asks_for_nothing_publishes_nothing() -> None:
    async def act(log: MemoryLog, pond: Pond) -> None:
        assert await pond.run(LIST, lambda _state, _enqueue: None) == ()
        assert log.commits == []

    story(act)


def test_a_raising_effect_publishes_nothing_and_the_queue_goes_on() -> None:
    async def act(log: MemoryLog, pond: Pond) -> None:
        def failing(_state: State, enqueue: Any) -> None:
            enqueue("a", 1)
            raise LookupError("effect")

        def untaggable(_state: State, enqueue: Any) -> None:
            enqueue("", 1)

        async def cancelled(_state: State, enqueue: Any) -> None:
            enqueue("a", 1)
            raise asyncio.CancelledError

        effects: list[Any] = [failing, untaggable, cancelled, lambda _, enqueue: enqueue("a", 2)]
        results = await asyncio.gather(
            *(pond.run(LIST, effect) for effect in effects), return_exceptions=True
        )
        assert [type(one) for one in results] == [
            LookupError,
            InvalidInput,
            asyncio.CancelledError,
            tuple,
        ]
        assert [event.payload for event in log.events] == [2]

    story(act)


def test_enqueue_after_the_effect_has_returned_raises() -> None:
    async def act(log: MemoryLog, pond: Pond) -> None:
        kept: list[Any] = []
        await pond.run(LIST, lambda _state, enqueue: kept.append(enqueue))
        with pytest.raises(EffectEnded):
            kept[0]("a", 1)
        assert log.commits == []

    story(act)


def test_an_effect_that_has_begun_completes_without_its_caller_and_a_waiting_one_is_withdrawn() -> (
    None
):
    async def act(log: MemoryLog, pond: Pond) -> None:
        begun, gate = asyncio.Event(), asyncio.Event()

        async def slow(_state: State, enqueue: Any) -> None:
            enqueue("a", "begun")
            begun.set()
            await gate.wait()

        first = asyncio.create_task(pond.run(LIST, slow))
        second = asyncio.create_task(pond.run(LIST, lambda _, enqueue: enqueue("a", "withdrawn")))
        await begun.wait()
        first.cancel()
        second.cancel()
        await asyncio.gather(first, second, return_exceptions=True)
        gate.set()
        await pond.run(LIST, lambda state, enqueue: enqueue("a", len(state)))
        assert [event.payload for event in log.events] == ["begun", 1]

    story(act)


def test_an_effect_on_a_stopped_fish_is_not_run() -> None:
    async def act(log: MemoryLog, pond: Pond) -> None:
        log.receive(1, 1, "poison")
        with pytest.raises(FishStopped):
            await pond.run(LIST, lambda _, enqueue: enqueue("a", 1))
        assert len(log.commits) == 1

    story(act)


def test_what_the_log_refuses_reaches_the_caller_and_the_queue_goes_on() -> None:
    async def act(log: MemoryLog, pond: Pond) -> None:
        log.is_full = True
        with pytest.raises(StoreFull):
            await pond.run(LIST, lambda _, enqueue: enqueue("a", 1))
        log.is_full = False
        assert len(await pond.run(LIST, lambda _, enqueue: enqueue("a", 1))) == 1

    story(act)
