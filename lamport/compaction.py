"""Compaction: old events move from rows into blocks in the background, a step at a time.

A step takes one *unit*: the oldest rows of the stream that has the most of them, up to a seal. It checks that they are
what the seal vouches for, packs them (through the `Work` seam), and in one transaction writes the blocks, deletes the
rows, and deletes the seals within the unit but the last, and but where what counts of a revoked stream ends. A unit
fits a frame, as every sealed range does: so whoever asks for events from any offset in it is served up to its seal, and
the hash at any offset is a short way from one.
Blocks are never written again; those of a stream follow each other, and its rows follow the last of them.

A unit that does not hold is left as it is, with everything behind it: reads and `shoal verify` tell what is damaged.
"""

import asyncio
import json
import logging
from collections import Counter
from collections.abc import Callable, Sequence

import msgpack

from lamport.blocks import BLOCK_EVENTS, Dictionary, frame_contents, pack_events
from lamport.chain import MAX_SEALED_BYTES, MAX_SEALED_EVENTS, Head, chained
from lamport.dictionaries import SAMPLE_BYTES, SAMPLE_EVENTS, Dictionaries, inserted, learn
from lamport.event_table import Row, fitting
from lamport.frames import Filed, MisfiledEvent
from lamport.row_keys import STREAM_BITS, row_key
from lamport.seams import Connection, Statement, Work

MAX_ROWS = 65_536
"""Beyond so many fresh events (some 20 MB) a step is made after each commit, …"""

MAX_BACKLOG_ROWS = 4 * MAX_ROWS
"""… and beyond so many appends wait until there are fewer."""

IDLE_ROWS = 4_096
"""An idle log keeps so many as rows: the latest are read most, one by one, and singly a row is cheaper than a block."""

UNIT_EVENTS = 2 * BLOCK_EVENTS
"""Events of a step, where seals allow: some milliseconds, and one seal for them costs less than a byte each."""

MAX_FREE_PAGES = 128
"""Beyond so many unused pages (half a megabyte) in its file an idle log gives some back …"""

FREED_PAGES = 128
"""… so many in a step: a millisecond or two."""

RELEARN_EVENTS = 65_536
"""Where events had too little in common to learn from, they are looked at again behind so many more."""

Place = tuple[int, int, int, int, int, bytes]
"""A block as a row of its table."""

_INCREMENTAL = 2

_log = logging.getLogger("shoal.log")


