"""Publishing under peers: what the latency of a publisher has to do with how many nodes there are. Nothing, it should.

Open loop: a publisher publishes ten times a second, whether the one before is done or not.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

from benchmarks.events import Sample, generate
from benchmarks.nodes import make_identities, publish_timed, running
from benchmarks.report import Report
from benchmarks.rounds import LATENCY, Figures, alternate, fresh_folder, percentiles
from benchmarks.swarm import NODES
from benchmarks.workers import LINKED, worker
from shoal.node import Node
from transport.identity import Identity

EVENTS = 100
"""Events that are published in a run, unless another number is asked for."""

PAUSE_S = 0.1
"""From one to the next."""

_NAME = "publish under peers"
_MEASURED = (
    f"from the call of node.publish to its return, ten a second, at one of {NODES} linked nodes, a process by itself as"
    " a node is; against a node that is alone."
)
_LEFT_OUT = (
    "real networks. The other nodes share a process, and the machine's cores with the publisher: there is an event loop"
    " and a core's worth of time for all that they do."
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
    first, *others = make_identities(nodes)
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(fresh_folder())
        node = await stack.enter_async_context(running(folder, first, exchanges=False))
        if others:
            await stack.enter_async_context(_crowd(others, node))
        await node.publish("warm", None)
        async with asyncio.TaskGroup() as publishing:
            published = []
            for sample in samples:
                published.append(publishing.create_task(publish_timed(node, sample)))
                await asyncio.sleep(PAUSE_S)
        assert bool(node.peers.linked) == bool(others)
    return percentiles(_NAME, [one.result() for one in published])


@asynccontextmanager
async def _crowd(identities: Sequence[Identity], node: Node) -> AsyncIterator[None]:
    """The other nodes of the swarm, linked with each other and some of them with this one."""
    identity, *others = identities
    with fresh_folder() as folder:
        async with worker("crowd", folder, identity, node.listening, others=others) as process:
            assert process.stdout is not None
            assert await process.stdout.readline() == LINKED, "the others are there"
            yield
