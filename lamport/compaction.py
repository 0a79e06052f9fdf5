"""Compaction: old events move from rows into blocks in the background, a step at a time.

A step takes one *unit*: the oldest rows of the stream that has the most of them, up to a seal. It checks that they are
what the seal vouches for, packs them (through the `Work` seam), and in one transaction writes the blocks, deletes the
rows, and deletes the seals within the unit but the last. A unit fits a frame, as every sealed range does: so whoever
asks for events from any offset in it is served up to its seal, and the hash at any offset is a short way from one.
Blocks are never written again; those of a stream follow each other, and its rows follow the last of them.

A unit that does not hold is left as it is, with everything behind it: reads and `shoal verify` tell what is damaged.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate

from lamport.blocks import BLOCK_EVENTS, Filed, pack_events
from lamport.chain import MAX_SEALED_BYTES, MAX_SEALED_EVENTS, chained
from lamport.event_table import Row
from lamport.row_keys import STREAM_BITS, row_checksum, row_key
from lamport.seams import Connection, Statement, Work

MAX_ROWS = 65_536
"""Beyond so many fresh events (some 20 MB) a step is made after each commit, …"""

MAX_BACKLOG_ROWS = 4 * MAX_ROWS
"""… and beyond so many appends wait until there are fewer."""

IDLE_ROWS = 4_096
"""An idle log keeps so many as rows: the latest are read most, one by one, and singly a row is cheaper than a block."""

UNIT_EVENTS = 3 * BLOCK_EVENTS
"""Events of a step, where seals allow: some milliseconds, and one seal for them costs less than a byte each."""

MAX_FREE_PAGES = 128
"""Beyond so many unused pages (half a megabyte) in its file an idle log gives some back …"""

FREED_PAGES = 128
"""… so many in a step: a millisecond or two."""

Place = tuple[int, int, int, int, int, bytes]
"""A block as a row of its table."""

_INCREMENTAL = 2

_log = logging.getLogger("shoal.log")


class Compaction:
    """Which events of one database are still rows, and how they become blocks.

    `origin` gives the hash before a stream's first event, by its local number.
    """

    def __init__(self, writer: Connection, origin: Callable[[int], bytes]) -> None:
        """Use `load` before anything else."""
        self._writer = writer
        self._origin = origin
        self._first: dict[int, int] = {}
        self._next: dict[int, int] = {}
        self._stuck: set[int] = set()
        self._has_freed = True
        self.lock = asyncio.Lock()
        """Held while events are moved, and while damaged ones are replaced where they stand."""
        self.rows = 0
        """Events that are still rows."""

    async def load(self, heads: Mapping[int, int]) -> None:
        """Find out where the rows of each stream begin; `heads` are their highest offsets by local number."""
        found = await self._writer.fetch(
            'SELECT s.row, (SELECT b."offset" + b.count FROM blocks b WHERE b.stream = s.row'
            ' ORDER BY b."offset" DESC LIMIT 1) FROM streams s'
        )
        self._first = {row: first for row, first in found if first is not None}
        self.moved(heads)

    def moved(self, heads: Mapping[int, int]) -> None:
        """Take up where streams reach to now."""
        for row, offset in heads.items():
            before = self._next.get(row, self._first.get(row, 0))
            self._next[row] = max(offset + 1, before)
            self.rows += self._next[row] - before

    async def mended(self, row: int, head: int) -> None:
        """Damaged events of a stream stand right again, perhaps as rows: look where its rows begin. Hold the lock."""
        [(first,)] = await self._writer.fetch(
            'SELECT min("offset") FROM events WHERE stream = ?', (row,)
        )
        before = self._next.get(row, 0) - self._first.get(row, 0)
        self._first[row], self._next[row] = head + 1 if first is None else first, head + 1
        self.rows += self._next[row] - self._first[row] - before
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
        """Turn one unit into blocks, where there is one."""
        row = self._longest() if self.rows > IDLE_ROWS else None
        if row is None:
            await self._give_back()
            return
        unit, end = await self._unit(row)
        before = await self._hash(row, self._first.get(row, 0) - 1)
        sealed = await self._hash(row, end)
        packed = await work.run(_packed, row, unit, before, sealed) if unit else None
        if packed is None:
            self._stuck.add(row)
            _log.error(
                "a stream's fresh events do not hold: stop the daemon and run `shoal verify`"
            )
            return
        await self._writer.transact(_statements(row, unit[0].offset, end, packed))
        self._first[row], self._has_freed = end + 1, True
        self.rows -= len(unit)

    async def _give_back(self) -> None:
        """Shrink the file by a step, where much of it is unused and the database was made to allow it."""
        [(free,)] = await self._writer.fetch("PRAGMA freelist_count")
        [(kind,)] = await self._writer.fetch("PRAGMA auto_vacuum")
        self._has_freed = kind == _INCREMENTAL and free > MAX_FREE_PAGES
        if self._has_freed:
            await self._writer.fetch(f"PRAGMA incremental_vacuum({FREED_PAGES})")

    def _longest(self) -> int | None:
        """The stream with the most rows, if those are enough for a block."""
        first, stuck = self._first, self._stuck
        lengths = (
            (following - first.get(row, 0), -row)
            for row, following in self._next.items()
            if row not in stuck
        )
        length, row = max(lengths, default=(0, 0))
        return -row if length >= min(BLOCK_EVENTS, IDLE_ROWS) else None

    async def _unit(self, row: int) -> tuple[list[Row], int]:
        """The oldest rows of a stream up to a seal, and where that is; no rows where there is none."""
        first = self._first.get(row, 0)
        count = await self._fitting(row, first)
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

    async def _fitting(self, row: int, first: int) -> int:
        """How many rows fit a sealed range, at least one; measured before they are read."""
        sizes = await self._writer.fetch(
            'SELECT length(bytes) FROM events WHERE stream = ? AND "offset" >= ? ORDER BY "offset" LIMIT ?',
            (row, first, MAX_SEALED_EVENTS),
        )
        totals: Iterable[int] = accumulate(size for (size,) in sizes)
        return max(1, sum(total <= MAX_SEALED_BYTES for total in totals))

    async def _hash(self, row: int, offset: int) -> bytes:
        """The chain's hash at a seal; of no use where there is none."""
        if offset < 0:
            return self._origin(row)
        sql = 'SELECT hash FROM seals WHERE stream = ? AND "offset" = ?'
        found = await self._writer.fetch(sql, (row, offset))
        return bytes(found[0][0]) if found else b""


def _packed(row: int, unit: Sequence[Row], before: bytes, sealed: bytes) -> list[Place] | None:
    """Blocks of rows; None where these are not what was sealed."""
    try:
        if chained(before, [one.data for one in unit]) != sealed or not all(map(_is_sound, unit)):
            return None
    except TypeError:  # what stands in a damaged row may be of any type
        return None
    first = unit[0].offset
    events = [Filed(one.key >> STREAM_BITS, one.data) for one in unit]
    return [
        (row_key(one.first_lamport, row), row_key(one.last_lamport, row), row, *one[2:])
        for one in pack_events(row, first, events)
    ]


def _is_sound(one: Row) -> bool:
    return one.crc is None or one.crc == row_checksum(one.key, one.offset, one.data)


def _statements(row: int, first: int, end: int, packed: Sequence[Place]) -> list[Statement]:
    return [
        Statement("INSERT INTO blocks VALUES (?, ?, ?, ?, ?, ?)", packed),
        Statement(
            'DELETE FROM events WHERE stream = ? AND "offset" BETWEEN ? AND ?', [(row, first, end)]
        ),
        Statement(
            'DELETE FROM seals WHERE stream = ? AND "offset" >= ? AND "offset" < ?',
            [(row, first, end)],
        ),
    ]
