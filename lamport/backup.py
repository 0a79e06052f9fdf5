"""A copy of a database that may be in use: one file, complete and consistent, made by SQLite itself."""

import sqlite3
from contextlib import closing
from pathlib import Path

from lamport.lineage import MARK_AS_COPY
from lamport.sqlite import BUSY_TIMEOUT_S, reading_uri
from lamport.sqlite_errors import translated_errors


def copy_database(source: Path, target: Path) -> None:
    """Copy a database, as it is at one moment, into an empty file. Writers of the source are not held up.

    The copy needs no other files beside it, and is on the disk when this returns.

    Raises:
        StoreError: the source is no database, one of the two cannot be used, or there is no room.
    """
    uri = reading_uri(source)
    with (
        translated_errors(),
        closing(sqlite3.connect(uri, uri=True, timeout=BUSY_TIMEOUT_S)) as one,
        closing(sqlite3.connect(target, isolation_level=None)) as other,
    ):
        one.backup(other)
        # The source's mode was copied with it, and would put two more files beside a backup that is only looked at.
        other.execute("PRAGMA journal_mode = DELETE")


def mark_as_copy(database: Path) -> None:
    """Let a log say of itself that it is a copy: the node that works on it next writes a new stream.

    Raises:
        StoreError: the file is no log, or there is no room.
    """
    with translated_errors(), closing(sqlite3.connect(database, isolation_level=None)) as copy:
        copy.execute(MARK_AS_COPY.sql)


def settle(database: Path) -> None:
    """Bring what stands in the write-ahead log into the database file, as far as a damaged one allows."""
    try:
        with closing(sqlite3.connect(database, timeout=BUSY_TIMEOUT_S)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.Error:
        return  # it is put aside with its write-ahead log
