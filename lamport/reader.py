"""Reading the log: events by selection in key order or stream by stream, and sealed ranges for peers.

A read is paged, so that neither memory nor the database is held by a long one. Its upper bound is an offset map, and
so what arrives meanwhile cannot change what it returns. Stored events, fresh rows and old blocks alike (see
`lamport.event_table`), are ordered by Lamport timestamp and then by the stream's *local* number; a page therefore never
ends inside a group of equal timestamps, and each page is put into the total order here.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import Enum
from functools import partial
from itertools import accumulate, takewhile
from operator import itemgetter
from typing import TypeVar

import msgpack

from lamport.branches import Branches
from lamport.chain import MAX_SEALED_BYTES, MAX_SEALED_EVENTS, Head, Seal, SealedRange, chained
from lamport.codec import MAX_EVENT_BYTES, damaged_event, decode_events, decode_stored
from lamport.errors import DAMAGE_REMEDY, DamagedRange
from lamport.event import Event
from lamport.event_table import Found, Row, StoredRow
from lamport.ids import MAX_LAMPORT, EventKey, NodeId, StreamId
from lamport.offsets import NOTHING, OffsetMap, OffsetRange, missing
from lamport.paging import Paging
from lamport.postings import tag_hash
from lamport.row_keys import MAX_STREAMS, STREAM_BITS, row_checksum, row_key
from lamport.spans import Span
from lamport.sqlite_errors import translated_errors
from lamport.store import Store
from lamport.tag_index import Window
from lamport.tags import MAX_TAGS, Alternative, Where

PAGE_EVENTS = 1_000
"""Events of a page, if they are not large; one with many equal Lamport timestamps may be longer."""

DECODED_EVENTS = 128
"""So many events are decoded at once: what fits a processor's cache is made and dropped in half the time. And it is too
few, with those that were decoded before, to wake Python's cycle collector, where whoever runs the node left it as it
is."""

TURN_EVENTS = 256
"""Behind so many decoded events of a page others have their turn: a millisecond or two."""

SCANNED_PAGES = 4
"""So many pages of everything are fetched at once, one hop to the database's thread for all, and decoded one by one."""

_ANY_SIZE = MAX_SEALED_EVENTS * MAX_EVENT_BYTES
"""No limit: what lies between two seals."""

_LAST_ROW_KEY = row_key(MAX_LAMPORT, MAX_STREAMS - 1)

_KEY = itemgetter(0)
"""An event's key."""

_Found = TypeVar("_Found")


class Order(Enum):
    """In which order a read returns events."""

    ASCENDING = "asc"
    DESCENDING = "desc"
    PER_STREAM = "stream-asc"


@dataclass(frozen=True, slots=True)
class Bounds:
    """Which events a read considers: key above `after`, offset above `lower` and not above `upper` in its stream.

    What is retracted is left out; with `as_of` only by retractions up to these offsets.
    """

    upper: OffsetMap
    lower: OffsetMap = OffsetMap()  # noqa: RUF009 - immutable
    after: EventKey | None = None
    as_of: OffsetMap | None = None


