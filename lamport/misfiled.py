"""Blocks that stand where others belong: columns of theirs were altered, and not, or not only, what they hold.

A block's key says whose it is, and so does what it holds; its column `stream` may say something else, and its offset
may lie where its stream has none. One that can be read is filed under its own stream again, and never deleted for what
is mended in the place where it stood. What cannot be read and stands in no stream's way is deleted.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from lamport.blocks import Block, MisplacedFrame
from lamport.chain import MAX_SEALED_EVENTS
from lamport.dictionaries import Dictionaries
from lamport.errors import DamagedIndex
from lamport.event_table import Row, checked_block
from lamport.offsets import OffsetRange
from lamport.row_keys import MAX_STREAMS
from lamport.seams import Statement
from lamport.sqlite_errors import translated_errors
from lamport.store import Store

_MASK = MAX_STREAMS - 1
_LIMIT = 2**63 - 1

# What stands where a piece belongs: ?1 its row, ?2 and ?3 its offsets.
_BLOCKS_THERE = f"""
SELECT key, last, stream, "offset", count, data FROM blocks
WHERE stream = ?1 AND "offset" BETWEEN ?2 - {MAX_SEALED_EVENTS} AND ?3 AND "offset" + count > ?2
AND key & {_MASK} != ?1
"""  # noqa: S608 - numbers of ours
_ROWS_THERE = f"""
SELECT key, "offset", bytes, crc FROM events
WHERE stream = ?1 AND "offset" BETWEEN ?2 AND ?3 AND key & {_MASK} != ?1
"""  # noqa: S608 - a number of ours
# Of a row ?1, what no search between the offsets ?2 and ?3, which are its, would find.
_ASTRAY = f"""
SELECT key, last, stream, "offset", count, data FROM blocks NOT INDEXED WHERE (key & {_MASK} = ?1) IS NOT (stream = ?1)
OR stream = ?1 AND (typeof("offset") != 'integer' OR "offset" > ?3
  OR typeof(count) != 'integer' OR "offset" + count <= ?2)
LIMIT {MAX_SEALED_EVENTS}
"""  # noqa: S608 - numbers of ours
# Whether anything stands where a block of the row ?1 belongs, from the offset ?2 to ?3.
_STANDING = f"""
SELECT 1 FROM events WHERE stream = ?1 AND "offset" BETWEEN ?2 AND ?3
UNION ALL SELECT 1 FROM blocks
WHERE stream = ?1 AND "offset" BETWEEN ?2 - {MAX_SEALED_EVENTS} AND ?3 AND "offset" + count > ?2
LIMIT 1
"""  # noqa: S608 - a number of ours


class Misfiled(NamedTuple):
    """What is to be written before a place is mended, and the rows that get something back by it."""

    statements: Sequence[Statement]
    rows: Sequence[int]


class Filing:
    """Finds the blocks of one database that are filed in a wrong place."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def around(self, row: int, first: int, last: int) -> Misfiled:
        """What stands among the blocks and rows of a stream, and is another's by its key."""
        back, gone, rows = list[int](), list[int](), list[int]()
        for stored in await self._fetch(_BLOCKS_THERE, row, first, last):
            is_back = self._is_known(stored[0]) and self._owner(stored) != row
            (back if is_back else gone).append(stored[0])
        for key, *filed in await self._fetch(_ROWS_THERE, row, first, last):
            if self._is_known(key) and Row(key, *filed).is_sound:
                rows.append(key)
        statements = (filed_by_key("blocks", back), filed_by_key("events", rows), _deleted(gone))
        return Misfiled(statements, sorted({key & _MASK for key in back + rows}))

    async def astray(self, row: int) -> tuple[list[Statement], list[OffsetRange]]:
        """What becomes of blocks of a stream that no search by its offsets finds.

        And where there may be a piece to mend, because such a block stands there.
        """
        parts = self._parts(row, OffsetRange(self._store.stream_of(row), 0, _LIMIT))
        if not parts:
            return [], []
        begin = min(self._store.beginning(part.stream).offset + 1 for part in parts)
        head = max(self._store.head(part.stream).offset for part in parts)
        back, gone, places = list[int](), list[int](), list[OffsetRange]()
        for stored in await self._fetch(_ASTRAY, row, begin, head):
            key, _, stream, *_ = stored
            if self._block(stored) is not None:
                if stream != key & _MASK:
                    (gone if await self._is_replaced(stored) else back).append(key)
            elif stream != key & _MASK and (found := list(self._place(stored))):
                places += found
            else:
                gone.append(key)
        statements = [filed_by_key("blocks", back)] if back else []
        return [*statements, *([_deleted(gone)] if gone else [])], places

    async def _is_replaced(self, stored: Sequence[Any]) -> bool:
        """Whether something stands already where a block that can be read belongs."""
        key, _, _, first, count, _ = stored
        return bool(await self._fetch(_STANDING, key & _MASK, first, first + count - 1))

    def _place(self, stored: Sequence[Any]) -> Iterator[OffsetRange]:
        """Where an unreadable block stands by its columns, as far as those are offsets of a stream."""
        _, _, row, first, count, _ = stored
        if not all(isinstance(one, int) for one in (row, first, count)):
            return
        try:
            stream = self._store.stream_of(row)
        except DamagedIndex:
            return
        last = min(first + count - 1, first + MAX_SEALED_EVENTS)
        for part in self._parts(row, OffsetRange(stream, max(first, 0), last)):
            begin, head = self._store.beginning(part.stream), self._store.head(part.stream)
            if part.first <= head.offset and part.last > begin.offset:
                yield part

    def _parts(self, row: int, held: OffsetRange) -> list[OffsetRange]:
        return (
            list(self._store.branches.cut(held)) if self._store.row_of(held.stream) == row else []
        )

    def _is_known(self, key: int) -> bool:
        try:
            self._store.stream_of(key & _MASK)
        except DamagedIndex:
            return False
        return True

    def _owner(self, stored: Sequence[Any]) -> int:
        """Whose a block is by what it holds; where that cannot be read, by its key."""
        try:
            opened(stored, self._store.dictionaries)
        except MisplacedFrame as error:
            return int(error.frame.row)
        except ValueError:
            pass
        key: int = stored[0]
        return key & _MASK

    def _block(self, stored: Sequence[Any]) -> Block | None:
        try:
            return opened(stored, self._store.dictionaries)
        except ValueError:
            return None

    async def _fetch(self, sql: str, *parameters: int) -> list[tuple[Any, ...]]:
        with translated_errors():
            return await self._store.reader.fetch(sql, parameters)


def opened(stored: Sequence[Any], dictionaries: Dictionaries) -> Block:
    """A stored block, whatever its column `stream` says: key, last, stream, offset, count, data.

    Raises:
        ValueError: it is damaged. What stands in such a row may be of any type.
    """
    key, last, _, offset, count, data = stored
    return checked_block(key, last, offset, count, data, dictionaries)


def filed_by_key(table: str, keys: Sequence[int]) -> Statement:
    """File these under the streams that their keys name; where another stands in that place, nothing is changed."""
    return Statement(
        f"UPDATE OR IGNORE {table} SET stream = key & {_MASK} WHERE key = ?",  # noqa: S608 - constants
        [(key,) for key in keys],
    )


def _deleted(keys: Sequence[int]) -> Statement:
    return Statement("DELETE FROM blocks WHERE key = ?", [(key,) for key in keys])
