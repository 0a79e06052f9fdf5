"""An asyncio event loop whose time is virtual and whose scheduling is drawn from a seed.

When nothing is ready, time jumps to the next timer. Callbacks that are ready at once run in an order drawn from the
seed: code that leans on the order of unrelated wake-ups does not get away with it. There are no threads, no sockets
and no signals; asking for a thread is an error.
"""

import asyncio
import random
from collections.abc import Coroutine
from typing import Any, NoReturn, TypeVar

from simulations.errors import Deadlock

_Result = TypeVar("_Result")


class SimulatedLoop(asyncio.BaseEventLoop):
    """Runs tasks under virtual time; `time()` begins at 0, in seconds."""

    def __init__(self, randomness: random.Random) -> None:
        super().__init__()
        self.steps = 0
        self._now = 0.0
        self._randomness = randomness
        # The base class asks its selector to wait for events; here waiting is moving the clock.
        self._selector = self

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._now

    def select(self, timeout: float | None) -> tuple[()]:
        """Let the time pass until the next timer, and shuffle what is ready."""
        ready = self._ready  # type: ignore[attr-defined]
        if timeout is None and not ready:
            raise Deadlock("nothing is scheduled: the simulation waits for ever")
        if timeout:
            self._now += timeout
        if len(ready) > 1:
            shuffled = list(ready)
            self._randomness.shuffle(shuffled)
            ready.clear()
            ready.extend(shuffled)
        self.steps += 1
        return ()

    def run_in_executor(self, *_: object) -> NoReturn:
        """Refuse: a thread would bring real time and real scheduling in."""
        raise RuntimeError("there are no threads in a simulation")

    def _process_events(self, _events: object) -> None:
        """Nothing comes from outside."""

    def _write_to_self(self) -> None:
        """Nobody has to be woken: there is one thread."""


def run_simulated(coroutine: Coroutine[Any, Any, _Result], randomness: random.Random) -> _Result:
    """Run a coroutine to its end on a loop of its own; returns its result."""
    loop = SimulatedLoop(randomness)
    try:
        asyncio.set_event_loop(loop)
        return loop.run_until_complete(coroutine)
    finally:
        asyncio.set_event_loop(None)
        _cancel_rest(loop)
        loop.close()


def _cancel_rest(loop: SimulatedLoop) -> None:
    """End whatever a failed run left behind, so that nothing of it reaches into the next one."""
    rest = [task for task in asyncio.all_tasks(loop) if not task.done()]
    for task in rest:
        task.cancel()
    if rest:
        loop.run_until_complete(asyncio.gather(*rest, return_exceptions=True))
    loop.run_until_complete(loop.shutdown_asyncgens())
