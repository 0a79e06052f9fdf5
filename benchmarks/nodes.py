"""Nodes as the benchmarks run them: the production seams, the loopback, no mDNS."""

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from random import SystemRandom

from benchmarks.events import Sample, settling
from benchmarks.raw import store_copy
from benchmarks.rounds import Stopwatch, fresh_folder
from lamport.event import draft
from lamport.routes import Route
from lamport.sqlite import DATABASE_NAME
from shoal.node import Node
from shoal.system import system_seams
from transport.identity import Identity, enrol, make_swarm
from transport.network import Address

FILL_BATCH = 1_000
"""Events of one commit where a log is filled before something is measured."""

PLAIN_NAME = "plain.sqlite"
"""The plain table of the same events, beside a node's database: the node packs what is old, a bound needs rows."""

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


@asynccontextmanager
async def settled(before: Sequence[Sample] = ()) -> AsyncIterator[Node]:
    """A new node with a settled log, and these events behind it."""
    [identity] = make_identities(1)
    with fresh_folder() as folder:
        async with running(folder, identity) as node:
            await fill(node, settling())
            await fill(node, before)
            yield node


async def publish_timed(node: Node, sample: Sample) -> float:
    """Publish one; returns how long that took, in milliseconds."""
    watch = Stopwatch()
    await node.publish(*sample)
    return watch.lap_ms()


async def publish_batch(node: Node, samples: Iterable[Sample]) -> None:
    """Publish in one call, from tags and payloads to durable events."""
    await node.publish_all([draft(tags, payload) for tags, payload in samples])


async def fill(node: Node, samples: Sequence[Sample]) -> None:
    """Publish all samples, in large commits."""
    for batch in batches(samples, FILL_BATCH):
        await publish_batch(node, batch)


async def fill_both(folder: Path, identity: Identity, samples: Sequence[Sample]) -> None:
    """Fill a new node's log in this folder, and a plain table beside it."""
    async with running(folder, identity) as node:
        await fill(node, samples)
    store_copy(iter(samples), len(samples), folder / PLAIN_NAME)


def batches(samples: Sequence[Sample], size: int) -> Iterator[Sequence[Sample]]:
    """Consecutive parts of this size; the last may be smaller."""
    return (samples[start : start + size] for start in range(0, len(samples), size))


def database(folder: Path) -> Path:
    """The database of the node in this folder."""
    return folder / DATABASE_NAME
