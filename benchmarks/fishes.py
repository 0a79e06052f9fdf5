"""Fish in numbers: the memory that each takes beside its state, and the time to find whom an event concerns."""

import asyncio
import tracemalloc
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.nodes import make_identities, running
from benchmarks.report import Report
from benchmarks.rounds import LATENCY, SIZE, Figures, Stopwatch, alternate, fresh_folder
from fish import Fish, Metadata
from fish.dispatch import Dispatch
from lamport.tags import Tag, Tags
from transport.identity import Identity

FISH = 10_000
"""Live fish of one kind, unless another number is asked for."""

EVENTS = 1_000
"""Events that are dispatched."""

_MEMORY = "memory of a live fish"
_DISPATCH = "dispatch of one event"
_MEASURED = (
    "Python's memory (tracemalloc) that so many observed fish of one kind take on a node, each of its own worker,"
    " divided by their number; definitions included. The bound: an entry in a dictionary with an empty tuple. Dispatch:"
    " from an event's tags to the fish that it concerns. The bound: a lookup in a dictionary."
)
_LEFT_OUT = "the states themselves, which are empty; folding; reading what is stored."


def measure(events: int, runs: int) -> Report:
    """All rows; `events` is the number of fish."""
    [identity] = make_identities(1)
    memory = alternate(
        runs, SIZE, partial(_our_memory, identity, events), partial(_raw_memory, events)
    )
    wheres = [_where(number) for number in range(events)]
    dispatch = alternate(
        runs, LATENCY, partial(_our_dispatch, wheres), partial(_raw_dispatch, wheres)
    )
    return Report("fishes", events, (*memory, *dispatch), _MEASURED, _LEFT_OUT)


def _where(number: int) -> Tags:
    return Tag("worker").with_id(f"w{number}")


def _append(state: tuple[Any, ...], payload: Any, _: Metadata) -> tuple[Any, ...]:
    return (*state, payload)


def _our_memory(identity: Identity, count: int) -> Figures:
    with fresh_folder() as folder:
        return {_MEMORY: asyncio.run(_observed(folder, identity, count)) / count}


async def _observed(folder: Path, identity: Identity, count: int) -> int:
    async with running(folder, identity) as node:
        await node.publish("filler", None)
        tracemalloc.start()
        watched = []
        try:
            for number in range(count):
                fish: Fish[tuple[Any, ...]] = Fish(f"worker {number}", _where(number), (), _append)
                watched.append(node.pond.observe(fish))  # or it would not be watched
                await node.pond.current_state(fish)
            return tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()


def _raw_memory(count: int) -> Figures:
    tracemalloc.start()
    try:
        states: dict[str, tuple[Any, ...]] = {f"worker {number}": () for number in range(count)}
        return {_MEMORY: tracemalloc.get_traced_memory()[0] / len(states)}
    finally:
        tracemalloc.stop()


def _our_dispatch(wheres: list[Tags]) -> Figures:
    index: Dispatch[int] = Dispatch()
    for number, where in enumerate(wheres):
        index.add(number, where)
    watch = Stopwatch()
    for number in range(EVENTS):
        [found] = index.concerned(wheres[number % len(wheres)].names, is_local=False)
        assert found == number % len(wheres), "it concerns this one"
    return {_DISPATCH: watch.lap_ms() / EVENTS}


def _raw_dispatch(wheres: list[Tags]) -> Figures:
    index = {where.names[-1]: number for number, where in enumerate(wheres)}
    watch = Stopwatch()
    for number in range(EVENTS):
        found = index[wheres[number % len(wheres)].names[-1]]
        assert found == number % len(wheres), "it concerns this one"
    return {_DISPATCH: watch.lap_ms() / EVENTS}
