"""Who is not talked to for a while, because it sent what does not hold; also after a restart.

A ban lasts ten minutes. It is kept beside the log with the wall clock's time of its end; where that clock was put back
meanwhile, it lasts ten minutes from the start at most, and where it was put forward, less.
"""

import asyncio
import logging
from typing import NoReturn

import msgpack

from lamport.errors import StoreRefused
from lamport.ids import NodeId
from lamport.notes import load_note, save_note
from lamport.seams import WallClock
from lamport.store import Store

BAN_S = 600.0
"""How long a peer is not talked to after it sent what does not hold."""

MAX_KEPT = 1_024
"""Bans that outlive a restart, the latest; members who forge are few."""

_NOTE = "bans"
_US = 1_000_000

_log = logging.getLogger("shoal.transport")


class Bans:
    """The bans of one node; times are the event loop's."""

    def __init__(self, store: Store, wall_clock: WallClock) -> None:
        self.until: dict[NodeId, float] = {}
        self._store = store
        self._wall_clock = wall_clock
        self._moved = asyncio.Event()

    async def load(self) -> None:
        """Remember those of before the restart. A note that does not read is none."""
        try:
            noted = msgpack.unpackb(await load_note(self._store, _NOTE) or b"\x80")
            kept = {NodeId(node): int(end_us) for node, end_us in noted.items()}
        except (ValueError, TypeError, AttributeError, msgpack.UnpackException) as error:
            _log.error("the bans of before the restart are forgotten: %r", error)
            return
        for node, end_us in kept.items():
            left_s = (end_us - self._wall_clock()) / _US
            if left_s > 0:
                self.until[node] = _now() + min(BAN_S, left_s)

    def add(self, node: NodeId) -> None:
        """Ban a node from now on."""
        self.until.pop(node, None)
        self.until[node] = _now() + BAN_S
        self._moved.set()

    def lift(self, node: NodeId | None) -> None:
        """Forget the ban of a node, or of all."""
        for one in [node] if node is not None else list(self.until):
            self.until.pop(one, None)
        self._moved.set()

    def left_s(self, node: NodeId | None) -> float:
        """For how long a node is banned still; 0 for one that is not."""
        return 0.0 if node is None else max(0.0, self.until.get(node, 0.0) - _now())

    async def keep(self) -> NoReturn:
        """Note every change beside the log, until cancelled."""
        while True:
            await self._moved.wait()
            self._moved.clear()
            wall_us = self._wall_clock()
            latest = list(self.until)[-MAX_KEPT:]
            ends = {bytes(one): wall_us + int(self.left_s(one) * _US) for one in latest}
            try:
                await save_note(self._store, _NOTE, msgpack.packb(ends))
            except StoreRefused as error:
                _log.warning("who is banned is forgotten at a restart: %s", error)


def _now() -> float:
    return asyncio.get_running_loop().time()
