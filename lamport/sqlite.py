"""The production disk: SQLite in a file, through `aiosqlite`, each connection on a thread of its own.

One thread hop per call is what an append costs beside the sync, so a whole transaction is one call.
"""

import logging
import os
import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import aiosqlite

from lamport.seams import Statement

DATABASE_NAME = "log.sqlite"

BUSY_TIMEOUT_S = 5.0
"""How long SQLite waits for a lock; only a backup or a curious person can hold one."""

_WAL_RESET_FIXED = (3, 51, 3)

_log = logging.getLogger("shoal.log")


class SqliteDisk:
    """Opens the database file of one data folder."""

    def __init__(self, folder: Path, name: str = DATABASE_NAME) -> None:
        self._path = folder / name

    async def open_writer(self) -> "SqliteConnection":
        """Open the one connection that writes and checkpoints. The file is made with mode 0600."""
        if sqlite3.sqlite_version_info < _WAL_RESET_FIXED:
            # https://sqlite.org/wal.html#walresetbug needs two connections that write or checkpoint; we have one.
            _log.debug("SQLite %s: never open the log with another writer", sqlite3.sqlite_version)
        self._path.touch(mode=0o600)
        return await _connect(self._path)

    async def open_reader(self) -> "SqliteConnection":
        """Open a connection that cannot write."""
        return await _connect(reading_uri(self._path))


def reading_uri(path: Path) -> str:
    """How SQLite is told to open a database that it must not write to, on a disk that cannot be written to, too."""
    uri = f"{path.absolute().as_uri()}?mode=ro"
    settled = not path.with_name(f"{path.name}-wal").exists()
    # Readers share an index of the write-ahead log, and make it; where none can be made, nobody can write either.
    return uri if os.access(path.parent, os.W_OK) or not settled else f"{uri}&immutable=1"


class SqliteConnection:
    """One aiosqlite connection, without implicit transactions."""

    def __init__(self, connection: aiosqlite.Connection) -> None:
        self._connection = connection

    async def fetch(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run one reading statement and return all its rows."""
        return list(await self._connection.execute_fetchall(sql, parameters))  # type: ignore[arg-type]

    async def transact(self, statements: Iterable[Statement]) -> None:
        """Run the statements as one transaction, in one hop to the connection's thread."""
        # aiosqlite has no public call that runs several statements in one hop; every other way costs a hop for each.
        raw = self._connection._conn  # noqa: SLF001 - see above
        await self._connection._execute(run_transaction, raw, tuple(statements))  # type: ignore[no-untyped-call]  # noqa: SLF001

    async def close(self) -> None:
        """Close the connection."""
        await self._connection.close()


async def _connect(path: Path | str) -> SqliteConnection:
    connection = await aiosqlite.connect(
        path, isolation_level=None, timeout=BUSY_TIMEOUT_S, uri=isinstance(path, str)
    )
    return SqliteConnection(connection)


class RawConnection(Protocol):
    """What a transaction needs of a connection: `sqlite3.Connection`, or one that is called the same way."""

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open."""
        ...

    def execute(self, sql: str, /) -> object:
        """Run one statement."""
        ...

    def executemany(self, sql: str, rows: Sequence[Sequence[Any]], /) -> object:
        """Run one statement for each row of parameters."""
        ...


def run_transaction(connection: RawConnection, statements: Iterable[Statement]) -> None:
    """Run the statements as one transaction, here and now: all or none."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        for sql, rows in statements:
            if rows is None:
                connection.execute(sql)
            else:
                connection.executemany(sql, rows)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
