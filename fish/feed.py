"""What a pond has heard of its log, and who is told of it.

One follower of the log feeds all fish of a pond. The way of a datum: `spread` takes a batch, asks the index whom its
events and retractions concern, and hands each of these what is theirs in key order. All others have thereby considered
the batch, too, and nothing is done for them: a fish that rests covers whatever the feed has heard.

While a catch-up is under way, events are held and not folded, so that each fish replays once for all of it. It is over
when whoever announced it says so, and what had come until then was spread. Nobody is kept waiting by a peer that
trickles: after a second without progress, or after ten in all, what has come is folded all the same, and the states are
marked provisional until the end. Then they are told once more, so that nobody takes for provisional what is not.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from fish.dispatch import Dispatch
from lamport.event import Event
from lamport.follower import Batch
from lamport.ids import EventKey, NodeId
from lamport.offsets import OffsetMap
from lamport.tags import Where

CATCH_UP_S = 10.0
"""Longest that a catch-up holds events back …"""

NO_PROGRESS_S = 1.0
"""… and longest that it does so while nothing comes."""


class Taker(Protocol):
    """Someone who is fed."""

    def hand(
        self,
        events: list[Event],
        offsets: OffsetMap,
        retracted: list[EventKey],
        *,
        renamed: bool = False,
    ) -> None:
        """Take note of events that concern it, in key order, and of what the log holds with them. Never waits.

        `retracted` are the keys of events that it was handed before, or has read, and that are hidden from now on. With
        `renamed` a fork was proven: keys and offsets known before may have other names by now.
        """
        ...

    def stir(self) -> None:
        """What it waited for may have come: offsets moved, or held events are to be folded."""
        ...

    def confirm(self) -> None:
        """What it has shown as provisional is so no more, unless it has something to fold anyway."""
        ...


class Feed:
    """What was heard, and who is told."""

    def __init__(self, node: NodeId, offsets: OffsetMap) -> None:
        self.offsets = offsets
        """Everything that was spread, and the start."""
        self.waiting: dict[Taker, None] = {}
        """Who is to be stirred whenever the offsets move."""
        self.held: dict[Taker, None] = {}
        """Who holds events back for a catch-up."""
        self.provisional: dict[Taker, None] = {}
        """Who has shown a state, or was looked at, while one was under way."""
        self._node = node
        self._index: Dispatch[Taker] = Dispatch()
        self._catch_ups = 0
        self._is_holding = False
        self._end: OffsetMap | None = None
        """What is still to be spread before a catch-up that was called over is over."""
        self._timers: list[asyncio.TimerHandle] = []

    @property
    def is_catching_up(self) -> bool:
        """Whether a catch-up was announced and is not over."""
        return self._catch_ups > 0 or self._end is not None

    @property
    def is_holding(self) -> bool:
        """Whether events are held back for it."""
        return self._is_holding

    def join(self, taker: Taker, where: Where) -> None:
        """Feed someone from now on."""
        self._index.add(taker, where)

    def leave(self, taker: Taker) -> None:
        """Feed it no more."""
        self._index.remove(taker)
        self.waiting.pop(taker, None)
        self.held.pop(taker, None)
        self.provisional.pop(taker, None)

    def spread(self, batch: Batch) -> None:
        """Hand out a batch."""
        portions: dict[Taker, list[Event]] = {}
        for event in batch.events:
            for taker in self._concerned(event):
                portions.setdefault(taker, []).append(event)
        hidden: dict[Taker, list[EventKey]] = {}
        for event in batch.retracted:
            # One that is damaged tells no tags: it may be in anybody's state.
            for taker in self._concerned(event) if event.tags else self._index:
                hidden.setdefault(taker, []).append(event.key)
        self.offsets = batch.offsets if batch.renamed else self.offsets.raised(batch.offsets)
        if self._is_holding:
            self._set_timer(1, NO_PROGRESS_S)
        for taker in tuple(self._index if batch.renamed else portions | hidden):
            news = portions.get(taker, []), batch.offsets, hidden.get(taker, [])
            taker.hand(*news, renamed=batch.renamed)
        for taker in tuple(self.waiting):
            taker.stir()
        self._end_if_spread()

    def _concerned(self, event: Event) -> Iterator[Taker]:
        return self._index.concerned(event.tags, is_local=event.stream.node == self._node)

    @contextmanager
    def catching_up(self, present: Callable[[], OffsetMap]) -> Iterator[None]:
        """Hold events back while the context is open, within the bounds above; several may overlap.

        `present` is what the log holds. One that begins when an earlier one is past the bounds has all of them again.
        """
        self._catch_ups += 1
        self._end = None
        if not self._is_holding:
            self._is_holding = True
            self._set_timer(0, CATCH_UP_S)
            self._set_timer(1, NO_PROGRESS_S)
        try:
            yield
        finally:
            self._catch_ups -= 1
            if self._catch_ups == 0:
                self._end = present()
                self._end_if_spread()

    def _end_if_spread(self) -> None:
        if self._end is not None and (not self._is_holding or self.offsets.covers(self._end)):
            self._release()

    def _set_timer(self, number: int, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        for timer in self._timers[number:]:
            timer.cancel()
        self._timers[number:] = [loop.call_later(seconds, self._release)]

    def _release(self) -> None:
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        self._is_holding, self._end = False, None
        held, self.held = self.held, {}
        for taker in held:
            taker.stir()
        if self._catch_ups == 0:
            self._confirm()

    def _confirm(self) -> None:
        """Nothing is provisional any more: tell so."""
        confirmed, self.provisional = self.provisional, {}
        for taker in confirmed:
            taker.confirm()
