"""Nodes as the benchmarks run them: the production seams, the loopback, no mDNS."""

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from random import SystemRandom

from benchmarks.events import Sample
from lamport.event import draft
from lamport.routes import Route
from lamport.sqlite import DATABASE_NAME
from shoal.node import Node
from shoal.system import system_seams
from transport.identity import Identity, enrol, make_swarm
from transport.network import Address

FILL_BATCH = 1_000
"""Events of one commit where a log is filled before something is measured."""

_LOOPBACK = Address("127.0.0.1", 0)


def make_identities(count: int) -> tuple[Identity, ...]:
    """Members of one new swarm."""
    randomness = SystemRandom()
    swarm_key, _ = make_swarm(randomness)
    return tuple(enrol(swarm_key, randomness) for _ in range(count))


@asynccontextmanager
async def running(
    folder: Path,
    identity: Identity,
    peers: Iterable[Address] = (),
    *,
    routes: Iterable[Route] = (),
    exchanges: bool = True,
) -> AsyncIterator[Node]:
    """A node on its database in this folder."""
    seams = system_seams(folder, identity, listen=_LOOPBACK, mdns=False)
    async with Node(identity, seams, peers=peers, routes=routes, exchanges=exchanges) as node:
        yield node


async def publish_batch(node: Node, samples: Iterable[Sample]) -> None:
    """Publish in one call, from tags and payloads to durable events."""
    await node.publish_all([draft(tags, payload) for tags, payload in samples])


async def fill(node: Node, samples: Sequence[Sample]) -> None:
    """Publish all samples, in large commits."""
    for batch in batches(samples, FILL_BATCH):
        await publish_batch(node, batch)


def batches(samples: Sequence[Sample], size: int) -> Iterator[Sequence[Sample]]:
    """Consecutive parts of this size; the last may be smaller."""
    return (samples[start : start + size] for start in range(0, len(samples), size))


def database(folder: Path) -> Path:
    """The database of the node in this folder."""
    return folder / DATABASE_NAME
