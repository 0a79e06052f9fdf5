"""Forked streams, and what else a log does with events: retractions hide on all branches, damage is mended on each."""

import asyncio
import itertools
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from pathlib import Path

import pytest

from lamport.chain import SealedRange
from lamport.errors import DamagedRange
from lamport.ids import EventKey, StreamId
from lamport.log import EventLog
from lamport.offsets import OffsetMap, OffsetRange
from lamport.retraction import RETRACT_TAG
from lamport.seams import INLINE
from lamport.sqlite import DATABASE_NAME
from lamport.tags import ALL_EVENTS
from tests.lamport.keys import Author, event_bytes, findings, member, open_log, read_all

BOB = member("bob")


def split(author: Author) -> Author:
    """Somebody else who goes on writing where this one stands now."""
    other = Author(author.keys, author.stream.number)
    other.head = author.head
    return other


def retracting(author: Author, *lamports: int) -> SealedRange:
    """The author's next range: a retraction of what bears these timestamps in its own stream."""
    names = [str(EventKey(one, author.stream)) for one in lamports]
    lamport = author.head.lamport + 1
    raw = event_bytes(lamport, [RETRACT_TAG], {"keys": names, "reason": "a slip"})
    return author.write(raw, lamport=lamport)


async def shown(log: EventLog) -> list[tuple[str, object]]:
    """The events that a log shows, without retractions."""
    events = await read_all(log)
    return [(one.key.address, one.payload) for one in events if RETRACT_TAG not in one.tags]


def test_a_retraction_hides_all_events_with_the_key_whatever_comes_first(tmp_path: Path) -> None:
    one = Author(BOB)
    beginning = one.count(3)
    other = split(one)
    ranges = [one.count(3), retracting(one, 4, 2), other.count(4, ["else"])]
    orders = [
        order
        for order in itertools.permutations(ranges)
        if order.index(ranges[0]) < order.index(ranges[1])
    ]

    async def receive(folder: Path, order: Sequence[SealedRange]) -> list[tuple[str, object]]:
        async with open_log(folder) as log:
            for sealed in (beginning, *order):
                await log.receive(sealed)
            before = await shown(log)
            assert len(log.retracted) == 2
        async with open_log(folder) as log:
            assert await shown(log) == before
            assert await findings(folder) == []
        return before

    results = []
    for number, order in enumerate(orders):
        folder = tmp_path / str(number)
        folder.mkdir()
        results.append(asyncio.run(receive(folder, order)))
    assert all(result == results[0] for result in results)
    lamports = [int(address.partition("/")[0]) for address, _ in results[0]]
    assert lamports == [1, 3, 5, 5, 6, 6, 7]


def test_retractions_with_one_key_on_two_branches_both_count(tmp_path: Path) -> None:
    one = Author(BOB)
    beginning = one.count(3)
    other = split(one)

    async def go() -> None:
        async with open_log(tmp_path) as log:
            for sealed in (beginning, retracting(one, 1), retracting(other, 2)):
                await log.receive(sealed)
            assert [key.lamport for key in log.retracted] == [1, 2]
        async with open_log(tmp_path) as log:
            assert [key.lamport for key in log.retracted] == [1, 2]
            assert [address[:16] for address, _ in await shown(log)] == [f"{3:016d}"]
            assert await findings(tmp_path) == []

    asyncio.run(go())


def test_a_follower_behind_a_fork_is_told_of_what_was_hidden_before_it(tmp_path: Path) -> None:
    one = Author(BOB)
    beginning = one.count(3)
    other = split(one)

    async def go() -> None:
        async with open_log(tmp_path) as log:
            for sealed in (beginning, one.count(3)):
                await log.receive(sealed)
            kept_up, position = log.follow(OffsetMap()), log.offsets
            await kept_up.next()
            await log.receive(retracting(one, 5))
            await log.receive(other.count(4, ["else"]))
            batch = await kept_up.next()
            assert [event.lamport for event in batch.retracted] == [5]
            assert batch.renamed
            told = await log.hidden_since(position, log.offsets)
            assert {event.lamport for event in told} == {5}
            pages = log.read(ALL_EVENTS, upper=position, as_of=position)
            past = [event async for page in pages for event in page]
            assert [event.lamport for event in past] == [1, 2, 3, 4, 5, 6]

    asyncio.run(go())


