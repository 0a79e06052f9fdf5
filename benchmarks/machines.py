"""State machines: what their fold, their number and their commands cost, beside the same written by hand.

The machine is a line of twenty stations: events move a piece on, back or two on (guarded), or count, and some are not
enabled where they arrive. The reducer by hand does the same to a named tuple, and nothing else.
"""

import asyncio
import gc
import tracemalloc
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import closing
from functools import lru_cache, partial
from itertools import count
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from benchmarks.events import SEED, Sample, generate
from benchmarks.nodes import (
    PLAIN_NAME,
    batches,
    fill_both,
    make_identities,
    publish_timed,
    running,
    settled,
)
from benchmarks.raw import fold
from benchmarks.report import Report
from benchmarks.rounds import (
    LATENCY,
    RATE,
    SIZE,
    Figures,
    Stopwatch,
    alternate,
    fresh_folder,
    percentiles,
)
from fish import Fish
from fish.machines import Machines, System, assign, machine, state, tags_of, to
from shoal.node import Node
from transport.identity import Identity

EVENTS = 100_000
"""Events in the log that is folded, unless another number is asked for."""

STATIONS = 20
"""States of the machine."""

INSTANCES = 10_000
"""Instances that live on one node; fewer where fewer events are asked for."""

MAX_SENDS = 300
"""Commands in a run, one after the other: the p99 stands on three of them, and the run stays short."""

WAVE = 1_000
"""Events that are published at once where each instance gets one."""

_FOLD = f"machines, fold of {STATIONS} states"
_EACH = "machines, an event for each instance"
_MEMORY = "machines, memory of an instance"
_SEND = "machines, send that settles at once"
_CROWD = "machines, send among many instances"
_TYPES, _WEIGHTS = ("NEXT", "COUNT", "SKIP", "BACK"), (6, 2, 1, 1)
_MEASURED = (
    f"fold: the pond's first state of one machine with {STATIONS} states; the bound is a fish with a reducer written by"
    " hand that ends in the same state, in the same pond, from the same log. An event for each instance:"
    f" machines.publish in waves of {WAVE:,}, until all is folded; the bound is node.publish of the same, and a"
    " subscription that keeps a plain dict of states. Memory: what a fold of one event for each of"
    f" {INSTANCES:,} instances leaves behind in Python's heap, by their number; the bound is the plain dict. Send: from"
    " the call to the answer, one after the other, with one instance and with the many; the bound is node.publish of"
    " the same events."
)
_LEFT_OUT = (
    "filling the log, opening nodes and machines, snapshots at the start, services, effects and timers (there are"
    " none). The hand's reducer keeps no registry of passages, no reasons, no work ids, no versions. Snapshots that"
    " fall due on the way count."
)


class Piece(NamedTuple):
    """The state by hand: the station, and what was counted."""

    station: int = 0
    counted: int = 0
    skipped: int = 0


def by_hand(piece: Piece, payload: Any, _metadata: object) -> Piece:
    """The reducer by hand."""
    station, counted, skipped = piece
    type_ = payload["type"]
    if type_ == "NEXT":
        return Piece((station + 1) % STATIONS, counted, skipped)
    if type_ == "COUNT":
        return Piece(station, counted + 1, skipped)
    if type_ == "SKIP":
        if counted % 2 == 0:
            return Piece((station + 2) % STATIONS, counted, skipped + 1)
        return Piece((station + 1) % STATIONS, counted, skipped)
    if type_ == "BACK" and station % 2 == 1:
        return Piece(station - 1, counted, skipped)
    return piece


def measure(events: int, runs: int) -> Report:
    """All rows."""
    [identity] = make_identities(1)
    instances, sends = min(events, INSTANCES), min(events, MAX_SENDS)
    with fresh_folder() as folder, fresh_folder() as crowded:
        asyncio.run(fill_both(folder, identity, said(events, 1)))
        asyncio.run(fill_both(crowded, identity, said(instances, instances)))
        rows = _fold_rows(folder, identity, runs)
        rows += _memory_rows(crowded, identity, instances, runs)
    each = said(instances, instances)
    rows += alternate(runs, RATE, partial(_our_each, each), partial(_raw_each, each))
    some = said(sends, 1, only="NEXT")
    for name, before in ((_SEND, ()), (_CROWD, each)):
        ours, bound = (
            partial(_our_sends, name, before, some),
            partial(_raw_sends, name, before, some),
        )
        rows += alternate(runs, LATENCY, ours, bound)
    return Report("machines", events, rows, _MEASURED, _LEFT_OUT)


@lru_cache(maxsize=1)
def line() -> System:
    """The machine."""
    states = {_station(number): _state(number) for number in range(STATIONS)}
    context = {"count": 0, "skipped": 0}
    return System((machine("line", initial=_station(0), states=states, context=context),))


def said(events: int, instances: int, only: str | None = None) -> tuple[Sample, ...]:
    """That many events for the instances in turn; the payloads are those of all benchmarks, with a type."""
    drawn = Random(SEED).choices(_TYPES, _WEIGHTS, k=events)  # noqa: S311 - events, not secrets
    return tuple(
        Sample(
            tuple(tags_of(_address(number % instances))),
            {**sample.payload, "type": only or type_, "piece": _address(number % instances)},
        )
        for number, (type_, sample) in enumerate(zip(drawn, generate(events), strict=True))
    )


def _address(number: int) -> str:
    return f"line/piece-{number:05}"


def _station(number: int) -> str:
    return f"station-{number % STATIONS:02}"


