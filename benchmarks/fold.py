"""Folding: how fast a fish gets its state out of the log, beside a plain loop over a plain table of the same events."""

import asyncio
from collections.abc import Iterator
from functools import partial
from itertools import count
from typing import Any

from benchmarks.library import Library, library
from benchmarks.nodes import running
from benchmarks.raw import fold
from benchmarks.report import Report
from benchmarks.rounds import RATE, Figures, Stopwatch, alternate
from fish import Fish
from lamport.tags import ALL_EVENTS

EVENTS = 100_000
"""Events in the log of `reduce` and of all that measure what comes late; `fold` itself has a million."""

Totals = tuple[int, float]
"""The state: how many events, and the sum of their values."""

INITIAL: Totals = (0, 0.0)
"""The state before any event."""

_NAME = "fold, all events"
_MEASURED = (
    "node.pond.observe of a fish that counts and sums, from the call to the first state, which covers the whole log,"
    " merged and at rest; no snapshot is present. The bound: the same reducer in a plain loop over"
    " SELECT ... ORDER BY key on a plain table of the same events, decoded with msgpack."
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
    versions = count()
    with library(events) as full:
        expected = fold(full.plain, add, INITIAL)
        assert expected[0] == events, "the bound folds all events"
        rows = alternate(
            runs,
            RATE,
            partial(_our_fold, full, versions, expected),
            partial(_raw_fold, full, expected),
        )
    return Report("fold", events, rows, _MEASURED, _LEFT_OUT)


def _our_fold(full: Library, versions: Iterator[int], expected: Totals) -> Figures:
    return asyncio.run(_observe(full, next(versions), expected))


async def _observe(full: Library, version: int, expected: Totals) -> Figures:
    # Snapshots belong to a version: with a new one there is none.
    fish = Fish("totals", ALL_EVENTS, INITIAL, add, version=version)
    async with running(full.folder, full.identity) as node:
        watch = Stopwatch()
        with node.pond.observe(fish) as states:
            state = await anext(states)
            figures = {_NAME: watch.rate(expected[0])}
        calls = node.pond.running_fish(fish).calls
    assert state == expected, "fish and loop fold the same events"
    assert calls == expected[0], "each event is folded once"
    return figures


def _raw_fold(full: Library, expected: Totals) -> Figures:
    watch = Stopwatch()
    state = fold(full.plain, add, INITIAL)
    figures = {_NAME: watch.rate(expected[0])}
    assert state == expected, "the log does not change between runs"
    return figures
