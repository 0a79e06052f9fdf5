"""Folding machines by hand: events by name, at Lamport timestamps, from streams of which each has an author."""

from collections.abc import Mapping
from typing import Any

from fish.definition import Metadata
from fish.machines import Instance, System, World
from fish.machines.addresses import tags_of
from lamport.event import Event
from lamport.ids import EventKey, NodeId, StreamId

STREAMS = {name: StreamId(NodeId(bytes([number]) * 32), 1) for number, name in enumerate("ABC")}

Said = tuple[int, str, str, Mapping[str, Any]]
"""Lamport timestamp, author, address, event."""


def key(lamport: int, author: str = "A") -> str:
    """The text of an event's key, as payloads name it."""
    return str(EventKey(lamport, STREAMS[author]))


def metadata(lamport: int, author: str, address: str) -> Metadata:
    at = EventKey(lamport, STREAMS[author])
    return Metadata(at, lamport, 0, tuple(tags_of(address)), "test", is_local=False)


def fold(system: System, *said: Said) -> World:
    """Fold events in key order."""
    world = World()
    for lamport, author, address, event in sorted(said, key=lambda one: (one[0], one[1])):
        world = system(world, event, metadata(lamport, author, address))
    return world


def one(system: System, address: str, *types: str | Mapping[str, Any]) -> Instance:
    """What one machine becomes of events by a single author."""
    events = [{"type": one} if isinstance(one, str) else one for one in types]
    world = fold(system, *((place + 1, "A", address, event) for place, event in enumerate(events)))
    return world.instances[address]


def reasons(world: World) -> list[str | None]:
    """Why events were dropped, in order."""
    return [passage.reason for passage in world.passages if passage.kind == "dropped"]


def logged(offset: int, lamport: int, author: str, address: str, event: Mapping[str, Any]) -> Event:
    """An event as a log holds it."""
    return Event(
        EventKey(lamport, STREAMS[author]), offset, 0, tuple(tags_of(address)), "test", event
    )
