"""The stored events, read as one table: fresh ones are rows of `events`, old ones stand in the blocks of `blocks`.

Both are ordered by row key. Events only ever move from rows to blocks, in one transaction; each question here is one
statement on both tables, so that nothing is missed or seen twice whatever is moved meanwhile. What is found in blocks
is told as positions in opened blocks, and decoded only as far as it is wanted. The latest opened blocks are kept: a
page of a read often ends in the middle of some.
"""

import asyncio
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from operator import itemgetter
from typing import Any, NamedTuple, Self

from lamport.blocks import BLOCK_EVENTS, Block, MisplacedFrame, dictionary_of, read_directory
from lamport.dictionaries import Dictionaries
from lamport.errors import DAMAGE_REMEDY, DamagedEvent, DamagedIndex
from lamport.ids import EventKey, StreamId
from lamport.offsets import OffsetRange
from lamport.row_keys import MAX_STREAMS, STREAM_BITS, row_checksum
from lamport.seams import Connection

OPENED_BLOCKS = 512
"""Opened blocks that are kept: some 15 MB of common events, and 70 MB at most. A page may reach into one of each
stream."""

OPENED_AT_ONCE = 32
"""Behind so many blocks others have their turn: a millisecond or two."""


_INTEGER = frozenset((int,))
_COLUMNS = (bytes, int, int, int)
"""Types of a block's columns, but for its key."""

StoredRow = tuple[Any, ...]
"""A fresh event as the database gives it: `Row`'s columns, and others behind them that mean nothing.

Reads take them as they are: a `Row` of each would be one more object for the garbage collector to look at, a million
times over.
"""

_ROW_KEY, _ROW_OFFSET = itemgetter(0), itemgetter(1)


class Row(NamedTuple):
    """A fresh event: row key, offset, bytes, checksum (None: an older schema wrote none)."""

    key: int
    offset: int
    data: bytes
    crc: int | None

    @classmethod
    def of(cls, stored: StoredRow) -> Self:
        """One with names."""
        return cls(*stored[: len(cls._fields)])

    @property
    def is_sound(self) -> bool:
        """Whether its bytes are any, and those that it was written with; in a damaged row anything may stand."""
        data: Any = self.data
        if not isinstance(data, bytes):
            return False
        return self.crc is None or self.crc == row_checksum(self.key, self.offset, data)


class Part(NamedTuple):
    """Events in a block: their positions there, rising."""

    block: Block
    positions: Sequence[int]

    def keys(self) -> Iterator[int]:
        """Their row keys."""
        for at in self.positions:
            yield self.block.lamport_at(at) << STREAM_BITS | self.block.row


async def fitting(connection: Connection, row: int, first: int, events: int, size: int) -> int:
    """See `EventTable.fitting`."""
    sizes = await connection.fetch(_SIZES, (row, first, events))
    totals: Iterable[int] = accumulate(one for (one,) in sizes)
    return max(1, sum(total <= size for total in totals))


class Lost(NamedTuple):
    """A row key that may be one of an event's in a block that is damaged, and the error that says so."""

    key: int
    error: DamagedEvent


