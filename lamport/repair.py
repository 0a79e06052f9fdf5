"""Mends what the disk altered while the log is in use, from what others hold, and never by a guess.

    a read, or `shoal verify`, finds damage ── Damages ──> Repair.piece: the offsets between two seals that still hold
    a peer sends that piece ── Mending: chained from the seal before, it must reach the hash that is kept here behind it
    Repair.replace: exactly the rows that differ, or all blocks of the piece anew, in one transaction

So nothing that a peer says can change what this node holds: it can only give back bytes that hash to what was known all
the time. Heads do not move. The tag index needs no repair, for it was made of the events as they were. Snapshots of
fish are dropped: they may have been folded from what was damaged.
"""

import asyncio
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from types import MappingProxyType
from typing import Any, TypeVar

from lamport.blocks import pack_events
from lamport.chain import MAX_SEALED_EVENTS, Head, Keys, Seal, SealedRange, chained, check_range
from lamport.codec import verify_event
from lamport.errors import CorruptRange, DamagedRange, DivergedStream
from lamport.event import Event
from lamport.event_table import Row
from lamport.frames import Filed
from lamport.ids import StreamId
from lamport.misfiled import Filing, opened
from lamport.offsets import OffsetRange
from lamport.row_keys import MAX_STREAMS, STREAM_BITS, row_checksum, row_key
from lamport.seams import Statement
from lamport.sqlite_errors import translated_errors
from lamport.store import Store
from lamport.stream_check import is_genuine

MAX_DAMAGED = 1_000
"""Streams of which is remembered that they were found damaged."""

MAX_ANSWER = 16
"""Ranges that may answer for one piece: two seals that hold are rarely further apart than one range."""

LOOKED_AROUND = 100
"""Offsets on both sides of a damage that are looked at: disks lose blocks, and a read stops at the first event."""

_Read = TypeVar("_Read")

_Placed = tuple[int, int, int, bytes, int | None]
"""A row of the table of events: row key, local number of the stream, offset, bytes, checksum."""

_Run = tuple[int, Sequence[Row]]
"""Events that follow each other, behind the offset of the first of them."""

_BY_KEY = (
    'SELECT key, stream, "offset", bytes, crc FROM events'
    " WHERE key IN (SELECT value FROM json_each(?))"
)
_BLOCKS_BY_KEY = (
    'SELECT key, last, "offset", count, data FROM blocks WHERE stream = ? AND key BETWEEN ? AND ?'
)
# One statement, so that nothing is moved from rows into blocks between two.
_FILED = """
SELECT * FROM (
  SELECT stream, key, last, "offset", count, data FROM blocks
  WHERE stream = ?1 AND "offset" BETWEEN ?2 - ?4 AND ?3 AND "offset" + count > ?2 ORDER BY "offset")
UNION ALL SELECT * FROM (
  SELECT NULL, key, NULL, "offset", crc, bytes FROM events
  WHERE stream = ?1 AND "offset" BETWEEN ?2 AND ?3 ORDER BY "offset")
"""
# Blocks that hold events of a piece and others: one behind a horizon, or one in which a stream forks.
_CROSSING = """
SELECT key, last, "offset", count, data FROM blocks
WHERE stream = ?1 AND "offset" BETWEEN ?2 - ?4 AND ?3 AND "offset" + count > ?2
AND ("offset" < ?2 OR "offset" + count > ?3 + 1)
"""
_REACHES = """
SELECT 1 FROM blocks
WHERE stream = ?1 AND "offset" >= ?2 AND "offset" + count > ?3 AND last >= ?4 AND key & ?5 = ?1 LIMIT 1
"""
_SEAL_COLUMNS = 'SELECT "offset", hash, clock, horizon, signature FROM seals WHERE stream = ?'


def _whole(damage: OffsetRange) -> Iterable[OffsetRange]:
    return (damage,)


