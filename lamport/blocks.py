"""Blocks: consecutive events of one stream in columns, compressed, from which their exact bytes come back.

    head        version, the stream's local number, first offset, number of events, bytes of the shapes
    numbers     Lamport timestamps and wall clock timestamps as differences, numbers of shapes, sizes of payloads
    shapes      each distinct pair of tags and application id, as the bytes that it has within an event
    payloads    as the bytes that they have within their events

An event's bytes are an array of five: `[lamport, timestamp, tags, app id, payload]`. Where its author encoded the first
four as we do, they are rebuilt from the columns; an event of any other shape (a foreign encoder, a newer version's
fields) stands whole in the place of its payload. So nothing is ever encoded anew that could come out otherwise, and as
both are msgpack, all payloads of a block are decoded by one call. The whole is one zstd frame with a checksum of its
content, and names its own place: a bit that flips is noticed wherever it is, and so is a block in a wrong place.

Pure functions and values; where blocks are kept is `lamport.event_table`'s business.
"""

import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import accumulate, pairwise, repeat
from typing import Any, NamedTuple

import msgpack
import zstandard

from lamport.codec import MAX_EVENT_BYTES
from lamport.event import Event
from lamport.ids import EventKey, StreamId

BLOCK_EVENTS = 170
"""Most events of a block: with fewer they compress worse, with more one costs more to get at. Six make 1,000."""

BLOCK_BYTES = 64 * 1024
"""Beyond so many bytes of events a block takes no more. (One event is always allowed.)"""

LEVEL = 6
"""Of compression: three takes less than half the time, in the background, and four bytes more for each event."""

_MAX_CONTENT = 4 * (BLOCK_BYTES + MAX_EVENT_BYTES)
"""Of what a block is decompressed to: more was never put in."""

_VERSION = 1
_HEAD = struct.Struct("<BIQHI")
_NUMBER = struct.Struct("<H")
_WHOLE = 0
"""The number of the shape of an event that stands in its block whole; shapes are counted from 1."""

_FAR = 2**61
"""Events with a timestamp further from zero stand in their block whole, so that differences have 64 bits."""

_NO_SHAPE = b"\x90\xa0"
"""What stands for it there: no tags, and an empty application id."""

_KEPT_SHAPES = 4_096
_EVENT_OVERHEAD = 150
_ARRAY_OF_FIVE = b"\x95"
_FIELDS = 5

_unpack = msgpack.unpackb
_new = tuple.__new__
"""Makes named tuples by the million at half the price of calling their class."""

Decompress = Callable[[bytes], bytes]
Pack = Callable[[Any], bytes]


class Filed(NamedTuple):
    """An event's bytes, and the Lamport timestamp in them."""

    lamport: int
    data: bytes


class Packed(NamedTuple):
    """A block as it is stored: the timestamps of its first and last event, its place in its stream, and its data."""

    first_lamport: int
    last_lamport: int
    offset: int
    events: int
    data: bytes


class Block:
    """An opened block. The event at position `i`, from 0, has the offset `offset + i`.

    Columns are read when they are asked for: one event of a block takes little more than its own decoding.
    """

    __slots__ = (
        "_content",
        "_ends",
        "_payloads",
        "_shapes",
        "_stamps",
        "lamports",
        "offset",
        "row",
    )

    def __init__(self, content: bytes) -> None:
        """Use `open_block`."""
        version, self.row, self.offset, count, listed = _HEAD.unpack_from(content)
        if version != _VERSION:
            raise ValueError(f"it is of version {version}, this program reads {_VERSION}")
        columns = _columns(count)
        self._content = content
        self._payloads = columns.end + listed
        self.lamports = tuple(accumulate(columns.lamports.unpack_from(content, _HEAD.size)))
        sizes = columns.sizes.unpack_from(content, columns.sizes_at)
        self._ends = tuple(accumulate(sizes, initial=self._payloads))
        self._stamps: tuple[int, ...] = ()
        self._shapes: list[bytes] | None = None

    @property
    def count(self) -> int:
        """How many events there are."""
        return len(self.lamports)

    @property
    def size(self) -> int:
        """Bytes of memory that it takes, about."""
        return len(self._content) + _EVENT_OVERHEAD * self.count

    def events(self, stream: StreamId, positions: Sequence[int]) -> list[Event]:
        """The events at these positions, decoded; a range of them at once."""
        if isinstance(positions, range):
            return self._span(stream, positions.start, positions.stop)
        return [self._single(stream, at) for at in positions]

    def bytes_at(self, positions: Iterable[int]) -> Iterator[bytes]:
        """The bytes of the events at these positions, as their author wrote them."""
        pack: Pack = msgpack.Packer().pack
        stamps, numbers, shapes = self._timestamps(), self._numbers(), self._listed()
        for at in positions:
            payload = self._content[self._ends[at] : self._ends[at + 1]]
            if numbers[at] == _WHOLE:
                yield payload
            else:
                head = _event_head(self.lamports[at], stamps[at], pack)
                yield b"".join((head, shapes[numbers[at]], payload))

    def _single(self, stream: StreamId, at: int) -> Event:
        payload = _unpack(self._content[self._ends[at] : self._ends[at + 1]])
        columns = _columns(self.count)
        [number] = _NUMBER.unpack_from(self._content, columns.numbers_at + at * _NUMBER.size)
        tags, app_id = _shape(self._listed()[number])
        key = _new(EventKey, (self.lamports[at], stream))
        stamp = self._timestamps()[at]
        event: Event = _new(Event, (key, self.offset + at, stamp, tags, app_id, payload))
        return event if number else _taken_apart(event)

    def _span(self, stream: StreamId, start: int, stop: int) -> list[Event]:
        if start >= stop:
            return []
        part = self._content[self._ends[start] : self._ends[stop]]
        payloads = _unpack(_array_head(stop - start) + part)
        numbers = self._numbers()[start:stop]
        known = map(_shape, map(self._listed().__getitem__, numbers))
        keys = map(_new, repeat(EventKey), zip(self.lamports[start:stop], repeat(stream)))
        offsets = range(self.offset + start, self.offset + stop)
        tags, app_ids = zip(*known, strict=True)
        stamps = self._timestamps()[start:stop]
        fields = zip(keys, offsets, stamps, tags, app_ids, payloads, strict=True)
        events: list[Event] = list(map(_new, repeat(Event), fields))
        if _WHOLE in numbers:
            return [
                event if n else _taken_apart(event)
                for event, n in zip(events, numbers, strict=True)
            ]
        return events

    def _timestamps(self) -> tuple[int, ...]:
        if not self._stamps:
            columns = _columns(self.count)
            steps = columns.stamps.unpack_from(self._content, columns.stamps_at)
            self._stamps = tuple(accumulate(steps))
        return self._stamps

    def _numbers(self) -> tuple[int, ...]:
        columns = _columns(self.count)
        return columns.numbers.unpack_from(self._content, columns.numbers_at)

    def _listed(self) -> list[bytes]:
        if self._shapes is None:
            listed = _unpack(self._content[_columns(self.count).end : self._payloads])
            self._shapes = [_NO_SHAPE, *listed]
        return self._shapes


