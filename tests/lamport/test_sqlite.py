"""The production disk: when the write-ahead log is moved into the database, and what cannot be opened."""

import asyncio
import sqlite3
import threading
from pathlib import Path

import pytest

import lamport.sqlite
from lamport.seams import Statement
from lamport.sqlite import DATABASE_NAME, SqliteDisk, _WriteAheadLog

PAGE = "x" * 4_000
"""With this in a row, each is about a page."""


def written(folder: Path, transactions: int) -> list[tuple[int, bool]]:
    """The size of the database, and whether the write-ahead log reaches ten pages, behind each transaction."""
    database = folder / DATABASE_NAME

    async def run() -> list[tuple[int, bool]]:
        writer = await SqliteDisk(folder).open_writer()
        log = _WriteAheadLog(folder / f"{DATABASE_NAME}-wal")
        try:
            await writer.fetch("PRAGMA journal_mode = WAL")
            await writer.transact([Statement("CREATE TABLE t (x)")])
            found = []
            for _ in range(transactions):
                await writer.transact([Statement("INSERT INTO t VALUES (?)", [(PAGE,)])])
                found.append((database.stat().st_size, log.reaches(10)))
            return found
        finally:
            log.close()
            await writer.close()

    return asyncio.run(run())


def test_it_is_moved_again_and_again_and_begun_anew_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lamport.sqlite, "CHECKPOINT_FRAMES", 10)
    found = written(tmp_path, 60)
    sizes = sorted({size for size, _ in found})
    assert 8 <= len(sizes) <= 25  # not with each transaction, and not never
    moved = [number for number in range(1, 60) if found[number][0] != found[number - 1][0]]
    assert all(found[number][1] for number in moved)  # long enough then,
    assert not any(found[number + 1][1] for number in moved if number < 59)  # and short again


def test_below_its_length_it_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lamport.sqlite, "CHECKPOINT_FRAMES", 10_000)
    found = written(tmp_path, 60)
    assert len({size for size, _ in found}) == 1
    assert found[-1][1]


def test_what_cannot_be_opened_leaves_no_thread_that_outlives_the_loop(tmp_path: Path) -> None:
    (tmp_path / DATABASE_NAME).mkdir()

    async def opened() -> None:
        with pytest.raises(sqlite3.OperationalError):
            await SqliteDisk(tmp_path).open_reader()

    async def run() -> None:
        before = set(threading.enumerate())
        for _ in range(20):
            await opened()
        left = set(threading.enumerate()) - before
        assert not [one.name for one in left if "connection_worker" in one.name]

    asyncio.run(run())
