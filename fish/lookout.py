"""Looking out for events without a fish: the latest one, the best one, a sum of all.

A lookout reads the matching events that are stored and hears those that arrive, in whatever order they come, and keeps
one result. It shows that once the stored events are through, and again whenever a batch of the log changed it. What is
kept must not depend on the order: the better of two events, or a commutative fold. Where something of it is retracted,
all is read again, without that; so it is where a fork was proven, for what is kept may bear another name by now.

`query_chunks` reads in chunks that carry the bounds they cover, so that a reader who was interrupted goes on exactly
where it was.
"""

import logging
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Generic, NamedTuple

from fish.definition import Metadata, State
from fish.errors import RAISED_BY_STRANGERS, FishStopped, Overran
from fish.log import Log, closing, horizons_behind
from fish.oversight import Oversight
from fish.shown import Shown
from fish.time_slice import TimeSlice
from lamport.errors import LogClosed, UpcastFailed
from lamport.event import Event
from lamport.ids import StreamId
from lamport.offsets import OffsetMap
from lamport.reader import Order
from lamport.tags import Where

MAX_CHUNK = 10_000
"""Most events of one chunk: they are in memory together."""

_LOGGER = logging.getLogger("shoal.fish")

ShouldReplace = Callable[[Event, Event], bool]
"""Whether the first event is strictly better than the second, the best so far."""


def is_later(new: Event, old: Event) -> bool:
    """Behind it in the order of all events."""
    return new.key > old.key


def is_earlier(new: Event, old: Event) -> bool:
    """Before it in the order of all events."""
    return new.key < old.key


def is_newer(new: Event, old: Event) -> bool:
    """Later by its author's wall clock; where that is the same, behind it in the order of all events."""
    return (new.timestamp, new.key) > (old.timestamp, old.key)


def is_older(new: Event, old: Event) -> bool:
    """Earlier by its author's wall clock; where that is the same, before it in the order of all events."""
    return (new.timestamp, new.key) < (old.timestamp, old.key)


_OURS = (is_later, is_earlier, is_newer, is_older)
"""Comparisons that hold up nobody: to watch over each would take longer than they do."""


class Lookout(Shown[State], Generic[State]):
    """Keeps the result of all matching events known. `asks` is the name of the stranger's function that it calls."""

    asks = "on_event"

    def __init__(self, log: Log, where: Where, oversight: Oversight) -> None:
        super().__init__()
        self._log = log
        self._where = where
        self._oversight = oversight

    @property
    def pruned(self) -> Mapping[StreamId, int]:
        """The horizons behind which there may have been events that nobody keeps."""
        return horizons_behind(self._log, self._where)

    async def work(self) -> None:
        """Read what is stored, then hear what arrives; the lookout's task."""
        present = self._log.offsets
        follower = self._log.follow(present)
        with suppress(LogClosed):
            await self._read(present)
            self._show_news(is_first=True)
            while not self.is_ended:
                batch = await follower.next()
                if batch.renamed or any(self._rests_on(one) for one in batch.retracted):
                    self._forget()
                    await self._read(batch.offsets)
                else:
                    await self._take_all(filter(self._selects, batch.events))
                self._show_news(is_first=False)

    async def _read(self, upper: OffsetMap) -> None:
        pages = self._log.read(self._where, upper=upper, as_of=upper)
        async with closing(pages):
            async for page in pages:
                await self._take_all(page)

    async def _take_all(self, events: Iterable[Event]) -> None:
        time_slice = TimeSlice()
        for event in events:
            self._take_watched(event)
            await time_slice.give_way()

    def _take_watched(self, event: Event) -> None:
        """Take an event in today's version; what is called for that may be interrupted."""
        try:
            self._oversight.watched(
                lambda: self._take(self._today(event)),
                lambda: f"the lookout for {self._where} at event {event.key}",
                _LOGGER.warning,
            )
        except Overran as overran:
            raise FishStopped(str(self._where), self.asks, event.key, overran) from overran

    def _today(self, event: Event) -> Event:
        """An event in today's version."""
        try:
            return self._log.upcasters.upcast(event)
        except UpcastFailed as error:
            raise FishStopped(str(self._where), "upcaster", event.key, error) from error

    def _take(self, event: Event) -> None:
        raise NotImplementedError

    def _forget(self) -> None:
        """Begin again, with no event."""
        raise NotImplementedError

    def _rests_on(self, retracted: Event) -> bool:
        """Whether a retracted event may be in the result; one that is damaged tells no tags."""
        return not retracted.tags or self._selects(retracted)

    def _show_news(self, *, is_first: bool) -> None:
        raise NotImplementedError

    def _selects(self, event: Event) -> bool:
        return self._where.matches(event.tags, is_local=event.stream.node == self._log.node)


