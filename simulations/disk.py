"""A device's disk: the same SQL, run inline, surviving the process but not the loss of what was not synced.

A *platter* is what stays in the device when its node ends. On `MemoryPlatter` a transaction is atomic and, once it
returned, durable: that SQLite keeps this promise over a real file system is shown elsewhere (`simulations.harsh`), here
it is the ground to stand on, and quick. What is drawn from the seed is *when* within a commit the power goes: before
the data is on the disk, or after it is but before anybody was told.
"""

import asyncio
import errno
import random
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from lamport.lineage import MARK_AS_COPY
from lamport.seams import Statement
from lamport.sqlite import run_transaction
from simulations.errors import PowerLost

READ_FROM_MEMORY = 0.75
"""How often a read needs no access to the disk itself."""


class Platter(Protocol):
    """What stays when a node ends: one database."""

    full: bool
    """Whether it takes no more bytes."""
    token: bytes
    """What stands beside the database: neither in its copies nor replaced with it, and safe once it is written."""

    def fetch(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run one reading statement."""
        ...

    def transact(self, statements: Sequence[Statement]) -> None:
        """Run statements as one transaction; raises as `sqlite3` does, all or nothing."""
        ...

    def cut_within_commit(self, operations: int | None) -> None:
        """Lose the power in the middle: `transact` raises `PowerLost` at so many accesses of its file; None: never."""
        ...

    def crash(self) -> None:
        """The process that used it ended: its writes stay, synced or not, and an open transaction is given up."""
        ...

    def power_cut(self) -> None:
        """Lose what was not synced, or parts of it."""
        ...

    def image(self) -> bytes:
        """A copy of the database, as a backup takes it."""
        ...

    def restore(self, image: bytes) -> None:
        """Put a copy in the database's place."""
        ...


class MemoryPlatter:
    """A database in memory. It syncs with every commit, so a power cut takes nothing that was committed."""

    def __init__(self) -> None:
        self.full = False
        self.token = b""
        self._database = _opened()

    def fetch(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """See `Platter.fetch`."""
        return self._database.execute(sql, parameters).fetchall()

    def transact(self, statements: Sequence[Statement]) -> None:
        """See `Platter.transact`."""
        if self.full:
            error = sqlite3.OperationalError("database or disk is full")
            error.sqlite_errorcode = sqlite3.SQLITE_FULL
            raise error
        run_transaction(self._database, statements)

    def cut_within_commit(self, operations: int | None) -> None:
        """See `Platter.cut_within_commit`; here commits have no middle."""

    def crash(self) -> None:
        """See `Platter.crash`; every transaction here is over when it returns."""

    def power_cut(self) -> None:
        """See `Platter.power_cut`; nothing is lost here."""

    def image(self) -> bytes:
        """See `Platter.image`."""
        return self._database.serialize()

    def restore(self, image: bytes) -> None:
        """See `Platter.restore`."""
        self._database.close()
        self._database = _opened()
        self._database.deserialize(image)


def marked_as_copy(image: bytes) -> bytes:
    """The image of a database, with the mark of a copy in it."""
    database = _opened()
    try:
        database.deserialize(image)
        run_transaction(database, [MARK_AS_COPY])
        return database.serialize()
    finally:
        database.close()


def _opened() -> sqlite3.Connection:
    return sqlite3.connect(":memory:", isolation_level=None)


class SimulatedDisk:
    """The disk seam of one run of a device, from power on to power off."""

    def __init__(
        self,
        platter: Platter,
        randomness: random.Random,
        latency_s: float,
        committed: Callable[[Sequence[Statement]], None],
        power_lost: Callable[[], None],
    ) -> None:
        self.has_power = True
        self._platter = platter
        self._randomness = randomness
        self._latency_s = latency_s
        self._committed = committed
        self._power_lost = power_lost

    async def open_writer(self) -> "SimulatedConnection":
        """The one connection there is."""
        return SimulatedConnection(self)

    async def open_reader(self) -> "SimulatedConnection":
        """The same: there is one thread."""
        return SimulatedConnection(self)

    async def read_token(self) -> bytes:
        """What stands beside the database."""
        await self.pause_to_read()
        return self._platter.token

    async def write_token(self, token: bytes) -> None:
        """Replace it; the power may go before that, or after it and before this returns."""
        await self.pause_to_write()
        if self._platter.full:
            raise OSError(errno.ENOSPC, "no space left on the device")
        self._platter.token = token
        await self.pause_to_answer()

    def check_power(self) -> None:
        """Stop whoever still runs on a device that is dead."""
        if not self.has_power:
            raise PowerLost

    async def pause_to_write(self) -> None:
        """Take as long as it takes until the disk writes; the power may go meanwhile."""
        await self._pause()

    async def pause_to_answer(self) -> None:
        """Take as long as it takes from the last write to the answer; the power may go meanwhile."""
        await self._pause()

    async def pause_to_read(self) -> None:
        """Most of what is read was read before and is in memory; others get a turn all the same."""
        if self._randomness.random() < READ_FROM_MEMORY:
            await asyncio.sleep(0)
            self.check_power()
        else:
            await self._pause()

    async def _pause(self) -> None:
        await asyncio.sleep(self._latency_s * self._randomness.random())
        self.check_power()

    def fetch(self, sql: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
        """Read, now."""
        self.check_power()
        with self._power_watched():
            return self._platter.fetch(sql, parameters)

    def transact(self, statements: Sequence[Statement]) -> None:
        """Write, now: all or nothing."""
        self.check_power()
        with self._power_watched():
            self._platter.transact(statements)
        self._committed(statements)

    @contextmanager
    def _power_watched(self) -> Iterator[None]:
        try:
            yield
        except PowerLost:
            self._power_lost()
            raise


class SimulatedConnection:
    """A `lamport.seams.Connection` on a simulated disk."""

    def __init__(self, disk: SimulatedDisk) -> None:
        self._disk = disk

    async def fetch(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run one reading statement; that takes a moment, in which others go on."""
        await self._disk.pause_to_read()
        return self._disk.fetch(sql, parameters)

    async def transact(self, statements: Iterable[Statement]) -> None:
        """Run one transaction; the power may go before it, or after it and before this returns."""
        await self._disk.pause_to_write()
        self._disk.transact(tuple(statements))
        await self._disk.pause_to_answer()

    async def close(self) -> None:
        """Nothing to close: the platter stays."""
