"""The bell at the writer's door: whoever brings something rings, and a writer for whom nobody rings for a while rests.

A timer that is set and cancelled at each wait costs more than all the rest of it, and there is a wait behind each
commit. So one timer stands, and is not touched while it runs: when it comes it looks how much of the last wait is left.
"""

import asyncio


class Doorbell:
    """For one task that waits, and any number that ring."""

    def __init__(self) -> None:
        self._rung = False
        self._waiting: asyncio.Future[bool] | None = None
        self._until = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def ring(self) -> None:
        """Let the wait that is under way end, or else the next one."""
        self._rung = True
        self._end_wait(rung=True)

    async def rings_within(self, pause_s: float | None) -> bool:
        """Wait until somebody rings, or rang since the last wait; False where nobody does for so long (None: ever)."""
        if not self._rung:
            loop = asyncio.get_running_loop()
            if pause_s is not None:
                self._set_timer(loop, loop.time() + pause_s)
            self._waiting = loop.create_future()
            try:
                if not await self._waiting:
                    return False
            finally:
                self._waiting = None
                self._until = float("inf")
        self._rung = False
        return True

    def close(self) -> None:
        """Leave no timer behind."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _set_timer(self, loop: asyncio.AbstractEventLoop, until: float) -> None:
        self._until = until
        if self._timer is not None and self._timer.when() <= until:
            return  # it goes on by itself
        self.close()
        self._timer = loop.call_at(until, self._look, loop)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        """The timer has come: is the wait over, or did another one begin since it was set?"""
        self._timer = None
        if self._waiting is None or self._until == float("inf"):
            return
        if self._until <= loop.time():
            self._end_wait(rung=False)
        else:
            self._set_timer(loop, self._until)

    def _end_wait(self, *, rung: bool) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(rung)
