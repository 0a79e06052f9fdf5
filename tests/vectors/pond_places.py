"""Where a vector's events stand on a real node: streams for its labels, Lamport timestamps for its numbers.

A label such as `A-0` becomes the stream of an enrolled device; devices are given out in the order of the labels, so
that streams sort as labels do. Timestamps keep their order and, wherever possible, their distances; there is more room
before one at which a stream starts behind offset 0, for the events that fill it up, and less where a vector leaps
further than a node takes.
"""

import random
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from lamport.chain import (
    MAX_SEALED_BYTES,
    MAX_SEALED_EVENTS,
    Head,
    Seal,
    SealedRange,
    chained,
    genesis,
)
from lamport.codec import encode_draft, encode_event
from lamport.event import draft
from lamport.ids import MIN_DRAWN_STREAM_NUMBER, StreamId
from shoal.keys import IdentityKeys
from transport.identity import Identity, enrol, make_swarm

FILLER = "filler of the vectors"
"""The tag of events that only fill a stream up."""

LARGEST_GAP = 2**31
"""Furthest that one timestamp lies above the one before: a node takes no leap of more than 2**32."""

MICROSECONDS = 1_000_000


class Pushed(NamedTuple):
    """One event as a vector pushes it; `offset` is None where it follows on the one before."""

    stream: str
    lamport: int
    tags: tuple[str, ...]
    payload: Any
    timestamp: int
    offset: int | None = None


class Timetable:
    """Which timestamp stands for which."""

    def __init__(self, room: Mapping[int, int]) -> None:
        """`room` says for each of the vector's timestamps how many there must be free before it."""
        self._labels = sorted(room)
        self._stamps: list[int] = []
        label = stamp = 0
        for one in self._labels:
            stamp += max(min(one - label, LARGEST_GAP), room[one] + 1)
            label = one
            self._stamps.append(stamp)

    def stamp(self, label: int) -> int:
        """The node's timestamp for one of the vector's."""
        place = bisect_right(self._labels, label) - 1
        return label if place < 0 else self._stamps[place] + label - self._labels[place]

    def label(self, stamp: int) -> int:
        """The vector's timestamp for one of the node's: what comes between is counted from the one before."""
        place = bisect_right(self._stamps, stamp) - 1
        return stamp if place < 0 else self._labels[place] + stamp - self._stamps[place]


class Author:
    """Writes one stream of another device."""

    def __init__(self, identity: Identity, number: int) -> None:
        self._keys = IdentityKeys(identity)
        self.head: Head = genesis(self._keys.swarm, StreamId(identity.node, number))

    @property
    def next(self) -> int:
        """The offset of the next event."""
        return self.head.offset + 1

    def write(self, events: Iterable[tuple[int, bytes]]) -> list[SealedRange]:
        """Seal these events (timestamp, bytes) behind the head, in ranges that fit a frame."""
        ranges: list[SealedRange] = []
        waiting: list[tuple[int, bytes]] = []
        size = 0
        for lamport, data in events:
            if waiting and (
                len(waiting) == MAX_SEALED_EVENTS or size + len(data) > MAX_SEALED_BYTES
            ):
                ranges.append(self._sealed(waiting))
                waiting, size = [], 0
            waiting.append((lamport, data))
            size += len(data)
        return [*ranges, self._sealed(waiting)] if waiting else ranges

    def _sealed(self, events: list[tuple[int, bytes]]) -> SealedRange:
        stream, first, lamport = self.head.stream, self.next, events[-1][0]
        data = tuple(one for _, one in events)
        hash_ = chained(self.head.hash, data)
        self.head = Head(stream, self.head.offset + len(data), hash_, lamport)
        seal = Seal(stream, self.head.offset, hash_, lamport, 0).signed(self._keys)
        return SealedRange(first, data, seal, self._keys.certificate)


class Places:
    """The devices, streams and timestamps of one vector."""

    def __init__(
        self, labels: Iterable[str], local: str, streams_of_local: Iterable[str], times: Timetable
    ) -> None:
        """Labels in `streams_of_local` are streams of the node under test; `local` is the one it writes itself."""
        randomness = random.Random("vectors")
        key = make_swarm(randomness)[0]
        own = sorted({*streams_of_local} or {local})
        foreign = sorted({*labels} - {*own, local})
        devices = sorted([*foreign, own[0]])
        enrolled = sorted((enrol(key, randomness) for _ in devices), key=lambda one: one.node)
        identities = dict(zip(devices, enrolled, strict=True))
        self.identity = identities[own[0]]
        self.times = times
        self._local = local
        self._authors = {
            label: Author(identities[label], MIN_DRAWN_STREAM_NUMBER) for label in foreign
        }
        self._authors |= {
            label: Author(self.identity, number) for number, label in enumerate({*own, local})
        }
        self._labels = {author.head.stream: label for label, author in self._authors.items()}

    def author(self, label: str) -> Author:
        """Who writes the stream of this label."""
        return self._authors[label]

    def stream(self, label: str) -> StreamId:
        """The stream of this label, where it is not the one that the node writes itself."""
        return self._authors[label].head.stream

    def label(self, stream: StreamId) -> str:
        """The label of a stream."""
        return self._labels.get(stream, self._local)

    def ranges(self, events: Iterable[Pushed]) -> list[list[SealedRange]]:
        """These events, sealed by their authors; for each stream its ranges in order."""
        waiting: dict[str, list[tuple[int, bytes]]] = {}
        for event in events:
            lamport = self.times.stamp(event.lamport)
            written = waiting.setdefault(event.stream, [])
            due = self.author(event.stream).next + len(written)
            gap = max(0, (due if event.offset is None else event.offset) - due)
            written.extend(fillers(lamport, gap))
            written.append((lamport, _encoded(lamport, event.timestamp, event.tags, event.payload)))
        return [self.author(label).write(written) for label, written in waiting.items()]

    def filled_up(self, label: str, offset: int, lamport: int) -> list[SealedRange]:
        """Events that nothing matches, until a stream reaches this offset, at or below this timestamp."""
        author = self.author(label)
        return author.write(fillers(self.times.stamp(lamport) + 1, offset + 1 - author.next))


def fillers(below: int, count: int) -> list[tuple[int, bytes]]:
    """So many events that nothing matches, their timestamps right below one."""
    return [(below - n, _encoded(below - n, 0, (FILLER,), None)) for n in range(count, 0, -1)]


def _encoded(lamport: int, timestamp: int, tags: tuple[str, ...], payload: Any) -> bytes:
    return encode_event(lamport, timestamp, encode_draft(draft(tags, payload)))
