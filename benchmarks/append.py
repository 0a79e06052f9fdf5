"""Appending: how fast events become durable, beside a plain table that takes the same events in the same batches."""

import asyncio
from collections.abc import Sequence
from functools import partial

from benchmarks.events import SETTLING_EVENTS, Sample, generate
from benchmarks.nodes import batches, publish_batch, publish_timed, settled
from benchmarks.raw import settled_log
from benchmarks.report import Report
from benchmarks.rounds import (
    LATENCY,
    RATE,
    Figures,
    Stopwatch,
    alternate,
    percentiles,
)
from benchmarks.worst import APPENDS_PER_S, GROWN, LOAD_EVENTS, LOADS_PER_S, measure_worst
from shoal.node import Node

EVENTS = 20_000
"""Events of a run, unless another number is asked for."""

BATCHES = (100, 1_000)
"""Events of one call and one commit."""

PUBLISHERS = 64
"""Publishers of single events at once."""

MAX_SINGLE_EVENTS = 1_000
"""Events that are published one by one in a run: the p99 stands on ten of them, and the run stays short."""

_SINGLE = "append, batch 1"
_CONCURRENT = f"append, {PUBLISHERS} publishers"

_MEASURED = (
    "from tags and payload to the acknowledged commit, a new database each run, with"
    f" {SETTLING_EVENTS:,} events in it. Batch 1: one publisher, node.publish against one raw commit. Batches:"
    " node.publish_all, drafts made on the way, against raw append with the same batch."
    f" {PUBLISHERS} publishers of single events through node.publish against raw append at batch {PUBLISHERS}."
    " Raw append: sqlite3, WAL, synchronous=FULL, one row per event, msgpack and SHA-256 chain included."
    f" While merging and pruning: on a log of {GROWN} times the events, {APPENDS_PER_S} single events a second, each"
    f" timed from when it is due, beside {LOADS_PER_S} batches of {LOAD_EVENTS} a second that keep tags merging, blocks"
    " packing and a limited stream pruning, against raw commits one by one that nothing disturbs."
)
_LEFT_OUT = (
    "opening and first filling of node and database, peers and fish (there are none). The bound has no tag or offset"
    " index, no seal, no limits to check, no event loop and no second thread."
)


def measure(events: int, runs: int) -> Report:
    """All rows."""
    samples = generate(max(events, *BATCHES))
    single = samples[: min(events, MAX_SINGLE_EVENTS)]
    rows = list(
        alternate(runs, LATENCY, partial(_our_single, single), partial(_raw_single, single))
    )
    for size in BATCHES:
        whole = samples[: max(events // size, 1) * size]
        rows += alternate(
            runs, RATE, partial(_our_batches, whole, size), partial(_raw_batches, whole, size)
        )
    some = samples[: max(events // PUBLISHERS, 1) * PUBLISHERS]
    rows += alternate(runs, RATE, partial(_our_concurrent, some), partial(_raw_concurrent, some))
    rows.append(measure_worst(events, runs))
    return Report("append", events, tuple(rows), _MEASURED, _LEFT_OUT)


def _our_single(samples: Sequence[Sample]) -> Figures:
    async def publish_each() -> Figures:
        async with settled() as node:
            return percentiles(_SINGLE, [await publish_timed(node, one) for one in samples])

    return asyncio.run(publish_each())


def _raw_single(samples: Sequence[Sample]) -> Figures:
    with settled_log() as log:
        return percentiles(_SINGLE, [log.append_timed(sample) for sample in samples])


def _our_batches(samples: Sequence[Sample], size: int) -> Figures:
    async def publish_batches() -> Figures:
        async with settled() as node:
            watch = Stopwatch()
            for batch in batches(samples, size):
                await publish_batch(node, batch)
            return {_batch_name(size): watch.rate(len(samples))}

    return asyncio.run(publish_batches())


def _raw_batches(samples: Sequence[Sample], size: int) -> Figures:
    return {_batch_name(size): _raw_rate(samples, size)}


def _our_concurrent(samples: Sequence[Sample]) -> Figures:
    async def publish_together() -> Figures:
        async with settled() as node:
            watch = Stopwatch()
            async with asyncio.TaskGroup() as publishers:
                for number in range(PUBLISHERS):
                    publishers.create_task(_publish_each(node, samples[number::PUBLISHERS]))
            return {_CONCURRENT: watch.rate(len(samples))}

    return asyncio.run(publish_together())


async def _publish_each(node: Node, samples: Sequence[Sample]) -> None:
    for sample in samples:
        await node.publish(*sample)


def _raw_concurrent(samples: Sequence[Sample]) -> Figures:
    return {_CONCURRENT: _raw_rate(samples, PUBLISHERS)}


def _raw_rate(samples: Sequence[Sample], size: int) -> float:
    with settled_log() as log:
        watch = Stopwatch()
        for batch in batches(samples, size):
            log.append(batch)
        return watch.rate(len(samples))


def _batch_name(size: int) -> str:
    return f"append, batch {size:,}"
