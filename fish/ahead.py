"""The encoded states of all fish of a pond that are in memory, on their way to the disk: so many bytes, and no more.

Sixteen fish may be at it at once, each with several states, and a state may be large. One state is encoded at a time,
which costs nothing where there is one thread. Whoever finds no room stores what he has encoded, and thereby makes some;
one who has nothing waits. So nobody who waits for room holds any.
"""

import asyncio

from lamport.snapshot_table import COMMIT_BYTES


class Ahead:
    """How much is encoded and not stored."""

    __slots__ = ("_bytes", "_freed", "_most", "turn")

    def __init__(self, most: int = COMMIT_BYTES) -> None:
        """By default no more is encoded than one commit takes, or one state that is larger."""
        self.turn = asyncio.Lock()
        """Whoever holds it may encode a state, if there is room; he does not wait for room with it."""
        self._most = most
        self._bytes = 0
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
