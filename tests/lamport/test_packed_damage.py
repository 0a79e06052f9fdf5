"""Old events in blocks are mended and retracted like those in rows."""

import asyncio
import random
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import lamport.compaction
from lamport.errors import DamagedEvent
from lamport.event import Event
from lamport.ids import EventKey
from lamport.log import EventLog
from lamport.offsets import OffsetMap
from lamport.reader import Order
from lamport.seams import INLINE
from lamport.sqlite import DATABASE_NAME
from lamport.tags import ALL_EVENTS, Tag
from tests.lamport.keys import Author, drafts, member, open_log, read_all
from tests.lamport.test_repair import ALL, BOB, findings, mended, said

Act = Callable[[EventLog], Awaitable[None]]

BLOCKS = 6
"""Bob's forty events are four of five in the blocks from 0, 5, … 25; those from 30 on are rows."""


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five events to a block, when a test says so."""
    monkeypatch.setattr("lamport.tidying.IDLE_S", 3_600.0)
    monkeypatch.setattr(lamport.compaction, "IDLE_ROWS", 1)
    monkeypatch.setattr(lamport.compaction, "UNIT_EVENTS", 10)
    monkeypatch.setattr("lamport.blocks.BLOCK_EVENTS", 5)


async def pack(log: EventLog, keep: int = 1) -> None:
    """Make steps until so few rows are left, or nothing changes any more."""
    while log.store.compaction.rows > keep and log.store.compaction.can_pack:
        await log.store.merge_events(INLINE)


def execute(folder: Path, statement: str) -> list[Any]:
    with closing(sqlite3.connect(folder / DATABASE_NAME)) as connection:
        found = connection.execute(statement).fetchall()
        connection.commit()
    return found


def damaged(folder: Path, statement: str, act: Act) -> None:
    """Four sealed ranges of ten events each of Bob, three of them packed; something is altered; then act on the log."""

    async def run() -> None:
        async with open_log(folder) as log:
            await log.publish(drafts(2, "own"))
            for sealed in said(10, 10, 10, 10):
                await log.receive(sealed)
            await pack(log, keep=12)
        assert execute(folder, "SELECT count(*) FROM blocks") == [(BLOCKS,)]
        execute(folder, statement)
        async with open_log(folder) as log:
            await act(log)

    asyncio.run(run())


def at(offset: int, statement: str) -> str:
    return f'{statement} WHERE stream = 1 AND "offset" = {offset}'


@pytest.mark.parametrize(
    ("statement", "count"),
    [
        (at(10, "UPDATE blocks SET data = substr(data, 1, 50)"), 5),
        (at(10, "UPDATE blocks SET data = 'text'"), 5),
        ("UPDATE blocks SET data = zeroblob(90)", 30),
        (at(10, 'UPDATE blocks SET "offset" = 3'), 5),
        (at(10, 'UPDATE blocks SET "offset" = 9999'), 5),
        (at(25, 'UPDATE blocks SET "offset" = 9999'), 5),
        (at(10, "UPDATE blocks SET count = 4"), 5),
        (at(25, "UPDATE blocks SET count = 4000"), 5),
        (at(10, "UPDATE blocks SET last = last + 1048576"), 5),
        (at(10, "UPDATE blocks SET key = key + 1048576"), 5),
        (at(10, "UPDATE blocks SET stream = 77"), 5),
        (at(25, "UPDATE blocks SET stream = 77"), 5),
        (at(10, "DELETE FROM blocks"), 5),
        (at(25, "DELETE FROM blocks"), 5),
        ('DELETE FROM blocks WHERE "offset" >= 20', 10),
        ("DELETE FROM blocks", 30),
        ('UPDATE events SET crc = crc + 1 WHERE stream = 1 AND "offset" = 33', 1),
        ('UPDATE events SET bytes = zeroblob(9) WHERE stream = 1 AND "offset" = 33', 1),
        ("UPDATE events SET crc = NULL WHERE stream = 1", 0),
        ('UPDATE seals SET signature = zeroblob(64) WHERE stream = 1 AND "offset" = 9', 0),
        ('UPDATE seals SET hash = zeroblob(32) WHERE stream = 1 AND "offset" IN (9, 19, 29)', 0),
    ],
)
@pytest.mark.parametrize("sizes", [(10, 10, 10, 10), (15, 25), (1,) * 40])
def test_whatever_was_altered_is_as_it_was_again(
    tmp_path: Path, statement: str, count: int, sizes: tuple[int, ...]
) -> None:
    """It reads and verifies as before, and is packed on behind that."""

    async def act(log: EventLog) -> None:
        before = log.offsets
        if len(sizes) in {1, 2} and "seals" in statement:
            return  # a seal is had again from a peer that has it
        assert await mended(log, ALL, said(*sizes)) == count
        for _ in range(2):
            assert await findings(log, tmp_path) == []
            assert log.offsets == before
            for order in Order:
                assert len(await read_all(log, order=order)) == 42
            assert [len(await read_all(log, Tag(f"range:{one}"))) for one in range(4)] == [10] * 4
            for offset in (0, 7, 23, 39):
                assert await log.served_range(BOB, offset, 10) is not None
            assert await log.repair.piece(ALL) is None
            await pack(log)
        assert execute(tmp_path, "SELECT count(*) FROM events WHERE stream = 1") == [(0,)]

    damaged(tmp_path, statement, act)


@pytest.mark.parametrize("seed", range(20))
def test_any_flipped_bit_of_a_block_that_shows_is_found_where_it_is_and_mended(
    tmp_path: Path, seed: int
) -> None:
    randomness = random.Random(seed)
    offset = 5 * randomness.randrange(BLOCKS)

    async def act(log: EventLog) -> None:
        [(data,)] = execute(tmp_path, at(offset, "SELECT data FROM blocks"))
        altered = bytearray(data)
        altered[randomness.randrange(8, len(data))] ^= 1 << randomness.randrange(8)
        strike = f"UPDATE blocks SET data = x'{altered.hex()}'"  # noqa: S608 - a number of ours
        execute(tmp_path, at(offset, strike))
        with pytest.raises(DamagedEvent) as caught:
            await read_all(log)
        damage = caught.value.damage
        assert (damage.stream, damage.first, damage.last) == (BOB, offset, offset + 4)
        assert log.damages.spans == (damage,)
        assert await mended(log, damage, said(10, 10, 10, 10)) == 5
        log.mended(damage)
        assert len(await read_all(log)) == 42
        assert execute(tmp_path, at(offset, "SELECT data FROM blocks")) == [(data,)]
        assert await findings(log, tmp_path) == []

    damaged(tmp_path, "DELETE FROM snapshots", act)


def test_a_block_of_which_a_part_was_read_before_is_told_to_be_damaged_behind_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its sound frames were opened by key; a scan that begins within it meets the other ones."""
    monkeypatch.setattr("lamport.blocks.FRAME_EVENTS", 2)

    async def act(log: EventLog) -> None:
        first, inside = EventKey(11, BOB), EventKey(12, BOB)
        found = await log._reader.events_at([first])  # noqa: SLF001 - opens its frame alone
        assert keys(found) == [first]
        with pytest.raises(DamagedEvent, match="offsets 10 to 14 of stream"):
            async for _ in log.read(ALL_EVENTS, after=inside):
                pass

    shorter = "CAST(substr(data, 1, length(data) - 20) || zeroblob(20) AS BLOB)"
    damaged(tmp_path, at(10, f"UPDATE blocks SET data = {shorter}"), act)  # noqa: S608


