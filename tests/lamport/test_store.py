"""The durable log: it finds everything again, refuses what is not its own, and survives a full disk."""

import asyncio
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path

import pytest

from lamport.errors import LogError, StoreFull, StoreMismatch
from lamport.event import draft
from lamport.log import EventLog
from lamport.schema import migrations
from lamport.seams import Statement
from lamport.sqlite import (
    DATABASE_NAME,
    CheckpointingConnection,
    SqliteConnection,
    SqliteDisk,
)
from lamport.store import Store
from lamport.tags import Tag
from tests.lamport.keys import Author, Member, drafts, member, open_log, open_store, read_all


def database(folder: Path) -> Path:
    return folder / DATABASE_NAME


def execute(path: Path, *statements: str) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    for statement in statements:
        connection.execute(statement)
    connection.close()


async def open_and_close(folder: Path, keys: Member | None = None) -> None:
    async with open_store(folder, keys or member()):
        pass


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def refused_untouched(folder: Path, keys: Member | None = None) -> str:
    """Open the database, which must be refused and left as it is; return what the refusal says."""
    before = bytes_of(folder)
    with pytest.raises(StoreMismatch) as refusal:
        asyncio.run(open_and_close(folder, keys))
    assert bytes_of(folder) == before
    return str(refusal.value)


def test_reopening_finds_everything(tmp_path: Path) -> None:
    bob = Author(member("bob"))

    async def fill() -> tuple[object, ...]:
        async with open_log(tmp_path) as log:
            await log.publish(drafts(3, "a", "b"))
            await log.receive(bob.say(7, 9))
            await log.publish(drafts(1, "c"))
            return await picture(log)

    async def picture(log: EventLog) -> tuple[object, ...]:
        store = log.store
        hashes = [await log.hash_at(log.stream, offset) for offset in range(4)]
        ranges = [await log.sealed_range(stream, 0, 10) for stream in (log.stream, bob.stream)]
        heads = dict(store.heads), dict(store.authors), store.clock, store.own
        return await read_all(log), log.offsets, log.lamport, hashes, ranges, heads

    async def find() -> tuple[object, ...]:
        async with open_log(tmp_path) as log:
            return await picture(log)

    assert asyncio.run(fill()) == asyncio.run(find())


def test_a_reopened_log_goes_on_where_it_stood(tmp_path: Path) -> None:
    async def publish() -> tuple[int, int]:
        async with open_log(tmp_path) as log:
            [event] = await log.publish(drafts(1))
            return event.offset, event.lamport

    assert [asyncio.run(publish()) for _ in range(3)] == [(0, 1), (1, 2), (2, 3)]


def test_the_stream_number_is_drawn_once(tmp_path: Path) -> None:
    numbers = count(11)

    async def own() -> int:
        store = await Store.open(SqliteDisk(tmp_path), member(), lambda: next(numbers))
        await store.close()
        return store.own.default.number

    assert [asyncio.run(own()), asyncio.run(own())] == [11, 11]


def test_the_database_is_its_owners_alone_to_read(tmp_path: Path) -> None:
    asyncio.run(open_and_close(tmp_path))
    assert database(tmp_path).stat().st_mode & 0o777 == 0o600


def test_a_newer_schema_is_refused_untouched(tmp_path: Path) -> None:
    asyncio.run(open_and_close(tmp_path))
    newer = len(migrations()) + 1
    execute(database(tmp_path), f"PRAGMA user_version = {newer}")
    assert f"schema version {newer}" in refused_untouched(tmp_path)


@pytest.mark.parametrize("keys", [member("bob"), member("ada", "other swarm")])
def test_another_nodes_or_swarms_database_is_refused(tmp_path: Path, keys: Member) -> None:
    asyncio.run(open_and_close(tmp_path))
    assert "another node or swarm" in refused_untouched(tmp_path, keys)


@pytest.mark.parametrize("version", [0, 1])
def test_a_foreign_sqlite_file_is_refused_untouched(tmp_path: Path, version: int) -> None:
    execute(database(tmp_path), "CREATE TABLE recipes (name)", f"PRAGMA user_version = {version}")
    refused_untouched(tmp_path)


@pytest.mark.parametrize("text", ["shopping list: bread\n", "bread\n" * 1_000])
def test_a_text_file_is_refused_untouched(tmp_path: Path, text: str) -> None:
    database(tmp_path).write_text(text)
    assert "no database" in refused_untouched(tmp_path)


PROGRAM = """
import asyncio, pathlib, sys
from tests.lamport.keys import member, open_store

async def main():
    async with open_store(pathlib.Path(sys.argv[1]), member()):
        pass

asyncio.run(main())
"""


