"""The production disk: SQLite in a file, through `aiosqlite`, each connection on its own thread; a token beside it.

One thread hop per call is what an append costs beside the sync, so a whole transaction is one call.
"""

import asyncio
import logging
import os
import sqlite3
import struct
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import aiosqlite

from lamport.seams import Statement

DATABASE_NAME = "log.sqlite"

TOKEN_NAME = "log.token"  # noqa: S105 - a file name
"""Stands beside the database; who copies a folder for a backup leaves it out."""

BUSY_TIMEOUT_S = 5.0
"""How long SQLite waits for a lock; only a backup or a curious person can hold one."""

CHECKPOINT_FRAMES = 1_000
"""Pages in the write-ahead log from which on it is moved into the database, as SQLite itself does it."""

_HEADER = struct.Struct("!8xI4x8s8x")
"""Of the write-ahead log: the page size and the salts, among others."""

_FRAME = struct.Struct("!8x8s8x")
"""Before each page in it: the salts, among others."""

_LATER = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}

_WAL_RESET_FIXED = (3, 51, 3)

_log = logging.getLogger("shoal.log")


class SqliteDisk:
    """Opens the database file of one data folder."""

    def __init__(self, folder: Path, name: str = DATABASE_NAME) -> None:
        self._path = folder / name
        self._token_path = folder / TOKEN_NAME

    async def open_writer(self) -> "CheckpointingConnection":
        """Open the one connection that writes and checkpoints. The file is made with mode 0600."""
        if sqlite3.sqlite_version_info < _WAL_RESET_FIXED:
            # https://sqlite.org/wal.html#walresetbug needs two connections that write or checkpoint; we have one.
            _log.debug("SQLite %s: never open the log with another writer", sqlite3.sqlite_version)
        self._path.touch(mode=0o600)
        connection = await _connect(self._path)
        await connection.fetch("PRAGMA wal_autocheckpoint = 0")
        return CheckpointingConnection(connection, self._path.with_name(f"{self._path.name}-wal"))

    async def open_reader(self) -> "SqliteConnection":
        """Open a connection that cannot write."""
        return await _connect(reading_uri(self._path))

    async def read_token(self) -> bytes:
        """The token's file; empty where there is none."""
        return await asyncio.to_thread(_read_if_there, self._token_path)

    async def write_token(self, token: bytes) -> None:
        """Replace the token's file, with mode 0600: either the old one or the new one is there, whole, at any time."""
        await asyncio.to_thread(_replace_durably, self._token_path, token)


def reading_uri(path: Path) -> str:
    """How SQLite is told to open a database that it must not write to, on a disk that cannot be written to, too."""
    uri = f"{path.absolute().as_uri()}?mode=ro"
    settled = not path.with_name(f"{path.name}-wal").exists()
    # Readers share an index of the write-ahead log, and make it; where none can be made, nobody can write either.
    return uri if os.access(path.parent, os.W_OK) or not settled else f"{uri}&immutable=1"


def _read_if_there(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


def _replace_durably(path: Path, data: bytes) -> None:
    """Write beside it, sync, rename, and sync the folder that knows the name."""
    beside = path.with_name(f"{path.name}.new")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(descriptor)
    beside.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


class SqliteConnection:
    """One aiosqlite connection, without implicit transactions."""

    def __init__(self, connection: aiosqlite.Connection) -> None:
        self._connection = connection

    async def fetch(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run one reading statement and return all its rows."""
        return list(await self._connection.execute_fetchall(sql, parameters))  # type: ignore[arg-type]

    async def transact(self, statements: Iterable[Statement]) -> None:
        """Run the statements as one transaction, in one hop to the connection's thread."""
        await self.run(run_transaction, tuple(statements))

    async def run(self, function: Callable[..., None], *arguments: Any) -> None:
        """Call a function with the raw connection in its thread."""
        # aiosqlite has no public call that runs several statements in one hop; every other way costs a hop for each.
        raw = self._connection._conn  # noqa: SLF001 - see above
        await self._connection._execute(function, raw, *arguments)  # type: ignore[no-untyped-call]  # noqa: SLF001

    async def close(self) -> None:
        """Close the connection."""
        await self._connection.close()


class CheckpointingConnection:
    """The connection that writes, and moves the write-ahead log into the database when it is long enough.

    SQLite does that by itself, too, but then keeps to itself that the disk failed at it; and past a failed sync nothing
    may be acknowledged any more.
    """

    def __init__(self, connection: SqliteConnection, log: Path) -> None:
        self._connection = connection
        self._log = _WriteAheadLog(log)

    async def fetch(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run one reading statement and return all its rows."""
        return await self._connection.fetch(sql, parameters)

    async def transact(self, statements: Iterable[Statement]) -> None:
        """Run the statements as one transaction, and the checkpoint that is due, in one hop."""
        await self._connection.run(_run_and_checkpoint, tuple(statements), self._log)

    async def close(self) -> None:
        """Close the connection."""
        await self._connection.close()
        self._log.close()


class _WriteAheadLog:
    """The write-ahead log's file, of which it can be told how long it is without a lock.

    Never open the index beside it, `-shm`, for that: closing it again would drop SQLite's own locks on it. The file is
    written over from its beginning after each checkpoint, and what is left behind in it bears other salts than its
    header: https://sqlite.org/walformat.html, 1.1 and 1.2.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def reaches(self, frames: int) -> bool:
        """Whether so many pages were written since it was last begun anew."""
        if self._descriptor is None:
            try:
                self._descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                return False
        header = os.pread(self._descriptor, _HEADER.size, 0)
        if len(header) < _HEADER.size:
            return False
        page_size, salts = _HEADER.unpack(header)
        last = _HEADER.size + (frames - 1) * (_FRAME.size + page_size)
        frame = os.pread(self._descriptor, _FRAME.size, last)
        return len(frame) == _FRAME.size and _FRAME.unpack(frame) == (salts,)

    def close(self) -> None:
        """Close the file."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _run_and_checkpoint(
    connection: sqlite3.Connection, statements: Sequence[Statement], log: _WriteAheadLog
) -> None:
    run_transaction(connection, statements)
    if log.reaches(CHECKPOINT_FRAMES):
        try:
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        except sqlite3.Error as error:
            # The transaction is durable. What a full disk, or a reader, keeps from being moved is moved the next time.
            if error.sqlite_errorcode & 0xFF not in _LATER:
                raise


async def _connect(path: Path | str) -> SqliteConnection:
    opening = aiosqlite.connect(
        path, isolation_level=None, timeout=BUSY_TIMEOUT_S, uri=isinstance(path, str)
    )
    try:
        return SqliteConnection(await opening)
    except sqlite3.Error:
        # Its thread was told to end, and says when it has, to an event loop that may be closed by then. There is no
        # public call that waits for it.
        await asyncio.to_thread(opening._thread.join)  # noqa: SLF001
        raise


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
