"""Which retractions count, on the disk: written with the commit that brings them, read when the database is opened.

A row says that one event names another. The rows follow from the events, and so they can be made again: a database that
comes from an older program, or was healed, has no mark that they were made, and gets them when it is opened.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

from lamport.chain import Keys
from lamport.codec import verify_event
from lamport.errors import CorruptRange, VoidRetraction
from lamport.event import Event
from lamport.event_table import EventTable, Row
from lamport.ids import EventKey, NodeId, StreamId
from lamport.postings import tag_hash
from lamport.retraction import RETRACT_TAG, Retracted, Retraction, is_retraction, read_retraction
from lamport.row_keys import MAX_STREAMS
from lamport.seams import Connection, Statement
from lamport.tag_index import TagIndex

MARK = "retractions"
"""The fact by which a database says that its table of retractions is complete."""

PAGE_EVENTS = 500
"""Events looked at in one go while the table is made."""

_LAST_ROW_KEY = 2**63 - 1

_INSERT = "INSERT INTO retractions VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"


def inserted(retractions: Iterable[Retraction]) -> Statement:
    """The statement that keeps retractions."""
    return Statement(
        _INSERT,
        [
            (*_row(one.by), one.by.stream.branch, *_row(key), one.offset)
            for one in retractions
            for key in one.targets
        ],
    )


def forgotten() -> Iterator[Statement]:
    """The statements that let the table be made again when the database is next opened."""
    yield Statement("DELETE FROM retractions")
    yield Statement("DELETE FROM facts WHERE name = ?", [(MARK,)])


async def stored_retractions(connection: Connection) -> list[Retraction]:
    """What the table holds, in key order of the retractions."""
    rows = await connection.fetch(
        "SELECT by_lamport, by_node, by_number, by_branch, by_offset, lamport, node, number FROM retractions"
        " ORDER BY by_lamport, by_node, by_number, by_branch"
    )
    return [
        Retraction(_key(by), offset, tuple(_key(row[5:]) for row in group))
        for (*by, offset), group in groupby(rows, itemgetter(0, 1, 2, 3, 4))
    ]


async def load_retracted(connection: Connection) -> Retracted:
    """What is hidden, as the table says."""
    retracted = Retracted()
    for one in await stored_retractions(connection):
        retracted.add(one)
    return retracted


async def make_table(
    writer: Connection,
    tags: TagIndex,
    events: EventTable,
    stream_of: Callable[[int], StreamId],
    keys: Keys,
) -> None:
    """Make the table from the events, page by page; the mark comes last, so that an interruption does no harm.

    `stream_of` gives the stream behind a local number.
    """
    low, size, tag = 0, PAGE_EVENTS, tag_hash(RETRACT_TAG)
    while True:
        window = await tags.window(tag, low, _LAST_ROW_KEY, size, descending=False)
        for start in range(0, len(window.keys), PAGE_EVENTS):
            part = window.keys[start : start + PAGE_EVENTS]
            found = await _retractions(events, part, stream_of, keys)
            if found:
                await writer.transact([inserted(found)])
        if window.reached is None:
            break
        # A page that got nowhere, for blocks that overlap, is asked for again, twice as long.
        low, size = max(low, window.reached + 1), size if window.keys else 2 * size
    await writer.transact([Statement("INSERT OR REPLACE INTO facts VALUES (?, 1)", [(MARK,)])])


async def _retractions(
    events: EventTable,
    row_keys: Sequence[int],
    stream_of: Callable[[int], StreamId],
    keys: Keys,
) -> list[Retraction]:
    """Those under these row keys, which rise. What is damaged on this disk is left out: `shoal verify` tells it."""
    table, _ = await events.find_sound(row_keys)
    rows = map(Row.of, table.rows)
    stored = [(row.key & MAX_STREAMS - 1, row.offset, row.data) for row in rows]
    for block, positions in table.parts:
        data = block.bytes_at(positions)
        places = zip(positions, data, strict=True)
        stored += [(block.row, block.offset + at, one) for at, one in places]
    return [
        retraction
        for number, offset, data in stored
        for retraction in readable(stream_of(number), offset, data, keys)
    ]


def readable(stream: StreamId, offset: int, data: bytes, keys: Keys) -> list[Retraction]:
    """The retraction that stored bytes are, if they are one that counts."""
    try:
        return counting(verify_event(stream, offset, data), keys)
    except CorruptRange:  # damaged on this disk: whoever verifies the log is told
        return []


def counting(event: Event, keys: Keys) -> list[Retraction]:
    """The retraction that an event is, if it is one that counts."""
    try:
        return [read_retraction(event, keys)] if is_retraction(event) else []
    except VoidRetraction:
        return []


def _row(key: EventKey) -> tuple[Any, ...]:
    return key.lamport, bytes(key.stream.node), key.stream.number


def _key(row: Sequence[Any]) -> EventKey:
    lamport, node, number, *branch = row
    return EventKey(lamport, StreamId(NodeId(node), number, *branch))