def test_a_program_whose_database_was_refused_can_end(tmp_path: Path) -> None:
    database(tmp_path).write_text("shopping list: bread\n" * 100)
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
        timeout=10,
    )
    assert "StoreMismatch" in ended.stderr
    assert "Warning" not in ended.stderr


@asynccontextmanager
async def closing(connection: CheckpointingConnection) -> AsyncIterator[CheckpointingConnection]:
    try:
        yield connection
    finally:
        await connection.close()


def test_a_transaction_that_fails_leaves_nothing(tmp_path: Path) -> None:
    fine = Statement("INSERT INTO t VALUES (?)", [(1,), (2,)])

    async def run() -> None:
        async with closing(await SqliteDisk(tmp_path).open_writer()) as connection:
            await connection.transact([Statement("CREATE TABLE t (n UNIQUE)")])
            for bad in (Statement("nonsense"), fine):
                with pytest.raises(sqlite3.Error):
                    await connection.transact([fine, bad])
            assert await connection.fetch("SELECT n FROM t") == []
            await connection.transact([fine])
            assert await connection.fetch("SELECT n FROM t") == [(1,), (2,)]

    asyncio.run(run())


class SmallDisk:
    """A real database that SQLite keeps below a number of pages."""

    def __init__(self, folder: Path) -> None:
        self._disk = SqliteDisk(folder)
        self._writer: CheckpointingConnection | None = None

    async def open_writer(self) -> CheckpointingConnection:
        self._writer = await self._disk.open_writer()
        return self._writer

    async def open_reader(self) -> SqliteConnection:
        return await self._disk.open_reader()

    async def read_token(self) -> bytes:
        return await self._disk.read_token()

    async def write_token(self, token: bytes) -> None:
        await self._disk.write_token(token)

    async def resize(self, pages: int) -> None:
        assert self._writer is not None
        await self._writer.fetch(f"PRAGMA max_page_count = {pages}")

    async def pages(self) -> int:
        assert self._writer is not None
        [(count,)] = await self._writer.fetch("PRAGMA page_count")
        return int(count)


BIG = [draft("big", "x" * 60_000) for _ in range(8)]


def on_a_full_disk(folder: Path) -> list[str]:
    """Publish one, run full, have room again, publish one more; return what is there at last."""

    async def run() -> list[str]:
        disk = SmallDisk(folder)
        async with open_log(folder, disk=disk) as log:
            await log.publish([draft("before", 1)])
            await disk.resize(await disk.pages() + 10)
            with pytest.raises(StoreFull, match="nothing was stored"):
                await log.publish(BIG)
            assert [event.tags for event in await read_all(log)] == [("before",)]
            await disk.resize(10_000)
            [event] = await log.publish([draft("after", 1)])
            assert (event.offset, event.lamport) == (1, 2)
            assert [one.offset for one in await read_all(log, Tag("after"))] == [1]
        async with open_log(folder) as log:
            return [event.tags[0] for event in await read_all(log)]

    return asyncio.run(run())


def test_a_full_disk_refuses_appends_and_the_log_goes_on_when_there_is_room(
    tmp_path: Path,
) -> None:
    assert on_a_full_disk(tmp_path) == ["before", "after"]


def test_a_full_disk_refuses_received_ranges_too(tmp_path: Path) -> None:
    bob = Author(member("bob"))

    async def run() -> None:
        disk = SmallDisk(tmp_path)
        async with open_log(tmp_path, disk=disk) as log:
            await disk.resize(await disk.pages() + 2)
            sealed = bob.count(600)
            with pytest.raises(StoreFull):
                await log.receive(sealed)
            assert bob.stream not in log.offsets
            assert log.lamport == 0
            await disk.resize(10_000)
            assert len(await log.receive(sealed)) == 600

    asyncio.run(run())


def test_a_small_append_still_fits_where_a_large_one_did_not(tmp_path: Path) -> None:
    async def run() -> list[object]:
        disk = SmallDisk(tmp_path)
        async with open_log(tmp_path, disk=disk) as log:
            await disk.resize(await disk.pages() + 10)
            with pytest.raises(StoreFull):
                await log.publish(BIG)
            await log.publish([draft("small", 1)])
            return [event.tags for event in await read_all(log)]

    assert asyncio.run(run()) == [("small",)]


def test_all_refusals_have_one_root() -> None:
    assert issubclass(StoreFull, LogError)
    assert issubclass(StoreMismatch, LogError)
