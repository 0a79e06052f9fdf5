"""What is retracted, worked out from the bytes that were said: the laws' own way, beside the log's.

An event is hidden on a device if a retraction that the device holds names it and counts: every event that it names is
by the retraction's own author, or the admin signed it (whoever signs in a simulation is the admin). A retraction that
counts is never hidden itself.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import msgpack

from lamport.event import Event
from lamport.ids import EventKey, StreamId
from simulations.device import Device
from simulations.errors import LawBroken
from simulations.histories import Counted
from simulations.revoking import Admin

_TAG = "shoal:retract"

Place = tuple[StreamId, int]
"""A stream and an offset."""


class Said(Protocol):
    """What was said in a run, and who holds it."""

    @property
    def said(self) -> Iterable[Place]:
        """Where an event was ever written, in the order it was."""
        ...

    @property
    def hidden(self) -> "Hidden":
        """What is retracted."""
        ...

    def holds(
        self, device: Device, stream: StreamId, offset: int, hash_: bytes | None = None
    ) -> bool:
        """Whether an event was seen on a device's disk: any at this place, or the one with this hash."""
        ...

    def held(self, device: Device) -> Iterable[tuple[Place, EventKey, bytes]]:
        """All that was seen on a device's disk, with the hashes."""
        ...


@dataclass(slots=True)
class Hidden:
    """All retractions of a run, and what its admin withdraws, which hides as much.

    `keys` are those of all events by their places: on each branch of a stream another.
    """

    admin: Admin
    keys: dict[Place, list[EventKey]] = field(default_factory=dict)
    _named: dict[EventKey, list[tuple[StreamId, int, bytes]]] = field(default_factory=dict)
    """The retractions that name an event, by their places and hashes."""
    _counting: set[EventKey] = field(default_factory=set)

    def note(self, stream: StreamId, offset: int, data: bytes, hash_: bytes) -> None:
        """Take up an event that was just written."""
        lamport, _, tags, _, payload = msgpack.unpackb(data, strict_map_key=False)
        key = EventKey(lamport, stream)
        self.keys.setdefault((stream, offset), []).append(key)
        if _TAG in tags:
            named = [EventKey.parse(text) for text in payload["keys"]]
            if "admin" in payload or all(one.stream.node == stream.node for one in named):
                self._counting.add(key)
                for one in named:
                    self._named.setdefault(one, []).append((stream, offset, hash_))

    def at(self, run: Said, device: Device, stream: StreamId, offset: int) -> bool:
        """Whether an event is hidden on a device now, if it is there."""
        if self.admin.withdraws(device, stream, offset):
            return True
        return any(self.hides(run, device, key) for key in self.keys[stream.base, offset])

    def hides(self, run: Said, device: Device, key: EventKey) -> bool:
        """Whether the events with this key, on whichever branch, are hidden on a device now."""
        key = EventKey(key.lamport, key.stream.base)
        by = self._named.get(key, ()) if key not in self._counting else ()
        counting = (place for place in by if not self.admin.withdraws(device, *place))
        return any(run.holds(device, *place) for place in counting)

    def was_named(self, key: EventKey) -> bool:
        """Whether any retraction, counting now or not, names the events with this key."""
        return EventKey(key.lamport, key.stream.base) in self._named


def names_said(run: Said, author: bytes | None) -> list[EventKey]:
    """The keys of everything that was ever written, by one node or by all."""
    keys = (key for place in run.said for key in run.hidden.keys[place])
    return [key for key in keys if author is None or key.stream.node == author]


def check_hidden(run: Said, device: Device, shown: Sequence[Event]) -> None:
    """Hold what a device answers to a query for everything against what it holds without what is hidden.

    Raises:
        LawBroken: it shows what is retracted, or hides what is not.
    """
    kept, counted = device.node.log.horizons, run.hidden.admin.counted
    held: defaultdict[Counted, list[EventKey]] = defaultdict(list)
    for (stream, offset), key, hash_ in run.held(device):
        if offset >= kept.get(stream, 0):
            held[counted(device, stream, offset, hash_)].append(key)
    due = {key for key in held[Counted.YES] if not run.hidden.hides(run, device, key)}
    seen = {
        EventKey(event.lamport, event.stream.base)
        for event in shown
        if event.offset >= kept.get(event.stream.base, 0)  # it may have been pruned since
    } - set(held[Counted.OPEN]).difference(due)
    for wrong, text in ((seen - due, "shows what was retracted"), (due - seen, "hides")):
        if wrong:
            raise LawBroken(f"law 6: {device.name} {text}: {min(wrong)}")
