"""Disk: bytes of the database per event, beside the payloads' own bytes and beside a plain table of the events."""

from functools import partial
from itertools import islice
from pathlib import Path

import msgpack

from benchmarks.events import stream
from benchmarks.library import Library, library
from benchmarks.report import Report
from benchmarks.rounds import SIZE, Figures, alternate

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
        bounds = {_PAYLOAD: _payload_bytes(events), _TABLE: _size(full.plain) / events}
        rows = alternate(runs, SIZE, partial(_our_bytes, full, events), lambda: bounds)
    return Report("disk", events, rows, _MEASURED, _LEFT_OUT)


def _our_bytes(full: Library, events: int) -> Figures:
    size = _size(full.database) / events
    return {_PAYLOAD: size, _TABLE: size}


def _payload_bytes(events: int) -> float:
    return sum(len(msgpack.packb(one.payload)) for one in islice(stream(), events)) / events


def _size(path: Path) -> int:
    return path.stat().st_size