class Damages:
    """What of each stream was found damaged: one span of offsets each, and what was said of it first."""

    def __init__(self, cut: Callable[[OffsetRange], Iterable[OffsetRange]] = _whole) -> None:
        """`cut` tells of offsets along a row which parts of a stream they are: see `Branches.cut`."""
        self._cut = cut
        self._spans: dict[StreamId, tuple[OffsetRange, str]] = {}
        self._found = asyncio.Event()
        self._mended = asyncio.Event()

    @property
    def texts(self) -> Mapping[StreamId, str]:
        """What was said of each stream, for people."""
        return MappingProxyType({stream: text for stream, (_, text) in self._spans.items()})

    @property
    def spans(self) -> tuple[OffsetRange, ...]:
        """The damaged parts, as far as they were found."""
        return tuple(span for span, _ in self._spans.values())

    async def noting(self, pages: AsyncIterator[Sequence[Event]]) -> AsyncIterator[Sequence[Event]]:
        """Remember what of the disk is found damaged on the way."""
        try:
            async for page in pages:
                yield page
        except DamagedRange as error:
            self._tell(error)
            raise

    async def noted(self, reading: Awaitable[_Read]) -> _Read:
        """The same for one read."""
        try:
            return await reading
        except DamagedRange as error:
            self._tell(error)
            raise

    def _tell(self, error: DamagedRange) -> None:
        for part in self._cut(error.damage):
            self.note(part, str(error))

    def note(self, damage: OffsetRange, text: str) -> None:
        """Remember that something within these offsets is damaged."""
        known, said = self._spans.get(damage.stream, (damage, text))
        span = OffsetRange(
            damage.stream, min(known.first, damage.first), max(known.last, damage.last)
        )
        is_news = self._spans.get(damage.stream) != (span, said)
        if is_news and (damage.stream in self._spans or len(self._spans) < MAX_DAMAGED):
            self._spans[damage.stream] = span, said
            self._found.set()

    def forget(self, damage: OffsetRange) -> None:
        """These offsets are as they were written again; more may have been found meanwhile."""
        if damage in self.spans:
            del self._spans[damage.stream]
        self._mended.set()
        self._mended = asyncio.Event()

    async def found(self) -> None:
        """Wait until something was noted that this was not told of before."""
        await self._found.wait()
        self._found.clear()

    async def mended(self) -> None:
        """Wait until something is mended."""
        await self._mended.wait()


@dataclass(frozen=True, slots=True)
class Piece:
    """Offsets of a stream between two places of its chain that are known to be right."""

    before: Head
    last: Head

    @property
    def stream(self) -> StreamId:
        """The stream."""
        return self.last.stream

    @property
    def first(self) -> int:
        """The first offset of the piece."""
        return self.before.offset + 1

    def __str__(self) -> str:
        return f"offsets {self.first} to {self.last.offset} of stream {self.stream}"


@dataclass(slots=True)
class Mending:
    """Collects what a peer sends for a piece, until it reaches the end."""

    piece: Piece
    keys: Keys
    events: list[Event] = field(default_factory=list)
    data: list[bytes] = field(default_factory=list)
    seals: list[Seal] = field(default_factory=list)
    certificate: bytes = b""

    @property
    def due(self) -> int:
        """The offset at which the next range begins."""
        return self.piece.first + len(self.data)

    def add(self, received: SealedRange) -> bool:
        """Take in the next range; returns whether the piece is complete.

        Raises:
            CorruptRange: it does not hold.
            DivergedStream: it does not lead to what is known here.
        """
        checked = check_range(received, self.keys)
        if received.first != self.due or len(self.seals) >= MAX_ANSWER:
            raise CorruptRange(f"stream {received.stream}: offset {self.due} is due")
        self.events += checked.events
        self.data += received.events
        self.seals.append(received.seal)
        self.certificate = received.certificate or self.certificate
        if chained(self.piece.before.hash, self.data) != received.seal.hash:
            raise DivergedStream(f"stream {received.stream}: another history than the one held")
        return self._is_complete()

    def _is_complete(self) -> bool:
        """Whether the end is reached, with the hash that is known to be right; what lies behind it is left out."""
        last, count = self.piece.last, self.piece.last.offset - self.piece.first + 1
        if len(self.data) < count:
            return False
        del self.events[count:], self.data[count:]
        self.seals = [seal for seal in self.seals if seal.offset <= last.offset]
        if chained(self.piece.before.hash, self.data) != last.hash:
            raise DivergedStream(f"stream {last.stream}: another history than the one held")
        return True


