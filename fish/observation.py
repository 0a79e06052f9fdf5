"""Watching one fish: as a callback, as an async iterator, or both.

An observation holds no states, only how far it has seen: the fish keeps one current state, and whoever looks late sees
the latest. So nothing queues up behind a slow observer, and intermediate states may be skipped, never reordered.
"""

import logging
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar

from fish.definition import State
from fish.errors import FishStopped
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


class Observation(Generic[State]):
    """One look at a fish. Iterate over it, or let its callback be called; leaving `with` or `cancel` ends it.

    Iterating gives the latest state whenever there is a newer one than the last it gave. It ends when the observation
    is cancelled or the pond closed, and raises `FishStopped` behind the last good state of a fish that stopped. It is
    for one task at a time.
    """

    def __init__(
        self,
        source: Source[State],
        callback: Callable[[State], object] | None,
        on_stop: Callable[[FishStopped], object] | None,
    ) -> None:
        """Made by `Pond.observe`."""
        self._source = source
        self._callback = callback
        self._on_stop = on_stop
        self._called = 0
        self._given = 0
        self._is_cancelled = False

    @property
    def pruned(self) -> Mapping[StreamId, int]:
        """The first offset kept, of each stream whose author pruned its beginning and which this fish may select from.

        Empty for a state that is the fold of all there ever was. Otherwise nodes that folded at different times may
        differ in what the pruned events did.
        """
        return self._source.pruned

    def cancel(self) -> None:
        """End this observation; no callback is called any more. The fish runs on."""
        if not self._is_cancelled:
            self._is_cancelled = True
            self._source.forget(self)

    def deliver(self) -> None:
        """Call the callbacks that are due; the fish's own task calls this."""
        if self._callback is not None and self._called < self._source.version:
            self._called = self._source.version
            self._call(self._callback, self._source.state)
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
                return source.state
            if source.stopped is not None:
                self.cancel()
                raise source.stopped.again()
            if source.is_ended:
                break
            await source.changed()
        raise StopAsyncIteration

    def _call(self, callback: Callable[[Any], object], value: object) -> None:
        if self._is_cancelled:
            return
        try:
            callback(value)
        except Exception:
            _LOGGER.exception("an observer raised; its observation ends")
            self.cancel()
