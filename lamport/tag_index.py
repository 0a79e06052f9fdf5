"""The tag index: which events bear a tag, written at the speed of a plain append and merged in the background.

A row for each tag of each event would cost most of the append rate. So a commit writes its entries as they come, in
*runs*, and keeps them in memory as well; that is bounded, for runs are merged into sorted blocks per tag (see
`lamport.postings`) in small steps, each of them one transaction. Entries only ever move from memory to the tables: who
looks into memory first and into the tables afterwards misses none, whatever is merged meanwhile, and may see one twice.
The index may find too much (two tags may share a hash), and never too little.
"""

import struct
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from lamport.errors import DamagedIndex
from lamport.postings import (
    BLOCK_KEYS,
    Merged,
    grouped,
    merged,
    pack_numbers,
    unpack_block,
    unpack_numbers,
    unpack_tail,
)
from lamport.seams import INLINE, Connection, Statement, Work

MAX_RUN_ENTRIES = 4_096
"""Most entries of a run, so that a merge can take a few of them …"""

MAX_STEP_ENTRIES = 8_192
"""… and a step of a merge at most about so many: some milliseconds."""

MAX_FRESH = 131_072
"""Beyond so many entries in memory (some 5 MB) a step is made after each commit, …"""

MAX_BACKLOG = 4 * MAX_FRESH
"""… and beyond so many appends wait until there are fewer."""

IDLE_ENTRIES = 8_192
"""An idle log merges so many entries …"""

IDLE_RUNS = 256
"""… or so many runs: fewer are quickly read at the next start, and each step rewrites the tails it touches."""

MAX_UNSORTED_ENTRIES = 1_024
"""So many entries lie in memory as they came, before they are told apart by tag: at once costs less than by commit."""

NARROWING_BLOCKS = 16
"""A further tag narrows a selection down while that takes no more blocks to read; else the events are looked at."""

_MAX_PARAMETERS = 1_000
_ROWS_OF_A_PAGE = 100
_ENTRY_BYTES = 16


class Run(NamedTuple):
    """Entries of one commit, or a part of them, as they are stored."""

    id: int
    entries: bytes

    @property
    def size(self) -> int:
        """How many entries there are."""
        return len(self.entries) // _ENTRY_BYTES


@dataclass(frozen=True, slots=True)
class Window:
    """Keys that bear a tag, sorted, and up to which key (from which, when descending) none was left out; None: all."""

    keys: list[int]
    reached: int | None


