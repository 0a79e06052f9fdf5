"""The durable log: one SQLite database, and the only place where its tables are written.

A `Commit` goes in, one transaction, and is durable when `commit` returns; after that the in-memory picture (heads,
authors, clock) moves to it. Reading stands in `lamport.reader`, the schema in `lamport.schema`.
"""

import logging
from collections.abc import Callable, Container, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from lamport.branches import Branch, Branches
from lamport.chain import Head, Keys, Seal, genesis
from lamport.clock import LamportClock
from lamport.commit import Commit, CommitBuilder
from lamport.commit_table import commit_statements, tag_entries
from lamport.compaction import Compaction
from lamport.cuts import NO_CUTS
from lamport.dictionaries import Dictionaries
from lamport.errors import (
    DAMAGE_REMEDY,
    DamagedIndex,
    StoreFull,
    StoreRefused,
)
from lamport.event_table import EventTable
from lamport.forks import Adoption
from lamport.horizon import Horizon
from lamport.horizon_table import clear_step, horizon_statements, load_horizons
from lamport.ids import STREAM_NUMBER_LIMIT, NodeId, StreamId
from lamport.latest import LatestRanges
from lamport.leaps import Leaps
from lamport.lineage import Lineage, UnusedLineage
from lamport.notice_table import load_cuts, load_notices
from lamport.notices import Notices
from lamport.offsets import OffsetMap
from lamport.retraction import Retracted
from lamport.retraction_table import MARK, load_retracted, make_table
from lamport.routes import NO_ROUTES, OwnStreams, Routes
from lamport.row_keys import MAX_STREAMS
from lamport.schema import check_ours, claim, facts_of, migrate, require_readable
from lamport.seams import Connection, Disk, Statement, Work
from lamport.sqlite_errors import translated_errors
from lamport.tag_index import TagIndex

_SHRINKING = "PRAGMA auto_vacuum = INCREMENTAL"
"""Lets a file give back what merges set free. Means something only before a database's first table is made."""

_DURABLE = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA journal_size_limit = 67108864",
)
"""A commit is on the disk before it returns. Not set before a database is known to be ours."""

_log = logging.getLogger("shoal.log")


