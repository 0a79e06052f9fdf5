"""Where fish live: observe them, ask for their state, act on it.

One follower of the log feeds all running fish. The first call that names a fish starts it: it folds what the log
holds and is kept up to date until the pond is closed. Fish are known by name and version, and of each there is one
running fold, whoever asks.

Everything the pond starts lives in the task group that it was given. An error of the log ends the group: it is the
node's end. An error in a reducer stops that one fish and nothing else.
"""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Generic

from fish.definition import Fish, State
from fish.effects import Effect, EffectQueue
from fish.errors import FishConflict, FishStopped, PondClosed
from fish.log import Follower, Log
from fish.observation import Observation
from fish.running import Limits, RunningFish
from fish.snapshots import Snapshot
from lamport.errors import LogClosed
from lamport.event import Event


class _Resident(Generic[State]):
    """A running fish and its effects."""

    def __init__(self, fish: Fish[State], log: Log, limits: Limits) -> None:
        self.running = RunningFish(fish, log, limits)
        self.effects = EffectQueue(self.running, log)
        self.has_effects = False


USUAL = Limits()
"""The bounds of a fish, unless a pond is given others."""


class Pond:
    """The fish of one node."""

    def __init__(self, log: Log, tasks: asyncio.TaskGroup, *, limits: Limits | None = None) -> None:
        """Run fish on this log; the group must be entered when the first fish is named, and outlive the pond."""
        self._log = log
        self._limits = limits or USUAL
        self._group = tasks
        self._tasks: list[asyncio.Task[None]] = []
        self._residents: dict[tuple[str, int], _Resident[Any]] = {}
        self._closed: asyncio.Future[None] | None = None

    @property
    def running(self) -> tuple[str, ...]:
        """The names of the fish that run here, sorted."""
        return tuple(sorted({name for name, _ in self._residents}))

    @property
    def stopped(self) -> Mapping[str, str]:
        """The fish whose reducer raised, by name, and what happened."""
        residents = [
            resident.running for _, resident in sorted(self._residents.items(), key=_by_name)
        ]
        return {one.fish.name: str(one.stopped) for one in residents if one.stopped is not None}

    def revive(self) -> None:
        """Let fish go on that stopped because the disk had lost an event: it has been mended."""
        for resident in self._residents.values():
            resident.running.revive()

    def find(self, name: str) -> Fish[Any] | None:
        """The running fish of this name, of its highest version; None where there is none."""
        versions = [version for known, version in self._residents if known == name]
        return self._residents[name, max(versions)].running.fish if versions else None

    def observe(
        self,
        fish: Fish[State],
        callback: Callable[[State], object] | None = None,
        on_stop: Callable[[FishStopped], object] | None = None,
    ) -> Observation[State]:
        """Watch a fish; iterate over what this returns, or be called back.

        `callback` gets the current state once the fish has folded what is known, then the state after each batch that
        changed it; never a state in the middle of a replay, and never before this method has returned. It is a plain
        function; if it raises, that is logged and ends this observation. `on_stop` is called once if a reducer
        raises, after the last good state. Without callbacks nothing is called; iterate.

        Raises:
            FishConflict: a different fish runs under this name and version.
            PondClosed: the pond is closed.
        """
        running = self._resident(fish).running
        observation = Observation(running, callback, on_stop)
        running.watch(observation)
        return observation

    async def current_state(self, fish: Fish[State]) -> State:
        """The fish's state, covering all that the log held at the call: one's own publishings are in it.

        Raises:
            FishStopped: a reducer raised, now or before.
            FishConflict, PondClosed: as in `observe`.
        """
        return (await self.snapshot(fish)).state

    async def snapshot(self, fish: Fish[State]) -> Snapshot[State]:
        """The fish's state with its key and the offsets it covers; covers and raises as `current_state`."""
        target = self._log.offsets
        return await self._resident(fish).running.covering(target)

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
        resident = self._resident(fish)
        if not resident.has_effects:
            resident.has_effects = True
            task = self._start(resident.effects.work(), f"effects on {fish.name}")
            task.add_done_callback(lambda _: resident.effects.end())
        return await resident.effects.submit(effect)

    async def close(self) -> None:
        """Stop all fish and keep snapshots of them. Observations end; closing twice is fine.

        Raises:
            LogError: the log failed when it was to keep the snapshots.
        """
        if self._closed is not None:
            return await asyncio.shield(self._closed)
        self._closed = asyncio.get_running_loop().create_future()
        try:
            await self._end_tasks()
            for resident in self._residents.values():
                await resident.running.save()
        finally:
            self._closed.set_result(None)

    async def _end_tasks(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _resident(self, fish: Fish[State]) -> _Resident[State]:
        if self._closed is not None:
            raise PondClosed("the pond is closed")
        known = self._residents.get((fish.name, fish.version))
        if known is None:
            return self._move_in(fish)
        if known.running.fish.definition != fish.definition:
            raise FishConflict(
                f"fish {fish.name!r} version {fish.version} already runs with another selection, initial"
                " state or code: give the new one a higher version"
            )
        return known

    def _move_in(self, fish: Fish[State]) -> _Resident[State]:
        if not self._residents:
            self._start(self._feed(self._log.follow(self._log.offsets)), "pond")
        resident = _Resident(fish, self._log, self._limits)
        self._residents[fish.name, fish.version] = resident
        task = self._start(resident.running.live(), f"fish {fish.name}")
        task.add_done_callback(lambda done: resident.running.end(_cause(done)))
        return resident

    def _start(self, coroutine: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = self._group.create_task(coroutine, name=name)
        self._tasks.append(task)
        return task

    async def _feed(self, follower: Follower) -> None:
        """Hand each batch to every fish, until the log is closed. No fish can hold up another."""
        try:
            while True:
                batch = await follower.next()
                for resident in tuple(self._residents.values()):
                    resident.running.hand(batch)
        except LogClosed:
            return


def _by_name(item: tuple[tuple[str, int], object]) -> tuple[str, int]:
    return item[0]


def _cause(task: asyncio.Task[None]) -> BaseException:
    error = None if task.cancelled() else task.exception()
    return error if error is not None else PondClosed("the pond was closed")
