"""An asyncio event loop whose time is virtual and whose scheduling is drawn from a seed.

When nothing is ready, time jumps to the next timer. Callbacks that are ready at once run in an order drawn from the
seed: code that leans on the order of unrelated wake-ups does not get away with it. There are no threads, no sockets
and no signals; asking for a thread is an error.
"""

import asyncio
import gc
import random
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from contextvars import Context
from heapq import heappop, heappush
from typing import Any, NoReturn, TypeVar, TypeVarTuple

from simulations.errors import Deadlock, Livelock

COLLECT_EVERY = 200_000
"""Steps of the loop between two garbage collections: a day of a factory fits into memory."""

MAX_STEPS_AT_ONCE = 200_000
"""Steps of the loop in one moment; a busy moment has a few thousand."""

_Result = TypeVar("_Result")
_Arguments = TypeVarTuple("_Arguments")


class _Task(asyncio.Task[Any]):
    """A task whose hash is its number: a task group keeps its tasks in a set, and cancels them in the set's order.

    Usual tasks are hashed by their address, so that the order of a cancellation would differ from run to run.
    """

    def __init__(self, number: int, coroutine: Coroutine[Any, Any, Any], **options: Any) -> None:
        self.number = number  # first: the base class puts the task into a set
        super().__init__(coroutine, **options)

    def __hash__(self) -> int:
        return self.number


class SimulatedLoop(asyncio.BaseEventLoop):
    """Runs tasks under virtual time; `time()` begins at 0, in seconds."""

    def __init__(self, randomness: random.Random, collect_every: int = COLLECT_EVERY) -> None:
        super().__init__()
        self.steps = 0
        self._collect_every = collect_every
        self._now = 0.0
        self._randomness = randomness
        self._tasks = 0
        self._restless = 0
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._timers_made = 0
        self.set_task_factory(self._make_task)  # type: ignore[arg-type]  # typeshed's protocol is private

    def _make_task(
        self, loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any], **options: Any
    ) -> asyncio.Task[Any]:
        self._tasks += 1
        return _Task(self._tasks, coroutine, loop=loop, **options)

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._now

    def call_at(
        self,
        when: float,
        callback: Callable[[*_Arguments], object],
        *args: *_Arguments,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """Call it when virtual time has come so far. Timers are compared by their times and numbers, which is quick."""
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        self._timers_made += 1
        heappush(self._timers, (when, self._timers_made, timer))
        return timer

    def _run_once(self) -> None:
        """Run what is ready, in an order drawn from the seed; if nothing is, let time pass until the next timer.

        In the place of the base class's method of the same name, which waits for real events and keeps their order.
        """
        ready = self._ready  # type: ignore[attr-defined]
        timers = self._timers
        while timers and timers[0][2]._cancelled:  # noqa: SLF001 - this is the loop
            heappop(timers)
        if not ready:
            if not timers:
                raise Deadlock("nothing is scheduled: the simulation waits for ever")
            self._now = max(self._now, timers[0][0])
            self._restless = 0
        while timers and timers[0][0] <= self._now:
            ready.append(heappop(timers)[2])
        due = list(ready)
        ready.clear()
        if len(due) > 1:
            self._randomness.shuffle(due)
        for handle in due:
            if not handle._cancelled:  # noqa: SLF001 - as above
                handle._run()  # noqa: SLF001 - as above
        self.steps += 1
        self._restless += 1
        if self._restless > MAX_STEPS_AT_ONCE:
            self._restless = 0
            raise Livelock(
                f"{MAX_STEPS_AT_ONCE} steps and no time has passed: something waits by asking again and again"
            )
        if self.steps % self._collect_every == 0:
            gc.collect()

    def _timer_handle_cancelled(self, _handle: asyncio.TimerHandle) -> None:
        """A cancelled timer goes when its time comes."""

    def run_in_executor(self, *_: object) -> NoReturn:
        """Refuse: a thread would bring real time and real scheduling in."""
        raise RuntimeError("there are no threads in a simulation")

    def _write_to_self(self) -> None:
        """Nobody has to be woken: there is one thread."""


def run_simulated(
    coroutine: Coroutine[Any, Any, _Result],
    randomness: random.Random,
    unheard: Callable[[object], None] | None = None,
    *,
    collect_every: int = COLLECT_EVERY,
) -> _Result:
    """Run a coroutine to its end on a loop of its own; returns its result.

    `unheard` is called with every error that a task ended with and nobody asked for. Garbage is collected after every
    so many steps of the loop.
    """
    loop = SimulatedLoop(randomness, collect_every)
    if unheard is not None:
        loop.set_exception_handler(lambda _loop, context: unheard(context.get("exception")))
    with _garbage_kept():
        try:
            asyncio.set_event_loop(loop)
            return loop.run_until_complete(coroutine)
        finally:
            asyncio.set_event_loop(None)
            _cancel_rest(loop)
            if unheard is not None:
                gc.collect()  # an error is known to be unheard of when its task goes
            loop.close()


@contextmanager
def _garbage_kept() -> Iterator[None]:
    """Let no garbage be collected by itself: finalizers would run at moments that no seed decides."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _cancel_rest(loop: SimulatedLoop) -> None:
    """End whatever a failed run left behind, so that nothing of it reaches into the next one."""
    rest = [task for task in asyncio.all_tasks(loop) if not task.done()]
    for task in rest:
        task.cancel()
    if rest:
        loop.run_until_complete(asyncio.gather(*rest, return_exceptions=True))
    loop.run_until_complete(loop.shutdown_asyncgens())
