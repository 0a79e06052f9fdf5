"""What is mended in one place harms nothing in another, whatever was altered meanwhile."""

import asyncio
from pathlib import Path

import pytest

import lamport.compaction
import lamport.tidying
from lamport.chain import Seal
from lamport.errors import DamagedRange
from lamport.ids import EventKey
from lamport.log import EventLog
from lamport.offsets import OffsetRange
from lamport.reader import Order
from lamport.tags import Tag
from tests.lamport.keys import drafts, member, open_log, read_all
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