class Store:
    """The database of one node: its writer, and what the log must know at every moment."""

    def __init__(
        self,
        writer: Connection,
        reader: Connection,
        keys: Keys,
        lineage: Lineage,
        names: Iterable[str] = (),
    ) -> None:
        """Use `Store.open`."""
        self.reader = reader
        self.heads: dict[StreamId, Head] = {}
        self.ends: dict[StreamId, Head] = {}
        """Where parts end on the disk of which less counts."""
        self.authors: dict[bytes, bytes] = {}
        self.branches = Branches()
        """All proven forks; replaced as a whole when there is one more."""
        self.horizons: dict[StreamId, Horizon] = {}
        self.clock = LamportClock()
        self.retracted = Retracted()
        self.notices = Notices()
        self.leaps = Leaps()
        self.cuts = NO_CUTS
        """How much counts of what revoked nodes wrote; replaced as a whole. `heads` reach no further than that."""
        self.tags = TagIndex(writer, reader)
        self.latest = LatestRanges()
        self.dictionaries = Dictionaries()
        self.events = EventTable(reader, self._first_part, self.dictionaries)
        self.compaction = Compaction(writer, self.dictionaries, self._start_of, self._ends_of)
        self._writer = writer
        self._keys = keys
        self._row_of: dict[StreamId, int] = {}
        self._stream_of: dict[int, StreamId] = {}
        self._next_row = 0
        self._own: OwnStreams | None = None
        self._names = tuple(names)
        self._lineage = lineage
        self.has_new_stream = False
        """Whether the own streams were drawn since this store was opened, so that nobody knows of it."""

    @classmethod
    async def open(
        cls,
        disk: Disk,
        keys: Keys,
        draw_number: Callable[[], int],
        names: Iterable[str] = (),
    ) -> "Store":
        """Open the node's database, making or migrating it where needed.

        One that is a copy from an earlier time gets new own streams. `draw_number` draws stream numbers and tokens,
        `names` are those of the streams that this node writes beside the default one.

        Raises:
            StoreMismatch: it is newer than this program, no Shoal database, or another node's or swarm's.
        """
        with translated_errors():
            writer = await disk.open_writer()
            try:
                await check_ours(writer)
                [(pages,)] = await writer.fetch("PRAGMA page_count")
                for pragma in _DURABLE if pages else (_SHRINKING, *_DURABLE):
                    await writer.fetch(pragma)
                await migrate(writer)
                made = await claim(writer, keys, draw_number)
                reader = await disk.open_reader()
            except BaseException:
                await writer.close()
                raise
            store = cls(writer, reader, keys, Lineage(disk, draw_number), names)
            store.has_new_stream = made
            try:
                await store.tags.adopt_rows()
                await store._load()
                await store._load_retracted()
                with suppress(StoreFull):  # then before the first commit that finds room
                    await store._record_lineage()
            except BaseException:
                await store.close()
                raise
        return store

    @classmethod
    async def open_to_read(cls, disk: Disk, keys: Keys) -> "Store":
        """Open the database beside whoever writes it, as it is now; this store never commits.

        Raises:
            StoreMismatch: it is no Shoal database, or of another schema than this program's.
        """
        with translated_errors():
            reader = await disk.open_reader()
            store = cls(reader, reader, keys, UnusedLineage(disk))
            try:
                await require_readable(reader)
                await store._load()
            except BaseException:
                await store.close()
                raise
        return store

    @property
    def own(self) -> OwnStreams:
        """The streams that this node writes."""
        assert self._own is not None, "loaded when opened"
        return self._own

    def take_new_stream(self) -> None:
        """Write other streams from now on; what the old ones hold stays, and others may complete it."""
        self._own = OwnStreams(self._drawn_stream(), self._drawn(self.own.named))
        self.has_new_stream = True
        self._set_rows_aside()

    def _drawn(self, names: Iterable[str], known: Container[str] = ()) -> dict[str, StreamId]:
        return {name: self._drawn_stream() for name in names if name not in known}

    def _drawn_stream(self) -> StreamId:
        stream = StreamId(self._keys.node, self._lineage.draw_number())
        while stream in self._row_of:
            stream = StreamId(self._keys.node, self._lineage.draw_number())
        return stream

    async def commit(self, commit: Commit) -> None:
        """Make the commit durable, then take its state over.

        Raises:
            StoreFull: no room; nothing was stored, later commits may pass.
            StoreFailed: the disk failed; this store must not be used any more.
        """
        # Known before the rows are on the disk: a reader may see them before this task goes on.
        self._number_streams(commit)
        runs = self.tags.cut(tag_entries(commit, self._row_of))
        with translated_errors():
            await self._record_lineage()
            await self._writer.transact(commit_statements(commit, runs, self._row_of))
        self.tags.add(runs)
        self.compaction.added([self._row_of[one.event.stream] for one in commit.events])
        self.heads.update(commit.heads)
        for adoption in commit.forks:
            self._adopt(adoption)
        if commit.forks:
            self.retracted.rename(self.branches.named_now)
            self.cuts.clip_heads(self.heads, self.ends)
        self.authors.update(commit.certificates)
        self.horizons.update(commit.horizons)
        self.latest.note(commit, self.authors)
        self.clock = commit.clock
        self.retracted.void += len(commit.void)
        for retraction in commit.retractions:
            self.retracted.add(retraction)

    def new_commit(self, keys: Keys, routes: Routes = NO_ROUTES) -> CommitBuilder:
        """A commit on top of what is stored."""
        return CommitBuilder(
            own=self.own,
            clock=self.clock,
            heads=self.heads,
            authors=self.authors,
            horizons=self.horizons,
            keys=keys,
            retracted=self.retracted,
            branches=self.branches,
            cuts=self.cuts,
            leaps=self.leaps,
            routes=routes,
            ends=self.ends,
        )

    def announced(self, stream: StreamId) -> Seal | None:
        """The author's seal that names the highest horizon known of a stream; None where nothing was pruned."""
        known = self.horizons.get(stream)
        return None if known is None else known.seal

    async def give_up(self, stream: StreamId, horizon: int, base: bytes) -> None:
        """Keep a stream from this offset on, before which the chain's hash is `base`; raises as `commit` does."""
        moved = {stream: self.horizons[stream].moved(horizon, base)}
        with translated_errors():
            await self._writer.transact(horizon_statements(moved, self._row_of))
        self.horizons |= moved

    async def clear(self, stream: StreamId, work: Work) -> None:
        """Make one step of deleting what a stream does not keep; raises as `commit` does."""
        row, known = self._row_of[stream], self.horizons[stream]
        async with self.compaction.lock:
            with translated_errors():
                swept = await clear_step(
                    self._writer, self.tags, self.dictionaries, row, known, work
                )
        self.horizons[stream] = swept.horizon
        self.compaction.removed(row, swept.rows)

    async def write(self, *statements: Statement) -> None:
        """Run other statements as one transaction on the one connection that writes."""
        with translated_errors():
            await self._writer.transact(statements)

    async def checkpoint(self) -> None:
        """Move the write-ahead log into the database and cut it off, as far as readers and the disk's room let it.

        Raises:
            StoreFailed: the disk failed.
        """
        with suppress(StoreRefused), translated_errors():
            await self._writer.fetch("PRAGMA wal_checkpoint(TRUNCATE)")

    def is_merge_due(self, *, idle: bool) -> bool:
        """Whether a step of merging is to be made now."""
        return self.tags.is_due(idle=idle) or self.compaction.is_due(idle=idle)

    def is_merge_overdue(self) -> bool:
        """Whether appends must wait for it."""
        return self.tags.is_overdue() or self.compaction.is_overdue()

    async def merge(self, work: Work, *, idle: bool) -> None:
        """Make one step that is due; raises as `commit` does."""
        if self.tags.is_due(idle=idle):
            await self.merge_tags(work)
        else:
            await self.merge_events(work)

    async def merge_tags(self, work: Work) -> None:
        """Make one step of the tag index's merge; raises as `commit` does."""
        with translated_errors():
            await self.tags.merge(work)

    async def merge_events(self, work: Work) -> None:
        """Make one step of turning old events into blocks; raises as `commit` does."""
        async with self.compaction.lock:
            with translated_errors():
                await self.compaction.step(work)

    @property
    def offsets(self) -> OffsetMap:
        """How far every stream is held."""
        return OffsetMap({stream: head.offset for stream, head in self.heads.items()})

    def head(self, stream: StreamId) -> Head:
        """How far a stream is held; its genesis where nothing of it is."""
        return self.heads.get(stream) or self.genesis(stream)

    def end(self, stream: StreamId) -> Head:
        """How far a stream is stored, whether or not all of that counts."""
        return self.ends.get(stream) or self.head(stream)

    def genesis(self, stream: StreamId) -> Head:
        """The head of a stream before its first event; of a branch, that of its last common event."""
        branch = self.branches.known.get(stream)
        return genesis(self._keys.swarm, stream) if branch is None else branch.origin

    def beginning(self, stream: StreamId) -> Head:
        """The head of a stream before the first event that is kept of it."""
        horizon = self.horizons.get(stream)
        if horizon is None or not horizon.first:
            return self.genesis(stream)
        return Head(stream, horizon.first - 1, horizon.base)

    def _first_part(self, row: int) -> StreamId | None:
        """The stream whose events a row of the database begins with; None for a row that there is not."""
        parts = self.branches.parts.get(row)
        return self._stream_of.get(row) if parts is None else parts[0][1]

    def _start_of(self, row: int) -> Head | None:
        """What stands before the first event of a row; None while its beginning is being deleted."""
        stream = self._first_part(row)
        horizon = None if stream is None else self.horizons.get(stream)
        is_partial = horizon is not None and horizon.cleared < horizon.first
        return None if stream is None or is_partial else self.beginning(stream)

    def _ends_of(self, row: int) -> list[int]:
        """Where what counts of a row ends, by the author's own seals: what is served ends there."""
        return [seal.offset for part, seal in self.cuts.seals.items() if self.row_of(part) == row]

    def grows(self, stream: StreamId) -> bool:
        """Whether more of a stream can be taken in under this name: neither fork nor cut ends it, no fork begins it."""
        known = not stream.branch or stream in self.branches.known
        is_open = stream not in self.branches.closed and self.cuts.leaves_room(self.head(stream))
        return known and is_open

    def is_disputed(self, stream: StreamId) -> bool:
        """Whether another history of a part is looked for, which a cut names (see `lamport.cuts`)."""
        return stream in self.cuts.disputed

    def counts(self, stream: StreamId, offset: int) -> bool:
        """Whether no cut withdraws what stands at a place, by whatever name it was called before forks were proven."""
        is_free = stream.node not in self.cuts.revoked
        return is_free or self.cuts.admits(self.branches.named_now(stream, offset), offset)

    def row_of(self, stream: StreamId) -> int | None:
        """The local number of a stream, None where nothing of it is stored."""
        return self._row_of.get(stream)

    def stream_of(self, row: int) -> StreamId:
        """The stream behind a local number.

        Raises:
            DamagedIndex: there is none, as no row that was written says.
        """
        found = self._stream_of.get(row)
        if found is None:
            raise DamagedIndex(f"an event of no stream is stored on this disk: {DAMAGE_REMEDY}")
        return found

    def local_rows(self) -> frozenset[int]:
        """The local numbers of this node's own streams."""
        return frozenset(
            row for stream, row in self._row_of.items() if stream.node == self._keys.node
        )

    async def close(self) -> None:
        """Close both connections."""
        await self.reader.close()
        await self._writer.close()

    async def _record_lineage(self) -> None:
        """Nothing is committed before this run's token, and the stream it writes, are recorded."""
        if self._lineage.recorded != self.own:
            await self._lineage.record(self._writer, self.own)

    async def _load_retracted(self) -> None:
        facts = await facts_of(self._writer)
        if MARK not in facts:
            await make_table(self._writer, self.tags, self.events, self.stream_of, self._keys)
        self.retracted = await self.all_retracted()
        if self.cuts:
            self.retracted = self.retracted.only(self.counts)

    async def all_retracted(self) -> Retracted:
        """What all retractions hide that are stored, whether or not they count."""
        hidden = await load_retracted(self.reader)
        hidden.void = self.retracted.void
        if self.branches.known:
            hidden.rename(self.branches.named_now)
        return hidden

    async def _load(self) -> None:
        await self.tags.load()
        rows = await self._writer.fetch(
            "SELECT row, node, number, head, hash, lamport FROM streams"
        )
        for row, node, number, head, hash_, lamport in rows:
            if number >= STREAM_NUMBER_LIMIT:
                self._next_row = max(self._next_row, row + 1)
                continue  # a branch: see below
            stream = StreamId(NodeId(node), number)
            self._remember_row(stream, row)
            if head >= 0:
                self.heads[stream] = Head(stream, head, hash_, lamport)
        ends = {row: (head, hash_, lamport) for row, _, _, head, hash_, lamport in rows}
        await self._load_branches(ends)
        await self.dictionaries.load(self._writer)
        await self.compaction.load()
        self.authors = dict(await self._writer.fetch("SELECT node, certificate FROM authors"))
        facts = await facts_of(self._writer)
        # Heads carry the clock: every event that moved it is the head of its stream, or behind it.
        self.clock = LamportClock(max([facts["clock"], *(row[-1] for row in rows)]))
        self.horizons = await load_horizons(self._writer, self._stream_of)
        self.notices = await load_notices(self._writer)
        self._keys.learn(self.notices)
        self.leaps.learn(self.notices)
        self.cuts = await load_cuts(self._writer, self.notices, self._row_of)
        self.cuts.clip_heads(self.heads, self.ends)
        await self._load_own(facts)

    async def _load_own(self, facts: Mapping[str, Any]) -> None:
        stored = dict(await self._writer.fetch("SELECT name, number FROM named_streams"))
        node = self._keys.node
        named = {name: StreamId(node, number) for name, number in sorted(stored.items())}
        self._own = OwnStreams(StreamId(node, facts["stream"]), named)
        self._set_rows_aside()  # so that none of them is drawn again
        self._own = replace(self._own, named=named | self._drawn(self._names, named))
        agrees = await self._lineage.agrees(facts)
        if not agrees and self.has_new_stream:
            _log.warning(
                "the log that was written here before is gone, and an empty one takes its place:"
                " peers bring back what they hold, a backup what it does"
            )
        if not agrees and not self.has_new_stream:
            _log.warning("the database is an older copy: this node writes new streams from now on")
            self.take_new_stream()
        else:
            self._set_rows_aside()

    async def _load_branches(self, ends: Mapping[int, tuple[int, bytes, int]]) -> None:
        """Cut the rows that were loaded into the parts that are known; `ends` are the rows' heads."""
        found = await self._writer.fetch(
            'SELECT node, number, branch, row, trunk, "offset", hash, lamport FROM branches'
        )
        known: dict[StreamId, Branch] = {}
        for node, number, branch, row, trunk, *origin in found:
            address = StreamId(NodeId(node), number, branch)
            known[address] = Branch(address, row, trunk, Head(address, *origin))
            self._row_of[address] = row
            if row != trunk:
                self._remember_row(address, row)
        bases = {address.base for address in known}
        self.branches = Branches(known, {base: self._row_of[base] for base in bases})
        for row, parts in self.branches.parts.items():
            last = parts[-1][1]
            self.heads[last] = Head(last, *ends[row])
        self._end_closed()

    def _adopt(self, adoption: Adoption) -> None:
        """Move the picture to what an adoption has made durable."""
        parent, tail = adoption.parent, adoption.tail
        if tail is not None:
            self._row_of[tail] = self._row_of[parent.stream]
            self.heads[tail] = Head(tail, parent.offset, parent.hash, parent.lamport)
        self.branches = self.branches.adopted(adoption, self._row_of)
        self._end_closed()

    def _end_closed(self) -> None:
        for stream, end in self.branches.closed.items():
            self.ends.pop(stream, None)
            if end.offset >= 0:
                self.heads[stream] = end
            else:
                self.heads.pop(stream, None)

    def _number_streams(self, commit: Commit) -> None:
        """Give local numbers to the streams that are new with this commit. One that fails may leave them numbered."""
        for stream in (*(one.origin.stream for one in commit.forks), *commit.heads):
            if stream not in self._row_of:
                if self._next_row >= MAX_STREAMS:
                    raise StoreFull(f"this database holds its most, {MAX_STREAMS} streams")
                self._remember_row(stream, self._next_row)

    def _set_rows_aside(self) -> None:
        """Number the own streams from the beginning: others may use up all local numbers that are left."""
        for stream in self.own:
            if stream not in self._row_of and self._next_row < MAX_STREAMS:
                self._remember_row(stream, self._next_row)

    def _remember_row(self, stream: StreamId, row: int) -> None:
        self._row_of[stream] = row
        self._stream_of[row] = stream
        self._next_row = max(self._next_row, row + 1)
