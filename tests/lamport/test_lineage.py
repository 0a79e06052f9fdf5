"""A database that came back from an earlier time is known by its token, wherever the power went."""

import asyncio
import errno
import random
import shutil
import sqlite3
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from lamport.errors import StoreFailed, StoreFull
from lamport.event import draft
from lamport.ids import MIN_DRAWN_STREAM_NUMBER, STREAM_NUMBER_LIMIT, StreamId
from lamport.lineage import MARK_AS_COPY
from lamport.log import EventLog
from lamport.seams import Connection, Disk, Statement
from lamport.sqlite import DATABASE_NAME, TOKEN_NAME, SqliteDisk
from lamport.store import Store
from tests.lamport.keys import NOW_US, member, read_all

RANDOMNESS = random.Random(4)


def drawn() -> int:
    return RANDOMNESS.randrange(MIN_DRAWN_STREAM_NUMBER, STREAM_NUMBER_LIMIT)


class Crash(BaseException):
    """The process ends here."""


class CrashingDisk:
    """A real disk. The process ends before or behind its n-th change, or a change of the token is refused."""

    def __init__(self, folder: Path, changes: int | None = None, *, behind: bool = False) -> None:
        self._disk = SqliteDisk(folder)
        self._left = changes
        self._behind = behind
        self.refusal: int | None = None

    async def open_writer(self) -> Connection:
        return _CrashingConnection(await self._disk.open_writer(), self)

    async def open_reader(self) -> Connection:
        return await self._disk.open_reader()

    async def read_token(self) -> bytes:
        return await self._disk.read_token()

    async def write_token(self, token: bytes) -> None:
        if self.refusal is not None:
            raise OSError(self.refusal, "refused")
        async with self.change():
            await self._disk.write_token(token)

    @asynccontextmanager
    async def change(self) -> AsyncIterator[None]:
        if self._left == 0 and not self._behind:
            raise Crash
        yield
        if self._left == 0:
            raise Crash
        self._left = None if self._left is None else self._left - 1


class _CrashingConnection:
    def __init__(self, connection: Connection, disk: CrashingDisk) -> None:
        self._connection = connection
        self._disk = disk

    async def fetch(self, sql: str, parameters: Iterable[object] = ()) -> list[tuple[object, ...]]:
        return await self._connection.fetch(sql, tuple(parameters))

    async def transact(self, statements: Iterable[Statement]) -> None:
        async with self._disk.change():
            await self._connection.transact(statements)

    async def close(self) -> None:
        await self._connection.close()


@asynccontextmanager
async def opened(disk: Disk) -> AsyncIterator[EventLog]:
    store = await Store.open(disk, member(), drawn)
    log = EventLog(store, member(), lambda: NOW_US)
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(log.write())
            try:
                yield log
            finally:
                log.close()
    finally:
        await store.close()


def published(folder: Path, text: str, disk: Disk | None = None) -> StreamId:
    """Publish one event; returns the stream it stands in."""

    async def publish() -> StreamId:
        async with opened(disk or SqliteDisk(folder)) as log:
            [event] = await log.publish([draft("x", text)])
            return event.stream

    return asyncio.run(publish())


def held(folder: Path) -> list[str]:
    async def read() -> list[str]:
        async with opened(SqliteDisk(folder)) as log:
            return [event.payload for event in await read_all(log)]

    return asyncio.run(read())


def execute(folder: Path, *statements: str) -> None:
    connection = sqlite3.connect(folder / DATABASE_NAME, isolation_level=None)
    for statement in statements:
        connection.execute(statement)
    connection.close()


def copied(folder: Path, target: Path) -> Path:
    """A copy of the database alone, as a backup makes it."""
    target.mkdir(exist_ok=True)
    shutil.copy(folder / DATABASE_NAME, target / DATABASE_NAME)
    return target


def test_restarts_keep_the_stream_and_change_the_token(tmp_path: Path) -> None:
    streams, tokens = set(), set()
    for text in "abc":
        streams.add(published(tmp_path, text))
        tokens.add((tmp_path / TOKEN_NAME).read_bytes())
    assert (len(streams), len(tokens)) == (1, 3)
    assert held(tmp_path) == ["a", "b", "c"]


def test_the_token_is_the_owners_alone_to_read(tmp_path: Path) -> None:
    published(tmp_path, "a")
    assert (tmp_path / TOKEN_NAME).stat().st_mode & 0o777 == 0o600
    assert not (tmp_path / f"{TOKEN_NAME}.new").exists()


