"""Frames: consecutive events of one stream in columns, from which their exact bytes come back.

    head        the stream's local number, first offset, number of events, number of shapes
    numbers     Lamport and wall clock timestamps as differences, numbers of shapes, sizes of payloads and of shapes
    shapes      each distinct pair of tags and application id, as the bytes that it has within an event
    payloads    as the bytes that they have within their events

An event's bytes are an array of five: `[lamport, timestamp, tags, app id, payload]`. Where its author encoded the first
four as we do, they are rebuilt from the columns; an event of any other shape (a foreign encoder, a newer version's
fields) stands whole in the place of its payload. So nothing is ever encoded anew that could come out otherwise, and as
both are msgpack, all payloads of a frame are decoded by one call.

Pure functions and values; `lamport.blocks` compresses frames and puts them together.
"""

import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import accumulate, pairwise, repeat
from typing import Any, NamedTuple

import msgpack

from lamport.codec import array_head
from lamport.event import Event
from lamport.ids import EventKey, StreamId

_HEAD = struct.Struct("<IQHH")
_NUMBER = struct.Struct("<H")
_WHOLE = 0
"""The number of the shape of an event that stands in its frame whole; shapes are counted from 1."""

_FAR = 2**61
"""Events with a timestamp further from zero stand in their frame whole, so that differences have 64 bits."""

_NO_SHAPE = b"\x90\xa0"
"""What stands for it there: no tags, and an empty application id."""

_KEPT_SHAPES = 4_096
_ARRAY_OF_FIVE = b"\x95"
_FIELDS = 5
_LAYOUTS = 1_024
"""Layouts that are remembered, by the numbers of events and shapes: those of full frames."""

_unpack = msgpack.unpackb
_new = tuple.__new__
"""Makes named tuples by the million at half the price of calling their class."""

Pack = Callable[[Any], bytes]


class Filed(NamedTuple):
    """An event's bytes, and the Lamport timestamp in them."""

    lamport: int
    data: bytes


class MisfiledEvent(ValueError):
    """An event's bytes tell another timestamp than it is filed under."""


class Frame:
    """The events of a frame. The event at position `i`, from 0, has the offset `offset + i`.

    Columns are read when they are asked for: one event of a frame takes little more than its own decoding.
    """

    __slots__ = ("_content", "_layout", "count", "lamports", "offset", "row")

    def __init__(self, content: bytes) -> None:
        self.row, self.offset, self.count, shapes = _HEAD.unpack_from(content)
        self._content = content
        self._layout = layout = _layout(self.count, shapes)
        self.lamports = tuple(accumulate(layout.lamports.unpack_from(content, _HEAD.size)))

    def single(self, stream: StreamId, at: int) -> Event:
        """The event at this position, decoded."""
        content, layout = self._content, self._layout
        sizes = layout.sizes.unpack_from(content, layout.sizes_at)
        start = len(content) - sum(sizes[at:])
        payload = _unpack(content[start : start + sizes[at]])
        stamp = sum(layout.stamps.unpack_from(content, layout.stamps_at)[: at + 1])
        [number] = _NUMBER.unpack_from(content, layout.numbers_at + at * _NUMBER.size)
        tags, app_id = _shape(self._shape_of(number, start - sum(sizes[:at])))
        key = _new(EventKey, (self.lamports[at], stream))
        event: Event = _new(Event, (key, self.offset + at, stamp, tags, app_id, payload))
        return event if number else _taken_apart(event)

    def span(self, stream: StreamId, start: int, stop: int) -> list[Event]:
        """The events from one position to before another, decoded at once."""
        if start >= stop:
            return []
        numbers = self._numbers()[start:stop]
        if _WHOLE in numbers:  # a newer version may nest it as deep as can be decoded at all
            return [self.single(stream, at) for at in range(start, stop)]
        ends = self._ends()
        payloads = _unpack(array_head(stop - start) + self._content[ends[start] : ends[stop]])
        known = map(_shape, map(self._shapes().__getitem__, numbers))
        keys = map(_new, repeat(EventKey), zip(self.lamports[start:stop], repeat(stream)))
        offsets = range(self.offset + start, self.offset + stop)
        tags, app_ids = zip(*known, strict=True)
        fields = zip(
            keys, offsets, self._timestamps()[start:stop], tags, app_ids, payloads, strict=True
        )
        return list(map(_new, repeat(Event), fields))

    def bytes_at(self, positions: Iterable[int]) -> Iterator[bytes]:
        """The bytes of the events at these positions, as their author wrote them."""
        pack: Pack = msgpack.Packer().pack
        stamps, numbers, shapes = self._timestamps(), self._numbers(), self._shapes()
        ends = self._ends()
        for at in positions:
            payload = self._content[ends[at] : ends[at + 1]]
            if numbers[at] == _WHOLE:
                yield payload
            else:
                head = _event_head(self.lamports[at], stamps[at], pack)
                yield b"".join((head, shapes[numbers[at]], payload))

    def _ends(self) -> tuple[int, ...]:
        """Where the payloads begin, and where each of them ends."""
        sizes = self._layout.sizes.unpack_from(self._content, self._layout.sizes_at)
        return tuple(accumulate(sizes, initial=len(self._content) - sum(sizes)))

    def _timestamps(self) -> tuple[int, ...]:
        layout = self._layout
        return tuple(accumulate(layout.stamps.unpack_from(self._content, layout.stamps_at)))

    def _numbers(self) -> tuple[int, ...]:
        return self._layout.numbers.unpack_from(self._content, self._layout.numbers_at)

    def _shapes(self) -> list[bytes]:
        layout = self._layout
        sizes = layout.shapes.unpack_from(self._content, layout.shapes_at)
        ends = tuple(accumulate(sizes, initial=layout.end))
        content = self._content
        return [_NO_SHAPE, *(map(content.__getitem__, map(slice, ends, ends[1:])))]

    def _shape_of(self, number: int, payloads: int) -> bytes:
        """The shape with this number; `payloads` is where the payloads begin, and so the shapes end."""
        if number == _WHOLE:
            return _NO_SHAPE
        layout = self._layout
        behind = layout.shapes.unpack_from(self._content, layout.shapes_at)[number - 1 :]
        start = payloads - sum(behind)
        return self._content[start : start + behind[0]]