class TagIndex:
    """The index of one database: what is in memory of it, and how it is read and merged."""

    def __init__(self, writer: Connection, reader: Connection) -> None:
        """Use `load` before anything else."""
        self._writer = writer
        self._reader = reader
        self._runs: deque[Run] = deque()
        self._arrived: list[bytes] = []
        self._arrived_entries = 0
        self._told_apart: dict[int, list[int]] = {}
        self._unsorted: set[int] = set()
        self._next_id = 1
        self.entries = 0
        """Entries that are not merged yet."""

    async def load(self) -> None:
        """Take up the runs that no merge has taken yet."""
        rows = await self._writer.fetch("SELECT id, entries FROM tag_runs ORDER BY id")
        for id_, entries in rows:
            self.add([Run(id_, entries)])

    def cut(self, entries: Sequence[int]) -> list[Run]:
        """Runs of a commit's entries: tag hash, key, tag hash, key and so on."""
        step = 2 * MAX_RUN_ENTRIES
        parts = (entries[start : start + step] for start in range(0, len(entries), step))
        return [Run(id_, pack_numbers(part)) for id_, part in enumerate(parts, self._next_id)]

    def add(self, runs: Sequence[Run]) -> None:
        """Take up runs that have become durable."""
        for run in runs:
            self._runs.append(run)
            self._arrived.append(run.entries)
            self._arrived_entries += run.size
            self.entries += run.size
            self._next_id = run.id + 1
        if self._arrived_entries > MAX_UNSORTED_ENTRIES:
            self._tell_apart()

    def _tell_apart(self) -> None:
        arrived, self._arrived, self._arrived_entries = self._arrived, [], 0
        for tag, keys in grouped(arrived).items():
            self._told_apart.setdefault(tag, []).extend(keys)
            self._unsorted.add(tag)

    @property
    def _fresh(self) -> dict[int, list[int]]:
        """The keys in memory, by tag."""
        if self._arrived:
            self._tell_apart()
        return self._told_apart

    def is_fresh(self, entries: Iterable[tuple[int, int]]) -> bool:
        """Whether one of these entries (tag hash and key) is not merged yet."""
        return any(self._fresh_keys(tag, key, key, 1, descending=False) for tag, key in entries)

    def is_due(self, *, idle: bool) -> bool:
        """Whether a step of a merge is to be made now."""
        if idle:
            return self.entries >= IDLE_ENTRIES or len(self._runs) >= IDLE_RUNS
        return self.entries > MAX_FRESH

    def is_overdue(self) -> bool:
        """Whether appends must wait for it."""
        return self.entries > MAX_BACKLOG

    async def merge(self, work: Work) -> None:
        """Make one step: the oldest runs move into the tables, in one transaction."""
        runs = list(self._oldest())
        groups = await work.run(grouped, [run.entries for run in runs])
        found = await work.run(merged, groups, await self.tails(groups))
        done = Statement("DELETE FROM tag_runs WHERE id <= ?", [(runs[-1].id,)])
        await self._writer.transact([*_statements(found), done])
        for _ in runs:
            self._runs.popleft()
        self.entries -= sum(run.size for run in runs)
        self._forget(groups)

    async def adopt_rows(self) -> None:
        """Merge what schema 1 left: a table with a row per tag and event. Goes on where a crash interrupted it."""
        named = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'tags'"
        if not await self._writer.fetch(named):
            return
        oldest = "SELECT tag, key FROM tags ORDER BY tag, key LIMIT ?"
        while rows := await self._writer.fetch(oldest, (MAX_STEP_ENTRIES,)):
            groups = grouped([pack_numbers([number for row in rows for number in row])])
            found = merged(groups, await self.tails(groups))
            done = Statement("DELETE FROM tags WHERE (tag, key) <= (?, ?)", [rows[-1]])
            await self._writer.transact([*_statements(found), done])
        await self._writer.transact([Statement("DROP TABLE tags")])

    async def window(self, tag: int, low: int, high: int, size: int, *, descending: bool) -> Window:
        """The first keys from `low` to `high`, in reading direction, that bear a tag: at most `size`."""
        keys = set(self._fresh_keys(tag, low, high, size + 1, descending=descending))
        limit = size // BLOCK_KEYS + 2
        tail, blocks = await self._stored(tag, low, high, limit + 1, descending=descending)
        reached = None
        if len(blocks) > limit:
            [*blocks, (first, last, _)] = blocks
            reached = last + 1 if descending else first - 1
        keys.update(tail)
        for _, _, data in blocks:
            keys.update(unpack_block(data))
        if reached is not None:
            low, high = (max(low, reached), high) if descending else (low, min(high, reached))
        found = [*_between(sorted(keys), low, high)]
        if len(found) <= size:
            return Window(found, reached)
        found = found[-size:] if descending else found[:size]
        return Window(found, found[0] if descending else found[-1])

    async def narrowed(self, keys: list[int], tag: int) -> list[int]:
        """Those of the keys that bear another tag too; all of them where finding out costs more than it saves."""
        low, high = keys[0], keys[-1]
        bearing = set(self._fresh_keys(tag, low, high, MAX_BACKLOG, descending=False))
        tail, blocks = await self._stored(tag, low, high, NARROWING_BLOCKS + 1, descending=False)
        if len(blocks) > NARROWING_BLOCKS:
            return keys
        bearing.update(tail)
        for _, _, data in blocks:
            bearing.update(unpack_block(data))
        return [key for key in keys if key in bearing]

    async def size(self, tag: int) -> int:
        """How many keys bear a tag, about."""
        sql = (
            "SELECT ifnull((SELECT length(keys) / 4 FROM tag_tails WHERE tag = ?), 0)"
            " + ifnull((SELECT sum(size) FROM tag_blocks WHERE tag = ?), 0)"
        )
        fresh = len(self._fresh.get(tag, ()))
        [(stored,)] = await self._reader.fetch(sql, (tag, tag))
        return fresh + int(stored)

    def _fresh_keys(
        self, tag: int, low: int, high: int, size: int, *, descending: bool
    ) -> Sequence[int]:
        """The first `size` keys in memory from `low` to `high`, in reading direction."""
        keys = self._fresh.get(tag, [])
        if tag in self._unsorted:
            self._unsorted.discard(tag)
            keys.sort()  # nearly sorted as they come: this is quick
        start, stop = bisect_left(keys, low), bisect_right(keys, high)
        return keys[max(start, stop - size) : stop] if descending else keys[start:stop][:size]

    async def _stored(
        self, tag: int, low: int, high: int, limit: int, *, descending: bool
    ) -> tuple[Sequence[int], list[Any]]:
        """The tail and the first blocks with keys from `low` to `high`; in one statement, for a merge moves them."""
        order = "last DESC" if descending else "first"
        rows = await self._reader.fetch(
            "SELECT NULL, NULL, keys FROM tag_tails WHERE tag = ?"  # noqa: S608 - no values in it
            " UNION ALL SELECT first, last, keys FROM tag_blocks WHERE rowid IN"
            " (SELECT rowid FROM tag_blocks WHERE tag = ? AND first <= ? AND last >= ?"
            f" ORDER BY {order} LIMIT ?)",
            (tag, tag, high, low, limit),
        )
        tail = next((unpack_tail(keys) for first, _, keys in rows if first is None), ())
        blocks = [row for row in rows if row[0] is not None]
        blocks.sort(key=lambda block: -block[1] if descending else block[0])
        return tail, blocks

    async def tails(self, tags: Iterable[int]) -> dict[int, bytes]:
        """What stands in the tails of these tags, where they have one."""
        wanted, found = list(tags), dict[int, bytes]()
        for start in range(0, len(wanted), _MAX_PARAMETERS):
            part = wanted[start : start + _MAX_PARAMETERS]
            marks = ",".join("?" * len(part))
            sql = f"SELECT tag, keys FROM tag_tails WHERE tag IN ({marks})"  # noqa: S608 - marks only
            found.update(await self._writer.fetch(sql, part))
        return found

    def _oldest(self) -> Iterator[Run]:
        entries = 0
        for run in self._runs:
            entries += run.size
            yield run
            if entries >= MAX_STEP_ENTRIES - MAX_RUN_ENTRIES:
                return

    def _forget(self, groups: dict[int, list[int]]) -> None:
        """Drop from memory what is merged."""
        known = self._fresh
        for tag, gone in groups.items():
            fresh = known[tag]
            if len(fresh) == len(gone):
                del known[tag]
                self._unsorted.discard(tag)
            elif fresh[: len(gone)] == gone:
                del fresh[: len(gone)]
            else:
                merged_keys = set(gone)
                known[tag] = [key for key in fresh if key not in merged_keys]


