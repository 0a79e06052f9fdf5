"""One simulated device: what it keeps when its node ends, and the node that runs on it.

The node is the production `Node`; the device makes its five seams from the world's seed. What a device draws is drawn
from generators of its own (name, start, purpose), so that leaving out one operation does not change what others draw.
"""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from fish.pond import Pond
from lamport.event import Event
from lamport.routes import Route
from lamport.seams import INLINE, Statement
from lamport.tags import Tags
from shoal.node import Node
from shoal.seams import Seams
from simulations.disk import Platter, SimulatedDisk, marked_as_copy
from simulations.errors import DeviceOff, LawBroken, PowerLost, SimulationError
from simulations.network import PORT, Air, SimulatedNetwork
from simulations.trace import Kind
from transport.identity import Identity
from transport.network import Address

MICROSECONDS = 1_000_000
EPOCH_US = 1_767_225_600 * MICROSECONDS
"""What right wall clocks show when a simulation begins: the first moment of 2026."""

DISK_LATENCY_S = 0.004
"""Longest time that half a disk access takes."""


class Surroundings(Protocol):
    """What a device needs of its world."""

    @property
    def air(self) -> Air:
        """The network."""
        ...

    @property
    def exchanges(self) -> bool:
        """Whether devices tell each other addresses."""
        ...

    @property
    def routes(self) -> Sequence[Route]:
        """The routes of every device."""
        ...

    def generator(self, purpose: str) -> random.Random:
        """A generator of its own for each purpose."""
        ...

    def neighbours(self, device: "Device") -> list[str]:
        """Whom a device is told to dial."""
        ...

    def note(self, device: str, kind: Kind, text: str = "", data: bytes = b"") -> None:
        """Something happened to a device."""
        ...

    def committed(self, device: "Device") -> None:
        """A device committed."""
        ...

    def broken(self, text: str) -> None:
        """A law was broken where raising would go unheard."""
        ...


@dataclass(slots=True)
class DeviceClock:
    """A wall clock that may be wrong."""

    device: str
    world: Surroundings
    offset_us: int = 0

    def jump(self, *, seconds: float = 0.0, days: float = 0.0, years: float = 0.0) -> None:
        """Put the clock forward, or back."""
        seconds += (days + years * 365.25) * 86_400
        self.offset_us += int(seconds * MICROSECONDS)
        self.world.note(self.device, Kind.CLOCK, _span(seconds))

    def read(self) -> int:
        """Microseconds since the epoch, by this clock."""
        return EPOCH_US + int(asyncio.get_running_loop().time() * MICROSECONDS) + self.offset_us


class Card(NamedTuple):
    """A copy of a whole disk: the database, and what stands beside it."""

    image: bytes
    token: bytes


def _span(seconds: float) -> str:
    """A span of time in the greatest unit that fits."""
    units = (("years", 365.25 * 86_400), ("days", 86_400.0), ("h", 3_600.0), ("min", 60.0))
    unit, length = next(((u, n) for u, n in units if abs(seconds) >= n), ("s", 1.0))
    return f"{seconds / length:+.1f} {unit}"