class Reader:
    """Reads from one store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._paging = Paging()

    def read(
        self, where: Where, bounds: Bounds, order: Order = Order.ASCENDING
    ) -> AsyncIterator[list[Event]]:
        """Pages of matching events, none of them empty; what is which branch is as it was when the reading began."""
        cut = self._store.branches
        if order is Order.PER_STREAM:
            return self._read_streams(where, bounds, cut)
        return self._read_keys(where, bounds, cut, descending=order is Order.DESCENDING)

    async def sealed_range(self, stream: StreamId, first: int, limit: int) -> SealedRange | None:
        """Events from `first` up to a seal, as many as fit a frame and `limit`; None where there are none.

        At least up to the next seal, even where `limit` is less. Where `first` is not kept any more it begins at the
        first offset that is, and says why (`start`).

        Raises:
            DamagedRange: the stored bytes are not those that were sealed.
        """
        return await self._beside_pruning(stream, partial(self._sealed_range, stream, first, limit))

    async def _beside_pruning(
        self, stream: StreamId, read: Callable[[], Awaitable[_Found]]
    ) -> _Found:
        """Read of a stream; anew where some of it was pruned meanwhile, which would look like damage."""
        while True:
            kept = self.kept_from(stream)
            try:
                return await read()
            except DamagedRange:
                if self.kept_from(stream) == kept:
                    raise

    async def _sealed_range(self, stream: StreamId, first: int, limit: int) -> SealedRange | None:
        row, horizon = self._store.row_of(stream), self._store.horizons.get(stream)
        if row is None:
            return None
        kept = self.kept_from(stream)
        first = max(first, kept)
        start = horizon.start if horizon is not None and 0 < first == kept else None
        cut = self._limit_of(stream)
        with translated_errors():
            last = self._last_of(row, stream)
            last = last if cut is None else min(last, cut)
            data, damage = await self._bytes(row, first, last, MAX_SEALED_EVENTS, MAX_SEALED_BYTES)
            reached = first + len(data) - 1
            seal = await self._seal_within(stream, row, first, reached, limit)
        if seal is None and data and reached == cut:
            # Its own seal may have gone when the events around it were packed.
            seal = self._store.cuts.seal_at(stream, cut)
        if seal is None and damage is not None:
            raise damage
        if seal is None:
            return None
        events = tuple(data[: seal.offset - first + 1])
        before = await self.hash_at(stream, first - 1)
        if before is None or chained(before, events) != seal.hash:
            raise _damaged(stream, first, seal.offset)
        return SealedRange(first, events, seal, self._store.authors[stream.node], start)

    def _last_of(self, row: int, stream: StreamId) -> int:
        """The last offset that stands in a row, which may be another part's than this one."""
        parts = self._store.branches.parts.get(row)
        last = stream if parts is None else parts[-1][1]
        return (self._end_of(last) or self._store.genesis(last)).offset

    def _end_of(self, stream: StreamId) -> Head | None:
        """How far a stream is read; None where nothing of it is. See `lamport.evidence`."""
        return self._store.heads.get(stream)

    def _limit_of(self, stream: StreamId) -> int | None:
        """The last offset of a stream that counts, where it was cut."""
        return self._store.cuts.of(stream)

    async def _bytes(
        self, row: int, first: int, last: int, events: int, size: int
    ) -> tuple[list[bytes], DamagedRange | None]:
        """The bytes of a stream's events from offset `first` on, as many as are within all limits, at least one.

        They end before a damaged block, which is told.
        """
        damage: DamagedRange | None = None
        table, data, total, at = self._store.events, list[bytes](), 0, first
        while at <= last and at - first < events and total <= size:
            rows = await table.fitting(row, at, events, size)
            try:
                found = await table.following(row, at, last, events, rows)
            except DamagedRange as error:
                damage = error  # what lies before it may be all that is wanted
                break
            more = [one for part, places in found.parts for one in part.bytes_at(places)]
            sound = [*takewhile(lambda one: isinstance(one[2], bytes), found.rows)]
            more += [one[2] for one in sound]
            if len(sound) < len(found.rows):
                lost = found.rows[len(sound)][1]
                damage = _damaged(self._address(row, lost), lost, lost)
                last = lost - 1
            if not more:
                break
            data += more
            total += sum(map(len, more))
            at += len(more)
        totals: Iterable[int] = accumulate(map(len, data[:events]))
        return data[: max(1, sum(total <= size for total in totals))], damage

    async def events_at(self, keys: Iterable[EventKey]) -> list[Event]:
        """The events with these keys that are held, on all branches, hidden or not; of a damaged one only its key."""
        held = {row_key(key.lamport, row) for key in keys for row in self._rows_of(key.stream)}
        with translated_errors():
            found, lost = await self._store.events.find_sound(sorted(held))
        events = [self._lost(key, error.damage.first) for key, error in lost]
        events += [self._whatever_left(Row.of(row)) for row in found.rows]
        for block, positions in found.parts:
            for at in positions:
                events += block.events(self._address(block.row, block.offset + at), (at,))
        admits = self._store.cuts.admits
        return sorted((one for one in events if admits(one.stream, one.offset)), key=_KEY)

    def _rows_of(self, stream: StreamId) -> Iterable[int]:
        """Where events of a stream may stand: of a forked one, those of all branches."""
        row = self._store.row_of(stream.base)
        return self._store.branches.rows_of(stream) or (() if row is None else (row,))

    def _address(self, row: int, offset: int) -> StreamId:
        """Whose an event is."""
        cut = self._store.branches
        return cut.at(row, offset) if row in cut.parts else self._store.stream_of(row)

    def _whatever_left(self, row: Row) -> Event:
        try:
            return _decoded_row(self._address(row.key & MAX_STREAMS - 1, row.offset), row)
        except DamagedRange:
            return self._lost(row.key, row.offset)

    def _lost(self, key: int, offset: int) -> Event:
        """What is told of an event that cannot be read. Its offset, if that is lost, too, is at least this one."""
        stream = self._address(key & MAX_STREAMS - 1, offset)
        return Event(EventKey(key >> STREAM_BITS, stream), offset, 0, (), "", None)

    async def hash_at(self, stream: StreamId, offset: int) -> bytes | None:
        """The chain's hash after an offset (-1: before the first event); None where that is not held.

        Raises:
            DamagedRange: the stored bytes between the seals around it are not those that were sealed.
        """
        return await self._beside_pruning(stream, partial(self._hash_at, stream, offset))

    async def _hash_at(self, stream: StreamId, offset: int) -> bytes | None:
        head, kept = self._end_of(stream), self.kept_from(stream)
        start = self._store.genesis(stream)
        if head is None:
            return start.hash if offset == NOTHING else None
        if offset > head.offset:
            return None
        if offset < max(kept - 1, start.offset):
            return start.hash if offset == start.offset else None
        if kept:
            start = Head(stream, kept - 1, self._store.horizons[stream].base)
        row = self._store.row_of(stream)
        assert row is not None, "a stream with a head has a number"
        with translated_errors():
            seals = await self._store.reader.fetch(
                'SELECT "offset", hash FROM seals WHERE stream = ? AND "offset" BETWEEN ? AND ?'
                ' ORDER BY "offset" DESC LIMIT 1',
                (row, kept, offset),
            )
            sealed, hash_ = seals[0] if seals else (start.offset, start.hash)
            if not isinstance(hash_, bytes):
                raise _damaged(stream, sealed, offset)
            if sealed == offset:
                return hash_
            [(end, expected)] = await self._store.reader.fetch(
                'SELECT "offset", hash FROM seals WHERE stream = ? AND "offset" > ?'
                ' ORDER BY "offset" LIMIT 1',
                (row, offset),
            ) or [(head.offset, head.hash)]
            data, damage = await self._bytes(row, sealed + 1, end, MAX_SEALED_EVENTS, _ANY_SIZE)
        if damage is not None:
            raise damage
        reached = chained(hash_, data[: offset - sealed])
        if chained(reached, data[offset - sealed :]) != expected:
            raise _damaged(stream, sealed + 1, end)
        return reached

    def kept_from(self, stream: StreamId) -> int:
        """The first offset of a stream that is read: before it everything was pruned."""
        horizon = self._store.horizons.get(stream)
        return 0 if horizon is None else horizon.first

    async def _seal_within(
        self, stream: StreamId, row: int, first: int, last: int, limit: int
    ) -> Seal | None:
        """The last seal that `limit` allows, or else the first there is, at an offset from `first` to `last`."""
        columns = 'SELECT "offset", hash, clock, horizon, signature FROM seals'
        where = ' WHERE stream = ? AND "offset" BETWEEN ? AND ?'
        fetch = self._store.reader.fetch
        found = await fetch(
            f'{columns}{where} ORDER BY "offset" DESC LIMIT 1',
            (row, first, min(last, first + limit - 1)),
        ) or await fetch(f'{columns}{where} ORDER BY "offset" LIMIT 1', (row, first, last))
        return Seal(stream, *found[0]) if found else None

    async def seal_up_to(self, part: StreamId, row: int, offset: int) -> Seal | None:
        """The last seal of a part at or before an offset; None where there is none."""
        first = max(self.kept_from(part), self._store.branches.first(part))
        with translated_errors():
            found = await self._store.reader.fetch(
                'SELECT "offset", hash, clock, horizon, signature FROM seals WHERE stream = ?'
                ' AND "offset" BETWEEN ? AND ? ORDER BY "offset" DESC LIMIT 1',
                (row, first, offset),
            )
        return Seal(part, *found[0]) if found else None

    async def _read_keys(
        self, where: Where, bounds: Bounds, cut: Branches, *, descending: bool
    ) -> AsyncIterator[list[Event]]:
        lowest = await self._lowest_row_key(bounds)
        if lowest is None:
            return
        local = self._store.local_rows()
        plan = [_Lookup(one, local, descending=descending) for one in where.alternatives]
        low, high, stretch = lowest, _LAST_ROW_KEY, 1
        while low <= high:
            page = await self._page(plan, low, high, stretch, descending=descending)
            self._paging.learn(page)
            decoded = 0  # others had their turn while the page was fetched
            for piece in page.pieces(DECODED_EVENTS, descending=descending):
                events = self._decoded(piece, where, bounds, cut, descending=descending)
                decoded += piece.count
                if events:
                    yield events
                if decoded >= TURN_EVENTS:
                    await asyncio.sleep(0)
                    decoded = 0
            if page.reached is None:
                return
            stretch = 1 if page else stretch * 2
            low, high = (low, page.reached - 1) if descending else (page.reached + 1, high)

    async def _page(
        self, plan: "Sequence[_Lookup]", low: int, high: int, stretch: int, *, descending: bool
    ) -> Found:
        """The next events that any alternative finds, up to where all of them have looked.

        It is longer by `stretch` than pages are.
        """
        found: set[int] = set()
        reached: int | None = None
        with translated_errors():
            if [lookup.is_a_scan for lookup in plan] == [True]:
                size, rows = PAGE_EVENTS, self._paging.rows(PAGE_EVENTS)
                pages = SCANNED_PAGES * stretch
                scanned = await plan[0].scanned(self._store, low, high, pages * size, pages * rows)
                return _cut(scanned, low, high, descending)
            size = self._paging.keys(PAGE_EVENTS) * stretch
            for lookup in plan:
                window = await lookup.keys(self._store, low, high, size)
                found.update(window.keys)
                if window.reached is not None:
                    reached = _nearer(reached, window.reached, descending)
            if reached is not None:
                reached = _whole_groups(reached, low, high, descending)
                found = {key for key in found if _within(key, reached, descending)}
            return replace(await self._found(sorted(found)), reached=reached)

    async def _found(self, keys: Sequence[int]) -> Found:
        """What stands under these keys, a page's worth at a time."""
        size = self._paging.keys(PAGE_EVENTS)
        parts = [keys[at : at + size] for at in range(0, len(keys), size)]
        found = [await self._store.events.find(part) for part in parts]
        return Found(
            [row for one in found for row in one.rows],
            [part for one in found for part in one.parts],
        )

    def _decoded(
        self, found: Found, where: Where, bounds: Bounds, cut: Branches, *, descending: bool
    ) -> list[Event]:
        events = self._admitted(found, where, bounds, cut)
        if descending or not found.is_in_order:
            events.sort(key=_KEY, reverse=descending)
        return events

    def _admitted(self, found: Found, where: Where, bounds: Bounds, cut: Branches) -> list[Event]:
        """Decode what lies within the bounds; the tag index may have found too much."""
        events: list[Event] = []
        spans: dict[int, tuple[Span, ...]] = {}
        for block, positions in found.parts:
            for span in spans.get(block.row) or self._spans(block.row, bounds, cut, spans):
                events += block.events(span.stream, span.among(block, positions))
        for number, rows in _by_stream(found.rows).items():
            for span in spans.get(number) or self._spans(number, bounds, cut, spans):
                events += _decoded_rows(span.stream, span.wanted(rows))
        if bounds.after is not None:
            events = [event for event in events if event[0] > bounds.after]
        return _matching(where, events, self._store.own.node)

    def _spans(
        self, row: int, bounds: Bounds, cut: Branches, spans: "dict[int, tuple[Span, ...]]"
    ) -> "tuple[Span, ...]":
        """The parts of a row and what of them lies within the bounds, remembered for the page."""
        parts = cut.parts.get(row) or ((0, self._store.stream_of(row)),)
        ends = [first - 1 for first, _ in parts[1:]] + [MAX_LAMPORT]
        found = tuple(
            self._span(stream, first, end, bounds)
            for (first, stream), end in zip(parts, ends, strict=True)
        )
        spans[row] = found
        return found

    def _span(self, stream: StreamId, first: int, end: int, bounds: Bounds) -> "Span":
        lower = max(bounds.lower.of(stream), self.kept_from(stream) - 1, first - 1)
        upper = min(bounds.upper.of(stream), end)
        retracted = self._store.retracted
        return Span(stream, lower, upper, retracted.of(stream), retracted, bounds.as_of)

    async def _lowest_row_key(self, bounds: Bounds) -> int | None:
        """Where a scan for what lies within must begin; None where nothing does."""
        keys = []
        for wanted in missing(bounds.lower, bounds.upper) if bounds.lower else ():
            row = self._store.row_of(wanted.stream)
            if row is not None:
                with translated_errors():
                    keys.append(await self._store.events.lowest_key(row, wanted.first))
        if bounds.lower and keys.count(None) == len(keys):
            return None
        lowest = min((key for key in keys if key is not None), default=0)
        return lowest if bounds.after is None else max(lowest, row_key(bounds.after.lamport, 0))

    async def _read_streams(
        self, where: Where, bounds: Bounds, cut: Branches
    ) -> AsyncIterator[list[Event]]:
        for wanted in missing(bounds.lower, bounds.upper):
            first, row = (
                max(wanted.first, cut.first(wanted.stream)),
                self._store.row_of(wanted.stream),
            )
            while row is not None and first <= wanted.last:
                with translated_errors():
                    rows = self._paging.rows(PAGE_EVENTS)
                    found = await self._store.events.following(
                        row, first, wanted.last, PAGE_EVENTS, rows
                    )
                    self._paging.learn(found)
                chosen = self._admitted(found, where, bounds, cut)
                if chosen:
                    yield chosen
                if not found:
                    break
                first = found.last_offset + 1


