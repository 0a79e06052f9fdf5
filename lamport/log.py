"""The event log: publish, receive, read, follow.

The way of a datum. `publish` encodes drafts and `receive` takes a peer's sealed range; both wait in line, a bounded
number at a time. A single writer takes what has gathered there, the short first and of the rest as much as
`lamport.turns` gives it, builds one commit of it, and makes that durable (group commit: that is where the speed comes
from, never from a weaker sync). Where all that waits rests, so does the writer. Only behind a commit do callers get
their answer and followers their batch. A log that is `settling` lets receipts through and holds publishers back until
it is told what others know of its own stream, and it takes a new stream as soon as somebody else turns out to write the
one it writes. Whoever follows holds a cursor (`lamport.follower`). What is retracted is left out of all that is handed
out, and told to those who had it; events of older versions are brought to today's for subscribers
(`lamport.upcasters`). Both leave alone what is stored and what peers are sent.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from operator import itemgetter

from lamport.adopting import Adoptions
from lamport.chain import CheckedRange, Keys, Seal, SealedRange, check_range, require_signed
from lamport.codec import EncodedDraft, encode_draft
from lamport.commit import Commit, CommitBuilder
from lamport.doorbell import Doorbell
from lamport.errors import (
    DamagedRange,
    DivergedStream,
    InvalidInput,
    LimitExceeded,
    LogClosed,
    LogError,
    Overloaded,
    StoreFull,
    StoreRefused,
    VoidRetraction,
)
from lamport.event import Draft, Event
from lamport.follower import Batch, Follower, Recent
from lamport.horizon import announced
from lamport.ids import EventKey, NodeId, StreamId
from lamport.notices import Notice
from lamport.offsets import OffsetMap, OffsetRange
from lamport.proving import Prover
from lamport.pruning import Pruning
from lamport.reader import Bounds, Order, Reader
from lamport.repair import Damages, Repair
from lamport.requests import Outcome, Request, put, settle
from lamport.retraction import (
    MAX_RETRACTED_BY_NODE,
    Retracted,
    is_retraction,
    retraction_draft,
)
from lamport.routes import NO_ROUTES, OwnStreams, Routes
from lamport.seams import INLINE, NO_RESERVE, Reserve, WallClock, Work
from lamport.serving import Serving
from lamport.snapshot_table import KeptSnapshots, SnapshotTable
from lamport.store import Store
from lamport.tags import Where
from lamport.tidying import Tidying
from lamport.turns import Turns
from lamport.upcasters import NO_UPCASTERS, Upcasters
from lamport.withdrawal import Withdrawals

__all__ = ["Batch", "EventLog", "Follower"]

MAX_PUBLISHED = 10_000
"""Most events of one call: they are one transaction, and others wait behind it."""

MAX_WAITING = 1_024
"""Requests under way at once; beyond that callers wait to be let in, or are sent away where they ask not to wait."""

CHECKED_INLINE = 32
"""A received range of at most so many events is checked at once; a longer one is handed to `work`."""

_log = logging.getLogger("shoal.log")
_KEY = itemgetter(0)
"""An event's key, by which batches are sorted."""


