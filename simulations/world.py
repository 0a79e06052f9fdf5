"""A world of simulated devices, and the vocabulary of hardship.

    a, b, c = sim.nodes
    with sim.partition({a, b}, {c}):
        await a.publish("x", 1)
        await sim.run(minutes=10)
    await sim.converge()

Verbs that strike a device are the device's (`power_cut`, `crash`, `restart`, `clock.jump`, `restore_backup`), those
that strike the network, or everything, are the world's.
"""

import asyncio
import hashlib
import math
import random
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from itertools import count
from typing import Literal

from lamport.ids import NodeId
from lamport.offsets import OffsetMap
from lamport.routes import Route
from simulations.device import Device, DeviceClock
from simulations.disk import MemoryPlatter, Platter
from simulations.errors import LawBroken
from simulations.network import BANDWIDTH, LATENCY_S, Air
from simulations.revoking import Admin
from simulations.trace import Kind, Note, Trace
from transport.identity import enrol, make_swarm

CONVERGENCE_S = 5.0
"""How long a healed swarm may take until all heads are equal."""

FLAP_S = 1.0
SHORTEST_FLAP_S = 0.01

FURTHER_LINKS = 2
"""In a graph, besides the one to the next device; each link counts at both ends."""

Shape = Literal["mesh", "line", "graph", "crowd"]
SHAPES: tuple[Shape, ...] = ("mesh", "line", "graph", "crowd")

_LETTERS = 26

Committed = Callable[[Device], None]
"""Called after every transaction of a device, with the device."""


