"""Who keeps an eye on the calls of reducers: the seam through which threads and processes come to fish.

A reducer is a stranger's function. One that never returns would hold up the event loop, and with it the whole node; so
whatever calls one goes through an `Oversight`. On a device that is a thread which sees a call that lasts, says so, and
interrupts it where Python can (`shoal.watchdog`). In the simulator, where nothing takes any time, it is nobody.

What Python cannot interrupt, a process can be killed for: an isolated fish folds in a `Cell` (`shoal.isolation`).

The way of a call. `watched` makes it at once, in the caller's thread, and returns what it returns. Where it was
interrupted `Overran` comes out in its place, and only then: none is on its way any more when `watched` is over.
"""

from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

_Request = TypeVar("_Request")
_Request_contra = TypeVar("_Request_contra", contravariant=True)
_Answer = TypeVar("_Answer")
_Answer_co = TypeVar("_Answer_co", covariant=True)
_Result = TypeVar("_Result")

Place = Callable[[], str]
"""Says what a call is at, in words; asked from another thread while the call runs."""

Told = Callable[[str], object]
"""Hears, in the caller's thread, that a call was over only after it had held up the node; it was not interrupted."""


Mark = Callable[[int], object]
"""Notes how far a function has come, so that it is known where it stood still."""

CellWork = Callable[[_Request, Mark], _Answer]
"""What a cell does: it answers requests, one at a time, and may keep what it likes between them."""


class Cell(Protocol[_Request_contra, _Answer_co]):
    """A place of its own where a function works; it begins anew, with nothing kept, behind each `Lost`."""

    async def ask(self, request: _Request_contra, place: Callable[[int], str]) -> _Answer_co:
        """Have a request answered; `place` says in words what is at a mark.

        Raises:
            Lost: it stood still and was killed, or died; nothing came of the request.
            IsolationError: it cannot work here, or request or answer cannot be sent.
        """
        ...

    @property
    def life(self) -> int:
        """Rises each time that it begins anew."""
        ...

    def close(self) -> None:
        """Let it go; what it is at is thrown away. Closing twice is fine."""
        ...


class Oversight(Protocol):
    """Watches calls."""

    def watched(self, call: Callable[[], _Result], place: Place, told: Told) -> _Result:
        """Make a call that must not take long.

        Raises:
            Overran: it took too long and was interrupted.
            Exception: whatever the call raises.
        """
        ...

    def isolated(self, work: CellWork[_Request, _Answer], name: str) -> Cell[_Request, _Answer]:
        """A cell for this work; the `name` is for people."""
        ...


class InlineCell(Generic[_Request, _Answer]):
    """A cell without walls: the work is done where it is asked for."""

    def __init__(self, work: CellWork[_Request, _Answer]) -> None:
        self.life = 0
        self._work = work

    async def ask(self, request: _Request, place: Callable[[int], str]) -> _Answer:  # noqa: ARG002 - nobody asks
        """Do it now."""
        return self._work(request, _unmarked)

    def close(self) -> None:
        """There is nothing to let go."""


class NoOversight:
    """Nobody watches: for tests, tools and the simulator."""

    def watched(self, call: Callable[[], _Result], place: Place, told: Told) -> _Result:  # noqa: ARG002 - nobody asks
        """Make the call."""
        return call()

    def isolated(
        self,
        work: CellWork[_Request, _Answer],
        name: str,  # noqa: ARG002 - as above
    ) -> Cell[_Request, _Answer]:
        """It works inline."""
        return InlineCell(work)


def _unmarked(number: int) -> None:
    """Nobody wants to know."""


NO_OVERSIGHT: Oversight = NoOversight()
