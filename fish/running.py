"""One running fish: the timeline, kept up to date with the log.

The way of a datum. The pond hands every batch of the log to `hand`, which keeps what matches in an inbox. The fish's
own task (`live`) takes the inbox as one piece, folds it in, and only then shows the new state: to those who wait for
it (`covering`) and to the observations. An event that arrived late sends the task back to a checkpoint, and it reads
everything from there on again; whatever arrived meanwhile waits in the inbox and is taken in at once. So there is one
replay for a whole catch-up, and nobody sees a state in between.

An event that was folded and is retracted sends the task back in the same way, to before it.

The inbox is bounded. When it overflows it is thrown away, and the task reads what it missed from the log.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, NoReturn

from fish.definition import Fish, State
from fish.errors import FishStopped, PondClosed
from fish.log import Log
from fish.observation import Observation
from fish.snapshots import Snapshot, SnapshotShelf, closing
from fish.timeline import Timeline
from lamport.errors import DamagedEvent
from lamport.event import Event
from lamport.follower import Batch
from lamport.ids import EventKey, StreamId
from lamport.offsets import OffsetMap


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of each running fish."""

    waiting_events: int = 4_096
    """Matching events that wait in the inbox; behind a longer replay it is cheaper to read them from the log."""

    snapshot_every: int = 1_024
    """Reducer calls between two stored snapshots: a restart then costs about as many."""


_LOGGER = logging.getLogger("shoal.fish")


@dataclass(slots=True)
class _News:
    """What arrived since the task last looked. `is_complete` is False where the inbox had overflowed.

    `retracted` are the keys of matching events that were handed over before and are hidden now; the log bounds them.
    """

    events: list[Event] = field(default_factory=list)
    offsets: OffsetMap = field(default_factory=OffsetMap)
    is_complete: bool = True
    retracted: list[EventKey] = field(default_factory=list)

    def add(self, events: list[Event], offsets: OffsetMap, limit: int) -> None:
        self.offsets = offsets
        if self.is_complete:
            self.events += events
            self.is_complete = len(self.events) <= limit
        if not self.is_complete:
            self.events = []

    def withdraw(self, retracted: list[EventKey]) -> None:
        """Leave out events that are hidden from now on, which may have been folded before."""
        hidden = frozenset(retracted)
        self.events = [one for one in self.events if one.key not in hidden]
        self.retracted += retracted


