"""Real nodes for stories: TLS on the loopback, SQLite on the disk, and wall clocks that can be set."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from lamport.event import Event
from lamport.routes import Route
from shoal.node import Node
from shoal.system import system_seams
from transport.identity import Identity, SwarmKey, enrol, make_swarm
from transport.network import Address

LOOPBACK = Address("127.0.0.1", 0)

PATIENCE_S = 20.0
"""A story that hangs fails after this; none of them measures time."""


@dataclass
class WallClock:
    """A wall clock that stands where it was set."""

    microseconds: int = 0

    def set(self, hour: int, minute: int = 0) -> None:
        moment = datetime(2026, 3, 2, hour, minute, tzinfo=UTC)
        self.microseconds = int(moment.timestamp()) * 1_000_000

    def __call__(self) -> int:
        return self.microseconds


@dataclass
class Device:
    """A node and what a story needs to know of it."""

    node: Node
    clock: WallClock

    async def fill(self, lamport: int) -> None:
        """Publish unrelated events until the next one gets this Lamport timestamp."""
        while self.node.log.lamport < lamport - 1:
            await self.node.publish("filler", None)
        assert self.node.log.lamport == lamport - 1

    async def publish(self, tag: str, payload: object) -> Event:
        return await self.node.publish(tag, payload)


@dataclass
class Home:
    """A device's folder and identity, from which a node can be started again and again."""

    folder: Path
    identity: Identity

    @asynccontextmanager
    async def started(
        self,
        peers: Iterable[Address] = (),
        listen: Address = LOOPBACK,
        routes: Iterable[Route] = (),
        announced: Iterable[Address] = (),
        *,
        exchanges: bool = False,
    ) -> AsyncIterator[Device]:
        seams = system_seams(self.folder, self.identity, listen=listen, mdns=False)
        clock = WallClock()
        node = Node(
            self.identity,
            replace(seams, wall_clock=clock),
            peers=peers,
            announced=announced,
            exchanges=exchanges,
            routes=routes,
        )
        async with asyncio.timeout(PATIENCE_S), node:
            yield Device(node, clock)


def make_homes(folder: Path, names: str, swarm_key: SwarmKey | None = None) -> list[Home]:
    """Enrol a device for each letter."""
    randomness = random.Random(names)
    key = swarm_key or make_swarm(randomness)[0]
    homes = []
    for name in names:
        (folder / name).mkdir(mode=0o700)
        homes.append(Home(folder / name, enrol(key, randomness)))
    return homes


async def until(condition: Callable[[], bool]) -> None:
    """Let everything else run until a condition holds that nothing announces."""
    while not condition():  # noqa: ASYNC110 - see above
        await asyncio.sleep(0)


async def linked(one: Node, *others: Node) -> None:
    """Wait until a node is linked to others."""
    while not one.peers.linked >= {other.id for other in others}:
        await one.peers.changed()


async def unlinked(one: Node, other: Node) -> None:
    """Wait until a node is not linked to another."""
    while other.id in one.peers.linked:
        await one.peers.changed()


async def converged(*devices: Device) -> None:
    """Wait until all hold what any of them holds now."""
    target = devices[0].node.offsets
    for device in devices[1:]:
        target = target.raised(device.node.offsets)
    for device in devices:
        while not device.node.offsets.covers(target):
            await device.node.log.changed()


async def cut(left: Device, right: Device) -> None:
    """Cut the link between two nodes, on both sides, and wait until it is gone."""
    left.node.peers.cut(right.node.id)
    right.node.peers.cut(left.node.id)
    await unlinked(left.node, right.node)
    await unlinked(right.node, left.node)


def heal(*devices: Device) -> None:
    """Let everybody talk to everybody again."""
    for device in devices:
        device.node.peers.heal()
