"""A world of simulated devices, and the vocabulary of hardship.

    a, b, c = sim.nodes
    with sim.partition({a, b}, {c}):
        await a.publish("x", 1)
        await sim.run(minutes=10)
    await sim.converge()

Each device runs the production `Node` on seams made of the seed. What a device draws is drawn from a generator of its
own (seed, name, start, purpose), so that leaving out one operation does not change what all others draw.
"""

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

from fish.pond import Pond
from lamport.event import Event
from lamport.offsets import OffsetMap
from lamport.seams import INLINE, Statement
from lamport.tags import Tags
from shoal.node import Node
from shoal.seams import Seams
from simulations.disk import Platter, SimulatedDisk
from simulations.errors import DeviceOff, LawBroken, PowerLost
from simulations.network import BANDWIDTH, LATENCY_S, PORT, Air, Link, SimulatedNetwork
from simulations.trace import Trace
from transport.identity import Identity, SwarmKey, enrol, make_swarm
from transport.network import Address

MICROSECONDS = 1_000_000
EPOCH_US = 1_767_225_600 * MICROSECONDS
"""What right wall clocks show when a simulation begins: the first moment of 2026."""

CONVERGENCE_S = 5.0
"""How long a healed swarm may take until all heads are equal."""

DISK_LATENCY_S = 0.004

STOP_LIMIT_S = 5.0

Committed = Callable[["Device"], None]
"""Called after every transaction of a device, with the device."""


@dataclass(slots=True)
class DeviceClock:
    """A wall clock that may be wrong."""

    offset_us: int = 0

    def jump(self, *, seconds: float = 0.0, days: float = 0.0, years: float = 0.0) -> None:
        """Put the clock forward, or back."""
        days += years * 365.25
        self.offset_us += int((seconds + days * 86_400) * MICROSECONDS)

    def read(self) -> int:
        """Microseconds since the epoch, by this clock."""
        return EPOCH_US + int(asyncio.get_running_loop().time() * MICROSECONDS) + self.offset_us


@dataclass(eq=False)
class Device:
    """One simulated device: what it keeps when the power goes, and the node that runs on it, if one does."""

    name: str
    identity: Identity
    world: "World"
    platter: Platter
    clock: DeviceClock = field(default_factory=DeviceClock)
    acknowledged: list[Event] = field(default_factory=list)
    starts: int = 0
    _node: Node | None = None
    _disk: SimulatedDisk | None = None
    _network: SimulatedNetwork | None = None
    _task: asyncio.Task[None] | None = None
    _stop: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def node(self) -> Node:
        """The running node; raises `DeviceOff` where none runs."""
        if self._node is None:
            raise DeviceOff(f"no node runs on {self.name}")
        return self._node

    @property
    def pond(self) -> Pond:
        """The running node's pond."""
        return self.node.pond

    @property
    def running(self) -> bool:
        """Whether a node runs here now."""
        return self._node is not None

    async def publish(self, tags: Tags | str | list[str], payload: Any) -> Event:
        """Publish an event; what was acknowledged is held against the node later."""
        event = await self.node.publish(tags, payload)
        self.acknowledged.append(event)
        return event

    async def start(self) -> None:
        """Switch the device on."""
        assert not self.running
        self.starts += 1
        self._stop = asyncio.Event()
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._live(ready), name=f"device {self.name}")
        await ready

    async def stop(self) -> None:
        """Stop the node in order."""
        self._stop.set()
        await self._ended()

    async def power_cut(self) -> None:
        """Switch the device off at once: nothing it still does counts, nobody is told."""
        if self._disk is not None:
            self._disk.has_power = False
        if self._network is not None:
            self._network.drop_all()
        self.world.note(self, "power cut", "")
        if self._task is not None:
            self._task.cancel()
        await self._ended()

    async def restart(self) -> None:
        """Switch the device off and on again, in order."""
        await self.stop()
        await self.start()

    async def _ended(self) -> None:
        task, self._task, self._node = self._task, None, None
        if task is not None:
            await asyncio.gather(task, return_exceptions=True)

    async def _live(self, ready: asyncio.Future[None]) -> None:
        try:
            async with Node(self.identity, self._seams(), peers=self._addresses()) as node:
                self._node = node
                ready.set_result(None)
                await self._stop.wait()
        except BaseException as error:
            if not ready.done():
                ready.set_exception(
                    error if isinstance(error, Exception) else LawBroken(repr(error))
                )
            elif self._died_by_itself(error):
                self.world.broken(f"node {self.name} died of {error!r}")
            raise

    def _died_by_itself(self, error: BaseException) -> bool:
        has_power = self._disk is not None and self._disk.has_power
        return has_power and not isinstance(error, asyncio.CancelledError | PowerLost)

    def _seams(self) -> Seams:
        self._disk = SimulatedDisk(
            self.platter,
            self._drawn("disk"),
            DISK_LATENCY_S,
            self._committed,
        )
        self._network = SimulatedNetwork(self.world.air, self.name, self.identity)
        return Seams(
            wall_clock=self.clock.read,
            randomness=self._drawn("node"),
            disk=self._disk,
            network=self._network,
            work=INLINE,
        )

    def _drawn(self, purpose: str) -> random.Random:
        return self.world.generator(f"{self.name}/{self.starts}/{purpose}")

    def _addresses(self) -> tuple[Address, ...]:
        return tuple(Address(name, PORT) for name in self.world.neighbours(self))

    def _committed(self, statements: Sequence[Statement]) -> None:
        now = asyncio.get_running_loop().time()
        self.world.trace.note(now, self.name, "commit", "", repr(statements).encode())
        self.world.committed(self)