class _Lookup:
    """Finds the row keys of one alternative, by the tag index where it names tags."""

    def __init__(
        self, alternative: Alternative, local: frozenset[int], *, descending: bool
    ) -> None:
        self._tags = [tag_hash(tag) for tag in alternative.tags]
        self._impossible = len(alternative.tags) > MAX_TAGS
        self._local = local if alternative.local else None
        self._descending = descending
        self._ranked = False

    @property
    def is_a_scan(self) -> bool:
        """Whether it names no tag, and so finds its events in their own table."""
        return not self._tags

    async def keys(self, store: Store, low: int, high: int, size: int) -> Window:
        """About `size` row keys from `low` to `high`, in the read's direction; some may not match."""
        if self._impossible or self._local == frozenset():
            return Window([], None)
        if self.is_a_scan:
            found = await self.scanned(store, low, high, size, size)
            keys = sorted(_cut(found, low, high, self._descending).keys())
            return Window(keys, found.reached)
        await self._rank(store)
        first, *others = self._tags
        window = await store.tags.window(first, low, high, size, descending=self._descending)
        keys = [key for key in window.keys if self._is_local(key)]
        for tag in others:
            keys = await store.tags.narrowed(keys, tag) if keys else keys
        return Window(keys, window.reached)

    async def scanned(self, store: Store, low: int, high: int, size: int, rows: int) -> Found:
        """About `size` stored events, at most `rows` of them fresh ones."""
        return await store.events.scan(
            low, high, size, self._local, rows=rows, descending=self._descending
        )

    def _is_local(self, key: int) -> bool:
        return self._local is None or key & MAX_STREAMS - 1 in self._local

    async def _rank(self, store: Store) -> None:
        """Let the rarest tag drive, and the others narrow down what it finds."""
        if self._ranked or len(self._tags) < 2:  # noqa: PLR2004 - nothing to compare
            return
        sizes = {tag: await store.tags.size(tag) for tag in self._tags}
        self._tags.sort(key=lambda tag: sizes[tag])
        self._ranked = True


