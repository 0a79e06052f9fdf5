"""The laws that every run must keep, whatever happens.

`Auditor` looks at the disks themselves, not through the code it judges: after every commit it reads what is new there
and holds it against what was said in the whole run. What is delivered and shown is judged in `simulations.watching`, as
it happens. Laws about what comes to be (equal heads, equal states) are checked after a quiet phase by
`check_converged`.

The numbers are those of the design's list of laws: 1 durability, 2 no gaps, 3 the chain, 4 no invention, 5 causality,
6 one order, 7 convergence, 8 equal states, 9 snapshots change nothing, 10 heads never go back, 11 delivery,
12 work stays open unless named, 13 nothing counts beyond the cut of a revoked node, 14 bounds.
"""

import asyncio
import hashlib
import math
import struct
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgpack

from fish.definition import Fish, Metadata
from fish.states import encode_state
from lamport.dictionaries import SELECT, Dictionaries
from lamport.event import Event
from lamport.event_table import checked_block
from lamport.ids import EventKey, NodeId, StreamId
from lamport.row_keys import row_key
from lamport.tags import ALL_EVENTS
from shoal.alarms import ALARM_TAG
from simulations.device import Device
from simulations.errors import LawBroken
from simulations.histories import Counted
from simulations.horizons import HorizonWatch
from simulations.retracting import Hidden, Place
from simulations.revoking import check_revoked
from simulations.trace import Kind, Note
from simulations.world import World
from transport.intake import WAITING_RANGES
from transport.link import Link

MAX_TASKS_PER_DEVICE = 200
MAX_TASKS_PER_LINK = 10
"""Law 14: a link's tasks are a handful at either end; besides, there are those of devices, fish and the run itself."""

TASKS_COUNTED_EVERY = 64
"""Commits; counting walks over all tasks."""

SILENCE_S = 10.0
"""Law 14: a link on which nothing came for so long must have been given up."""

Authored = Callable[[Device, StreamId, int], None]


@dataclass(slots=True)
class _Known:
    """What the auditor saw of one row on one disk: the chain from its first offset on, and the last lamport.

    A row is a stream, or a branch that begins behind a fork.
    """

    hash: bytes = b""
    lamport: int = 0
    packed: int = 0
    """The first offset behind the blocks that were looked at."""
    first: int = 0
    hashes: list[bytes] = field(default_factory=list)

    @property
    def offset(self) -> int:
        """The highest offset seen."""
        return self.first + len(self.hashes) - 1

    def at(self, offset: int) -> bytes | None:
        """The chain's hash behind an offset, None where it does not stand in this row."""
        within = self.first <= offset <= self.offset
        return self.hashes[offset - self.first] if within else None


