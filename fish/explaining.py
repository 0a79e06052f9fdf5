"""Why a fish has the state it has: the events behind it in order, the state after each, and what came late.

`explain` folds a fish from scratch, beside the running one and without touching it, and keeps the last steps. With `at`
it ends behind that key. With `offsets` it knows no more than these, and so gives what this node believed when it knew
just that: a `Travel` says what a fish covered before and after an event that came late.
"""

from collections import deque
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple

from fish.definition import Fish, State
from fish.errors import FishStopped
from fish.folding import Folding, Here
from fish.log import Log, closing, horizons_behind
from fish.time_slice import TimeSlice
from fish.timeline import Timeline
from lamport.event import Event
from lamport.ids import EventKey, StreamId
from lamport.offsets import OffsetMap

USUAL_STEPS = 100
"""Steps that are kept, if not said otherwise."""

MAX_STEPS = 10_000
"""Most of them: each holds a state."""

KEPT_TRAVELS = 1_000
"""Time travels that a pond remembers, of all its fish together."""


class Travel(NamedTuple):
    """A time travel: an event sorted before the head of a fish and came late, or was retracted.

    `calls` is what going back cost. `before` and `after` are the offsets that the state covered: explained up to these,
    the fish has the states that it had.
    """

    fish: str
    version: int
    late: EventKey
    head: EventKey | None
    calls: int
    before: OffsetMap
    after: OffsetMap


class Travels:
    """The latest time travels of a pond."""

    def __init__(self) -> None:
        self._kept: deque[Travel] = deque(maxlen=KEPT_TRAVELS)

    def add(self, travel: Travel) -> None:
        """Remember one."""
        self._kept.append(travel)

    def of(self, fish: Fish[Any]) -> tuple[Travel, ...]:
        """Those of one fish, oldest first."""
        wanted = fish.name, fish.version
        return tuple(one for one in self._kept if (one.fish, one.version) == wanted)


class Step(NamedTuple, Generic[State]):
    """One event, and the state behind it. `error` says what a reducer raised; the state is then that before it."""

    event: Event
    state: State
    is_reset: bool
    error: str | None


@dataclass(frozen=True, slots=True)
class Explanation(Generic[State]):
    """The last steps to a state, without what is retracted; `left_out` counts those before them that are not shown.

    `offsets` is what was known. `travels` are the time travels of the running fish that its pond remembers. `pruned` is
    the first offset kept, of each stream whose author pruned its beginning and which the fish may select from: the
    running fish may have folded what stood there, and this fold cannot.
    """

    fish: str
    version: int
    where: str
    initial: State
    state: State
    key: EventKey | None
    offsets: OffsetMap
    left_out: int
    steps: tuple[Step[State], ...]
    travels: tuple[Travel, ...]
    pruned: Mapping[StreamId, int]


async def explain(
    log: Log,
    fish: Fish[State],
    travels: Travels,
    here: Here,
    *,
    at: EventKey | None = None,
    offsets: OffsetMap | None = None,
    limit: int = USUAL_STEPS,
) -> Explanation[State]:
    """Fold a fish from scratch and keep the last `limit` steps (1 to 10,000).

    Raises:
        ValueError: the limit is out of bounds.
    """
    if not 0 < limit <= MAX_STEPS:
        raise ValueError(f"an explanation has 1 to {MAX_STEPS} steps, not {limit}")
    known = log.offsets if offsets is None else offsets
    timeline = Timeline(fish, log.node, log.upcasters)
    folding = here.of(fish, lambda: Timeline(fish, log.node, log.upcasters))
    steps: deque[Step[State]] = deque(maxlen=limit)
    count, time_slice = 0, TimeSlice()
    events = _events(log, fish, known)
    try:
        async with aclosing(events):
            async for event in events:
                if at is not None and event.key > at:
                    break
                steps.append(step := await _stepped(folding, timeline, event))
                count += 1
                await time_slice.give_way()
                if step.error is not None and fish.on_error == "stop":
                    break
    finally:
        folding.close()
    return Explanation(
        fish.name,
        fish.version,
        str(fish.where),
        fish.initial,
        timeline.state,
        timeline.key,
        known,
        count - len(steps),
        tuple(steps),
        travels.of(fish),
        horizons_behind(log, fish.where),
    )


async def _events(log: Log, fish: Fish[Any], known: OffsetMap) -> AsyncGenerator[Event, None]:
    pages = log.read(fish.where, upper=known, as_of=known)
    async with closing(pages):
        async for page in pages:
            for event in page:
                yield event


async def _stepped(folding: Folding, timeline: Timeline[State], event: Event) -> Step[State]:
    try:
        await folding.fold(timeline, [event])
    except FishStopped as stopped:
        return Step(event, timeline.state, is_reset=False, error=stopped.text("stops at"))
    skipped, timeline.skipped = timeline.skipped, ()
    error = skipped[-1].text("skips") if skipped else None
    return Step(event, timeline.state, is_reset=timeline.horizon == event.key, error=error)
