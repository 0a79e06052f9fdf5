"""Scanning: how fast all events come out of the log in their order, beside a scan of a plain table of them."""

import asyncio
from functools import partial

from benchmarks.library import Library, library, opened
from benchmarks.raw import fold
from benchmarks.report import Report
from benchmarks.rounds import RATE, Figures, Stopwatch, alternate
from lamport.tags import ALL_EVENTS

_NAME = "scan, all events"
_MEASURED = (
    "log.read of everything in key order on an open log, page by page, from the call to the last decoded event. The"
    " bound: SELECT ... ORDER BY key on a plain table of the same events, decoded with msgpack, in one loop."
)
_LEFT_OUT = (
    "filling and opening the log, a cold page cache. The bound makes no events, looks at no bounds and reads in one"
    " thread."
)


def measure(events: int, runs: int) -> Report:
    """All rows."""
    with library(events) as full:
        ours, bound = partial(_our_scan, full, events), partial(_raw_scan, full, events)
        rows = alternate(runs, RATE, ours, bound)
    return Report("scan", events, rows, _MEASURED, _LEFT_OUT)


def _our_scan(full: Library, events: int) -> Figures:
    return asyncio.run(_scan(full, events))


async def _scan(full: Library, events: int) -> Figures:
    async with opened(full) as log:
        watch = Stopwatch()
        seen = 0
        async for page in log.read(ALL_EVENTS):
            seen += len(page)
        figures = {_NAME: watch.rate(events)}
    assert seen == events, "a scan sees everything"
    return figures


def _raw_scan(full: Library, events: int) -> Figures:
    watch = Stopwatch()
    seen = fold(full.plain, lambda count, _payload, _metadata: count + 1, 0)
    figures = {_NAME: watch.rate(events)}
    assert seen == events, "a scan sees everything"
    return figures
