"""Laws about what a node shows to those who use it, judged at the moment it shows it.

`Listener` is a live subscription: events come to it from the disk, in order, each once. `StateWatch` sees every state
that any fish of any node shows, and remembers which events it was made of: whoever shows another state of the same
events breaks law 8. `PairWatch` holds two healthy neighbours to law 15: whatever happens to others, what one of them
publishes comes to the other.
"""

import asyncio
import hashlib
import random
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from fish.definition import Fish
from fish.errors import PondClosed, StateCodecError
from fish.states import encode_state
from lamport.errors import DamagedRange
from lamport.event import Event
from lamport.ids import EventKey, StreamId
from lamport.log import EventLog
from lamport.offsets import OffsetMap
from lamport.tags import ALL_EVENTS
from simulations.device import Device
from simulations.errors import LawBroken
from simulations.histories import Counted
from simulations.laws import Auditor, state_text
from simulations.retracting import Place
from simulations.trace import Kind
from simulations.world import World

SETTLED_S = 5.0
"""How long two neighbours must have been healthy before law 15 counts on their link."""

ARRIVAL_S = 5.0
"""Law 15: how long an event may take to a healthy neighbour."""

SPARE_CHANNELS = 2
"""Connections that are being made or given up while a device is looked at."""

SLOWEST_S = 0.3
"""How long a hesitating subscriber takes over an event at most."""

SHOWN_S = 2.0
"""How long a fish may be busy in a world at rest."""

TOLD_S = 0.01
"""How long an observer may lag behind a fish that rests: it may have begun to watch just now."""

LISTENER_S = 2.0
"""How long a subscriber may lag behind a log that rests."""


