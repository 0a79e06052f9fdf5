"""Replicating: how fast a node catches up with another one, and how soon one event is seen there.

Both nodes and both ends of the bound live in this process, on the loopback.
"""

import asyncio
import ssl
import struct
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial

import msgpack

from benchmarks.events import Sample, generate, settling
from benchmarks.nodes import FILL_BATCH, batches, fill, make_identities, running
from benchmarks.raw import RawLog, chain, encode, now_us
from benchmarks.raw_tls import connected
from benchmarks.report import Report
from benchmarks.rounds import (
    LATENCY,
    RATE,
    Figures,
    Stopwatch,
    alternate,
    fresh_folder,
    percentiles,
)
from lamport.event import Event
from lamport.ids import NodeId
from lamport.tags import ALL_EVENTS
from shoal.node import Node
from transport.identity import Identity, verify_signature

EVENTS = 20_000
"""Events to catch up with, unless another number is asked for."""

MAX_DELIVERIES = 300
"""Events whose delivery is timed in a run, one after the other."""

WARM_UP = 20
"""Deliveries before them that are not timed: the link comes up, caches fill."""

CATCH_UP = "replicate, catch-up"
_DELIVERY = "replicate, delivery of one event"
_LENGTH = struct.Struct("!I")
_MEASURED = (
    "catch-up: from the start of an empty node to all events durable there, fetched over TLS from a node that holds"
    f" them; against a raw TLS stream of the same event bytes in frames of {FILL_BATCH:,} that feeds raw appends"
    " (decoding, SHA-256 chain, one Ed25519 verification per frame, connecting and making the database included)."
    " Delivery: from node.publish at one node to the event in a subscription at the other, one at a time, against a raw"
    " commit, a raw TLS round trip of its bytes and a second raw commit."
)
_LEFT_OUT = (
    "the first node's filling and, before deliveries, both nodes'; discovery by mDNS, real networks, more than two"
    " nodes, deliveries under load. The bound sends from memory, checks no limits and keeps no index; its two ends are"
    " threads with blocking sockets, ours share one event loop."
)


def measure(events: int, runs: int) -> Report:
    """All rows."""
    samples = generate(events)
    some = generate(WARM_UP + min(events, MAX_DELIVERIES))
    rows = (
        *alternate(runs, RATE, partial(_our_catch_up, samples), partial(raw_catch_up, samples)),
        *alternate(runs, LATENCY, partial(our_delivery, some), partial(raw_delivery, some)),
    )
    return Report("replicate", events, rows, _MEASURED, _LEFT_OUT)


def _our_catch_up(samples: Sequence[Sample]) -> Figures:
    return asyncio.run(_catch_up(samples))


async def _catch_up(samples: Sequence[Sample]) -> Figures:
    source_identity, target_identity = make_identities(2)
    with fresh_folder() as source_folder, fresh_folder() as target_folder:
        async with running(source_folder, source_identity) as source:
            await fill(source, samples)
            watch = Stopwatch()
            async with running(target_folder, target_identity, [source.listening]) as target:
                await until_covered(source, target)
                return {CATCH_UP: watch.rate(len(samples))}


async def until_covered(source: Node, target: Node) -> None:
    """Wait until one node holds what the other does."""
    while not target.offsets.covers(source.offsets):
        await target.log.changed()


def raw_catch_up(samples: Sequence[Sample]) -> Figures:
    """The bound."""
    server, client = make_identities(2)
    frames = _frames(samples, server)

    def send(connection: ssl.SSLSocket) -> None:
        for frame in frames:
            connection.sendall(_LENGTH.pack(len(frame)) + frame)

    with fresh_folder() as folder:
        watch = Stopwatch()
        with (
            RawLog(folder / "raw.sqlite") as log,
            connected(server, client, folder, send) as connection,
        ):
            _receive(connection, log, server, len(frames))
            return {CATCH_UP: watch.rate(len(samples))}