@dataclass(slots=True)
class Auditor:
    """Checks laws 1 to 5, 10 and 14 after each commit."""

    world: World
    said: dict[tuple[StreamId, int], dict[bytes, bytes]] = field(default_factory=dict)
    """What was written at each offset, by the chain's hash behind it: of a stream that was forked, more than one."""
    sealed: dict[tuple[StreamId, int, bytes], tuple[Any, ...]] = field(default_factory=dict)
    known: dict[tuple[str, StreamId], dict[int, _Known]] = field(default_factory=dict)
    """What was seen of each stream on each disk, by row."""
    forked: dict[StreamId, None] = field(default_factory=dict)
    """Streams that were written twice."""
    highest: dict[str, int] = field(default_factory=dict)
    before: dict[str, int] = field(default_factory=dict)
    commits: int = 0
    asked: dict[str, Counter[bytes]] | None = None
    """What applications asked each device to publish (see `draft_bytes`), where all of that is known."""
    hidden: Hidden = field(init=False)
    """What is retracted, or withdrawn, of all that was said."""
    horizons: HorizonWatch = field(default_factory=HorizonWatch)
    """What authors gave up of their streams, and whether everybody keeps all else."""
    authored: list[Authored] = field(default_factory=list)
    """Called with the device and the event's stream and offset when an event comes to its author's disk."""

    def __post_init__(self) -> None:
        self.hidden = Hidden(self.world.membership)
        self.world.membership.judge.histories_of = self.histories

    def watch(self) -> None:
        """Look at every commit from now on."""
        self.world.watchers.append(self._committed)

    def holds(
        self, device: Device, stream: StreamId, offset: int, hash_: bytes | None = None
    ) -> bool:
        """Whether an event was seen on a device's disk: any at this place, or the one with this hash."""
        rows = self.known.get((_disk(device), stream.base), {})
        found = (known.at(offset) for known in rows.values())
        return any(one is not None and hash_ in (None, one) for one in found)

    def held(self, device: Device) -> Iterator[tuple[Place, EventKey, bytes]]:
        """All that was seen on a device's disk, with the hashes."""
        for (disk, stream), rows in self.known.items():
            for known in rows.values() if disk == _disk(device) else ():
                for offset, hash_ in enumerate(known.hashes, known.first):
                    lamport = msgpack.unpackb(self.said[stream, offset][hash_])[0]
                    yield (stream, offset), EventKey(int(lamport), stream), hash_

    def hash_in(self, device: Device, stream: StreamId, row: int, offset: int) -> bytes | None:
        """The chain's hash behind an event in a row of a stream on a device's disk."""
        known = self.known.get((_disk(device), stream), {}).get(row)
        return None if known is None else known.at(offset)

    def histories(self, device: Device, stream: StreamId) -> dict[int, list[bytes]]:
        """The histories of a stream on a device's disk, by row: hashes from offset 0 on."""
        trunks = {row: trunk for row, (_, trunk, *_) in self._origins(device).items()}
        rows, found = self.known.get((_disk(device), stream), {}), dict[int, list[bytes]]()
        for row, known in sorted(rows.items(), key=lambda one: one[1].first):
            before = found.get(trunks[row], []) if known.first else []
            found[row] = before[: known.first] + known.hashes
        return found

    def last_said(self, stream: StreamId) -> int:
        """The highest offset that was ever written of a stream; -1 where none was."""
        return max((offset for said, offset in self.said if said == stream), default=-1)

    def _committed(self, device: Device) -> None:
        self.commits += 1
        try:
            self.look(device)
            self.check_bounds(device)
            if self.commits % TASKS_COUNTED_EVERY == 0:
                self._check_tasks()
        except LawBroken as broken:
            self.world.broken(str(broken))

    def look(self, device: Device) -> None:
        """Read what is new on a disk.

        Raises:
            LawBroken: it breaks a law.
        """
        self.before[_disk(device)] = self.highest.get(_disk(device), 0)
        origins = self._origins(device)
        rows = device.platter.fetch(
            "SELECT row, node, number, head, hash, horizon FROM streams ORDER BY node, number"
        )
        if not rows:
            return  # the tables may still be in the making
        packed = dict(
            device.platter.fetch('SELECT stream, max("offset" + count) FROM blocks GROUP BY stream')
        )
        self.horizons.look(device)
        for row, node, number, head, hash_, horizon in rows:
            stream = StreamId(NodeId(node), origins[row][0] if row in origins else number)
            known = self._known_of(device, stream, row, origins)
            if horizon > known.offset + 1:
                self._jump(device, stream, known, horizon)
            if head < known.offset:
                raise LawBroken(
                    f"law 10: {device.name} held {stream} up to {known.offset}, now {head}"
                )
            if head > known.offset:
                self._read_on(device, row, stream, known, head)
            if packed.get(row, known.packed) != known.packed:
                self._check_blocks(device, row, stream, known, horizon)
            if known.hash != hash_:
                raise LawBroken(f"law 3: {device.name} has a wrong chain of {stream} at {head}")

    def _jump(self, device: Device, stream: StreamId, known: _Known, horizon: int) -> None:
        """What lies before the horizon is held by nobody: go on behind it, from what the author wrote."""
        missed = range(known.offset + 1, horizon)
        if any((stream, offset) not in self.said for offset in missed):
            raise LawBroken(f"law 4: {device.name} keeps {stream} from {horizon}, beyond all of it")
        for offset in missed:  # no stream is pruned that was forked
            [(known.hash, data)] = self.said[stream, offset].items()
            known.hashes.append(known.hash)
            known.lamport = int(msgpack.unpackb(data)[0])

    def check_acknowledged(self, device: Device) -> None:
        """Law 1: whatever was acknowledged is on the author's disk."""
        for event in device.acknowledged:
            if not self.holds(device, event.stream, event.offset):
                raise LawBroken(f"law 1: {device.name} lost {event.key}, which it had acknowledged")
            stored = self._stored(device, event)
            if _shown(event) not in stored:
                raise LawBroken(f"law 1: {device.name} keeps {stored}, it had acknowledged {event}")

    def is_as_said(self, event: Event) -> bool:
        """Whether an event is one that its author wrote at that place."""
        said = self.said[event.stream.base, event.offset].values()
        return _shown(event) in map(_written, said)

    def _stored(self, device: Device, event: Event) -> list[tuple[Any, ...]]:
        """What a disk holds at an event's place: of a forked stream, the events of several branches."""
        found: list[tuple[Any, ...]] = []
        for known in self.known[_disk(device), event.stream.base].values():
            hash_ = known.at(event.offset)
            if hash_ is not None:
                found.append(_written(self.said[event.stream.base, event.offset][hash_]))
        return found

    def check_proven(self, device: Device) -> None:
        """Law 3: a stream that was written twice is a proven fork, at every member, unless one history was lost.

        What counts nowhere any more, and what only revoked devices hold, members do not tell each other.
        """
        rows = device.platter.fetch("SELECT DISTINCT node, number FROM forks")
        proven = {StreamId(NodeId(node), number) for node, number in rows}
        for stream in self.forked:
            if stream not in proven and self._is_held_twice(stream):
                raise LawBroken(f"law 3: {device.name} knows of one history of {stream} alone")

    def _is_held_twice(self, stream: StreamId) -> bool:
        """Whether members' disks, as they are now, hold two events at one offset that count."""
        held: dict[int, bytes] = {}
        for device in self.world.members:
            for known in self.known.get((_disk(device), stream), {}).values():
                for offset, hash_ in enumerate(known.hashes, known.first):
                    counted = self.world.membership.counted(device, stream, offset, hash_)
                    if counted is not Counted.YES:
                        break
                    if held.setdefault(offset, hash_) != hash_:
                        return True
        return False

    def check_bounds(self, device: Device) -> None:
        """Law 14: queues stay under their bounds, and no dead connection is kept."""
        if not device.running:
            return
        turns = device.node.log._turns
        if len(turns) > turns.most:
            raise LawBroken(f"law 14: {len(turns)} requests wait for the log of {device.name}")
        for link in device.node.peers._links.values():
            _check_link(device, link)

    def _check_tasks(self) -> None:
        tasks = len(asyncio.all_tasks())
        if tasks > MAX_TASKS_PER_LINK * len(self.world.nodes) ** 2 + MAX_TASKS_PER_DEVICE:
            raise LawBroken(f"law 14: {tasks} tasks")

    @staticmethod
    def _origins(device: Device) -> dict[int, tuple[int, int, int, bytes, int]]:
        """Of each row that begins behind a fork: stream number, row of what is before, and offset, hash, lamport."""
        if not device.platter.fetch("SELECT 1 FROM sqlite_schema WHERE name = 'branches'"):
            return {}  # the schema is being made
        found = device.platter.fetch(
            'SELECT row, number, trunk, "offset", hash, lamport FROM branches WHERE row != trunk'
        )
        return {row: (number, *rest) for row, number, *rest in found}

    def _known_of(
        self, device: Device, stream: StreamId, row: int, origins: dict[int, Any]
    ) -> _Known:
        rows = self.known.setdefault((_disk(device), stream), {})
        if row not in rows:
            known = rows[row] = _Known(hash=self._origin(device, stream))
            if row in origins:
                _, _, offset, known.hash, known.lamport = origins[row]
                known.first = offset + 1
        return rows[row]

    def _read_on(
        self, device: Device, row: int, stream: StreamId, known: _Known, head: int
    ) -> None:
        events = _events_on(device, row, known.offset + 1)
        own, first = stream.node == device.identity.node, known.offset + 1
        for offset, data, key in events:
            if offset != known.offset + 1:
                raise LawBroken(f"law 2: {device.name} has a gap in {stream} before {offset}")
            hash_ = hashlib.sha256(known.hash + data).digest()
            # Else it came back from elsewhere.
            written = own and hash_ not in self.said.get((stream, offset), {})
            self._check_event(device, stream, (offset, data, key), hash_, own=own)
            known.hashes.append(hash_)
            known.hash = hash_
            known.lamport = self._risen(device, stream, known, data, written=written)
            self._tell(device, stream, offset, known.lamport, written=written)
        self._check_seals(device, row, stream, first, own=own)
        if known.offset != head:
            raise LawBroken(
                f"law 2: {device.name} claims {stream} up to {head}, has {known.offset}"
            )

    def _check_blocks(
        self, device: Device, row: int, stream: StreamId, known: _Known, horizon: int
    ) -> None:
        """Laws 1 to 3: what was packed is what was there before, and what was not packed is there still."""
        due = max(known.packed, known.first, horizon)
        for offset, data, _ in _in_blocks(device, row, known.packed):
            hash_ = known.at(offset)
            if offset > due or hash_ is None or self.said[stream, offset][hash_] != data:
                raise LawBroken(f"law 2: {device.name} packed {stream} {known.packed} wrongly")
            due = max(due, offset + 1)
            known.packed = offset + 1
        [(rows, first)] = device.platter.fetch(
            'SELECT count(*), min("offset") FROM events WHERE stream = ? AND "offset" >= ?',
            (row, horizon),
        )
        if due + rows != known.offset + 1 or first not in {due, None}:
            raise LawBroken(f"law 2: {device.name} keeps {rows} events of {stream} beside blocks")

    def _check_event(
        self,
        device: Device,
        stream: StreamId,
        event: tuple[int, bytes, int],
        hash_: bytes,
        *,
        own: bool,
    ) -> None:
        offset, data, key = event
        said = self.said.setdefault((stream, offset), {})
        is_new = hash_ not in said  # what a restored disk is given back is not
        if own and is_new and said:
            if stream.node not in self.world.copied:
                raise LawBroken(f"law 3: {device.name} wrote a second event at {stream} {offset}")
            self.forked[stream] = None
        if own:
            said.setdefault(hash_, data)
        if own and is_new:
            self.hidden.note(stream, offset, data, hash_)
        if own and is_new and self.asked is not None:
            self._check_asked(device, stream, offset, data)
        if hash_ not in said:
            raise LawBroken(
                f"law 4: {device.name} holds {stream} {offset}, which its author never wrote"
            )
        if msgpack.unpackb(data)[0] != key >> 20:
            raise LawBroken(f"law 6: {device.name} files {stream} {offset} under another timestamp")

    def _check_asked(self, device: Device, stream: StreamId, offset: int, data: bytes) -> None:
        """Law 4, the author itself included: each event is one that somebody asked for, and only once."""
        assert self.asked is not None, "it was looked at"
        _, _, tags, _, payload = msgpack.unpackb(data, strict_map_key=False)
        if tags == [ALARM_TAG]:
            return  # the node's own, about a stream that was written twice
        left = self.asked.setdefault(device.name, Counter())
        left[draft_bytes(tags, payload)] -= 1
        if left[draft_bytes(tags, payload)] < 0:
            raise LawBroken(f"law 4: {device.name} wrote {stream} {offset}, nobody asked for that")

    def _check_seals(
        self, device: Device, row: int, stream: StreamId, first: int, *, own: bool
    ) -> None:
        """Law 3: what vouches for a stream is what its author signed."""
        seals = device.platter.fetch(
            'SELECT "offset", hash, clock, horizon, signature FROM seals'
            ' WHERE stream = ? AND "offset" >= ?',
            (row, first),
        )
        for seal in seals:
            place = (stream, seal[0], seal[1])
            if own:
                self.sealed.setdefault(place, seal)
            if self.sealed.get(place) != seal:
                raise LawBroken(
                    f"law 3: {device.name} holds a forged seal of {stream} at {seal[0]}"
                )

    def _risen(
        self, device: Device, stream: StreamId, known: _Known, data: bytes, *, written: bool
    ) -> int:
        """The event's timestamp: above the stream's last and, for its author, above all that was on the disk before.

        What comes to the disk in the same commit was not known yet when the author's events got their timestamps.
        """
        lamport = int(msgpack.unpackb(data)[0])
        floor = known.lamport
        if written:
            floor = max(floor, self.before.get(_disk(device), 0))
        if lamport <= floor:
            raise LawBroken(f"law 5: {device.name} holds {lamport} in {stream} after {floor}")
        self.highest[_disk(device)] = max(self.highest.get(_disk(device), 0), lamport)
        return lamport

    def _tell(
        self, device: Device, stream: StreamId, offset: int, lamport: int, *, written: bool
    ) -> None:
        for watcher in self.authored if written else ():
            watcher(device, stream, offset)
        if self.world.trace.keeps:
            author = self.world.name_of(stream.node)
            kind = Kind.EVENT if written else Kind.RECEIVED
            now = asyncio.get_running_loop().time()
            label = f"{lamport}/{author}:{offset}"
            self.world.trace.show(Note(now, device.name, kind, label, "" if written else author))

    def _origin(self, device: Device, stream: StreamId) -> bytes:
        """The chain's beginning, worked out here once more."""
        number = struct.pack("!Q", stream.number)
        domain = b"shoal/chain/1\0"
        return hashlib.sha256(domain + device.identity.swarm + stream.node + number).digest()


