"""The fold with time travel: one fish's state at the head of the events known so far. Pure; values in, values out.

The law: the state is the fold of `on_event` over all known matching events in key order, whatever the order in which
they arrived. Events behind the head are folded on (`advance`). One that sorts before the head is late: the timeline
goes back to a checkpoint below it (`rewind_to`), and its keeper reads everything from there on again, in key order.

Checkpoints are references to earlier states, which nobody changes, and so they cost nothing but their number. After
`n` events the checkpoint behind event `i` is kept as long as `n - i <= 3 * lowbit(i)`, where `lowbit` is the largest
power of two that divides `i`. About two of each power remain, 2 log n in all, at exponentially growing distance behind
the head. An event that is late by `d` positions finds one less than `2 d` behind the head: choose the smallest power
`2**k >= d / 2`; the greatest multiple of it at or below `n - d` lies within `d + 2**k <= 3 * 2**k` of the head. Hence
at most `2 d` calls of the reducer, and at most `n + 1` where `d` is about `n`.

An event that is retracted after it was folded is handled like one that arrives late at its own key: back to before it,
and then everything is read again, without it. Events of older versions are brought to today's (`lamport.upcasters`) at
the moment they are folded.

A reset makes everything before it irrelevant, checkpoints included. Its key is the horizon: late events below it
change nothing but what is covered.
"""

from collections.abc import Callable, Iterable
from typing import Generic, NamedTuple

from fish.definition import Fish, Metadata, State
from fish.errors import FishStopped
from lamport.errors import UpcastFailed
from lamport.event import Event
from lamport.ids import EventKey, NodeId, StreamId
from lamport.offsets import OffsetMap
from lamport.upcasters import NO_UPCASTERS, Upcasters

PRUNE_EVERY = 32
"""Checkpoints are weeded out once in so many events: so many more than necessary may be there at any time."""


class _Checkpoint(NamedTuple, Generic[State]):
    """The state behind an event, the `number`-th since the last reset. A tuple: there is one for each event."""

    key: EventKey
    state: State
    number: int


