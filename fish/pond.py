"""Where fish live: observe them, ask for their state, act on it.

One follower of the log feeds all running fish, each with what concerns it. The first call that names a fish starts it:
it folds what the log holds and is kept up to date. Fish are known by name and version, and of each there is one running
fold, whoever asks. Of those that nobody watches so many are kept; the others go, and come back from their snapshots.

Everything the pond starts lives in the task group that it was given. An error of the log ends the group: it is the
node's end. An error in a reducer stops that one fish and nothing else.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from typing import Any, Generic

from fish.ahead import Ahead
from fish.collection import Collection, FirstNamed, GroupKey, Groups, MakeFish, Work
from fish.definition import Fish, OnEvent, State
from fish.effects import Effect, EffectQueue
from fish.errors import FishConflict, FishStopped, PondClosed
from fish.explaining import USUAL_STEPS, Explanation, Travel, Travels, explain
from fish.feed import Feed
from fish.folding import Here
from fish.log import Follower, Log
from fish.lookout import (
    BestMatch,
    Chunk,
    Reduced,
    ShouldReplace,
    is_earlier,
    is_later,
    query_chunks,
)
from fish.observation import Observation
from fish.oversight import NO_OVERSIGHT, Oversight
from fish.reports import Activity, Report, Reports
from fish.residents import Residents
from fish.running import RunningFish
from fish.shown import Shown
from fish.snapshots import Snapshot
from fish.standing import OnError, StandingEffect
from fish.surroundings import Limits, Surroundings
from lamport.errors import DamagedEvent, LogClosed
from lamport.event import Event
from lamport.ids import EventKey
from lamport.offsets import OffsetMap
from lamport.reader import Order
from lamport.tags import Where

_LOGGER = logging.getLogger("shoal.fish")


class _Resident(Generic[State]):
    """A running fish and its effects."""

    __slots__ = ("effects", "running", "work")

    def __init__(self, running: RunningFish[State]) -> None:
        self.running = running
        self.effects: EffectQueue[State] | None = None
        self.work: asyncio.Task[None] | None = None

    @property
    def is_idle(self) -> bool:
        """Whether nobody has any use for it now."""
        return self.running.is_idle and (self.effects is None or not self.effects.is_in_use)


Token = Event | tuple[Event, ...] | OffsetMap
"""What a state can be asked to cover: published events, or offsets."""

USUAL = Limits()
"""The bounds of a fish, unless a pond is given others."""


class Pond:
    """The fish of one node."""

    def __init__(
        self,
        log: Log,
        tasks: asyncio.TaskGroup,
        *,
        limits: Limits | None = None,
        oversight: Oversight = NO_OVERSIGHT,
        development: bool = False,
    ) -> None:
        """Run fish on this log; the group must be entered when the first fish is named, and outlive the pond.

        Every call of a reducer, factory, comparison or (de)serializing function goes through `oversight`, which
        interrupts one that holds up the node.

        In `development` every call of a reducer is examined for purity, which takes many times as long: one that
        changes what it is given, asks the clock or for chance, or leans on the order of a set stops its fish, and the
        line is named.
        """
        self._log = log
        self._limits = limits or USUAL
        self.oversight = oversight
        """Every call of a reducer, and of what else is a function of events or states only, goes through this."""
        self._group = tasks
        self._tasks: dict[asyncio.Task[None], None] = {}
        self._residents: Residents[_Resident[Any]] = Residents(self._limits.idle_fish)
        self._feed = Feed(log.node, log.offsets)
        self._reports = Reports()
        self._travels = Travels()
        self._here = Here(oversight, self._reports)
        self._around = Surroundings(
            log,
            self._limits,
            self._feed,
            self._start,
            self._fell_idle,
            self._reports,
            self._travels,
            self._here,
            asyncio.Semaphore(self._limits.snapshots_at_once),
            Ahead(),
            oversight,
            development,
        )
        self._is_fed = False
        self._is_evicting = False
        self._closed: asyncio.Future[None] | None = None

    @property
    def running(self) -> tuple[str, ...]:
        """The names of the fish that run here, sorted."""
        return tuple(sorted({name for name, _ in self._residents.all}))

    @property
    def stopped(self) -> Mapping[str, str]:
        """The fish whose reducer raised, by name, and what happened."""
        residents = [
            resident.running for _, resident in sorted(self._residents.all.items(), key=_by_name)
        ]
        return {one.fish.name: str(one.stopped) for one in residents if one.stopped is not None}

    @property
    def activity(self) -> Activity:
        """What this pond is at, at this moment."""
        residents = self._residents.all.values()
        alive = [one.running for one in residents if one.running.stopped is None]
        return Activity(
            fish=len(self._residents),
            starting=sum(not one.version for one in alive),
            folding=sum(one.version > 0 and one.is_busy for one in alive),
            effects=sum(len(one.effects) for one in residents if one.effects is not None),
            is_catching_up=self._feed.is_catching_up,
        )

    def revive(self) -> None:
        """Let fish go on that stopped because the disk had lost an event: it has been mended."""
        for resident in self._residents.all.values():
            resident.running.revive()

    @property
    def reports(self) -> tuple[Report, ...]:
        """What the fish had to report: stops, skipped events, code that changed without its version; oldest first."""
        return self._reports.all

    def on_report(self, listener: Callable[[Report], object] | None) -> None:
        """Call this with each report from now on, in the place of an earlier listener."""
        self._reports.listener = listener

    def find(self, name: str, version: int | None = None) -> Fish[Any] | None:
        """The running fish of this name and version, by default of its highest version; None where there is none."""
        versions = [
            one for known, one in self._residents.all if known == name and version in (None, one)
        ]
        return self._residents.all[name, max(versions)].running.fish if versions else None

    def observe(
        self,
        fish: Fish[State],
        callback: Callable[[State], object] | None = None,
        on_stop: Callable[[FishStopped], object] | None = None,
        *,
        changes_only: bool = False,
    ) -> Observation[State]:
        """Watch a fish; iterate over what this returns, or be called back.

        `callback` gets the current state once the fish has folded what is known, then the state after each batch that
        changed it; never a state in the middle of a replay, and never before this method has returned. It is a plain
        function; if it raises, that is logged and ends this observation. `on_stop` is called once if a reducer
        raises, after the last good state. Without callbacks nothing is called; iterate. With `changes_only` a state
        that equals the one before is not told. What a state covers stands in the observation's `snapshot`.

        Raises:
            FishConflict: a different fish runs under this name and version.
            PondClosed: the pond is closed.
        """
        running = self._resident(fish).running
        observation = Observation(running, callback, on_stop, changes_only=changes_only)
        running.watch(observation)
        return observation

    async def current_state(self, fish: Fish[State], after: Token | None = None) -> State:
        """The fish's state, covering all that the log held at the call: one's own publishings are in it.

        With `after`, what publishing returned here or on another node (or an offset map), it waits until that has
        arrived and is covered, too.

        Raises:
            FishStopped: a reducer raised, now or before.
            FishConflict, PondClosed: as in `observe`.
        """
        return (await self.snapshot(fish, after)).state

    async def snapshot(self, fish: Fish[State], after: Token | None = None) -> Snapshot[State]:
        """The fish's state with its key and the offsets it covers; covers and raises as `current_state`."""
        target = self._log.offsets
        if after is not None:
            target = target.raised(_offsets_of(after))
        return await self._resident(fish).running.covering(target)

    async def explain(
        self,
        fish: Fish[State],
        *,
        at: EventKey | None = None,
        offsets: OffsetMap | None = None,
        limit: int = USUAL_STEPS,
    ) -> Explanation[State]:
        """Why a fish has its state: the last events behind it, the state after each, and what came late.

        With `at` the explanation ends behind that key. With `offsets` it is about the moment when this node knew just
        that; the offsets around each time travel stand in the explanation.

        Raises:
            ValueError: the limit is out of bounds.
        """
        return await explain(
            self._log, fish, self._travels, self._here, at=at, offsets=offsets, limit=limit
        )

    def travels(self, fish: Fish[Any]) -> tuple[Travel, ...]:
        """The time travels of a fish that this pond remembers, oldest first."""
        return self._travels.of(fish)

    def catching_up(self) -> AbstractContextManager[None]:
        """Announce that many events are about to come: while the context is open they are held, and folded once.

        Those who ask for a state meanwhile get one that covers what is known, marked provisional. Nobody waits for
        longer than a second in which nothing comes, or ten in all: then what has come is folded and shown, as
        provisional, and whatever comes later as it comes. When the context is left, what was shown as provisional
        is shown once more. Several may overlap, and count as one from the first to the last: the ten seconds are
        those since the first. So whoever announces the catch-up with a peer that trickles leaves the context when that
        is found out, and does not announce it again.
        """
        return self._feed.catching_up(lambda: self._log.offsets)

    async def run(self, fish: Fish[State], effect: Effect[State]) -> tuple[Event, ...]:
        """Run a state effect when those before it on this fish are done; returns what it published.

        `effect(state, enqueue)` gets a state that covers all the log held when its turn came. What it enqueues is
        published in one piece after it has returned. Cancelling the caller withdraws an effect that has not begun;
        one that has begun completes regardless. An effect must not wait for another one on the same fish.

        Raises:
            FishStopped: a reducer raised; the effect was not run.
            FishConflict, PondClosed: as in `observe`.
            LogError: the log refused the events.
            Exception: whatever the effect raised; nothing was published.
        """
        return await self._effects_on(fish).submit(effect)

    def keep_running(
        self,
        fish: Fish[State],
        effect: Effect[State],
        auto_cancel: Callable[[State], bool] | None = None,
        on_error: OnError | None = None,
    ) -> StandingEffect[State]:
        """Run an effect on every new state of a fish, in turn with all other effects on it, until it is cancelled.

        The first state for which `auto_cancel` is true is the first without effect, and there is none after it. What
        the effect raises goes to `on_error` (by default, the log), nothing of that turn is published, and the effect
        stays on. A fish that stops ends it, and `on_error` is told.

        Raises:
            FishConflict, PondClosed: as in `observe`.
        """
        queue = self._effects_on(fish)
        running = self._resident(fish).running
        standing = StandingEffect(running, queue, effect, auto_cancel, on_error)
        self._start(standing.work(), f"standing effect on {fish.name}")
        return standing

    def _effects_on(self, fish: Fish[State]) -> EffectQueue[State]:
        resident = self._resident(fish)
        if resident.effects is None:
            effects = resident.effects = EffectQueue(resident.running, self._log)
            resident.work = self._start(effects.work(), f"effects on {fish.name}")
            resident.work.add_done_callback(lambda _: effects.end())
        return resident.effects

    def observe_all(
        self,
        seed: Where,
        make_fish: MakeFish[State],
        callback: Callable[[tuple[State, ...]], object] | None = None,
        *,
        expire_after_s: float | None = None,
    ) -> Observation[tuple[State, ...]]:
        """Watch the fish that seed events name: `make_fish(payload, metadata)` gives one, or None.

        What is shown are the states of all of them, each covering the same, in the order in which they were first
        named; an empty tuple as long as there are none. A seed whose factory raises is skipped. With `expire_after_s` a
        fish leaves the collection when a seed arrives that is so much younger, by its author's clock, than its own
        latest.

        Raises:
            PondClosed: the pond is closed.
        """
        collection = Collection(self, self._log, seed, make_fish, expire_after_s)
        self._look(collection, collection.gather, collection.tell)
        return collection.observed(callback)

    def observe_groups(
        self,
        where: Where,
        key: GroupKey,
        fish_of: Callable[[str], Fish[State]],
        callback: Callable[[Mapping[str, State]], object] | None = None,
    ) -> Observation[Mapping[str, State]]:
        """Watch the fish of every group of a selection: of every worker, of every order.

        `key(payload, metadata)` says which group an event belongs to (None for none), `fish_of(key)` gives the group's
        fish, which is made once. What is shown are the states of all groups by their keys, each covering the same.

        Raises:
            PondClosed: the pond is closed.
        """
        groups = Groups(self, self._log, where, key, fish_of)
        self._look(groups, *groups.work)
        return groups.observed(callback)

    @property
    def heard(self) -> OffsetMap:
        """What the fish were told of; what the log holds beyond that is on its way to them."""
        return self._feed.offsets

    def observe_one(
        self,
        seed: Where,
        make_fish: MakeFish[State],
        callback: Callable[[State], object] | None = None,
        on_stop: Callable[[FishStopped], object] | None = None,
    ) -> Observation[State]:
        """Wait for any event of a selection, then watch the fish that it names; silent before.

        Raises:
            PondClosed: the pond is closed.
        """
        first = FirstNamed(self, self._log, seed, make_fish)
        self._look(first, first.work)
        return first.observed(callback, on_stop)

    def observe_best_match(
        self,
        where: Where,
        should_replace: ShouldReplace,
        callback: Callable[[Event | None], object] | None = None,
    ) -> Observation[Event | None]:
        """Watch for the best event: shown as soon as there is one, and whenever there is one that replaces it.

        Where it is retracted the next best is shown, and None where there is none any more.

        `should_replace(new, old)` is a strict preference; candidates come in no particular order. `is_later`,
        `is_earlier`, `is_newer` and `is_older` of `fish.lookout` are ready-made.

        Raises:
            PondClosed: the pond is closed.
        """
        best = BestMatch(self._log, where, should_replace, self.oversight)
        self._look(best, best.work)
        return best.observed(callback)

    def observe_latest(
        self, where: Where, callback: Callable[[Event | None], object] | None = None
    ) -> Observation[Event | None]:
        """Watch the last of the matching events in the order of all events. Raises as `observe_best_match`."""
        return self.observe_best_match(where, is_later, callback)

    def observe_earliest(
        self, where: Where, callback: Callable[[Event | None], object] | None = None
    ) -> Observation[Event | None]:
        """Watch the first of the matching events in the order of all events. Raises as `observe_best_match`."""
        return self.observe_best_match(where, is_earlier, callback)

    def observe_unordered_reduce(
        self,
        where: Where,
        on_event: OnEvent[State],
        initial: State,
        callback: Callable[[State], object] | None = None,
    ) -> Observation[State]:
        """Watch a fold that does not depend on the order of events; it sees each once, as it arrives.

        Raises:
            PondClosed: the pond is closed.
        """
        reduced = Reduced(self._log, where, on_event, initial, self.oversight)
        self._look(reduced, reduced.work)
        return reduced.observed(callback)

    def query_chunks(
        self,
        where: Where,
        size: int,
        *,
        order: Order = Order.ASCENDING,
        lower: OffsetMap | None = None,
        upper: OffsetMap | None = None,
    ) -> AsyncIterator[Chunk]:
        """The matching events that are known now, in chunks with the bounds they cover; see `fish.lookout`."""
        return query_chunks(self._log, where, size, order=order, lower=lower, upper=upper)

    def running_fish(self, fish: Fish[State]) -> RunningFish[State]:
        """The running fish of this definition; starts it if need be. Raises as `observe`."""
        return self._resident(fish).running

    def _look(self, shown: Shown[Any], *work: Work) -> None:
        if self._closed is not None:
            raise PondClosed("the pond is closed")
        shown.tasks = tuple(self._start(_looking(shown, one), "lookout") for one in work)
        for task in shown.tasks:
            task.add_done_callback(lambda _: shown.end())

    async def close(self) -> None:
        """Stop all fish and keep snapshots of them. Observations end; closing twice is fine.

        Raises:
            LogError: the log failed when it was to keep the snapshots.
        """
        if self._closed is not None:
            return await asyncio.shield(self._closed)
        self._closed = asyncio.get_running_loop().create_future()
        self._around.ahead.hurry()
        try:
            await self._end_tasks()
            await self._save_all()
        finally:
            self._closed.set_result(None)

    async def _save_all(self) -> None:
        """Keep snapshots of all fish, some at a time: those share a commit."""
        fish, size = list(self._residents.all.values()), self._limits.snapshots_at_once
        for at in range(0, len(fish), size):
            await _save(fish[at : at + size])

    async def _end_tasks(self) -> None:
        """End the fish, then whatever is at work: nobody may take one that was cancelled for one that is at rest."""
        self._end_fish(PondClosed("the pond was closed"))
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _end_fish(self, cause: BaseException) -> None:
        for resident in self._residents.all.values():
            resident.running.end(cause)

    def _resident(self, fish: Fish[State]) -> _Resident[State]:
        if self._closed is not None:
            raise PondClosed("the pond is closed")
        known = self._residents.asked_for((fish.name, fish.version))
        if known is None:
            return self._move_in(fish)
        if known.running.fish.definition != fish.definition:
            raise FishConflict(
                f"fish {fish.name!r} version {fish.version} already runs with another selection, initial"
                " state or code: give the new one a higher version"
            )
        return known

    def _move_in(self, fish: Fish[State]) -> _Resident[State]:
        if not self._is_fed:
            self._is_fed = True
            self._feed.offsets = self._log.offsets
            feeding = self._start(self._feed_all(self._log.follow(self._log.offsets)), "pond")
            feeding.add_done_callback(self._fed)
        running = RunningFish(fish, self._around)
        resident = _Resident(running)
        self._residents.move_in((fish.name, fish.version), resident)
        self._feed.join(running, fish.where)
        running.start()
        self._evict_if_crowded()
        return resident

    def _fell_idle(self, name: str, version: int) -> None:
        self._residents.fell_idle((name, version))
        self._evict_if_crowded()

    def _evict_if_crowded(self) -> None:
        if self._residents.is_crowded and not self._is_evicting and self._closed is None:
            with suppress(PondClosed):
                self._start(self._evict(), "eviction of idle fish")
                self._is_evicting = True

    async def _evict(self) -> None:
        """Let idle fish go, those first that were not asked for the longest; their snapshots stay."""
        try:
            surplus, size = await self._residents.surplus(), self._limits.snapshots_at_once
            for at in range(0, len(surplus), size):
                leaving = [one for one in surplus[at : at + size] if one[1].is_idle]
                await _save(resident for _, resident in leaving)
                for key, resident in leaving:
                    self._let_go(key, resident)
        finally:
            self._is_evicting = False

    def _let_go(self, key: tuple[str, int], resident: _Resident[Any]) -> None:
        """Let one go that was saved, unless somebody came for it meanwhile, or enough others are in use by now."""
        if self._residents.move_out(key, resident):
            resident.running.end(PondClosed("this fish was idle"))
            if resident.work is not None:
                resident.work.cancel()

    def _start(self, coroutine: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Start a task of the pond.

        Raises:
            PondClosed: the group that it lives in breaks down.
        """
        try:
            task = self._group.create_task(coroutine, name=name)
        except RuntimeError as error:
            coroutine.close()
            raise PondClosed("what the pond lives in breaks down") from error
        self._tasks[task] = None
        task.add_done_callback(lambda done: self._tasks.pop(done, None))
        return task

    async def _feed_all(self, follower: Follower) -> None:
        """Spread each batch, until the log is closed. No fish can hold up another."""
        with suppress(LogClosed):
            while True:
                self._feed.spread(await follower.next())

    def _fed(self, task: asyncio.Task[None]) -> None:
        """What ends the feeding ends the fish, but for a log that was closed in order."""
        error = None if task.cancelled() else task.exception()
        if task.cancelled() or error is not None:
            self._end_fish(error or PondClosed("the pond was closed"))


async def _save(residents: Iterable[_Resident[Any]]) -> None:
    """Keep snapshots of these fish; they share a commit. All have been tried when one raises."""
    saving = (one.running.save() for one in residents)
    for result in await asyncio.gather(*saving, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result


async def _looking(shown: Shown[Any], work: Work) -> None:
    """Do what a lookout does; what it cannot take stops this one, and nothing else."""
    try:
        await work()
    except FishStopped as stopped:
        _LOGGER.error("%s", stopped, exc_info=stopped.__cause__)  # noqa: TRY400 - that of its cause is wanted
        shown.stop(stopped)
    except DamagedEvent as damaged:
        shown.stop(FishStopped("lookout", "log", damaged.key, damaged))


def _by_name(item: tuple[tuple[str, int], object]) -> tuple[str, int]:
    return item[0]


def _offsets_of(token: Token) -> OffsetMap:
    if isinstance(token, OffsetMap):
        return token
    events: Sequence[Any] = (token,) if isinstance(token, Event) else token
    reached = OffsetMap()
    for event in events:
        reached = reached.raised({event.stream: event.offset})
    return reached