def _written(data: bytes) -> tuple[Any, ...]:
    """What an event's bytes say."""
    lamport, timestamp, tags, *rest = msgpack.unpackb(data, strict_map_key=False)
    return (lamport, timestamp, sorted(tags), *rest)


def _shown(event: Event) -> tuple[Any, ...]:
    """The same of an event that a node hands out."""
    return (event.lamport, event.timestamp, sorted(event.tags), event.app_id, event.payload)


def draft_bytes(tags: Collection[str], payload: Any) -> bytes:
    """What an application asks to be published, as one value."""
    packed: bytes = msgpack.packb([sorted(tags), payload])
    return packed


def _events_on(device: Device, row: int, first: int) -> list[tuple[int, bytes, int]]:
    """Offset, bytes and key of a stream's events from an offset on, as they are stored."""
    fresh = device.platter.fetch(
        'SELECT "offset", bytes, key FROM events WHERE stream = ? AND "offset" >= ? ORDER BY "offset"',
        (row, first),
    )
    return [*_in_blocks(device, row, first), *((one[0], one[1], one[2]) for one in fresh)]


def _in_blocks(device: Device, row: int, first: int) -> Iterator[tuple[int, bytes, int]]:
    """The same of those that stand in blocks."""
    blocks = device.platter.fetch(
        'SELECT key, last, "offset", count, data FROM blocks WHERE stream = ? AND "offset" + count > ?'
        ' ORDER BY "offset"',
        (row, first),
    )
    dictionaries = Dictionaries(device.platter.fetch(SELECT) if blocks else ())
    for key, last, offset, count, data in blocks:
        block = checked_block(key, last, offset, count, data, dictionaries)
        places = range(max(first - offset, 0), block.count)
        for at, event in zip(places, block.bytes_at(places), strict=True):
            yield offset + at, event, row_key(block.lamports[at], row)


