"""What is mended in one place harms nothing in another, whatever was altered meanwhile."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

import lamport.compaction
import lamport.tidying
from lamport.chain import Seal
from lamport.errors import DamagedRange, StoreMismatch
from lamport.ids import EventKey
from lamport.log import EventLog
from lamport.offsets import OffsetRange
from lamport.reader import Order
from lamport.tags import Tag
from lamport.verification import block_entries, offset_entries
from tests.lamport.keys import drafts, member, open_log, read_all
from tests.lamport.test_compaction import looked_at
from tests.lamport.test_packed_damage import at, damaged, execute, pack
from tests.lamport.test_repair import ALL, BOB, _from, findings, mended, said

RANGES = (10, 10, 10, 10)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five events to a block, when a test says so."""
    monkeypatch.setattr("lamport.tidying.IDLE_S", 3_600.0)
    monkeypatch.setattr(lamport.compaction, "IDLE_ROWS", 1)
    monkeypatch.setattr(lamport.compaction, "UNIT_EVENTS", 10)
    monkeypatch.setattr("lamport.blocks.BLOCK_EVENTS", 5)
    monkeypatch.setattr(lamport.compaction, "BLOCK_EVENTS", 5)


async def own_and_bob(folder: Path, own: int, *, packs: bool) -> None:
    """So many own events, then forty of Bob's."""
    async with open_log(folder) as log:
        await log.publish(drafts(own, "own"))
        for sealed in said(*RANGES):
            await log.receive(sealed)
        if packs:
            await pack(log)


@pytest.mark.parametrize("target", ["blocks", "events"])
def test_what_another_stream_has_is_not_deleted_with_what_is_mended(
    tmp_path: Path, target: str
) -> None:
    """One bit of the column `stream` files an own block, or row, among Bob's."""

    async def run() -> None:
        await own_and_bob(tmp_path, 40, packs=target == "blocks")
        place = f'{target} WHERE stream = 1 AND "offset" = 10'
        execute(tmp_path, f"DELETE FROM {place}")  # noqa: S608 - ours
        moved = f'UPDATE {target} SET stream = 1 WHERE stream = 0 AND "offset" = 10'  # noqa: S608 - ours
        execute(tmp_path, moved)
        async with open_log(tmp_path) as log:
            await mended(log, OffsetRange(BOB, 0, 39), said(*RANGES))
            assert await findings(log, tmp_path) == []
            assert [event.offset for event in await read_all(log, Tag("own"))] == list(range(40))
            for order in Order:
                assert len(await read_all(log, order=order)) == 80

    asyncio.run(run())


def test_what_was_given_up_while_a_peer_answered_is_not_written_again(tmp_path: Path) -> None:
    async def act(log: EventLog) -> None:
        piece = await log.repair.piece(OffsetRange(BOB, 0, 9))
        assert piece is not None
        mending, seal = log.repair.mending(piece), said(*RANGES)[-1].seal
        horizon = Seal(BOB, seal.offset, seal.hash, seal.clock, 25).signed(member("bob"))
        await log.follow_horizon(horizon)
        while not log.store.horizons[BOB].is_followed:
            await log._tidying.step()  # noqa: SLF001 - it would make it when idle
        before = execute(tmp_path, "SELECT key FROM blocks")
        while not mending.add(_from(said(*RANGES), mending)):
            pass
        assert await log.repair.replace(mending) == 0
        assert execute(tmp_path, "SELECT key FROM blocks") == before
        assert execute(tmp_path, 'SELECT * FROM seals WHERE stream = 1 AND "offset" < 24') == []

    damaged(tmp_path, at(0, "UPDATE blocks SET data = zeroblob(90)"), act)


