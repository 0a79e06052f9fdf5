"""A device's disk in memory: the same SQL, run inline, surviving the process but not the loss of what was not synced.

A transaction is atomic and, once it returned, durable; that SQLite in WAL mode with full sync keeps this promise on a
real disk is shown elsewhere, here it is the ground to stand on. What is drawn from the seed is *when* within a commit
the power goes: before the data is on the disk, or after it is but before anybody was told.
"""

import asyncio
import random
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from lamport.seams import Statement
from lamport.sqlite import run_transaction
from simulations.errors import PowerLost


class Platter:
    """What stays when the power goes: one database."""

    def __init__(self, image: bytes | None = None) -> None:
        self.database = sqlite3.connect(":memory:", isolation_level=None)
        self.full = False
        if image is not None:
            self.database.deserialize(image)

    def image(self) -> bytes:
        """A copy of everything on the disk, as a backup takes it."""
        return self.database.serialize()


class SimulatedDisk:
    """The disk seam of one run of a device, from power on to power off."""

    def __init__(
        self,
        platter: Platter,
        randomness: random.Random,
        latency_s: float,
        committed: Callable[[Sequence[Statement]], None],
    ) -> None:
        self.has_power = True
        self._platter = platter
        self._randomness = randomness
        self._latency_s = latency_s
        self._committed = committed

    async def open_writer(self) -> "SimulatedConnection":
        """The one connection there is."""
        return SimulatedConnection(self)

    async def open_reader(self) -> "SimulatedConnection":
        """The same: there is one thread."""
        return SimulatedConnection(self)

    def check_power(self) -> None:
        """Stop whoever still runs on a device that is dead."""
        if not self.has_power:
            raise PowerLost

    async def pause(self) -> None:
        """Take as long as a disk takes; the power may go meanwhile."""
        await asyncio.sleep(self._latency_s * self._randomness.random())
        self.check_power()

    def fetch(self, sql: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
        """Read, now."""
        self.check_power()
        return self._platter.database.execute(sql, parameters).fetchall()

    def transact(self, statements: Sequence[Statement]) -> None:
        """Write, now: all or nothing."""
        self.check_power()
        if self._platter.full:
            error = sqlite3.OperationalError("database or disk is full")
            error.sqlite_errorcode = sqlite3.SQLITE_FULL
            raise error
        run_transaction(self._platter.database, statements)
        self._committed(statements)


class SimulatedConnection:
    """A `lamport.seams.Connection` on a simulated disk."""

    def __init__(self, disk: SimulatedDisk) -> None:
        self._disk = disk

    async def fetch(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run one reading statement; that takes a moment, in which others go on."""
        await self._disk.pause()
        return self._disk.fetch(sql, parameters)

    async def transact(self, statements: Iterable[Statement]) -> None:
        """Run one transaction; the power may go before it, or after it and before this returns."""
        await self._disk.pause()
        self._disk.transact(tuple(statements))
        await self._disk.pause()

    async def close(self) -> None:
        """Nothing to close: the platter stays."""
