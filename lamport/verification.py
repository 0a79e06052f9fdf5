"""Does the database hold what its authors signed? Every byte of it is looked at, in bounded memory.

The table of blocks and then the table of events are read once from end to end, in the order of their keys. That is the
order of offsets within each stream, too (its blocks stand before its rows), so one `StreamCheck` per stream goes along
and is fed its events, and its seals where they stand. All indexes are held against the events by the sum of their
entries' hashes: a flipped bit, a missing or a superfluous entry changes it.

A connection goes in, which needs only read; `Finding`s and `Progress` come out as they are made. What SQLite cannot
read is a finding, not an error: what it can read is looked at all the same.
"""

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

from lamport.chain import MAX_SEALED_EVENTS, Head, Keys, Seal
from lamport.codec import verify_event
from lamport.dictionaries import SELECT, Dictionaries, Stored, checksum
from lamport.errors import CorruptRange, InvalidInput, StoreError, StoreMismatch
from lamport.event import Event
from lamport.event_table import checked_block
from lamport.ids import STREAM_NUMBER_LIMIT, EventKey, NodeId, StreamId
from lamport.postings import tag_hash
from lamport.retraction import Retraction
from lamport.retraction_table import MARK, counting, stored_retractions
from lamport.row_keys import MAX_STREAMS, STREAM_BITS, row_checksum
from lamport.seams import Connection
from lamport.sqlite_errors import translated_errors
from lamport.stream_check import FiledEvent, Finding, StreamCheck, is_genuine
from lamport.tag_index import stored_entries

PAGE_ROWS = MAX_SEALED_EVENTS
"""Events read at once: of common ones a page has half a megabyte, of the largest 70."""

PAGE_ENTRIES = 10_000
"""Index entries read at once."""

_SUM = 2**64 - 1
_BAD_ROW = "its row is damaged"

PAGE_BLOCKS = 8
"""Blocks read at once: about as many events."""


class _Row(NamedTuple):
    """An event as it is filed: `fault` is what is wrong with that, "" where nothing is."""

    key: int
    offset: Any
    data: bytes
    fault: str


@dataclass(frozen=True, slots=True)
class Progress:
    """How many of all events were looked at so far."""

    done: int
    total: int


Step = Finding | Progress


async def offset_entries(
    connection: Connection,
) -> AsyncIterator[Sequence[tuple[int, int, int]]]:
    """Pages of the index by offset: local number of a stream, offset, key of the event there."""
    stream, offset = -1, -1
    while page := await connection.fetch(
        'SELECT stream, "offset", key FROM events INDEXED BY events_by_offset'
        ' WHERE (stream, "offset") > (?, ?) ORDER BY stream, "offset" LIMIT ?',
        (stream, offset, PAGE_ENTRIES),
    ):
        yield [(row[0], row[1], row[2]) for row in page]
        if _order(page[-1][:2]) <= _order((stream, offset)):
            raise StoreMismatch("the index by offset is damaged: it runs in circles")
        stream, offset, _ = page[-1]


async def block_entries(connection: Connection) -> AsyncIterator[Sequence[tuple[Any, ...]]]:
    """Pages of the indexes of blocks, each entry beside a number for its index."""
    for number, (index, columns) in enumerate(_BLOCK_INDEXES):
        last: tuple[Any, ...] = (-1,) * len(columns)
        names, marks = ", ".join(columns), ",".join("?" * len(columns))
        while page := await connection.fetch(
            f"SELECT {names} FROM blocks INDEXED BY {index} WHERE ({names}) > ({marks})"  # noqa: S608 - constants
            f" ORDER BY {names} LIMIT ?",
            (*last, PAGE_ENTRIES),
        ):
            yield [(number, *row) for row in page]
            if _order(page[-1]) <= _order(last):
                raise StoreMismatch("an index of the blocks is damaged: it runs in circles")
            last = page[-1]


def _order(values: Sequence[Any]) -> list[tuple[int, Any]]:
    """What SQLite orders these by: what stands in a damaged row may be of any type."""
    ranks = {int: 1, float: 1, str: 2, bytes: 3}
    return [(ranks.get(type(one), 0), 0 if one is None else one) for one in values]


_BLOCK_INDEXES = (
    ("blocks_by_offset", ("stream", '"offset"', "count", "key")),
    ("blocks_by_key", ("stream", "key")),
    ("blocks_by_last", ("last", "key")),
)