class Repair:
    """Finds the pieces of one store that are not sound, and replaces them."""

    def __init__(self, store: Store, keys: Keys) -> None:
        self._store = store
        self._keys = keys
        self._filing = Filing(store)

    async def piece(self, damage: OffsetRange) -> Piece | None:
        """The first piece within the damage, or near it, that is not what was sealed; None where all of it is.

        Where all of it is, a damaged block of the stream may yet stand where none belongs, and reads meet it: it is
        deleted, or the piece in whose place it stands is the answer, be it another stream's.

        Raises:
            StoreError: SQLite cannot read it, or not delete what is damaged.
        """
        found, row = await self._piece(damage), self._store.row_of(damage.stream)
        return found if found is not None or row is None else await self._astray(row)

    async def _astray(self, row: int) -> Piece | None:
        async with self._store.compaction.lock:
            statements, places = await self._filing.astray(row)
            if statements:
                await self._store.write(*statements)
                self._store.events.forget()
        for place in places:
            if (piece := await self._piece(place)) is not None:
                return piece
        return None

    async def _piece(self, damage: OffsetRange) -> Piece | None:
        row, head = self._store.row_of(damage.stream), self._store.head(damage.stream)
        begin = self._store.beginning(damage.stream).offset + 1
        if row is None or not self._is_certified(damage.stream):
            first = max(begin, damage.first)
            return None if row is None else await self._between(row, first, head)
        offset = max(begin, damage.first - LOOKED_AROUND)
        while offset <= min(damage.last + LOOKED_AROUND, head.offset):
            piece = await self._between(row, offset, head)
            if not await self._is_sound(row, piece):
                return piece
            offset = piece.last.offset + 1
        return None

    def mending(self, piece: Piece) -> Mending:
        """For what a peer sends of a piece."""
        return Mending(piece, self._keys)

    async def replace(self, mending: Mending) -> int:
        """Put the right bytes where others stand; returns how many events had to be put right.

        Where the beginning of the piece was given up meanwhile nothing is written: nobody would delete it again.

        Raises:
            StoreFull, StoreFailed: as `Store.commit`; nothing was changed.
        """
        stream = mending.piece.stream
        row = self._store.row_of(stream)
        assert row is not None, "a piece of it is held"
        right = list(_rows(row, mending))
        # Meanwhile nothing moves from rows into blocks.
        async with self._store.compaction.lock:
            if mending.piece.first <= self._store.beginning(stream).offset:
                return 0
            misfiled = await self._filing.around(
                row, mending.piece.first, mending.piece.last.offset
            )
            rows, packed = await self._held(row, right)
            outside = await self._outside(row, mending.piece)
            if await self._is_packed(row, mending.piece, right[0][0]):
                held, statements = packed | rows, self._as_blocks(row, mending, right)
            else:
                wrong = [one for one in right if rows.get(one[0]) != one]
                held, statements = packed | rows, _as_rows(row, mending, right, wrong)
            packing = self._packed(row, outside)
            await self._store.write(
                *misfiled.statements, *statements, packing, *_around(row, mending)
            )
            self._store.events.forget()  # what is opened is not what stands there now
            with translated_errors():
                for changed in (row, *misfiled.rows):
                    await self._store.compaction.mended(changed)
        if mending.certificate:
            self._store.authors[stream.node] = mending.certificate
        return sum(held.get(one[0]) != one for one in right)

    def _as_blocks(
        self, row: int, mending: Mending, right: Sequence[_Placed]
    ) -> Iterator[Statement]:
        """Pack a piece anew. Its blocks end where its seals are, as they always do."""
        first, last = mending.piece.first, mending.piece.last.offset
        yield Statement(
            'DELETE FROM events WHERE stream = ?1 AND "offset" BETWEEN ?2 AND ?3'
            " OR key IN (SELECT value FROM json_each(?4))",
            [(row, first, last, str([one[0] for one in right]))],
        )
        yield _without_blocks(row, mending, right)
        ends = sorted({last, *(seal.offset for seal in mending.seals)})
        rows = [Row(key, offset, data, crc) for key, _, offset, data, crc in right]
        parts = [
            (start + 1, rows[start + 1 - first : end + 1 - first])
            for start, end in pairwise([first - 1, *ends])
        ]
        yield self._packed(row, parts)

    def _packed(self, row: int, runs: Sequence[_Run]) -> Statement:
        """Blocks of these events."""
        blocks = [
            (row_key(one.first_lamport, row), row_key(one.last_lamport, row), row, *one[2:])
            for first, rows in runs
            for one in pack_events(
                row,
                first,
                [Filed(each.key >> STREAM_BITS, each.data) for each in rows],
                self._store.dictionaries.newest,
            )
        ]
        return Statement("INSERT OR REPLACE INTO blocks VALUES (?, ?, ?, ?, ?, ?)", blocks)

    async def _is_packed(self, row: int, piece: Piece, key: int) -> bool:
        """Whether a piece, whose first event has this row key, has its place in blocks: none may follow a row.

        Where the only block that says so is damaged itself, all is as well as rows.
        """
        before = piece.first - MAX_SEALED_EVENTS
        return bool(await self._fetch(_REACHES, row, before, piece.first, key, MAX_STREAMS - 1))

    async def _outside(self, row: int, piece: Piece) -> list[_Run]:
        """Events before and behind a piece that share a block with it; those of a damaged block are another damage."""
        found: list[_Run] = []
        bounds = piece.first, piece.last.offset, MAX_SEALED_EVENTS
        for block in await self._fetch(_CROSSING, row, *bounds):
            with suppress(ValueError):
                rows = self._opened(row, block)
                before = [one for one in rows if one.offset < piece.first]
                behind = [one for one in rows if one.offset > piece.last.offset]
                found += [(part[0].offset, part) for part in (before, behind) if part]
        return found

    async def _between(self, row: int, offset: int, head: Head) -> Piece:
        """The piece around an offset: from the last seal before it that holds to the first behind it.

        A part of a forked stream shares its row with others: it begins and ends where the fork does.
        """
        before = self._store.beginning(head.stream)
        async for seal in self._seals(row, head.stream, '"offset" < ?', offset, "DESC"):
            if seal.offset > before.offset:
                before = Head(head.stream, seal.offset, seal.hash)
            break
        last = head
        async for seal in self._seals(row, head.stream, '"offset" >= ?', offset, "ASC"):
            last = Head(head.stream, seal.offset, seal.hash)
            break
        return Piece(before, last)

    async def _seals(self, row: int, stream: StreamId, where: str, offset: int, order: str) -> Any:
        """The seals on one side of an offset that their author signed, nearest first."""
        while found := await self._fetch(
            f"{_SEAL_COLUMNS} AND {where} AND typeof(\"offset\") = 'integer'"
            f' ORDER BY "offset" {order} LIMIT 1',
            row,
            offset,
        ):
            seal = Seal(stream, *found[0])
            if is_genuine(seal, self._keys) and seal.offset <= self._store.head(stream).offset:
                yield seal
            offset = seal.offset + (order == "ASC")

    async def _is_sound(self, row: int, piece: Piece) -> bool:
        """Whether a piece's rows, and the seal at its end, are what was written."""
        try:
            rows = await self._filed(row, piece)
            events = [verify_event(piece.stream, one.offset, one.data) for one in rows]
        except (CorruptRange, ValueError):
            return False
        keys = [row_key(event.lamport, row) for event in events]
        within = await self._fetch(
            f'{_SEAL_COLUMNS} AND "offset" BETWEEN ? AND ?', row, piece.first, piece.last.offset
        )
        return (
            [one.key for one in rows] == keys
            and chained(piece.before.hash, [one.data for one in rows]) == piece.last.hash
            and self._is_sealed(piece, within)
        )

    def _is_sealed(self, piece: Piece, within: Sequence[tuple[Any, ...]]) -> bool:
        """Whether a piece has one seal, at its end; where a fork or a cut ends its part there may be none."""
        if not within:
            closed = self._store.branches.closed.get(piece.stream)
            end = self._store.cuts.of(piece.stream) if closed is None else closed.offset
            return end == piece.last.offset
        return [offset for offset, *_ in within] == [piece.last.offset] and is_genuine(
            Seal(piece.stream, *within[0]), self._keys
        )

    def _is_certified(self, stream: StreamId) -> bool:
        certificate = self._store.authors.get(stream.node, b"")
        return self._keys.certifies(certificate, stream.node)

    async def _filed(self, row: int, piece: Piece) -> list[Row]:
        """The events of a piece, those in blocks before those that are rows, each in their order.

        Raises:
            ValueError: a block or a row is damaged.
        """
        first, last = piece.first, piece.last.offset
        found = await self._fetch(_FILED, row, first, last, MAX_SEALED_EVENTS)
        filed: list[Row] = []
        for number, *block in found:
            if number is not None:
                filed += [one for one in self._opened(row, block) if first <= one.offset <= last]
        rows = [
            Row(key, offset, data, crc)
            for number, key, _, offset, crc, data in found
            if number is None
        ]
        if not all(one.is_sound for one in rows):
            raise ValueError("a row is damaged")
        return [*filed, *rows]

    async def _held(
        self, row: int, right: Sequence[_Placed]
    ) -> tuple[dict[int, _Placed], dict[int, _Placed]]:
        """What stands under the row keys that are right, among the rows and in blocks."""
        rows, packed = dict[int, _Placed](), dict[int, _Placed]()
        for start in range(0, len(right), MAX_SEALED_EVENTS):
            keys = [one[0] for one in right[start : start + MAX_SEALED_EVENTS]]
            for one in await self._fetch(_BY_KEY, str(keys)):
                rows[one[0]] = _with_checksum(*one)
        for block in await self._fetch(_BLOCKS_BY_KEY, row, right[0][0], right[-1][0]):
            with suppress(ValueError):
                packed.update(
                    (one.key, (one.key, row, one.offset, one.data, row_checksum(*one[:3])))
                    for one in self._opened(row, block)
                )
        return rows, packed

    def _opened(self, row: int, stored: Sequence[Any]) -> list[Row]:
        """The events of a stored block; `ValueError` where it is damaged, or another stream's."""
        key, last, offset, count, data = stored
        block = opened((key, last, row, offset, count, data), self._store.dictionaries)
        if block.row != row:
            raise ValueError("it is another stream's")
        return [Row(*one, None) for one in block.filed()]

    async def _fetch(self, sql: str, *parameters: int | str) -> list[tuple[Any, ...]]:
        with translated_errors():
            return await self._store.reader.fetch(sql, parameters)


