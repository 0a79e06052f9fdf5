"""How news spread through a large swarm: how soon, over how many hops, at what cost, and what a great loss does.

The nodes are the production node, signatures and all, in a graph of six links each on average, over links of a Wi-Fi's
kind. Some of them publish; then a part of all nodes loses its power at once while others publish on. Everything is in
virtual time, so that the same seed gives the same figures on every machine.
"""

import asyncio
import math
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from lamport.chain import SealedRange
from lamport.errors import LogClosed
from lamport.ids import NodeId, StreamId
from simulations.device import Device
from simulations.loop import COLLECT_EVERY, run_simulated
from simulations.network import Link
from simulations.planted import Bug, planted
from simulations.world import World
from transport.spreading import Spreading

LATENCY_S, SPREAD = 0.02, 0.5
"""Of a link: the median, and the standard deviation of its logarithm."""

LOSS = 0.01
PAYLOAD = "x" * 265
"""With tags and numbers an event of 330 bytes."""

EVERY_S = 0.1
"""An event somewhere so often."""

SETTLING_S = 20.0
"""Until all links stand and the heads of the beginning were told."""

ROOTED_S = 30.0
"""From the first event until anything is measured: the tree has found its root, and that its best."""

LOST = 0.3
"""The part of the nodes that loses its power at once."""

LAST_EVENTS, LOOKS = 10, 1_000
"""Published among the survivors, and how often is looked whether all have them."""

PAUSE_S = 2.0
"""Until what is under way has arrived, or been asked for."""

NODES_PER_COLLECTION = 20
"""A collection of garbage looks at everything that is alive: the more there is, the more seldom it is worth it."""

COPY_BYTES = 330
"""One event as its author's bytes."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What was found. Times are virtual seconds."""

    nodes: int
    links: float
    """Of a node, on average."""
    events: int
    delivery_p50_s: float
    delivery_p99_s: float
    hops_p50: int
    hops_p99: int
    overhead: float
    """Bytes of all messages, divided by those of one copy for each other node."""
    duplicates: float
    """Copies that were received twice, divided by those that were needed."""
    delivered: float
    """Of all copies, those that arrived in time to be counted."""
    complete_s: float = math.nan
    """How long after the loss the survivors that still hang together needed to hold equal logs."""
    cut_off: int = 0
    """Survivors all of whose neighbours were lost, or those of their part."""

    def to_text(self) -> str:
        """A line for each figure."""
        return (
            f"{self.nodes} nodes with {self.links:.1f} links each, {self.events} events\n"
            f"delivery: p50 {self.delivery_p50_s * 1000:.0f} ms, p99 {self.delivery_p99_s * 1000:.0f} ms"
            f" of virtual time, {self.delivered:.2%} delivered\n"
            f"hops: p50 {self.hops_p50}, p99 {self.hops_p99}\n"
            f"message bytes: {self.overhead:.2f} x one copy of {COPY_BYTES} bytes for each other node,"
            f" {self.duplicates:.1%} of the copies came twice\n"
            f"after {LOST:.0%} of the nodes lost their power at once: complete within {self.complete_s:.1f} s,"
            f" {self.cut_off} cut off"
        )


