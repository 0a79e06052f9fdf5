"""What looks like a cancellation and is none: a stranger's `CancelledError` ends nothing but what is the stranger's."""

import asyncio
from typing import Any, Never

import pytest

from fish import Fish, FishStopped, Metadata, Pond
from lamport.tags import Tag
from tests.fish.memory_log import MemoryLog
from tests.fish.ponds import LIST, State, named, story, turns


def deserted(*_given: Any) -> Never:
    """As the result of a task that was cancelled does."""
    raise asyncio.CancelledError


def touchy(state: State, event: Any, _metadata: Metadata) -> State:
    if event == "poison":
        deserted()
    return (*state, event)


def test_an_observer_that_raises_it_harms_nobody() -> None:
    async def act(log: MemoryLog, pond: Pond) -> None:
        pond.observe(LIST, deserted)
        await pond.current_state(LIST)
        await turns(20)
        log.receive(1, 1, "x")
        assert await pond.current_state(LIST) == ("x",)

    story(act)


def test_a_listener_that_raises_it_harms_nobody() -> None:
    skipping = named("skipping", on_error="skip")

    async def act(log: MemoryLog, pond: Pond) -> None:
        pond.on_report(deserted)
        log.receive(1, 1, "poison")
        log.receive(1, 2, "x")
        assert await pond.current_state(skipping) == ("x",)

    story(act)


def test_an_error_handler_that_raises_it_leaves_its_effect_on() -> None:
    def refused(*_given: Any) -> None:
        raise LookupError

    async def act(log: MemoryLog, pond: Pond) -> None:
        with pond.keep_running(LIST, refused, None, deserted) as standing:
            await turns(20)
            log.receive(1, 1, "x")
            await turns(20)
            assert not standing.is_over

    story(act)


@pytest.mark.parametrize(
    "fish",
    [
        Fish("touchy", Tag("a"), (), touchy),
        Fish("resetting", Tag("a"), (), touchy, is_reset=lambda e, _: e == "poison" and deserted()),
    ],
)
@pytest.mark.parametrize("count", [1, 20])
def test_a_reducer_that_raises_it_stops_its_fish_at_that_event(
    fish: Fish[State], count: int
) -> None:
    async def act(log: MemoryLog, pond: Pond) -> None:
        for number in range(count):
            log.receive(1, number + 1, number)
        states: list[State] = []
        pond.observe(fish, states.append)
        await turns(50)
        poison = log.receive(1, 100, "poison")
        for number in range(101, 101 + count):
            log.receive(1, number, number)
        with pytest.raises(FishStopped) as stopped:
            await pond.current_state(fish)
        assert stopped.value.key == poison.key
        assert states[-1] == tuple(range(count))

    story(act)


def test_a_lookout_stops() -> None:
    async def act(log: MemoryLog, pond: Pond) -> None:
        log.receive(1, 1, 1)
        log.receive(1, 2, 2)
        for observation in (
            pond.observe_unordered_reduce(Tag("a"), deserted, 0),
            pond.observe_best_match(Tag("a"), deserted),
        ):
            with pytest.raises(FishStopped):
                [_ async for _ in observation]

    story(act)


def test_a_factory_is_skipped() -> None:
    async def act(log: MemoryLog, pond: Pond) -> None:
        log.receive(1, 1, 1)
        assert await anext(pond.observe_all(Tag("a"), deserted)) == ()

    story(act)


def test_a_state_that_cannot_be_serialized_for_it_is_folded_again() -> None:
    fish = named("kept", serialize_state=deserted, deserialize_state=deserted)

    async def act(log: MemoryLog, pond: Pond) -> None:
        if not log.events:
            log.receive(1, 1, "x")
        assert await pond.current_state(fish) == ("x",)
        await turns(20)
        assert not log.snapshots

    story(act, story(act))