class World:
    """All devices, the air between them, and what happened."""

    def __init__(
        self,
        seed: int,
        nodes: int,
        *,
        shape: Shape = "mesh",
        keeps: bool = False,
        make_platter: Callable[[random.Random], Platter] | None = None,
        routes: Sequence[Route] = (),
        exchanges: bool = False,
    ) -> None:
        """Prepare a world.

        In a `mesh` all devices know all, in a `line` each knows only the next, in a `graph` each knows the next and two
        drawn from the seed, so that it has six links on average, in a `crowd` they find each other by announcements.
        `keeps` says whether notes are kept for a picture. `make_platter` makes the disks; without it they are in
        memory.
        """
        self.seed = seed
        self.trace = Trace(keeps=keeps)
        self.air = Air(self.generator("air"), self.trace, multicast=shape in ("mesh", "crowd"))
        self.watchers: list[Committed] = []
        self.faults: list[str] = []
        self.routes = routes
        """Every device's routes."""
        self.exchanges = exchanges
        """Whether devices tell each other addresses; a line is one only as long as they do not."""
        self._make_platter = make_platter
        self._swarm_key, self.admin = make_swarm(self.generator("swarm"))
        self.membership = Admin(self.admin, self._swarm_key, self._swarm_key.swarm)
        """What the admin has signed in this world."""
        self._flapping: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._names: dict[NodeId, str] = {}
        self.nodes = tuple(self._make_device(number) for number in range(nodes))
        self.copied = self.membership.copied
        """Nodes of which a second device was started: they may write one stream twice."""
        self._knows = self._drawn_knowledge(shape)

    @asynccontextmanager
    async def started(self) -> AsyncIterator["World"]:
        """Run all devices while the context is open."""
        for device in self.nodes:
            await device.start()
        try:
            yield self
        finally:
            self._stop_flapping(list(self._flapping))
            for device in self.nodes:
                if device.running:
                    await device.stop()

    def generator(self, purpose: str) -> random.Random:
        """A generator of its own for each purpose."""
        digest = hashlib.sha256(f"{self.seed}/{purpose}".encode()).digest()
        return random.Random(digest)  # noqa: S311 - a simulation is repeatable on purpose

    def name_of(self, node: NodeId) -> str:
        """The name of the (first) device with this identity."""
        return self._names.get(node) or node.short

    def neighbours(self, device: Device) -> list[str]:
        """Whom a device is told to dial."""
        return [other.name for other in self._knows[device]]

    def linked_with(self, device: Device) -> list[Device]:
        """The devices that it has a link with when all is well."""
        return [
            other
            for other in self.nodes
            if other in self._knows[device] or device in self._knows[other]
        ]

    def holds_together(self, without: Device) -> bool:
        """Whether the members are linked with each other, directly or not, when one of them is no member any more."""
        left = [device for device in self.members if device is not without]
        reached, due = {*left[:1]}, left[:1]
        while due:
            new = [one for one in self.linked_with(due.pop()) if one in left and one not in reached]
            reached.update(new)
            due += new
        return len(reached) == len(left)

    def open_since(self, source: Device, target: Device) -> float:
        """Since when the links between two devices are whole and quick, both ways; infinity where they are not."""
        links = (self.air.link(source.name, target.name), self.air.link(target.name, source.name))
        if any(link.condition != "open" for link in links):
            return math.inf
        return max(link.changed_at for link in links)

    def note(self, device: str, kind: Kind, text: str = "", data: bytes = b"") -> None:
        """Something happened at a device."""
        self.trace.note(Note(_now(), device, kind, text), data)

    def say(self, text: str) -> None:
        """Write a caption beside what happens now."""
        self.trace.note(Note(_now(), "", Kind.OPERATION, text))

    def committed(self, device: Device) -> None:
        """A device committed: let the laws look at it."""
        for watcher in self.watchers:
            watcher(device)

    def broken(self, text: str) -> None:
        """A law was broken where raising would go unheard; `check` raises it."""
        self.faults.append(text)

    def check(self) -> None:
        """Raise `LawBroken` for what was found broken meanwhile."""
        if self.faults:
            raise LawBroken("; ".join(self.faults[:3]))

    async def run(self, *, seconds: float = 0.0, minutes: float = 0.0) -> None:
        """Let virtual time pass."""
        if seconds + minutes < 0:
            raise ValueError("time does not run backwards")
        await asyncio.sleep(seconds + minutes * 60)
        self.check()

    async def converge(self, limit_s: float | None = None) -> None:
        """Heal everything, switch everything on, and wait until all hold the same.

        Raises:
            LawBroken: it takes longer than the limit, by default `CONVERGENCE_S`.
        """
        await self.recover()
        deadline = _now() + (limit_s or CONVERGENCE_S)
        while not self.equal:
            self.check()
            if _now() > deadline:
                raise LawBroken(
                    f"law 7: not equal after {limit_s or CONVERGENCE_S} s: {self.held()}"
                )
            await asyncio.sleep(0.05)
        self.check()

    async def recover(self) -> None:
        """Heal all links, give all disks room, and switch everything on."""
        self.heal()
        for device in self.nodes:
            device.spare()
            if not device.running:
                await device.start()

    @property
    def members(self) -> tuple[Device, ...]:
        """The devices that were not revoked."""
        revoked = self.membership.revoked
        return tuple(device for device in self.nodes if device.identity.node not in revoked)

    @property
    def equal(self) -> bool:
        """Whether all running members hold the same histories and notices, and have given up the same."""
        nodes = [device.node for device in self.members if device.running]
        held = [
            (
                {stream: (head.offset, head.hash) for stream, head in node.log.store.heads.items()},
                node.log.horizons,
                frozenset(one.id for one in node.log.store.notices),
            )
            for node in nodes
        ]
        return all(one == held[0] for one in held)

    def held(self) -> dict[str, OffsetMap]:
        """What each running member holds, by the device's name."""
        return {device.name: device.node.offsets for device in self.members if device.running}

    @contextmanager
    def partition(self, *groups: Collection[Device]) -> Iterator[None]:
        """Cut every link between devices of different groups while the context is open."""
        self.separate(*groups)
        try:
            yield
        finally:
            self.join(*groups)

    def separate(self, *groups: Collection[Device]) -> None:
        """Cut every link between devices of different groups."""
        for source, target in _across(groups):
            self._build(source, target, 1)
        self.air.changed()

    def join(self, *groups: Collection[Device]) -> None:
        """Take one such cut away again; what else was cut stays so."""
        for source, target in _across(groups):
            self._build(source, target, -1)
        self.air.changed()

    def isolate(self, device: Device) -> None:
        """Cut every link of a device, both ways."""
        for other in self.nodes:
            if other is not device:
                self._change(device.name, other.name, cut=True)
                self._change(other.name, device.name, cut=True)
        self.air.changed()

    def cut(self, source: Device, target: Device, *, cut: bool = True) -> None:
        """Cut one direction, or (`cut=False`) let it through again."""
        self._change(source.name, target.name, cut=cut)
        self.air.changed()

    def flap(self, source: Device, target: Device, *, every_s: float = FLAP_S) -> None:
        """Cut one direction and let it through again, in turns, until it is mended or healed."""
        if every_s < SHORTEST_FLAP_S:
            raise ValueError(f"a link flaps every {SHORTEST_FLAP_S} s at most")
        self._stop_flapping([(source.name, target.name)])
        self._flapping[source.name, target.name] = asyncio.create_task(
            self._flap(source, target, every_s)
        )

    def stall(self, source: Device, target: Device) -> None:
        """Let nothing through in one direction, and close nothing: connections stay open and silent."""
        self._change(source.name, target.name, stalled=True)

    def slow(
        self,
        source: Device,
        target: Device,
        *,
        latency_s: float = LATENCY_S,
        loss: float = 0.0,
        duplication: float = 0.0,
        bandwidth: float = BANDWIDTH,
    ) -> None:
        """Make one direction slow and lossy.

        Loss and duplication are probabilities of a segment or announcement, the bandwidth is in bytes a second.
        """
        link = self.air.link(source.name, target.name)
        link.latency_s, link.jitter_s = latency_s, latency_s / 2
        link.loss, link.duplication, link.bandwidth = loss, duplication, bandwidth
        self._changed(source.name, target.name)

    def forge(self, source: Device, target: Device, what: str = "event") -> None:
        """Alter the next range of events from source to target, in an `event` or its `seal`, as a liar would."""
        link = self.air.link(source.name, target.name)
        link.forges, link.was_forged = what, True

    def is_forging(self, one: Device, other: Device) -> bool:
        """Whether something is about to be altered between two devices."""
        pairs = (one, other), (other, one)
        return any(self.air.link(source.name, target.name).forges for source, target in pairs)

    def mend(self, source: Device, target: Device) -> None:
        """Make one direction whole and quick again."""
        self._stop_flapping([(source.name, target.name)])
        self._mend(source.name, target.name)
        self.air.changed()

    def heal(self) -> None:
        """Make every link whole and quick again."""
        self._stop_flapping(list(self._flapping))
        for source, target in tuple(self.air.links):
            self._mend(source, target)
        self.air.changed()

    async def clone(self, device: Device) -> Device:
        """Start a second device with a copy of this one's disk and identity, as a copied image of a card does.

        It dials those with whom this one is linked: nobody else knows where it is.
        """
        taken = {other.name for other in self.nodes}
        names = (f"{device.name}{number}" for number in count(2))
        copy = self._made(next(name for name in names if name not in taken), device)
        linked, bearers = self.linked_with(device), self.bearers(device)
        self._knows[copy] = tuple(other for other in linked if other not in bearers)
        self.nodes = (*self.nodes, copy)
        self.copied[device.identity.node] = None
        await copy.restore_card(device.card())
        return copy

    def bearers(self, device: Device) -> list[Device]:
        """The device, and those with a copy of its identity."""
        return [other for other in self.nodes if other.identity.node == device.identity.node]

    async def _flap(self, source: Device, target: Device, every_s: float) -> None:
        while True:
            for cut in (True, False):
                self.cut(source, target, cut=cut)
                await asyncio.sleep(every_s)

    def _stop_flapping(self, pairs: Sequence[tuple[str, str]]) -> None:
        for pair in pairs:
            if pair in self._flapping:
                self._flapping.pop(pair).cancel()

    def _mend(self, source: str, target: str) -> None:
        if self.air.link(source, target).mend():
            self._changed(source, target)

    def _build(self, source: str, target: str, walls: int) -> None:
        link = self.air.link(source, target)
        before = link.condition
        link.walls = max(0, link.walls + walls)
        if link.condition != before:
            self._changed(source, target)

    def _change(
        self, source: str, target: str, *, cut: bool | None = None, stalled: bool | None = None
    ) -> None:
        link = self.air.link(source, target)
        before = link.condition
        link.cut = link.cut if cut is None else cut
        link.stalled = link.stalled if stalled is None else stalled
        if before != link.condition:
            self._changed(source, target)

    def _changed(self, source: str, target: str) -> None:
        link = self.air.link(source, target)
        link.changed_at = _now()
        self.trace.note(Note(_now(), source, Kind.LINK, link.condition, target))

    def _drawn_knowledge(self, shape: Shape) -> dict[Device, tuple[Device, ...]]:
        """Whom each device is told to dial."""
        nodes, draw = self.nodes, self.generator("shape")
        if shape == "mesh":
            return {one: tuple(other for other in nodes if other is not one) for one in nodes}
        if shape == "crowd":
            return dict.fromkeys(nodes, ())
        following: dict[Device, tuple[Device, ...]] = {
            one: nodes[place + 1 : place + 2] for place, one in enumerate(nodes)
        }
        if shape == "line":
            return following
        return {
            one: tuple(
                other
                for other in (*following[one], *draw.sample(nodes, FURTHER_LINKS))
                if other is not one
            )
            for one in nodes
        }

    def _make_device(self, number: int) -> Device:
        return self._made(chr(ord("a") + number) if number < _LETTERS else f"n{number}")

    def _made(self, name: str, original: Device | None = None) -> Device:
        platter = (
            MemoryPlatter()
            if self._make_platter is None
            else self._make_platter(self.generator(f"platter/{name}"))
        )
        identity = (
            enrol(self._swarm_key, self.generator(f"identity/{name}"))
            if original is None
            else original.identity
        )
        self._names.setdefault(identity.node, name)
        return Device(name, identity, self, platter, DeviceClock(name, self))


def _across(groups: Sequence[Collection[Device]]) -> list[tuple[str, str]]:
    """All directed pairs between different groups, sorted.

    Raises:
        ValueError: there is nothing to cut between them, or a device stands on both sides.
    """
    if len(groups) < len(("here", "there")):
        raise ValueError("a partition has at least two groups of devices: {a, b}, {c}")
    if len({device for group in groups for device in group}) < sum(map(len, groups)):
        raise ValueError("a device stands on one side of a partition only")
    return sorted(
        (a.name, b.name)
        for group in groups
        for other in groups
        if group is not other
        for a in group
        for b in other
    )


def _now() -> float:
    return asyncio.get_running_loop().time()
