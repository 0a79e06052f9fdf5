"""The event log: publish, receive, read, follow.

The way of a datum. `publish` encodes drafts and `receive` takes a peer's sealed range; both wait in
line, a bounded number at a time. A single writer takes whatever has gathered there, builds one
commit of it, and makes that durable (group commit: that is where the speed comes from, never from a
weaker sync). Only then do callers get their answer and followers their batch. A log that is
`settling` lets receipts through and holds publishers back until it is told what others know of its
own stream, and it takes a new stream as soon as somebody else turns out to write the one it writes.
Followers hold a
cursor, not a queue: one that lags behind what memory keeps reads the rest from the store, and so
there is never a gap, never a double, and no queue that could overflow.
"""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import NamedTuple

from lamport.chain import CheckedRange, Keys, SealedRange, chained, check_range
from lamport.codec import EncodedDraft, encode_draft
from lamport.commit import Commit, CommitBuilder
from lamport.errors import (
    DamagedRange,
    DivergedStream,
    InvalidInput,
    LogClosed,
    LogError,
    StoreRefused,
)
from lamport.event import Draft, Event
from lamport.ids import EventKey, NodeId, StreamId
from lamport.offsets import OffsetMap
from lamport.reader import Bounds, Order, Reader
from lamport.seams import INLINE, WallClock, Work
from lamport.snapshot_table import SnapshotTable
from lamport.snapshots import StoredSnapshot
from lamport.store import Store
from lamport.stream_check import require_genuine
from lamport.tags import ALL_EVENTS, Where

MAX_PUBLISHED = 10_000
"""Most events of one call: they are one transaction, and others wait behind it."""

MAX_DAMAGED = 1_000
"""Streams of which is remembered that they were found damaged."""

MAX_COMMIT_EVENTS = 10_000
"""A commit takes no further request once it holds this many events …"""

MAX_COMMIT_BYTES = 8 * 1024 * 1024
"""… or bytes."""

MAX_WAITING = 1_024
"""Requests under way at once; beyond that callers wait to be let in."""

CHECKED_INLINE = 32
"""A received range of at most so many events is checked at once; a longer one is handed to `work`."""

IDLE_S = 0.05
"""A log for which nothing came for so long merges; before, the next request is likely to be on its way."""

KEPT_BATCHES = 256
"""Commits kept in memory for followers …"""

KEPT_EVENTS = 20_000
"""… and at most so many of their events …"""

KEPT_BYTES = 16 * 1024 * 1024
"""… and of their bytes; a follower behind that reads from the store."""


_log = logging.getLogger("shoal.log")
_KEY = itemgetter(0)
"""An event's key, by which batches are sorted."""


class Batch(NamedTuple):
    """Events that became known together, sorted by key, and what the log holds with them."""

    events: tuple[Event, ...]
    offsets: OffsetMap


@dataclass(slots=True)
class _Request:
    """Something the writer is to put into a commit, and where its result goes."""

    apply: Callable[[CommitBuilder], tuple[Event, ...]]
    events: int
    bytes: int
    result: asyncio.Future[tuple[Event, ...]]


@dataclass(slots=True)
class _Recent:
    """The latest commits, numbered, for followers that keep up."""

    sequence: int = 0
    batches: deque[Batch] = field(default_factory=deque)
    sizes: deque[int] = field(default_factory=deque)
    events: int = 0
    bytes: int = 0

    def add(self, batch: Batch, size: int) -> None:
        self.sequence += 1
        self.batches.append(batch)
        self.sizes.append(size)
        self.events += len(batch.events)
        self.bytes += size
        while len(self.batches) > 1 and self._too_much():
            self.events -= len(self.batches.popleft().events)
            self.bytes -= self.sizes.popleft()

    def _too_much(self) -> bool:
        return (
            len(self.batches) > KEPT_BATCHES or self.events > KEPT_EVENTS or self.bytes > KEPT_BYTES
        )

    def since(self, sequence: int) -> list[Batch] | None:
        """The batches behind a number, oldest first; None where some are gone."""
        count = self.sequence - sequence
        if count > len(self.batches):
            return None
        return list(self.batches)[len(self.batches) - count :]


