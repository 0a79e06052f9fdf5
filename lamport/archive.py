r"""The archive: streams in a file, whole or a part of each, that any node of the swarm can verify by itself.

    "shoal archive\n", then records: their length (32 bits, the highest byte first), then one msgpack array each

    [0, format, swarm]                            first, once
    [1, node, stream number, certificate, hash]   the ranges that follow are of this stream; the hash before them
    [2, first offset, [event, ...], [offset, hash, clock, horizon, signature], start]    a range and its seal
    [3, streams, events, SHA-256 of all bytes before this record]                   last, once

Events, seals and certificates stand in it as their authors made them: nobody vouches for an archive as a whole, and
nobody needs to. The digest only tells a file that was damaged on its way. Ranges of a stream follow each other, so that
each can be verified when it is read. Where they do not begin at its first event, the hash before them stands with the
stream: the first seal vouches for it, too, for the seal's hash grows on it. Of a stream whose beginning
was pruned they begin at the first event that is kept; `start` is then the hash before it and the seal that says so, and
otherwise absent. Fields behind the known ones are a newer version's and are passed over; another format is refused.
"""

import hashlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO, NamedTuple

import msgpack

from lamport.chain import (
    HASH_BYTES,
    MAX_SEALED_BYTES,
    MAX_SEALED_EVENTS,
    SealedRange,
)
from lamport.codec import MAX_EVENT_BYTES
from lamport.errors import CorruptArchive, InvalidInput
from lamport.fields import (
    read_bytes,
    read_offset,
    read_seal,
    read_start,
    read_stream,
    seal_fields,
    start_fields,
)
from lamport.ids import StreamId

MAGIC = b"shoal archive\n"

FORMAT = 1
"""Version of the layout."""

MAX_RECORD_BYTES = max(MAX_SEALED_BYTES, MAX_EVENT_BYTES) + 5 * MAX_SEALED_EVENTS + 4_096
"""Longest record: a range at its limits, five bytes of framing for each event, and the seal. Checked before reading."""

_HEADER, _STREAM, _RANGE, _END = range(4)
_LENGTH = struct.Struct("!I")


class ArchivedRange(NamedTuple):
    """A range, the position of its record, and the hash before its stream's first range, where one stands there."""

    position: int
    range: SealedRange
    before: bytes | None


class ArchiveWriter:
    """Writes an archive: its header at once, then ranges, stream by stream, then its end."""

    def __init__(self, file: BinaryIO, swarm: bytes) -> None:
        self.streams = 0
        self.events = 0
        self._file = file
        self._digest = hashlib.sha256()
        self._stream: StreamId | None = None
        self._put(MAGIC)
        self._record([_HEADER, FORMAT, swarm])

    def add(self, sealed: SealedRange, before: bytes | None = None) -> None:
        """Write a range; those of one stream follow each other without a gap, and bear its author's certificate.

        `before` is the chain's hash before it, needed with the first of a stream that is not written from offset 0 on.
        """
        stream, seal = sealed.stream, sealed.seal
        if stream != self._stream:
            self._stream = stream
            self.streams += 1
            head = [_STREAM, bytes(stream.node), stream.number, sealed.certificate]
            self._record([*head, before] if sealed.first else head)
        self.events += len(sealed.events)
        start = [] if sealed.start is None else [start_fields(sealed.start)]
        self._record([_RANGE, sealed.first, sealed.events, seal_fields(seal), *start])

    def end(self) -> None:
        """Write the end, by which a reader knows that nothing is missing."""
        self._record([_END, self.streams, self.events, self._digest.digest()])

    def _record(self, fields: list[Any]) -> None:
        data = msgpack.packb(fields)
        self._put(_LENGTH.pack(len(data)) + data)

    def _put(self, data: bytes) -> None:
        self._digest.update(data)
        self._file.write(data)


