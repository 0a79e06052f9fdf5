"""What the disk altered is not served: not to peers, not to readers where it shows; the rest is."""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path

import pytest

from lamport.errors import DamagedRange, StoreMismatch
from lamport.ids import EventKey
from lamport.log import EventLog
from lamport.reader import Order, Reader
from lamport.sqlite import DATABASE_NAME
from lamport.tags import ALL_EVENTS, Tag
from lamport.verification import require_sound_heads
from tests.lamport.keys import Author, drafts, member, open_log, read_all

BOB = Author(member("bob")).stream

Act = Callable[[EventLog], Awaitable[None]]


def damaged(folder: Path, statement: str, act: Act) -> None:
    """Three sealed ranges of ten events each of Bob, of which something is altered; then act on the log."""

    async def run() -> None:
        bob = Author(member("bob"))
        async with open_log(folder) as log:
            await log.publish(drafts(2, "own"))
            for number in range(3):
                await log.receive(bob.count(10, tags=("said", f"range:{number}")))
        with closing(sqlite3.connect(folder / DATABASE_NAME)) as connection:
            connection.execute(statement)
            connection.commit()
        async with open_log(folder) as log:
            await act(log)

    asyncio.run(run())


def altered(offset: int) -> str:
    return (
        "UPDATE events SET bytes = CAST(substr(bytes, 1, length(bytes) - 1) || x'63' AS BLOB)"  # noqa: S608
        f' WHERE stream = 1 AND "offset" = {offset:d}'
    )


def test_a_range_with_altered_bytes_is_not_sent_and_the_others_are(tmp_path: Path) -> None:
    async def act(log: EventLog) -> None:
        for serve in (log.sealed_range, log.served_range):
            with pytest.raises(DamagedRange, match=r"offsets 10 to 19 of stream .*verify --heal"):
                await serve(BOB, 10, 10)
            for first in (0, 20):
                sealed = await serve(BOB, first, 10)
                assert sealed is not None
                assert len(sealed.events) == 10
        assert list(log.damages.texts) == [BOB]
        sound = await log.served_range(BOB, 0, 1_000)
        assert sound is not None
        assert sound.seal.offset == 9

    damaged(tmp_path, altered(14), act)


def test_a_hash_that_would_follow_from_altered_bytes_is_not_told(tmp_path: Path) -> None:
    async def act(log: EventLog) -> None:
        for offset in (12, 15):
            with pytest.raises(DamagedRange, match="offsets 10 to 19"):
                await log.hash_at(BOB, offset)
        for offset in (-1, 9, 19, 25, 29):
            assert await log.hash_at(BOB, offset) is not None

    damaged(tmp_path, altered(14), act)


@pytest.mark.parametrize(
    "statement",
    [
        'UPDATE seals SET signature = zeroblob(64) WHERE stream = 1 AND "offset" = 19',
        'UPDATE seals SET clock = clock + 1 WHERE stream = 1 AND "offset" = 19',
        'UPDATE seals SET hash = zeroblob(32) WHERE stream = 1 AND "offset" = 19',
        "UPDATE authors SET certificate = zeroblob(64)",
        'DELETE FROM events WHERE stream = 1 AND "offset" = 14',
    ],
)
def test_nothing_is_sent_that_a_peer_would_take_for_a_forgery(
    tmp_path: Path, statement: str
) -> None:
    async def act(log: EventLog) -> None:
        with pytest.raises(DamagedRange):
            await log.served_range(BOB, 10, 10)
        assert await log.served_range(BOB, 30, 10) is None

    damaged(tmp_path, statement, act)


@pytest.mark.parametrize(
    "damage",
    ["zeroblob(length(bytes))", "x'95'", "x'c1'", "x''", "x'950101070707'", "x'9501'"],
)
def test_bytes_that_are_no_event_any_more_are_not_handed_to_readers(
    tmp_path: Path, damage: str
) -> None:
    async def act(log: EventLog) -> None:
        with pytest.raises(DamagedRange, match="event 14 of stream"):
            await read_all(log, Tag("range:1"))
        for other in ("range:0", "range:2"):
            assert len(await read_all(log, Tag(other))) == 10

    statement = f'UPDATE events SET bytes = {damage} WHERE stream = 1 AND "offset" = 14'  # noqa: S608
    damaged(tmp_path, statement, act)


