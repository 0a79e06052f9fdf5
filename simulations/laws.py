"""The laws that every run must keep, whatever happens.

`Auditor` looks at the disks themselves, not through the code it judges: after every commit it reads what is new there
and holds it against what was said in the whole run. Laws about what comes to be (equal heads, equal states, delivery)
are checked after a quiet phase by `check_converged`.

The numbers are those of the design's list of laws: 1 durability, 2 no gaps, 3 the chain, 4 no invention, 5 causality,
6 one order, 7 convergence, 8 equal states, 9 snapshots change nothing, 10 heads never go back, 11 delivery,
12 work stays open unless named, 14 bounds.
"""

import asyncio
import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgpack

from fish.definition import Fish, Metadata
from fish.states import encode_state
from lamport.event import Event
from lamport.ids import EventKey, NodeId, StreamId
from lamport.log import MAX_WAITING
from lamport.tags import ALL_EVENTS
from simulations.errors import LawBroken
from simulations.world import Device, World
from transport.link import WAITING_RANGES

MAX_TASKS_PER_DEVICE = 200
"""Law 14: tasks of one device; a handful for itself, a few for each peer and fish."""


@dataclass(slots=True)
class _Known:
    """What the auditor saw of one stream on one disk: the highest offset, the chain there, the last lamport."""

    offset: int = -1
    hash: bytes = b""
    lamport: int = 0


@dataclass(slots=True)
class Auditor:
    """Checks laws 1 to 5, 10 and 14 after each commit."""

    world: World
    said: dict[tuple[StreamId, int], bytes] = field(default_factory=dict)
    known: dict[tuple[str, StreamId], _Known] = field(default_factory=dict)
    highest: dict[str, int] = field(default_factory=dict)
    before: dict[str, int] = field(default_factory=dict)
    commits: int = 0

    def watch(self) -> None:
        """Look at every commit from now on."""
        self.world.watchers.append(self._committed)

    def _committed(self, device: Device) -> None:
        self.commits += 1
        try:
            self.look(device)
        except LawBroken as broken:
            self.world.broken(str(broken))

    def look(self, device: Device) -> None:
        """Read what is new on a disk.

        Raises:
            LawBroken: it breaks a law.
        """
        self.before[device.name] = self.highest.get(device.name, 0)
        database = device.platter.database
        rows = database.execute(
            "SELECT row, node, number, head, hash FROM streams ORDER BY node, number"
        )
        for row, node, number, head, hash_ in rows.fetchall():
            stream = StreamId(NodeId(node), number)
            known = self._known_of(device, stream)
            if head < known.offset:
                raise LawBroken(
                    f"law 10: {device.name} held {stream} up to {known.offset}, now {head}"
                )
            if head > known.offset:
                self._read_on(device, row, stream, known, head)
            if known.hash != hash_:
                raise LawBroken(f"law 3: {device.name} has a wrong chain of {stream} at {head}")

    def check_acknowledged(self, device: Device) -> None:
        """Law 1: whatever was acknowledged is on the author's disk."""
        for event in device.acknowledged:
            if self._known_of(device, event.stream).offset < event.offset:
                raise LawBroken(f"law 1: {device.name} lost {event.key}, which it had acknowledged")

    def check_bounds(self, device: Device) -> None:
        """Law 14: queues and tasks stay under their bounds."""
        if not device.running:
            return
        waiting = len(device.node.log._waiting)  # noqa: SLF001 - an auditor looks into everything
        links = device.node.peers._links.values()  # noqa: SLF001 - as above
        ranges = max((link._ranges.qsize() for link in links), default=0)  # noqa: SLF001 - as above
        if waiting > MAX_WAITING or ranges > WAITING_RANGES:
            raise LawBroken(f"law 14: queues of {device.name}: {waiting} requests, {ranges} ranges")
        tasks = len(asyncio.all_tasks())
        if tasks > MAX_TASKS_PER_DEVICE * len(self.world.nodes):
            raise LawBroken(f"law 14: {tasks} tasks")

    def _known_of(self, device: Device, stream: StreamId) -> _Known:
        known = self.known.get((device.name, stream))
        if known is None:
            known = self.known[device.name, stream] = _Known(hash=self._origin(device, stream))
        return known

    def _read_on(
        self, device: Device, row: int, stream: StreamId, known: _Known, head: int
    ) -> None:
        events = device.platter.database.execute(
            'SELECT "offset", bytes, key FROM events WHERE stream = ? AND "offset" > ?'
            ' ORDER BY "offset"',
            (row, known.offset),
        ).fetchall()
        own = stream.node == device.identity.node
        for offset, data, key in events:
            if offset != known.offset + 1:
                raise LawBroken(f"law 2: {device.name} has a gap in {stream} before {offset}")
            self._check_event(device, stream, offset, data, key, own=own)
            known.offset, known.hash = offset, hashlib.sha256(known.hash + data).digest()
            known.lamport = self._risen(device, stream, known, data)
        if known.offset != head:
            raise LawBroken(
                f"law 2: {device.name} claims {stream} up to {head}, has {known.offset}"
            )

    def _check_event(
        self, device: Device, stream: StreamId, offset: int, data: bytes, key: int, *, own: bool
    ) -> None:
        if own:
            self.said.setdefault((stream, offset), data)
        if self.said.get((stream, offset)) != data:
            raise LawBroken(
                f"law 4: {device.name} holds {stream} {offset}, which its author never wrote"
            )
        if msgpack.unpackb(data)[0] != key >> 20:
            raise LawBroken(f"law 6: {device.name} files {stream} {offset} under another timestamp")

    def _risen(self, device: Device, stream: StreamId, known: _Known, data: bytes) -> int:
        """The event's timestamp: above the stream's last and, for its author, above all that was on the disk before.

        What comes to the disk in the same commit was not known yet when the author's events got their timestamps.
        """
        lamport = int(msgpack.unpackb(data)[0])
        floor = known.lamport
        if stream.node == device.identity.node:
            floor = max(floor, self.before.get(device.name, 0))
        if lamport <= floor:
            raise LawBroken(f"law 5: {device.name} holds {lamport} in {stream} after {floor}")
        self.highest[device.name] = max(self.highest.get(device.name, 0), lamport)
        return lamport

    def _origin(self, device: Device, stream: StreamId) -> bytes:
        """The chain's beginning, worked out here once more."""
        number = struct.pack("!Q", stream.number)
        domain = b"shoal/chain/1\0"
        return hashlib.sha256(domain + device.identity.swarm + stream.node + number).digest()


