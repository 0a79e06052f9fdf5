"""Cold start of a fish: from its snapshot in a full log to its state, beside a plain select of the same bytes."""

import asyncio
import sqlite3
from contextlib import closing
from functools import partial
from pathlib import Path

import msgpack

from benchmarks.events import generate
from benchmarks.fold import INITIAL, add
from benchmarks.nodes import database, fill, make_identities, running
from benchmarks.report import Report
from benchmarks.rounds import LATENCY, Figures, Stopwatch, alternate, fresh_folder
from fish import Fish
from lamport.tags import ALL_EVENTS
from transport.identity import Identity

_NAME = "cold start of a fish"
_MEASURED = (
    "node.pond.current_state of a fish whose snapshot was kept when the node stopped, on a node that has just opened;"
    " no reducer is called. The bound: connect, select the newest snapshot, decode it with msgpack."
)
_LEFT_OUT = "interpreter and imports, opening the node, filling the log, a cold page cache."
_FISH = Fish("totals", ALL_EVENTS, INITIAL, add)


def measure(events: int, runs: int) -> Report:
    """All rows."""
    [identity] = make_identities(1)
    with fresh_folder() as folder:
        asyncio.run(_fill(folder, identity, events))
        ours = partial(_our_start, folder, identity, events)
        rows = alternate(runs, LATENCY, ours, partial(_raw_start, database(folder)))
    return Report("coldstart", events, rows, _MEASURED, _LEFT_OUT)


async def _fill(folder: Path, identity: Identity, events: int) -> None:
    async with running(folder, identity) as node:
        await fill(node, generate(events))
        await node.pond.current_state(_FISH)


def _our_start(folder: Path, identity: Identity, events: int) -> Figures:
    return asyncio.run(_start(folder, identity, events))


async def _start(folder: Path, identity: Identity, events: int) -> Figures:
    async with running(folder, identity) as node:
        watch = Stopwatch()
        state = await node.pond.current_state(_FISH)
        figures = {_NAME: watch.lap_ms()}
        assert node.pond.running_fish(_FISH).calls == 0, "the snapshot is all there is to it"
    assert state[0] == events, "it covers the whole log"
    return figures


def _raw_start(path: Path) -> Figures:
    watch = Stopwatch()
    with closing(sqlite3.connect(path)) as connection:
        row = connection.execute("SELECT state FROM snapshots ORDER BY key DESC LIMIT 1").fetchone()
    msgpack.unpackb(row[0])
    return {_NAME: watch.lap_ms()}
