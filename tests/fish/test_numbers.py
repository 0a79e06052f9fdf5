"""Fish in numbers: what an event or a catch-up costs follows whom it concerns, not who lives there. In calls."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from types import FrameType
from typing import Any

from fish import Fish, Pond
from fish.surroundings import Limits
from lamport.tags import Tag
from tests.fish.memory_log import MemoryLog
from tests.fish.ponds import State, listed, story, turns

FEW, MANY = 20, 400


def worker(number: int) -> Fish[State]:
    return Fish(f"worker {number}", Tag("worker").with_id(str(number)), (), listed)


def speak_of(log: MemoryLog, number: int) -> None:
    log.receive(1, len(log.commits) + 1, number, "worker", f"worker:{number}")


async def calls_of(work: Callable[[], Awaitable[object]]) -> int:
    """How often functions of the pond were called for this."""
    calls = 0

    def saw(frame: FrameType, event: str, _: Any) -> None:
        nonlocal calls
        calls += event == "call" and frame.f_globals["__name__"].startswith("fish.")

    sys.setprofile(saw)
    try:
        await work()
    finally:
        sys.setprofile(None)
    return calls


def calls_among(
    count: int, act: Callable[[MemoryLog, Pond, list[Fish[State]]], Awaitable[object]]
) -> int:
    """The calls for this where so many fish are watched, most of them above the bound of idle ones."""
    calls = 0

    async def among(log: MemoryLog, pond: Pond) -> None:
        nonlocal calls
        fishes = [worker(number) for number in range(count)]
        watched = [pond.observe(fish, lambda _: None) for fish in fishes]
        for fish in fishes:
            await pond.current_state(fish)
        await turns(20)
        calls = await calls_of(lambda: act(log, pond, fishes))
        assert len(pond.running) >= len(watched)

    story(among, limits=Limits(idle_fish=FEW // 2))
    return calls


def test_an_event_of_one_fish_costs_as_much_among_many_as_among_few() -> None:
    async def act(log: MemoryLog, pond: Pond, fishes: list[Fish[State]]) -> None:
        speak_of(log, 7)
        assert await pond.current_state(fishes[7]) == (7,)
        await turns(20)

    assert 0 < calls_among(MANY, act) == calls_among(FEW, act)


def test_a_question_to_one_fish_costs_as_much_among_many_as_among_few() -> None:
    async def act(_log: MemoryLog, pond: Pond, fishes: list[Fish[State]]) -> None:
        assert await pond.current_state(fishes[7]) == ()

    assert 0 < calls_among(MANY, act) == calls_among(FEW, act)


def test_a_new_fish_costs_hardly_more_among_many_than_among_few() -> None:
    async def act(_log: MemoryLog, pond: Pond, _fishes: list[Fish[State]]) -> None:
        for number in range(FEW):
            await pond.current_state(worker(MANY + number))
            await turns(20)

    assert calls_among(MANY, act) < 2 * calls_among(FEW, act)


def test_a_catch_up_costs_by_those_it_touches() -> None:
    async def act(log: MemoryLog, pond: Pond, fishes: list[Fish[State]]) -> None:
        with pond.catching_up():
            for number in range(len(fishes)):
                speak_of(log, number)
        states = [await pond.current_state(fish) for fish in fishes]
        assert states == [(number,) for number in range(len(fishes))]
        await turns(20)

    many, few = calls_among(MANY, act), calls_among(FEW, act)
    assert many / MANY < 1.2 * few / FEW


def test_a_catch_up_that_touches_one_costs_as_much_among_many_as_among_few() -> None:
    async def act(log: MemoryLog, pond: Pond, fishes: list[Fish[State]]) -> None:
        with pond.catching_up():
            speak_of(log, 7)
            await asyncio.sleep(0)
        assert await pond.current_state(fishes[7]) == (7,)
        await turns(20)

    assert 0 < calls_among(MANY, act) == calls_among(FEW, act)