@dataclass(eq=False)
class Device:
    """One simulated device."""

    name: str
    identity: Identity
    world: Surroundings
    platter: Platter
    clock: DeviceClock
    acknowledged: list[Event] = field(default_factory=list)
    starts: int = 0
    well_since: float = 0.0
    """When a node was last started here, or the disk got room again (virtual seconds)."""
    restores: int = 0
    """How often its disk was declared to be an older one."""
    _commits_left: int = 0
    _node: Node | None = None
    _disk: SimulatedDisk | None = None
    _network: SimulatedNetwork | None = None
    _task: asyncio.Task[None] | None = None
    _dying: asyncio.Task[None] | None = None
    _stop: asyncio.Event = field(default_factory=asyncio.Event)

    def __repr__(self) -> str:
        return f"<device {self.name}>"

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

    @property
    def well(self) -> bool:
        """Whether a node runs here now, with power and room on its disk."""
        has_power = self._disk is not None and self._disk.has_power
        return self.running and has_power and not self.platter.full

    @property
    def open_channels(self) -> int:
        """How many connections this device holds open."""
        return self._network.open_channels if self._network is not None else 0

    async def publish(self, tags: Tags | str | list[str], payload: Any) -> Event:
        """Publish an event; what was acknowledged is held against the node later."""
        event = await self.node.publish(tags, payload)
        self.acknowledged.append(event)
        return event

    async def start(self) -> None:
        """Switch the device on."""
        if self.running:
            raise SimulationError(f"{self.name} runs already")
        self.starts += 1
        self._stop = asyncio.Event()
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._live(ready), name=f"device {self.name}")
        await ready
        self._recover()
        self.world.note(self.name, Kind.START, str(self.starts))
        self.world.committed(
            self
        )  # a commit that the power cut interrupted may have come through all the same

    async def stop(self) -> None:
        """Stop the node in order."""
        self._stop.set()
        await self._ended()
        self.world.note(self.name, Kind.STOP)

    async def crash(self) -> None:
        """End the node's process at once, as `kill -9` does: its disk and its peers' connections know it."""
        await self._die(Kind.CRASH)
        self.platter.crash()

    async def power_cut(self) -> None:
        """Take the power: what was not synced may be lost, and nobody is told; connections stay half open."""
        await self._die(Kind.POWER_CUT)
        self.platter.power_cut()

    def power_cut_within_commit(self, accesses: int) -> None:
        """Take the power at so many writes of the disk from now; only disks whose commits have a middle do that."""
        self.platter.cut_within_commit(accesses)

    def power_cut_after_commit(self, commits: int) -> None:
        """Take the power right behind this many commits from now, before anybody was told of the last."""
        self._commits_left = commits

    async def restart(self) -> None:
        """Stop the node in order, and start it again."""
        await self.stop()
        await self.start()

    def spare(self) -> None:
        """Take back what was prepared against this device: its disk has room, and no power cut waits for a commit."""
        self.fill_disk(full=False)
        self._commits_left = 0
        self.platter.cut_within_commit(None)

    def fill_disk(self, *, full: bool = True) -> None:
        """Leave no room on the disk, or (`full=False`) give it room again."""
        if self.platter.full != full:
            self.platter.full = full
            self._recover()
            self.world.note(self.name, Kind.DISK, "full" if full else "freed")

    def backup(self) -> bytes:
        """A copy of the database, as it is now; one that was in use is marked as a copy, as a backup is."""
        image = self.platter.image()
        return marked_as_copy(image) if self.running else image

    def card(self) -> Card:
        """A copy of all there is on the disk, as it is now."""
        return Card(self.platter.image(), self.platter.token)

    async def restore_backup(self, image: bytes) -> None:
        """Put an older copy of the database in, and start on it."""
        await self.restore_card(Card(image, self.platter.token))

    async def restore_card(self, card: Card) -> None:
        """Put an older copy of all there was in, and start on it; the disk that it comes on has room."""
        if self.running:
            await self.stop()
        self.spare()
        self.platter.restore(card.image)
        self.platter.token = card.token
        self.restores += 1
        self.acknowledged.clear()  # a declared loss
        self.world.note(self.name, Kind.DISK, "restored from a backup")
        await self.start()

    def _recover(self) -> None:
        self.well_since = asyncio.get_running_loop().time()

    async def _die(self, kind: Kind) -> None:
        if self._disk is not None:
            self._disk.has_power = False
        if self._network is not None:
            self._network.drop_all(silently=kind is Kind.POWER_CUT)
        self.world.note(self.name, kind)
        if self._task is not None:
            self._task.cancel()
        await self._ended()

    async def _ended(self) -> None:
        task, self._node = self._task, None
        if task is not None:
            await asyncio.gather(task, return_exceptions=True)
            if self._task is task:
                self._task = None

    async def _live(self, ready: asyncio.Future[None]) -> None:
        seams = self._seams()
        disk = self._disk
        try:
            peers, routes = self._addresses(), self.world.routes
            exchanges = self.world.exchanges
            async with Node(
                self.identity, seams, peers=peers, routes=routes, exchanges=exchanges
            ) as node:
                self._node = node
                ready.set_result(None)
                await self._stop.wait()
        except BaseException as error:
            if not ready.done() and disk is not None and not disk.has_power:
                ready.set_result(None)  # the start was as good as its device: it is off again
            elif not ready.done():
                ready.set_exception(
                    error if isinstance(error, Exception) else LawBroken(repr(error))
                )
                return  # told to whoever starts the device, and to nobody twice
            if disk is not None and disk.has_power and _is_death(error):
                self.world.broken(f"node {self.name} died of {error!r}")
            raise

    def _seams(self) -> Seams:
        self._disk = SimulatedDisk(
            self.platter,
            self._drawn("disk"),
            DISK_LATENCY_S,
            self._committed,
            self._lost_power,
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

    def _lost_power(self) -> None:
        assert self._disk is not None, "it lost its power"
        self._disk.has_power = False
        self._dying = asyncio.create_task(self._die(Kind.POWER_CUT))

    def _committed(self, statements: Sequence[Statement]) -> None:
        self.world.note(self.name, Kind.COMMIT, data=repr(statements).encode())
        self.world.committed(self)
        if self._commits_left:
            self._commits_left -= 1
            if not self._commits_left:
                self._lost_power()


def _is_death(error: BaseException) -> bool:
    """Whether a node ended with this by itself, and not because it was ended."""
    return not isinstance(error, asyncio.CancelledError | PowerLost)