def test_a_block_that_was_opened_before_it_was_mended_is_read_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lamport.blocks.FRAME_EVENTS", 2)

    async def act(log: EventLog) -> None:
        [(data,)] = execute(tmp_path, at(10, "SELECT data FROM blocks"))
        altered = data[:-10] + bytes([data[-10] ^ 4]) + data[-9:]
        strike = f"UPDATE blocks SET data = x'{altered.hex()}'"  # noqa: S608 - of ours
        execute(tmp_path, at(10, strike))
        await log._reader.events_at([EventKey(11, BOB)])  # noqa: SLF001 - opens the first frame alone
        assert await mended(log, ALL, said(*RANGES)) == 5
        for order in Order:
            assert len(await read_all(log, order=order)) == 42

    damaged(tmp_path, "DELETE FROM snapshots", act)


@pytest.mark.parametrize("stream", [1, 0, 77])
def test_a_damaged_block_that_stands_nowhere_is_deleted_when_reads_meet_it(
    tmp_path: Path, stream: int
) -> None:
    """Its key and its offset are off; what it held is mended where it was, which does not find it."""
    columns = 'key = key + (1 << 40), last = last + (1 << 40), "offset" = 9000, stream ='
    strike = f"UPDATE blocks SET {columns} {stream}"  # noqa: S608 - ours

    async def act(log: EventLog) -> None:
        assert await mended(log, ALL, said(*RANGES)) == 5
        try:
            await read_all(log)
        except DamagedRange as error:
            assert await log.repair.piece(error.damage) is None  # noqa: PT017 - it may be gone already
        for order in Order:
            assert len(await read_all(log, order=order)) == 42
        assert await findings(log, tmp_path) == []

    damaged(tmp_path, at(10, strike), act)


def test_a_block_whose_key_is_another_streams_is_mended_in_its_own(tmp_path: Path) -> None:
    """Reads name the stream of the key, in which all is well."""

    async def act(log: EventLog) -> None:
        with pytest.raises(DamagedRange) as caught:
            await read_all(log)
        assert caught.value.damage.stream == log.stream
        assert await mended(log, caught.value.damage, said(*RANGES)) == 5
        assert len(await read_all(log)) == 42
        assert await findings(log, tmp_path) == []

    damaged(tmp_path, at(10, "UPDATE blocks SET key = key - 1"), act)


@pytest.mark.parametrize("stream", [0, 1])
def test_a_block_filed_under_another_stream_is_put_back_by_healing(
    tmp_path: Path, stream: int
) -> None:
    asyncio.run(own_and_bob(tmp_path, 60, packs=True))
    found = f'stream = {stream} AND "offset" = 10'
    execute(tmp_path, f"UPDATE blocks SET stream = 77 WHERE {found}")  # noqa: S608 - ours
    told, cuts = looked_at(tmp_path, mend=True)
    assert "is filed under the stream 77" in " ".join(told)
    assert not cuts
    assert looked_at(tmp_path) == ([], [])
    assert execute(tmp_path, f"SELECT count FROM blocks WHERE {found}") == [(5,)]  # noqa: S608 - ours


@pytest.mark.parametrize("column", ["last", "key"])
def test_healing_sets_the_clock_by_what_holds(tmp_path: Path, column: str) -> None:
    asyncio.run(own_and_bob(tmp_path, 60, packs=True))
    strike = f"UPDATE blocks SET {column} = {column} + (1 << 61)"  # noqa: S608 - ours
    execute(tmp_path, f'{strike} WHERE stream = 0 AND "offset" = 50')
    looked_at(tmp_path, mend=True)
    assert execute(tmp_path, "SELECT value FROM facts WHERE name = 'clock'") == [(60,)]


def test_a_clock_that_is_behind_is_set_by_packed_events(tmp_path: Path) -> None:
    asyncio.run(own_and_bob(tmp_path, 60, packs=True))
    execute(tmp_path, "UPDATE facts SET value = 3 WHERE name = 'clock'")
    execute(tmp_path, "DELETE FROM tag_tails")
    looked_at(tmp_path, mend=True)
    assert execute(tmp_path, "SELECT value FROM facts WHERE name = 'clock'") == [(60,)]


