"""Whatever the arrival, the restarts, the catch-ups and the evictions: the state is the fold from scratch."""

import asyncio
import functools
import random

import pytest

from fish import Fish, Metadata, Pond
from fish.states import encode_state
from fish.surroundings import Limits
from fish.testing import mixed
from lamport.event import Event
from lamport.tags import Tag
from simulations.loop import run_simulated
from tests.fish.memory_log import NODE, MemoryLog, event_of

EVENTS = 400


def digested(state: int, payload: int, _: Metadata) -> int:
    return (state * 31 + payload) % 1_000_003


def added(state: int, payload: int, _: Metadata) -> int:
    return state + payload


def every_fish() -> list[Fish[int]]:
    return [
        *the_kinds(isolated=False),
        *the_kinds(isolated=True),
    ]


def the_kinds(*, isolated: bool) -> list[Fish[int]]:
    fish = functools.partial(Fish, version=1 + isolated, isolated=isolated)
    return [
        fish("digest", Tag("a"), 7, digested),
        fish("reset", Tag("a"), 7, digested, is_reset=lambda payload, _: payload % 37 == 0),
        fish("reset by tag", Tag("a"), 7, digested, reset_where=Tag("r")),
        fish("sum", Tag("a"), 0, added, commutative=True),
        fish("one stream's", Tag("a") & Tag("s3"), 7, digested),
    ]


def history(randomness: random.Random) -> list[Event]:
    """Five streams, in key order."""
    events = []
    for stream in range(5):
        lamport = 0
        for offset in range(EVENTS // 5):
            lamport += randomness.randint(1, 9)
            tags = ["a"] * (randomness.random() < 0.8) + ["r"] * (randomness.random() < 0.02)
            number = randomness.randrange(1_000)
            events.append(event_of(stream, lamport, offset, number, "x", f"s{stream}", *tags))
    return sorted(events, key=lambda event: event.key)


def from_scratch(fish: Fish[int], log: MemoryLog) -> int:
    state = fish.initial
    for event in log.events:
        if fish.selects(event, NODE):
            metadata = Metadata.of(event, NODE)
            if fish.is_reset is not None and fish.is_reset(event.payload, metadata):
                state = fish.initial
            state = fish.on_event(state, event.payload, metadata)
    return state


async def one_run(
    log: MemoryLog, batches: list[list[Event]], randomness: random.Random, limits: Limits
) -> None:
    """A node from its start to its stop; some of the batches arrive."""
    log.reopen()
    async with asyncio.TaskGroup() as tasks:
        pond = Pond(log, tasks, limits=limits)
        fishes = every_fish()
        watched = [pond.observe(fish) for fish in fishes if randomness.random() < 0.5]
        for _ in range(min(len(batches), randomness.randint(1, 20))):
            if randomness.random() < 0.2:
                with pond.catching_up():
                    for _ in range(min(len(batches), 5)):
                        log.commit(batches.pop())
                        await asyncio.sleep(randomness.random())
            elif batches:
                log.commit(batches.pop())
            fish = randomness.choice(fishes)
            if randomness.random() < 0.5:
                state = await pond.current_state(fish)
                assert encode_state(state) == encode_state(from_scratch(fish, log)), fish.name
        for fish in fishes:
            assert await pond.current_state(fish) == from_scratch(fish, log), fish.name
        for observation in watched:
            observation.cancel()
        await pond.close()


@pytest.mark.parametrize("seed", range(12))
def test_shuffled_arrival_gives_the_fold_from_scratch(seed: int) -> None:
    randomness = random.Random(seed)
    events = mixed(history(randomness), randomness)
    batches: list[list[Event]] = []
    while events:
        size = randomness.choice([1, 1, 2, 5, 20])
        batches.append(events[:size])
        events = events[size:]
    batches.reverse()
    limits = Limits(
        waiting_events=randomness.choice([2, 50]),
        snapshot_every=randomness.choice([5, 60]),
        idle_fish=randomness.choice([2, 100]),
    )
    log = MemoryLog(page=randomness.choice([3, 50]))
    while batches:
        run_simulated(one_run(log, batches, randomness, limits), random.Random(seed))
