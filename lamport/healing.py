"""Mends a database that `lamport.verification` has looked at, without inventing anything.

What another node wrote can be had again: its stream is cut back to the last seal before the damage, and gossip brings
the rest. What this node wrote is never cut: peers may know more of it than is left here, and a stream is never written
twice at one offset. Whatever follows from the events (both indexes, snapshots, stray rows, the table of retractions) is
made anew or dropped.

For a database that nobody else has open. The cut is one transaction; the tag index is built beside the old one and
takes its place in another, so that a crash leaves either.
"""

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lamport.chain import Keys
from lamport.codec import verify_event
from lamport.dictionaries import Dictionaries, inserted
from lamport.errors import CorruptRange, StoreMismatch
from lamport.ids import StreamId
from lamport.misfiled import filed_by_key, opened
from lamport.offsets import NOTHING
from lamport.postings import tag_hash
from lamport.retraction_table import forgotten
from lamport.row_keys import MAX_STREAMS, row_checksum, row_key
from lamport.seams import Connection, Statement
from lamport.sqlite_errors import translated_errors
from lamport.stream_check import StreamCheck
from lamport.tag_index import rebuild
from lamport.verification import PAGE_BLOCKS, PAGE_ROWS, Verification

_INDEXES = ("events_by_offset", "blocks_by_offset", "blocks_by_key", "blocks_by_last")
_OF_ROW = f"key & {MAX_STREAMS - 1}"
_COLUMNS = "key, last, \"offset\", count, CASE typeof(data) WHEN 'blob' THEN data END"
_PARTED = (
    f"SELECT {_COLUMNS} FROM blocks NOT INDEXED WHERE {_OF_ROW} = ?1 AND key <= ?2 AND last > ?2"  # noqa: S608 - ours
)


@dataclass(frozen=True, slots=True)
class Cut:
    """A stream that was cut back: from the head it told to the offset up to which it is sound (-1: nothing is)."""

    stream: StreamId
    told: int
    kept: int

    def __str__(self) -> str:
        return f"stream {self.stream}: cut back from offset {self.told} to {self.kept}"


async def heal(writer: Connection, looked: Verification, keys: Keys) -> tuple[Cut, ...]:
    """Mend what can be mended after a look that found something; returns the cuts. Look again afterwards.

    Raises:
        StoreError: SQLite cannot change the database; it stands as before, or with the cuts made.
    """
    cut = {
        row: check
        for row, check in looked.streams.items()
        if check.damaged and check.stream.node != keys.node
    }
    with translated_errors():
        parted = await _parted(writer, looked, cut)
        await writer.transact(_statements(looked, cut, parted, keys))
        await rebuild_tags(writer, {row: one.stream for row, one in looked.streams.items()})
    return tuple(Cut(one.stream, one.told.offset, one.sound.offset) for one in cut.values())


async def rebuild_tags(writer: Connection, streams: Mapping[int, StreamId]) -> None:
    """Build the tag index anew from the events, and put it in the old one's place."""
    await rebuild(writer, _pages_of_entries(writer, streams))


async def _pages_of_entries(
    writer: Connection, streams: Mapping[int, StreamId]
) -> AsyncIterator[list[int]]:
    dictionaries = Dictionaries()
    await dictionaries.load(writer)
    async for rows in _pages_of_blocks(writer, dictionaries):
        yield _numbers(rows, streams)
    key = -1
    while stored := await writer.fetch(
        'SELECT key, "offset", bytes FROM events NOT INDEXED WHERE key > ? ORDER BY key LIMIT ?',
        (key, PAGE_ROWS),
    ):
        if stored[-1][0] <= key:
            raise StoreMismatch("the table of events is damaged: it runs in circles")
        key = stored[-1][0]
        yield _numbers(stored, streams)


