"""What SQLite's errors mean for a store, and for whoever uses it."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from lamport.errors import StoreBusy, StoreFailed, StoreFull, StoreMismatch

_LOCKED = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_FULL = {sqlite3.SQLITE_FULL}
_MISFITS = {sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT}


@contextmanager
def translated_errors() -> Iterator[None]:
    """Turn SQLite's errors into the store's: full is passing, a misfit is refused, all else is the disk's failure."""
    try:
        yield
    except sqlite3.Error as error:
        _raise_translated(error)
    except UnicodeDecodeError as error:  # in SQLite's own words about a damaged file
        raise StoreMismatch(f"the database file is damaged ({error})") from error


def _raise_translated(error: sqlite3.Error) -> NoReturn:
    code = getattr(error, "sqlite_errorcode", None)
    primary = None if code is None else code & 0xFF
    if primary in _LOCKED:
        raise StoreBusy("another program holds the database's lock: close it") from error
    if primary in _FULL:
        raise StoreFull("the disk is full: nothing was stored; free some space") from error
    if primary in _MISFITS:
        raise StoreMismatch(f"the database file is damaged or no database ({error})") from error
    raise StoreFailed(f"the disk failed the database ({error})") from error