def _state(number: int) -> Any:
    skip = to(
        _station(number + 2),
        guard=lambda scope: scope.context["count"] % 2 == 0,
        do=_more("skipped"),
    )
    on: dict[str, Any] = {
        "NEXT": _station(number + 1),
        "COUNT": to(do=_more("count")),
        "SKIP": (skip, to(_station(number + 1))),
    }
    if number % 2 == 1:
        on["BACK"] = _station(number - 1)
    return state(on=on)


def _more(name: str) -> Any:
    return assign({name: lambda scope: scope.context[name] + 1})


def _fold_rows(folder: Path, identity: Identity, runs: int) -> tuple[Any, ...]:
    versions = count()  # snapshots belong to a version: with a new one there is none
    expected = fold(folder / PLAIN_NAME, by_hand, Piece())
    events = fold(folder / PLAIN_NAME, lambda seen, _payload, _metadata: seen + 1, 0)

    def ours() -> Figures:
        fish = line().fish("machines", version=next(versions))
        rate, world = asyncio.run(_observed(folder, identity, fish, events))
        instance = world.instances[_address(0)]
        assert instance.rest == _station(expected.station), "machine and hand end in one state"
        assert instance.context == {"count": expected.counted, "skipped": expected.skipped}
        return {_FOLD: rate}

    def bound() -> Figures:
        fish = Fish("by hand", line().where, Piece(), by_hand, version=next(versions))
        rate, piece = asyncio.run(_observed(folder, identity, fish, events))
        assert piece == expected, "the log does not change between runs"
        return {_FOLD: rate}

    return alternate(runs, RATE, ours, bound)


async def _observed(
    folder: Path, identity: Identity, fish: Fish[Any], events: int
) -> tuple[float, Any]:
    async with running(folder, identity) as node:
        watch = Stopwatch()
        with node.pond.observe(fish) as states:
            found = await anext(states)
            return watch.rate(events), found


def _memory_rows(folder: Path, identity: Identity, instances: int, runs: int) -> tuple[Any, ...]:
    versions = count()

    def ours() -> Figures:
        fish = line().fish("machines", version=next(versions))
        held = asyncio.run(_held(folder, identity, fish, instances))
        return {_MEMORY: held / instances}

    def bound() -> Figures:
        with closing(_Traced()) as traced:
            nothing: dict[str, Piece] = {}
            states = fold(folder / PLAIN_NAME, _keep, nothing)
            held = traced.held()
        assert len(states) == instances, "each has had an event"
        return {_MEMORY: held / instances}

    return alternate(runs, SIZE, ours, bound)


class _Traced:
    """Python's heap, watched from here on."""

    def __init__(self) -> None:
        gc.collect()
        tracemalloc.start()

    def held(self) -> int:
        """Bytes that were taken since and are still held."""
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    def close(self) -> None:
        tracemalloc.stop()


async def _held(folder: Path, identity: Identity, fish: Fish[Any], instances: int) -> int:
    async with running(folder, identity) as node:
        with closing(_Traced()) as traced, node.pond.observe(fish) as states:
            world = await anext(states)
            assert len(world.instances) == instances, "each has had an event"
            return traced.held()


def _keep(states: dict[str, Piece], payload: Any, _metadata: object) -> dict[str, Piece]:
    """The plain dict of states."""
    address = payload["piece"]
    states[address] = by_hand(states.get(address, Piece()), payload, None)
    return states


def _our_each(samples: Sequence[Sample]) -> Figures:
    async def publish_each(machines: Machines) -> Figures:
        watch = Stopwatch()
        for wave in batches(samples, WAVE):
            said_at_once = [machines.publish(one.payload["piece"], one.payload) for one in wave]
            await asyncio.gather(*said_at_once)
        figures = {_EACH: watch.rate(len(samples))}
        assert len(machines.world.instances) == len(samples), "each has had an event"
        return figures

    return asyncio.run(_with_machines((), publish_each))


def _raw_each(samples: Sequence[Sample]) -> Figures:
    async def publish_each() -> Figures:
        async with settled() as node:
            watch = Stopwatch()
            async with asyncio.TaskGroup() as tasks:
                keeping = tasks.create_task(_keep_all(node, len(samples)))
                for wave in batches(samples, WAVE):
                    await asyncio.gather(*(node.publish(*one) for one in wave))
            figures = {_EACH: watch.rate(len(samples))}
        assert len(keeping.result()) == len(samples), "each has had an event"
        return figures

    return asyncio.run(publish_each())


async def _keep_all(node: Node, events: int) -> dict[str, Piece]:
    states: dict[str, Piece] = {}
    seen: Iterator[int] = count(1)
    async for event in node.subscribe(line().where):
        _keep(states, event.payload, None)
        if next(seen) == events:
            break
    return states


def _our_sends(name: str, before: Sequence[Sample], samples: Sequence[Sample]) -> Figures:
    async def send_each(machines: Machines) -> Figures:
        return percentiles(name, [await _send(machines, one) for one in samples])

    return asyncio.run(_with_machines(before, send_each))


async def _send(machines: Machines, sample: Sample) -> float:
    watch = Stopwatch()
    answer = await machines.send(sample.payload["piece"], sample.payload)
    taken = watch.lap_ms()
    assert answer.is_accepted, "every station takes it"
    assert answer.is_settled, "there is nothing to wait for"
    return taken


def _raw_sends(name: str, before: Sequence[Sample], samples: Sequence[Sample]) -> Figures:
    async def publish_each() -> Figures:
        async with settled(before) as node:
            return percentiles(name, [await publish_timed(node, one) for one in samples])

    return asyncio.run(publish_each())


async def _with_machines(
    before: Sequence[Sample], measured: Callable[[Machines], Awaitable[Figures]]
) -> Figures:
    async with settled(before) as node, node.machines(line()) as machines:
        return await measured(machines)
