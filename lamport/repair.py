"""Mends what the disk altered while the log is in use, from what others hold, and never by a guess.

    a read, or `shoal verify`, finds damage ── Damages ──> Repair.piece: the offsets between two seals that still hold
    a peer sends that piece ── Mending: chained from the seal before, it must reach the hash that is kept here behind it
    Repair.replace: exactly the rows that differ, in one transaction

So nothing that a peer says can change what this node holds: it can only give back bytes that hash to what was known all
the time. Heads do not move. The tag index needs no repair, for it was made of the events as they were. Snapshots of
fish are dropped: they may have been folded from what was damaged.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, TypeVar

from lamport.chain import MAX_SEALED_EVENTS, Head, Keys, Seal, SealedRange, chained, check_range
from lamport.codec import verify_event
from lamport.errors import CorruptRange, DamagedRange, DivergedStream
from lamport.event import Event
from lamport.ids import StreamId
from lamport.offsets import OffsetRange
from lamport.seams import Statement
from lamport.store import Store, row_key, translated_errors
from lamport.stream_check import is_genuine

MAX_DAMAGED = 1_000
"""Streams of which is remembered that they were found damaged."""

MAX_ANSWER = 16
"""Ranges that may answer for one piece: two seals that hold are rarely further apart than one range."""

LOOKED_AROUND = 100
"""Offsets on both sides of a damage that are looked at: disks lose blocks, and a read stops at the first event."""

_Read = TypeVar("_Read")

_SEAL_COLUMNS = 'SELECT "offset", hash, clock, horizon, signature FROM seals WHERE stream = ?'


class Damages:
    """What of each stream was found damaged: one span of offsets each, and what was said of it first."""

    def __init__(self) -> None:
        self._spans: dict[StreamId, tuple[OffsetRange, str]] = {}
        self._found = asyncio.Event()
        self._mended = asyncio.Event()

    @property
    def texts(self) -> Mapping[StreamId, str]:
        """What was said of each stream, for people."""
        return MappingProxyType({stream: text for stream, (_, text) in self._spans.items()})

    @property
    def spans(self) -> tuple[OffsetRange, ...]:
        """The damaged parts, as far as they were found."""
        return tuple(span for span, _ in self._spans.values())

    async def noting(self, pages: AsyncIterator[Sequence[Event]]) -> AsyncIterator[Sequence[Event]]:
        """Remember what of the disk is found damaged on the way."""
        try:
            async for page in pages:
                yield page
        except DamagedRange as error:
            self.note(error.damage, str(error))
            raise

    async def noted(self, reading: Awaitable[_Read]) -> _Read:
        """The same for one read."""
        try:
            return await reading
        except DamagedRange as error:
            self.note(error.damage, str(error))
            raise

    def note(self, damage: OffsetRange, text: str) -> None:
        """Remember that something within these offsets is damaged."""
        known, said = self._spans.get(damage.stream, (damage, text))
        span = OffsetRange(
            damage.stream, min(known.first, damage.first), max(known.last, damage.last)
        )
        is_news = self._spans.get(damage.stream) != (span, said)
        if is_news and (damage.stream in self._spans or len(self._spans) < MAX_DAMAGED):
            self._spans[damage.stream] = span, said
            self._found.set()

    def forget(self, damage: OffsetRange) -> None:
        """These offsets are as they were written again; more may have been found meanwhile."""
        if damage in self.spans:
            del self._spans[damage.stream]
        self._mended.set()
        self._mended = asyncio.Event()

    async def found(self) -> None:
        """Wait until something was noted that this was not told of before."""
        await self._found.wait()
        self._found.clear()

    async def mended(self) -> None:
        """Wait until something is mended."""
        await self._mended.wait()


@dataclass(frozen=True, slots=True)
class Piece:
    """Offsets of a stream between two places of its chain that are known to be right."""

    before: Head
    last: Head

    @property
    def stream(self) -> StreamId:
        """The stream."""
        return self.last.stream

    @property
    def first(self) -> int:
        """The first offset of the piece."""
        return self.before.offset + 1

    def __str__(self) -> str:
        return f"offsets {self.first} to {self.last.offset} of stream {self.stream}"


@dataclass(slots=True)
class Mending:
    """Collects what a peer sends for a piece, until it reaches the end."""

    piece: Piece
    keys: Keys
    events: list[Event] = field(default_factory=list)
    data: list[bytes] = field(default_factory=list)
    seals: list[Seal] = field(default_factory=list)
    certificate: bytes = b""

    @property
    def due(self) -> int:
        """The offset at which the next range begins."""
        return self.piece.first + len(self.data)

    def add(self, received: SealedRange) -> bool:
        """Take in the next range; returns whether the piece is complete.

        Raises:
            CorruptRange: it does not hold.
            DivergedStream: it does not lead to what is known here.
        """
        checked = check_range(received, self.keys)
        if received.first != self.due or len(self.seals) >= MAX_ANSWER:
            raise CorruptRange(f"stream {received.stream}: offset {self.due} is due")
        self.events += checked.events
        self.data += received.events
        self.seals.append(received.seal)
        self.certificate = received.certificate or self.certificate
        if chained(self.piece.before.hash, self.data) != received.seal.hash:
            raise DivergedStream(f"stream {received.stream}: another history than the one held")
        return self._is_complete()

    def _is_complete(self) -> bool:
        """Whether the end is reached, with the hash that is known to be right; what lies behind it is left out."""
        last, count = self.piece.last, self.piece.last.offset - self.piece.first + 1
        if len(self.data) < count:
            return False
        del self.events[count:], self.data[count:]
        self.seals = [seal for seal in self.seals if seal.offset <= last.offset]
        if chained(self.piece.before.hash, self.data) != last.hash:
            raise DivergedStream(f"stream {last.stream}: another history than the one held")
        return True


class Repair:
    """Finds the pieces of one store that are not sound, and replaces them."""

    def __init__(self, store: Store, keys: Keys) -> None:
        self._store = store
        self._keys = keys

    async def piece(self, damage: OffsetRange) -> Piece | None:
        """The first piece within the damage, or near it, that is not what was sealed; None where all of it is.

        Raises:
            StoreError: SQLite cannot read it.
        """
        row, head = self._store.row_of(damage.stream), self._store.head(damage.stream)
        begin = self._beginning(damage.stream).offset + 1
        if row is None or not self._is_certified(damage.stream):
            first = max(begin, damage.first)
            return None if row is None else await self._between(row, first, head)
        offset = max(begin, damage.first - LOOKED_AROUND)
        while offset <= min(damage.last + LOOKED_AROUND, head.offset):
            piece = await self._between(row, offset, head)
            if not await self._is_sound(row, piece):
                return piece
            offset = piece.last.offset + 1
        return None

    def mending(self, piece: Piece) -> Mending:
        """For what a peer sends of a piece."""
        return Mending(piece, self._keys)

    async def replace(self, mending: Mending) -> int:
        """Put the right bytes where others stand; returns how many events had to be put right.

        Raises:
            StoreFull, StoreFailed: as `Store.commit`; nothing was changed.
        """
        stream = mending.piece.stream
        row = self._store.row_of(stream)
        assert row is not None, "a piece of it is held"
        right = [
            (row_key(event.lamport, row), row, event.offset, data)
            for event, data in zip(mending.events, mending.data, strict=True)
        ]
        held = await self._held([key for key, *_ in right])
        wrong = [one for one in right if held.get(one[0]) != one]
        await self._store.write(*self._replacement(mending, row, right, wrong))
        if mending.certificate:
            self._store.authors[stream.node] = mending.certificate
        return len(wrong)

    def _replacement(
        self, mending: Mending, row: int, right: Sequence[Any], wrong: Sequence[Any]
    ) -> Iterator[Statement]:
        """All that one repair writes."""
        piece, seals = mending.piece, mending.seals
        first, last, keys = piece.first, piece.last.offset, str([key for key, *_ in right])
        yield Statement(
            'DELETE FROM events WHERE stream = ? AND "offset" BETWEEN ? AND ?'
            " AND key NOT IN (SELECT value FROM json_each(?))",
            [(row, first, last, keys)],
        )
        yield Statement("INSERT OR REPLACE INTO events VALUES (?, ?, ?, ?)", wrong)
        # A seal that holds is a bound of every piece, so none but the last offset's can be in here.
        yield Statement(
            'DELETE FROM seals WHERE stream = ? AND "offset" BETWEEN ? AND ?',
            [(row, first, last - 1)],
        )
        yield Statement(
            "INSERT OR REPLACE INTO seals VALUES (?, ?, ?, ?, ?, ?)",
            [(row, s.offset, s.hash, s.clock, s.horizon, s.signature) for s in seals],
        )
        certificates = [(bytes(piece.stream.node), mending.certificate)]
        yield Statement(
            "INSERT OR REPLACE INTO authors VALUES (?, ?)",
            certificates if mending.certificate else [],
        )
        yield Statement("DELETE FROM snapshots")

    async def _between(self, row: int, offset: int, head: Head) -> Piece:
        """The piece around an offset: from the last seal before it that holds to the first behind it.

        A part of a forked stream shares its row with others: it begins and ends where the fork does.
        """
        before = self._beginning(head.stream)
        async for seal in self._seals(row, head.stream, '"offset" < ?', offset, "DESC"):
            if seal.offset > before.offset:
                before = Head(head.stream, seal.offset, seal.hash)
            break
        last = head
        async for seal in self._seals(row, head.stream, '"offset" >= ?', offset, "ASC"):
            last = Head(head.stream, seal.offset, seal.hash)
            break
        return Piece(before, last)

    def _beginning(self, stream: StreamId) -> Head:
        """Where the kept part of a stream begins: nobody sends what was pruned."""
        horizon = self._store.horizons.get(stream)
        if horizon is None or not horizon.first:
            return self._store.genesis(stream)
        return Head(stream, horizon.first - 1, horizon.base)

    async def _seals(self, row: int, stream: StreamId, where: str, offset: int, order: str) -> Any:
        """The seals on one side of an offset that their author signed, nearest first."""
        while found := await self._fetch(
            f'{_SEAL_COLUMNS} AND {where} ORDER BY "offset" {order} LIMIT 1', row, offset
        ):
            seal = Seal(stream, *found[0])
            if is_genuine(seal, self._keys) and seal.offset <= self._store.head(stream).offset:
                yield seal
            offset = seal.offset + (order == "ASC")

    async def _is_sound(self, row: int, piece: Piece) -> bool:
        """Whether a piece's rows, and the seal at its end, are what was written."""
        rows = await self._fetch(
            'SELECT key, "offset", bytes FROM events WHERE stream = ? AND "offset" BETWEEN ? AND ?'
            ' ORDER BY "offset"',
            row,
            piece.first,
            piece.last.offset,
        )
        if not all(isinstance(data, bytes) for *_, data in rows):
            return False
        try:
            events = [verify_event(piece.stream, offset, data) for _, offset, data in rows]
        except CorruptRange:
            return False
        keys = [row_key(event.lamport, row) for event in events]
        within = await self._fetch(
            f'{_SEAL_COLUMNS} AND "offset" BETWEEN ? AND ?', row, piece.first, piece.last.offset
        )
        return (
            [key for key, *_ in rows] == keys
            and chained(piece.before.hash, [data for *_, data in rows]) == piece.last.hash
            and self._is_sealed(piece, within)
        )

    def _is_sealed(self, piece: Piece, within: Sequence[tuple[Any, ...]]) -> bool:
        """Whether a piece has one seal, at its end; where a fork ends its part there may be none."""
        if not within:
            closed = self._store.branches.closed.get(piece.stream)
            return closed is not None and closed.offset == piece.last.offset
        return [offset for offset, *_ in within] == [piece.last.offset] and is_genuine(
            Seal(piece.stream, *within[0]), self._keys
        )

    def _is_certified(self, stream: StreamId) -> bool:
        certificate = self._store.authors.get(stream.node, b"")
        return self._keys.certifies(certificate, stream.node)

    async def _held(self, keys: Sequence[int]) -> dict[int, tuple[Any, ...]]:
        """The rows with these keys, as they stand."""
        held: dict[int, tuple[Any, ...]] = {}
        for start in range(0, len(keys), MAX_SEALED_EVENTS):
            part = keys[start : start + MAX_SEALED_EVENTS]
            marks = ",".join("?" * len(part))
            sql = f'SELECT key, stream, "offset", bytes FROM events WHERE key IN ({marks})'  # noqa: S608 - marks only
            held.update({one[0]: one for one in await self._fetch(sql, *part)})
        return held

    async def _fetch(self, sql: str, *parameters: int) -> list[tuple[Any, ...]]:
        with translated_errors():
            return await self._store.reader.fetch(sql, parameters)
