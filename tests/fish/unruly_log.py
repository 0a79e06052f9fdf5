"""A log in memory that is unruly: its disk is slow and often full, and parts of streams are withdrawn."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from typing import Any

from lamport.errors import StoreFull
from lamport.event import Draft, Event
from lamport.follower import Batch
from lamport.ids import EventKey, StreamId
from lamport.offsets import OffsetMap
from lamport.snapshots import StoredSnapshot
from lamport.tags import Where
from tests.fish.memory_log import AT_ONCE, MemoryFollower, MemoryLog, stream_of
from tests.fish.ponds import turns


class UnrulyLog(MemoryLog):
    """Keeps the promises of `fish.log.Log`, and no more than these.

    A stream that is cut counts up to an offset only, as where its author was revoked: positions fall back to there,
    and what was retracted by what does not count any more is hidden no longer.
    """

    def __init__(self, randomness: random.Random) -> None:
        self.cuts: dict[StreamId, int] = {}
        self._randomness = randomness
        super().__init__(randomness.choice([1, 3, 50]), randomness.choice([1, 2, AT_ONCE, AT_ONCE]))

    @property
    def offsets(self) -> OffsetMap:
        return self.named_now(self._offsets)

    def named_now(self, offsets: OffsetMap) -> OffsetMap:
        if not any(offsets.of(stream) > cut for stream, cut in self.cuts.items()):
            return offsets
        least = {stream: min(at, self.cuts.get(stream, at)) for stream, at in offsets.items()}
        return OffsetMap({stream: at for stream, at in least.items() if at >= 0})

    def counts(self, event: Event) -> bool:
        return event.offset <= self.cuts.get(event.stream, event.offset)

    def cut(self, stream: int) -> None:
        """Withdraw a part of a stream, or all of it; nothing is added to it any more."""
        one = stream_of(stream)
        self.cuts[one] = self._randomness.randint(-1, max(0, self.offsets.of(one)))
        self._wake()

    def grow(self, stream: int, payload: object, *tags: str) -> None:
        """One more event of a stream, somewhat behind its last; it may sort anywhere among the others."""
        if stream_of(stream) not in self.cuts:
            clock = max(
                (e.lamport for e in self.events if e.stream == stream_of(stream)), default=0
            )
            self.receive(stream, clock + self._randomness.randint(1, 30), payload, *tags)

    def hide(self, event: Event, stream: int) -> None:
        """Retract an event once, by one of a stream."""
        if stream_of(stream) not in self.cuts and event.key not in self.retracted:
            self.retract(event.key, stream)

    def hidden_between(self, lower: OffsetMap, upper: OffsetMap) -> list[Event]:
        hidden = super().hidden_between(self.named_now(lower), self.named_now(upper))
        return list(filter(self.counts, hidden))

    def follow(self, start: OffsetMap) -> "UnrulyFollower":
        return UnrulyFollower(self, start, self.batch)

    async def read(self, where: Where, **bounds: Any) -> AsyncIterator[Sequence[Event]]:
        for name in ("upper", "as_of"):
            given: OffsetMap | None = bounds.get(name)
            bounds[name] = self.named_now(self._offsets if given is None else given)
        async for page in super().read(where, **bounds):
            yield list(filter(self.counts, page))

    async def save_snapshots(
        self, snapshots: Sequence[StoredSnapshot], thinned: Sequence[EventKey] = ()
    ) -> bool:
        await turns(self._randomness.choice([0, 0, 3, 30, 100]))
        if self._randomness.random() < 0.1:
            raise StoreFull("full")
        is_stored = self._randomness.random() < 0.9
        if is_stored:
            await super().save_snapshots(snapshots, thinned)
        await turns(self._randomness.choice([0, 0, 3, 30]))
        return is_stored

    async def load_snapshots(
        self, fish: str, version: int, definition: str
    ) -> list[StoredSnapshot]:
        loaded = await super().load_snapshots(fish, version, definition)
        await turns(self._randomness.choice([0, 0, 3, 30]))
        return loaded

    async def publish(self, drafts: Sequence[Draft]) -> tuple[Event, ...]:
        await turns(self._randomness.choice([0, 3, 10]))
        if self._randomness.random() < 0.05:
            raise StoreFull("full")
        return await super().publish(drafts)


class UnrulyFollower(MemoryFollower):
    """A cursor that is told what is withdrawn, and then what is hidden no more."""

    _log: UnrulyLog

    def __init__(self, log: UnrulyLog, start: OffsetMap, batch: int) -> None:
        super().__init__(log, start, batch)
        self._known = dict(log.cuts)
        self._waiting: list[Batch] = []

    async def next(self) -> Batch:
        await asyncio.sleep(0)  # as a disk would
        while not (self._withdrawn() or self._behind()):
            await self._log.changed()
        return self._waiting.pop(0) if self._waiting else self._moved()

    def _behind(self) -> list[Event]:
        later = (one for one in self._log.events if one.offset > self.offsets.of(one.stream))
        return list(filter(self._log.counts, later))[: self._batch]

    def _moved(self) -> Batch:
        before, events, log = self.offsets, self._behind(), self._log
        self.offsets = before.raised({one.stream: one.offset for one in events})
        hidden = log.hidden_between(before, self.offsets)
        return Batch(
            tuple(one for one in events if not log.hides(one, self.offsets)),
            self.offsets,
            tuple(one for one in hidden if one.offset <= before.of(one.stream)),
        )

    def _withdrawn(self) -> list[Batch]:
        """What is to be told of what does not count any more."""
        log, before = self._log, self.offsets
        if self._known != log.cuts:
            self._known = dict(log.cuts)
            now = self.offsets = log.named_now(before)
            shown = [one for one in log.events if not log.hides(one, before)]
            gone = [
                one for one in shown if now.of(one.stream) < one.offset <= before.of(one.stream)
            ]
            held = [one for one in log.events if one.offset <= now.of(one.stream)]
            back = [one for one in held if log.hides(one, before) and not log.hides(one, now)]
            self._waiting.append(Batch((), now, tuple(gone), renamed=True))
            self._waiting.append(Batch(tuple(back), now, renamed=True))
        return self._waiting
