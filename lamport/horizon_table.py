"""Horizons in the database: written down with the commit that brings them, and followed in small steps.

`clear_step` makes one step of deleting, a transaction of a bounded size: the next block there or the next few rows,
with their seals and their entries in the tag index. Only the task that writes the log may call it: the tag index must
stand still meanwhile.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from lamport.chain import Seal
from lamport.codec import verify_event
from lamport.dictionaries import Dictionaries
from lamport.errors import CorruptRange, DamagedIndex
from lamport.event_table import checked_block
from lamport.horizon import Horizon
from lamport.ids import StreamId
from lamport.postings import tag_hashes
from lamport.seams import Connection, Statement, Work
from lamport.tag_index import TagIndex
from lamport.tag_removal import plan_removal

_Row = tuple[int, int, bytes]
"""A stored event: row key, offset, bytes."""

MAX_CLEARED = 128
"""Events deleted in one step: with three tags each at most some 400 pieces of the tag index are written anew."""


class Swept(NamedTuple):
    """What a step of clearing left behind: the horizon as it is afterwards, and how many events it deleted as rows."""

    horizon: Horizon
    rows: int


def horizon_statements(
    horizons: Mapping[StreamId, Horizon], row_of: Mapping[StreamId, int]
) -> Iterator[Statement]:
    """Write these horizons down."""
    yield Statement(
        "INSERT OR REPLACE INTO horizons VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        [_row(row_of[stream], horizon) for stream, horizon in horizons.items()],
    )
    yield Statement(
        "UPDATE streams SET horizon = ? WHERE row = ?",
        [(horizon.first, row_of[stream]) for stream, horizon in horizons.items()],
    )


def _row(row: int, horizon: Horizon) -> tuple[Any, ...]:
    seal = horizon.seal
    signed = (seal.offset, seal.hash, seal.clock, seal.horizon, seal.signature)
    return (row, *signed, horizon.base, horizon.cleared)


async def load_horizons(
    connection: Connection, stream_of: Mapping[int, StreamId]
) -> dict[StreamId, Horizon]:
    """All horizons of a database. What is of another type than was written is taken for nothing: no seal holds then."""
    rows = await connection.fetch(
        'SELECT h.stream, h."offset", h.hash, h.clock, h.horizon, h.signature,'
        " s.horizon, h.base, h.cleared FROM horizons h JOIN streams s ON s.row = h.stream"
    )
    return {stream_of[row]: _loaded(stream_of[row], *columns) for row, *columns in rows}


def _loaded(  # noqa: PLR0917 - the columns of its row, as they come
    stream: StreamId,
    offset: Any,
    hash_: Any,
    clock: Any,
    horizon: Any,
    signature: Any,
    first: Any,
    base: Any,
    cleared: Any,
) -> Horizon:
    seal = Seal(
        stream, _number(offset), _data(hash_), _number(clock), _number(horizon), _data(signature)
    )
    return Horizon(seal, _number(first), _data(base), _number(cleared))


def _number(value: Any) -> int:
    return value if isinstance(value, int) else 0


def _data(value: Any) -> bytes:
    return value if isinstance(value, bytes) else b""


async def clear_step(  # noqa: PLR0917 - the tables, what of them, and where
    connection: Connection,
    tags: TagIndex,
    dictionaries: Dictionaries,
    row: int,
    horizon: Horizon,
    work: Work,
) -> Swept:
    """Delete the next events behind a horizon, in one transaction.

    Or merge some of the tag index, should it have them as they came: the runs hold entries of everything, and to write
    them anew without a few takes longer than to merge them.

    Blocks go as a whole: one that holds events from both sides of the horizon stays until that has moved past it.
    """
    packed = await _next_block(connection, dictionaries, row, horizon.first)
    end, events = packed or await _next_rows(connection, row, horizon.first)
    entries = _entries(horizon.seal.stream, events)
    if tags.is_fresh(entries) and await _merged(tags, work):
        return Swept(horizon, 0)  # what has just been merged is taken out in a later step
    removal = await plan_removal(connection, tags, entries, work)
    noted = Statement("UPDATE horizons SET cleared = ? WHERE stream = ?", [(end, row)])
    deleted = [*_deletion(row, end), *removal, noted]
    await connection.transact([one for one in deleted if one.rows != []])
    return Swept(horizon.swept(end), 0 if packed else len(events))


async def _merged(tags: TagIndex, work: Work) -> bool:
    """Make a step of the tag index's merge; False where the index is damaged, and keeps too much until it is healed."""
    with suppress(DamagedIndex):
        await tags.merge(work)
        return True
    return False


async def _next_block(
    connection: Connection, dictionaries: Dictionaries, row: int, first: int
) -> tuple[int, Sequence[_Row]] | None:
    """The oldest block of a stream if all of it lies below an offset: where it ends, and its events if it is sound."""
    sql = (
        'SELECT key, last, "offset", count, data FROM blocks WHERE stream = ? AND "offset" < ?'
        ' ORDER BY "offset" LIMIT 1'
    )
    for key, last, offset, count, data in await connection.fetch(sql, (row, first)):
        if offset + count <= first:
            try:
                block = checked_block(key, last, offset, count, data, dictionaries)
            except ValueError:
                return (
                    offset + count,
                    (),
                )  # its tags cannot be told: `verify --heal` makes the index anew
            return offset + count, list(block.filed())
    return None


async def _next_rows(connection: Connection, row: int, first: int) -> tuple[int, Sequence[_Row]]:
    """The oldest rows of a stream below an offset, and the offset up to which they are all there are."""
    events: Sequence[_Row] = await connection.fetch(
        'SELECT key, "offset", bytes FROM events WHERE stream = ? AND "offset" < ?'
        ' ORDER BY "offset" LIMIT ?',
        (row, first, MAX_CLEARED),
    )
    return (events[-1][1] + 1 if len(events) == MAX_CLEARED else first), events


def _deletion(row: int, end: int) -> Iterator[Statement]:
    """Delete the stored events of a stream below an offset, and its seals there."""
    yield Statement('DELETE FROM events WHERE stream = ? AND "offset" < ?', [(row, end)])
    yield Statement(
        'DELETE FROM blocks WHERE stream = ? AND "offset" < ? AND "offset" + count <= ?',
        [(row, end, end)],
    )
    yield Statement('DELETE FROM seals WHERE stream = ? AND "offset" < ?', [(row, end)])


def _entries(stream: StreamId, events: Sequence[_Row]) -> set[tuple[int, int]]:
    """What stands in the tag index for these events."""
    return {(tag, key) for key, offset, data in events for tag in _tags(stream, offset, data)}


def _tags(stream: StreamId, offset: int, data: bytes) -> tuple[int, ...]:
    try:
        return tag_hashes(verify_event(stream, offset, data).tags)
    except CorruptRange:
        return ()  # it bears no tags that could be told: `verify --heal` makes the index anew
