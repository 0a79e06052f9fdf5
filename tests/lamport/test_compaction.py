"""Old events in blocks: served, verified, found damaged and healed like those in rows, and not packed where unsound."""

import asyncio
import shutil
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import lamport.compaction
from lamport.chain import MAX_SEALED_EVENTS
from lamport.errors import DamagedEvent, DamagedRange
from lamport.event_table import Row
from lamport.healing import heal
from lamport.log import EventLog
from lamport.reader import Order
from lamport.row_keys import row_checksum
from lamport.seams import INLINE
from lamport.sqlite import DATABASE_NAME, SqliteDisk
from lamport.tags import Tag
from lamport.verification import Verification
from tests.lamport.keys import Author, drafts, member, open_log, read_all, taken
from tests.lamport.test_disputed_cuts import copied, revoked, take

BOB = Author(member("bob")).stream
FIXTURES = Path(__file__).parent / "fixtures"
"""Seven events of ours and nine of bob's, as a node of schema 2 left them: rows without checksums."""

Act = Callable[[EventLog], Awaitable[None]]


@pytest.fixture(autouse=True)
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pack everything, ten events to a block, when a test says so; nothing is learnt."""
    monkeypatch.setattr("lamport.tidying.IDLE_S", 3_600.0)
    monkeypatch.setattr(lamport.compaction, "IDLE_ROWS", 1)
    monkeypatch.setattr(lamport.compaction, "UNIT_EVENTS", 40)
    monkeypatch.setattr("lamport.blocks.BLOCK_EVENTS", 10)
    monkeypatch.setattr("lamport.blocks.FRAME_EVENTS", 4)
    monkeypatch.setattr("lamport.dictionaries.MIN_SAMPLES", 1_000)


async def pack(log: EventLog) -> None:
    """Make steps until nothing changes any more."""
    while log.store.compaction.rows > 1 and log.store.compaction.can_pack:
        await log.store.merge_events(INLINE)


def execute(folder: Path, *statements: str) -> list[Any]:
    with closing(sqlite3.connect(folder / DATABASE_NAME)) as connection:
        found = [connection.execute(statement).fetchall() for statement in statements]
        connection.commit()
    return found[-1]


def filled(folder: Path, act: Act | None = None, *, packed: bool = True) -> None:
    """Twelve sealed ranges of ten events each of bob among a few of ours, packed."""

    async def run() -> None:
        bob = Author(member("bob"))
        async with open_log(folder) as log:
            for number in range(12):
                await log.receive(bob.count(10, tags=("said", f"range:{number}")))
                await log.publish(drafts(2, "own"))
            if packed:
                await pack(log)
            if act is not None:
                await act(log)

    asyncio.run(run())


def reopened(folder: Path, act: Act) -> None:
    async def run() -> None:
        async with open_log(folder) as log:
            await act(log)

    asyncio.run(run())


def findings(folder: Path) -> list[str]:
    return looked_at(folder)[0]


def looked_at(folder: Path, *, mend: bool = False) -> tuple[list[str], list[str]]:
    async def look() -> tuple[list[str], list[str]]:
        connection = await SqliteDisk(folder).open_writer()
        try:
            look = Verification(connection, member())
            found = [str(step) async for step in look.run() if not hasattr(step, "done")]
            cuts = await heal(connection, look, member()) if mend else ()
            return found, list(map(str, cuts))
        finally:
            await connection.close()

    return asyncio.run(look())


def test_packing_changes_no_answer_and_leaves_a_seal_for_each_unit(tmp_path: Path) -> None:
    async def compare(log: EventLog) -> None:
        orders = [await read_all(log, order=order) for order in Order]
        tagged = await read_all(log, Tag("range:7"))
        await pack(log)
        assert [await read_all(log, order=order) for order in Order] == orders
        assert await read_all(log, Tag("range:7")) == tagged
        assert len(tagged) == 10

    filled(tmp_path, compare, packed=False)
    assert execute(tmp_path, "SELECT count(*) FROM events") == [(0,)]
    ends = execute(tmp_path, 'SELECT "offset" FROM seals ORDER BY "offset"')
    assert [end for (end,) in ends] == [23, 39, 79, 119]
    assert findings(tmp_path) == []


@pytest.mark.parametrize("first", [0, 5, 39, 40, 77, 119])
def test_a_peer_is_served_from_any_offset_up_to_a_seal_that_holds(
    tmp_path: Path, first: int
) -> None:
    bob = Author(member("bob"))
    whole = [one for _ in range(12) for one in bob.count(10, ("said",)).events]

    async def serve(log: EventLog) -> None:
        sealed = await log.served_range(BOB, first, 10)
        assert sealed is not None
        assert len(sealed.events) <= MAX_SEALED_EVENTS
        assert sealed.seal.offset in {39, 79, 119}
        assert await log.hash_at(BOB, first) is not None
        if first == 0:
            assert taken(sealed, log.store.genesis(BOB), member("peer")) is not None

    filled(tmp_path, serve)
    assert len(whole) == 120


DAMAGE = {
    "data": "UPDATE blocks SET data = CAST(substr(data, 1, 60) || x'00' || substr(data, 62) AS BLOB)",
    "truncated": "UPDATE blocks SET data = substr(data, 1, 50)",
    "swapped": 'UPDATE blocks SET data = (SELECT data FROM blocks WHERE stream = 1 AND "offset" = 20)',
    "offset": 'UPDATE blocks SET "offset" = "offset" + 1',
    "count": "UPDATE blocks SET count = count - 1",
    "last": "UPDATE blocks SET last = last - 1048576",
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_block_is_told_found_and_healed_and_the_rest_is_read(
    tmp_path: Path, name: str
) -> None:
    filled(tmp_path)
    execute(tmp_path, f'{DAMAGE[name]} WHERE stream = 1 AND "offset" = 50')

    async def read(log: EventLog) -> None:
        with pytest.raises(DamagedEvent, match=r"offsets 5\d to \d+ of stream .*verify --heal"):
            await read_all(log, Tag("range:5"))
        for other in ("range:4", "range:6"):
            assert len(await read_all(log, Tag(other))) == 10
        with pytest.raises(DamagedRange):
            await log.served_range(BOB, 40, 10)
        for sound in (0, 80):
            assert await log.served_range(BOB, sound, 10) is not None

    reopened(tmp_path, read)
    found, cuts = looked_at(tmp_path, mend=True)
    assert any("this block is damaged" in one for one in found), found
    assert cuts == [f"stream {BOB}: cut back from offset 119 to 39"]
    assert findings(tmp_path) == []

    async def again(log: EventLog) -> None:
        bob = Author(member("bob"))
        for number in range(12):
            await log.receive(bob.count(10, tags=("said", f"range:{number}")))
        await pack(log)
        assert len(await read_all(log, Tag("said"))) == 120

    reopened(tmp_path, again)
    assert findings(tmp_path) == []


def test_a_missing_block_is_found_and_healed(tmp_path: Path) -> None:
    filled(tmp_path)
    execute(tmp_path, 'DELETE FROM blocks WHERE stream = 1 AND "offset" = 50')
    found, cuts = looked_at(tmp_path, mend=True)
    assert any("offsets 50 to 59: these events are missing" in one for one in found), found
    assert cuts == [f"stream {BOB}: cut back from offset 119 to 39"]
    assert findings(tmp_path) == []


def test_a_flipped_payload_that_is_still_an_event_is_not_given_to_readers(tmp_path: Path) -> None:
    filled(tmp_path, packed=False)
    execute(
        tmp_path,
        "UPDATE events SET bytes = CAST(substr(bytes, 1, length(bytes) - 1) || x'63' AS BLOB)"
        ' WHERE stream = 1 AND "offset" = 14',
    )

    async def read(log: EventLog) -> None:
        with pytest.raises(DamagedEvent, match="event 14 of stream"):
            await read_all(log, Tag("range:1"))
        assert len(await read_all(log, Tag("range:0"))) == 10

    reopened(tmp_path, read)
    assert any("offsets 14 to 14: its bytes are not those" in one for one in findings(tmp_path))


@pytest.mark.parametrize("column", ['"offset" = 200', "crc = crc + 1"])
def test_a_row_in_another_place_is_not_given_to_readers(tmp_path: Path, column: str) -> None:
    filled(tmp_path, packed=False)
    execute(tmp_path, f'UPDATE events SET {column} WHERE stream = 1 AND "offset" = 14')  # noqa: S608

    async def read(log: EventLog) -> None:
        if "crc" in column:
            with pytest.raises(DamagedEvent):
                await read_all(log, Tag("range:1"))
        else:
            assert [one.offset for one in await read_all(log, Tag("range:1"))] == [
                offset for offset in range(10, 20) if offset != 14
            ]

    reopened(tmp_path, read)


@pytest.mark.parametrize(
    "change",
    [
        "bytes = CAST(substr(bytes, 1, length(bytes) - 1) || x'63' AS BLOB), crc = NULL",
        "key = key + (1 << 41)",  # which the checksum does not cover
    ],
)
def test_what_does_not_hold_is_not_packed(tmp_path: Path, change: str) -> None:
    filled(tmp_path, packed=False)
    execute(tmp_path, f'UPDATE events SET {change} WHERE stream = 1 AND "offset" = 55')  # noqa: S608 - the cases above
    reopened(tmp_path, pack)
    kept = 'SELECT min("offset"), count(*) FROM events WHERE stream = 1'
    assert execute(tmp_path, kept) == [(40, 80)]
    assert execute(tmp_path, "SELECT count(*) FROM events WHERE stream = 0") == [(0,)]


@pytest.mark.parametrize("schema", [2, 5])
def test_an_older_database_is_migrated_packed_and_answers(tmp_path: Path, schema: int) -> None:
    shutil.copy(FIXTURES / f"schema-{schema}.sqlite", tmp_path / DATABASE_NAME)

    async def read(log: EventLog) -> None:
        before = await read_all(log)
        assert len(before) == 16
        assert len(await read_all(log, Tag("said"))) == 9
        await pack(log)
        assert await read_all(log) == before
        await log.publish(drafts(1, "after"))

    reopened(tmp_path, read)
    assert execute(tmp_path, "SELECT count(*) FROM events") == [(1,)]
    assert findings(tmp_path) == []


def test_an_idle_log_gives_back_what_packing_set_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lamport.compaction, "MAX_FREE_PAGES", 0)
    monkeypatch.setattr("lamport.blocks.BLOCK_EVENTS", 40)
    monkeypatch.setattr("lamport.blocks.FRAME_EVENTS", 40)

    async def shrink(log: EventLog) -> None:
        before = execute(tmp_path, "PRAGMA page_count")
        await pack(log)
        while log.store.compaction.is_due(idle=True):
            await log.store.merge_events(INLINE)
        after = execute(tmp_path, "PRAGMA page_count")
        assert after < before
        assert execute(tmp_path, "PRAGMA freelist_count") == [(0,)]
        assert len(await read_all(log)) == 144

    filled(tmp_path, shrink, packed=False)


def learning(patch: pytest.MonkeyPatch) -> None:
    """Let the log learn a dictionary from the first frames it packs."""
    patch.setattr("lamport.dictionaries.MIN_SAMPLES", 8)
    patch.setattr("lamport.dictionaries.DICTIONARY_BYTES", 512)


DICTIONARIES = "SELECT number, copy FROM dictionaries ORDER BY number, copy"


def test_a_log_learns_what_its_events_have_in_common_and_reads_them_ever_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learning(monkeypatch)
    seen: list[Any] = []

    async def look(log: EventLog) -> None:
        seen.append(await read_all(log))

    filled(tmp_path, look)
    assert execute(tmp_path, DICTIONARIES) == [(1, 0), (1, 1)]
    reopened(tmp_path, look)
    assert seen[0] == seen[1]
    assert findings(tmp_path) == []


def test_a_damaged_copy_of_a_dictionary_is_told_and_healed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learning(monkeypatch)
    filled(tmp_path)
    execute(tmp_path, "UPDATE dictionaries SET data = zeroblob(8) WHERE copy = 0")
    assert findings(tmp_path) == ["database: copy 0 of dictionary 1 is damaged"]

    async def read(log: EventLog) -> None:
        assert len(await read_all(log)) == 144

    reopened(tmp_path, read)
    looked_at(tmp_path, mend=True)
    assert findings(tmp_path) == []


def test_blocks_whose_dictionary_is_lost_are_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learning(monkeypatch)
    filled(tmp_path)
    execute(tmp_path, "UPDATE dictionaries SET data = zeroblob(8)")

    async def read(log: EventLog) -> None:
        with pytest.raises(DamagedEvent, match="one block, are damaged"):
            await read_all(log)

    reopened(tmp_path, read)
    assert any("dictionary 1 is damaged or lost" in one for one in findings(tmp_path))


@pytest.mark.parametrize("damage", ["'a text'", "x'c1'", "7"])
def test_nothing_is_learnt_from_what_is_damaged_and_the_log_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    learning(monkeypatch)
    filled(tmp_path, packed=False)
    execute(tmp_path, f"UPDATE events SET bytes = {damage}, crc = NULL WHERE rowid % 50 = 0")  # noqa: S608 # our own

    async def go_on(log: EventLog) -> None:
        await log.store.merge_events(INLINE)
        await log.publish(drafts(1, "after"))

    reopened(tmp_path, go_on)


def test_a_row_is_sound_if_its_bytes_are_those_that_were_written() -> None:
    assert Row(7, 0, b"event", row_checksum(7, 0, b"event")).is_sound
    assert Row(7, 0, b"event", None).is_sound
    assert not Row(7, 0, b"other", row_checksum(7, 0, b"event")).is_sound
    assert not Row(7, 0, "event", None).is_sound  # type: ignore[arg-type] # as a disk may have it


def test_only_so_many_opened_blocks_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lamport.event_table.OPENED_BLOCKS", 3)
    filled(tmp_path)

    async def read(log: EventLog) -> None:
        assert len(await read_all(log)) == 144
        assert len(log.store.events._opened) == 3  # noqa: SLF001 - no caller can see it, but memory does

    reopened(tmp_path, read)


def test_packing_leaves_the_seal_on_which_what_counts_of_a_revoked_stream_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lamport.compaction, "IDLE_ROWS", 128)
    histories = copied([100], [40, 60], [10] * 100)
    cut = histories.named[0].seal
    assert cut.offset == 139, "behind the last seal before it in the history that is held"

    async def go() -> None:
        async with open_log(tmp_path) as log:
            for item in (*histories.common, *histories.other):
                await take(log, item)
            await log.learn(revoked(cut))
            assert log.offsets.of(cut.stream) == 129
            for _ in range(12):
                await log.store.merge_events(INLINE)
            assert log.store.compaction.rows < 1_000, "it was packed"
        async with open_log(tmp_path) as log:
            await log.publish(drafts(1, "else"))
            assert log.offsets.of(cut.stream) == 129

    asyncio.run(go())