class Verification:
    """One look at a whole database. `streams`, by local number, says how far each is sound once `run` has ended."""

    def __init__(self, connection: Connection, keys: Keys) -> None:
        self.streams: dict[int, StreamCheck] = {}
        self.events = 0
        self.certified: set[bytes] = set()
        self.strays = 0
        self.seals = 0
        self.clock = 0
        """The highest Lamport timestamp of an event that holds."""
        self.bad_blocks: set[int] = set()
        self.misfiled: list[int] = []
        """Keys of blocks that hold, under another stream's number."""
        self.copies: list[Stored] = []
        """Copies of dictionaries that are damaged or missing, as they should be."""
        self.bad_copies: list[tuple[Any, Any]] = []
        """Number and copy, as they are stored, of those that are damaged."""
        self.dictionaries = Dictionaries()
        self._connection = connection
        self._keys = keys
        self._total = 0
        self._by_offset = _Tally()
        self._by_block = _Tally()
        self._by_tag = _Tally()
        self._retractions: set[Retraction] = set()

    async def run(self) -> AsyncIterator[Step]:
        """Look at everything; of a sound database nothing but progress is told.

        Beside a writer it is the picture of one moment, held by one reading transaction.
        """
        parts = (self._structure, self._facts, self._authors, self._streams)
        with translated_errors():
            await self._connection.fetch("BEGIN")
        try:
            for part in (
                *parts,
                self._learnt,
                self._blocks,
                self._events,
                self._ends,
                self._retracted,
                self._indexes,
            ):
                try:
                    with translated_errors():
                        async for step in part():
                            yield step
                except StoreError as error:
                    yield Finding(f"it cannot be read on: {error}")
        finally:
            await self._connection.fetch("ROLLBACK")

    async def _structure(self) -> AsyncIterator[Step]:
        for (text,) in await self._connection.fetch("PRAGMA quick_check"):
            if text != "ok":
                yield Finding(f"SQLite says: {text}")

    async def _facts(self) -> AsyncIterator[Step]:
        facts = dict(await self._connection.fetch("SELECT name, value FROM facts"))
        if (facts.get("node"), facts.get("swarm")) != (self._keys.node, self._keys.swarm):
            yield Finding("it does not say that it is this node's and swarm's")
        clock = facts.get("clock")
        if not isinstance(clock, int):
            yield Finding(f"its Lamport clock, {clock!r}, is no number")

    async def _authors(self) -> AsyncIterator[Step]:
        rows = await self._connection.fetch("SELECT node, certificate FROM authors")
        for node, certificate in rows:
            try:
                named = NodeId(node)
                vouched = self._keys.certifies(bytes(certificate), named)
            except (InvalidInput, TypeError, ValueError):
                yield Finding("a certificate is filed under what is no node id")
                continue
            if vouched:
                self.certified.add(named)
            else:
                yield Finding(f"the certificate of node {named} is not of this swarm")

    async def _streams(self) -> AsyncIterator[Step]:
        origins = await self._origins()
        horizons = await self._horizons()
        columns = "row, node, number, horizon, head, hash, lamport"
        for row, node, number, kept, *told in await self._connection.fetch(
            f"SELECT {columns} FROM streams"  # noqa: S608 - no values in it
        ):
            origin = origins.get(row)
            stream = _stream(node, number) if origin is None else origin.stream
            if stream is None:
                yield Finding(f"the stream with the local number {row} has no readable name")
                continue
            seal, base = horizons.get(row, (None, b""))
            told_head = Head(stream, *told)
            check = self.streams[row] = StreamCheck(told_head, self._keys, origin, kept, base)
            if kept and (seal is None or not is_genuine(Seal(stream, *seal), self._keys)):
                yield check.fault("its author's seal for what is not kept any more does not hold")
            if node not in self.certified:
                yield check.fault("there is no certificate of its author that holds")

    async def _origins(self) -> dict[int, Head]:
        """For each row that holds nothing but a branch: the event behind which it begins."""
        origins: dict[int, Head] = {}
        for row, node, number, branch, *origin in await self._connection.fetch(
            'SELECT row, node, number, branch, "offset", hash, lamport FROM branches'
            " WHERE row != trunk"
        ):
            stream = _stream(node, number, branch)
            if stream is not None:
                origins[row] = Head(stream, *origin)
        return origins

    async def _horizons(self) -> dict[int, tuple[Any, Any]]:
        """The seals that announce horizons, and the hashes before what is kept, by local number."""
        columns = 'stream, "offset", hash, clock, horizon, signature, base'
        rows = await self._connection.fetch(f"SELECT {columns} FROM horizons")  # noqa: S608 - no values in it
        return {row: (seal, base) for row, *seal, base in rows}

    async def _learnt(self) -> AsyncIterator[Step]:
        stored = [Stored(*row) for row in await self._connection.fetch(SELECT)]
        sound = {one[:2]: one for one in stored if one.is_sound}
        self.dictionaries.take(sound.values())
        for one in stored:
            if not one.is_sound:
                self.bad_copies.append((one.number, one.copy))
                yield Finding(f"copy {one.copy!r} of dictionary {one.number!r} is damaged")
        for (number, copy), one in sound.items():
            other = 1 - copy
            if (number, other) in sound:
                continue
            self.copies.append(_copied(one, other))
            if (number, other) not in self.bad_copies:
                yield Finding(f"copy {other} of dictionary {number} is missing")

    async def _blocks(self) -> AsyncIterator[Step]:
        self._total = await self._count()
        key = -(2**63)
        while stored := await self._connection.fetch(
            'SELECT key, last, stream, "offset", count, typeof(data), CAST(data AS BLOB)'
            " FROM blocks NOT INDEXED WHERE key > ? ORDER BY key LIMIT ?",
            (key, PAGE_BLOCKS),
        ):
            if stored[-1][0] <= key:
                raise StoreMismatch("the table of blocks is damaged: it runs in circles")
            key, rows = stored[-1][0], list[_Row]()
            for one in stored:
                try:
                    rows += self._unpacked(*one)
                except (ValueError, TypeError) as error:
                    async for step in self._take(rows):  # what lies before it is judged before it
                        yield step
                    rows = []
                    yield self._bad_block(one[0], one[3], one[4], error)
                else:
                    if one[2] != one[0] & MAX_STREAMS - 1:
                        self.misfiled.append(one[0])
                        yield Finding(
                            f"the block with the key {one[0]} is filed under the stream {one[2]!r}"
                        )
            async for step in self._take(rows):
                yield step

    def _unpacked(  # noqa: PLR0917 - the columns of its row, as they come
        self, key: int, last: Any, row: Any, offset: Any, count: Any, kind: str, data: bytes
    ) -> list[_Row]:
        """The events of a block, as if they were rows."""
        self._by_block.update(
            (number, *(values[name] for name in columns))
            for values in (
                {"key": key, "last": last, "stream": row, '"offset"': offset, "count": count},
            )
            for number, (_, columns) in enumerate(_BLOCK_INDEXES)
        )
        if kind != "blob":
            raise ValueError("its columns are of other types than were written")
        block = checked_block(key, last, offset, count, data, self.dictionaries)
        return [_Row(*one, "") for one in block.filed()]

    def _bad_block(self, key: int, offset: Any, count: Any, error: Exception) -> Finding:
        self.bad_blocks.add(key)
        check, text = self.streams.get(key & MAX_STREAMS - 1), f"this block is damaged: {error}"
        if check is None or not isinstance(offset, int) or not isinstance(count, int):
            return Finding(f"the block with the key {key}: {text}")
        return check.fault(text, offset, offset + count - 1)

    async def _count(self) -> int:
        """How many events there are, as far as that is known before they are looked at."""
        [(rows,)] = await self._connection.fetch("SELECT count(*) FROM events NOT INDEXED")
        [(packed,)] = await self._connection.fetch(
            "SELECT total(count) FROM blocks WHERE typeof(count) = 'integer'"
        )
        return int(rows) + int(packed)

    async def _events(self) -> AsyncIterator[Step]:
        key = -1
        while rows := await self._page(key):
            if rows[-1].key <= key:
                raise StoreMismatch("the table of events is damaged: it runs in circles")
            key = rows[-1].key
            async for step in self._take(rows):
                yield step

    async def _page(self, key: int) -> Sequence[_Row]:
        found = await self._connection.fetch(
            'SELECT key, stream, "offset", typeof(bytes), coalesce(CAST(bytes AS BLOB), zeroblob(0)), crc FROM events'
            " NOT INDEXED WHERE key > ? ORDER BY key LIMIT ?",
            (key, PAGE_ROWS),
        )
        return [self._filed(*one) for one in found]

    def _filed(  # noqa: PLR0917 - as above
        self, key: int, stream: Any, offset: Any, kind: str, data: bytes, crc: Any
    ) -> _Row:
        self._by_offset.add((stream, offset, key))
        fault = ""
        if kind != "blob" or stream != key & MAX_STREAMS - 1:
            fault = _BAD_ROW
        elif crc is not None and isinstance(offset, int) and crc != row_checksum(key, offset, data):
            fault = "its bytes are not those that were stored"
        return _Row(key, offset, data, fault)

    async def _take(self, rows: Sequence[_Row]) -> AsyncIterator[Step]:
        for finding in await self._look_at(rows):
            yield finding
        self.events += len(rows)
        if rows:
            yield Progress(self.events, max(self.events, self._total))

    async def _look_at(self, rows: Sequence[_Row]) -> list[Finding]:
        places = [(row, *self._place(row)) for row in rows if not self._is_leaving(row)]
        seals = await self._seals(places)
        findings: list[Finding] = []
        for row, check, offset in places:
            if check is None:
                findings += self._stray(row)
                continue
            findings += self._event(row, check, offset)
            if (seal := seals.get((check.stream, offset))) is not None:
                self.seals += 1
                findings += check.seal(seal)
        return findings

    def _is_leaving(self, row: _Row) -> bool:
        """Whether an event lies behind the horizon and is to be deleted; until then the tag index names it."""
        check = self.streams.get(row.key & MAX_STREAMS - 1)
        if check is None or not isinstance(row.offset, int) or row.offset >= check.kept:
            return False
        with suppress(CorruptRange):
            event = verify_event(check.stream, row.offset, row.data)
            self._by_tag.update(_entries(event, row.key))
        return True

    def _place(self, row: _Row) -> tuple[StreamCheck | None, int]:
        """The stream of a row, which its key names, and its place in there."""
        check = self.streams.get(row.key & MAX_STREAMS - 1)
        return check, -1 if check is None else check.place(row.offset)

    def _stray(self, row: _Row) -> list[Finding]:
        self.strays += 1
        if not row.fault:
            self.clock = max(self.clock, row.key >> STREAM_BITS)  # it may be this node's own
        return [Finding(f"the event with the key {row.key} is of no stream")]

    def _event(self, row: _Row, check: StreamCheck, offset: int) -> list[Finding]:
        filed = FiledEvent(row.offset, row.key >> STREAM_BITS, row.data)
        event, findings = check.event(offset, filed)
        if event is not None:
            self._by_tag.update(_entries(event, row.key))
            self._retractions.update(counting(event, self._keys))
        if row.fault and (event is not None or row.fault == _BAD_ROW):
            findings.append(check.fault(row.fault, offset))
        if event is not None and event.lamport == row.key >> STREAM_BITS:
            self.clock = max(self.clock, event.lamport)
        return findings

    async def _seals(
        self, places: Iterable[tuple[_Row, StreamCheck | None, int]]
    ) -> dict[tuple[StreamId, int], Seal]:
        """The seals at the places of one page, found by one statement."""
        spans: dict[int, tuple[int, int]] = {}
        for row, check, offset in places:
            if check is not None:
                number = row.key & MAX_STREAMS - 1
                spans[number] = (spans.get(number, (offset, offset))[0], offset)
        if not spans:
            return {}
        marks = ",".join(["(?,?,?)"] * len(spans))
        found = await self._connection.fetch(
            f"WITH spans (stream, low, high) AS (VALUES {marks})"  # noqa: S608 - marks only
            ' SELECT s.stream, s."offset", s.hash, s.clock, s.horizon, s.signature FROM spans CROSS'
            ' JOIN seals s ON s.stream = spans.stream AND s."offset" BETWEEN low AND high',
            [value for number, span in spans.items() for value in (number, *span)],
        )
        streams = {number: self.streams[number].stream for number in spans}
        return {(streams[one[0]], one[1]): Seal(streams[one[0]], *one[1:]) for one in found}

    async def _ends(self) -> AsyncIterator[Step]:
        for check in self.streams.values():
            for finding in check.end():
                yield finding
        [(stored,)] = await self._connection.fetch(
            "SELECT count(*) FROM seals s LEFT JOIN streams h ON h.row = s.stream"
            ' WHERE s."offset" >= coalesce(h.horizon, 0)'
        )
        if stored != self.seals:
            yield Finding(f"{stored - self.seals} seals stand where there is no event")

    async def _retracted(self) -> AsyncIterator[Step]:
        if not await self._connection.fetch("SELECT 1 FROM facts WHERE name = ?", (MARK,)):
            return  # not made yet, or to be made again: whoever opens the database does
        try:
            stored = await stored_retractions(self._connection)
        except (InvalidInput, TypeError, ValueError):
            yield Finding("what is retracted is filed under what is no event key")
            return
        if _hiding(stored) != _hiding(self._retractions):
            yield Finding("what is filed as retracted disagrees with the retractions")

    async def _indexes(self) -> AsyncIterator[Step]:
        by_offset, by_tag = _Tally(), _Tally()
        async for entries in offset_entries(self._connection):
            by_offset.update(entries)
        if by_offset != self._by_offset:
            yield Finding("the index by offset disagrees with the events")
        by_block = _Tally()
        async for listed in block_entries(self._connection):
            by_block.update(listed)
        if by_block != self._by_block:
            yield Finding("an index of the blocks disagrees with them")
        try:
            async for tags in stored_entries(self._connection):
                by_tag.update(tags)
        except ValueError as error:
            yield Finding(str(error))
            return
        if by_tag != self._by_tag:
            yield Finding(
                f"the tag index has {by_tag.count} entries and disagrees with the events,"
                f" which bear {self._by_tag.count} tags"
            )


