"""A slice of the event loop's time: a long piece of work lets everybody else run whenever one is over.

Whoever calls a stranger's function for each of many events does not know how long that takes. So it asks after each
whether its slice is over, and gives way if so. In the simulator, whose clock stands still meanwhile, it never is.
"""

import asyncio

SLICE_S = 0.005
"""Others run after so long, and after whatever a single call took."""


class TimeSlice:
    """The slice of one task that begins now, and those behind it."""

    __slots__ = ("_clock", "_due")

    def __init__(self) -> None:
        self._clock = asyncio.get_running_loop().time
        self._due = self._clock() + SLICE_S

    def is_over(self) -> bool:
        """Whether it is time to let others run."""
        return self._clock() >= self._due

    async def give_way(self) -> None:
        """Let others run, if this slice is over; the next begins then."""
        if self.is_over():
            await asyncio.sleep(0)
            self._due = self._clock() + SLICE_S
