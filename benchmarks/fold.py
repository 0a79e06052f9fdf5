"""Folding: how fast a fish gets its state out of the log, beside a plain loop over a plain table of the same events."""

import asyncio
from collections.abc import Iterator
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from benchmarks.events import generate
from benchmarks.nodes import PLAIN_NAME, fill_both, make_identities, running
from benchmarks.raw import fold
from benchmarks.report import Report
from benchmarks.rounds import RATE, Figures, Stopwatch, alternate, fresh_folder
from fish import Fish
from lamport.tags import ALL_EVENTS
from transport.identity import Identity

EVENTS = 100_000
"""Events in the log of `reduce` and of all that measure what comes late; `fold` itself has a million."""

Totals = tuple[int, float]
"""The state: how many events, and the sum of their values."""

INITIAL: Totals = (0, 0.0)
"""The state before any event."""

_NAME = "fold, all events"
_MEASURED = (
    "node.pond.observe of a fish that counts and sums, from the call to the first state, which covers the whole log;"
    " no snapshot is present. The bound: the same reducer in a plain loop over SELECT ... ORDER BY key on a"
    " plain table of the same events, decoded with msgpack."
)
_LEFT_OUT = (
    "filling the log, opening node and database, a cold page cache, live updates and time travel. The bound makes no"
    " events, metadata or checkpoints and reads in one thread."
)


def add(state: Totals, payload: Any, _metadata: object) -> Totals:
    """Count the event and add its value."""
    events, total = state
    return events + 1, total + payload["value"]


def measure(events: int, runs: int) -> Report:
    """All rows."""
    [identity] = make_identities(1)
    versions = count()
    with fresh_folder() as folder:
        asyncio.run(fill_both(folder, identity, generate(events)))
        expected = fold(folder / PLAIN_NAME, add, INITIAL)
        assert expected[0] == events, "the bound folds all events"
        rows = alternate(
            runs,
            RATE,
            partial(_our_fold, folder, identity, versions, expected),
            partial(_raw_fold, folder, expected),
        )
    return Report("fold", events, rows, _MEASURED, _LEFT_OUT)


def _our_fold(
    folder: Path, identity: Identity, versions: Iterator[int], expected: Totals
) -> Figures:
    return asyncio.run(_observe(folder, identity, next(versions), expected))


async def _observe(folder: Path, identity: Identity, version: int, expected: Totals) -> Figures:
    # Snapshots belong to a version: with a new one there is none.
    fish = Fish("totals", ALL_EVENTS, INITIAL, add, version=version)
    async with running(folder, identity) as node:
        watch = Stopwatch()
        with node.pond.observe(fish) as states:
            state = await anext(states)
            figures = {_NAME: watch.rate(expected[0])}
        calls = node.pond.running_fish(fish).calls
    assert state == expected, "fish and loop fold the same events"
    assert calls == expected[0], "each event is folded once"
    return figures


def _raw_fold(folder: Path, expected: Totals) -> Figures:
    watch = Stopwatch()
    state = fold(folder / PLAIN_NAME, add, INITIAL)
    figures = {_NAME: watch.rate(expected[0])}
    assert state == expected, "the log does not change between runs"
    return figures