async def damaged_heads(connection: Connection, keys: Keys) -> list[Finding]:
    """The streams whose head is not the one that its last seal vouches for: quick, whatever the size of the log.

    Of this node's own streams the signature is verified, too: to append to a damaged head would break the stream.
    """
    with translated_errors():
        rows = await connection.fetch(
            "SELECT h.node, coalesce(b.number, h.number), h.head, h.hash, s.hash, s.clock, s.horizon,"
            ' s.signature FROM streams h LEFT JOIN seals s ON s.stream = h.row AND s."offset" = h.head'
            " LEFT JOIN branches b ON b.row = h.row AND b.row != b.trunk WHERE h.head IS NOT -1"
        )
    findings: list[Finding] = []
    for node, number, head, hash_, *sealed in rows:
        stream = _stream(node, number)
        if stream is None:
            findings.append(Finding("a stream has no readable name"))
        elif sealed[0] != hash_ or not _is_genuine(Seal(stream, head, *sealed), keys):
            findings.append(Finding("no seal vouches for its head", stream))
    return findings


async def require_sound_heads(connection: Connection, keys: Keys) -> list[Finding]:
    """The damaged heads of others' streams, which do no harm to what this node writes; see `damaged_heads`.

    Raises:
        StoreMismatch: a stream of this node's own is among them.
    """
    findings = await damaged_heads(connection, keys)
    for finding in findings:
        if finding.stream is None or finding.stream.node == keys.node:
            raise StoreMismatch(
                f"this node's own log is damaged ({finding}): nothing may be written behind that."
                " `shoal verify` tells the extent; restore a backup"
            )
    return findings


