"""Reading the log: events by selection in key order or stream by stream, and sealed ranges for peers.

A read is paged, so that neither memory nor the database is held by a long one. Its upper bound is an offset map, and
so what arrives meanwhile cannot change what it returns. The table of events is ordered by Lamport timestamp and then
by the stream's *local* number; a page therefore never ends inside a group of equal timestamps, and each page is put
into the total order here.
"""

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import accumulate
from operator import itemgetter
from typing import Any

from lamport.branches import Branches
from lamport.chain import MAX_SEALED_BYTES, MAX_SEALED_EVENTS, Head, Seal, SealedRange, chained
from lamport.codec import decode_stored
from lamport.errors import DAMAGE_REMEDY, DamagedRange
from lamport.event import Event
from lamport.ids import MAX_LAMPORT, EventKey, StreamId
from lamport.offsets import NOTHING, OffsetMap, OffsetRange, missing
from lamport.postings import tag_hash
from lamport.store import MAX_STREAMS, STREAM_BITS, Store, row_key, translated_errors
from lamport.tag_index import Window
from lamport.tags import ALL_EVENTS, MAX_TAGS, Alternative, Where

PAGE_EVENTS = 1_000
"""Events of a page; one with many equal Lamport timestamps may be longer."""

_LAST_ROW_KEY = row_key(MAX_LAMPORT, MAX_STREAMS - 1)

_KEY = itemgetter(0)
"""An event's key."""