@dataclass(frozen=True, slots=True)
class Found:
    """Fresh events by rising keys, those in blocks, and the row key up to which none was left out; None for the end."""

    rows: Sequence[StoredRow]
    parts: Sequence[Part]
    reached: int | None = None

    def __bool__(self) -> bool:
        """Whether anything was found."""
        return bool(self.rows or self.parts)

    @property
    def count(self) -> int:
        """How many events were found."""
        return len(self.rows) + sum(len(positions) for _, positions in self.parts)

    @property
    def is_in_order(self) -> bool:
        """Whether each part lies behind the one before, as those of a single stream do: nothing is to be sorted."""
        if self.rows:
            return False
        ends = [
            (part.block.lamport_at(at[0]), part.block.lamport_at(at[-1]))
            for part in self.parts
            if (at := part.positions)
        ]
        return all(before < after for (_, before), (after, _) in pairwise(ends))

    def keys(self) -> Iterator[int]:
        """The row keys of everything found, in no order."""
        yield from map(_ROW_KEY, self.rows)
        for part in self.parts:
            yield from part.keys()

    @property
    def last_offset(self) -> int:
        """The offset of the last event of what `EventTable.following` found."""
        if self.rows:
            return _offset_of(self.rows[-1])
        block, positions = self.parts[-1]
        last: int = block.offset + positions[-1]
        return last

    def pieces(self, size: int, *, descending: bool) -> "Iterator[Found]":
        """What a scan found in pieces of about `size` events, in reading direction; what a search by key did, as it is.

        Groups of equal timestamps stay whole.
        """
        total = self.count
        if total <= size + size // 2 or not all(isinstance(at, range) for _, at in self.parts):
            if total:
                yield self
            return
        starts = [next(part.keys()) for part in self.parts] + [*map(_ROW_KEY, self.rows[::size])]
        starts.sort()
        step = max(1, len(starts) * size // total)
        cuts = [key >> STREAM_BITS << STREAM_BITS for key in starts[::step]]
        edges = [0, *dict.fromkeys(cuts[1:]), 2**63]
        windows = [(low, high - 1) for low, high in pairwise(edges)]
        for low, high in reversed(windows) if descending else windows:
            first, last = low >> STREAM_BITS, high >> STREAM_BITS
            near = [part for part in self.parts if part.block.meets(first, last)]
            piece = Found(self.rows, near).within(low, high)
            if piece:
                yield piece

    def within(self, low: int, high: int) -> "Found":
        """What of it lies from `low` to `high`."""
        parts = [Part(block, _meeting(block, low, high, places)) for block, places in self.parts]
        first = bisect_left(self.rows, low, key=_ROW_KEY)
        rows = self.rows[first : bisect_right(self.rows, high, first, key=_ROW_KEY)]
        return Found(rows, [part for part in parts if part.positions], self.reached)


class EventTable:
    """Reads the events of one database. `name` gives the stream behind a local number."""

    def __init__(
        self,
        reader: Connection,
        name: Callable[[int], StreamId | None],
        dictionaries: Dictionaries,
    ) -> None:
        self._reader = reader
        self._name = name
        self._dictionaries = dictionaries
        self._opened: dict[int, Block] = {}

    async def scan(
        self,
        low: int,
        high: int,
        size: int,
        among: Iterable[int] | None,
        *,
        rows: int,
        descending: bool,
    ) -> Found:
        """About `size` events from `low` to `high` in reading direction, `among` those streams (None: all).

        At most `rows` of them are fresh ones.

        Raises:
            DamagedEvent: a block of them is damaged.
        """
        blocks = size // BLOCK_EVENTS + 1
        sql = (_DESCENDING if descending else _ASCENDING).format(**_only(among))
        found = await self._reader.fetch(sql, (low, high, blocks, rows))
        reached = next((one[0] for one in found if one[-1] == _BEYOND), None)
        fresh, lost = self._rows(found)
        for row in lost:
            raise row.error
        if len(fresh) == rows:
            last: int = fresh[0 if descending else -1][0]
            reached = last if reached is None else (max if descending else min)(last, reached)
        near = [one[:4] for one in found if one[-1] == _REACHING]
        opened = await self._opened_all(near)
        if opened is None:
            return await self.scan(low, high, size, among, rows=rows, descending=descending)
        opened += await self._open_whole([one[:-1] for one in found if one[-1] == _NEXT])
        parts = [Part(block, range(block.count)) for block in opened]
        return Found(fresh, parts, reached)

    async def find(self, keys: Sequence[int]) -> Found:
        """The events with these row keys, which rise; some may not be there.

        Raises:
            DamagedEvent: a block of them is damaged.
        """
        found, lost = await self.find_sound(keys)
        for one in lost:
            raise one.error
        return found

    async def find_sound(self, keys: Sequence[int]) -> tuple[Found, list[Lost]]:
        """The same, and which of the keys lie within damaged blocks: whether there are such events cannot be told."""
        listed = f"[{','.join(map(str, keys))}]"
        found = await self._reader.fetch(_BY_KEY, (listed,))
        rows, lost = self._rows(found)
        stored = [one[:-1] for one in found if one[-1] == _NEXT]
        await self._learn(stored)
        by_row: defaultdict[int, list[int]] = defaultdict(list)
        for key in keys if stored else ():
            by_row[key & MAX_STREAMS - 1].append(key)
        parts = list[Part]()
        for number, one in enumerate(stored):
            if number % OPENED_AT_ONCE == OPENED_AT_ONCE - 1:
                await asyncio.sleep(0)
            key, last = one[:2]
            wanted = by_row[key & MAX_STREAMS - 1]
            inside = wanted[bisect_left(wanted, key) : bisect_right(wanted, last)]
            if not inside:
                continue
            try:
                parts.append(self._part(one, inside))
            except DamagedEvent as error:
                lost += [Lost(key, error) for key in inside]
        return Found(rows, parts), lost

    def _rows(self, found: Iterable[StoredRow]) -> tuple[list[StoredRow], list[Lost]]:
        """The fresh events of an answer, and those whose place in their stream is no number any more."""
        rows = [one for one in found if one[-1] == _ROW]
        rows.sort(key=_ROW_KEY)
        if _INTEGER.issuperset(map(type, map(_ROW_OFFSET, rows))):
            return rows, []
        lost = [self._lost(row[0]) for row in rows if type(row[1]) is not int]
        return [row for row in rows if type(row[1]) is int], lost

    def _lost(self, key: int) -> Lost:
        """A fresh event of which only the row key is left."""
        stream = self._name(key & MAX_STREAMS - 1)
        if stream is None:
            raise DamagedIndex(f"an event of no stream is stored on this disk: {DAMAGE_REMEDY}")
        event = EventKey(key >> STREAM_BITS, stream)
        fault = f"the place of event {event} in its stream is damaged on this disk: {DAMAGE_REMEDY}"
        return Lost(key, DamagedEvent(event, OffsetRange(stream, *_extent(None, 1)), fault))

    def _part(self, stored: Any, keys: Iterable[int]) -> Part:
        """The events with these keys in a block; only their frames are opened."""
        try:
            block = self._block(stored)
            found = [block.find(key >> STREAM_BITS) for key in keys]
        except ValueError as error:
            raise self._damaged(stored, error) from error
        return Part(block, [at for at in found if at is not None])

    async def following(
        self, row: int, first: int, last: int, size: int, rows: int | None = None
    ) -> Found:
        """About `size` events of a stream from offset `first` to `last`, in their order: parts first, then rows.

        At most `rows` of them are fresh ones. Fewer, where a block behind the first is damaged.

        Raises:
            DamagedEvent: the first block is.
        """
        blocks = size // BLOCK_EVENTS + 1
        most = size if rows is None else rows
        found = await self._reader.fetch(_BY_OFFSET, (row, first, last, blocks, most))
        packed = [one[:-1] for one in found if one[-1] == _NEXT]
        await self._learn(packed)
        stored = list(self._sound(packed))
        parts = [
            Part(one, range(max(first - one.offset, 0), min(last - one.offset + 1, one.count)))
            for one in stored
        ]
        if len(stored) < len(packed) or len(packed) == blocks:
            return Found((), parts)  # there are, or may be, more blocks before the first row
        return Found([one for one in found if one[-1] == _ROW], parts)

    async def lowest_key(self, row: int, first: int) -> int | None:
        """A row key that no event of a stream from offset `first` on lies below; None where there is none."""
        found = await self._reader.fetch(_LOWEST, (row, first))
        return min((key for (key,) in found), default=None)

    async def fitting(self, row: int, first: int, events: int, size: int) -> int:
        """How many fresh events of a stream from an offset on are within these limits, measured and not read."""
        return await fitting(self._reader, row, first, events, size)

    async def _opened_all(self, near: Sequence[Sequence[Any]]) -> list[Block] | None:
        """The blocks that a page reaches into; mostly they were opened for the page before.

        None where others stand in their place meanwhile: damage was mended.
        """
        kept = [self._kept(key, offset, count) for key, _, offset, count in near]
        missing = [one for one, block in zip(near, kept, strict=True) if block is None]
        for one, block in zip(near, kept, strict=True):
            if block is not None:
                self._open((*one, None))  # a search by key may have opened some of its frames alone
        stored: list[Any] = []
        if missing:
            marks = ",".join(str(one[0]) for one in missing)
            stored = await self._reader.fetch(f"{_BLOCKS} WHERE key IN ({marks}) ORDER BY key")
        if [tuple(one[:4]) for one in stored] != sorted(map(tuple, missing)):
            return None
        return [one for one in kept if one is not None] + await self._open_whole(stored)

    def forget(self) -> None:
        """Read every block from the disk again."""
        self._opened.clear()

    def _sound(self, stored: Iterable[Sequence[Any]]) -> Iterator[Block]:
        """The blocks before the first damaged one, which is an error where it is the very first."""
        for number, one in enumerate(stored):
            try:
                yield self._open(one)
            except DamagedEvent:
                if number == 0:
                    raise
                return

    async def _learn(self, stored: Iterable[Any]) -> None:
        """Load the dictionaries of these blocks, where another program has learnt one meanwhile."""
        numbers = {dictionary_of(one[-1]) for one in stored}
        if not all(map(self._dictionaries.knows, numbers)):
            await self._dictionaries.load(self._reader)

    async def _open_whole(self, stored: Sequence[Any]) -> list[Block]:
        await self._learn(stored)
        opened: list[Block] = []
        for one in stored:
            opened.append(self._open(one))
            if len(opened) % OPENED_AT_ONCE == 0:
                await asyncio.sleep(0)
        return opened

    def _open(self, stored: Any) -> Block:
        """A block with all its frames open."""
        try:
            block = self._block(stored)
            block.open()
        except ValueError as error:
            raise self._damaged(stored, error) from error
        return block

    def _block(self, stored: Any) -> Block:
        """A block, its frames not opened yet unless they were before."""
        key, last, offset, count, data = stored
        block = self._kept(key, offset, count)
        if block is None:
            block = unopened_block(key, last, offset, count, data, self._dictionaries)
            self._keep(key, block)
        return block

    def _kept(self, key: int, offset: int, count: int) -> Block | None:
        """A block that is open already; not one in whose place another stands by now."""
        block = self._opened.get(key)
        return (
            block if block is not None and (block.offset, block.count) == (offset, count) else None
        )

    def _keep(self, key: int, block: Block) -> None:
        self._opened.pop(key, None)  # the latest stand last
        self._opened[key] = block
        if len(self._opened) > OPENED_BLOCKS:
            del self._opened[next(iter(self._opened))]

    def _damaged(self, stored: Any, error: ValueError) -> DamagedEvent:
        key, _, offset, count, _ = stored
        self._opened.pop(key, None)
        stream = self._name(key & MAX_STREAMS - 1)
        if stream is None:
            raise DamagedIndex(f"a block of no stream is damaged on this disk: {DAMAGE_REMEDY}")
        first, last = _extent(offset, count)
        if isinstance(error, MisplacedFrame) and error.frame.row == key & MAX_STREAMS - 1:
            other = error.frame.offset - error.position  # it is the columns that do not fit it
            first, last = min(first, other), max(last, other + BLOCK_EVENTS - 1)
        fault = f"offsets {first} to {last} of stream {stream}, one block, are damaged on this disk: {DAMAGE_REMEDY}"
        return DamagedEvent(
            EventKey(key >> STREAM_BITS, stream), OffsetRange(stream, first, last), fault
        )


def checked_block(  # noqa: PLR0917 - the columns of its row, as they come
    key: int, last: int, offset: int, count: int, data: bytes, dictionaries: Dictionaries
) -> Block:
    """Open all of a block as it is stored.

    Raises:
        ValueError: it is damaged, or not the block that belongs in this place.
    """
    block = unopened_block(key, last, offset, count, data, dictionaries)
    block.open()
    return block


def unopened_block(  # noqa: PLR0917 - as above
    key: int, last: int, offset: int, count: int, data: bytes, dictionaries: Dictionaries
) -> Block:
    """A block as it is stored, its frames not looked at yet; raises as `checked_block` does."""
    # In a damaged row anything may stand.
    types: tuple[type, ...] = (type(data), type(last), type(offset), type(count))
    if types != _COLUMNS:
        raise ValueError("its columns are of other types than were written")
    directory = read_directory(data)
    row = key & MAX_STREAMS - 1
    first = directory.lamports[0] << STREAM_BITS | row
    if (first, directory.last_lamport << STREAM_BITS | row, directory.positions[-1]) != (
        key,
        last,
        count,
    ):
        raise ValueError("its directory belongs in another place")
    decompress = dictionaries.decompressor(directory.dictionary)
    return Block(row, offset, data, directory, decompress)


def _offset_of(row: StoredRow) -> int:
    offset: int = row[1]
    return offset


def _extent(offset: Any, count: Any) -> tuple[int, int]:
    """The offsets of a block by its columns, in which anything may stand: then all that there can be."""
    if not isinstance(offset, int) or not isinstance(count, int):
        return 0, 2**63 - 1
    return max(offset, 0), max(offset, 0) + max(count, 1) - 1


def _meeting(block: Block, low: int, high: int, places: Sequence[int]) -> Sequence[int]:
    """Those of some positions in a block whose row keys lie from `low` to `high`."""
    first = bisect_left(block.lamports, (low - block.row + MAX_STREAMS - 1) >> STREAM_BITS)
    stop = bisect_right(block.lamports, (high - block.row) >> STREAM_BITS)
    if isinstance(places, range):
        return range(max(first, places.start), min(stop, places.stop))
    return [at for at in places if first <= at < stop]


def _only(among: Iterable[int] | None) -> dict[str, str]:
    """Conditions that leave only some streams in: on blocks, on rows, on the list of streams."""
    if among is None:
        return {"blocks": "", "rows": "", "streams": ""}
    listed = ",".join(map(str, sorted(among)))
    return {
        "blocks": f"AND stream IN ({listed})",
        "rows": f"AND key & {MAX_STREAMS - 1} IN ({listed})",
        "streams": f"WHERE s.row IN ({listed})",
    }


_REACHING, _NEXT, _BEYOND, _ROW = range(4)
"""What a row of an answer is, its last column: a block that reaches into a page, one that begins in it, where the first
block behind the page begins, a fresh event."""

_BLOCKS = 'SELECT key, last, "offset", count, data FROM blocks'

# Parameters: ?1 and ?2 the lowest and highest key, ?3 blocks and ?4 rows at most. Of each stream one block at most
# begins before a page and reaches into it.
_ASCENDING = """
SELECT key, last, "offset", count, NULL, 0 FROM blocks WHERE last >= ?1 AND key IN (
  SELECT (SELECT max(b.key) FROM blocks b WHERE b.stream = s.row AND b.key < ?1) FROM streams s {streams})
UNION ALL SELECT * FROM (
  SELECT key, last, "offset", count, data, 1 FROM blocks
  WHERE key BETWEEN ?1 AND ?2 {blocks} ORDER BY key LIMIT ?3)
UNION ALL SELECT * FROM (
  SELECT key - 1, NULL, NULL, NULL, NULL, 2 FROM blocks
  WHERE key BETWEEN ?1 AND ?2 {blocks} ORDER BY key LIMIT 1 OFFSET ?3)
UNION ALL SELECT * FROM (
  SELECT key, "offset", bytes, crc, NULL, 3 FROM events WHERE key BETWEEN ?1 AND ifnull((
    SELECT key FROM blocks WHERE key BETWEEN ?1 AND ?2 {blocks} ORDER BY key LIMIT 1 OFFSET ?3), ?2)
  {rows} ORDER BY key LIMIT ?4)
"""
_DESCENDING = """
SELECT key, last, "offset", count, NULL, 0 FROM blocks WHERE last > ?2 AND key IN (
  SELECT (SELECT max(b.key) FROM blocks b WHERE b.stream = s.row AND b.key <= ?2) FROM streams s {streams})
UNION ALL SELECT * FROM (
  SELECT key, last, "offset", count, data, 1 FROM blocks
  WHERE last BETWEEN ?1 AND ?2 {blocks} ORDER BY last DESC LIMIT ?3)
UNION ALL SELECT * FROM (
  SELECT last + 1, NULL, NULL, NULL, NULL, 2 FROM blocks
  WHERE last BETWEEN ?1 AND ?2 {blocks} ORDER BY last DESC LIMIT 1 OFFSET ?3)
UNION ALL SELECT * FROM (
  SELECT key, "offset", bytes, crc, NULL, 3 FROM events WHERE key BETWEEN ifnull((
    SELECT last FROM blocks WHERE last BETWEEN ?1 AND ?2 {blocks} ORDER BY last DESC LIMIT 1 OFFSET ?3), ?1) AND ?2
  {rows} ORDER BY key DESC LIMIT ?4)
"""
_MASK = MAX_STREAMS - 1
_BY_KEY = f"""
SELECT key, "offset", bytes, crc, NULL, 3 FROM events WHERE key IN (SELECT value FROM json_each(?1))
UNION ALL SELECT key, last, "offset", count, data, 1 FROM blocks WHERE key IN (
  SELECT (SELECT max(b.key) FROM blocks b WHERE b.stream = k.value & {_MASK} AND b.key <= k.value)
  FROM json_each(?1) k)
"""  # noqa: S608 - a number of ours
# ?1 the stream, ?2 and ?3 the first and last offset, ?4 blocks and ?5 rows at most.
_BY_OFFSET = """
SELECT * FROM (
  SELECT key, last, "offset", count, data, 1 FROM blocks WHERE stream = ?1 AND "offset" <= ?3 AND "offset" >= ifnull((
    SELECT max(b."offset") FROM blocks b WHERE b.stream = ?1 AND b."offset" <= ?2), 0) AND "offset" + count > ?2
  ORDER BY "offset" LIMIT ?4)
UNION ALL SELECT * FROM (
  SELECT key, "offset", bytes, crc, NULL, 3 FROM events WHERE stream = ?1 AND "offset" BETWEEN ?2 AND ?3
  ORDER BY "offset" LIMIT ?5)
"""
_LOWEST = """
SELECT * FROM (
  SELECT key FROM blocks WHERE stream = ?1 AND "offset" >= ifnull((
    SELECT max(b."offset") FROM blocks b WHERE b.stream = ?1 AND b."offset" <= ?2), 0) AND "offset" + count > ?2
  ORDER BY "offset" LIMIT 1)
UNION ALL SELECT * FROM (
  SELECT key FROM events WHERE stream = ?1 AND "offset" >= ?2 ORDER BY "offset" LIMIT 1)
"""
_SIZES = """
SELECT length(bytes) FROM events WHERE stream = ?1 AND "offset" >= ?2 ORDER BY "offset" LIMIT ?3
"""
