"""Delivery of single events: against its raw bound, and beside a peer that floods against the same without it."""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import partial

from benchmarks.events import Sample, generate, settling
from benchmarks.nodes import fill, make_identities, running
from benchmarks.replicate import (
    MAX_DELIVERIES,
    WARM_UP,
    deliveries,
    our_delivery,
    raw_delivery,
    until_covered,
)
from benchmarks.report import Report
from benchmarks.rounds import LATENCY, Figures, alternate, fresh_folder, percentiles
from benchmarks.workers import worker

EVENTS = MAX_DELIVERIES
"""Events whose delivery is timed in a run, unless another number is asked for."""

_FLOODED = "latency, delivery of one event beside a flood"
_MEASURED = (
    "from node.publish at one node to the event in a subscription at the other, one at a time; against a raw commit, a"
    " raw TLS round trip of its bytes and a second raw commit. Beside a flood: the same while a third node, in a"
    " process of its own, publishes to the receiver as fast as it can; against the same two nodes without it."
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
    identities = make_identities(3)
    with fresh_folder() as one, fresh_folder() as other, fresh_folder() as third:
        async with AsyncExitStack() as stack:
            source = await stack.enter_async_context(running(one, identities[0]))
            peers = [source.listening]
            target = await stack.enter_async_context(running(other, identities[1], peers))
            await fill(source, settling())
            await until_covered(source, target)
            if floods:
                flooder = worker("flood", third, identities[2], target.listening)
                process = await stack.enter_async_context(flooder)
                assert process.stdout is not None
                await process.stdout.readline()
            laps = await deliveries(source, target, samples)
    return percentiles(_FLOODED, laps[WARM_UP:])