def measure(seed: int, nodes: int, events: int) -> Figures:
    """Play a swarm and measure it."""
    world = World(seed, nodes, shape="graph")
    collect_every = COLLECT_EVERY * max(1, nodes // NODES_PER_COLLECTION)
    return run_simulated(
        _Swarm(world).measured(events), world.generator("loop"), collect_every=collect_every
    )


class _Swarm:
    def __init__(self, world: World) -> None:
        self.world = world
        self.draw = world.generator("gossip")
        self.draw_link = world.generator("links").gauss
        self.published: dict[tuple[StreamId, int], float] = {}
        self.delays: list[float] = []
        self.hops: dict[tuple[NodeId, StreamId, int], int] = {}

    async def measured(self, events: int) -> Figures:
        self.world.air.make_link = self._make_link
        nodes = self.world.nodes
        with self._hops_counted():
            async with asyncio.TaskGroup() as tasks, self.world.started():
                followers = [tasks.create_task(self._follow(one)) for one in nodes]
                await asyncio.sleep(SETTLING_S)
                authors = [self.draw.choice(nodes) for _ in range(events)]
                await self._introduce(dict.fromkeys(authors))
                spread = await self._spread(authors)
                complete_s, cut_off = await self._lose()
                for follower in followers:
                    follower.cancel()
        return replace(spread, complete_s=complete_s, cut_off=cut_off)

    async def _introduce(self, authors: Iterable[Device]) -> None:
        """Let everybody know each author before."""
        rooted_at = asyncio.get_running_loop().time() + ROOTED_S
        await self._publish(authors)
        await asyncio.sleep(max(PAUSE_S, rooted_at - asyncio.get_running_loop().time()))

    async def _spread(self, authors: Sequence[Device]) -> Figures:
        self.delays.clear()
        self.hops.clear()
        began = self._traffic()
        await self._publish(authors)
        await asyncio.sleep(PAUSE_S)
        sent, received = (now - then for now, then in zip(self._traffic(), began, strict=True))
        needed = len(authors) * (len(self.world.nodes) - 1)
        return Figures(
            nodes=len(self.world.nodes),
            links=statistics.mean(len(one.node.peers.linked) for one in self.world.nodes),
            events=len(authors),
            delivery_p50_s=_percentile(self.delays, 0.5),
            delivery_p99_s=_percentile(self.delays, 0.99),
            delivered=len(self.delays) / needed,
            hops_p50=round(_percentile(self.hops.values(), 0.5)),
            hops_p99=round(_percentile(self.hops.values(), 0.99)),
            overhead=sent / (COPY_BYTES * needed),
            duplicates=received / needed - 1,
        )

    def _make_link(self) -> Link:
        """Between any two: in a large swarm nodes dial whom they hear of, until they have links enough."""
        latency_s = LATENCY_S * math.exp(self.draw_link(0.0, SPREAD))
        return Link(latency_s, jitter_s=latency_s / 4, loss=LOSS)

    async def _publish(self, authors: Iterable[Device]) -> None:
        """Let each publish an event, one after the other."""
        for device in authors:
            event = await device.node.publish(["a:machine", "b:order", "c:type"], PAYLOAD)
            self.published[event.stream, event.offset] = asyncio.get_running_loop().time()
            await asyncio.sleep(EVERY_S)

    async def _follow(self, device: Device) -> None:
        follower = device.node.log.follow()
        while True:
            try:
                batch = await follower.next()
            except LogClosed:
                return
            now = asyncio.get_running_loop().time()
            for event in batch.events:
                began = self.published.get((event.stream, event.offset))
                if began is not None and event.stream.node != device.node.id:
                    self.delays.append(now - began)

    @contextmanager
    def _hops_counted(self) -> Iterator[None]:
        def counting(right: Callable[[Spreading, SealedRange, NodeId], None]) -> Any:
            def relay(one: Spreading, sealed: SealedRange, source: NodeId) -> None:
                here, stream, offset = one._log.node, sealed.stream, sealed.seal.offset
                self.hops[here, stream, offset] = self.hops.get((source, stream, offset), 0) + 1
                right(one, sealed, source)

            return relay

        with planted(Bug("hops are counted", Spreading, "relay", counting)):
            yield

    def _traffic(self) -> tuple[int, int]:
        """Bytes sent and events received so far, over all links."""
        peers = [peer for one in self.world.nodes for peer in one.node.status().peers]
        return sum(peer.bytes_out for peer in peers), sum(peer.events_in for peer in peers)

    async def _lose(self) -> tuple[float, int]:
        """Take the power from a part; returns the time that survivors in touch need, and how many are cut off."""
        nodes, loop = self.world.nodes, asyncio.get_running_loop()
        lost = self.draw.sample(nodes, int(len(nodes) * LOST))
        for device in lost:
            await device.power_cut()
        survivors = [one for one in nodes if one not in lost]
        linked = self._linked(survivors)
        began = loop.time()
        await self._publish(self.draw.choices(linked, k=LAST_EVENTS))
        for _ in range(LOOKS):
            held = [device.node.offsets for device in linked]
            if all(one == held[0] for one in held):
                break
            await asyncio.sleep(EVERY_S)
        return loop.time() - began, len(survivors) - len(linked)

    def _linked(self, devices: Sequence[Device]) -> list[Device]:
        """The largest part of these devices that hangs together, in their order."""
        parts: list[set[Device]] = []
        for device in devices:
            near = {device, *self.world.linked_with(device)} & set(devices)
            joined = [part for part in parts if part & near]
            parts = [part for part in parts if not part & near]
            parts.append(near.union(*joined))
        largest = max(parts, key=len)
        return [device for device in devices if device in largest]


def _percentile(values: Iterable[float], part: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))]
