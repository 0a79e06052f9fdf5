"""A log in memory: a list of commits that keeps the promises of `fish.log.Log`, one page at a time."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence

from lamport.errors import LogClosed, StoreFull
from lamport.event import Draft, Event
from lamport.follower import Batch
from lamport.ids import EventKey, NodeId, StreamId
from lamport.offsets import OffsetMap
from lamport.reader import Order
from lamport.snapshots import StoredSnapshot
from lamport.tags import Where
from lamport.upcasters import NO_UPCASTERS

NODE = NodeId(bytes(31) + b"\x05")
"""The node whose log this is. Its stream sorts between those of `stream_of(0)` and `stream_of(9)`."""

KEPT_SNAPSHOTS = 32

AT_ONCE = 100_000
"""A follower's batch that holds all there is."""


def stream_of(number: int) -> StreamId:
    """The stream of another node, or of this one for 5."""
    return StreamId(NodeId(bytes(31) + bytes([number])), 7)


OWN = stream_of(5)


def event_of(stream: int, lamport: int, offset: int, payload: object, *tags: str) -> Event:
    return Event(EventKey(lamport, stream_of(stream)), offset, 0, tags or ("a",), "test", payload)


class MemoryLog:
    """Events by commit.

    `page` is how many events a read returns at a time; between pages others get their turn. `batch` is how many a
    follower hands over at a time, in key order, as one does that lags so far behind that it reads what is stored.
    """

    def __init__(self, page: int = 3, batch: int = AT_ONCE) -> None:
        self.node = NODE
        self.commits: list[Batch] = []
        self.snapshots: list[StoredSnapshot] = []
        self.is_full = False
        self.reads = 0
        self.saves = 0
        self.writes = 0
        """Of snapshots, with those that only drop some."""
        self.followed: list[OffsetMap] = []
        self.upcasters = NO_UPCASTERS
        self.retracted: dict[EventKey, tuple[StreamId, int]] = {}
        """What is hidden, and by the event at which place."""
        self._page = page
        self.batch = batch
        self._clock = 0
        self._offsets = OffsetMap()
        self._changed = asyncio.Event()
        self._closed = False
        self._ordered: list[Event] = []
        self._counted = 0

    @property
    def offsets(self) -> OffsetMap:
        return self._offsets

    @property
    def events(self) -> list[Event]:
        """Everything, in key order."""
        for commit in self.commits[self._counted :]:
            self._ordered.extend(commit.events)
            self._counted += 1
        self._ordered.sort(key=lambda event: event.key)  # two sorted runs: that is quick
        return self._ordered

    def commit(self, events: Sequence[Event]) -> None:
        """Events become known together, as if a peer had sent them."""
        for event in sorted(events, key=lambda event: event.key):
            assert event.offset == self._offsets.of(event.stream) + 1, "gapless"
            self._offsets = self._offsets.raised({event.stream: event.offset})
            self._clock = max(self._clock, event.lamport)
        ordered = tuple(sorted(events, key=lambda event: event.key))
        self.commits.append(Batch(ordered, self._offsets))
        self._wake()

    def retract(self, target: EventKey, stream: int = 9, lamport: int | None = None) -> Event:
        """One event of another node hides another; it bears no tag that fish of the tests select."""
        offset = self._offsets.of(stream_of(stream)) + 1
        key = lamport if lamport is not None else self._clock + 1
        event = event_of(stream, key, offset, str(target), "shoal:retract")
        self.retracted.setdefault(target, (event.stream, offset))
        self.commit([event])
        return event

    def hides(self, event: Event, as_of: OffsetMap) -> bool:
        stream, offset = self.retracted.get(event.key, (OWN, 2**53))
        return as_of.of(stream) >= offset

    async def newly_retracted(self, lower: OffsetMap, upper: OffsetMap) -> list[Event]:
        await asyncio.sleep(0)  # as a disk would
        return self.hidden_between(lower, upper)

    def hidden_between(self, lower: OffsetMap, upper: OffsetMap) -> list[Event]:
        if not self.retracted:
            return []
        return [one for one in self.events if self.hides(one, upper) and not self.hides(one, lower)]

    def receive(self, stream: int, lamport: int, payload: object, *tags: str) -> Event:
        """One event of another node arrives."""
        offset = self._offsets.of(stream_of(stream)) + 1
        event = event_of(stream, lamport, offset, payload, *tags)
        self.commit([event])
        return event

    def reopen(self) -> None:
        """Be the same log in another event loop: the node was restarted."""
        self._changed = asyncio.Event()

    def close(self) -> None:
        self._closed = True
        self._wake()

    def named_now(self, offsets: OffsetMap) -> OffsetMap:
        return offsets

    @property
    def horizons(self) -> Mapping[StreamId, int]:
        return {}

    def follow(self, start: OffsetMap) -> "MemoryFollower":
        self.followed.append(start)
        return MemoryFollower(self, start, self.batch)

    async def read(
        self,
        where: Where,
        *,
        after: EventKey | None = None,
        lower: OffsetMap | None = None,
        upper: OffsetMap | None = None,
        as_of: OffsetMap | None = None,
        order: Order = Order.ASCENDING,
    ) -> AsyncIterator[Sequence[Event]]:
        self.reads += 1
        bottom, top = lower or OffsetMap(), self._offsets if upper is None else upper
        chosen = [
            event
            for event in self.events
            if (after is None or event.key > after)
            and not self.hides(event, self._offsets if as_of is None else as_of)
            and bottom.of(event.stream) < event.offset <= top.of(event.stream)
            and where.matches(event.tags, is_local=event.stream.node == self.node)
        ]
        if order is Order.DESCENDING:
            chosen.reverse()
        for start in range(0, len(chosen), self._page):
            await asyncio.sleep(0)  # as a disk would: others run while a page is read
            yield chosen[start : start + self._page]

    async def publish(self, drafts: Sequence[Draft]) -> tuple[Event, ...]:
        await asyncio.sleep(0)  # as a disk would
        if self.is_full:
            raise StoreFull("full")
        first = self._offsets.of(OWN) + 1
        events = tuple(
            Event(
                EventKey(self._clock + 1 + n, OWN), first + n, 0, one.tags, one.app_id, one.payload
            )
            for n, one in enumerate(drafts)
        )
        self.commit(events)
        return events

    async def save_snapshots(
        self, snapshots: Sequence[StoredSnapshot], thinned: Sequence[EventKey] = ()
    ) -> bool:
        await asyncio.sleep(0)  # as a disk would
        if self.is_full:
            raise StoreFull("full")
        self.saves += 1
        self.writes += 1
        same = [one for one in self.snapshots if _identity(one) == _identity(snapshots[0])]
        keys = {one.key for one in snapshots}
        newest = sorted([*(one for one in same if one.key not in keys), *snapshots], key=_key)
        others = [one for one in self.snapshots if one not in same]
        newest = [one for one in newest if one.key not in thinned]
        self.snapshots = [*others, *newest[-KEPT_SNAPSHOTS:]]
        return True

    async def load_snapshots(
        self, fish: str, version: int, definition: str
    ) -> list[StoredSnapshot]:
        await asyncio.sleep(0)  # as a disk would
        wanted = (fish, version)
        found = [one for one in self.snapshots if _identity(one) == wanted]
        return sorted(
            (one for one in found if one.definition == definition), key=_key, reverse=True
        )

    async def snapshot_definitions(self, fish: str, version: int) -> list[str]:
        await asyncio.sleep(0)  # as a disk would
        found = [one for one in self.snapshots if _identity(one) == (fish, version)]
        return sorted({one.definition for one in found})

    async def drop_snapshots(self, fish: str, from_key: EventKey | None) -> None:
        await asyncio.sleep(0)  # as a disk would
        if self.is_full:
            raise StoreFull("full")
        self.writes += 1
        self.snapshots = [
            one
            for one in self.snapshots
            if one.fish != fish or (from_key is not None and one.key < from_key)
        ]

    async def changed(self) -> None:
        if self._closed:
            raise LogClosed("closed")
        await self._changed.wait()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