class _Columns(NamedTuple):
    """The columns of numbers of a block, and where they stand in it."""

    lamports: struct.Struct
    stamps: struct.Struct
    numbers: struct.Struct
    sizes: struct.Struct
    stamps_at: int
    numbers_at: int
    sizes_at: int
    end: int


@lru_cache(maxsize=2 * BLOCK_EVENTS)
def _columns(count: int) -> _Columns:
    structs = [struct.Struct(f"<{count}{kind}") for kind in "QqHI"]
    lamports, stamps, numbers, sizes = structs
    places = tuple(accumulate((one.size for one in structs), initial=_HEAD.size))
    return _Columns(lamports, stamps, numbers, sizes, *places[1:])


def pack_events(row: int, offset: int, events: Sequence[Filed]) -> Iterator[Packed]:
    """Blocks of consecutive events from `offset` on, of about the same length."""
    compress = zstandard.ZstdCompressor(LEVEL, write_checksum=True).compress
    pack: Pack = msgpack.Packer().pack  # this may run in any thread
    for part in _parts(events):
        content = _content(row, offset, part, pack)
        yield Packed(part[0].lamport, part[-1].lamport, offset, len(part), compress(content))
        offset += len(part)


def open_block(data: bytes, decompress: Decompress | None = None) -> Block:
    """Decompress a block and read its columns. `decompress` may be kept by who opens many, in one thread.

    Raises:
        ValueError: these are not the bytes of a block.
    """
    try:
        frame = zstandard.get_frame_parameters(data)
        if not frame.has_checksum or not 0 < frame.content_size <= _MAX_CONTENT:
            raise ValueError("no frame of a block")
        content = (decompress or zstandard.ZstdDecompressor().decompress)(data)
        return Block(content)
    except (zstandard.ZstdError, struct.error, msgpack.UnpackException, TypeError) as error:
        raise ValueError(f"it cannot be decompressed ({error})") from error


def _parts(events: Sequence[Filed]) -> Iterator[Sequence[Filed]]:
    """Cut events into parts for one block each, as even as their number allows."""
    whole = -(-len(events) // BLOCK_EVENTS)
    most = -(-len(events) // whole) if whole else 0
    start = size = 0
    for at, (_, data) in enumerate(events):
        if at > start and (at - start >= most or size + len(data) > BLOCK_BYTES):
            yield events[start:at]
            start, size = at, 0
        size += len(data)
    if events:
        yield events[start:]


def _content(row: int, offset: int, events: Sequence[Filed], pack: Pack) -> bytes:
    numbers: dict[bytes, int] = {}
    timestamps, shapes, payloads = list[int](), list[int](), list[bytes]()
    timestamp = 0
    for event in events:
        shape, payload, stamp = _apart(event, pack)
        timestamp = timestamp if stamp is None else stamp
        timestamps.append(timestamp)
        shapes.append(_WHOLE if shape is None else numbers.setdefault(shape, len(numbers) + 1))
        payloads.append(payload)
    listed, count = pack(list(numbers)), len(events)
    columns, head = _columns(count), _HEAD.pack(_VERSION, row, offset, count, len(listed))
    numbers_of = (
        columns.lamports.pack(*_steps([lamport for lamport, _ in events])),
        columns.stamps.pack(*_steps(timestamps)),
        columns.numbers.pack(*shapes),
        columns.sizes.pack(*map(len, payloads)),
    )
    return b"".join((head, *numbers_of, listed, *payloads))


def _apart(event: Filed, pack: Pack) -> tuple[bytes | None, bytes, int | None]:
    """Shape, payload and timestamp of an event; None, its bytes and None where they could not be put together again."""
    lamport, data = event
    fields = _unpack(data)
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
    tags, app_id = _unpack(_array_head(2) + data)
    return tuple(tags), app_id


def _array_head(count: int) -> bytes:
    return struct.pack("!BI", 0xDD, count)


def _steps(numbers: Sequence[int]) -> list[int]:
    return [numbers[0], *(after - before for before, after in pairwise(numbers))]
