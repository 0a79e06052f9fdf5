"""The worst append on a busy log: single events at a steady rate while everything else goes on behind them.

The log has long been full of rows and tags, so that each batch that comes in makes steps due: tags merge, old events
are packed into blocks, and what a route with a limit gives up is deleted. Appends come when they are due, whether or
not the one before is done, and each is measured from when it was due: one that stands in the way of others shows.
"""

import asyncio
from collections.abc import Sequence
from functools import partial
from itertools import cycle

from benchmarks.events import Sample, generate
from benchmarks.nodes import batches, fill, make_identities, publish_batch, running
from benchmarks.raw import RawLog
from benchmarks.report import Row
from benchmarks.rounds import LATENCY, Figures, alternate, fresh_folder, p999
from lamport.routes import Policy, Route
from lamport.tags import Tags
from shoal.node import Node

NAME = "append while merging and pruning"

GROWN = 10
"""The log holds so many times the benchmark's events before: 200,000 of the usual 20,000, …"""

KEPT = 20
"""… and a twentieth of them, at most, in the stream that is pruned, which two thirds of that many came to."""

APPENDS_PER_S = 200
"""Single appends, evenly; the log is never at rest, so that it tidies up behind commits alone."""

MAX_APPENDS = 2_000
"""Of a run: two of them are slower than its p99.9."""

LOAD_EVENTS = 100
LOADS_PER_S = 50
"""Batches that come in beside, as from a peer that catches up: 5,000 events a second, more than is merged at rest."""

PRUNED = Tags("type:temperature")
"""A third of all events."""


def measure_worst(events: int, runs: int) -> Row:
    """The row."""
    grown = generate(events * GROWN)
    some = grown[: min(events, MAX_APPENDS)]
    [row] = alternate(runs, LATENCY, partial(_ours, grown, some), partial(_raw, some))
    return row


def _ours(grown: Sequence[Sample], some: Sequence[Sample]) -> Figures:
    return asyncio.run(_publish_busily(grown, some))


async def _publish_busily(grown: Sequence[Sample], some: Sequence[Sample]) -> Figures:
    [identity] = make_identities(1)
    route = Route(PRUNED, "readings", Policy(max_events=max(1, len(grown) // KEPT)))
    with fresh_folder() as folder:
        async with running(folder, identity, routes=[route]) as node:
            await fill(node, grown)
            before = node.log.horizons
            load = asyncio.create_task(_load(node, grown))
            latencies = await _publish_steadily(node, some)
            load.cancel()
            await asyncio.gather(load, return_exceptions=True)
            assert load.cancelled(), "it went on to the end"
            assert node.log.horizons != before, "the stream was pruned meanwhile"
            return p999(NAME, latencies)


async def _load(node: Node, samples: Sequence[Sample]) -> None:
    """Publish batches at a steady rate until cancelled; one that is late is not made up for."""
    for batch in cycle(batches(samples, LOAD_EVENTS)):
        await asyncio.gather(publish_batch(node, batch), asyncio.sleep(1 / LOADS_PER_S))


async def _publish_steadily(node: Node, samples: Sequence[Sample]) -> list[float]:
    """Publish each when it is due; returns how long after that it was durable, in milliseconds."""
    start = asyncio.get_running_loop().time()
    async with asyncio.TaskGroup() as publishers:
        published = [
            publishers.create_task(_publish_at(node, sample, start + number / APPENDS_PER_S))
            for number, sample in enumerate(samples)
        ]
    return [one.result() for one in published]


async def _publish_at(node: Node, sample: Sample, due: float) -> float:
    loop = asyncio.get_running_loop()
    await asyncio.sleep(due - loop.time())
    await node.publish(*sample)
    return (loop.time() - due) * 1_000


def _raw(some: Sequence[Sample]) -> Figures:
    with fresh_folder() as folder, RawLog(folder / "raw.sqlite") as log:
        return p999(NAME, [log.append_timed(sample) for sample in some])