async def _pages_of_blocks(
    writer: Connection, dictionaries: Dictionaries
) -> AsyncIterator[list[tuple[int, int, bytes]]]:
    """Key, offset and bytes of all events in blocks that can be read."""
    key = -(2**63)
    while stored := await writer.fetch(
        f"SELECT {_COLUMNS} FROM blocks NOT INDEXED WHERE key > ? ORDER BY key LIMIT ?",  # noqa: S608 - ours
        (key, PAGE_BLOCKS),
    ):
        if stored[-1][0] <= key:
            raise StoreMismatch("the table of blocks is damaged: it runs in circles")
        key = stored[-1][0]
        yield [event for one in stored for event in _of_block(dictionaries, *one)]


def _of_block(  # noqa: PLR0917 - the columns of its row, as they come
    dictionaries: Dictionaries, key: int, last: Any, offset: Any, count: Any, data: Any
) -> Iterator[tuple[int, int, bytes]]:
    try:
        block = opened((key, last, None, offset, count, data), dictionaries)
    except ValueError:
        return  # one of this node's own that is damaged: what it held cannot be told
    yield from block.filed()


def _numbers(rows: Sequence[tuple[int, int, bytes]], streams: Mapping[int, StreamId]) -> list[int]:
    entries = sorted(set(_entries(rows, streams)))
    return [number for entry in entries for number in entry]


def _entries(
    rows: Sequence[tuple[int, int, bytes]], streams: Mapping[int, StreamId]
) -> Iterator[tuple[int, int]]:
    for key, offset, data in rows:
        try:
            event = verify_event(streams[key & MAX_STREAMS - 1], offset, data)
        except (CorruptRange, KeyError):
            continue  # one of this node's own that is damaged: it bears nothing that could be told
        yield from ((tag_hash(tag), key) for tag in event.tags)


def _statements(
    looked: Verification,
    cut: Mapping[int, StreamCheck],
    parted: Iterable[Statement],
    keys: Keys,
) -> Iterator[Statement]:
    yield _raised_clock()
    yield Statement("DELETE FROM dictionaries WHERE number IS ? AND copy IS ?", looked.bad_copies)
    yield inserted(looked.copies)
    yield filed_by_key("blocks", looked.misfiled)
    yield from parted
    yield from _cuts(cut)
    yield Statement(
        "DELETE FROM blocks WHERE key = ?",
        [(key,) for key in sorted(looked.bad_blocks) if key & MAX_STREAMS - 1 in cut],
    )
    if any(check.stream.node == keys.node for check in looked.streams.values()):
        # Without a stream of its own among those that can be read, a nameless one may be this node's.
        yield from _strays(looked)
    yield from _authors(looked, keys)
    yield from (Statement(f"REINDEX {index}") for index in _INDEXES)
    yield Statement(
        "DELETE FROM seals WHERE NOT EXISTS (SELECT 1 FROM events e"
        ' WHERE e.stream = seals.stream AND e."offset" = seals."offset")'
        " AND NOT EXISTS (SELECT 1 FROM blocks b WHERE b.stream = seals.stream"
        ' AND seals."offset" BETWEEN b."offset" AND b."offset" + b.count - 1)'
    )
    yield Statement("DELETE FROM snapshots")
    yield from forgotten()
    yield Statement(
        "UPDATE facts SET value = max(CAST(value AS INTEGER), ?) WHERE name = 'clock'",
        [(looked.clock,)],
    )


def _raised_clock() -> Statement:
    """Keep the clock above what is about to be cut: this node may have published behind that.

    A head is believed as far as its seal tells the same hash and no earlier clock, so no flipped bit sets it too high.
    """
    return Statement(
        "UPDATE facts SET value = max(CAST(value AS INTEGER), (SELECT coalesce(max(h.lamport), 0)"
        ' FROM streams h JOIN seals s ON s.stream = h.row AND s."offset" = h.head'
        " AND s.hash = h.hash AND h.lamport <= s.clock)) WHERE name = 'clock'"
    )