class Timeline(Generic[State]):
    """A fish's fold at one node. All events handed in match the fish's selection, in ascending key order."""

    __slots__ = (
        "_checkpoints",
        "_covered",
        "_fish",
        "_folded",
        "_horizon",
        "_node",
        "_upcast",
        "calls",
    )

    def __init__(
        self, fish: Fish[State], node: NodeId, upcasters: Upcasters = NO_UPCASTERS
    ) -> None:
        self.calls = 0
        """Reducer calls so far: what the folding has cost."""
        self._fish = fish
        self._node = node
        self._upcast = upcasters.upcast if upcasters else None
        self._checkpoints: list[_Checkpoint[State]] = []
        self._horizon: EventKey | None = None
        self._covered = OffsetMap()
        self._folded: dict[StreamId, int] = {}

    @property
    def state(self) -> State:
        """The state at the head; the initial state where nothing is folded."""
        return self._checkpoints[-1].state if self._checkpoints else self._fish.initial

    @property
    def key(self) -> EventKey | None:
        """The key of the newest event folded, the head; None where there is none."""
        return self._checkpoints[-1].key if self._checkpoints else None

    @property
    def count(self) -> int:
        """How many events the state is made of: those from the last reset on."""
        return self._checkpoints[-1].number if self._checkpoints else 0

    @property
    def horizon(self) -> EventKey | None:
        """The key of the newest reset event."""
        return self._horizon

    @property
    def offsets(self) -> OffsetMap:
        """What is covered: every matching event up to these offsets is in the state or irrelevant to it.

        Between a rewind and the end of the reading that it asks for, this says what will be covered then.
        """
        return self._covered.raised(self._folded) if self._folded else self._covered

    @property
    def checkpoints(self) -> tuple[EventKey, ...]:
        """Where a rewind can go, oldest first."""
        return tuple(one.key for one in self._checkpoints)

    def late(self, events: Iterable[Event]) -> EventKey | None:
        """The lowest key among these events that needs a rewind before they can be folded; None if none does."""
        return min((event.key for event in events if self._is_late(event)), default=None)

    def advance(self, events: Iterable[Event]) -> None:
        """Fold the events that are new; those already covered and those below the horizon change no state.

        Raises:
            FishStopped: a reducer raised. The state is that of the event before; the rest was not looked at.
            ValueError: an event is late, and the timeline was not rewound before.
        """
        for event in events:
            head = self.key
            if head is None or event.key > head:
                if self._horizon is None or event.key >= self._horizon:
                    self._fold(event)
            elif self._is_late(event):
                raise ValueError(f"event {event.key} sorts before the head {head}: rewind first")
            if event.offset > self._folded.get(event.stream, -1):
                self._folded[event.stream] = event.offset

    def cover(self, offsets: OffsetMap) -> None:
        """Note that every matching event up to these offsets was handed in."""
        known = self.offsets
        self._covered = offsets if offsets.covers(known) else known.raised(offsets)
        self._folded = {}

    def holds(self, key: EventKey) -> bool:
        """Whether the event with this key may be in the state: it sorts neither behind the head nor before a reset."""
        head = self.key
        return head is not None and key <= head and (self._horizon is None or key >= self._horizon)

    def rewind_to(self, key: EventKey) -> EventKey | None:
        """Go back before an event; returns the key behind which everything is to be handed in again.

        None stands for the beginning; a horizon below the event remains, and what sorts before it is skipped.
        """
        while self._checkpoints and self._checkpoints[-1].key >= key:
            self._checkpoints.pop()
        if self._horizon is not None and key <= self._horizon:
            self._horizon = None
        return self.key

    def restore(
        self,
        key: EventKey,
        state: State,
        *,
        count: int,
        horizon: EventKey | None,
        offsets: OffsetMap,
    ) -> None:
        """Start from a state that was kept elsewhere; everything behind its key is to be handed in."""
        self._checkpoints = [_Checkpoint(key, state, count)]
        if horizon is not None and (self._horizon is None or horizon > self._horizon):
            self._horizon = horizon
        self.cover(offsets)

    def _is_late(self, event: Event) -> bool:
        head = self.key
        if head is None or event.key > head or self._covers(event):
            return False
        return self._horizon is None or event.key > self._horizon

    def _covers(self, event: Event) -> bool:
        stream, offset = event.stream, event.offset
        return offset <= self._covered.of(stream) or offset <= self._folded.get(stream, -1)

    def _fold(self, event: Event) -> None:
        if self._upcast is not None:
            event = self._upcasted(event, self._upcast)
        metadata = Metadata.of(event, self._node)
        is_reset = self._resets(event, metadata)
        before = self._fish.initial if is_reset else self.state
        state = self._next(before, event, metadata)
        count = 1 if is_reset else self.count + 1
        if is_reset:
            self._horizon = event.key
            self._checkpoints.clear()
        self._checkpoints.append(_Checkpoint(event.key, state, count))
        if count % PRUNE_EVERY == 0:
            self._prune(count)

    def _upcasted(self, event: Event, upcast: Callable[[Event], Event]) -> Event:
        try:
            return upcast(event)
        except UpcastFailed as error:
            raise FishStopped(self._fish.name, "upcaster", event.key, error) from error

    def _resets(self, event: Event, metadata: Metadata) -> bool:
        if self._fish.is_reset is None:
            return False
        try:
            return bool(self._fish.is_reset(event.payload, metadata))
        except (Exception, SystemExit) as error:
            raise FishStopped(self._fish.name, "is_reset", event.key, error) from error

    def _next(self, state: State, event: Event, metadata: Metadata) -> State:
        self.calls += 1
        try:
            return self._fish.on_event(state, event.payload, metadata)
        except (Exception, SystemExit) as error:
            raise FishStopped(self._fish.name, "on_event", event.key, error) from error

    def _prune(self, count: int) -> None:
        """Weed out the checkpoints. The first stays: below a reset or a restored state there is no other."""
        first, *others = self._checkpoints
        kept = (one for one in others if count - one.number <= 3 * (one.number & -one.number))
        self._checkpoints = [first, *kept]
