"""Replay of a catch-up: 100 chunks from 10 nodes land in a full log, and a fish folds them once."""

import asyncio
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from benchmarks.author import Author
from benchmarks.fold import INITIAL, Totals, add
from benchmarks.late import PAYLOAD, full
from benchmarks.raw import fold_last
from benchmarks.report import Better, Pair, Report, Row
from benchmarks.rounds import CALLS, LATENCY, Figures, Stopwatch, alternate
from fish import Fish
from shoal.node import Node
from transport.identity import Identity

STREAMS = 10
CHUNKS = 10
"""Chunks of each stream."""
EVENTS_OF_CHUNK = 100
"""Most events of a chunk; fewer where the log is short."""

_NAME = "catch-up replay"
_MEASURED = (
    "100 chunks from 10 nodes are received while a catch-up is announced, their events spread over the later half of"
    " the log; from the end of the catch-up to the state that covers it. Calls: of the reducer, beside 1.5 x the new"
    " events plus the span they land in. The bound of time: the same reducer over as many of the last rows as that"
    " span has."
)
_LEFT_OUT = "receiving, verifying and storing; filling the log; a cold page cache."


def measure(events: int, runs: int) -> Report:
    """All rows."""
    each = max(1, min(EVENTS_OF_CHUNK, events // (4 * CHUNKS)))
    new, first = STREAMS * CHUNKS * each, events // 2
    step = max(1, (events - first) // (CHUNKS * each))
    pairs: list[Pair] = []

    async def late(node: Node, fish: Fish[Totals], authors: Sequence[Identity]) -> Figures:
        writers = [Author(one) for one in authors]
        running = node.pond.running_fish(fish)
        before = running.calls
        with node.pond.catching_up():
            for chunk in range(CHUNKS):
                starts = range(chunk * each, (chunk + 1) * each)
                lamports = [first + 1 + step * number for number in starts]
                ranges = [writer.write(lamports, ["late"], PAYLOAD) for writer in writers]
                await asyncio.gather(*(node.log.receive(one) for one in ranges))
        watch = Stopwatch()
        await node.pond.current_state(fish)
        pairs.append(Pair(running.calls - before, 1.5 * new + (events - first) + new * len(pairs)))
        return {_NAME: watch.lap_ms()}

    with full(events, runs * STREAMS, new) as filled:
        ours = partial(filled.run, late, STREAMS)
        rows = alternate(runs, LATENCY, ours, partial(_raw, filled.plain, new + events - first))
    counted = Row("catch-up replay, calls", CALLS, Better.LOWER, tuple(pairs))
    return Report("catchup-replay", events, (*rows, counted), _MEASURED, _LEFT_OUT)


def _raw(plain: Path, rows: int) -> Figures:
    watch = Stopwatch()
    fold_last(plain, rows, add, INITIAL)
    return {_NAME: watch.lap_ms()}
