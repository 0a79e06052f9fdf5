"""Whatever calls a stranger's function for each of many events lets others run in between."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from fish import Fish, Metadata, Pond
from fish.time_slice import SLICE_S
from lamport.event import Event
from lamport.tags import Tag
from tests.fish.memory_log import MemoryLog, event_of
from tests.fish.ponds import story, turns

A = Tag("a")
COUNT = 200


class Slow:
    """Functions that take a fifth of a slice each, by the loop's clock; it stands still otherwise."""

    def __init__(self) -> None:
        self.now = 0.0
        self.fish: Fish[int] = Fish("slow", A, 0, self.fold)

    def takes(self) -> None:
        self.now += SLICE_S / 5

    def fold(self, state: int, _payload: Any, _metadata: Metadata) -> int:
        self.takes()
        return state + 1

    def is_better(self, one: Event, other: Event) -> bool:
        self.takes()
        return one.key > other.key

    def named(self, _payload: Any, _metadata: Metadata) -> Fish[int] | None:
        self.takes()
        return None

    def group(self, _payload: Any, _metadata: Metadata) -> str | None:
        self.takes()
        return None


async def fold(pond: Pond, slow: Slow) -> None:
    await pond.current_state(slow.fish)


async def explain(pond: Pond, slow: Slow) -> None:
    await pond.explain(slow.fish)


async def reduce(pond: Pond, slow: Slow) -> object:
    await anext(observation := pond.observe_unordered_reduce(A, slow.fold, 0))
    return observation


async def best_match(pond: Pond, slow: Slow) -> object:
    await anext(observation := pond.observe_best_match(A, slow.is_better))
    return observation


async def collection(pond: Pond, slow: Slow) -> object:
    await anext(observation := pond.observe_all(A, slow.named))
    return observation


async def groups(pond: Pond, slow: Slow) -> object:
    await anext(observation := pond.observe_groups(A, slow.group, lambda _: slow.fish))
    return observation


async def first_named(pond: Pond, slow: Slow) -> None:
    with pond.observe_one(A, slow.named):
        await turns(2 * COUNT)


WORK = (fold, explain, reduce, best_match, collection, groups, first_named)


@pytest.mark.parametrize("is_live", [False, True])
@pytest.mark.parametrize("work", WORK)
def test_others_run_whenever_a_slice_of_time_is_over(
    work: Callable[[Pond, Slow], Awaitable[object]],
    is_live: bool,  # noqa: FBT001 - pytest's
) -> None:
    async def act(log: MemoryLog, pond: Pond) -> None:
        slow, longest = Slow(), 0.0
        asyncio.get_running_loop().time = lambda: slow.now  # type: ignore[method-assign]  # the test's own clock

        async def watch() -> None:
            nonlocal longest
            while True:
                before = slow.now
                await asyncio.sleep(0)
                longest = max(longest, slow.now - before)

        watching = asyncio.create_task(watch())
        events = [event_of(1, n + 1, n, n) for n in range(COUNT)]
        if is_live:
            log.commit(events[:1])
        else:
            log.commit(events)
        working = asyncio.ensure_future(work(pond, slow))
        await turns(20)
        if is_live:
            log.commit(events[1:])
        observation = await working
        await turns(COUNT)
        watching.cancel()
        assert 0 < longest <= 2 * SLICE_S, observation

    story(act, MemoryLog(page=1_000))
