"""Following the log: what became known together, kept for a while, and cursors over it.

The way of a datum. A commit that is durable becomes a `Batch`; the latest ones stay in memory (`Recent`). A `Follower`
holds a cursor, not a queue: one that keeps up is given what memory has behind its cursor, several commits in one piece,
and one that lags further reads the rest from the store. So there is never a gap, never a double, and no queue that
could overflow; where the disk has lost something that it must read, it waits there until that was mended. An event that
is retracted is left out of what is handed over; one that was handed over before comes back once, as retracted.
"""

from collections import deque
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import NamedTuple, Protocol

from lamport.errors import DamagedRange
from lamport.event import Event
from lamport.offsets import OffsetMap
from lamport.retraction import Retracted
from lamport.tags import ALL_EVENTS, Where
from lamport.withdrawal import Withdrawals

KEPT_BATCHES = 256
"""Commits kept in memory for followers …"""

KEPT_EVENTS = 20_000
"""… and at most so many of their events …"""

KEPT_BYTES = 16 * 1024 * 1024
"""… and of their bytes; a follower behind that reads from the store."""

_KEY = itemgetter(0)
"""An event's key, by which batches are sorted."""

_NEVER = -1
"""How often a follower has looked what is withdrawn that begins where something is."""


class Batch(NamedTuple):
    """Events that became known together, sorted by key, and what the log holds with them.

    `retracted` are events that were handed over before and are hidden from now on, sorted by key; one that is damaged
    on this disk bears no tags. `renamed` says that a fork was proven since the last batch: parts of what was handed
    over before bear the names of branches now, and so do the offsets. Who keeps positions reads anew. The same is said
    where a node was revoked: the offsets fall back to its cut.
    """

    events: tuple[Event, ...]
    offsets: OffsetMap
    retracted: tuple[Event, ...] = ()
    renamed: bool = False


@dataclass(slots=True)
class Recent:
    """The latest commits, numbered, for followers that keep up."""

    sequence: int = 0
    batches: deque[Batch] = field(default_factory=deque)
    sizes: deque[int] = field(default_factory=deque)
    events: int = 0
    bytes: int = 0

    def add(self, batch: Batch, size: int) -> None:
        """Keep a batch of so many bytes, and let the oldest go where that is too much."""
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


class Followed(Protocol):
    """The log, as a follower needs it."""

    @property
    def offsets(self) -> OffsetMap:
        """What it holds, durably."""
        ...

    @property
    def retracted(self) -> Retracted:
        """The keys of events that are hidden."""
        ...

    @property
    def renamings(self) -> int:
        """See `EventLog.renamings`."""
        ...

    @property
    def withdrawals(self) -> Withdrawals:
        """What does not count any more, for its author was revoked."""
        ...

    def named_now(self, offsets: OffsetMap) -> OffsetMap:
        """See `EventLog.named_now`."""
        ...

    def read(
        self, where: Where, *, lower: OffsetMap, upper: OffsetMap, as_of: OffsetMap
    ) -> AsyncIterator[Sequence[Event]]:
        """See `EventLog.read`."""
        ...

    async def newly_retracted(self, lower: OffsetMap, upper: OffsetMap) -> list[Event]:
        """See `EventLog.newly_retracted`."""
        ...

    async def changed(self) -> None:
        """See `EventLog.changed`."""
        ...


class Follower:
    """A cursor over the log: hands over every event behind its start, once. For one task at a time."""

    def __init__(self, log: Followed, recent: Recent, start: OffsetMap) -> None:
        self._log = log
        self._recent = recent
        self._offsets = log.withdrawals.renamed(start)
        self._renamings = log.renamings
        is_whole = self._offsets == log.named_now(start)
        self._withdrawals = log.withdrawals.count if is_whole else _NEVER
        self._sequence: int | None = recent.sequence if self._offsets.covers(log.offsets) else None
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
            if self._withdrawals != self._log.withdrawals.count:
                return await self._without_withdrawn()
            if self._sequence is None:
                try:
                    batch = await self._from_store()
                except DamagedRange:
                    await self._log.changed()
                    continue
                if batch is not None:
                    return batch
            elif self._sequence < self._recent.sequence:
                batch = self._from_memory(self._sequence)
                if batch is not None:
                    return batch
            else:
                await self._log.changed()

    async def _without_withdrawn(self) -> Batch:
        """Move the cursor back, page by page, over what does not count any more; at last what is hidden no more."""
        count, offsets = self._log.withdrawals.count, self._log.withdrawals.renamed(self._offsets)
        page = await self._log.withdrawals.withdrawn_page(offsets)
        if page is not None:
            self._offsets = page.offsets
            return Batch((), page.offsets, page.events, renamed=True)
        since = count if self._withdrawals == _NEVER else self._withdrawals
        restored = await self._log.withdrawals.restored_since(since, offsets)
        self._withdrawals = count
        self._sequence = self._history = None  # what counts again is in the store alone
        return Batch(restored, self._offsets, renamed=True)

    def _from_memory(self, sequence: int) -> Batch | None:
        batches = self._recent.since(sequence)
        if batches is None:
            self._sequence = None
            return None
        self._sequence = self._recent.sequence
        before, offsets = self._offsets, batches[-1].offsets
        if before.covers(offsets):
            return None
        events = [
            event
            for batch in batches
            for event in batch.events
            if event.offset > before.of(event.stream)
        ]
        retracted = [event for batch in batches for event in batch.retracted]
        return self._moved(events, offsets, retracted)

    async def _from_store(self) -> Batch | None:
        """The next page behind the cursor; None once the store has no more than memory keeps."""
        if self._history is None:
            self._target = (self._recent.sequence, self._log.offsets)
            # Nothing is hidden yet of what it reads: retractions are told when the cursor comes to them.
            self._history = self._log.read(
                ALL_EVENTS, lower=self._offsets, upper=self._target[1], as_of=OffsetMap()
            )
        try:
            page = await anext(self._history, None)
            reached = OffsetMap({event.stream: event.offset for event in page or ()})
            retracted = await self._log.newly_retracted(
                self._offsets, self._offsets.raised(reached)
            )
        except BaseException:
            self._history = None  # a cancelled read is over and must not be taken for exhausted
            raise
        if page is None:
            self._history = None
            self._sequence = self._target[0]
            return None
        return self._moved(list(page), reached, retracted)

    def _moved(self, events: list[Event], offsets: OffsetMap, retracted: Iterable[Event]) -> Batch:
        """Move the cursor behind these events, which are all there are up to `offsets`."""
        events.sort(key=_KEY)
        # A position is not cut before it was told, page by page, what is withdrawn of it.
        is_told = self._withdrawals == self._log.withdrawals.count
        place = self._log.named_now if is_told else self._log.withdrawals.renamed
        before = self._log.withdrawals.renamed(self._offsets)
        self._offsets = place(self._offsets.raised(offsets))
        renamed, self._renamings = self._renamings != self._log.renamings, self._log.renamings
        if self._log.withdrawals.count:
            events = list(filter(self._log.withdrawals.counts, events))
        hides = self._log.retracted.hides
        if self._log.retracted:
            events = [event for event in events if not hides(event.key, self._offsets)]
        handed = {
            event.key: event
            for event in retracted
            # What memory keeps was written down before a revocation that may have taken the retraction back.
            if hides(event.key, self._offsets)
            and before.covers(
                self._log.withdrawals.renamed(OffsetMap({event.stream: event.offset}))
            )
        }
        told = tuple(handed[key] for key in sorted(handed))
        return Batch(tuple(events), self._offsets, told, renamed)