@pytest.mark.parametrize(("horizon", "kept"), [(7, 7), (10, 9), (11, 9)])
def test_of_a_forked_stream_the_beginning_is_given_up_and_never_where_it_parts(
    tmp_path: Path, horizon: int, kept: int
) -> None:
    one = Author(BOB)
    beginning = one.count(10)
    other = split(one)

    async def go() -> None:
        async with asyncio.timeout(20), open_log(tmp_path) as log:
            for sealed in (beginning, one.count(3), other.count(2, ["other"])):
                await log.receive(sealed)
            await log.follow_horizon(other.give_up(horizon))
            while log.store.horizons[one.stream].cleared < kept:
                await log.changed()
            assert log.horizons == {one.stream: kept}
            assert len(await read_all(log)) == 10 - kept + 3 + 2
            assert await findings(tmp_path) == []
        async with open_log(tmp_path) as log:
            assert len(await read_all(log)) == 10 - kept + 3 + 2

    asyncio.run(go())


def parts_of(log: EventLog) -> list[StreamId]:
    return log.store.branches.of(Author(BOB).stream)


Harm = Callable[[sqlite3.Connection, int], None]
"""Damages what a database holds of a part of a stream."""


def an_event(connection: sqlite3.Connection, part: int) -> None:
    row, begin = place_of(connection, part)
    connection.execute(
        'UPDATE events SET bytes = zeroblob(length(bytes)) WHERE stream = ? AND "offset" = ?',
        (row, begin),
    )


def a_block(connection: sqlite3.Connection, part: int) -> None:
    row, begin = place_of(connection, part)
    connection.execute(
        "UPDATE blocks SET data = zeroblob(length(data)) WHERE stream = ?1"
        ' AND "offset" <= ?2 AND "offset" + count > ?2',
        (row, begin),
    )


def a_seal(connection: sqlite3.Connection, part: int) -> None:
    row, begin = place_of(connection, part)
    connection.execute(
        'UPDATE seals SET signature = zeroblob(64) WHERE (stream, "offset") IN (SELECT stream,'
        ' min("offset") FROM seals WHERE stream = ? AND "offset" >= ?)',
        (row, begin),
    )


def place_of(connection: sqlite3.Connection, part: int) -> tuple[int, int]:
    """The row of a part, and an offset in it."""
    rows = connection.execute(
        'SELECT row, trunk, "offset" FROM branches ORDER BY branch'
    ).fetchall()
    return (rows[0][1], 2) if part == 0 else (rows[part - 1][0], rows[part - 1][2] + 3)


@pytest.mark.parametrize("part", [0, 1, 2])
@pytest.mark.parametrize("whole_row", [False, True])
@pytest.mark.parametrize("harm", [an_event, a_block, a_seal])
def test_each_part_of_a_forked_stream_is_mended(
    tmp_path: Path, part: int, harm: Harm, monkeypatch: pytest.MonkeyPatch, *, whole_row: bool
) -> None:
    monkeypatch.setattr("lamport.tidying.IDLE_S", 3_600.0)
    monkeypatch.setattr("lamport.compaction.IDLE_ROWS", 100 if harm is an_event else 1)
    one = Author(BOB)
    beginning = one.count(6)
    other = split(one)
    theirs = [beginning, one.count(8), other.count(7, ["else"]), one.count(2)]
    (tmp_path / "ours").mkdir()
    (tmp_path / "theirs").mkdir()

    async def fill() -> None:
        for name in ("ours", "theirs"):
            async with open_log(tmp_path / name) as log:
                for sealed in theirs:
                    if sealed is theirs[2]:  # the fork lies within a block
                        await log.store.merge_events(INLINE)  # learns how to compress
                        await log.store.merge_events(INLINE)
                    await log.receive(sealed)
                await log.store.merge_events(INLINE)

    async def go() -> None:
        async with open_log(tmp_path / "ours") as log, open_log(tmp_path / "theirs") as peer:
            before = await shown(peer)
            stream = parts_of(log)[part]
            if whole_row or harm is a_seal:  # as a look at the whole database names it
                row = (
                    stream if part != 1 and stream not in log.store.branches.closed else stream.base
                )
                log.damaged(OffsetRange(row, 0, 12), "altered")
            with suppress(DamagedRange):
                await read_all(log)
            assert log.damages.spans
            for damage in log.damages.spans:
                previous = None
                while (piece := await log.repair.piece(damage)) is not None:
                    assert piece != previous
                    previous = piece
                    mending, done = log.repair.mending(piece), False
                    assert await peer.hash_at(piece.stream, piece.first - 1) == piece.before.hash
                    while not done:
                        count = piece.last.offset - mending.due + 1
                        sealed = await peer.served_range(piece.stream, mending.due, count)
                        assert sealed is not None
                        done = mending.add(sealed)
                    await log.repair.replace(mending)
                log.mended(damage)
            assert await shown(log) == before
            assert await findings(tmp_path / "ours") == []

    asyncio.run(fill())
    with closing(sqlite3.connect(tmp_path / "ours" / DATABASE_NAME)) as connection:
        harm(connection, part)
        assert connection.total_changes == 1
        connection.commit()
    asyncio.run(go())