def read_archive(file: BinaryIO, swarm: bytes) -> Iterator[ArchivedRange]:
    """The ranges of an archive; whether they hold is still to be verified.

    Raises:
        CorruptArchive: it is no archive, of another format or swarm, truncated, or altered where that shows here.
    """
    return _Reading(file, swarm).ranges()


@dataclass(slots=True)
class _Reading:
    """One pass over an archive. `position` is where the record begins that is being read."""

    file: BinaryIO
    swarm: bytes
    position: int = 0
    digest: Any = field(default_factory=hashlib.sha256)
    stream: StreamId | None = None
    certificate: bytes = b""
    before: bytes | None = None
    streams: int = 0
    events: int = 0

    def ranges(self) -> Iterator[ArchivedRange]:
        self._begin()
        while True:
            before = self.digest.digest()
            fields = self._record()
            kind = fields[0]
            if kind == _STREAM:
                self._checked(self._take_stream, fields)
            elif kind == _RANGE:
                yield ArchivedRange(self.position, self._checked(self._range, fields), self.before)
            elif kind == _END:
                self._end(fields, before)
                return
            else:
                raise self._fault("a record of an unknown kind")

    def _begin(self) -> None:
        if self.file.read(len(MAGIC)) != MAGIC:
            raise self._fault("this is no archive that `shoal export` made")
        self.digest.update(MAGIC)
        self.position = len(MAGIC)
        fields = self._record()
        if fields[0] != _HEADER or len(fields) < 3:  # noqa: PLR2004 - kind, format, swarm
            raise self._fault("the header is missing")
        if fields[1] != FORMAT:
            raise self._fault(f"its format is {fields[1]!r}, this program reads {FORMAT}")
        if fields[2] != self.swarm:
            raise self._fault("it is of another swarm")

    def _record(self) -> list[Any]:
        """The fields of the next record."""
        self.position = self.file.tell()
        prefix = self._read(_LENGTH.size)
        [size] = _LENGTH.unpack(prefix)
        if not 0 < size <= MAX_RECORD_BYTES:
            raise self._fault(f"a record has 1 to {MAX_RECORD_BYTES} bytes, not {size}")
        data = self._read(size)
        self.digest.update(prefix + data)
        try:
            fields = msgpack.unpackb(data)
        except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
            raise self._fault(f"a record is not msgpack ({type(error).__name__})") from error
        if not isinstance(fields, list) or not fields:
            raise self._fault("a record is an array that begins with its kind")
        return fields

    def _read(self, size: int) -> bytes:
        data = self.file.read(size)
        if len(data) != size:
            raise self._fault("it ends in the middle: the file is truncated")
        return data

    def _checked(self, take: Any, fields: list[Any]) -> Any:
        try:
            return take(*fields[1:])
        except (InvalidInput, TypeError, ValueError) as error:
            raise self._fault(f"a record is malformed ({error})") from error

    def _take_stream(
        self, node: Any, number: Any, certificate: Any, before: Any = None, *_: Any
    ) -> None:
        self.stream = read_stream(node, number)
        self.certificate = read_bytes(certificate)
        self.before = None if before is None else read_bytes(before, HASH_BYTES)
        self.streams += 1

    def _range(
        self, first: Any, events: Any, signed: Any, start: Any = None, *_: Any
    ) -> SealedRange:
        if self.stream is None:
            raise ValueError("a range before its stream")
        seal = read_seal(self.stream, signed)
        self.events += len(events)
        first = read_offset(first)
        return SealedRange(
            first,
            tuple(map(read_bytes, events)),
            seal,
            self.certificate,
            None if start is None else read_start(self.stream, start),
        )

    def _end(self, fields: list[Any], before: bytes) -> None:
        if fields[1:4] != [self.streams, self.events, before]:
            raise self._fault("its end does not fit what stands before it: the file was altered")
        if self.file.read(1):
            self.position = self.file.tell() - 1
            raise self._fault("something stands behind its end")

    def _fault(self, text: str) -> CorruptArchive:
        return CorruptArchive(self.position, text)