def test_a_read_that_is_under_way_goes_on_in_blocks_that_were_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lamport.reader.PAGE_EVENTS", 1)
    monkeypatch.setattr("lamport.reader.SCANNED_PAGES", 1)
    monkeypatch.setattr("lamport.reader.DECODED_EVENTS", 1)

    async def act(log: EventLog) -> None:
        pages = log.read(Tag("said"))
        seen = list(await anext(pages))
        execute(tmp_path, 'UPDATE seals SET clock = clock + 1 WHERE stream = 1 AND "offset" = 9')
        assert await mended(log, ALL, said(7, 13, 10, 10)) == 0
        async for page in pages:
            seen += page
        assert [event.offset for event in seen] == list(range(40))

    damaged(tmp_path, "DELETE FROM snapshots", act)


def keys(events: list[Event]) -> list[EventKey]:
    return [event.key for event in events]


@pytest.mark.parametrize("packs_last", [False, True])
def test_what_is_retracted_is_hidden_in_blocks_as_well(tmp_path: Path, *, packs_last: bool) -> None:
    async def run() -> None:
        async with open_log(tmp_path) as log:
            own = list(await log.publish(drafts(20, "said")))
            if not packs_last:
                await pack(log)
            present = log.offsets
            follower = log.follow(present)
            hidden = [own[3], own[4], own[12]]
            retraction = await log.retract([event.key for event in hidden], "a slip")
            told = (await follower.next()).retracted
            assert list(told) == hidden
            if packs_last:
                await pack(log)
            left = [event.key for event in own if event not in hidden]
            for order in (Order.ASCENDING, Order.PER_STREAM):
                assert keys(await read_all(log, Tag("said"), order)) == left
            assert keys(await read_all(log, Tag("said"), Order.DESCENDING)) == left[::-1]
            assert keys(await read_all(log)) == [*left, retraction.key]
            then = [page async for page in log.read(Tag("said"), as_of=present)]
            assert [one.key for page in then for one in page] == keys(own)
            assert await log.newly_retracted(OffsetMap(), log.offsets) == hidden
        execute(tmp_path, "DELETE FROM retractions")
        execute(tmp_path, "DELETE FROM facts WHERE name = 'retractions'")
        async with open_log(tmp_path) as log:
            await pack(log)
            assert keys(await read_all(log, Tag("said"))) == left
            assert await findings(log, tmp_path) == []

    asyncio.run(run())