async def check_converged(world: World, fish: Sequence[Fish[Any]]) -> None:
    """Laws 6, 8 and 9: one order and equal states on all nodes, equal to the fold of what is on the disk."""
    orders = [await _order(device) for device in world.nodes]
    for device, order in zip(world.nodes, orders, strict=True):
        keys = [event.key for event in order]
        if keys != sorted(keys) or order != orders[0]:
            raise LawBroken(f"law 6: {device.name} orders the same events differently")
    for one in fish:
        await _check_states(world, one, orders[0])


async def _check_states(world: World, fish: Fish[Any], order: Sequence[Event]) -> None:
    states = []
    for device in world.nodes:
        state = encode_state(await device.pond.current_state(fish))
        expected = encode_state(folded(fish, order, device.identity.node))
        if state != expected:
            raise LawBroken(f"law 9: {fish.name} at {device.name} is not the fold of its events")
        now = asyncio.get_running_loop().time()
        world.trace.note(now, device.name, "state", fish.name, state)
        states.append(state)
    if any(state != states[0] for state in states):
        raise LawBroken(f"law 8: {fish.name} differs between nodes that hold the same events")


def folded(fish: Fish[Any], order: Sequence[Event], node: NodeId) -> Any:
    """The state by definition: the fold over all selected events in key order, from the newest reset on."""
    state = fish.initial
    for event in order:
        if fish.selects(event, node):
            metadata = Metadata.of(event, node)
            if fish.is_reset is not None and fish.is_reset(event.payload, metadata):
                state = fish.initial
            state = fish.on_event(state, event.payload, metadata)
    return state


async def _order(device: Device) -> list[Event]:
    return [event async for event in device.node.query(ALL_EVENTS)]


class Listener:
    """Law 11: a live subscription that must see every matching event once."""

    def __init__(self, device: Device) -> None:
        self.seen: list[EventKey] = []
        self._device = device
        self._start = device.starts
        self._task = asyncio.create_task(self._listen())

    async def _listen(self) -> None:
        async for event in self._device.node.subscribe(ALL_EVENTS):
            self.seen.append(event.key)

    async def check(self) -> None:
        """Hold what was seen against what is held; nothing where the device was switched off meanwhile."""
        if not self._device.running or self._device.starts != self._start:
            self._task.cancel()
            return
        held = [event.key for event in await _order(self._device)]
        for _ in range(200):
            if len(self.seen) >= len(held):
                break
            await asyncio.sleep(0.01)
        self._task.cancel()
        if sorted(self.seen) != held:
            raise LawBroken(
                f"law 11: a subscriber at {self._device.name} saw {len(self.seen)} of {len(held)}"
            )