class EventLog:
    """The log of one node. Open the store first; then run `write` in a task for as long as the log is in use."""

    def __init__(
        self,
        store: Store,
        keys: Keys,
        wall_clock: WallClock,
        work: Work = INLINE,
        *,
        settling: bool = False,
    ) -> None:
        """A log that is `settling` publishes nothing before `settle` is called."""
        self._store = store
        self._work = work
        self._keys = keys
        self._wall_clock = wall_clock
        self._reader = Reader(store)
        self._snapshots = SnapshotTable(store)
        self.damaged: dict[StreamId, str] = {}
        self._room = asyncio.Semaphore(MAX_WAITING)
        self._waiting: deque[_Request] = deque()
        self._arrived = asyncio.Event()
        self._offsets = OffsetMap({s: head.offset for s, head in store.heads.items()})
        self._recent = _Recent()
        self._changed = asyncio.Event()
        self._settled = asyncio.Event()
        if not settling:
            self._settled.set()
        self._written: StreamId | None = None
        self._may_merge = True
        self._closed = False
        self._ended = False

    @property
    def node(self) -> NodeId:
        """The node whose log this is."""
        return self._keys.node

    @property
    def stream(self) -> StreamId:
        """The stream that this node writes."""
        return self._store.own

    @property
    def offsets(self) -> OffsetMap:
        """What the log holds, durably."""
        return self._offsets

    @property
    def lamport(self) -> int:
        """The highest Lamport timestamp appended or accepted."""
        return self._store.clock.highest

    @property
    def store(self) -> Store:
        """The store beneath, for heads and certificates."""
        return self._store

    async def publish(self, drafts: Sequence[Draft]) -> tuple[Event, ...]:
        """Append events in this order with rising timestamps; returns them once they are durable. All or none.

        Cancelling the caller withdraws what no commit has taken up yet; what one has goes through, all or none.

        Raises:
            InvalidInput: a draft breaks a rule or limit.
            StoreFull: there is no room on the disk.
            LogClosed: the log was closed before.
        """
        if len(drafts) > MAX_PUBLISHED:
            raise InvalidInput(
                f"one call publishes at most {MAX_PUBLISHED} events, not {len(drafts)}"
            )
        encoded = [encode_draft(draft) for draft in drafts]
        size = sum(len(one.rest) for one in encoded)
        if not self._settled.is_set():
            await self._settled.wait()
        return await self._submit(
            lambda builder: self._append(builder, encoded), len(encoded), size
        )

    async def receive(self, received: SealedRange) -> tuple[Event, ...]:
        """Take in a peer's range; returns the events it added once they are durable.

        Nothing is added by a range that is known already, or that does not connect to what is held. One of the own
        stream is taken in like any other. Where it shows that somebody else writes that stream, another is written
        from then on.

        Raises:
            CorruptRange: it does not hold; nothing of it was stored.
            DivergedStream: nor does it follow from what is held, so that there are two histories, or it is forged.
            StoreFull, LogClosed: as in `publish`.
        """
        if len(received.events) > CHECKED_INLINE:
            checked = await self._work.run(check_range, received, self._keys)
        else:
            checked = check_range(received, self._keys)
        count, size = len(received.events), sum(map(len, received.events))
        try:
            added = await self._submit(lambda builder: self._receive(builder, checked), count, size)
            if not added:
                await self._check_known(received)
        except DivergedStream:
            if received.stream == self.stream and await self._is_proof(received):
                self._leave_stream()
            raise
        return added

    def read(
        self,
        where: Where,
        *,
        after: EventKey | None = None,
        lower: OffsetMap | None = None,
        upper: OffsetMap | None = None,
        order: Order = Order.ASCENDING,
    ) -> AsyncIterator[Sequence[Event]]:
        """Pages of the matching events that are held now, in key order unless `order` says otherwise.

        `after` and `lower` are exclusive, `upper` is inclusive: a stream that it does not name is left out.
        """
        bounds = Bounds(self._offsets if upper is None else upper, lower or OffsetMap(), after)
        return self._reader.read(where, bounds, order)

    async def subscribe(
        self, where: Where, *, lower: OffsetMap | None = None
    ) -> AsyncIterator[Event]:
        """Every matching event above `lower` exactly once: first what is held, in key order, then what arrives.

        What arrives comes in stream order, sorted within each commit. Ends when the log is closed.
        """
        present, lower = self._offsets, lower or OffsetMap()
        follower = self.follow(present.raised(lower))
        async for page in self.read(where, lower=lower, upper=present):
            for event in page:
                yield event
        try:
            while True:
                for event in (await follower.next()).events:
                    if where.matches(event.tags, is_local=event.stream.node == self.node):
                        yield event
        except LogClosed:
            return

    def follow(self, start: OffsetMap | None = None) -> "Follower":
        """A cursor over everything behind `start` (by default: behind the present)."""
        return Follower(self, self._recent, self._offsets if start is None else start)

    def sealed_range(
        self, stream: StreamId, first: int, limit: int
    ) -> Awaitable[SealedRange | None]:
        """See `Reader.sealed_range`."""
        return self._reader.sealed_range(stream, first, limit)

    async def served_range(self, stream: StreamId, first: int, limit: int) -> SealedRange | None:
        """The same for a peer, who would take a damaged seal or certificate for our forgery; less where some is bad.

        Raises:
            DamagedRange: what is stored does not hold; it is noted in `damaged`.
        """
        try:
            return await self._genuine_range(stream, first, limit)
        except DamagedRange as error:
            if len(self.damaged) < MAX_DAMAGED:
                self.damaged[stream] = str(error)
        # What is damaged may lie behind the next seal.
        return await self._genuine_range(stream, first, 1)

    async def _genuine_range(self, stream: StreamId, first: int, limit: int) -> SealedRange | None:
        sealed = await self._reader.sealed_range(stream, first, limit)
        if sealed is not None:
            require_genuine(sealed, self._keys)
        return sealed

    def hash_at(self, stream: StreamId, offset: int) -> Awaitable[bytes | None]:
        """See `Reader.hash_at`."""
        return self._reader.hash_at(stream, offset)

    async def save_snapshot(self, snapshot: StoredSnapshot) -> None:
        """See `SnapshotTable.save`."""
        await self._snapshots.save(snapshot)

    async def load_snapshots(
        self, fish: str, version: int, definition: str
    ) -> list[StoredSnapshot]:
        """See `SnapshotTable.load`."""
        return await self._snapshots.load(fish, version, definition)

    async def drop_snapshots(self, fish: str, from_key: EventKey | None) -> None:
        """See `SnapshotTable.drop`."""
        await self._snapshots.drop(fish, from_key)

    async def changed(self) -> None:
        """Wait for the next commit or for the end.

        Raises:
            LogClosed: the log has ended.
        """
        if self._ended:
            raise LogClosed("the log is closed")
        await self._changed.wait()

    async def write(self) -> None:
        """Write commits until the log is closed. Ends with an error when the disk fails: then the node must stop."""
        try:
            while self._waiting or not self._closed:
                self._arrived.clear()
                if self._waiting:
                    await self._commit(self._gather())
                    await self._merge_behind_commit()
                else:
                    await self._idle()
        finally:
            self._closed = self._ended = True
            _settle(self._waiting, [_closed() for _ in self._waiting])
            self._changed.set()

    def close(self) -> None:
        """Refuse further appends; `write` ends when it has written what was submitted before."""
        self._closed = True
        self._arrived.set()
        self._settled.set()

    def settle(self) -> None:
        """Publish from now on: what others know of the own stream is known here, or will not be in time."""
        self._settled.set()

    async def settled(self) -> None:
        """Wait until publishing waits for nobody."""
        await self._settled.wait()

    async def _submit(
        self, apply: Callable[[CommitBuilder], tuple[Event, ...]], events: int, size: int
    ) -> tuple[Event, ...]:
        if events == 0:
            return ()
        async with self._room:
            if self._closed:
                raise _closed()
            result: asyncio.Future[tuple[Event, ...]] = asyncio.get_running_loop().create_future()
            self._waiting.append(_Request(apply, events, size, result))
            self._arrived.set()
            return await result

    def _append(self, builder: CommitBuilder, drafts: Sequence[EncodedDraft]) -> tuple[Event, ...]:
        self._written = builder.own
        return builder.append(drafts, self._wall_clock())

    def _receive(self, builder: CommitBuilder, checked: CheckedRange) -> tuple[Event, ...]:
        added = builder.receive(checked)
        if added and checked.range.stream == builder.own == self._written:
            # It goes on behind what this run has appended: whoever wrote that has our key, and is at work.
            self._leave_stream()
            builder.own = self._store.own
        return added

    async def _check_known(self, received: SealedRange) -> None:
        """Raise `DivergedStream` where another hash is held at the seal's offset than the seal names."""
        held = await self.hash_at(received.stream, received.seal.offset)
        if held is not None and held != received.seal.hash:
            raise DivergedStream(f"stream {received.stream} has two histories")

    async def _is_proof(self, received: SealedRange) -> bool:
        """Whether a range that contradicts what is held begins where both histories are still one.

        Otherwise its events may have been altered on the way; the seal alone says nothing about them.
        """
        before = await self.hash_at(received.stream, received.first - 1)
        return before is not None and chained(before, received.events) == received.seal.hash

    def _leave_stream(self) -> None:
        left = self.stream
        self._store.take_new_stream()
        _log.error(
            "stream %s is written by somebody else, too (a copy of this device?): %s goes on here",
            left,
            self.stream,
        )

    def _gather(self) -> list[_Request]:
        """Whatever waits, up to a commit's size, at least one request."""
        group: list[_Request] = []
        events = size = 0
        while self._waiting and events < MAX_COMMIT_EVENTS and size < MAX_COMMIT_BYTES:
            request = self._waiting.popleft()
            if not request.result.cancelled():
                group.append(request)
                events, size = events + request.events, size + request.bytes
        return group

    async def _idle(self) -> None:
        """Wait for a request; where there is enough to merge and none comes for a while, make a step of that."""
        if not (self._may_merge and self._store.is_merge_due(idle=True)):
            await self._arrived.wait()
            return
        try:
            async with asyncio.timeout(IDLE_S):
                await self._arrived.wait()
        except TimeoutError:
            await self._merge(idle=True)

    async def _merge_behind_commit(self) -> None:
        """Keep what is not merged within its bound, a step at a time as long as that is enough."""
        self._may_merge = True
        if self._store.is_merge_due(idle=False):
            await self._merge(idle=False)
        while self._may_merge and self._store.is_merge_overdue():
            await self._merge(idle=False)

    async def _merge(self, *, idle: bool) -> None:
        try:
            await self._store.merge(self._work, idle=idle)
        except StoreRefused:
            self._may_merge = False  # until the next commit: then there may be room again

    async def _commit(self, group: list[_Request]) -> None:
        builder = CommitBuilder(
            own=self._store.own,
            clock=self._store.clock,
            heads=self._store.heads,
            authors=self._store.authors,
            keys=self._keys,
        )
        results: list[tuple[Event, ...] | LogError] = []
        try:
            results = [_attempt(request, builder) for request in group]
            commit = builder.build()
            if commit.events:
                await self._store.commit(commit)
        except StoreRefused as error:
            results = [one if isinstance(one, LogError) else error for one in results]
        except BaseException as error:
            # The disk failed or the task was cancelled in mid-commit: nobody may take these events for durable.
            text = f"the log stopped in the middle of this commit ({error}): it may or may not be stored"
            _settle(group, [LogClosed(text) for _ in group])
            raise
        else:
            if commit.events:
                self._publish_batch(commit)
        _settle(group, results)

    def _publish_batch(self, commit: Commit) -> None:
        events = [event for event, _ in commit.events]
        if len(commit.heads) > 1:
            events.sort(key=_KEY)
        self._offsets = self._offsets.raised({s: head.offset for s, head in commit.heads.items()})
        size = sum([len(data) for _, data in commit.events])
        self._recent.add(Batch(tuple(events), self._offsets), size)
        self._changed.set()
        self._changed = asyncio.Event()


