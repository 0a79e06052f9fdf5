"""Announced catch-ups: events are held and folded once, nobody is kept waiting, and everybody is told the end."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from fish import FishStopped, Observation, Pond
from simulations.loop import run_simulated
from tests.fish.memory_log import MemoryLog
from tests.fish.ponds import LIST, State, collected, named

Act = Callable[[MemoryLog, Pond, "Watched"], Awaitable[None]]


class Watched:
    """What an observer was shown: when, how many events, and whether provisionally."""

    def __init__(self, pond: Pond, **more: Any) -> None:
        self._began = now()
        self.shown: list[tuple[float, int, bool]] = []
        self._observation = pond.observe(LIST, self._note, **more)

    def _note(self, state: State) -> None:
        snapshot = self._observation.snapshot
        assert snapshot is not None
        self.shown.append((round(now() - self._began, 3), len(state), snapshot.provisional))


def is_provisional(observation: Observation[State]) -> bool:
    snapshot = observation.snapshot
    return snapshot is not None and snapshot.provisional


def now() -> float:
    return asyncio.get_running_loop().time()


def virtually(act: Act, **more: Any) -> None:
    """Play in virtual time, which stands still while anything runs."""

    async def run() -> None:
        log = MemoryLog()
        async with asyncio.TaskGroup() as tasks:
            pond = Pond(log, tasks)
            watched = Watched(pond, **more)
            await pond.current_state(LIST)
            await act(log, pond, watched)
            await pond.close()

    run_simulated(run(), random.Random(1))


async def trickle(log: MemoryLog, seconds: float, count: int) -> None:
    for _ in range(count):
        log.receive(1, 1 + len(log.events), "drop")
        await asyncio.sleep(seconds)


def test_what_came_is_shown_after_a_second_in_which_nothing_comes_and_once_more_at_the_end() -> (
    None
):
    async def act(log: MemoryLog, pond: Pond, watched: Watched) -> None:
        with pond.catching_up():
            await trickle(log, 0.9, 3)
            await asyncio.sleep(3)
        await asyncio.sleep(1)
        assert watched.shown == [(0.0, 0, False), (2.8, 3, True), (5.7, 3, False)]

    virtually(act)


def test_it_is_shown_after_ten_seconds_however_it_trickles_and_then_as_it_comes() -> None:
    async def act(log: MemoryLog, pond: Pond, watched: Watched) -> None:
        with pond.catching_up():
            await trickle(log, 0.9, 13)
        await asyncio.sleep(1)
        assert watched.shown[1:] == [
            (10.0, 12, True),
            (10.8, 13, True),
            (11.7, 13, False),
        ]

    virtually(act)


def test_one_that_ends_in_time_is_shown_once() -> None:
    async def act(log: MemoryLog, pond: Pond, watched: Watched) -> None:
        with pond.catching_up():
            await trickle(log, 0.5, 4)
        await asyncio.sleep(1)
        assert watched.shown[1:] == [(2.0, 4, False)]

    virtually(act)


def test_several_count_as_one_from_the_first_to_the_last() -> None:
    async def act(log: MemoryLog, pond: Pond, watched: Watched) -> None:
        async def another(start: float, count: int) -> None:
            await asyncio.sleep(start)
            with pond.catching_up():
                await trickle(log, 0.5, count)

        async with asyncio.TaskGroup() as peers:
            peers.create_task(another(0, 8))
            peers.create_task(another(3.2, 18))
        await asyncio.sleep(1)
        assert [(at, is_provisional) for at, _, is_provisional in watched.shown[1:]] == [
            (10.0, True),
            *((at, True) for at in (10.2, 10.7, 11.2, 11.7)),
            (12.2, False),
        ]

    virtually(act)


def test_the_end_is_told_though_what_was_held_until_then_changes_nothing() -> None:
    async def act(log: MemoryLog, pond: Pond, watched: Watched) -> None:
        with pond.catching_up():
            await trickle(log, 0, 1)
            await pond.current_state(LIST)
            await trickle(log, 0, 1)
            log.retract(log.events[-1].key)
        await asyncio.sleep(1)
        assert watched.shown[1:] == [(0.0, 1, True), (0.0, 1, False)]

    virtually(act)


def test_the_end_is_told_though_somebody_else_is_shown_the_state_then() -> None:
    async def act(log: MemoryLog, pond: Pond, watched: Watched) -> None:
        with pond.catching_up():
            await trickle(log, 0, 1)
            await pond.current_state(LIST)
            pond.observe(LIST, lambda _: None)
        await asyncio.sleep(1)
        assert watched.shown[1:] == [(0.0, 1, True), (0.0, 1, False)]

    virtually(act)


def test_the_end_is_told_behind_another_catch_up_that_began_before_it_could_be() -> None:
    async def act(log: MemoryLog, pond: Pond, watched: Watched) -> None:
        with pond.catching_up():
            await trickle(log, 0, 1)
            await pond.current_state(LIST)
            pond.observe(LIST, lambda _: None)
        with pond.catching_up():
            await asyncio.sleep(0.5)
            assert watched.shown[1:] == [(0.0, 1, True)]
        await asyncio.sleep(1)
        assert watched.shown[1:] == [(0.0, 1, True), (0.5, 1, False)]

    virtually(act)


def test_the_end_is_told_to_who_saw_what_was_shown_before_while_it_was_provisional() -> None:
    async def act(_log: MemoryLog, pond: Pond, _watched: Watched) -> None:
        shown: list[bool] = []
        waiting = pond.observe(LIST)
        with pond.catching_up():
            observation = pond.observe(LIST, lambda _: shown.append(is_provisional(observation)))
            await asyncio.sleep(0.1)
            await anext(waiting)
            assert is_provisional(waiting)
        again = asyncio.create_task(anext(waiting))
        await asyncio.sleep(0.1)
        assert shown == [True, False]
        assert again.done()

    virtually(act)


def test_a_fish_that_stopped_meanwhile_tells_no_end() -> None:
    async def act(log: MemoryLog, pond: Pond, watched: Watched) -> None:
        with pond.catching_up():
            await trickle(log, 0, 1)
            await pond.current_state(LIST)
            log.receive(1, 9, "poison")
            with pytest.raises(FishStopped):
                await pond.current_state(LIST)
        await asyncio.sleep(1)
        assert watched.shown[1:] == [(0.0, 1, True)]

    virtually(act)


def test_who_wants_changes_only_is_not_told_the_same_state_at_the_end() -> None:
    async def act(log: MemoryLog, pond: Pond, watched: Watched) -> None:
        with pond.catching_up():
            await trickle(log, 2, 1)
        await asyncio.sleep(1)
        assert watched.shown[1:] == [(1.0, 1, True)]

    virtually(act, changes_only=True)


def test_an_iterator_is_told_the_end_and_effects_are_applied_to_new_states_only() -> None:
    async def act(log: MemoryLog, pond: Pond, _watched: Watched) -> None:
        applied: list[State] = []
        observation = pond.observe(LIST)
        told = asyncio.create_task(collected(observation))
        pond.keep_running(LIST, lambda state, _: applied.append(state))
        await asyncio.sleep(0.1)
        with pond.catching_up():
            await trickle(log, 2, 1)
        await asyncio.sleep(1)
        observation.cancel()
        assert (await told, applied) == ([(), ("drop",), ("drop",)], [(), ("drop",)])

    virtually(act)


def test_a_fish_that_is_new_is_folded_at_once_and_provisional() -> None:
    async def act(log: MemoryLog, pond: Pond, _watched: Watched) -> None:
        with pond.catching_up():
            log.receive(1, 1, "drop")
            before = now()
            snapshot = await pond.snapshot(named("new"))
            assert (snapshot.state, snapshot.provisional, now()) == (("drop",), True, before)

    virtually(act)
