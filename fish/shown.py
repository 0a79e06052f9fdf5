"""What observations watch where there is no single fish behind them: a state that is shown, and shown again.

`show` makes a state the current one and calls the observer; what is behind it (a collection of fish, a lookout for
events) is a task of the pond that calls `show` whenever there is something new.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Generic

from fish.definition import State
from fish.errors import FishStopped
from fish.observation import Held, Observation, held
from fish.snapshots import Snapshot
from lamport.ids import StreamId


class Shown(Generic[State]):
    """The `Source` of one observation."""

    def __init__(self) -> None:
        self.version = 0
        self.stopped: FishStopped | None = None
        self.is_ended = False
        self.tasks: tuple[asyncio.Task[None], ...] = ()
        """What is behind it, and ends with it."""
        self._state: State | None = None
        self._observation: Held = _nobody
        self._changed = asyncio.Event()

    @property
    def state(self) -> State:
        """The state shown last; only behind the first (`version` above 0)."""
        state: State = self._state  # type: ignore[assignment]  # there is one: the version says so
        return state

    def snapshot(self) -> Snapshot[State] | None:
        """None: there is no one fish behind this."""
        return None

    @property
    def pruned(self) -> Mapping[StreamId, int]:
        """The horizons behind which what is shown may lack events; those who read the log say which."""
        return {}

    def observed(
        self,
        callback: Callable[[State], object] | None,
        on_stop: Callable[[FishStopped], object] | None = None,
    ) -> Observation[State]:
        """The one observation of this."""
        observation = Observation(self, callback, on_stop)
        self._observation = held(observation, _in_turn(self.end))
        return observation

    def show(self, state: State) -> None:
        """Make this the current state, and tell."""
        self.version += 1
        self._state = state
        self._tell()

    def stop(self, stopped: FishStopped) -> None:
        """There will be no further state."""
        self.stopped = stopped
        self._tell()

    def end(self) -> None:
        """The pond is closed, or nobody looks any more."""
        self.is_ended = True
        self._pulse()
        for task in self.tasks:
            task.cancel()

    async def changed(self) -> None:
        """Wait for the next state, or an end."""
        await self._changed.wait()

    def forget(self, observation: Observation[State]) -> None:  # noqa: ARG002 - there is only one
        """Nobody looks any more."""
        self._observation = _nobody
        self.end()

    def _tell(self) -> None:
        self._pulse()
        observation = self._observation()
        if observation is not None:
            observation.deliver()

    def _pulse(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


def _in_turn(end: Callable[[], None]) -> Callable[[], None]:
    """To be called wherever the garbage collector comes by: in the midst of anything, and in any thread."""
    loop = asyncio.get_running_loop()

    def later() -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(end)

    return later


def _nobody() -> None:
    """Nobody looks."""