class BestMatch(Lookout[Event | None]):
    """The event that is better than all others; shown when there is one, and when there is a better one.

    Where the best is retracted, the next best is shown; where there is none, None: what was shown holds no more.
    """

    asks = "should_replace"

    def __init__(
        self,
        log: Log,
        where: Where,
        should_replace: ShouldReplace,
        oversight: Oversight,
    ) -> None:
        super().__init__(log, where, oversight)
        self._should_replace = should_replace
        self._best: Event | None = None
        self._shown: Event | None = None
        self._is_ours = should_replace in _OURS and not log.upcasters

    def _take_watched(self, event: Event) -> None:
        if self._is_ours:
            self._take(event)
        else:
            super()._take_watched(event)

    def _take(self, event: Event) -> None:
        if self._best is None or self._is_better(event, self._best):
            self._best = event

    def _is_better(self, new: Event, old: Event) -> bool:
        try:
            return bool(self._should_replace(new, old))
        except RAISED_BY_STRANGERS as error:
            raise FishStopped(str(self._where), self.asks, new.key, error) from error

    def _forget(self) -> None:
        self._best = None

    def _rests_on(self, retracted: Event) -> bool:
        return self._best is not None and retracted.key == self._best.key

    def _show_news(self, *, is_first: bool) -> None:  # noqa: ARG002 - silent until there is a match
        if self._best is not self._shown:
            self._shown = self._best
            self.show(self._best)


class Reduced(Lookout[State], Generic[State]):
    """A fold that does not depend on the order; shown at once, and after each batch with a match."""

    def __init__(
        self,
        log: Log,
        where: Where,
        on_event: Callable[[State, Any, Metadata], State],
        initial: State,
        oversight: Oversight,
    ) -> None:
        super().__init__(log, where, oversight)
        self._on_event = on_event
        self._initial = initial
        self._result = initial
        self._is_new = False

    def _take(self, event: Event) -> None:
        metadata = Metadata.of(event, self._log.node)
        try:
            self._result = self._on_event(self._result, event.payload, metadata)
        except RAISED_BY_STRANGERS as error:
            raise FishStopped(str(self._where), self.asks, event.key, error) from error
        self._is_new = True

    def _forget(self) -> None:
        self._result = self._initial
        self._is_new = True

    def _show_news(self, *, is_first: bool) -> None:
        if is_first or self._is_new:
            self._is_new = False
            self.show(self._result)


class Chunk(NamedTuple):
    """Some events of a query, and the offsets between which they lie: above `lower`, up to `upper`.

    Of an ascending query, `upper` is where a reader goes on: as the `lower` of another query. Of a descending one it is
    `lower`: as the `upper` of another query.
    """

    events: tuple[Event, ...]
    lower: OffsetMap
    upper: OffsetMap


async def query_chunks(
    log: Log,
    where: Where,
    size: int,
    *,
    order: Order = Order.ASCENDING,
    lower: OffsetMap | None = None,
    upper: OffsetMap | None = None,
) -> AsyncIterator[Chunk]:
    """The matching events that are known now, in chunks of `size` (1 to 10,000) whose bounds follow on each other.

    Raises:
        ValueError: the size is out of bounds.
        UpcastFailed: an event cannot be brought to today's version.
    """
    if not 0 < size <= MAX_CHUNK:
        raise ValueError(f"a chunk has 1 to {MAX_CHUNK} events, not {size}")
    low, high = lower or OffsetMap(), log.offsets if upper is None else upper
    cut = _cut_below if order is Order.DESCENDING else _cut_above
    pages = log.read(where, lower=low, upper=high, order=order)
    async with closing(pages):
        async for events in _regrouped(pages, size):
            today = [log.upcasters.upcast(event) for event in events]
            chunk, low, high = cut(today, low, high)
            yield chunk


def _cut_above(
    events: Sequence[Event], low: OffsetMap, high: OffsetMap
) -> tuple[Chunk, OffsetMap, OffsetMap]:
    reached = low.raised({event.stream: event.offset for event in _rising(events)})
    return Chunk(tuple(events), low, reached), reached, high


def _cut_below(
    events: Sequence[Event], low: OffsetMap, high: OffsetMap
) -> tuple[Chunk, OffsetMap, OffsetMap]:
    left = dict(high.items())
    for event in reversed(_rising(events)):
        left[event.stream] = event.offset - 1
    below = OffsetMap({stream: offset for stream, offset in left.items() if offset >= 0})
    return Chunk(tuple(events), below, high), low, below


def _rising(events: Sequence[Event]) -> list[Event]:
    """By offset, so that of each stream the highest comes last."""
    return sorted(events, key=lambda event: event.offset)


async def _regrouped(
    pages: AsyncIterator[Sequence[Event]], size: int
) -> AsyncIterator[list[Event]]:
    gathered: list[Event] = []
    async for page in pages:
        for event in page:
            gathered.append(event)
            if len(gathered) == size:
                yield gathered
                gathered = []
    if gathered:
        yield gathered
