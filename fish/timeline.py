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

Through a long history others stand at even distances (`SPREAD`), so that what a whole catch-up costs is little more
than the span it lands in, wherever that begins. A commutative fish has no late events, and needs no checkpoint but the
head: whatever is not covered yet is folded on, wherever it sorts.

An event that is retracted after it was folded is handled like one that arrives late at its own key: back to before it,
and then everything is read again, without it. A commutative fish begins anew then, for its head holds that event.
Events of older versions are brought to today's (`lamport.upcasters`) at the moment they are folded.

A reset makes everything before it irrelevant, checkpoints included. Its key is the horizon: late events below it
change nothing but what is covered.
"""

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from operator import length_hint
from typing import Generic, NamedTuple

from fish.definition import Fish, Metadata, State
from fish.errors import RAISED_BY_STRANGERS, FishStopped
from fish.given import given_with, reached_by
from lamport.errors import UpcastFailed
from lamport.event import Event
from lamport.ids import EventKey, NodeId, StreamId
from lamport.offsets import OffsetMap
from lamport.upcasters import NO_UPCASTERS, Upcasters

REACH = 3
"""A checkpoint is kept for so many times the power of two that divides its number: late by d costs at most 2 d …"""

SPREAD = 256
"""… and where its power is large enough that there are at most so many of them, for ever: going back to any place
costs less than 1 / 128 of all events above the distance. Ten streams that have ten chunks each of ten events for a
history of 100,000 then cost 1.5 times that, and the span."""

DENSE_FROM = 256
"""States closer to each other than this are not worth a place for ever: a replay of so many events is short."""

_NOWHERE = OffsetMap()
_NONE: dict[StreamId, int] = {}
"""Offsets of a timeline that has folded nothing since it was last told what it covers; one for all, never filled."""

_OVER: Iterator[object] = iter(())
"""What is left when all is folded."""

_UNBEGUN: tuple[Sequence[Event], Iterator[object]] = (), _OVER
"""What a fish is at that has folded nothing: one for all."""

STRIDE = 32
"""Events that are folded at most before it is asked whether to pause."""

CHUNK = 1_024
"""Events that are folded as one piece at most: what is made ready for them is lost where they are not reached."""

_LOOKS = {n for n in range(1, CHUNK + 1) if n % STRIDE == 0 or (n < STRIDE and n & n - 1 == 0)}
"""Behind so many events of a chunk it is asked whether to pause."""

MANY = 8
"""Fewer events are folded one by one: that takes no preparations."""

PRUNE_EVERY = 32
"""Checkpoints are weeded out once there may be so many more than necessary."""


class Checkpoint(NamedTuple, Generic[State]):
    """The state behind an event, the `number`-th since the last reset. A tuple: there is one for each event."""

    key: EventKey
    state: State
    number: int


class Grown(NamedTuple, Generic[State]):
    """What folding elsewhere gave: the checkpoints, the head the last, and what stands behind them."""

    checkpoints: tuple[Checkpoint[State], ...]
    horizon: EventKey | None
    calls: int
    skipped: tuple[FishStopped, ...]


class Head(NamedTuple, Generic[State]):
    """Where folding goes on elsewhere; a checkpoint of None is the beginning."""

    checkpoint: Checkpoint[State] | None
    horizon: EventKey | None


Examine = Callable[[Fish[State], State, Event, Metadata], State]
"""Calls a fish's reducer, and looks at how it behaves."""