_Row = tuple[int, int, bytes]
"""A stored event: row key, offset, bytes."""


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
        row, horizon = self._store.row_of(stream), self._store.horizons.get(stream)
        if row is None:
            return None
        kept = self.kept_from(stream)
        first = max(first, kept)
        start = horizon.start if horizon is not None and 0 < first == kept else None
        with translated_errors():
            rows = await self._store.reader.fetch(
                'SELECT bytes FROM events WHERE stream = ? AND "offset" >= ?'
                ' ORDER BY "offset" LIMIT ?',
                (row, first, await self._fitting(row, first)),
            )
            data = [data for (data,) in rows]
            last = min(first + len(data) - 1, self._store.head(stream).offset)  # a cut may end it
            seal = await self._seal_within(stream, row, first, last, limit)
        if seal is None:
            return None
        events = tuple(data[: seal.offset - first + 1])
        before = await self.hash_at(stream, first - 1)
        if before is None or chained(before, events) != seal.hash:
            raise _damaged(stream, first, seal.offset)
        return SealedRange(first, events, seal, self._store.authors[stream.node], start)

    async def _fitting(self, row: int, first: int) -> int:
        """How many events from an offset on fit one frame, at least one; they are measured before they are read."""
        sizes = await self._store.reader.fetch(
            'SELECT length(bytes) FROM events WHERE stream = ? AND "offset" >= ?'
            ' ORDER BY "offset" LIMIT ?',
            (row, first, MAX_SEALED_EVENTS),
        )
        totals: Iterable[int] = accumulate(size for (size,) in sizes)
        return max(1, sum(total <= MAX_SEALED_BYTES for total in totals))

    async def events_at(self, keys: Iterable[EventKey]) -> list[Event]:
        """The events with these keys that are held, on all branches, hidden or not; of a damaged one only its key."""
        held = {row_key(key.lamport, row) for key in keys for row in self._rows_of(key.stream)}
        with translated_errors():
            found = [self._whatever_left(*row) for row in await self._rows(sorted(held))]
        return [one for one in found if self._store.cuts.admits(one.stream, one.offset)]

    def _rows_of(self, stream: StreamId) -> Iterable[int]:
        """Where events of a stream may stand: of a forked one, those of all branches."""
        row = self._store.row_of(stream.base)
        return self._store.branches.rows_of(stream) or (() if row is None else (row,))

    def _whatever_left(self, key: int, offset: int, data: bytes) -> Event:
        row, lamport = key & MAX_STREAMS - 1, key >> STREAM_BITS
        cut = self._store.branches
        stream = cut.at(row, offset) if row in cut.parts else self._store.stream_of(row)
        try:
            return decode_stored(stream, offset, lamport, data)
        except DamagedRange:
            return Event(EventKey(lamport, stream), offset, 0, (), "", None)

    async def hash_at(self, stream: StreamId, offset: int) -> bytes | None:
        """The chain's hash after an offset (-1: before the first event); None where that is not held.

        Raises:
            DamagedRange: the stored bytes between the seals around it are not those that were sealed.
        """
        head, kept = self._store.heads.get(stream), self.kept_from(stream)
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
        with translated_errors():
            seals = await self._store.reader.fetch(
                'SELECT "offset", hash FROM seals WHERE stream = ? AND "offset" BETWEEN ? AND ?'
                ' ORDER BY "offset" DESC LIMIT 1',
                (row, kept, offset),
            )
            sealed, hash_ = seals[0] if seals else (start.offset, start.hash)
            if sealed == offset:
                return bytes(hash_)
            [(end, expected)] = await self._store.reader.fetch(
                'SELECT "offset", hash FROM seals WHERE stream = ? AND "offset" > ?'
                ' ORDER BY "offset" LIMIT 1',
                (row, offset),
            ) or [(head.offset, head.hash)]
            rows = await self._store.reader.fetch(
                'SELECT bytes FROM events WHERE stream = ? AND "offset" > ? AND "offset" <= ?'
                ' ORDER BY "offset"',
                (row, sealed, end),
            )
        data = [data for (data,) in rows]
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
        low, high, size = lowest, _LAST_ROW_KEY, PAGE_EVENTS
        while low <= high:
            page = await self._page(plan, low, high, size, descending=descending)
            if page.rows:
                events = self._decoded(page.rows, where, bounds, cut, descending=descending)
                if events:
                    yield events
            if page.reached is None:
                return
            size = PAGE_EVENTS if page.rows else size * 2
            low, high = (low, page.reached - 1) if descending else (page.reached + 1, high)

    async def _page(
        self, plan: "Sequence[_Lookup]", low: int, high: int, size: int, *, descending: bool
    ) -> "_Page":
        """The next rows that any alternative finds, up to where all of them have looked."""
        found: set[int] = set()
        reached: int | None = None
        with translated_errors():
            if [lookup.is_a_scan for lookup in plan] == [True]:
                return await self._scanned(plan[0], low, high, size, descending=descending)
            for lookup in plan:
                window = await lookup.keys(self._store, low, high, size)
                found.update(window.keys)
                if window.reached is not None:
                    reached = _nearer(reached, window.reached, descending)
            if reached is not None:
                reached = _whole_groups(reached, low, high, descending)
                found = {key for key in found if _within(key, reached, descending)}
            return _Page(await self._rows(sorted(found)), reached)

    async def _scanned(
        self, lookup: "_Lookup", low: int, high: int, size: int, *, descending: bool
    ) -> "_Page":
        """The same for a selection of everything, whose rows can be read at once."""
        rows = await lookup.scanned(self._store, 'key, "offset", bytes', low, high, size)
        if len(rows) < size:
            return _Page(rows, None)
        reached = _whole_groups(rows[-1][0], low, high, descending)
        return _Page([row for row in rows if _within(row[0], reached, descending)], reached)

    async def _rows(self, keys: Sequence[int]) -> list[_Row]:
        rows: list[_Row] = []
        for start in range(0, len(keys), PAGE_EVENTS):
            part = keys[start : start + PAGE_EVENTS]
            marks = ",".join("?" * len(part))
            sql = f'SELECT key, "offset", bytes FROM events WHERE key IN ({marks})'  # noqa: S608 - marks only
            rows.extend(await self._store.reader.fetch(sql, part))
        return rows

    def _decoded(
        self,
        rows: Sequence[_Row],
        where: Where,
        bounds: Bounds,
        cut: Branches,
        *,
        descending: bool,
    ) -> list[Event]:
        return sorted(self._admitted(rows, where, bounds, cut), key=_KEY, reverse=descending)

    def _admitted(
        self, rows: Iterable[_Row], where: Where, bounds: Bounds, cut: Branches
    ) -> Iterator[Event]:
        """Decode the rows that lie within the bounds; the tag index may have found too much."""
        own, everything, after = self._store.own.node, where == ALL_EVENTS, bounds.after
        retracted, parts = self._store.retracted, cut.parts
        spans: dict[int | StreamId, tuple[StreamId, int, int, Mapping[int, object]]] = {}
        for key, offset, data in rows:
            row: int | StreamId = key & MAX_STREAMS - 1
            if row in parts:
                row = cut.at(key & MAX_STREAMS - 1, offset)
            if row not in spans:
                stream = self._store.stream_of(row) if isinstance(row, int) else row
                lower = max(bounds.lower.of(stream), self.kept_from(stream) - 1)
                spans[row] = stream, lower, bounds.upper.of(stream), retracted.of(stream)
            stream, lower, upper, hidden = spans[row]
            if not lower < offset <= upper:
                continue
            lamport = key >> STREAM_BITS
            if lamport in hidden and retracted.hides(EventKey(lamport, stream), bounds.as_of):
                continue
            event = decode_stored(stream, offset, lamport, data)
            if after is not None and event.key <= after:
                continue
            if everything or where.matches(event.tags, is_local=stream.node == own):
                yield event

    async def _lowest_row_key(self, bounds: Bounds) -> int | None:
        """Where a scan for what lies within must begin; None where nothing does."""
        keys = []
        for wanted in missing(bounds.lower, bounds.upper) if bounds.lower else ():
            row = self._store.row_of(wanted.stream)
            with translated_errors():
                keys += await self._store.reader.fetch(
                    'SELECT key FROM events WHERE stream = ? AND "offset" >= ? ORDER BY "offset" LIMIT 1',
                    (row, wanted.first),
                )
        if bounds.lower and not keys:
            return None
        lowest = min((key for (key,) in keys), default=0)
        return lowest if bounds.after is None else max(lowest, row_key(bounds.after.lamport, 0))

    async def _read_streams(
        self, where: Where, bounds: Bounds, cut: Branches
    ) -> AsyncIterator[list[Event]]:
        for wanted in missing(bounds.lower, bounds.upper):
            first = max(wanted.first, cut.first(wanted.stream))
            while first <= wanted.last:
                with translated_errors():
                    rows: list[Any] = await self._store.reader.fetch(
                        'SELECT key, "offset", bytes FROM events WHERE stream = ?'
                        ' AND "offset" BETWEEN ? AND ? ORDER BY "offset" LIMIT ?',
                        (self._store.row_of(wanted.stream), first, wanted.last, PAGE_EVENTS),
                    )
                chosen = list(self._admitted(rows, where, bounds, cut))
                if chosen:
                    yield chosen
                if not rows:
                    break
                first = rows[-1][1] + 1


