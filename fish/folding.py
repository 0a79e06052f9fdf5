"""Where a fish's events are folded: in the event loop, a slice of time at a time, or in a cell of its own.

The way of a datum. A running fish hands over its timeline and events that are due. `Here` folds them in the loop, and
lets others run every few milliseconds, in the middle of a page, too. `Apart` sends them to a cell, in portions; there a
`Folder` goes on from the head that it has from before or is sent along, and what comes back (states at the checkpoints
that are worth their place, resets, skipped events) is taken over into the timeline. So the cell holds nothing that
could be lost with it: where it must be killed, or dies, the fish stands where it stood, and the next cell goes on from
there. One that dies may have been the victim of others, and is given another try; then its fish stops, at the state
before the event that it died of.
"""

import asyncio
import pickle
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic, NamedTuple, Protocol

from fish.definition import Fish, State
from fish.errors import FishStopped, IsolationError, Lost, Overran
from fish.oversight import Cell, Mark, Oversight
from fish.reports import Report, ReportKind, Reports
from fish.time_slice import TimeSlice
from fish.timeline import Grown, Head, Timeline
from lamport.event import Event

PORTION_EVENTS = 256
"""Events that are sent to a cell at a time: enough to make the way worth it, and few states to send back."""

LIVES = 2
"""Cells that may die of one portion of events before it is the fish's fault."""


class Folding(Protocol):
    """Folds events into timelines of one fish."""

    async def fold(self, timeline: Timeline[Any], events: Iterable[Event]) -> None:
        """Fold all of them.

        Raises:
            FishStopped: a reducer raised, or took too long; the state is that before the event.
        """
        ...

    def close(self) -> None:
        """Nothing will be folded any more."""
        ...


class Here:
    """Folds in the event loop; one for all fish of a pond."""

    __slots__ = ("_oversight", "_reports")

    def __init__(self, oversight: Oversight, reports: Reports) -> None:
        self._oversight = oversight
        self._reports = reports

    def of(self, fish: Fish[Any], new_timeline: Callable[[], Timeline[Any]]) -> Folding:
        """How this fish is folded."""
        if not fish.isolated:
            return self
        return Apart(fish, self._oversight.isolated(Folder(new_timeline()), f"fish {fish.name!r}"))

    async def fold(self, timeline: Timeline[Any], events: Iterable[Event]) -> None:
        """See `Folding.fold`. It looks at the clock behind a few events, and behind the very first of a slice."""
        rest = list(events)
        while len(rest) > (done := self._slice(timeline, rest)):
            rest = rest[done:]
            await asyncio.sleep(0)  # it waits for nothing, it lets others run

    def close(self) -> None:
        """There is nothing to close."""

    def _slice(self, timeline: Timeline[Any], events: Sequence[Event]) -> int:
        """Fold for a slice of time; returns how many of the events were dealt with."""
        fish = timeline.fish

        def place() -> str:
            return _place(fish, timeline.at)

        def told(text: str) -> None:
            key = None if timeline.at is None else timeline.at.key
            self._reports.add(Report(fish.name, fish.version, ReportKind.OVERRAN, key, text))

        try:
            return self._oversight.watched(
                lambda: timeline.advance(events, pause=TimeSlice().is_over), place, told
            )
        except Overran as overran:
            assert timeline.at is not None, "it overran at an event"
            raise FishStopped(fish.name, "on_event", timeline.at.key, overran) from overran


class Portion(NamedTuple, Generic[State]):
    """What a cell is sent. Without a head it goes on where it stands."""

    head: Head[State] | None
    events: Sequence[Event]


class Folded(NamedTuple, Generic[State]):
    """What comes back. `is_same` says that the newest state is still the one of the head, the very same object."""

    grown: Grown[State]
    is_same: bool
    stopped: FishStopped | None


class Folder(Generic[State]):
    """The work of a cell: a timeline that knows no more than its head."""

    def __init__(self, timeline: Timeline[State]) -> None:
        self._timeline = timeline

    def __call__(self, portion: Portion[State], mark: Mark) -> Folded[State]:
        """Fold a portion; `mark` counts its events."""
        timeline = self._timeline
        head = portion.head or timeline.head
        timeline.begin_at(head)
        before, calls, stopped = timeline.state, timeline.calls, None
        try:
            for number, event in enumerate(portion.events):
                mark(number)
                timeline.advance((event,))
        except FishStopped as error:
            stopped = _sendable(error)
        grown = timeline.grown_since(head, calls)
        skipped = tuple(map(_sendable, grown.skipped))
        is_same = timeline.state is before
        timeline.begin_at(timeline.head)
        return Folded(grown._replace(skipped=skipped), is_same, stopped)


