"""Taking turns: a long piece of work in the event loop lets everybody else run now and then.

Whoever calls a stranger's function for each of many events does not know how long that takes. So it asks after each
whether its slice of time is over, and gives way if so. In the simulator, whose clock stands still meanwhile, it never
is.
"""

import asyncio

SLICE_S = 0.005
"""Others run after so long, and after whatever a single call took."""


class Turns:
    """The turns of one task, from now on."""

    __slots__ = ("_clock", "_due")

    def __init__(self) -> None:
        self._clock = asyncio.get_running_loop().time
        self._due = self._clock() + SLICE_S

    async def give_way(self) -> None:
        """Let others run, if this slice is over."""
        if self._clock() >= self._due:
            await asyncio.sleep(0)
            self._due = self._clock() + SLICE_S