class MemoryFollower:
    """A cursor over the commits."""

    def __init__(self, log: MemoryLog, start: OffsetMap, batch: int) -> None:
        self._log = log
        self._batch = batch
        self._commits = 0
        self.offsets = start

    async def next(self) -> Batch:
        await asyncio.sleep(0)  # as a disk would
        while not (events := self._behind()):
            await self._log.changed()
        before = self.offsets
        self.offsets = before.raised({one.stream: one.offset for one in events})
        shown = tuple(one for one in events if not self._log.hides(one, self.offsets))
        hidden = self._log.hidden_between(before, self.offsets)
        handed = tuple(one for one in hidden if one.offset <= before.of(one.stream))
        return Batch(shown, self.offsets, handed)

    def _behind(self) -> list[Event]:
        events = self._log.events if self._batch < AT_ONCE else self._new()
        return [one for one in events if one.offset > self.offsets.of(one.stream)][: self._batch]

    def _new(self) -> list[Event]:
        """What was committed since this was last asked, in key order."""
        commits, self._commits = self._log.commits[self._commits :], len(self._log.commits)
        return sorted(
            (event for commit in commits for event in commit.events), key=lambda event: event.key
        )


def _identity(snapshot: StoredSnapshot) -> tuple[str, int]:
    return snapshot.fish, snapshot.version


def _key(snapshot: StoredSnapshot) -> EventKey:
    return snapshot.key