def test_an_event_in_a_damaged_block_can_be_retracted(tmp_path: Path) -> None:
    async def run() -> None:
        async with open_log(tmp_path) as log:
            own = await log.publish(drafts(20, "said"))
            await pack(log)
        execute(tmp_path, 'UPDATE blocks SET data = zeroblob(90) WHERE "offset" = 5')
        async with open_log(tmp_path) as log:
            follower = log.follow()
            await log.retract([own[7].key, own[12].key], "damaged")
            told = (await follower.next()).retracted
            assert [(one.key, one.tags) for one in told] == [
                (own[7].key, ()),
                (own[12].key, ("said",)),
            ]

    asyncio.run(run())


def test_a_table_of_retractions_is_made_anew_from_blocks_that_can_be_read(tmp_path: Path) -> None:
    async def run() -> None:
        async with open_log(tmp_path) as log:
            first = await log.publish(drafts(9, "said"))
            early = await log.retract([first[1].key], "a slip")
            second = await log.publish(drafts(10, "said"))
            await log.retract([second[1].key], "another")
            await log.publish(drafts(9, "said"))
            await pack(log)
        assert early.offset == 9
        execute(
            tmp_path,
            'UPDATE blocks SET data = zeroblob(90) WHERE 20 BETWEEN "offset" AND "offset" + count - 1',
        )
        execute(tmp_path, "DELETE FROM retractions")
        execute(tmp_path, "DELETE FROM facts WHERE name = 'retractions'")
        async with open_log(tmp_path) as log:
            assert list(log.retracted) == [first[1].key]

    asyncio.run(run())


def test_what_is_behind_a_mended_row_is_packed_again(tmp_path: Path) -> None:
    async def act(log: EventLog) -> None:
        await pack(log)
        assert execute(tmp_path, "SELECT count(*) FROM events WHERE stream = 1") == [(10,)]
        assert await mended(log, ALL, said(10, 10, 10, 10)) == 1
        await pack(log)
        assert execute(tmp_path, "SELECT count(*) FROM events WHERE stream = 1") == [(0,)]
        bob = Author(member("bob"))
        assert bob.stream == BOB
        assert await findings(log, tmp_path) == []

    damaged(tmp_path, 'UPDATE events SET bytes = zeroblob(9) WHERE "offset" = 33', act)