class _Layout(NamedTuple):
    """The columns of numbers of a frame, and where they stand in it."""

    lamports: struct.Struct
    stamps: struct.Struct
    numbers: struct.Struct
    sizes: struct.Struct
    shapes: struct.Struct
    stamps_at: int
    numbers_at: int
    sizes_at: int
    shapes_at: int
    end: int


@lru_cache(maxsize=_LAYOUTS)
def _layout(count: int, shapes: int) -> _Layout:
    lamports, stamps, numbers, sizes = (struct.Struct(f"<{count}{kind}") for kind in "QqHI")
    columns = lamports, stamps, numbers, sizes, struct.Struct(f"<{shapes}H")
    _, *places = accumulate((one.size for one in columns), initial=_HEAD.size)
    stamps_at, numbers_at, sizes_at, shapes_at, end = places
    return _Layout(*columns, stamps_at, numbers_at, sizes_at, shapes_at, end)


def pack_frame(row: int, offset: int, events: Sequence[Filed], pack: Pack) -> bytes:
    """A frame of these events, which follow each other from `offset` on."""
    numbers: dict[bytes, int] = {}
    timestamps, shapes, payloads = list[int](), list[int](), list[bytes]()
    timestamp = 0
    for event in events:
        shape, payload, stamp = _apart(event, pack)
        timestamp = timestamp if stamp is None else stamp
        timestamps.append(timestamp)
        shapes.append(_WHOLE if shape is None else numbers.setdefault(shape, len(numbers) + 1))
        payloads.append(payload)
    layout = _layout(len(events), len(numbers))
    columns = (
        layout.lamports.pack(*_steps([lamport for lamport, _ in events])),
        layout.stamps.pack(*_steps(timestamps)),
        layout.numbers.pack(*shapes),
        layout.sizes.pack(*map(len, payloads)),
        layout.shapes.pack(*map(len, numbers)),
    )
    head = _HEAD.pack(row, offset, len(events), len(numbers))
    return b"".join((head, *columns, *numbers, *payloads))


def _apart(event: Filed, pack: Pack) -> tuple[bytes | None, bytes, int | None]:
    """Shape, payload and timestamp of an event; None, its bytes and None where they could not be put together again."""
    lamport, data = event
    fields = _unpack(data)
    if fields[0] != lamport:
        raise MisfiledEvent("an event is filed under another timestamp than its own")
    if len(fields) == _FIELDS:
        stamp, tags, app_id = fields[1:4]
        head, shape = _event_head(lamport, stamp, pack), pack(tags) + pack(app_id)
        if -_FAR < stamp < _FAR and data.startswith(head + shape):
            return shape, data[len(head) + len(shape) :], stamp
    return None, data, None


def _taken_apart(event: Event) -> Event:
    """An event that stands whole where its payload should be."""
    timestamp, tags, app_id, payload = event.payload[1:_FIELDS]
    return event._replace(timestamp=timestamp, tags=tuple(tags), app_id=app_id, payload=payload)


def _event_head(lamport: int, timestamp: int, pack: Pack) -> bytes:
    return b"".join((_ARRAY_OF_FIVE, pack(lamport), pack(timestamp)))


@lru_cache(maxsize=_KEPT_SHAPES)
def _shape(data: bytes) -> tuple[tuple[str, ...], str]:
    """Tags and application id: two msgpack values, one behind the other."""
    tags, app_id = _unpack(array_head(2) + data)
    return tuple(tags), app_id


def _steps(numbers: Sequence[int]) -> list[int]:
    return [numbers[0], *(after - before for before, after in pairwise(numbers))]
