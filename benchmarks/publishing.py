"""Publishing under peers: what the latency of a publisher has to do with how many nodes there are. Nothing, it should.

Open loop: a publisher publishes ten times a second, whether the one before is done or not.
"""

import asyncio
from collections.abc import Sequence
from functools import partial

from benchmarks.events import Sample, generate
from benchmarks.nodes import publish_timed
from benchmarks.report import Report
from benchmarks.rounds import LATENCY, Figures, alternate, percentiles
from benchmarks.swarm import NODES, swarm

EVENTS = 100
"""Events that are published in a run, unless another number is asked for."""

PAUSE_S = 0.1
"""From one to the next."""

_NAME = "publish under peers"
_MEASURED = (
    f"from the call of node.publish to its return, ten a second, at one of {NODES} linked nodes; against a node that is"
    " alone."
)
_LEFT_OUT = (
    "real networks. All nodes share this process and its cores: what the others do with an event happens while the"
    " publisher rests."
)


def measure(events: int, runs: int) -> Report:
    """All rows."""
    samples = generate(events)
    among, alone = partial(_publish, samples, NODES), partial(_publish, samples, 1)
    rows = alternate(runs, LATENCY, among, alone)
    return Report("publish-under-peers", events, rows, _MEASURED, _LEFT_OUT)


def _publish(samples: Sequence[Sample], nodes: int) -> Figures:
    return asyncio.run(_published(samples, nodes))


async def _published(samples: Sequence[Sample], nodes: int) -> Figures:
    async with swarm(nodes) as started:
        await started[0].publish("warm", None)
        async with asyncio.TaskGroup() as publishing:
            published = []
            for sample in samples:
                published.append(publishing.create_task(publish_timed(started[0], sample)))
                await asyncio.sleep(PAUSE_S)
    return percentiles(_NAME, [one.result() for one in published])