class Apart:
    """Folds in a cell."""

    __slots__ = ("_cell", "_fish", "_known", "_life")

    def __init__(self, fish: Fish[Any], cell: Cell[Portion[Any], Folded[Any]]) -> None:
        self._fish = fish
        self._cell = cell
        self._known: Head[Any] | None = None
        self._life = cell.life

    async def fold(self, timeline: Timeline[Any], events: Iterable[Event]) -> None:
        """See `Folding.fold`."""
        every = list(events)
        for start in range(0, len(every), PORTION_EVENTS):
            await self._fold(timeline, every[start : start + PORTION_EVENTS])

    def close(self) -> None:
        """Let the cell go."""
        self._cell.close()

    async def _fold(self, timeline: Timeline[Any], events: Sequence[Event]) -> None:
        due = timeline.unfolded(events)
        stopped = await self._tried(timeline, due) if due else None
        if stopped is not None:
            raise stopped
        timeline.adopt(_NOTHING, events)

    async def _tried(self, timeline: Timeline[Any], due: Sequence[Event]) -> FishStopped | None:
        """As `_ask`, in another cell where one dies."""
        for life in range(1, LIVES + 1):
            try:
                return await self._ask(timeline, due)
            except IsolationError as error:
                raise FishStopped(self._fish.name, "isolation", due[0].key, error) from error
            except Lost as lost:
                if lost.stood_still or life == LIVES:
                    await self._give_up(timeline, due, lost)
        return None

    async def _give_up(self, timeline: Timeline[Any], due: Sequence[Event], lost: Lost) -> None:
        """Fold what came before the event it was lost at, in another cell; then stop."""
        cause = Overran(str(lost)) if lost.stood_still else lost
        stopped = FishStopped(self._fish.name, "on_event", due[lost.mark].key, cause)
        if lost.mark:
            try:
                await self._ask(timeline, due[: lost.mark])
            except (
                Lost,
                IsolationError,
            ):  # it is a matter of chance: where the fish stands now is good, too
                raise stopped from cause
        raise stopped from cause

    async def _ask(self, timeline: Timeline[Any], due: Sequence[Event]) -> FishStopped | None:
        """Have events folded, and take over what came of it; returns why no more than some of them could be."""
        head, state = timeline.head, timeline.state
        is_known = self._life == self._cell.life and _is_it(self._known, head)
        portion = Portion(None if is_known else head, due)
        folded = await self._cell.ask(portion, lambda mark: _place(self._fish, due[mark]))
        self._life = self._cell.life
        grown = folded.grown
        if folded.is_same and grown.checkpoints:
            *others, last = grown.checkpoints
            grown = grown._replace(checkpoints=(*others, last._replace(state=state)))
        stopped = folded.stopped
        done = due if stopped is None else [one for one in due if one.key < stopped.key]
        timeline.adopt(grown, done)
        self._known = timeline.head
        return stopped


_NOTHING: Grown[Any] = Grown((), None, 0, ())


def _is_it(known: Head[Any] | None, head: Head[Any]) -> bool:
    """Whether a head is the very one that a cell stands at: equal states may differ in what cannot be seen."""
    if known is None or known.horizon != head.horizon:
        return False
    return known.checkpoint is head.checkpoint


def _place(fish: Fish[Any], at: Event | None) -> str:
    return f"fish {fish.name!r} at event {'?' if at is None else at.key}"


def _sendable(stopped: FishStopped) -> FishStopped:
    """An error that survives the way out of its process: its cause may be of a class that does not."""
    cause = stopped.__cause__
    try:
        pickle.loads(pickle.dumps(cause))  # noqa: S301 - it was made here
    except Exception:  # noqa: BLE001 - whatever its class raises
        cause = IsolationError(f"{type(cause).__name__}: {cause}")
    return FishStopped(stopped.fish, stopped.function, stopped.key, cause)
