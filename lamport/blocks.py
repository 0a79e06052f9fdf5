"""Blocks: old events of one stream as they are stored: a directory, and behind it compressed frames.

    directory   version, dictionary, the last event's timestamp; of each frame its first event's, its events, its bytes;
                CRC-32
    frames      each of `lamport.frames`, one zstd frame with a checksum of its content

A reader of one event decompresses the one frame that holds it, and a block is still large enough to cost the database
little. Frames are compressed with a dictionary (`lamport.dictionaries`) of what events have in common, as they are too
short to learn it by themselves. A frame names its own place: a bit that flips is noticed wherever it is, and so is a
frame in a wrong place.

Pure functions and values; where blocks are kept is `lamport.event_table`'s business.
"""

import struct
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import accumulate, chain, groupby, pairwise
from typing import NamedTuple, Protocol
from zlib import crc32

import msgpack
import zstandard

from lamport.codec import MAX_EVENT_BYTES
from lamport.event import Event
from lamport.frames import Filed, Frame, Pack, pack_frame
from lamport.ids import StreamId
from lamport.row_keys import row_key

BLOCK_EVENTS = 128
"""Most events of a block: the more, the less does the database's own share weigh."""

FRAME_EVENTS = 32
"""Most events of a frame: with fewer they compress worse, with more one costs more to get at."""

BLOCK_BYTES = 64 * 1024
"""Beyond so many bytes of events a block takes no more. (One event is always allowed.)"""

_MAX_CONTENT = 4 * (BLOCK_BYTES + MAX_EVENT_BYTES)
"""Of what a frame is decompressed to: more was never put in."""

_FLAGS_AT, _HAS_CHECKSUM = 4, 0b100
"""In a zstd frame (RFC 8878, 3.1.1.1.1): it ends in a checksum of its content."""

_VERSION = 1
_HEAD = struct.Struct("<BBHQ")
_ENTRY = struct.Struct("<QHI")
_CHECKSUM = struct.Struct("<I")
_MOST_FRAMES = 256
"""Their number stands in one byte."""

Decompress = Callable[[bytes], bytes]


class Dictionary(Protocol):
    """What frames are compressed with. `number` names it in blocks, 0 is none at all."""

    number: int

    def compress(self, content: bytes) -> bytes:
        """A zstd frame with a checksum."""


class Packed(NamedTuple):
    """A block as it is stored: the timestamps of its first and last event, its place in its stream, and its data."""

    first_lamport: int
    last_lamport: int
    offset: int
    events: int
    data: bytes


class Directory(NamedTuple):
    """What a block says of its frames: timestamps of their first events, first positions, where their bytes end.

    And the timestamp of the last event of all.
    """

    dictionary: int
    last_lamport: int
    lamports: tuple[int, ...]
    positions: tuple[int, ...]
    ends: tuple[int, ...]


class Block:
    """A block whose frames are opened when they are asked for. The event at position `i` has the offset `offset + i`.

    All that opens a frame raises `ValueError` where that is damaged or belongs elsewhere.
    """

    __slots__ = ("_data", "_decompress", "_directory", "_frames", "_lamports", "offset", "row")

    def __init__(
        self, row: int, offset: int, data: bytes, directory: Directory, decompress: Decompress
    ) -> None:
        self.row = row
        self.offset = offset
        self._data = data
        self._directory = directory
        self._decompress = decompress
        self._frames: list[Frame | None] = [None] * len(directory.lamports)
        self._lamports: tuple[int, ...] = ()

    @property
    def count(self) -> int:
        """How many events there are."""
        return self._directory.positions[-1]

    def meets(self, first: int, last: int) -> bool:
        """Whether it may hold events from one timestamp to another; nothing is opened."""
        directory = self._directory
        return directory.lamports[0] <= last and first <= directory.last_lamport

    @property
    def lamports(self) -> tuple[int, ...]:
        """The timestamps of all events."""
        if not self._lamports:
            frames = map(self._frame, range(len(self._frames)))
            self._lamports = tuple(chain.from_iterable(frame.lamports for frame in frames))
        return self._lamports

    def open(self) -> None:
        """Open all frames."""
        if self.lamports[-1] != self._directory.last_lamport:
            raise ValueError("it ends at another event than its directory says")

    def find(self, lamport: int) -> int | None:
        """The position of the event with this timestamp; None where there is none."""
        number = bisect_right(self._directory.lamports, lamport) - 1
        if number < 0:
            return None
        lamports = self._frame(number).lamports
        at = bisect_left(lamports, lamport)
        found = at < len(lamports) and lamports[at] == lamport
        return self._directory.positions[number] + at if found else None

    def lamport_at(self, position: int) -> int:
        """The timestamp of the event at a position."""
        number, at = self._place(position)
        lamport: int = self._frame(number).lamports[at]
        return lamport

    def events(self, stream: StreamId, positions: Sequence[int]) -> list[Event]:
        """The events at these positions, decoded; a range of them at once."""
        if not isinstance(positions, range):
            places = map(self._place, positions)
            return [self._frame(number).single(stream, at) for number, at in places]
        events: list[Event] = []
        for number, start, stop in self._parts(positions):
            events += self._frame(number).span(stream, start, stop)
        return events

    def bytes_at(self, positions: Iterable[int]) -> Iterator[bytes]:
        """The bytes of the events at these positions, as their author wrote them."""
        for number, places in groupby(map(self._place, positions), key=lambda place: place[0]):
            yield from self._frame(number).bytes_at(at for _, at in places)

    def filed(self) -> Iterator[tuple[int, int, bytes]]:
        """Row key, offset and bytes of all events."""
        places = range(self.count)
        for lamport, at, data in zip(self.lamports, places, self.bytes_at(places), strict=True):
            yield row_key(lamport, self.row), self.offset + at, data

    def _place(self, position: int) -> tuple[int, int]:
        """The number of the frame that holds a position, and the position in it."""
        number = bisect_right(self._directory.positions, position) - 1
        return number, position - self._directory.positions[number]

    def _parts(self, positions: range) -> Iterator[tuple[int, int, int]]:
        """The frames that hold these positions, and from where to where in each."""
        for number, (first, stop) in enumerate(pairwise(self._directory.positions)):
            if positions.start < stop and positions.stop > first:
                yield number, max(positions.start - first, 0), min(positions.stop, stop) - first

    def _frame(self, number: int) -> Frame:
        frame = self._frames[number]
        if frame is None:
            start, end = self._directory.ends[number : number + 2]
            frame = self._frames[number] = _opened(self._data[start:end], self._decompress)
            first, stop = self._directory.positions[number : number + 2]
            here = self.row, self.offset + first, stop - first, self._directory.lamports[number]
            if (frame.row, frame.offset, frame.count, frame.lamports[0]) != here:
                self._frames[number] = None
                raise MisplacedFrame(frame, first)
        return frame


