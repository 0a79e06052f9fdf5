"""The encoded states of all fish of a pond that are in memory, on their way to the disk: so many bytes, and no more.

Sixteen fish may be at it at once, each with several states, and a state may be large. One state is encoded at a time,
which costs nothing where there is one thread. Whoever finds no room stores what he has encoded, and thereby makes some;
one who has nothing waits. So nobody who waits for room holds any.

Encoding a large state takes long, and while the pond lives nobody waits for it: so it rests in between, and others have
the loop. When the pond is being closed everybody waits for it, and it only gives way.
"""

import asyncio
from collections.abc import Generator

from lamport.snapshot_table import COMMIT_BYTES

SLICE_S = 0.001
"""So long encoding a state keeps the loop, about, …"""

RESTS = 4
"""… and then rests so many times as long: what others are at takes a dozen turns of the loop. In the simulator, whose
clock stands still meanwhile, it never rests."""


class Ahead:
    """How much is encoded and not stored."""

    __slots__ = ("_bytes", "_freed", "_most", "_rest_s", "turn")

    def __init__(self, most: int = COMMIT_BYTES) -> None:
        """By default no more is encoded than one commit takes, or one state that is larger."""
        self.turn = asyncio.Lock()
        """Whoever holds it may encode a state, if there is room; he does not wait for room with it."""
        self._most = most
        self._bytes = 0
        self._rest_s = RESTS * SLICE_S
        self._freed = asyncio.Event()

    def has_room(self, size: int) -> bool:
        """Whether a state of about this size may be encoded; one always may."""
        return not self._bytes or self._bytes + size <= self._most

    def add(self, size: int) -> None:
        """So many bytes were encoded."""
        self._bytes += size

    def give_back(self, size: int) -> None:
        """So many bytes are stored, or given up."""
        self._bytes -= size
        self._freed.set()
        self._freed = asyncio.Event()

    async def freed(self) -> None:
        """Wait until somebody gives something back."""
        await self._freed.wait()

    async def patiently(self, steps: Generator[None, None, bytes]) -> bytes:
        """Take the steps of encoding a state to their end, and rest in between."""
        time = asyncio.get_running_loop().time
        due = time() + SLICE_S
        while True:
            try:
                next(steps)
            except StopIteration as end:
                encoded: bytes = end.value
                return encoded
            if time() >= due:
                await asyncio.sleep(self._rest_s)
                due = time() + SLICE_S

    def hurry(self) -> None:
        """From now on others have a turn of the loop each time, and there is no longer rest: they wait for this."""
        self._rest_s = 0.0
