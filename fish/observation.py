"""Watching one fish: as a callback, as an async iterator, or both.

An observation holds no states, only how far it has seen: the fish keeps one current state, and whoever looks late sees
the latest. So nothing queues up behind a slow observer, and intermediate states may be skipped, never reordered.
"""

import asyncio
import logging
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar

from fish.definition import State
from fish.errors import FishStopped
from fish.snapshots import Snapshot
from lamport.ids import StreamId

_Shown_co = TypeVar("_Shown_co", covariant=True)

_LOGGER = logging.getLogger("shoal.fish")


class Source(Protocol[_Shown_co]):
    """What an observation watches."""

    @property
    def version(self) -> int:
        """Rises with each new state; 0 while there is none."""
        ...

    @property
    def state(self) -> _Shown_co:
        """The latest state."""
        ...

    def snapshot(self) -> Snapshot[_Shown_co] | None:
        """The latest state and what it covers, where it is a fish's."""
        ...

    @property
    def pruned(self) -> Mapping[StreamId, int]:
        """The first offset kept, of each stream behind whose horizon the state may lack events."""
        ...

    @property
    def stopped(self) -> FishStopped | None:
        """Why there will be no further state, if a reducer raised."""
        ...

    @property
    def is_ended(self) -> bool:
        """Whether the pond is closed."""
        ...

    async def changed(self) -> None:
        """Wait until any of these may have changed."""
        ...

    def forget(self, observation: Any) -> None:
        """Take note that this observation was cancelled."""
        ...


Held = Callable[[], "Observation[Any] | None"]
"""Gives an observation, as long as it is held."""


def held(observation: "Observation[Any]", let_go: Callable[[], object] | None = None) -> Held:
    """Hold an observation that calls back; one that does not lives as long as whoever iterates over it holds it.

    So `async for` may be left by `break` without a word. `let_go` is called when that has happened.
    """
    if observation.calls_back:
        return lambda: observation
    return weakref.ref(observation, None if let_go is None else lambda _: let_go())


def present(holds: Iterable[Held]) -> Iterator["Observation[Any]"]:
    """Those that are still there."""
    return (one for hold in holds if (one := hold()) is not None)


class Observation(Generic[State]):
    """One look at a fish. Iterate over it, or let its callback be called; leaving `with` or `cancel` ends it.

    It ends, too, when it has no callback and nobody holds it any more.

    Iterating gives the latest state whenever there is a newer one than the last it gave. It ends when the observation
    is cancelled or the pond closed, and raises `FishStopped` behind the last good state of a fish that stopped. It is
    for one task at a time.
    """

    __slots__ = (
        "__weakref__",
        "_callback",
        "_called",
        "_given",
        "_is_cancelled",
        "_last_called",
        "_last_given",
        "_on_stop",
        "_source",
    )

    def __init__(
        self,
        source: Source[State],
        callback: Callable[[State], object] | None,
        on_stop: Callable[[FishStopped], object] | None,
        *,
        changes_only: bool = False,
    ) -> None:
        """Made by `Pond.observe`. With `changes_only` a state that equals the one before is no news."""
        self._source = source
        self._callback = callback
        self._on_stop = on_stop
        self._called = 0
        self._given = 0
        self._last_called: list[State] | None = [] if changes_only else None
        self._last_given: list[State] | None = [] if changes_only else None
        self._is_cancelled = False

    @property
    def pruned(self) -> Mapping[StreamId, int]:
        """The first offset kept, of each stream whose author pruned its beginning and which this fish may select from.

        Empty for a state that is the fold of all there ever was. Otherwise nodes that folded at different times may
        differ in what the pruned events did.
        """
        return self._source.pruned

    @property
    def calls_back(self) -> bool:
        """Whether there is something to call."""
        return self._callback is not None or self._on_stop is not None

    def cancel(self) -> None:
        """End this observation; no callback is called any more. The fish runs on."""
        if not self._is_cancelled:
            self._is_cancelled = True
            self._source.forget(self)

    @property
    def snapshot(self) -> Snapshot[State] | None:
        """The latest state of the fish, its key, and what it covers by now; None before the first."""
        return self._source.snapshot()

    def deliver(self) -> None:
        """Call the callbacks that are due; the fish's own task calls this."""
        callback = self._callback
        if callback is not None and self._called < self._source.version:
            self._called = self._source.version
            self._call(
                lambda state: self._is_news(self._last_called) and callback(state),
                self._source.state,
            )
        if self._on_stop is not None and self._source.stopped is not None:
            on_stop, self._on_stop = self._on_stop, None
            self._call(on_stop, self._source.stopped.again())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.cancel()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> State:
        source = self._source
        while not self._is_cancelled:
            if self._given < source.version:
                self._given = source.version
                if not self._is_news(self._last_given):
                    continue
                return source.state
            if source.stopped is not None:
                self.cancel()
                raise source.stopped.again()
            if source.is_ended:
                break
            await source.changed()
        raise StopAsyncIteration

    def _is_news(self, last: list[State] | None) -> bool:
        """Whether the current state is to be told; notes it in `last`, which is empty or holds what was told last."""
        if last is None:
            return True
        state = self._source.state
        is_news = not last or bool(last[0] != state)
        last[:] = [state]
        return is_news

    def _call(self, callback: Callable[[Any], object], value: object) -> None:
        if self._is_cancelled:
            return
        try:
            callback(value)
        except (Exception, asyncio.CancelledError):  # it waits for nothing: this is not about us
            _LOGGER.exception("an observer raised; its observation ends")
            self.cancel()
