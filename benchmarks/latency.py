"""Delivery of single events against its raw bound; delivery and appends beside a peer that floods, against none."""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import partial

from benchmarks.events import Sample, generate
from benchmarks.nodes import make_identities, publish_timed
from benchmarks.replicate import (
    MAX_DELIVERIES,
    WARM_UP,
    deliveries,
    our_delivery,
    raw_delivery,
    settled_pair,
)
from benchmarks.report import Report
from benchmarks.rounds import LATENCY, Figures, alternate, fresh_folder, percentiles
from benchmarks.workers import LINKED, worker

EVENTS = MAX_DELIVERIES
"""Events whose delivery is timed in a run, unless another number is asked for."""

_FLOODED = "latency, delivery of one event beside a flood"
_APPENDED = "latency, append at the receiver beside a flood"
_MEASURED = (
    "from node.publish at one node to the event in a subscription at the other, one at a time; against a raw commit, a"
    " raw TLS round trip of its bytes and a second raw commit. Beside a flood: the same while a third node, in a"
    " process of its own, publishes to both as fast as it can, then node.publish at the receiver, one at a time;"
    " against the same two nodes without it."
)
_LEFT_OUT = (
    "real networks. The flood takes its share of the machine, too: on two cores a part of what it costs is not the"
    " node's."
)


def measure(events: int, runs: int) -> Report:
    """All rows."""
    some = generate(WARM_UP + min(events, MAX_DELIVERIES))
    undisturbed = partial(_delivery, some, floods=False)
    rows = (
        *alternate(runs, LATENCY, partial(our_delivery, some), partial(raw_delivery, some)),
        *alternate(runs, LATENCY, partial(_delivery, some, floods=True), undisturbed),
    )
    return Report("latency", events, rows, _MEASURED, _LEFT_OUT)


def _delivery(samples: Sequence[Sample], *, floods: bool) -> Figures:
    return asyncio.run(_delivered(samples, floods=floods))


async def _delivered(samples: Sequence[Sample], *, floods: bool) -> Figures:
    *pair, third = make_identities(3)
    async with settled_pair(pair) as (source, target), AsyncExitStack() as stack:
        if floods:
            folder = stack.enter_context(fresh_folder())
            process = await stack.enter_async_context(
                worker("flood", folder, third, target.listening)
            )
            assert process.stdout is not None
            assert await process.stdout.readline() == LINKED, "the third node is there"
        laps = await deliveries(source, target, samples)
        appends = [await publish_timed(target, sample) for sample in samples]
        assert floods == any(one.node == third.node for one, _ in target.offsets.items())
        return {**percentiles(_FLOODED, laps), **percentiles(_APPENDED, appends)}
