"""Time travel: what an event costs that comes late by so many positions, beside a plain loop over as many rows."""

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

LATENESS = (10_000, 1_000, 100, 10)
"""Positions behind the head; one author writes all, so the earliest comes first. Those beyond the log are left out."""

_MEASURED = (
    "from the moment when the late event is durable to the state that covers it, on a running node; and the reducer"
    " calls that this took, which are exact. The bound: the same reducer over as many of the last rows, scanned and"
    " decoded; of calls, as many as the event is late."
)
_LEFT_OUT = (
    "receiving, verifying and storing the late event; filling the log; a cold page cache; the snapshot that falls due"
    " behind a travel, which is stored before the next event comes."
)


def measure(events: int, runs: int) -> Report:
    """All rows."""
    lateness = [one for one in LATENESS if one < events]
    calls: dict[int, list[Pair]] = {one: [] for one in lateness}

    async def late(node: Node, fish: Fish[Totals], authors: Sequence[Identity]) -> Figures:
        author, figures = Author(authors[0]), {}
        running = node.pond.running_fish(fish)
        for positions in lateness:
            await running.save()  # or it is stored while the next event comes
            before = running.calls
            await node.log.receive(author.write([events - positions], ["late"], PAYLOAD))
            watch = Stopwatch()
            await node.pond.current_state(fish)
            figures[f"time travel, {positions:,} late"] = watch.lap_ms()
            calls[positions].append(Pair(running.calls - before, positions))
        return figures

    with full(events, runs, len(lateness)) as filled:
        bound = partial(_raw, filled.plain, lateness)
        rows = alternate(runs, LATENCY, partial(filled.run, late, 1), bound)
    counted = [
        Row(f"calls, {positions:,} late", CALLS, Better.LOWER, tuple(pairs))
        for positions, pairs in calls.items()
    ]
    return Report("timetravel", events, (*rows, *counted), _MEASURED, _LEFT_OUT)


def _raw(plain: Path, lateness: Sequence[int]) -> Figures:
    figures = {}
    for positions in lateness:
        watch = Stopwatch()
        fold_last(plain, positions, add, INITIAL)
        figures[f"time travel, {positions:,} late"] = watch.lap_ms()
    return figures
