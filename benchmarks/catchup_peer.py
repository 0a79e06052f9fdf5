"""Catching up with a full log from one peer: how fast, and in how much memory."""

import asyncio
import json
from collections.abc import Sequence

from benchmarks.events import Sample, generate
from benchmarks.goals import GOALS
from benchmarks.nodes import fill, make_identities, running
from benchmarks.replicate import CATCH_UP, raw_catch_up
from benchmarks.report import Better, Pair, Report, Row
from benchmarks.rounds import RATE, SIZE, fresh_folder
from benchmarks.workers import worker

EVENTS = 1_000_000
"""Events to catch up with, unless another number is asked for."""

_ALL = "catchup, all events"
_RESIDENT = "catchup, resident memory"
_MEASURED = (
    "an empty node in a process of its own starts and fetches all events from another one over TLS, until it is in"
    " sync; against a raw TLS stream of the same event bytes that feeds raw appends. Memory: the most that was resident"
    " in that process, interpreter and imports included, against its goal."
)
_LEFT_OUT = "the first node's filling; the start of the interpreter; real networks; fish."


def measure(events: int, runs: int) -> Report:
    """All rows."""
    samples = generate(events)
    found = [asyncio.run(_catch_up(samples)) for _ in range(runs)]
    raw = [raw_catch_up(samples)[CATCH_UP] for _ in range(runs)]
    rates = tuple(Pair(one, bound) for (one, _), bound in zip(found, raw, strict=True))
    sizes = tuple(Pair(resident, GOALS[_RESIDENT].plus) for _, resident in found)
    rows = (
        Row(_ALL, RATE, Better.HIGHER, rates),
        Row(_RESIDENT, SIZE, Better.LOWER, sizes),
    )
    return Report("catchup", events, rows, _MEASURED, _LEFT_OUT)


async def _catch_up(samples: Sequence[Sample]) -> tuple[float, float]:
    """Events a second, and bytes resident."""
    one, other = make_identities(2)
    with fresh_folder() as source_folder, fresh_folder() as target_folder:
        async with running(source_folder, one) as source:
            await fill(source, samples)
            async with worker("catchup", target_folder, other, source.listening) as process:
                assert process.stdout is not None
                found = json.loads(await process.stdout.readline())
    assert found["events"] == len(samples), "all were fetched"
    return len(samples) / found["ms"] * 1_000, found["resident"]