class Compaction:
    """Which events of one database are still rows, and how they become blocks.

    `start_of` gives the head before the first event of a row, by its number; None for one to be left alone now.
    `ends_of` gives the offsets in a row where something ends that counts: seals there stay.
    """

    def __init__(
        self,
        writer: Connection,
        dictionaries: Dictionaries,
        start_of: Callable[[int], Head | None],
        ends_of: Callable[[int], Sequence[int]],
    ) -> None:
        """Use `load` before anything else."""
        self._writer = writer
        self._dictionaries = dictionaries
        self._start_of = start_of
        self._ends_of = ends_of
        self._rows: Counter[int] = Counter()
        self._stuck: set[int] = set()
        self._has_freed = True
        self.lock = asyncio.Lock()
        """Held while events are moved or deleted, and while damaged ones are replaced where they stand."""
        self._packed = 0
        self._learns_from = 0
        self.rows = 0
        """Events that are still rows."""

    async def load(self) -> None:
        """Find out how many events of each stream are rows."""
        self._rows = Counter(
            dict(await self._writer.fetch("SELECT stream, count(*) FROM events GROUP BY stream"))
        )
        self.rows = self._rows.total()
        [(packed,)] = await self._writer.fetch("SELECT total(count) FROM blocks")
        self._packed = int(packed)

    def count(self, row: int) -> int:
        """How many events of a stream are rows."""
        return self._rows[row]

    def added(self, rows: Sequence[int]) -> None:
        """Take note of more events as rows: of each its stream's local number."""
        self._rows.update(rows)
        self.rows += len(rows)

    def removed(self, row: int, count: int) -> None:
        """Take note of so many fewer rows of a stream."""
        self._rows[row] -= count
        self.rows -= count
        self._has_freed = True

    async def mended(self, row: int) -> None:
        """Damaged events of a stream stand right again, perhaps as rows: count them. Hold the lock."""
        [(count,)] = await self._writer.fetch(
            "SELECT count(*) FROM events WHERE stream = ?", (row,)
        )
        self.removed(row, self._rows[row] - count)
        self._stuck.discard(row)

    def is_due(self, *, idle: bool) -> bool:
        """Whether a step is to be made now."""
        if idle and self._has_freed:
            return True
        return self.rows > (IDLE_ROWS if idle else MAX_ROWS) and self.can_pack

    @property
    def can_pack(self) -> bool:
        """Whether there is a stream with enough rows for a block."""
        return self._longest() is not None

    def is_overdue(self) -> bool:
        """Whether appends must wait for it."""
        return self.rows > MAX_BACKLOG_ROWS and self.can_pack

    async def step(self, work: Work) -> None:
        """Turn one unit into blocks, where there is one; else give back unused pages. To learn is a step of its own."""
        row = self._longest() if self.rows > IDLE_ROWS else None
        if row is None:
            await self._give_back()
            return
        if self._packed >= self._learns_from and self._dictionaries.is_due(self._packed):
            await self._learn(work)
            return
        [(first,)] = await self._writer.fetch(
            'SELECT min("offset") FROM events WHERE stream = ?', (row,)
        )
        unit, end = await self._unit(row, first)
        before, sealed = await self._hash(row, first - 1), await self._hash(row, end)
        packed = await self._pack(row, unit, before, sealed, work)
        if packed is None:
            self._stuck.add(row)
            _log.error(
                "a stream's fresh events do not hold: stop the daemon and run `shoal verify`"
            )
            return
        await self._writer.transact(_statements(row, first, end, packed, self._ends_of(row)))
        self.removed(row, len(unit))
        self._packed += len(unit)

    async def _pack(
        self, row: int, unit: Sequence[Row], before: bytes, sealed: bytes, work: Work
    ) -> list[Place] | None:
        if not unit:
            return None
        newest = self._dictionaries.newest
        return await work.run(_packed, row, unit, before, sealed, newest)

    async def _learn(self, work: Work) -> None:
        """Learn one more dictionary from the oldest rows, where they have enough in common."""
        found = await self._writer.fetch(
            'SELECT key, "offset", bytes, crc FROM events WHERE length(bytes) <= ? ORDER BY key LIMIT ?',
            (SAMPLE_BYTES, SAMPLE_EVENTS),
        )
        self._learns_from = self._packed + RELEARN_EVENTS
        data = await work.run(_learnt, [Row(*one) for one in found])
        if data:
            rows = self._dictionaries.next_rows(data)
            await self._writer.transact([inserted(rows)])
            self._dictionaries.take(rows)

    async def _give_back(self) -> None:
        """Shrink the file by a step, where much of it is unused and the database was made to allow it."""
        [(free,)] = await self._writer.fetch("PRAGMA freelist_count")
        [(kind,)] = await self._writer.fetch("PRAGMA auto_vacuum")
        self._has_freed = kind == _INCREMENTAL and free > MAX_FREE_PAGES
        if self._has_freed:
            await self._writer.fetch(f"PRAGMA incremental_vacuum({FREED_PAGES})")

    def _longest(self) -> int | None:
        """The stream with the most rows, if those are enough for a block."""
        least = min(BLOCK_EVENTS, IDLE_ROWS)
        for row, count in self._rows.most_common():
            if count < least:
                break
            if row not in self._stuck and self._start_of(row) is not None:
                return row
        return None

    async def _unit(self, row: int, first: int) -> tuple[list[Row], int]:
        """The oldest rows of a stream, from offset `first` on, up to a seal, and where that is; none without a seal."""
        count = await fitting(self._writer, row, first, MAX_SEALED_EVENTS, MAX_SEALED_BYTES)
        seals = await self._writer.fetch(
            'SELECT "offset" FROM seals WHERE stream = ? AND "offset" BETWEEN ? AND ? ORDER BY "offset"',
            (row, first, first + count - 1),
        )
        if not seals:
            return [], first
        near = [offset for (offset,) in seals if offset < first + UNIT_EVENTS]
        end: int = near[-1] if near else seals[0][0]
        rows = await self._writer.fetch(
            'SELECT key, "offset", bytes, crc FROM events WHERE stream = ? AND "offset" BETWEEN ? AND ?'
            ' ORDER BY "offset"',
            (row, first, end),
        )
        return [Row(*one) for one in rows], end

    async def _hash(self, row: int, offset: int) -> bytes:
        """The chain's hash at a seal, or before all that is kept; of no use where there is neither."""
        start = self._start_of(row)
        if start is not None and start.offset == offset:
            return start.hash
        sql = 'SELECT hash FROM seals WHERE stream = ? AND "offset" = ?'
        found = await self._writer.fetch(sql, (row, offset))
        return bytes(found[0][0]) if found else b""


def _learnt(rows: Sequence[Row]) -> bytes:
    """A dictionary from these rows; empty where they are too few, or damaged."""
    try:
        sound = [Filed(one.key >> STREAM_BITS, one.data) for one in rows if one.is_sound]
        return learn(list(frame_contents(sound)))
    except (TypeError, ValueError, msgpack.UnpackException):  # an older row has no checksum
        return b""


def _packed(
    row: int, unit: Sequence[Row], before: bytes, sealed: bytes, dictionary: Dictionary
) -> list[Place] | None:
    """Blocks of rows; None where these are not what was sealed."""
    try:
        if not all(one.is_sound for one in unit):
            return None
        if chained(before, [one.data for one in unit]) != sealed:
            return None
    except TypeError:  # what stands in a damaged row may be of any type
        return None
    events = [Filed(one.key >> STREAM_BITS, one.data) for one in unit]
    try:
        packed = list(pack_events(row, unit[0].offset, events, dictionary))
    except MisfiledEvent:  # a row's checksum covers the lower half of its key alone
        return None
    return [
        (row_key(one.first_lamport, row), row_key(one.last_lamport, row), row, *one[2:])
        for one in packed
    ]


def _statements(
    row: int, first: int, end: int, packed: Sequence[Place], ends: Sequence[int]
) -> list[Statement]:
    return [
        Statement("INSERT INTO blocks VALUES (?, ?, ?, ?, ?, ?)", packed),
        Statement(
            'DELETE FROM events WHERE stream = ? AND "offset" BETWEEN ? AND ?', [(row, first, end)]
        ),
        Statement(
            'DELETE FROM seals WHERE stream = ? AND "offset" >= ? AND "offset" < ?'
            ' AND "offset" NOT IN (SELECT value FROM json_each(?))',
            [(row, first, end, json.dumps(ends))],
        ),
    ]