class Follower:
    """A cursor over the log: hands over every event behind its start, once. For one task at a time."""

    def __init__(self, log: EventLog, recent: _Recent, start: OffsetMap) -> None:
        self._log = log
        self._recent = recent
        self._offsets = start
        self._sequence: int | None = recent.sequence if start.covers(log.offsets) else None
        self._history: AsyncIterator[Sequence[Event]] | None = None
        self._target = (recent.sequence, log.offsets)

    @property
    def offsets(self) -> OffsetMap:
        """Everything handed over so far, and the start."""
        return self._offsets

    async def next(self) -> Batch:
        """The next events behind the cursor, waiting for them if need be. May merge several commits.

        Raises:
            LogClosed: the log is closed and everything was handed over.
        """
        while True:
            if self._sequence is None:
                batch = await self._from_store()
                if batch is not None:
                    return batch
            elif self._sequence < self._recent.sequence:
                batch = self._from_memory(self._sequence)
                if batch is not None:
                    return batch
            else:
                await self._log.changed()

    def _from_memory(self, sequence: int) -> Batch | None:
        batches = self._recent.since(sequence)
        if batches is None:
            self._sequence = None
            return None
        self._sequence = self._recent.sequence
        before = self._offsets
        events = [
            event
            for batch in batches
            for event in batch.events
            if event.offset > before.of(event.stream)
        ]
        return self._moved(events, batches[-1].offsets) if events else None

    async def _from_store(self) -> Batch | None:
        """The next page behind the cursor; None once the store has no more than memory keeps."""
        if self._history is None:
            self._target = (self._recent.sequence, self._log.offsets)
            self._history = self._log.read(ALL_EVENTS, lower=self._offsets, upper=self._target[1])
        try:
            page = await anext(self._history, None)
        except BaseException:
            self._history = None  # a cancelled read is over and must not be taken for exhausted
            raise
        if page is None:
            self._history = None
            self._sequence = self._target[0]
            return None
        return self._moved(list(page), OffsetMap())

    def _moved(self, events: list[Event], offsets: OffsetMap) -> Batch:
        """Move the cursor behind these events, which are all there are up to `offsets`."""
        events.sort(key=_KEY)
        reached = {event.stream: event.offset for event in events}
        self._offsets = self._offsets.raised(reached).raised(offsets)
        return Batch(tuple(events), self._offsets)


def _closed() -> LogClosed:
    return LogClosed("the log is closed: nothing was stored")


def _attempt(request: _Request, builder: CommitBuilder) -> tuple[Event, ...] | LogError:
    """Put one request into the commit; its own fault must not touch the others."""
    try:
        return request.apply(builder)
    except LogError as error:
        return error


def _settle(group: Iterable[_Request], results: Sequence[tuple[Event, ...] | LogError]) -> None:
    for request, result in zip(group, results, strict=True):
        if request.result.done():  # its caller was cancelled
            continue
        if isinstance(result, LogError):
            request.result.set_exception(result)
        else:
            request.result.set_result(result)
