"""Cold open: from a closed log to the first answer, beside plain `sqlite3` on the same events."""

import asyncio
import os
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from benchmarks.library import Library, library, opened
from benchmarks.raw import index_tags, select_by_tag
from benchmarks.report import Report
from benchmarks.rounds import LATENCY, Figures, Stopwatch, alternate
from lamport.tags import Tag

_COLD = "cold open, page cache cold"
_WARM = "cold open, page cache warm"
_MEASURED = (
    "from opening a closed log whose index is merged to the first page of a query by a rare tag; with the files' pages"
    " dropped from the page cache before, and once more with them in it. The bound: connect, and select through a table"
    " (tag, key) WITHOUT ROWID, joined with a plain table of the same events, decoded with msgpack."
)
_LEFT_OUT = "interpreter and imports, identity, network and fish, filling the log, making the bound's index."


def measure(events: int, runs: int) -> Report:
    """All rows."""
    with library(events) as full:
        index = full.folder / "index.sqlite"
        index_tags(full.plain, index, [full.rare_tag])
        ours, bound = partial(_our_opens, full), partial(_raw_opens, full, index)
        rows = alternate(runs, LATENCY, ours, bound)
    return Report("coldopen", events, rows, _MEASURED, _LEFT_OUT)


def _our_opens(full: Library) -> Figures:
    _drop_from_cache([full.database])
    return {name: asyncio.run(_open(full)) for name in (_COLD, _WARM)}


async def _open(full: Library) -> float:
    watch = Stopwatch()
    async with opened(full) as log:
        assert await anext(log.read(Tag(full.rare_tag)))
        return watch.lap_ms()


def _raw_opens(full: Library, index: Path) -> Figures:
    _drop_from_cache([full.plain, index])
    return {name: _raw_open(full, index) for name in (_COLD, _WARM)}


def _raw_open(full: Library, index: Path) -> float:
    watch = Stopwatch()
    with select_by_tag(full.plain, index) as select:
        assert select(full.rare_tag)
        return watch.lap_ms()


def _drop_from_cache(paths: Iterable[Path]) -> None:
    for path in paths:
        file = os.open(path, os.O_RDONLY)
        try:
            os.fsync(file)  # only clean pages can be dropped
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(file)