def _rows(row: int, mending: Mending) -> Iterator[_Placed]:
    """The events of a mending, as rows."""
    for event, data in zip(mending.events, mending.data, strict=True):
        key = row_key(event.lamport, row)
        yield key, row, event.offset, data, row_checksum(key, event.offset, data)


def _as_rows(
    row: int, mending: Mending, right: Sequence[_Placed], wrong: Sequence[_Placed]
) -> Iterator[Statement]:
    """Put right those rows of a piece that are wrong, and no block in their place."""
    first, last = mending.piece.first, mending.piece.last.offset
    yield Statement(
        'DELETE FROM events WHERE stream = ? AND "offset" BETWEEN ? AND ?'
        " AND key NOT IN (SELECT value FROM json_each(?))",
        [(row, first, last, str([one[0] for one in right]))],
    )
    yield _without_blocks(row, mending, right)
    yield Statement("INSERT OR REPLACE INTO events VALUES (?, ?, ?, ?, ?)", wrong)


def _without_blocks(row: int, mending: Mending, right: Sequence[_Placed]) -> Statement:
    """Take away all blocks of a piece; one whose columns are damaged is found by its key, and the other way round."""
    return Statement(
        'DELETE FROM blocks WHERE key & ?7 = ?1 AND (stream = ?1 AND "offset" BETWEEN ?2 - ?4 AND ?3'
        ' AND ("offset" >= ?2 OR "offset" + count > ?2)'
        " OR key BETWEEN ?5 AND ?6)",
        [
            (
                row,
                mending.piece.first,
                mending.piece.last.offset,
                MAX_SEALED_EVENTS,
                right[0][0],
                right[-1][0],
                MAX_STREAMS - 1,
            )
        ],
    )


def _around(row: int, mending: Mending) -> Iterator[Statement]:
    """All else that one repair writes."""
    piece, seals = mending.piece, mending.seals
    # A seal that holds is a bound of every piece, so none but the last offset's can be in here.
    yield Statement(
        'DELETE FROM seals WHERE stream = ? AND "offset" BETWEEN ? AND ?',
        [(row, piece.first, piece.last.offset - 1)],
    )
    yield Statement(
        "INSERT OR REPLACE INTO seals VALUES (?, ?, ?, ?, ?, ?)",
        [(row, s.offset, s.hash, s.clock, s.horizon, s.signature) for s in seals],
    )
    certificates = [(bytes(piece.stream.node), mending.certificate)]
    yield Statement(
        "INSERT OR REPLACE INTO authors VALUES (?, ?)",
        certificates if mending.certificate else [],
    )
    yield Statement("DELETE FROM snapshots")


def _with_checksum(key: int, stream: Any, offset: Any, data: Any, crc: Any) -> _Placed:
    """A row as it would stand here if an older schema had given it a checksum, too."""
    if crc is None and isinstance(data, bytes) and isinstance(offset, int):
        crc = row_checksum(key, offset, data)
    return key, stream, offset, data, crc
