"""State effects: decide on a state, publish what was decided.

An effect gets the state of one fish and asks for events to be published. Effects on a fish run one after the other,
and each sees a state that covers all the log held when its turn came: what the earlier ones published is in it. That
is a promise about one node only; other nodes publish at the same time, and reducers must cope with what they say.

An effect that has begun completes, whether or not its caller still waits: everything it asked for is published in one
piece after it has returned, or nothing where it raised.
"""

import asyncio
import inspect
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Generic, Protocol

from fish.definition import State
from fish.errors import EffectEnded, PondClosed
from fish.log import Log
from fish.running import RunningFish
from fish.typed import payload_of
from lamport.event import Draft, Event, draft
from lamport.tags import Tags


class Enqueue(Protocol):
    """Asks for an event to be published when the effect has returned."""

    def __call__(self, tags: Tags | str | list[str] | tuple[str, ...], payload: Any) -> None:
        """Take note of one event; its payload may be a typed event, too.

        Raises:
            EffectEnded: the effect has returned before.
            InvalidInput: an event cannot bear these tags.
        """
        ...


Effect = Callable[[State, Enqueue], Awaitable[None] | None]
"""Looks at a state and enqueues any number of events; a plain or an async function."""


@dataclass(slots=True)
class _Waiting(Generic[State]):
    effect: Effect[State]
    result: asyncio.Future[tuple[Event, ...]]


class EffectQueue(Generic[State]):
    """The effects on one fish, first come, first served. Its length is bounded by the callers: each waits for one."""

    def __init__(self, source: RunningFish[State], log: Log) -> None:
        self._source = source
        self._log = log
        self._waiting: deque[_Waiting[State]] = deque()
        self._wake = asyncio.Event()

    @property
    def is_in_use(self) -> bool:
        """Whether an effect runs or waits."""
        return len(self) > 0

    def __len__(self) -> int:
        return len(self._waiting)

    async def submit(self, effect: Effect[State]) -> tuple[Event, ...]:
        """Wait for this effect's turn and its end; returns what it published.

        A caller that is cancelled withdraws an effect that has not begun.
        """
        result: asyncio.Future[tuple[Event, ...]] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(effect, result))
        self._wake.set()
        return await result

    async def work(self) -> None:
        """Run effects, for ever; the queue's task."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                await self._settle(self._waiting[0])
                self._waiting.popleft()
            self._source.settle()

    def end(self) -> None:
        """Refuse whatever waits: the task is over."""
        for waiting in self._waiting:
            _fail(waiting.result, PondClosed("the pond was closed before the effect had ended"))
        self._waiting.clear()

    async def _settle(self, waiting: _Waiting[State]) -> None:
        if waiting.result.cancelled():
            return
        try:
            events = await self._run(waiting.effect)
        except asyncio.CancelledError:
            if is_being_cancelled():
                raise
            waiting.result.cancel()  # something the effect waited for was cancelled: that is its own affair
        except Exception as error:  # noqa: BLE001 - whatever an effect raises is its caller's
            _fail(waiting.result, error)
        else:
            if not waiting.result.done():
                waiting.result.set_result(events)

    async def _run(self, effect: Effect[State]) -> tuple[Event, ...]:
        snapshot = await self._source.covering(self._log.offsets)
        asked = _Asked()
        try:
            returned = effect(snapshot.state, asked)
            if inspect.isawaitable(returned):
                await returned
        finally:
            asked.is_over = True
        return await self._log.publish(asked.drafts) if asked.drafts else ()


class _Asked:
    """What one effect has asked for."""

    def __init__(self) -> None:
        self.drafts: list[Draft] = []
        self.is_over = False

    def __call__(self, tags: Tags | str | list[str] | tuple[str, ...], payload: Any) -> None:
        if self.is_over:
            raise EffectEnded("the effect has returned: what it enqueues now is not published")
        self.drafts.append(draft(tags, payload_of(payload)))


def is_being_cancelled() -> bool:
    """Whether it is this task that is cancelled, and not something that it waits for."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _fail(result: asyncio.Future[tuple[Event, ...]], error: Exception) -> None:
    if not result.done():
        result.set_exception(error)
