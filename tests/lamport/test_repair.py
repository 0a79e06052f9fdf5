"""Damage is mended from what others send, by the hashes that are kept here, and only what is damaged is touched."""

import asyncio
import random
import sqlite3
from collections.abc import Awaitable, Callable, Iterable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from lamport.chain import SealedRange
from lamport.errors import CorruptRange, DamagedRange, DivergedStream
from lamport.log import EventLog
from lamport.offsets import OffsetRange
from lamport.repair import Damages, Mending
from lamport.sqlite import DATABASE_NAME, SqliteDisk
from lamport.tags import Tag
from lamport.verification import Progress, Verification
from tests.lamport.keys import Author, drafts, event_bytes, member, open_log, read_all

BOB = Author(member("bob")).stream
ALL = OffsetRange(BOB, 0, 39)

Act = Callable[[EventLog], Awaitable[None]]


def said(*counts: int) -> list[SealedRange]:
    """The same events of Bob, with seals at these distances."""
    bob, ranges = Author(member("bob")), list[SealedRange]()
    for count in counts:
        lamports = range(bob.head.lamport + 1, bob.head.lamport + 1 + count)
        events = [event_bytes(one, ["said", f"range:{(one - 1) // 10}"]) for one in lamports]
        ranges.append(bob.write(*events, lamport=lamports[-1]))
    return ranges


def damaged(folder: Path, statement: str, act: Act) -> None:
    """Four sealed ranges of ten events each of Bob, of which something is altered; then act on the log."""

    async def run() -> None:
        async with open_log(folder) as log:
            await log.publish(drafts(2, "own"))
            for sealed in said(10, 10, 10, 10):
                await log.receive(sealed)
        with closing(sqlite3.connect(folder / DATABASE_NAME)) as connection:
            connection.execute(statement)
            connection.commit()
        async with open_log(folder) as log:
            await act(log)

    asyncio.run(run())


async def mended(log: EventLog, damage: OffsetRange, answers: Iterable[SealedRange]) -> int:
    """Mend all of a damage from a peer's ranges; returns how many events were put right."""
    known, count = list(answers), 0
    while (piece := await log.repair.piece(damage)) is not None:
        mending, is_complete = log.repair.mending(piece), False
        while not is_complete:
            is_complete = mending.add(_from(known, mending))
        count += await log.repair.replace(mending)
    return count


def _from(known: list[SealedRange], mending: Mending) -> SealedRange:
    """What a peer with these seals sends: up to the last that fits what is asked, or else the first behind it."""
    due, last = mending.due, mending.piece.last.offset
    ahead = [one for one in known if one.seal.offset >= due]
    chosen = [one for one in ahead if one.seal.offset <= last] or ahead[:1]
    events = [event for one in known for event in one.events]
    seal = chosen[-1].seal
    return replace(chosen[-1], first=due, events=tuple(events[due : seal.offset + 1]))


async def findings(log: EventLog, folder: Path) -> list[str]:
    del log
    reader = await SqliteDisk(folder).open_reader()
    try:
        steps = [step async for step in Verification(reader, member()).run()]
    finally:
        await reader.close()
    return [str(step) for step in steps if not isinstance(step, Progress)]


OF_BOB = (
    "UPDATE authors SET certificate = zeroblob(64)"
    " WHERE node = (SELECT node FROM streams WHERE row = 1)"
)
ALTERED = "UPDATE events SET bytes = zeroblob(length(bytes)) WHERE stream = 1 AND "


@pytest.mark.parametrize(
    ("statement", "count"),
    [
        (ALTERED + '"offset" = 14', 1),
        (ALTERED + '"offset" IN (0, 9, 10, 29, 39)', 5),
        (ALTERED + '"offset" >= 0', 40),
        ('DELETE FROM events WHERE stream = 1 AND "offset" = 14', 1),
        ('DELETE FROM events WHERE stream = 1 AND "offset" > 3', 36),
        ("UPDATE events SET bytes = 'text' WHERE stream = 1 AND \"offset\" = 14", 1),
        ('UPDATE events SET stream = 77 WHERE stream = 1 AND "offset" = 14', 1),
        ('UPDATE events SET "offset" = 99 WHERE stream = 1 AND "offset" = 14', 1),
        ('UPDATE events SET key = key + (7 << 40) WHERE stream = 1 AND "offset" = 14', 1),
        ('UPDATE seals SET signature = zeroblob(64) WHERE stream = 1 AND "offset" = 19', 0),
        ('UPDATE seals SET clock = clock + 1 WHERE stream = 1 AND "offset" IN (9, 19, 39)', 0),
        ('UPDATE seals SET hash = zeroblob(32) WHERE stream = 1 AND "offset" = 39', 0),
        (OF_BOB, 0),
    ],
)
@pytest.mark.parametrize("sizes", [(10, 10, 10, 10), (40,), (15, 25), (1,) * 40])
def test_whatever_was_altered_is_as_it_was_again(
    tmp_path: Path, statement: str, count: int, sizes: tuple[int, ...]
) -> None:
    """Whichever seals the peer has: it may hold fewer than are kept here, or more."""

    async def act(log: EventLog) -> None:
        before = log.offsets
        if len(sizes) in {1, 2} and "seals" in statement:
            return  # a seal is had again from a peer that has it
        assert await mended(log, ALL, said(*sizes)) == count
        assert await findings(log, tmp_path) == []
        assert log.offsets == before
        assert len(await read_all(log, Tag("range:1"))) == 10
        assert await log.repair.piece(ALL) is None

    damaged(tmp_path, statement, act)