@pytest.mark.parametrize(
    "change",
    [
        "data = CAST(data AS TEXT)",
        "\"offset\" = 'ten'",
        "count = 5.5",
        "last = x'00'",
        "stream = 'x'",
    ],
)
def test_a_column_of_another_type_is_found_and_healed(tmp_path: Path, change: str) -> None:
    asyncio.run(own_and_bob(tmp_path, 1, packs=True))
    execute(tmp_path, at(10, f"UPDATE blocks SET {change}"))  # noqa: S608 - ours
    assert looked_at(tmp_path, mend=True)[0]
    assert looked_at(tmp_path) == ([], [])


def test_a_table_that_runs_in_circles_is_not_read_for_ever() -> None:
    """A flipped bit of a row's key, or of an index's entry: SQLite goes on behind it where it was before."""

    class Circling:
        """Answers whatever is asked with the same rows; no file of SQLite can be bent to that reliably."""

        def __init__(self, *rows: tuple[Any, ...]) -> None:
            self._rows = list(rows)

        async def fetch(self, sql: str, parameters: Any = ()) -> list[tuple[Any, ...]]:
            del sql, parameters
            return self._rows

    async def run() -> None:
        for entries, row in (
            (block_entries, (0, 5, 5, 1)),
            (block_entries, ("x", None, 5, b"")),
            (offset_entries, ("x", None, 5)),
        ):
            with pytest.raises(StoreMismatch, match="runs in circles"):
                async for _ in entries(Circling(row)):  # type: ignore[arg-type]
                    pass

    asyncio.run(run())


@pytest.mark.parametrize(
    "change",
    [
        "number = number + 65536",
        "number = 'x'",
        "number = number + 1",
        "copy = 5",
        "copy = 'x'",
        "data = 'x'",
        "crc = crc + 1",
        "crc = 'x'",
    ],
)
def test_a_damaged_copy_of_a_dictionary_is_told_and_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    monkeypatch.setattr("lamport.dictionaries.MIN_SAMPLES", 8)
    monkeypatch.setattr("lamport.dictionaries.DICTIONARY_BYTES", 512)
    monkeypatch.setattr("lamport.blocks.FRAME_EVENTS", 2)
    asyncio.run(own_and_bob(tmp_path, 60, packs=True))
    every = "SELECT * FROM dictionaries ORDER BY number, copy"
    before = execute(tmp_path, every)
    assert len(before) == 2
    execute(tmp_path, f"UPDATE dictionaries SET {change} WHERE copy = 1")  # noqa: S608 - ours
    told, cuts = looked_at(tmp_path, mend=True)
    assert "dictionary" in " ".join(told)
    assert not cuts
    assert execute(tmp_path, every) == before
    assert looked_at(tmp_path) == ([], [])


def test_a_block_filed_elsewhere_is_not_brought_back_beside_what_replaced_it(
    tmp_path: Path,
) -> None:
    """Its beginning was given up, so that what a peer gave in its place begins under another key."""

    async def act(log: EventLog) -> None:
        seal = said(*RANGES)[-1].seal
        await log.follow_horizon(
            Seal(BOB, seal.offset, seal.hash, seal.clock, 2).signed(member("bob"))
        )
        while not log.store.horizons[BOB].is_followed:
            await log._tidying.step()  # noqa: SLF001 - it would make it when idle
        execute(tmp_path, at(0, "UPDATE blocks SET stream = 9"))
        log.store.events.forget()
        assert await mended(log, ALL, said(*RANGES)) == 3
        assert [one.offset for one in await read_all(log, Tag("said"))] == list(range(2, 40))
        assert execute(tmp_path, "SELECT count(*) FROM blocks WHERE stream = 9") == [(0,)]

    damaged(tmp_path, "DELETE FROM snapshots", act)