def test_a_restored_database_gets_a_new_stream_and_keeps_the_old_one(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    first = published(home, "a")
    backup = copied(home, tmp_path / "backup")
    assert published(home, "b") == first
    shutil.copy(backup / DATABASE_NAME, home / DATABASE_NAME)
    second = published(home, "c")
    assert second != first
    assert held(home) == ["a", "c"]
    assert published(home, "d") == second


def test_a_database_in_another_folder_gets_a_new_stream(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    first = published(home, "a")
    fresh = copied(home, tmp_path / "fresh")
    second = published(fresh, "b")
    assert second != first
    assert published(fresh, "c") == second
    assert published(home, "d") == first


@pytest.mark.parametrize("place", ["here", "fresh"])
def test_what_is_marked_as_a_copy_gets_a_new_stream_everywhere(tmp_path: Path, place: str) -> None:
    """Even where nothing was started between the copy and its return."""
    home = tmp_path / "here"
    home.mkdir()
    first = published(home, "a")
    folder = copied(home, tmp_path / place) if place == "fresh" else home
    execute(folder, MARK_AS_COPY.sql)
    second = published(folder, "b")
    assert second != first
    assert published(folder, "c") == second


def test_a_database_from_before_there_were_tokens_keeps_its_stream(tmp_path: Path) -> None:
    first = published(tmp_path, "a")
    execute(tmp_path, "DELETE FROM facts WHERE name = 'token'")
    (tmp_path / TOKEN_NAME).unlink()
    assert published(tmp_path, "b") == first
    assert published(tmp_path, "c") == first


def test_a_database_from_before_there_were_tokens_is_older_than_one(tmp_path: Path) -> None:
    first = published(tmp_path, "a")
    execute(tmp_path, "DELETE FROM facts WHERE name = 'token'")
    assert published(tmp_path, "b") != first


STEPS = [(changes, behind) for changes in range(3) for behind in (False, True)]
"""Token beside, database, token beside; the process ends before or behind each."""


@pytest.mark.parametrize(("changes", "behind"), STEPS)
def test_wherever_a_start_is_cut_off_the_stream_stays(
    tmp_path: Path, changes: int, *, behind: bool
) -> None:
    first = published(tmp_path, "a")
    with pytest.raises(Crash):
        published(tmp_path, "never", CrashingDisk(tmp_path, changes, behind=behind))
    assert published(tmp_path, "b") == first
    assert held(tmp_path) == ["a", "b"]


@pytest.mark.parametrize(("changes", "behind"), STEPS)
def test_wherever_the_start_of_a_copy_is_cut_off_it_never_writes_the_old_stream(
    tmp_path: Path, changes: int, *, behind: bool
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    first = published(home, "a")
    backup = copied(home, tmp_path / "backup")
    published(home, "b")
    shutil.copy(backup / DATABASE_NAME, home / DATABASE_NAME)
    with pytest.raises(Crash):
        published(home, "never", CrashingDisk(home, changes, behind=behind))
    second = published(home, "c")
    assert second != first
    assert published(home, "d") == second


@pytest.mark.parametrize(("changes", "behind"), STEPS)
def test_wherever_the_first_token_is_cut_off_the_stream_stays(
    tmp_path: Path, changes: int, *, behind: bool
) -> None:
    first = published(tmp_path, "a")
    execute(tmp_path, "DELETE FROM facts WHERE name = 'token'")
    (tmp_path / TOKEN_NAME).unlink()
    with pytest.raises(Crash):
        published(tmp_path, "never", CrashingDisk(tmp_path, changes, behind=behind))
    assert published(tmp_path, "b") == first


def test_without_room_for_a_token_a_log_is_read_and_not_written_to(tmp_path: Path) -> None:
    first = published(tmp_path, "a")
    token = (tmp_path / TOKEN_NAME).read_bytes()

    async def run() -> None:
        disk = CrashingDisk(tmp_path)
        disk.refusal = errno.ENOSPC
        async with opened(disk) as log:
            assert [event.payload for event in await read_all(log)] == ["a"]
            with pytest.raises(StoreFull):
                await log.publish([draft("x", "b")])
            assert (tmp_path / TOKEN_NAME).read_bytes() == token
            disk.refusal = None
            [event] = await log.publish([draft("x", "c")])
            assert (event.stream, event.offset) == (first, 1)

    asyncio.run(run())
    assert (tmp_path / TOKEN_NAME).read_bytes() != token


def test_a_disk_that_fails_the_token_has_failed(tmp_path: Path) -> None:
    async def run() -> None:
        disk = CrashingDisk(tmp_path)
        disk.refusal = errno.EIO
        await Store.open(disk, member(), drawn)

    with pytest.raises(StoreFailed):
        asyncio.run(run())


def test_a_new_stream_is_written_from_the_next_commit_on(tmp_path: Path) -> None:
    async def run() -> tuple[StreamId, StreamId]:
        async with opened(SqliteDisk(tmp_path)) as log:
            await log.publish([draft("x", "a")])
            first = log.stream
            log.store.take_new_stream()
            [event] = await log.publish([draft("x", "b")])
            assert (event.stream, event.offset, event.lamport) == (log.stream, 0, 2)
            return first, event.stream

    first, second = asyncio.run(run())
    assert first != second
    assert published(tmp_path, "c") == second
    assert held(tmp_path) == ["a", "b", "c"]
