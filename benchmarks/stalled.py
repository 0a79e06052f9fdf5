"""One stalled peer: what it costs a publisher, and the others, that somebody linked reads nothing any more.

The third node is a process that is stopped (SIGSTOP) as soon as it is linked with both others: its sockets stay open,
their buffers fill, and it answers no ping. Then much is published, so that all that can wait for it waits, before
anything is timed.
"""

import asyncio
import signal
from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import partial

from benchmarks.events import Sample, generate, settling
from benchmarks.nodes import fill, make_identities, running
from benchmarks.replicate import MAX_DELIVERIES, WARM_UP, deliveries, until_covered
from benchmarks.report import Report
from benchmarks.rounds import LATENCY, Figures, Stopwatch, alternate, fresh_folder, percentiles
from benchmarks.workers import worker
from shoal.node import Node
from transport.identity import Identity

EVENTS = MAX_DELIVERIES
"""Events that are appended, and as many whose delivery is timed, in a run, unless another number is asked for."""

_APPEND = "stalled, append beside a stalled peer"
_DELIVERY = "stalled, delivery to others beside a stalled peer"
_MEASURED = (
    "node.publish at one node, and then the way of an event from there to a subscription at another, one at a time,"
    " while a third node that is linked with both is stopped and everything that may wait for it waits; against the"
    " same two nodes without it."
)
_LEFT_OUT = "real networks. From the fifth second on the stalled peer is given up and dialled again in vain."


def measure(events: int, runs: int) -> Report:
    """All rows."""
    some = generate(WARM_UP + events)
    beside, without = partial(_run, some, stalls=True), partial(_run, some, stalls=False)
    return Report(
        "stalled", events, alternate(runs, LATENCY, beside, without), _MEASURED, _LEFT_OUT
    )


def _run(samples: Sequence[Sample], *, stalls: bool) -> Figures:
    return asyncio.run(_measured(samples, stalls=stalls))


async def _measured(samples: Sequence[Sample], *, stalls: bool) -> Figures:
    one, other, third = make_identities(3)
    async with AsyncExitStack() as stack:
        folders = [stack.enter_context(fresh_folder()) for _ in range(3)]
        source = await stack.enter_async_context(running(folders[0], one))
        target = await stack.enter_async_context(running(folders[1], other, [source.listening]))
        if stalls:
            follower = worker("follow", folders[2], third, source.listening, target.listening)
            process = await stack.enter_async_context(follower)
            for node in (source, target):
                while third.node not in node.peers.linked:
                    await node.peers.changed()
            process.send_signal(signal.SIGSTOP)
        await fill(source, settling())
        await until_covered(source, target)
        _require_linked(source, third, stalls=stalls)
        appended = await _appended(source, samples)
        await until_covered(source, target)
        _require_linked(source, third, stalls=stalls)
        delivered = (await deliveries(source, target, samples))[WARM_UP:]
    appends, ways = (percentiles(*one) for one in ((_APPEND, appended), (_DELIVERY, delivered)))
    return {**appends, **ways}


def _require_linked(source: Node, third: Identity, *, stalls: bool) -> None:
    """Fail where the peer that should stall was given up already: two plain nodes would be measured."""
    linked = third.node in source.peers.linked
    assert linked == stalls, (
        "this machine is too slow to time anything before a silent peer is given up"
    )


async def _appended(source: Node, samples: Sequence[Sample]) -> list[float]:
    """How long each takes, in milliseconds, but for the first."""
    laps: list[float] = []
    for sample in samples:
        watch = Stopwatch()
        await source.publish(*sample)
        laps.append(watch.lap_ms())
    return laps[WARM_UP:]
