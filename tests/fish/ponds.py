"""What the tests of the pond act with: fish that list events, a story on a log, an observer that remembers."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from fish import Fish, FishStopped, Metadata, Observation, Pond
from fish.surroundings import Limits
from lamport.event import Event
from lamport.offsets import OffsetMap
from lamport.tags import Tag
from tests.fish.memory_log import MemoryLog

State = tuple[Any, ...]


def listed(state: State, event: Any, _metadata: Metadata) -> State:
    if event == "poison":
        raise LookupError("poison")
    return (*state, event)


def named(name: str, **more: Any) -> Fish[State]:
    return Fish(name, Tag("a"), (), listed, **more)


LIST = named("list")
RESET = named("reset", is_reset=lambda event, _: event[1])


def from_scratch(definition: Fish[State], events: Sequence[Event]) -> State:
    state = definition.initial
    for event in events:
        if "a" in event.tags:
            metadata = Metadata.of(event, event.stream.node)
            reset = definition.is_reset is not None and definition.is_reset(event.payload, metadata)
            state = definition.on_event(
                (definition.initial if reset else state), event.payload, metadata
            )
    return state


def within(log: MemoryLog, offsets: OffsetMap) -> list[Event]:
    """The events of a log up to these offsets, in key order."""
    return [one for one in log.events if one.offset <= offsets.of(one.stream)]


def story(
    act: Callable[[MemoryLog, Pond], Awaitable[None]],
    log: MemoryLog | None = None,
    limits: Limits | None = None,
) -> MemoryLog:
    """Run one story in a pond on a log, and close the pond behind it."""

    async def run(log: MemoryLog) -> None:
        async with asyncio.TaskGroup() as tasks:
            pond = Pond(log, tasks, limits=limits)
            await act(log, pond)
            await pond.close()

    used = log or MemoryLog()
    used.reopen()
    asyncio.run(run(used))
    return used


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


class Watch:
    """An observer that keeps what it was called with."""

    def __init__(self, pond: Pond, definition: Fish[State]) -> None:
        self.states: list[State] = []
        self.stops: list[FishStopped] = []
        self.observation = pond.observe(definition, self.states.append, self.stops.append)
        assert self.states == [], "never called before observe has returned"


async def collected(observation: Observation[State]) -> list[State]:
    return [state async for state in observation]
