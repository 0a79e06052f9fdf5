"""Events that are not there at all: found when the log is opened, wherever they stood, and nothing else is."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

import lamport.compaction
from lamport.gaps import gaps
from lamport.log import EventLog
from lamport.seams import INLINE
from lamport.sqlite import DATABASE_NAME
from tests.lamport.keys import Author, drafts, member, open_log

BOB = Author(member("bob")).stream
PACKED = 40
"""Of Bob's sixty events so many stand in blocks of ten."""


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lamport.tidying.IDLE_S", 3_600.0)
    monkeypatch.setattr(lamport.compaction, "IDLE_ROWS", 21)
    monkeypatch.setattr(lamport.compaction, "UNIT_EVENTS", 10)
    monkeypatch.setattr("lamport.blocks.BLOCK_EVENTS", 10)


def lacking(folder: Path, *statements: str) -> list[tuple[int, int]]:
    """What is found to be lacking of Bob's stream once these statements have run; nothing is of any other."""

    async def run() -> list[tuple[int, int]]:
        bob = Author(member("bob"))
        async with open_log(folder) as log:
            await log.publish(drafts(2, "own"))
            for _ in range(6):
                await log.receive(bob.count(10))
            while log.store.compaction.rows > 60 + 2 - PACKED:
                await log.store.merge_events(INLINE)
        with closing(sqlite3.connect(folder / DATABASE_NAME, isolation_level=None)) as database:
            assert database.execute("SELECT total(count) FROM blocks").fetchone() == (PACKED,)
            for statement in statements:
                assert database.execute(statement).rowcount > 0
        async with open_log(folder) as log:
            return await found(log)

    return asyncio.run(run())


async def found(log: EventLog) -> list[tuple[int, int]]:
    lost = await gaps(log.store)
    assert all(gap.stream == BOB for gap in lost)
    return [(gap.first, gap.last) for gap in lost]


def test_a_log_that_has_everything_lacks_nothing(tmp_path: Path) -> None:
    assert lacking(tmp_path) == []


@pytest.mark.parametrize(
    ("statement", "lost"),
    [
        ('DELETE FROM blocks WHERE "offset" = 10', [(10, 19)]),
        ('DELETE FROM blocks WHERE "offset" = 0', [(0, 9)]),
        ('DELETE FROM blocks WHERE "offset" IN (0, 20, 30)', [(0, 9), (20, 39)]),
        ("DELETE FROM blocks", [(0, 39)]),
        ('DELETE FROM events WHERE stream = 1 AND "offset" IN (44, 45, 50)', [(44, 45), (50, 50)]),
        ('DELETE FROM events WHERE stream = 1 AND "offset" = 40', [(40, 40)]),
        ('DELETE FROM events WHERE stream = 1 AND "offset" >= 58', [(58, 59)]),
        ("DELETE FROM events WHERE stream = 1", [(40, 59)]),
    ],
)
def test_what_was_deleted_is_named(
    tmp_path: Path, statement: str, lost: list[tuple[int, int]]
) -> None:
    assert lacking(tmp_path, statement) == lost


@pytest.mark.parametrize(
    ("change", "lost"),
    [
        ('stream = 9 WHERE "offset" = 10', [(10, 19)]),
        ('"offset" = 5000 WHERE "offset" = 10', [(10, 19)]),
        ('count = 3 WHERE "offset" = 10', [(13, 19)]),
        ('count = -3 WHERE "offset" = 10', [(7, 19)]),  # too much rather than too little
        ("count = 'many' WHERE \"offset\" = 10", [(10, 19)]),
        ('"offset" = \'far\' WHERE "offset" = 10', [(10, 19)]),
        ('"offset" = x\'00\' WHERE "offset" = 30', [(30, 39)]),
        ('count = 4000000000 WHERE "offset" = 0', []),  # what is read there says so by itself
    ],
)
def test_a_block_that_altered_columns_hide_is_named(
    tmp_path: Path, change: str, lost: list[tuple[int, int]]
) -> None:
    assert lacking(tmp_path, f"UPDATE blocks SET {change}") == lost  # noqa: S608 - our own


def test_everything_of_a_stream_may_be_lost(tmp_path: Path) -> None:
    rows = "DELETE FROM events WHERE stream = 1"
    assert lacking(tmp_path, rows, "DELETE FROM blocks") == [(0, 59)]


@pytest.mark.parametrize("table", ["blocks", "events"])
def test_of_more_gaps_than_anybody_reads_the_rest_are_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: str
) -> None:
    monkeypatch.setattr("lamport.gaps.MAX_GAPS", 2)
    monkeypatch.setattr("lamport.blocks.BLOCK_EVENTS", 2)
    monkeypatch.setattr(lamport.compaction, "UNIT_EVENTS", 2)
    lost = """DELETE FROM {} WHERE "offset" / 2 % 2 = 1 AND "offset" < 58
      AND stream = (SELECT stream FROM blocks LIMIT 1)"""
    expected = [(2, 3), (6, 39)] if table == "blocks" else [(42, 43), (46, 59)]
    assert lacking(tmp_path, lost.format(table)) == expected