def _between(keys: Sequence[int], low: int, high: int) -> Sequence[int]:
    return keys[bisect_left(keys, low) : bisect_right(keys, high)]


def _statements(found: Merged) -> Iterator[Statement]:
    yield Statement("INSERT INTO tag_blocks VALUES (?, ?, ?, ?, ?)", found.blocks)
    yield Statement("INSERT OR REPLACE INTO tag_tails VALUES (?, ?)", found.tails)


async def stored_entries(connection: Connection) -> AsyncIterator[list[tuple[int, int]]]:
    """Everything that stands in the index on the disk: pairs of tag hash and key, in no order.

    Raises:
        ValueError: what stands there is no list of entries.
    """
    async for id_, entries in _rows(connection, "SELECT id, entries FROM tag_runs WHERE id > ?"):
        del id_
        numbers = _readable(unpack_numbers, entries)
        yield list(zip(numbers[::2], numbers[1::2], strict=True))
    async for tag, keys in _rows(connection, "SELECT tag, keys FROM tag_tails WHERE tag > ?"):
        yield [(tag, key) for key in _readable(unpack_tail, keys)]
    blocks = "SELECT rowid, tag, keys FROM tag_blocks WHERE rowid > ?"
    async for _, tag, keys in _rows(connection, blocks):
        yield [(tag, key) for key in _readable(unpack_block, keys)]


async def rebuild(connection: Connection, pages: AsyncIterator[Sequence[int]]) -> None:
    """Put a new index in the old one's place, from pages of entries: tag hash, key, tag hash, key and so on.

    It is built beside the old one, and a crash leaves either. For a database that nobody else has open.
    """
    fresh = "CREATE TABLE fresh_runs (id INTEGER PRIMARY KEY, entries BLOB NOT NULL)"
    await connection.transact([Statement("DROP TABLE IF EXISTS fresh_runs"), Statement(fresh)])
    async for page in pages:
        step = 2 * MAX_RUN_ENTRIES
        parts = [(pack_numbers(page[at : at + step]),) for at in range(0, len(page), step)]
        await connection.transact([Statement("INSERT INTO fresh_runs (entries) VALUES (?)", parts)])
    emptied = [Statement(f"DELETE FROM {one}") for one in ("tag_runs", "tag_tails", "tag_blocks")]  # noqa: S608 - constants
    moved = Statement("INSERT INTO tag_runs SELECT id, entries FROM fresh_runs")
    await connection.transact([*emptied, moved, Statement("DROP TABLE fresh_runs")])
    index = TagIndex(connection, connection)
    await index.load()
    while index.entries:
        await index.merge(INLINE)


async def _rows(connection: Connection, sql: str) -> AsyncIterator[tuple[Any, ...]]:
    """Rows behind a first column that rises, a page at a time."""
    last = -1
    while page := await connection.fetch(f"{sql} ORDER BY 1 LIMIT ?", (last, _ROWS_OF_A_PAGE)):
        for row in page:
            yield row
        last = page[-1][0]


def _readable(unpack: Callable[[bytes], Sequence[int]], data: object) -> Sequence[int]:
    """What stands in a column that a disk may have altered."""
    try:
        if isinstance(data, bytes):
            return unpack(data)
    except (struct.error, DamagedIndex) as error:
        raise ValueError(f"the tag index cannot be read: {error}") from error
    raise ValueError("the tag index holds something that is no list of keys")