class Listener:
    """Law 11: a live subscription that must see every event once, in its stream's order, and only what is on disk.

    What is retracted must not come, or must be told where it had come.
    """

    def __init__(
        self, device: Device, auditor: Auditor, hesitation: random.Random | None = None
    ) -> None:
        """Subscribe. With `hesitation` it takes its time over each event, and begins where it is told to."""
        lower = OffsetMap()
        if hesitation is not None:
            held = device.node.offsets.items()
            lower = OffsetMap({s: hesitation.randint(0, offset) for s, offset in held})
        self._cursor: dict[StreamId, int] = dict(lower.items())
        self._hesitation = hesitation
        self.device = device
        self._log = device.node.log
        self._auditor = auditor
        self._start, self._restores = device.starts, device.restores
        self._delivered = asyncio.Event()
        self._handed: dict[EventKey, Place] = {}
        self._told: dict[Place, None] = {}
        self._gone: dict[Place, None] = {}
        """The same by the branches in which they stood, without what came again."""
        self._task = asyncio.create_task(self._listen())

    async def _listen(self) -> None:
        log = self.device.node.log
        while True:
            try:
                await self._follow(log)
            except DamagedRange:
                await log.changed()
            else:
                return

    async def _follow(self, log: EventLog) -> None:
        """Read from the place reached; an application does that again where the disk had lost something."""
        lower = OffsetMap(self._cursor)
        events = log.subscribe(ALL_EVENTS, lower=lower, on_retracted=self._retracted)
        async for event in events:
            self._check(event)
            self._delivered.set()
            if self._hesitation is not None:
                await asyncio.sleep(SLOWEST_S * self._hesitation.random())

    def _check(self, event: Event) -> None:
        name, world = self.device.name, self._auditor.world
        if self.device.restores != self._restores:
            return  # it goes on reading where another disk is now
        if not self._auditor.holds(self.device, event.stream, event.offset):
            world.broken(f"law 11: {name} was handed {event.key}, which is not on its disk")
        if not self._auditor.is_as_said(event):
            world.broken(f"law 11: {name} was handed another {event.key} than its author wrote")
        stream = self._log.store.branches.named_now(event.stream, event.offset)
        self._cursor = dict(self._reached.items())
        pruned = self.device.node.log.horizons.get(event.stream.base, 0)
        due = self._due(stream, event.offset, pruned)
        self._gone = {
            one: None for one in self._gone if self._placed(one) != (stream, event.offset)
        }
        if event.offset < due and self._auditor.hidden.was_named(event.key):
            self._told.pop((stream.base, event.offset), None)
            return  # it was hidden by a retraction that was withdrawn since
        if event.offset != due:
            world.broken(f"law 10: {name} was handed {event.key}, {event.stream} {due} was due")
        self._cursor[stream] = event.offset
        self._handed[event.key] = (stream.base, event.offset)

    def _retracted(self, event: Event) -> None:
        """Take note that an event is hidden from now on, which must be so, unless it will be back at once.

        What withdraws a retraction may stand on the disk before the log goes by it.
        """
        self._delivered.set()
        self._cursor = dict(
            self._reached.items()
        )  # what is withdrawn now may be due again before anything else comes
        place = event.stream, event.offset
        self._told[event.stream.base, event.offset] = None
        self._gone[place] = None
        is_so = self._is_hidden(*place) or self._may_be_back(*place) or self._is_copied(*place)
        if self.device.restores == self._restores and not is_so:
            self._auditor.world.broken(
                f"law 11: {self.device.name} was told that {event.key} is retracted, which it is not"
            )

    def _is_hidden(self, stream: StreamId, offset: int) -> bool:
        return self._auditor.hidden.at(self._auditor, self.device, stream, offset)

    def _is_copied(self, stream: StreamId, _offset: int) -> bool:
        """Whether two devices write a stream: which history of it counts may have been settled just now."""
        return stream.node in self._auditor.world.copied

    def _is_open(self, stream: StreamId, offset: int) -> bool:
        """Whether an event stands in another history than that of a cut, which is not held."""
        return self._auditor.hidden.admin.counted(self.device, stream, offset) is Counted.OPEN

    def _placed(self, place: Place) -> Place:
        """A place under the name that the branch bears now."""
        return self._log.store.branches.named_now(*place), place[1]

    @property
    def _reached(self) -> OffsetMap:
        """How far it came, under the names that streams' branches bear now."""
        return self._log.named_now(OffsetMap(self._cursor))

    def _due(self, stream: StreamId, end: int, pruned: int = 0) -> int:
        """The next offset that must come, no further than `end`: what is hidden, or pruned by now, need not."""
        due = max(self._reached.of(stream) + 1, self._log.store.branches.first(stream))
        while due < end and (
            due < pruned
            or self._is_hidden(stream, due)
            or self._may_be_back(stream, due)
            or self._is_open(stream, due)
        ):
            due += 1
        return due

    def _may_be_back(self, stream: StreamId, offset: int) -> bool:
        """Whether an event may have been hidden until a retraction was withdrawn: then it comes behind others."""
        hidden = self._auditor.hidden
        named = map(hidden.was_named, hidden.keys[stream.base, offset])
        return bool(hidden.admin.revocations) and any(named)

    def _is_up_to_date(self, held: OffsetMap) -> bool:
        """Whether everything was handed over, and everything told that was hidden afterwards, and nothing else.

        Of what was pruned meanwhile nobody knows any more whom it concerned.
        """
        ends = ((stream, offset + 1) for stream, offset in self._log.named_now(held).items())
        kept = self._log.horizons
        hidden = [
            place
            for key, place in self._handed.items()
            if place[1] >= kept.get(place[0], 0)
            and self._auditor.hidden.hides(self._auditor, self.device, key)
        ]
        back = [self._placed(one) for one in self._gone if one[1] >= kept.get(one[0].base, 0)]
        return (
            all(self._due(*end) >= end[1] for end in ends)
            and all(place in self._told for place in hidden)
            and all(self._is_hidden(*place) or self._is_open(*place) for place in back)
        )

    async def check(self) -> None:
        """Hold what was seen against what is held, and end; nothing where the device was switched off meanwhile."""
        try:
            if self.device.running and self.device.starts == self._start:
                await self._compare()
        finally:
            await self.end()

    async def end(self) -> None:
        """Subscribe no longer. How the subscription ended where a device was switched off is nobody's business."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _compare(self) -> None:
        """Wait until everything was handed over. That it came once and in order was checked as it came."""
        held = self.device.node.offsets
        self._hesitation = None
        with suppress(TimeoutError):
            async with asyncio.timeout(LISTENER_S):
                while not self._is_up_to_date(held):
                    self._delivered.clear()
                    await self._delivered.wait()
        if not self._is_up_to_date(held):
            seen = self._reached
            raise LawBroken(
                f"law 11: a subscriber at {self.device.name} saw {seen}, there is {held};"
                f" it was told of {len(self._told)} retracted events"
            )


@dataclass(slots=True)
class StateWatch:
    """Law 8, at every state shown: equal sets of events give byte-equal states."""

    world: World
    shown: dict[tuple[str, int, OffsetMap], tuple[str, bytes]] = field(default_factory=dict)
    """For each fish (name, version) and set of events: which device showed a state first, and the state's digest."""
    last: dict[tuple[str, str, int], bytes] = field(default_factory=dict)
    """The digest of the state that each device showed last of each fish."""
    _watched: set[tuple[str, int, str]] = field(default_factory=set)

    def watch(self) -> None:
        """Watch every fish of every pond from its first commit on."""
        self.world.watchers.append(self._committed)

    def _committed(self, device: Device) -> None:
        for name in device.pond.running if device.running else ():
            if (device.name, device.starts, name) not in self._watched:
                self._watched.add((device.name, device.starts, name))
                fish = device.pond.find(name)
                assert fish is not None, "it runs"
                self.watch_fish(device, fish)

    def watch_fish(self, device: Device, fish: Fish[Any]) -> None:
        """Watch one fish of one device; that starts it. Fish of local events differ from node to node, and are not."""
        self._watched.add((device.name, device.starts, fish.name))
        if not is_local(fish):
            with suppress(PondClosed):  # the last commit of a pond is its snapshots
                device.pond.observe(fish, partial(self._shown, device, fish))

    async def check_last(self, device: Device, fish: Fish[Any]) -> None:
        """Law 8: who watches a fish has been shown its current state, once what the fish is at is done."""
        state = encode_state(await device.pond.current_state(fish))
        with suppress(TimeoutError):
            async with asyncio.timeout(SHOWN_S):
                while device.pond.running_fish(fish).is_busy:  # noqa: ASYNC110 - it may be keeping a snapshot
                    await asyncio.sleep(0.01)
        await asyncio.sleep(TOLD_S)
        if self.last[device.name, fish.name, fish.version] != hashlib.sha256(state).digest():
            raise LawBroken(f"law 8: {device.name} has not shown the current state of {fish.name}")

    def _shown(self, device: Device, fish: Fish[Any], state: Any) -> None:
        try:
            data = encode_state(state)
        except StateCodecError:
            return  # a state that cannot be compared is its author's choice; it is never kept in a snapshot either
        self.world.note(device.name, Kind.STATE, state_text(fish.name, data), data)
        residents = device.pond._residents.all
        current = residents[fish.name, fish.version].running._current
        assert current is not None, "it was shown"
        seen = (device.name, hashlib.sha256(data).digest())
        self.last[device.name, fish.name, fish.version] = seen[1]
        if any(stream.node in self.world.copied for stream in current.offsets):
            return  # before a fork is proven, one offset may stand for two events
        first = self.shown.setdefault((fish.name, fish.version, current.offsets), seen)
        if first[1] != seen[1]:
            self.world.broken(
                f"law 8: {fish.name} at {device.name} differs from {first[0]} at the same offsets"
            )