class Timeline(Generic[State]):
    """A fish's fold at one node. All events handed in match the fish's selection, in ascending key order."""

    __slots__ = (
        "_checkpoints",
        "_covered",
        "_examine",
        "_fish",
        "_folded",
        "_folding",
        "_horizon",
        "_is_plain",
        "_most",
        "_node",
        "_upcast",
        "calls",
        "is_whole",
        "skipped",
    )

    def __init__(
        self,
        fish: Fish[State],
        node: NodeId,
        upcasters: Upcasters = NO_UPCASTERS,
        examine: Examine[State] | None = None,
    ) -> None:
        """Where there is `examine`, it calls the reducer in the place of the timeline: in development mode."""
        self.calls = 0
        """Reducer calls so far: what the folding has cost."""
        self.skipped: tuple[FishStopped, ...] = ()
        """Events that were skipped since the keeper last took these."""
        self.is_whole = False
        """Whether all is folded that it says it covers: not before `cover` was first called, nor between a rewind and
        the end of the reading that it asks for. What it holds meanwhile is nobody's state."""
        self._fish = fish
        self._node = node
        self._upcast = upcasters.upcast if upcasters else None
        self._examine = examine
        special = fish.mutates or fish.is_reset is not None or upcasters
        self._is_plain = not special and examine is None
        self._checkpoints: list[Checkpoint[State]] = []
        self._most = PRUNE_EVERY
        self._horizon: EventKey | None = None
        self._covered = _NOWHERE
        self._folded: dict[StreamId, int] = _NONE
        self._folding: tuple[Sequence[Event], Iterator[object]] = _UNBEGUN

    @property
    def fish(self) -> Fish[State]:
        """Whose events these are."""
        return self._fish

    @property
    def at(self) -> Event | None:
        """The event that was looked at last; other threads may ask while it is folded."""
        events, rest = self._folding
        return events[max(0, len(events) - length_hint(rest) - 1)] if events else None

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

        Between a rewind and the end of the reading that it asks for, this says what will be covered then, but for a
        commutative fish.
        """
        return self._covered.raised(self._folded) if self._folded else self._covered

    @property
    def checkpoints(self) -> tuple[EventKey, ...]:
        """Where a rewind can go, oldest first."""
        return tuple(one.key for one in self._checkpoints)

    def late(self, events: Iterable[Event]) -> EventKey | None:
        """The lowest key among these events that needs a rewind before they can be folded; None if none does."""
        return min((event.key for event in events if self._is_late(event)), default=None)

    def kept(self) -> tuple[Checkpoint[State], ...]:
        """The checkpoints behind the head, oldest first."""
        return tuple(self._checkpoints[:-1])

    def advance(self, events: Sequence[Event], pause: Callable[[], bool] | None = None) -> int:
        """Fold the events that are new; those already covered and those below the horizon change no state.

        Returns how many of them it has dealt with: `pause` is asked after one, two, four events, and so on up to
        `STRIDE`, and then whenever so many more were folded, and ends this early where it says so.

        Raises:
            FishStopped: a reducer raised. The state is that of the event before; the rest was not looked at.
            ValueError: an event is late, and the timeline was not rewound before.
        """
        done = 0
        is_plain = self._is_plain and len(events) >= MANY
        fold = self._fold_plainly if is_plain else self._fold_each
        try:
            while done < len(events):
                if self._folded is _NONE:
                    self._folded = {}
                chunk = events[done : done + CHUNK]
                folded = fold(chunk, pause)
                done += folded
                if folded < len(chunk):
                    break
        finally:
            if self.at is not None:  # a fish at rest holds one event, and not a chunk of them
                self._folding = (self.at,), _OVER
        return done

    def cover(self, offsets: OffsetMap) -> None:
        """Note that every matching event up to these offsets was handed in."""
        self.is_whole = True
        known = self.offsets
        self._covered = offsets if offsets.covers(known) else known.raised(offsets)
        self._folded = _NONE

    def holds(self, key: EventKey) -> bool:
        """Whether the event with this key may be in the state: it sorts neither behind the head nor before a reset."""
        head = self.key
        return head is not None and key <= head and (self._horizon is None or key >= self._horizon)

    def rewind_to(self, key: EventKey) -> EventKey | None:
        """Go back before an event; returns the key behind which everything is to be handed in again.

        None stands for the beginning; a horizon below the event remains, and what sorts before it is skipped. A
        commutative fish, which goes back for what is retracted only, covers nothing then.
        """
        self.is_whole = False
        if self._fish.commutative:
            self._checkpoints.clear()
            self._covered, self._folded = _NOWHERE, _NONE
            return None
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
        self._checkpoints = [Checkpoint(key, state, count)]
        if horizon is not None and (self._horizon is None or horizon > self._horizon):
            self._horizon = horizon
        self.cover(offsets)
        self.is_whole = False

    @property
    def head(self) -> Head[State]:
        """Where somebody else may go on folding."""
        return Head(self._checkpoints[-1] if self._checkpoints else None, self._horizon)

    def begin_at(self, head: Head[State]) -> None:
        """Go on where another timeline stands; this one covers nothing."""
        self._checkpoints = [] if head.checkpoint is None else [head.checkpoint]
        self._horizon = head.horizon
        self._covered, self._folded = _NOWHERE, _NONE

    def grown_since(self, head: Head[State], calls: int) -> Grown[State]:
        """What came of it since it began at a head, when so many calls had been made; takes what was skipped."""
        if self._checkpoints:
            self._prune(self.count)
        fresh = tuple(one for one in self._checkpoints if one is not head.checkpoint)
        skipped, self.skipped = self.skipped, ()
        return Grown(fresh, self._horizon, self.calls - calls, skipped)

    def unfolded(self, events: Iterable[Event]) -> list[Event]:
        """Those of these events, none of them late, that `advance` would call the reducer for."""
        if self._fish.commutative:
            return [event for event in events if not self._covers(event)]
        head, horizon = self.key, self._horizon
        if head is not None:  # it does not sort before the horizon
            return [event for event in events if event.key > head]
        return [event for event in events if horizon is None or event.key >= horizon]

    def adopt(self, grown: Grown[State], events: Iterable[Event]) -> None:
        """Take over what folding these events elsewhere, from this head on, has given."""
        if grown.checkpoints:
            if self._fish.commutative or grown.horizon != self._horizon:
                self._checkpoints = []
            self._horizon = grown.horizon
            self._checkpoints += grown.checkpoints
            self._prune(self.count)
        self.calls += grown.calls
        self.skipped += grown.skipped
        self._folded = dict(self._folded)
        for event in events:
            if event.offset > self._folded.get(event.stream, -1):
                self._folded[event.stream] = event.offset

    def _fold_each(self, events: Sequence[Event], pause: Callable[[], bool] | None) -> int:
        self._folding = events, (rest := iter(events))
        for number, event in enumerate(rest, 1):
            head = self.key
            if self._fish.commutative:
                if not self._covers(event):
                    self._fold(event)
            elif head is None or event.key > head:
                if self._horizon is None or event.key >= self._horizon:
                    self._fold(event)
            else:
                self._require_covered(event)
            if event.offset > self._folded.get(event.stream, -1):
                self._folded[event.stream] = event.offset
            if pause is not None and number in _LOOKS and pause():
                return number
        return len(events)

    def _fold_plainly(self, events: Sequence[Event], pause: Callable[[], bool] | None) -> int:
        """The same for a fish that is nothing special, many times as fast: most of a start's time is spent here.

        `good` is what was given for the last event that is in the state: whatever is raised, and wherever, the state
        is never said to be that of another event.
        """
        is_commutative = self._fish.commutative
        if is_commutative and not self._are_new(events):
            return self._fold_each(events, pause)
        known, events = len(events), events if is_commutative else self._ahead(events)
        known -= len(events)
        if not events:
            return known
        base, state, on_event = self.count, self.state, self._fish.on_event
        end = base + len(events)
        wanted = {end} if is_commutative else _worth_between(base + 1, end)
        fresh, number = list[Checkpoint[State]](), base
        every = given_with(events, self._node)
        self._folding = events, (payloads := iter(every.payloads))
        pairs = zip(payloads, every.metadata, strict=True)
        given = good = None
        try:
            for stop in _stops(wanted, base, len(events), looks=pause is not None):
                for payload, given in islice(pairs, stop - number):
                    try:
                        state = on_event(state, payload, given)
                    except RAISED_BY_STRANGERS as error:
                        self._fail("on_event", error)
                    good = given
                number = stop
                if stop in wanted:
                    fresh.append(Checkpoint(events[stop - base - 1][0], state, stop))
                if pause is not None and pause():
                    break
        finally:
            begun = len(events) - length_hint(payloads)
            self.calls += begun
            folded = begun - (good is not given)
            is_all = folded == len(events)
            self._grow(events[:folded], state, fresh, every.reached if is_all else None)
        return known + folded

    def _ahead(self, events: Sequence[Event]) -> Sequence[Event]:
        """Those behind the head; the others, which come first, must be covered."""
        head = self.key
        if head is None or events[0].key > head:
            return events
        known = 0
        for known, event in enumerate(events):
            if event.key > head:
                return events[known:]
            self._require_covered(event)
        return ()

    def _are_new(self, events: Sequence[Event]) -> bool:
        """Whether none of them is covered: those of a stream come in its order, and so its first one tells."""
        firsts = {event[0][1]: event for event in reversed(events)}
        return not any(map(self._covers, firsts.values()))

    def _require_covered(self, event: Event) -> None:
        if self._is_late(event):
            raise ValueError(f"event {event.key} sorts before the head {self.key}: rewind first")

    def _grow(
        self,
        events: Sequence[Event],
        state: State,
        fresh: list[Checkpoint[State]],
        reached: dict[StreamId, int] | None,
    ) -> None:
        """Stand behind these events; `fresh` are the checkpoints among them that are worth their place."""
        if not events:
            return
        count = self.count + len(events)
        if self._fish.commutative:
            keys = [event.key for event in events] + [one.key for one in self._checkpoints]
            fresh, self._checkpoints = [Checkpoint(max(keys), state, count)], []
        elif not fresh or fresh[-1].number != count:
            fresh.append(Checkpoint(events[-1].key, state, count))
        self._checkpoints += fresh
        if len(self._checkpoints) > self._most:
            self._prune(count)
        for stream, offset in (reached or reached_by(events)).items():
            if offset > self._folded.get(stream, -1):
                self._folded[stream] = offset

    def _is_late(self, event: Event) -> bool:
        head = self.key
        if head is None or event.key > head or self._fish.commutative or self._covers(event):
            return False
        return self._horizon is None or event.key > self._horizon

    def _covers(self, event: Event) -> bool:
        stream, offset = event.stream, event.offset
        return offset <= self._covered.of(stream) or offset <= self._folded.get(stream, -1)

    def _fold(self, event: Event) -> None:
        is_reset, state = self._outcome(event)
        count = 1 if is_reset else self.count + 1
        if self._fish.commutative:
            head = self.key
            key = event.key if head is None else max(head, event.key)
            self._checkpoints = [Checkpoint(key, state, count)]
            return
        if is_reset:
            self._horizon = event.key
            self._checkpoints.clear()
        self._checkpoints.append(Checkpoint(event.key, state, count))
        if len(self._checkpoints) > self._most:
            self._prune(count)

    def _outcome(self, event: Event) -> tuple[bool, State]:
        """Whether an event resets, and the state behind it."""
        if self._upcast is not None:
            try:
                event = self._upcast(event)
            except UpcastFailed as error:
                self._fail("upcaster", error)
                return False, self.state
        if self._fish.mutates:
            event = event._replace(payload=copy.deepcopy(event.payload))
        metadata = Metadata.of(event, self._node)
        is_reset = self._resets(event, metadata)
        return is_reset, self._next(self._fish.initial if is_reset else self.state, event, metadata)

    def _resets(self, event: Event, metadata: Metadata) -> bool:
        if self._fish.is_reset is None:
            return False
        try:
            return bool(self._fish.is_reset(event.payload, metadata))
        except RAISED_BY_STRANGERS as error:
            self._fail("is_reset", error)
            return False

    def _next(self, state: State, event: Event, metadata: Metadata) -> State:
        self.calls += 1
        try:
            if self._examine is not None:
                return self._examine(self._fish, state, event, metadata)
            if self._fish.mutates:
                return self._fish.on_event(copy.deepcopy(state), event.payload, metadata)
            return self._fish.on_event(state, event.payload, metadata)
        except RAISED_BY_STRANGERS as error:
            self._fail("on_event", error)
            return state

    def _fail(self, function: str, error: BaseException) -> None:
        """Stop at the event that is looked at, or note that it is skipped."""
        event = self.at
        assert event is not None, "it failed at an event"
        stopped = FishStopped(self._fish.name, function, event.key, error)
        if self._fish.on_error == "stop":
            raise stopped from error
        self.skipped += (stopped,)

    def _prune(self, count: int) -> None:
        """Weed out the checkpoints. The first stays: below a reset or a restored state there is no other."""
        first, *others = self._checkpoints
        lasting = _lasting(count)
        self._checkpoints = [
            first,
            *(
                one
                for one in others
                if (power := one.number & -one.number) >= lasting
                or count - one.number <= REACH * power
            ),
        ]
        self._most = len(self._checkpoints) + PRUNE_EVERY


def _lasting(count: int) -> int:
    """The least power of two that makes a checkpoint last while there are `count` events. It never falls."""
    return max(DENSE_FROM, 1 << ((count - 1) // SPREAD).bit_length())


def _stops(wanted: set[int], base: int, count: int, *, looks: bool) -> list[int]:
    """Where the folding of `count` events behind `base` comes to a stop: at checkpoints, and to look at the clock."""
    if not looks:
        return sorted(wanted)
    return sorted(wanted.union(base + number for number in _LOOKS if number < count))


def _worth_between(first: int, count: int) -> set[int]:
    """The numbers from `first` to `count` whose checkpoints are kept behind `count` events; the last among them."""
    lasting, power = _lasting(count), 1
    numbers = {count, *range(first + -first % lasting, count + 1, lasting)}
    while power < lasting:
        start = max(first, count - REACH * power)
        numbers.update(range(start + -start % power, count + 1, power))
        power *= 2
    return numbers
