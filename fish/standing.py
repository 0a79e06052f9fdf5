"""Effects that stay on: applied to every new state of a fish, in turn with all other effects on it.

A standing effect takes its place in the fish's effect queue whenever there is a state that it has not been applied to.
`auto_cancel` is asked about the very state that the effect would get, so that no effect runs on a state for which it
should have been off. States may be skipped: what counts is the one that is current when its turn comes.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Generic, Self

from fish.definition import State
from fish.effects import Effect, EffectQueue, Enqueue, is_being_cancelled
from fish.errors import EffectCancelled, FishStopped, PondClosed
from fish.running import RunningFish

OnError = Callable[[Exception], object]

_LOGGER = logging.getLogger("shoal.fish")


class StandingEffect(Generic[State]):
    """An effect that is applied until it is cancelled. Leaving `with`, or `cancel`, ends it for good."""

    def __init__(
        self,
        source: RunningFish[State],
        queue: EffectQueue[State],
        effect: Effect[State],
        auto_cancel: Callable[[State], bool] | None,
        on_error: OnError | None,
    ) -> None:
        """Made by `Pond.keep_running`."""
        self._source = source
        self._queue = queue
        self._effect = effect
        self._auto_cancel = auto_cancel
        self._on_error = on_error
        self._applied_to = 0
        self._over = asyncio.Event()
        source.keepers += 1

    @property
    def is_over(self) -> bool:
        """Whether it will never be applied again."""
        return self._over.is_set()

    def cancel(self) -> None:
        """Apply it no more, not even where it waits for its turn."""
        if not self.is_over:
            self._over.set()
            self._source.keepers -= 1
            self._source.pulse()
            self._source.settle()

    async def ended(self) -> None:
        """Wait until it is over."""
        await self._over.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.cancel()

    async def work(self) -> None:
        """Apply it to one new state after the other; its task."""
        try:
            while not self.is_over:
                await self._apply()
                await self._next_state()
        finally:
            self.cancel()

    async def _apply(self) -> None:
        try:
            await self._queue.submit(self._turn)
        except (FishStopped, PondClosed) as error:
            self.cancel()
            self._report(error)
        except asyncio.CancelledError as error:
            if is_being_cancelled():
                raise
            cancelled = EffectCancelled("something that the effect waited for was cancelled")
            cancelled.__cause__ = error
            self._report(cancelled)
        except Exception as error:  # noqa: BLE001 - whatever an effect raises is its owner's
            self._report(error)

    def _turn(self, state: State, enqueue: Enqueue) -> Awaitable[None] | None:
        """What runs when the queue has come to it: the state is the one to be judged, and to be acted on."""
        self._applied_to = self._source.changes
        if not self.is_over and self._auto_cancel is not None and self._auto_cancel(state):
            self.cancel()
        return None if self.is_over else self._effect(state, enqueue)

    async def _next_state(self) -> None:
        source = self._source
        while not (self.is_over or source.changes > self._applied_to):
            if source.stopped is not None or source.is_ended:
                self.cancel()
                return
            await source.changed()

    def _report(self, error: Exception) -> None:
        if self._on_error is None:
            name = self._source.fish.name
            _LOGGER.error("a standing effect on fish %r: %s", name, error, exc_info=error)
            return
        called: Any = self._on_error
        try:
            called(error)
        except (Exception, asyncio.CancelledError):  # it waits for nothing: this is not about us
            _LOGGER.exception("the error handler of a standing effect raised")