def _cuts(cut: Mapping[int, StreamCheck]) -> Iterator[Statement]:
    sound = {row: check.sound for row, check in cut.items()}
    # By key: the other columns of a damaged row are not to be trusted.
    yield Statement(
        f"DELETE FROM events WHERE {_OF_ROW} = ? AND key > ?",  # noqa: S608 - a number of ours
        [(row, row_key(head.lamport, row)) for row, head in sound.items()],
    )
    yield Statement(
        f"DELETE FROM blocks WHERE {_OF_ROW} = ? AND key > ?",  # noqa: S608 - a number of ours
        [(row, row_key(head.lamport, row)) for row, head in sound.items()],
    )
    yield Statement(
        'DELETE FROM seals WHERE stream = ? AND "offset" > ?',
        [(row, head.offset) for row, head in sound.items()],
    )
    yield Statement(
        "UPDATE streams SET head = ?, hash = ?, lamport = ? WHERE row = ?",
        [(head.offset, head.hash, head.lamport, row) for row, head in sound.items()],
    )
    yield from _unforked(cut)
    yield Statement("DELETE FROM streams WHERE head = ?", [(NOTHING,)])
    yield Statement("DELETE FROM horizons WHERE stream NOT IN (SELECT row FROM streams)")


async def _parted(
    writer: Connection, looked: Verification, cut: Mapping[int, StreamCheck]
) -> list[Statement]:
    """Turn a block that holds a cut into the rows that are left of it: a revocation's seal may stand within one."""
    statements = list[Statement]()
    for row, check in cut.items():
        sound = row_key(check.sound.lamport, row)
        for stored in await writer.fetch(_PARTED, (row, sound)):
            events = _of_block(looked.dictionaries, *stored)
            left = [event for event in events if event[0] <= sound]
            statements += _as_rows(stored[0], row, left)
    return statements


def _as_rows(block: int, row: int, events: Sequence[tuple[int, int, bytes]]) -> Iterator[Statement]:
    yield Statement("DELETE FROM blocks WHERE key = ?", [(block,)])
    yield Statement(
        "INSERT OR REPLACE INTO events VALUES (?, ?, ?, ?, ?)",
        [(key, row, offset, data, row_checksum(key, offset, data)) for key, offset, data in events],
    )


def _unforked(cut: Mapping[int, StreamCheck]) -> Iterator[Statement]:
    """Forget the forks of the streams that were cut, and all but one history: peers tell, and prove, the others."""
    bases = sorted({check.stream.base for check in cut.values()})
    names = [(bytes(stream.node), stream.number) for stream in bases]
    rows = "(SELECT row FROM branches WHERE node = ? AND number = ? AND row != trunk)"
    for table in ("events", "blocks"):
        yield Statement(f"DELETE FROM {table} WHERE {_OF_ROW} IN {rows}", names)  # noqa: S608 - names of columns
    yield Statement(f"DELETE FROM seals WHERE stream IN {rows}", names)  # noqa: S608 - as above
    yield Statement(f"DELETE FROM streams WHERE row IN {rows}", names)  # noqa: S608 - as above
    yield Statement("DELETE FROM branches WHERE node = ? AND number = ?", names)
    yield Statement("DELETE FROM forks WHERE node = ? AND number = ?", names)


def _strays(looked: Verification) -> Iterator[Statement]:
    yield Statement(
        "DELETE FROM streams WHERE row NOT IN (SELECT value FROM json_each(?))",
        [(str(sorted(looked.streams)),)],
    )
    for table in ("events", "blocks"):
        yield Statement(
            f"DELETE FROM {table} WHERE {_OF_ROW} NOT IN (SELECT row FROM streams)"  # noqa: S608 - see above
        )


def _authors(looked: Verification, keys: Keys) -> Iterator[Statement]:
    certified = {bytes(node).hex() for node in looked.certified}
    listed = "[" + ",".join(f'"{one}"' for one in sorted(certified)) + "]"
    yield Statement(
        "DELETE FROM authors WHERE lower(hex(node)) NOT IN (SELECT value FROM json_each(?))",
        [(listed,)],
    )
    yield Statement(
        "INSERT OR REPLACE INTO authors VALUES (?, ?)", [(bytes(keys.node), keys.certificate)]
    )