def _is_genuine(seal: Seal, keys: Keys) -> bool:
    return seal.stream.node != keys.node or is_genuine(seal, keys)


@dataclass(slots=True)
class _Tally:
    """A number of things and the sum of their hashes: equal for equal ones in whichever order."""

    count: int = 0
    sum: int = 0

    def add(self, thing: tuple[Any, ...]) -> None:
        self.count += 1
        self.sum = self.sum + hash(thing) & _SUM

    def update(self, things: Iterable[tuple[Any, ...]]) -> None:
        for thing in things:
            self.add(thing)


def _hiding(retractions: Iterable[Retraction]) -> set[tuple[EventKey, int, EventKey]]:
    """Which event hides which, whatever the branches; one that names another twice says it once."""
    return {
        (EventKey(one.by.lamport, one.by.stream.base), one.offset, target)
        for one in retractions
        for target in one.targets
    }


def _copied(one: Stored, copy: int) -> Stored:
    """The same as another copy."""
    return Stored(one.number, copy, one.data, checksum(one.number, copy, one.data))


def _entries(event: Event, key: int) -> Iterable[tuple[int, int]]:
    """What the tag index should say of an event; tags that share a hash share an entry."""
    return {(tag_hash(tag), key) for tag in event.tags}


def _stream(node: Any, number: Any, branch: Any = b"") -> StreamId | None:
    if not isinstance(node, bytes) or not isinstance(number, int) or not isinstance(branch, bytes):
        return None
    try:
        return StreamId(NodeId(node), number, branch) if 0 <= number < STREAM_NUMBER_LIMIT else None
    except InvalidInput:
        return None