def _by_stream(rows: Iterable[StoredRow]) -> dict[int, list[StoredRow]]:
    """Rows by the local numbers of their streams."""
    found: defaultdict[int, list[StoredRow]] = defaultdict(list)
    for row in rows:
        found[row[0] & MAX_STREAMS - 1].append(row)
    return found


def _matching(where: Where, events: list[Event], own: NodeId) -> list[Event]:
    """Those that a selection selects."""
    match where.alternatives:
        case (Alternative((), local=False),):
            return events
        case (Alternative((tag,), local=False),):
            return [event for event in events if tag in event[3]]
    matches = where.matches
    return [one for one in events if matches(one[3], is_local=one[0][1].node == own)]


def _decoded_rows(stream: StreamId, rows: Sequence[StoredRow]) -> Sequence[Event]:
    """Fresh events of a stream, decoded by one call where all of them are as they were written."""
    if not rows:
        return ()
    keys, offsets, data, checksums, *_ = zip(*rows, strict=True)
    # What is wrong with one of them is told below; in a damaged row not even bytes need stand.
    with suppress(ValueError, TypeError, RecursionError, msgpack.UnpackException):
        if checksums == tuple(map(row_checksum, keys, offsets, data)):
            lamports = [key >> STREAM_BITS for key in keys]
            return decode_events(stream, offsets, lamports, data)
    return [_decoded_row(stream, Row.of(row)) for row in rows]


