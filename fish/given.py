"""What reducers are given beside state and payload, for many events at once.

A fold of everything that is stored calls a reducer for each event; what is made for a call is then most of what the
call costs. So metadata are made column by column, without a line of Python for each event, and only as they are asked
for. They are those of `Metadata.of`.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import repeat
from operator import itemgetter
from typing import Any, NamedTuple

from fish.definition import Metadata
from lamport.event import Event
from lamport.ids import EventKey, NodeId, StreamId

_new: Any = tuple.__new__
"""Named tuples are made as by the class itself, and in half the time."""

_STREAM = itemgetter(1)
"""Of a key."""


class Given(NamedTuple):
    """What reducers are given, and how far the events reach in their streams."""

    payloads: Sequence[Any]
    metadata: Iterator[Metadata]
    reached: dict[StreamId, int]


def given_with(events: Sequence[Event], node: NodeId) -> Given:
    """What goes with these events (at least one) as seen at a node. Those of a stream come in its order."""
    keys, offsets, timestamps, tags, app_ids, payloads = zip(*events, strict=True)
    streams = list(map(_STREAM, keys))
    first = streams[0]
    local: Iterable[bool]
    if streams.count(first) == len(streams):  # most of what comes together is of one author
        reached = {first: offsets[-1]}
        local = repeat(first.node == node, len(streams))
    else:
        reached = dict(zip(streams, offsets, strict=True))
        is_local = {stream: stream.node == node for stream in reached}
        local = map(is_local.__getitem__, streams)
    named: Iterable[EventKey] = keys
    if any(stream.branch for stream in reached):
        named = [_named(key) for key in keys]
    fields = zip(named, offsets, timestamps, tags, app_ids, local, strict=True)
    return Given(payloads, map(_new, repeat(Metadata), fields), reached)


def reached_by(events: Iterable[Event]) -> dict[StreamId, int]:
    """How far these events reach in their streams."""
    return {event[0][1]: event[1] for event in events}


def _named(key: EventKey) -> EventKey:
    return EventKey(key.lamport, key.stream.base) if key.stream.branch else key