def _frames(samples: Sequence[Sample], author: Identity) -> list[bytes]:
    """The events in signed frames, ready to be sent."""
    frames, hash_, lamport = [], bytes(32), 1
    for batch in batches(samples, FILL_BATCH):
        events = encode(batch, lamport, now_us())
        hash_ = chain(hash_, events)
        lamport += len(batch)
        frames.append(msgpack.packb([events, author.sign(hash_)]))
    return frames


def _receive(connection: ssl.SSLSocket, log: RawLog, author: Identity, frames: int) -> None:
    """Take in so many frames: each is verified, decoded and durable before the next is read."""
    with connection.makefile("rb") as stream:
        for _ in range(frames):
            [length] = _LENGTH.unpack(stream.read(_LENGTH.size))
            events, signature = msgpack.unpackb(stream.read(length))
            hash_ = chain(log.hash, events)
            assert verify_signature(author.node, signature, hash_), "the stream is its author's"
            for data in events:
                msgpack.unpackb(data)
            log.store(events, hash_)


def our_delivery(samples: Sequence[Sample]) -> Figures:
    """Ours."""
    return asyncio.run(_deliver(samples))


async def _deliver(samples: Sequence[Sample]) -> Figures:
    async with settled_pair(make_identities(2)) as (source, target):
        return percentiles(_DELIVERY, await deliveries(source, target, samples))


@asynccontextmanager
async def settled_pair(identities: Sequence[Identity]) -> AsyncIterator[tuple[Node, Node]]:
    """Two linked nodes with a settled log each."""
    with fresh_folder() as source_folder, fresh_folder() as target_folder:
        async with (
            running(source_folder, identities[0]) as source,
            running(target_folder, identities[1], [source.listening]) as target,
        ):
            await fill(source, settling())
            await until_covered(source, target)
            yield source, target


async def deliveries(source: Node, target: Node, samples: Sequence[Sample]) -> list[float]:
    """How long each takes from one node to the other, in milliseconds; those of the warm-up are left out."""
    seen: asyncio.Queue[float] = asyncio.Queue()
    arrivals = target.subscribe(ALL_EVENTS, lower=target.offsets)
    async with asyncio.TaskGroup() as tasks:
        watching = tasks.create_task(_watch(arrivals, source.id, seen))
        laps = [await _deliver_one(source, sample, seen) for sample in samples]
        watching.cancel()
    return laps[WARM_UP:]


async def _watch(
    arrivals: AsyncIterator[Event], author: NodeId, seen: asyncio.Queue[float]
) -> None:
    """Note when each event of an author arrives, whoever waits for that."""
    async for event in arrivals:
        if event.stream.node == author:
            seen.put_nowait(time.perf_counter())


async def _deliver_one(source: Node, sample: Sample, seen: asyncio.Queue[float]) -> float:
    start = time.perf_counter()
    await source.publish(*sample)
    return (await seen.get() - start) * 1_000


def raw_delivery(samples: Sequence[Sample]) -> Figures:
    """The bound."""
    server, client = make_identities(2)
    with (
        fresh_folder() as folder,
        RawLog(folder / "source.sqlite") as source,
        RawLog(folder / "target.sqlite") as target,
        connected(server, client, folder, _echo) as connection,
    ):
        logs = source, target
        for log in logs:
            log.append(settling())
        laps = [_raw_deliver_one(logs, sample, connection) for sample in samples]
    return percentiles(_DELIVERY, laps[WARM_UP:])


def _echo(connection: ssl.SSLSocket) -> None:
    while data := connection.recv(65_536):
        connection.sendall(data)


def _raw_deliver_one(
    logs: tuple[RawLog, RawLog], sample: Sample, connection: ssl.SSLSocket
) -> float:
    """A commit, a round trip of the event's bytes, a commit."""
    source, target = logs
    watch = Stopwatch()
    [data] = encode([sample], 1, now_us())
    source.store([data], chain(source.hash, [data]))
    connection.sendall(data)
    echoed = _read(connection, len(data))
    target.store([echoed], chain(target.hash, [echoed]))
    return watch.lap_ms()


def _read(connection: ssl.SSLSocket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = connection.recv(size - len(data))
        assert part, "the echo does not end by itself"
        data += part
    return data