class EventLog(KeptSnapshots):
    """The log of one node. Open the store first; then run `write` in a task for as long as the log is in use."""

    def __init__(
        self,
        store: Store,
        keys: Keys,
        wall_clock: WallClock,
        work: Work = INLINE,
        *,
        reserve: Reserve = NO_RESERVE,
        settling: bool = False,
        routes: Routes = NO_ROUTES,
        upcasters: Upcasters = NO_UPCASTERS,
    ) -> None:
        """A log that is `settling` publishes nothing before `settle` is called.

        The store was opened with the names of the streams that `routes` lead to.
        """
        self.upcasters = upcasters
        self._store = store
        self._work = work
        self._keys = keys
        self._wall_clock = wall_clock
        super().__init__(SnapshotTable(store), reserve)
        self._reader = Reader(store)
        self.damages = Damages(lambda damage: store.branches.cut(damage))  # noqa: PLW0108 - as they are then
        """What was found damaged on this disk, and is still."""
        self.serving = Serving(store, self._reader, keys, self.damages)
        """Sealed ranges for peers."""
        self.repair = Repair(store, keys)
        self.withdrawals = Withdrawals(store, self._reader, keys, self._take_back)
        """What does not count any more, for its author was revoked."""
        prover = Prover(store, keys)
        self.forks = Adoptions(prover, keys, work, self._submit, self._leave_stream)
        """The proven forks."""
        self._routes = routes
        self._pruning = Pruning(store, keys, routes, wall_clock, work)
        self._room = asyncio.Semaphore(MAX_WAITING)
        self._turns = Turns(self.node, MAX_WAITING)
        self.is_lively = self._turns.is_lively
        """Whether others than an author have just brought little: what it brings in bulk makes room for them."""
        self._bell = Doorbell()
        self._offsets = store.offsets
        self._recent = Recent()
        self._changed = asyncio.Event()
        self._settled = asyncio.Event()
        if not settling:
            self._settled.set()
        self._tidying = Tidying(
            store,
            self._pruning,
            work,
            reserve,
            may_announce=self._settled.is_set,
            is_awaited=lambda: bool(self._turns),
            pulse=self._pulse,
        )
        self._written: set[StreamId] = set()
        self._closed = self._ended = False

    @property
    def node(self) -> NodeId:
        """The node whose log this is."""
        return self._keys.node

    @property
    def stream(self) -> StreamId:
        """The stream that this node writes, apart from those that routes lead to."""
        return self._store.own.default

    @property
    def own_streams(self) -> OwnStreams:
        """All streams that this node writes."""
        return self._store.own

    @property
    def horizons(self) -> Mapping[StreamId, int]:
        """The first offset that is kept, of each stream whose beginning was pruned."""
        counts, known = self._store.cuts.admits, self._store.horizons.items()
        return {s: one.first for s, one in known if one.first and counts(s, one.first)}

    @property
    def offsets(self) -> OffsetMap:
        """What the log holds, durably."""
        return self._offsets

    @property
    def lamport(self) -> int:
        """The highest Lamport timestamp appended or accepted."""
        return self._store.clock.highest

    @property
    def retracted(self) -> Retracted:
        """The keys of events that are hidden, known here or not."""
        return self._store.retracted

    @property
    def store(self) -> Store:
        """The store beneath, for heads and certificates."""
        return self._store

    async def publish(self, drafts: Sequence[Draft], *, wait: bool = True) -> tuple[Event, ...]:
        """Append events in this order with rising timestamps; returns them once they are durable. All or none.

        Where it is not this call's turn yet it waits, unless told not to `wait`.
        Cancelling the caller withdraws what no commit has taken up yet; what one has goes through, all or none.

        Raises:
            InvalidInput: a draft breaks a rule or limit.
            Overloaded: it would have to wait, and was told not to.
            StoreFull: there is no room on the disk.
            LogClosed: the log was closed before.
        """
        if len(drafts) > MAX_PUBLISHED:
            raise InvalidInput(
                f"one call publishes at most {MAX_PUBLISHED} events, not {len(drafts)}"
            )
        encoded = [encode_draft(draft) for draft in drafts]
        size = sum([len(one.rest) for one in encoded])
        if not (wait or (self._settled.is_set() and not self._room.locked())):
            raise Overloaded(
                f"this node is busy ({MAX_WAITING} requests wait, or it has just started):"
                " nothing was stored; try again soon"
            )
        if not self._settled.is_set():
            await self._settled.wait()
        return await self._submit(None, len(encoded), size, encoded)

    async def retract(
        self, targets: Sequence[EventKey], reason: str, *, signature: bytes = b""
    ) -> Event:
        """Hide events of this node for good, or with the admin's signature (see `signed_names`) any.

        One that is not known here is hidden when it comes. Returns the retraction once it is durable.

        Raises:
            InvalidInput: a name is another node's, a retraction's or of nothing; nothing was stored.
            StoreFull, LogClosed: as in `publish`.
        """
        draft = retraction_draft(targets, reason, signature, self._keys)
        if self.retracted.count_by(self.node) + len(targets) > MAX_RETRACTED_BY_NODE:
            raise LimitExceeded(f"one node retracts at most {MAX_RETRACTED_BY_NODE} events")
        for key in targets:
            if key.stream == self.stream and key.lamport > self.lamport:
                raise InvalidInput(f"nothing was written at {key} yet: look at the key again")
        for event in await self._reader.events_at(targets):
            if is_retraction(event):
                raise VoidRetraction(f"event {event.key} is a retraction, and those are for good")
        [retraction] = await self.publish([draft])
        return retraction

    async def newly_retracted(self, lower: OffsetMap, upper: OffsetMap) -> list[Event]:
        """The hidden events that are held and that retractions above `lower` and up to `upper` name."""
        named = self.retracted.named(lower, upper) if self.retracted else []
        return await self._reader.events_at(named) if named else []

    async def hidden_since(self, lower: OffsetMap, upper: OffsetMap) -> list[Event]:
        """Of what is handed out up to `lower`, the events that retractions above it and up to `upper` hide.

        A position from before a fork was proven counts for all branches: better one event too many is told.
        """
        named = await self.newly_retracted(self._store.branches.clipped(lower), upper)
        return [
            one
            for one in named
            if one.offset <= max(lower.of(one.stream), lower.of(one.stream.base))
        ]

    async def receive(self, received: SealedRange) -> tuple[Event, ...]:
        """Take in a peer's range; returns the events it added once they are durable.

        Nothing is added by a range that is known already, that does not connect to what is held, or of which nothing
        counts because its author was revoked. One of the own stream is taken in like any other. Where it shows that
        somebody else writes that stream, another is written from then on.

        Raises:
            CorruptRange: it does not hold; nothing of it was stored.
            DivergedStream: nor does it follow from what is held, and it does not prove that there are two histories.
            QuarantinedRange: it holds, but would hurt: its timestamps leap, or it is one history too many.
            StoreFull, LogClosed: as in `publish`.
        """
        counted = self._store.cuts.clipped(received)
        return () if counted is None else await self._receive_counted(counted)

    async def _receive_counted(self, received: SealedRange) -> tuple[Event, ...]:
        try:
            added = await self._receive_range(received)
        except DivergedStream:
            branch = None
            with suppress(DamagedRange):  # noted; what is held here cannot contradict anybody
                branch = await self.damages.noted(self.forks.contradicted(received))
            if branch is None:
                raise
            return branch
        if added:
            await self.forks.extended(received.stream)
        return added

    async def _receive_range(self, received: SealedRange) -> tuple[Event, ...]:
        if len(received.events) > CHECKED_INLINE:
            checked = await self._work.run(check_range, received, self._keys)
        else:
            checked = check_range(received, self._keys)
        count, size = len(received.events), sum(map(len, received.events))
        added = await self._submit(
            lambda builder: self._receive(builder, checked), count, size, line=received.stream.node
        )
        if not added:
            with suppress(DamagedRange):  # noted; what is held here cannot contradict anybody
                await self.damages.noted(self.forks.prover.require_known(received))
                await self.withdrawals.vouched(received.seal)
        return added

    async def follow_horizon(self, seal: Seal) -> None:
        """Take in what an author says of the horizon of a stream that is held here; old news are passed over.

        Raises:
            CorruptRange: it is not its author's word.
            StoreFull, LogClosed: as in `publish`.
        """
        known = self._store.horizons.get(seal.stream)
        believed = seal.stream in self._offsets and self._store.cuts.believes(seal)
        if not believed or announced(known, seal) is None:
            return
        require_signed(seal, self._keys)
        held = await self.hash_at(seal.stream, seal.offset)
        if held is None or held == seal.hash:  # else it speaks of another history
            await self._submit(lambda builder: builder.learn(seal), 1, 0)

    def read(
        self,
        where: Where,
        *,
        after: EventKey | None = None,
        lower: OffsetMap | None = None,
        upper: OffsetMap | None = None,
        as_of: OffsetMap | None = None,
        order: Order = Order.ASCENDING,
    ) -> AsyncIterator[Sequence[Event]]:
        """Pages of the matching events that are held now, as stored, in key order unless `order` says otherwise.

        `after` and `lower` are exclusive, `upper` is inclusive: a stream that it does not name is left out, and so is
        what is retracted. With `as_of` only retractions up to these offsets count: the log as it was then.
        """
        upper = self._offsets if upper is None else self.named_now(upper)
        as_of = None if as_of is None else self.named_now(as_of)
        bounds = Bounds(upper, self.named_now(lower or OffsetMap()), after, as_of)
        return self.damages.noting(self._reader.read(where, bounds, order))

    async def query(
        self,
        where: Where,
        *,
        lower: OffsetMap | None = None,
        upper: OffsetMap | None = None,
        order: Order = Order.ASCENDING,
    ) -> AsyncIterator[Sequence[Event]]:
        """The same as `read`, in today's versions.

        Raises:
            UpcastFailed: an event cannot be brought to today's version.
        """
        async for page in self.read(where, lower=lower, upper=upper, order=order):
            yield list(map(self.upcasters.upcast, page)) if self.upcasters else page

    async def subscribe(
        self,
        where: Where,
        *,
        lower: OffsetMap | None = None,
        on_retracted: Callable[[Event], object] | None = None,
    ) -> AsyncIterator[Event]:
        """Every matching event above `lower` exactly once: first what is held, in key order, then what arrives.

        What arrives comes in stream order, sorted within each commit, in today's version. `on_retracted` is called
        with what lies below `lower`, or was handed over, and is hidden from then on. Ends when the log is closed.
        """
        present, given = self._offsets, lower or OffsetMap()
        lower = self._store.branches.clipped(given)
        follower = self.follow(present.raised(lower))
        self._tell(await self.hidden_since(given, present), where, on_retracted)
        async for page in self.query(where, lower=lower, upper=present):
            for event in page:
                yield event
        try:
            while True:
                batch = await follower.next()
                self._tell(batch.retracted, where, on_retracted)
                for event in batch.events:
                    if self.selects(where, event):
                        yield self.upcasters.upcast(event)
        except LogClosed:
            return

    def selects(self, where: Where, event: Event) -> bool:
        """Whether an event matches, as seen from this node."""
        return where.matches(event.tags, is_local=event.stream.node == self.node)

    def _tell(
        self, events: Iterable[Event], where: Where, told: Callable[[Event], object] | None
    ) -> None:
        if told is not None:
            for event in events:
                if self.selects(where, event):
                    told(event)

    def follow(self, start: OffsetMap | None = None) -> Follower:
        """A cursor over everything behind `start` (by default: behind the present)."""
        return Follower(self, self._recent, self._offsets if start is None else start)

    @property
    def renamings(self) -> int:
        """How many branches are told apart: it changes whenever a fork was proven."""
        return len(self._store.branches.known)

    def named_now(self, offsets: OffsetMap) -> OffsetMap:
        """A position in this log as it is now, should a fork have been proven or a node revoked since."""
        return self._store.cuts.clip(self.withdrawals.renamed(offsets))

    async def learn(self, notice: Notice) -> bool:
        """See `Withdrawals.learn`."""
        return await self.withdrawals.learn(notice)

    def _take_back(self) -> None:
        self._offsets = self._store.offsets
        self._pulse()

    def sealed_range(
        self, stream: StreamId, first: int, limit: int
    ) -> Awaitable[SealedRange | None]:
        """See `Reader.sealed_range`."""
        return self.damages.noted(self._reader.sealed_range(stream, first, limit))

    def served_range(
        self, stream: StreamId, first: int, limit: int
    ) -> Awaitable[SealedRange | None]:
        """See `Serving.served_range`."""
        return self.serving.served_range(stream, first, limit)

    def hash_at(self, stream: StreamId, offset: int) -> Awaitable[bytes | None]:
        """See `Reader.hash_at`."""
        return self.damages.noted(self._reader.hash_at(stream, offset))

    def damaged(self, damage: OffsetRange, text: str) -> None:
        """Somebody found these offsets damaged; it does no harm where they are not, or are not held."""
        for part in self._store.branches.cut(damage):
            if part.last <= self._offsets.of(part.stream):
                self.damages.note(part, text)

    def mended(self, damage: OffsetRange) -> None:
        """Nothing within these offsets is damaged any more: whoever waited for it may read on."""
        self.damages.forget(damage)
        self._pulse()

    async def changed(self) -> None:
        """Wait for the next commit, until something damaged was mended, or for the end.

        Raises:
            LogClosed: the log has ended.
        """
        if self._ended:
            raise LogClosed("the log is closed")
        await self._changed.wait()

    async def write(self) -> None:
        """Write commits until the log is closed. Ends with an error when the disk fails: then the node must stop."""
        try:
            await self.withdrawals.begin()
            while self._turns or not self._closed:
                if not await self._write_next():
                    await self._idle()
        finally:
            self._closed = self._ended = True
            self._bell.close()
            settle(self._turns, [_closed() for _ in self._turns])
            self._changed.set()

    async def _write_next(self) -> bool:
        """Write a commit of what waits; False where nothing does, or all of it rests or was withdrawn."""
        async with self.withdrawals.turn:  # only then: what comes or goes meanwhile is still seen
            if not (group := self._turns.take()):
                return False
            written = await self._commit(group)
        await self._tidying.behind_commit(written)
        self._turns.took()
        return True

    def close(self) -> None:
        """Refuse further appends; `write` ends when it has written what was submitted before."""
        self._closed = True
        self._bell.ring()
        self._settled.set()

    def settle(self) -> None:
        """Publish from now on: what others know of the own stream is known here, or will not be in time."""
        self._settled.set()
        self._bell.ring()  # the writer may prune from now on

    async def settled(self) -> None:
        """Wait until publishing waits for nobody."""
        await self._settled.wait()

    async def _submit(
        self,
        apply: Callable[[CommitBuilder], tuple[Event, ...]] | None,
        events: int,
        size: int,
        drafts: Sequence[EncodedDraft] = (),
        line: NodeId | None = None,
    ) -> tuple[Event, ...]:
        if events == 0:
            return ()
        async with self._room:
            if self._closed:
                raise _closed()
            result: asyncio.Future[tuple[Event, ...]] = asyncio.get_running_loop().create_future()
            self._turns.add(Request(apply, drafts, events, size, result, line))
            self._bell.ring()
            return await result

    def _append(self, builder: CommitBuilder, drafts: Sequence[EncodedDraft]) -> tuple[Event, ...]:
        added = builder.append(drafts, self._wall_clock())
        own = {event.stream for event in added} if len(self._routes) else {builder.own.default}
        self._written |= own
        return added

    def _receive(self, builder: CommitBuilder, checked: CheckedRange) -> tuple[Event, ...]:
        added = builder.receive(checked)
        stream = checked.range.stream
        if added and stream in builder.own and stream in self._written:
            # It goes on behind what this run has appended: whoever wrote that has our key, and is at work.
            self._leave_stream(stream)
            builder.own = self._store.own
        return added

    def _leave_stream(self, left: StreamId) -> None:
        if left not in self.own_streams:
            return
        self._store.take_new_stream()
        _log.error(
            "stream %s is written by somebody else, too (a copy of this device?): %s goes on here",
            left,
            self.stream,
        )

    async def _idle(self) -> None:
        """Wait for a request; where none comes for a while, make a step of what nobody waits for."""
        # A busy log does not even ask whether there is something to be done.
        rest_s, bell, tidying = self._turns.rest_s, self._bell.rings_within, self._tidying
        if rest_s is not None:
            await bell(rest_s)
        elif not (self._closed or await bell(tidying.idle_s) or await bell(tidying.more_s)):
            await tidying.step()

    async def _commit(self, group: list[Request]) -> int:
        """Write one commit; returns how many events it has."""
        results: list[Outcome] = []
        try:
            builder = self._store.new_commit(self._keys, self._routes)
            results = put(group, builder, self._append)
            commit = builder.build()
            named = await self._held(commit)
            if commit.events or commit.horizons:
                await self._tidying.require_room()
                await self._store.commit(commit)
                self._pruning.note(commit)
        except StoreRefused as error:
            commit = Commit(self._store.clock)
            results = [one if isinstance(one, LogError) else error for one in results]
        except BaseException as error:
            # The disk failed or the task was cancelled in mid-commit: nobody may take these events for durable.
            text = f"the log stopped in the middle of this commit ({error}): it may or may not be stored"
            settle(group, [LogClosed(text) for _ in group])
            raise
        else:
            if commit.events:
                cut = await self.withdrawals.behind(commit)
                self._publish_batch(commit, named, cut=cut)
        try:
            if StoreFull in map(type, results) and await self._reserve.give():
                await self._store.checkpoint()
        finally:
            settle(group, results)
            if commit.events or commit.horizons:
                self._pulse()  # callers first: whoever follows has time while they go on
        return len(commit.events)

    async def _held(self, commit: Commit) -> Sequence[Event]:
        """The events that a commit retracts and that were held before it."""
        named = [key for one in commit.retractions for key in one.targets]
        return await self._reader.events_at(named) if named else ()

    def _publish_batch(self, commit: Commit, named: Sequence[Event], *, cut: bool) -> None:
        events = [event for event, _ in commit.events]
        hides, counts = self.retracted.hides, self.withdrawals.counts
        if self.retracted or self._store.cuts:
            events = [event for event in events if counts(event) and not hides(event.key)]
        if len(commit.heads) > 1:
            events.sort(key=_KEY)
        if commit.forks or cut:  # ends have other names now, or lie further back
            self._offsets = self._store.offsets
            for adoption in commit.forks:
                self.forks.adopted(adoption)
        else:
            self._offsets = self._offsets.raised({s: h.offset for s, h in commit.heads.items()})
        size = sum([len(data) for _, data in commit.events])
        retracted = tuple([event for event in named if hides(event.key)])
        self._recent.add(Batch(tuple(events), self._offsets, retracted), size)
        for why in commit.void:
            _log.warning("%s", why)

    def _pulse(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


def _closed() -> LogClosed:
    return LogClosed("the log is closed: nothing was stored")