def test_a_log_without_damage_has_no_piece_to_mend(tmp_path: Path) -> None:
    async def act(log: EventLog) -> None:
        for damage in (ALL, OffsetRange(BOB, 14, 14), OffsetRange(log.stream, 0, 1)):
            assert await log.repair.piece(damage) is None
        stranger = Author(member("carol")).stream
        assert await log.repair.piece(OffsetRange(stranger, 0, 3)) is None

    damaged(tmp_path, "DELETE FROM snapshots", act)


def test_only_what_differs_is_written_and_only_between_two_seals(tmp_path: Path) -> None:
    async def act(log: EventLog) -> None:
        piece = await log.repair.piece(OffsetRange(BOB, 14, 14))
        assert piece is not None
        assert (piece.first, piece.last.offset) == (10, 19)
        assert piece.before.hash == said(10)[0].seal.hash
        assert piece.last.hash == said(10, 10)[1].seal.hash

    damaged(tmp_path, ALTERED + '"offset" = 14', act)


def test_what_leads_elsewhere_or_does_not_hold_changes_nothing(tmp_path: Path) -> None:
    good = said(10, 10)[1]
    other = Author(member("bob"))
    other.write(*said(10)[0].events, lamport=10)
    history = other.count(10, tags=("another",))
    forged = replace(good, events=(*good.events[:4], event_bytes(15, ["x"]), *good.events[5:]))

    async def act(log: EventLog) -> None:
        piece = await log.repair.piece(OffsetRange(BOB, 14, 14))
        assert piece is not None
        for answer, error in (
            (history, DivergedStream),
            (forged, DivergedStream),
            (replace(good, seal=replace(good.seal, signature=bytes(64))), CorruptRange),
            (said(10)[0], CorruptRange),
        ):
            with pytest.raises(error):
                log.repair.mending(piece).add(answer)
        with pytest.raises(DamagedRange):
            await log.hash_at(BOB, 14)
        assert await mended(log, ALL, said(10, 10)) == 1

    damaged(tmp_path, ALTERED + '"offset" = 14', act)


@pytest.mark.parametrize("seed", range(20))
def test_any_flipped_bit_of_an_event_is_found_and_mended(tmp_path: Path, seed: int) -> None:
    randomness = random.Random(seed)
    offset = randomness.randrange(40)
    data = bytearray([event for one in said(10, 10, 10, 10) for event in one.events][offset])
    data[randomness.randrange(len(data))] ^= 1 << randomness.randrange(8)

    async def act(log: EventLog) -> None:
        piece = await log.repair.piece(ALL)
        assert piece is not None
        assert piece.first <= offset <= piece.last.offset
        assert await mended(log, ALL, said(10, 10, 10, 10)) == 1
        assert await findings(log, tmp_path) == []

    statement = (
        f"UPDATE events SET bytes = x'{data.hex()}' WHERE stream = 1 AND \"offset\" = {offset}"  # noqa: S608
    )
    damaged(tmp_path, statement, act)


def test_a_follower_waits_at_what_is_damaged_and_goes_on_when_it_is_mended(tmp_path: Path) -> None:
    async def act(log: EventLog) -> None:
        follower = log.follow(log.offsets.__class__())
        waiting = asyncio.create_task(follower.next())
        await log.damages.found()
        assert not waiting.done()
        assert list(log.damages.texts) == [BOB]
        [damage] = log.damages.spans
        assert await mended(log, damage, said(10, 10, 10, 10)) == 1
        log.mended(damage)
        assert not log.damages.texts
        assert len((await waiting).events) == 42

    damaged(tmp_path, ALTERED + '"offset" = 14', act)


def test_damages_of_a_stream_are_one_span_and_are_told_once() -> None:
    async def run() -> None:
        damages = Damages()
        damages.note(OffsetRange(BOB, 5, 9), "first")
        damages.note(OffsetRange(BOB, 20, 20), "second")
        assert damages.spans == (OffsetRange(BOB, 5, 20),)
        assert damages.texts == {BOB: "first"}
        await damages.found()
        damages.note(OffsetRange(BOB, 7, 7), "again")
        waiting = asyncio.create_task(damages.found())
        await asyncio.sleep(0)
        assert not waiting.done()
        damages.note(OffsetRange(BOB, 21, 21), "more")
        await waiting
        damages.forget(OffsetRange(BOB, 5, 20))  # more was found since
        assert damages.spans == (OffsetRange(BOB, 5, 21),)
        damages.forget(OffsetRange(BOB, 5, 21))
        assert not damages.spans

    asyncio.run(run())


@pytest.mark.parametrize("value", ["'text'", "x'00'"])
def test_a_seal_at_what_is_no_offset_hinders_no_repair(tmp_path: Path, value: str) -> None:
    async def act(log: EventLog) -> None:
        with closing(sqlite3.connect(tmp_path / DATABASE_NAME)) as connection:
            connection.execute('DELETE FROM events WHERE stream = 1 AND "offset" = 14')
            connection.commit()
        assert await mended(log, ALL, said(10, 10, 10, 10)) == 1
        assert len(await read_all(log, Tag("said"))) == 40

    strike = f'UPDATE seals SET "offset" = {value} WHERE stream = 1 AND "offset" = 39'  # noqa: S608 - ours
    damaged(tmp_path, strike, act)
