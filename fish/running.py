"""One running fish: the timeline, kept up to date with the log.

The way of a datum. The feed hands the fish what concerns it (`hand`), and that waits in an inbox. A task, which lives
only as long as there is something to do, takes the inbox as one piece, folds it in, and only then shows the new state:
to those who wait for it (`covering`) and to the observations. An event that arrived late sends the task back to a
checkpoint, and it reads everything from there on again; whatever arrived meanwhile waits in the inbox and is taken in
at once. So there is one replay for a whole catch-up, and nobody sees a state in between. An event that was folded and
is retracted sends the task back in the same way, to before it.

The inbox is bounded. When it overflows it is thrown away, and the task reads what it missed from the log. A long replay
yields to the event loop every few milliseconds, in the middle of a page, too (`fish.folding`). Snapshots are stored by
another task, one writing after the other, while this one goes on.

A fish that rests costs its state, its checkpoints and no task; it covers all that the feed has heard. It never reads
further than the feed has heard: whatever is hidden of what it has folded is told by the feed, once, and by nobody else.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Generic

from fish.definition import Fish, State
from fish.dues import Dues
from fish.errors import FishStopped, PondClosed
from fish.explaining import Travel
from fish.log import closing, first_of, horizons_behind
from fish.news import News
from fish.observation import Held, Observation, held, present
from fish.purity import examined
from fish.reports import Report, ReportKind
from fish.snapshots import Chosen, Snapshot, SnapshotShelf
from fish.surroundings import Surroundings
from fish.timeline import Checkpoint, Timeline
from lamport.errors import DamagedEvent
from lamport.event import Event
from lamport.ids import EventKey, StreamId
from lamport.offsets import OffsetMap
from lamport.reader import Order

Task = asyncio.Task[None]
Rest = Callable[[Task], object]
"""Is called when a task is over."""

_LOGGER = logging.getLogger("shoal.fish")


class RunningFish(Generic[State]):
    """A fish that runs in a pond."""

    __slots__ = (
        "_around",
        "_calls",
        "_changed",
        "_current",
        "_dues",
        "_ended",
        "_feed",
        "_folding",
        "_is_due",
        "_is_hydrated",
        "_log",
        "_news",
        "_observations",
        "_owes_end",
        "_shelf",
        "_task",
        "_timeline",
        "_waiting",
        "changes",
        "fish",
        "keepers",
        "stopped",
        "version",
    )

    def __init__(self, fish: Fish[State], around: Surroundings) -> None:
        self.fish = fish
        self.version = 0
        """Rises whenever there is something to tell …"""
        self.changes = 0
        """… and with each new state."""
        self.stopped: FishStopped | None = None
        self.keepers = 0
        """How many standing effects there are on it."""
        self._around = around
        self._log = around.log
        self._feed = around.feed
        self._timeline = self._new_timeline()
        self._folding = around.here.of(fish, self._new_timeline)
        self._shelf = SnapshotShelf(fish, around.log, around.oversight, around.ahead)
        self._current: Snapshot[State] | None = None
        self._calls, self._dues = 0, Dues(around.limits)
        self._news: News | None = None
        self._ended: BaseException | None = None
        self._observations: tuple[Held, ...] = ()
        self._task: Task | None = None
        self._is_due = False
        self._is_hydrated = False
        self._owes_end = False
        self._waiting = 0
        self._changed: asyncio.Future[None] | None = None

    @property
    def state(self) -> State:
        """The state shown last; only behind the first (`version` above 0)."""
        return self._current.state if self._current is not None else self.fish.initial

    @property
    def is_ended(self) -> bool:
        """Whether the fish runs no more."""
        return self._ended is not None

    @property
    def is_idle(self) -> bool:
        """Whether nobody watches it or waits for it, and it has nothing to do."""
        is_watched = any(present(self._observations))
        return not (is_watched or self.keepers or self._waiting or self.is_busy)

    @property
    def is_busy(self) -> bool:
        """Whether there is something to fold, or to show."""
        is_working = self._task is not None and not self._task.done()
        return is_working or self._news is not None or self._is_due

    @property
    def pruned(self) -> Mapping[StreamId, int]:
        """The horizons behind which there may have been events that this fish selects, and that nobody keeps."""
        return horizons_behind(self._log, self.fish.where)

    @property
    def calls(self) -> int:
        """Reducer calls so far."""
        return self._timeline.calls

    def snapshot(self) -> Snapshot[State] | None:
        """The current state and all that it covers by now; None as long as there is no state."""
        current = self._current
        if current is None:
            return None
        heard = self._feed.offsets
        if self._is_at_rest and not current.offsets.covers(heard):
            # Nothing that the feed has heard meanwhile concerns it.
            offsets = heard if heard.covers(current.offsets) else current.offsets.raised(heard)
            current = self._current = replace(current, offsets=offsets)
        if not self._feed.is_catching_up:
            return current
        if self._ended is None:
            self._feed.provisional[self] = None
        return replace(current, provisional=True)

    @property
    def _is_at_rest(self) -> bool:
        """Whether it has folded all that concerns it of what the feed has heard.

        A task that is done may have been cancelled in mid-replay, and `_rest` has not seen it yet; a fish that has
        ended is handed nothing any more.
        """
        has_ended = self._ended is not None or self.stopped is not None
        return self._task is None and not has_ended and not self.is_busy

    async def changed(self) -> None:
        """Wait for the next state, or an end."""
        if self._changed is None:
            self._changed = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._changed)

    def start(self) -> None:
        """Fold what the log holds, as soon as the task has its turn."""
        self._is_due = True
        self._rouse()

    def revive(self) -> None:
        """Begin again, if it stopped because the disk had lost an event: it has been mended."""
        if self.stopped is not None and isinstance(self.stopped.__cause__, DamagedEvent):
            self.stopped = None
            self._timeline = self._new_timeline()
            self._calls, self._dues = 0, Dues(self._around.limits)
            self._is_hydrated = False
            self.start()

    def hand(
        self,
        events: list[Event],
        offsets: OffsetMap,
        retracted: list[EventKey],
        *,
        renamed: bool = False,
    ) -> None:
        """Take note of events that concern this fish, and of those hidden from now on. Never waits."""
        if self.stopped is not None:
            return
        if self._news is None:
            self._news = News()
        self._news.add(events, offsets, self._around.limits.waiting_events)
        self._news.renamed = self._news.renamed or renamed
        if retracted:
            self._news.withdraw(retracted)
        if self._may_fold:
            self._rouse()
        else:
            self._feed.held[self] = None

    def stir(self) -> None:
        """Fold what was held back; let those who wait look again."""
        if self._news is not None:
            self._rouse()
        if self._waiting:
            self.pulse()

    def watch(self, observation: Observation[State]) -> None:
        """Deliver to this observation from the next turn of the task on."""
        self._observations = (*map(held, present(self._observations)), held(observation))
        self._is_due = True
        self._rouse()

    def forget(self, observation: Observation[State]) -> None:
        """Deliver no more to this observation, and let it see that it was cancelled."""
        others = (one for one in present(self._observations) if one is not observation)
        self._observations = tuple(map(held, others))
        self.pulse()
        self.settle()

    def confirm(self) -> None:
        """Tell the state once more, unless there is a new one first: what was provisional about it is over."""
        if self._current is not None and self.stopped is None:
            self._owes_end = self._is_due = True
            self._rouse()

    async def covering(self, offsets: OffsetMap) -> Snapshot[State]:
        """Wait for a state that covers these offsets.

        Raises:
            FishStopped: a reducer raised.
            PondClosed: the pond was closed before.
        """
        while True:
            if self.stopped is not None:
                raise self.stopped.again()
            snapshot = self.snapshot()
            stands = snapshot is not None and self._stands(snapshot.offsets)
            if snapshot is not None and stands:
                target = self._log.named_now(offsets)
                if snapshot.offsets.covers(target):
                    return snapshot
            if self._ended is not None:
                raise PondClosed(f"fish {self.fish.name!r} ended") from self._ended
            await self._progress()

    async def live(self) -> None:
        """Do what there is to do. An error of the log ends the fish, a reducer's only stops it."""
        try:
            while self._has_work:
                self._is_due = False
                if self.stopped is None:
                    await self._work()
                    self._tell_end()
                self._deliver()
            if self._news is not None:
                self._feed.held[self] = None
        except FishStopped as stopped:
            self._stop(stopped)
        except DamagedEvent as damaged:
            # The disk lost an event that it needs: a state without it would be another one. The others go on.
            self._stop(FishStopped(self.fish.name, "log", damaged.key, damaged))

    def end(self, cause: BaseException) -> None:
        """Let everybody who waits know that the fish runs no more."""
        if self._ended is None:
            self._ended = cause
            self._folding.close()
            self._feed.leave(self)
            self.pulse()

    async def save(self) -> None:
        """Store the state shown last as a snapshot, unless that was done or the fish stopped."""
        await self._shelf.written()
        snapshots = self._unsaved()
        if snapshots:
            try:
                await self._write(self._shelf.begin(*snapshots), self._dues, self._calls)
            finally:
                self._shelf.end()

    def settle(self) -> None:
        """Somebody who had a use for it has gone: let it be known where he was the last."""
        if self._ended is None and self.is_idle:
            self._around.fell_idle(self.fish.name, self.fish.version)

    def pulse(self) -> None:
        """Let everybody who waits in `changed` look again."""
        changed, self._changed = self._changed, None
        if changed is not None and not changed.done():
            changed.set_result(None)

    @property
    def _may_fold(self) -> bool:
        """Whether news is folded now: in a catch-up only for those who wait."""
        return self._waiting > 0 or not self._feed.is_holding

    @property
    def _has_work(self) -> bool:
        return self._is_due or (self._news is not None and self._may_fold)

    def _new_timeline(self) -> Timeline[State]:
        # A reducer that says it mutates is given copies, and may change them.
        is_examined = self._around.development and not self.fish.mutates
        examine = examined if is_examined else None
        return Timeline(self.fish, self._log.node, self._log.upcasters, examine)

    def _rouse(self) -> None:
        """See that a task is at work.

        One that is done, and not seen by `_rest` yet, may have been cancelled in mid-replay: nobody goes on there.
        """
        if self._ended is None and self._task is None:
            self._task = self._spawn(self.live(), "", self._rest)

    def _spawn(self, work: Coroutine[Any, Any, None], what: str, rest: Rest) -> Task | None:
        """Start a task; None where the pond breaks down, and this fish has ended with it."""
        try:
            task = self._around.spawn(work, f"{what}fish {self.fish.name}")
        except PondClosed as closed:
            self.end(closed)
            return None
        task.add_done_callback(rest)
        return task

    def _rest(self, task: Task) -> None:
        self._task = None
        if task.cancelled():
            self.end(PondClosed("the pond was closed"))
        elif (error := task.exception()) is not None:
            self.end(error)
        elif self._has_work:
            self._rouse()
        elif self._waiting:
            self.pulse()  # at rest it covers more than when it showed its state
        else:
            self.settle()

    async def _progress(self) -> None:
        """Wait until the state or what it covers may have changed; what is held back for a catch-up is folded."""
        self._waiting += 1
        self._feed.waiting[self] = None
        self._feed.held.pop(self, None)
        if self._news is not None:
            self._rouse()
        try:
            if self._ended is None:  # the pond may have been found to break down
                await self.changed()
        finally:
            self._waiting -= 1
            if not self._waiting:
                self._feed.waiting.pop(self, None)
                self.settle()

    def _tell_end(self) -> None:
        """Let a catch-up's end be told where no new state told it. Effects are not applied again."""
        if not self._owes_end:
            return
        self._owes_end = False
        if self._feed.is_catching_up:
            self._feed.provisional[self] = None
        else:
            self.version += 1
            self.pulse()

    async def _work(self) -> None:
        if not self._is_hydrated:
            await self._hydrate()
        await self._catch_up()

    async def _hydrate(self) -> None:
        """Fold what the feed has heard until now. A reducer that raises here lets no state be seen."""
        target = self._feed.offsets
        self._news = None  # it is in what is read
        after = await self._restore(target)
        if self._shelf.was_redefined:
            self._report(
                ReportKind.REDEFINED,
                None,
                f"fish {self.fish.name!r}: selection, initial state or code is not what version {self.fish.version} was"
                " when its snapshots were kept; they are left aside: give it a higher version, unless it is the"
                " upcasters that changed",
            )
        await self._replay(after, target)
        self._is_hydrated = True
        self._show()
        self._save_meanwhile()

    async def _catch_up(self) -> None:
        while (news := self._news) is not None and self._may_fold:
            self._news = None
            await self._take_in(news)
            self._show()
            self._save_if_due()

    def _save_if_due(self) -> None:
        if self._dues.is_due(self._calls, self._shelf.encoded_bytes):
            self._save_meanwhile()

    def _save_meanwhile(self) -> None:
        """As `save`, while the fish goes on: who waits for the next state does not wait for the disk."""
        if not self._shelf.is_writing and (snapshots := self._unsaved()):
            writing = self._write(self._shelf.begin(*snapshots), self._dues, self._calls)
            if self._spawn(writing, "snapshot of ", self._written) is None:
                self._shelf.end()

    def _written(self, task: Task) -> None:
        """A writing is over; while it was under way so much may have been folded that the next is due."""
        self._shelf.end()
        if self._ended is None and not task.cancelled() and task.exception() is None:
            self._save_if_due()

    def _unsaved(self) -> tuple[Snapshot[State], Sequence[Checkpoint[State]]] | None:
        """The state shown last and the checkpoints behind it, if there is anything to store."""
        current, timeline = self._current, self._timeline
        if current is None or self.stopped is not None or self._dues.is_saved(self._calls):
            return None
        if not timeline.is_whole:
            return None  # what was shown does not hold any more, and what will is under way
        is_head = timeline.key == current.key and timeline.state is current.state
        return current, timeline.kept() if is_head else ()

    async def _write(self, chosen: Chosen[State], dues: Dues, calls: int) -> None:
        async with self._around.turns_to_save:
            dues.tried(calls, is_stored=await self._shelf.write(chosen))

    async def _take_in(self, news: News) -> None:
        """Fold the news in.

        The target is what is covered already and the news together: a follower that lags may not yet have handed over
        what hydration has read.
        """
        reached = self._timeline.offsets.raised(news.offsets)
        target = self._log.named_now(reached)
        if (
            news.renamed or target != reached
        ):  # what is to be told of that comes later: see `Log.named_now`
            await self._refold(target)
            return
        folded = [key for key in news.retracted if self._timeline.holds(key)]
        late: EventKey | None
        if folded:
            late = await self._first_changed(news, min(folded), target)
        elif news.is_complete:
            late = await self._advance(sorted(news.events, key=lambda event: event.key))
        else:
            late = await self._read_missed(target)
        if late is not None:
            await self._travel(late, target)
        self._timeline.cover(target)

    async def _first_changed(self, news: News, retracted: EventKey, target: OffsetMap) -> EventKey:
        """The lowest key from which the fold is another one: of what is retracted, or of what arrived late.

        Nothing is folded on before that: a reducer must not stumble over what is hidden already.
        """
        late = self._timeline.late(news.events)
        if not news.is_complete:
            first = await first_of(self._missed(target))
            late = None if first is None else first.key
        return retracted if late is None else min(retracted, late)

    def _missed(self, target: OffsetMap) -> AsyncIterator[Sequence[Event]]:
        """What is not covered."""
        covered = self._timeline.offsets
        return self._log.read(self.fish.where, lower=covered, upper=target, as_of=target)

    async def _refold(self, target: OffsetMap) -> None:
        """Begin anew, from a snapshot that holds or from nothing: what was folded may stand elsewhere in the order."""
        _LOGGER.debug("fish %r folds anew: a stream has two histories", self.fish.name)
        self._timeline = self._new_timeline()
        self._dues = Dues(self._around.limits)
        await self._replay(await self._restore(target), target)
        self._timeline.cover(target)

    async def _read_missed(self, target: OffsetMap) -> EventKey | None:
        """Read what is not covered. The first event tells whether any is late."""
        pages = self._missed(target)
        async with closing(pages):
            async for page in pages:
                late = await self._advance(page)
                if late is not None:
                    return late
        return None

    async def _advance(self, events: Sequence[Event]) -> EventKey | None:
        """Fold events, unless one is late: then return its key. What came before a poison event is shown."""
        late = self._timeline.late(events)
        if late is None:
            try:
                await self._fold(events)
            except FishStopped:
                self._show()
                raise
        return late

    async def _travel(self, key: EventKey, target: OffsetMap) -> None:
        """Go back before an event that is late or retracted, and fold everything from there up to the target."""
        _LOGGER.debug("fish %r goes back before %s", self.fish.name, key)
        head, before, calls = self._timeline.key, self._timeline.offsets, self._timeline.calls
        self._shelf.spoil(key)
        after = self._timeline.rewind_to(key)
        if after is None:
            after = await self._restore(target)
        await self._replay(after, target)
        cost = self._timeline.calls - calls
        self._around.travels.add(
            Travel(self.fish.name, self.fish.version, key, head, cost, before, target)
        )

    async def _restore(self, target: OffsetMap) -> EventKey | None:
        """Start from the newest stored snapshot that holds, or from a reset behind it; returns its key."""
        snapshot = await self._shelf.newest(target)
        reset = await self._newest_reset(target)
        if reset is not None and (
            snapshot is None or snapshot.key is None or reset.key > snapshot.key
        ):
            await self._fold([reset])
            return reset.key
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

    async def _newest_reset(self, target: OffsetMap) -> Event | None:
        """The newest reset event, found by its tags; None where the fish has not said which these are."""
        if self.fish.reset_where is None:
            return None
        resets = self.fish.where & self.fish.reset_where
        pages = self._log.read(resets, upper=target, as_of=target, order=Order.DESCENDING)
        return await first_of(pages)

    async def _replay(self, after: EventKey | None, target: OffsetMap) -> None:
        lower = self._timeline.offsets if self.fish.commutative else None
        bound = None if self.fish.commutative else after
        pages = self._log.read(
            self.fish.where, after=bound, lower=lower, upper=target, as_of=target
        )
        async with closing(pages):
            async for page in pages:
                await self._fold(page)
        self._timeline.cover(target)

    async def _fold(self, events: Iterable[Event]) -> None:
        """Fold events; what was skipped is reported."""
        await self._folding.fold(self._timeline, events)
        skipped, self._timeline.skipped = self._timeline.skipped, ()
        for one in skipped:
            self._report(ReportKind.SKIPPED, one.key, one.text("skipped"))

    def _show(self) -> None:
        """Make the timeline's state the current one, and tell. A state that is the same object is no news."""
        timeline = self._timeline
        if not (timeline.is_whole and self._stands(timeline.offsets)):
            return
        if self._current is None or timeline.state is not self._current.state:
            self.version += 1
            self.changes += 1
            self._owes_end = False
        if self._feed.is_catching_up:
            self._feed.provisional[self] = None
        self._current = Snapshot(
            timeline.state, timeline.key, timeline.offsets, timeline.horizon, timeline.count
        )
        self._calls = timeline.calls
        self.pulse()
        self._deliver()

    def _stands(self, offsets: OffsetMap) -> bool:
        """Whether nothing up to there was withdrawn, or stands elsewhere; else the fish is about to hear of that."""
        now = self._log.named_now(offsets)
        return now is offsets or now == offsets

    def _stop(self, stopped: FishStopped) -> None:
        _LOGGER.error("%s", stopped, exc_info=stopped.__cause__)
        self.stopped = stopped
        self._news = None
        self._report(ReportKind.STOPPED, stopped.key, str(stopped))
        self.pulse()
        self._deliver()

    def _report(self, kind: ReportKind, key: EventKey | None, text: str) -> None:
        self._around.reports.add(Report(self.fish.name, self.fish.version, kind, key, text))

    def _deliver(self) -> None:
        for observation in present(self._observations):
            observation.deliver()