class RunningFish(Generic[State]):
    """A fish that runs in a pond."""

    def __init__(self, fish: Fish[State], log: Log, limits: Limits) -> None:
        self.fish = fish
        self.version = 0
        self.stopped: FishStopped | None = None
        self._log = log
        self._limits = limits
        self._timeline = Timeline(fish, log.node, log.upcasters)
        self._shelf = SnapshotShelf(fish, log)
        self._current: Snapshot[State] | None = None
        self._calls, self._saved_calls = 0, 0
        self._news: _News | None = None
        self._ended: BaseException | None = None
        self._observations: dict[Observation[State], None] = {}
        self._wake = asyncio.Event()
        self._changed = asyncio.Event()

    @property
    def state(self) -> State:
        """The state shown last; only behind the first (`version` above 0)."""
        return self._current.state if self._current is not None else self.fish.initial

    @property
    def is_ended(self) -> bool:
        """Whether the fish's task is over."""
        return self._ended is not None

    @property
    def pruned(self) -> Mapping[StreamId, int]:
        """The horizons behind which there may have been events that this fish selects, and that nobody keeps."""
        own_only, node = all(one.local for one in self.fish.where.alternatives), self._log.node
        horizons = self._log.horizons.items()
        return {stream: first for stream, first in horizons if stream.node == node or not own_only}

    async def changed(self) -> None:
        """Wait for the next state, or an end."""
        await self._changed.wait()

    def hand(self, batch: Batch) -> None:
        """Take note of what the log holds now. Never waits."""
        if self.stopped is not None:
            return
        if self._news is None:
            self._news = _News()
        node = self._log.node
        matching = [one for one in batch.events if self.fish.selects(one, node)]
        self._news.add(matching, batch.offsets, self._limits.waiting_events)
        hidden = [one.key for one in batch.retracted if self.fish.concerns(one, node)]
        if hidden:
            self._news.withdraw(hidden)
        self._wake.set()

    def watch(self, observation: Observation[State]) -> None:
        """Deliver to this observation from the next turn of the task on."""
        self._observations[observation] = None
        self._wake.set()

    def forget(self, observation: Observation[State]) -> None:
        """Deliver no more to this observation, and let it see that it was cancelled."""
        self._observations.pop(observation, None)
        self._pulse()

    async def covering(self, offsets: OffsetMap) -> Snapshot[State]:
        """Wait for a state that covers these offsets.

        Raises:
            FishStopped: a reducer raised.
            PondClosed: the pond was closed before.
        """
        while True:
            if self.stopped is not None:
                raise self.stopped.again()
            if self._current is not None and self._current.offsets.covers(offsets):
                return self._current
            if self._ended is not None:
                raise PondClosed(f"fish {self.fish.name!r} ended") from self._ended
            await self.changed()

    async def live(self) -> None:
        """Keep the state up to date, for ever; the fish's task. An error of the log ends it, a reducer's does not."""
        while True:
            try:
                await self._keep_up()
            except FishStopped as stopped:
                self._stop(stopped)
            except DamagedEvent as damaged:
                # The disk lost an event that it needs: a state without it would be another one. The others go on.
                self._stop(FishStopped(self.fish.name, "log", damaged.key, damaged))
            while self.stopped is not None:
                await self._next_turn()
                self._deliver()

    async def _keep_up(self) -> NoReturn:
        await self._hydrate()
        while True:
            await self._next_turn()
            await self._catch_up()
            self._deliver()

    def revive(self) -> None:
        """Begin again, if it stopped because the disk had lost an event."""
        if self.stopped is not None and isinstance(self.stopped.__cause__, DamagedEvent):
            self.stopped = None
            self._timeline = Timeline(self.fish, self._log.node)
            self._calls, self._saved_calls = 0, 0
            self._wake.set()

    def end(self, cause: BaseException) -> None:
        """Let everybody who waits know that the task is over."""
        if self._ended is None:
            self._ended = cause
            self._pulse()

    async def save(self) -> None:
        """Store the state shown last as a snapshot, unless that was done or the fish stopped."""
        if self._current is None or self.stopped is not None or self._calls == self._saved_calls:
            return
        calls = self._calls
        await self._shelf.save(self._current)
        self._saved_calls = calls

    async def _next_turn(self) -> None:
        await self._wake.wait()
        self._wake.clear()

    async def _hydrate(self) -> None:
        """Fold what the log holds now. A reducer that raises here lets no state be seen."""
        target = self._log.offsets
        after = await self._restore(target)
        await self._replay(after, target)
        self._show()
        await self.save()

    async def _catch_up(self) -> None:
        while (news := self._news) is not None:
            self._news = None
            await self._take_in(news)
            self._show()
            if self._calls - self._saved_calls >= self._limits.snapshot_every:
                await self.save()

    async def _take_in(self, news: _News) -> None:
        """Fold the news in.

        The target is what is covered already and the news together: a follower that lags may not yet have handed over
        what hydration has read.
        """
        target = self._timeline.offsets.raised(news.offsets)
        folded = [key for key in news.retracted if self._timeline.holds(key)]
        late: EventKey | None
        if folded:
            late = await self._first_changed(news, min(folded), target)
        elif news.is_complete:
            late = self._advance(sorted(news.events, key=lambda event: event.key))
        else:
            late = await self._read_missed(target)
        if late is not None:
            await self._travel(late, target)
        self._timeline.cover(target)

    async def _first_changed(self, news: _News, retracted: EventKey, target: OffsetMap) -> EventKey:
        """The lowest key from which the fold is another one: of what is retracted, or of what arrived late.

        Nothing is folded on before that: a reducer must not stumble over what is hidden already.
        """
        late = self._timeline.late(news.events)
        if not news.is_complete:
            pages = self._missed(target)
            async with closing(pages):
                first = await anext(aiter(pages), ())
                late = first[0].key if first else None
        return retracted if late is None else min(retracted, late)

    def _missed(self, target: OffsetMap) -> AsyncIterator[Sequence[Event]]:
        """What is not covered."""
        covered = self._timeline.offsets
        return self._log.read(self.fish.where, lower=covered, upper=target, as_of=target)

    async def _read_missed(self, target: OffsetMap) -> EventKey | None:
        """Read what is not covered. The first event tells whether any is late."""
        pages = self._missed(target)
        async with closing(pages):
            async for page in pages:
                late = self._advance(page)
                if late is not None:
                    return late
        return None

    def _advance(self, events: Sequence[Event]) -> EventKey | None:
        """Fold events, unless one is late: then return its key. What came before a poison event is shown."""
        late = self._timeline.late(events)
        if late is None:
            try:
                self._timeline.advance(events)
            except FishStopped:
                self._show()
                raise
        return late

    async def _travel(self, key: EventKey, target: OffsetMap) -> None:
        """Go back before a late event, and fold everything from there up to the target."""
        _LOGGER.debug("fish %r goes back before %s", self.fish.name, key)
        await self._shelf.drop(key)
        after = self._timeline.rewind_to(key)
        if after is None:
            after = await self._restore(target)
        await self._replay(after, target)

    async def _restore(self, target: OffsetMap) -> EventKey | None:
        """Start from the newest stored snapshot that holds; returns its key."""
        snapshot = await self._shelf.newest(target)
        if snapshot is None or snapshot.key is None:
            return None
        self._timeline.restore(
            snapshot.key,
            snapshot.state,
            count=snapshot.count,
            horizon=snapshot.horizon,
            offsets=snapshot.offsets,
        )
        return snapshot.key

    async def _replay(self, after: EventKey | None, target: OffsetMap) -> None:
        pages = self._log.read(self.fish.where, after=after, upper=target, as_of=target)
        async with closing(pages):
            async for page in pages:
                self._timeline.advance(page)
        self._timeline.cover(target)

    def _show(self) -> None:
        """Make the timeline's state the current one, and tell. A state that is the same object is no news."""
        timeline = self._timeline
        if self._current is None or timeline.state is not self._current.state:
            self.version += 1
        self._current = Snapshot(
            timeline.state, timeline.key, timeline.offsets, timeline.horizon, timeline.count
        )
        self._calls = timeline.calls
        self._pulse()
        self._deliver()

    def _stop(self, stopped: FishStopped) -> None:
        _LOGGER.error("%s", stopped, exc_info=stopped.__cause__)
        self.stopped = stopped
        self._news = None
        self._pulse()
        self._deliver()

    def _deliver(self) -> None:
        for observation in tuple(self._observations):
            observation.deliver()

    def _pulse(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