@dataclass(frozen=True, slots=True)
class _Page:
    """Rows, and the row key up to which (from which, when descending) nothing was left out; None for the end."""

    rows: list[_Row]
    reached: int | None


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
            keys = [key for (key,) in await self.scanned(store, "key", low, high, size)]
            return Window(keys, keys[-1] if len(keys) == size else None)
        await self._rank(store)
        first, *others = self._tags
        window = await store.tags.window(first, low, high, size, descending=self._descending)
        keys = [key for key in window.keys if self._is_local(key)]
        for tag in others:
            keys = await store.tags.narrowed(keys, tag) if keys else keys
        return Window(keys, window.reached)

    async def scanned(
        self, store: Store, columns: str, low: int, high: int, size: int
    ) -> list[Any]:
        """At most `size` rows of the table of events."""
        rows = sorted(self._local) if self._local is not None else []
        marks = ",".join("?" * len(rows))
        among = f"AND key & {MAX_STREAMS - 1} IN ({marks})" if self._local is not None else ""
        direction = "DESC" if self._descending else "ASC"
        return await store.reader.fetch(
            f"SELECT {columns} FROM events WHERE key BETWEEN ? AND ? {among}"  # noqa: S608 - no values in it
            f" ORDER BY key {direction} LIMIT ?",
            (low, high, *rows, size),
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
