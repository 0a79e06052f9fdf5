"""Standing effects: on every new state, on the very state that was judged, and what ends them."""

import asyncio
from typing import Any

from fish import EffectCancelled, FishStopped, Pond
from tests.fish.memory_log import MemoryLog
from tests.fish.ponds import LIST, State, story, turns


def append(state: State, enqueue: Any) -> None:
    enqueue("a", len(state))


def test_the_state_that_cancels_is_the_first_without_effect() -> None:
    async def act(_log: MemoryLog, pond: Pond) -> None:
        standing = pond.keep_running(LIST, append, lambda state: len(state) == 5)
        await standing.ended()
        assert await pond.current_state(LIST) == (0, 1, 2, 3, 4)

    story(act)


def test_what_an_effect_raises_is_told_and_the_effect_stays_on() -> None:
    async def act(log: MemoryLog, pond: Pond) -> None:
        errors: list[Exception] = []

        def touchy(state: State, enqueue: Any) -> None:
            enqueue("a", "never published")
            if state:
                raise LookupError(len(state))

        with pond.keep_running(LIST, touchy, None, errors.append):
            await turns(50)
            log.receive(1, 9, "more")
            await turns(50)
        assert [str(error) for error in errors][:2] == ["1", "2"]

    story(act)


def test_an_effect_that_waits_for_what_is_cancelled_is_told_and_stays_on() -> None:
    async def act(log: MemoryLog, pond: Pond) -> None:
        errors: list[Exception] = []

        async def deserted(_state: State, _enqueue: Any) -> None:
            (gone := asyncio.get_running_loop().create_future()).cancel()
            await gone

        with pond.keep_running(LIST, deserted, None, errors.append) as standing:
            await turns(50)
            log.receive(1, 9, "more")
            await turns(50)
            assert [type(error) for error in errors] == [EffectCancelled] * 2
            assert not standing.is_over

    story(act)


def test_a_fish_that_stops_ends_its_standing_effects_and_tells() -> None:
    async def act(log: MemoryLog, pond: Pond) -> None:
        errors: list[Exception] = []
        standing = pond.keep_running(LIST, lambda *_: None, None, errors.append)
        await pond.current_state(LIST)
        log.receive(1, 1, "poison")
        await standing.ended()
        await turns(5)
        assert all(isinstance(error, FishStopped) for error in errors)

    story(act)


def test_cancelled_while_it_waits_it_is_not_run_any_more() -> None:
    async def act(log: MemoryLog, pond: Pond) -> None:
        standing = pond.keep_running(LIST, append)
        standing.cancel()
        await turns(50)
        assert log.commits == []

    story(act)


def test_an_event_of_others_runs_no_effect() -> None:
    async def act(log: MemoryLog, pond: Pond) -> None:
        runs = []
        with pond.keep_running(LIST, lambda state, _: runs.append(state)):
            await turns(50)
            log.receive(1, 1, "x", "other")
            await turns(50)
        assert runs == [()]

    story(act)