class World:
    """All devices, the air between them, and what happened."""

    def __init__(self, seed: int, nodes: int, *, lines: bool = False) -> None:
        """Prepare a world; with `lines` each device knows only the next, otherwise all know all."""
        self.seed = seed
        self.trace = Trace()
        self.air = Air(self.generator("air"), self.trace, multicast=not lines)
        self.watchers: list[Committed] = []
        self.faults: list[str] = []
        self._lines = lines
        self._swarm_key = self._make_key()
        self.nodes = tuple(self._make_device(number) for number in range(nodes))

    @asynccontextmanager
    async def started(self) -> AsyncIterator["World"]:
        """Run all devices while the context is open."""
        for device in self.nodes:
            await device.start()
        try:
            yield self
        finally:
            for device in self.nodes:
                if device.running:
                    await device.stop()

    def generator(self, purpose: str) -> random.Random:
        """A generator of its own for each purpose."""
        digest = hashlib.sha256(f"{self.seed}/{purpose}".encode()).digest()
        return random.Random(digest)  # noqa: S311 - a simulation is repeatable on purpose

    def neighbours(self, device: Device) -> list[str]:
        """Whom a device is told to dial."""
        names = [other.name for other in self.nodes]
        if self._lines:
            place = names.index(device.name)
            return names[place + 1 : place + 2]
        return [name for name in names if name != device.name]

    def note(self, device: Device, kind: str, text: str) -> None:
        """Something was done to a device."""
        self.trace.note(asyncio.get_running_loop().time(), device.name, kind, text)

    def committed(self, device: Device) -> None:
        """A device committed: let the laws look at it."""
        for watcher in self.watchers:
            watcher(device)

    def broken(self, text: str) -> None:
        """A law was broken where raising would go unheard; `check` raises it."""
        self.faults.append(text)

    def check(self) -> None:
        """Raise what was found broken meanwhile."""
        if self.faults:
            raise LawBroken("; ".join(self.faults))

    async def run(self, *, seconds: float = 0.0, minutes: float = 0.0) -> None:
        """Let virtual time pass."""
        await asyncio.sleep(seconds + minutes * 60)
        self.check()

    async def converge(self, limit_s: float | None = None) -> None:
        """Heal everything, switch everything on, and wait until all hold the same.

        Raises:
            LawBroken: it takes longer than the limit, by default `CONVERGENCE_S`.
        """
        self.heal()
        for device in self.nodes:
            device.platter.full = False
            if not device.running:
                await device.start()
        deadline = asyncio.get_running_loop().time() + (limit_s or CONVERGENCE_S)
        while not self.equal:
            if asyncio.get_running_loop().time() > deadline:
                raise LawBroken(
                    f"law 7: not equal after {limit_s or CONVERGENCE_S} s: {self._held()}"
                )
            await asyncio.sleep(0.05)
        self.check()

    @property
    def equal(self) -> bool:
        """Whether all running nodes hold the same offsets."""
        held = [device.node.offsets for device in self.nodes if device.running]
        return all(one == held[0] for one in held)

    @contextmanager
    def partition(self, *groups: Collection[Device]) -> Iterator[None]:
        """Cut every link between devices of different groups while the context is open."""
        pairs = [
            (a.name, b.name)
            for group in groups
            for other in groups
            if group is not other
            for a in group
            for b in other
        ]
        self._set_cut(sorted(pairs), cut=True)
        try:
            yield
        finally:
            self._set_cut(sorted(pairs), cut=False)

    def isolate(self, device: Device) -> None:
        """Cut every link of a device, both ways."""
        others = [other.name for other in self.nodes if other is not device]
        pairs = [(device.name, name) for name in others] + [(name, device.name) for name in others]
        self._set_cut(pairs, cut=True)

    def cut(self, source: Device, target: Device) -> None:
        """Cut one direction."""
        self._set_cut([(source.name, target.name)], cut=True)

    def heal(self) -> None:
        """Make every link whole and quick again."""
        for link in self.air.links.values():
            self._mend(link)
        self.air.changed()

    def set_cut(self, source: Device, target: Device, *, cut: bool) -> None:
        """Cut one direction, or let it through again."""
        self._set_cut([(source.name, target.name)], cut=cut)

    def mend(self, source: Device, target: Device) -> None:
        """Make one direction whole and quick again."""
        self._mend(self.air.link(source.name, target.name))
        self.air.changed()

    def stall(self, source: Device, target: Device) -> None:
        """Let nothing through in one direction, and close nothing: connections stay open and silent."""
        self.air.link(source.name, target.name).stalled = True

    def slow(
        self,
        source: Device,
        target: Device,
        *,
        latency_s: float = LATENCY_S,
        loss: float = 0.0,
        bandwidth: float = BANDWIDTH,
    ) -> None:
        """Make one direction slow and lossy; the bandwidth is in bytes a second."""
        link = self.air.link(source.name, target.name)
        link.latency_s, link.jitter_s, link.loss = latency_s, latency_s / 2, loss
        link.bandwidth = bandwidth

    @staticmethod
    def _mend(link: Link) -> None:
        link.cut = link.stalled = False
        link.loss = 0.0
        link.latency_s, link.jitter_s, link.bandwidth = LATENCY_S, LATENCY_S / 2, BANDWIDTH

    def _set_cut(self, pairs: Sequence[tuple[str, str]], *, cut: bool) -> None:
        for source, target in pairs:
            self.air.link(source, target).cut = cut
        self.air.changed()

    def _held(self) -> dict[str, OffsetMap]:
        return {device.name: device.node.offsets for device in self.nodes if device.running}

    def _make_key(self) -> SwarmKey:
        return make_swarm(self.generator("swarm"))[0]

    def _make_device(self, number: int) -> Device:
        name = chr(ord("a") + number) if number < 26 else f"n{number}"  # noqa: PLR2004 - letters of the alphabet
        identity = enrol(self._swarm_key, self.generator(f"identity/{name}"))
        return Device(name, identity, self, Platter())