@dataclass(slots=True)
class PairWatch:
    """Law 15: healthy pairs progress though any third node is stalled, cut off or dead."""

    auditor: Auditor
    checked: int = 0

    def watch(self) -> None:
        """Look at every event that is written from now on."""
        self.auditor.authored.append(self._authored)

    def _authored(self, device: Device, stream: StreamId, offset: int) -> None:
        loop = asyncio.get_running_loop()
        healthy = self._healthy_neighbours(device, loop.time() - SETTLED_S)
        if healthy:
            loop.call_later(ARRIVAL_S, self._check, device, healthy, (stream, offset), loop.time())

    def _check(
        self, device: Device, targets: list[Device], event: tuple[StreamId, int], written: float
    ) -> None:
        still = self._healthy_neighbours(device, written - SETTLED_S)
        for target in targets:
            self.checked += 1
            if target in still and not self.auditor.holds(target, *event):
                self.auditor.world.broken(
                    f"law 15: {event[0]} {event[1]} is not at {target.name} {ARRIVAL_S} s after {device.name} wrote it"
                )

    def healthy_neighbours(self, device: Device) -> list[Device]:
        """Neighbours that have been linked with a device, well and quick, for long enough to count on them."""
        return self._healthy_neighbours(device, asyncio.get_running_loop().time() - SETTLED_S)

    def _healthy_neighbours(self, device: Device, since: float) -> list[Device]:
        world = self.auditor.world
        if not _was_well(device, since) or device.identity.node in world.copied:
            return []  # peers are linked with a device or with its copy, in turns
        if device not in world.members:
            return []
        return [
            other
            for other in world.linked_with(device)
            if _was_well(other, since)
            and other.identity.node not in world.copied
            and other in world.members
            and world.open_since(device, other) <= since
            and not _distrust(other, device)
        ]


def is_local(fish: Fish[Any]) -> bool:
    """Whether a fish selects by where an event was published."""
    return any(one.local for one in fish.where.alternatives)


def _was_well(device: Device, since: float) -> bool:
    """Whether a device has been running on a disk with room since then."""
    return device.running and device.well_since <= since and not device.platter.full


def _distrust(target: Device, source: Device) -> bool:
    """Whether something forged stands between two devices: one banned the other, or the target set a stream aside."""
    banned = target.node.peers._bans.until, source.node.peers._bans.until
    links = target.node.peers._links.values()
    return (
        source.node.id in banned[0]
        or target.node.id in banned[1]
        or any(link.session.diverged for link in links)
    )


def check_trust(world: World) -> None:
    """Law 15, for the honest: nobody is banned through whom nothing was forged, and no stream is set aside without."""
    for device in world.nodes:
        if not device.running:
            continue
        # A copy remembers whom its original bans.
        bearers = [one.name for one in world.bearers(device)]
        liars = [
            one
            for one in world.nodes
            if any(world.air.link(one.name, name).was_forged for name in bearers)
        ]
        innocent = set(device.node.peers._bans.until) - {one.identity.node for one in liars}
        if innocent:
            names = sorted(world.name_of(node) for node in innocent)
            raise LawBroken(f"law 15: {device.name} bans {', '.join(names)}, who forged nothing")
        if not liars and any(peer.diverged for peer in device.node.peers.status()):
            raise LawBroken(f"law 15: {device.name} set a stream aside, and nothing was forged")


def check_channels(world: World) -> None:
    """Law 14: in a world at rest, connections are those of links, and the odd one that is being made."""
    for device in world.members:
        links = len(device.node.peers.linked)
        if device.open_channels > links + SPARE_CHANNELS:
            raise LawBroken(
                f"law 14: {device.name}: {device.open_channels} channels, {links} links"
            )