def _decoded_row(stream: StreamId, row: Row) -> Event:
    key, offset, data, crc = row
    lamport = key >> STREAM_BITS
    event = decode_stored(stream, offset, lamport, data)
    if crc is not None and crc != row_checksum(key, offset, data):
        raise damaged_event(EventKey(lamport, stream), offset)
    return event


def _cut(found: Found, low: int, high: int, descending: bool) -> Found:  # noqa: FBT001 - internal
    """What of a scan is complete: whole groups of equal Lamport timestamps."""
    if found.reached is None:
        return found.within(low, high)
    reached = _whole_groups(found.reached, low, high, descending)
    low, high = (max(low, reached), high) if descending else (low, min(high, reached))
    return replace(found.within(low, high), reached=reached)


def _damaged(stream: StreamId, first: int, last: int) -> DamagedRange:
    fault = (
        f"offsets {first} to {last} of stream {stream} are damaged on this disk: {DAMAGE_REMEDY}"
    )
    return DamagedRange(fault, OffsetRange(stream, first, last))


def _whole_groups(reached: int, low: int, high: int, descending: bool) -> int:  # noqa: FBT001 - internal
    """The last row key in reading direction up to which whole groups of equal Lamport timestamps have been read.

    Never before the beginning: a page that gets nowhere is asked for again, twice as long.
    """
    group = reached >> STREAM_BITS << STREAM_BITS
    if descending:
        return min(group + MAX_STREAMS - 1, high) + 1
    return max(group, low) - 1


def _within(key: int, reached: int, descending: bool) -> bool:  # noqa: FBT001 - as above
    return key >= reached if descending else key <= reached


def _nearer(reached: int | None, other: int, descending: bool) -> int:  # noqa: FBT001 - as above
    if reached is None:
        return other
    return max(reached, other) if descending else min(reached, other)