def _disk(device: Device) -> str:
    """Names a disk: after a declared restore it is another one."""
    return f"{device.name}/{device.restores}"


def _check_link(device: Device, link: Link) -> None:
    waiting = max(len(link.intake.quick), len(link.intake.steady))
    if waiting > WAITING_RANGES:
        raise LawBroken(f"law 14: {waiting} ranges wait for the log of {device.name}")
    # A link whose ranges wait for a full disk is not read from: it is this device that is silent.
    heard_at = max(getattr(link.channel, "heard_at", math.inf), device.well_since)
    silent_s = asyncio.get_running_loop().time() - heard_at
    if silent_s > SILENCE_S and not link.intake.is_full:
        raise LawBroken(f"law 14: {device.name} keeps a link that was silent for {silent_s:.0f} s")


async def check_converged(world: World, fish: Sequence[Fish[Any]]) -> list[Event]:
    """Laws 6, 8, 9 and 13: one order and equal states on all members, equal to the fold of what counts on the disk.

    Returns the events, in that order.
    """
    orders = [await _order(device) for device in world.members]
    if world.copied:
        _check_forks(world)
    for device, order in zip(world.members, orders, strict=True):
        await check_revoked(world.membership, device, order)
        keys = [event.key for event in order]
        if keys != sorted(keys) or order != orders[0]:
            raise LawBroken(f"law 6: {device.name} orders the same events differently")
    for one in fish:
        await _check_states(world, one, orders[0])
    return orders[0]


def _check_forks(world: World) -> None:
    """Law 8, for forks: all nodes tell the same of them, but for what counts no more: nobody tells others of that."""
    revoked = world.membership.revoked
    told = [
        [fork for fork in device.node.status().forks if fork.stream.node not in revoked]
        for device in world.members
    ]
    if any(forks != told[0] for forks in told):
        raise LawBroken(f"law 8: forks are told differently: {told}")


async def _check_states(world: World, fish: Fish[Any], order: Sequence[Event]) -> None:
    states = []
    for device in world.members:
        state = encode_state(await device.pond.current_state(fish))
        expected = encode_state(folded(fish, order, device.identity.node))
        if state != expected:
            raise LawBroken(f"law 9: {fish.name} at {device.name} is not the fold of its events")
        world.note(device.name, Kind.STATE, state_text(fish.name, state), state)
        states.append(state)
    if any(state != states[0] for state in states):
        raise LawBroken(f"law 8: {fish.name} differs between nodes that hold the same events")


def state_text(name: str, state: bytes) -> str:
    """How a state is noted: the fish's name and the beginning of the state's digest."""
    return f"{name} {hashlib.sha256(state).hexdigest()[:8]}"


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