class MisplacedFrame(ValueError):
    """`frame` is sound, but not the one that belongs in this place, at `position` of a block."""

    def __init__(self, frame: Frame, position: int) -> None:
        super().__init__("it belongs in another place")
        self.frame = frame
        self.position = position


def pack_events(
    row: int, offset: int, events: Sequence[Filed], dictionary: Dictionary
) -> Iterator[Packed]:
    """Blocks of consecutive events from `offset` on, of about the same length."""
    pack: Pack = msgpack.Packer().pack  # this may run in any thread
    for part in _cut(events, BLOCK_EVENTS):
        data = _packed(row, offset, part, dictionary, pack)
        yield Packed(part[0].lamport, part[-1].lamport, offset, len(part), data)
        offset += len(part)


def frame_contents(events: Sequence[Filed]) -> Iterator[bytes]:
    """What would be compressed of these events, for a dictionary to learn from."""
    pack: Pack = msgpack.Packer().pack
    for part in _cut(events, FRAME_EVENTS):
        yield pack_frame(0, 0, part, pack)


def dictionary_of(data: object) -> int:
    """The number of the dictionary that a block was compressed with; 0 where that cannot be read."""
    if not isinstance(data, bytes) or len(data) < _HEAD.size:
        return 0
    return int(_HEAD.unpack_from(data)[2])


def read_directory(data: bytes) -> Directory:
    """The directory of a block as it is stored.

    Raises:
        ValueError: these are not the bytes of a block.
    """
    try:
        layout = _layout(data[1])
        version, _, dictionary, last, *entries, checksum = layout.unpack_from(data)
    except (struct.error, TypeError, IndexError) as error:
        raise ValueError(f"it has no directory ({error})") from error
    end = layout.size - _CHECKSUM.size
    if checksum != crc32(data[:end]):
        raise ValueError("its directory is damaged")
    if version != _VERSION:
        raise ValueError(f"it is of version {version}, this program reads {_VERSION}")
    if not entries:
        raise ValueError("it is empty")
    lamports, counts, sizes = entries[::3], entries[1::3], entries[2::3]
    positions = tuple(accumulate(counts, initial=0))
    ends = tuple(accumulate(sizes, initial=end + _CHECKSUM.size))
    return Directory(dictionary, last, tuple(lamports), positions, ends)


@lru_cache(maxsize=_MOST_FRAMES)
def _layout(frames: int) -> struct.Struct:
    """The directory of a block of so many frames, read at once."""
    return struct.Struct(f"{_HEAD.format}{_ENTRY.format[1:] * frames}{_CHECKSUM.format[1:]}")


def _opened(data: bytes, decompress: Decompress) -> Frame:
    try:
        size = zstandard.frame_content_size(data)  # -1 where it does not say
        if not (0 < size <= _MAX_CONTENT and data[_FLAGS_AT] & _HAS_CHECKSUM):
            raise ValueError("no frame of a block")
        return Frame(decompress(data))
    except (zstandard.ZstdError, struct.error) as error:
        raise ValueError(f"it cannot be decompressed ({error})") from error


def _cut(events: Sequence[Filed], most: int) -> Iterator[Sequence[Filed]]:
    """Cut events into parts for one block or frame each, as even as their number allows."""
    whole = -(-len(events) // most)
    most = -(-len(events) // whole) if whole else 0
    start = size = 0
    for at, (_, data) in enumerate(events):
        if at > start and (at - start >= most or size + len(data) > BLOCK_BYTES):
            yield events[start:at]
            start, size = at, 0
        size += len(data)
    if events:
        yield events[start:]


def _packed(
    row: int, offset: int, events: Sequence[Filed], dictionary: Dictionary, pack: Pack
) -> bytes:
    entries, frames = list[bytes](), list[bytes]()
    for part in _cut(events, FRAME_EVENTS):
        frame = dictionary.compress(pack_frame(row, offset, part, pack))
        entries.append(_ENTRY.pack(part[0].lamport, len(part), len(frame)))
        frames.append(frame)
        offset += len(part)
    head = _HEAD.pack(_VERSION, len(frames), dictionary.number, events[-1].lamport)
    directory = b"".join((head, *entries))
    return b"".join((directory, _CHECKSUM.pack(crc32(directory)), *frames))
