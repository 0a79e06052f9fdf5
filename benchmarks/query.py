"""Queries by tag: how fast events are found and decoded, beside a select through a covering index."""

import asyncio
from functools import partial
from pathlib import Path

from benchmarks.library import FREQUENT_TAG, Library, library, opened
from benchmarks.raw import index_tags, select_by_tag
from benchmarks.report import Report, Row
from benchmarks.rounds import LATENCY, Figures, Stopwatch, alternate
from lamport.event import Event
from lamport.log import EventLog
from lamport.tags import Tag

_FREQUENT_FRESH = "query, tag of 1 % of the events, fresh"
_FREQUENT = "query, tag of 1 % of the events"
_RARE = "query, rare tag"
_RARE_FIRST = "query, rare tag, first page"

MAX_FRESH_EVENTS = 60_000
"""Events of the log that has them all as rows still: no more are ever kept as such for long."""

_MEASURED = (
    "log.read of one tag on an open log whose index is merged, from the call to all events decoded, or to the first"
    f" page; fresh: on a log of at most {MAX_FRESH_EVENTS:,} events that are all rows still. The bound: SELECT through"
    " a table (tag, key) WITHOUT ROWID, joined with a plain table of the same events, msgpack decoding."
)
_LEFT_OUT = (
    "filling and opening the log, making the bound's index (which knows these two tags alone), a cold page cache. The"
    " bound makes no events, looks at no bounds and reads in one thread."
)


def measure(events: int, runs: int) -> Report:
    """All rows."""
    with library(events) as full:
        tags = {_FREQUENT: FREQUENT_TAG, _RARE: full.rare_tag}
        rows = _rows(full, tags, runs)
    with library(min(events, MAX_FRESH_EVENTS), fresh=True) as fresh:
        rows += _rows(fresh, {_FREQUENT_FRESH: FREQUENT_TAG}, runs)
    return Report("query", events, rows, _MEASURED, _LEFT_OUT)


def _rows(full: Library, tags: dict[str, str], runs: int) -> tuple[Row, ...]:
    index = full.folder / "index.sqlite"
    index_tags(full.plain, index, tags.values())
    with select_by_tag(full.plain, index) as select:
        expected = {tag: len(select(tag)) for tag in tags.values()}
    assert all(expected.values()), "there is something to be found"
    ours, bound = _our_queries, _raw_queries
    return alternate(
        runs, LATENCY, partial(ours, full, tags, expected), partial(bound, full, index, tags)
    )


def _our_queries(full: Library, tags: dict[str, str], expected: dict[str, int]) -> Figures:
    return asyncio.run(_query(full, tags, expected))


async def _query(full: Library, tags: dict[str, str], expected: dict[str, int]) -> Figures:
    async with opened(full) as log:
        await _read(log, FREQUENT_TAG)  # the first statement of a connection reads the schema
        figures = {}
        for name, tag in tags.items():
            watch = Stopwatch()
            found = await _read(log, tag)
            figures[name] = watch.lap_ms()
            assert len(found) == expected[tag], "both find the same"
        if _RARE in tags:
            watch = Stopwatch()
            await anext(log.read(Tag(tags[_RARE])))
            figures[_RARE_FIRST] = watch.lap_ms()
    return figures


async def _read(log: EventLog, tag: str) -> list[Event]:
    return [event async for page in log.read(Tag(tag)) for event in page]


def _raw_queries(full: Library, index: Path, tags: dict[str, str]) -> Figures:
    figures = {}
    with select_by_tag(full.plain, index) as select:
        select(FREQUENT_TAG)
        for name, tag in tags.items():
            watch = Stopwatch()
            select(tag)
            figures[name] = watch.lap_ms()
    return {**figures, _RARE_FIRST: figures[_RARE]} if _RARE in tags else figures