@pytest.mark.parametrize("stored", ["'text'", "5", "1.5"])
@pytest.mark.parametrize("order", Order)
def test_what_is_no_bytes_at_all_any_more_is_told_as_damage(
    tmp_path: Path, stored: str, order: Order
) -> None:
    async def act(log: EventLog) -> None:
        for where in (ALL_EVENTS, Tag("said")):
            with pytest.raises(DamagedRange, match="event 15 of stream"):
                await read_all(log, where, order)

    statement = f'UPDATE events SET bytes = {stored} WHERE stream = 1 AND "offset" = 15'  # noqa: S608
    damaged(tmp_path, statement, act)


@pytest.mark.parametrize("order", [Order.ASCENDING, Order.DESCENDING])
def test_an_event_whose_place_is_no_number_any_more_is_told_as_damage(
    tmp_path: Path, order: Order
) -> None:
    async def act(log: EventLog) -> None:
        for where in (ALL_EVENTS, Tag("said")):
            with pytest.raises(DamagedRange, match=r"the place of event .* is damaged"):
                await read_all(log, where, order)
        [lost] = [key for key in keys if key.lamport == 16]
        assert [event.key for event in await Reader(log.store).events_at(keys)] == keys
        assert [event.payload for event in await Reader(log.store).events_at([lost])] == [None]

    keys = [EventKey(lamport, BOB) for lamport in (15, 16, 17)]
    damaged(
        tmp_path, 'UPDATE events SET "offset" = \'far\' WHERE stream = 1 AND "offset" = 15', act
    )


@pytest.mark.parametrize("stored", ["'text'", "5"])
def test_what_is_no_bytes_at_all_is_neither_sent_nor_hashed(tmp_path: Path, stored: str) -> None:
    async def act(log: EventLog) -> None:
        with pytest.raises(DamagedRange, match="offsets 15 to 15"):
            await log.sealed_range(BOB, 10, 10)
        sealed = await log.served_range(BOB, 0, 1_000)
        assert sealed is not None
        assert sealed.seal.offset == 9
        with pytest.raises(DamagedRange):
            await log.hash_at(BOB, 17)

    statement = f'UPDATE events SET bytes = {stored} WHERE stream = 1 AND "offset" = 15'  # noqa: S608
    damaged(tmp_path, statement, act)


def test_a_seals_hash_that_is_a_text_is_told_as_damage(tmp_path: Path) -> None:
    async def act(log: EventLog) -> None:
        with pytest.raises(DamagedRange, match="offsets 9 to 9 of stream"):
            await log.hash_at(BOB, 9)

    damaged(tmp_path, "UPDATE seals SET hash = 'text' WHERE stream = 1 AND \"offset\" = 9", act)


def test_nothing_is_written_behind_a_damaged_head_of_ones_own(tmp_path: Path) -> None:
    async def act(log: EventLog) -> None:
        with pytest.raises(StoreMismatch, match="this node's own log is damaged"):
            await require_sound_heads(log.store.reader, member())

    damaged(tmp_path, "UPDATE streams SET hash = zeroblob(32) WHERE row = 0", act)


def test_a_damaged_head_of_another_is_only_told(tmp_path: Path) -> None:
    async def act(log: EventLog) -> None:
        [finding] = await require_sound_heads(log.store.reader, member())
        assert finding.stream == BOB

    damaged(tmp_path, "UPDATE streams SET head = 25 WHERE row = 1", act)


def test_sound_heads_are_sound(tmp_path: Path) -> None:
    async def act(log: EventLog) -> None:
        assert await require_sound_heads(log.store.reader, member()) == []

    damaged(tmp_path, "DELETE FROM snapshots", act)
