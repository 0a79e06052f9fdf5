"""Disk: bytes of the database per event, beside the payloads' own bytes and beside a plain table of the events."""

from functools import partial
from itertools import islice
from pathlib import Path

import msgpack

from benchmarks.events import stream
from benchmarks.library import Library, library
from benchmarks.nodes import FILL_BATCH
from benchmarks.raw import RawLog
from benchmarks.report import Report
from benchmarks.rounds import SIZE, Figures, alternate, fresh_folder

_PAYLOAD = "disk per event, payload's own bytes"
_TABLE = "disk per event, plain table"
_MEASURED = (
    "the size of the closed database, its index merged, divided by its events: rows, order and tag index, chain, seals."
    " The bounds: msgpack bytes of the payloads alone; the file of raw appends of the same events."
)
_LEFT_OUT = "the write-ahead log, which is bounded and gone when the database is closed. A run is like any other."


def measure(events: int, runs: int) -> Report:
    """All rows."""
    with library(events) as full:
        bounds = {_PAYLOAD: _payload_bytes(events), _TABLE: _table_bytes(events)}
        rows = alternate(runs, SIZE, partial(_our_bytes, full, events), lambda: bounds)
    return Report("disk", events, rows, _MEASURED, _LEFT_OUT)


def _our_bytes(full: Library, events: int) -> Figures:
    size = _size(full.database) / events
    return {_PAYLOAD: size, _TABLE: size}


def _payload_bytes(events: int) -> float:
    return sum(len(msgpack.packb(one.payload)) for one in islice(stream(), events)) / events


def _table_bytes(events: int) -> float:
    samples = stream()
    with fresh_folder() as folder:
        path = folder / "raw.sqlite"
        with RawLog(path) as log:
            for start in range(0, events, FILL_BATCH):
                log.append(list(islice(samples, min(FILL_BATCH, events - start))), 0)
        return _size(path) / events


def _size(path: Path) -> int:
    return path.stat().st_size
