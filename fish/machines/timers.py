"""Timers: kept in the fold, rung by the node that logged the event behind them.

A timer is due `delay` after the wall clock's time at which its event was written, and never later than `delay` after
this program first saw it: a clock that was put back does not hold it up, and a restart does not begin it anew. What
rings is an event in the log (`$after`); of several with one id the first counts.
"""

import asyncio
from collections.abc import Callable

from fish.machines.instance import Instance, Timer
from fish.machines.office import Office

MICROSECONDS = 1_000_000


class Timers:
    """The timers that this node rings. There are as many as the fold holds for its instances."""

    def __init__(self, office: Office, wall_clock: Callable[[], int]) -> None:
        self._office = office
        self._wall_clock = wall_clock
        self._armed: dict[str, dict[str, asyncio.TimerHandle]] = {}

    def look(self, instance: Instance) -> None:
        """Arm what is new, disarm what is gone."""
        address = instance.address
        armed = self._armed.pop(address, {})
        mine = {one.id: one for one in instance.timers if one.owner == self._office.node}
        for id_ in [one for one in armed if one not in mine]:
            armed.pop(id_).cancel()
        for id_, timer in mine.items():
            if id_ not in armed:
                armed[id_] = asyncio.get_running_loop().call_later(
                    self._left(timer), self._ring, address, id_
                )
        if armed:
            self._armed[address] = armed

    def _left(self, timer: Timer) -> float:
        """Seconds until it is due."""
        gone = (self._wall_clock() - timer.ts) / MICROSECONDS
        return max(0.0, min(timer.delay, timer.delay - gone))

    def _ring(self, address: str, id_: str) -> None:
        self._office.spawn(self._publish(address, id_), f"timer {id_}")

    async def _publish(self, address: str, id_: str) -> None:
        await self._office.persist([(address, {"type": "$after", "timer": id_})])

    def close(self) -> None:
        """Ring no more."""
        for armed in self._armed.values():
            for handle in armed.values():
                handle.cancel()
